//! Cron expressions: five fields, as the robfig/cron library that upstream uses reads them.

use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// A parsed schedule. Each field is a set of bits.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    kind: Kind,
    zone: TimeZone,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Fields(Fields),
    /// `@every 1h30m`.
    Every(Duration),
}

#[derive(Clone, Debug, PartialEq)]
struct Fields {
    minute: u64,
    hour: u64,
    day: u64,
    month: u64,
    weekday: u64,
    /// Whether the day of the month or of the week is `*`: then only the other counts, else either.
    day_is_any: bool,
    weekday_is_any: bool,
}

const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// No schedule that ever fires waits longer: the 29th of February, around a century without one.
const YEARS_MAX: i16 = 9;

impl Schedule {
    /// Parses an expression; `zone` is an IANA name, UTC if absent. `None` when it makes no sense.
    pub fn parse(text: &str, zone: Option<&str>) -> Option<Self> {
        let (embedded, text) = match text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ=")) {
            Some(rest) => rest.split_once(' ').map(|(zone, rest)| (Some(zone), rest))?,
            None => (None, text),
        };
        let zone = match zone.or(embedded) {
            Some(name) => TimeZone::get(name).ok()?,
            None => TimeZone::UTC,
        };
        let text = match text.trim() {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other => other,
        };
        let kind = match text.strip_prefix("@every ") {
            Some(interval) => Kind::Every(go_duration(interval.trim())?.max(Duration::from_secs(1))),
            None => Kind::Fields(fields(text)?),
        };
        Some(Self { kind, zone })
    }

    /// The first time after `after` at which the schedule fires.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        match &self.kind {
            Kind::Every(interval) => {
                let at = Timestamp::from_second(after.as_second()).ok()?;
                at.checked_add(*interval).ok()
            }
            Kind::Fields(fields) => {
                let local = self.zone.to_datetime(after);
                let start =
                    local.with().second(0).subsec_nanosecond(0).build().ok()?.checked_add(1.minute()).ok()?;
                let mut candidate = start;
                loop {
                    candidate = fields.first_match(candidate)?;
                    // A time that a daylight-saving change skips does not exist; try the next.
                    let ambiguous = self.zone.to_ambiguous_timestamp(candidate);
                    let at = ambiguous.compatible().ok()?;
                    if at > after && self.zone.to_datetime(at) == candidate {
                        return Some(at);
                    }
                    candidate = candidate.checked_add(1.minute()).ok()?;
                }
            }
        }
    }
}

impl Fields {
    /// The first matching minute at or after `from`.
    fn first_match(&self, from: DateTime) -> Option<DateTime> {
        let mut at = from;
        while at.year() - from.year() <= YEARS_MAX {
            if !has(self.month, at.month()) {
                at = at.first_of_month().start_of_day_civil()?.checked_add(1.month()).ok()?;
            } else if !self.day_matches(at) {
                at = at.start_of_day_civil()?.checked_add(1.day()).ok()?;
            } else if !has(self.hour, at.hour()) {
                at = at.with().minute(0).build().ok()?.checked_add(1.hour()).ok()?;
            } else if !has(self.minute, at.minute()) {
                at = at.checked_add(1.minute()).ok()?;
            } else {
                return Some(at);
            }
        }
        None
    }

    fn day_matches(&self, at: DateTime) -> bool {
        let day = has(self.day, at.day());
        let weekday = has(self.weekday, at.weekday().to_sunday_zero_offset());
        if self.day_is_any || self.weekday_is_any { day && weekday } else { day || weekday }
    }
}

/// Midnight of a civil day, without a time zone.
trait StartOfDay: Sized {
    fn start_of_day_civil(self) -> Option<Self>;
}

impl StartOfDay for DateTime {
    fn start_of_day_civil(self) -> Option<Self> {
        self.with().hour(0).minute(0).second(0).subsec_nanosecond(0).build().ok()
    }
}

fn has(bits: u64, number: i8) -> bool {
    u32::try_from(number).is_ok_and(|number| bits & (1 << number) != 0)
}

