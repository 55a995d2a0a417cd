//! The Node object and its Lease.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use api::names;
use api::quantity::Quantity;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeStatus,
    NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use runtime::Version;
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::Shared;

/// The Kubernetes version whose behaviour the agent has.
const KUBERNETES_VERSION: &str = "v1.36.2";
const LEASE_SECONDS: i32 = 40;
const RENEW_EVERY: Duration = Duration::from_secs(10);
const STATUS_EVERY: Duration = Duration::from_secs(10);
/// An unchanged status is written again after this long, for its heartbeat times.
const HEARTBEAT: Duration = Duration::from_secs(300);
const RETRY: Duration = Duration::from_millis(500);
/// Images shown in the status, largest first, as upstream.
const IMAGES_MAX: usize = 50;

/// Keeps the Node object and its Lease up to date.
pub(crate) struct Registration {
    shared: Arc<Shared>,
    version: Version,
    port: Option<u16>,
}

impl Registration {
    pub(crate) fn new(shared: Arc<Shared>, version: Version, port: Option<u16>) -> Self {
        Self { shared, version, port }
    }

    /// Runs for ever.
    pub(crate) async fn run(self) {
        let node = loop {
            match self.register().await {
                Ok(node) => break node,
                Err(error) => {
                    tracing::warn!(node = self.name(), %error, "cannot register the node; trying again");
                    sleep(RETRY).await;
                }
            }
        };
        tokio::join!(self.renew_lease(&node), self.report_status(node.status.clone().unwrap_or_default()));
    }

    fn name(&self) -> &str {
        &self.shared.config.node_name
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.shared.config.labels.clone();
        for (key, value) in
            [(names::HOSTNAME, self.name()), (names::ARCH, architecture()), (names::OS, "linux")]
        {
            labels.insert(key.to_owned(), value.to_owned());
        }
        labels
    }

    async fn register(&self) -> kube::Result<Node> {
        let api: Api<Node> = Api::all(self.shared.config.client.clone());
        let mut fresh = Node {
            metadata: ObjectMeta {
                name: Some(self.name().to_owned()),
                labels: Some(self.labels()),
                ..ObjectMeta::default()
            },
            ..Node::default()
        };
        if let Some(node) = api.get_opt(self.name()).await? {
            let patch = json!({"metadata": {"labels": self.labels()}});
            api.patch(self.name(), &PatchParams::default(), &Patch::Merge(&patch)).await?;
            return Ok(node);
        }
        fresh.status = Some(self.status(&NodeStatus::default()).await);
        api.create(&PostParams::default(), &fresh).await
    }

    async fn renew_lease(&self, node: &Node) {
        let api: Api<Lease> = Api::namespaced(self.shared.config.client.clone(), names::NODE_LEASE_NAMESPACE);
        let mut ticks = interval(RENEW_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            while let Err(error) = self.renew(&api, node).await {
                tracing::warn!(node = self.name(), %error, "cannot renew the node's lease");
                sleep(RETRY).await;
            }
        }
    }

    async fn renew(&self, api: &Api<Lease>, node: &Node) -> kube::Result<()> {
        let spec = LeaseSpec {
            holder_identity: Some(self.name().to_owned()),
            lease_duration_seconds: Some(LEASE_SECONDS),
            renew_time: Some(MicroTime(base::clock::now())),
            ..LeaseSpec::default()
        };
        let patch = json!({"spec": spec});
        match api.patch(self.name(), &PatchParams::default(), &Patch::Merge(&patch)).await {
            Err(kube::Error::Api(e)) if e.code == 404 => {}
            other => return other.map(drop),
        }
        let owner = OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: self.name().to_owned(),
            uid: node.metadata.uid.clone().unwrap_or_default(),
            ..OwnerReference::default()
        };
        let metadata = ObjectMeta {
            name: Some(self.name().to_owned()),
            namespace: Some(names::NODE_LEASE_NAMESPACE.to_owned()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        };
        api.create(&PostParams::default(), &Lease { metadata, spec: Some(spec) }).await.map(drop)
    }

    async fn report_status(&self, mut written: NodeStatus) {
        let api: Api<Node> = Api::all(self.shared.config.client.clone());
        let mut written_at: Option<Instant> = None;
        loop {
            let status = self.status(&written).await;
            let due = written_at.is_none_or(|at| at.elapsed() >= HEARTBEAT);
            if due || without_heartbeats(&status) != without_heartbeats(&written) {
                let patch = json!({"status": status});
                match api.patch_status(self.name(), &PatchParams::default(), &Patch::Strategic(&patch)).await
                {
                    Ok(_) => {
                        written = status;
                        written_at = Some(Instant::now());
                    }
                    Err(kube::Error::Api(e)) if e.code == 404 => {
                        // Somebody deleted the node: it comes back, as upstream's does on restart.
                        if let Err(error) = self.register().await {
                            tracing::warn!(node = self.name(), %error, "cannot register the node");
                        }
                    }
                    Err(error) => {
                        tracing::warn!(node = self.name(), %error, "cannot write the node's status");
                        sleep(RETRY).await;
                        continue;
                    }
                }
            }
            sleep(STATUS_EVERY).await;
        }
    }

