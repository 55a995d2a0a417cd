//! Reads the text files of the type table.
//!
//! One package a file, one declaration a paragraph, one field a line:
//!
//! ```text
//! package apps v1 io.k8s.api.apps.v1            group, version, prefix of OpenAPI names
//!
//! Deployment { kind                             a struct; `kind`: has kind and apiVersion; `atomic`
//!   - + meta.TypeMeta                           an embedded struct
//!   1 metadata? meta.ObjectMeta                 protobuf number, name, Go type
//!   8 conditions? []DeploymentCondition list=map:type patch=merge:type
//!
//! DeploymentStrategyType = string enum=Recreate|RollingUpdate
//! ```
//!
//! The mark behind a name says when Go leaves the field out and whether OpenAPI requires it:
//! none = always written and required, `~` = always written and optional, `?` = `omitempty`,
//! `!` = `omitempty` and required, `??` = `omitzero`. Attributes: `list=atomic|set|map:KEYS` (server-side apply),
//! `patch=STRATEGY:KEY` (strategic merge), `atomic`, `default=JSON`.

use std::collections::BTreeMap;

use super::{
    Field, List, ListMerge, Map, Member, Omit, PatchStrategy, SchemaOr, Shape, Struct, Type, TypeRef,
};

/// A parsed file.
pub(super) struct Package {
    pub(super) group: String,
    pub(super) version: String,
    /// Types by their Go name.
    pub(super) types: BTreeMap<String, Type>,
}

/// Parses one file; `file` is its name, by which other packages refer to it. The files are part of
/// the program, so what cannot be read is a bug and panics with the line.
pub(super) fn package(file: &str, text: &str) -> Package {
    let mut lines = text.lines().filter(|l| !l.starts_with('#')).peekable();
    let head: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let &["package", group, version, openapi] = head.as_slice() else { panic!("{file}: no package line") };
    let scope = Scope { file, version, openapi };
    let mut types = BTreeMap::new();
    while let Some(line) = lines.next() {
        if let Some((name, marks)) = line.split_once(" {") {
            let mut members = Vec::new();
            while let Some(member) = lines.next_if(|l| l.starts_with("  ")) {
                members.push(scope.member(member.trim_start()));
            }
            let mut body = Struct::new(members);
            body.atomic = marks.contains("atomic");
            body.is_kind = marks.contains("kind");
            types.insert(name.to_string(), scope.declare(name, Shape::Struct(body)));
        } else if let Some((name, rest)) = line.split_once(" = ") {
            let (go, values) = rest.split_once(" enum=").unwrap_or((rest, ""));
            let shape = match scope.scalar(go) {
                Some(Shape::String(_)) if !values.is_empty() => {
                    Shape::String(values.split('|').map(str::to_string).collect())
                }
                Some(shape) => shape,
                None => scope.compound(go),
            };
            types.insert(name.to_string(), scope.declare(name, shape));
        } else if !line.is_empty() {
            panic!("{file}: cannot read {line:?}");
        }
    }
    let group = if group == "core" { "" } else { group };
    Package { group: group.into(), version: version.into(), types }
}

struct Scope<'a> {
    file: &'a str,
    version: &'a str,
    openapi: &'a str,
}

