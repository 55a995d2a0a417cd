//! Component schemas, derived from the type table.

use std::collections::BTreeSet;

use schema::structural::openapi::{self, Document};
use schema::types::{self, Docs, Field, ListMerge, Member, Omit, PackageInfo, Shape, Struct, Type};
use serde_json::{Map, Value, json};

use super::extensions;
use crate::kind::{Kind, Verbs, Version};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const PREFIX: &str = "#/components/schemas/";

/// The schemas that the operations of a version refer to, and all that these refer to.
pub fn of_version(version: &Version, document: Document) -> Map<String, Value> {
    let mut schemas = Schemas::default();
    for kind in version.kinds.values().filter(|kind| kind.is_custom()) {
        schemas.add_custom(kind, document);
    }
    if version.kinds.values().all(|kind| kind.is_custom()) {
        return schemas.finish();
    }
    schemas.add_kind(&format!("{META}.APIResourceList"), "", "v1", "APIResourceList");
    let in_group = version.kinds.values().next().map(|kind| (kind.group.as_ref(), kind.version.as_ref()));
    let (group, in_version) = in_group.unwrap_or_default();
    // Where nothing is stored, nothing is watched, patched or deleted.
    if version.kinds.values().any(|kind| kind.verbs != Verbs::Create) {
        schemas.add(&format!("{META}.Patch"));
        for of_meta in ["DeleteOptions", "WatchEvent"] {
            // They belong to every group, and to none.
            schemas.add_kind(&format!("{META}.{of_meta}"), "", "v1", of_meta);
            if !group.is_empty() {
                schemas.add_kind(&format!("{META}.{of_meta}"), group, in_version, of_meta);
            }
        }
        schemas.add_kind(&format!("{META}.Status"), "", "v1", "Status");
    }
    for kind in version.kinds.values().filter(|kind| !kind.is_custom()) {
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

/// The schema of a discovery document, and all that it refers to.
pub fn of_discovery(kind: &str) -> Map<String, Value> {
    let mut schemas = Schemas::default();
    schemas.add_kind(&format!("{META}.{kind}"), "", "v1", kind);
    if kind == "APIGroupList" {
        schemas.add_kind(&format!("{META}.APIGroup"), "", "v1", "APIGroup");
    }
    schemas.finish()
}

/// The group version and the kind that a type has of its own, if it has.
fn kind_of(name: &str) -> Option<(PackageInfo, &str)> {
    let (package, kind) = name.rsplit_once('.')?;
    types::get(name)?.as_struct().filter(|of| of.is_kind)?;
    let package = types::packages().find(|info| info.openapi == package && info.openapi != META)?;
    Some((package, kind))
}

/// The schema of `/version`, the one answer that is no type of the table.
pub fn of_version_info() -> Map<String, Value> {
    const NAME: &str = "io.k8s.apimachinery.pkg.version.Info";
    const REQUIRED: [&str; 9] = [
        "major",
        "minor",
        "gitVersion",
        "gitCommit",
        "gitTreeState",
        "buildDate",
        "goVersion",
        "compiler",
        "platform",
    ];
    const OPTIONAL: [&str; 4] =
        ["emulationMajor", "emulationMinor", "minCompatibilityMajor", "minCompatibilityMinor"];
    let mut docs = Docs::default();
    let mut properties = Map::new();
    for name in REQUIRED.iter().chain(&OPTIONAL) {
        let mut property = json!({"type": "string"});
        if REQUIRED.contains(name) {
            property["default"] = json!("");
        }
        if let Some(text) = docs.of_field(NAME, name) {
            property["description"] = json!(text);
        }
        properties.insert((*name).to_owned(), property);
    }
    let schema = json!({"type": "object", "description": docs.of_type(NAME).unwrap_or_default(),
        "properties": properties, "required": REQUIRED});
    Map::from_iter([(NAME.to_owned(), schema)])
}

/// The group versions of client-go, to all of which upstream counts what custom kinds are deleted with.
#[rustfmt::skip]
const CLIENT_VERSIONS: [(&str, &str); 53] = [
    ("", "v1"), ("admissionregistration.k8s.io", "v1"), ("admissionregistration.k8s.io", "v1alpha1"),
    ("admissionregistration.k8s.io", "v1beta1"), ("apps", "v1"), ("apps", "v1beta1"), ("apps", "v1beta2"),
    ("authentication.k8s.io", "v1"), ("authentication.k8s.io", "v1alpha1"),
    ("authentication.k8s.io", "v1beta1"), ("authorization.k8s.io", "v1"),
    ("authorization.k8s.io", "v1beta1"), ("autoscaling", "v1"), ("autoscaling", "v2"), ("batch", "v1"),
    ("batch", "v1beta1"), ("certificates.k8s.io", "v1"), ("certificates.k8s.io", "v1alpha1"),
    ("certificates.k8s.io", "v1beta1"), ("coordination.k8s.io", "v1"), ("coordination.k8s.io", "v1alpha2"),
    ("coordination.k8s.io", "v1beta1"), ("discovery.k8s.io", "v1"), ("discovery.k8s.io", "v1beta1"),
    ("events.k8s.io", "v1"), ("events.k8s.io", "v1beta1"), ("extensions", "v1beta1"),
    ("flowcontrol.apiserver.k8s.io", "v1"), ("flowcontrol.apiserver.k8s.io", "v1beta1"),
    ("flowcontrol.apiserver.k8s.io", "v1beta2"), ("flowcontrol.apiserver.k8s.io", "v1beta3"),
    ("internal.apiserver.k8s.io", "v1alpha1"), ("networking.k8s.io", "v1"),
    ("networking.k8s.io", "v1beta1"), ("node.k8s.io", "v1"), ("node.k8s.io", "v1alpha1"),
    ("node.k8s.io", "v1beta1"), ("policy", "v1"), ("policy", "v1beta1"),
    ("rbac.authorization.k8s.io", "v1"), ("rbac.authorization.k8s.io", "v1alpha1"),
    ("rbac.authorization.k8s.io", "v1beta1"), ("resource.k8s.io", "v1"), ("resource.k8s.io", "v1alpha3"),
    ("resource.k8s.io", "v1beta1"), ("resource.k8s.io", "v1beta2"), ("scheduling.k8s.io", "v1"),
    ("scheduling.k8s.io", "v1alpha2"), ("scheduling.k8s.io", "v1beta1"), ("storage.k8s.io", "v1"),
    ("storage.k8s.io", "v1alpha1"), ("storage.k8s.io", "v1beta1"), ("storagemigration.k8s.io", "v1beta1"),
];

#[derive(Default)]
struct Schemas {
    done: Map<String, Value>,
    wanted: BTreeSet<String>,
    docs: Docs,
}

impl Schemas {
    fn add(&mut self, name: &str) {
        if !self.done.contains_key(name) {
            self.wanted.insert(name.to_owned());
        }
    }

    /// Adds a kind that a CustomResourceDefinition describes, and what its operations refer to.
    fn add_custom(&mut self, kind: &Kind, document: Document) {
        let Some(handler) = &kind.custom else { return };
        let definition = handler.source();
        let package = kind.schema.rsplit_once('.').map_or("", |(package, _)| package);
        let list = format!("{package}.{}", kind.list_kind);
        let schema = openapi::kind_schema(&definition, &kind.version, document);
        self.done.insert(kind.schema.to_string(), schema);
        self.done.insert(list, openapi::list_schema(&definition, &kind.version, document));
        for of_meta in ["ObjectMeta", "ListMeta", "Patch"] {
            self.add(&format!("{META}.{of_meta}"));
        }
        for (group, version) in CLIENT_VERSIONS {
            self.add_kind(&format!("{META}.DeleteOptions"), group, version, "DeleteOptions");
        }
        self.add_kind(&format!("{META}.Status"), "", "v1", "Status");
        if kind.subresource("scale").is_some() {
            self.add_kind("io.k8s.api.autoscaling.v1.Scale", "autoscaling", "v1", "Scale");
        }
    }

    /// Adds a kind, which says so.
    fn add_kind(&mut self, name: &str, group: &str, version: &str, kind: &str) {
        self.wanted.remove(name);
        let mut schema = match self.done.remove(name) {
            Some(known) => known,
            None => self.schema(name),
        };
        let kinds = &mut schema["x-kubernetes-group-version-kind"];
        let kind = json!({"group": group, "version": version, "kind": kind});
        match kinds.as_array_mut() {
            Some(kinds) if kinds.contains(&kind) => {}
            Some(kinds) => kinds.push(kind),
            None => *kinds = json!([kind]),
        }
        self.done.insert(name.to_owned(), schema);
    }

    fn finish(mut self) -> Map<String, Value> {
        while let Some(name) = self.wanted.pop_first() {
            match kind_of(&name) {
                Some((package, kind)) => self.add_kind(&name, package.group, package.version, kind),
                None => {
                    let schema = self.schema(&name);
                    self.done.insert(name, schema);
                }
            }
        }
        self.done
    }

    fn schema(&mut self, name: &str) -> Value {
        let schema = match types::get(name) {
            Some(found) => self.shape(found),
            // Options of connections, and types that are only named.
            None => json!({"type": "object"}),
        };
        self.described(schema, name)
    }

    fn described(&mut self, mut schema: Value, name: &str) -> Value {
        if let Some(text) = self.docs.of_type(name) {
            schema["description"] = json!(text.trim());
        }
        schema
    }

    /// A use of a type: a reference if it has a name.
    fn reference(&mut self, of: &Type) -> Value {
        let name = match of.shape() {
            Shape::Time => format!("{META}.Time"),
            Shape::MicroTime => format!("{META}.MicroTime"),
            Shape::Duration => format!("{META}.Duration"),
            Shape::Quantity => "io.k8s.apimachinery.pkg.api.resource.Quantity".to_owned(),
            Shape::IntOrString => "io.k8s.apimachinery.pkg.util.intstr.IntOrString".to_owned(),
            Shape::Struct(_) | Shape::Raw | Shape::Any | Shape::SchemaOr(_) if !of.name().is_empty() => {
                of.name().to_owned()
            }
            _ => return self.shape(of),
        };
        if !self.done.contains_key(&name) && !self.wanted.contains(&name) {
            match types::get(&name) {
                Some(_) => self.add(&name),
                None => {
                    let schema = self.shape(of);
                    let schema = self.described(schema, &name);
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
            Shape::Struct(struct_of) => self.object(of.name(), struct_of),
        }
    }

    fn object(&mut self, name: &str, of: &Struct) -> Value {
        let mut properties = Map::new();
        let mut required = Vec::new();
        self.members(name, of, &mut properties, &mut required);
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
        if let Some(union) = extensions::union(name) {
            schema["x-kubernetes-unions"] = json!([union]);
        }
        schema
    }

    /// The fields of a struct, and of those that are embedded in it.
    fn members(
        &mut self,
        name: &str,
        of: &Struct,
        properties: &mut Map<String, Value>,
        required: &mut Vec<Value>,
    ) {
        for member in of.members() {
            let field = match member {
                Member::Field(field) => field,
                Member::Inline(_, embedded) => {
                    if let Some(of) = embedded.as_struct() {
                        self.members(embedded.name(), of, properties, required);
                    }
                    continue;
                }
            };
            let mut property = self.property(field);
            if let Some((extension, value)) = extensions::of_field(name, &field.name) {
                property[extension] = json!(value);
            }
            let mut text = self.docs.of_field(name, &field.name).unwrap_or_default().into_owned();
            // The values of an enum are explained wherever it is used.
            if let Shape::String(values) = field.ty.shape()
                && !values.is_empty()
            {
                text.push_str(&self.docs.of_type(field.ty.name()).unwrap_or_default());
            }
            if !text.is_empty() {
                property["description"] = json!(text.trim());
            }
            properties.insert(field.name.clone(), alone(property));
            if field.required {
                required.push(json!(field.name));
            }
        }
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
            let strategies =
                [(patch.merge, "merge"), (patch.retain_keys, "retainKeys"), (patch.replace, "replace")];
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

/// A reference needs `allOf` around it only where something stands beside it.
fn alone(mut property: Value) -> Value {
    match property.as_object() {
        Some(map) if map.len() == 1 && map.contains_key("allOf") => property["allOf"][0].take(),
        _ => property,
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
