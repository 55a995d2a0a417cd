//! The scheduler's writes to the API server.

use client::{EventType, Recorder};
use http::{Method, Request, StatusCode};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::client::Body;
use scheduling::PodKey;
use serde_json::{Value, json};

use crate::pod::Identity;
use crate::state::{BindOutcome, Binding, Report};

/// Binds a pod. Anything but success is logged here.
pub(crate) async fn bind(client: &kube::Client, binding: &Binding) -> BindOutcome {
    let pod = &binding.pod;
    let body = json!({
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": pod.name(), "namespace": pod.namespace(), "uid": &*pod.uid},
        "target": {"apiVersion": "v1", "kind": "Node", "name": &*binding.node},
    });
    let uri = format!("/api/v1/namespaces/{}/pods/{}/binding", pod.namespace(), pod.name());
    match send(client, Method::POST, &uri, "application/json", &body).await {
        Ok(()) => BindOutcome::Done,
        Err(Refused { status: Some(StatusCode::NOT_FOUND), .. }) => BindOutcome::Gone,
        Err(error) => {
            tracing::debug!(pod = %pod.key, node = %binding.node, error = error.text, "binding failed");
            BindOutcome::Failed
        }
    }
}

/// Tells the pod why it is not placed: condition `PodScheduled` and nominated node.
pub(crate) async fn report(client: &kube::Client, report: &Report) {
    let mut condition = json!({
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": &*report.refusal.message,
        "lastProbeTime": null,
    });
    if let Some(since) = report.transition.as_deref() {
        condition["lastTransitionTime"] = since.into();
    } else {
        condition["lastTransitionTime"] = base::clock::rfc3339(base::clock::now()).into();
    }
    if let Some(generation) = report.generation {
        condition["observedGeneration"] = generation.into();
    }
    let mut status = json!({"conditions": [condition]});
    if let Some(node) = &report.nominated {
        status["nominatedNodeName"] = Value::from(&**node);
    }
    patch_status(client, &report.pod.key, &json!({"metadata": {"uid": &*report.pod.uid}, "status": status}))
        .await;
}

/// Deletes a pod to make room for a more important one, as upstream does: a condition first, so that
/// the reason can be read from the pod.
pub(crate) async fn evict(
    client: &kube::Client,
    victim: &Identity,
    preemptor: &Identity,
    node: &str,
    recorder: &Recorder,
) {
    let condition = json!({
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "PreemptionByScheduler",
        "message": "default-scheduler: preempting to accommodate a higher priority pod",
        "lastProbeTime": null,
        "lastTransitionTime": base::clock::rfc3339(base::clock::now()),
    });
    let status = json!({"metadata": {"uid": &*victim.uid}, "status": {"conditions": [condition]}});
    patch_status(client, &victim.key, &status).await;
    let uri = format!("/api/v1/namespaces/{}/pods/{}", victim.namespace(), victim.name());
    let exactly = json!({"preconditions": {"uid": &*victim.uid}});
    match send(client, Method::DELETE, &uri, "application/json", &exactly).await {
        Ok(()) => {
            let message = format!("Preempted by pod {} on node {node}", preemptor.uid);
            recorder.event(&reference(victim), EventType::Normal, "Preempted", message);
        }
        // It is gone already; the room is there.
        Err(Refused { status: Some(StatusCode::NOT_FOUND | StatusCode::CONFLICT), .. }) => {}
        Err(error) => {
            tracing::warn!(pod = %victim.key, preemptor = %preemptor.key, error = error.text, "preemption failed")
        }
    }
}

/// The reference by which events name a pod of which only the identity is known.
pub(crate) fn reference(pod: &Identity) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: Some(pod.namespace().to_owned()),
        name: Some(pod.name().to_owned()),
        uid: Some(pod.uid.to_string()),
        ..ObjectReference::default()
    }
}

async fn patch_status(client: &kube::Client, pod: &PodKey, body: &Value) {
    let Some((namespace, name)) = pod.split_once('/') else { return };
    let uri = format!("/api/v1/namespaces/{namespace}/pods/{name}/status");
    if let Err(error) =
        send(client, Method::PATCH, &uri, "application/strategic-merge-patch+json", body).await
    {
        // The pod may be gone or replaced meanwhile; then there is nobody to tell.
        tracing::debug!(%pod, error = error.text, "the pod's status could not be patched");
    }
}

/// Why a write did not work.
struct Refused {
    /// The server's answer; `None` when there was none.
    status: Option<StatusCode>,
    text: String,
}

/// Sends a write and throws away the object in the answer.
async fn send(
    client: &kube::Client,
    method: Method,
    uri: &str,
    content_type: &str,
    body: &Value,
) -> Result<(), Refused> {
    let failed = |text: String| Refused { status: None, text };
    let request = Request::builder()
        .method(method)
        .uri(uri)
        .header(http::header::CONTENT_TYPE, content_type)
        .header(http::header::ACCEPT, "application/json")
        .body(Body::from(body.to_string().into_bytes()))
        .map_err(|error| failed(error.to_string()))?;
    let response = client.send(request).await.map_err(|error| failed(error.to_string()))?;
    let status = response.status();
    let body = response.into_body().collect_bytes().await.map_err(|error| failed(error.to_string()))?;
    if status.is_success() {
        return Ok(());
    }
    let message = serde_json::from_slice::<Value>(&body)
        .ok()
        .and_then(|status| Some(status["message"].as_str()?.to_owned()));
    Err(Refused { status: Some(status), text: message.unwrap_or_else(|| status.to_string()) })
}
