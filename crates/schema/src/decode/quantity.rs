//! Quantities as Go writes them again after reading: some as they came, the others in canonical
//! form.
//!
//! Source: `ParseQuantity` of `k8s.io/apimachinery/pkg/api/resource`, whose shortcuts decide which
//! texts are kept (`+5`, `010` and `1e+30` are, `1000` is not) and which odd ones are read as zero.

use std::borrow::Cow;

use api::quantity::{ParseError, Quantity};

/// Up to this many digits Go computes with machine integers.
const FAST_DIGITS: i64 = 18;
/// The finest step, as a power of ten.
const NANO: i64 = -9;

/// The parts of a text.
struct Parts<'a> {
    negative: bool,
    /// Digits before the point without leading zeros; `0` if there are none.
    whole: &'a str,
    /// Digits behind the point.
    fraction: &'a str,
    suffix: &'a str,
}

fn split(text: &str) -> Result<Parts<'_>, ParseError> {
    let negative = text.starts_with('-');
    let rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let rest = rest.trim_start_matches('0');
    let (whole, rest) = rest.split_at(digits(rest));
    let (fraction, suffix) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(digits(rest)),
        None => ("", rest),
    };
    let exponent = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
    if digits(exponent) != exponent.len() {
        return Err(ParseError::Format);
    }
    Ok(Parts { negative, whole: if whole.is_empty() { "0" } else { whole }, fraction, suffix })
}

/// A suffix as a power of ten, or of two.
enum Scale {
    Decimal { exponent: i64, with_e: bool },
    Binary(u32),
}

fn scale(suffix: &str) -> Option<Scale> {
    let decimal = |exponent| Some(Scale::Decimal { exponent, with_e: false });
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => Some(Scale::Binary(10)),
        "Mi" => Some(Scale::Binary(20)),
        "Gi" => Some(Scale::Binary(30)),
        "Ti" => Some(Scale::Binary(40)),
        "Pi" => Some(Scale::Binary(50)),
        "Ei" => Some(Scale::Binary(60)),
        other => {
            let exponent = other.strip_prefix(['e', 'E'])?.parse::<i32>().ok()?;
            Some(Scale::Decimal { exponent: i64::from(exponent), with_e: true })
        }
    }
}

/// What Go writes for a quantity that was read from this text.
pub(super) fn canonical(text: &str) -> Result<Cow<'_, str>, ParseError> {
    if text.is_empty() {
        return Err(ParseError::Format);
    }
    let parts = split(text)?;
    let scale = scale(parts.suffix).ok_or(ParseError::Suffix)?;
    let digits = i64::try_from(parts.whole.len() + parts.fraction.len()).unwrap_or(i64::MAX);
    match scale {
        Scale::Decimal { exponent, with_e } => {
            let exponent = exponent - parts.fraction.len() as i64;
            let shifted = format!("{}{}", parts.whole, parts.fraction);
            let fast = digits <= FAST_DIGITS && exponent >= NANO;
            if fast && exponent % 3 == 0 && !shifted.ends_with("000") && !shifted.starts_with('0') {
                return Ok(Cow::Borrowed(text));
            }
            Ok(Cow::Owned(decimal(parts.negative, shifted, exponent, with_e)))
        }
        Scale::Binary(exponent) => {
            let precision = 15 - parts.whole.len() as i64 - i64::from(exponent * 3 / 10) - 1;
            let fast = parts.fraction.is_empty() && precision >= 0;
            let number: i64 = if fast { parts.whole.parse().unwrap_or(0) } else { 0 };
            if number & 7 != 0 && number.checked_mul(1 << exponent).is_some() {
                return Ok(Cow::Borrowed(text));
            }
            let sign = if parts.negative { "-" } else { "" };
            let plain = format!("{sign}{}.{}{}", parts.whole, parts.fraction, parts.suffix);
            Quantity::parse(&plain).map(|quantity| Cow::Owned(quantity.to_string()))
        }
    }
}

/// The canonical form of `digits` times a power of ten, rounded up to billionths.
fn decimal(negative: bool, mut digits: String, mut exponent: i64, with_e: bool) -> String {
    if exponent < NANO {
        let cut = usize::try_from(NANO - exponent).unwrap_or(usize::MAX).min(digits.len());
        let lost = digits.split_off(digits.len() - cut);
        if lost.bytes().any(|digit| digit != b'0') {
            digits = increment(&digits);
        }
        exponent = NANO;
    }
    let digits = digits.trim_start_matches('0');
    let mantissa = digits.trim_end_matches('0');
    if mantissa.is_empty() {
        return "0".to_owned();
    }
    exponent += (digits.len() - mantissa.len()) as i64;
    let mut out = if negative { format!("-{mantissa}") } else { mantissa.to_owned() };
    while exponent % 3 != 0 {
        out.push('0');
        exponent -= 1;
    }
    const SUFFIXES: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
    if !with_e {
        // As upstream: beyond the last suffix there is none.
        let suffix = usize::try_from(exponent / 3 + 3).ok().and_then(|index| SUFFIXES.get(index));
        out.push_str(suffix.copied().unwrap_or_default());
    } else if exponent != 0 {
        out.push_str(&format!("e{exponent}"));
    }
    out
}

/// The next number.
fn increment(digits: &str) -> String {
    let kept = digits.trim_end_matches('9');
    let nines = digits.len() - kept.len();
    let (front, last) = match kept.len().checked_sub(1) {
        Some(last) => (&kept[..last], kept.as_bytes()[last]),
        None => ("", b'0'),
    };
    format!("{front}{}{}", char::from(last + 1), "0".repeat(nines))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_texts_are_kept_and_others_are_not() {
        for (text, expected) in [
            ("0", "0"),
            ("010", "010"),
            ("+5", "+5"),
            ("1e+30", "1e+30"),
            ("1000m", "1"),
            ("1000", "1k"),
            ("0.5", "500m"),
            ("1.5", "1500m"),
            ("1.500", "1.500"),
            ("100.250", "100.250"),
            ("12e1", "120"),
            ("1024Mi", "1Gi"),
            ("1025Mi", "1025Mi"),
            ("0.5Ki", "512"),
            ("8Ki", "8Ki"),
            ("Mi", "0"),
            (".", "0"),
            ("0.0000000001", "1n"),
            ("1.9999999999", "2"),
            ("123456789012345678901234567890", "123456789012345678901234567890"),
            ("9Ei", "9223372036854775807"),
        ] {
            assert_eq!(canonical(text).unwrap(), expected, "{text}");
        }
        assert_eq!(canonical("1.2.3"), Err(ParseError::Format));
        assert_eq!(canonical("1mm"), Err(ParseError::Suffix));
        assert_eq!(canonical("--1"), Err(ParseError::Suffix));
    }
}
