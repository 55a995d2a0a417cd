//! Who may have, and who may say that somebody has, access to devices: the rules about claims of
//! `resource.k8s.io` that need more than the object, which upstream reports with the object's errors.

use std::collections::BTreeSet;

use schema::field::{Error, ErrorList, Path};
use serde_json::Value;

use crate::authz::{Attributes, forbidden};
use crate::call::Call;
use crate::status::ApiError;

/// The label of namespaces whose claims may ask for administrative access.
const ADMIN_ACCESS: &str = "resource.kubernetes.io/admin-access";
/// The verb of those who may write about devices of any node, before the request's own.
const ARBITRARY_NODE: &str = "arbitrary-node:";
const ASSOCIATED_NODE: &str = "associated-node:";
/// Where a service account's token says on which node it is used.
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";

fn is_about(call: &Call, kinds: &[&str]) -> bool {
    call.kind.group == "resource.k8s.io" && kinds.contains(&&*call.kind.kind)
}

/// What a new claim or template asks for and may not have.
pub(crate) async fn on_create(call: &Call, object: &Value) -> Result<ErrorList, ApiError> {
    let spec = match &*call.kind.kind {
        "ResourceClaimTemplate" => "/spec/spec/devices/requests",
        _ => "/spec/devices/requests",
    };
    if !is_about(call, &["ResourceClaim", "ResourceClaimTemplate"]) {
        return Ok(ErrorList::new());
    }
    let Some(index) = admin(object.pointer(spec), "/exactly/adminAccess") else {
        return Ok(ErrorList::new());
    };
    let access = admin_access(call).await?;
    // Upstream names the claim's path also for templates, and leaves `exactly` out.
    let requests = Path::new("spec").child("devices").child("requests");
    Ok(access.fault(&requests.index(index).child("adminAccess")).into_iter().collect())
}

/// What a changed status of a claim grants, or says, without the right to.
pub(crate) async fn on_status_update(call: &Call, new: &Value, old: &Value) -> Result<ErrorList, ApiError> {
    let mut errs = ErrorList::new();
    if !is_about(call, &["ResourceClaim"]) {
        return Ok(errs);
    }
    let results = "/status/allocation/devices/results";
    let granted = |claim: &Value| admin(claim.pointer(results), "/adminAccess");
    if let (None, Some(index)) = (granted(old), granted(new)) {
        let access = admin_access(call).await?;
        let devices = Path::new("status").child("allocation").child("devices");
        errs.extend(access.fault(&devices.child("results").index(index).child("adminAccess")));
    }
    let status = Path::new("status");
    let changed = |field: &str| new["status"].get(field) != old["status"].get(field);
    if changed("allocation") || changed("reservedFor") {
        let wanted = Attributes { namespace: "", name: "", ..with(call, &call.info.verb, "binding") };
        if let Err(why) = check(call, &wanted) {
            let verb = &call.info.verb;
            errs.push(Error::forbidden(
                &status.child("allocation"),
                format!(
                    "changing status.allocation or status.reservedFor requires resource=\"resourceclaims/binding\", \
                     verb=\"{verb}\" permission: {why}"
                ),
            ));
        }
    }
    if new["status"].get("allocation").is_some() {
        let verbs = device_verbs(call, new);
        for driver in changed_drivers(new, old) {
            if let Some(why) = driver_fault(call, &verbs, driver) {
                let verbs = verbs.join(" ");
                errs.push(Error::forbidden(
                    &status.child("devices"),
                    format!(
                        "changing status.devices requires resource=\"resourceclaims/driver\", verb=\"[{verbs}]\" \
                         permission: {why}"
                    ),
                ));
            }
        }
    }
    Ok(errs)
}

/// The first item of the list that asks for administrative access.
fn admin(list: Option<&Value>, flag: &str) -> Option<usize> {
    list?.as_array()?.iter().position(|item| item.pointer(flag) == Some(&Value::Bool(true)))
}