    async fn status(&self, previous: &NodeStatus) -> NodeStatus {
        let machine = &self.shared.machine;
        let quantities: BTreeMap<String, _> = [
            ("cpu", Quantity::from_milli(machine.cpu_milli)),
            ("memory", Quantity::from_bytes(machine.memory / 1024 * 1024)),
            ("ephemeral-storage", Quantity::from_bytes(machine.storage / 1024 * 1024)),
            ("pods", Quantity::from_units(i64::from(self.shared.config.pods_max))),
            ("hugepages-1Gi", Quantity::ZERO),
            ("hugepages-2Mi", Quantity::ZERO),
        ]
        .into_iter()
        .map(|(name, quantity)| (name.to_owned(), quantity.into()))
        .collect();
        let address =
            |kind: &str, address: &str| NodeAddress { type_: kind.to_owned(), address: address.to_owned() };
        let endpoint = self.port.map(|port| DaemonEndpoint { port: i32::from(port) });
        NodeStatus {
            addresses: Some(vec![
                address("InternalIP", &self.shared.config.node_ip),
                address("Hostname", self.name()),
            ]),
            allocatable: Some(quantities.clone()),
            capacity: Some(quantities),
            conditions: Some(self.conditions(previous).await),
            daemon_endpoints: endpoint
                .map(|endpoint| NodeDaemonEndpoints { kubelet_endpoint: Some(endpoint) }),
            images: Some(self.images().await),
            node_info: Some(self.info()),
            ..NodeStatus::default()
        }
    }

    async fn conditions(&self, previous: &NodeStatus) -> Vec<NodeCondition> {
        let engine = self.shared.config.runtime.status().await;
        let (ready, reason, message) = match engine {
            Ok(s) if s.ready && s.network_ready => {
                (true, "KubeletReady", "kubelet is posting ready status".to_owned())
            }
            Ok(s) => (false, "KubeletNotReady", s.message),
            Err(error) => (false, "KubeletNotReady", format!("container runtime is down: {error}")),
        };
        let fine = |kind: &'static str, reason: &'static str, message: &str| {
            (kind, false, reason, message.to_owned())
        };
        let now = base::clock::now();
        let now = Time(jiff::Timestamp::from_second(now.as_second()).unwrap_or(now));
        [
            fine("MemoryPressure", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            fine("DiskPressure", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            fine("PIDPressure", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            ("Ready", ready, reason, message),
        ]
        .into_iter()
        .map(|(kind, holds, reason, message)| {
            let status = if holds { "True" } else { "False" };
            let before = previous.conditions.iter().flatten().find(|c| c.type_ == kind && c.status == status);
            NodeCondition {
                type_: kind.to_owned(),
                status: status.to_owned(),
                reason: Some(reason.to_owned()),
                message: Some(message),
                last_heartbeat_time: Some(now.clone()),
                last_transition_time: before
                    .and_then(|b| b.last_transition_time.clone())
                    .or(Some(now.clone())),
            }
        })
        .collect()
    }

    async fn images(&self) -> Vec<ContainerImage> {
        let mut images = self.shared.config.runtime.images().await.unwrap_or_default();
        images.sort_by_key(|i| std::cmp::Reverse(i.size));
        let shown = |i: runtime::Image| ContainerImage {
            names: Some(i.digests.into_iter().chain(i.tags).collect()),
            size_bytes: i64::try_from(i.size).ok(),
        };
        images.into_iter().take(IMAGES_MAX).map(shown).collect()
    }

    fn info(&self) -> NodeSystemInfo {
        let line = |path: &str| fs::read_to_string(path).map(|t| t.trim().to_owned()).unwrap_or_default();
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let os = release.lines().find_map(|l| l.strip_prefix("PRETTY_NAME=")).unwrap_or("Linux");
        NodeSystemInfo {
            architecture: architecture().to_owned(),
            boot_id: line("/proc/sys/kernel/random/boot_id"),
            container_runtime_version: format!("{}://{}", self.version.name, self.version.version),
            kernel_version: line("/proc/sys/kernel/osrelease"),
            kubelet_version: KUBERNETES_VERSION.to_owned(),
            machine_id: line("/etc/machine-id"),
            operating_system: "linux".to_owned(),
            os_image: os.trim_matches('"').to_owned(),
            system_uuid: line("/sys/class/dmi/id/product_uuid"),
            ..NodeSystemInfo::default()
        }
    }
}

/// Go's name of this architecture.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn without_heartbeats(status: &NodeStatus) -> NodeStatus {
    let mut status = status.clone();
    for condition in status.conditions.iter_mut().flatten() {
        condition.last_heartbeat_time = None;
    }
    status
}
