//! From request to handler: path, identity, permission, kind, verb.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::user::UserInfo;
use bytes::{Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue, WARNING};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use schema::types;

use crate::audit::{self, Record};
use crate::body::{Body, BoxError};
use crate::call::Call;
use crate::compress;
use crate::flow::{Schema, Seats};
use crate::handlers::update::Part;
use crate::handlers::{
    create, delete, delete_collection, get, list, part, patch, pod, scale, token, update, watch,
};
use crate::kind::{Action, Kind, group_version};
use crate::kubelet_proxy;
use crate::metrics;
use crate::negotiate::{Endpoint, Output, negotiate, negotiate_error};
use crate::nonresource;
use crate::protobuf;
use crate::query::Query;
use crate::request_info::{BadPath, RequestInfo};
use crate::server::Inner;
use crate::status::ApiError;
use crate::{aggregation, codec, component_status, crd};

/// The largest request body.
pub(crate) const BODY_BYTES_MAX: usize = 3 << 20;

/// How long a client may take for a request's body: at the least that is 100 kB in a second.
const BODY_TIME_MAX: Duration = Duration::from_secs(30);

/// How often a request starts over because the definition of its kind has changed.
const SUPERSEDED_MAX: usize = 10;

/// Answers one request; errors become Status objects.
pub(crate) async fn handle<B>(server: Arc<Inner>, request: Request<B>) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let (parts, body) = request.into_parts();
    let query = Query::parse(parts.uri.query());
    let info = match RequestInfo::parse(&parts.method, parts.uri.path(), &query) {
        Ok(info) => info,
        Err(BadPath::Malformed) => return plain(StatusCode::BAD_REQUEST, "400 Bad Request"),
        Err(BadPath::NoKind) => {
            let uri = parts.uri.path_and_query().map_or("", |uri| uri.as_str());
            let text = format!(
                "Internal Server Error: {}: failed to create RequestInfo: unable to determine kind and namespace from url, {uri}\n",
                schema::gotext::quote(uri)
            );
            return plain(StatusCode::INTERNAL_SERVER_ERROR, text);
        }
    };
    let output = negotiate_error(&parts.headers, &query);
    let id = audit::request_id(&parts.headers);
    let is_long = audit::is_long_running(&info);
    let mut notes = Notes::default();
    let answer = route(server, parts, body, query, info, (&id, &mut notes)).await;
    let Notes { record, flow, warnings } = notes;
    let mut answer = answer.unwrap_or_else(|error| output.error(&error));
    for warning in warnings {
        warn(answer.headers_mut(), &warning);
    }
    if let Some(flow) = flow {
        flow.tell(answer.headers_mut());
    }
    if let Some(record) = record {
        answer = record.answer(answer, is_long);
    }
    answer.headers_mut().entry(audit::AUDIT_ID).or_insert(id);
    answer
}

/// What is found out about a request before it is answered, and concerns every answer.
#[derive(Default)]
struct Notes {
    record: Option<Arc<Record>>,
    flow: Option<Arc<Schema>>,
    warnings: Vec<String>,
}

