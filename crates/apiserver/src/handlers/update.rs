//! PUT of an object, and the read-modify-write loop under every other change of one.

use http::{Response, StatusCode};
use schema::field::{Error, ErrorList, Path};
use serde_json::{Value, json};
use store::Compare;

use super::create::{Outcome, check_namespace, create_object};
use crate::admission::{self, Attributes, ObjectKind, Reservation};
use crate::body::Body;
use crate::cache::Entry;
use crate::call::{Call, invalid};
use crate::managed_fields;
use crate::object::{finalizers, meta, set_meta};
use crate::rules::Rules;
use crate::status::ApiError;
use crate::storage::PutError;

/// How often a change is tried again on a newer object before the client hears of it.
const ATTEMPTS: usize = 20;

/// What a change may touch and how it is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Everything but status.
    Main,
    /// Only status.
    Status,
    /// What the subresource's own handler changed, and checked.
    Other,
    /// What the subresource's own row of the strategy table prepares and checks.
    Sub,
}

/// What admission sees of a change.
#[derive(Clone, Copy)]
pub(crate) enum Reviewed<'a> {
    /// The object itself.
    Object,
    /// What the subresource shows of it.
    View(&'a dyn View),
    /// Nothing: what led to this change has been admitted as something else.
    Nothing,
}

/// An object as a subresource shows it.
pub(crate) trait View: Send + Sync {
    /// Kind of what is shown.
    fn kind(&self) -> ObjectKind<'_>;
    /// What the subresource shows of the object.
    fn show(&self, object: &Value) -> Value;
    /// Writes what is shown back into the object.
    fn write(&self, shown: &Value, object: &mut Value);
}

/// One kind of change: from the old object to the new, both in the request's version.
pub(crate) struct Change<'a> {
    /// What is touched.
    pub part: Part,
    /// Subresource, for admission and managed fields.
    pub subresource: &'a str,
    /// What admission sees.
    pub reviewed: Reviewed<'a>,
    /// Makes the new object, managed fields included.
    pub apply: &'a (dyn Fn(&Value) -> Result<Value, ApiError> + Send + Sync),
    /// An object without a resourceVersion overwrites whatever is there.
    pub unconditional: bool,
    /// Nothing is stored.
    pub dry_run: bool,
}

impl<'a> Change<'a> {
    /// A change that has been admitted as something else, and checked.
    pub fn unseen(
        subresource: &'a str,
        apply: &'a (dyn Fn(&Value) -> Result<Value, ApiError> + Send + Sync),
        dry_run: bool,
    ) -> Self {
        Self {
            part: Part::Other,
            subresource,
            reviewed: Reviewed::Nothing,
            apply,
            unconditional: true,
            dry_run,
        }
    }
}

/// Answers an update, of the object or of its status.
pub(crate) async fn update(call: &Call, part: Part) -> Result<Response<Body>, ApiError> {
    let dry_run = super::options::check_write(call, "UpdateOptions", ErrorList::new())?;
    let mut object = call.decode_body()?;
    check_namespace(call, &mut object)?;
    check_name(call, &mut object)?;
    let manager = call.manager();
    managed_fields::dedup_owner_references(call, &mut object);
    let subresource = call.info.subresource.as_str();
    let uid = meta(&object, "uid").to_owned();
    let apply = |old: &Value| {
        check_uid(call, &uid, meta(old, "uid"))?;
        let mut new = object.clone();
        managed_fields::track_update(call, old, &mut new, &manager, subresource)?;
        Ok(new)
    };
    let change = Change {
        part,
        subresource,
        reviewed: Reviewed::Object,
        apply: &apply,
        unconditional: call.kind.behaviour.unconditional_update,
        dry_run,
    };
    let error = match change_object(call, &change).await {
        Ok(outcome) => return Ok(outcome.respond(call, StatusCode::OK)),
        Err(error) => error,
    };
    if error.code != 404 || !call.kind.behaviour.create_on_update || part != Part::Main {
        return Err(error);
    }
    check_uid(call, &uid, "")?;
    call.authorize("create", "")?;
    set_meta(&mut object, "resourceVersion", Value::Null);
    managed_fields::track_update(call, &json!({}), &mut object, &manager, "")?;
    let outcome = create_object(call, object, dry_run).await?;
    Ok(outcome.respond(call, StatusCode::CREATED))
}

