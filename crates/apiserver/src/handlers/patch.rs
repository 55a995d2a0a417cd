//! PATCH of an object, its status or its scale: JSON patch, merge patch, strategic merge patch, apply.

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

/// A parsed patch that is not an apply.
pub(crate) struct Patch {
    form: Form,
    /// What is given twice in it, where that is refused.
    repeated: Vec<String>,
}

enum Form {
    Json(Value),
    Merge(Value),
    Strategic(Value),
}

/// Reads the media type of the body and parses it. `None` for an apply.
pub(crate) fn parse(call: &Call, ty: Option<&Type>) -> Result<Option<Patch>, ApiError> {
    let media = call.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = media.split(';').next().unwrap_or_default().trim();
    if call.kind.is_custom() && !CUSTOM_MEDIA_TYPES.contains(&media) {
        return Err(ApiError::unsupported_media_type(CUSTOM_MEDIA_TYPES));
    }
    let unsupported =
        || ApiError::new(415, "UnsupportedMediaType", "415: Unsupported Media Type").about("", "", "");
    let strictness = codec::strictness(&call.query);
    let (form, mut repeated) = match media {
        "application/json-patch+json" => {
            let (value, repeated) =
                patch::parse_json(&call.body).map_err(|error| patch_error(call, error))?;
            (Form::Json(value), repeated)
        }
        "application/merge-patch+json" => {
            let (value, repeated) =
                patch::parse_merge(&call.body).map_err(|error| patch_error(call, error))?;
            (Form::Merge(value), repeated)
        }
        // Custom resources have no merge keys; upstream does not list the type for them either.
        "application/strategic-merge-patch+json" if ty.is_some() => {
            let (value, repeated) =
                patch::parse_strategic(&call.body).map_err(|error| patch_error(call, error))?;
            (Form::Strategic(value), repeated)
        }
        "application/apply-patch+yaml" => return Ok(None),
        _ => return Err(unsupported()),
    };
    match strictness {
        Strictness::Strict => {}
        Strictness::Warn => repeated.drain(..).for_each(|text| call.warn(text)),
        Strictness::Ignore => repeated.clear(),
    }
    Ok(Some(Patch { form, repeated }))
}

impl Patch {
    /// The patched tree, not yet checked against any type.
    pub fn apply(&self, call: &Call, object: &Value, ty: Option<&Type>) -> Result<Value, ApiError> {
        match (&self.form, ty) {
            (Form::Json(operations), _) => patch::json(object, operations),
            (Form::Merge(patch), _) | (Form::Strategic(patch), None) => patch::merge(object, patch),
            (Form::Strategic(patch), Some(ty)) => patch::strategic(object, patch, ty),
        }
        .map_err(|error| patch_error(call, error))
    }

    /// The patched tree as an object of a type that is not the kind's own.
    pub fn decode(&self, call: &Call, patched: Value, ty: &Type) -> Result<Value, ApiError> {
        let read =
            if self.is_strategic() { schema::decode::decode_patched } else { schema::decode::decode_value };
        let strictness = codec::strictness(&call.query);
        let decoded = read(patched.clone(), ty, strictness);
        let decoded = decoded.map_err(|error| self.invalid(&patched, &error))?;
        self.check_repeated(&patched)?;
        decoded.warnings.into_iter().for_each(|text| call.warn(text));
        Ok(decoded.value)
    }

    fn is_strategic(&self) -> bool {
        matches!(self.form, Form::Strategic(_))
    }

    /// Refuses what is given twice, if nothing else was wrong.
    fn check_repeated(&self, result: &Value) -> Result<(), ApiError> {
        match self.repeated.is_empty() {
            true => Ok(()),
            false => Err(self.invalid(result, &DecodeError::Strict(Vec::new()))),
        }
    }

    /// What upstream quotes when the result is no object of the kind: the object, or for a strategic
    /// merge patch the patch in Go's notation.
    pub fn invalid(&self, result: &Value, error: &DecodeError) -> ApiError {
        let shown = match &self.form {
            Form::Strategic(patch) => schema::gotext::print(patch),
            _ => result.to_string(),
        };
        let why = match error {
            DecodeError::Strict(fields) => {
                let all = self.repeated.iter().chain(fields).cloned().collect();
                DecodeError::Strict(all).to_string()
            }
            other => other.to_string(),
        };
        let mut errors = ErrorList::new();
        errors.push(Error::invalid(&Path::new("patch"), shown, why));
        invalid("", "", "", &errors)
    }
}

fn patch_error(_call: &Call, error: PatchError) -> ApiError {
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
    let dry_run = call.dry_run()?;
    super::options::check_field_manager(call, "PatchOptions")?;
    let ty = call.kind.ty();
    let subresource = call.info.subresource.as_str();
    let Some(patch) = parse(call, ty)? else {
        return apply(call, part, dry_run).await;
    };
    if call.query.get("force").is_some() {
        let mut errors = ErrorList::new();
        errors.push(Error::forbidden(&Path::new("force"), "may not be specified for non-apply patch"));
        return Err(crate::call::invalid_options("PatchOptions", &errors));
    }
    let manager = call.manager();
    let strictness = codec::strictness(&call.query);
    let warned = std::sync::atomic::AtomicBool::new(false);
    let make = |old: &Value| {
        let patched = patch.apply(call, old, ty)?;
        let typed = check_type(call, &patch, &patched);
        let normalise = if patch.is_strategic() { codec::normalise_patched } else { codec::normalise };
        let decoded = match normalise(&call.kind, patched, strictness) {
            Ok(decoded) => decoded,
            // Made again, since only the refusal shows it.
            Err(error) => return Err(patch.invalid(&patch.apply(call, old, ty)?, &error)),
        };
        typed?;
        if !patch.repeated.is_empty() {
            patch.check_repeated(&patch.apply(call, old, ty)?)?;
        }
        if !warned.swap(true, std::sync::atomic::Ordering::Relaxed) {
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

/// A patch may not turn the object into one of another kind.
fn check_type(call: &Call, patch: &Patch, patched: &Value) -> Result<(), ApiError> {
    let kind = patched["kind"].as_str().unwrap_or_default();
    let api_version = patched["apiVersion"].as_str().unwrap_or_default();
    if call.kind.is_custom()
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
    let (manager, force) = applier(call)?;
    let config = parse_apply(call, &codec::Target::of(&call.kind))?;
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
    let make = |old: &Value| managed_fields::apply(call, Some(old), &config, manager, force, subresource);
    let change =
        Change { part, subresource, reviewed: Reviewed::Object, apply: &make, unconditional: true, dry_run };
    Ok(change_object(call, &change).await?.respond(call, StatusCode::OK))
}

/// Who applies, and whether by force.
pub(crate) fn applier(call: &Call) -> Result<(&str, bool), ApiError> {
    let manager = call.query.text("fieldManager");
    if manager.is_empty() {
        let mut errors = ErrorList::new();
        errors.push(Error::required(&Path::new("fieldManager"), "is required for apply patch"));
        return Err(crate::call::invalid_options("PatchOptions", &errors));
    }
    Ok((manager, call.query.flag("force")))
}

/// Reads an applied configuration, which must be of the given kind.
pub(crate) fn parse_apply(call: &Call, target: &codec::Target<'_>) -> Result<Value, ApiError> {
    let decoding = |why: &dyn std::fmt::Display| ApiError::bad_request(format!("error decoding YAML: {why}"));
    let config = match schema::decode::json_to_value(&call.body) {
        Ok(config) => config,
        Err(_) => schema::decode::yaml_to_value(&call.body)
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
    Ok(config)
}
