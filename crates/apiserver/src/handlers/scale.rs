//! The scale subresource: `autoscaling/v1` Scale over any kind that has replicas.

use http::{Response, StatusCode};
use schema::apply::scale::Replicas;
use schema::field::{Error, ErrorList, Path};
use schema::types;
use serde_json::{Map, Value, json};

use super::create::Outcome;
use super::options;
use super::patch;
use super::update::{Change, Part, Reviewed, View, change_object};
use crate::admission::ObjectKind;
use crate::body::Body;
use crate::call::{Call, invalid};
use crate::codec::{self, Target};
use crate::kind::ScalePaths;
use crate::managed_fields;
use crate::negotiate::Shape;
use crate::object::{meta, set_meta};
use crate::status::ApiError;
use crate::tables;

/// Answers GET, PUT and PATCH.
pub(crate) async fn scale(call: &Call, paths: &ScalePaths) -> Result<Response<Body>, ApiError> {
    let target = Target::named("autoscaling", "v1", "Scale");
    match call.info.verb.as_str() {
        "get" => {
            let entry = call.server.current(&call.kind, &call.info.namespace, &call.info.name).await?;
            let entry = entry.ok_or_else(|| call.not_found())?;
            let object = call.value_of(&*call.shown(&entry).await?);
            check_found(call, paths, &object)?;
            Ok(respond(call, &scale_of(paths, &object)))
        }
        "update" => {
            options::check_write(call, "UpdateOptions", ErrorList::new())?;
            let decoded =
                codec::decode_as(&target, &call.body, &call.headers, codec::strictness(&call.query));
            let new = call.take_decoded(decoded.map_err(|error| undecodable(call, error))?);
            let manager = call.manager();
            let make = |old: &Value| {
                super::update::check_uid(call, meta(&new, "uid"), meta(old, "uid"))?;
                let mut new = new.clone();
                managed_fields::track_named(call, old, &mut new, &manager, "scale", &target)?;
                Ok(new)
            };
            change(call, paths, &make).await
        }
        _ => {
            let ty = types::of_kind("autoscaling", "v1", "Scale");
            let patch = patch::parse(call, ty)?;
            patch::check_options(call, patch.is_none())?;
            let Some(patch) = patch else { return apply(call, paths, &target).await };
            let manager = call.manager();
            let make = |old: &Value| {
                let patched = patch.apply(call, old, ty)?;
                let Some(ty) = ty else { return Ok(patched) };
                check_type(call, &patch, &patched)?;
                let mut new = patch.decode(call, patched, ty)?;
                managed_fields::track_named(call, old, &mut new, &manager, "scale", &target)?;
                Ok(new)
            };
            change(call, paths, &make).await
        }
    }
}

/// Upstream's error about a body that is no Scale names the scheme in which it looked for the type in vain.
fn undecodable(call: &Call, error: ApiError) -> ApiError {
    if !call.kind.is_custom() || error.code != 400 {
        return error;
    }
    ApiError::bad_request(format!(
        "no kind is registered for the type v1.Scale in scheme \"{CUSTOM_RESOURCE_SCHEME}\""
    ))
}

/// Where upstream makes the schemes that its messages about Scales of custom objects name.
const CUSTOM_RESOURCE_SCHEME: &str =
    "k8s.io/apiextensions-apiserver/pkg/apiserver/customresource_handler.go:781";
const CLIENT_SCALE_SCHEME: &str = "k8s.io/client-go/scale/util.go:146";

/// The patched Scale must be one.
fn check_type(call: &Call, patch: &patch::Patch, patched: &Value) -> Result<(), ApiError> {
    let kind = patched["kind"].as_str().unwrap_or_default();
    let version = patched["apiVersion"].as_str().unwrap_or_default();
    if patch.is_strategic() || version.is_empty() {
        return Ok(());
    }
    let target = Target::named("autoscaling", "v1", "Scale");
    let (group, name) = version.split_once('/').unwrap_or(("", version));
    if version == "autoscaling/v1" && matches!(kind, "" | "Scale") {
        return Ok(());
    }
    let why = if call.kind.is_custom() {
        format!("no kind {kind:?} is registered for version {version:?} in scheme \"{CLIENT_SCALE_SCHEME}\"")
    } else {
        codec::wrong_kind(&target, group, name, kind)
    };
    Err(patch.invalid(patched, &schema::decode::DecodeError::Type(why)))
}

