//! What Kobune serves besides upstream's kinds.

use super::*;
use crate::columns::platform as tables;

/// karpenter.sh, metrics.kobune.dev, explain.kobune.dev and metrics.k8s.io.
pub fn kinds() -> Vec<Kind> {
    let explain =
        Group { name: "explain.kobune.dev", version: "v1alpha1", package: "dev.kobune.explain.v1alpha1" };
    let karpenter = Group { name: "karpenter.sh", version: "v1", package: "sh.karpenter.v1" };
    let metrics = Group {
        name: "metrics.k8s.io",
        version: "v1beta1",
        package: "io.k8s.metrics.pkg.apis.metrics.v1beta1",
    };
    let usage =
        Group { name: "metrics.kobune.dev", version: "v1alpha1", package: "dev.kobune.metrics.v1alpha1" };
    [
        explain.namespaced("Decision", "decisions").table(tables::DECISION, tables::decision),
        karpenter
            .cluster("NodeClaim", "nodeclaims")
            .category("karpenter")
            .status()
            .table(tables::NODE_CLAIM, tables::node_claim),
        karpenter
            .cluster("NodePool", "nodepools")
            .category("karpenter")
            .status()
            .table(tables::NODE_POOL, tables::node_pool),
        metrics
            .cluster("NodeMetrics", "nodes")
            .singular("")
            .verbs(Verbs::Read)
            .backend(Backend::Virtual)
            .table(tables::NODE_METRICS, tables::node_metrics),
        metrics
            .namespaced("PodMetrics", "pods")
            .singular("")
            .verbs(Verbs::Read)
            .backend(Backend::Virtual)
            .table(tables::POD_METRICS, tables::pod_metrics),
        usage
            .cluster("NodeUsage", "nodeusages")
            .backend(Backend::Ephemeral)
            .create_on_update()
            .table(columns::NAME_AGE, columns::name_age),
    ]
    .into_iter()
    .map(Kind::from)
    .collect()
}
