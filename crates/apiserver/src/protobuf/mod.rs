//! Kubernetes' protobuf, both ways, by the type table.
//!
//! An object is `k8s\0` and a `runtime.Unknown` that names the kind and holds its message. Answers are
//! encoded straight from the JSON of the cache ([`Encoder`]); request bodies become JSON
//! ([`to_json`]), so that nothing behind that needs to know.

mod decode;
mod encode;
mod plan;
mod tape;
#[cfg(test)]
mod tests;
mod writer;

use bytes::Bytes;
use schema::types::{self, Type};
use serde_json::Value;

use crate::cache::Entry;
use crate::kind::Kind;

pub(crate) use decode::to_json;
pub(crate) use encode::{Encoder, Unencodable};

/// The media type.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// The media type of a watch.
pub(crate) const WATCH_MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf;stream=watch";
const MAGIC: &[u8] = b"k8s\0";
/// Go's zero time, in seconds since 1970.
const ZERO_TIME: i64 = -62_135_596_800;

/// Whether values of the type can be sent: upstream's types have messages, but for Tables. Nobody has
/// code for messages of other types.
pub(crate) fn has_messages(ty: &Type) -> bool {
    ty.name().starts_with("io.k8s.")
        && ty.as_struct().is_some_and(|of| {
            of.fields()
                .iter()
                .any(|field| field.tag != 0 && !matches!(field.name.as_str(), "kind" | "apiVersion"))
        })
}

/// Named lists are messages with one repeated field (`ExtraValue`, `Verbs`).
fn is_message(list: &Type) -> bool {
    list.name().ends_with(".ExtraValue") || list.name().ends_with(".Verbs")
}

/// The type of a kind, if it can be written.
pub(crate) fn type_of(api_version: &str, kind: &str) -> Option<&'static Type> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    // Upstream's two versions of the bare-metadata kinds have the same messages.
    let version = if group == "meta.k8s.io" { "v1" } else { version };
    types::of_kind(group, version, kind).filter(|ty| has_messages(ty))
}

/// An object with its envelope.
///
/// # Errors
/// When the kind has no message, or the object does not fit it.
pub(crate) fn object(value: &Value) -> Result<Vec<u8>, Unencodable> {
    let text = |name: &str| value[name].as_str().unwrap_or_default();
    let ty = type_of(text("apiVersion"), text("kind")).ok_or(Unencodable)?;
    let json = serde_json::to_vec(value).map_err(|_| Unencodable)?;
    let mut encoder = Encoder::default();
    let message = encoder.message(&json, ty)?;
    let mut out = envelope_start(text("apiVersion"), text("kind"), message.len());
    out.extend_from_slice(message);
    out.extend_from_slice(ENVELOPE_END);
    Ok(out)
}

/// An object of the cache with its envelope.
///
/// # Errors
/// When the kind has no message.
pub(crate) fn entry(kind: &Kind, entry: &Entry) -> Result<Bytes, Unencodable> {
    let ty = types::get(&kind.schema).ok_or(Unencodable)?;
    let mut encoder = Encoder::default();
    let message = encoder.message(entry.bytes(), ty)?;
    let mut out = envelope_start(&kind.api_version(), &kind.kind, message.len());
    out.extend_from_slice(message);
    out.extend_from_slice(ENVELOPE_END);
    Ok(out.into())
}

/// The length of an object's message, found out once.
///
/// # Errors
/// When it cannot be encoded.
pub(crate) fn length(encoder: &mut Encoder, entry: &Entry, ty: &'static Type) -> Result<usize, Unencodable> {
    entry.message_length(|json| encoder.message(json, ty).map(<[u8]>::len))
}

/// What goes in front of a message of `length` bytes.
pub(crate) fn envelope_start(api_version: &str, kind: &str, length: usize) -> Vec<u8> {
    let mut type_meta = Vec::with_capacity(api_version.len() + kind.len() + 8);
    put_bytes(&mut type_meta, 1, api_version.as_bytes());
    put_bytes(&mut type_meta, 2, kind.as_bytes());
    let mut out = Vec::with_capacity(length + type_meta.len() + 24);
    out.extend_from_slice(MAGIC);
    put_bytes(&mut out, 1, &type_meta);
    put_length(&mut out, 2, length);
    out
}

/// What goes behind the message: the empty content encoding and content type.
pub(crate) const ENVELOPE_END: &[u8] = &[0x1a, 0, 0x22, 0];

/// A field that holds bytes.
pub(crate) fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_length(out, number, bytes.len());
    out.extend_from_slice(bytes);
}

/// Tag and length of a field whose bytes follow.
pub(crate) fn put_length(out: &mut Vec<u8>, number: u32, length: usize) {
    put_varint(out, u64::from(number << 3 | 2));
    put_varint(out, length as u64);
}

/// A number.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// How many bytes tag (of a number below 16) and length of a field take.
pub(crate) fn header_length(length: usize) -> usize {
    1 + (usize::BITS - (length | 1).leading_zeros()).div_ceil(7) as usize
}

/// One event of a watch: its length in four bytes, then the event. `object` has its envelope.
pub(crate) fn write_event(out: &mut Vec<u8>, kind: &str, object: &[u8]) {
    let mut raw = Vec::with_capacity(12);
    put_length(&mut raw, 1, object.len());
    let embedded = raw.len() + object.len();
    let mut event = Vec::with_capacity(24);
    put_bytes(&mut event, 1, kind.as_bytes());
    put_length(&mut event, 2, embedded);
    let length = event.len() + embedded;
    out.reserve(length + 4);
    out.extend_from_slice(&(length as u32).to_be_bytes());
    out.extend_from_slice(&event);
    out.extend_from_slice(&raw);
    out.extend_from_slice(object);
}
