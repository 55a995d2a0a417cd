//! What the creator of an object owns, written down at once.
//!
//! A create compares with nothing, so that there is no need for sets: the `FieldsV1` form comes out of
//! one walk through the object. The general way, over [`super::typed::compare`], gives the same; a test
//! holds them together.

use serde_json::{Map, Value};

use super::managers::STRIPPED;
use super::set::{Element, Set};
use super::typed::{Form, Slot, element_of, empty_or_null, items_of};

/// The fields of a new object in `FieldsV1` form, but for those that are nobody's and the `ignored`
/// ones. `zero` is the zero value of its type. `None` where a list holds an item twice: that needs the
/// general way.
pub(super) fn fields(zero: &Value, new: &Value, slot: Slot<'_>, ignored: &Set) -> Option<Value> {
    let mut fields = match walk(Some(zero), new, slot)? {
        Some(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    remove(&mut fields, &["f:apiVersion"]);
    remove(&mut fields, &["f:kind"]);
    if let Some(Value::Object(metadata)) = fields.get_mut("f:metadata") {
        metadata.remove(".");
    }
    for name in STRIPPED {
        remove(&mut fields, &["f:metadata", &format!("f:{name}")]);
    }
    for path in ignored.paths() {
        let keys: Vec<String> = path.iter().map(Element::encode).collect();
        remove(&mut fields, &keys.iter().map(String::as_str).collect::<Vec<_>>());
    }
    Some(Value::Object(fields))
}

/// Removes what is at a path, and what is above it if nothing else is left there.
fn remove(fields: &mut Map<String, Value>, path: &[&str]) {
    match path {
        [] => {}
        [last] => {
            fields.remove(*last);
        }
        [first, rest @ ..] => {
            let Some(Value::Object(below)) = fields.get_mut(*first) else { return };
            let leaf = below.is_empty();
            remove(below, rest);
            if below.is_empty() && !leaf {
                fields.remove(*first);
            }
        }
    }
}

/// The outer `None` means that the general way must be gone; the inner one that nothing differs.
fn walk(zero: Option<&Value>, new: &Value, slot: Slot<'_>) -> Option<Option<Value>> {
    if zero == Some(new) {
        return Some(None);
    }
    let form = match slot.form() {
        Form::Deduced if new.is_object() => Form::Map,
        Form::Deduced => Form::AtomicList,
        form => form,
    };
    let nothing = empty_or_null(zero) && empty_or_null(Some(new));
    let mut below = Map::new();
    let granular = match (form, new) {
        _ if nothing => false,
        (Form::Map, Value::Object(entries)) => {
            let zero = zero.and_then(Value::as_object);
            for (name, value) in entries {
                if slot.omits(name, value) {
                    continue;
                }
                let (field, _) = slot.field_or_untyped(name);
                if let Some(found) = walk(zero.and_then(|z| z.get(name)), value, field)? {
                    below.insert(format!("f:{name}"), found);
                }
            }
            true
        }
        (Form::List(list), Value::Array(items)) if zero.is_none_or(|z| empty_or_null(Some(z))) => {
            for item in items {
                let Ok(element) = element_of(list, item) else { continue };
                let found = walk(None, item, items_of(list))?.unwrap_or_else(|| Value::Object(Map::new()));
                if below.insert(element.encode(), found).is_some() {
                    return None;
                }
            }
            true
        }
        (Form::Map, _) => zero.is_some_and(Value::is_object),
        (Form::List(_), _) => zero.is_some_and(Value::is_array),
        _ => false,
    };
    let own = zero.is_none() || !granular;
    Some(match (own, below.is_empty()) {
        (false, true) => None,
        (true, false) => {
            below.insert(".".to_owned(), Value::Object(Map::new()));
            Some(Value::Object(below))
        }
        _ => Some(Value::Object(below)),
    })
}