/// An apply of a Scale owns the replicas, if it sets them.
async fn apply(call: &Call, paths: &ScalePaths, target: &Target<'_>) -> Result<Response<Body>, ApiError> {
    let (manager, force) = patch::applier(call);
    let config = patch::parse_apply(call, target)?;
    let make = |old: &Value| {
        let owned = old["metadata"]["managedFields"].as_array().is_some_and(|owners| !owners.is_empty());
        if call.kind.is_custom() && !owned {
            return Err(not_applicable(
                "failed to create manager for existing fields: failed to convert live",
                "/",
            ));
        }
        let applied = managed_fields::apply_named(call, Some(old), &config, manager, force, "scale", target)?;
        if call.kind.is_custom() && applied != *old {
            let name = format!("{}/{}", meta(&config, "namespace"), meta(&config, "name"));
            return Err(not_applicable("failed to convert new", &name));
        }
        Ok(applied)
    };
    change(call, paths, &make).await
}

/// Upstream cannot bring its untyped Scales of custom objects into the form that applying needs.
fn not_applicable(what: &str, name: &str) -> ApiError {
    let message = format!(
        "{what} object ({name}; autoscaling/v1, Kind=Scale) to proper version: request to convert CR to an invalid group/version: autoscaling/v1"
    );
    ApiError { code: 500, reason: "".into(), ..ApiError::bad_request(message) }
}

type Make<'a> = &'a (dyn Fn(&Value) -> Result<Value, ApiError> + Send + Sync);

async fn change(call: &Call, paths: &ScalePaths, make: Make<'_>) -> Result<Response<Body>, ApiError> {
    let dry_run = call.dry_run()?;
    let path: Vec<&str> = paths.spec_replicas.split('/').skip(1).collect();
    let api_version = call.kind.api_version();
    let replicas = Replicas { api_version: &api_version, path: &path };
    let apply = |old: &Value| {
        let mut shown = scale_of(paths, old);
        let owners = &old["metadata"]["managedFields"];
        let shown_owners = replicas.to_scale(owners);
        if !shown_owners.is_null() {
            shown["metadata"]["managedFields"] = shown_owners;
        }
        let mut scale = make(&shown)?;
        super::update::check_name(call, &mut scale)?;
        super::create::check_namespace(call, &mut scale)?;
        check(call, &scale)?;
        let mut new = old.clone();
        let version = meta(&scale, "resourceVersion");
        set_meta(&mut new, "resourceVersion", if version.is_empty() { Value::Null } else { version.into() });
        set_pointer(&mut new, &paths.spec_replicas, json!(scale["spec"]["replicas"].as_i64().unwrap_or(0)));
        set_meta(&mut new, "managedFields", replicas.to_object(owners, &scale["metadata"]["managedFields"]));
        Ok(new)
    };
    let change = Change {
        part: Part::Main,
        subresource: "scale",
        reviewed: Reviewed::View(paths),
        apply: &apply,
        unconditional: true,
        dry_run,
    };
    let outcome = change_object(call, &change).await?;
    let mut object = match outcome {
        Outcome::Stored(entry) => entry.try_value()?,
        Outcome::Dry(value) => value,
    };
    call.convert_from_storage(&mut object);
    Ok(respond(call, &scale_of(paths, &object)))
}

impl View for ScalePaths {
    fn kind(&self) -> ObjectKind<'_> {
        ObjectKind { group: "autoscaling", version: "v1", kind: "Scale" }
    }

    fn show(&self, object: &Value) -> Value {
        scale_of(self, object)
    }

    fn write(&self, shown: &Value, object: &mut Value) {
        let replicas = json!(shown["spec"]["replicas"].as_i64().unwrap_or(0));
        set_pointer(object, &self.spec_replicas, replicas);
    }
}

