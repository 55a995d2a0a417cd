//! ServiceCIDRs: ready as soon as they are there, and kept for as long as services have addresses from
//! them that no other range contains.
//!
//! Source: `k8s.io/kubernetes/pkg/controller/servicecidrs`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use client::{Informer, Next, WorkQueue, key_of};
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use crate::context::{Context, Error, gone_is_fine};

const WORKERS: usize = 1;
/// The owner of the condition.
const FIELD_MANAGER: &str = "service-cidr-controller";
const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const MANAGER: &str = "ipallocator.k8s.io";
/// Until every API server has heard that a range is going away.
const GRACE: Duration = Duration::from_secs(10);
const IN_USE: &str =
    "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";

/// Runs the controller until the context is stopped.
pub async fn run(context: Context) {
    let controller = Arc::new(Controller {
        ranges: context.informers.of(),
        addresses: context.informers.of(),
        context: context.clone(),
    });
    let queue: WorkQueue<String> = WorkQueue::new();
    let (add, ranges) = (queue.clone(), controller.ranges.clone());
    // A range that comes or goes may decide about those that overlap it.
    controller.ranges.on_event(move |event| {
        add.add(key_of(event.object().as_ref()));
        ranges.for_each(|range| add.add(key_of(range.as_ref())));
    });
    let (add, ranges) = (queue.clone(), controller.ranges.clone());
    controller.addresses.on_event(move |_| {
        ranges.for_each(|range| {
            if range.metadata.deletion_timestamp.is_some() {
                add.add(key_of(range.as_ref()));
            }
        });
    });
    controller.ranges.synced().await;
    controller.addresses.synced().await;
    let reconcile =
        |controller: Arc<Controller>, key: String| async move { controller.reconcile(&key).await };
    context.work(queue, WORKERS, controller, reconcile).await;
}

struct Controller {
    context: Context,
    ranges: Informer<ServiceCIDR>,
    addresses: Informer<IPAddress>,
}

impl Controller {
    async fn reconcile(&self, key: &str) -> Result<Next, Error> {
        let Some(range) = self.ranges.get_key(key) else { return Ok(Next::Wait) };
        let Some(deleted) = &range.metadata.deletion_timestamp else {
            if !is_protected(&range) {
                self.patch(&range, &json!({"finalizers": [FINALIZER]})).await?;
            }
            self.set_ready(&range, "True", "", "Kubernetes Service CIDR is ready").await?;
            return Ok(Next::Wait);
        };
        if is_in_use(&range, &self.ranges.list(), &self.addresses.list()) {
            self.set_ready(&range, "False", "Terminating", IN_USE).await?;
            return Ok(Next::Wait);
        }
        let since = base::clock::now().duration_since(deleted.0).unsigned_abs();
        if let Some(left) = GRACE.checked_sub(since).filter(|left| !left.is_zero()) {
            return Ok(Next::After(left));
        }
        if is_protected(&range) {
            self.patch(&range, &json!({"$deleteFromPrimitiveList/finalizers": [FINALIZER]})).await?;
        }
        Ok(Next::Wait)
    }

    async fn patch(&self, range: &ServiceCIDR, metadata: &Value) -> Result<(), Error> {
        let patch = Patch::Strategic(json!({"metadata": metadata}));
        let name = range.metadata.name.as_deref().unwrap_or("");
        Ok(gone_is_fine(self.api().patch(name, &PatchParams::default(), &patch).await)?)
    }

    async fn set_ready(
        &self,
        range: &ServiceCIDR,
        status: &str,
        reason: &str,
        message: &str,
    ) -> Result<(), Error> {
        let conditions = range.status.as_ref().and_then(|status| status.conditions.as_deref());
        let same = conditions.unwrap_or_default().iter().any(|known| {
            known.type_ == "Ready"
                && known.status == status
                && known.reason == reason
                && known.message == message
        });
        if same {
            return Ok(());
        }
        let name = range.metadata.name.as_deref().unwrap_or("");
        let ready = json!({"type": "Ready", "status": status, "reason": reason, "message": message,
            "lastTransitionTime": base::clock::rfc3339(base::clock::now())});
        let apply = json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
            "metadata": {"name": name}, "status": {"conditions": [ready]}});
        let params = PatchParams::apply(FIELD_MANAGER).force();
        Ok(gone_is_fine(self.api().patch_status(name, &params, &Patch::Apply(&apply)).await)?)
    }

    fn api(&self) -> Api<ServiceCIDR> {
        Api::all(self.context.client.clone())
    }
}

