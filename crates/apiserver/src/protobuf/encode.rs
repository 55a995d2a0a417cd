//! JSON text into messages, byte for byte as upstream's generated code writes them.
//!
//! Non-pointer fields are written even when they are zero, maps in the order of their keys, and
//! members in the order of their numbers. Nothing is made into a tree: an index over the text is
//! visited member by member, and the message is written from its end.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schema::types::{SchemaOr, Type};

use super::plan::{BYTES, FieldPlan, Form, Item, Plan, plan_of};
use super::tape::{self, Kind, Malformed, Token};
use super::writer::Writer;

/// The value does not fit its type.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("cannot be written as protobuf")]
pub(crate) struct Unencodable;

impl From<Malformed> for Unencodable {
    fn from(_: Malformed) -> Self {
        Self
    }
}

type Done = Result<(), Unencodable>;

/// Encodes objects one after the other, with the same buffers.
#[derive(Default)]
pub(crate) struct Encoder {
    tape: Vec<Token>,
    /// For every object that is being written: the place of each member's value, 0 for none.
    values: Vec<u32>,
    out: Writer,
}

impl Encoder {
    /// The message of one object of a built-in type, without an envelope. `json` is trusted to fit
    /// the type.
    ///
    /// # Errors
    /// When it does not.
    pub fn message(&mut self, json: &[u8], ty: &'static Type) -> Result<&[u8], Unencodable> {
        let plan = plan_of(ty).ok_or(Unencodable)?;
        tape::index(json, &mut self.tape)?;
        self.values.clear();
        self.out.clear();
        if self.out.len() == 0 && json.len() > 64 << 10 {
            self.out = Writer::with_capacity(json.len());
        }
        Run { text: json, tape: &self.tape, values: &mut self.values, out: &mut self.out }
            .message(plan, 0)?;
        Ok(self.out.written())
    }
}

struct Run<'a> {
    text: &'a [u8],
    tape: &'a [Token],
    values: &'a mut Vec<u32>,
    out: &'a mut Writer,
}

impl<'a> Run<'a> {
    fn token(&self, place: u32) -> Result<Token, Unencodable> {
        self.tape.get(place as usize).copied().ok_or(Unencodable)
    }

