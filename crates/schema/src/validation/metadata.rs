//! ObjectMeta: what every object must satisfy.

use std::collections::BTreeSet;

use super::{format, labels};
use crate::cursor::Node;
use crate::field::{Error, ErrorList, Path};

/// How many bytes all annotations of an object may have together.
const ANNOTATIONS_MAX_BYTES: usize = 256 << 10;
/// How long the name of a field manager may be, in bytes.
const FIELD_MANAGER_MAX_BYTES: usize = 128;

/// A new built-in object's metadata, with the kind's own rule for names.
pub fn validate(meta: &Node, name_rule: format::NameRule, errs: &mut ErrorList) {
    validate_common(meta, name_rule, errs);
    known_finalizers(&meta.at("finalizers"), errs);
}

/// A new object's metadata, with the kind's own rule for names.
pub fn validate_common(meta: &Node, name_rule: format::NameRule, errs: &mut ErrorList) {
    let (generate_name, name) = (meta.at("generateName"), meta.at("name"));
    if !generate_name.is_empty() {
        let wrong = name_rule(generate_name.str(), true);
        errs.extend(wrong.into_iter().map(|m| generate_name.invalid_str(m)));
    }
    if name.is_empty() {
        errs.push(name.required("name or generateName is required"));
    } else {
        errs.extend(name_rule(name.str(), false).into_iter().map(|m| name.invalid_str(m)));
    }
    let namespace = meta.at("namespace");
    if !namespace.is_empty() {
        errs.extend(format::dns1123_label(namespace.str()).into_iter().map(|m| namespace.invalid_str(m)));
    }
    let generation = meta.at("generation");
    if generation.i64() < 0 {
        errs.push(generation.invalid("must be greater than or equal to 0"));
    }
    labels::labels(&meta.at("labels"), errs);
    annotations(&meta.at("annotations"), errs);
    owner_references(&meta.at("ownerReferences"), errs);
    finalizers(&meta.at("finalizers"), errs);
    managed_fields(&meta.at("managedFields"), errs);
}

/// A changed built-in object's metadata against what it was.
pub fn validate_update(new: &Node, old: &Node, errs: &mut ErrorList) {
    validate_update_common(new, old, errs);
    known_finalizers(&new.at("finalizers"), errs);
}

/// A changed object's metadata against what it was.
pub fn validate_update_common(new: &Node, old: &Node, errs: &mut ErrorList) {
    if old.at("deletionTimestamp").is_set() {
        no_new_finalizers(&new.at("finalizers"), &old.at("finalizers"), errs);
    }
    if new.at("generation").i64() < old.at("generation").i64() {
        errs.push(new.at("generation").invalid_i64("must not be decremented"));
    }
    for name in ["name", "namespace", "uid"] {
        if new.at(name).str() != old.at(name).str() {
            errs.push(new.at(name).invalid_str("field is immutable"));
        }
    }
    for name in ["creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        immutable(&new.at(name), &old.at(name), errs);
    }
    labels::labels(&new.at("labels"), errs);
    annotations(&new.at("annotations"), errs);
    owner_references(&new.at("ownerReferences"), errs);
    managed_fields(&new.at("managedFields"), errs);
}

/// The field has not changed. An empty list is none.
pub fn immutable(new: &Node, old: &Node, errs: &mut ErrorList) {
    let no_list = |node: &Node| node.value().is_none_or(|v| v.as_array().is_some_and(Vec::is_empty));
    if new.value() != old.value() && !(no_list(new) && no_list(old)) {
        errs.push(new.invalid("field is immutable"));
    }
}

/// The text has not changed; none is the empty one.
pub fn immutable_text(new: &Node, old: &Node, errs: &mut ErrorList) {
    if new.str() != old.str() {
        errs.push(new.invalid_str("field is immutable"));
    }
}

/// Annotation keys, whose case does not matter, and the size of all together.
pub fn annotations(annotations: &Node, errs: &mut ErrorList) {
    let mut bytes = 0;
    for (key, value) in annotations.entries() {
        let wrong = format::label_key(&key.to_lowercase());
        errs.extend(wrong.into_iter().map(|m| annotations.invalid_as(key, m)));
        bytes += key.len() + value.str().len();
    }
    if bytes > ANNOTATIONS_MAX_BYTES {
        errs.push(annotations.too_long(ANNOTATIONS_MAX_BYTES));
    }
}

/// The metadata of a template, which has labels and annotations only.
pub fn template(meta: &Node, errs: &mut ErrorList) {
    annotations(&meta.at("annotations"), errs);
    labels::labels(&meta.at("labels"), errs);
    // In the order and with the names of Go's fields.
    let others = [
        ("name", "name"),
        ("generateName", "generateName"),
        ("namespace", "namespace"),
        ("selfLink", "selfLink"),
        ("uid", "uID"),
        ("resourceVersion", "resourceVersion"),
        ("generation", "generation"),
        ("creationTimestamp", "creationTimestamp"),
        ("deletionTimestamp", "deletionTimestamp"),
        ("deletionGracePeriodSeconds", "deletionGracePeriodSeconds"),
        ("ownerReferences", "ownerReferences"),
        ("finalizers", "finalizers"),
        ("managedFields", "managedFields"),
    ];
    for (_, shown) in others.iter().filter(|(name, _)| meta.at(name).is_set()) {
        errs.push(meta.at(shown).forbidden("cannot be set"));
    }
}