impl Scope<'_> {
    fn declare(&self, name: &str, shape: Shape) -> Type {
        Type::new(format!("{}.{name}", self.openapi), format!("{}.{name}", self.version), shape)
    }

    fn member(&self, line: &str) -> Member {
        let mut words = line.splitn(4, ' ');
        let (Some(tag), Some(name), Some(go)) = (words.next(), words.next(), words.next()) else {
            panic!("{}: cannot read {line:?}", self.file)
        };
        let tag = tag.parse().unwrap_or(0);
        if name == "+" {
            return Member::Inline(tag, self.reference(go.trim_start_matches('*'), None));
        }
        let plain = name.trim_end_matches(['?', '~', '!']);
        let (omit, required) = match &name[plain.len()..] {
            "" => (Omit::Never, true),
            "~" => (Omit::Never, false),
            "?" => (Omit::Empty, false),
            "!" => (Omit::Empty, true),
            _ => (Omit::Zero, false),
        };
        let attributes = Attributes::read(words.next().unwrap_or_default());
        let (pointer, go) = go.strip_prefix('*').map_or((false, go), |go| (true, go));
        let ty = self.reference(go, attributes.list.clone());
        Member::Field(Box::new(Field {
            name: plain.into(),
            tag,
            ty,
            pointer,
            omit,
            required,
            atomic: attributes.atomic,
            default: attributes.default,
            patch: attributes.patch,
            embedded: String::new(),
        }))
    }

    fn reference(&self, go: &str, merge: Option<ListMerge>) -> TypeRef {
        if let Some(items) = go.strip_prefix("[]").filter(|items| *items != "byte") {
            let items = self.reference(items.trim_start_matches('*'), None);
            return Type::new("", self.go_name(go), list(items, merge)).into();
        }
        if go.starts_with("map[") {
            return Type::new("", self.go_name(go), self.compound(go)).into();
        }
        // What begins with a capital letter is declared in a file of the table.
        let scalar = if go.starts_with(|c: char| c.is_ascii_uppercase()) { None } else { self.scalar(go) };
        match scalar {
            Some(shape) => Type::new(external_name(go), self.go_name(go), shape).into(),
            None => match go.split_once('.') {
                Some((package, name)) => TypeRef::named(&format!("{package}_v1"), name),
                None => TypeRef::named(self.file, go),
            },
        }
    }

    /// The name of a type as Go's error texts show it. From the text alone: following references
    /// while a package is being read would wait for itself.
    fn go_name(&self, go: &str) -> String {
        if let Some(items) = go.strip_prefix("[]") {
            return format!("[]{}", if items == "byte" { "uint8".into() } else { self.go_name(items) });
        }
        if let Some((key, values)) = go.strip_prefix("map[").and_then(|rest| rest.split_once(']')) {
            return format!("map[{}]{}", self.go_name(key), self.go_name(values));
        }
        match go.split_once('.') {
            Some(("types" | "runtime" | "resource" | "intstr", _)) => go.into(),
            Some((_, name)) => format!("v1.{name}"),
            None if go.starts_with(|c: char| c.is_ascii_uppercase()) => format!("{}.{go}", self.version),
            None => go.into(),
        }
    }

    fn compound(&self, go: &str) -> Shape {
        if let Some(items) = go.strip_prefix("[]") {
            let items = self.reference(items, None);
            list(items, None)
        } else if let Some((_, values)) = go.strip_prefix("map[").and_then(|rest| rest.split_once(']')) {
            let values = self.reference(values, None);
            Shape::Map(Map { values, atomic: false })
        } else if go == "struct{}" {
            Shape::Struct(Struct::new(Vec::new()))
        } else {
            // A second name for another type.
            Shape::Struct(Struct::new(vec![Member::Inline(0, self.reference(go, None))]))
        }
    }

    fn scalar(&self, go: &str) -> Option<Shape> {
        Some(match go {
            "bool" => Shape::Bool,
            "int32" => Shape::Int32,
            "int64" => Shape::Int64,
            "float64" => Shape::Float,
            "string" | "types.UID" | "types.NodeName" => Shape::String(Vec::new()),
            "[]byte" => Shape::Bytes,
            "Time" => Shape::Time,
            "MicroTime" => Shape::MicroTime,
            "Duration" => Shape::Duration,
            "resource.Quantity" => Shape::Quantity,
            "intstr.IntOrString" => Shape::IntOrString,
            "runtime.RawExtension" | "FieldsV1" => Shape::Raw,
            "interface{}" | "JSON" => Shape::Any,
            "JSONSchemaPropsOrArray" => Shape::SchemaOr(SchemaOr::Array),
            "JSONSchemaPropsOrBool" => Shape::SchemaOr(SchemaOr::Bool),
            "JSONSchemaPropsOrStringArray" => Shape::SchemaOr(SchemaOr::StringArray),
            _ => return None,
        })
    }
}

fn list(items: TypeRef, merge: Option<ListMerge>) -> Shape {
    Shape::List(List { items, declared: merge.is_some(), merge: merge.unwrap_or(ListMerge::Atomic) })
}

/// OpenAPI names of the types that live outside of the API packages.
fn external_name(go: &str) -> &'static str {
    match go {
        "resource.Quantity" => "io.k8s.apimachinery.pkg.api.resource.Quantity",
        "intstr.IntOrString" => "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
        "runtime.RawExtension" => "io.k8s.apimachinery.pkg.runtime.RawExtension",
        _ => "",
    }
}

#[derive(Default)]
struct Attributes {
    list: Option<ListMerge>,
    patch: Option<PatchStrategy>,
    atomic: bool,
    default: Option<serde_json::Value>,
}

impl Attributes {
    fn read(text: &str) -> Self {
        let mut read = Self::default();
        // The default comes last: it may hold spaces.
        let (plain, default) = match text.split_once("default=") {
            Some((plain, default)) => (plain, Some(default)),
            None => (text, None),
        };
        read.default = default
            .map(|d| serde_json::from_str(d).unwrap_or_else(|e| panic!("default {d:?} is not JSON: {e}")));
        for word in plain.split_whitespace() {
            match word.split_once('=') {
                Some(("list", list)) => {
                    read.list = Some(match list.split_once(':') {
                        Some((_, keys)) => ListMerge::Map(keys.split(',').map(str::to_string).collect()),
                        None if list == "set" => ListMerge::Set,
                        None => ListMerge::Atomic,
                    });
                }
                Some(("patch", patch)) => {
                    let (strategies, key) =
                        patch.split_once(':').map_or((patch, None), |(s, k)| (s, Some(k)));
                    read.patch = Some(PatchStrategy {
                        merge: strategies.split(',').any(|s| s == "merge"),
                        replace: strategies.split(',').any(|s| s == "replace"),
                        retain_keys: strategies.split(',').any(|s| s == "retainKeys"),
                        merge_key: key.map(str::to_string),
                    });
                }
                None if word == "atomic" => read.atomic = true,
                _ => panic!("unknown attribute {word:?}"),
            }
        }
        read
    }
}
