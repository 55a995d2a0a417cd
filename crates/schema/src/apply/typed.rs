//! Values seen through their type: validation, field sets, comparison, merging, removal.
//!
//! Follows `typed` of kubernetes-sigs/structured-merge-diff; what has no type is treated as its
//! `__untyped_deduced_`: maps merge key by key, lists are atomic.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map as JsonMap, Value};

use super::set::{Element, Scalar, Set};
use crate::gotext;
use crate::types::{Field, List, ListMerge, Shape, Type};

/// A place in an object: its type and whether the field makes it atomic.
#[derive(Clone, Copy)]
pub(super) struct Slot<'t> {
    pub(super) ty: Option<&'t Type>,
    atomic: bool,
    /// Whether the field merges although its type is atomic.
    granular: bool,
}

/// How a value merges.
pub(super) enum Form<'t> {
    Scalar(&'static str),
    Map,
    List(&'t List),
    AtomicMap,
    AtomicList,
    /// Whatever it is.
    Deduced,
}

impl<'t> Slot<'t> {
    pub(super) fn of(ty: &'t Type) -> Self {
        Self { ty: Some(ty), atomic: false, granular: false }
    }

    fn untyped() -> Self {
        Self { ty: None, atomic: false, granular: false }
    }

    pub(super) fn form(&self) -> Form<'t> {
        match self.ty.map(Type::shape) {
            None | Some(Shape::Any | Shape::SchemaOr(_)) => Form::Deduced,
            Some(Shape::Struct(s)) if self.atomic || s.atomic && !self.granular => Form::AtomicMap,
            Some(Shape::Map(m)) if self.atomic || m.atomic => Form::AtomicMap,
            // Upstream holds the bytes and does not look into them.
            Some(Shape::Raw) => Form::AtomicMap,
            Some(Shape::Struct(_) | Shape::Map(_)) => Form::Map,
            Some(Shape::List(list)) if list.merge == ListMerge::Atomic || self.atomic => Form::AtomicList,
            Some(Shape::List(list)) => Form::List(list),
            Some(Shape::String(_) | Shape::Bytes) => Form::Scalar("string"),
            Some(Shape::Bool) => Form::Scalar("boolean"),
            Some(Shape::Int32 | Shape::Int64 | Shape::Float) => Form::Scalar("numeric"),
            Some(Shape::Time | Shape::MicroTime | Shape::Duration | Shape::Quantity | Shape::IntOrString) => {
                Form::Scalar("untyped")
            }
        }
    }

    /// The slot of a field or key; `None` where the type knows none. The flag says whether the
    /// name is declared.
    fn field(&self, name: &str) -> Option<(Slot<'t>, bool)> {
        match self.ty.map(Type::shape) {
            Some(Shape::Struct(body)) => match body.field(name) {
                Some(field) => {
                    // A PersistentVolume's claim is the only field of upstream's that is marked so.
                    let granular = name == "claimRef";
                    Some((Slot { ty: Some(&*field.ty), atomic: field.atomic, granular }, true))
                }
                None if body.preserve_unknown => Some((Slot::untyped(), false)),
                None => None,
            },
            Some(Shape::Map(map)) => Some((Slot::of(&map.values), false)),
            _ => Some((Slot::untyped(), false)),
        }
    }

    /// Whether Go leaves the value out: an empty list or map that has not been dropped yet.
    pub(super) fn omits(&self, name: &str, value: &Value) -> bool {
        let empty = match value {
            Value::Array(items) => items.is_empty(),
            Value::Object(entries) => entries.is_empty(),
            _ => false,
        };
        match self.ty.map(Type::shape) {
            Some(Shape::Struct(body)) if empty => body.field(name).is_some_and(|field| field.omits(value)),
            _ => false,
        }
    }

    /// As `field`; what is not declared has no type.
    pub(super) fn field_or_untyped(&self, name: &str) -> (Slot<'t>, bool) {
        self.field(name).unwrap_or((Slot::untyped(), false))
    }
}

pub(super) fn items_of(list: &List) -> Slot<'_> {
    Slot::of(&list.items)
}

