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

/// Fills in the families of a service's addresses, or says what is wrong with those asked for.
pub(super) fn families(service: &mut Value, old: Option<&Value>) -> Result<(), ErrorList> {
    let spec = &mut service["spec"];
    let path = Path::new("spec");
    let headless = spec["clusterIP"] == "None";
    let selectorless = spec["selector"].as_object().is_none_or(serde_json::Map::is_empty);
    if spec["ipFamilyPolicy"].as_str().unwrap_or_default().is_empty() {
        let before = old.and_then(|old| old["spec"]["ipFamilyPolicy"].as_str());
        let default = if headless && selectorless { "RequireDualStack" } else { "SingleStack" };
        spec["ipFamilyPolicy"] = before.unwrap_or(default).into();
    }
    let policy = spec["ipFamilyPolicy"].as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| -> Vec<String> {
        let items = value.as_array().into_iter().flatten();
        items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
    };
    let addresses = list(&spec["clusterIPs"]);
    let mut families = list(&spec["ipFamilies"]);
    let mut errors = ErrorList::new();
    if policy == "SingleStack" {
        for (count, what) in [(addresses.len(), "cluster IPs"), (families.len(), "IP families")] {
            if count == 2 {
                let why = format!(
                    "must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
                );
                errors.push(Error::invalid(&path.child("ipFamilyPolicy"), policy.as_str(), why));
            }
        }
    }
    for (index, address) in addresses.iter().enumerate().take_while(|(_, address)| *address != "None") {
        if index < families.len() {
            continue;
        }
        if address.contains(':') {
            let path = path.child("clusterIPs").index(index);
            errors.push(Error::invalid(&path, json!(addresses), "IPv6 is not configured on this cluster"));
        } else {
            families.push("IPv4".to_owned());
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    if headless && selectorless {
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
        errors.push(Error::invalid(&path.child("ipFamilyPolicy"), policy.as_str(), why));
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

/// Whether the fields about addresses contradict each other; validation says how.
pub(super) fn is_malformed(spec: &Value) -> bool {
    let first = spec["clusterIP"].as_str().unwrap_or_default();
    let all: Vec<&str> =
        spec["clusterIPs"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let known = |address: &str| address == "None" || address.parse::<std::net::IpAddr>().is_ok();
    (all.first().is_some_and(|address| *address != first))
        || all.len() > 2
        || !(first.is_empty() || known(first))
        || all.iter().any(|address| !known(address))
        || (first == "None" && all.len() > 1)
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
        assert_eq!(check(json!({})).ok(), Some(json!(["IPv4"])));
        assert_eq!(check(json!({"clusterIP": "None"})).ok(), Some(json!(["IPv4", "IPv6"])));
        assert_eq!(check(json!({"clusterIP": "None", "selector": {"a": "b"}})).ok(), Some(json!(["IPv4"])));
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
