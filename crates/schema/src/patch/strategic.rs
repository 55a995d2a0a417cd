//! Strategic merge patch: a merge patch whose lists merge by the keys of the type, with directives
//! (`$patch`, `$retainKeys`, `$deleteFromPrimitiveList/…`, `$setElementOrder/…`).
//!
//! Follows `k8s.io/apimachinery/pkg/util/strategicpatch` step by step, since clients depend on the
//! order of lists that it leaves behind.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{PatchError, drop_nulls};
use crate::gotext;
use crate::types::{PatchStrategy, Shape, Type};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList";
const SET_ORDER: &str = "$setElementOrder";

type Object = Map<String, Value>;

/// Applies a strategic merge patch to an object of a type.
pub fn strategic(current: &Value, patch: &Value, ty: &Type) -> Result<Value, PatchError> {
    let Value::Object(patch) = patch else {
        return Err(PatchError::BadRequest(super::not_an_object(patch)));
    };
    let original = current.as_object().cloned().unwrap_or_default();
    merge_map(original, patch.clone(), Some(ty)).map(Value::Object)
}

/// The type and strategy of a field; `None` where the type knows no such field, which is then
/// treated as having no strategy.
fn field_of<'t>(ty: Option<&'t Type>, name: &str) -> (Option<&'t Type>, PatchStrategy) {
    match ty.map(Type::shape) {
        Some(Shape::Struct(body)) => match body.field(name) {
            Some(field) => (Some(&*field.ty), field.patch.clone().unwrap_or_default()),
            None => (None, PatchStrategy::default()),
        },
        Some(Shape::Map(map)) => (Some(&*map.values), PatchStrategy::default()),
        _ => (None, PatchStrategy::default()),
    }
}

fn items_of(ty: Option<&Type>) -> Option<&Type> {
    match ty?.shape() {
        Shape::List(list) => Some(&list.items),
        _ => None,
    }
}

