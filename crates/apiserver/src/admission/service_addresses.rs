//! The addresses of services as objects: ServiceCIDRs say which there are, IPAddresses which are taken.
//!
//! What services hold follows from the services in the cache ([`super::services`]); an IPAddress says
//! so to everybody else, and keeps an address from being handed out that somebody else has claimed.
//! It is written before its service, and goes when no service holds the address any more.

use std::net::Ipv4Addr;
use std::sync::{Arc, Weak};

use schema::field::{Error, ErrorList, Path};
use serde_json::{Value, json};
use store::Compare;
use tokio::sync::Notify;

use super::lookup::SERVICE_CIDRS;
use crate::call::Call;
use crate::kind::Kind;
use crate::object::meta;
use crate::server::Inner;
use crate::status::ApiError;
use crate::storage::PutError;

const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const FAMILY: &str = "ipaddress.kubernetes.io/ip-family";
const MANAGER: &str = "ipallocator.k8s.io";

/// A range of addresses for services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub base: u32,
    pub size: u32,
}

impl Range {
    /// From `10.96.0.0/16`; `None` for IPv6 and nonsense.
    pub fn parse(cidr: &str) -> Option<Self> {
        let (base, bits) = cidr.split_once('/')?;
        let base: Ipv4Addr = base.parse().ok()?;
        let bits: u32 = bits.parse().ok().filter(|bits| (1..=32).contains(bits))?;
        let size = 1u32 << (32 - bits);
        Some(Self { base: u32::from(base) & !(size - 1), size })
    }

    /// Whether a service can have the address: neither the network's own nor its broadcast address.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        let offset = u32::from(address).wrapping_sub(self.base);
        offset > 0 && offset < self.size - 1
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.base), 32 - self.size.trailing_zeros())
    }
}

/// A ServiceCIDR, parsed: its ranges as long as it is ready.
struct Ranges(Vec<Range>);

impl Ranges {
    fn parse(object: &Value) -> Self {
        let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
        let ready = conditions.into_iter().find(|condition| condition["type"] == "Ready");
        // Without a controller nobody says that it is ready.
        let ready = ready.is_none_or(|condition| condition["status"] == "True");
        if !ready || !meta(object, "deletionTimestamp").is_empty() {
            return Self(Vec::new());
        }
        let cidrs = object["spec"]["cidrs"].as_array().into_iter().flatten();
        Self(cidrs.filter_map(|cidr| Range::parse(cidr.as_str()?)).collect())
    }
}

/// All ranges that are ready, the cluster's own first.
pub(super) fn ranges(call: &Call) -> Vec<Range> {
    let mut entries = SERVICE_CIDRS.list(call, "");
    entries.sort_by_key(|entry| entry.name() != "kubernetes");
    entries.iter().flat_map(|entry| entry.parsed(Ranges::parse).0.clone()).collect()
}

/// Writes the IPAddress of a service; false if somebody else has it.
pub(super) async fn claim(
    server: &Arc<Inner>,
    address: Ipv4Addr,
    namespace: &str,
    service: &str,
) -> Result<bool, ApiError> {
    let Some(kind) = kind(server) else { return Ok(true) };
    let name = address.to_string();
    let parent = json!({"resource": "services", "namespace": namespace, "name": service});
    let mut object = json!({
        "metadata": {"name": name, "uid": base::rng::uuid(),
            "creationTimestamp": base::clock::rfc3339(base::clock::now()),
            "labels": {FAMILY: "IPv4", MANAGED_BY: MANAGER}},
        "spec": {"parentRef": parent},
    });
    crate::managed_fields::track_kind(&kind, &Value::Null, &mut object, "kube-apiserver", "")?;
    let key = kind.key("", &name);
    let written = match server.put(&kind, &key, Compare::Absent, &object).await {
        Err(PutError::Conflict) => {
            // Left by a service that is gone, but whose address has not been cleared yet?
            let known = server.current(&kind, "", &name).await?;
            let Some(known) = known else { return Ok(false) };
            let value = known.try_value()?;
            let ours = value["metadata"]["labels"][MANAGED_BY] == MANAGER;
            if !ours || (server.services.is_held(address) && value["spec"]["parentRef"] != parent) {
                return Ok(false);
            }
            server.put(&kind, &key, Compare::ModRevision(known.revision), &object).await
        }
        written => written,
    };
    match written {
        Ok(_) => Ok(true),
        Err(PutError::Conflict) => Ok(false),
        Err(PutError::Other(error)) => Err(error),
    }
}

