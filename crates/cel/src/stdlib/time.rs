//! Parts of timestamps and durations.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::function::{CallFn, Function, Overload};
use crate::value::{Timestamp, Value};
use crate::{Error, Type};

type Result<'a> = std::result::Result<Value<'a>, Error>;

pub(super) fn functions() -> Vec<Function> {
    let getter = |name, id, id_with_zone, call: CallFn| {
        Function::new(name)
            .overload(Overload::member(id, [Type::Timestamp], Type::Int, call))
            .overload(Overload::member(id_with_zone, [Type::Timestamp, Type::String], Type::Int, call))
    };
    let both = |function: Function, id, call: CallFn| {
        function.overload(Overload::member(id, [Type::Duration], Type::Int, call))
    };
    let hours = getter("getHours", "timestamp_to_hours", "timestamp_to_hours_with_tz", hours);
    let minutes = getter("getMinutes", "timestamp_to_minutes", "timestamp_to_minutes_with_tz", minutes);
    let seconds = getter("getSeconds", "timestamp_to_seconds", "timestamp_to_seconds_tz", seconds);
    let milliseconds = getter(
        "getMilliseconds",
        "timestamp_to_milliseconds",
        "timestamp_to_milliseconds_with_tz",
        milliseconds,
    );
    vec![
        getter("getFullYear", "timestamp_to_year", "timestamp_to_year_with_tz", year),
        getter("getMonth", "timestamp_to_month", "timestamp_to_month_with_tz", month),
        getter("getDayOfYear", "timestamp_to_day_of_year", "timestamp_to_day_of_year_with_tz", day_of_year),
        getter(
            "getDayOfMonth",
            "timestamp_to_day_of_month",
            "timestamp_to_day_of_month_with_tz",
            day_of_month,
        ),
        getter(
            "getDate",
            "timestamp_to_day_of_month_1_based",
            "timestamp_to_day_of_month_1_based_with_tz",
            date,
        ),
        getter("getDayOfWeek", "timestamp_to_day_of_week", "timestamp_to_day_of_week_with_tz", day_of_week),
        both(hours, "duration_to_hours", whole_hours),
        both(minutes, "duration_to_minutes", whole_minutes),
        both(seconds, "duration_to_seconds", whole_seconds),
        both(milliseconds, "duration_to_milliseconds", whole_milliseconds),
    ]
}

fn part<'a>(args: &[Value<'a>], part: fn(DateTime) -> i64) -> Result<'a> {
    match args {
        [Value::Timestamp(at)] => Ok(Value::Int(part(at.civil(0)))),
        [Value::Timestamp(at), Value::String(zone)] => Ok(Value::Int(part(in_zone(*at, zone)?))),
        _ => Err(Error::no_such_overload()),
    }
}

/// In a zone by its name, or at an offset such as `-08:00`.
fn in_zone(at: Timestamp, zone: &str) -> std::result::Result<DateTime, Error> {
    let Some((hours, minutes)) = zone.split_once(':') else {
        return match zone {
            "" | "UTC" => Ok(at.civil(0)),
            name => TimeZone::get(name)
                .map(|zone| at.civil_in(&zone))
                .map_err(|_| Error::new(format!("unknown time zone {name}"))),
        };
    };
    let number = |text: &str| {
        text.parse::<i32>().map_err(|_| Error::new(format!("strconv.Atoi: parsing {text:?}: invalid syntax")))
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let out_of_range = || Error::new(format!("unknown time zone {zone}"));
    let minutes =
        if zone.starts_with('-') { minutes.checked_neg().ok_or_else(out_of_range)? } else { minutes };
    let offset = hours.checked_mul(60).and_then(|m| m.checked_add(minutes)).and_then(|m| m.checked_mul(60));
    Ok(at.civil(offset.ok_or_else(out_of_range)?))
}

fn year<'a>(args: &[Value<'a>]) -> Result<'a> {
    part(args, |t| i64::from(t.year()))
}

fn month<'a>(args: &[Value<'a>]) -> Result<'a> {
    part(args, |t| i64::from(t.month()) - 1)
}

fn day_of_year<'a>(args: &[Value<'a>]) -> Result<'a> {
    part(args, |t| i64::from(t.day_of_year()) - 1)
}

fn day_of_month<'a>(args: &[Value<'a>]) -> Result<'a> {
    part(args, |t| i64::from(t.day()) - 1)
}

fn date<'a>(args: &[Value<'a>]) -> Result<'a> {
    part(args, |t| i64::from(t.day()))
}

fn day_of_week<'a>(args: &[Value<'a>]) -> Result<'a> {
    part(args, |t| i64::from(t.weekday().to_sunday_zero_offset()))
}

fn hours<'a>(args: &[Value<'a>]) -> Result<'a> {
    part(args, |t| i64::from(t.hour()))
}

fn minutes<'a>(args: &[Value<'a>]) -> Result<'a> {
    part(args, |t| i64::from(t.minute()))
}

fn seconds<'a>(args: &[Value<'a>]) -> Result<'a> {
    part(args, |t| i64::from(t.second()))
}

fn milliseconds<'a>(args: &[Value<'a>]) -> Result<'a> {
    part(args, |t| i64::from(t.millisecond()))
}

fn whole<'a>(args: &[Value<'a>], nanos_per_unit: i64) -> Result<'a> {
    match args {
        [Value::Duration(d)] => Ok(Value::Int(d.nanos / nanos_per_unit)),
        _ => Err(Error::no_such_overload()),
    }
}

fn whole_hours<'a>(args: &[Value<'a>]) -> Result<'a> {
    whole(args, 3_600_000_000_000)
}

fn whole_minutes<'a>(args: &[Value<'a>]) -> Result<'a> {
    whole(args, 60_000_000_000)
}

fn whole_seconds<'a>(args: &[Value<'a>]) -> Result<'a> {
    whole(args, 1_000_000_000)
}

fn whole_milliseconds<'a>(args: &[Value<'a>]) -> Result<'a> {
    whole(args, 1_000_000)
}
