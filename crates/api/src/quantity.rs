//! Quantities: fixed-point numbers with the suffixes of Kubernetes.
//!
//! Source: `k8s.io/apimachinery/pkg/api/resource`. A quantity is kept as a whole number of
//! billionths, the finest step that upstream keeps; anything finer is rounded away from zero.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as WireQuantity;

const NANO: i128 = 1_000_000_000;
/// Upstream caps quantities at 2^63-1 units.
const MAX: i128 = i64::MAX as i128 * NANO;

/// How a quantity is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `k`, `M`, `G`, …; `m`, `u`, `n`.
    DecimalSi,
    /// `Ki`, `Mi`, `Gi`, …
    BinarySi,
    /// `e3`, `E6`, …
    DecimalExponent,
}

/// A number with the notation it came in. Equality and order are by value alone.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// Why a text is not a quantity. The messages are upstream's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The text does not have the form of a quantity.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// The number part is unusable.
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    /// The suffix is not known.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

impl Quantity {
    /// Zero.
    pub const ZERO: Quantity = Quantity { nanos: 0, format: Format::DecimalSi };

    /// Parses the text of a quantity.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        if text.is_empty() {
            return Err(ParseError::Format);
        }
        let (negative, rest) = match text.as_bytes()[0] {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(number_end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return Err(if number.is_empty() { ParseError::Format } else { ParseError::Numeric });
        }
        let scale = Scale::parse(suffix)?;
        let magnitude = scale.apply(whole, fraction)?;
        Ok(Self { nanos: if negative { -magnitude } else { magnitude }, format: scale.format })
    }

    /// A whole number of units.
    pub fn from_units(units: i64) -> Self {
        Self { nanos: i128::from(units) * NANO, format: Format::DecimalSi }
    }

    /// A whole number of thousandths, as for CPU.
    pub fn from_milli(milli: i64) -> Self {
        Self { nanos: i128::from(milli) * (NANO / 1000), format: Format::DecimalSi }
    }

    /// A whole number of bytes, written with binary suffixes.
    pub fn from_bytes(bytes: i64) -> Self {
        Self { nanos: i128::from(bytes) * NANO, format: Format::BinarySi }
    }

    /// The number of units, rounded up.
    pub fn units(&self) -> i64 {
        saturate(div_ceil(self.nanos, NANO))
    }

    /// The number of thousandths, rounded up.
    pub fn milli(&self) -> i64 {
        saturate(div_ceil(self.nanos, NANO / 1000))
    }

    /// The value as a floating-point number, for ratios and display.
    pub fn as_f64(&self) -> f64 {
        self.nanos as f64 / NANO as f64
    }

    /// Whether the value is zero.
    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// Whether the value is below zero.
    pub fn is_negative(&self) -> bool {
        self.nanos < 0
    }

    /// Whether the value is a whole number of units.
    pub fn is_integer(&self) -> bool {
        self.nanos % NANO == 0
    }

    /// The next whole number of units, in the same notation.
    #[must_use]
    pub fn rounded_up(&self) -> Self {
        Self { nanos: (div_ceil(self.nanos, NANO) * NANO).min(MAX), format: self.format }
    }

    /// The notation.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The sum, in the notation of `self` (or of `other` when `self` is zero), capped at the limits.
    pub fn plus(&self, other: &Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: (self.nanos + other.nanos).clamp(-MAX, MAX), format }
    }

    /// The difference, in the notation of `self`, capped at the limits.
    pub fn minus(&self, other: &Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: (self.nanos - other.nanos).clamp(-MAX, MAX), format }
    }

    fn write_decimal(&self, f: &mut fmt::Formatter<'_>, format: Format) -> fmt::Result {
        let (mut mantissa, mut exponent) = (self.nanos, -9i32);
        while mantissa % 10 == 0 {
            mantissa /= 10;
            exponent += 1;
        }
        while exponent.rem_euclid(3) != 0 {
            mantissa *= 10;
            exponent -= 1;
        }
        if format == Format::DecimalExponent {
            return match exponent {
                0 => write!(f, "{mantissa}"),
                _ => write!(f, "{mantissa}e{exponent}"),
            };
        }
        const SUFFIXES: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
        while exponent > 18 {
            mantissa *= 1000;
            exponent -= 3;
        }
        write!(f, "{mantissa}{}", SUFFIXES[usize::try_from(exponent / 3 + 3).unwrap_or(0)])
    }

    fn write_binary(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SUFFIXES: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
        let (mut mantissa, mut step) = (self.nanos / NANO, 0);
        while mantissa % 1024 == 0 && step < SUFFIXES.len() - 1 {
            mantissa /= 1024;
            step += 1;
        }
        write!(f, "{mantissa}{}", SUFFIXES[step])
    }
}

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, the largest suffix that loses nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let small = self.nanos.abs() < 1024 * NANO;
        match self.format {
            _ if self.nanos == 0 => f.write_str("0"),
            Format::BinarySi if !small && self.is_integer() => self.write_binary(f),
            Format::BinarySi | Format::DecimalSi => self.write_decimal(f, Format::DecimalSi),
            Format::DecimalExponent => self.write_decimal(f, Format::DecimalExponent),
        }
    }
}

