//! Points in time: Go's `time.Parse` for the two layouts that the API uses, and its complaints.

use serde_json::Value;

const RFC3339: &str = "2006-01-02T15:04:05Z07:00";
const RFC3339_MICRO: &str = "2006-01-02T15:04:05.000000Z07:00";

/// A `metav1.Time`: whole seconds, UTC; the zero time is null.
pub(super) fn time(text: &str) -> Result<Value, String> {
    if is_canonical(text) {
        return Ok(Value::from(text));
    }
    let parsed = parse(text, false)?;
    Ok(parsed.map_or(Value::Null, |t| Value::String(t.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())))
}

/// A `metav1.MicroTime`: microseconds, UTC; the zero time is null.
pub(super) fn micro_time(text: &str) -> Result<Value, String> {
    let parsed = parse(text, true)?;
    Ok(parsed.map_or(Value::Null, |t| Value::String(t.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string())))
}

/// Whether the text is `dddd-dd-ddTdd:dd:ddZ` with a day and hour that exist in every month.
fn is_canonical(text: &str) -> bool {
    let b = text.as_bytes();
    let two = |at: usize| u32::from(b[at] - b'0') * 10 + u32::from(b[at + 1] - b'0');
    b.len() == 20
        && b.iter().enumerate().all(|(i, c)| match i {
            4 | 7 => *c == b'-',
            10 => *c == b'T',
            13 | 16 => *c == b':',
            19 => *c == b'Z',
            _ => c.is_ascii_digit(),
        })
        && &b[..4] != b"0001"
        && (1..=12).contains(&two(5))
        && (1..=28).contains(&two(8))
        && two(11) < 24
        && two(14) < 60
        && two(17) < 60
}

/// As Go's `time` quotes, which shows the bytes of what is not ASCII.
fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => quoted.extend(['\\', char::from(byte)]),
            b' '..0x80 => quoted.push(char::from(byte)),
            _ => quoted += &format!("\\x{byte:02x}"),
        }
    }
    quoted.push('"');
    quoted
}

/// Reads the layout element by element, as Go does, because its errors name the element.
struct Parser<'a> {
    layout: &'static str,
    whole: &'a str,
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn fail<T>(&self, element: &str, rest: &str) -> Result<T, String> {
        Err(format!(
            "parsing time {} as {}: cannot parse {} as {}",
            quote(self.whole),
            quote(self.layout),
            quote(rest),
            quote(element)
        ))
    }

    fn out_of_range<T>(&self, what: &str) -> Result<T, String> {
        Err(format!("parsing time {}: {what} out of range", quote(self.whole)))
    }

    fn literal(&mut self, literal: &str) -> Result<(), String> {
        match self.rest.strip_prefix(literal) {
            Some(rest) => {
                self.rest = rest;
                Ok(())
            }
            None => self.fail(literal, self.rest),
        }
    }

    fn digits(&mut self, count: usize, element: &str) -> Result<i64, String> {
        let head = self.rest.get(..count).filter(|h| h.bytes().all(|b| b.is_ascii_digit()));
        match head.and_then(|h| h.parse().ok()) {
            Some(number) => {
                self.rest = &self.rest[count..];
                Ok(number)
            }
            None => self.fail(element, self.rest),
        }
    }

    /// Go reads hours in the `15` layout with one or two digits.
    fn hour(&mut self) -> Result<i64, String> {
        let two = self.rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit);
        self.digits(if two { 2 } else { 1 }, "15")
    }

    fn fraction(&mut self, exact: bool) -> Result<i64, String> {
        if exact {
            let Some(digits) = self.rest.strip_prefix('.') else { return self.fail(".000000", self.rest) };
            let Some(head) = digits.get(..6).filter(|h| h.bytes().all(|b| b.is_ascii_digit())) else {
                return self.fail(".000000", self.rest);
            };
            self.rest = &digits[6..];
            return Ok(head.parse::<i64>().unwrap_or(0) * 1000);
        }
        // A fraction is accepted behind the seconds even where the layout has none.
        let after = self.rest.strip_prefix(['.', ',']).unwrap_or("");
        let count = after.bytes().take_while(u8::is_ascii_digit).count();
        if count > 0 {
            self.rest = &after[count..];
        }
        Ok(0)
    }

    /// The offset in seconds.
    fn zone(&mut self) -> Result<i64, String> {
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Ok(0);
        }
        let zone = self.rest;
        let bytes = zone.as_bytes();
        let sign = match bytes.first() {
            Some(b'+') => 1,
            Some(b'-') => -1,
            _ => return self.fail("Z07:00", zone),
        };
        let number = |range: std::ops::Range<usize>| -> Option<i64> {
            zone.get(range).filter(|d| d.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()
        };
        match (number(1..3), bytes.get(3), number(4..6)) {
            (Some(hours), Some(b':'), Some(minutes)) if hours <= 24 && minutes < 60 => {
                self.rest = &zone[6..];
                Ok(sign * (hours * 3600 + minutes * 60))
            }
            (Some(_), Some(b':'), Some(_)) => self.out_of_range("time zone offset hour"),
            _ => self.fail("Z07:00", zone),
        }
    }
}

/// Parses; `None` is Go's zero time.
fn parse(text: &str, micro: bool) -> Result<Option<jiff::Timestamp>, String> {
    let layout = if micro { RFC3339_MICRO } else { RFC3339 };
    let mut p = Parser { layout, whole: text, rest: text };
    let year = p.digits(4, "2006")?;
    p.literal("-")?;
    let month = p.digits(2, "01")?;
    if !(1..=12).contains(&month) {
        return p.out_of_range("month");
    }
    p.literal("-")?;
    let day = p.digits(2, "02")?;
    p.literal("T")?;
    let hour = p.hour()?;
    if hour >= 24 {
        return p.out_of_range("hour");
    }
    p.literal(":")?;
    let minute = p.digits(2, "04")?;
    if minute >= 60 {
        return p.out_of_range("minute");
    }
    p.literal(":")?;
    let second = p.digits(2, "05")?;
    if second >= 60 {
        return p.out_of_range("second");
    }
    let nanos = p.fraction(micro)?;
    let offset = p.zone()?;
    if !p.rest.is_empty() {
        return Err(format!("parsing time {}: extra text: {}", quote(text), quote(p.rest)));
    }
    let narrow = |n: i64| i8::try_from(n).unwrap_or(0);
    let year = i16::try_from(year).unwrap_or(0);
    let Ok(date) = jiff::civil::Date::new(year, narrow(month), narrow(day)) else {
        return p.out_of_range("day");
    };
    let clock = jiff::civil::Time::new(
        narrow(hour),
        narrow(minute),
        narrow(second),
        i32::try_from(nanos).unwrap_or(0),
    );
    let stamp = clock
        .ok()
        .and_then(|clock| date.to_datetime(clock).to_zoned(jiff::tz::TimeZone::UTC).ok())
        .and_then(|zoned| zoned.timestamp().checked_sub(jiff::SignedDuration::from_secs(offset)).ok());
    match stamp {
        Some(stamp) => Ok((stamp.as_second() != ZERO_TIME_SECONDS || nanos != 0).then_some(stamp)),
        None => p.out_of_range("year"),
    }
}

/// 0001-01-01T00:00:00Z.
const ZERO_TIME_SECONDS: i64 = -62_135_596_800;