async fn route<B>(
    server: Arc<Inner>,
    mut parts: Parts,
    body: B,
    query: Query,
    info: RequestInfo,
    (id, notes): (&HeaderValue, &mut Notes),
) -> Result<Response<Body>, ApiError>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let Notes { record, flow, warnings } = notes;
    if !audit::is_long_running(&info)
        && let Some(why) = schema::decode::duration_error(query.text("timeout"))
    {
        return Err(ApiError::bad_request(format!("invalid timeout specified in the request URL - {why}")));
    }
    // Who is told who sends a request by this process itself is a part of it.
    let is_internal =
        parts.extensions.get::<Arc<UserInfo>>().is_some() || parts.extensions.get::<UserInfo>().is_some();
    let sender = match crate::authn::authenticate(&server, &mut parts).await {
        Ok(sender) => sender,
        Err(error) => {
            server.counters.access.unknown();
            let auditor = server.auditor.as_ref();
            if let Some(record) = auditor.and_then(|to| Record::begin(to, id, None, &parts, &info)) {
                record.unauthenticated(&error);
            }
            return Err(error);
        }
    };
    if let Some(auditor) = &server.auditor {
        *record = Record::begin(auditor, id, Some(&sender.user), &parts, &info);
    }
    server.counters.access.recognised(&sender.user.name);
    *warnings = sender.warnings.clone();
    let user =
        match crate::authz::request::act_as(&server, &sender, &mut parts, &info, &query, record.as_deref()) {
            Ok(user) => {
                server.counters.access.decided(true);
                user
            }
            Err(error) => {
                server.counters.access.decided(false);
                return Ok(refusal(negotiate_error(&parts.headers, &query).error(&error)));
            }
        };
    if info.odd_slashes {
        return Ok(nonresource::not_found());
    }
    if let Some(remote) = server.aggregation.route(&info) {
        let body = read_body(body).await?;
        let _seats = match seats(&server, is_internal, &user, &info, &query, flow).await {
            Ok(seats) => seats,
            Err(refusal) => return Ok(*refusal),
        };
        return Ok(aggregation::forward(&server, &remote, &user, &mut parts, body).await);
    }
    if !info.is_resource {
        let _seats = match seats(&server, is_internal, &user, &info, &query, flow).await {
            Ok(seats) => seats,
            Err(refusal) => return Ok(*refusal),
        };
        return nonresource::handle(&server, &user, &info.path, &mut parts, &query).await;
    }
    let registry = server.registry();
    let Some(kind) = registry.resource(&info.group, &info.version, &info.resource).cloned() else {
        let known =
            info.group.is_empty() || registry.group(&info.group).is_some_and(|group| !group.is_custom());
        return if known { Err(ApiError::no_such_path()) } else { Ok(nonresource::not_found()) };
    };
    let deprecated = kind.deprecation.as_ref().map(ToString::to_string);
    if kind.is_custom() {
        if let Some(refusal) = crd::refusal(&kind, &info) {
            return refusal;
        }
    } else {
        check_method(&kind, &info, &parts.method)?;
    }
    let body = match info.verb.as_str() {
        "get" | "list" | "watch" => Bytes::new(),
        _ => from_protobuf(&kind, &info, read_body(body).await?, &mut parts.headers)?,
    };
    let _seats = match seats(&server, is_internal, &user, &info, &query, flow).await {
        Ok(seats) => seats,
        Err(refusal) => return Ok(*refusal),
    };
    let output = if info.subresource.is_empty() || is_negotiated(&kind, &info) {
        negotiate(&parts.headers, &query, endpoint(&kind, &info))?
    } else {
        Output::default()
    };
    let started = tokio::time::Instant::now();
    let upgrade = parts.extensions.remove::<OnUpgrade>();
    let mut call = Call {
        server,
        kind,
        info,
        user,
        query,
        raw_query: parts.uri.query().map(str::to_owned),
        method: parts.method,
        headers: parts.headers,
        body,
        output,
        warnings: Mutex::new(std::mem::take(warnings).into_iter().chain(deprecated).collect()),
        deadline: started + crate::call::TIME_MAX,
        audit: record.clone(),
    };
    if let Some(record) = &call.audit
        && call.info.verb == "patch"
    {
        record.patch(&call.body);
    }
    let server = call.server.clone();
    let _counted = server.counters.begin(&call.info.verb);
    let mut outcome = dispatch(&call, upgrade).await;
    for _ in 0..SUPERSEDED_MAX {
        match &outcome {
            Err(error) if crd::is_superseded(error) => {}
            _ => break,
        }
        // The definition of a custom kind has changed meanwhile: what counts is the new one.
        let info = &call.info;
        let registry = call.server.registry();
        let Some(kind) = registry.resource(&info.group, &info.version, &info.resource).cloned() else {
            return Ok(nonresource::not_found());
        };
        call.kind = kind;
        outcome = dispatch(&call, None).await;
    }
    let mut answer =
        outcome.unwrap_or_else(|error| negotiate_error(&call.headers, &call.query).error(&error));
    add_warnings(&call, &mut answer);
    let verb = call.info.verb.as_str();
    let took = (verb != "watch").then(|| started.elapsed());
    let size = http_body::Body::size_hint(answer.body()).exact();
    call.server.counters.answered(&call, answer.status(), took, size);
    if verb != "watch"
        && call.info.subresource.is_empty()
        && compress::accepted(&call.headers)
        && !call.audit.as_ref().is_some_and(|record| record.wants_answer())
    {
        answer = compress::compress(answer);
    }
    Ok(answer)
}

