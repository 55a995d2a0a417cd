//! Which rules apply: an update must not fail on what was accepted before.

use std::collections::BTreeSet;

use super::schema_node::{self, has};
use super::view::View;
use super::{conversion, defaults, spec};
use crate::cursor::Node;
use crate::structural::{Structural, defaulting, invariants};

/// Rules that do not apply to some updates.
#[derive(Clone)]
pub(super) struct Options {
    pub recognized_review_version: bool,
    pub immutable_names: bool,
    pub schema: bool,
    pub valid_types: bool,
    pub structural: bool,
    pub pruned_defaults: bool,
    pub atomic_sets: bool,
    pub list_map_keys: bool,
    /// Versions whose schema did not change: their rules are not measured one by one.
    pub unchanged_versions: BTreeSet<String>,
    pub invalid_ca_bundle: bool,
    /// Versions (empty: the spec) that had too many selectable fields before.
    pub many_selectable: BTreeSet<String>,
}

impl Options {
    pub fn for_create() -> Options {
        Options {
            recognized_review_version: true,
            immutable_names: false,
            schema: true,
            valid_types: true,
            structural: true,
            pruned_defaults: true,
            atomic_sets: true,
            list_map_keys: true,
            unchanged_versions: BTreeSet::new(),
            // Nothing is served before the definition is established.
            invalid_ca_bundle: true,
            many_selectable: BTreeSet::new(),
        }
    }

    pub fn for_update(new: &View<'_>, old: &View<'_>, old_object: &Node<'_>) -> Options {
        let established = is_established(old_object);
        let old_conversion = old.spec.at("conversion");
        let unchanged = new.versions.iter().filter(|version| {
            let known = old.common.schema.is_some() || old.versions.iter().any(|v| v.name == version.name);
            known && new.schema_of(version.name) == old.schema_of(version.name)
        });
        Options {
            recognized_review_version: !old_conversion.is_set()
                || conversion::is_recognized_or_empty(&old_conversion),
            immutable_names: established,
            schema: all_have_schemas(old),
            valid_types: !old.schemas().any(|s| has(s, &schema_node::has_invalid_type)),
            structural: old.schemas().all(is_structural),
            pruned_defaults: !old.schemas().any(has_unpruned_defaults),
            atomic_sets: !old.schemas().any(|s| has(s, &schema_node::is_non_atomic_set)),
            list_map_keys: !old
                .schemas()
                .any(|s| has(s, &|s| !schema_node::list_map_keys(&Node::root(s)).is_empty())),
            unchanged_versions: unchanged.map(|version| version.name.to_owned()).collect(),
            invalid_ca_bundle: !established || conversion::has_invalid_ca_bundle(&old_conversion),
            many_selectable: spec::many_selectable(new, old),
        }
    }
}

/// Whether the condition `Established` is true.
pub(super) fn is_established(object: &Node<'_>) -> bool {
    let mut conditions = object.at("status").at("conditions").items();
    conditions.find(|c| c.at("type").str() == "Established").is_some_and(|c| c.at("status").str() == "True")
}

fn all_have_schemas(view: &View<'_>) -> bool {
    let common = view.common.schema.and_then(super::view::open_api);
    common.is_some() || view.versions.iter().all(|v| v.parts.schema.and_then(super::view::open_api).is_some())
}

fn is_structural(schema: &serde_json::Value) -> bool {
    let root = crate::field::Path::root();
    Structural::parse(schema).is_ok_and(|s| invariants::validate(&root, &s).is_empty())
}

fn has_unpruned_defaults(schema: &serde_json::Value) -> bool {
    if !has(schema, &|s| defaults::is_set(s)) || !is_structural(schema) {
        return false;
    }
    let Ok(structural) = Structural::parse(schema) else { return false };
    let mut pruned = structural.clone();
    defaulting::prune_defaults(&mut pruned).is_ok() && pruned != structural
}
