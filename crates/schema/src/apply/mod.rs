//! Server-side apply and field ownership.
//!
//! Who set which field stands in `metadata.managedFields`. `apply` merges a configuration into the
//! live object and refuses to change what others own; `track_update` records what any other write
//! changed. Follows `merge.Updater` of structured-merge-diff and `util/managedfields` of
//! apimachinery. Both expect objects as `decode` leaves them.

mod changes;
mod created;
mod managers;
pub mod scale;
mod set;
mod typed;

use serde_json::{Map, Value};

use crate::decode;
use crate::types::Type;

use changes::Changes;
use managers::{Entry, Managers, Operation};
use typed::Slot;

pub use set::{Element, Path, Scalar, Set, path_text};

/// The manager that owns what an object had before somebody applied to it for the first time.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
/// kubectl's record of client-side applies.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A request to apply.
pub struct ApplyRequest<'a> {
    /// The stored object; `None` if the apply creates it.
    pub live: Option<&'a Value>,
    /// The applied configuration, not normalised.
    pub patch: Value,
    /// The type of the object.
    pub ty: &'a Type,
    /// Who applies.
    pub manager: &'a str,
    /// `group/version` of the request.
    pub api_version: &'a str,
    /// The subresource applied to; empty for the object itself.
    pub subresource: &'a str,
    /// Take over what others own.
    pub force: bool,
    /// Fields that the endpoint resets, so that nobody comes to own them through it.
    pub ignored: &'a Set,
    /// The time, RFC 3339 in UTC with whole seconds.
    pub now: &'a str,
    /// For kinds of several versions.
    pub convert: Option<ConvertTo<'a>>,
}

/// Converts an object of the request's version into the version named, and says its type. Owners
/// know fields by the names of the version in which they wrote.
pub type ConvertTo<'a> = &'a dyn Fn(&Value, &str) -> Option<(Value, &'static Type)>;

/// A field that somebody else owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The other manager as messages name it (`"scaler" using apps/v1`).
    pub manager: String,
    /// The field (`.spec.replicas`).
    pub field: String,
}

impl Conflict {
    /// The message of the status cause.
    pub fn message(&self) -> String {
        format!("conflict with {}", self.manager)
    }
}

/// Why an apply is refused. The texts are upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// 409 with one cause per conflict (reason `FieldManagerConflict`).
    #[error("{}", conflict_message(.0))]
    Conflicts(Vec<Conflict>),
    /// 400.
    #[error("{0}")]
    BadRequest(String),
    /// 500: the configuration does not fit the type.
    #[error("{0}")]
    Invalid(String),
}

fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [only] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {}: {}", only.manager, only.field);
    }
    let mut lines = Vec::new();
    let mut current = None;
    for conflict in conflicts {
        if current != Some(&conflict.manager) {
            lines.push(format!("conflicts with {}:", conflict.manager));
            current = Some(&conflict.manager);
        }
        lines.push(format!("- {}", conflict.field));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

/// The fields that an endpoint resets, so that nobody owns them through it: the main one leaves
/// `status` alone where that is a subresource, `/status` the spec; some kinds more. Upstream's
/// `GetResetFields`.
pub fn ignored_fields(group: &str, kind: &str, has_status: bool, subresource: &str) -> Set {
    let paths: &[&[&str]] = match (group, kind, subresource) {
        ("certificates.k8s.io", "CertificateSigningRequest", "") => &[&["spec"], &["status"]],
        ("certificates.k8s.io", "CertificateSigningRequest", "status") => {
            &[&["spec"], &["status", "conditions"]]
        }
        ("certificates.k8s.io", "CertificateSigningRequest", "approval") => {
            &[&["spec"], &["status", "certificate"]]
        }
        ("", "Pod", "status") => {
            &[&["spec"], &["metadata", "deletionTimestamp"], &["metadata", "ownerReferences"]]
        }
        ("apps", "Deployment", "status") => &[&["spec"], &["metadata", "labels"]],
        ("networking.k8s.io", "ServiceCIDR", "status")
        | (
            "admissionregistration.k8s.io"
            | "apiregistration.k8s.io"
            | "flowcontrol.apiserver.k8s.io"
            | "resource.k8s.io"
            | "storage.k8s.io",
            _,
            "status",
        ) => &[&["spec"], &["metadata"]],
        (_, _, "status") => &[&["spec"]],
        (_, _, "") if has_status => &[&["status"]],
        _ => &[],
    };
    Set::of_fields(paths)
}

/// Applies a configuration. Returns the merged object with its `managedFields`, still to be
/// decoded, defaulted and validated; the live object if nothing changes.
pub fn apply(request: &ApplyRequest<'_>) -> Result<Value, ApplyError> {
    check_patch(request)?;
    let slot = Slot::of(request.ty);
    let empty = request.ty.zero();
    let live = request.live.unwrap_or(&empty);
    let mut managers = Managers::read(live);
    if managers.is_empty() && request.live.is_some() {
        let first =
            Entry::new(BEFORE_FIRST_APPLY, Operation::Update, request.api_version, request.subresource);
        record(&mut managers, &empty, live, slot, first, request.ignored, request.now);
    }
    managers.retain_group(request.api_version);
    match merge(request, live, managers.clone(), request.force) {
        Err(ApplyError::Conflicts(conflicts)) if request.manager == "kubectl" => {
            // Objects from client-side apply change over without a conflict about what kubectl's
            // own record says it set.
            let Some(own) = last_applied_fields(request, live) else {
                return Err(ApplyError::Conflicts(conflicts));
            };
            let left: Vec<Conflict> = conflicts.into_iter().filter(|c| !own.contains(&c.field)).collect();
            if !left.is_empty() {
                return Err(ApplyError::Conflicts(left));
            }
            merge(request, live, managers, true).map(|merged| renew_last_applied(request, merged))
        }
        outcome => outcome.map(|merged| renew_last_applied(request, merged)),
    }
}

/// What is wrong with an object of a type, in the words of upstream's merge library: nothing if it has one.
pub fn misfit(object: &Value, ty: &Type) -> Option<String> {
    let mut errors = Vec::new();
    typed::validate(object, Slot::of(ty), &mut String::new(), &mut errors);
    match errors.as_slice() {
        [] => None,
        [only] => Some(only.clone()),
        many => Some(many.iter().fold("errors:".to_string(), |text, e| format!("{text}\n  {e}"))),
    }
}

fn check_patch(request: &ApplyRequest<'_>) -> Result<(), ApplyError> {
    let patch = &request.patch;
    let version = patch["apiVersion"].as_str().unwrap_or_default();
    if version != request.api_version {
        return Err(ApplyError::BadRequest(format!(
            "Incorrect version specified in apply patch. Specified patch version: {version}, expected: {}",
            request.api_version
        )));
    }
    if !patch["metadata"]["managedFields"].is_null() {
        return Err(ApplyError::BadRequest("metadata.managedFields must be nil".into()));
    }
    let Some(text) = misfit(patch, request.ty) else { return Ok(()) };
    let part = |name: &str| patch["metadata"][name].as_str().unwrap_or_default();
    let version = if version.contains('/') { version.to_string() } else { format!("/{version}") };
    Err(ApplyError::Invalid(format!(
        "failed to create typed patch object ({}/{}; {version}, Kind={}): {text}",
        part("namespace"),
        part("name"),
        patch["kind"].as_str().unwrap_or_default()
    )))
}

fn merge(
    request: &ApplyRequest<'_>,
    live: &Value,
    mut managers: Managers,
    force: bool,
) -> Result<Value, ApplyError> {
    let slot = Slot::of(request.ty);
    let failed = |e: String| ApplyError::Invalid(format!("failed to merge config: {e}"));
    let mut merged =
        typed::merge(live, &request.patch, slot).map_err(failed)?.unwrap_or_else(|| request.ty.zero());
    let mut own = Entry::new(request.manager, Operation::Apply, request.api_version, request.subresource);
    own.set = typed::field_set(&request.patch, slot).recursive_difference(request.ignored);
    let last = managers.replace(own.clone());
    if let Some(last) = last.as_ref().filter(|last| !last.set.is_empty()) {
        merged = prune(merged, &managers, &last.set, slot);
    }
    let comparison = typed::compare(live, &merged, slot).without(request.ignored);
    let changes = Changes::new(comparison, request.api_version, &managers, request.convert, |convert| {
        (convert(live), convert(&merged))
    });
    let conflicts = managers.yield_to(&own, &changes.without(request.ignored), force);
    if !conflicts.is_empty() {
        return Err(ApplyError::Conflicts(conflicts));
    }
    let changed = *live != merged;
    managers.strip(&own);
    let time = if changed { Some(request.now.to_string()) } else { last.and_then(|l| l.time) };
    managers.set_time(&own, time);
    let mut object = if changed { merged } else { live.clone() };
    managers.write(&mut object);
    Ok(object)
}

/// Removes what the manager applied last time and no longer does, unless somebody else owns it.
fn prune(merged: Value, managers: &Managers, last: &Set, slot: Slot<'_>) -> Value {
    let named = |set: &Set| typed::with_named_fields(set, slot);
    let last = named(last);
    let merged_set = named(&typed::field_set(&merged, slot));
    let pruned = typed::remove(&merged, &last, slot);
    // Give back what others (or the new configuration) own …
    let pruned_set = named(&typed::field_set(&pruned, slot));
    let owned = named(&managers.all_fields());
    let pruned = typed::remove(&merged, &merged_set.difference(&pruned_set.union(&owned)), slot);
    // … and what was removed along with the manager's own fields but never was its own.
    let pruned_set = named(&typed::field_set(&pruned, slot));
    typed::remove(&merged, &merged_set.difference(&pruned_set).intersection(&last), slot)
}

/// The fields, as texts, that kubectl's annotation says it set to what they still are.
fn last_applied_fields(request: &ApplyRequest<'_>, live: &Value) -> Option<Vec<String>> {
    let text = live["metadata"]["annotations"][LAST_APPLIED].as_str().filter(|t| !t.is_empty())?;
    let applied = decode::json_to_value(text.as_bytes()).ok()?;
    if applied["apiVersion"].as_str() != Some(request.api_version) {
        return None;
    }
    let slot = Slot::of(request.ty);
    let differs = typed::compare(&applied, live, slot);
    let own = typed::field_set(&applied, slot)
        .difference(&differs.modified)
        .difference(&differs.added)
        .difference(&differs.removed);
    Some(own.paths().iter().map(|p| path_text(p)).collect())
}

/// Keeps kubectl's annotation in step, so that users can go back to client-side apply.
fn renew_last_applied(request: &ApplyRequest<'_>, mut merged: Value) -> Value {
    let annotated = merged["metadata"]["annotations"][LAST_APPLIED].as_str().is_some_and(|t| !t.is_empty());
    if request.manager == "kubectl" && annotated {
        let mut applied = request.patch.clone();
        if let Some(annotations) = applied.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut)
        {
            annotations.remove(LAST_APPLIED);
            if annotations.is_empty()
                && let Some(metadata) = applied.get_mut("metadata").and_then(Value::as_object_mut)
            {
                metadata.remove("annotations");
            }
        }
        merged["metadata"]["annotations"][LAST_APPLIED] = Value::String(format!("{applied}\n"));
    }
    merged
}

