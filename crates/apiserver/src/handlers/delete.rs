//! DELETE of an object: preconditions, grace, finalizers, propagation.
//!
//! The rules are those of `rest.BeforeDelete` and the generic registry's `Delete`.

use std::sync::Arc;
use std::time::Duration;

use http::{Response, StatusCode};
use jiff::Timestamp;
use schema::field::{Error, ErrorList, Path};
use serde_json::{Map, Value, json};
use store::Compare;

use crate::admission::{self, Attributes};
use crate::body::Body;
use crate::cache::Entry;
use crate::call::{Call, invalid_options, unsupported_dry_run};
use crate::codec;
use crate::object::{finalizers, meta, set_finalizers, set_meta};
use crate::status::{self, ApiError, Details};
use crate::storage::PutError;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
/// Nothing takes longer to end than this many seconds (100 years), which times can still express.
const GRACE_SECONDS_MAX: i64 = 100 * 366 * 86_400;
/// How often a delete is tried again on a newer object.
const ATTEMPTS: usize = 20;

/// `metav1.DeleteOptions`.
#[derive(Debug, Clone, Default)]
pub(crate) struct DeleteOptions {
    pub grace_period_seconds: Option<i64>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    pub orphan_dependents: Option<bool>,
    pub propagation_policy: Option<String>,
    pub dry_run: bool,
    /// What led to this delete has been admitted as something else.
    pub admitted: bool,
}

impl DeleteOptions {
    /// From the body if there is one, else from the query.
    pub fn parse(call: &Call) -> Result<Self, ApiError> {
        let mut dry_run: Vec<String> = call.query.all("dryRun").map(str::to_owned).collect();
        let mut options = Self {
            grace_period_seconds: call.query.integer("gracePeriodSeconds")?,
            orphan_dependents: call.query.optional_flag("orphanDependents"),
            propagation_policy: call.query.get("propagationPolicy").map(str::to_owned),
            ..Self::default()
        };
        if !call.body.is_empty() {
            let body = decode_options(call)?;
            options = Self::from_body(&body)?;
            dry_run = body["dryRun"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|v| v.as_str().map(str::to_owned))
                .collect();
        }
        if dry_run.iter().any(|value| value != "All") {
            let values: Vec<&str> = dry_run.iter().map(String::as_str).collect();
            return Err(unsupported_dry_run("DeleteOptions", &values));
        }
        options.dry_run = !dry_run.is_empty();
        options.check()?;
        Ok(options)
    }

    pub fn from_body(body: &Value) -> Result<Self, ApiError> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Ok(Self {
            grace_period_seconds: body["gracePeriodSeconds"].as_i64(),
            uid: text(&body["preconditions"]["uid"]),
            resource_version: text(&body["preconditions"]["resourceVersion"]),
            orphan_dependents: body["orphanDependents"].as_bool(),
            propagation_policy: text(&body["propagationPolicy"]),
            dry_run: false,
            admitted: false,
        })
    }

    /// Writes the fields that are set.
    pub fn show(&self, into: &mut Map<String, Value>) {
        let mut preconditions = Map::new();
        for (field, value) in [("uid", &self.uid), ("resourceVersion", &self.resource_version)] {
            if let Some(value) = value {
                preconditions.insert(field.to_owned(), value.as_str().into());
            }
        }
        if !preconditions.is_empty() {
            into.insert("preconditions".to_owned(), preconditions.into());
        }
        let fields = [
            ("gracePeriodSeconds", self.grace_period_seconds.map(Value::from)),
            ("orphanDependents", self.orphan_dependents.map(Value::from)),
            ("propagationPolicy", self.propagation_policy.as_deref().map(Value::from)),
        ];
        for (field, value) in fields {
            if let Some(value) = value {
                into.insert(field.to_owned(), value);
            }
        }
    }

    /// Whether the options fit one another.
    pub fn check(&self) -> Result<(), ApiError> {
        let mut errors = ErrorList::new();
        let path = Path::new("propagationPolicy");
        if let Some(policy) = &self.propagation_policy {
            if self.orphan_dependents.is_some() {
                errors.push(Error::invalid(
                    &path,
                    policy.as_str(),
                    "orphanDependents and deletionPropagation cannot be both set",
                ));
            }
            if !matches!(policy.as_str(), "Foreground" | "Background" | "Orphan") {
                errors.push(Error::not_supported(
                    &path,
                    policy.as_str(),
                    &["Foreground", "Background", "Orphan", "nil"],
                ));
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(invalid_options("DeleteOptions", &errors)) }
    }
}

