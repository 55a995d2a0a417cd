//! What the demo deploys: an application as its users would write it, and two node pools.

use anyhow::{Context, Result};
use http::{Method, Request};
use serde_json::{Value, json};

/// Name of the application, its Service and its autoscaler.
pub const APP: &str = "shop";
/// CPU that one request costs, in millicore-seconds.
pub const CPU_PER_REQUEST_MILLI: f64 = 10.0;
/// CPU that a pod may use at most, in millicores.
pub const CPU_LIMIT_MILLI: f64 = 2000.0;
/// CPU that a pod requests, in millicores.
pub const CPU_REQUEST_MILLI: f64 = 500.0;
/// Percent of its request that a pod should use.
pub const CPU_TARGET_PERCENT: f64 = 60.0;

/// Applies everything, with `rps` requests per second on the Service.
pub async fn apply_all(client: &kube::Client, rps: f64) -> Result<()> {
    for (path, object) in [
        ("/apis/karpenter.sh/v1/nodepools/base", pool("base", "on-demand", 100, json!({"cpu": "4"}))),
        ("/apis/karpenter.sh/v1/nodepools/spot", pool("spot", "spot", 10, json!({"cpu": "400"}))),
        ("/api/v1/namespaces/default/services/shop", service()),
        ("/apis/apps/v1/namespaces/default/deployments/shop", deployment()),
        ("/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers/shop", autoscaler((3, 200))),
    ] {
        apply(client, path, &object).await.with_context(|| format!("the demo's {path} was refused"))?;
    }
    set_traffic(client, rps).await
}

/// Sets the requests per second offered to the application.
pub async fn set_traffic(client: &kube::Client, rps: f64) -> Result<()> {
    let patch = json!({"metadata": {"annotations": {"sim.kobune.dev/rps": format!("{rps}")}}});
    let request = Request::builder()
        .method(Method::PATCH)
        .uri("/api/v1/namespaces/default/services/shop")
        .header("content-type", "application/merge-patch+json")
        .body(patch.to_string().into_bytes())?;
    client.request::<Value>(request).await?;
    Ok(())
}

/// Applies an object at its path.
pub async fn apply(client: &kube::Client, path: &str, object: &Value) -> Result<()> {
    let request = Request::builder()
        .method(Method::PATCH)
        .uri(format!("{path}?fieldManager=kobune-demo&fieldValidation=Strict"))
        .header("content-type", "application/apply-patch+yaml")
        .body(object.to_string().into_bytes())?;
    client.request::<Value>(request).await?;
    Ok(())
}

/// Pools with a higher weight are filled first: a small base that is never interrupted, spot above it.
fn pool(name: &str, capacity_type: &str, weight: i32, limits: Value) -> Value {
    json!({
        "apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": {"name": name},
        "spec": {
            "weight": weight,
            "limits": limits,
            "disruption": {"consolidationPolicy": "WhenEmptyOrUnderutilized", "consolidateAfter": "3s",
                "budgets": [{"nodes": "100%"}]},
            "template": {"spec": {
                "nodeClassRef": {"group": "sim.kobune.dev", "kind": "SimNodeClass", "name": "default"},
                "requirements": [
                    {"key": "karpenter.sh/capacity-type", "operator": "In", "values": [capacity_type]},
                    {"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64", "arm64"]}
                ]
            }}
        }
    })
}

fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": APP},
        "spec": {"selector": {"app": APP}, "ports": [{"port": 80}]}
    })
}

fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": APP},
        "spec": {
            "selector": {"matchLabels": {"app": APP}},
            "template": {
                "metadata": {"labels": {"app": APP}, "annotations": {
                    "sim.kobune.dev/cpu-per-request": format!("{CPU_PER_REQUEST_MILLI}m"),
                    "sim.kobune.dev/memory": "200Mi"
                }},
                "spec": {"terminationGracePeriodSeconds": 1, "containers": [{
                    "name": "web", "image": "shop:1",
                    "resources": {
                        "requests": {"cpu": format!("{CPU_REQUEST_MILLI}m"), "memory": "512Mi"},
                        "limits": {"cpu": format!("{CPU_LIMIT_MILLI}m")}
                    }
                }]}
            }
        }
    })
}

/// An autoscaler that aims at [`CPU_TARGET_PERCENT`], between the least and the most replicas given.
pub fn autoscaler((least, most): (i32, i32)) -> Value {
    json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": APP},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": APP},
            "minReplicas": least, "maxReplicas": most,
            "metrics": [{"type": "Resource", "resource": {
                "name": "cpu", "target": {"type": "Utilization", "averageUtilization": CPU_TARGET_PERCENT as i32}
            }}],
            "behavior": {
                "scaleUp": {"stabilizationWindowSeconds": 0,
                    "policies": [{"type": "Percent", "value": 1000, "periodSeconds": 5}]},
                "scaleDown": {"stabilizationWindowSeconds": 4,
                    "policies": [{"type": "Percent", "value": 100, "periodSeconds": 5}]}
            }
        }
    })
}
