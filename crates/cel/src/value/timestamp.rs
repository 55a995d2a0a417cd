//! Timestamps in the forms that Go and Kubernetes know.

use std::cmp::Ordering;

use jiff::SignedDuration;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

/// A point in time, and the offset from UTC with which it was written. Points are equal and ordered whatever their
/// offsets; in expressions they are of the years 1 to 9999.
#[derive(Clone, Copy, Debug)]
pub struct Timestamp {
    /// Seconds since 1970.
    seconds: i64,
    nanos: i32,
    /// Seconds east of UTC.
    offset: i32,
}

const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

impl Timestamp {
    /// So many seconds and nanoseconds (of less than a second) after the beginning of 1970, in UTC.
    pub const fn new(seconds: i64, nanos: i32) -> Timestamp {
        Timestamp { seconds, nanos, offset: 0 }
    }

    /// Seconds since 1970, rounded down.
    pub fn as_second(self) -> i64 {
        self.seconds
    }

    /// Nanoseconds since 1970.
    pub fn as_nanosecond(self) -> i128 {
        i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanos)
    }

    /// Later by so many nanoseconds, if that is in range.
    pub(crate) fn checked_add_nanos(self, nanos: i64) -> Option<Timestamp> {
        let sum = self.as_nanosecond() + i128::from(nanos);
        let seconds = i64::try_from(sum.div_euclid(1_000_000_000)).ok()?;
        let moved = Timestamp { seconds, nanos: sum.rem_euclid(1_000_000_000) as i32, offset: self.offset };
        in_range(moved).then_some(moved)
    }

    /// The date and time at so many seconds east of UTC.
    pub(crate) fn civil(self, offset: i32) -> DateTime {
        let seconds = self.seconds.saturating_add(i64::from(offset));
        EPOCH.saturating_add(SignedDuration::new(seconds, self.nanos))
    }

    /// The date and time in a zone of the time zone database.
    pub(crate) fn civil_in(self, zone: &TimeZone) -> DateTime {
        let bounded = self.seconds.clamp(jiff::Timestamp::MIN.as_second(), jiff::Timestamp::MAX.as_second());
        let offset = jiff::Timestamp::from_second(bounded).map_or(0, |at| zone.to_offset(at).seconds());
        self.civil(offset)
    }
}

impl From<jiff::Timestamp> for Timestamp {
    fn from(at: jiff::Timestamp) -> Timestamp {
        let nanos = at.as_nanosecond();
        Timestamp::new(nanos.div_euclid(1_000_000_000) as i64, nanos.rem_euclid(1_000_000_000) as i32)
    }
}

impl PartialEq for Timestamp {
    fn eq(&self, other: &Timestamp) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Timestamp {}

impl Ord for Timestamp {
    fn cmp(&self, other: &Timestamp) -> Ordering {
        (self.seconds, self.nanos).cmp(&(other.seconds, other.nanos))
    }
}

impl PartialOrd for Timestamp {
    fn partial_cmp(&self, other: &Timestamp) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Whether the year is one of 1 to 9999.
pub(crate) fn in_range(timestamp: Timestamp) -> bool {
    (-62_135_596_800..=253_402_300_799).contains(&timestamp.seconds)
}

/// The timestamp so many seconds after the epoch, if it is in range.
pub(crate) fn of_seconds(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp::new(seconds, 0)).filter(|at| in_range(*at))
}

/// RFC 3339 with the offset of the timestamp and as many digits of the second as there are (`time.RFC3339Nano`).
pub(crate) fn format(timestamp: Timestamp) -> String {
    let civil = timestamp.civil(timestamp.offset);
    let (date, time) = (civil.date(), civil.time());
    let mut text = format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        date.year(),
        date.month(),
        date.day(),
        time.hour(),
        time.minute(),
        time.second()
    );
    if time.subsec_nanosecond() != 0 {
        let digits = format!(".{:09}", time.subsec_nanosecond());
        text.push_str(digits.trim_end_matches('0'));
    }
    match timestamp.offset / 60 {
        0 => text.push('Z'),
        minutes => {
            let sign = if minutes < 0 { '-' } else { '+' };
            let minutes = minutes.abs();
            text.push_str(&format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60));
        }
    }
    text
}

/// `time.Parse(time.RFC3339, …)`. The error is Go's text.
pub(crate) fn parse(text: &str) -> Result<Timestamp, String> {
    Parser { text, rest: text }.rfc3339()
}

/// `YYYY-MM-DD`.
pub(crate) fn parse_date(text: &str) -> Result<Timestamp, String> {
    let mut parser = Parser { text, rest: text };
    let date = parser.date("2006-01-02")?;
    if !parser.rest.is_empty() {
        return Err(format!("parsing time {text:?}: extra text: {:?}", parser.rest));
    }
    Ok(at(date.at(0, 0, 0, 0), 0))
}

