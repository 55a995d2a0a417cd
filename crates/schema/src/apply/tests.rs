use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::decode::{Strictness, decode_value};
use crate::types;

const NOW: &str = "2026-01-02T03:04:05Z";

fn config_map() -> &'static Type {
    types::of_kind("", "v1", "ConfigMap").unwrap()
}

fn deployment() -> &'static Type {
    types::of_kind("apps", "v1", "Deployment").unwrap()
}

struct World {
    ty: &'static Type,
    api_version: &'static str,
    live: Option<Value>,
}

impl World {
    fn new(ty: &'static Type, api_version: &'static str) -> Self {
        Self { ty, api_version, live: None }
    }

    fn apply(&mut self, manager: &str, force: bool, patch: Value) -> Result<(), ApplyError> {
        let mut patch = patch;
        patch["apiVersion"] = self.api_version.into();
        let request = ApplyRequest {
            live: self.live.as_ref(),
            patch,
            ty: self.ty,
            manager,
            api_version: self.api_version,
            subresource: "",
            force,
            ignored: &Set::default(),
            now: NOW,
            convert: None,
        };
        let merged = apply(&request)?;
        self.live = Some(decode_value(merged, self.ty, Strictness::Strict).unwrap().value);
        Ok(())
    }

    fn update(&mut self, manager: &str, change: impl FnOnce(&mut Value)) {
        let mut new = self.live.clone().unwrap_or_else(|| self.ty.zero());
        change(&mut new);
        let update = Update {
            live: self.live.as_ref(),
            ty: self.ty,
            manager,
            api_version: self.api_version,
            subresource: "",
            ignored: &Set::default(),
            now: NOW,
            convert: None,
        };
        track_update(&mut new, &update);
        self.live = Some(decode_value(new, self.ty, Strictness::Strict).unwrap().value);
    }

    fn at(&self, pointer: &str) -> Value {
        self.live.as_ref().and_then(|l| l.pointer(pointer)).cloned().unwrap_or_default()
    }

    fn fields(&self, manager: &str) -> Value {
        let entries = self.at("/metadata/managedFields");
        let entries = entries.as_array().cloned().unwrap_or_default();
        entries.iter().find(|e| e["manager"] == manager).map(|e| e["fieldsV1"].clone()).unwrap_or_default()
    }
}

fn conflicts(outcome: Result<(), ApplyError>) -> String {
    outcome.unwrap_err().to_string()
}

#[test]
fn fields_that_are_no_longer_applied_go_away() {
    let mut world = World::new(config_map(), "v1");
    world.apply("a", false, json!({"metadata": {"name": "x"}, "data": {"k": "1", "l": "1"}})).unwrap();
    assert_eq!(world.fields("a"), json!({"f:data": {"f:k": {}, "f:l": {}}}));
    world.apply("a", false, json!({"metadata": {"name": "x"}, "data": {"k": "1"}})).unwrap();
    assert_eq!(world.at("/data"), json!({"k": "1"}));
    assert_eq!(world.fields("a"), json!({"f:data": {"f:k": {}}}));
}

#[test]
fn other_managers_fields_conflict_unless_forced() {
    let mut world = World::new(config_map(), "v1");
    world.apply("a", false, json!({"metadata": {"name": "x"}, "data": {"k": "1"}})).unwrap();
    let taken = json!({"metadata": {"name": "x"}, "data": {"k": "2"}});
    assert_eq!(
        conflicts(world.apply("b", false, taken.clone())),
        r#"Apply failed with 1 conflict: conflict with "a": .data.k"#
    );
    world.apply("b", true, taken).unwrap();
    assert_eq!((world.at("/data/k"), world.fields("a")), (json!("2"), Value::Null));
    // The same value may be owned by several.
    world.apply("a", false, json!({"metadata": {"name": "x"}, "data": {"k": "2"}})).unwrap();
    world.apply("b", false, json!({"metadata": {"name": "x"}})).unwrap();
    assert_eq!(world.at("/data"), json!({"k": "2"}));
}