/// Waits for the seats of a request from outside, which are held until they are dropped; else the answer.
async fn seats(
    server: &Inner,
    is_internal: bool,
    user: &UserInfo,
    info: &RequestInfo,
    query: &Query,
    flow: &mut Option<Arc<Schema>>,
) -> Result<Option<Seats>, Box<Response<Body>>> {
    if is_internal {
        return Ok(None);
    }
    let Some(admission) = server.flow.admit(server, user, info, query).await else { return Ok(None) };
    let (schema, outcome) = admission.into_outcome();
    *flow = Some(schema);
    outcome.map(Some)
}

fn is_negotiated(kind: &Kind, info: &RequestInfo) -> bool {
    kind.subresource(&info.subresource).is_some_and(|sub| {
        !matches!(
            sub.action,
            Action::Log | Action::Exec | Action::Attach | Action::PortForward | Action::Proxy
        )
    })
}

/// Whether the path and method are served at all.
fn check_method(kind: &Kind, info: &RequestInfo, method: &Method) -> Result<(), ApiError> {
    let scoped = kind.namespaced;
    if matches!(info.namespace.as_str(), "." | "..") {
        let message = format!("invalid key: \"/{}/{}\"", info.resource, info.namespace);
        return Err(ApiError { code: 500, reason: "".into(), ..ApiError::bad_request(message) });
    }
    if info.verb == "proxy" {
        return Err(ApiError::no_such_path());
    }
    if info.verb_in_path && *method != Method::GET {
        return Err(ApiError::method_not_allowed());
    }
    // Objects of namespaced kinds have no path without a namespace, and the other way round.
    if scoped && info.namespace.is_empty() && !info.name.is_empty() {
        return Err(ApiError::no_such_path());
    }
    // Permission was asked for in the path's namespace, so that it must not lead to another one.
    let own = info.resource == "namespaces" && info.group.is_empty() && info.namespace == info.name;
    if !scoped && !info.namespace.is_empty() && !own {
        return Err(ApiError::no_such_path());
    }
    let not_allowed = ApiError::method_not_allowed;
    if !info.subresource.is_empty() {
        let sub = kind.subresource(&info.subresource).ok_or_else(ApiError::no_such_path)?;
        if !info.rest.is_empty() && sub.action != Action::Proxy {
            return Err(ApiError::no_such_path());
        }
        if sub.action == Action::Proxy && matches!(*method, Method::HEAD | Method::OPTIONS) {
            return Ok(());
        }
        if *method == Method::HEAD {
            return Err(not_allowed());
        }
        return if sub.verbs.contains(&info.verb.as_str()) { Ok(()) } else { Err(not_allowed()) };
    }
    let on_object = !info.name.is_empty();
    // What can only be created has no objects to go to, and nothing to list beyond a namespace.
    let only_created = !["get", "list", "update", "patch", "delete"].iter().any(|verb| kind.verbs.has(verb));
    if only_created && (on_object || (scoped && info.namespace.is_empty())) {
        return Err(ApiError::no_such_path());
    }
    let fits = match info.verb.as_str() {
        "create" => !on_object && (!scoped || !info.namespace.is_empty()),
        "deletecollection" => !scoped || !info.namespace.is_empty(),
        "update" | "patch" => on_object,
        _ => true,
    };
    // What can be listed has a route for watches, which says that it cannot be watched.
    let known = kind.verbs.has(&info.verb) || (info.verb == "watch" && kind.verbs.has("list"));
    if *method == Method::HEAD || !fits || !known {
        return Err(not_allowed());
    }
    if on_object && info.verb != "update" {
        check_segment("Name", &info.name)?;
    }
    Ok(())
}

/// Names in paths must not lead elsewhere.
fn check_segment(what: &str, name: &str) -> Result<(), ApiError> {
    let why = match name {
        "." | ".." => format!("may not be '{name}'"),
        _ if name.contains('%') => "may not contain '%'".to_owned(),
        _ => return Ok(()),
    };
    let name = schema::gotext::quote(name);
    Err(ApiError::bad_request(format!("{what} parameter invalid: {name}: {why}")))
}

/// What the resource can answer with.
fn endpoint(kind: &Kind, info: &RequestInfo) -> Endpoint {
    let sub = kind.subresource(&info.subresource).filter(|sub| !sub.version.is_empty());
    let protobuf = match sub {
        // Kinds of other groups are upstream's.
        Some(_) => !kind.is_custom(),
        None => types::get(&kind.schema).is_some_and(protobuf::has_messages),
    };
    Endpoint {
        // What can only be created cannot be shown as a table.
        transforms: !info.subresource.is_empty() || kind.verbs.has("get") || kind.verbs.has("list"),
        protobuf,
        routed: !kind.is_custom(),
        streams: info.subresource.is_empty() && matches!(info.verb.as_str(), "list" | "watch"),
    }
}

