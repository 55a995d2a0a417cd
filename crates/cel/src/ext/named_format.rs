//! `format.dns1123Label()`, `format.named()` and `validate()`.

use api::format;
use jiff::civil::Date;

use super::{cost, opaque, urls};
use crate::{CallEstimate, Error, EstimateArgs, Function, Opaque, Overload, Type, Value};

/// A format of strings.
struct Format {
    /// As in `format.named(name)` and `format.name()`.
    function: &'static str,
    /// By this two formats are told apart.
    name: &'static str,
    /// What is wrong with a text.
    check: fn(&str) -> Vec<String>,
    /// The length of the regular expression that the check amounts to, by which its cost is reckoned.
    regex_size: u64,
}

const UUID_PATTERN: &str = "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$";
const DATE_TIME_PATTERN: &str = "^([0-9]{2}):([0-9]{2}):([0-9]{2})(.[0-9]+)?(z|([+-][0-9]{2}:[0-9]{2}))$";

static FORMATS: [Format; 13] = [
    of("dns1123Label", "DNS1123Label", 30, |text| format::name_is_label(text, false)),
    of("dns1123Subdomain", "DNS1123Subdomain", 60, |text| format::name_is_subdomain(text, false)),
    of("dns1035Label", "DNS1035Label", 30, |text| format::name_is_dns1035_label(text, false)),
    of("qualifiedName", "QualifiedName", 60, format::label_key),
    of("dns1123LabelPrefix", "DNS1123LabelPrefix", 30, |text| format::name_is_label(text, true)),
    of("dns1123SubdomainPrefix", "DNS1123SubdomainPrefix", 60, |text| format::name_is_subdomain(text, true)),
    of("dns1035LabelPrefix", "DNS1035LabelPrefix", 30, |text| format::name_is_dns1035_label(text, true)),
    of("labelValue", "LabelValue", 40, format::label_value),
    of("uri", "URI", 1103, |text| urls::check(text).into_iter().collect()),
    of("uuid", "uuid", UUID_PATTERN.len() as u64, |text| {
        said(is_uuid(text), "does not match the UUID format")
    }),
    of("byte", "byte", 84, |text| said(is_base64(text), "invalid base64")),
    of("date", "date", DATE_TIME_PATTERN.len() as u64, |text| said(is_date(text), "invalid date")),
    of("datetime", "datetime", DATE_TIME_PATTERN.len() as u64, |text| {
        said(is_date_time(text), "invalid datetime")
    }),
];

const fn of(
    function: &'static str,
    name: &'static str,
    regex_size: u64,
    check: fn(&str) -> Vec<String>,
) -> Format {
    Format { function, name, check, regex_size }
}

fn said(holds: bool, otherwise: &str) -> Vec<String> {
    if holds { Vec::new() } else { vec![otherwise.to_owned()] }
}

/// A value of one of the formats.
#[derive(Clone, Copy)]
struct FormatValue(&'static Format);

impl PartialEq for FormatValue {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl std::fmt::Debug for FormatValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.name)
    }
}

impl Opaque for FormatValue {
    fn type_of(&self) -> Type {
        ty()
    }

    fn equals(&self, other: &dyn Opaque) -> Option<bool> {
        opaque::equal(self, other)
    }
}

fn ty() -> Type {
    Type::object("kubernetes.NamedFormat")
}

pub(super) fn functions() -> Vec<Function> {
    let messages = Type::optional(Type::list(Type::String));
    let mut functions = vec![
        Function::new("validate").overload(
            Overload::member("format-validate", [ty(), Type::String], messages, validate)
                .cost(estimate_validate, actual_validate),
        ),
        Function::new("format.named").overload(
            Overload::global("format-named", [Type::String], Type::optional(ty()), named)
                .cost(cost::estimate_nominal, cost::actual_nominal),
        ),
    ];
    functions.extend(constants());
    functions
}

/// A function without parameters for each format. Its name is also its overload's.
fn constants() -> Vec<Function> {
    macro_rules! constants {
        ($($index:literal $name:literal),*) => {
            vec![$(Function::new($name).overload(Overload::global($name, [], ty(), |_| {
                Ok(Value::opaque(FormatValue(&FORMATS[$index])))
            }))),*]
        };
    }
    constants![
        0 "format.dns1123Label", 1 "format.dns1123Subdomain", 2 "format.dns1035Label", 3 "format.qualifiedName",
        4 "format.dns1123LabelPrefix", 5 "format.dns1123SubdomainPrefix", 6 "format.dns1035LabelPrefix",
        7 "format.labelValue", 8 "format.uri", 9 "format.uuid", 10 "format.byte", 11 "format.date",
        12 "format.datetime"
    ]
}

fn named<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let name = opaque::text(args)?;
    let format = FORMATS.iter().find(|format| format.function == name);
    Ok(format.map_or(Value::Optional(None), |format| Value::some(Value::opaque(FormatValue(format)))))
}