fn merge_map(mut original: Object, mut patch: Object, ty: Option<&Type>) -> Result<Object, PatchError> {
    match patch.get(PATCH).and_then(Value::as_str) {
        Some("replace") => {
            patch.remove(PATCH);
            return Ok(patch);
        }
        Some("delete") => return Ok(Object::new()),
        _ if patch.contains_key(PATCH) => return Err(bad_patch_type(&patch)),
        _ => {}
    }
    retain_keys(&mut original, &mut patch)?;
    merge_ordered_lists(&mut original, &mut patch, ty)?;
    for (key, mut value) in patch {
        let (key, deletes) = match key.strip_prefix(DELETE_FROM) {
            Some(rest) => match rest.strip_prefix('/') {
                Some(name) => (name.to_string(), true),
                None => return Err(PatchError::BadRequest("invalid patch format of primitive list".into())),
            },
            None => (key, false),
        };
        if value.is_null() {
            original.remove(&key);
            continue;
        }
        let same_kind = original.get(&key).is_some_and(|old| gotext::kind(old) == gotext::kind(&value));
        if !same_kind {
            if !deletes {
                drop_nulls(&mut value);
                keep_or_remove(&mut original, key, value);
            }
            continue;
        }
        let (field, strategy) = field_of(ty, &key);
        match (original.get_mut(&key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => {
                let merged = if strategy.replace { new } else { merge_map(std::mem::take(old), new, field)? };
                original.insert(key, Value::Object(merged));
            }
            (Some(Value::Array(old)), Value::Array(new)) => {
                let merged = if strategy.merge || deletes {
                    merge_list(
                        std::mem::take(old),
                        new,
                        items_of(field),
                        strategy.merge_key.as_deref(),
                        deletes,
                    )?
                } else {
                    new
                };
                original.insert(key, Value::Array(merged));
            }
            (_, value) => keep_or_remove(&mut original, key, value),
        }
    }
    Ok(original)
}

fn keep_or_remove(original: &mut Object, key: String, value: Value) {
    match without_directives(value) {
        Some(value) => {
            original.insert(key, value);
        }
        None => {
            original.remove(&key);
        }
    }
}

fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<(), PatchError> {
    let Some(keys) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let invalid = || PatchError::BadRequest("invalid patch format of retainKeys".into());
    let Value::Array(keys) = keys else { return Err(invalid()) };
    let keys: BTreeSet<&str> = keys.iter().filter_map(Value::as_str).collect();
    let retained = |name: &str| keys.contains(name);
    for (key, value) in patch.iter() {
        if !value.is_null() && !key.starts_with(DELETE_FROM) && !key.starts_with(SET_ORDER) && !retained(key)
        {
            return Err(invalid());
        }
    }
    original.retain(|key, _| retained(key));
    Ok(())
}

/// Merges the lists that come with a `$setElementOrder` and puts them in that order.
fn merge_ordered_lists(
    original: &mut Object,
    patch: &mut Object,
    ty: Option<&Type>,
) -> Result<(), PatchError> {
    let directives: Vec<String> = patch.keys().filter(|k| k.starts_with(SET_ORDER)).cloned().collect();
    for directive in directives {
        let bad_format = || PatchError::BadRequest("invalid patch format of setElementOrder list".into());
        let order = match patch.remove(&directive) {
            Some(Value::Array(order)) => order,
            other => return Err(bad_arg("[]interface {}", &other.unwrap_or_default())),
        };
        let key =
            directive.strip_prefix(SET_ORDER).and_then(|k| k.strip_prefix('/')).ok_or_else(bad_format)?;
        let old = list_or_nothing(original.get(key))?;
        let new = list_or_nothing(patch.get(key))?;
        if let Some((ty, body)) = ty.and_then(|ty| Some((ty, ty.as_struct()?)))
            && body.field(key).is_none()
        {
            let name = ty.go_short();
            let text = format!("unable to find api field in struct {name} for the json field \"{key}\"");
            return Err(PatchError::Internal(text));
        }
        let (field, strategy) = field_of(ty, key);
        let merge_key = strategy.merge_key.as_deref();
        check_order(new.as_deref().unwrap_or_default(), &order, merge_key)?;
        let merged = match (&old, &new) {
            (Some(old), None) => old.clone(),
            (None, Some(new)) => new.iter().cloned().filter_map(without_directives).collect(),
            (Some(old), Some(new)) if strategy.merge => {
                merge_list(old.clone(), new.clone(), items_of(field), merge_key, false)?
            }
            (Some(_), Some(new)) => new.clone(),
            (None, None) => continue,
        };
        let old = old.unwrap_or_default();
        let maps = element_kind(&old, &new.unwrap_or_default())? == "object";
        let (in_order, others) = partition(merged, &order, merge_key)?;
        if maps
            && let Some(item) = order.iter().find(|item| item.get(merge_key.unwrap_or_default()).is_none())
        {
            return Err(no_merge_key(item, merge_key.unwrap_or_default()));
        }
        let both = in_server_order(in_order, others, &order, &old, merge_key.filter(|_| maps));
        original.insert(key.to_string(), Value::Array(both));
        patch.remove(key);
    }
    Ok(())
}

fn list_or_nothing(value: Option<&Value>) -> Result<Option<Vec<Value>>, PatchError> {
    match value {
        None => Ok(None),
        Some(Value::Array(items)) => Ok(Some(items.clone())),
        Some(other) => Err(bad_arg("[]interface {}", other)),
    }
}

/// The patch list must be a subsequence of the order list.
fn check_order(patch: &[Value], order: &[Value], merge_key: Option<&str>) -> Result<(), PatchError> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut wanted = order.iter();
    for item in patch.iter().filter(|item| item.get(PATCH).is_none()) {
        let key = key_value(item, merge_key)?;
        let mut found = false;
        for candidate in wanted.by_ref() {
            if key_value(candidate, merge_key)? == key {
                found = true;
                break;
            }
        }
        if !found {
            return Err(PatchError::Internal(format!(
                "The order in patch list:\n{}\n doesn't match {SET_ORDER} list:\n{}\n",
                gotext::print(&Value::Array(patch.to_vec())),
                gotext::print(&Value::Array(order.to_vec()))
            )));
        }
    }
    Ok(())
}

/// What identifies an item: the value of the merge key, or the item itself.
fn key_value<'v>(item: &'v Value, merge_key: Option<&str>) -> Result<&'v Value, PatchError> {
    let Some(merge_key) = merge_key else { return Ok(item) };
    match item {
        Value::Object(entries) => entries.get(merge_key).ok_or_else(|| no_merge_key(item, merge_key)),
        other => Err(bad_arg("map[string]interface {}", other)),
    }
}