/// A uid that a new object brings along must be that of the object there.
pub(crate) fn check_uid(call: &Call, wanted: &str, found: &str) -> Result<(), ApiError> {
    if wanted.is_empty() || wanted == found {
        return Ok(());
    }
    let key = call.kind.upstream_key(&call.info.namespace, &call.info.name);
    // A dry run does not get as far as to know where in etcd the keys begin.
    let is_dry = call.query.get("dryRun").is_some();
    let key = if is_dry { key.trim_start_matches("/registry") } else { &key };
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}"
    );
    Err(ApiError::conflict(&call.kind.group, &call.kind.plural, &call.info.name, &why))
}

/// The object's name is the path's.
pub(crate) fn check_name(call: &Call, object: &mut Value) -> Result<(), ApiError> {
    let name = call.info.name.as_str();
    match meta(object, "name") {
        "" => Err(ApiError::bad_request(format!(
            "the name of the object ({name} based on URL) was undeterminable: name must be provided"
        ))),
        given if given == name => Ok(()),
        given => Err(ApiError::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({name})"
        ))),
    }
}

/// Reads, changes and writes the object of the path until nobody else got in between.
pub(crate) async fn change_object(call: &Call, change: &Change<'_>) -> Result<Outcome, ApiError> {
    let (namespace, name) = (call.info.namespace.as_str(), call.info.name.as_str());
    for _ in 0..ATTEMPTS {
        let entry =
            call.server.current(&call.kind, namespace, name).await?.ok_or_else(|| call.not_found())?;
        match attempt(call, change, &entry).await {
            Ok(outcome) => return Ok(outcome),
            Err(PutError::Conflict) => tokio::task::yield_now().await,
            Err(PutError::Other(error)) => return Err(error),
        }
    }
    Err(ApiError::modified(&call.kind.group, &call.kind.plural, name))
}

async fn attempt(
    call: &Call,
    change: &Change<'_>,
    entry: &std::sync::Arc<Entry>,
) -> Result<Outcome, PutError> {
    let shown = call.shown(entry).await.map_err(PutError::Other)?;
    let stored = shown.try_value().map_err(PutError::Other)?;
    let converted;
    let old = if call.kind.is_stored_version() {
        &stored
    } else {
        let mut value = stored.clone();
        call.convert_from_storage(&mut value);
        converted = value;
        &converted
    };
    let mut new = (change.apply)(old).map_err(PutError::Other)?;
    set_meta(&mut new, "selfLink", Value::Null);
    check_name(call, &mut new).and_then(|()| check_namespace(call, &mut new)).map_err(PutError::Other)?;
    admit(call, change, &mut new, old).await.map_err(PutError::Other)?;
    check_namespace(call, &mut new).map_err(PutError::Other)?;
    // After a conflict the next attempt compares a version that the client named with a newer one.
    check_version(call, change, &new, entry).map_err(PutError::Other)?;
    call.convert_to_storage(&mut new);
    prepare(call, change, &mut new, &stored).map_err(PutError::Other)?;
    let kind = ObjectKind::of(&call.kind);
    let attributes = Attributes::update(call, kind, change.subresource, old, change.dry_run);
    // As upstream, before validation: what is taken already is the first thing that is wrong.
    let allocated =
        admission::allocate(&attributes, &mut new, Some(&stored)).await.map_err(PutError::Other)?;
    check(call, change, &new, &stored).await.map_err(PutError::Other)?;
    let held = validate(call, change, &mut new, old).await.map_err(PutError::Other)?;
    let reservation = allocated.join(held);
    let written = write(call, change, entry, new, stored).await;
    reservation.finish();
    written
}

/// Mutating admission; objects are in the request's version.
async fn admit(call: &Call, change: &Change<'_>, new: &mut Value, old: &Value) -> Result<(), ApiError> {
    let attributes = |kind, old| Attributes::update(call, kind, change.subresource, old, change.dry_run);
    match change.reviewed {
        Reviewed::Object => admission::admit(&attributes(ObjectKind::of(&call.kind), old), new).await,
        Reviewed::View(view) => {
            let (mut shown, before) = (view.show(new), view.show(old));
            admission::admit(&attributes(view.kind(), &before), &mut shown).await?;
            view.write(&shown, new);
            Ok(())
        }
        Reviewed::Nothing => Ok(()),
    }
}

/// Asks validating admission. `new` is in the stored version, `old` is in the request's.
async fn validate(
    call: &Call,
    change: &Change<'_>,
    new: &mut Value,
    old: &Value,
) -> Result<Reservation, ApiError> {
    let attributes = |kind, old| Attributes::update(call, kind, change.subresource, old, change.dry_run);
    let of_object = attributes(ObjectKind::of(&call.kind), old);
    crate::codec::canonicalise(&call.kind, new);
    match change.reviewed {
        Reviewed::Object => admission::validate(&of_object, &call.as_requested(new)).await,
        Reviewed::View(view) => {
            let (shown, before) = (view.show(&call.as_requested(new)), view.show(old));
            admission::validate(&attributes(view.kind(), &before), &shown).await
        }
        Reviewed::Nothing => Ok(Reservation::default()),
    }
}

