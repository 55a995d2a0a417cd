//! Holds the dependency rules of DESIGN.md §2: dependencies point only to lower layers, the crates
//! of layer 4 do not know each other, and only the named crates know an engine.

use std::collections::BTreeMap;

use cargo_metadata::{DependencyKind, MetadataCommand};

/// The layer of each crate, from the map in ARCHITECTURE.md. A crate may depend on lower layers.
const LAYERS: &[(&str, u8)] = &[
    ("base", 0),
    ("api", 0),
    ("cel", 1),
    ("spdy", 1),
    ("schema", 1),
    ("scheduling", 1),
    ("scaling", 1),
    ("store", 2),
    ("runtime", 2),
    ("cloud", 2),
    ("store-embedded", 3),
    ("runtime-cri", 3),
    ("cloud-sim", 3),
    ("apiserver", 4),
    ("client", 4),
    ("controllers", 4),
    ("scheduler", 4),
    ("autoscaler", 4),
    ("agent", 4),
    ("simnodes", 4),
    ("cluster", 5),
    ("kobune", 6),
];

/// Crates for tests and development: they may see everything, nothing of the product may see them.
const TOOLS: &[&str] = &["testkit", "e2e", "sim", "xtask"];

/// Within a layer nobody may know a sibling, but for these.
const SIBLINGS: &[(&str, &str)] = &[
    // The client library is what components of layer 4 are written against.
    ("controllers", "client"),
    ("scheduler", "client"),
    ("autoscaler", "client"),
    ("agent", "client"),
    ("simnodes", "client"),
    // Rules of custom resources are CEL.
    ("schema", "cel"),
    // Autoscaling simulates with the scheduler's own placement engine.
    ("scaling", "scheduling"),
];

/// Who may know a trait crate or an engine, apart from tools.
const RESERVED: &[(&str, &[&str])] = &[
    ("store", &["apiserver", "store-embedded", "cluster"]),
    ("runtime", &["agent", "runtime-cri", "cluster"]),
    ("cloud", &["autoscaler", "cloud-sim", "cluster"]),
    ("schema", &["apiserver"]),
    ("cel", &["schema", "apiserver"]),
    ("store-embedded", &["cluster"]),
    ("runtime-cri", &["cluster"]),
    ("cloud-sim", &["cluster"]),
    ("apiserver", &["cluster"]),
];

/// The normal dependencies among our own crates.
fn own_dependencies() -> BTreeMap<String, Vec<String>> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let metadata =
        MetadataCommand::new().manifest_path(manifest).no_deps().exec().expect("cargo metadata works");
    let own: Vec<String> = metadata.packages.iter().map(|package| package.name.to_string()).collect();
    metadata
        .packages
        .iter()
        .map(|package| {
            let known = package
                .dependencies
                .iter()
                .filter(|dependency| dependency.kind != DependencyKind::Development)
                .filter(|dependency| own.contains(&dependency.name))
                .map(|dependency| dependency.name.clone());
            (package.name.to_string(), known.collect())
        })
        .collect()
}

/// What is wrong with `dependent` knowing `dependency`, if anything.
fn objection(dependent: &str, dependency: &str) -> Option<String> {
    let layer = |name: &str| LAYERS.iter().find(|(known, _)| *known == name).map(|(_, layer)| *layer);
    if TOOLS.contains(&dependent) {
        return None;
    }
    if TOOLS.contains(&dependency) {
        return Some(format!("{dependent} must not depend on {dependency}, which is for tests only"));
    }
    let (Some(above), Some(below)) = (layer(dependent), layer(dependency)) else {
        return Some(format!("{dependent} or {dependency} has no layer in LAYERS"));
    };
    if below > above {
        return Some(format!("{dependent} (layer {above}) must not depend on {dependency} (layer {below})"));
    }
    if below == above && above > 0 && !SIBLINGS.contains(&(dependent, dependency)) {
        return Some(format!("{dependent} must not know its sibling {dependency} (layer {above})"));
    }
    match RESERVED.iter().find(|(name, _)| *name == dependency) {
        Some((_, allowed)) if !allowed.contains(&dependent) => {
            Some(format!("{dependent} must not know {dependency}; only {} may", allowed.join(", ")))
        }
        _ => None,
    }
}

#[test]
fn dependencies_point_to_lower_layers() {
    let dependencies = own_dependencies();
    assert!(dependencies.len() >= LAYERS.len(), "every crate of LAYERS exists: {:?}", dependencies.keys());
    let objections: Vec<String> = dependencies
        .iter()
        .flat_map(|(dependent, known)| {
            known.iter().filter_map(move |dependency| objection(dependent, dependency))
        })
        .collect();
    assert!(objections.is_empty(), "layering is violated:\n{}", objections.join("\n"));
}

#[test]
fn violations_are_seen() {
    assert!(objection("base", "store").is_some_and(|text| text.contains("layer 0")));
    assert!(objection("scheduler", "controllers").is_some_and(|text| text.contains("sibling")));
    assert!(objection("controllers", "cloud").is_some_and(|text| text.contains("only autoscaler")));
    assert!(objection("scheduler", "testkit").is_some());
    assert!(objection("scheduler", "client").is_none());
    assert!(objection("unheard-of", "base").is_some());
}
