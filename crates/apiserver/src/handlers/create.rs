//! POST of an object.

use std::sync::Arc;

use http::{Response, StatusCode};
use serde_json::{Value, json};
use store::Compare;

use crate::admission::{self, Attributes, ObjectKind};
use crate::body::Body;
use crate::cache::Entry;
use crate::call::Call;
use crate::managed_fields;
use crate::object::{meta, meta_mut, set_meta};
use crate::status::ApiError;
use crate::storage::PutError;

/// How often a generated name is drawn again when it is taken.
const NAME_ATTEMPTS: usize = 8;
/// Generated names have this many random characters, and their prefix is cut to leave room for them.
const SUFFIX_LENGTH: usize = 5;
const PREFIX_LENGTH_MAX: usize = 63 - SUFFIX_LENGTH;

/// What only the server writes into new objects, and clears before anybody looks at them.
const SYSTEM_FIELDS: &[&str] =
    &["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"];

/// What a write left behind.
pub(crate) enum Outcome {
    /// Stored.
    Stored(Arc<Entry>),
    /// What would have been stored (dry run), in the stored version.
    Dry(Value),
}

impl Outcome {
    /// The answer.
    pub fn respond(&self, call: &Call, code: StatusCode) -> Response<Body> {
        match self {
            Self::Stored(entry) => call.respond_entry(code, entry),
            Self::Dry(value) => {
                let mut value = value.clone();
                call.convert_from_storage(&mut value);
                call.respond_object(code, &value)
            }
        }
    }
}

/// Answers a create.
pub(crate) async fn create(call: &Call) -> Result<Response<Body>, ApiError> {
    let dry_run = super::options::check_write(call, "CreateOptions", schema::field::ErrorList::new())?;
    let mut object = call.decode_body()?;
    check_namespace(call, &mut object)?;
    // Nobody owns what only the server writes.
    wipe_system_fields(&mut object);
    let manager = call.manager();
    managed_fields::dedup_owner_references(call, &mut object);
    managed_fields::track_update(call, &json!({}), &mut object, &manager, "")?;
    let outcome = create_object(call, object, dry_run).await?;
    Ok(outcome.respond(call, StatusCode::CREATED))
}

/// Drops what a client may not say about a new object.
pub(crate) fn wipe_system_fields(object: &mut Value) {
    let metadata = meta_mut(object);
    for field in SYSTEM_FIELDS {
        metadata.remove(*field);
    }
}

