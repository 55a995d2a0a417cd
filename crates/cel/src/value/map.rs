//! Maps, and objects that came as JSON.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::weight::of_key;
use super::{Str, Value, Weighed, Weights, json};
use crate::decl::{Schema, escape, unescape};

/// A key of a map. Integers are equal and ordered by value, whatever their type.
#[derive(Clone, Debug)]
pub enum Key<'a> {
    /// A boolean.
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// An unsigned integer.
    Uint(u64),
    /// A string.
    String(Str<'a>),
}

/// A map: of JSON that is converted entry by entry, or of values.
#[derive(Clone, Debug)]
pub struct Map<'a>(Entries<'a>);

#[derive(Clone, Debug)]
enum Entries<'a> {
    Json { members: &'a serde_json::Map<String, serde_json::Value>, schema: Option<&'a Schema> },
    Values(Arc<Weighed<BTreeMap<Key<'a>, Value<'a>>>>),
}

impl<'a> Key<'a> {
    /// The key that equals a value, if any does: a whole double equals an integer.
    pub fn matching(value: &Value<'a>) -> Option<Key<'a>> {
        match value {
            Value::Double(d) => {
                if *d >= -(2f64.powi(63)) && *d < 2f64.powi(63) && d.trunc() == *d {
                    Some(Key::Int(*d as i64))
                } else if *d >= 0.0 && *d < 2f64.powi(64) && d.trunc() == *d {
                    Some(Key::Uint(*d as u64))
                } else {
                    None
                }
            }
            other => Key::of(other),
        }
    }

    /// The value as a key of a map, if its type is one that keys may have.
    pub fn of(value: &Value<'a>) -> Option<Key<'a>> {
        match value {
            Value::Bool(b) => Some(Key::Bool(*b)),
            Value::Int(i) => Some(Key::Int(*i)),
            Value::Uint(u) => Some(Key::Uint(*u)),
            Value::String(s) => Some(Key::String(s.clone())),
            _ => None,
        }
    }

    /// The key as a value.
    pub fn to_value(&self) -> Value<'a> {
        match self {
            Key::Bool(b) => Value::Bool(*b),
            Key::Int(i) => Value::Int(*i),
            Key::Uint(u) => Value::Uint(*u),
            Key::String(s) => Value::String(s.clone()),
        }
    }

    fn number(&self) -> Option<i128> {
        match self {
            Key::Int(i) => Some(i128::from(*i)),
            Key::Uint(u) => Some(i128::from(*u)),
            _ => None,
        }
    }
}

impl Ord for Key<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        fn rank(key: &Key<'_>) -> u8 {
            match key {
                Key::Bool(_) => 0,
                Key::Int(_) | Key::Uint(_) => 1,
                Key::String(_) => 2,
            }
        }
        match (self, other) {
            (Key::String(a), Key::String(b)) => a.cmp(b),
            (Key::Bool(a), Key::Bool(b)) => a.cmp(b),
            _ => rank(self).cmp(&rank(other)).then_with(|| self.number().cmp(&other.number())),
        }
    }
}

impl PartialOrd for Key<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Key<'_> {}

impl<'a> From<BTreeMap<Key<'a>, Value<'a>>> for Map<'a> {
    fn from(entries: BTreeMap<Key<'a>, Value<'a>>) -> Self {
        Map(Entries::Values(Arc::new(entries.into())))
    }
}

impl<'a> Map<'a> {
    pub(super) fn of_json(
        members: &'a serde_json::Map<String, serde_json::Value>,
        schema: Option<&'a Schema>,
    ) -> Map<'a> {
        Map(Entries::Json { members, schema })
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        match &self.0 {
            Entries::Json { members, .. } => members.len(),
            Entries::Values(entries) => entries.len(),
        }
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value at a key, which may be a number of another type than the key in the map.
    pub fn get(&self, key: &Value<'a>) -> Option<Value<'a>> {
        match (&self.0, key) {
            (_, Value::String(key)) => self.property(key),
            (Entries::Json { .. }, _) => None,
            (Entries::Values(entries), _) => entries.get(&Key::matching(key)?).cloned(),
        }
    }

    /// Whether the map came with a schema, so that to look for a key that is no string is an error.
    pub(crate) fn needs_string_keys(&self) -> bool {
        matches!(self.0, Entries::Json { schema: Some(_), .. })
    }

    /// The value at a string key.
    pub fn property(&self, key: &str) -> Option<Value<'a>> {
        match &self.0 {
            Entries::Json { members, schema: None } => members.get(key).map(json::untyped),
            Entries::Json { members, schema: Some(schema) } => typed_property(members, schema, key),
            // A key can be compared only with a key of the same lifetime, which the map's may be shortened to.
            Entries::Values(entries) => find_string(entries, key).cloned(),
        }
    }

