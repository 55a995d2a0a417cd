//! `metrics.kobune.dev/v1alpha1` NodeUsage: what a node and its pods use right now.
//!
//! Each node writes its own object about once a second. The objects are kept in memory only;
//! `metrics.k8s.io` is computed from them, and autoscalers watch them, so that they act when usage
//! arrives instead of on a tick. And `metrics.k8s.io/v1beta1`, for clusters that are not ours.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time};
use serde::{Deserialize, Serialize};

use crate::resource::{object, type_meta};

/// Usage of one node and of the pods on it. Its name is the node's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeUsage {
    /// Always `metrics.kobune.dev/v1alpha1`.
    #[serde(default)]
    pub api_version: String,
    /// Always `NodeUsage`.
    #[serde(default)]
    pub kind: String,
    /// Standard metadata.
    pub metadata: ObjectMeta,
    /// End of the interval over which CPU use was averaged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<MicroTime>,
    /// Length of that interval in milliseconds.
    #[serde(default)]
    pub window_milliseconds: i64,
    /// CPU use of the whole node in millicores.
    #[serde(default)]
    pub cpu_milli: i64,
    /// Working set of the whole node in bytes.
    #[serde(default)]
    pub memory_bytes: i64,
    /// The pods on the node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<PodUsage>,
}

object!(NodeUsage, "metrics.kobune.dev", "v1alpha1", "nodeusages", ClusterResourceScope);
type_meta!(NodeUsage);

/// Usage of one pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodUsage {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub name: String,
    /// Its containers.
    pub containers: Vec<ContainerUsage>,
}

/// Usage of one container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerUsage {
    /// Name of the container.
    pub name: String,
    /// CPU use in millicores.
    pub cpu_milli: i64,
    /// Working set in bytes.
    pub memory_bytes: i64,
}

/// `metrics.k8s.io/v1beta1` PodMetrics.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodMetrics {
    /// Standard metadata of the pod: name, namespace, labels.
    pub metadata: ObjectMeta,
    /// End of the interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Time>,
    /// Length of the interval as a Go duration.
    #[serde(default)]
    pub window: String,
    /// Usage of each container.
    #[serde(default)]
    pub containers: Vec<ContainerMetrics>,
}

object!(PodMetrics, "metrics.k8s.io", "v1beta1", "pods", NamespaceResourceScope);

/// Usage of one container in `metrics.k8s.io`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ContainerMetrics {
    /// Name of the container.
    pub name: String,
    /// `cpu` and `memory`.
    pub usage: BTreeMap<String, Quantity>,
}

/// `metrics.k8s.io/v1beta1` NodeMetrics.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeMetrics {
    /// Standard metadata of the node: name, labels.
    pub metadata: ObjectMeta,
    /// End of the interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Time>,
    /// Length of the interval as a Go duration.
    #[serde(default)]
    pub window: String,
    /// `cpu` and `memory`.
    pub usage: BTreeMap<String, Quantity>,
}

object!(NodeMetrics, "metrics.k8s.io", "v1beta1", "nodes", ClusterResourceScope);
