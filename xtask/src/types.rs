//! `cargo xtask types --go DIR`: reads upstream's Go type declarations and writes the type table
//! that the `schema` crate embeds (`crates/schema/types/*.types`; the format is described in
//! `crates/schema/src/types/parse.rs`) and the texts of its OpenAPI documents (`*.docs`, see `docs.rs`).
//!
//! The reader knows the shape of Kubernetes' API packages, not Go: one field a line, markers
//! (`// +listType=map`) in the comment above. Anything it does not understand is an error.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::docs::{self, Comment, Docs};

/// One Go package that holds a served version of an API group.
struct Package {
    /// Name of the written file, without `.types`.
    file: &'static str,
    /// API group as in `apiVersion`; empty for core.
    group: &'static str,
    version: &'static str,
    /// Prefix of the OpenAPI names.
    openapi: &'static str,
    /// Directory below `staging/src/k8s.io`.
    dir: &'static str,
}

macro_rules! packages {
    ($($file:literal $group:literal $version:literal $openapi:literal $dir:literal)*) => {
        &[$(Package { file: $file, group: $group, version: $version, openapi: $openapi, dir: $dir }),*]
    };
}

const PACKAGES: &[Package] = packages! {
    "meta_v1" "meta.k8s.io" "v1" "io.k8s.apimachinery.pkg.apis.meta.v1" "apimachinery/pkg/apis/meta/v1"
    "core_v1" "" "v1" "io.k8s.api.core.v1" "api/core/v1"
    "admissionregistration_v1" "admissionregistration.k8s.io" "v1" "io.k8s.api.admissionregistration.v1" "api/admissionregistration/v1"
    "apiextensions_v1" "apiextensions.k8s.io" "v1" "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1" "apiextensions-apiserver/pkg/apis/apiextensions/v1"
    "apiregistration_v1" "apiregistration.k8s.io" "v1" "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1" "kube-aggregator/pkg/apis/apiregistration/v1"
    "apps_v1" "apps" "v1" "io.k8s.api.apps.v1" "api/apps/v1"
    "authentication_v1" "authentication.k8s.io" "v1" "io.k8s.api.authentication.v1" "api/authentication/v1"
    "authorization_v1" "authorization.k8s.io" "v1" "io.k8s.api.authorization.v1" "api/authorization/v1"
    "autoscaling_v1" "autoscaling" "v1" "io.k8s.api.autoscaling.v1" "api/autoscaling/v1"
    "autoscaling_v2" "autoscaling" "v2" "io.k8s.api.autoscaling.v2" "api/autoscaling/v2"
    "batch_v1" "batch" "v1" "io.k8s.api.batch.v1" "api/batch/v1"
    "certificates_v1" "certificates.k8s.io" "v1" "io.k8s.api.certificates.v1" "api/certificates/v1"
    "coordination_v1" "coordination.k8s.io" "v1" "io.k8s.api.coordination.v1" "api/coordination/v1"
    "discovery_v1" "discovery.k8s.io" "v1" "io.k8s.api.discovery.v1" "api/discovery/v1"
    "events_v1" "events.k8s.io" "v1" "io.k8s.api.events.v1" "api/events/v1"
    "flowcontrol_v1" "flowcontrol.apiserver.k8s.io" "v1" "io.k8s.api.flowcontrol.v1" "api/flowcontrol/v1"
    "metrics_v1beta1" "metrics.k8s.io" "v1beta1" "io.k8s.metrics.pkg.apis.metrics.v1beta1" "metrics/pkg/apis/metrics/v1beta1"
    "networking_v1" "networking.k8s.io" "v1" "io.k8s.api.networking.v1" "api/networking/v1"
    "node_v1" "node.k8s.io" "v1" "io.k8s.api.node.v1" "api/node/v1"
    "policy_v1" "policy" "v1" "io.k8s.api.policy.v1" "api/policy/v1"
    "rbac_v1" "rbac.authorization.k8s.io" "v1" "io.k8s.api.rbac.v1" "api/rbac/v1"
    "resource_v1" "resource.k8s.io" "v1" "io.k8s.api.resource.v1" "api/resource/v1"
    "scheduling_v1" "scheduling.k8s.io" "v1" "io.k8s.api.scheduling.v1" "api/scheduling/v1"
    "storage_v1" "storage.k8s.io" "v1" "io.k8s.api.storage.v1" "api/storage/v1"
};

