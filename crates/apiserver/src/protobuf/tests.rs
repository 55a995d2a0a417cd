//! Every kind of the table, there and back.

use base::rng;
use schema::decode::{Strictness, decode_value};
use schema::types::{self, Field, SchemaOr, Shape, Type};
use serde_json::{Map, Value, json};

use super::*;

/// Makes values of any type. Deep types end where `depth` does.
struct Maker(u64);

impl Maker {
    fn pick(&mut self, below: u64) -> u64 {
        // An LCG: the same values in every run, whatever else uses randomness.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    fn value(&mut self, ty: &Type, depth: usize) -> Value {
        match ty.shape() {
            Shape::Bool => json!(self.pick(2) == 0),
            Shape::Int32 => json!(self.pick(1 << 32) as u32 as i32),
            Shape::Int64 => json!((self.pick(1 << 31) as i64) << 20),
            Shape::Float => json!(self.pick(1000) as f64 + 0.5),
            Shape::String(_) => {
                json!(["", "text", "quo\"ted\\ and\nlong, and then some", "ünï🎉"][self.pick(4) as usize])
            }
            Shape::Bytes => json!(["AP8=", "aGVsbG8="][self.pick(2) as usize]),
            Shape::Time => json!(
                ["2026-11-20T21:02:56Z", "1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z"]
                    [self.pick(3) as usize]
            ),
            Shape::MicroTime => {
                json!(["2026-11-20T21:02:56.123456Z", "2026-11-20T21:02:56.000000Z"][self.pick(2) as usize])
            }
            Shape::Duration => json!(["1h2m3s", "1.5s", "0s"][self.pick(3) as usize]),
            Shape::Quantity => json!(["100m", "1Gi", "0"][self.pick(3) as usize]),
            Shape::IntOrString => [json!(80), json!("http"), json!(0)][self.pick(3) as usize].clone(),
            Shape::Raw => json!({"any": [1, "thing", {"x": null}]}),
            Shape::Any => {
                [json!({"a": 1}), json!("text"), json!([true]), json!(7)][self.pick(4) as usize].clone()
            }
            Shape::SchemaOr(SchemaOr::Bool) if self.pick(2) == 0 => json!(self.pick(2) == 0),
            Shape::SchemaOr(SchemaOr::StringArray) if self.pick(2) == 0 => json!(["a", "b"]),
            Shape::SchemaOr(SchemaOr::Array) if self.pick(2) == 0 => {
                json!([{"type": "string"}, {"type": "integer"}])
            }
            Shape::SchemaOr(_) => json!({"type": "object"}),
            // None and nothing in them are the same in protobuf.
            Shape::List(list) => (0..=self.pick(2)).map(|_| self.value(&list.items, depth)).collect(),
            Shape::Map(map) => {
                let keys = ["b", "a", "c\"d"].into_iter().take(1 + self.pick(3) as usize);
                Value::Object(keys.map(|key| (key.to_owned(), self.value(&map.values, depth))).collect())
            }
            Shape::Struct(of) => {
                let mut object = Map::new();
                for field in of.fields() {
                    if self.wants(field, depth) {
                        object.insert(field.name.clone(), self.value(&field.ty, depth.saturating_sub(1)));
                    }
                }
                Value::Object(object)
            }
        }
    }

    fn wants(&mut self, field: &Field, depth: usize) -> bool {
        let is_type = matches!(field.name.as_str(), "kind" | "apiVersion") && field.tag <= 2;
        let leaf = !matches!(
            field.ty.shape(),
            Shape::Struct(_) | Shape::List(_) | Shape::Map(_) | Shape::SchemaOr(_)
        );
        !is_type && field.tag != 0 && (leaf || depth > 0) && self.pick(3) > 0
    }
}

fn normal(value: Value, ty: &'static Type) -> Value {
    decode_value(value, ty, Strictness::Ignore).unwrap().value
}

#[test]
fn every_kind_comes_back_as_it_was() {
    let seed = rng::jitter(std::time::Duration::from_secs(1), 1.0).as_nanos() as u64;
    let mut seen = 0;
    for package in types::packages() {
        for (kind, ty) in types::kinds(package.group, package.version) {
            if !has_messages(ty) {
                continue;
            }
            let api_version = crate::kind::group_version(package.group, package.version);
            let mut maker = Maker(seed);
            for _ in 0..20 {
                let mut object = normal(maker.value(ty, 5), ty);
                object["kind"] = kind.into();
                object["apiVersion"] = api_version.as_str().into();
                let bytes =
                    super::object(&object).unwrap_or_else(|_| panic!("{kind}, seed {seed}: {object}"));
                let back = to_json(&bytes, ("", "")).unwrap();
                let (back, object) = (normal(back, ty), normal(object, ty));
                assert_eq!(back, object, "{api_version} {kind}, seed {seed}");
            }
            seen += 1;
        }
    }
    assert!(seen > 150, "{seen}");
}

#[test]
fn messages_are_those_of_upstream() {
    // What client-go 0.36 makes of this object, byte for byte.
    let object = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a", "creationTimestamp": null},
        "data": {"y": "2", "x": "1"}});
    let expected = "6b3873000a0f0a02763112\
                    09436f6e6669674d617012230a110a016112001a0022002a0032003800420012060a017812013112060a01791201321a002200";
    let bytes = super::object(&object).unwrap();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, expected);
}

#[test]
fn what_does_not_fit_its_type_is_refused() {
    for object in [
        json!({"kind": "Pod", "apiVersion": "v1", "spec": []}),
        json!({"kind": "Pod", "apiVersion": "v1", "spec": {"hostNetwork": 1, "priority": "x"}}),
        json!({"kind": "Secret", "apiVersion": "v1", "data": {"a": "&"}}),
        json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1"}),
    ] {
        assert_eq!(super::object(&object), Err(Unencodable), "{object}");
    }
}
