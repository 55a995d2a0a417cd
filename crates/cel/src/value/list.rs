//! Lists.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Key, Str, Value, Weighed, Weights, json, of_value};
use crate::decl::{ListType, Schema};
use crate::stdlib::format_value;

/// A list: of JSON that is converted element by element, or of values.
#[derive(Clone, Debug)]
pub struct List<'a> {
    pub(super) items: Items<'a>,
    /// The schema of the list, from which come the types of the elements, and how `==` and `+` work.
    pub(super) schema: Option<&'a Schema>,
}

#[derive(Clone, Debug)]
pub(super) enum Items<'a> {
    Json(&'a [serde_json::Value]),
    Values(Arc<Weighed<Vec<Value<'a>>>>),
}

impl<'a> From<Vec<Value<'a>>> for List<'a> {
    fn from(items: Vec<Value<'a>>) -> Self {
        List { items: Items::Values(Arc::new(items.into())), schema: None }
    }
}

impl<'a> List<'a> {
    /// The number of elements.
    pub fn len(&self) -> usize {
        match &self.items {
            Items::Json(items) => items.len(),
            Items::Values(items) => items.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The element at an index.
    pub fn get(&self, index: usize) -> Option<Value<'a>> {
        match &self.items {
            Items::Json(items) => {
                let item = items.get(index)?;
                Some(match self.schema.and_then(|schema| schema.items.as_deref()) {
                    Some(schema) => json::typed(item, schema),
                    None => json::untyped(item),
                })
            }
            Items::Values(items) => items.get(index).cloned(),
        }
    }

    /// The elements in order.
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + '_ {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// Whether an element equals the value.
    pub fn contains(&self, value: &Value<'a>) -> bool {
        self.iter().any(|item| *value == item)
    }

    /// The elements, if they came as JSON.
    pub(super) fn as_json(&self) -> Option<&'a [serde_json::Value]> {
        match &self.items {
            Items::Json(items) => Some(items),
            Items::Values(_) => None,
        }
    }

    /// The weight of a list that was computed.
    pub(crate) fn weight(&self) -> Option<u64> {
        match &self.items {
            Items::Json(_) => None,
            Items::Values(items) => Some(items.weight()),
        }
    }

    /// Weighs a list that has just been computed.
    pub(super) fn weigh(&mut self, weights: &mut Weights) -> Option<u64> {
        if let Items::Values(items) = &mut self.items {
            Weighed::weigh(items, weights);
        }
        self.weight()
    }

    /// Appends a value of the given weight; the elements are copied only if they are shared.
    pub(crate) fn push(&mut self, value: Value<'a>, weight: u64) {
        if let Items::Json(_) = self.items {
            self.items = Items::Values(Arc::new(self.iter().collect()));
        }
        if let Items::Values(items) = &mut self.items {
            Arc::make_mut(items).adding(weight).push(value);
        }
    }

    /// `self + other`. Sets are united; of map lists, the elements of `other` replace those of the same key.
    pub(crate) fn concat(mut self, other: &List<'a>) -> List<'a> {
        match self.list_type() {
            ListType::Atomic => {
                for item in other.iter() {
                    self.push_light(item);
                }
            }
            ListType::Set => {
                let mut known: BTreeSet<_> = self.iter().map(|item| self.identity(&item)).collect();
                for item in other.iter() {
                    if known.insert(self.identity(&item)) {
                        self.push_light(item);
                    }
                }
            }
            ListType::Map => return self.merge(other),
        }
        self
    }

    /// Appends a value whose weight will be found out when the list is admitted.
    fn push_light(&mut self, value: Value<'a>) {
        let weight = of_value(&value);
        self.push(value, weight);
    }

    fn merge(self, other: &List<'a>) -> List<'a> {
        let mut items: Vec<Value<'a>> = self.iter().collect();
        let mut places = self.places();
        for item in other.iter() {
            match places.entry(self.identity(&item)) {
                Entry::Occupied(place) => items[*place.get()] = item,
                Entry::Vacant(place) => {
                    place.insert(items.len());
                    items.push(item);
                }
            }
        }
        List { items: Items::Values(Arc::new(items.into())), schema: self.schema }
    }

    /// The indices of the elements of a set or map list by what identifies them.
    pub(super) fn places(&self) -> BTreeMap<Vec<Key<'a>>, usize> {
        self.iter().enumerate().map(|(index, item)| (self.identity(&item), index)).collect()
    }

    pub(super) fn list_type(&self) -> ListType {
        self.schema.map(|schema| schema.list_type).unwrap_or_default()
    }

    /// What identifies an element: of a set itself, of a map list the values of its keys.
    pub(super) fn identity(&self, item: &Value<'a>) -> Vec<Key<'a>> {
        match (self.schema, item) {
            (Some(schema), Value::Map(map)) if schema.list_type == ListType::Map => {
                let parts =
                    schema.list_map_keys.iter().map(|key| part(&map.property(key).unwrap_or(Value::Null)));
                parts.collect()
            }
            _ => vec![part(item)],
        }
    }
}

/// A value, usually a scalar, as something that can be looked up.
fn part<'a>(value: &Value<'a>) -> Key<'a> {
    Key::matching(value).unwrap_or_else(|| Key::String(Str::from(format!("\0{}", format_value(value)))))
}