/// A key as a text by which it is found: lists are as long as a client likes, too long to compare
/// every item with every other.
fn key_text(key: &Value) -> String {
    key.to_string()
}

/// Where the keys of a list first occur.
fn places(items: &[Value], merge_key: Option<&str>) -> BTreeMap<String, usize> {
    let mut places = BTreeMap::new();
    for (place, item) in items.iter().enumerate() {
        if let Ok(key) = key_value(item, merge_key) {
            places.entry(key_text(key)).or_insert(place);
        }
    }
    places
}

fn merge_list(
    original: Vec<Value>,
    patch: Vec<Value>,
    items: Option<&Type>,
    merge_key: Option<&str>,
    deletes: bool,
) -> Result<Vec<Value>, PatchError> {
    if original.is_empty() && patch.is_empty() {
        return Ok(original);
    }
    if element_kind(&original, &patch)? != "object" {
        if deletes {
            let deleted = places(&patch, None);
            return Ok(original.into_iter().filter(|item| !deleted.contains_key(&key_text(item))).collect());
        }
        let merged = deduplicated(original.iter().chain(&patch).cloned().collect());
        let (in_patch, others) = partition(merged, &patch, None)?;
        return Ok(in_server_order(in_patch, others, &patch, &original, None));
    }
    let Some(merge_key) = merge_key else {
        let name = items.map_or("", Type::go_short);
        return Err(PatchError::Internal(format!("cannot merge lists without merge key for {name}")));
    };
    let (original, patch) = apply_item_directives(original, patch, merge_key)?;
    let mut merged = original.clone();
    let mut known = places(&merged, Some(merge_key));
    for item in &patch {
        let key = key_text(key_value(item, Some(merge_key))?);
        match known.get(&key).and_then(|place| merged.get_mut(*place)) {
            Some(slot) => {
                let (Value::Object(old), Value::Object(new)) = (slot.take(), item.clone()) else {
                    return Err(bad_arg("map[string]interface {}", item));
                };
                *slot = Value::Object(merge_map(old, new, items)?);
            }
            None => {
                known.insert(key, merged.len());
                merged.push(item.clone());
            }
        }
    }
    let (in_patch, others) = partition(merged, &patch, Some(merge_key))?;
    Ok(in_server_order(in_patch, others, &patch, &original, Some(merge_key)))
}

/// Carries out the items with `$patch`; returns what is left of both lists.
fn apply_item_directives(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    merge_key: &str,
) -> Result<(Vec<Value>, Vec<Value>), PatchError> {
    let mut replace = false;
    let mut plain = Vec::new();
    let mut deleted = BTreeSet::new();
    for item in patch {
        match item.get(PATCH) {
            None => plain.push(item),
            Some(Value::String(directive)) if directive == "delete" => {
                deleted.insert(key_text(key_value(&item, Some(merge_key))?));
            }
            Some(Value::String(directive)) if directive == "replace" => replace = true,
            Some(Value::String(directive)) if directive == "merge" => {
                return Err(PatchError::Internal(
                    "merging lists cannot yet be specified in the patch".into(),
                ));
            }
            Some(_) => return Err(bad_patch_type(item.as_object().unwrap_or(&Object::new()))),
        }
    }
    if !deleted.is_empty() {
        original.retain(|old| old.get(merge_key).is_none_or(|key| !deleted.contains(&key_text(key))));
    }
    Ok(if replace { (Vec::new(), plain) } else { (original, plain) })
}

/// Go's kind of the elements, which must all be of one.
fn element_kind(original: &[Value], patch: &[Value]) -> Result<&'static str, PatchError> {
    let mut kinds = original.iter().chain(patch).map(gotext::kind);
    let Some(first) = kinds.next() else {
        return Err(PatchError::Internal("no elements in any of the given slices".into()));
    };
    if first == "array" {
        return Err(PatchError::Unprocessable("lists of lists are not supported".into()));
    }
    if kinds.any(|kind| kind != first) {
        let lists = Value::Array(vec![Value::Array(original.to_vec()), Value::Array(patch.to_vec())]);
        return Err(PatchError::Internal(format!(
            "list element types are not identical: {}",
            gotext::print(&lists)
        )));
    }
    Ok(first)
}

