//! What makes a schema structural.

use super::{Additional, META_FIELDS, Nested, Structural, ValueRules, regexp};
use crate::field::{Error, ErrorList, Path};

/// Where a node is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// Everything that keeps a schema from being structural, sorted by text as upstream does.
pub fn validate<'a>(path: &Path<'a>, schema: &'a Structural) -> ErrorList {
    let mut errs = ErrorList::new();
    invariants(schema, Level::Root, path, &mut errs);
    complete_values(schema.values(), schema, path, path, &mut errs);
    let mut sorted: Vec<Error> = errs.into_iter().collect();
    sorted.sort_by_cached_key(ToString::to_string);
    sorted.into_iter().collect()
}

fn invariants<'a>(schema: &'a Structural, level: Level, path: &Path<'a>, errs: &mut ErrorList) {
    let (generic, extensions) = (&schema.generic, &schema.extensions);
    if generic.r#type == "array" && schema.items.is_none() {
        errs.push(Error::required(&path.child("items"), "must be specified"));
    }
    if let Some(items) = &schema.items {
        invariants(items, Level::Item, &path.child("items"), errs);
    }
    for (name, property) in &schema.properties {
        invariants(property, Level::Field, &path.child("properties").key(name), errs);
    }
    if let Some(additional) = &schema.additional {
        let at = path.child("additionalProperties");
        if level == Level::Root {
            errs.push(Error::forbidden(&at, "must not be used at the root"));
        }
        if let Additional::Schema(additional) = additional {
            invariants(additional, Level::Field, &at, errs);
        }
    }
    if extensions.int_or_string {
        let detail = "must be false if x-kubernetes-int-or-string is true";
        if extensions.preserve_unknown {
            errs.push(Error::invalid(&path.child("x-kubernetes-preserve-unknown-fields"), true, detail));
        }
        if extensions.embedded_resource {
            errs.push(Error::invalid(&path.child("x-kubernetes-embedded-resource"), true, detail));
        }
    }
    let values = schema.values();
    let skip = Skip {
        any_of: is_int_or_string(&values.any_of),
        any_of_first_all_of: values
            .all_of
            .first()
            .is_some_and(|first| is_int_or_string(&first.values.any_of)),
    };
    value_rules(values, skip, path, errs);
    type_rules(schema, level, path, errs);
    resource_rules(schema, level, path, errs);
}

fn type_rules<'a>(schema: &'a Structural, level: Level, path: &Path<'a>, errs: &mut ErrorList) {
    let (ty, extensions) = (schema.generic.r#type.as_str(), &schema.extensions);
    let at = path.child("type");
    if extensions.embedded_resource && ty != "object" {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        errs.push(match ty {
            "" => Error::required(&at, detail),
            ty => Error::invalid(&at, ty, detail),
        });
    } else if ty.is_empty() && !extensions.int_or_string && !extensions.preserve_unknown {
        let detail = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errs.push(Error::required(&at, detail));
    }
    if extensions.embedded_resource && schema.additional.is_some() {
        let detail = "must not be used if x-kubernetes-embedded-resource is set";
        errs.push(Error::forbidden(&path.child("additionalProperties"), detail));
    }
    if level == Level::Root && !ty.is_empty() && ty != "object" {
        errs.push(Error::invalid(&at, ty, "must be object at the root"));
    }
}

fn resource_rules<'a>(schema: &'a Structural, level: Level, path: &Path<'a>, errs: &mut ErrorList) {
    let is_resource = level == Level::Root || schema.extensions.embedded_resource;
    for name in ["kind", "apiVersion"] {
        let ty = schema.properties.get(name).map(|property| property.generic.r#type.as_str());
        if let (true, Some(ty)) = (is_resource, ty.filter(|ty| *ty != "string")) {
            errs.push(Error::invalid(
                &path.child("properties").key(name).child("type"),
                ty,
                "must be string",
            ));
        }
    }
    if let Some(metadata) = schema.properties.get(META_FIELDS[2]) {
        let at = path.child("properties").key(META_FIELDS[2]);
        if is_resource && metadata.generic.r#type != "object" {
            errs.push(Error::invalid(&at.child("type"), metadata.generic.r#type.as_str(), "must be object"));
        }
        if level == Level::Root && !says_only_names(metadata) {
            errs.push(Error::forbidden(
                &at,
                "must not specify anything other than name and generateName, but metadata is implicitly specified",
            ));
        }
    }
    let extensions = &schema.extensions;
    if extensions.embedded_resource && !extensions.preserve_unknown && schema.properties.is_empty() {
        errs.push(Error::required(
            &path.child("properties"),
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
        ));
    }
}

/// The type and a default of metadata are judged elsewhere.
fn says_only_names(metadata: &Structural) -> bool {
    let mut rest = metadata.clone();
    if rest.properties.keys().all(|name| name == "name" || name == "generateName") {
        rest.properties.clear();
    }
    rest.generic.r#type.clear();
    rest.generic.default = None;
    rest == Structural::default()
}

/// `[{type: integer}, {type: string}]`.
fn is_int_or_string(any_of: &[Nested]) -> bool {
    let only = |ty: &str, nested: &Nested| {
        let mut expected = Nested::default();
        expected.generic.r#type = ty.to_owned();
        *nested == expected
    };
    matches!(any_of, [first, second] if only("integer", first) && only("string", second))
}

/// The ways in which int-or-string may be written.
#[derive(Clone, Copy, Default)]
struct Skip {
    any_of: bool,
    any_of_first_all_of: bool,
}

fn value_rules<'a>(values: &'a ValueRules, skip: Skip, path: &Path<'a>, errs: &mut ErrorList) {
    if !skip.any_of {
        for (i, nested) in values.any_of.iter().enumerate() {
            nested_rules(nested, Skip::default(), &path.child("anyOf").index(i), errs);
        }
    }
    for (i, nested) in values.all_of.iter().enumerate() {
        let skip = Skip { any_of: skip.any_of_first_all_of && i == 0, ..Skip::default() };
        nested_rules(nested, skip, &path.child("allOf").index(i), errs);
    }
    for (i, nested) in values.one_of.iter().enumerate() {
        nested_rules(nested, Skip::default(), &path.child("oneOf").index(i), errs);
    }
    if let Some(nested) = &values.not {
        nested_rules(nested, Skip::default(), &path.child("not"), errs);
    }
    if !values.pattern.is_empty()
        && let Err(error) = regexp::compile(&values.pattern)
    {
        let detail = format!("must be a valid regular expression, but isn't: {error}");
        errs.push(Error::invalid(&path.child("pattern"), values.pattern.as_str(), detail));
    }
}