    fn raw(&self, token: Token) -> &'a [u8] {
        &self.text[token.start as usize..token.end as usize]
    }

    fn message(&mut self, plan: &'static Plan, place: u32) -> Done {
        let object = self.token(place)?;
        if object.kind != Kind::Object {
            return Err(Unencodable);
        }
        let base = self.values.len();
        self.values.resize(base + plan.values, 0);
        let mut key = place + 1;
        while key < object.next {
            let name = self.token(key)?;
            let value = self.token(key + 1)?;
            if value.kind != Kind::Null
                && let Some(index) = plan.value(self.raw(name))
            {
                self.values[base + index] = key + 1;
            }
            key = value.next;
        }
        self.items(&plan.items, base)?;
        self.values.truncate(base);
        Ok(())
    }

    fn items(&mut self, items: &'static [Item], base: usize) -> Done {
        for item in items.iter().rev() {
            match item {
                Item::Field(field) => match self.values[base + field.value] {
                    0 => self.out.bytes(&field.absent),
                    place => self.field(field, place)?,
                },
                Item::Group(tag, items) => {
                    let end = self.out.len();
                    self.items(items, base)?;
                    self.out.close(*tag, end);
                }
            }
        }
        Ok(())
    }

    fn field(&mut self, field: &'static FieldPlan, place: u32) -> Done {
        match &field.form {
            Form::Repeated(items) => self.repeated(items, field.tag, place),
            Form::Map(values) => self.map(values, field.tag, place),
            form => {
                self.value(form, place)?;
                self.out.varint(field.tag.into());
                Ok(())
            }
        }
    }

    /// The places of the items of a list, or of the keys of an object.
    fn members(&self, place: u32, kind: Kind) -> Result<Vec<u32>, Unencodable> {
        let container = self.token(place)?;
        if container.kind != kind {
            return Err(Unencodable);
        }
        let mut places = Vec::new();
        let mut at = place + 1;
        while at < container.next {
            places.push(at);
            at = if kind == Kind::Object { self.token(at + 1)?.next } else { self.token(at)?.next };
        }
        Ok(places)
    }

    fn repeated(&mut self, items: &'static Form, tag: u32, place: u32) -> Done {
        for item in self.members(place, Kind::List)?.into_iter().rev() {
            match self.token(item)?.kind {
                Kind::Null => items.write_zero(self.out),
                _ => self.value(items, item)?,
            }
            self.out.varint(tag.into());
        }
        Ok(())
    }

    fn map(&mut self, values: &'static Form, tag: u32, place: u32) -> Done {
        let mut entries = Vec::new();
        for key in self.members(place, Kind::Object)? {
            entries.push((self.text_of(self.token(key)?)?, key + 1));
        }
        entries.sort_unstable();
        for (key, value) in entries.into_iter().rev() {
            let end = self.out.len();
            let missing = self.token(value)?.kind == Kind::Null;
            match values {
                // Nil bytes are left out, and only they.
                Form::Bytes if missing => {}
                _ => {
                    if missing {
                        values.write_zero(self.out)
                    } else {
                        self.value(values, value)?
                    }
                    self.out.varint((2 << 3 | values.wire()).into());
                }
            }
            self.out.bytes(&key);
            self.out.varint(key.len() as u64);
            self.out.varint((1 << 3 | BYTES).into());
            self.out.close(tag, end);
        }
        Ok(())
    }

    /// One value with its length if it has one, without its tag.
    fn value(&mut self, form: &'static Form, place: u32) -> Done {
        let token = self.token(place)?;
        let end = self.out.len();
        match form {
            Form::Bool => {
                self.out.varint(u64::from(token.kind == Kind::True));
                return Ok(());
            }
            Form::Int => {
                self.out.varint(self.integer(token)? as u64);
                return Ok(());
            }
            Form::Float => {
                let number: f64 = self.number(token)?;
                self.out.bytes(&number.to_le_bytes());
                return Ok(());
            }
            Form::Text => self.string(token)?,
            Form::Bytes => {
                let text = self.text_of(token)?;
                let decoded = STANDARD.decode(&*text).map_err(|_| Unencodable)?;
                self.out.bytes(&decoded);
            }
            Form::Time { micro } => self.time(token, *micro)?,
            Form::Duration => {
                let text = self.text_of(token)?;
                let text = std::str::from_utf8(&text).map_err(|_| Unencodable)?;
                self.out.varint(nanoseconds(text).ok_or(Unencodable)? as u64);
                self.out.varint(1 << 3);
            }
            Form::Quantity => {
                // Numbers are quantities as well; stored ones are strings.
                if token.kind == Kind::Number {
                    self.out.bytes(self.raw(token))
                } else {
                    self.string(token)?
                }
                self.out.close(1 << 3 | BYTES, end);
            }
            Form::IntOrString => self.int_or_string(token)?,
            Form::Raw => {
                let whole = match token.kind {
                    Kind::Plain | Kind::Escaped => {
                        &self.text[token.start as usize - 1..token.end as usize + 1]
                    }
                    _ => self.raw(token),
                };
                self.out.bytes(whole);
                self.out.close(1 << 3 | BYTES, end);
            }
            Form::SchemaOr(what, schema) => self.schema_or(*what, schema.plan(), place, token)?,
            Form::Items(items) => self.repeated(items, 1 << 3 | items.wire(), place)?,
            Form::Message(message) => self.message(message.plan(), place)?,
            // Lists of lists and maps of maps do not exist in protobuf.
            Form::Repeated(_) | Form::Map(_) => return Err(Unencodable),
        }
        self.out.varint((self.out.len() - end) as u64);
        Ok(())
    }

    fn int_or_string(&mut self, token: Token) -> Done {
        let end = self.out.len();
        let is_number = token.kind == Kind::Number;
        if !is_number {
            self.string(token)?;
        }
        self.out.close(3 << 3 | BYTES, end);
        let number = if is_number { self.integer(token)? } else { 0 };
        self.out.varint(number as u64);
        self.out.varint(2 << 3);
        self.out.varint(u64::from(!is_number));
        self.out.varint(1 << 3);
        Ok(())
    }

    fn schema_or(&mut self, what: SchemaOr, schema: &'static Plan, place: u32, token: Token) -> Done {
        let number = if what == SchemaOr::Bool { 2 } else { 1 };
        let lone = |run: &mut Self, place: u32, tag: u32| -> Done {
            let end = run.out.len();
            run.message(schema, place)?;
            run.out.close(tag, end);
            Ok(())
        };
        match (what, token.kind) {
            (SchemaOr::Array, Kind::List) => {
                for item in self.members(place, Kind::List)?.into_iter().rev() {
                    lone(self, item, 2 << 3 | BYTES)?;
                }
            }
            (SchemaOr::StringArray, Kind::List) => self.repeated(&Form::Text, 2 << 3 | BYTES, place)?,
            (_, Kind::Object) => lone(self, place, number << 3 | BYTES)?,
            _ => {}
        }
        if what == SchemaOr::Bool {
            // A schema implies that it is allowed.
            self.out.varint(u64::from(token.kind != Kind::False));
            self.out.varint(1 << 3);
        }
        Ok(())
    }

    fn string(&mut self, token: Token) -> Done {
        if token.kind == Kind::Plain {
            self.out.bytes(self.raw(token));
            return Ok(());
        }
        let text = self.text_of(token)?;
        self.out.bytes(&text);
        Ok(())
    }

    /// What a string says.
    fn text_of(&self, token: Token) -> Result<std::borrow::Cow<'a, [u8]>, Unencodable> {
        match token.kind {
            Kind::Plain => Ok(self.raw(token).into()),
            Kind::Escaped => {
                let quoted = &self.text[token.start as usize - 1..token.end as usize + 1];
                let text: String = serde_json::from_slice(quoted).map_err(|_| Unencodable)?;
                Ok(text.into_bytes().into())
            }
            _ => Err(Unencodable),
        }
    }

    fn number<T: std::str::FromStr>(&self, token: Token) -> Result<T, Unencodable> {
        if token.kind != Kind::Number {
            return Err(Unencodable);
        }
        std::str::from_utf8(self.raw(token)).ok().and_then(|text| text.parse().ok()).ok_or(Unencodable)
    }

    fn integer(&self, token: Token) -> Result<i64, Unencodable> {
        // `1.0` and `1e3` are whole numbers, too.
        self.number(token).or_else(|_| self.number::<f64>(token).map(|number| number as i64))
    }

    fn time(&mut self, token: Token, micro: bool) -> Done {
        let text = self.raw(token);
        let (seconds, nanoseconds) = match whole_seconds(text) {
            Some(seconds) => (seconds, 0),
            None => {
                let text = std::str::from_utf8(text).map_err(|_| Unencodable)?;
                let time: jiff::Timestamp = text.parse().map_err(|_| Unencodable)?;
                let below = time.as_nanosecond().rem_euclid(1_000_000_000) as i64;
                (
                    time.as_nanosecond().div_euclid(1_000_000_000) as i64,
                    if micro { below / 1000 * 1000 } else { 0 },
                )
            }
        };
        if (seconds, nanoseconds) == (super::ZERO_TIME, 0) {
            return Ok(());
        }
        self.out.varint(nanoseconds as u64);
        self.out.varint(2 << 3);
        self.out.varint(seconds as u64);
        self.out.varint(1 << 3);
        Ok(())
    }
}

