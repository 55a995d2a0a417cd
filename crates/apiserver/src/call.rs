//! One request on its way through the handlers.

use std::sync::{Arc, Mutex, PoisonError};

use api::user::UserInfo;
use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode};
use schema::field::ErrorList;
use serde_json::Value;

use crate::body::Body;
use crate::cache::{Entry, WatchCache};
use crate::codec::{self, Decoded};
use crate::kind::Kind;
use crate::negotiate::{Output, Shape};
use crate::query::Query;
use crate::request_info::RequestInfo;
use crate::server::Inner;
use crate::status::{ApiError, Cause};
use crate::tables;

/// A request whose kind is known and whose sender may do what it asks.
pub(crate) struct Call {
    pub server: Arc<Inner>,
    pub kind: Arc<Kind>,
    pub info: RequestInfo,
    pub user: Arc<UserInfo>,
    pub query: Query,
    pub raw_query: Option<String>,
    pub method: Method,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub output: Output,
    pub warnings: Mutex<Vec<String>>,
}

impl Call {
    /// The same request, turned to another object.
    pub fn on(&self, kind: Arc<Kind>, info: RequestInfo) -> Self {
        Self {
            server: self.server.clone(),
            kind,
            info,
            user: self.user.clone(),
            query: self.query.clone(),
            raw_query: self.raw_query.clone(),
            method: self.method.clone(),
            headers: self.headers.clone(),
            body: self.body.clone(),
            output: self.output,
            warnings: Mutex::default(),
        }
    }

    /// The cache that holds the kind.
    pub fn cache(&self) -> &Arc<WatchCache> {
        self.server.cache_of(&self.kind)
    }

    /// 404 about the object that the path names.
    pub fn not_found(&self) -> ApiError {
        self.not_found_name(&self.info.name)
    }

    /// 404 about an object of this kind.
    pub fn not_found_name(&self, name: &str) -> ApiError {
        ApiError::not_found(&self.kind.group, &self.kind.plural, name)
    }

    /// 422 about an object of this kind.
    pub fn invalid(&self, name: &str, errors: &ErrorList) -> ApiError {
        invalid(&self.kind.group, &self.kind.kind, name, errors)
    }

    /// Refuses with 403 unless the sender may also do `verb` to the object that the path names.
    pub fn authorize(&self, verb: &str, subresource: &str) -> Result<(), ApiError> {
        let mut wanted = crate::authz::Attributes::of(&self.info);
        (wanted.verb, wanted.subresource) = (verb, subresource);
        self.server.authorizer.check(&self.user, &wanted)
    }

