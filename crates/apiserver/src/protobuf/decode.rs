//! Messages into JSON. Zero values that Go writes become empty values, which decoding by the type drops
//! where Go would leave them out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schema::types::Type;
use schema::types::{self, Field, Member, SchemaOr, Shape, Struct};
use serde_json::{Map, Value, json};

use super::{MAGIC, ZERO_TIME, is_message};

/// Messages in messages; the deepest type (JSONSchemaProps aside) needs a third of it.
const DEPTH_MAX: usize = 64;

/// Why a body cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Error {
    /// There is nothing.
    #[error("empty data")]
    Empty,
    /// There is nothing behind the prefix.
    #[error("empty body")]
    EmptyBody,
    /// The four bytes in front are missing.
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    Magic,
    /// It ends within a value.
    #[error("unexpected EOF")]
    End,
    /// A number has more than 64 bits.
    #[error("proto: integer overflow")]
    Overflow,
    /// A value of another kind than the field's.
    #[error("proto: wrong wireType = {0} for field {1}")]
    WireType(u8, String),
    /// A string that is not UTF-8, or JSON that is none.
    #[error("proto: field {0} contains invalid data")]
    Data(String),
    /// Messages within messages without end.
    #[error("proto: message is nested too deeply")]
    Depth,
    /// No such kind in the type table.
    #[error("no kind \"{kind}\" is registered for version \"{version}\"")]
    Kind {
        /// As given.
        kind: String,
        /// As given.
        version: String,
    },
}

/// Why a body cannot be read, and what it says it is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The reason.
    pub error: Error,
    /// Version (without the group) and kind, once they could be read.
    pub read_as: Option<(String, String)>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, read_as: None }
    }
}

/// The object in `body`, with kind and apiVersion; those of `default` where the body names none.
///
/// # Errors
/// See [`Error`].
pub(crate) fn to_json(body: &[u8], default: (&str, &str)) -> Result<Value, Failure> {
    let message = match body.strip_prefix(MAGIC) {
        Some([]) => return Err(Error::EmptyBody.into()),
        Some(message) => message,
        None if body.is_empty() => return Err(Error::Empty.into()),
        None => return Err(Error::Magic.into()),
    };
    let Unknown { mut version, mut kind, raw } = unknown(message)?;
    if kind.is_empty() {
        default.1.clone_into(&mut kind);
    }
    if version.is_empty() {
        default.0.clone_into(&mut version);
    }
    let (group, bare) = version.split_once('/').unwrap_or(("", &version));
    let read_as = Some((bare.to_owned(), kind.clone()));
    let failed = |error: Error| Failure { error, read_as: read_as.clone() };
    let Some(of) = types::of_kind(group, bare, &kind) else {
        return Err(failed(Error::Kind { kind: kind.clone(), version: version.clone() }));
    };
    let mut object = match of.as_struct() {
        Some(of) => message_of(of, raw, 0).map_err(failed)?,
        None => Map::new(),
    };
    object.insert("kind".to_owned(), kind.into());
    object.insert("apiVersion".to_owned(), version.into());
    Ok(Value::Object(object))
}

struct Unknown<'a> {
    version: String,
    kind: String,
    raw: &'a [u8],
}

fn unknown(message: &[u8]) -> Result<Unknown<'_>, Error> {
    let mut unknown = Unknown { version: String::new(), kind: String::new(), raw: &[] };
    let mut reader = Reader(message);
    while let Some((number, wire)) = reader.field()? {
        match (number, wire) {
            (1, Wire::Bytes(type_meta)) => {
                let mut reader = Reader(type_meta);
                while let Some(field) = reader.field()? {
                    match field {
                        (1, Wire::Bytes(bytes)) => unknown.version = text(bytes, "apiVersion")?,
                        (2, Wire::Bytes(bytes)) => unknown.kind = text(bytes, "kind")?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => unknown.raw = bytes,
            _ => {}
        }
    }
    Ok(unknown)
}

/// One value as it stands on the wire.
#[derive(Clone, Copy)]
enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

impl Wire<'_> {
    fn number(self) -> u8 {
        match self {
            Wire::Varint(_) => 0,
            Wire::Fixed64(_) => 1,
            Wire::Bytes(_) => 2,
            Wire::Fixed32(_) => 5,
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn varint(&mut self) -> Result<u64, Error> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first().ok_or(Error::End)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Error::Overflow)
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], Error> {
        let length = usize::try_from(length).map_err(|_| Error::End)?;
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Error::End)?;
        self.0 = rest;
        Ok(taken)
    }

    fn field(&mut self) -> Result<Option<(u32, Wire<'a>)>, Error> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| Error::Overflow)?;
        let fixed = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
        let wire = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(fixed(self.take(8)?)),
            2 => {
                let length = self.varint()?;
                Wire::Bytes(self.take(length)?)
            }
            5 => Wire::Fixed32(fixed(self.take(4)?) as u32),
            other => return Err(Error::WireType(other as u8, number.to_string())),
        };
        Ok(Some((number, wire)))
    }
}

