//! The spec of a definition, but for its schemas.

use std::collections::BTreeSet;

use serde_json::Value;

use super::options::Options;
use super::view::{Version, View, open_api};
use super::{conversion, schema, schema_node, versions};
use crate::cursor::Node;
use crate::field::{Error, ErrorList};
use crate::structural::{Structural, go_json, valid_field_path};
use crate::validation::format;

/// More selectable fields than this are refused.
const MAX_SELECTABLE: usize = 8;
const COLUMN_TYPES: &str = "boolean,date,integer,number,string";
const COLUMN_FORMATS: [&str; 8] =
    ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];

/// What is wrong with a spec.
pub(super) fn validate(view: &View<'_>, options: &Options, errs: &mut ErrorList) {
    let spec = &view.spec;
    let preserve = spec.at("preserveUnknownFields").bool();
    let mut options = options.clone();
    group(&spec.at("group"), errs);
    let scope = spec.at("scope");
    match scope.str() {
        "" => errs.push(scope.required("")),
        "Cluster" | "Namespaced" => {}
        _ => errs.push(scope.not_supported(&["Cluster", "Namespaced"])),
    }
    options.structural |= !preserve;
    schemas_present(view, &options, preserve, errs);
    if view.schemas().any(|s| schema_node::has(s, &|s| super::defaults::is_set(s))) {
        options.structural = true;
        if preserve {
            let detail = "must be false in order to use defaults in the schema";
            errs.push(spec.at("preserveUnknownFields").invalid_as(true, detail));
        }
    }
    options.structural |= view.schemas().any(|s| schema_node::has(s, &schema_node::has_extensions));
    each_version(view, &options, errs);
    whole_list(view, errs);
    all_names(spec, errs);
    common_parts(view, &options, errs);
    let strategy = spec.at("conversion").at("strategy");
    if spec.at("conversion").is_set() && strategy.str() != "None" && preserve {
        errs.push(strategy.invalid_str("must be None if spec.preserveUnknownFields is true"));
    }
    let (recognized, invalid_ca) = (options.recognized_review_version, options.invalid_ca_bundle);
    conversion::validate(&spec.at("conversion"), recognized, invalid_ca, errs);
}

/// What is wrong with a changed spec.
pub(super) fn validate_update(view: &View<'_>, old: &View<'_>, options: &Options, errs: &mut ErrorList) {
    validate(view, options, errs);
    let mut immutable = |new: Node<'_>, old: Node<'_>| {
        if new.str() != old.str() {
            errs.push(new.invalid_str("field is immutable"));
        }
    };
    let (names, old_names) = (view.spec.at("names"), old.spec.at("names"));
    if options.immutable_names {
        immutable(view.spec.at("scope"), old.spec.at("scope"));
        immutable(names.at("kind"), old_names.at("kind"));
    }
    immutable(view.spec.at("group"), old.spec.at("group"));
    immutable(names.at("plural"), old_names.at("plural"));
}

fn group(group: &Node<'_>, errs: &mut ErrorList) {
    let wrong = format::dns1123_subdomain(group.str());
    if group.is_empty() {
        errs.push(group.required(""));
    } else if !wrong.is_empty() {
        errs.push(group.invalid_str(wrong.join(",")));
    } else if !group.str().contains('.') {
        errs.push(group.invalid_str("should be a domain with at least one dot"));
    }
}

fn schemas_present(view: &View<'_>, options: &Options, preserve: bool, errs: &mut ErrorList) {
    if view.common.schema.and_then(open_api).is_some() {
        return;
    }
    for version in view.versions.iter().filter(|v| v.parts.schema.and_then(open_api).is_none()) {
        let at = version.node.at("schema").at("openAPIV3Schema");
        if options.schema {
            errs.push(at.required(""));
        } else if !preserve && version.node.at("served").bool() {
            errs.push(at.required("because otherwise all fields are pruned"));
        }
    }
}

fn each_version(view: &View<'_>, options: &Options, errs: &mut ErrorList) {
    let any_subresources = view.versions.iter().any(|v| v.parts.subresources.is_some());
    for version in &view.versions {
        let wrong = format::dns1035_label(version.name);
        if !wrong.is_empty() {
            errs.push(version.node.at("name").invalid_str(wrong.join(",")));
        }
        versions::deprecation_warning(version, errs);
        let has_status = if any_subresources { version.parts.has_status() } else { view.common.has_status() };
        version_parts(version, has_status, options, errs);
    }
}

