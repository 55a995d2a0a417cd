//! One version of a custom kind: its definition compiled once, and what happens to its objects
//! between the wire and the store.
//!
//! The order of things, as upstream's:
//!
//! 1. A body is read without a type ([`crate::decode::json_to_value_strict`] reports duplicate keys);
//! 2. [`CustomVersion::coerce`] normalises metadata, prunes, drops nulls, and names unknown fields;
//! 3. [`CustomVersion::apply_defaults`];
//! 4. `prepare_create`, `prepare_update` or `prepare_status_update`;
//! 5. `check_create`, `check_update` or `check_status_update`.
//!
//! What comes from the store, from a conversion or out of a patch goes through 2 and 3 as well.

use serde_json::{Map, Value};

use super::columns::Columns;
use super::json_path::{self, JsonPath};
use super::object_meta::{self, Malformed};
use super::ratcheting::Correlated;
use super::value::{Mode, Validator};
use super::{Structural, defaulting, list_types, pruning, rules};
use crate::cursor::Node;
use crate::field::{Error, ErrorList, Kind, Path};
use crate::types::Type;
use crate::validation::{format, metadata};

/// What is wrong with a changed object, and what is as wrong as it was before and therefore only
/// worth a warning.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checked {
    /// Why the object is refused, if not empty.
    pub errors: ErrorList,
    /// Texts for Warning headers.
    pub warnings: Vec<String>,
}

/// Where an object comes from, when it is coerced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A request; with the answer of unknown fields or without.
    Request {
        /// Whether unknown fields are to be named (`fieldValidation` is not `Ignore`).
        track_unknown: bool,
    },
    /// The store: objects may be older than the rules about metadata.
    Store,
    /// A conversion webhook.
    Conversion,
    /// An apply: its nulls are values, and validation has to say what it thinks of them.
    Apply,
}

/// The JSON paths of the scale subresource, without the leading dot and split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalePaths {
    /// As in the definition: `.spec.replicas`.
    pub spec_replicas: String,
    /// As in the definition: `.status.replicas`.
    pub status_replicas: String,
    /// As in the definition: `.status.selector`.
    pub label_selector: Option<String>,
}

/// A value by which objects can be selected.
#[derive(Clone, Debug)]
pub struct SelectableField {
    /// The field selector's name: `spec.color`.
    pub name: String,
    path: JsonPath,
}

/// One version of a custom kind, ready for use. Compiling is slow; everything else is not.
#[derive(Debug)]
pub struct CustomVersion {
    group: String,
    version: String,
    kind: String,
    namespaced: bool,
    preserve_unknown: bool,
    structural: Option<Structural>,
    /// What the schema says anything about: walks that would find nothing are spared.
    says: Says,
    ty: Type,
    validator: Option<Validator>,
    status_validator: Option<Validator>,
    rules: Option<rules::Validator>,
    has_status: bool,
    scale: Option<ScalePaths>,
    columns: Columns,
    selectable: Vec<SelectableField>,
}

