//! Query strings, read the way Go's `net/url` and upstream's option decoding read them.

use crate::status::ApiError;

/// The decoded parameters of a query string, in order.
#[derive(Debug, Clone, Default)]
pub struct Query(Vec<(String, String)>);

/// Decodes `%xx` (and `+` as a space where `plus` says so). `None` for a broken escape.
pub fn percent_decode(text: &str, plus: bool) -> Option<String> {
    let escaped = text.contains('%') || (plus && text.contains('+'));
    if !escaped {
        return Some(text.to_owned());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let high = char::from(bytes.next()?).to_digit(16)?;
                let low = char::from(bytes.next()?).to_digit(16)?;
                out.push((high * 16 + low) as u8);
            }
            b'+' if plus => out.push(b' '),
            other => out.push(other),
        }
    }
    Some(String::from_utf8_lossy(&out).into_owned())
}

impl Query {
    /// Parses what follows the `?`. Pieces with broken escapes are dropped, as Go does.
    pub fn parse(text: Option<&str>) -> Self {
        let pairs =
            text.unwrap_or_default().split('&').filter(|piece| !piece.is_empty() && !piece.contains(';'));
        let decode = |piece: &str| {
            let (key, value) = piece.split_once('=').unwrap_or((piece, ""));
            Some((percent_decode(key, true)?, percent_decode(value, true)?))
        };
        Self(pairs.filter_map(decode).collect())
    }

    /// The first value of a parameter.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// The first value of a parameter, empty where it is missing.
    pub fn text(&self, key: &str) -> &str {
        self.get(key).unwrap_or_default()
    }

    /// All values of a parameter.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// A boolean as upstream reads it: present, and neither `0` nor `false`.
    pub fn flag(&self, key: &str) -> bool {
        self.optional_flag(key).unwrap_or(false)
    }

    /// Like [`Query::flag`], telling a missing parameter from a false one.
    pub fn optional_flag(&self, key: &str) -> Option<bool> {
        self.get(key).map(|value| !(value == "0" || value.eq_ignore_ascii_case("false")))
    }

    /// An integer.
    pub fn integer(&self, key: &str) -> Result<Option<i64>, ApiError> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => value.parse().map(Some).map_err(|error: std::num::ParseIntError| {
                use std::num::IntErrorKind::{NegOverflow, PosOverflow};
                let out_of_range = matches!(error.kind(), NegOverflow | PosOverflow);
                let why = if out_of_range { "value out of range" } else { "invalid syntax" };
                let quoted = schema::gotext::quote(value);
                ApiError::bad_request(format!("strconv.ParseInt: parsing {quoted}: {why}"))
            }),
        }
    }
}
