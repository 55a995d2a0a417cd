//! Who did what: a record per request, as the policy asks, written to a log.
//!
//! Without a policy nothing is recorded and a request only gets its `Audit-Id`. Events have upstream's form,
//! `Event` of `audit.k8s.io/v1`.

mod log;
mod policy;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use api::user::UserInfo;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::request::Parts;
use http::{Response, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::authz::Attributes;
use crate::body::Body;
use crate::request_info::RequestInfo;
use crate::status::ApiError;

pub use log::LogConfig;
use policy::Verdict;
pub use policy::{Level, Policy, Stage};

/// Ties a request to its record.
pub(crate) const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
/// A client's own id of a request may be this long.
const ID_BYTES_MAX: usize = 1024;
/// An answer that is longer is not recorded: the record says so.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// What a policy or a plugin notes; upstream has no bound.
const ANNOTATIONS_MAX: usize = 64;
const USER_AGENT_BYTES_MAX: usize = 1024;

/// What is recorded, and where.
#[derive(Clone, Debug)]
pub struct AuditConfig {
    /// Which requests.
    pub policy: Policy,
    /// Where to.
    pub log: LogConfig,
}

/// Records requests.
pub(crate) struct Auditor {
    policy: Policy,
    log: log::Log,
}

impl Auditor {
    /// Opens the log.
    pub fn new(config: AuditConfig) -> std::io::Result<Self> {
        Ok(Self { policy: config.policy, log: log::Log::open(config.log)? })
    }

    /// Waits a moment until everything is written.
    pub fn flush(&self) {
        self.log.flush();
    }
}

/// The id of a request: the client's, or a new one.
pub(crate) fn request_id(headers: &HeaderMap) -> HeaderValue {
    if let Some(id) = headers.get(AUDIT_ID)
        && !id.is_empty()
        && id.len() <= ID_BYTES_MAX
        && id.to_str().is_ok()
    {
        return id.clone();
    }
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut random = [0_u8; 16];
    base::rng::fill(&mut random);
    random[6] = (random[6] & 0x0f) | 0x40;
    random[8] = (random[8] & 0x3f) | 0x80;
    let mut text = [b'-'; 36];
    let places = (0..36).filter(|place| !matches!(place, 8 | 13 | 18 | 23));
    let nibbles = random.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    for (place, nibble) in places.zip(nibbles) {
        text[place] = HEX[usize::from(nibble)];
    }
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("0"))
}

/// The address of the client at the other end of the connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub std::net::SocketAddr);

/// `Event` of `audit.k8s.io/v1`, its fields in upstream's order.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    kind: &'static str,
    api_version: &'static str,
    level: &'static str,
    #[serde(rename = "auditID")]
    audit_id: String,
    stage: &'static str,
    #[serde(rename = "requestURI")]
    request_uri: String,
    verb: String,
    user: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    impersonated_user: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authentication_metadata: Option<Value>,
    #[serde(rename = "sourceIPs")]
    source_ips: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    user_agent: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    object_ref: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_status: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_object: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_object: Option<Value>,
    request_received_timestamp: String,
    stage_timestamp: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

/// The record of one request.
pub(crate) struct Record {
    auditor: Arc<Auditor>,
    verdict: Verdict,
    event: Mutex<Event>,
}

/// Identity as events show it.
fn user_value(user: &UserInfo) -> Value {
    let mut value = json!({});
    if !user.name.is_empty() {
        value["username"] = user.name.as_str().into();
    }
    if !user.uid.is_empty() {
        value["uid"] = user.uid.as_str().into();
    }
    if !user.groups.is_empty() {
        value["groups"] = json!(user.groups);
    }
    if !user.extra.is_empty() {
        value["extra"] = json!(user.extra);
    }
    value
}

