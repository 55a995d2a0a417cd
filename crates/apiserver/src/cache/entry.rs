//! One object of the cache: its bytes, encoded once, and what selectors ask of it, parsed at most once.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use store::Revision;

use crate::kind::Kind;
use crate::status::ApiError;

/// How every stored value begins, but for custom resources.
const STORED_START: &str = "{\"metadata\":{";
/// How stored custom resources begin: with the version that they were stored in.
const STORED_VERSION: &str = "{\"apiVersion\":\"";

/// One version of one object.
#[derive(Debug)]
pub struct Entry {
    /// The whole storage key.
    pub key: Arc<str>,
    /// `{"kind":…,"apiVersion":…,"metadata":{"resourceVersion":…` as a single-object answer sends it.
    bytes: Bytes,
    /// Where `"metadata"` begins in `bytes`.
    start: usize,
    /// The revision that wrote this version, which is its resourceVersion.
    pub revision: Revision,
    selectable: OnceLock<Selectable>,
    /// How a custom resource was last shown, where that is not as it is stored, and to whom.
    shown: Mutex<Option<(u64, Arc<Entry>)>>,
    /// What [`Entry::parsed`] made of this version, if anybody asked.
    parsed: OnceLock<Arc<dyn Any + Send + Sync>>,
    /// Whether this stands for an object that cannot be read.
    is_unreadable: bool,
    /// Length of the object's protobuf message, once somebody asked for it; 0 before.
    message_length: AtomicU32,
}

/// What selectors ask of an object.
#[derive(Debug, Default)]
pub struct Selectable {
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// Values of [`Kind::fields`], in its order.
    pub fields: Vec<String>,
}

/// How the metadata of a value begins that stands for one that cannot be read. No object's does: no field has
/// such a name.
const UNREADABLE: &[u8] = b"\"\\u0000unreadable\":";

/// A value that stands for one that cannot be read.
pub fn unreadable(key: &str, why: &str) -> Bytes {
    let why = format!("unable to transform key {key:?}: {why}");
    let mut value = STORED_START.as_bytes().to_vec();
    value.extend_from_slice(UNREADABLE);
    value.extend_from_slice(Value::from(why).to_string().as_bytes());
    value.extend_from_slice(b"}}");
    value.into()
}

/// `{"kind":"Pod","apiVersion":"v1",`: what goes before the stored fields.
pub fn type_prefix(kind: &str, api_version: &str) -> String {
    format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",")
}

/// [`type_prefix`] of custom resources, in their order.
pub fn custom_type_prefix(kind: &str, api_version: &str) -> String {
    format!("{STORED_VERSION}{api_version}\",\"kind\":\"{kind}\",")
}

/// A stored value: the apiVersion that it was stored in, where it says so, and what follows the start
/// of its metadata.
fn split_stored(stored: &[u8]) -> (Option<&str>, &[u8]) {
    if let Some(rest) = stored.strip_prefix(STORED_VERSION.as_bytes())
        && let Some(end) = rest.iter().position(|&byte| byte == b'"')
        && let Ok(version) = std::str::from_utf8(&rest[..end])
        && let Some(rest) = rest[end..].strip_prefix(b"\",\"metadata\":{")
    {
        return (Some(version), rest);
    }
    (None, stored.strip_prefix(STORED_START.as_bytes()).unwrap_or(stored))
}

impl Entry {
    /// Assembles the answer bytes from a stored value and the revision that wrote it.
    pub fn new(key: Arc<str>, type_prefix: &str, stored: &[u8], revision: Revision) -> Self {
        Self::assemble(key, type_prefix, split_stored(stored).1, revision)
    }

    /// The entry of a custom resource of that kind, which says in which version it was stored.
    pub fn of_custom(
        key: Arc<str>,
        kind: &str,
        api_version: &str,
        stored: &[u8],
        revision: Revision,
    ) -> Self {
        let (own, rest) = split_stored(stored);
        Self::assemble(key, &custom_type_prefix(kind, own.unwrap_or(api_version)), rest, revision)
    }

    fn assemble(key: Arc<str>, type_prefix: &str, rest: &[u8], revision: Revision) -> Self {
        let mut digits = itoa(revision);
        let digits = digits.as_text();
        let mut bytes = Vec::with_capacity(type_prefix.len() + rest.len() + digits.len() + 34);
        bytes.extend_from_slice(type_prefix.as_bytes());
        bytes.extend_from_slice(&STORED_START.as_bytes()[1..]);
        bytes.extend_from_slice(b"\"resourceVersion\":\"");
        bytes.extend_from_slice(digits.as_bytes());
        bytes.extend_from_slice(if rest.first() == Some(&b'}') { b"\"" } else { b"\"," });
        bytes.extend_from_slice(rest);
        Self {
            key,
            bytes: bytes.into(),
            start: type_prefix.len(),
            revision,
            selectable: OnceLock::new(),
            shown: Mutex::new(None),
            parsed: OnceLock::new(),
            is_unreadable: rest.starts_with(UNREADABLE),
            message_length: AtomicU32::new(0),
        }
    }