/// The path element of a list's item.
pub(super) fn element_of(list: &List, item: &Value) -> Result<Element, String> {
    let ListMerge::Map(keys) = &list.merge else {
        return match item {
            Value::Object(_) => Err("associative list without keys has an element that's a map type".into()),
            Value::Null => Err("associative list without keys has an element that's an explicit null".into()),
            other => Scalar::of(other)
                .map(Element::Value)
                .ok_or_else(|| "not supported: associative list with lists as elements".into()),
        };
    };
    let entries = match item {
        Value::Object(entries) => entries,
        Value::Null => return Err("associative list with keys may not have a null element".into()),
        _ => return Err("associative list with keys may not have non-map elements".into()),
    };
    let mut found = Vec::with_capacity(keys.len());
    for key in keys {
        let scalar = match entries.get(key) {
            Some(value) => Scalar::of(value),
            None => list.items.field(key).and_then(Field::key_default).and_then(|d| Scalar::of(&d)),
        };
        if let Some(scalar) = scalar {
            found.push((key.clone(), scalar));
        }
    }
    if found.is_empty() {
        let names: Vec<String> = keys.iter().map(|k| gotext::quote(k)).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
            names.join(" ")
        ));
    }
    found.sort();
    Ok(Element::Key(found))
}

pub(super) fn empty_or_null(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Object(entries)) => entries.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(_) => false,
    }
}

/// Checks an applied object against its type; the errors are upstream's, with their paths.
pub(super) fn validate(value: &Value, slot: Slot<'_>, path: &mut String, errors: &mut Vec<String>) {
    match (slot.form(), value) {
        (_, Value::Null) => {}
        (Form::Scalar(kind), value) => {
            let fits = match kind {
                "string" => value.is_string(),
                "boolean" => value.is_boolean(),
                "numeric" => value.is_number(),
                _ => !value.is_object() && !value.is_array(),
            };
            if !fits {
                complain(errors, path, scalar_mismatch(kind, value));
            }
        }
        (Form::Map | Form::AtomicMap, Value::Object(entries)) => {
            for (name, child) in entries {
                let length = path.len();
                path.push('.');
                path.push_str(name);
                match slot.field(name) {
                    Some((field, _)) => validate(child, field, path, errors),
                    None => {
                        complain(errors, path, "field not declared in schema".into());
                        path.truncate(length);
                        return;
                    }
                }
                path.truncate(length);
            }
        }
        (Form::Map | Form::AtomicMap, other) => {
            complain(errors, path, format!("expected map, got &{{{}}}", gotext::print(other)));
        }
        (Form::List(list), Value::Array(items)) => {
            let mut seen: BTreeSet<Element> = BTreeSet::new();
            for (i, item) in items.iter().enumerate() {
                let element = match element_of(list, item) {
                    Ok(element) => element,
                    Err(text) => {
                        complain(errors, path, format!("element {i}: {text}"));
                        return;
                    }
                };
                if seen.contains(&element) {
                    complain(errors, path, format!("duplicate entries for key {element}"));
                }
                let length = path.len();
                path.push_str(&element.to_string());
                validate_item(item, items_of(list), path, length, errors);
                seen.insert(element);
            }
        }
        (Form::AtomicList, Value::Array(items)) => {
            let inner = match slot.ty.map(Type::shape) {
                Some(Shape::List(list)) => items_of(list),
                _ => Slot::untyped(),
            };
            for (i, item) in items.iter().enumerate() {
                let length = path.len();
                path.push_str(&format!("[{i}]"));
                validate_item(item, inner, path, length, errors);
            }
        }
        (Form::List(_) | Form::AtomicList, other) => {
            complain(errors, path, format!("expected list, got &{{{}}}", gotext::print(other)));
        }
        (Form::Deduced, _) => {}
    }
}

/// Complaints are worth their memory only as far as somebody reads them. Paths hold keys, which are as long as
/// a client likes and would be repeated in every complaint about what is below them.
const MAX_ERRORS: usize = 1_000;
const MAX_REPEATED_PATH: usize = 16 << 10;

fn complain(errors: &mut Vec<String>, path: &str, text: String) {
    if errors.len() >= MAX_ERRORS || path.len() > MAX_REPEATED_PATH && !errors.is_empty() {
        return;
    }
    errors.push(if path.is_empty() { text } else { format!("{path}: {text}") });
}

fn validate_item(item: &Value, slot: Slot<'_>, path: &mut String, length: usize, errors: &mut Vec<String>) {
    validate(item, slot, path, errors);
    path.truncate(length);
}

/// Go's `%#v` and `%T` of the offending value.
fn scalar_mismatch(kind: &str, value: &Value) -> String {
    match kind {
        "string" => format!("expected string, got &value.valueUnstructured{{Value:{}}}", go_syntax(value)),
        "boolean" => format!("expected boolean, got &{{{}}}", gotext::print(value)),
        "numeric" => {
            let go = match value {
                Value::String(_) => "string",
                Value::Bool(_) => "bool",
                Value::Array(_) => "[]interface {}",
                _ => "map[string]interface {}",
            };
            format!("expected numeric (int or float), got {go}")
        }
        _ => format!("expected any scalar, got &{{{}}}", gotext::print(value)),
    }
}

