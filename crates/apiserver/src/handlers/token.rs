//! POST of a TokenRequest: a signed token for a service account, bound to a pod, secret or node.

use http::{Response, StatusCode};
use schema::field::{Error, ErrorList, Path};
use serde_json::{Value, json};

use crate::admission::{self, Attributes, ObjectKind};
use crate::authn::claims::{Bound, BoundClaims, Reference};
use crate::body::Body;
use crate::call::{Call, invalid};
use crate::codec::{self, Target};
use crate::handlers::create::check_namespace;
use crate::handlers::options::check_write;
use crate::managed_fields;
use crate::object::{meta, set_meta};
use crate::status::ApiError;

const GROUP: &str = "authentication.k8s.io";
/// The shortest and the longest life that may be asked for, in seconds.
const MIN_SECONDS: i64 = 600;
const MAX_SECONDS: i64 = 1 << 32;
/// Tokens of pods' volumes live this long although an hour is asked for, so that old clients that never
/// read them again go on; after `warnafter` their use is counted.
const WARN_AFTER_SECONDS: i64 = 3607;
const EXTENDED_SECONDS: i64 = 365 * 24 * 3600;

/// Answers the request.
pub(crate) async fn create(call: &Call) -> Result<Response<Body>, ApiError> {
    let dry_run = check_write(call, "CreateOptions", ErrorList::new())?;
    let target = Target::named(GROUP, "v1", "TokenRequest");
    let decoded = codec::decode_as(&target, &call.body, &call.headers, codec::strictness(&call.query))?;
    let mut request = call.take_decoded(decoded);
    check_namespace(call, &mut request)?;
    let spec = &mut request["spec"];
    if !spec.is_object() {
        *spec = json!({});
    }
    if spec["expirationSeconds"].is_null() {
        spec["expirationSeconds"] = 3600.into();
    }
    let name = call.info.name.as_str();
    let manager = call.manager();
    managed_fields::track_named(call, &json!({}), &mut request, &manager, "token", &target)?;
    let kind = ObjectKind { group: GROUP, version: "v1", kind: "TokenRequest" };
    let attributes = Attributes::create(call, kind, name, dry_run);
    admission::admit(&attributes, &mut request).await?;
    check_name(call, &request)?;
    let account = call
        .server
        .current(&call.kind, &call.info.namespace, name)
        .await?
        .ok_or_else(|| call.not_found())?
        .try_value()?;
    check_uid(&request, &account)?;
    if request["spec"]["audiences"].as_array().is_none_or(Vec::is_empty) {
        request["spec"]["audiences"] = json!(call.server.authn.audiences);
    }
    let now = base::clock::now();
    set_meta(&mut request, "name", name.into());
    set_meta(&mut request, "uid", account["metadata"]["uid"].clone());
    set_meta(&mut request, "creationTimestamp", base::clock::rfc3339(now).into());
    let now = now.as_second();
    let seconds = request["spec"]["expirationSeconds"].as_i64().unwrap_or(3600);
    check_seconds(seconds)?;
    admission::validate(&attributes, &request).await?.finish();
    let mut claims = claims(call, &request, &account, (now, seconds));
    bind(call, &request["spec"]["boundObjectRef"], &mut claims).await?;
    let own = &call.server.authn.audiences;
    let ours = claims.aud.iter().all(|audience| own.contains(audience));
    if seconds == WARN_AFTER_SECONDS && claims.kubernetes.pod.is_some() && ours {
        claims.kubernetes.warnafter = Some(now + WARN_AFTER_SECONDS);
        claims.exp = now + EXTENDED_SECONDS;
    }
    let token = call.server.authn.signer.sign(&claims).map_err(ApiError::internal)?;
    let expires = jiff::Timestamp::from_second(now + seconds).unwrap_or_default();
    if request["spec"].get("boundObjectRef").is_none() {
        request["spec"]["boundObjectRef"] = Value::Null;
    }
    call.annotate("authentication.kubernetes.io/issued-credential-id", format!("JTI={}", claims.jti));
    request["status"] = json!({"token": token, "expirationTimestamp": base::clock::rfc3339(expires)});
    Ok(call.output.respond(StatusCode::CREATED, &request))
}

