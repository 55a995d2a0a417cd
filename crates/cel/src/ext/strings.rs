//! cel-go's strings extension, version 2; `format` and `strings.quote` are in [`super::format`].
//! Positions are counted in code points.

use super::cost;
use crate::stdlib::format_value;
use crate::{Error, Function, List, Overload, Type, Value};

/// Upstream bounds results only by their cost, which does not see what a short text is replaced by.
pub(super) const MAX_RESULT_BYTES: usize = 64 << 20;

pub(super) fn functions() -> Vec<Function> {
    const S: Type = Type::String;
    const I: Type = Type::Int;
    let strings = || Type::list(S);
    vec![
        Function::new("charAt").overload(Overload::member("string_char_at_int", [S, I], S, char_at)),
        Function::new("indexOf")
            .overload(scan(Overload::member("string_index_of_string", [S, S], I, index_of)))
            .overload(scan(Overload::member("string_index_of_string_int", [S, S, I], I, index_of))),
        Function::new("lastIndexOf")
            .overload(scan(Overload::member("string_last_index_of_string", [S, S], I, last_index_of)))
            .overload(scan(Overload::member("string_last_index_of_string_int", [S, S, I], I, last_index_of))),
        Function::new("lowerAscii").overload(traverse(Overload::member(
            "string_lower_ascii",
            [S],
            S,
            lower_ascii,
        ))),
        Function::new("upperAscii").overload(traverse(Overload::member(
            "string_upper_ascii",
            [S],
            S,
            upper_ascii,
        ))),
        Function::new("trim").overload(traverse(Overload::member("string_trim", [S], S, trim))),
        Function::new("substring")
            .overload(traverse(Overload::member("string_substring_int", [S, I], S, substring)))
            .overload(traverse(Overload::member("string_substring_int_int", [S, I, I], S, substring))),
        Function::new("replace")
            .overload(replacing(Overload::member("string_replace_string_string", [S, S, S], S, replace)))
            .overload(replacing(Overload::member(
                "string_replace_string_string_int",
                [S, S, S, I],
                S,
                replace,
            ))),
        Function::new("split")
            .overload(splitting(Overload::member("string_split_string", [S, S], strings(), split)))
            .overload(splitting(Overload::member("string_split_string_int", [S, S, I], strings(), split))),
        Function::new("join")
            .overload(joining(Overload::member("list_join", [strings()], S, join)))
            .overload(joining(Overload::member("list_join_string", [strings(), S], S, join))),
    ]
}

fn scan(overload: Overload) -> Overload {
    overload.cost(cost::estimate_scan, cost::actual_scan)
}

fn traverse(overload: Overload) -> Overload {
    overload.cost(cost::estimate_traverse, cost::actual_traverse)
}

fn replacing(overload: Overload) -> Overload {
    overload.cost(cost::estimate_replace, cost::actual_traverse_twice)
}

fn splitting(overload: Overload) -> Overload {
    overload.cost(cost::estimate_split, cost::actual_traverse_twice)
}

fn joining(overload: Overload) -> Overload {
    overload.cost(cost::estimate_join, cost::actual_join)
}

fn out_of_range(index: i64) -> Error {
    Error::new(format!("index out of range: {index}"))
}

fn char_at<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let [Value::String(text), Value::Int(index)] = args else { return Err(Error::no_such_overload()) };
    let position = usize::try_from(*index).map_err(|_| out_of_range(*index))?;
    match text.chars().nth(position) {
        Some(c) => Ok(Value::from(c.to_string())),
        None if text.chars().count() == position => Ok(Value::from("")),
        None => Err(out_of_range(*index)),
    }
}

fn index_of<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let (text, part, offset) = match args {
        [Value::String(text), Value::String(part)] => (text, part, 0),
        [Value::String(text), Value::String(part), Value::Int(offset)] => (text, part, *offset),
        _ => return Err(Error::no_such_overload()),
    };
    if part.is_empty() {
        return Ok(Value::Int(offset));
    }
    let skipped = usize::try_from(offset).map_err(|_| out_of_range(offset))?;
    let start = text.char_indices().nth(skipped).map(|(at, _)| at);
    let found = start.and_then(|start| Some(start + text[start..].find(&**part)?));
    Ok(Value::Int(found.map_or(-1, |at| text[..at].chars().count() as i64)))
}