/// The body as DeleteOptions. Fields that they do not have are ignored.
fn decode_options(call: &Call) -> Result<Value, ApiError> {
    const SCHEME: &str = "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme/register.go:27";
    let body = codec::parse(&call.body, &call.headers)?;
    if !body.is_object() && !body.is_null() {
        let given = schema::gotext::kind(&body);
        return Err(ApiError::bad_request(format!(
            "couldn't get version/kind; json parse error: json: cannot unmarshal {given} into Go value of type struct {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}"
        )));
    }
    let kind = body["kind"].as_str().unwrap_or_default();
    if !matches!(kind, "" | "DeleteOptions") {
        let version = body["apiVersion"].as_str().filter(|version| !version.is_empty());
        let version = schema::gotext::quote(version.unwrap_or("meta.k8s.io/v1"));
        let kind = schema::gotext::quote(kind);
        let why = format!("no kind {kind} is registered for version {version} in scheme \"{SCHEME}\"");
        return Err(ApiError::bad_request(why));
    }
    let Some(ty) = schema::types::of_kind("meta.k8s.io", "v1", "DeleteOptions") else { return Ok(body) };
    let options = schema::decode::decode_value(body, ty, schema::decode::Strictness::Ignore)
        .map(|decoded| decoded.value)
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    if let Some(record) = &call.audit {
        record.delete_options(&options);
    }
    Ok(options)
}

/// What a delete left behind.
pub(crate) enum Deleted {
    /// The object, still there (finalizers, grace) or the kind answers with it.
    Object(Value, bool),
    /// Gone; a Status says so.
    Gone(Value),
}

/// Answers a delete.
pub(crate) async fn delete(call: &Call) -> Result<Response<Body>, ApiError> {
    let options = DeleteOptions::parse(call)?;
    warn_of_orphans(call, &options);
    Ok(match delete_object(call, &options).await? {
        Deleted::Object(object, gone) => {
            let accepted = !gone && options.orphan_dependents == Some(false);
            respond(call, object, if accepted { StatusCode::ACCEPTED } else { StatusCode::OK })
        }
        Deleted::Gone(object) => call.output.respond(StatusCode::OK, &gone_status(call, &object)),
    })
}

/// Pods outlive their Jobs unless the client says otherwise.
pub(crate) fn warn_of_orphans(call: &Call, options: &DeleteOptions) {
    if call.kind.kind == "Job" && options.propagation_policy.is_none() && options.orphan_dependents.is_none()
    {
        call.warn(
            "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning",
        );
    }
}

fn respond(call: &Call, mut object: Value, code: StatusCode) -> Response<Body> {
    call.convert_from_storage(&mut object);
    call.respond_object(code, &object)
}

fn gone_status(call: &Call, object: &Value) -> Value {
    status::success(Details {
        name: meta(object, "name").to_owned(),
        group: call.kind.group.to_string(),
        kind: call.kind.plural.to_string(),
        uid: meta(object, "uid").to_owned(),
        ..Details::default()
    })
}

/// Deletes the object of the path. Objects in the answer are in the stored version.
pub(crate) async fn delete_object(call: &Call, options: &DeleteOptions) -> Result<Deleted, ApiError> {
    if call.kind.kind == "PriorityClass" && call.info.name.starts_with("system-") {
        let why = "this is a system priority class and cannot be deleted";
        return Err(ApiError::forbidden(&call.kind.group, &call.kind.plural, &call.info.name, why));
    }
    for _ in 0..ATTEMPTS {
        let entry = call
            .server
            .current(&call.kind, &call.info.namespace, &call.info.name)
            .await?
            .ok_or_else(|| call.not_found())?;
        match attempt(call, options, entry).await {
            Ok(deleted) => {
                if let (Deleted::Object(object, true), false) = (&deleted, options.dry_run) {
                    admission::after_delete(call, object).await;
                }
                return Ok(deleted);
            }
            Err(PutError::Conflict) => tokio::task::yield_now().await,
            Err(PutError::Other(error)) => return Err(error),
        }
    }
    Err(ApiError::modified(&call.kind.group, &call.kind.plural, &call.info.name))
}