/// Seconds since 1970 of `2006-01-02T15:04:05Z`, which most times are.
fn whole_seconds(text: &[u8]) -> Option<i64> {
    let text: &[u8; 20] = text.try_into().ok()?;
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'Z')];
    if separators.iter().any(|(at, separator)| text[*at] != *separator) {
        return None;
    }
    let number = |from: usize, to: usize| {
        text[from..to]
            .iter()
            .try_fold(0i64, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0')))
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    // Days from the civil calendar, counting years from March (Howard Hinnant's formula).
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Go's notation of a duration: `1h2m3.5s`, `-10ms`, `0`.
fn nanoseconds(text: &str) -> Option<i64> {
    const UNITS: [(&str, f64); 7] =
        [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 6e10), ("h", 3.6e12)];
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0i64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let (_, size) = UNITS.iter().find(|(name, _)| *name == unit)?;
        let part = match number.parse::<i64>() {
            Ok(whole) => whole.checked_mul(*size as i64)?,
            Err(_) => (number.parse::<f64>().ok()? * size).round() as i64,
        };
        total = total.checked_add(part)?;
        rest = after;
    }
    Some(if negative { -total } else { total })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_durations_are_numbers() {
        assert_eq!(whole_seconds(b"1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(whole_seconds(b"2026-11-20T21:02:56Z"), Some(1_795_208_576));
        assert_eq!(whole_seconds(b"0001-01-01T00:00:00Z"), Some(super::super::ZERO_TIME));
        assert_eq!(whole_seconds(b"2024-02-29T23:59:59Z"), Some(1_709_251_199));
        assert_eq!(whole_seconds(b"2026-11-20T21:02:56+"), None);
        assert_eq!(nanoseconds("1h2m3.5s"), Some(3_723_500_000_000));
        assert_eq!(nanoseconds("-10ms"), Some(-10_000_000));
        assert_eq!(nanoseconds("1y"), None);
    }
}