#[test]
fn list_items_are_owned_one_by_one_with_defaulted_keys() {
    let mut world = World::new(deployment(), "apps/v1");
    let ports = |ports: Value| json!({"metadata": {"name": "x"}, "spec": {"template": {"spec": {"containers": [{"name": "m", "ports": ports}]}}}});
    world.apply("a", false, ports(json!([{"containerPort": 80}]))).unwrap();
    world.apply("b", false, ports(json!([{"containerPort": 81, "protocol": "UDP"}]))).unwrap();
    let pointer = "/spec/template/spec/containers/0/ports";
    assert_eq!(world.at(pointer), json!([{"containerPort": 80}, {"containerPort": 81, "protocol": "UDP"}]));
    let own = world.fields("a");
    let keys: Vec<&String> =
        own["f:spec"]["f:template"]["f:spec"]["f:containers"][r#"k:{"name":"m"}"#]["f:ports"]
            .as_object()
            .unwrap()
            .keys()
            .collect();
    assert_eq!(keys, [r#"k:{"containerPort":80,"protocol":"TCP"}"#]);
    world.apply("a", false, ports(json!([]))).unwrap();
    assert_eq!(world.at(pointer), json!([{"containerPort": 81, "protocol": "UDP"}]));
}

#[test]
fn updates_own_what_they_change() {
    let mut world = World::new(deployment(), "apps/v1");
    world.apply("a", false, json!({"metadata": {"name": "x"}, "spec": {"replicas": 1}})).unwrap();
    world.update("scaler", |d| d["spec"]["replicas"] = 3.into());
    assert_eq!(world.fields("scaler"), json!({"f:spec": {"f:replicas": {}}}));
    assert_eq!(world.fields("a"), Value::Null);
    assert_eq!(
        conflicts(world.apply("a", false, json!({"metadata": {"name": "x"}, "spec": {"replicas": 1}}))),
        r#"Apply failed with 1 conflict: conflict with "scaler" using apps/v1: .spec.replicas"#
    );
    let before = world.live.clone();
    world.update("scaler", |d| d["spec"]["replicas"] = 5.into());
    assert_eq!(world.fields("scaler"), json!({"f:spec": {"f:replicas": {}}}));
    world.update("scaler", |d| d["spec"]["replicas"] = 3.into());
    assert_eq!(world.live, before);
}

#[test]
fn the_oldest_update_entries_are_merged() {
    let mut world = World::new(config_map(), "v1");
    for i in 0..15 {
        world.update(&format!("m{i:02}"), |c| c["data"][format!("k{i}")] = "v".into());
    }
    let entries = world.at("/metadata/managedFields");
    assert_eq!(entries.as_array().unwrap().len(), 10);
    assert_eq!(entries[0]["manager"], "ancient-changes");
}

#[test]
fn configurations_that_do_not_fit_are_refused() {
    let mut world = World::new(config_map(), "v1");
    let patch = |data: Value| json!({"kind": "ConfigMap", "metadata": {"name": "x"}, "data": data});
    assert_eq!(
        conflicts(world.apply("a", false, patch(json!({"k": 1})))),
        "failed to create typed patch object (/x; /v1, Kind=ConfigMap): .data.k: expected string, got &value.valueUnstructured{Value:1}"
    );
    assert_eq!(
        conflicts(world.apply("a", false, patch(json!("s")))),
        "failed to create typed patch object (/x; /v1, Kind=ConfigMap): .data: expected map, got &{s}"
    );
    let mut unknown = patch(json!({}));
    unknown["nope"] = 1.into();
    assert_eq!(
        conflicts(world.apply("a", false, unknown)),
        "failed to create typed patch object (/x; /v1, Kind=ConfigMap): .nope: field not declared in schema"
    );
}

fn data() -> impl Strategy<Value = std::collections::BTreeMap<String, String>> {
    prop::collection::btree_map("[a-e]", "[xyz]", 0..5)
}

fn containers() -> impl Strategy<Value = Value> {
    let ports = prop::collection::btree_set(80..84i64, 1..3);
    prop::collection::btree_map("[a-d]", ("[xy]", ports), 1..4).prop_map(|containers| {
        let list = containers.iter().map(|(name, (image, ports))| {
            let ports: Vec<Value> = ports.iter().map(|p| json!({"containerPort": p})).collect();
            json!({"name": name, "image": image, "ports": ports})
        });
        json!({"metadata": {"name": "d"}, "spec": {"template": {"spec": {"containers": list.collect::<Vec<_>>()}}}})
    })
}

fn field_sets(world: &World) -> Vec<(Value, Set)> {
    let entries = world.at("/metadata/managedFields");
    let entries = entries.as_array().cloned().unwrap_or_default();
    entries.iter().map(|e| (e["manager"].clone(), Set::from_fields(&e["fieldsV1"]).unwrap())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        rng_seed: proptest::test_runner::RngSeed::Fixed(7),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn applying_twice_changes_nothing(first in containers(), second in containers()) {
        let mut world = World::new(deployment(), "apps/v1");
        world.apply("a", true, first).unwrap();
        world.apply("b", true, second.clone()).unwrap();
        let once = world.live.clone();
        world.apply("b", true, second).unwrap();
        prop_assert_eq!(world.live, once);
    }

    #[test]
    fn creators_own_the_same_either_way(object in containers(), has_status in any::<bool>()) {
        let ty = deployment();
        let object = decode_value(object, ty, Strictness::Ignore).unwrap().value;
        let slot = Slot::of(ty);
        let ignored = if has_status { Set::of_fields(&[&["status"], &["spec", "replicas"]]) } else { Set::default() };
        let comparison = managers::without_stripped(typed::compare(&ty.zero(), &object, slot)).without(&ignored);
        let general = comparison.modified.union(&comparison.added).to_fields();
        prop_assert_eq!(created::fields(&ty.zero(), &object, slot, &ignored), Some(general));
    }

    #[test]
    fn what_a_manager_applies_is_there_and_its_own(steps in prop::collection::vec((0..3usize, containers()), 1..6)) {
        let mut world = World::new(deployment(), "apps/v1");
        for (who, patch) in steps {
            let manager = ["a", "b", "c"][who];
            world.apply(manager, true, patch.clone()).unwrap();
            let slot = Slot::of(deployment());
            let live = typed::field_set(world.live.as_ref().unwrap(), slot);
            for (owner, set) in field_sets(&world) {
                prop_assert!(set.difference(&typed::with_named_fields(&live, slot)).is_empty(), "{owner} owns what is not there");
            }
            for container in patch["spec"]["template"]["spec"]["containers"].as_array().unwrap() {
                let all = world.at("/spec/template/spec/containers");
                let stored = all.as_array().unwrap().iter().find(|c| c["name"] == container["name"]).unwrap();
                prop_assert_eq!(&stored["image"], &container["image"]);
            }
        }
    }

    #[test]
    fn updates_partition_the_data(writes in prop::collection::vec((0..4usize, data()), 1..8)) {
        let mut world = World::new(config_map(), "v1");
        for (who, data) in writes {
            world.update(["a", "b", "c", "d"][who], |c| c["data"] = serde_json::to_value(&data).unwrap());
            for key in data.keys() {
                let path = [Element::Field("data".into()), Element::Field(key.clone())];
                let owners = field_sets(&world).iter().filter(|(_, set)| set.has(&path)).count();
                prop_assert!(owners <= 1, "{key} has {owners} owners");
            }
        }
    }

    #[test]
    fn field_sets_survive_encoding(patch in containers()) {
        let set = typed::field_set(&patch, Slot::of(deployment()));
        prop_assert_eq!(Set::from_fields(&set.to_fields()).unwrap(), set);
    }
}