async fn attempt(call: &Call, options: &DeleteOptions, entry: Arc<Entry>) -> Result<Deleted, PutError> {
    let shown = call.shown(&entry).await.map_err(PutError::Other)?;
    let mut object = shown.try_value().map_err(PutError::Other)?;
    preconditions(call, options, &object).map_err(PutError::Other)?;
    if call.kind.kind == "Namespace" && call.kind.group.is_empty() {
        let first = meta(&object, "deletionTimestamp").is_empty();
        if !first && object["spec"]["finalizers"].as_array().is_some_and(|list| !list.is_empty()) {
            return Ok(Deleted::Object(object, false));
        }
        if first {
            admit(call, options, &object).await.map_err(PutError::Other)?;
            return terminate_namespace(call, options, &entry, object).await;
        }
    }
    if is_definition(call) && meta(&object, "deletionTimestamp").is_empty() {
        admit(call, options, &object).await.map_err(PutError::Other)?;
        crate::crd::mark_for_deletion(&mut object);
        return mark(call, options, &entry, object).await;
    }
    let before = call.kind.behaviour.graceful_delete.then(|| object.clone());
    let grace = grace(call, options, &mut object);
    if matches!(grace, Grace::Pending) {
        return Ok(finished(call, object, false));
    }
    admit(call, options, before.as_ref().unwrap_or(&object)).await.map_err(PutError::Other)?;
    let wanted = propagation_finalizers(call, options, &object);
    if wanted != finalizers(&object) {
        set_finalizers(&mut object, &wanted);
    }
    let pending = !wanted.is_empty();
    if let Grace::None = grace {
        if !pending {
            return remove(call, options, &entry, object).await;
        }
        mark_as_deleting(&mut object);
    }
    if options.dry_run {
        return Ok(if pending || matches!(grace, Grace::Seconds(1..)) {
            Deleted::Object(object, false)
        } else {
            finished(call, object, true)
        });
    }
    let bytes = call.to_stored(&object).await.map_err(PutError::Other)?;
    let updated = if entry.is_stored_as(&bytes) {
        // It is on its way out already, in just this way: nothing to tell anybody.
        entry.clone()
    } else {
        let compare = Compare::ModRevision(entry.revision);
        call.server.put_bytes(&call.kind, entry.key.clone(), compare, bytes).await?
    };
    set_meta(&mut object, "resourceVersion", updated.revision.to_string().into());
    if pending || matches!(grace, Grace::Seconds(1..)) {
        return Ok(Deleted::Object(object, false));
    }
    // Somebody else finishing the delete between the two writes is success as well.
    match call.server.remove(&call.kind, &updated).await {
        Ok(gone) => set_meta(&mut object, "resourceVersion", gone.revision.to_string().into()),
        Err(PutError::Conflict)
            if call
                .server
                .current(&call.kind, &call.info.namespace, &call.info.name)
                .await
                .is_ok_and(|now| now.is_none()) => {}
        Err(error) => return Err(error),
    }
    Ok(finished(call, object, true))
}

/// Asks admission, mutating and validating, whether the stored object may go.
async fn admit(call: &Call, options: &DeleteOptions, stored: &Value) -> Result<(), ApiError> {
    if options.admitted {
        return Ok(());
    }
    let old = call.as_requested(stored);
    let attributes = Attributes::delete(call, &old, options);
    admission::admit(&attributes, &mut Value::Null).await?;
    admission::validate(&attributes, &Value::Null).await?.finish();
    Ok(())
}

async fn remove(
    call: &Call,
    options: &DeleteOptions,
    entry: &Entry,
    mut object: Value,
) -> Result<Deleted, PutError> {
    if !options.dry_run {
        let gone = call.server.remove(&call.kind, entry).await?;
        set_meta(&mut object, "resourceVersion", gone.revision.to_string().into());
    }
    Ok(finished(call, object, true))
}

fn finished(call: &Call, object: Value, gone: bool) -> Deleted {
    if call.kind.behaviour.delete_returns_object {
        Deleted::Object(object, gone)
    } else {
        Deleted::Gone(object)
    }
}

pub(crate) fn preconditions(call: &Call, options: &DeleteOptions, object: &Value) -> Result<(), ApiError> {
    let conflict = |what: &str, wanted: &str, field: &str, tail: &str| {
        let found = meta(object, field);
        let why = format!(
            "the {what} in the precondition ({wanted}) does not match the {what} in record ({found}). The object might have been {tail}"
        );
        Err(ApiError::conflict(&call.kind.group, &call.kind.kind, &call.info.name, &why))
    };
    match (&options.uid, &options.resource_version) {
        (Some(uid), _) if uid != meta(object, "uid") => {
            conflict("UID", uid, "uid", "deleted and then recreated")
        }
        (_, Some(version)) if version != meta(object, "resourceVersion") => {
            conflict("ResourceVersion", version, "resourceVersion", "modified")
        }
        _ => Ok(()),
    }
}

enum Grace {
    /// The kind is not deleted gracefully, or the grace period was zero already.
    None,
    /// Already being deleted, at least as fast as now asked for.
    Pending,
    /// The object says so now.
    Seconds(i64),
}

/// A period that makes sense: the shortest for negative ones, as upstream.
fn bounded(seconds: i64) -> i64 {
    if seconds < 0 { 1 } else { seconds.min(GRACE_SECONDS_MAX) }
}

