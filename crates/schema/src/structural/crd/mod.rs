//! What a CustomResourceDefinition must satisfy, in upstream's words and order.
//!
//! Upstream checks its internal form of a definition, to which error paths refer: what all versions
//! have in common stands in `spec` itself there (`spec.validation`, `spec.subresources`,
//! `spec.additionalPrinterColumns`, `spec.selectableFields`). [`view::View`] is that form.

mod approval;
mod conversion;
mod cost;
mod defaults;
mod options;
mod prepare;
mod schema;
mod schema_node;
mod spec;
mod versions;
mod view;

use serde_json::Value;

use crate::cursor::Node;
use crate::field::{Error, ErrorList};
use crate::validation::{format, metadata};
use options::Options;
pub use prepare::{prepare_create, prepare_update};
pub use schema_node::warnings;
pub use schema_node::warnings_on_update;
use view::View;

/// Whether a schema or one below it has a type that there is not.
pub(super) fn has_invalid_types(schema: &Value) -> bool {
    schema_node::has(schema, &schema_node::has_invalid_type)
}

/// What is wrong with a new definition.
pub fn validate(object: &Value) -> ErrorList {
    let node = Node::root(object);
    let mut errs = ErrorList::new();
    named(&node, &mut errs);
    let view = View::new(&node.at("spec"));
    spec::validate(&view, &Options::for_create(), &mut errs);
    status(&node, &view, &mut errs);
    approval::validate(&node, None, &mut errs);
    preserve_unknown_fields(&node, None, &mut errs);
    errs
}

/// What is wrong with a changed definition.
pub fn validate_update(new: &Value, old: &Value) -> ErrorList {
    let (node, old_node) = (Node::root(new), Node::root(old));
    let mut errs = ErrorList::new();
    metadata::validate_update_common(&node.at("metadata"), &old_node.at("metadata"), &mut errs);
    let (view, old_view) = (View::new(&node.at("spec")), View::new(&old_node.at("spec")));
    let options = Options::for_update(&view, &old_view, &old_node);
    spec::validate_update(&view, &old_view, &options, &mut errs);
    status(&node, &view, &mut errs);
    approval::validate(&node, Some(&old_node), &mut errs);
    preserve_unknown_fields(&node, Some(&old_node), &mut errs);
    errs
}

/// What is wrong with a definition's changed status.
pub fn validate_status_update(new: &Value, old: &Value) -> ErrorList {
    let (node, old_node) = (Node::root(new), Node::root(old));
    let mut errs = ErrorList::new();
    metadata::validate_update_common(&node.at("metadata"), &old_node.at("metadata"), &mut errs);
    spec::names(&node.at("status").at("acceptedNames"), &mut errs);
    errs
}

/// Metadata, with a name that follows from the spec.
fn named(node: &Node<'_>, errs: &mut ErrorList) {
    let (meta, spec) = (node.at("metadata"), node.at("spec"));
    let expected = format!("{}.{}", spec.at("names").at("plural").str(), spec.at("group").str());
    let mut found = ErrorList::new();
    metadata::validate_common(&meta, format::name_is_subdomain, &mut found);
    let wrong_name = |field: &'static str| {
        let name = meta.at(field);
        let wrong = !name.is_empty() && name.str() != expected;
        wrong.then(|| name.invalid_str("must be spec.names.plural+\".\"+spec.group"))
    };
    let mut all: Vec<Error> = found.into_iter().collect();
    for field in ["generateName", "name"] {
        if let Some(error) = wrong_name(field) {
            // After the other complaints about the same name, which come first of all.
            let own = meta.at(field).path().to_string();
            let before =
                if field == "name" { meta.at("generateName").path().to_string() } else { own.clone() };
            let at = all.iter().take_while(|e| e.field == own || e.field == before).count();
            all.insert(at, error);
        }
    }
    errs.extend(all);
}

fn status(node: &Node<'_>, view: &View<'_>, errs: &mut ErrorList) {
    let status = node.at("status");
    spec::names(&status.at("acceptedNames"), errs);
    versions::stored(&status.at("storedVersions"), view, errs);
}

fn preserve_unknown_fields(node: &Node<'_>, old: Option<&Node<'_>>, errs: &mut ErrorList) {
    let preserve = |node: &Node<'_>| node.at("spec").at("preserveUnknownFields").bool();
    if !old.is_some_and(preserve) && preserve(node) {
        let field = node.at("spec");
        errs.push(field.at("preserveUnknownFields").invalid_as(
            true,
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
        ));
    }
}