impl CustomVersion {
    /// Compiles one version of a valid definition (`apiextensions.k8s.io/v1`, with defaults). The error
    /// means that the definition should not have been accepted.
    pub fn compile(definition: &Value, version: &str) -> Result<CustomVersion, String> {
        let spec = &definition["spec"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (group, kind) = (text(&spec["group"]), text(&spec["names"]["kind"]));
        let versions = spec["versions"].as_array().map_or(&[][..], Vec::as_slice);
        let found = versions.iter().find(|v| v["name"] == version);
        let found =
            found.ok_or_else(|| format!("version {version} not found in CustomResourceDefinition"))?;

        let schema = found.get("schema").and_then(|s| s.get("openAPIV3Schema")).filter(|s| !s.is_null());
        let mut structural = schema.map(Structural::parse).transpose()?;
        let mut says = Says::default();
        if let Some(structural) = &mut structural {
            says.collect(structural);
            if says.defaults {
                defaulting::prune_defaults(structural)?;
            }
        }
        let subresources = &found["subresources"];
        let has_status = subresources.get("status").is_some_and(|s| !s.is_null());
        let status_schema = structural.as_ref().and_then(|s| s.properties.get("status"));
        let scale = subresources.get("scale").filter(|s| !s.is_null()).map(|scale| ScalePaths {
            spec_replicas: text(&scale["specReplicasPath"]),
            status_replicas: text(&scale["statusReplicasPath"]),
            label_selector: scale["labelSelectorPath"].as_str().map(str::to_owned),
        });
        let selectable = found["selectableFields"].as_array().into_iter().flatten();
        Ok(CustomVersion {
            ty: super::to_type(structural.as_ref(), &group, version, &kind),
            validator: structural.as_ref().map(|s| Validator::new(s, Mode::Objects)),
            status_validator: status_schema.filter(|_| has_status).map(|s| Validator::new(s, Mode::Objects)),
            rules: structural.as_ref().and_then(|s| rules::Validator::new(s, true)),
            columns: Columns::new(&found["additionalPrinterColumns"]),
            selectable: selectable.filter_map(|f| selectable_field(&f["jsonPath"])).collect(),
            version: version.to_owned(),
            namespaced: spec["scope"] == "Namespaced",
            preserve_unknown: spec["preserveUnknownFields"] == true,
            group,
            kind,
            structural,
            says,
            has_status,
            scale,
        })
    }

    /// The schema; none only if old definitions without one were imported.
    pub fn structural(&self) -> Option<&Structural> {
        self.structural.as_ref()
    }

    /// The type, for server-side apply and managed fields.
    pub fn ty(&self) -> &Type {
        &self.ty
    }

    /// Whether the status is a subresource.
    pub fn has_status(&self) -> bool {
        self.has_status
    }

    /// The scale subresource, if there is one.
    pub fn scale(&self) -> Option<&ScalePaths> {
        self.scale.as_ref()
    }

    /// The columns of tables.
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    /// Normalises an object of this version: metadata, unknown fields, nulls. Answers the paths of
    /// unknown fields, in upstream's order, if the source asks for them.
    ///
    /// The object has the right kind and apiVersion already.
    pub fn coerce(&self, object: &mut Value, source: Source) -> Result<Vec<String>, String> {
        let track = source == Source::Request { track_unknown: true };
        let malformed = if source == Source::Store { Malformed::Drop } else { Malformed::Refuse };
        let schema = self.structural.as_ref();
        let mut unknown = Vec::new();
        if let Some(metadata) = object.get_mut("metadata") {
            let found = object_meta::normalize(metadata, malformed, track)?;
            unknown.extend(found.into_iter().map(|path| format!("metadata.{path}")));
        }
        if !self.preserve_unknown {
            unknown.extend(pruning::prune(object, schema, true, track));
            if source != Source::Apply {
                drop_nulls_outside_meta(object, schema);
            }
        }
        if self.says.embedded_resources {
            let coerced = object_meta::coerce(object, schema, false, malformed, track);
            unknown.extend(coerced.map_err(|error| error.to_string())?);
        }
        let metadata = object.get_mut("metadata").and_then(Value::as_object_mut);
        if let (Source::Store, Some(metadata)) = (source, metadata) {
            // Very old objects have no generation.
            metadata.entry("generation").or_insert(1.into());
        }
        Ok(unknown)
    }

    /// Puts the schema's defaults where nothing is.
    pub fn apply_defaults(&self, object: &mut Value) {
        if let (Some(schema), true) = (&self.structural, self.says.defaults) {
            defaulting::apply(object, schema);
        }
    }

    /// Prepares a new object: no status yet where that is a subresource, generation 1.
    pub fn prepare_create(&self, object: &mut Value) {
        let Some(entries) = object.as_object_mut() else { return };
        if self.has_status {
            entries.remove("status");
        }
        let metadata = entries.entry("metadata").or_insert_with(|| Map::new().into());
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.insert("generation".to_owned(), 1.into());
        }
    }