fn text(bytes: &[u8], field: &str) -> Result<String, Error> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Error::Data(field.to_owned()))
}

/// What a struct's message holds, by JSON names; embedded structs are flattened as JSON has them.
fn message_of(of: &Struct, bytes: &[u8], depth: usize) -> Result<Map<String, Value>, Error> {
    if depth > DEPTH_MAX {
        return Err(Error::Depth);
    }
    // A second name for another type.
    if let [Member::Inline(0, other)] = of.members()
        && let Some(other) = other.as_struct()
        && !of.is_kind
    {
        return message_of(other, bytes, depth + 1);
    }
    let mut object = Map::new();
    let mut reader = Reader(bytes);
    while let Some((number, wire)) = reader.field()? {
        let member = of.members().iter().find(|member| match member {
            Member::Field(field) => field.tag == number,
            Member::Inline(tag, _) => *tag == number,
        });
        match (member, wire) {
            (Some(Member::Field(field)), wire) if number != 0 => insert(&mut object, field, wire, depth)?,
            (Some(Member::Inline(_, embedded)), Wire::Bytes(bytes)) if number != 0 => {
                if let Some(embedded) = embedded.as_struct() {
                    object.extend(message_of(embedded, bytes, depth + 1)?);
                }
            }
            // Fields of a later version.
            _ => {}
        }
    }
    Ok(object)
}

fn insert(object: &mut Map<String, Value>, field: &Field, wire: Wire<'_>, depth: usize) -> Result<(), Error> {
    match field.ty.shape() {
        Shape::List(list) if !is_message(&field.ty) => {
            let entry = object.entry(field.name.clone()).or_insert_with(|| json!([]));
            let Value::Array(items) = entry else { return Ok(()) };
            match (list.items.shape(), wire) {
                // Numbers may come packed.
                (Shape::Int32 | Shape::Int64 | Shape::Bool, Wire::Bytes(packed)) => {
                    let mut reader = Reader(packed);
                    while !reader.0.is_empty() {
                        let number = Wire::Varint(reader.varint()?);
                        items.push(value(&list.items, number, &field.name, depth)?);
                    }
                }
                _ => items.push(value(&list.items, wire, &field.name, depth)?),
            }
        }
        Shape::Map(map) => {
            let Wire::Bytes(bytes) = wire else { return Err(wrong(wire, &field.name)) };
            let (mut key, mut found) = (String::new(), None);
            let mut reader = Reader(bytes);
            while let Some((number, wire)) = reader.field()? {
                match (number, wire) {
                    (1, Wire::Bytes(bytes)) => key = text(bytes, &field.name)?,
                    (2, wire) => found = Some(value(&map.values, wire, &field.name, depth)?),
                    _ => {}
                }
            }
            let entry = object.entry(field.name.clone()).or_insert_with(|| json!({}));
            entry[key] = found.unwrap_or_else(|| map.values.zero());
        }
        _ => {
            object.insert(field.name.clone(), value(&field.ty, wire, &field.name, depth)?);
        }
    }
    Ok(())
}

fn wrong(wire: Wire<'_>, field: &str) -> Error {
    Error::WireType(wire.number(), field.to_owned())
}

fn value(of: &Type, wire: Wire<'_>, field: &str, depth: usize) -> Result<Value, Error> {
    Ok(match (of.shape(), wire) {
        (Shape::Bool, Wire::Varint(number)) => json!(number != 0),
        (Shape::Int32 | Shape::Int64, Wire::Varint(number)) => json!(number as i64),
        (Shape::Float, Wire::Fixed64(bits)) => json!(f64::from_bits(bits)),
        (Shape::Float, Wire::Fixed32(bits)) => json!(f32::from_bits(bits)),
        (Shape::String(_), Wire::Bytes(bytes)) => json!(text(bytes, field)?),
        (Shape::Bytes, Wire::Bytes(bytes)) => json!(STANDARD.encode(bytes)),
        (Shape::Struct(of), Wire::Bytes(bytes)) => Value::Object(message_of(of, bytes, depth + 1)?),
        (Shape::List(list), Wire::Bytes(bytes)) => {
            let mut items = Vec::new();
            let mut reader = Reader(bytes);
            while let Some((number, wire)) = reader.field()? {
                if number == 1 {
                    items.push(value(&list.items, wire, field, depth + 1)?);
                }
            }
            Value::Array(items)
        }
        (Shape::SchemaOr(what), Wire::Bytes(bytes)) => schema_or(*what, bytes, depth + 1)?,
        (_, Wire::Bytes(bytes)) => special(of.shape(), bytes, field)?,
        (_, wire) => return Err(wrong(wire, field)),
    })
}