/// A Scale in the shape asked for; its Table has columns of its own.
fn respond(call: &Call, scale: &Value) -> Response<Body> {
    let Shape::Table(version) = call.output.shape else { return call.respond_object(StatusCode::OK, scale) };
    let column = |name: &str, r#type: &str, description: &str| json!({"name": name, "type": r#type, "format": "", "description": description, "priority": 0});
    let mut columns = json!([
        column("Name", "string", NAME_TEXT),
        column("Desired", "integer", "replicas is the desired number of instances for the scaled object."),
        column(
            "Available",
            "integer",
            "replicas is the actual number of observed instances of the scaled object."
        ),
        column("Age", "string", AGE_TEXT),
    ]);
    if call.kind.is_custom() {
        // Scales of custom objects have a printer of their own.
        columns[0]["format"] = "name".into();
        columns[1]["description"] = "Number of desired replicas".into();
        columns[2]["description"] = "Number of actual replicas".into();
        columns[3]["type"] = "date".into();
    }
    let age = call.kind.table.columns.iter().position(|column| column.name == "Age");
    let age =
        age.and_then(|index| (call.kind.table.row)(scale, base::clock::now()).cells.get(index).cloned());
    let row = json!({"cells": [scale["metadata"]["name"], scale["spec"]["replicas"].as_i64().unwrap_or(0),
        scale["status"]["replicas"], age], "object": tables::partial(scale, version)});
    let metadata = json!({"resourceVersion": scale["metadata"]["resourceVersion"]});
    call.output.respond(StatusCode::OK, &tables::table(metadata, columns, vec![row], version))
}

const NAME_TEXT: &str = "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";
const AGE_TEXT: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

/// Custom objects may not have what a Scale shows.
fn check_found(call: &Call, paths: &ScalePaths, object: &Value) -> Result<(), ApiError> {
    if !call.kind.is_custom() || object.pointer(&paths.spec_replicas).is_some() {
        return Ok(());
    }
    let path = paths.spec_replicas.replace('/', ".");
    Err(ApiError::internal(format!("the spec replicas field {path:?} does not exist")))
}

fn check(call: &Call, scale: &Value) -> Result<(), ApiError> {
    let name = call.info.name.as_str();
    if call.kind.is_custom() {
        // Their replicas are checked by their own rules.
        return Ok(());
    }
    let mut errors = ErrorList::new();
    if let Some(replicas) = scale["spec"]["replicas"].as_i64().filter(|replicas| *replicas < 0) {
        let path = Path::new("spec").child("replicas");
        errors.push(Error::invalid(&path, replicas, "must be greater than or equal to 0"));
    }
    if errors.is_empty() { Ok(()) } else { Err(invalid("autoscaling", "Scale", name, &errors)) }
}

/// The Scale that shows an object.
fn scale_of(paths: &ScalePaths, object: &Value) -> Value {
    let mut metadata = Map::new();
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object["metadata"].get(field) {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
    let replicas = number(&paths.spec_replicas);
    let mut status = json!({"replicas": number(&paths.status_replicas)});
    let selector = paths
        .selector
        .as_ref()
        .and_then(|pointer| object.pointer(pointer))
        .map(selector_text)
        .unwrap_or_default();
    if !selector.is_empty() {
        status["selector"] = selector.into();
    }
    let spec = if replicas == 0 { json!({}) } else { json!({"replicas": replicas}) };
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status})
}

/// A selector as text: from a LabelSelector, a plain map, or text already.
fn selector_text(selector: &Value) -> String {
    if let Some(text) = selector.as_str() {
        return text.to_owned();
    }
    let is_label_selector =
        selector.get("matchLabels").is_some() || selector.get("matchExpressions").is_some();
    let labels = if is_label_selector { &selector["matchLabels"] } else { selector };
    let mut terms: Vec<(String, String)> = Vec::new();
    for (key, value) in labels.as_object().into_iter().flatten() {
        terms.push((key.clone(), format!("{key}={}", value.as_str().unwrap_or_default())));
    }
    for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = expression["key"].as_str().unwrap_or_default();
        let mut values: Vec<&str> =
            expression["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        let term = match expression["operator"].as_str() {
            Some("In") => format!("{key} in ({values})"),
            Some("NotIn") => format!("{key} notin ({values})"),
            Some("Exists") => key.to_owned(),
            _ => format!("!{key}"),
        };
        terms.push((key.to_owned(), term));
    }
    terms.sort_by(|a, b| a.0.cmp(&b.0));
    terms.into_iter().map(|(_, term)| term).collect::<Vec<_>>().join(",")
}

/// Sets what a JSON pointer of plain keys points to, making the objects on the way.
fn set_pointer(object: &mut Value, pointer: &str, value: Value) {
    let mut at = object;
    for key in pointer.split('/').skip(1) {
        if !at.is_object() {
            *at = json!({});
        }
        at = &mut at[key];
    }
    *at = value;
}