/// What a write that is not an apply means for ownership.
pub struct Update<'a> {
    /// The stored object; `None` for a create.
    pub live: Option<&'a Value>,
    /// The type of the object.
    pub ty: &'a Type,
    /// Who writes.
    pub manager: &'a str,
    /// `group/version` of the request.
    pub api_version: &'a str,
    /// The subresource written to; empty for the object itself.
    pub subresource: &'a str,
    /// Fields that the endpoint resets.
    pub ignored: &'a Set,
    /// The time, RFC 3339 in UTC with whole seconds.
    pub now: &'a str,
    /// For kinds of several versions.
    pub convert: Option<ConvertTo<'a>>,
}

/// Records in `new` that the manager changed what differs from the live object: replaces
/// `metadata.managedFields` of `new`, which is the object as it will be stored.
///
/// As upstream: a `managedFields` list that the request brings along wins over the stored one
/// (unless it comes by a subresource), and none or one empty entry resets it; objects whose fields nobody
/// manages stay so until the next apply.
pub fn track_update(new: &mut Value, update: &Update<'_>) {
    let stored = update.live.map_or(&Value::Null, |live| &live["metadata"]["managedFields"]);
    let given = take_managed_fields(new);
    let brought = given.as_array().filter(|_| update.subresource.is_empty());
    let mut base = match brought {
        Some(entries) if managers::is_reset(entries) => Value::Null,
        Some(_) => match Managers::parse(&given) {
            Some(managers) => {
                let kind = new["kind"].as_str().unwrap_or_default();
                managers.tidied(update.api_version, kind).into_value()
            }
            None => stored.clone(),
        },
        None => stored.clone(),
    };
    let slot = Slot::of(update.ty);
    let entry = Entry::new(update.manager, Operation::Update, update.api_version, update.subresource);
    // What nobody owned before has no owners, unless it is new; entries that are dropped for their
    // version were some.
    let tracked = match brought {
        Some(entries) => !managers::is_reset(entries),
        None => stored.as_array().is_some_and(|entries| !entries.is_empty()),
    };
    if update.live.is_some() && !tracked {
        return;
    }
    if managers::has_other_group(&base, update.api_version) {
        let mut managers = Managers::parse(&base).unwrap_or_default();
        managers.retain_group(update.api_version);
        base = managers.into_value();
    }
    let empty;
    let live = match update.live {
        Some(live) => live,
        None => {
            empty = update.ty.zero();
            &empty
        }
    };
    if update.live.is_none()
        && base.is_null()
        && let Some(fields) = created::fields(live, new, slot, update.ignored)
    {
        if fields.as_object().is_some_and(|fields| !fields.is_empty()) {
            let entry = Entry { time: Some(update.now.to_owned()), ..entry };
            set_managed_fields(new, Value::Array(vec![entry.with_fields(fields)]));
        }
        return;
    }
    let comparison = managers::without_stripped(typed::compare(live, new, slot)).without(update.ignored);
    if comparison.is_empty() {
        set_managed_fields(new, base);
        return;
    }
    // Most writes set fields that their manager owns already, and nobody else does: then only the
    // time of its entry changes, and the sets need not be read.
    if managers::only_time_changes(&mut base, &entry, &comparison, update.now) {
        set_managed_fields(new, base);
        return;
    }
    let mut managers = Managers::parse(&base).unwrap_or_default();
    let changes = Changes::new(comparison, update.api_version, &managers, update.convert, |convert| {
        (convert(live), convert(new))
    });
    record_changes(&mut managers, &changes.without(update.ignored), entry, update.now);
    managers.cap();
    managers.write(new);
}

