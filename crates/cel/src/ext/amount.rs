//! The amounts of quantities, in exactly upstream's two representations.
//!
//! Source: `k8s.io/apimachinery/pkg/api/resource`. A quantity is either a 64-bit mantissa with a decimal scale or an
//! arbitrarily long decimal. CEL shows which of the two it is: only the former is ever an integer, and the
//! approximate float depends on the scale. So [`api::quantity`], which has one representation and caps amounts, does
//! not serve here.

use std::cmp::Ordering;

use api::quantity::ParseError;

/// The number of a quantity, without the notation.
#[derive(Clone, Debug)]
pub(super) enum Amount {
    /// `value` times ten to the power of `exponent`.
    Small { value: i64, exponent: i32 },
    /// Whatever does not fit, and all fractions with a binary suffix.
    Big(Decimal),
}

/// The digits (most significant first, no leading zeros, none for zero) times ten to the power of `exponent`.
#[derive(Clone, Debug)]
pub(super) struct Decimal {
    negative: bool,
    digits: Vec<u8>,
    exponent: i32,
}

/// As many zeros as arithmetic may append to bring two amounts to one scale. Upstream has no bound; no
/// amount that means anything is near it.
const MAX_SHIFT: i64 = 100_000;

/// The finest step: whatever is smaller is rounded away from zero.
const NANO: i32 = -9;

impl Amount {
    /// `resource.ParseQuantity`.
    pub fn parse(text: &str) -> Result<Amount, ParseError> {
        if text.is_empty() {
            return Err(ParseError::Format);
        }
        let parts = Parts::split(text)?;
        let suffix = Suffix::parse(parts.suffix)?;
        match parts.small(suffix)? {
            Some(small) => Ok(small),
            None => parts.big(suffix).map(Amount::Big),
        }
    }

    /// A whole number.
    pub fn from_int(value: i64) -> Amount {
        Amount::Small { value, exponent: 0 }
    }

    /// `AsInt64`: `None` unless the amount is a small one without a fraction, and in range.
    pub fn as_int(&self) -> Option<i64> {
        match *self {
            Amount::Small { value, exponent } => scale_up(value, u32::try_from(exponent).ok()?),
            Amount::Big(_) => None,
        }
    }

    /// `AsApproximateFloat64`.
    pub fn as_f64(&self) -> f64 {
        let (base, exponent) = match self {
            Amount::Small { value, exponent } => (*value as f64, *exponent),
            Amount::Big(decimal) => (decimal.mantissa(), decimal.exponent),
        };
        if exponent == 0 { base } else { base * pow10(exponent) }
    }

    /// -1, 0 or 1.
    pub fn sign(&self) -> i64 {
        match self {
            Amount::Small { value, .. } => value.signum(),
            Amount::Big(decimal) if decimal.digits.is_empty() => 0,
            Amount::Big(decimal) => 1 - 2 * i64::from(decimal.negative),
        }
    }

    /// The order by value.
    pub fn compare(&self, other: &Amount) -> Ordering {
        match (self, other) {
            (Amount::Small { value: a, exponent: x }, Amount::Small { value: b, exponent: y }) if x == y => {
                a.cmp(b)
            }
            _ => self.decimal().compare(&other.decimal()),
        }
    }

    /// The sum; `None` if it would have absurdly many digits.
    pub fn add(&self, other: &Amount) -> Option<Amount> {
        if let (Amount::Small { .. }, Amount::Small { .. }) = (self, other)
            && let Some(sum) = self.add_small(other)
        {
            return Some(sum);
        }
        self.decimal().add(&other.decimal()).map(Amount::Big)
    }

    /// The difference; `None` if it would have absurdly many digits.
    pub fn sub(&self, other: &Amount) -> Option<Amount> {
        let negated = match other {
            Amount::Small { value, exponent } => {
                Amount::Small { value: value.wrapping_neg(), exponent: *exponent }
            }
            Amount::Big(decimal) => Amount::Big(Decimal { negative: !decimal.negative, ..decimal.clone() }),
        };
        self.add(&negated)
    }

    fn add_small(&self, other: &Amount) -> Option<Amount> {
        let (Amount::Small { value: a, exponent: x }, Amount::Small { value: b, exponent: y }) =
            (self, other)
        else {
            return None;
        };
        if *b == 0 {
            return Some(self.clone());
        }
        if *a == 0 {
            return Some(other.clone());
        }
        let exponent = *x.min(y);
        let at_scale = |value: i64, own: i32| scale_up(value, own.abs_diff(exponent));
        let value = at_scale(*a, *x)?.checked_add(at_scale(*b, *y)?)?;
        Some(Amount::Small { value, exponent })
    }