/// The forms that `strfmt.ParseDateTime` takes: RFC 3339, and without an offset.
pub(crate) fn parse_date_time(text: &str) -> Result<Timestamp, String> {
    if text.is_empty() {
        return Ok(Timestamp::new(0, 0));
    }
    parse(text).or_else(|error| parse(&format!("{text}Z")).map_err(|_| error))
}

/// The timestamp of a date and time at an offset.
fn at(civil: DateTime, offset: i32) -> Timestamp {
    let since = civil.duration_since(EPOCH);
    let nanos = since.as_nanos() - i128::from(offset) * 1_000_000_000;
    let seconds = nanos.div_euclid(1_000_000_000) as i64;
    Timestamp { seconds, nanos: nanos.rem_euclid(1_000_000_000) as i32, offset }
}

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
}

const RFC3339: &str = "2006-01-02T15:04:05Z07:00";

impl Parser<'_> {
    fn rfc3339(mut self) -> Result<Timestamp, String> {
        let date = self.date(RFC3339)?;
        self.literal('T', RFC3339, "T15:04:05Z07:00")?;
        let hour = self.number(2, RFC3339, "15")?;
        self.literal(':', RFC3339, ":04:05Z07:00")?;
        let minute = self.number(2, RFC3339, "04")?;
        self.literal(':', RFC3339, ":05Z07:00")?;
        let second = self.number(2, RFC3339, "05")?;
        for (value, limit, name) in [(hour, 24, "hour"), (minute, 60, "minute"), (second, 60, "second")] {
            if value >= limit {
                return Err(self.out_of_range(name));
            }
        }
        let nanos = self.fraction();
        let offset = self.offset()?;
        if !self.rest.is_empty() {
            return Err(format!("parsing time {:?}: extra text: {:?}", self.text, self.rest));
        }
        Ok(at(date.at(hour as i8, minute as i8, second as i8, nanos), offset))
    }

    fn date(&mut self, layout: &str) -> Result<Date, String> {
        let year = self.number(4, layout, "2006")?;
        self.literal('-', layout, &layout[4..])?;
        let month = self.number(2, layout, "01")?;
        if !(1..=12).contains(&month) {
            return Err(self.out_of_range("month"));
        }
        self.literal('-', layout, &layout[7..])?;
        let day = self.number(2, layout, "02")?;
        Date::new(year as i16, month as i8, day as i8).map_err(|_| self.out_of_range("day"))
    }

    fn number(&mut self, digits: usize, layout: &str, element: &str) -> Result<i32, String> {
        match self.rest.get(..digits).filter(|d| d.bytes().all(|b| b.is_ascii_digit())) {
            Some(text) => {
                self.rest = &self.rest[digits..];
                Ok(text.parse().unwrap_or(0))
            }
            None => Err(self.cannot_parse(layout, element)),
        }
    }

    fn literal(&mut self, c: char, layout: &str, element: &str) -> Result<(), String> {
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                Ok(())
            }
            None => Err(self.cannot_parse(layout, element)),
        }
    }

    fn fraction(&mut self) -> i32 {
        let Some(tail) = self.rest.strip_prefix(['.', ',']) else { return 0 };
        let digits = tail.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return 0;
        }
        self.rest = &tail[digits..];
        let padded = format!("{:0<9}", &tail[..digits]);
        padded[..9].parse().unwrap_or(0)
    }

    /// Seconds east of UTC.
    fn offset(&mut self) -> Result<i32, String> {
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Ok(0);
        }
        let bytes = self.rest.as_bytes();
        let wrong = || {
            format!("parsing time {:?} as {RFC3339:?}: cannot parse {:?} as \"Z07:00\"", self.text, self.rest)
        };
        let well_formed = bytes.len() >= 6
            && matches!(bytes[0], b'+' | b'-')
            && bytes[3] == b':'
            && [1, 2, 4, 5].iter().all(|i| bytes[*i].is_ascii_digit());
        if !well_formed {
            return Err(wrong());
        }
        let two = |i: usize| i32::from(bytes[i] - b'0') * 10 + i32::from(bytes[i + 1] - b'0');
        let (hours, minutes) = (two(1), two(4));
        if hours > 24 || minutes > 60 {
            return Err(self.out_of_range("time zone offset"));
        }
        let seconds = hours * 3600 + minutes * 60;
        let sign = if bytes[0] == b'-' { -1 } else { 1 };
        self.rest = &self.rest[6..];
        Ok(sign * seconds)
    }

    fn cannot_parse(&self, layout: &str, element: &str) -> String {
        let literal = element.starts_with(['-', 'T', ':']);
        let element = if literal { &element[..1] } else { element };
        format!("parsing time {:?} as {layout:?}: cannot parse {:?} as {element:?}", self.text, self.rest)
    }

    fn out_of_range(&self, what: &str) -> String {
        format!("parsing time {:?}: {what} out of range", self.text)
    }
}
