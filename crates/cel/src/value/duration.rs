//! Durations as Go has them.

use std::fmt;

/// A span of time in nanoseconds. `Display` is Go's form, `1h0m0.5s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Duration {
    /// Nanoseconds.
    pub nanos: i64,
}

impl Duration {
    /// Of so many nanoseconds.
    pub const fn from_nanos(nanos: i64) -> Duration {
        Duration { nanos }
    }

    /// Parses Go's form (`time.ParseDuration`); the error is Go's text.
    pub fn parse(text: &str) -> Result<Duration, String> {
        let invalid = || format!("time: invalid duration {}", go_quote(text));
        let (negative, mut rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        if rest == "0" {
            return Ok(Duration::default());
        }
        if rest.is_empty() {
            return Err(invalid());
        }
        let mut total: u64 = 0;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (whole, mut after) = rest.split_at(digits);
            let mut fraction = "";
            if let Some(tail) = after.strip_prefix('.') {
                let digits = tail.bytes().take_while(u8::is_ascii_digit).count();
                (fraction, after) = tail.split_at(digits);
            }
            if whole.is_empty() && fraction.is_empty() {
                return Err(invalid());
            }
            let unit_length = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
            let (unit, tail) = after.split_at(unit_length);
            if unit.is_empty() {
                return Err(format!("time: missing unit in duration {}", go_quote(text)));
            }
            let Some(nanos_per_unit) = unit_nanos(unit) else {
                return Err(format!("time: unknown unit {} in duration {}", go_quote(unit), go_quote(text)));
            };
            let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
            let scaled = whole.checked_mul(nanos_per_unit).filter(|n| *n <= 1 << 63).ok_or_else(invalid)?;
            total = total
                .checked_add(scaled + fraction_nanos(fraction, nanos_per_unit))
                .filter(|n| *n <= 1 << 63)
                .ok_or_else(invalid)?;
            rest = tail;
        }
        let nanos = if negative { -i128::from(total) } else { i128::from(total) };
        i64::try_from(nanos).map(Duration::from_nanos).map_err(|_| invalid())
    }

    /// The form of `string(duration)`: seconds as a decimal number, `3600.5s`.
    pub fn seconds_text(self) -> String {
        format!("{}s", self.seconds())
    }

    /// The seconds as a double, rounded as Go does.
    pub fn seconds(self) -> f64 {
        (self.nanos / 1_000_000_000) as f64 + (self.nanos % 1_000_000_000) as f64 / 1e9
    }
}

fn unit_nanos(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// The part behind the point; digits that Go's arithmetic would lose are lost here too.
fn fraction_nanos(digits: &str, nanos_per_unit: u64) -> u64 {
    let mut value: u64 = 0;
    let mut scale = 1f64;
    for digit in digits.bytes().take(18) {
        value = value * 10 + u64::from(digit - b'0');
        scale *= 10.0;
    }
    (value as f64 * (nanos_per_unit as f64 / scale)) as u64
}

/// A string as Go's `time` package quotes it.
fn go_quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(c);
            }
            ' '..='~' => quoted.push(c),
            other => {
                for byte in other.encode_utf8(&mut [0; 4]).bytes() {
                    quoted.push_str(&format!("\\x{byte:02x}"));
                }
            }
        }
    }
    quoted.push('"');
    quoted
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.nanos.unsigned_abs();
        let sign = if self.nanos < 0 { "-" } else { "" };
        if nanos == 0 {
            return f.write_str("0s");
        }
        if nanos < 1_000_000_000 {
            let (unit, divisor) = match nanos {
                ..1_000 => ("ns", 1),
                1_000..1_000_000 => ("\u{b5}s", 1_000),
                _ => ("ms", 1_000_000),
            };
            return write!(f, "{sign}{}{unit}", decimal(nanos, divisor));
        }
        let minutes = nanos / 60_000_000_000;
        let seconds = decimal(nanos % 60_000_000_000, 1_000_000_000);
        match (minutes / 60, minutes % 60) {
            (0, 0) => write!(f, "{sign}{seconds}s"),
            (0, minutes) => write!(f, "{sign}{minutes}m{seconds}s"),
            (hours, minutes) => write!(f, "{sign}{hours}h{minutes}m{seconds}s"),
        }
    }
}

/// `n / divisor` (a power of ten) without trailing zeroes.
fn decimal(n: u64, divisor: u64) -> String {
    let fraction = n % divisor;
    if fraction == 0 {
        return (n / divisor).to_string();
    }
    let width = divisor.ilog10() as usize;
    let text = format!("{}.{:0width$}", n / divisor, fraction);
    text.trim_end_matches('0').to_owned()
}

impl Duration {
    /// The forms that `strfmt.ParseDuration` takes: Go's, and numbers with units such as `3 days` or `2w`.
    pub(crate) fn parse_lenient(text: &str) -> Result<Duration, String> {
        if let Ok(duration) = Duration::parse(text) {
            return Ok(duration);
        }
        let unparsed = || format!("unable to parse {text} as duration");
        let mut total: i64 = 0;
        let mut rest = text.trim();
        let mut found = false;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let count: i64 = rest[..digits].parse().map_err(|_| unparsed())?;
            let after = rest[digits..].trim_start();
            let letters = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
            let nanos = long_unit_nanos(&after[..letters].to_lowercase()).ok_or_else(unparsed)?;
            total = count.checked_mul(nanos).and_then(|n| total.checked_add(n)).ok_or_else(unparsed)?;
            rest = after[letters..].trim_start();
            found = true;
        }
        if found { Ok(Duration::from_nanos(total)) } else { Err(unparsed()) }
    }
}

fn long_unit_nanos(unit: &str) -> Option<i64> {
    const SECOND: i64 = 1_000_000_000;
    Some(match unit {
        "ns" | "nano" | "nanos" | "nanosecond" | "nanoseconds" => 1,
        "us" | "\u{b5}s" | "micro" | "micros" | "microsecond" | "microseconds" => 1_000,
        "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => 1_000_000,
        "s" | "sec" | "secs" | "second" | "seconds" => SECOND,
        "m" | "min" | "mins" | "minute" | "minutes" => 60 * SECOND,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3600 * SECOND,
        "d" | "day" | "days" => 24 * 3600 * SECOND,
        "w" | "wk" | "week" | "weeks" => 7 * 24 * 3600 * SECOND,
        _ => return None,
    })
}