fn record(
    managers: &mut Managers,
    old: &Value,
    new: &Value,
    slot: Slot<'_>,
    entry: Entry,
    ignored: &Set,
    now: &str,
) {
    let comparison = managers::without_stripped(typed::compare(old, new, slot)).without(ignored);
    record_changes(managers, &Changes::of_one(comparison), entry, now);
}

fn record_changes(managers: &mut Managers, changes: &Changes, mut entry: Entry, now: &str) {
    // Upstream records the operation under a name of its own first, so that the writer's earlier
    // entry yields like anybody's; then the two become one.
    let nobody = Entry::new("current-operation", Operation::Update, "", "");
    managers.yield_to(&nobody, changes, true);
    entry.set = changes.own.modified.union(&changes.own.added);
    if !entry.set.is_empty() {
        entry.time = Some(now.to_string());
        managers.join(entry);
    }
}

fn take_managed_fields(object: &mut Value) -> Value {
    let metadata = object.get_mut("metadata").and_then(Value::as_object_mut);
    metadata.and_then(|m| m.remove("managedFields")).unwrap_or_default()
}

fn set_managed_fields(object: &mut Value, entries: Value) {
    if entries.as_array().is_none_or(Vec::is_empty) {
        take_managed_fields(object);
        return;
    }
    if let Some(entries_of) = object.as_object_mut() {
        let metadata = entries_of.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.insert("managedFields".into(), entries);
        }
    }
}

#[cfg(test)]
mod tests;