/// Go files of a package that declare API types.
const SOURCES: &[&str] = &["types.go", "types_jsonschema.go", "watch.go"];

/// Types whose JSON form is code upstream; `schema` has a shape of the same name for each.
const OPAQUE: &[(&str, &str)] = &[
    ("meta_v1", "Time"),
    ("meta_v1", "MicroTime"),
    ("meta_v1", "Duration"),
    ("meta_v1", "FieldsV1"),
    ("apiextensions_v1", "JSON"),
    ("apiextensions_v1", "JSONSchemaPropsOrArray"),
    ("apiextensions_v1", "JSONSchemaPropsOrBool"),
    ("apiextensions_v1", "JSONSchemaPropsOrStringArray"),
];

/// Runs the subcommand: `args` are those after `types`.
pub fn run(args: &[String]) -> Result<(), String> {
    let go = match args {
        [flag, dir] if flag == "--go" => PathBuf::from(dir),
        _ => return Err("usage: cargo xtask types --go DIR (a Kubernetes source tree)".into()),
    };
    let out = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/schema/types");
    let (mut total, mut total_docs) = (0, 0);
    for package in PACKAGES {
        let dir = go.join("staging/src/k8s.io").join(package.dir);
        let mut declarations = Declarations::default();
        for source in SOURCES {
            let path = dir.join(source);
            if path.exists() {
                let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
                declarations.read(&text).map_err(|e| format!("{}: {e}", path.display()))?;
            }
        }
        let text = declarations.write(package);
        if package.file == "meta_v1" {
            declarations.types.extend(elsewhere(&go)?);
        }
        let docs = declarations.docs();
        total += text.len();
        total_docs += docs.len();
        fs::write(out.join(format!("{}.types", package.file)), text).map_err(|e| e.to_string())?;
        fs::write(out.join(format!("{}.docs", package.file)), docs).map_err(|e| e.to_string())?;
    }
    println!("{} packages, {total} bytes, {total_docs} bytes of documentation", PACKAGES.len());
    Ok(())
}

/// Where the types are described that other packages use in all places, below `apimachinery/pkg`.
const ELSEWHERE: &[(&str, &str)] = &[
    ("apis/meta/v1/fieldsv1_string.go", "FieldsV1"),
    ("apis/meta/v1/time.go", "Time"),
    ("apis/meta/v1/micro_time.go", "MicroTime"),
    ("apis/meta/v1/duration.go", "Duration"),
    ("api/resource/quantity.go", "Quantity"),
    ("util/intstr/intstr.go", "IntOrString"),
    ("runtime/types.go", "RawExtension"),
    ("version/types.go", "Info"),
];

/// Reads the comments of [`ELSEWHERE`]; the table has those types under `meta_v1`.
fn elsewhere(go: &Path) -> Result<Vec<Declared>, String> {
    let mut found = Vec::new();
    for (file, name) in ELSEWHERE {
        let path = go.join("staging/src/k8s.io/apimachinery/pkg").join(file);
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let mut declarations = Declarations::default();
        declarations.read(&text).map_err(|e| format!("{}: {e}", path.display()))?;
        found.extend(declarations.types.into_iter().filter(|declared| declared.name == *name));
    }
    Ok(found)
}

#[derive(Default)]
struct Declarations {
    /// Import alias → last meaningful part of the path, as the table names packages.
    imports: BTreeMap<String, String>,
    types: Vec<Declared>,
    /// The string constants by name.
    constants: BTreeMap<String, Constant>,
}

struct Constant {
    /// The name of its type.
    kind: String,
    value: String,
    comment: Vec<String>,
}

struct Declared {
    name: String,
    markers: Vec<String>,
    comment: Vec<String>,
    body: Body,
}

enum Body {
    Struct(Vec<Field>),
    Other(String),
}