    /// Prepares a changed object: the status stays where that is a subresource; any change outside
    /// of metadata counts. Whatever no update changes was kept already.
    pub fn prepare_update(&self, new: &mut Value, old: &Value) {
        let Some(entries) = new.as_object_mut() else { return };
        if self.has_status {
            match old.get("status") {
                Some(status) => entries.insert("status".to_owned(), status.clone()),
                None => entries.remove("status"),
            };
        }
        if !same_content(entries, old) {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
            if let Some(metadata) = entries.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.insert("generation".to_owned(), generation.into());
            }
        }
    }

    /// Prepares a changed status: everything else stays, but for managed fields.
    pub fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        let status = new.get_mut("status").map(Value::take);
        let managed = new.get_mut("metadata").and_then(|m| m.get_mut("managedFields")).map(Value::take);
        *new = old.clone();
        let Some(entries) = new.as_object_mut() else { return };
        match status {
            Some(status) => entries.insert("status".to_owned(), status),
            None => entries.remove("status"),
        };
        if let Some(metadata) = entries.get_mut("metadata").and_then(Value::as_object_mut) {
            match managed {
                Some(managed) => metadata.insert("managedFields".to_owned(), managed),
                None => metadata.remove("managedFields"),
            };
        }
    }

    /// What is wrong with a new object.
    pub fn check_create(&self, object: &Value) -> ErrorList {
        let mut errs = self.type_meta(object);
        if errs.is_empty() {
            let meta = Node::root(object).at("metadata");
            self.namespace(&meta, &mut errs);
            metadata::validate_common(&meta, format::name_is_subdomain, &mut errs);
            if let Some(validator) = &self.validator {
                errs.extend(validator.check(&Path::root(), object));
            }
            self.scale_spec(object, &mut errs);
            self.scale_status(object, &mut errs);
        }
        errs.extend(self.embedded_resources(object));
        errs.extend(self.list_types(object));
        if let Some(rules) = &self.rules {
            match blocked(&errs) {
                Some(error) => errs.push(error),
                None => errs.extend(rules.check(&Path::root(), object, None, None).errors),
            }
        }
        errs
    }

    /// What is wrong with a changed object. What was as wrong before is let pass (KEP-4008).
    pub fn check_update(&self, new: &Value, old: &Value) -> Checked {
        let schema = self.structural.as_ref();
        let correlated = schema.map(|schema| Correlated::new(new, old, schema));
        let mut errs = self.type_meta(new);
        if errs.is_empty() {
            update_metadata(new, old, &mut errs);
            if let (Some(validator), Some(correlated)) = (&self.validator, correlated) {
                errs.extend(validator.check_update(&Path::root(), new, Some(correlated)));
            }
            self.scale_spec(new, &mut errs);
            self.scale_status(new, &mut errs);
        }
        errs.extend(self.embedded_resources(new));
        errs.extend(self.list_types_update(new, old));
        self.check_rules(new, old, errs)
    }

    /// What is wrong with a changed status.
    pub fn check_status_update(&self, new: &Value, old: &Value) -> Checked {
        let schema = self.structural.as_ref();
        let mut errs = self.type_meta(new);
        if errs.is_empty() {
            update_metadata(new, old, &mut errs);
            if let (Some(status), Some(validator)) = (new.get("status"), &self.status_validator) {
                let correlated = schema.and_then(|s| Correlated::new(new, old, s).key("status"));
                errs.extend(validator.check_update(&Path::new("status"), status, correlated));
            }
            self.scale_status(new, &mut errs);
        }
        errs.extend(self.list_types_update(new, old));
        self.check_rules(new, old, errs)
    }

    /// What the user should know about an object although it is valid: finalizers without a domain.
    pub fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let finalizers = |object: &Value| -> std::collections::BTreeSet<String> {
            let list = object["metadata"]["finalizers"].as_array().into_iter().flatten();
            list.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let before = old.map(finalizers).unwrap_or_default();
        finalizers(new).difference(&before).flat_map(|name| finalizer_warnings(name)).collect()
    }

    /// The selectable fields of an object besides name and namespace, in the definition's order.
    pub fn selectable_fields(&self, object: &Value) -> Vec<(String, String)> {
        let value = |field: &SelectableField| {
            let found = field.path.find(object).ok();
            let first = found.as_ref().and_then(|found| found.first());
            first.map(|v| if v.is_null() { String::new() } else { json_path::print(v) }).unwrap_or_default()
        };
        self.selectable.iter().map(|field| (field.name.clone(), value(field))).collect()
    }

    /// The names of the selectable fields besides name and namespace.
    pub fn selectable_names(&self) -> impl Iterator<Item = &str> {
        self.selectable.iter().map(|field| field.name.as_str())
    }

    fn check_rules(&self, new: &Value, old: &Value, mut errors: ErrorList) -> Checked {
        let Some(rules) = &self.rules else { return Checked { errors, warnings: Vec::new() } };
        if let Some(error) = blocked(&errors) {
            errors.push(error);
            return Checked { errors, warnings: Vec::new() };
        }
        let correlated = self.structural.as_ref().map(|schema| Correlated::new(new, old, schema));
        let found = rules.check(&Path::root(), new, Some(old), correlated);
        errors.extend(found.errors);
        Checked { errors, warnings: found.warnings }
    }

    /// Lists that were no sets or maps before need not be now.
    fn list_types_update(&self, new: &Value, old: &Value) -> ErrorList {
        let errs = self.list_types(new);
        if errs.is_empty() || !self.list_types(old).is_empty() { ErrorList::new() } else { errs }
    }

    fn list_types(&self, object: &Value) -> ErrorList {
        let schema = self.structural.as_ref().filter(|_| self.says.list_types);
        schema.map(|schema| list_types::validate(object, schema)).unwrap_or_default()
    }

    fn embedded_resources(&self, object: &Value) -> ErrorList {
        let schema = self.structural.as_ref().filter(|_| self.says.embedded_resources);
        object_meta::validate(object, schema, false)
    }

    fn type_meta(&self, object: &Value) -> ErrorList {
        let node = Node::root(object);
        let (kind, version) = (node.at("kind"), node.at("apiVersion"));
        let api_version = format!("{}/{}", self.group, self.version);
        let mut errs = ErrorList::new();
        if kind.str() != self.kind {
            errs.push(kind.invalid_str(format!("must be {}", self.kind)));
        }
        if version.str() != api_version {
            errs.push(version.invalid_str(format!("must be {api_version}")));
        }
        errs
    }

    fn namespace(&self, meta: &Node, errs: &mut ErrorList) {
        let namespace = meta.at("namespace");
        if self.namespaced && namespace.is_empty() {
            errs.push(namespace.required(""));
        } else if !self.namespaced && !namespace.is_empty() {
            errs.push(namespace.forbidden("not allowed on this type"));
        }
    }

    fn scale_spec(&self, object: &Value, errs: &mut ErrorList) {
        if let Some(scale) = &self.scale {
            errs.extend(replicas(object, &scale.spec_replicas));
        }
    }

    fn scale_status(&self, object: &Value, errs: &mut ErrorList) {
        let Some(scale) = &self.scale else { return };
        errs.extend(replicas(object, &scale.status_replicas));
        if let Some(path) = &scale.label_selector {
            match nested(object, path) {
                Ok(None | Some(Value::String(_))) => {}
                Ok(Some(other)) => {
                    let detail = accessor_error(path, other, "string");
                    errs.push(Error::invalid(&Path::new(path), "", detail));
                }
                Err(detail) => errs.push(Error::invalid(&Path::new(path), "", detail)),
            }
        }
    }
}

