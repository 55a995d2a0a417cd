//! Errors as the API shows them: every failure becomes one `meta.k8s.io` Status object.
//!
//! The constructors mirror `k8s.io/apimachinery/pkg/api/errors`, texts included, because clients match on
//! reason and people search for the message.

use std::borrow::Cow;
use std::fmt;

use serde_json::{Map, Value, json};

/// One entry of `details.causes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// Machine-readable reason, such as `FieldValueInvalid`.
    pub reason: Cow<'static, str>,
    /// What a person reads.
    pub message: String,
    /// Path of the field, empty where there is none.
    pub field: String,
}

/// A failed request: HTTP status code, Kubernetes reason and the rest of the Status object.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiError {
    /// HTTP status code.
    pub code: u16,
    /// `metav1.StatusReason`; empty for an unknown one.
    pub reason: Cow<'static, str>,
    /// What a person reads.
    pub message: String,
    /// `details`, where the error has them. Boxed: errors are rare, results are moved often.
    pub details: Option<Box<Details>>,
}

/// The `details` of a Status.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Details {
    /// Name of the object.
    pub name: String,
    /// API group.
    pub group: String,
    /// Resource (or kind, for invalid objects).
    pub kind: String,
    /// Uid of the object, where a conflict names one.
    pub uid: String,
    /// Every single reason.
    pub causes: Vec<Cause>,
    /// Seconds to wait before trying again; also sent as the `Retry-After` header.
    pub retry_after_seconds: u32,
    /// Where a list can go on whose first pages are too old. Shown in the Status' `metadata`.
    pub continue_token: String,
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}

/// `deployments.apps "x"`: how messages name an object.
fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

impl ApiError {
    /// An error with a code, a reason and a message.
    pub fn new(code: u16, reason: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { code, reason: reason.into(), message: message.into(), details: None }
    }

    /// Sets `details` to name an object.
    #[must_use]
    pub fn about(mut self, group: &str, kind: &str, name: &str) -> Self {
        let details = self.details.get_or_insert_default();
        details.group = group.to_owned();
        details.kind = kind.to_owned();
        details.name = name.to_owned();
        self
    }

    /// Adds a cause.
    #[must_use]
    pub fn cause(
        mut self,
        reason: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
        field: impl Into<String>,
    ) -> Self {
        self.details.get_or_insert_default().causes.push(Cause {
            reason: reason.into(),
            message: message.into(),
            field: field.into(),
        });
        self
    }

