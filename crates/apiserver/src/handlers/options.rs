//! ListOptions: selectors, versions and limits of list, watch and deletecollection.

use std::time::Duration;

use schema::field::{Error, ErrorList, Path};
use store::Revision;

use crate::cache::{Filter, WatchCache};
use crate::call::{Call, invalid_options};
use crate::fields::Selected;
use crate::selector::{FieldSelector, LabelSelector};
use crate::status::ApiError;
use crate::storage::store_error;

/// How long a read waits for a resource version that is still to come.
pub(super) const FUTURE_WAIT: Duration = Duration::from_secs(3);

/// The longest that a watch lasts.
const TIMEOUT_SECONDS_MAX: u64 = 86_400;

/// How `resourceVersion` is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Match {
    Unset,
    NotOlderThan,
    Exact,
}

/// The parsed options.
#[derive(Debug)]
pub(crate) struct ListOptions {
    pub filter: Filter,
    pub version: Option<Revision>,
    pub version_match: Match,
    pub limit: usize,
    pub continue_token: String,
    pub timeout: Option<Duration>,
    pub bookmarks: bool,
    pub send_initial_events: Option<bool>,
}

impl ListOptions {
    /// Reads and validates the query; `watch` has rules of its own.
    pub fn parse(call: &Call, watch: bool) -> Result<Self, ApiError> {
        let query = &call.query;
        let labels = LabelSelector::parse(query.text("labelSelector"))?;
        let fields = FieldSelector::parse(query.text("fieldSelector"))?;
        let filter = filter(call, labels, fields)?;
        let limit = query.integer("limit")?.unwrap_or(0);
        let timeout = query.integer("timeoutSeconds")?;
        let send_initial_events = query.optional_flag("sendInitialEvents");
        check_versions(call, watch, send_initial_events)?;
        let version = match query.text("resourceVersion") {
            "" => None,
            text => Some(parse_version(text).map_err(|mut error| {
                if watch {
                    return ApiError { code: 500, reason: "".into(), ..error };
                }
                error.message.insert_str(0, "invalid resource version: ");
                error
            })?),
        };
        Ok(Self {
            filter,
            version,
            version_match: match query.text("resourceVersionMatch") {
                "NotOlderThan" => Match::NotOlderThan,
                "Exact" => Match::Exact,
                _ => Match::Unset,
            },
            // What is read from the cache at any version comes whole; what goes on does not come from there.
            limit: if version == Some(0) && query.text("continue").is_empty() {
                0
            } else {
                usize::try_from(limit).unwrap_or(0)
            },
            continue_token: query.text("continue").to_owned(),
            timeout: timeout
                .and_then(|seconds| u64::try_from(seconds).ok())
                .filter(|seconds| *seconds > 0)
                .map(|seconds| Duration::from_secs(seconds.min(TIMEOUT_SECONDS_MAX))),
            bookmarks: query.flag("allowWatchBookmarks"),
            send_initial_events,
        })
    }
}

fn filter(call: &Call, labels: LabelSelector, mut fields: FieldSelector) -> Result<Filter, ApiError> {
    let kind = &call.kind;
    for term in &mut fields.0 {
        // Fields are named as the stored version names them from here on.
        match kind.selected(&term.field).map_err(ApiError::bad_request)? {
            Selected::Name => "metadata.name".clone_into(&mut term.field),
            Selected::Namespace => "metadata.namespace".clone_into(&mut term.field),
            Selected::Value(index) => term.field = kind.fields.labels[index].to_string(),
        }
    }
    let namespace = Some(call.info.namespace.as_str()).filter(|namespace| !namespace.is_empty());
    let mut prefix = kind.prefix(namespace);
    if !call.info.name.is_empty() {
        fields.0.push(crate::selector::FieldTerm {
            field: "metadata.name".to_owned(),
            value: call.info.name.clone(),
            negated: false,
        });
    }
    // A selector on one name reads one key, not the whole directory.
    if let (true, Some(name)) = (namespace.is_some() || !kind.namespaced, fields.exact("metadata.name")) {
        prefix.push_str(name);
    }
    Ok(Filter { prefix, labels, fields })
}

fn check_versions(call: &Call, watch: bool, send_initial_events: Option<bool>) -> Result<(), ApiError> {
    let mut errors = ErrorList::new();
    let version_match = call.query.text("resourceVersionMatch");
    let path = Path::new("resourceVersionMatch");
    if watch {
        if send_initial_events.is_some() && version_match != "NotOlderThan" {
            let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            errors.push(Error::forbidden(&path, why));
        }
        if !version_match.is_empty() {
            if send_initial_events.is_none() {
                let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
                errors.push(Error::forbidden(&path, why));
            }
            if version_match != "NotOlderThan" {
                errors.push(Error::not_supported(&path, version_match, &["NotOlderThan"]));
            }
            if !call.query.text("continue").is_empty() {
                let why = "resourceVersionMatch is forbidden when continue is provided";
                errors.push(Error::forbidden(&path, why));
            }
        }
    } else {
        if !version_match.is_empty() {
            let version = call.query.text("resourceVersion");
            if version.is_empty() {
                let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
                errors.push(Error::forbidden(&path, why));
            }
            if !call.query.text("continue").is_empty() {
                let why = "resourceVersionMatch is forbidden when continue is provided";
                errors.push(Error::forbidden(&path, why));
            }
            if !matches!(version_match, "NotOlderThan" | "Exact") {
                errors.push(Error::not_supported(&path, version_match, &["Exact", "NotOlderThan", ""]));
            }
            if version_match == "Exact" && version == "0" {
                let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
                errors.push(Error::forbidden(&path, why));
            }
        }
        if send_initial_events.is_some() {
            let path = Path::new("sendInitialEvents");
            errors.push(Error::forbidden(&path, "sendInitialEvents is forbidden for list"));
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(invalid_options("ListOptions", &errors)) }
}

/// A resource version from the query.
pub(crate) fn parse_version(text: &str) -> Result<Revision, ApiError> {
    text.parse().map_err(|_| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let why = if digits { "value out of range" } else { "invalid syntax" };
        ApiError::bad_request(format!(
            "resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: {why}"
        ))
    })
}

/// Waits a moment for a version that the cache has not seen, then gives up.
pub(crate) async fn wait_for_version(cache: &WatchCache, revision: Revision) -> Result<(), ApiError> {
    if cache.applied() >= revision {
        return Ok(());
    }
    cache.fresh().await.map_err(store_error)?;
    if cache.wait_for_at_most(revision, FUTURE_WAIT).await {
        return Ok(());
    }
    Err(ApiError::too_large_resource_version(revision, cache.applied()))
}

/// Validates the options of a write, after what is wrong with them already; whether it is a dry run.
pub(crate) fn check_write(call: &Call, options: &str, mut errors: ErrorList) -> Result<bool, ApiError> {
    let manager = call.query.text("fieldManager");
    schema::validation::metadata::field_manager(manager, &Path::new("fieldManager"), &mut errors);
    let dry_run: Vec<&str> = call.query.all("dryRun").collect();
    if dry_run.iter().any(|value| *value != "All") {
        errors.push(Error::not_supported(&Path::new("dryRun"), serde_json::json!(dry_run), &["All"]));
    }
    let validation = call.query.text("fieldValidation");
    if !matches!(validation, "" | "Ignore" | "Warn" | "Strict") {
        let known = ["", "Ignore", "Strict", "Warn"];
        errors.push(Error::not_supported(&Path::new("fieldValidation"), validation, &known));
    }
    if errors.is_empty() { Ok(!dry_run.is_empty()) } else { Err(invalid_options(options, &errors)) }
}