/// Upstream's deduplication: a duplicate's place is taken by the last item.
fn deduplicated(mut items: Vec<Value>) -> Vec<Value> {
    let mut texts: Vec<String> = items.iter().map(key_text).collect();
    let mut places: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for (place, text) in texts.iter().enumerate() {
        places.entry(text.clone()).or_default().insert(place);
    }
    let mut i = 0;
    while i < items.len() {
        while let Some(again) = places.get(&texts[i]).and_then(|at| at.range(i + 1..).next().copied()) {
            let last = items.len() - 1;
            if let Some(at) = places.get_mut(&texts[i]) {
                at.remove(&again);
            }
            if again != last
                && let Some(at) = places.get_mut(&texts[last])
            {
                at.remove(&last);
                at.insert(again);
            }
            items.swap_remove(again);
            texts.swap_remove(again);
        }
        i += 1;
    }
    items
}

/// Splits items into those that occur in `by` and the others.
fn partition(
    items: Vec<Value>,
    by: &[Value],
    merge_key: Option<&str>,
) -> Result<(Vec<Value>, Vec<Value>), PatchError> {
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    let wanted = places(by, merge_key);
    if let Some(odd) = by.iter().position(|item| merge_key.is_some() && !item.is_object())
        && !items.is_empty()
    {
        return Err(PatchError::Internal(format!("value for key {odd} is not a map")));
    }
    for item in items {
        let found = wanted.contains_key(&key_text(key_value(&item, merge_key)?));
        if found { inside.push(item) } else { outside.push(item) }
    }
    Ok((inside, outside))
}

/// Patch items in the patch's order, the server's in the server's, interleaved by the latter.
fn in_server_order(
    mut patch: Vec<Value>,
    mut server: Vec<Value>,
    patch_order: &[Value],
    server_order: &[Value],
    merge_key: Option<&str>,
) -> Vec<Value> {
    let (patch_order, server_order) = (places(patch_order, merge_key), places(server_order, merge_key));
    let place = |order: &BTreeMap<String, usize>, item: &Value| {
        order.get(&key_text(key_value(item, merge_key).ok()?)).copied()
    };
    patch.sort_by_cached_key(|item| place(&patch_order, item));
    server.sort_by_cached_key(|item| place(&server_order, item));
    let mut all = Vec::with_capacity(patch.len() + server.len());
    let (mut patch, mut server) = (patch.into_iter().peekable(), server.into_iter().peekable());
    while let (Some(left), Some(right)) = (server.peek(), patch.peek()) {
        let server_first = match (place(&server_order, left), place(&server_order, right)) {
            (Some(left), Some(right)) => left < right,
            _ => false,
        };
        all.extend(if server_first { server.next() } else { patch.next() });
    }
    all.extend(server);
    all.extend(patch);
    all
}

/// The value without the parts that are directives; `None` if it is one itself.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(entries) => {
            if entries.contains_key(PATCH) {
                return None;
            }
            let kept = entries.into_iter().filter_map(|(k, v)| Some((k, without_directives(v)?)));
            Some(Value::Object(kept.collect()))
        }
        Value::Array(items) => Some(Value::Array(items.into_iter().filter_map(without_directives).collect())),
        other => Some(other),
    }
}

fn bad_patch_type(patch: &Object) -> PatchError {
    // Upstream formats it with `%s`.
    let directive = match patch.get(PATCH) {
        None | Some(Value::Null) => "%!s(<nil>)".to_owned(),
        Some(Value::Bool(value)) => format!("%!s(bool={value})"),
        Some(Value::Number(number)) if number.is_f64() => format!("%!s(float64={number})"),
        Some(Value::Number(number)) => format!("%!s(int64={number})"),
        Some(other) => gotext::print(other),
    };
    let map = gotext::print(&Value::Object(patch.clone()));
    PatchError::Internal(format!("unknown patch type: {directive} in map: {map}"))
}

fn no_merge_key(item: &Value, merge_key: &str) -> PatchError {
    let map = gotext::print(item);
    PatchError::Internal(format!("map: {map} does not contain declared merge key: {merge_key}"))
}

fn bad_arg(expected: &str, actual: &Value) -> PatchError {
    let actual = match actual {
        Value::Null => "%!s(<nil>)",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    };
    PatchError::Internal(format!("expected a {expected}, but received a {actual}"))
}
