//! Labels, annotations, taints, finalizers and namespaces that have a fixed meaning.
//! Source: <https://kubernetes.io/docs/reference/labels-annotations-taints/> and Karpenter's API.

/// Host name of a node.
pub const HOSTNAME: &str = "kubernetes.io/hostname";
/// CPU architecture of a node, in Go's spelling (`amd64`, `arm64`).
pub const ARCH: &str = "kubernetes.io/arch";
/// Operating system of a node.
pub const OS: &str = "kubernetes.io/os";
/// Availability zone of a node.
pub const ZONE: &str = "topology.kubernetes.io/zone";
/// Region of a node.
pub const REGION: &str = "topology.kubernetes.io/region";
/// Instance type of a node, e.g. `m7g.large`.
pub const INSTANCE_TYPE: &str = "node.kubernetes.io/instance-type";

/// Whether a node is `spot`, `on-demand` or `reserved` (Karpenter).
pub const CAPACITY_TYPE: &str = "karpenter.sh/capacity-type";
/// The NodePool that a node belongs to (Karpenter).
pub const NODE_POOL: &str = "karpenter.sh/nodepool";
/// Set on a node once Karpenter has taken it over.
pub const REGISTERED: &str = "karpenter.sh/registered";
/// Set on a node once it can take pods.
pub const INITIALIZED: &str = "karpenter.sh/initialized";
/// Pods and nodes with this annotation set to `true` are not voluntarily disrupted (Karpenter).
pub const DO_NOT_DISRUPT: &str = "karpenter.sh/do-not-disrupt";
/// Taint of a node that is about to be removed (Karpenter).
pub const DISRUPTED_TAINT: &str = "karpenter.sh/disrupted";
/// Taint that a Karpenter node carries until it is registered.
pub const UNREGISTERED_TAINT: &str = "karpenter.sh/unregistered";
/// Finalizer by which a node's termination is orderly (Karpenter).
pub const TERMINATION_FINALIZER: &str = "karpenter.sh/termination";

/// Taint of a node whose Ready condition is false.
pub const NOT_READY_TAINT: &str = "node.kubernetes.io/not-ready";
/// Taint of a node whose Ready condition is unknown.
pub const UNREACHABLE_TAINT: &str = "node.kubernetes.io/unreachable";
/// Taint of a cordoned node.
pub const UNSCHEDULABLE_TAINT: &str = "node.kubernetes.io/unschedulable";

/// The Service of an EndpointSlice.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// The hash that tells ReplicaSets of one Deployment apart.
pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";

/// Where nodes keep their heartbeats.
pub const NODE_LEASE_NAMESPACE: &str = "kube-node-lease";
/// The namespace of Kobune's own objects about cluster-scoped things.
pub const KOBUNE_NAMESPACE: &str = "kobune-system";

/// Marks a node that `simnodes` plays; its value is `true`.
pub const SIMULATED_NODE: &str = "sim.kobune.dev/simulated";
/// Service annotation of the load model: requests per second offered to it, e.g. `500`.
pub const SIM_RPS: &str = "sim.kobune.dev/rps";
/// Pod annotation of the load model: CPU-seconds that one request costs, as a quantity, e.g. `10m`.
pub const SIM_CPU_PER_REQUEST: &str = "sim.kobune.dev/cpu-per-request";
/// Pod annotation of the load model: CPU use without any load, as a quantity, e.g. `5m`.
pub const SIM_CPU: &str = "sim.kobune.dev/cpu";
/// Pod annotation of the load model: memory in use, as a quantity, e.g. `64Mi`.
pub const SIM_MEMORY: &str = "sim.kobune.dev/memory";

/// Annotation of a NodeClaim: what its instance costs, in US dollars per hour, e.g. `0.0336`.
pub const PRICE: &str = "kobune.dev/dollars-per-hour";