fn go_syntax(value: &Value) -> String {
    match value {
        Value::String(text) => gotext::quote(text),
        Value::Object(entries) => {
            let entries: Vec<String> =
                entries.iter().map(|(k, v)| format!("{}:{}", gotext::quote(k), go_syntax(v))).collect();
            format!("map[string]interface {{}}{{{}}}", entries.join(", "))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(go_syntax).collect();
            format!("[]interface {{}}{{{}}}", items.join(", "))
        }
        Value::Null => "interface {}(nil)".into(),
        other => other.to_string(),
    }
}

/// The fields that a value sets.
pub(super) fn field_set(value: &Value, slot: Slot<'_>) -> Set {
    collect_fields(value, slot).below
}

/// What a walk found at one place: the place itself, and paths below it.
#[derive(Default)]
struct Found {
    own: bool,
    below: Set,
}

impl Found {
    /// The place itself, and nothing below.
    fn here() -> Self {
        Self { own: true, below: Set::default() }
    }

    fn attach(&mut self, element: Element, found: Found) {
        self.below.attach(element, found.own, found.below);
    }
}

fn collect_fields(value: &Value, slot: Slot<'_>) -> Found {
    let mut found = Found::default();
    match (slot.form(), value) {
        (Form::Map | Form::Deduced, Value::Object(entries)) => {
            for (name, child) in entries {
                let (field, declared) = slot.field_or_untyped(name);
                let mut inner = collect_fields(child, field);
                let empty = child.is_null() || child.as_object().is_some_and(JsonMap::is_empty);
                inner.own |= empty || !declared;
                found.attach(Element::Field(name.clone()), inner);
            }
        }
        (Form::List(list), Value::Array(items)) => {
            let mut items_by_element: BTreeMap<Element, Vec<&Value>> = BTreeMap::new();
            for item in items {
                if let Ok(element) = element_of(list, item) {
                    items_by_element.entry(element).or_default().push(item);
                }
            }
            for (element, items) in items_by_element {
                let mut inner = match items.as_slice() {
                    [item] => collect_fields(item, items_of(list)),
                    _ => Found::default(),
                };
                inner.own = true;
                found.attach(element, inner);
            }
        }
        (Form::Map | Form::List(_), Value::Null) => {}
        _ => return Found::here(),
    }
    found
}

/// What differs between two values.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    pub(super) added: Set,
    pub(super) modified: Set,
    pub(super) removed: Set,
}