    /// The entries in the order of their keys. Properties that have no schema are left out, names escaped.
    pub fn iter(&self) -> Box<dyn Iterator<Item = (Key<'a>, Value<'a>)> + '_> {
        match &self.0 {
            Entries::Json { members, schema: None } => {
                Box::new(members.iter().map(|(k, v)| (Key::String(Str::Borrowed(k)), json::untyped(v))))
            }
            Entries::Json { members, schema: Some(schema) } => {
                let schema: &'a Schema = schema;
                let members: &'a serde_json::Map<_, _> = members;
                Box::new(members.iter().filter_map(move |(name, value)| {
                    let property = schema.property(name)?;
                    let key = match escape(name) {
                        Some(escaped) if schema.properties.is_some() && escaped != *name => {
                            Str::from(escaped)
                        }
                        _ => Str::Borrowed(name),
                    };
                    Some((Key::String(key), json::typed(value, property)))
                }))
            }
            Entries::Values(entries) => Box::new(entries.iter().map(|(k, v)| (k.clone(), v.clone()))),
        }
    }

    /// The JSON object and its schema, if the map is one.
    pub(super) fn as_json(
        &self,
    ) -> Option<(&'a serde_json::Map<String, serde_json::Value>, Option<&'a Schema>)> {
        match &self.0 {
            Entries::Json { members, schema } => Some((members, *schema)),
            Entries::Values(_) => None,
        }
    }

    /// The weight of a map that was computed.
    pub(crate) fn weight(&self) -> Option<u64> {
        match &self.0 {
            Entries::Json { .. } => None,
            Entries::Values(entries) => Some(entries.weight()),
        }
    }

    /// Weighs a map that has just been computed.
    pub(super) fn weigh(&mut self, weights: &mut Weights) -> Option<u64> {
        if let Entries::Values(entries) = &mut self.0 {
            Weighed::weigh(entries, weights);
        }
        self.weight()
    }

    /// Adds an entry with a value of the given weight; `false` if there is one with this key. The entries are copied
    /// only if they are shared.
    pub(crate) fn insert(&mut self, key: Key<'a>, value: Value<'a>, weight: u64) -> bool {
        if let Entries::Json { .. } = self.0 {
            self.0 = Entries::Values(Arc::new(self.iter().collect()));
        }
        let Entries::Values(entries) = &mut self.0 else { return false };
        if entries.contains_key(&key) {
            return false;
        }
        let weight = weight.saturating_add(of_key(&key));
        Arc::make_mut(entries).adding(weight).insert(key, value);
        true
    }
}

fn find_string<'v, 'a>(entries: &'v BTreeMap<Key<'a>, Value<'a>>, key: &'v str) -> Option<&'v Value<'a>> {
    let entries: &'v BTreeMap<Key<'v>, Value<'a>> = entries_at(entries);
    entries.get(&Key::String(Str::Borrowed(key)))
}

/// Shortens the lifetime of the keys.
fn entries_at<'v, 'a>(entries: &'v BTreeMap<Key<'a>, Value<'a>>) -> &'v BTreeMap<Key<'v>, Value<'a>> {
    entries
}

fn typed_property<'a>(
    members: &'a serde_json::Map<String, serde_json::Value>,
    schema: &'a Schema,
    key: &str,
) -> Option<Value<'a>> {
    if schema.properties.is_none() {
        return Some(json::typed(members.get(key)?, schema.property(key)?));
    }
    let name = if key.contains("__") { &unescape(key)? } else { key };
    // A null is as good as an absence in an object with declared properties.
    let value = members.get(name).filter(|value| !value.is_null())?;
    Some(json::typed(value, schema.property(name)?))
}