fn kind(server: &Arc<Inner>) -> Option<Arc<Kind>> {
    server.registry().resource("networking.k8s.io", "v1", "ipaddresses").cloned()
}

/// Removes the IPAddress objects of addresses that no service has any more.
pub(crate) async fn release(server: Arc<Inner>, addresses: Vec<Ipv4Addr>) {
    let Some(kind) = kind(&server) else { return };
    for address in addresses.into_iter().filter(|address| !server.services.is_taken(*address)) {
        let Some(entry) = server.cached(&kind, "", &address.to_string()) else { continue };
        if entry.to_value()["metadata"]["labels"][MANAGED_BY] != MANAGER {
            continue;
        }
        // Another service may just be getting it: then the object is newer, or its parent there.
        if server.services.is_taken(address) {
            continue;
        }
        if let Err(PutError::Other(error)) = server.remove(&kind, &entry).await {
            tracing::warn!(%error, %address, "the address of a deleted service stays for now");
        }
    }
}

/// Writes what is missing, for services from before there were such objects, and from then on removes
/// what services have given up.
pub(crate) async fn run(server: Weak<Inner>, freed: Arc<Notify>) {
    loop {
        freed.notified().await;
        let Some(server) = server.upgrade() else { return };
        let addresses = server.services.take_freed();
        release(server, addresses).await;
    }
}

/// Writes the IPAddress of every service that lacks one.
pub(crate) async fn repair(server: &Arc<Inner>) {
    let Some(kind) = kind(server) else { return };
    for (key, address) in server.services.held() {
        let mut parts = key.rsplit('/');
        let (name, namespace) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if server.cached(&kind, "", &address.to_string()).is_none()
            && let Err(error) = claim(server, address, namespace, name).await
        {
            tracing::warn!(%error, %address, "the address of a service could not be written");
        }
    }
}