fn validate<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let format = opaque::receiver::<FormatValue>(args)?.0;
    let text = args.get(1).and_then(Value::as_str).ok_or_else(Error::no_such_overload)?;
    let wrong = (format.check)(text);
    if wrong.is_empty() {
        return Ok(Value::Optional(None));
    }
    Ok(Value::some(Value::list(wrong.into_iter().map(Value::from).collect())))
}

fn estimate_validate(call: &EstimateArgs<'_>) -> Option<CallEstimate> {
    const MAX_REGEX_SIZE: f64 = 128.0;
    let traversal = call.size(call.args.first()?).multiply_by_cost_factor(cost::STRING_TRAVERSAL);
    cost::only(traversal.multiply_by_cost_factor(MAX_REGEX_SIZE * cost::REGEX_LENGTH))
}

fn actual_validate<'v, 'a>(args: &'v [Value<'a>], _: &'v Value<'a>) -> Option<u64> {
    let format = args.first()?.downcast::<FormatValue>()?.0;
    let traversal = cost::scaled(1 + cost::size(args.get(1)?), cost::STRING_TRAVERSAL);
    Some(traversal * cost::scaled(format.regex_size, cost::REGEX_LENGTH))
}

/// [`UUID_PATTERN`].
fn is_uuid(text: &str) -> bool {
    let mut rest = text;
    for (i, length) in [8, 4, 4, 4, 12].into_iter().enumerate() {
        if i > 0 {
            rest = rest.strip_prefix('-').unwrap_or(rest);
        }
        match rest.split_at_checked(length) {
            Some((group, after)) if group.bytes().all(|b| b.is_ascii_hexdigit()) => rest = after,
            _ => return false,
        }
    }
    rest.is_empty()
}

/// Standard base64 with padding; the empty text is none.
fn is_base64(text: &str) -> bool {
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    !text.is_empty()
        && text.len().is_multiple_of(4)
        && padding <= 2
        && digits.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
}

/// A full date of RFC 3339.
fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digits =
        |range: std::ops::Range<usize>| bytes[range].iter().fold(0i16, |n, b| n * 10 + i16::from(b - b'0'));
    bytes.len() == 10
        && bytes
            .iter()
            .enumerate()
            .all(|(i, b)| if i == 4 || i == 7 { *b == b'-' } else { b.is_ascii_digit() })
        && Date::new(digits(0..4), digits(5..7) as i8, digits(8..10) as i8).is_ok()
}

/// `strfmt.IsDateTime`: a date, `T`, and a time by [`DATE_TIME_PATTERN`] whose numbers are in range. A second `T`
/// and what follows it are not looked at.
fn is_date_time(text: &str) -> bool {
    let text = text.to_lowercase();
    let mut parts = text.split('t');
    let (Some(date), Some(time)) = (parts.next(), parts.next()) else { return false };
    is_date(date) && is_time(time)
}

fn is_time(text: &str) -> bool {
    let Some((clock, mut rest)) = text.split_at_checked(8) else { return false };
    let in_range = ["23", "59", "59"].iter().enumerate().all(|(i, most)| {
        let number = &clock.as_bytes()[i * 3..i * 3 + 2];
        number.iter().all(u8::is_ascii_digit) && number <= most.as_bytes()
    });
    if !in_range || clock.as_bytes()[2] != b':' || clock.as_bytes()[5] != b':' {
        return false;
    }
    // Any character may separate the fraction, even a digit; but that of an offset does not.
    if !is_offset(rest) {
        let mut characters = rest.chars();
        characters.next();
        let digits = characters.as_str();
        rest = digits.trim_start_matches(|c: char| c.is_ascii_digit());
        if rest.len() == digits.len() {
            return false;
        }
    }
    is_offset(rest)
}

fn is_offset(text: &str) -> bool {
    match text.as_bytes() {
        b"z" => true,
        [b'+' | b'-', a, b, b':', c, d] => [a, b, c, d].iter().all(|b| b.is_ascii_digit()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails(name: &str, text: &str) -> bool {
        let format = FORMATS.iter().find(|format| format.function == name).unwrap();
        !(format.check)(text).is_empty()
    }

    #[test]
    fn formats_of_open_api() {
        for (name, good, bad) in [
            ("uuid", "123E4567-e89b12d3a456-426614174000", "123e4567-e89b-12d3-a456-42661417400"),
            ("byte", "aGVsbG8=", ""),
            ("byte", "aGVsbG8h", "aGVsbG8"),
            ("date", "2024-02-29", "2023-02-29"),
            ("datetime", "2021-01-01t00:00:00.123Z", "2021-01-01T24:00:00Z"),
            ("datetime", "2021-01-01T00:00:00+24:00", "2021-01-01T00:00:00"),
            ("uri", "/x", "x"),
            ("dns1123LabelPrefix", "ab-", "-ab"),
        ] {
            assert!(!fails(name, good), "{name} {good}");
            assert!(fails(name, bad), "{name} {bad}");
        }
    }

    #[test]
    fn every_format_has_its_function() {
        for (function, format) in constants().iter().zip(&FORMATS) {
            assert_eq!(function.name, format!("format.{}", format.function));
        }
    }
}
