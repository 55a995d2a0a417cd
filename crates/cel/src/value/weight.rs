//! How much there is in a value. Values share their parts, so that a short expression can make one that takes
//! for ever to walk; what an evaluation computes is therefore weighed when it is made.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use serde_json::Value as Json;

use super::{Key, Value};

/// Heavier values are not made.
pub(crate) const LARGEST_WEIGHT: u64 = 1 << 20;
/// How many bytes of a text weigh as much as a value.
const BYTES_PER_WEIGHT: usize = 64;

/// The content of a list, map or object that was computed, with its weight. What came as JSON counts as one value
/// until an evaluation, which remembers its weight, adds it.
#[derive(Clone, Debug)]
pub struct Weighed<T> {
    content: T,
    weight: u64,
}

/// What holds values.
pub trait Content {
    /// The sum of what the function answers for the values.
    fn sum(&self, of: &mut dyn FnMut(&Value<'_>) -> u64) -> u64;
}

impl Content for Vec<Value<'_>> {
    fn sum(&self, of: &mut dyn FnMut(&Value<'_>) -> u64) -> u64 {
        self.iter().fold(0, |sum, value| sum.saturating_add(of(value)))
    }
}

impl Content for BTreeMap<Key<'_>, Value<'_>> {
    fn sum(&self, of: &mut dyn FnMut(&Value<'_>) -> u64) -> u64 {
        self.iter().fold(0, |sum, (key, value)| sum.saturating_add(of_key(key)).saturating_add(of(value)))
    }
}

impl Content for BTreeMap<Arc<str>, Value<'_>> {
    fn sum(&self, of: &mut dyn FnMut(&Value<'_>) -> u64) -> u64 {
        self.values().fold(0, |sum, value| sum.saturating_add(1).saturating_add(of(value)))
    }
}

impl<T> Deref for Weighed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.content
    }
}

impl<T: Content> From<T> for Weighed<T> {
    fn from(content: T) -> Self {
        let weight = content.sum(&mut of_value).saturating_add(1);
        Weighed { content, weight }
    }
}

impl<T: Content + FromIterator<I>, I> FromIterator<I> for Weighed<T> {
    fn from_iter<S: IntoIterator<Item = I>>(items: S) -> Self {
        Weighed::from(items.into_iter().collect::<T>())
    }
}

impl<T: Content> Weighed<T> {
    pub(super) fn weight(&self) -> u64 {
        self.weight
    }

    /// The content, to which something of the given weight is added.
    pub(super) fn adding(&mut self, weight: u64) -> &mut T {
        self.weight = self.weight.saturating_add(weight);
        &mut self.content
    }

    /// Weighs what nobody else has yet, now with what came as JSON.
    pub(super) fn weigh(this: &mut Arc<Self>, weights: &mut Weights) {
        if let Some(this) = Arc::get_mut(this) {
            this.weight = this.content.sum(&mut |value| weights.of(value)).saturating_add(1);
        }
    }
}

fn of_text(bytes: usize) -> u64 {
    1 + (bytes / BYTES_PER_WEIGHT) as u64
}

pub(super) fn of_key(key: &Key<'_>) -> u64 {
    match key {
        Key::String(text) => of_text(text.len()),
        _ => 1,
    }
}

/// The weight of a value as far as it is known.
pub(crate) fn of_value(value: &Value<'_>) -> u64 {
    match value {
        Value::String(text) => of_text(text.len()),
        Value::Bytes(bytes) => of_text(bytes.len()),
        Value::List(list) => list.weight().unwrap_or(1),
        Value::Map(map) => map.weight().unwrap_or(1),
        Value::Struct(object) => object.fields.weight,
        Value::Optional(Some(value)) => of_value(value).saturating_add(1),
        _ => 1,
    }
}

fn of_json(json: &Json) -> u64 {
    match json {
        Json::String(text) => of_text(text.len()),
        Json::Array(items) => 1 + items.iter().map(of_json).sum::<u64>(),
        Json::Object(members) => {
            1 + members.iter().map(|(name, value)| of_text(name.len()) + of_json(value)).sum::<u64>()
        }
        _ => 1,
    }
}

/// The weights of the JSON that an evaluation has put into values, by address and kind: it is walked only once.
#[derive(Debug, Default)]
pub(crate) struct Weights(BTreeMap<(usize, bool), u64>);

impl Weights {
    /// The weight of a value. The JSON in it must live as long as this.
    pub(crate) fn of(&mut self, value: &Value<'_>) -> u64 {
        match value {
            Value::List(list) => match list.as_json() {
                Some([]) => 1,
                Some(items) => {
                    let place = (items.as_ptr().addr(), true);
                    *self.0.entry(place).or_insert_with(|| 1 + items.iter().map(of_json).sum::<u64>())
                }
                None => of_value(value),
            },
            Value::Map(map) => match map.as_json() {
                Some((members, _)) => {
                    let place = (std::ptr::from_ref(members).addr(), false);
                    let weigh = |(name, value): (&String, &Json)| of_text(name.len()) + of_json(value);
                    *self.0.entry(place).or_insert_with(|| 1 + members.iter().map(weigh).sum::<u64>())
                }
                None => of_value(value),
            },
            Value::Optional(Some(value)) => self.of(value).saturating_add(1),
            other => of_value(other),
        }
    }

    /// Whether a value that has just been computed is light enough. What is JSON as a whole always is.
    pub(crate) fn admit(&mut self, value: &mut Value<'_>) -> bool {
        let weight = match value {
            Value::List(list) => list.weigh(self),
            Value::Map(map) => map.weigh(self),
            Value::Struct(object) => {
                Weighed::weigh(&mut object.fields, self);
                Some(object.fields.weight)
            }
            _ => None,
        };
        weight.is_none_or(|weight| weight <= LARGEST_WEIGHT)
    }
}
