//! Which part of an old object a part of the new one was: what did not change need not satisfy
//! rules that came later (KEP-4008).

use std::collections::BTreeMap;

use serde_json::{Number, Value};

use super::Structural;

/// A value, what it was before, and the schema by which the two were matched.
#[derive(Clone, Copy, Debug)]
pub struct Correlated<'a> {
    new: &'a Value,
    old: &'a Value,
    schema: &'a Structural,
}

impl<'a> Correlated<'a> {
    /// Two versions of one object.
    pub fn new(new: &'a Value, old: &'a Value, schema: &'a Structural) -> Self {
        Correlated { new, old, schema }
    }

    /// A field that both have and the schema knows.
    pub fn key(&self, name: &str) -> Option<Correlated<'a>> {
        let (new, old) = (self.new.as_object()?.get(name)?, self.old.as_object()?.get(name)?);
        Some(Correlated { new, old, schema: self.schema.field(name)? })
    }

    /// How items of this list are found in the old one.
    pub fn items(&self) -> CorrelatedItems<'a> {
        let list = match self.schema.extensions.list_type.as_deref() {
            Some("map") if self.schema.generic.r#type == "array" => {
                self.old.as_array().map(|old| MapList::new(old, &self.schema.extensions.list_map_keys))
            }
            _ => None,
        };
        CorrelatedItems { list, schema: self.schema.items.as_deref() }
    }

    /// Whether nothing changed. As upstream, what the schema does not know counts as changed, and
    /// lists of type `map` may be reordered.
    pub fn unchanged(&self) -> bool {
        match (self.new, self.old) {
            (Value::Array(new), Value::Array(old)) => {
                if new.len() != old.len() {
                    return false;
                }
                let items = self.items();
                for item in new {
                    match items.get(item) {
                        Some(item) if item.unchanged() => {}
                        None if items.list.is_none() => return new == old,
                        _ => return false,
                    }
                }
                true
            }
            (Value::Object(new), Value::Object(old)) => {
                new.len() == old.len() && new.keys().all(|key| self.key(key).is_some_and(|c| c.unchanged()))
            }
            (new, old) => new == old,
        }
    }
}

/// The old items of a list of type `map`, by their keys.
pub struct CorrelatedItems<'a> {
    list: Option<MapList<'a>>,
    schema: Option<&'a Structural>,
}

impl<'a> CorrelatedItems<'a> {
    /// The item that had the same keys.
    pub fn get(&self, item: &'a Value) -> Option<Correlated<'a>> {
        let old = self.list.as_ref()?.get(item)?;
        Some(Correlated { new: item, old, schema: self.schema? })
    }
}

/// A list of type `map`, indexed by the keys of its items; of items with equal keys, the first.
pub struct MapList<'a> {
    keys: &'a [String],
    by_key: BTreeMap<String, &'a Value>,
}

impl<'a> MapList<'a> {
    /// Indexes a list; without keys nothing is found in it.
    pub fn new(items: &'a [Value], keys: &'a [String]) -> Self {
        let mut by_key = BTreeMap::new();
        if !keys.is_empty() {
            for item in items {
                if let Some(key) = composite_key(item, keys) {
                    by_key.entry(key).or_insert(item);
                }
            }
        }
        MapList { keys, by_key }
    }

    /// The item with the same keys.
    pub fn get(&self, item: &Value) -> Option<&'a Value> {
        if self.by_key.is_empty() {
            return None;
        }
        self.by_key.get(&composite_key(item, self.keys)?).copied()
    }
}

/// One text for the keys of an item, if all are there and scalars.
fn composite_key(item: &Value, keys: &[String]) -> Option<String> {
    let entries = item.as_object()?;
    let mut composite = String::new();
    for key in keys {
        composite.push('\0');
        match entries.get(key)? {
            Value::String(text) => composite.push_str(&crate::field::quote(text)),
            Value::Bool(b) => composite.push_str(if *b { "true" } else { "false" }),
            Value::Number(n) if n.is_f64() && keys.len() > 1 => {
                composite.push_str(&format!("{:.6}", n.as_f64().unwrap_or_default()));
            }
            Value::Number(n) => composite.push_str(&Number::to_string(n)),
            Value::Null | Value::Array(_) | Value::Object(_) => return None,
        }
    }
    Some(composite)
}
