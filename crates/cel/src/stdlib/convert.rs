//! Conversions between types, and the text forms of values.

use std::sync::Arc;

use super::a;
use crate::function::{CallFn, Function, Overload};
use crate::value::{Duration, Value, timestamp};
use crate::{Error, Type};

type Result<'a> = std::result::Result<Value<'a>, Error>;

pub(super) fn functions() -> Vec<Function> {
    use Type::{Bool, Bytes, Double, Duration, Int, String, Timestamp, Uint};
    vec![
        function("bool", Bool, to_bool, vec![("bool_to_bool", Bool), ("string_to_bool", String)]),
        function("bytes", Bytes, to_bytes, vec![("bytes_to_bytes", Bytes), ("string_to_bytes", String)]),
        function(
            "double",
            Double,
            to_double,
            vec![
                ("double_to_double", Double),
                ("int64_to_double", Int),
                ("string_to_double", String),
                ("uint64_to_double", Uint),
            ],
        ),
        function(
            "duration",
            Duration,
            to_duration,
            vec![
                ("duration_to_duration", Duration),
                ("int64_to_duration", Int),
                ("string_to_duration", String),
            ],
        ),
        function("dyn", Type::Dyn, identity, vec![("to_dyn", a())]),
        function(
            "int",
            Int,
            to_int,
            vec![
                ("int64_to_int64", Int),
                ("double_to_int64", Double),
                ("duration_to_int64", Duration),
                ("string_to_int64", String),
                ("timestamp_to_int64", Timestamp),
                ("uint64_to_int64", Uint),
            ],
        ),
        function(
            "string",
            String,
            to_string,
            vec![
                ("string_to_string", String),
                ("bool_to_string", Bool),
                ("bytes_to_string", Bytes),
                ("double_to_string", Double),
                ("duration_to_string", Duration),
                ("int64_to_string", Int),
                ("timestamp_to_string", Timestamp),
                ("uint64_to_string", Uint),
            ],
        ),
        function(
            "timestamp",
            Timestamp,
            to_timestamp,
            vec![
                ("timestamp_to_timestamp", Timestamp),
                ("int64_to_timestamp", Int),
                ("string_to_timestamp", String),
            ],
        ),
        function(
            "uint",
            Uint,
            to_uint,
            vec![
                ("uint64_to_uint64", Uint),
                ("double_to_uint64", Double),
                ("int64_to_uint64", Int),
                ("string_to_uint64", String),
            ],
        ),
        function("type", Type::type_of(a()), type_of, vec![("type", a())]),
    ]
}

fn function(name: &'static str, result: Type, call: CallFn, from: Vec<(&'static str, Type)>) -> Function {
    let mut function = Function::new(name);
    for (id, ty) in from {
        function = function.overload(Overload::global(id, [ty], result.clone(), call));
    }
    function
}

fn conversion_error<'a>(value: &Value<'_>, to: &str) -> Result<'a> {
    let from = value.type_of();
    Err(Error::new(format!("type conversion error from '{}' to '{to}'", from.runtime_name())))
}

fn one<'v, 'a>(args: &'v [Value<'a>]) -> std::result::Result<&'v Value<'a>, Error> {
    args.first().ok_or_else(Error::no_such_overload)
}

fn identity<'a>(args: &[Value<'a>]) -> Result<'a> {
    one(args).cloned()
}

fn type_of<'a>(args: &[Value<'a>]) -> Result<'a> {
    Ok(Value::Type(one(args)?.type_of()))
}

fn to_bool<'a>(args: &[Value<'a>]) -> Result<'a> {
    match one(args)? {
        Value::Bool(b) => Ok(Value::Bool(*b)),
        value @ Value::String(s) => match s.as_str() {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(Value::Bool(false)),
            _ => conversion_error(value, "bool"),
        },
        value => conversion_error(value, "bool"),
    }
}

fn to_bytes<'a>(args: &[Value<'a>]) -> Result<'a> {
    match one(args)? {
        Value::Bytes(bytes) => Ok(Value::Bytes(bytes.clone())),
        Value::String(s) => Ok(Value::bytes(s.as_bytes())),
        value => conversion_error(value, "bytes"),
    }
}

fn to_double<'a>(args: &[Value<'a>]) -> Result<'a> {
    match one(args)? {
        Value::Double(d) => Ok(Value::Double(*d)),
        Value::Int(i) => Ok(Value::Double(*i as f64)),
        Value::Uint(u) => Ok(Value::Double(*u as f64)),
        value @ Value::String(s) => match parse_double(s) {
            Some(d) => Ok(Value::Double(d)),
            None => conversion_error(value, "double"),
        },
        value => conversion_error(value, "double"),
    }
}

/// As Go's `ParseFloat`, which reports numbers that are too large.
fn parse_double(text: &str) -> Option<f64> {
    let parsed: f64 = text.parse().ok()?;
    let spelled_out = text.chars().any(|c| c.eq_ignore_ascii_case(&'n'));
    (parsed.is_finite() || spelled_out).then_some(parsed)
}

fn to_duration<'a>(args: &[Value<'a>]) -> Result<'a> {
    match one(args)? {
        Value::Duration(d) => Ok(Value::Duration(*d)),
        Value::Int(nanos) => Ok(Value::Duration(Duration { nanos: *nanos })),
        value @ Value::String(s) => match Duration::parse(s) {
            Ok(duration) => Ok(Value::Duration(duration)),
            Err(_) => conversion_error(value, "google.protobuf.Duration"),
        },
        value => conversion_error(value, "google.protobuf.Duration"),
    }
}

