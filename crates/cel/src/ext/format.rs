//! `format()` and `strings.quote()` of cel-go's strings extension, version 2: numbers are written as in US English.

use std::fmt::Write as _;

use base::gotext::quote;

use super::{cost, opaque, strings};
use crate::stdlib::go_double;
use crate::syntax::ast::{Expr, ExprId, ExprKind};
use crate::value::timestamp;
use crate::{CallEstimate, Error, EstimateArgs, Function, List, Overload, SizeEstimate, Type, Value};

pub(super) fn functions() -> Vec<Function> {
    const S: Type = Type::String;
    vec![
        Function::new("format").overload(
            Overload::member("string_format", [S, Type::list(Type::Dyn)], S, format)
                .cost(estimate_format, cost::actual_traverse),
        ),
        Function::new("strings.quote").overload(
            Overload::global("strings_quote", [S], S, quoted).cost(estimate_quote, cost::actual_traverse),
        ),
    ]
}

/// The size of the result cannot be known.
fn estimate_format(call: &EstimateArgs<'_>) -> Option<CallEstimate> {
    cost::only(call.size(call.target?).multiply_by_cost_factor(cost::STRING_TRAVERSAL))
}

/// Every character may be escaped, and there are two marks.
fn estimate_quote(call: &EstimateArgs<'_>) -> Option<CallEstimate> {
    let size = call.size(call.args.first()?);
    // Upstream's arithmetic wraps around here.
    let result = SizeEstimate::new(size.min.wrapping_add(2), size.max.wrapping_mul(2).wrapping_add(2));
    Some(CallEstimate {
        cost: size.multiply_by_cost_factor(cost::STRING_TRAVERSAL),
        result_size: Some(result),
    })
}

fn quoted<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let text = opaque::text(args)?;
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            c => out.push(c),
        }
    }
    out.push('"');
    Ok(Value::from(out))
}

/// What becomes of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clause {
    /// `%s`.
    Text,
    /// `%d`.
    Decimal,
    /// `%f`, with so many digits behind the point.
    Fixed(usize),
    /// `%e`. Upstream takes the precision for the width.
    Scientific(usize),
    /// `%b`.
    Binary,
    /// `%o`.
    Octal,
    /// `%x` and `%X`.
    Hex {
        /// Whether letters are large.
        upper: bool,
    },
}

/// A part of a format string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// Text to be copied.
    Text(&'a str),
    /// Where the next argument goes.
    Clause(Clause),
}

/// Reads a format string, handing over its pieces. `arguments` is how many arguments there are.
pub(crate) fn parse<'a>(
    format: &'a str,
    arguments: usize,
    mut handle: impl FnMut(Piece<'a>) -> Result<(), String>,
) -> Result<(), String> {
    let mut rest = format;
    let mut used = 0;
    while !rest.is_empty() {
        let Some(percent) = rest.find('%') else { return handle(Piece::Text(rest)) };
        handle(Piece::Text(&rest[..percent]))?;
        rest = &rest[percent + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            handle(Piece::Text("%"))?;
            rest = after;
            continue;
        }
        if used >= arguments {
            return Err(format!("index {used} out of range"));
        }
        if rest.is_empty() {
            return Err("unexpected end of string".to_owned());
        }
        let (clause, after) =
            parse_clause(rest).map_err(|why| format!("could not parse formatting clause: {why}"))?;
        handle(Piece::Clause(clause))?;
        used += 1;
        rest = after;
    }
    Ok(())
}

/// The clause after a percent sign, and what follows it.
fn parse_clause(text: &str) -> Result<(Clause, &str), String> {
    const DEFAULT_PRECISION: usize = 6;
    let (precision, rest) = match text.strip_prefix('.') {
        None => (None, text),
        Some(after) => {
            let digits = after.bytes().take_while(u8::is_ascii_digit).count();
            let precision = parse_precision(after, digits)
                .map_err(|why| format!("error while parsing precision: {why}"))?;
            (Some(precision), &after[digits..])
        }
    };
    let precision = precision.unwrap_or(DEFAULT_PRECISION);
    let clause = match rest.as_bytes()[0] {
        b's' => Clause::Text,
        b'd' => Clause::Decimal,
        b'f' => Clause::Fixed(precision),
        b'e' => Clause::Scientific(precision),
        b'b' => Clause::Binary,
        b'o' => Clause::Octal,
        b'x' => Clause::Hex { upper: false },
        b'X' => Clause::Hex { upper: true },
        // Upstream looks at bytes and shows one as if it were a character.
        other => return Err(format!("unrecognized formatting clause \"{}\"", char::from(other))),
    };
    Ok((clause, &rest[1..]))
}