    fn decimal(&self) -> Decimal {
        match self {
            Amount::Small { value, exponent } => Decimal {
                negative: *value < 0,
                digits: significant(value.unsigned_abs().to_string().bytes()),
                exponent: *exponent,
            },
            Amount::Big(decimal) => decimal.clone(),
        }
    }
}

impl PartialEq for Amount {
    fn eq(&self, other: &Self) -> bool {
        self.compare(other) == Ordering::Equal
    }
}

impl Decimal {
    /// The digits as a number, with the sign and without the exponent.
    fn mantissa(&self) -> f64 {
        let text: String = self.digits.iter().map(|d| char::from(b'0' + d)).collect();
        let magnitude = text.parse().unwrap_or(0.0);
        if self.negative { -magnitude } else { magnitude }
    }

    fn compare(&self, other: &Decimal) -> Ordering {
        let sign = |d: &Decimal| if d.digits.is_empty() { 0 } else { 1 - 2 * i8::from(d.negative) };
        sign(self).cmp(&sign(other)).then_with(|| {
            let order = self.compare_magnitude(other);
            if self.negative { order.reverse() } else { order }
        })
    }

    fn compare_magnitude(&self, other: &Decimal) -> Ordering {
        let magnitude = |d: &Decimal| d.digits.len() as i64 + i64::from(d.exponent);
        magnitude(self).cmp(&magnitude(other)).then_with(|| {
            let length = self.digits.len().max(other.digits.len());
            let digit = |d: &Decimal, i: usize| d.digits.get(i).copied().unwrap_or(0);
            (0..length)
                .map(|i| digit(self, i).cmp(&digit(other, i)))
                .find(|order| order.is_ne())
                .unwrap_or(Ordering::Equal)
        })
    }

    fn add(&self, other: &Decimal) -> Option<Decimal> {
        let exponent = self.exponent.min(other.exponent);
        let a = self.digits_at(exponent)?;
        let b = other.digits_at(exponent)?;
        let (negative, digits) = if self.negative == other.negative {
            (self.negative, add_digits(&a, &b))
        } else if (a.len(), &a) >= (b.len(), &b) {
            (self.negative, subtract_digits(&a, &b))
        } else {
            (other.negative, subtract_digits(&b, &a))
        };
        Some(Decimal { negative: negative && !digits.is_empty(), digits, exponent })
    }

    /// The digits when the exponent is lowered to `exponent`.
    fn digits_at(&self, exponent: i32) -> Option<Vec<u8>> {
        let shift = i64::from(self.exponent) - i64::from(exponent);
        let mut digits = self.digits.clone();
        if shift > MAX_SHIFT {
            return digits.is_empty().then_some(digits);
        }
        if !digits.is_empty() {
            digits.resize(digits.len() + usize::try_from(shift).ok()?, 0);
        }
        Some(digits)
    }

    /// The decimal at the scale of billionths, rounded away from zero.
    fn to_nanos(&self) -> Option<Decimal> {
        if self.exponent >= NANO {
            return Some(Decimal { digits: self.digits_at(NANO)?, exponent: NANO, ..*self });
        }
        let cut = usize::try_from(i64::from(NANO) - i64::from(self.exponent)).ok()?;
        let kept = self.digits.len().saturating_sub(cut);
        let mut digits = self.digits[..kept].to_vec();
        if self.digits[kept..].iter().any(|d| *d != 0) {
            digits = add_digits(&digits, &[1]);
        }
        Some(Decimal { digits, exponent: NANO, ..*self })
    }
}

/// The digits of an ASCII number without leading zeros.
fn significant(number: impl Iterator<Item = u8>) -> Vec<u8> {
    number.map(|b| b - b'0').skip_while(|d| *d == 0).collect()
}

fn add_digits(a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut sum = Vec::with_capacity(a.len().max(b.len()) + 1);
    let (mut a, mut b) = (a.iter().rev(), b.iter().rev());
    let mut carry = 0;
    loop {
        let digits = (a.next(), b.next());
        if digits == (None, None) && carry == 0 {
            break;
        }
        let digit = digits.0.unwrap_or(&0) + digits.1.unwrap_or(&0) + carry;
        sum.push(digit % 10);
        carry = digit / 10;
    }
    sum.reverse();
    sum
}

/// `a - b`, where `a` is not less than `b`.
fn subtract_digits(a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut difference = Vec::with_capacity(a.len());
    let mut b = b.iter().rev();
    let mut borrow = 0;
    for digit in a.iter().rev() {
        let take = b.next().unwrap_or(&0) + borrow;
        borrow = u8::from(*digit < take);
        difference.push(digit + 10 * borrow - take);
    }
    while difference.last() == Some(&0) {
        difference.pop();
    }
    difference.reverse();
    difference
}