/// The object's namespace is the path's; it may say so or say nothing.
pub(crate) fn check_namespace(call: &Call, object: &mut Value) -> Result<(), ApiError> {
    if !call.kind.namespaced {
        set_meta(object, "namespace", Value::Null);
        return Ok(());
    }
    match meta(object, "namespace") {
        "" => set_meta(object, "namespace", call.info.namespace.clone().into()),
        namespace if namespace == call.info.namespace => {}
        _ => {
            return Err(ApiError::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
    }
    Ok(())
}

/// Admits, prepares, validates and stores an object in this kind's version, managed fields included.
pub(crate) async fn create_object(
    call: &Call,
    mut object: Value,
    dry_run: bool,
) -> Result<Outcome, ApiError> {
    // Upstream asks for a number, and takes what is none for no version; its storage refuses it at last.
    let versioned =
        !dry_run && meta(&object, "resourceVersion").parse::<u64>().is_ok_and(|version| version != 0);
    wipe_system_fields(&mut object);
    // A dry run shows the version that was given.
    if !dry_run {
        set_meta(&mut object, "resourceVersion", Value::Null);
    }
    let kind = ObjectKind::of(&call.kind);
    let name = meta(&object, "name").to_owned();
    if call.kind.custom.as_ref().is_some_and(|handler| handler.definition().is_terminating()) {
        let why = "create not allowed while custom resource definition is terminating";
        return Err(ApiError::forbidden(&call.kind.group, &call.kind.plural, &name, why));
    }
    admission::admit(&Attributes::create(call, kind, &name, dry_run), &mut object).await?;
    check_namespace(call, &mut object)?;
    call.convert_to_storage(&mut object);
    let rules = call.rules()?;
    if call.kind.kind == "Job" && call.kind.group == "batch" && !says_labels(call) {
        // Preparation gives it its template's, with what is generated there.
        set_meta(&mut object, "labels", Value::Null);
    }
    if call.kind.kind == "CertificateSigningRequest" {
        sign_with_requester(call, &mut object);
    }
    let meta_map = meta_mut(&mut object);
    meta_map.insert("creationTimestamp".to_owned(), base::clock::rfc3339(base::clock::now()).into());
    meta_map.insert("uid".to_owned(), base::rng::uuid().into());
    let prefix = meta(&object, "generateName").to_owned();
    let generated = meta(&object, "name").is_empty() && !prefix.is_empty();
    if generated {
        set_meta(&mut object, "name", generate_name(&prefix).into());
    }
    let is_pod = call.kind.kind == "Pod" && call.kind.group.is_empty();
    if is_pod {
        schema::strategy::app_armor_warnings(&object).into_iter().for_each(|warning| call.warn(warning));
    }
    // Preparation may need the uid: jobs select their pods by it.
    rules.prepare_create(&mut object);
    if is_pod {
        date_conditions(&mut object);
    }
    let name = meta(&object, "name").to_owned();
    let attributes = Attributes::create(call, kind, &name, dry_run);
    // As upstream, before validation: what is taken already is the first thing that is wrong.
    let allocated = admission::allocate(&attributes, &mut object, None).await?;
    let mut errors = crate::device_access::on_create(call, &object).await?;
    errors.extend(rules.check_create(&call.as_checked(&object)));
    if !errors.is_empty() {
        return Err(rules.invalid(&object, meta(&object, "name"), &errors));
    }
    for warning in rules.warnings(&object) {
        call.warn(warning);
    }
    crate::codec::canonicalise(&call.kind, &mut object);
    let reservation = allocated.join(admission::validate(&attributes, &call.as_requested(&object)).await?);
    if versioned {
        let why = "resourceVersion should not be set on objects to be created";
        return Err(ApiError { code: 500, reason: "".into(), ..ApiError::bad_request(why) });
    }
    let outcome = commit_new(call, &mut object, generated.then_some(prefix.as_str()), dry_run).await;
    reservation.finish();
    outcome
}

/// Whether the body gives the object labels of its own, not those that are its defaults.
fn says_labels(call: &Call) -> bool {
    let body = match call.info.verb.as_str() {
        // An apply, in YAML of which JSON is a part.
        "patch" => super::patch::parse_apply(call, &crate::codec::Target::of(&call.kind)),
        _ => crate::codec::parse(&call.body, &call.headers),
    };
    body.is_ok_and(|body| body["metadata"]["labels"].as_object().is_some_and(|labels| !labels.is_empty()))
}

/// A certificate signing request says who made it, and nobody can say otherwise.
fn sign_with_requester(call: &Call, request: &mut Value) {
    let user = &call.user;
    let spec = &mut request["spec"];
    spec["username"] = user.name.clone().into();
    spec["groups"] = json!(user.groups);
    spec["uid"] = if user.uid.is_empty() { Value::Null } else { user.uid.clone().into() };
    spec["extra"] = if user.extra.is_empty() { Value::Null } else { json!(user.extra) };
}

/// The pure rules of `schema` know no time: fills in when a new pod's conditions came about.
fn date_conditions(pod: &mut Value) {
    let now = base::clock::rfc3339(base::clock::now());
    for condition in pod["status"]["conditions"].as_array_mut().into_iter().flatten() {
        if condition["lastTransitionTime"].is_null() {
            condition["lastTransitionTime"] = now.clone().into();
        }
    }
}

fn generate_name(prefix: &str) -> String {
    let mut end = prefix.len().min(PREFIX_LENGTH_MAX);
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{}", &prefix[..end], base::rng::name_suffix(SUFFIX_LENGTH))
}

async fn commit_new(
    call: &Call,
    object: &mut Value,
    prefix: Option<&str>,
    dry_run: bool,
) -> Result<Outcome, ApiError> {
    for _ in 0..NAME_ATTEMPTS {
        let name = meta(object, "name").to_owned();
        let key = call.kind.key(&call.info.namespace, &name);
        let taken = if dry_run {
            call.server.current(&call.kind, &call.info.namespace, &name).await?.is_some()
        } else {
            let bytes = call.to_stored(object).await?;
            match call.server.put_bytes(&call.kind, key.into(), Compare::Absent, bytes).await {
                Ok(entry) => return Ok(Outcome::Stored(call.shown(&entry).await?)),
                Err(PutError::Conflict) => true,
                Err(PutError::Other(error)) => return Err(error),
            }
        };
        match prefix {
            _ if !taken => return Ok(Outcome::Dry(object.clone())),
            Some(prefix) => set_meta(object, "name", generate_name(prefix).into()),
            None => break,
        }
    }
    let name = meta(object, "name");
    let mut error = already_exists(call, name);
    // Said of every object that has a generateName, even if its name was given.
    if !meta(object, "generateName").is_empty() {
        error.message.push_str(", the server was not able to generate a unique name for the object");
        error.details.get_or_insert_default().retry_after_seconds = 1;
    }
    let taken_by = call.server.current(&call.kind, &call.info.namespace, name).await?;
    let taken_by = taken_by.map(|entry| entry.try_value()).transpose()?;
    if taken_by.is_some_and(|object| !meta(&object, "deletionTimestamp").is_empty()) {
        error.message.insert_str(0, "object is being deleted: ");
    }
    Err(error)
}

fn already_exists(call: &Call, name: &str) -> ApiError {
    ApiError::already_exists(&call.kind.group, &call.kind.plural, name)
}