struct Field {
    /// Empty for an embedded struct.
    json: String,
    options: Vec<String>,
    go: String,
    tag: Option<String>,
    patch_strategy: Option<String>,
    patch_key: Option<String>,
    markers: Vec<String>,
    comment: Vec<String>,
}

impl Declarations {
    fn read(&mut self, text: &str) -> Result<(), String> {
        let mut lines = text.lines().enumerate();
        let mut markers = Vec::new();
        let mut comment = Comment::default();
        while let Some((number, line)) = lines.next() {
            let line = line.trim_end();
            let trimmed = line.trim();
            let above = comment.above(trimmed);
            if let Some(marker) = trimmed.strip_prefix("//") {
                collect_marker(marker, &mut markers);
            } else if trimmed.contains("\"k8s.io/") {
                let (alias, path) = import(trimmed);
                self.imports.insert(alias, path);
            } else if let Some(rest) = line.strip_prefix("type ") {
                let mut words = rest.split_whitespace();
                let name = words.next().ok_or("type without a name")?.to_string();
                let kind = words.collect::<Vec<_>>().join(" ");
                let body = if kind.starts_with("struct {") || kind == "struct{" {
                    let empty = kind.ends_with('}');
                    Body::Struct(if empty { Vec::new() } else { fields(&mut lines)? })
                } else if kind.starts_with("interface") {
                    continue;
                } else {
                    if name == "InternalEvent" {
                        // Go's way to hand events around in process; not on the wire.
                        continue;
                    }
                    Body::Other(kind.split("//").next().unwrap_or_default().trim().to_string())
                };
                let markers = std::mem::take(&mut markers);
                self.types.push(Declared { name, markers, comment: above, body });
            } else if let Some((name, kind, value)) = constant(trimmed) {
                self.constants.insert(name, Constant { kind, value, comment: above });
                markers.clear();
            } else if trimmed.starts_with("func ") || trimmed.starts_with("package ") {
                markers.clear();
            }
            if trimmed.starts_with("type ") && trimmed.ends_with('(') {
                return Err(format!("line {}: grouped type declarations are not understood", number + 1));
            }
        }
        Ok(())
    }

    fn write(&self, package: &Package) -> String {
        let mut out =
            String::from("# Generated by `cargo xtask types` from Kubernetes v1.36.2; do not edit.\n");
        let group = if package.group.is_empty() { "core" } else { package.group };
        let _ = writeln!(out, "package {group} {} {}", package.version, package.openapi);
        let opaque = |name: &str| OPAQUE.contains(&(package.file, name));
        for (_, name) in OPAQUE.iter().filter(|(file, _)| *file == package.file) {
            let _ = writeln!(out, "\n{name} = {name}");
        }
        for declared in self.types.iter().filter(|d| !opaque(&d.name)) {
            match &declared.body {
                Body::Struct(fields) => self.write_struct(&mut out, declared, fields),
                Body::Other(go) => self.write_named(&mut out, declared, go),
            }
        }
        out
    }

    /// The `.docs` file.
    fn docs(&self) -> String {
        let mut docs = Docs::default();
        for declared in &self.types {
            let is_enum = declared.markers.iter().any(|m| m == "enum");
            match &declared.body {
                Body::Struct(fields) => {
                    docs.of_type(&declared.name, &docs::description(&declared.comment));
                    for field in fields.iter().filter(|field| !field.json.is_empty()) {
                        docs.of_field(&declared.name, &field.json, &docs::description(&field.comment));
                    }
                }
                Body::Other(_) if is_enum => {
                    let of_it = self.constants.iter().filter(|(_, constant)| constant.kind == declared.name);
                    let of_it = of_it.map(|(name, constant)| (&*constant.value, &**name, &*constant.comment));
                    docs.of_type(&declared.name, &docs::enum_values(of_it));
                }
                // Other names are not seen in OpenAPI, but for those whose JSON form is code.
                Body::Other(_) => docs.of_type(&declared.name, &docs::description(&declared.comment)),
            }
        }
        docs.finish()
    }

