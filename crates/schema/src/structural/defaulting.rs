//! Puts defaults where nothing is, and removes nulls that are no values.

use serde_json::{Map, Value};

use super::{Structural, object_meta, pruning};

/// Puts the schema's defaults where a value is missing, or is null and must not be.
/// [`drop_nulls`] has left the nulls that have a default.
pub fn apply(value: &mut Value, schema: &Structural) {
    match value {
        Value::Object(entries) => apply_to_object(entries, schema),
        Value::Array(items) => {
            let Some(schema) = &schema.items else { return };
            for item in items {
                replace_null(item, schema);
                apply(item, schema);
            }
        }
        _ => {}
    }
}

fn apply_to_object(entries: &mut Map<String, Value>, schema: &Structural) {
    for (name, property) in &schema.properties {
        let Some(default) = &property.generic.default else { continue };
        match entries.get_mut(name) {
            Some(Value::Null) if property.generic.nullable => {}
            Some(null @ Value::Null) => *null = default.clone(),
            Some(_) => {}
            None => {
                entries.insert(name.clone(), default.clone());
            }
        }
    }
    for (name, value) in entries {
        if let Some(property) = schema.properties.get(name) {
            apply(value, property);
        } else if let Some(schema) = schema.additional_schema() {
            replace_null(value, schema);
            apply(value, schema);
        }
    }
}

fn replace_null(value: &mut Value, schema: &Structural) {
    if let (Value::Null, false, Some(default)) = (&value, schema.generic.nullable, &schema.generic.default) {
        *value = default.clone();
    }
}

/// Removes nulls from objects where the schema neither allows them nor has a default instead.
pub fn drop_nulls(value: &mut Value, schema: Option<&Structural>) {
    match value {
        Value::Object(entries) => entries.retain(|name, value| {
            let schema = schema.and_then(|s| s.field(name));
            if value.is_null() && schema.is_some_and(Structural::drops_null) {
                return false;
            }
            drop_nulls(value, schema);
            true
        }),
        Value::Array(items) => {
            let schema = schema.and_then(|s| s.items.as_deref());
            items.iter_mut().for_each(|item| drop_nulls(item, schema));
        }
        _ => {}
    }
}

/// Where in an object a default ends up.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Child(String),
    Index,
}

/// An object that has `focus` at the given place and nothing else.
pub(super) fn surround(steps: &[Step], focus: Value) -> Value {
    steps.iter().rev().fold(focus, |inner, step| match step {
        Step::Child(name) => Value::Object(Map::from_iter([(name.clone(), inner)])),
        Step::Index => Value::Array(vec![inner]),
    })
}

fn take_focus(steps: &[Step], object: Value) -> Option<Value> {
    steps.iter().try_fold(object, |value, step| match (step, value) {
        (Step::Child(name), Value::Object(mut entries)) => entries.remove(name),
        (Step::Index, Value::Array(items)) => items.into_iter().next(),
        _ => None,
    })
}

/// Prunes the defaults themselves, by the schema and by what metadata knows.
pub fn prune_defaults(root: &mut Structural) -> Result<(), String> {
    let whole = root.clone();
    prune_below(root, &whole, &mut Vec::new())
}

fn prune_below(schema: &mut Structural, root: &Structural, steps: &mut Vec<Step>) -> Result<(), String> {
    if let Some(default) = schema.generic.default.take() {
        let mut object = surround(steps, default);
        if !object.is_object() {
            return Err(
                "failed to prune default value: object root default value must be of object type".into()
            );
        }
        object_meta::coerce(&mut object, Some(root), true, object_meta::Malformed::Drop, false)
            .map_err(|e| format!("failed to prune default value: {e}"))?;
        pruning::prune(&mut object, Some(root), true, false);
        schema.generic.default = take_focus(steps, object);
    }
    if let Some(super::Additional::Schema(additional)) = &mut schema.additional {
        steps.push(Step::Child("*".to_owned()));
        prune_below(additional, root, steps)?;
        steps.pop();
    }
    if let Some(items) = &mut schema.items {
        steps.push(Step::Index);
        prune_below(items, root, steps)?;
        steps.pop();
    }
    for (name, property) in &mut schema.properties {
        steps.push(Step::Child(name.clone()));
        prune_below(property, root, steps)?;
        steps.pop();
    }
    Ok(())
}