fn is_protected(range: &ServiceCIDR) -> bool {
    range.metadata.finalizers.iter().flatten().any(|name| name == FINALIZER)
}

/// Whether a service has an address from `range` that no other range contains. Ranges that are going away
/// themselves do not count, so that two of them cannot rely on each other.
fn is_in_use(range: &ServiceCIDR, all: &[Arc<ServiceCIDR>], addresses: &[Arc<IPAddress>]) -> bool {
    let stays = |other: &&Arc<ServiceCIDR>| {
        other.metadata.deletion_timestamp.is_none() && other.metadata.name != range.metadata.name
    };
    let others: Vec<_> = all.iter().filter(stays).collect();
    addresses.iter().any(|address| {
        let labels = address.metadata.labels.as_ref();
        let ours = labels.and_then(|labels| labels.get(MANAGED_BY)).is_some_and(|by| by == MANAGER);
        let address = address.metadata.name.as_deref().and_then(|name| name.parse().ok());
        ours && address.is_some_and(|address| {
            contains(range, address) && !others.iter().any(|other| contains(other, address))
        })
    })
}

fn contains(range: &ServiceCIDR, address: IpAddr) -> bool {
    let cidrs = range.spec.as_ref().and_then(|spec| spec.cidrs.as_deref()).unwrap_or_default();
    cidrs.iter().any(|cidr| is_in(cidr, address))
}

/// Whether a service can have the address from `10.96.0.0/16`: not the network's own, nor in IPv4 the
/// broadcast address.
fn is_in(cidr: &str, address: IpAddr) -> bool {
    let Some((base, bits)) = cidr.split_once('/') else { return false };
    let (Ok(base), Ok(bits)) = (base.parse::<IpAddr>(), bits.parse::<u32>()) else { return false };
    match (base, address) {
        (IpAddr::V4(base), IpAddr::V4(address)) => {
            let Some(host) = 32u32.checked_sub(bits) else { return false };
            let mask = u32::MAX.checked_shl(host).unwrap_or(0);
            let network = u32::from(base) & mask;
            u32::from(address) & mask == network
                && address != Ipv4Addr::from(network)
                && address != Ipv4Addr::from(network | !mask)
        }
        (IpAddr::V6(base), IpAddr::V6(address)) => {
            let Some(host) = 128u32.checked_sub(bits) else { return false };
            let mask = u128::MAX.checked_shl(host).unwrap_or(0);
            let network = u128::from(base) & mask;
            u128::from(address) & mask == network && address != Ipv6Addr::from(network)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::from_value;

    use super::*;

    #[test]
    fn ranges_contain_addresses() {
        let check = |cidr: &str, address: &str| is_in(cidr, address.parse().unwrap());
        assert!(check("10.96.0.0/16", "10.96.3.4") && check("0.0.0.0/0", "1.2.3.4"));
        assert!(!check("10.96.0.0/16", "10.97.3.4") && !check("10.96.0.0/16", "fd00::1"));
        assert!(!check("10.96.0.0/16", "10.96.0.0") && !check("10.96.0.0/16", "10.96.255.255"));
        assert!(check("fd00::/64", "fd00::1") && !check("fd00::/64", "fd01::1"));
        assert!(!check("fd00::/64", "fd00::") && !check("10.96.0.0/33", "10.96.0.1"));
    }

    #[test]
    fn a_range_is_in_use_by_addresses_that_no_other_range_has() {
        let range = |name: &str, cidr: &str, deleted: Option<&str>| -> Arc<ServiceCIDR> {
            let object = json!({"metadata": {"name": name, "deletionTimestamp": deleted},
                "spec": {"cidrs": [cidr]}});
            Arc::new(from_value(object).unwrap())
        };
        let address = |name: &str, by: &str| -> Arc<IPAddress> {
            Arc::new(from_value(json!({"metadata": {"name": name, "labels": {MANAGED_BY: by}}})).unwrap())
        };
        let gone = Some("2026-01-01T00:00:00Z");
        let small = range("small", "10.1.1.0/24", gone);
        let used = [address("10.1.1.5", MANAGER)];
        assert!(is_in_use(&small, &[small.clone(), range("other", "10.2.0.0/16", None)], &used));
        assert!(!is_in_use(&small, &[small.clone(), range("large", "10.1.0.0/16", None)], &used));
        assert!(is_in_use(&small, &[small.clone(), range("large", "10.1.0.0/16", gone)], &used));
        assert!(!is_in_use(&small, std::slice::from_ref(&small), &[address("10.1.1.5", "somebody")]));
    }
}