/// Whether nothing was asked of a service that gets as many addresses as there are: such services are
/// left alone when families are added to a cluster.
fn is_settled(spec: &Value, was: &Value) -> bool {
    let prefers = |spec: &Value| spec["ipFamilyPolicy"] == "PreferDualStack";
    ["ClusterIP", "NodePort", "LoadBalancer"].iter().any(|kind| spec["type"] == *kind)
        && spec["type"] == was["type"]
        && prefers(spec)
        && (was["ipFamilyPolicy"].is_null() || prefers(was))
        && ["clusterIPs", "ipFamilies"].iter().all(|list| texts(&spec[list]) == texts(&was[list]))
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Whether a new or changed service, whose families are known, is to get an address.
pub(super) fn needs_address(service: &Value, old: Option<&Value>) -> bool {
    let spec = &service["spec"];
    let is_new = old.is_none_or(|old| old["spec"]["type"] == "ExternalName");
    is_new && spec["type"] != "ExternalName" && spec["clusterIPs"][0] != "None"
}

/// Fills in the families of a service's addresses, or says what is wrong with those asked for.
pub(super) fn families(service: &mut Value, old: Option<&Value>) -> Result<(), ErrorList> {
    let was = old.map(|old| &old["spec"]);
    let spec = &service["spec"];
    if spec["type"] == "ExternalName" || was.is_some_and(|was| is_settled(spec, was)) {
        return Ok(());
    }
    let headless_alone =
        spec["clusterIP"] == "None" && spec["selector"].as_object().is_none_or(serde_json::Map::is_empty);
    if spec["ipFamilyPolicy"].is_null() {
        let before = was.and_then(|was| was["ipFamilyPolicy"].as_str());
        let default = if headless_alone { "RequireDualStack" } else { "SingleStack" };
        service["spec"]["ipFamilyPolicy"] = before.unwrap_or(default).into();
    }
    let errors = schema::validation::core::service::addresses(service, old);
    if !errors.is_empty() {
        return Err(errors);
    }
    let spec = &mut service["spec"];
    let mut errors = released(spec, was);
    let mut families: Vec<String> = texts(&spec["ipFamilies"]).into_iter().map(str::to_owned).collect();
    inferred(spec, &mut families, &mut errors);
    if !errors.is_empty() {
        return Err(errors);
    }
    let (policy, path) = (spec["ipFamilyPolicy"].as_str().unwrap_or_default(), Path::new("spec"));
    if headless_alone {
        if families.is_empty() {
            families.push("IPv4".to_owned());
        }
        if families.len() < 2 && policy != "SingleStack" {
            families.push(if families[0] == "IPv4" { "IPv6" } else { "IPv4" }.to_owned());
        }
        spec["ipFamilies"] = json!(families);
        return Ok(());
    }
    if policy == "RequireDualStack" {
        let why = "this cluster is not configured for dual-stack services";
        errors.push(Error::invalid(&path.child("ipFamilyPolicy"), policy, why));
    }
    for (index, family) in families.iter().enumerate().filter(|(_, family)| *family != "IPv4") {
        let path = path.child("ipFamilies").index(index);
        errors.push(Error::invalid(&path, family.as_str(), "not configured on this cluster"));
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    if families.is_empty() {
        families.push("IPv4".to_owned());
    }
    spec["ipFamilies"] = json!(families);
    Ok(())
}

/// Going back to one family gives up the second address; it must be said.
fn released(spec: &mut Value, was: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::new();
    let policy = spec["ipFamilyPolicy"].as_str().unwrap_or_default().to_owned();
    let path = Path::new("spec").child("ipFamilyPolicy");
    let lists = [("clusterIPs", "cluster IP", "cluster IPs"), ("ipFamilies", "IP family", "IP families")];
    for (list, one, _) in lists {
        let Some(was) = was else { break };
        let (now, before) = (texts(&spec[list]).len(), texts(&was[list]).len());
        if policy != "SingleStack" {
            if now > 0 && now < before {
                let why = format!("must be 'SingleStack' to release the secondary {one}");
                errors.push(Error::invalid(&path, policy.as_str(), why));
            }
        } else if texts(&spec[list]) == texts(&was[list])
            && let Some(items) = spec[list].as_array_mut()
        {
            items.truncate(1);
        }
    }
    for (list, _, several) in lists {
        if policy == "SingleStack" && texts(&spec[list]).len() == 2 {
            let why = format!(
                "must be 'RequireDualStack' or 'PreferDualStack' when multiple {several} are specified"
            );
            errors.push(Error::invalid(&path, policy.as_str(), why));
        }
    }
    errors
}

/// Families follow from addresses.
fn inferred(spec: &Value, families: &mut Vec<String>, errors: &mut ErrorList) {
    for (index, address) in texts(&spec["clusterIPs"]).into_iter().enumerate() {
        if address == "None" {
            break;
        }
        if index < families.len() {
            continue;
        }
        if address.contains(':') {
            let path = Path::new("spec").child("clusterIPs").index(index);
            let why = "IPv6 is not configured on this cluster";
            errors.push(Error::invalid(&path, spec["clusterIPs"].clone(), why));
        } else {
            families.push("IPv4".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_follow_from_what_is_asked_for() {
        let check = |spec: Value| {
            let mut service = json!({"spec": spec});
            families(&mut service, None).map(|()| service["spec"]["ipFamilies"].clone())
        };
        assert_eq!(check(json!({"type": "ClusterIP"})).ok(), Some(json!(["IPv4"])));
        assert_eq!(
            check(json!({"clusterIP": "None", "clusterIPs": ["None"]})).ok(),
            Some(json!(["IPv4", "IPv6"]))
        );
        assert_eq!(
            check(json!({"clusterIP": "None", "clusterIPs": ["None"], "selector": {"a": "b"}})).ok(),
            Some(json!(["IPv4"]))
        );
        assert!(check(json!({"ipFamilyPolicy": "RequireDualStack"})).is_err());
        assert!(check(json!({"ipFamilies": ["IPv6"]})).is_err());
    }

    #[test]
    fn ranges_leave_out_their_ends() {
        let range = Range::parse("10.96.0.0/16").unwrap();
        let contains = |text: &str| range.contains(text.parse().unwrap());
        assert!(contains("10.96.0.1") && contains("10.96.255.254"));
        assert!(!contains("10.96.0.0") && !contains("10.96.255.255") && !contains("10.97.0.1"));
    }
}