impl FromStr for Quantity {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(text)
    }
}

impl TryFrom<&WireQuantity> for Quantity {
    type Error = ParseError;

    fn try_from(wire: &WireQuantity) -> Result<Self, ParseError> {
        Self::parse(&wire.0)
    }
}

impl From<Quantity> for WireQuantity {
    fn from(quantity: Quantity) -> Self {
        WireQuantity(quantity.to_string())
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl Default for Quantity {
    fn default() -> Self {
        Self::ZERO
    }
}

/// The meaning of a suffix: `base` to the power of `exponent`.
struct Scale {
    base: i128,
    exponent: i32,
    format: Format,
}

impl Scale {
    fn parse(suffix: &str) -> Result<Self, ParseError> {
        let decimal = |exponent| Self { base: 10, exponent, format: Format::DecimalSi };
        let binary = |exponent| Self { base: 2, exponent, format: Format::BinarySi };
        Ok(match suffix {
            "" => decimal(0),
            "n" => decimal(-9),
            "u" => decimal(-6),
            "m" => decimal(-3),
            "k" => decimal(3),
            "M" => decimal(6),
            "G" => decimal(9),
            "T" => decimal(12),
            "P" => decimal(15),
            "E" => decimal(18),
            "Ki" => binary(10),
            "Mi" => binary(20),
            "Gi" => binary(30),
            "Ti" => binary(40),
            "Pi" => binary(50),
            "Ei" => binary(60),
            _ => {
                let allowed = |c: char| c.is_ascii_digit() || "eEinumkKMGTP+-".contains(c);
                let digits = match suffix.as_bytes()[0] {
                    b'e' | b'E' => &suffix[1..],
                    _ if suffix.chars().all(allowed) => return Err(ParseError::Suffix),
                    _ => return Err(ParseError::Format),
                };
                let exponent = digits.parse().map_err(|_| ParseError::Suffix)?;
                Self { base: 10, exponent, format: Format::DecimalExponent }
            }
        })
    }

    /// `whole.fraction` times the scale, in nanos, rounded up and capped.
    fn apply(&self, whole: &str, fraction: &str) -> Result<i128, ParseError> {
        // Leading zeros and a fraction beyond what an i128 holds carry no information.
        let whole = whole.trim_start_matches('0');
        let fraction = fraction.trim_end_matches('0');
        let (fraction, truncated) = if fraction.len() > 18 { (&fraction[..18], 1) } else { (fraction, 0) };
        if whole.len() > 19 && self.exponent >= 0 {
            return Ok(MAX);
        }
        if whole.len() + fraction.len() > 38 {
            return Ok(MAX);
        }
        let digits = format!("{whole}{fraction}");
        let mantissa: i128 =
            if digits.is_empty() { 0 } else { digits.parse().map_err(|_| ParseError::Numeric)? };
        if mantissa == 0 {
            return Ok(truncated);
        }
        let mut decimal_exponent = 9 - i32::try_from(fraction.len()).unwrap_or(i32::MAX);
        let mut value = mantissa;
        if self.base == 10 {
            decimal_exponent = decimal_exponent.saturating_add(self.exponent);
        } else {
            match value.checked_mul(1i128 << self.exponent) {
                Some(scaled) => value = scaled,
                None => return Ok(MAX),
            }
        }
        let value = if decimal_exponent >= 0 {
            10i128
                .checked_pow(decimal_exponent.unsigned_abs())
                .and_then(|power| value.checked_mul(power))
                .unwrap_or(MAX)
        } else {
            match 10i128.checked_pow(decimal_exponent.unsigned_abs()) {
                Some(power) => div_ceil(value, power),
                None => 1,
            }
        };
        Ok(value.min(MAX))
    }
}

/// Division rounding away from zero, as upstream's `RoundUp`.
fn div_ceil(value: i128, by: i128) -> i128 {
    let quotient = value / by;
    match value % by {
        0 => quotient,
        remainder if remainder > 0 => quotient + 1,
        _ => quotient - 1,
    }
}

fn saturate(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value > 0 { i64::MAX } else { i64::MIN })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(text: &str) -> String {
        Quantity::parse(text).unwrap().to_string()
    }

    #[test]
    fn canonical_forms() {
        for (text, expected) in [
            ("0", "0"),
            ("0.5", "500m"),
            ("1.5Gi", "1536Mi"),
            ("1024Mi", "1Gi"),
            ("1000m", "1"),
            ("100", "100"),
            ("1000", "1k"),
            ("1500", "1500"),
            ("0.1Ki", "102400m"),
            ("512Ki", "512Ki"),
            ("1000Ki", "1000Ki"),
            ("0.5Ki", "512"),
            ("1e3", "1e3"),
            ("1E6", "1e6"),
            ("12e1", "120"),
            ("-1.5", "-1500m"),
            ("+2", "2"),
            (".5", "500m"),
            ("5.", "5"),
            ("0.0000000001", "1n"),
            ("1.0000000001", "1000000001n"),
            ("9Ei", "9223372036854775807"),
            ("100000000000000000000", "9223372036854775807"),
            ("0Mi", "0"),
        ] {
            assert_eq!(canonical(text), expected, "{text}");
        }
    }

    #[test]
    fn bad_texts_are_refused() {
        for text in ["", "abc", "1.2.3", "1Kix", "1mm", "Mi", "--1", "1 Gi", "."] {
            assert!(Quantity::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rounding_is_up() {
        assert_eq!(Quantity::parse("1m").unwrap().units(), 1);
        assert_eq!(Quantity::parse("1u").unwrap().milli(), 1);
        assert_eq!(Quantity::parse("-1m").unwrap().units(), -1);
        assert_eq!(Quantity::parse("2500m").unwrap().milli(), 2500);
    }

    proptest! {
        #[test]
        fn canonical_text_keeps_the_value(nanos in -(1i128 << 80)..(1i128 << 80), binary: bool) {
            let format = if binary { Format::BinarySi } else { Format::DecimalSi };
            let quantity = Quantity { nanos: nanos.clamp(-MAX, MAX), format };
            let again = Quantity::parse(&quantity.to_string()).unwrap();
            prop_assert_eq!(quantity, again);
            prop_assert_eq!(again.to_string(), quantity.to_string());
        }

        #[test]
        fn parsing_never_panics(text in "[-+0-9.eEinumkKMGTPi]{0,30}") {
            let _ = Quantity::parse(&text);
        }
    }
}