fn owner_references(references: &Node, errs: &mut ErrorList) {
    let mut controller: Option<String> = None;
    for reference in references.items() {
        // Upstream reports all references at the list itself.
        owner_reference(&reference.reported_at(references.path()), errs);
        if !reference.at("controller").bool() {
            continue;
        }
        let name = format!("{}/{}", reference.at("kind").str(), reference.at("name").str());
        match &controller {
            Some(first) => errs.push(references.invalid(format!(
                "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {name}"
            ))),
            None => controller = Some(name),
        }
    }
}

fn owner_reference(reference: &Node, errs: &mut ErrorList) {
    let (api_version, kind) = (reference.at("apiVersion"), reference.at("kind"));
    let (group, version) = split_api_version(api_version.str());
    if version.is_empty() {
        errs.push(api_version.invalid_str("version must not be empty"));
    }
    for required in ["kind", "name", "uid"] {
        let required = reference.at(required);
        if required.is_empty() {
            errs.push(required.invalid_str("must not be empty"));
        }
    }
    if (group, version, kind.str()) == ("", "v1", "Event") {
        errs.push(reference.invalid("/v1, Kind=Event is disallowed from being an owner"));
    }
}

/// As Go's `schema.ParseGroupVersion`, with errors read as "neither".
fn split_api_version(api_version: &str) -> (&str, &str) {
    match api_version.split_once('/') {
        None => ("", api_version),
        Some((_, version)) if version.contains('/') => ("", ""),
        Some((group, version)) => (group, version),
    }
}

/// Well-formed finalizers, of which `orphan` and `foregroundDeletion` exclude one another.
pub fn finalizers(finalizers: &Node, errs: &mut ErrorList) {
    for finalizer in finalizers.items() {
        let wrong = format::label_key(finalizer.str());
        errs.extend(wrong.into_iter().map(|m| finalizers.invalid_as(finalizer.str(), m)));
    }
    let all = finalizers.strings();
    if all.contains(&"orphan") && all.contains(&"foregroundDeletion") {
        errs.push(finalizers.invalid("finalizer orphan and foregroundDeletion cannot be both set"));
    }
}

/// Finalizers of built-in objects are Kubernetes' own, or have a domain.
fn known_finalizers(finalizers: &Node, errs: &mut ErrorList) {
    for finalizer in finalizers.items() {
        known_finalizer(&finalizer, errs);
    }
}

/// One such finalizer.
pub fn known_finalizer(finalizer: &Node, errs: &mut ErrorList) {
    let standard = ["kubernetes", "orphan", "foregroundDeletion"];
    if !finalizer.str().contains('/') && !standard.contains(&finalizer.str()) {
        errs.push(
            finalizer.invalid_str("name is neither a standard finalizer name nor is it fully qualified"),
        );
    }
}

fn no_new_finalizers(new: &Node, old: &Node, errs: &mut ErrorList) {
    let old: BTreeSet<&str> = old.strings().into_iter().collect();
    let extra: BTreeSet<&str> = new.strings().into_iter().filter(|f| !old.contains(f)).collect();
    if !extra.is_empty() {
        let extra: Vec<String> = extra.iter().map(|f| crate::field::quote(f)).collect();
        errs.push(new.forbidden(format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            extra.join(", ")
        )));
    }
}

fn managed_fields(entries: &Node, errs: &mut ErrorList) {
    for entry in entries.items() {
        let operation = entry.at("operation");
        if !["Apply", "Update"].contains(&operation.str()) {
            errs.push(operation.invalid_str("must be `Apply` or `Update`"));
        }
        let fields_type = entry.at("fieldsType");
        if !["", "FieldsV1"].contains(&fields_type.str()) {
            errs.push(fields_type.invalid_str("must be `FieldsV1`"));
        }
        let manager = entry.at("manager");
        field_manager(manager.str(), manager.path(), errs);
        let subresource = entry.at("subresource");
        if subresource.len() > 256 {
            errs.push(subresource.too_long(256));
        }
    }
}

/// The name of a field manager, in an object or a query parameter.
pub fn field_manager(manager: &str, path: &Path<'_>, errs: &mut ErrorList) {
    if manager.len() > FIELD_MANAGER_MAX_BYTES {
        errs.push(Error::too_long(path, FIELD_MANAGER_MAX_BYTES));
    }
    for (position, c) in manager.char_indices().filter(|(_, c)| c.is_control()) {
        let code = c as u32;
        errs.push(Error::invalid(
            path,
            manager,
            format!("invalid character U+{code:04X} (at position {position})"),
        ));
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;

    fn check(meta: Value, expected: Expect) {
        let object = json!({ "metadata": meta });
        let mut errs = ErrorList::new();
        validate(&Node::root(&object).at("metadata"), format::name_is_subdomain, &mut errs);
        let lines: Vec<String> = errs.iter().map(ToString::to_string).collect();
        expected.assert_eq(&lines.join("\n"));
    }

    #[test]
    fn names_owners_and_finalizers() {
        check(json!({"name": "a"}), expect![""]);
        check(json!({}), expect!["metadata.name: Required value: name or generateName is required"]);
        check(
            json!({"name": "a", "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p"}]}),
            expect![[r#"metadata.ownerReferences.uid: Invalid value: "": must not be empty"#]],
        );
        check(
            json!({"name": "a", "finalizers": ["orphan", "foregroundDeletion"]}),
            expect![[
                r#"metadata.finalizers: Invalid value: ["orphan","foregroundDeletion"]: finalizer orphan and foregroundDeletion cannot be both set"#
            ]],
        );
        check(
            json!({"name": "a", "annotations": {"x": "y".repeat(256 << 10)}}),
            expect!["metadata.annotations: Too long: may not be more than 262144 bytes"],
        );
    }
}