    fn write_named(&self, out: &mut String, declared: &Declared, go: &str) {
        let go = go.trim_start_matches("= ");
        let _ = write!(out, "\n{} = {}", declared.name, self.reference(go));
        if declared.markers.iter().any(|m| m == "enum") {
            let values: BTreeSet<&str> = self
                .constants
                .values()
                .filter(|constant| constant.kind == declared.name)
                .map(|constant| constant.value.as_str())
                .collect();
            if !values.is_empty() {
                let values: Vec<&str> = values.into_iter().collect();
                let _ = write!(out, " enum={}", values.join("|"));
            }
        }
        let _ = writeln!(out);
    }

    fn write_struct(&self, out: &mut String, declared: &Declared, fields: &[Field]) {
        let kind = fields.iter().any(|f| f.json.is_empty() && f.go.ends_with("TypeMeta"));
        let _ = write!(out, "\n{} {{", declared.name);
        if kind && declared.markers.iter().any(|m| m.starts_with("k8s:deepcopy-gen:interfaces=")) {
            let _ = write!(out, " kind");
        }
        if marker(&declared.markers, "structType").is_some_and(|v| v == "atomic") {
            let _ = write!(out, " atomic");
        }
        let _ = writeln!(out);
        for field in fields {
            let _ = writeln!(out, "  {}", self.field(field));
        }
    }

    fn field(&self, field: &Field) -> String {
        let mut line = field.tag.clone().unwrap_or_else(|| "-".into());
        let mut reference = self.reference(&field.go);
        // How a list merges is told where it is used, so that a named list is written out there.
        let named = self.types.iter().find(|declared| declared.name == field.go);
        if let (Some(Declared { body: Body::Other(go), .. }), Some(_)) =
            (named, marker(&field.markers, "listType"))
        {
            reference = self.reference(go);
        }
        if field.json.is_empty() {
            let _ = write!(line, " + {reference}");
            return line;
        }
        let has = |option: &str| field.options.iter().any(|o| o == option);
        let optional = field.markers.iter().any(|m| m == "optional");
        let required = field.markers.iter().any(|m| m == "required" || m == "k8s:required");
        let mark = match (has("omitzero"), has("omitempty"), optional) {
            (true, _, _) => "??",
            (false, true, _) if required && !optional => "!",
            (false, true, _) => "?",
            (false, false, true) => "~",
            (false, false, false) => "",
        };
        let _ = write!(line, " {}{mark} {reference}", field.json);
        if let Some(list) = marker(&field.markers, "listType") {
            let _ = write!(line, " list={list}");
            let keys: Vec<&str> =
                field.markers.iter().filter_map(|m| m.strip_prefix("listMapKey=")).collect();
            if !keys.is_empty() {
                let _ = write!(line, ":{}", keys.join(","));
            }
        }
        let atomic = |name: &str| marker(&field.markers, name).is_some_and(|v| v == "atomic");
        if atomic("mapType") || atomic("structType") {
            line.push_str(" atomic");
        }
        if let Some(strategy) = &field.patch_strategy {
            let _ = write!(line, " patch={strategy}");
            if let Some(key) = &field.patch_key {
                let _ = write!(line, ":{key}");
            }
        }
        if let Some(default) = marker(&field.markers, "default") {
            let default = match default.strip_prefix("ref(").and_then(|d| d.strip_suffix(')')) {
                Some(constant) => self.constant_value(constant),
                None => default.to_string(),
            };
            let _ = write!(line, " default={default}");
        }
        line
    }

    fn constant_value(&self, name: &str) -> String {
        self.constants
            .get(name)
            .map_or_else(|| format!("ref({name})"), |constant| format!("\"{}\"", constant.value))
    }

    /// A Go type as the table writes it: import aliases replaced by the package's own name.
    fn reference(&self, go: &str) -> String {
        let start = go.rfind(['*', ']']).map_or(0, |i| i + 1);
        let (prefix, name) = go.split_at(start);
        let prefix = match prefix.strip_prefix("map[") {
            // Map keys are strings in JSON whatever their Go type; the texts of errors name it.
            Some(rest) => format!("map[{}", self.qualify_key(rest)),
            None => prefix.to_string(),
        };
        format!("{prefix}{}", self.qualify(name))
    }