fn parse_precision(text: &str, digits: usize) -> Result<usize, String> {
    if digits == text.len() {
        return Err("could not find end of precision specifier".to_owned());
    }
    let number = &text[..digits];
    let why = if number.is_empty() { "invalid syntax" } else { "value out of range" };
    let precision: Option<i64> = number.parse().ok();
    precision.and_then(|n| usize::try_from(n).ok()).ok_or_else(|| {
        format!("error while converting precision to integer: strconv.Atoi: parsing {}: {why}", quote(number))
    })
}

impl Clause {
    /// The error for an argument of a type that the clause does not take.
    pub(crate) fn refusal(self, type_name: &str) -> String {
        let what = match self {
            Clause::Text => {
                "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, \
                 durations, and timestamps"
            }
            Clause::Decimal => "decimal clause can only be used on integers",
            Clause::Fixed(_) => "fixed-point clause can only be used on doubles",
            Clause::Scientific(_) => "scientific clause can only be used on doubles",
            Clause::Binary => "only integers and bools can be formatted as binary",
            Clause::Octal => "octal clause can only be used on integers",
            Clause::Hex { .. } => "only integers, byte buffers, and strings can be formatted as hex",
        };
        format!("{what}, was given {type_name}")
    }

    fn write(self, value: &Value<'_>) -> Result<String, String> {
        let refused = || Err(self.refusal(value.type_of().runtime_name()));
        match (self, value) {
            (_, Value::Invalid(why)) => Err(why.to_string()),
            (Clause::Text, value) => text(value).unwrap_or_else(refused),
            (Clause::Fixed(precision), value) => {
                double(value).map_or_else(refused, |d| Ok(fixed(d, precision)))
            }
            (Clause::Scientific(width), value) => {
                double(value).map_or_else(refused, |d| Ok(scientific(d, width)))
            }
            (Clause::Hex { upper }, Value::String(text)) => Ok(hex(text.as_bytes(), upper)),
            (Clause::Hex { upper }, Value::Bytes(bytes)) => Ok(hex(bytes, upper)),
            (Clause::Binary, Value::Bool(b)) => Ok(u8::from(*b).to_string()),
            (clause, Value::Int(i)) => Ok(clause.integer(*i < 0, i.unsigned_abs())),
            (clause, Value::Uint(u)) => Ok(clause.integer(false, *u)),
            _ => refused(),
        }
    }

    fn integer(self, negative: bool, magnitude: u64) -> String {
        let sign = if negative { "-" } else { "" };
        match self {
            Clause::Binary => format!("{sign}{magnitude:b}"),
            Clause::Octal => format!("{sign}{magnitude:o}"),
            Clause::Hex { upper: false } => format!("{sign}{magnitude:x}"),
            Clause::Hex { upper: true } => format!("{sign}{magnitude:X}"),
            _ => format!("{sign}{magnitude}"),
        }
    }
}

fn format<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let [Value::String(format), Value::List(list)] = args else { return Err(Error::no_such_overload()) };
    let mut out = String::new();
    let mut arguments = list.iter();
    let result = parse(format, list.len(), |piece| {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Clause(clause) => {
                let argument = arguments.next().unwrap_or(Value::Null);
                let text =
                    clause.write(&argument).map_err(|why| format!("error during formatting: {why}"))?;
                out.push_str(&text);
            }
        }
        if out.len() > strings::MAX_RESULT_BYTES { Err(String::new()) } else { Ok(()) }
    });
    strings::check_length(out.len())?;
    result.map_err(Error::new)?;
    Ok(Value::from(out))
}

