//! One object of the cache: its bytes, encoded once, and what selectors ask of it, parsed at most once.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use store::Revision;

use crate::kind::Kind;
use crate::status::ApiError;

/// How every stored value begins.
const STORED_START: &str = "{\"metadata\":{";

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
}

/// What selectors ask of an object.
#[derive(Debug, Default)]
pub struct Selectable {
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// Values of [`Kind::fields`], in its order.
    pub fields: Vec<String>,
}

/// `{"kind":"Pod","apiVersion":"v1",`: what goes before the stored fields.
pub fn type_prefix(kind: &str, api_version: &str) -> String {
    format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",")
}

impl Entry {
    /// Assembles the answer bytes from a stored value and the revision that wrote it.
    pub fn new(key: Arc<str>, type_prefix: &str, stored: &[u8], revision: Revision) -> Self {
        let rest = stored.strip_prefix(STORED_START.as_bytes()).unwrap_or(stored);
        let mut digits = itoa(revision);
        let digits = digits.as_text();
        let mut bytes = Vec::with_capacity(type_prefix.len() + rest.len() + digits.len() + 34);
        bytes.extend_from_slice(type_prefix.as_bytes());
        bytes.extend_from_slice(&STORED_START.as_bytes()[1..]);
        bytes.extend_from_slice(b"\"resourceVersion\":\"");
        bytes.extend_from_slice(digits.as_bytes());
        bytes.extend_from_slice(if rest.first() == Some(&b'}') { b"\"" } else { b"\"," });
        bytes.extend_from_slice(rest);
        Self { key, bytes: bytes.into(), start: type_prefix.len(), revision, selectable: OnceLock::new() }
    }

    /// The object with kind and apiVersion.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The object from `"metadata"` on: a list item without its opening brace.
    pub fn without_type(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Size in memory, roughly.
    pub fn len(&self) -> usize {
        self.bytes.len() + self.key.len() + 128
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
        serde_json::from_slice(&self.bytes).map_err(|error| {
            tracing::error!(%error, key = &*self.key, "a stored object cannot be read");
            ApiError::internal(format!("the stored object cannot be read: {error}"))
        })
    }

    /// Whether `stored` is this object's stored form.
    pub fn is_stored_as(&self, stored: &[u8]) -> bool {
        stored.strip_prefix(STORED_START.as_bytes()) == Some(self.after_version())
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
        let mut stored = Vec::with_capacity(self.bytes.len());
        stored.extend_from_slice(STORED_START.as_bytes());
        stored.extend_from_slice(self.after_version());
        let prefix = std::str::from_utf8(&self.bytes[..self.start]).unwrap_or("{");
        Self::new(self.key.clone(), prefix, &stored, revision)
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
            Selectable::of(&self.to_value(), kind)
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
        assert_eq!((entry.name(), entry.namespace()), ("b", "a"));
    }
}
