//! What an autoscaler scales: any object with a scale subresource.

use api::selector::Selector;
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler as Hpa;
use kube::core::GroupVersionKind;
use serde_json::json;

use crate::Error;

/// The target of an autoscaler and its present scale.
pub(super) struct Target {
    /// Path of the scale subresource.
    path: String,
    /// The present scale.
    pub scale: Scale,
    /// Which pods belong to it.
    pub selector: Selector,
}

/// Why there is no target.
#[derive(Debug, thiserror::Error)]
pub(super) enum TargetError {
    /// The API says so.
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// The request could not be made.
    #[error("the target's name or kind is unusable: {0}")]
    Request(#[from] http::Error),
    /// It has no selector.
    #[error("selector is required")]
    NoSelector,
    /// Its selector cannot be read.
    #[error("couldn't convert selector into a corresponding internal selector object: {0}")]
    Selector(#[from] api::selector::ParseError),
}

impl From<TargetError> for Error {
    fn from(error: TargetError) -> Self {
        match error {
            TargetError::Api(error) => Error::Api(error),
            other => Error::NotYet(other.to_string()),
        }
    }
}

impl Target {
    /// Finds the target and asks for its scale.
    pub async fn find(client: &kube::Client, hpa: &Hpa) -> Result<Self, TargetError> {
        let target = &hpa.spec.scale_target_ref;
        let (group, version) = match target.api_version.as_deref().unwrap_or("v1").split_once('/') {
            Some((group, version)) => (group, version),
            None => ("", target.api_version.as_deref().unwrap_or("v1")),
        };
        let namespace = hpa.metadata.namespace.as_deref().unwrap_or("default");
        let plural = match (group, target.kind.as_str()) {
            ("apps", "Deployment") => "deployments".to_owned(),
            ("apps", "StatefulSet") => "statefulsets".to_owned(),
            ("apps", "ReplicaSet") => "replicasets".to_owned(),
            ("", "ReplicationController") => "replicationcontrollers".to_owned(),
            (group, kind) => {
                let gvk = GroupVersionKind::gvk(group, version, kind);
                kube::discovery::pinned_kind(client, &gvk).await?.0.plural
            }
        };
        let prefix =
            if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
        let path = format!("{prefix}/namespaces/{namespace}/{plural}/{}/scale", target.name);
        let scale: Scale = client.request(http::Request::get(&path).body(Vec::new())?).await?;
        let selector = scale.status.as_ref().and_then(|status| status.selector.as_deref()).unwrap_or("");
        if selector.is_empty() {
            return Err(TargetError::NoSelector);
        }
        let selector = Selector::parse(selector)?;
        Ok(Self { path, scale, selector })
    }

    /// Sets the replicas.
    pub async fn set_replicas(&self, client: &kube::Client, replicas: i32) -> Result<(), TargetError> {
        let patch = json!({"spec": {"replicas": replicas}});
        let request = http::Request::patch(&self.path)
            .header(http::header::CONTENT_TYPE, "application/merge-patch+json")
            .body(patch.to_string().into_bytes())?;
        client.request::<Scale>(request).await?;
        Ok(())
    }
}