/// What is wrong with a call of `format` whose format string and list of arguments are literals, and at which node:
/// `"%d".format([1.5])`.
pub(crate) fn check_call(call: &Expr, type_of: &dyn Fn(&Expr) -> Type) -> Option<(ExprId, String)> {
    let ExprKind::Call { function, target: Some(target), args } = &call.kind else { return None };
    let (ExprKind::Literal(Value::String(format)), [Expr { kind: ExprKind::List { elements, .. }, .. }]) =
        (&target.kind, &args[..])
    else {
        return None;
    };
    if &**function != "format" {
        return None;
    }
    let mut place = call.id;
    let mut arguments = elements.iter();
    let result = parse(format, elements.len(), |piece| {
        let Piece::Clause(clause) = piece else { return Ok(()) };
        match arguments.next().and_then(|argument| clause.unsuitable(argument, type_of)) {
            None => Ok(()),
            Some((id, ty)) => {
                place = id;
                Err(format!("error during formatting: {}", clause.refusal(ty.runtime_name())))
            }
        }
    });
    let left = arguments.len();
    match result {
        Err(why) => Some((place, why)),
        Ok(()) if left > 0 => {
            let (expected, got) = (elements.len() - left, elements.len());
            let why =
                format!("too many arguments supplied to string.format (expected {expected}, got {got})");
            Some((call.id, why))
        }
        Ok(()) => None,
    }
}

impl Clause {
    /// The argument, or the literal inside of it, whose type the clause does not take.
    fn unsuitable(self, argument: &Expr, type_of: &dyn Fn(&Expr) -> Type) -> Option<(ExprId, Type)> {
        let ty = type_of(argument);
        let suitable = match self {
            _ if ty == Type::Dyn => true,
            Clause::Text => {
                !matches!(ty, Type::Object(_) | Type::Opaque(..) | Type::Any | Type::Error | Type::Param(_))
            }
            Clause::Fixed(_) | Clause::Scientific(_) => matches!(ty, Type::Double | Type::String),
            Clause::Binary => matches!(ty, Type::Int | Type::Uint | Type::Bool),
            Clause::Hex { .. } => matches!(ty, Type::Int | Type::Uint | Type::String | Type::Bytes),
            Clause::Decimal | Clause::Octal => matches!(ty, Type::Int | Type::Uint),
        };
        if !suitable {
            return Some((argument.id, ty));
        }
        if self != Clause::Text {
            return None;
        }
        match &argument.kind {
            ExprKind::List { elements, .. } => {
                elements.iter().find_map(|element| self.unsuitable(element, type_of))
            }
            ExprKind::Map(entries) => entries.iter().find_map(|entry| {
                self.unsuitable(&entry.key, type_of).or_else(|| self.unsuitable(&entry.value, type_of))
            }),
            _ => None,
        }
    }
}

/// A value as `%s` writes it; `None` if it does not.
fn text(value: &Value<'_>) -> Option<Result<String, String>> {
    Some(Ok(match value {
        Value::List(list) => return Some(list_text(list)),
        Value::Map(_) => return Some(map_text(value)),
        Value::String(text) => text.to_string(),
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => {
                let why = "invalid UTF-8 in bytes, cannot convert to string";
                return Some(Err(format!("could not convert argument {} to string", quote(why))));
            }
        },
        Value::Bool(b) => b.to_string(),
        Value::Int(i) => i.to_string(),
        Value::Uint(u) => u.to_string(),
        Value::Double(d) => go_double(*d),
        Value::Null => "null".to_owned(),
        Value::Timestamp(time) => timestamp::format(*time),
        Value::Duration(duration) => duration.seconds_text(),
        Value::Type(ty) => ty.runtime_name().to_owned(),
        _ => return None,
    }))
}

/// A value inside of a list or map: as a literal of the language.
fn literal(value: &Value<'_>) -> Result<String, String> {
    Ok(match value {
        Value::Invalid(why) => return Err(why.to_string()),
        Value::String(text) => quote(text),
        Value::Bytes(_) => {
            let text = text(value).unwrap_or_else(|| Ok(String::new()))?;
            format!("b{}", quote(&text))
        }
        Value::Timestamp(time) => format!("timestamp({})", quote(&timestamp::format(*time))),
        Value::Duration(duration) => format!("duration({})", quote(&duration.seconds_text())),
        Value::Double(d) if d.is_nan() => "\"NaN\"".to_owned(),
        Value::Double(d) if d.is_infinite() => if *d > 0.0 { "\"+Inf\"" } else { "\"-Inf\"" }.to_owned(),
        Value::Double(d) => format!("{d:.6}"),
        other => match text(other) {
            Some(text) => text?,
            None => return Err(format!("no formatting function for {}", other.type_of().runtime_name())),
        },
    })
}