fn grace(call: &Call, options: &DeleteOptions, object: &mut Value) -> Grace {
    if !call.kind.behaviour.graceful_delete {
        return Grace::None;
    }
    let requested = options.grace_period_seconds.map(bounded);
    let now = base::clock::now();
    let deleting: Option<Timestamp> = meta(object, "deletionTimestamp").parse().ok();
    if let Some(deleting) = deleting {
        let current = object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
        let current = bounded(current);
        if current == 0 {
            return Grace::None;
        }
        let Some(mut period) = requested.filter(|period| *period < current) else { return Grace::Pending };
        let mut at = deleting - Duration::from_secs(current.unsigned_abs())
            + Duration::from_secs(period.unsigned_abs());
        if at < now {
            at = now;
            if period != 0 {
                period = 1;
            }
        }
        set_meta(object, "deletionTimestamp", base::clock::rfc3339(at).into());
        set_meta(object, "deletionGracePeriodSeconds", period.into());
        return Grace::Seconds(period);
    }
    let finished = matches!(object["status"]["phase"].as_str(), Some("Failed" | "Succeeded"));
    let unassigned = object["spec"]["nodeName"].as_str().unwrap_or_default().is_empty();
    let own = object["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(0);
    let period = if finished || unassigned { 0 } else { requested.unwrap_or(own) };
    let period = bounded(period);
    let at = now + Duration::from_secs(period.unsigned_abs());
    set_meta(object, "deletionTimestamp", base::clock::rfc3339(at).into());
    set_meta(object, "deletionGracePeriodSeconds", period.into());
    count_generation(object);
    Grace::Seconds(period)
}

fn count_generation(object: &mut Value) {
    if let Some(generation) = object["metadata"]["generation"].as_i64().filter(|generation| *generation > 0) {
        set_meta(object, "generation", (generation + 1).into());
    }
}

fn mark_as_deleting(object: &mut Value) {
    let now = base::clock::now();
    let existing: Option<Timestamp> = meta(object, "deletionTimestamp").parse().ok();
    if existing.is_none() {
        count_generation(object);
    }
    if existing.is_none_or(|at| at > now) {
        set_meta(object, "deletionTimestamp", base::clock::rfc3339(now).into());
    }
    set_meta(object, "deletionGracePeriodSeconds", 0.into());
}

/// The finalizers that the propagation policy asks for, beside those of others.
fn propagation_finalizers(call: &Call, options: &DeleteOptions, object: &Value) -> Vec<String> {
    let current = finalizers(object);
    // Events and the like have no dependents.
    if call.kind.kind == "Event" {
        return current;
    }
    let has = |name: &str| current.iter().any(|finalizer| finalizer == name);
    let policy = options.propagation_policy.as_deref();
    let orphan = match (options.orphan_dependents, policy) {
        (Some(orphan), _) => orphan,
        (None, Some(policy)) => policy == "Orphan",
        (None, None) if has(ORPHAN) => true,
        (None, None) if has(FOREGROUND) => false,
        (None, None) => call.kind.behaviour.orphans_by_default,
    };
    let foreground = match (options.orphan_dependents, policy) {
        (Some(_), _) => false,
        (None, Some(policy)) => policy == "Foreground",
        (None, None) => has(FOREGROUND) && !has(ORPHAN),
    };
    let mut wanted: Vec<String> =
        current.iter().filter(|name| *name != ORPHAN && *name != FOREGROUND).cloned().collect();
    if orphan {
        wanted.push(ORPHAN.to_owned());
    }
    if foreground {
        wanted.push(FOREGROUND.to_owned());
    }
    let same = wanted.len() == current.len() && wanted.iter().all(|name| current.contains(name));
    if same { current } else { wanted }
}

/// The first delete of a namespace only starts its termination.
async fn terminate_namespace(
    call: &Call,
    options: &DeleteOptions,
    entry: &Entry,
    mut object: Value,
) -> Result<Deleted, PutError> {
    set_meta(&mut object, "deletionTimestamp", base::clock::rfc3339(base::clock::now()).into());
    if !object["status"].is_object() {
        object["status"] = json!({});
    }
    object["status"]["phase"] = "Terminating".into();
    let wanted = propagation_finalizers(call, options, &object);
    set_finalizers(&mut object, &wanted);
    mark(call, options, entry, object).await
}

fn is_definition(call: &Call) -> bool {
    call.kind.kind == "CustomResourceDefinition" && call.kind.group == "apiextensions.k8s.io"
}

/// Stores an object that says now that it is on its way out.
async fn mark(
    call: &Call,
    options: &DeleteOptions,
    entry: &Entry,
    mut object: Value,
) -> Result<Deleted, PutError> {
    if !options.dry_run {
        let updated =
            call.server.put(&call.kind, &entry.key, Compare::ModRevision(entry.revision), &object).await?;
        set_meta(&mut object, "resourceVersion", updated.revision.to_string().into());
    }
    Ok(Deleted::Object(object, false))
}