/// Compares the version that the new object carries, if any, with the stored one.
fn check_version(call: &Call, change: &Change<'_>, new: &Value, entry: &Entry) -> Result<(), ApiError> {
    let version = meta(new, "resourceVersion");
    let name = call.info.name.as_str();
    if version.is_empty() || version == "0" {
        if change.unconditional {
            return Ok(());
        }
        let mut errors = ErrorList::new();
        errors.push(Error::invalid(
            &Path::new("metadata").child("resourceVersion"),
            0,
            "must be specified for an update",
        ));
        return Err(invalid(&call.kind.group, &call.kind.plural, name, &errors));
    }
    let Ok(parsed) = version.parse::<u64>() else {
        return Err(ApiError {
            code: 500,
            reason: "".into(),
            ..ApiError::bad_request(format!("strconv.ParseUint: parsing {version:?}: invalid syntax"))
        });
    };
    if parsed != entry.revision {
        return Err(ApiError::modified(&call.kind.group, &call.kind.plural, name));
    }
    Ok(())
}

fn rules_of<'a>(call: &'a Call, change: &Change<'_>) -> Result<Rules<'a>, ApiError> {
    match change.part {
        Part::Sub => Rules::of_subresource(&call.kind, change.subresource),
        _ => call.rules(),
    }
}

fn prepare(call: &Call, change: &Change<'_>, new: &mut Value, old: &Value) -> Result<(), ApiError> {
    let rules = rules_of(call, change)?;
    set_meta(new, "resourceVersion", old["metadata"]["resourceVersion"].clone());
    match change.part {
        Part::Main | Part::Sub => rules.before_update(new, old),
        Part::Status => rules.before_status_update(new, old),
        Part::Other => {}
    }
    Ok(())
}

async fn check(call: &Call, change: &Change<'_>, new: &Value, old: &Value) -> Result<(), ApiError> {
    let rules = rules_of(call, change)?;
    let checked = match change.part {
        Part::Other => return Ok(()),
        Part::Status => rules.check_status_update(new, old),
        _ => rules.check_update(&call.as_checked(new), &call.as_checked(old)),
    };
    for warning in checked.warnings {
        call.warn(warning);
    }
    let mut errors = match change.part {
        Part::Status => crate::device_access::on_status_update(call, new, old).await?,
        _ => ErrorList::new(),
    };
    errors.extend(checked.errors);
    if errors.is_empty() { Ok(()) } else { Err(rules.invalid(new, meta(new, "name"), &errors)) }
}

async fn write(
    call: &Call,
    change: &Change<'_>,
    entry: &std::sync::Arc<Entry>,
    new: Value,
    old: Value,
) -> Result<Outcome, PutError> {
    let bytes = call.to_stored(&new).await.map_err(PutError::Other)?;
    // A write that changes nothing is none: watchers and revisions stay still.
    // What an older key has encrypted is written again even if nothing changes.
    if entry.is_stored_as(&bytes) && !call.server.staleness.is_stale(&entry.key) {
        return Ok(if change.dry_run { Outcome::Dry(old) } else { stored(call, entry).await? });
    }
    if change.dry_run {
        return Ok(Outcome::Dry(new));
    }
    if is_finished(call, &new) {
        // The last finalizer of a deleted object is gone, and with it the object.
        call.server.remove(&call.kind, entry).await?;
        admission::after_delete(call, &new).await;
        // The answer is what was asked for, at the revision that it was asked about.
        let mut last = new;
        set_meta(&mut last, "resourceVersion", entry.revision.to_string().into());
        return Ok(Outcome::Dry(last));
    }
    let compare = Compare::ModRevision(entry.revision);
    let written = call.server.put_bytes(&call.kind, entry.key.clone(), compare, bytes).await?;
    stored(call, &written).await
}

async fn stored(call: &Call, entry: &std::sync::Arc<Entry>) -> Result<Outcome, PutError> {
    call.shown(entry).await.map(Outcome::Stored).map_err(PutError::Other)
}

/// Whether nothing keeps a deleted object any longer.
pub(crate) fn is_finished(call: &Call, object: &Value) -> bool {
    if meta(object, "deletionTimestamp").is_empty() || !finalizers(object).is_empty() {
        return false;
    }
    if call.kind.kind == "Namespace" && call.kind.group.is_empty() {
        return object["spec"]["finalizers"].as_array().is_none_or(Vec::is_empty);
    }
    // A pod in its grace period is the kubelet's to end.
    object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0
}