/// A schema, or what may stand in its place.
fn schema_or(what: SchemaOr, bytes: &[u8], depth: usize) -> Result<Value, Error> {
    let schema = types::get("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps");
    let Some(schema) = schema.and_then(Type::as_struct) else { return Ok(Value::Null) };
    let (mut lone, mut list, mut allows) = (None, Vec::new(), false);
    let mut reader = Reader(bytes);
    while let Some(field) = reader.field()? {
        match (what, field) {
            (SchemaOr::Bool, (1, Wire::Varint(number))) => allows = number != 0,
            (SchemaOr::Bool, (2, Wire::Bytes(bytes))) | (_, (1, Wire::Bytes(bytes))) => {
                lone = Some(Value::Object(message_of(schema, bytes, depth)?));
            }
            (SchemaOr::Array, (2, Wire::Bytes(bytes))) => {
                list.push(Value::Object(message_of(schema, bytes, depth)?));
            }
            (SchemaOr::StringArray, (2, Wire::Bytes(bytes))) => list.push(json!(text(bytes, "property")?)),
            _ => {}
        }
    }
    Ok(match (what, lone) {
        (_, Some(schema)) => schema,
        (SchemaOr::Bool, None) => json!(allows),
        (_, None) => Value::Array(list),
    })
}

/// Types whose messages look nothing like their JSON.
fn special(shape: &Shape, bytes: &[u8], field: &str) -> Result<Value, Error> {
    let mut numbers = [0u64; 4];
    let mut strings: [&[u8]; 4] = [&[]; 4];
    let mut reader = Reader(bytes);
    while let Some((number, wire)) = reader.field()? {
        match (number as usize, wire) {
            (index @ 1..4, Wire::Varint(number)) => numbers[index] = number,
            (index @ 1..4, Wire::Bytes(bytes)) => strings[index] = bytes,
            _ => {}
        }
    }
    let json_of = |bytes: &[u8]| serde_json::from_slice(bytes).map_err(|_| Error::Data(field.to_owned()));
    Ok(match shape {
        Shape::Quantity => json!(text(strings[1], field)?),
        Shape::IntOrString if numbers[1] == 0 => json!(numbers[2] as i32),
        Shape::IntOrString => json!(text(strings[3], field)?),
        Shape::Duration => json!(format!("{}ns", numbers[1] as i64)),
        // Go's zero time.
        Shape::Time | Shape::MicroTime if bytes.is_empty() => Value::Null,
        Shape::Time | Shape::MicroTime => timestamp(numbers[1] as i64, numbers[2] as i32, shape, field)?,
        _ if strings[1].is_empty() => Value::Null,
        _ => json_of(strings[1])?,
    })
}

/// Seconds and nanoseconds as RFC 3339; the zero time is null.
fn timestamp(seconds: i64, nanoseconds: i32, shape: &Shape, field: &str) -> Result<Value, Error> {
    if seconds == ZERO_TIME {
        return Ok(Value::Null);
    }
    let time = jiff::Timestamp::new(seconds, nanoseconds).map_err(|_| Error::Data(field.to_owned()))?;
    let format =
        if matches!(shape, Shape::MicroTime) { "%Y-%m-%dT%H:%M:%S%.6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    Ok(json!(time.strftime(format).to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &[u8]) -> Result<Value, Error> {
        to_json(body, ("v1", "ConfigMap")).map_err(|failure| failure.error)
    }

    fn tagged(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut message = vec![number << 3 | 2, bytes.len() as u8];
        message.extend_from_slice(bytes);
        message
    }

    fn envelope(version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let type_meta = [tagged(1, version.as_bytes()), tagged(2, kind.as_bytes())].concat();
        [MAGIC.to_vec(), tagged(1, &type_meta), tagged(2, raw)].concat()
    }

    #[test]
    fn maps_bytes_and_metadata_are_read() {
        let metadata = tagged(1, &tagged(1, b"settings"));
        let entry = tagged(2, &[tagged(1, b"k"), tagged(2, b"v")].concat());
        let binary = tagged(3, &[tagged(1, b"b"), tagged(2, &[0, 255])].concat());
        let body = envelope("v1", "ConfigMap", &[metadata, entry, binary].concat());
        assert_eq!(
            read(&body).unwrap(),
            json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "settings"},
                "data": {"k": "v"}, "binaryData": {"b": "AP8="}})
        );
    }

    #[test]
    fn embedded_structs_are_flattened() {
        // PodSpec.volumes[0]: name, and the volume source as an embedded message with emptyDir.
        let source = tagged(2, b"");
        let volume = [tagged(1, b"scratch"), tagged(2, &source)].concat();
        let spec = tagged(2, &tagged(1, &volume));
        let pod = read(&envelope("v1", "Pod", &spec)).unwrap();
        assert_eq!(pod["spec"]["volumes"], json!([{"name": "scratch", "emptyDir": {}}]));
    }

    #[test]
    fn what_is_cut_off_or_foreign_is_refused() {
        assert_eq!(read(b"{}"), Err(Error::Magic));
        let body = envelope("v1", "ConfigMap", &tagged(1, &tagged(1, b"settings")));
        // Cut at the end of a field, less is said; cut anywhere else, it is an error. Nothing panics.
        let whole = (MAGIC.len() + 1..body.len()).filter(|length| read(&body[..*length]).is_ok());
        assert_eq!(whole.count(), 1);
        assert!(matches!(read(&envelope("v1", "Nope", &[])), Err(Error::Kind { .. })));
    }
}
