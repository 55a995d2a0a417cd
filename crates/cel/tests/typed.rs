//! Objects with a schema: how they are converted, what rules over them cost, and what they are estimated to cost.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Arc;

use cel::decl::{ListType, SchemaKind};
use cel::{Bindings, DeclType, DeclTypes, Env, PER_CALL_LIMIT, Schema, Value};
use serde_json::{Value as Json, json};

/// A schema from its OpenAPI form, as far as it matters here.
fn schema(json: &Json) -> Schema {
    let text = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
    let flag = |key: &str| json[key].as_bool().unwrap_or_default();
    let strings = |key: &str| -> Vec<String> {
        json[key].as_array().into_iter().flatten().map(|item| item.as_str().unwrap().to_owned()).collect()
    };
    let child = |key: &str| json.get(key).map(|child| Arc::new(schema(child)));
    Schema {
        kind: match &*text("type") {
            "object" => SchemaKind::Object,
            "array" => SchemaKind::Array,
            "string" => SchemaKind::String,
            "number" => SchemaKind::Number,
            "integer" => SchemaKind::Integer,
            "boolean" => SchemaKind::Boolean,
            _ => SchemaKind::Unspecified,
        },
        format: text("format"),
        items: child("items"),
        properties: json["properties"].as_object().map(|properties| {
            properties
                .iter()
                .map(|(name, property)| (name.clone(), Arc::new(schema(property))))
                .collect::<BTreeMap<_, _>>()
        }),
        additional_properties: child("additionalProperties"),
        nullable: flag("nullable"),
        int_or_string: flag("x-kubernetes-int-or-string"),
        list_type: match &*text("x-kubernetes-list-type") {
            "set" => ListType::Set,
            "map" => ListType::Map,
            _ => ListType::Atomic,
        },
        list_map_keys: strings("x-kubernetes-list-map-keys"),
        max_length: json["maxLength"].as_i64(),
        max_items: json["maxItems"].as_i64(),
        required: strings("required"),
        ..Schema::default()
    }
}

fn spec() -> (Schema, Json) {
    let schema = schema(&json!({"type": "object", "properties": {
        "int": {"type": "integer"},
        "num": {"type": "number"},
        "str": {"type": "string"},
        "short": {"type": "string", "maxLength": 10},
        "byte": {"type": "string", "format": "byte"},
        "dur": {"type": "string", "format": "duration"},
        "date": {"type": "string", "format": "date"},
        "time": {"type": "string", "format": "date-time"},
        "port": {"x-kubernetes-int-or-string": true},
        "maybe": {"type": "string", "nullable": true},
        "list": {"type": "array", "items": {"type": "integer"}},
        "few": {"type": "array", "items": {"type": "string", "maxLength": 5}, "maxItems": 3},
        "set": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
        "set2": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
        "map": {"type": "object", "additionalProperties": {"type": "string"}},
        "objs": {"type": "array", "items": {
            "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "string"}}}}},
        "namespace": {"type": "string"},
        "a-b": {"type": "object", "properties": {"c.d": {"type": "integer"}}},
    }}));
    let object = json!({
        "int": 5, "num": 10, "str": "Rook takes 👑", "short": "abc", "byte": "QUI=", "dur": "1h2m3s4ms",
        "date": "1997-07-16", "time": "2011-08-18T19:03:37.01+01:00", "port": "80%", "maybe": null,
        "list": [1, 2, 3], "few": ["a", "b"], "set": ["a", "b", "c"], "set2": ["c", "b", "a"],
        "map": {"k1": "a", "k2": "b"},
        "objs": [
            [{"k": "a", "v": "1"}, {"k": "b", "v": "2"}],
            [{"k": "b", "v": "2"}, {"k": "a", "v": "1"}],
            [{"k": "b", "v": "3"}, {"k": "a", "v": "1"}],
        ],
        "namespace": "ns", "a-b": {"c.d": 7},
    });
    (schema, object)
}

fn environment(schema: &Schema) -> (Env, DeclTypes) {
    let types = DeclTypes::new(DeclType::of_schema(schema, "selfType").unwrap());
    (Env::kubernetes().with_variable("self", types.root().ty.clone()).with_types(types.clone()), types)
}

#[test]
fn values_have_the_types_of_their_schema() {
    let (schema, object) = spec();
    let (env, _) = environment(&schema);
    let cases = [
        ("type(self.int) == int", 4),
        ("type(self.num) == double", 4),
        ("self.num == 10.0", 3),
        ("self.int < int(self.num)", 6),
        ("self.str.startsWith('Rook')", 4),
        ("self.str.matches('^[^0-9]*$')", 8),
        ("size(self.str) == 12", 4),
        ("self.byte == b'AB'", 3),
        ("self.dur == duration('1h2m') + duration('3s4ms')", 4),
        ("self.date.getDate() == 16", 4),
        ("self.time == timestamp('2011-08-18T00:00:00.000+01:00') + duration('19h3m37s10ms')", 4),
        ("string(self.time) == '2011-08-18T19:03:37.01+01:00'", 6),
        ("type(self.port) == string", 4),
        ("!has(self.maybe)", 2),
        ("1 in self.list", 5),
        ("self.list + self.list == [1, 2, 3, 1, 2, 3]", 6),
        ("self.set == ['c', 'b', 'a']", 3),
        ("self.set == self.set2", 5),
        ("self.set + ['c', 'd'] == ['a', 'b', 'c', 'd']", 4),
        ("self.map == {'k1': 'a', 'k2': 'b'}", 3),
        ("'k1' in self.map", 3),
        ("self.objs[0] == self.objs[1]", 7),
        ("self.objs[0] + self.objs[2] == self.objs[2]", 11),
        ("self.objs[0] == [self.objs[0][1], self.objs[0][0]]", 22),
        ("self.__namespace__ == 'ns'", 3),
        ("self.namespace == 'ns'", 0),
        ("self.a__dash__b.c__dot__d == 7", 4),
        ("self.objs[0].all(o, o.k != '')", 14),
    ];
    for (source, cost) in cases {
        let program = match env.compile(source) {
            Ok(program) => program,
            Err(issues) => {
                assert_eq!(cost, 0, "{source}: {issues}");
                continue;
            }
        };
        let bindings = Bindings::new().bind("self", Value::typed(&object, &schema));
        let outcome = program.eval(&bindings, PER_CALL_LIMIT);
        if cost == 0 {
            continue;
        }
        assert_eq!(outcome.result, Ok(Value::Bool(true)), "{source}");
        assert_eq!(outcome.cost, cost, "{source}");
    }
}

#[test]
fn estimates_follow_the_bounds_of_the_schema() {
    let (schema, _) = spec();
    let (env, types) = environment(&schema);
    let cases = [
        ("self.int > 1", 3, 3),
        ("self.short == 'a'", 3, 3),
        ("self.few.all(f, f == 'a')", 2 + 1, 3 + 3 * 5),
        ("self.few.exists(f, f.startsWith('a'))", 3, 3 + 3 * 6),
        ("self.list.all(l, l > 0)", 3, 3 + 1_572_863 * 5),
        ("self.map.all(k, self.map[k] == 'x')", 3, 3 + 393_215 * 8),
        ("has(self.few) && self.few.size() < 3", 1, 5),
    ];
    for (source, min, max) in cases {
        let program = env.compile(source).unwrap();
        let estimate = program.estimate_cost(&types);
        assert_eq!((estimate.min, estimate.max), (min, max), "{source}");
    }
}