fn fields(text: &str) -> Option<Fields> {
    let parts: Vec<&str> = text.split_whitespace().collect();
    let [minute, hour, day, month, weekday] = parts.as_slice() else { return None };
    let is_any = |field: &str| field.starts_with('*') || field.starts_with('?');
    let mut weekdays = field(weekday, 0, 7, WEEKDAYS, 0)?;
    if weekdays & (1 << 7) != 0 {
        weekdays = (weekdays & !(1 << 7)) | 1;
    }
    Some(Fields {
        minute: field(minute, 0, 59, &[], 0)?,
        hour: field(hour, 0, 23, &[], 0)?,
        day: field(day, 1, 31, &[], 0)?,
        month: field(month, 1, 12, MONTHS, 1)?,
        weekday: weekdays,
        day_is_any: is_any(day),
        weekday_is_any: is_any(weekday),
    })
}

/// Parses lists of `*`, numbers, names and ranges, each with an optional `/step`.
fn field(text: &str, min: u32, max: u32, names: &[&str], first_name: u32) -> Option<u64> {
    let number = |text: &str| -> Option<u32> {
        let lower = text.to_ascii_lowercase();
        match names.iter().position(|name| *name == lower) {
            Some(position) => Some(first_name + u32::try_from(position).ok()?),
            None => text.parse().ok(),
        }
    };
    let mut bits = 0;
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step.parse::<u32>().ok().filter(|step| *step > 0)?)),
            None => (part, None),
        };
        let (first, last) = match range.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None if range == "*" || range == "?" => (min, if max == 7 { 6 } else { max }),
            // `5/10` means from 5 on, every 10.
            None => (number(range)?, if step.is_some() { max } else { number(range)? }),
        };
        if first < min || last > max || first > last {
            return None;
        }
        for number in (first..=last).step_by(usize::try_from(step.unwrap_or(1)).ok()?) {
            bits |= 1 << number;
        }
    }
    Some(bits)
}

/// Go's duration texts: `1h30m`, `90s`.
fn go_duration(text: &str) -> Option<Duration> {
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let value: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        total += value
            * match &rest[..end] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 0.001,
                _ => return None,
            };
        rest = &rest[end..];
    }
    Duration::try_from_secs_f64(total).ok().filter(|duration| !duration.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(schedule: &str, zone: Option<&str>, after: &str, expected: &str) {
        let schedule = Schedule::parse(schedule, zone).unwrap();
        let next = schedule.next(after.parse().unwrap()).unwrap();
        assert_eq!(next.to_string(), expected);
    }

    #[test]
    fn the_next_time_is_found() {
        check("*/5 * * * *", None, "2026-01-01T00:02:30Z", "2026-01-01T00:05:00Z");
        check("*/5 * * * *", None, "2026-01-01T00:05:00Z", "2026-01-01T00:10:00Z");
        check("0 9 * * mon-fri", None, "2026-01-02T10:00:00Z", "2026-01-05T09:00:00Z");
        check("30 1 29 2 *", None, "2026-01-01T00:00:00Z", "2028-02-29T01:30:00Z");
        check("0 0 13 * 5", None, "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
        check("0 0 * * 7", None, "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z");
        check("@hourly", None, "2026-01-01T00:59:59Z", "2026-01-01T01:00:00Z");
        check("@every 1h30m", None, "2026-01-01T00:00:00Z", "2026-01-01T01:30:00Z");
        check("0 12 * * *", Some("Asia/Tokyo"), "2026-01-01T00:00:00Z", "2026-01-01T03:00:00Z");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "* * * *", "60 * * * *", "* * 0 * *", "*/0 * * * *", "5-1 * * * *", "@sometimes"] {
            assert_eq!(Schedule::parse(text, None), None, "{text}");
        }
        assert_eq!(Schedule::parse("* * * * *", Some("Nowhere/Land")), None);
        assert_eq!(Schedule::parse("0 0 30 2 *", None).unwrap().next(Timestamp::UNIX_EPOCH), None);
    }
}