fn version_parts(version: &Version<'_>, has_status: bool, options: &Options, errs: &mut ErrorList) {
    let (node, parts) = (&version.node, &version.parts);
    let unmeasured = options.unchanged_versions.contains(version.name);
    let at = |name, value| Node::new(value, node.path().child(name));
    if let Some(given) = parts.schema {
        schema::validate(&at("schema", Some(given)), has_status, unmeasured, options, errs);
    }
    subresources(&at("subresources", parts.subresources), errs);
    at("additionalPrinterColumns", parts.columns).items().for_each(|c| column(&c, errs));
    if let Some(fields) = parts.selectable {
        let fields = at("selectableFields", Some(fields));
        match parts.schema.and_then(open_api) {
            None => errs.push(
                fields
                    .invalid_as("", "may only be set when `version.schema.openAPIV3Schema` is not included"),
            ),
            Some(schema) => selectable(&fields, schema, node, version.name, options, errs),
        }
    }
}

/// Rules about all versions together. That what all have in common does not stand in each of them
/// follows from the form of the view.
fn whole_list(view: &View<'_>, errs: &mut ErrorList) {
    let names: BTreeSet<&str> = view.versions.iter().map(|version| version.name).collect();
    let mut complain = |detail: &str| {
        errs.push(go_json::invalid_showing(&versions::path(view), &versions::printed(view), detail));
    };
    if names.len() != view.versions.len() {
        complain("must contain unique version names");
    }
    if view.versions.iter().filter(|v| v.node.at("storage").bool()).count() != 1 {
        complain("must have exactly one version marked as storage version");
    }
    // Upstream's internal form also has the name of the first version.
    if let Some(first) = view.versions.first() {
        let wrong = format::dns1035_label(first.name);
        if !first.name.is_empty() && !wrong.is_empty() {
            let at = view.spec.path().child("version");
            errs.push(Error::invalid(&at, first.name, wrong.join(",")));
        }
    }
}

fn all_names(spec: &Node<'_>, errs: &mut ErrorList) {
    let given = spec.at("names");
    for name in ["plural", "singular", "kind", "listKind"] {
        let name = given.at(name);
        if name.is_empty() {
            errs.push(name.required(""));
        }
    }
    names(&given, errs);
}

/// The form of names, in the spec or accepted ones.
pub(super) fn names(names: &Node<'_>, errs: &mut ErrorList) {
    let label = |node: &Node<'_>, errs: &mut ErrorList| {
        let wrong = format::dns1035_label(node.str());
        if !wrong.is_empty() {
            errs.push(node.invalid_str(wrong.join(",")));
        }
    };
    for name in ["plural", "singular"] {
        let name = names.at(name);
        if !name.is_empty() {
            label(&name, errs);
        }
    }
    for name in ["kind", "listKind"] {
        let name = names.at(name);
        let wrong = format::dns1035_label(&name.str().to_lowercase());
        if !name.is_empty() && !wrong.is_empty() {
            let wrong = wrong.join(",");
            errs.push(name.invalid_str(format!("may have mixed case, but should otherwise match: {wrong}")));
        }
    }
    names.at("shortNames").items().for_each(|name| label(&name, errs));
    let (kind, list_kind) = (names.at("kind"), names.at("listKind"));
    if !kind.is_empty() && kind.str() == list_kind.str() {
        errs.push(list_kind.invalid_str("kind and listKind may not be the same"));
    }
    names.at("categories").items().for_each(|name| label(&name, errs));
}

fn common_parts(view: &View<'_>, options: &Options, errs: &mut ErrorList) {
    let spec = &view.spec;
    let at = |name, value| Node::new(value, spec.path().child(name));
    let first = view.versions.first().map_or("", |version| version.name);
    if let Some(given) = view.common.schema {
        let has_status =
            view.common.has_status() || view.versions.iter().any(|version| version.parts.has_status());
        let unmeasured = options.unchanged_versions.contains(first);
        schema::validate(&at("validation", Some(given)), has_status, unmeasured, options, errs);
    }
    subresources(&at("subresources", view.common.subresources), errs);
    at("additionalPrinterColumns", view.common.columns).items().for_each(|c| column(&c, errs));
    if let Some(fields) = view.common.selectable {
        let fields = at("selectableFields", Some(fields));
        match view.common.schema {
            None => errs.push(fields.invalid_as("", "may only be set when validations.schema is included")),
            Some(schema) => {
                if let Some(schema) = open_api(schema) {
                    selectable(&fields, schema, spec, "", options, errs);
                }
            }
        }
    }
}