/// What a token says that is bound to nothing.
fn claims(call: &Call, request: &Value, account: &Value, (now, seconds): (i64, i64)) -> BoundClaims {
    let name = call.info.name.as_str();
    BoundClaims {
        aud: request["spec"]["audiences"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|a| a.as_str().map(str::to_owned))
            .collect(),
        exp: now + seconds,
        iat: now,
        iss: call.server.authn.signer.issuer().to_owned(),
        jti: base::rng::uuid(),
        kubernetes: Bound {
            namespace: call.info.namespace.clone(),
            serviceaccount: Reference { name: name.to_owned(), uid: meta(account, "uid").to_owned() },
            ..Bound::default()
        },
        nbf: now,
        sub: crate::authn::service_account::user_name(&call.info.namespace, name),
    }
}

fn check_name(call: &Call, request: &Value) -> Result<(), ApiError> {
    let given = meta(request, "name");
    if given.is_empty() || given == call.info.name {
        return Ok(());
    }
    let why = "must match the service account name if specified";
    let mut errors = ErrorList::new();
    errors.push(Error::invalid(&Path::new("metadata").child("name"), given, why));
    Err(invalid(GROUP, "TokenRequest", &call.info.name, &errors))
}

/// Who asks for a token of one account must not get that of its successor.
fn check_uid(request: &Value, account: &Value) -> Result<(), ApiError> {
    let (given, uid) = (meta(request, "uid"), meta(account, "uid"));
    if given.is_empty() || given == uid {
        return Ok(());
    }
    let why = format!(
        "the UID in the token request ({given}) does not match the UID of the service account ({uid})"
    );
    Err(ApiError::conflict(GROUP, "TokenRequest", meta(account, "name"), &why))
}

fn check_seconds(seconds: i64) -> Result<(), ApiError> {
    let mut errors = ErrorList::new();
    let path = Path::new("spec").child("expirationSeconds");
    if seconds < MIN_SECONDS {
        errors.push(Error::invalid(&path, seconds, "may not specify a duration less than 10 minutes"));
    }
    if seconds > MAX_SECONDS {
        errors.push(Error::invalid(&path, seconds, "may not specify a duration larger than 2^32 seconds"));
    }
    if errors.is_empty() { Ok(()) } else { Err(invalid(GROUP, "TokenRequest", "", &errors)) }
}

async fn bind(call: &Call, reference: &Value, claims: &mut BoundClaims) -> Result<(), ApiError> {
    if reference.is_null() {
        return Ok(());
    }
    let text = |field: &str| reference[field].as_str().unwrap_or_default();
    let (api_version, kind_name, name, uid) = (text("apiVersion"), text("kind"), text("name"), text("uid"));
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let (resource, namespace) = match (group, kind_name) {
        ("", "Pod") => ("pods", call.info.namespace.as_str()),
        ("", "Secret") => ("secrets", call.info.namespace.as_str()),
        ("", "Node") => ("nodes", ""),
        _ => {
            return Err(ApiError::bad_request(format!(
                "cannot bind token to object of type {group}/{version}, Kind={kind_name}"
            )));
        }
    };
    if name.is_empty() {
        return Err(ApiError::bad_request("Name parameter required."));
    }
    let registry = call.server.registry();
    let kind = registry.resource("", "v1", resource).ok_or_else(ApiError::no_such_path)?;
    let entry = call.server.current(kind, namespace, name).await?;
    let object = entry.ok_or_else(|| ApiError::not_found("", resource, name))?.try_value()?;
    if resource == "pods" {
        check_account(call, &object)?;
    }
    if !uid.is_empty() && uid != meta(&object, "uid") {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(ApiError::conflict("", kind_name, name, &why));
    }
    let bound = Reference { name: name.to_owned(), uid: meta(&object, "uid").to_owned() };
    match resource {
        "pods" => {
            let node = object["spec"]["nodeName"].as_str().unwrap_or_default();
            if !node.is_empty() {
                let uid = registry
                    .resource("", "v1", "nodes")
                    .and_then(|nodes| call.server.cached(nodes, "", node));
                let uid = uid.map(|entry| meta(&entry.to_value(), "uid").to_owned()).unwrap_or_default();
                claims.kubernetes.node = Some(Reference { name: node.to_owned(), uid });
            }
            claims.kubernetes.pod = Some(bound);
        }
        "secrets" => claims.kubernetes.secret = Some(bound),
        _ => claims.kubernetes.node = Some(bound),
    }
    Ok(())
}

/// A pod's tokens are its own account's.
fn check_account(call: &Call, pod: &Value) -> Result<(), ApiError> {
    let account = &call.info.name;
    if pod["spec"]["serviceAccountName"].as_str() == Some(account) {
        return Ok(());
    }
    Err(ApiError::bad_request(format!(
        "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
    )))
}