fn to_timestamp<'a>(args: &[Value<'a>]) -> Result<'a> {
    let overflow = || Error::new("timestamp overflow");
    match one(args)? {
        Value::Timestamp(t) => Ok(Value::Timestamp(*t)),
        Value::Int(seconds) => timestamp::of_seconds(*seconds).map(Value::Timestamp).ok_or_else(overflow),
        value @ Value::String(s) => match timestamp::parse(s) {
            Ok(at) if timestamp::in_range(at) => Ok(Value::Timestamp(at)),
            Ok(_) => Err(overflow()),
            Err(_) => conversion_error(value, "google.protobuf.Timestamp"),
        },
        value => conversion_error(value, "google.protobuf.Timestamp"),
    }
}

fn to_int<'a>(args: &[Value<'a>]) -> Result<'a> {
    let overflow = || Error::new("integer overflow");
    match one(args)? {
        Value::Int(i) => Ok(Value::Int(*i)),
        Value::Uint(u) => i64::try_from(*u).map(Value::Int).map_err(|_| overflow()),
        Value::Double(d) if *d > i64::MIN as f64 && *d < i64::MAX as f64 => Ok(Value::Int(*d as i64)),
        Value::Double(_) => Err(overflow()),
        Value::Duration(d) => Ok(Value::Int(d.nanos)),
        Value::Timestamp(t) => Ok(Value::Int(t.as_second())),
        value @ Value::String(s) => match s.parse() {
            Ok(i) => Ok(Value::Int(i)),
            Err(_) => conversion_error(value, "int"),
        },
        value => conversion_error(value, "int"),
    }
}

fn to_uint<'a>(args: &[Value<'a>]) -> Result<'a> {
    let overflow = || Error::new("unsigned integer overflow");
    match one(args)? {
        Value::Uint(u) => Ok(Value::Uint(*u)),
        Value::Int(i) => u64::try_from(*i).map(Value::Uint).map_err(|_| overflow()),
        Value::Double(d) if *d >= 0.0 && *d < u64::MAX as f64 => Ok(Value::Uint(*d as u64)),
        Value::Double(_) => Err(overflow()),
        value @ Value::String(s) => match s.parse() {
            Ok(u) if !s.starts_with('+') => Ok(Value::Uint(u)),
            _ => conversion_error(value, "uint"),
        },
        value => conversion_error(value, "uint"),
    }
}

fn to_string<'a>(args: &[Value<'a>]) -> Result<'a> {
    Ok(match one(args)? {
        Value::String(s) => Value::String(s.clone()),
        Value::Bool(b) => Value::from(b.to_string()),
        Value::Int(i) => Value::from(i.to_string()),
        Value::Uint(u) => Value::from(u.to_string()),
        Value::Double(d) => Value::from(go_double(*d)),
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Value::from(text.to_owned()),
            Err(_) => return Err(Error::new("invalid UTF-8 in bytes, cannot convert to string")),
        },
        Value::Duration(d) => Value::from(d.seconds_text()),
        Value::Timestamp(t) => Value::from(timestamp::format(*t)),
        Value::Type(ty) => Value::from(ty.runtime_name().to_owned()),
        value => return conversion_error(value, "string"),
    })
}

/// The shortest form that reads back the same; with an exponent below 1e-4 and from 1e6 on, as
/// `strconv.FormatFloat(d, 'g', -1, 64)` and `fmt`'s `%v` print it.
pub(crate) fn go_double(d: f64) -> String {
    if d.is_nan() {
        return "NaN".to_owned();
    }
    if d.is_infinite() {
        return if d > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    if d == 0.0 {
        return if d.is_sign_negative() { "-0" } else { "0" }.to_owned();
    }
    let scientific = format!("{d:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    format!("{d}")
}

/// A value as Go's `%v` prints it, for messages.
pub(crate) fn format_value(value: &Value<'_>) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(b) => b.to_string(),
        Value::Int(i) => i.to_string(),
        Value::Uint(u) => u.to_string(),
        Value::Double(d) => go_double(*d),
        Value::String(s) => s.to_string(),
        Value::Bytes(bytes) => {
            let bytes: Vec<String> = bytes.iter().map(u8::to_string).collect();
            format!("[{}]", bytes.join(" "))
        }
        Value::Duration(d) => d.to_string(),
        Value::Timestamp(t) => {
            format!("{} UTC", timestamp::format(*t).replace('T', " ").replace('Z', " +0000"))
        }
        Value::List(list) => {
            let items: Vec<String> = list.iter().map(|item| format_value(&item)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Map(map) => {
            let entries: Vec<String> = map
                .iter()
                .map(|(k, v)| format!("{}: {}", format_value(&k.to_value()), format_value(&v)))
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Type(ty) => ty.runtime_name().to_owned(),
        Value::Optional(Some(value)) => format!("optional({})", format_value(value)),
        Value::Optional(None) => "optional.none()".to_owned(),
        Value::Invalid(message) => message.to_string(),
        other => {
            let name: Arc<str> = other.type_of().runtime_name().into();
            name.to_string()
        }
    }
}