impl Record {
    /// The record of a request whose sender is `user` (nobody: authentication failed); `None` if the policy
    /// does not want one.
    pub fn begin(
        auditor: &Arc<Auditor>,
        id: &HeaderValue,
        user: Option<&UserInfo>,
        parts: &Parts,
        info: &RequestInfo,
    ) -> Option<Arc<Self>> {
        let attributes = Attributes::of(info);
        let verdict = auditor.policy.evaluate(user, &attributes);
        if verdict.level == Level::None {
            return None;
        }
        let agent = parts.headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
        let mut agent = agent.to_owned();
        if agent.len() > USER_AGENT_BYTES_MAX {
            agent.truncate(USER_AGENT_BYTES_MAX);
            agent.push_str("...TRUNCATED");
        }
        let now = base::clock::rfc3339_micro(base::clock::now());
        let event = Event {
            kind: "Event",
            api_version: "audit.k8s.io/v1",
            level: verdict.level.name(),
            audit_id: id.to_str().unwrap_or_default().to_owned(),
            stage: "",
            request_uri: parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            verb: info.verb.clone(),
            user: user.map_or_else(|| json!({}), user_value),
            impersonated_user: None,
            authentication_metadata: None,
            source_ips: source_ips(parts),
            user_agent: agent,
            object_ref: info.is_resource.then(|| object_ref(info)),
            response_status: None,
            request_object: None,
            response_object: None,
            request_received_timestamp: now.clone(),
            stage_timestamp: now,
            annotations: BTreeMap::new(),
        };
        let record = Arc::new(Self { auditor: auditor.clone(), verdict, event: Mutex::new(event) });
        if user.is_some() {
            record.write(Stage::RequestReceived);
        }
        Some(record)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Event) -> T) -> T {
        change(&mut self.event.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes something under a key, which is taken once.
    pub fn annotate(&self, key: &str, value: impl Into<String>) {
        self.change(|event| {
            if event.annotations.len() < ANNOTATIONS_MAX && !event.annotations.contains_key(key) {
                event.annotations.insert(key.to_owned(), value.into());
            }
        });
    }

    /// Notes in whose name the request goes on, and which constrained right allowed that.
    pub fn impersonated(&self, user: &UserInfo, constraint: &str) {
        self.change(|event| {
            event.impersonated_user = Some(user_value(user));
            if !constraint.is_empty() {
                event.authentication_metadata = Some(json!({"impersonationConstraint": constraint}));
            }
        });
    }

    /// Takes over a patch as it was sent.
    pub fn patch(&self, body: &[u8]) {
        if self.wants_body()
            && let Ok(patch) = serde_json::from_slice::<Value>(body)
        {
            self.change(|event| event.request_object = Some(patch));
        }
    }

    /// Takes over an object that was sent, as it was understood.
    pub fn object(&self, info: &RequestInfo, object: &Value) {
        self.change(|event| {
            if info.verb == "create"
                && info.subresource.is_empty()
                && let Some(reference) = &mut event.object_ref
            {
                complete(reference, object);
            }
            if self.wants_body() && event.request_object.is_none() {
                let mut object = object.clone();
                self.leave_out(&mut object);
                event.request_object = Some(object);
            }
        });
    }

    /// Takes over options of a deletion.
    pub fn delete_options(&self, options: &Value) {
        if self.wants_body() && options.is_object() {
            let mut options = options.clone();
            (options["kind"], options["apiVersion"]) =
                ("DeleteOptions".into(), "meta.k8s.io/__internal".into());
            self.change(|event| event.request_object = Some(options));
        }
    }

    /// Whether what is sent is recorded.
    pub fn wants_body(&self) -> bool {
        self.verdict.level >= Level::Request
    }

    /// Whether the answer is recorded, too.
    pub fn wants_answer(&self) -> bool {
        self.verdict.level >= Level::RequestResponse
    }

    /// Nobody was found behind the request.
    pub fn unauthenticated(&self, error: &ApiError) {
        self.response(error.to_value().to_string().as_bytes(), StatusCode::UNAUTHORIZED);
        self.write(Stage::ResponseStarted);
    }

    /// Follows the answer to its end.
    pub fn answer(self: Arc<Self>, answer: Response<Body>, is_long: bool) -> Response<Body> {
        let (head, body) = answer.into_parts();
        let code = head.status.as_u16();
        self.change(|event| event.response_status = Some(json!({"metadata": {}, "code": code})));
        let is_json = head
            .headers
            .get(CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok())
            .is_some_and(|kind| kind.starts_with("application/json"));
        let failed = head.status.is_client_error() || head.status.is_server_error();
        if is_long {
            let body = match body.into_parts() {
                Ok(bytes) => {
                    if is_json && failed {
                        self.response(&bytes, head.status);
                    }
                    self.write(Stage::ResponseStarted);
                    self.write(Stage::ResponseComplete);
                    return Response::from_parts(head, Body::full(bytes));
                }
                Err(stream) => stream,
            };
            self.write(Stage::ResponseStarted);
            // The record is complete when the body is dropped, read to its end or not.
            let end = End { record: Some(self), answer: None };
            let body = Body::stream(body.inspect(move |_| {
                let _ = &end;
            }));
            return Response::from_parts(head, body);
        }
        let wants_object = self.wants_answer();
        let body = match body.into_parts() {
            Ok(bytes) => {
                // Status objects say more than the code; other answers are parsed only if they are wanted.
                if is_json && (wants_object || failed) {
                    self.response(&bytes, head.status);
                }
                self.write(Stage::ResponseComplete);
                Body::full(bytes)
            }
            Err(stream) => {
                let mut end =
                    End { record: Some(self), answer: (is_json && wants_object).then(BytesMut::new) };
                Body::stream(stream.inspect(move |piece| end.take(piece)))
            }
        };
        Response::from_parts(head, body)
    }

    fn response(&self, bytes: &[u8], code: StatusCode) {
        if bytes.len() > ANSWER_BYTES_MAX {
            return self.annotate("audit.kobune.dev/response-omitted", format!("{} bytes", bytes.len()));
        }
        let Ok(mut object) = serde_json::from_slice::<Value>(bytes) else { return };
        self.change(|event| {
            if object["kind"] == "Status" && object["apiVersion"] == "v1" {
                let mut status = json!({"metadata": {}});
                for field in ["status", "message", "reason", "details", "code"] {
                    if !object[field].is_null() {
                        status[field] = object[field].clone();
                    }
                }
                status["code"] = code.as_u16().into();
                event.response_status = Some(status);
            }
            if self.verdict.level >= Level::RequestResponse {
                self.leave_out(&mut object);
                event.response_object = Some(object);
            }
        });
    }

    fn leave_out(&self, object: &mut Value) {
        if !self.verdict.omit_managed_fields {
            return;
        }
        let remove = |object: &mut Value| {
            if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.remove("managedFields");
            }
        };
        remove(object);
        if let Some(items) = object.get_mut("items").and_then(Value::as_array_mut) {
            items.iter_mut().for_each(remove);
        }
    }

    fn write(&self, stage: Stage) {
        if self.verdict.omit_stages.contains(&stage) {
            return;
        }
        let line = self.change(|event| {
            event.stage = stage.name();
            if stage != Stage::RequestReceived {
                event.stage_timestamp = base::clock::rfc3339_micro(base::clock::now());
            }
            serde_json::to_vec(event)
        });
        if let Ok(mut line) = line {
            line.push(b'\n');
            self.auditor.log.add(line);
        }
    }
}