impl Comparison {
    /// Leaves out everything at and below the given paths.
    pub(super) fn without(self, ignored: &Set) -> Self {
        if ignored.is_empty() {
            return self;
        }
        Self {
            added: self.added.recursive_difference(ignored),
            modified: self.modified.recursive_difference(ignored),
            removed: self.removed.recursive_difference(ignored),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }
}

/// Compares two objects of one type.
pub(super) fn compare(old: &Value, new: &Value, slot: Slot<'_>) -> Comparison {
    let found = walk(Some(old), Some(new), slot);
    Comparison { added: found.added.below, modified: found.modified.below, removed: found.removed.below }
}

/// What a comparison found at one place.
#[derive(Default)]
struct Difference {
    added: Found,
    modified: Found,
    removed: Found,
}

impl Difference {
    fn attach(&mut self, element: Element, inner: Difference) {
        let mut parts = [
            (&mut self.added, inner.added),
            (&mut self.modified, inner.modified),
            (&mut self.removed, inner.removed),
        ]
        .into_iter()
        .filter(|(_, found)| found.own || !found.below.is_empty())
        .peekable();
        // Most differences are of one sort, so that the element is seldom copied.
        while let Some((into, found)) = parts.next() {
            if parts.peek().is_none() {
                return into.attach(element, found);
            }
            into.attach(element.clone(), found);
        }
    }
}

fn walk(old: Option<&Value>, new: Option<&Value>, slot: Slot<'_>) -> Difference {
    let mut found = Difference::default();
    if old.is_some() && old == new {
        return found;
    }
    let form = match slot.form() {
        Form::Deduced => match new.or(old) {
            Some(Value::Object(_)) => Form::Map,
            _ => Form::AtomicList,
        },
        form => form,
    };
    let granular = match form {
        Form::Map => {
            let (left, right) = (old.and_then(Value::as_object), new.and_then(Value::as_object));
            let granular = !(empty_or_null(old) && empty_or_null(new)) && (left.is_some() || right.is_some());
            if granular {
                walk_map(left, right, slot, &mut found);
            }
            granular
        }
        Form::List(list) => {
            let (left, right) = (old.and_then(Value::as_array), new.and_then(Value::as_array));
            let granular = !(empty_or_null(old) && empty_or_null(new)) && (left.is_some() || right.is_some());
            if granular {
                let left = left.map_or(&[][..], Vec::as_slice);
                let right = right.map_or(&[][..], Vec::as_slice);
                walk_list(list, left, right, &mut found);
            }
            granular
        }
        _ => false,
    };
    match (old, new) {
        (None, _) => found.added.own = true,
        (_, None) => found.removed.own = true,
        _ if !granular => found.modified.own = true,
        _ => {}
    }
    found
}

fn walk_map(
    old: Option<&JsonMap<String, Value>>,
    new: Option<&JsonMap<String, Value>>,
    slot: Slot<'_>,
    found: &mut Difference,
) {
    let mut visit = |name: &String, left: Option<&Value>, right: Option<&Value>| {
        let left = left.filter(|value| !slot.omits(name, value));
        let right = right.filter(|value| !slot.omits(name, value));
        if left == right {
            return;
        }
        let (field, _) = slot.field_or_untyped(name);
        found.attach(Element::Field(name.clone()), walk(left, right, field));
    };
    for (name, left) in old.into_iter().flatten() {
        visit(name, Some(left), new.and_then(|n| n.get(name)));
    }
    for (name, right) in new.into_iter().flatten() {
        if !old.is_some_and(|o| o.contains_key(name)) {
            visit(name, None, Some(right));
        }
    }
}

fn walk_list(list: &List, old: &[Value], new: &[Value], found: &mut Difference) {
    let mut pairs: BTreeMap<Element, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
    for item in old {
        if let Ok(element) = element_of(list, item) {
            pairs.entry(element).or_default().0.push(item);
        }
    }
    for item in new {
        if let Ok(element) = element_of(list, item) {
            pairs.entry(element).or_default().1.push(item);
        }
    }
    for (element, (left, right)) in pairs {
        let inner = match (left.len(), right.len()) {
            (0..=1, 0..=1) => walk(left.first().copied(), right.first().copied(), items_of(list)),
            (2.., 2..) => {
                let mut inner = Difference::default();
                inner.modified.own = left != right;
                inner
            }
            (2.., _) => {
                let mut inner = right
                    .first()
                    .map_or_else(Difference::default, |item| walk(None, Some(item), items_of(list)));
                inner.removed.own = true;
                inner
            }
            _ => {
                let mut inner = left
                    .first()
                    .map_or_else(Difference::default, |item| walk(Some(item), None, items_of(list)));
                inner.added.own = true;
                inner
            }
        };
        found.attach(element, inner);
    }
}

/// Merges an applied configuration into a live object; `None` if nothing is left.
pub(super) fn merge(live: &Value, config: &Value, slot: Slot<'_>) -> Result<Option<Value>, String> {
    let form = match slot.form() {
        Form::Deduced if config.is_object() && live.is_object() => Form::Map,
        Form::Deduced => Form::AtomicList,
        form => form,
    };
    if empty_or_null(Some(live)) && empty_or_null(Some(config)) {
        return Ok(Some(config.clone()));
    }
    match (form, live, config) {
        (Form::Map, Value::Object(left), Value::Object(right)) => {
            let mut merged = JsonMap::new();
            for (name, value) in left {
                match right.get(name) {
                    None => {
                        merged.insert(name.clone(), value.clone());
                    }
                    Some(other) => {
                        let (field, _) = slot.field_or_untyped(name);
                        if let Some(value) = merge(value, other, field)? {
                            merged.insert(name.clone(), value);
                        }
                    }
                }
            }
            for (name, value) in right.iter().filter(|(name, _)| !left.contains_key(*name)) {
                merged.insert(name.clone(), value.clone());
            }
            Ok((!merged.is_empty()).then_some(Value::Object(merged)))
        }
        (Form::Map, left @ Value::Object(_), Value::Null) => Ok(Some(left.clone())),
        (Form::List(_), left @ Value::Array(_), Value::Null) => Ok(Some(left.clone())),
        (Form::List(list), Value::Array(left), Value::Array(right)) => {
            let merged = merge_lists(list, left, right)?;
            Ok((!merged.is_empty()).then_some(Value::Array(merged)))
        }
        _ => Ok(Some(config.clone())),
    }
}

/// Merges two lists of a set or list map: the order of the configuration wins where the two share
/// items; items of the live list alone stay where they stand between those.
fn merge_lists(list: &List, live: &[Value], config: &[Value]) -> Result<Vec<Value>, String> {
    let index = |items: &[Value]| -> Result<Vec<Element>, String> {
        items
            .iter()
            .enumerate()
            .map(|(i, item)| element_of(list, item).map_err(|e| format!("element {i}: {e}")))
            .collect()
    };
    let (left, right) = (index(live)?, index(config)?);
    let mut by_element: BTreeMap<&Element, Option<&Value>> = BTreeMap::new();
    for (element, item) in left.iter().zip(live) {
        // Items that the live list holds twice are replaced, not merged.
        by_element.entry(element).and_modify(|known| *known = None).or_insert(Some(item));
    }
    let configured: BTreeSet<&Element> = right.iter().collect();
    let in_left = |element: &Element| by_element.contains_key(element);
    let in_right = |element: &Element| configured.contains(element);
    let left_item = |element: &Element| by_element.get(element).copied().flatten();
    let both = |element: &Element, config: &Value| match left_item(element) {
        Some(item) => merge(item, config, items_of(list)),
        None => Ok(Some(config.clone())),
    };
    let mut shared = right.iter().filter(|e| in_left(e));
    let mut next_shared = shared.next();
    let mut done: BTreeSet<&Element> = BTreeSet::new();
    let mut out = Vec::with_capacity(left.len().max(right.len()));
    let (mut l, mut r) = (0, 0);
    while l < left.len() || r < right.len() {
        if l < left.len() && r < right.len() {
            if left[l] == right[r] {
                done.insert(&right[r]);
                out.extend(both(&right[r], &config[r])?);
                (l, r) = (l + 1, r + 1);
                next_shared = shared.next();
                continue;
            }
            if in_right(&left[l]) && next_shared.is_some_and(|next| *next != left[l]) {
                // Shared, but not the one whose turn it is.
                l += 1;
                continue;
            }
        }
        if l < left.len() {
            if !in_right(&left[l]) {
                out.push(live[l].clone());
                l += 1;
                continue;
            }
            if done.contains(&left[l]) {
                l += 1;
            }
        }
        if r < right.len() {
            done.insert(&right[r]);
            out.extend(both(&right[r], &config[r])?);
            if next_shared == Some(&right[r]) {
                next_shared = shared.next();
            }
            r += 1;
        }
    }
    Ok(out)
}

/// The value without the given fields and items. What becomes empty by that becomes null, which
/// decoding drops.
pub(super) fn remove(value: &Value, fields: &Set, slot: Slot<'_>) -> Value {
    let form = match (slot.form(), value) {
        (Form::Deduced, Value::Object(_)) => Form::Map,
        (form, _) => form,
    };
    match (form, value) {
        (Form::Map, Value::Object(entries)) if !entries.is_empty() => {
            let mut left = JsonMap::new();
            for (name, child) in entries {
                let element = Element::Field(name.clone());
                if fields.has_member(&element) {
                    continue;
                }
                let kept = match fields.below(&element) {
                    Some(below) => remove(child, below, slot.field_or_untyped(name).0),
                    None => child.clone(),
                };
                left.insert(name.clone(), kept);
            }
            if left.is_empty() { Value::Null } else { Value::Object(left) }
        }
        (Form::List(list), Value::Array(items)) if !items.is_empty() => {
            let mut left = Vec::with_capacity(items.len());
            for item in items {
                match element_of(list, item) {
                    Ok(element) if fields.has_member(&element) => {}
                    Ok(element) => left.push(match fields.below(&element) {
                        Some(below) => remove(item, below, items_of(list)),
                        None => item.clone(),
                    }),
                    Err(_) => left.push(item.clone()),
                }
            }
            if left.is_empty() { Value::Null } else { Value::Array(left) }
        }
        (Form::Scalar(_), value) => value.clone(),
        _ => Value::Null,
    }
}

/// Adds the declared fields on the way to each path, so that sets of different depth compare.
pub(super) fn with_named_fields(set: &Set, slot: Slot<'_>) -> Set {
    let mut out = set.members_only();
    for (element, below) in set.children() {
        let inner = match element {
            Element::Field(name) => {
                let (field, declared) = slot.field_or_untyped(name);
                if declared {
                    out.add_member(element.clone());
                }
                field
            }
            Element::Key(_) => match slot.ty.map(Type::shape) {
                Some(Shape::List(list)) => items_of(list),
                _ => Slot::untyped(),
            },
            _ => Slot::untyped(),
        };
        out.set_child(element.clone(), with_named_fields(below, inner));
    }
    out
}