    /// Adds a `Warning` header to the answer.
    pub fn warn(&self, text: impl Into<String>) {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).push(text.into());
    }

    /// Takes over the warnings of a part of this request that was turned to another object.
    pub fn take_warnings(&self, part: &Self) {
        let texts = std::mem::take(&mut *part.warnings.lock().unwrap_or_else(PoisonError::into_inner));
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).extend(texts);
    }

    /// Whether `dryRun=All` was given; other values are refused.
    pub fn dry_run(&self) -> Result<bool, ApiError> {
        let values: Vec<&str> = self.query.all("dryRun").collect();
        if values.iter().any(|value| *value != "All") {
            let options = match self.info.verb.as_str() {
                "create" => "CreateOptions",
                "update" => "UpdateOptions",
                "patch" => "PatchOptions",
                _ => "DeleteOptions",
            };
            return Err(unsupported_dry_run(options, &values));
        }
        Ok(!values.is_empty())
    }

    /// Who the managed fields of this write belong to: `fieldManager`, or the user agent up to the
    /// first slash.
    pub fn manager(&self) -> String {
        match self.query.text("fieldManager") {
            "" => {
                let agent = self
                    .headers
                    .get(http::header::USER_AGENT)
                    .and_then(|value| value.to_str().ok())
                    .unwrap_or_default();
                let name = agent.split('/').next().unwrap_or_default();
                let name: String = name.chars().filter(|c| !c.is_control()).take(128).collect();
                if name.is_empty() { "unknown".to_owned() } else { name }
            }
            manager => manager.to_owned(),
        }
    }

    /// The body as an object of this kind, with the version's defaults; field warnings are added.
    pub fn decode_body(&self) -> Result<Value, ApiError> {
        let decoded = codec::decode(&self.kind, &self.body, &self.headers, &self.query)?;
        Ok(self.take_decoded(decoded))
    }

    /// Takes over a decoded object's warnings.
    pub fn take_decoded(&self, decoded: Decoded) -> Value {
        for warning in decoded.warnings {
            self.warn(warning);
        }
        decoded.value
    }

    /// The object as stored, in this kind's version.
    pub fn value_of(&self, entry: &Entry) -> Value {
        let mut value = entry.to_value();
        self.convert_from_storage(&mut value);
        value
    }

    /// Converts from the stored version to this kind's.
    pub fn convert_from_storage(&self, value: &mut Value) {
        if let Some(convert) = self.kind.storage.convert {
            (convert.from_storage)(value);
            value["apiVersion"] = self.kind.api_version().into();
            value["kind"] = self.kind.kind.as_ref().into();
        }
    }

    /// A stored object in this kind's version.
    pub fn as_requested<'a>(&self, stored: &'a Value) -> std::borrow::Cow<'a, Value> {
        if self.kind.is_stored_version() {
            return std::borrow::Cow::Borrowed(stored);
        }
        let mut value = stored.clone();
        self.convert_from_storage(&mut value);
        std::borrow::Cow::Owned(value)
    }

    /// A stored object as this kind's rules want to see it: those of `events.k8s.io` know its own
    /// field names, all others the stored version's.
    pub fn as_checked<'a>(&self, stored: &'a Value) -> std::borrow::Cow<'a, Value> {
        if self.kind.group != "events.k8s.io" {
            return std::borrow::Cow::Borrowed(stored);
        }
        let mut value = stored.clone();
        self.convert_from_storage(&mut value);
        std::borrow::Cow::Owned(value)
    }

    /// Converts from this kind's version to the stored one.
    pub fn convert_to_storage(&self, value: &mut Value) {
        if let Some(convert) = self.kind.storage.convert {
            (convert.to_storage)(value);
        }
    }

    /// The answer with one object of the cache.
    pub fn respond_entry(&self, code: StatusCode, entry: &Entry) -> Response<Body> {
        if self.output.is_plain() && self.kind.is_stored_version() {
            return self.output.respond_bytes(code, entry.bytes().clone());
        }
        self.respond_object(code, &self.value_of(entry))
    }

    /// The answer with one object in this kind's version, in whatever shape was asked for.
    pub fn respond_object(&self, code: StatusCode, object: &Value) -> Response<Body> {
        match self.output.shape {
            Shape::Object => self.output.respond(code, object),
            Shape::Metadata(version) => self.output.respond(code, &tables::partial(object, version, true)),
            Shape::Table(version) => self.output.respond(code, &tables::single(self, object, version)),
        }
    }
}

/// 422 with the list's causes.
pub(crate) fn invalid(group: &str, kind: &str, name: &str, errors: &ErrorList) -> ApiError {
    let causes = errors.causes();
    let causes = causes.into_iter().map(|cause| Cause {
        reason: cause.reason.into(),
        message: cause.message,
        field: cause.field,
    });
    ApiError::invalid(group, kind, name, causes.collect())
}

/// 422 for options of `meta.k8s.io`.
pub(crate) fn invalid_options(kind: &str, errors: &ErrorList) -> ApiError {
    invalid("meta.k8s.io", kind, "", errors)
}

/// 422 for dry-run values other than `All`.
pub(crate) fn unsupported_dry_run(options: &str, values: &[&str]) -> ApiError {
    use schema::field::{Error, Path};
    let mut errors = ErrorList::new();
    errors.push(Error::not_supported(&Path::new("dryRun"), serde_json::json!(values), &["All"]));
    invalid_options(options, &errors)
}