fn multiply_digits(digits: &[u8], by: u64) -> Vec<u8> {
    let mut product = Vec::with_capacity(digits.len() + 20);
    let mut carry = 0u128;
    for digit in digits.iter().rev() {
        carry += u128::from(*digit) * u128::from(by);
        product.push((carry % 10) as u8);
        carry /= 10;
    }
    while carry > 0 {
        product.push((carry % 10) as u8);
        carry /= 10;
    }
    product.reverse();
    product
}

/// `value` times ten to the power of `by`, if it fits.
fn scale_up(value: i64, by: u32) -> Option<i64> {
    if value == 0 { Some(0) } else { value.checked_mul(10i64.checked_pow(by)?) }
}

/// `math.Pow10`, which is a product of two table entries.
fn pow10(exponent: i32) -> f64 {
    let entry = |exponent: i32| format!("1e{exponent}").parse().unwrap_or(f64::NAN);
    match exponent {
        ..-323 => 0.0,
        -323..=-1 => entry(-(-exponent / 32 * 32)) / entry(-exponent % 32),
        0..=308 => entry(exponent / 32 * 32) * entry(exponent % 32),
        _ => f64::INFINITY,
    }
}

/// What a suffix multiplies by: `base` to the power of `exponent`.
#[derive(Clone, Copy, PartialEq)]
enum Suffix {
    Decimal(i32),
    Binary(u32),
}

impl Suffix {
    fn parse(text: &str) -> Result<Suffix, ParseError> {
        Ok(match text {
            "" => Suffix::Decimal(0),
            "n" => Suffix::Decimal(-9),
            "u" => Suffix::Decimal(-6),
            "m" => Suffix::Decimal(-3),
            "k" => Suffix::Decimal(3),
            "M" => Suffix::Decimal(6),
            "G" => Suffix::Decimal(9),
            "T" => Suffix::Decimal(12),
            "P" => Suffix::Decimal(15),
            "E" => Suffix::Decimal(18),
            "Ki" => Suffix::Binary(10),
            "Mi" => Suffix::Binary(20),
            "Gi" => Suffix::Binary(30),
            "Ti" => Suffix::Binary(40),
            "Pi" => Suffix::Binary(50),
            "Ei" => Suffix::Binary(60),
            _ => {
                let exponent = text.strip_prefix(['e', 'E']).ok_or(ParseError::Suffix)?;
                // Upstream keeps the low 32 bits.
                Suffix::Decimal(exponent.parse::<i64>().map_err(|_| ParseError::Suffix)? as i32)
            }
        })
    }
}

/// The text of a quantity in its parts. All of them are ASCII.
struct Parts<'a> {
    negative: bool,
    /// Digits before the point without leading zeros, but at least one.
    whole: &'a str,
    fraction: &'a str,
    /// Whether there are any digits at all.
    has_digits: bool,
    suffix: &'a str,
}