/// Whether a schema has, anywhere, something that needs a walk of its own.
#[derive(Clone, Copy, Debug, Default)]
struct Says {
    defaults: bool,
    embedded_resources: bool,
    list_types: bool,
}

impl Says {
    fn collect(&mut self, schema: &Structural) {
        self.defaults |= schema.generic.default.is_some();
        self.embedded_resources |= schema.extensions.embedded_resource;
        self.list_types |= schema.extensions.list_type.is_some();
        let below = schema.items.as_deref().into_iter().chain(schema.additional_schema());
        below.chain(schema.properties.values()).for_each(|schema| self.collect(schema));
    }
}

fn selectable_field(path: &Value) -> Option<SelectableField> {
    let text = path.as_str()?;
    let path = JsonPath::parse(&format!("{{{text}}}")).ok()?;
    Some(SelectableField { name: text.strip_prefix('.').unwrap_or(text).to_owned(), path })
}

/// Metadata was normalised already and is put back afterwards upstream, so that a schema's opinion
/// about its nulls does not matter.
fn drop_nulls_outside_meta(object: &mut Value, schema: Option<&Structural>) {
    let Some(entries) = object.as_object_mut() else { return };
    let kept: Vec<(String, Value)> =
        super::META_FIELDS.iter().filter_map(|name| entries.remove_entry(*name)).collect();
    defaulting::drop_nulls(object, schema);
    if let Some(entries) = object.as_object_mut() {
        entries.extend(kept);
    }
}