/// Turns a protobuf body into JSON, so that nothing behind this needs to know.
fn from_protobuf(
    kind: &Kind,
    info: &RequestInfo,
    body: Bytes,
    headers: &mut HeaderMap,
) -> Result<Bytes, ApiError> {
    let deletes = matches!(info.verb.as_str(), "delete" | "deletecollection");
    // The handlers of patches know what they take.
    if info.verb == "patch"
        || (deletes && body.is_empty())
        || codec::content_type(headers) != protobuf::MEDIA_TYPE
    {
        return Ok(body);
    }
    let sub = kind.subresource(&info.subresource);
    let (version, wanted) = match sub {
        _ if deletes => ("v1".to_owned(), "DeleteOptions"),
        Some(sub) if !sub.version.is_empty() => (group_version(&sub.group, &sub.version), &*sub.kind),
        _ => (kind.api_version(), &*kind.kind),
    };
    let object = protobuf::to_json(&body, (&version, wanted)).map_err(|failure| {
        let error = failure.error;
        ApiError::bad_request(match failure.read_as {
            Some((version, kind)) => {
                format!("{kind} in version {version:?} cannot be handled as a {wanted}: {error}")
            }
            None => format!(
                "the object provided is unrecognized (must be of type {wanted}): {error} ({})",
                schema::decode::summarize(&body)
            ),
        })
    })?;
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(object.to_string().into())
}

async fn read_body<B>(body: B) -> Result<Bytes, ApiError>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let too_large = || ApiError::too_large(format!("Request entity too large: limit is {BODY_BYTES_MAX}"));
    let mut body = std::pin::pin!(body);
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        discard(body).await;
        return Err(too_large());
    }
    let deadline = tokio::time::Instant::now() + BODY_TIME_MAX;
    let mut first: Option<Bytes> = None;
    let mut all = BytesMut::new();
    loop {
        // The error is turned into ours at once: it need not be `Send`.
        let data = match tokio::time::timeout_at(deadline, body.as_mut().frame()).await {
            Err(_) => return Err(ApiError::new(408, "Timeout", "the request's body has not come in time")),
            Ok(None) => break,
            Ok(Some(Err(_))) => {
                let error = ApiError::bad_request("unexpected EOF");
                return Err(ApiError { code: 500, reason: "".into(), ..error });
            }
            Ok(Some(Ok(frame))) => frame.into_data(),
        };
        let Ok(data) = data else { continue };
        match &first {
            None if all.is_empty() => {
                first = Some(data);
                continue;
            }
            Some(start) => {
                all.extend_from_slice(start);
                first = None;
            }
            None => {}
        }
        all.extend_from_slice(&data);
        if all.len() > BODY_BYTES_MAX {
            discard(body).await;
            return Err(too_large());
        }
    }
    let bytes = first.unwrap_or_else(|| all.freeze());
    if bytes.len() > BODY_BYTES_MAX { Err(too_large()) } else { Ok(bytes) }
}

/// Reads what a client is still sending, within reason: most read the answer only afterwards.
async fn discard<B: http_body::Body<Data = Bytes>>(mut body: std::pin::Pin<&mut B>) {
    let mut left = 4 * BODY_BYTES_MAX;
    let deadline = tokio::time::Instant::now() + BODY_TIME_MAX;
    loop {
        // The error is dropped at once: it need not be `Send`.
        let size = match tokio::time::timeout_at(deadline, body.as_mut().frame()).await {
            Ok(Some(Ok(frame))) => frame.data_ref().map_or(0, Bytes::len),
            _ => return,
        };
        if size > left {
            return;
        }
        left -= size;
    }
}

