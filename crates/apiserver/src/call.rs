//! One request on its way through the handlers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::user::UserInfo;
use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode};
use schema::field::ErrorList;
use serde_json::Value;
use tokio::time::Instant;

use crate::audit::Record;
use crate::body::Body;
use crate::cache::{Entry, WatchCache};
use crate::codec::{self, Decoded};
use crate::kind::Kind;
use crate::negotiate::{Output, Shape, negotiate_error};
use crate::object::encode_stored;
use crate::protobuf;
use crate::query::Query;
use crate::request_info::RequestInfo;
use crate::rules::Rules;
use crate::server::Inner;
use crate::status::{ApiError, Cause};
use crate::tables;

/// How long a write may take (upstream's `requestTimeoutUpperBound`).
pub(crate) const TIME_MAX: Duration = Duration::from_secs(34);

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
    /// When the answer is due: nobody else is waited for after that.
    pub deadline: Instant,
    /// The request's record in the audit log, where it has one.
    pub audit: Option<Arc<Record>>,
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
            deadline: self.deadline,
            audit: self.audit.clone(),
        }
    }

    /// A call that the server makes to itself, past authorization.
    pub fn internal(server: Arc<Inner>, kind: Arc<Kind>, info: RequestInfo) -> Self {
        let user = UserInfo {
            name: "system:apiserver".to_owned(),
            groups: vec![api::user::MASTERS.to_owned()],
            ..UserInfo::default()
        };
        Self {
            server,
            kind,
            info,
            user: Arc::new(user),
            query: Query::default(),
            raw_query: None,
            method: Method::GET,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            output: Output::default(),
            warnings: Mutex::default(),
            deadline: Instant::now() + TIME_MAX,
            audit: None,
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

    /// Notes something in the audit log, under a key such as `pod-security.kubernetes.io/enforce-policy`.
    pub fn annotate(&self, key: &str, value: impl Into<String>) {
        if let Some(record) = &self.audit {
            record.annotate(key, value);
        }
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
        if let Some(record) = &self.audit
            && self.info.verb != "patch"
        {
            record.object(&self.info, &decoded.value);
        }
        decoded.value
    }

    /// The rules that objects of this kind follow.
    pub fn rules(&self) -> Result<Rules<'_>, ApiError> {
        Rules::of(&self.kind)
    }

    /// An object of the cache as the handlers are to see it. For built-in kinds that is as it is; custom
    /// ones are brought in line with their definition and converted to this kind's version.
    pub async fn shown(&self, entry: &Arc<Entry>) -> Result<Arc<Entry>, ApiError> {
        match &self.kind.custom {
            Some(handler) if !handler.shows_as_stored(entry) => {
                let shown = handler.show(&self.server, [entry.clone()]).await?;
                shown.into_iter().next().ok_or_else(|| ApiError::internal("nothing was converted"))
            }
            _ => Ok(entry.clone()),
        }
    }

    /// The bytes to be stored for an object that is ready to be stored.
    pub async fn to_stored(&self, object: &Value) -> Result<Bytes, ApiError> {
        match &self.kind.custom {
            Some(handler) => handler.to_stored(&self.server, object).await,
            None => Ok(encode_stored(object)),
        }
    }

    /// The object as stored, in this kind's version.
    pub fn value_of(&self, entry: &Entry) -> Value {
        if let Shape::Table(_) = self.output.shape
            && let Some(stored) = tables::stored_form(&self.kind, entry)
        {
            return stored;
        }
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
        if self.kind.is_stored_version() {
            if self.output.is_plain() {
                return self.output.respond_bytes(code, entry.bytes().clone());
            }
            if self.output.is_protobuf()
                && let Ok(bytes) = protobuf::entry(&self.kind, entry)
            {
                return self.output.respond_bytes(code, bytes);
            }
        }
        self.respond_object(code, &self.value_of(entry))
    }

    /// The answer with one object in this kind's version, in whatever shape was asked for.
    pub fn respond_object(&self, code: StatusCode, object: &Value) -> Response<Body> {
        match self.output.shape {
            Shape::Object => self.output.respond(code, object),
            // The outcome of a delete is never transformed.
            _ if object["kind"] == "Status" => self.output.respond(code, object),
            Shape::Metadata(version) => self.output.respond(code, &tables::partial(object, version)),
            Shape::MetadataList(_) => self.refuse(&tables::not_a_list(&self.kind)),
            Shape::Table(version) => match tables::IncludeObject::of(self) {
                Ok(include) => self.output.respond(code, &tables::single(self, object, include, version)),
                Err(error) => self.refuse(&error),
            },
        }
    }

    /// An answer that says that another answer could not be given.
    fn refuse(&self, error: &ApiError) -> Response<Body> {
        negotiate_error(&self.headers, &self.query).error(error)
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