    /// The apiVersion that a custom resource was stored in; empty for others.
    pub fn stored_version(&self) -> &str {
        let rest = self.bytes.strip_prefix(STORED_VERSION.as_bytes()).unwrap_or_default();
        let end = rest.iter().position(|&byte| byte == b'"').unwrap_or(0);
        std::str::from_utf8(&rest[..end]).unwrap_or_default()
    }

    /// What was remembered for `token`.
    pub fn shown_as(&self, token: u64) -> Option<Arc<Self>> {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.as_ref().filter(|(known, _)| *known == token).map(|(_, entry)| entry.clone())
    }

    /// Remembers how the object is shown to those with this `token`; for the last token only.
    pub fn remember(&self, token: u64, shown: Arc<Self>) {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some((token, shown));
    }

    /// The object with kind and apiVersion.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The object from `"metadata"` on: a list item without its opening brace.
    pub fn without_type(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Length of the protobuf message, measured by `measure` the first time. Lists say how long they
    /// are before they begin.
    pub fn message_length<E>(&self, measure: impl FnOnce(&[u8]) -> Result<usize, E>) -> Result<usize, E> {
        match self.message_length.load(Ordering::Relaxed) {
            0 => {
                let length = measure(&self.bytes)?;
                self.message_length.store(u32::try_from(length).unwrap_or(0), Ordering::Relaxed);
                Ok(length)
            }
            length => Ok(length as usize),
        }
    }

    /// Size in memory, roughly.
    pub fn len(&self) -> usize {
        self.bytes.len() + self.key.len() + 128
    }

    /// Whether the object cannot be read.
    pub fn is_unreadable(&self) -> bool {
        self.is_unreadable
    }

    /// Why the object cannot be read, if it cannot.
    ///
    /// # Errors
    /// 500.
    pub fn check_readable(&self) -> Result<(), ApiError> {
        if !self.is_unreadable {
            return Ok(());
        }
        let Some(why) = self.after_version().strip_prefix(UNREADABLE) else { return Ok(()) };
        let why = why.strip_suffix(b"}}").unwrap_or(why);
        Err(ApiError::internal(serde_json::from_slice::<String>(why).unwrap_or_default()))
    }

    /// The object as a tree, to be shown or looked at.
    pub fn to_value(&self) -> Value {
        self.try_value().unwrap_or_else(|_| Value::default())
    }

    /// The object as a tree that decides about writes: nothing may be taken for empty that is not.
    ///
    /// # Errors
    /// 500 when the stored bytes cannot be read.
    pub fn try_value(&self) -> Result<Value, ApiError> {
        self.check_readable()?;
        serde_json::from_slice(&self.bytes).map_err(|error| {
            tracing::error!(%error, key = &*self.key, "a stored object cannot be read");
            ApiError::internal(format!("the stored object cannot be read: {error}"))
        })
    }

    /// What `parse` makes of the object. The first kind of answer that anybody asks for is kept as long
    /// as the version: for objects that are consulted far more often than written.
    pub fn parsed<T: Send + Sync + 'static>(&self, parse: fn(&Value) -> T) -> Arc<T> {
        let kept = self.parsed.get_or_init(|| Arc::new(parse(&self.to_value())));
        kept.clone().downcast().unwrap_or_else(|_| Arc::new(parse(&self.to_value())))
    }

    /// Whether `stored` is this object's stored form.
    pub fn is_stored_as(&self, stored: &[u8]) -> bool {
        let (version, rest) = split_stored(stored);
        version.is_none_or(|version| version == self.stored_version()) && rest == self.after_version()
    }

    /// What follows the resourceVersion: the stored form without its start.
    fn after_version(&self) -> &[u8] {
        let metadata = &self.bytes[self.start + STORED_START.len() - 1..];
        // `"resourceVersion":"N",` ends at the first comma, or at the brace of otherwise empty metadata.
        let end = metadata.iter().position(|&byte| byte == b',' || byte == b'}').unwrap_or(0);
        if metadata.get(end) == Some(&b',') { &metadata[end + 1..] } else { &metadata[end..] }
    }