fn nested_rules<'a>(nested: &'a Nested, skip: Skip, path: &Path<'a>, errs: &mut ErrorList) {
    value_rules(&nested.values, skip, path, errs);
    if let Some(items) = &nested.items {
        nested_rules(items, Skip::default(), &path.child("items"), errs);
    }
    for (name, property) in &nested.properties {
        nested_rules(property, Skip::default(), &path.child("properties").key(name), errs);
    }
    let (generic, extensions) = (&nested.generic, &nested.extensions);
    let mut forbid = |wrong: bool, name: &'static str, how: &str| {
        if wrong {
            errs.push(Error::forbidden(&path.child(name), format!("must be {how} to be structural")));
        }
    };
    forbid(!generic.r#type.is_empty(), "type", "empty");
    forbid(nested.additional.is_some(), "additionalProperties", "undefined");
    forbid(generic.default.is_some(), "default", "undefined");
    forbid(generic.titled, "title", "empty");
    forbid(generic.described, "description", "empty");
    forbid(generic.nullable, "nullable", "false");
    forbid(extensions.preserve_unknown, "x-kubernetes-preserve-unknown-fields", "false");
    forbid(extensions.embedded_resource, "x-kubernetes-embedded-resource", "false");
    forbid(extensions.int_or_string, "x-kubernetes-int-or-string", "false");
    forbid(!extensions.list_map_keys.is_empty(), "x-kubernetes-list-map-keys", "empty");
    forbid(extensions.list_type.is_some(), "x-kubernetes-list-type", "undefined");
    forbid(extensions.map_type.is_some(), "x-kubernetes-map-type", "undefined");
    forbid(!nested.rules.is_empty(), "x-kubernetes-validations", "empty");
    if nested.properties.contains_key(META_FIELDS[2]) {
        let at = path.child("properties").key(META_FIELDS[2]);
        errs.push(Error::forbidden(&at, "must not be specified in a nested context"));
    }
}

/// Every field and item about whose value something is said must have a structure (at `structure`).
fn complete_values<'a>(
    values: &'a ValueRules,
    schema: &'a Structural,
    structure: &Path<'a>,
    path: &Path<'a>,
    errs: &mut ErrorList,
) {
    if let Some(nested) = &values.not {
        complete_nested(nested, Some(schema), structure, &path.child("not"), errs);
    }
    for (name, all) in [("allOf", &values.all_of), ("anyOf", &values.any_of), ("oneOf", &values.one_of)] {
        for (i, nested) in all.iter().enumerate() {
            complete_nested(nested, Some(schema), structure, &path.child(name).index(i), errs);
        }
    }
}

fn complete_nested<'a>(
    nested: &'a Nested,
    schema: Option<&'a Structural>,
    structure: &Path<'a>,
    path: &Path<'a>,
    errs: &mut ErrorList,
) {
    let Some(schema) = schema else {
        return errs.push(Error::required(structure, format!("because it is defined in {path}")));
    };
    complete_values(&nested.values, schema, structure, path, errs);
    if let Some(items) = &nested.items {
        let (structure, path) = (structure.child("items"), path.child("items"));
        complete_nested(items, schema.items.as_deref(), &structure, &path, errs);
    }
    for (name, property) in &nested.properties {
        let structure = structure.child("properties").key(name);
        let path = path.child("properties").key(name);
        complete_nested(property, schema.properties.get(name), &structure, &path, errs);
    }
}