fn list_text(list: &List<'_>) -> Result<String, String> {
    let items: Vec<String> = list.iter().map(|item| literal(&item)).collect::<Result<_, _>>()?;
    Ok(format!("[{}]", items.join(", ")))
}

/// The entries in the order of their keys' texts.
fn map_text(map: &Value<'_>) -> Result<String, String> {
    let Value::Map(map) = map else { return Ok(String::new()) };
    let mut entries = Vec::with_capacity(map.len());
    for (key, value) in map.iter() {
        entries.push((literal(&key.to_value())?, literal(&value)?));
    }
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    let entries: Vec<String> = entries.iter().map(|(key, value)| format!("{key}:{value}")).collect();
    Ok(format!("{{{}}}", entries.join(", ")))
}

/// A double, or one of the words for what cannot be written as a literal.
fn double(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Double(d) => Some(*d),
        Value::String(text) => match &**text {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

/// The words of US English for what is not a number; the sign is written apart.
fn special(magnitude: f64) -> Option<&'static str> {
    if magnitude.is_nan() {
        Some("NaN")
    } else if magnitude.is_infinite() {
        Some("∞")
    } else {
        None
    }
}

fn sign(value: f64) -> &'static str {
    if value < 0.0 { "-" } else { "" }
}

/// From here on Go's scanner does not find the end of the clause.
const MAX_PRECISION: usize = 10_000_009;
const NO_VERB: &str = "%!(NOVERB)";

/// `%.nf` of `golang.org/x/text/message`: thousands are separated by commas.
fn fixed(value: f64, precision: usize) -> String {
    if precision > MAX_PRECISION {
        return NO_VERB.to_owned();
    }
    let magnitude = value.abs();
    if let Some(word) = special(magnitude) {
        return format!("{}{word}", sign(value));
    }
    // The library keeps the precision in 8 bits as the least and in 16 bits as the greatest number of digits.
    let least = precision & 0xff;
    let digits = match usize::try_from(precision as i16) {
        Ok(most) => format!("{magnitude:.most$}"),
        Err(_) => format!("{magnitude}"),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((&digits, ""));
    let fraction = fraction.trim_end_matches('0');
    let mut out = String::from(sign(value));
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if least > 0 || !fraction.is_empty() {
        let _ = write!(out, ".{fraction:0<least$}");
    }
    out
}

/// `%ne` of `golang.org/x/text/message`, where `n` is the width: `1.052033×10⁰³`.
fn scientific(value: f64, width: usize) -> String {
    if width > MAX_PRECISION {
        return NO_VERB.to_owned();
    }
    let width = width & 0xffff;
    let magnitude = value.abs();
    let text = match special(magnitude) {
        Some(word) => format!("{}{word}", sign(value)),
        None => {
            let digits = format!("{magnitude:.6e}");
            let (mantissa, exponent) = digits.split_once('e').unwrap_or((&digits, "0"));
            format!("{}{mantissa}×10{}", sign(value), superscript(exponent))
        }
    };
    format!("{text:>width$}")
}

/// An exponent of at least two digits, raised.
fn superscript(exponent: &str) -> String {
    const DIGITS: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    let (minus, digits) = exponent.strip_prefix('-').map_or(("", exponent), |digits| ("⁻", digits));
    let raised = digits.bytes().map(|b| DIGITS[usize::from(b.wrapping_sub(b'0')) % 10]);
    let padding = if digits.len() < 2 { "⁰" } else { "" };
    minus.chars().chain(padding.chars()).chain(raised).collect()
}

fn hex(bytes: &[u8], upper: bool) -> String {
    let mut out = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = if upper { write!(out, "{byte:02X}") } else { write!(out, "{byte:02x}") };
    }
    out
}