async fn dispatch(call: &Call, upgrade: Option<OnUpgrade>) -> Result<Response<Body>, ApiError> {
    if !call.info.subresource.is_empty() {
        return subresource(call, upgrade).await;
    }
    match (call.kind.group.as_ref(), call.info.verb.as_str()) {
        (metrics::GROUP, "get") => return metrics::get(call).await,
        (metrics::GROUP, "list") => return metrics::list(call).await,
        ("authentication.k8s.io" | "authorization.k8s.io", "create") => {
            return crate::authz::request::review(call).await;
        }
        ("", "get") if call.kind.kind == "ComponentStatus" => return component_status::get(call),
        ("", "list") if call.kind.kind == "ComponentStatus" => return component_status::list(call),
        ("", "watch") if call.kind.kind == "ComponentStatus" => {
            return Err(ApiError::method_not_supported("", &call.kind.plural, "watch"));
        }
        ("", "create") if call.kind.kind == "Binding" => return bind_by_collection(call).await,
        _ => {}
    }
    match call.info.verb.as_str() {
        "get" => get::get(call).await,
        "list" => list::list(call).await,
        "watch" => watch::watch(call).await,
        "create" => create::create(call).await,
        "update" => update::update(call, Part::Main).await,
        "patch" => patch::patch(call, Part::Main).await,
        "delete" => delete::delete(call).await,
        "deletecollection" => delete_collection::delete_collection(call).await,
        _ => Err(ApiError::method_not_allowed()),
    }
}

async fn subresource(call: &Call, upgrade: Option<OnUpgrade>) -> Result<Response<Body>, ApiError> {
    let Some(sub) = call.kind.subresource(&call.info.subresource) else {
        return Err(ApiError::no_such_path());
    };
    match (&sub.action, call.info.verb.as_str()) {
        (action @ (Action::Log | Action::Exec | Action::Attach | Action::PortForward | Action::Proxy), _) => {
            kubelet_proxy::handle(call, action, upgrade).await
        }
        (Action::Scale(paths), _) => scale::scale(call, paths).await,
        (Action::Binding, _) => pod::bind(call, call).await,
        (Action::Eviction, _) => pod::evict(call).await,
        (Action::Token, _) => token::create(call).await,
        (
            Action::Status
            | Action::Finalize
            | Action::Approval
            | Action::EphemeralContainers
            | Action::Resize,
            "get",
        ) => get::get(call).await,
        (Action::Status, "update") => update::update(call, Part::Status).await,
        (Action::Status, "patch") => patch::patch(call, Part::Status).await,
        (Action::Finalize, _) => part::change(call, &part::FINALIZERS).await,
        (Action::Approval, _) => part::change(call, &part::APPROVAL).await,
        (Action::EphemeralContainers, _) => part::change(call, &part::EPHEMERAL).await,
        (Action::Resize, _) => part::change(call, &part::RESIZE).await,
        _ => Err(ApiError::method_not_allowed()),
    }
}

/// POST to `bindings`: the pod is named in the body.
async fn bind_by_collection(call: &Call) -> Result<Response<Body>, ApiError> {
    let pods =
        call.server.registry().resource("", "v1", "pods").cloned().ok_or_else(ApiError::no_such_path)?;
    let mut info = call.info.clone();
    info.name = crate::object::meta(&call.decode_body()?, "name").to_owned();
    pod::bind(&call.on(pods, info), call).await
}

/// Upstream's limits: when all warnings together are longer than the first, each is cut at the second, and those
/// that still do not fit are left out.
const WARNINGS_CHARACTERS: usize = 4 << 10;
const WARNING_CHARACTERS: usize = 256;

fn add_warnings(call: &Call, answer: &mut Response<Body>) {
    let mut seen = std::collections::BTreeSet::new();
    let mut texts: Vec<String> =
        call.warnings.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect();
    texts.retain(|text| !text.is_empty() && seen.insert(text.clone()));
    let long = texts.iter().map(|text| text.chars().count()).sum::<usize>() > WARNINGS_CHARACTERS;
    let mut written = 0;
    for mut text in texts {
        if long {
            if written >= WARNINGS_CHARACTERS {
                break;
            }
            text = text.chars().take(WARNING_CHARACTERS).collect();
            written += text.chars().count();
        }
        warn(answer.headers_mut(), &text);
    }
}

fn warn(headers: &mut HeaderMap, text: &str) {
    let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
    if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()) {
        headers.append(WARNING, value);
    }
}

/// What authorization refuses is not to be taken for anything but what it says it is.
fn refusal(mut answer: Response<Body>) -> Response<Body> {
    answer.headers_mut().insert(http::header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// A plain-text answer.
pub(crate) fn plain(code: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::full(text));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    headers.insert(http::header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
