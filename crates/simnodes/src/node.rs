//! Simulated machines as Node and Lease objects.

use std::collections::BTreeMap;
use std::time::Duration;

use api::names;
use api::quantity::Quantity;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{
    Node, NodeAddress, NodeCondition, NodeSpec as KubeNodeSpec, NodeStatus, NodeSystemInfo, Taint,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference, Time};

/// What a simulated machine is like.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeSpec {
    /// Name of the node.
    pub name: String,
    /// CPU in millicores.
    pub cpu_milli: i64,
    /// Memory in bytes.
    pub memory_bytes: i64,
    /// The most pods it takes.
    pub pods: i64,
    /// Share of CPU and memory that the system keeps for itself, from 0 to 1.
    pub reserved: f64,
    /// Labels besides the ones every node has.
    pub labels: BTreeMap<String, String>,
    /// Taints to register with.
    pub taints: Vec<Taint>,
    /// The cloud's name of the machine, if it came from a cloud.
    pub provider_id: Option<String>,
    /// CPU architecture in Go's spelling.
    pub arch: String,
}

impl NodeSpec {
    /// A plain machine without labels or taints.
    pub fn new(name: impl Into<String>, cpu_milli: i64, memory_bytes: i64) -> Self {
        Self {
            name: name.into(),
            cpu_milli,
            memory_bytes,
            pods: 110,
            reserved: 0.0,
            labels: BTreeMap::new(),
            taints: Vec::new(),
            provider_id: None,
            arch: "amd64".to_owned(),
        }
    }

    /// The Node object that the machine registers.
    pub fn to_node(&self) -> Node {
        let mut labels = self.labels.clone();
        for (label, value) in [
            (names::HOSTNAME, self.name.as_str()),
            (names::OS, "linux"),
            (names::ARCH, &self.arch),
            (names::SIMULATED_NODE, "true"),
        ] {
            labels.insert(label.to_owned(), value.to_owned());
        }
        let keep = 1.0 - self.reserved;
        let resources = |share: f64| {
            BTreeMap::from([
                ("cpu".to_owned(), Quantity::from_milli((self.cpu_milli as f64 * share) as i64).into()),
                ("memory".to_owned(), Quantity::from_bytes((self.memory_bytes as f64 * share) as i64).into()),
                ("pods".to_owned(), Quantity::from_units(self.pods).into()),
                ("ephemeral-storage".to_owned(), Quantity::from_bytes(100 << 30).into()),
            ])
        };
        Node {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                labels: Some(labels),
                ..ObjectMeta::default()
            },
            spec: Some(KubeNodeSpec {
                provider_id: self.provider_id.clone(),
                taints: (!self.taints.is_empty()).then(|| self.taints.clone()),
                ..KubeNodeSpec::default()
            }),
            status: Some(NodeStatus {
                capacity: Some(resources(1.0)),
                allocatable: Some(resources(keep)),
                conditions: Some(conditions()),
                addresses: Some(vec![NodeAddress {
                    address: self.name.clone(),
                    type_: "Hostname".to_owned(),
                }]),
                node_info: Some(system_info(&self.arch)),
                ..NodeStatus::default()
            }),
        }
    }
}

/// The conditions of a healthy node, as of now.
pub(crate) fn conditions() -> Vec<NodeCondition> {
    let now = Time::from(base::clock::now());
    let condition = |type_: &str, status: &str, reason: &str, message: &str| NodeCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_heartbeat_time: Some(now.clone()),
        last_transition_time: Some(now.clone()),
    };
    vec![
        condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "enough memory available"),
        condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "no disk pressure"),
        condition("PIDPressure", "False", "KubeletHasSufficientPID", "enough process ids available"),
        condition("Ready", "True", "KubeletReady", "the simulated node is ready"),
    ]
}

fn system_info(arch: &str) -> NodeSystemInfo {
    NodeSystemInfo {
        architecture: arch.to_owned(),
        operating_system: "linux".to_owned(),
        os_image: "Kobune simulated node".to_owned(),
        kubelet_version: concat!("v1.36.2-kobune.", env!("CARGO_PKG_VERSION")).to_owned(),
        container_runtime_version: "simulated://1".to_owned(),
        ..NodeSystemInfo::default()
    }
}

/// The Lease by which `node` shows that it is alive.
pub(crate) fn lease(node: &Node, interval: Duration) -> Lease {
    let name = node.metadata.name.clone().unwrap_or_default();
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: name.clone(),
        uid: node.metadata.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    };
    Lease {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(names::NODE_LEASE_NAMESPACE.to_owned()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(name),
            lease_duration_seconds: Some(i32::try_from(interval.as_secs() * 4).unwrap_or(i32::MAX)),
            renew_time: Some(MicroTime(base::clock::now())),
            ..LeaseSpec::default()
        }),
    }
}