fn last_index_of<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let (text, part, offset) = match args {
        [Value::String(text), Value::String(part)] => (text, part, None),
        [Value::String(text), Value::String(part), Value::Int(offset)] => (text, part, Some(*offset)),
        _ => return Err(Error::no_such_overload()),
    };
    let length = text.chars().count();
    if part.is_empty() {
        return Ok(Value::Int(offset.unwrap_or(length as i64)));
    }
    // Where the last match may end: a match that begins at `offset` ends where the part does.
    let end = match offset {
        None => text.len(),
        Some(offset) => {
            let start = usize::try_from(offset).map_err(|_| out_of_range(offset))?;
            if start >= length {
                return Ok(Value::Int(-1));
            }
            let last = start + part.chars().count();
            text.char_indices().nth(last).map_or(text.len(), |(at, _)| at)
        }
    };
    let found = text[..end].rfind(&**part);
    Ok(Value::Int(found.map_or(-1, |at| text[..at].chars().count() as i64)))
}

fn lower_ascii<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let [Value::String(text)] = args else { return Err(Error::no_such_overload()) };
    Ok(Value::from(text.to_ascii_lowercase()))
}

fn upper_ascii<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let [Value::String(text)] = args else { return Err(Error::no_such_overload()) };
    Ok(Value::from(text.to_ascii_uppercase()))
}

fn trim<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let [Value::String(text)] = args else { return Err(Error::no_such_overload()) };
    Ok(Value::from(text.trim().to_owned()))
}

fn substring<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let (text, start, end) = match args {
        [Value::String(text), Value::Int(start)] => (text, *start, None),
        [Value::String(text), Value::Int(start), Value::Int(end)] => (text, *start, Some(*end)),
        _ => return Err(Error::no_such_overload()),
    };
    if let Some(end) = end.filter(|end| start > *end) {
        return Err(Error::new(format!("invalid substring range. start: {start}, end: {end}")));
    }
    let from = byte_offset(text, start)?;
    let to = end.map_or(Ok(text.len()), |end| byte_offset(text, end))?;
    Ok(Value::from(text[from..to].to_owned()))
}

/// Where the code point of this index begins; the end is after the last.
fn byte_offset(text: &str, index: i64) -> Result<usize, Error> {
    let boundaries = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    usize::try_from(index).ok().and_then(|n| boundaries.into_iter().nth(n)).ok_or_else(|| out_of_range(index))
}

fn replace<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let (text, from, to, limit) = match args {
        [Value::String(text), Value::String(from), Value::String(to)] => (text, from, to, -1),
        [Value::String(text), Value::String(from), Value::String(to), Value::Int(limit)] => {
            (text, from, to, *limit)
        }
        _ => return Err(Error::no_such_overload()),
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let count = text.matches(&**from).take(limit).count();
    check_length(text.len().saturating_add(count.saturating_mul(to.len())))?;
    Ok(Value::from(text.replacen(&**from, to, count)))
}

fn split<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let (text, separator, limit) = match args {
        [Value::String(text), Value::String(separator)] => (text, separator, -1),
        [Value::String(text), Value::String(separator), Value::Int(limit)] => (text, separator, *limit),
        _ => return Err(Error::no_such_overload()),
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let value = |part: &str| Value::from(part.to_owned());
    let parts = match limit {
        0 => Vec::new(),
        _ if separator.is_empty() => characters(text, limit).into_iter().map(value).collect(),
        _ => text.splitn(limit, &**separator).map(value).collect(),
    };
    Ok(Value::list(parts))
}

/// The characters of a text; when there are more than the limit, the last part is all the rest.
fn characters(text: &str, limit: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = if parts.len() + 1 == limit { rest.len() } else { c.len_utf8() };
        parts.push(&rest[..length]);
        rest = &rest[length..];
    }
    parts
}

fn join<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let (list, separator) = match args {
        [Value::List(list)] => (list, ""),
        [Value::List(list), Value::String(separator)] => (list, &**separator),
        _ => return Err(Error::no_such_overload()),
    };
    join_list(list, separator).map(Value::from)
}

fn join_list(list: &List<'_>, separator: &str) -> Result<String, Error> {
    let mut joined = String::new();
    for (i, item) in list.iter().enumerate() {
        let Value::String(item) = &item else {
            return Err(Error::new(format!("join: invalid input: {}", format_value(&item))));
        };
        check_length(joined.len() + separator.len() + item.len())?;
        if i > 0 {
            joined.push_str(separator);
        }
        joined.push_str(item);
    }
    Ok(joined)
}

/// Gives up before a text of unreasonable length is made.
pub(super) fn check_length(bytes: usize) -> Result<(), Error> {
    if bytes > MAX_RESULT_BYTES { Err(Error::cost_limit()) } else { Ok(()) }
}