fn same_content(new: &Map<String, Value>, old: &Value) -> bool {
    let Some(old) = old.as_object() else { return false };
    let content =
        |entries: &'_ Map<String, Value>| entries.len() - usize::from(entries.contains_key("metadata"));
    content(new) == content(old)
        && new.iter().all(|(name, value)| name == "metadata" || old.get(name) == Some(value))
}

fn update_metadata(new: &Value, old: &Value, errs: &mut ErrorList) {
    let (new, old) = (Node::root(new), Node::root(old));
    metadata::validate_update_common(&new.at("metadata"), &old.at("metadata"), errs);
}

/// Rules are not evaluated on objects that are wrong in ways that would confuse them.
fn blocked(errs: &ErrorList) -> Option<Error> {
    let blocking = |e: &Error| {
        use Kind::{NotSupported, Required, TooLong, TooMany, TypeInvalid};
        matches!(e.kind, NotSupported | Required | TooLong | TooMany | TypeInvalid)
    };
    errs.iter().any(blocking).then(|| {
        Error::invalid(
            &Path::root(),
            Value::Null,
            "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation",
        )
    })
}

fn finalizer_warnings(name: &str) -> Vec<String> {
    let path = "metadata.finalizers";
    let quoted = crate::field::quote(name);
    let mut warnings: Vec<String> =
        format::label_key(name).into_iter().map(|m| format!("{path}: {quoted}: {m}")).collect();
    let standard = ["orphan", "foregroundDeletion", "kubernetes"];
    if !name.contains('/') && !standard.contains(&name) {
        let how = if name.contains('.') { "name including a path (/)" } else { "name" };
        warnings.push(format!(
            "{path}: {quoted}: prefer a domain-qualified finalizer {how} to avoid accidental conflicts with other finalizer writers"
        ));
    }
    warnings
}

/// The value at a simple path (`.spec.replicas`), as apimachinery's `NestedFieldNoCopy`.
pub fn nested<'a>(object: &'a Value, path: &str) -> Result<Option<&'a Value>, String> {
    let steps: Vec<&str> = path.strip_prefix('.').unwrap_or(path).split('.').collect();
    let mut value = object;
    for (i, step) in steps.iter().enumerate() {
        match value {
            Value::Null => return Ok(None),
            Value::Object(entries) => match entries.get(*step) {
                Some(next) => value = next,
                None => return Ok(None),
            },
            other => {
                return Err(format!(
                    ".{} accessor error: {} is of the type {}, expected map[string]interface{{}}",
                    steps[..=i].join("."),
                    crate::gotext::print(other),
                    super::go_json::type_of(other)
                ));
            }
        }
    }
    Ok(Some(value))
}

fn accessor_error(path: &str, value: &Value, wanted: &str) -> String {
    format!(
        ".{} accessor error: {} is of the type {}, expected {wanted}",
        path.strip_prefix('.').unwrap_or(path),
        crate::gotext::print(value),
        super::go_json::type_of(value)
    )
}

fn replicas(object: &Value, path: &str) -> Option<Error> {
    let at = Path::new(path);
    let replicas = match nested(object, path) {
        Err(detail) => return Some(Error::invalid(&at, 0, detail)),
        Ok(None) => 0,
        Ok(Some(value)) => match value.as_i64() {
            Some(replicas) => replicas,
            None => return Some(Error::invalid(&at, 0, accessor_error(path, value, "int64"))),
        },
    };
    if replicas < 0 {
        return Some(Error::invalid(&at, replicas, "should be a non-negative integer"));
    }
    let most = i64::from(i32::MAX);
    (replicas > most)
        .then(|| Error::invalid(&at, replicas, format!("should be less than or equal to {most}")))
}