    /// 404 for an object.
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        Self::new(
            404,
            "NotFound",
            format!("{} {} not found", qualified(group, resource), schema::gotext::quote(name)),
        )
        .about(group, resource, name)
    }

    /// 404 for a path that no handler serves.
    pub fn no_such_path() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource").about("", "", "")
    }

    /// 409 on create.
    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        let (qualified, quoted) = (qualified(group, resource), schema::gotext::quote(name));
        Self::new(409, "AlreadyExists", format!("{qualified} {quoted} already exists"))
            .about(group, resource, name)
    }

    /// 409 with the reason that follows the object's name.
    pub fn conflict(group: &str, resource: &str, name: &str, why: &str) -> Self {
        Self::new(
            409,
            "Conflict",
            format!(
                "Operation cannot be fulfilled on {} {}: {why}",
                qualified(group, resource),
                schema::gotext::quote(name)
            ),
        )
        .about(group, resource, name)
    }

    /// 409 because the object was changed by somebody else.
    pub fn modified(group: &str, resource: &str, name: &str) -> Self {
        Self::conflict(
            group,
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 403 with the reason that follows the object's name.
    pub fn forbidden(group: &str, resource: &str, name: &str, why: impl fmt::Display) -> Self {
        let qualified = qualified(group, resource);
        let message = match (resource.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {why}"),
            (_, true) => format!("{qualified} is forbidden: {why}"),
            _ => format!("{qualified} {} is forbidden: {why}", schema::gotext::quote(name)),
        };
        Self::new(403, "Forbidden", message).about(group, resource, name)
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 405 for a verb that a resource does not have.
    pub fn method_not_supported(group: &str, resource: &str, action: &str) -> Self {
        Self::new(
            405,
            "MethodNotAllowed",
            format!("{action} is not supported on resources of kind \"{}\"", qualified(group, resource)),
        )
        .about(group, resource, "")
    }

    /// 405 for a method that the path does not have.
    pub fn method_not_allowed() -> Self {
        Self::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
            .about("", "", "")
    }

    /// 406 with the media types that would do.
    pub fn not_acceptable(accepted: &[&str]) -> Self {
        Self::new(
            406,
            "NotAcceptable",
            format!("only the following media types are accepted: {}", accepted.join(", ")),
        )
    }

    /// 415 with the media types that would do.
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        Self::new(
            415,
            "UnsupportedMediaType",
            format!(
                "the body of the request was in an unknown format - accepted media types include: {}",
                accepted.join(", ")
            ),
        )
    }

    /// 413.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(413, "RequestEntityTooLarge", message)
    }

    /// 410 for a resource version or continue token that is no longer there.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 410 of a watch that starts before the oldest event kept.
    pub fn too_old(requested: u64, oldest: u64) -> Self {
        Self::expired(format!("too old resource version: {requested} ({oldest})"))
    }

    /// 504 for a resource version that is still to come.
    pub fn too_large_resource_version(requested: u64, current: u64) -> Self {
        let mut error = Self::new(
            504,
            "Timeout",
            format!("Timeout: Too large resource version: {requested}, current: {current}"),
        )
        .cause("ResourceVersionTooLarge", "Too large resource version", "");
        error.details.get_or_insert_default().retry_after_seconds = 1;
        error
    }

    /// 429 with the seconds to wait.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        let mut error = Self::new(429, "TooManyRequests", message);
        error.details.get_or_insert_default().retry_after_seconds = retry_after_seconds;
        error
    }

    /// 503.
    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    /// 500.
    pub fn internal(error: impl fmt::Display) -> Self {
        Self::new(500, "InternalError", format!("Internal error occurred: {error}")).cause(
            "",
            error.to_string(),
            "",
        )
    }

    /// 422 from validation: one cause for each `(reason, message, field)`.
    pub fn invalid(group: &str, kind: &str, name: &str, causes: Vec<Cause>) -> Self {
        let mut texts: Vec<String> = Vec::with_capacity(causes.len());
        for cause in &causes {
            let text = if cause.field.is_empty() {
                cause.message.clone()
            } else {
                format!("{}: {}", cause.field, cause.message)
            };
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        let list = match texts.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let mut error =
            Self::new(422, "Invalid", format!("{} \"{name}\" is invalid: {list}", qualified(group, kind)))
                .about(group, kind, name);
        error.details.get_or_insert_default().causes = causes;
        error
    }

    /// The Status object.
    pub fn to_value(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            status["reason"] = json!(self.reason);
        }
        match &self.details {
            Some(details) if !details.continue_token.is_empty() => {
                status["metadata"]["continue"] = json!(details.continue_token);
            }
            Some(details) => status["details"] = details.to_value(),
            None => {}
        }
        status
    }
}

impl Details {
    fn to_value(&self) -> Value {
        let mut map = Map::new();
        for (key, value) in
            [("name", &self.name), ("group", &self.group), ("kind", &self.kind), ("uid", &self.uid)]
        {
            if !value.is_empty() {
                map.insert(key.to_owned(), json!(value));
            }
        }
        if !self.causes.is_empty() {
            let causes = self.causes.iter().map(Cause::to_value).collect();
            map.insert("causes".to_owned(), Value::Array(causes));
        }
        if self.retry_after_seconds > 0 {
            map.insert("retryAfterSeconds".to_owned(), json!(self.retry_after_seconds));
        }
        Value::Object(map)
    }
}

impl Cause {
    fn to_value(&self) -> Value {
        let mut map = Map::new();
        for (key, value) in
            [("reason", self.reason.as_ref()), ("message", &self.message), ("field", &self.field)]
        {
            if !value.is_empty() {
                map.insert(key.to_owned(), json!(value));
            }
        }
        Value::Object(map)
    }
}

/// The Status that answers a successful request without an object of its own (deletes, mostly).
pub fn success(details: Details) -> Value {
    let mut status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"});
    let details = details.to_value();
    if details.as_object().is_some_and(|map| !map.is_empty()) {
        status["details"] = details;
    }
    status
}