impl<'a> Parts<'a> {
    /// `parseQuantityString`: so loose that a lone sign is zero.
    fn split(text: &'a str) -> Result<Parts<'a>, ParseError> {
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
        let rest = unsigned.trim_start_matches('0');
        let has_zeros = rest.len() < unsigned.len();
        let (whole, mut rest) = rest.split_at(digits(rest));
        let mut fraction = "";
        if let Some(after) = rest.strip_prefix('.') {
            (fraction, rest) = after.split_at(digits(after));
        }
        let letters = rest.bytes().take_while(|b| b"eEinumkKMGTP".contains(b)).count();
        let exponent = rest[letters..].strip_prefix(['-', '+']).unwrap_or(&rest[letters..]);
        if exponent.len() != digits(exponent) {
            return Err(ParseError::Format);
        }
        Ok(Parts {
            negative: text.starts_with('-'),
            whole: if whole.is_empty() { "0" } else { whole },
            fraction,
            has_digits: has_zeros || !whole.is_empty() || !fraction.is_empty(),
            suffix: rest,
        })
    }

    /// The number as a small amount, if upstream represents it as one.
    fn small(&self, suffix: Suffix) -> Result<Option<Amount>, ParseError> {
        let length = self.whole.len() + self.fraction.len();
        let (exponent, factor, fits) = match suffix {
            Suffix::Decimal(exponent) => (exponent, 1i64, length <= 18),
            Suffix::Binary(power) if self.fraction.is_empty() => {
                // How many decimal digits the power of two takes, roughly, as upstream reckons.
                let taken = (power as f32 * 3.0 / 10.0) as usize;
                (0, 1 << power, self.whole.len() + taken < 15)
            }
            Suffix::Binary(_) => return Ok(None),
        };
        let exponent = i64::from(exponent) - self.fraction.len() as i64;
        let Ok(exponent) = i32::try_from(exponent) else { return Ok(None) };
        if !fits || exponent < NANO {
            return Ok(None);
        }
        let digits = [self.whole, self.fraction].concat();
        let value: i64 = digits.parse().map_err(|_| ParseError::Numeric)?;
        let signed = if self.negative { -value } else { value };
        Ok(signed.checked_mul(factor).map(|value| Amount::Small { value, exponent }))
    }

    /// The number as a decimal at the scale of billionths. Those with a binary suffix are capped.
    fn big(&self, suffix: Suffix) -> Result<Decimal, ParseError> {
        if !self.has_digits {
            return Err(ParseError::Numeric);
        }
        let mut digits = significant(self.whole.bytes().chain(self.fraction.bytes()));
        let scale = |exponent: i32| i32::try_from(i64::from(exponent) - self.fraction.len() as i64);
        let exponent = match suffix {
            Suffix::Decimal(exponent) => scale(exponent),
            Suffix::Binary(power) => {
                digits = multiply_digits(&digits, 1 << power);
                scale(0)
            }
        };
        let exponent = exponent.map_err(|_| ParseError::Suffix)?;
        if digits.is_empty() {
            return Ok(Decimal { negative: false, digits, exponent });
        }
        let rounded = Decimal { negative: false, digits, exponent }.to_nanos().ok_or(ParseError::Suffix)?;
        let largest = Amount::from_int(i64::MAX).decimal();
        let capped = matches!(suffix, Suffix::Binary(_)) && rounded.compare(&largest).is_gt();
        Ok(Decimal { negative: self.negative, ..if capped { largest } else { rounded } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(text: &str) -> Amount {
        Amount::parse(text).unwrap()
    }

    #[test]
    fn integers_are_small_amounts_only() {
        for (text, expected) in [
            ("50k", Some(50_000)),
            ("1Mi", Some(1 << 20)),
            ("-2Gi", Some(-(2 << 30))),
            ("1e3", Some(1000)),
            ("0", Some(0)),
            ("-", Some(0)),
            (".", Some(0)),
            ("Mi", Some(0)),
            ("1.5", None),
            ("1.0", None),
            ("1.5Gi", None),
            ("1.0Ki", None),
            ("500m", None),
            ("9223372036854775807", None),
            ("999999999999999999", Some(999_999_999_999_999_999)),
            ("9999999999999999999999999999999999999G", None),
            ("100E", None),
        ] {
            assert_eq!(amount(text).as_int(), expected, "{text}");
        }
    }

    #[test]
    fn wrong_texts() {
        for (text, expected) in [
            ("", ParseError::Format),
            ("Three", ParseError::Format),
            ("1,3G", ParseError::Format),
            ("200K", ParseError::Suffix),
            ("e-20", ParseError::Numeric),
            ("1ee", ParseError::Suffix),
        ] {
            assert_eq!(Amount::parse(text).err(), Some(expected), "{text}");
        }
    }

    #[test]
    fn order_and_arithmetic() {
        let texts = [
            "-1e2000000000",
            "-1.5Ki",
            "-1",
            "0",
            "1n",
            "0.1",
            "1k",
            "1Ki",
            "9223372036854775807",
            "1e2000000000",
        ];
        let amounts: Vec<Amount> = texts.iter().map(|text| amount(text)).collect();
        assert!(amounts.windows(2).all(|pair| pair[0].compare(&pair[1]).is_lt()));
        assert_eq!(amount("0.2G"), amount("200M"));
        assert_eq!(amount("1Ki"), amount("1024.000"));
        assert_eq!(amount("50k").add(&amount("20")).and_then(|sum| sum.as_int()), Some(50_020));
        assert_eq!(amount("1.5Ki").sub(&amount("2Ki")), Some(amount("-512")));
        assert_eq!(amount("9223372036854775807").add(&amount("1")), Some(amount("9223372036854775808")));
        assert!(amount("1e2000000000").add(&amount("1.5Ki")).is_none());
        assert_eq!(amount("0.0000000001Ki"), amount("103n"));
        assert_eq!(amount("1.5Ki").sub(&amount("1.5Ki")).map(|zero| zero.sign()), Some(0));
    }

    #[test]
    fn floats() {
        assert_eq!(amount("1.5Gi").as_f64(), 1_610_612_736.0);
        assert_eq!(amount("100m").as_f64(), 0.1);
        assert_eq!(amount("1e400").as_f64(), f64::INFINITY);
        assert_eq!(amount("-9999999999999999999999G").as_f64(), -1.0000000000000001e31);
    }
}
