//! Timestamps in the forms that Go and Kubernetes know.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::{Offset, TimeZone};

/// Whether the year is one of 1 to 9999.
pub(crate) fn in_range(timestamp: Timestamp) -> bool {
    (-62_135_596_800..=253_402_300_799).contains(&timestamp.as_second())
}

/// RFC 3339 in UTC with as many digits of the second as there are (`time.RFC3339Nano`).
pub(crate) fn format(timestamp: Timestamp) -> String {
    let utc = Offset::UTC.to_datetime(timestamp);
    let mut text = format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        utc.year(),
        utc.month(),
        utc.day(),
        utc.hour(),
        utc.minute(),
        utc.second()
    );
    if utc.subsec_nanosecond() != 0 {
        let digits = format!(".{:09}", utc.subsec_nanosecond());
        text.push_str(digits.trim_end_matches('0'));
    }
    text.push('Z');
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
    in_utc(date.at(0, 0, 0, 0)).ok_or_else(|| format!("parsing time {text:?}: out of range"))
}

/// The forms that `strfmt.ParseDateTime` takes: RFC 3339, and without an offset.
pub(crate) fn parse_date_time(text: &str) -> Result<Timestamp, String> {
    if text.is_empty() {
        return Ok(Timestamp::UNIX_EPOCH);
    }
    parse(text).or_else(|error| parse(&format!("{text}Z")).map_err(|_| error))
}

fn in_utc(date_time: DateTime) -> Option<Timestamp> {
    TimeZone::UTC.to_timestamp(date_time).ok()
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
        let time = date.at(hour as i8, minute as i8, second as i8, nanos);
        let utc = in_utc(time).ok_or_else(|| self.out_of_range("year"))?;
        utc.checked_sub(jiff::SignedDuration::from_secs(offset)).map_err(|_| self.out_of_range("year"))
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
    fn offset(&mut self) -> Result<i64, String> {
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
        let two = |i: usize| i64::from(bytes[i] - b'0') * 10 + i64::from(bytes[i + 1] - b'0');
        let (hours, minutes) = (two(1), two(4));
        if hours > 24 || minutes > 60 {
            return Err(self.out_of_range("time zone offset ".trim_end()));
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
