//! POST of a TokenRequest: a signed token for a service account, bound to a pod, secret or node.

use http::{Response, StatusCode};
use schema::field::{Error, ErrorList, Path};
use serde_json::{Value, json};

use crate::admission::{self, Attributes, ObjectKind};
use crate::authn::claims::{Bound, BoundClaims, Reference};
use crate::body::Body;
use crate::call::{Call, invalid};
use crate::codec::{self, Target};
use crate::managed_fields;
use crate::object::meta;
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
    let target = Target::named(GROUP, "v1", "TokenRequest");
    let decoded = codec::decode_as(&target, &call.body, &call.headers, codec::strictness(&call.query))?;
    let mut request = call.take_decoded(decoded);
    let name = call.info.name.as_str();
    let dry_run = call.dry_run()?;
    let kind = ObjectKind { group: GROUP, version: "v1", kind: "TokenRequest" };
    let attributes = Attributes::create(call, kind, name, dry_run);
    admission::admit(&attributes, &mut request).await?;
    let account = call
        .server
        .current(&call.kind, &call.info.namespace, name)
        .await?
        .ok_or_else(|| call.not_found())?
        .try_value()?;
    check_metadata(call, &request)?;
    let spec = &mut request["spec"];
    if !spec.is_object() {
        *spec = json!({});
    }
    if spec["expirationSeconds"].is_null() {
        spec["expirationSeconds"] = 3600.into();
    }
    let manager = call.manager();
    managed_fields::track_named(call, &json!({}), &mut request, &manager, "token", &target)?;
    if request["spec"]["audiences"].as_array().is_none_or(Vec::is_empty) {
        request["spec"]["audiences"] = json!(call.server.authn.audiences);
    }
    let seconds = request["spec"]["expirationSeconds"].as_i64().unwrap_or(3600);
    check_seconds(seconds)?;
    admission::validate(&attributes, &request).await?.finish();
    let now = base::clock::now().as_second();
    let mut claims = BoundClaims {
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
            serviceaccount: Reference { name: name.to_owned(), uid: meta(&account, "uid").to_owned() },
            ..Bound::default()
        },
        nbf: now,
        sub: crate::authn::service_account::user_name(&call.info.namespace, name),
    };
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
    let metadata = &mut request["metadata"];
    metadata["name"] = name.into();
    metadata["namespace"] = call.info.namespace.clone().into();
    metadata["uid"] = account["metadata"]["uid"].clone();
    metadata["creationTimestamp"] = account["metadata"]["creationTimestamp"].clone();
    request["status"] = json!({"token": token, "expirationTimestamp": base::clock::rfc3339(expires)});
    Ok(call.output.respond(StatusCode::CREATED, &request))
}

fn check_metadata(call: &Call, request: &Value) -> Result<(), ApiError> {
    let mut errors = ErrorList::new();
    let path = Path::new("metadata");
    let checks = [
        ("name", call.info.name.as_str(), "must match the service account name if specified"),
        ("namespace", call.info.namespace.as_str(), "must match the service account namespace if specified"),
    ];
    for (field, wanted, why) in checks {
        let given = meta(request, field);
        if !given.is_empty() && given != wanted {
            errors.push(Error::invalid(&path.child(field), given, why));
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(invalid(GROUP, "TokenRequest", &call.info.name, &errors)) }
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
    let (resource, namespace) = match (api_version, kind_name) {
        ("v1", "Pod") => ("pods", call.info.namespace.as_str()),
        ("v1", "Secret") => ("secrets", call.info.namespace.as_str()),
        ("v1", "Node") => ("nodes", ""),
        _ => {
            let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
            return Err(ApiError::bad_request(format!(
                "cannot bind token to object of type {group}/{version}, Kind={kind_name}"
            )));
        }
    };
    let registry = call.server.registry();
    let kind = registry.resource("", "v1", resource).ok_or_else(ApiError::no_such_path)?;
    let entry = call.server.current(kind, namespace, name).await?;
    let object = entry.ok_or_else(|| ApiError::not_found("", resource, name))?.try_value()?;
    if !uid.is_empty() && uid != meta(&object, "uid") {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(ApiError::conflict("", kind_name, name, &why));
    }
    let bound = Reference { name: name.to_owned(), uid: meta(&object, "uid").to_owned() };
    match resource {
        "pods" => {
            let account = object["spec"]["serviceAccountName"].as_str().unwrap_or_default();
            if account != call.info.name {
                return Err(ApiError::bad_request(format!(
                    "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                    call.info.name
                )));
            }
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