    fn qualify_key(&self, rest: &str) -> String {
        match rest.split_once(']') {
            Some((key, tail)) => format!("{}]{tail}", self.qualify(key)),
            None => rest.to_string(),
        }
    }

    fn qualify(&self, name: &str) -> String {
        match name.split_once('.') {
            Some((alias, name)) => match self.imports.get(alias) {
                Some(package) => format!("{package}.{name}"),
                None => format!("{alias}.{name}"),
            },
            None => name.to_string(),
        }
    }
}

/// `metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"` → (`metav1`, `meta`).
fn import(line: &str) -> (String, String) {
    let line = line.trim_start_matches("import ");
    let (alias, path) = line.split_once('"').unwrap_or_default();
    let path = path.trim_end_matches('"');
    let parts: Vec<&str> = path.split('/').collect();
    let last = parts.last().copied().unwrap_or_default();
    let package = if last == "v1" { parts[parts.len() - 2] } else { last };
    let alias = if alias.trim().is_empty() { last } else { alias.trim() };
    (alias.to_string(), package.to_string())
}

/// `PullAlways PullPolicy = "Always"` → (`PullAlways`, `PullPolicy`, `Always`).
fn constant(line: &str) -> Option<(String, String, String)> {
    let line = line.strip_prefix("const ").unwrap_or(line);
    let (left, right) = line.split_once(" = ")?;
    // `AddressTypeIPv4 = AddressType(v1.IPv4Protocol)`: the one enum made from another's constants.
    let right = right.replace("(v1.IPv4Protocol)", "(\"IPv4\")").replace("(v1.IPv6Protocol)", "(\"IPv6\")");
    let (conversion, value) = right.split_once('"')?;
    let mut words = left.split_whitespace();
    let name = words.next()?;
    let kind = words.next().unwrap_or_else(|| conversion.trim_end_matches('('));
    let kind = kind.rsplit('.').next()?;
    let value = value.split('"').next()?;
    (words.next().is_none()).then(|| (name.to_string(), kind.to_string(), value.to_string()))
}

fn collect_marker(comment: &str, markers: &mut Vec<String>) {
    if let Some(marker) = comment.trim().strip_prefix('+') {
        markers.push(marker.trim().to_string());
    }
}

fn marker<'a>(markers: &'a [String], name: &str) -> Option<&'a str> {
    markers.iter().find_map(|m| m.strip_prefix(name)?.strip_prefix('='))
}

fn fields<'a>(lines: &mut impl Iterator<Item = (usize, &'a str)>) -> Result<Vec<Field>, String> {
    let mut fields = Vec::new();
    let mut markers = Vec::new();
    let mut comment = Comment::default();
    for (_, line) in lines {
        let line = line.trim();
        let above = comment.above(line);
        if line == "}" {
            return Ok(fields);
        }
        if let Some(marker) = line.strip_prefix("//") {
            collect_marker(marker, &mut markers);
            continue;
        }
        let Some((declaration, rest)) = line.split_once('`') else { continue };
        let tags = rest.split('`').next().unwrap_or_default();
        let words: Vec<&str> = declaration.split_whitespace().collect();
        // Without a JSON name: only in types whose JSON form is code (`OPAQUE`).
        let Some(json) = tag(tags, "json") else { continue };
        let mut options = json.split(',').map(str::to_string);
        let name = options.next().unwrap_or_default();
        let markers = std::mem::take(&mut markers);
        if name == "-" {
            continue;
        }
        fields.push(Field {
            json: name,
            options: options.collect(),
            go: words.last().copied().unwrap_or_default().to_string(),
            tag: tag(tags, "protobuf").and_then(|p| p.split(',').nth(1).map(str::to_string)),
            patch_strategy: tag(tags, "patchStrategy"),
            patch_key: tag(tags, "patchMergeKey"),
            markers,
            comment: above,
        });
    }
    Err("struct without an end".into())
}

/// The value of one key of a struct tag.
fn tag(tags: &str, key: &str) -> Option<String> {
    let start = tags.find(&format!("{key}:\""))? + key.len() + 2;
    tags[start..].split('"').next().map(str::to_string)
}