/// Completes the record of a streamed answer when the stream ends or is given up.
struct End {
    record: Option<Arc<Record>>,
    answer: Option<BytesMut>,
}

impl End {
    fn take(&mut self, piece: &Result<Bytes, crate::BoxError>) {
        let (Some(answer), Ok(piece)) = (&mut self.answer, piece) else { return };
        if answer.len() + piece.len() > ANSWER_BYTES_MAX {
            self.answer = None;
            if let Some(record) = &self.record {
                record.annotate(
                    "audit.kobune.dev/response-omitted",
                    format!("more than {ANSWER_BYTES_MAX} bytes"),
                );
            }
            return;
        }
        answer.extend_from_slice(piece);
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let Some(record) = self.record.take() else { return };
        if let Some(answer) = &self.answer {
            record.response(answer, StatusCode::OK);
        }
        record.write(Stage::ResponseComplete);
    }
}

fn object_ref(info: &RequestInfo) -> Map<String, Value> {
    let fields = [
        ("resource", &info.resource),
        ("namespace", &info.namespace),
        ("name", &info.name),
        ("apiGroup", &info.group),
        ("apiVersion", &info.version),
        ("subresource", &info.subresource),
    ];
    let given = fields.into_iter().filter(|(_, value)| !value.is_empty());
    given.map(|(field, value)| (field.to_owned(), value.as_str().into())).collect()
}

/// What the object says about itself and the path does not.
fn complete(reference: &mut Map<String, Value>, object: &Value) {
    for field in ["name", "namespace", "uid", "resourceVersion"] {
        let value = &object["metadata"][field];
        if value.as_str().is_some_and(|value| !value.is_empty()) && !reference.contains_key(field) {
            reference.insert(field.to_owned(), value.clone());
        }
    }
}

/// Whom the request came through: `X-Forwarded-For`, `X-Real-Ip`, and the connection's other end.
fn source_ips(parts: &Parts) -> Vec<String> {
    let header =
        |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let forwarded = header("x-forwarded-for").split(',').chain([header("x-real-ip")]);
    let mut found: Vec<String> = forwarded
        .filter_map(|address| address.trim().parse::<std::net::IpAddr>().ok())
        .map(|address| address.to_string())
        .take(64)
        .collect();
    let peer = match parts.extensions.get::<Peer>() {
        Some(Peer(address)) => address.ip().to_canonical().to_string(),
        None => "127.0.0.1".to_owned(),
    };
    if found.last() != Some(&peer) {
        found.push(peer);
    }
    found
}

/// Whether the answer to a request may take any time.
pub(crate) fn is_long_running(info: &RequestInfo) -> bool {
    let streams = ["attach", "exec", "proxy", "log", "portforward"];
    info.is_resource && (info.verb == "watch" || streams.contains(&info.subresource.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_the_clients_or_uuids() {
        let mut headers = HeaderMap::new();
        let id = request_id(&headers);
        let id = id.to_str().unwrap();
        assert_eq!((id.len(), id.as_bytes()[14]), (36, b'4'));
        assert_eq!(id.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        headers.insert(AUDIT_ID, HeaderValue::from_static("mine"));
        assert_eq!(request_id(&headers), "mine");
        headers.insert(AUDIT_ID, HeaderValue::from_str(&"x".repeat(1025)).unwrap());
        assert_eq!(request_id(&headers).len(), 36);
    }
}
