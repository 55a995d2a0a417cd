//! Component schemas, derived from the type table.

use std::collections::BTreeSet;

use schema::types::{self, Field, ListMerge, Omit, Shape, Struct, Type};
use serde_json::{Map, Value, json};

use crate::kind::Version;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const PREFIX: &str = "#/components/schemas/";

/// The schemas that the operations of a version refer to, and all that these refer to.
pub fn of_version(version: &Version) -> Map<String, Value> {
    let mut schemas = Schemas::default();
    for of_meta in ["APIResourceList", "Patch"] {
        schemas.add(&format!("{META}.{of_meta}"));
    }
    let in_group = version.kinds.values().next().map(|kind| (kind.group.as_ref(), kind.version.as_ref()));
    let (group, in_version) = in_group.unwrap_or_default();
    for of_meta in ["DeleteOptions", "WatchEvent"] {
        schemas.add_kind(&format!("{META}.{of_meta}"), group, in_version, of_meta);
    }
    schemas.add_kind(&format!("{META}.Status"), "", "v1", "Status");
    for kind in version.kinds.values() {
        let Some((package, _)) = kind.schema.rsplit_once('.') else { continue };
        schemas.add_kind(&kind.schema, &kind.group, &kind.version, &kind.kind);
        if kind.verbs.has("list") {
            let list = format!("{package}.{}", kind.list_kind);
            schemas.add_kind(&list, &kind.group, &kind.version, &kind.list_kind);
        }
        for sub in &kind.subresources {
            match (sub.group.as_ref(), sub.version.as_ref()) {
                (_, "") if sub.kind.ends_with("Options") => {}
                (_, "") => schemas.add_kind(
                    &format!("{package}.{}", sub.kind),
                    &kind.group,
                    &kind.version,
                    &sub.kind,
                ),
                (group, version) => {
                    let package =
                        format!("io.k8s.api.{}.{version}", group.split('.').next().unwrap_or_default());
                    schemas.add_kind(&format!("{package}.{}", sub.kind), group, version, &sub.kind);
                }
            }
        }
    }
    schemas.finish()
}

/// The schemas of discovery documents.
pub fn of_discovery() -> Map<String, Value> {
    let mut schemas = Schemas::default();
    for of_meta in ["APIGroup", "APIVersions"] {
        schemas.add(&format!("{META}.{of_meta}"));
    }
    schemas.finish()
}

#[derive(Default)]
struct Schemas {
    done: Map<String, Value>,
    wanted: BTreeSet<String>,
}

impl Schemas {
    fn add(&mut self, name: &str) {
        if !self.done.contains_key(name) {
            self.wanted.insert(name.to_owned());
        }
    }

    /// Adds a kind, which says so.
    fn add_kind(&mut self, name: &str, group: &str, version: &str, kind: &str) {
        self.add(name);
        self.wanted.remove(name);
        let mut schema = self.schema(name);
        schema["x-kubernetes-group-version-kind"] =
            json!([{"group": group, "version": version, "kind": kind}]);
        self.done.insert(name.to_owned(), schema);
    }

    fn finish(mut self) -> Map<String, Value> {
        while let Some(name) = self.wanted.pop_first() {
            let schema = self.schema(&name);
            self.done.insert(name, schema);
        }
        self.done
    }

    fn schema(&mut self, name: &str) -> Value {
        match types::get(name) {
            Some(found) => self.shape(found),
            // Options of connections, and types that are only named.
            None => json!({"type": "object"}),
        }
    }

    /// A use of a type: a reference if it has a name.
    fn reference(&mut self, of: &Type) -> Value {
        let name = match of.shape() {
            Shape::Time => format!("{META}.Time"),
            Shape::MicroTime => format!("{META}.MicroTime"),
            Shape::Duration => format!("{META}.Duration"),
            Shape::Quantity => "io.k8s.apimachinery.pkg.api.resource.Quantity".to_owned(),
            Shape::IntOrString => "io.k8s.apimachinery.pkg.util.intstr.IntOrString".to_owned(),
            Shape::Struct(_) | Shape::Raw | Shape::SchemaOr(_) if !of.name().is_empty() => {
                of.name().to_owned()
            }
            _ => return self.shape(of),
        };
        if !self.done.contains_key(&name) && !self.wanted.contains(&name) {
            match types::get(&name) {
                Some(_) => self.add(&name),
                None => {
                    let schema = self.shape(of);
                    self.done.insert(name.clone(), schema);
                }
            }
        }
        json!({"$ref": format!("{PREFIX}{name}")})
    }