fn subresources(subresources: &Node<'_>, errs: &mut ErrorList) {
    let scale = subresources.at("scale");
    if !scale.is_set() {
        return;
    }
    let mut path = |field: &'static str, required: bool, prefixes: &[&str], place: &str| {
        let node = scale.at(field);
        if node.is_empty() {
            if required {
                errs.push(node.required(""));
            }
        } else if let Some(error) = simple_json_path(&node) {
            errs.push(error);
        } else if !prefixes.iter().any(|prefix| node.str().starts_with(prefix)) {
            errs.push(node.invalid_str(format!("should be a json path under {place}")));
        }
    };
    path("specReplicasPath", true, &[".spec."], ".spec");
    path("statusReplicasPath", true, &[".status."], ".status");
    path("labelSelectorPath", false, &[".spec.", ".status."], "either .spec or .status");
}

fn simple_json_path(path: &Node<'_>) -> Option<Error> {
    match path.str() {
        "" => Some(path.invalid_str("must not be empty")),
        text if !text.starts_with('.') => {
            Some(path.invalid_str("must be a simple json path starting with ."))
        }
        _ => None,
    }
}

fn column(column: &Node<'_>, errs: &mut ErrorList) {
    let (name, ty, format) = (column.at("name"), column.at("type"), column.at("format"));
    if name.is_empty() {
        errs.push(name.required(""));
    }
    if ty.is_empty() {
        errs.push(ty.required(format!("must be one of {COLUMN_TYPES}")));
    } else if !COLUMN_TYPES.split(',').any(|known| known == ty.str()) {
        errs.push(ty.invalid_str(format!("must be one of {COLUMN_TYPES}")));
    }
    if !format.is_empty() && !COLUMN_FORMATS.contains(&format.str()) {
        errs.push(format.invalid_str(format!("must be one of {}", COLUMN_FORMATS.join(","))));
    }
    let at = column.path().child("JSONPath");
    let path = column.at("jsonPath").reported_at(&at);
    if path.is_empty() {
        errs.push(path.required(""));
    } else {
        errs.extend(simple_json_path(&path));
    }
}

fn selectable(
    fields: &Node<'_>,
    schema: &Value,
    holder: &Node<'_>,
    version: &str,
    options: &Options,
    errs: &mut ErrorList,
) {
    let structural = match Structural::parse(schema) {
        Ok(structural) => structural,
        Err(error) => {
            return errs.push(Error::invalid(&holder.path().child("schema.openAPIV3Schema"), "", error));
        }
    };
    let mut unique = BTreeSet::new();
    for field in fields.items() {
        let path = field.at("jsonPath");
        if path.is_empty() {
            errs.push(path.required(""));
            continue;
        }
        let (found, target) = match valid_field_path(path.str(), &structural, false) {
            Ok(found) => found,
            Err(error) => {
                errs.push(path.invalid_str(format!("is an invalid path: {error}")));
                continue;
            }
        };
        if found.root == "metadata" {
            errs.push(path.invalid_str("must not point to fields in metadata"));
        }
        if !["string", "boolean", "integer"].contains(&target.generic.r#type.as_str()) {
            errs.push(path.invalid_str(
                "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.",
            ));
        }
        if !unique.insert(found.text) {
            errs.push(path.duplicate());
        }
    }
    if unique.len() > MAX_SELECTABLE && !options.many_selectable.contains(version) {
        errs.push(Error::too_many(fields.path(), unique.len(), MAX_SELECTABLE));
    }
}

/// Which lists of selectable fields are too long, but were before: versions, or empty for the spec.
pub(super) fn many_selectable(new: &View<'_>, old: &View<'_>) -> BTreeSet<String> {
    let many =
        |fields: Option<&Value>| fields.and_then(Value::as_array).is_some_and(|f| f.len() > MAX_SELECTABLE);
    let mut found = BTreeSet::new();
    if many(old.common.selectable) && old.common.selectable == new.common.selectable {
        found.insert(String::new());
    }
    for version in &new.versions {
        let before = old.versions.iter().find(|v| v.name == version.name).and_then(|v| v.parts.selectable);
        if many(before) && before == version.parts.selectable {
            found.insert(version.name.to_owned());
        }
    }
    found
}