/// Whether claims of a namespace may ask for administrative access.
enum AdminAccess {
    Granted,
    Refused,
    /// The namespace of this name is gone.
    Unknown(String),
}

impl AdminAccess {
    fn fault(self, path: &Path<'_>) -> Option<Error> {
        match self {
            Self::Granted => None,
            Self::Refused => Some(Error::forbidden(
                path,
                format!(
                    "admin access to devices requires the `{ADMIN_ACCESS}: true` label on the containing namespace"
                ),
            )),
            Self::Unknown(name) => Some(Error::internal(
                path,
                format!(
                    "could not retrieve namespace to verify admin access: namespaces \"{name}\" not found"
                ),
            )),
        }
    }
}

async fn admin_access(call: &Call) -> Result<AdminAccess, ApiError> {
    let name = &call.info.namespace;
    let Some(kind) = call.server.registry().resource("", "v1", "namespaces").cloned() else {
        return Ok(AdminAccess::Unknown(name.clone()));
    };
    Ok(match call.server.current(&kind, "", name).await? {
        None => AdminAccess::Unknown(name.clone()),
        Some(namespace) if namespace.to_value()["metadata"]["labels"][ADMIN_ACCESS] == "true" => {
            AdminAccess::Granted
        }
        Some(_) => AdminAccess::Refused,
    })
}

fn with<'a>(call: &'a Call, verb: &'a str, subresource: &'a str) -> Attributes<'a> {
    Attributes { verb, subresource, ..Attributes::of(&call.info) }
}

fn check(call: &Call, wanted: &Attributes<'_>) -> Result<(), String> {
    let decision = call.server.authorizer.decide(&call.user, wanted);
    if decision.allowed { Ok(()) } else { Err(forbidden(&call.user, wanted, &decision.reason).message) }
}

/// Why the sender may not write about devices of this driver by any of the verbs: as the first says.
fn driver_fault(call: &Call, verbs: &[String], driver: &str) -> Option<String> {
    let mut first = None;
    for verb in verbs {
        match check(call, &Attributes { name: driver, ..with(call, verb, "driver") }) {
            Ok(()) => return None,
            Err(why) => first = first.or(Some(why)),
        }
    }
    first
}

/// By which verbs the sender may write about the claim's devices: one who runs on the node of the devices needs
/// less.
fn device_verbs(call: &Call, claim: &Value) -> Vec<String> {
    let verb = &call.info.verb;
    let terms = claim.pointer("/status/allocation/nodeSelector/nodeSelectorTerms").and_then(Value::as_array);
    let node = match terms.map(Vec::as_slice) {
        Some([term]) if term.get("matchExpressions").is_none() => match term["matchFields"].as_array() {
            Some(fields) if fields.len() == 1 => Some(&fields[0]),
            _ => None,
        },
        _ => None,
    };
    let node = node
        .filter(|field| field["key"] == "metadata.name" && field["operator"] == "In")
        .and_then(|field| field["values"].as_array().filter(|values| values.len() == 1)?[0].as_str());
    let own = call.user.extra.get(NODE_NAME).filter(|names| names.len() == 1).map(|names| names[0].as_str());
    let is_account = call.user.name.starts_with("system:serviceaccount:");
    let mut verbs = vec![format!("{ARBITRARY_NODE}{verb}")];
    if is_account && node.is_some() && node == own {
        verbs.insert(0, format!("{ASSOCIATED_NODE}{verb}"));
    }
    verbs
}

/// The drivers about whose devices something else is said than before.
fn changed_drivers<'a>(new: &'a Value, old: &'a Value) -> BTreeSet<&'a str> {
    fn devices(claim: &Value) -> &[Value] {
        claim.pointer("/status/devices").and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }
    let (now, before) = (devices(new), devices(old));
    let differing = |these: &'a [Value], those: &'a [Value]| {
        these.iter().filter(|device| !those.contains(device)).filter_map(|device| device["driver"].as_str())
    };
    differing(now, before).chain(differing(before, now)).collect()
}