    fn shape(&mut self, of: &Type) -> Value {
        match of.shape() {
            Shape::Bool => json!({"type": "boolean"}),
            Shape::Int32 => json!({"type": "integer", "format": "int32"}),
            Shape::Int64 => json!({"type": "integer", "format": "int64"}),
            Shape::Float => json!({"type": "number", "format": "double"}),
            Shape::String(values) if values.is_empty() => json!({"type": "string"}),
            Shape::String(values) => json!({"type": "string", "enum": values}),
            Shape::Bytes => json!({"type": "string", "format": "byte"}),
            Shape::Time | Shape::MicroTime => json!({"type": "string", "format": "date-time"}),
            Shape::Duration => json!({"type": "string"}),
            Shape::Quantity => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
            Shape::IntOrString => {
                json!({"oneOf": [{"type": "integer"}, {"type": "string"}], "format": "int-or-string"})
            }
            Shape::Raw => json!({"type": "object"}),
            Shape::Any | Shape::SchemaOr(_) => json!({}),
            Shape::List(list) => {
                let mut schema = json!({"type": "array", "items": self.reference(&list.items)});
                match &list.merge {
                    ListMerge::Atomic if !list.declared => {}
                    ListMerge::Atomic => schema["x-kubernetes-list-type"] = json!("atomic"),
                    ListMerge::Set => schema["x-kubernetes-list-type"] = json!("set"),
                    ListMerge::Map(keys) => {
                        schema["x-kubernetes-list-type"] = json!("map");
                        schema["x-kubernetes-list-map-keys"] = json!(keys);
                    }
                }
                schema
            }
            Shape::Map(map) => {
                let mut schema =
                    json!({"type": "object", "additionalProperties": self.reference(&map.values)});
                if map.atomic {
                    schema["x-kubernetes-map-type"] = json!("atomic");
                }
                schema
            }
            Shape::Struct(of) => self.object(of),
        }
    }

    fn object(&mut self, of: &Struct) -> Value {
        let mut properties = Map::new();
        let mut required = Vec::new();
        for field in of.fields() {
            properties.insert(field.name.clone(), self.property(field));
            if field.required {
                required.push(json!(field.name));
            }
        }
        let mut schema = json!({"type": "object"});
        if !properties.is_empty() {
            schema["properties"] = Value::Object(properties);
        }
        if !required.is_empty() {
            schema["required"] = Value::Array(required);
        }
        if of.atomic {
            schema["x-kubernetes-map-type"] = json!("atomic");
        }
        schema
    }

    fn property(&mut self, field: &Field) -> Value {
        let reference = self.reference(&field.ty);
        let mut schema = match reference.get("$ref") {
            Some(_) => json!({"allOf": [reference]}),
            None => reference,
        };
        let default = field.default.clone().or_else(|| zero_default(field));
        if let Some(default) = default {
            schema["default"] = default;
        }
        if field.atomic {
            schema["x-kubernetes-map-type"] = json!("atomic");
        }
        if let Some(patch) = &field.patch {
            let strategies = [(patch.merge, "merge"), (patch.retain_keys, "retainKeys")];
            let strategies: Vec<&str> =
                strategies.iter().filter(|(holds, _)| *holds).map(|(_, strategy)| *strategy).collect();
            if !strategies.is_empty() {
                schema["x-kubernetes-patch-strategy"] = json!(strategies.join(","));
            }
            if let Some(key) = &patch.merge_key {
                schema["x-kubernetes-patch-merge-key"] = json!(key);
            }
        }
        schema
    }
}

/// Go's zero value as the default that OpenAPI declares: of fields that cannot be absent in Go.
fn zero_default(field: &Field) -> Option<Value> {
    if field.pointer {
        return None;
    }
    match field.ty.shape() {
        Shape::Struct(_) => Some(json!({})),
        Shape::Bool | Shape::Int32 | Shape::Int64 | Shape::Float | Shape::String(_)
            if field.omit == Omit::Never =>
        {
            Some(field.ty.zero())
        }
        _ => None,
    }
}