    /// The same object as of another revision: what a watcher gets when it loses sight of it.
    pub fn at_revision(&self, revision: Revision) -> Self {
        let prefix = std::str::from_utf8(&self.bytes[..self.start]).unwrap_or("{");
        Self::assemble(self.key.clone(), prefix, self.after_version(), revision)
    }

    /// Labels and fields. `kind` must be the stored version's row.
    pub fn selectable(&self, kind: &Kind) -> &Selectable {
        self.selectable.get_or_init(|| {
            if kind.fields.labels.is_empty() {
                #[derive(Deserialize, Default)]
                struct Skim {
                    #[serde(default)]
                    metadata: Meta,
                }
                #[derive(Deserialize, Default)]
                struct Meta {
                    #[serde(default)]
                    labels: BTreeMap<String, String>,
                }
                let skim: Skim = serde_json::from_slice(&self.bytes).unwrap_or_default();
                return Selectable { labels: skim.metadata.labels, fields: Vec::new() };
            }
            let mut object = self.to_value();
            if let Some(handler) = &kind.custom {
                handler.definition().refresh(&mut object);
            }
            Selectable::of(&object, kind)
        })
    }

    /// Name: the last segment of the key.
    pub fn name(&self) -> &str {
        self.key.rsplit('/').next().unwrap_or_default()
    }

    /// Namespace: the segment before the last, for namespaced kinds.
    pub fn namespace(&self) -> &str {
        self.key.rsplit('/').nth(1).unwrap_or_default()
    }
}

impl Selectable {
    /// What selectors ask of an object in tree form.
    pub fn of(object: &Value, kind: &Kind) -> Self {
        let labels = object["metadata"]["labels"].as_object();
        let labels = labels
            .into_iter()
            .flatten()
            .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()));
        Self { labels: labels.collect(), fields: (kind.fields.values)(object) }
    }
}

struct Digits {
    buffer: [u8; 20],
    start: usize,
}

fn itoa(mut number: u64) -> Digits {
    let mut digits = Digits { buffer: [b'0'; 20], start: 20 };
    loop {
        digits.start -= 1;
        digits.buffer[digits.start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return digits;
        }
    }
}

impl Digits {
    fn as_text(&mut self) -> &str {
        std::str::from_utf8(&self.buffer[self.start..]).unwrap_or("0")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_value_becomes_an_answer() {
        let entry = Entry::new(
            "/registry/pods/a/b".into(),
            &type_prefix("Pod", "v1"),
            br#"{"metadata":{"name":"b"},"spec":{}}"#,
            17,
        );
        assert_eq!(
            entry.bytes(),
            r#"{"kind":"Pod","apiVersion":"v1","metadata":{"resourceVersion":"17","name":"b"},"spec":{}}"#
        );
        assert_eq!(entry.without_type(), br#""metadata":{"resourceVersion":"17","name":"b"},"spec":{}}"#);
        assert_eq!(
            entry.at_revision(203).bytes(),
            r#"{"kind":"Pod","apiVersion":"v1","metadata":{"resourceVersion":"203","name":"b"},"spec":{}}"#
        );
        assert!(entry.is_stored_as(br#"{"metadata":{"name":"b"},"spec":{}}"#));
        assert!(!entry.is_stored_as(br#"{"metadata":{"name":"b"},"spec":{"a":1}}"#));
        let stored = br#"{"apiVersion":"g/v1","metadata":{"name":"b"},"spec":{}}"#;
        let custom = Entry::of_custom("/registry/things.g/a/b".into(), "Thing", "g/v2", stored, 17);
        assert_eq!(
            custom.bytes(),
            r#"{"apiVersion":"g/v1","kind":"Thing","metadata":{"resourceVersion":"17","name":"b"},"spec":{}}"#
        );
        assert!(custom.is_stored_as(stored));
        // Stored again in another version, it differs.
        assert!(!custom.is_stored_as(br#"{"apiVersion":"g/v2","metadata":{"name":"b"},"spec":{}}"#));
        assert_eq!(custom.at_revision(18).stored_version(), "g/v1");
        assert_eq!((entry.name(), entry.namespace()), ("b", "a"));
        assert!(entry.check_readable().is_ok());
        let stored = unreadable("/registry/secrets/a/b", "no \"key\"");
        let broken = Entry::new("/registry/secrets/a/b".into(), &type_prefix("Secret", "v1"), &stored, 3);
        assert_eq!(
            broken.try_value().unwrap_err().message,
            "Internal error occurred: unable to transform key \"/registry/secrets/a/b\": no \"key\""
        );
    }
}
