//! PATCH of an object, its status or its scale: JSON patch, merge patch, strategic merge patch, apply.

use std::sync::OnceLock;

use http::header::CONTENT_TYPE;
use http::{Response, StatusCode};
use schema::decode::{DecodeError, Strictness};
use schema::field::{Error, ErrorList, Path};
use schema::patch::{self, PatchError};
use schema::types::Type;
use serde_json::Value;

use super::create::{check_namespace, create_object};
use super::update::{Change, Part, Reviewed, change_object, check_name};
use crate::body::Body;
use crate::call::{Call, invalid};
use crate::codec;
use crate::managed_fields;
use crate::object::{meta, set_meta};
use crate::status::ApiError;

/// How custom objects may be patched: they have no merge keys.
const CUSTOM_MEDIA_TYPES: &[&str] =
    &["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];

/// How built-in objects may be patched.
const MEDIA_TYPES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

/// A patch that is not an apply. Its body is read when there is something to patch: upstream says first that
/// an object does not exist.
pub(crate) struct Patch {
    form: Form,
    parsed: OnceLock<Result<Parsed, ApiError>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Merge,
    Strategic,
}

struct Parsed {
    patch: Value,
    /// What is given twice in it, or unknown.
    complaints: Vec<String>,
}

/// Reads the media type of the body. `None` for an apply.
pub(crate) fn parse(call: &Call, ty: Option<&Type>) -> Result<Option<Patch>, ApiError> {
    let header = call.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = header.split(';').next().unwrap_or_default();
    if call.kind.is_custom() && !CUSTOM_MEDIA_TYPES.contains(&media) {
        return Err(ApiError::unsupported_media_type(CUSTOM_MEDIA_TYPES));
    }
    let form = match media {
        "application/json-patch+json" => Form::Json,
        "application/merge-patch+json" => Form::Merge,
        // Custom resources have no merge keys; upstream does not list the type for them either.
        "application/strategic-merge-patch+json" if ty.is_some() => Form::Strategic,
        "application/apply-patch+yaml" => return Ok(None),
        // The router trims, the handler does not.
        other if MEDIA_TYPES.contains(&other.trim_matches(' ')) => {
            return Err(ApiError::unsupported_media_type(MEDIA_TYPES));
        }
        _ => {
            let error = ApiError::new(415, "UnsupportedMediaType", "415: Unsupported Media Type");
            return Err(error.about("", "", ""));
        }
    };
    Ok(Some(Patch { form, parsed: OnceLock::new() }))
}

impl Patch {
    fn parsed(&self, call: &Call) -> Result<&Parsed, ApiError> {
        let strictness = codec::strictness(&call.query);
        let read = || {
            let (patch, mut complaints) = match self.form {
                Form::Json => patch::parse_json(&call.body, strictness),
                Form::Merge => patch::parse_merge(&call.body, strictness),
                Form::Strategic => patch::parse_strategic(&call.body),
            }
            .map_err(patch_error)?;
            if strictness == Strictness::Ignore {
                complaints.clear();
            }
            Ok(Parsed { patch, complaints })
        };
        self.parsed.get_or_init(read).as_ref().map_err(ApiError::clone)
    }

    /// The patched tree, not yet checked against any type.
    pub fn apply(&self, call: &Call, object: &Value, ty: Option<&Type>) -> Result<Value, ApiError> {
        let patch = &self.parsed(call)?.patch;
        let patched = match (self.form, ty) {
            (Form::Json, _) => patch::json(object, patch),
            (Form::Merge, _) | (Form::Strategic, None) => patch::merge(object, patch),
            (Form::Strategic, Some(ty)) => patch::strategic(object, patch, ty),
        }
        .map_err(patch_error)?;
        Ok(if call.kind.is_custom() { schema::decode::numbers_as_go(patched) } else { patched })
    }

    /// Says in the answer what was given twice, once all else is right.
    fn warn(&self, call: &Call) {
        if let (Some(Ok(parsed)), Strictness::Warn) = (self.parsed.get(), codec::strictness(&call.query)) {
            parsed.complaints.iter().for_each(|text| call.warn(text.clone()));
        }
    }

    /// The patched tree as an object of a type that is not the kind's own.
    pub fn decode(&self, call: &Call, patched: Value, ty: &Type) -> Result<Value, ApiError> {
        let read =
            if self.is_strategic() { schema::decode::decode_patched } else { schema::decode::decode_value };
        let strictness = codec::strictness(&call.query);
        let decoded = read(patched.clone(), ty, strictness);
        let decoded = decoded.map_err(|error| self.invalid(&patched, &error))?;
        self.check_repeated(call, &patched)?;
        self.warn(call);
        decoded.warnings.into_iter().for_each(|text| call.warn(text));
        Ok(decoded.value)
    }

    pub fn is_strategic(&self) -> bool {
        self.form == Form::Strategic
    }

    fn complaints(&self) -> &[String] {
        match self.parsed.get() {
            Some(Ok(parsed)) => &parsed.complaints,
            _ => &[],
        }
    }

    /// Refuses what is given twice, if nothing else was wrong.
    fn check_repeated(&self, call: &Call, result: &Value) -> Result<(), ApiError> {
        if codec::strictness(&call.query) != Strictness::Strict || self.complaints().is_empty() {
            return Ok(());
        }
        Err(self.invalid(result, &DecodeError::Strict(Vec::new())))
    }

    /// What upstream quotes when the result is no object of the kind: the object, or for a strategic
    /// merge patch the patch in Go's notation.
    pub fn invalid(&self, result: &Value, error: &DecodeError) -> ApiError {
        let shown = match self.parsed.get() {
            Some(Ok(parsed)) if self.is_strategic() => schema::gotext::print(&parsed.patch),
            _ => result.to_string(),
        };
        let why = match error {
            DecodeError::Strict(fields) => {
                let all = self.complaints().iter().chain(fields).cloned().collect();
                DecodeError::Strict(all).to_string()
            }
            other => other.to_string(),
        };
        let mut errors = ErrorList::new();
        errors.push(Error::invalid(&Path::new("patch"), shown, why));
        invalid("", "", "", &errors)
    }
}

fn patch_error(error: PatchError) -> ApiError {
    match error {
        PatchError::BadRequest(message) => ApiError::bad_request(message),
        PatchError::TooLarge(message) => {
            ApiError::too_large(format!("Request entity too large: {message}")).about("", "", "")
        }
        PatchError::Internal(message) => {
            ApiError { code: 500, reason: "".into(), ..ApiError::bad_request(message) }
        }
        PatchError::Unprocessable(_) => {
            ApiError::new(422, "Invalid", "the server rejected our request due to an error in our request")
                .about("", "", "")
        }
    }
}

/// Answers a patch of the object or of its status.
pub(crate) async fn patch(call: &Call, part: Part) -> Result<Response<Body>, ApiError> {
    let ty = call.kind.ty();
    let subresource = call.info.subresource.as_str();
    let patch = parse(call, ty)?;
    let dry_run = check_options(call, patch.is_none())?;
    let Some(patch) = patch else {
        return apply(call, part, dry_run).await;
    };
    let manager = call.manager();
    let strictness = codec::strictness(&call.query);
    let warned = std::sync::atomic::AtomicBool::new(false);
    let make = |old: &Value| {
        let patched = patch.apply(call, old, ty)?;
        check_version(call, &patch, &patched)?;
        let typed = check_type(call, &patch, &patched);
        let normalise = if patch.is_strategic() { codec::normalise_patched } else { codec::normalise };
        let decoded = match normalise(&call.kind, patched, strictness) {
            Ok(decoded) => decoded,
            // Made again, since only the refusal shows it.
            Err(error) => return Err(patch.invalid(&patch.apply(call, old, ty)?, &error)),
        };
        typed?;
        if !patch.complaints().is_empty() {
            patch.check_repeated(call, &patch.apply(call, old, ty)?)?;
        }
        if !warned.swap(true, std::sync::atomic::Ordering::Relaxed) {
            patch.warn(call);
            decoded.warnings.iter().for_each(|text| call.warn(text.clone()));
        }
        let mut new = decoded.value;
        managed_fields::dedup_owner_references(call, &mut new);
        managed_fields::track_update(call, old, &mut new, &manager, subresource)?;
        Ok(new)
    };
    let change =
        Change { part, subresource, reviewed: Reviewed::Object, apply: &make, unconditional: true, dry_run };
    Ok(change_object(call, &change).await?.respond(call, StatusCode::OK))
}

/// Validates the options of a patch; whether it is a dry run.
pub(crate) fn check_options(call: &Call, is_apply: bool) -> Result<bool, ApiError> {
    let mut errors = ErrorList::new();
    if is_apply && call.query.text("fieldManager").is_empty() {
        errors.push(Error::required(&Path::new("fieldManager"), "is required for apply patch"));
    }
    if !is_apply && call.query.get("force").is_some() {
        errors.push(Error::forbidden(&Path::new("force"), "may not be specified for non-apply patch"));
    }
    super::options::check_write(call, "PatchOptions", errors)
}

/// A patched object without a version is read as one of upstream's internal types, whose fields have other
/// names: it has nothing that is known.
fn check_version(call: &Call, patch: &Patch, patched: &Value) -> Result<(), ApiError> {
    let is_given = !patched["apiVersion"].as_str().unwrap_or_default().is_empty();
    if is_given || call.kind.is_custom() || patch.is_strategic() || !patched.is_object() {
        return Ok(());
    }
    let fields = patched.as_object().into_iter().flat_map(|fields| fields.keys());
    let unknown = fields.filter(|name| !matches!(name.as_str(), "kind" | "apiVersion"));
    let texts: Vec<String> = unknown.map(|name| format!("unknown field {name:?}")).collect();
    match codec::strictness(&call.query) {
        Strictness::Strict => return Err(patch.invalid(patched, &DecodeError::Strict(texts))),
        Strictness::Warn => {
            patch.warn(call);
            texts.into_iter().for_each(|text| call.warn(text));
        }
        Strictness::Ignore => {}
    }
    super::update::check_name(call, &mut serde_json::json!({}))
}

/// A patch may not turn the object into one of another kind.
fn check_type(call: &Call, patch: &Patch, patched: &Value) -> Result<(), ApiError> {
    let kind = patched["kind"].as_str().unwrap_or_default();
    let api_version = patched["apiVersion"].as_str().unwrap_or_default();
    if call.kind.is_custom()
        || patch.is_strategic()
        || (kind.is_empty() || kind == call.kind.kind)
            && (api_version.is_empty() || api_version == call.kind.api_version())
    {
        return Ok(());
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let why = codec::wrong_kind(&codec::Target::of(&call.kind), group, version, kind);
    Err(patch.invalid(patched, &DecodeError::Type(why)))
}

/// Answers a server-side apply, creating the object where it does not exist.
async fn apply(call: &Call, part: Part, dry_run: bool) -> Result<Response<Body>, ApiError> {
    let (manager, force) = applier(call);
    let (config, twice) = parse_apply_strict(call, &codec::Target::of(&call.kind))?;
    let exists = call.server.current(&call.kind, &call.info.namespace, &call.info.name).await?.is_some();
    if !exists {
        if part != Part::Main {
            return Err(call.not_found());
        }
        call.authorize("create", "")?;
        if !meta(&config, "uid").is_empty() {
            let why = format!(
                "uid mismatch: the provided object specified uid {}, and no existing object was found",
                meta(&config, "uid")
            );
            return Err(ApiError::conflict(&call.kind.group, &call.kind.plural, &call.info.name, &why));
        }
        let mut object = managed_fields::apply(call, None, &config, manager, force, "")?;
        check_twice(call, &twice)?;
        if meta(&object, "name").is_empty() && !meta(&object, "generateName").is_empty() {
            set_meta(&mut object, "name", call.info.name.clone().into());
        }
        check_name(call, &mut object)?;
        check_namespace(call, &mut object)?;
        // A create has no version to be compared with.
        set_meta(&mut object, "resourceVersion", Value::Null);
        match create_object(call, object, dry_run).await {
            // Somebody else created it in between: apply to that.
            Err(error) if error.reason == "AlreadyExists" => {}
            outcome => return Ok(outcome?.respond(call, StatusCode::CREATED)),
        }
    }
    let subresource = call.info.subresource.as_str();
    let make = |old: &Value| {
        let applied = managed_fields::apply(call, Some(old), &config, manager, force, subresource)?;
        check_twice(call, &twice).map(|()| applied)
    };
    let change =
        Change { part, subresource, reviewed: Reviewed::Object, apply: &make, unconditional: true, dry_run };
    Ok(change_object(call, &change).await?.respond(call, StatusCode::OK))
}

/// Complains about keys that an applied configuration gives twice.
fn check_twice(call: &Call, texts: &[String]) -> Result<(), ApiError> {
    let strictness = codec::strictness(&call.query);
    if strictness == Strictness::Ignore {
        return Ok(());
    }
    if strictness == Strictness::Warn || texts.is_empty() {
        texts.iter().for_each(|text| call.warn(text));
        return Ok(());
    }
    let lines: Vec<String> = texts.iter().map(|text| format!("\n  {text}")).collect();
    Err(ApiError::bad_request(format!(
        "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:{}",
        lines.concat()
    )))
}

/// Who applies, and whether by force.
pub(crate) fn applier(call: &Call) -> (&str, bool) {
    (call.query.text("fieldManager"), call.query.flag("force"))
}

/// Reads an applied configuration, which must be of the given kind.
pub(crate) fn parse_apply(call: &Call, target: &codec::Target<'_>) -> Result<Value, ApiError> {
    parse_apply_strict(call, target).map(|(config, _)| config)
}

/// As [`parse_apply`]; also returns a text for every key that is given twice.
fn parse_apply_strict(call: &Call, target: &codec::Target<'_>) -> Result<(Value, Vec<String>), ApiError> {
    let decoding = |why: &dyn std::fmt::Display| ApiError::bad_request(format!("error decoding YAML: {why}"));
    let (config, twice) = match schema::decode::json_to_value_strict(&call.body) {
        Ok((config, twice)) if twice.is_empty() => (config, twice),
        // JSON is YAML, too, whose words are wanted.
        Ok((config, _)) => {
            let read = schema::decode::yaml_to_value_strict(&call.body);
            (config, read.map(|(_, twice)| twice).unwrap_or_default())
        }
        Err(_) => schema::decode::yaml_to_value_strict(&call.body)
            .map_err(|error| decoding(&format!("error converting YAML to JSON: {error}")))?,
    };
    if !config.is_object() && !config.is_null() {
        let kind = schema::gotext::kind(&config);
        return Err(decoding(&format!(
            "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"
        )));
    }
    let kind = config["kind"].as_str().unwrap_or_default();
    let api_version = config["apiVersion"].as_str().unwrap_or_default();
    if kind != target.kind || api_version != crate::kind::group_version(target.group, target.version) {
        let shown =
            if api_version.contains('/') { api_version.to_owned() } else { format!("/{api_version}") };
        return Err(ApiError::bad_request(format!("invalid object type: {shown}, Kind={kind}")));
    }
    if config["metadata"].get("managedFields").is_some_and(|fields| !fields.is_null()) {
        return Err(ApiError::bad_request("metadata.managedFields must be nil"));
    }
    Ok((config, twice))
}
