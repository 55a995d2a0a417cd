//! Selectable fields: which labels a field selector may name, per kind, and their values.

use std::sync::Arc;

use serde_json::Value;

use crate::kind::{Fields, Kind, Refusal, Text};

impl Fields {
    /// Only `metadata.name` and `metadata.namespace`, as most kinds.
    pub fn metadata() -> Fields {
        Fields {
            labels: Arc::from([]),
            values: Arc::new(|_| Vec::new()),
            aliases: None,
            by_namespace: true,
            refusal: Refusal::OnlyMetadata,
        }
    }

    /// The labels of one row.
    pub fn of(labels: &'static [Label]) -> Fields {
        Fields {
            labels: labels.iter().map(|label| Text::Borrowed(label.name)).collect(),
            values: Arc::new(|object| labels.iter().map(|label| (label.value)(object)).collect()),
            refusal: Refusal::Plain,
            ..Fields::metadata()
        }
    }
}

/// One selectable field.
pub struct Label {
    name: &'static str,
    value: fn(&Value) -> String,
}

/// What a label in a field selector stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selected {
    /// `metadata.name`
    Name,
    /// `metadata.namespace`
    Namespace,
    /// Index into what [`Fields::values`] returns for the stored object.
    Value(usize),
}

macro_rules! label {
    ($name:literal, $pointer:literal) => {
        Label { name: $name, value: |object| text(object, $pointer) }
    };
    ($name:literal, $value:expr) => {
        Label { name: $name, value: $value }
    };
}

/// Pod.
pub const POD: &[Label] = &[
    label!("spec.nodeName", "/spec/nodeName"),
    label!("spec.restartPolicy", "/spec/restartPolicy"),
    label!("spec.schedulerName", "/spec/schedulerName"),
    label!("spec.serviceAccountName", "/spec/serviceAccountName"),
    label!("spec.hostNetwork", |pod: &Value| flag(pod, "/spec/hostNetwork")),
    label!("status.phase", "/status/phase"),
    label!("status.podIP", |pod: &Value| pod_ips(pod).first().copied().unwrap_or_default().to_owned()),
    // Upstream takes the label, but has no value for it.
    label!("status.podIPs", |_: &Value| String::new()),
    label!("status.nominatedNodeName", "/status/nominatedNodeName"),
];

/// Node.
pub const NODE: &[Label] = &[label!("spec.unschedulable", |node: &Value| flag(node, "/spec/unschedulable"))];

/// Namespace.
pub const NAMESPACE: &[Label] = &[label!("status.phase", "/status/phase")];

/// Secret.
pub const SECRET: &[Label] = &[label!("type", "/type")];

/// Service.
pub const SERVICE: &[Label] =
    &[label!("spec.clusterIP", "/spec/clusterIP"), label!("spec.type", "/spec/type")];

/// ReplicationController and ReplicaSet.
pub const REPLICAS: &[Label] =
    &[label!("status.replicas", |object: &Value| number(object, "/status/replicas"))];

/// Job.
pub const JOB: &[Label] =
    &[label!("status.successful", |object: &Value| number(object, "/status/succeeded"))];

/// CertificateSigningRequest.
pub const SIGNER: &[Label] = &[label!("spec.signerName", "/spec/signerName")];

/// ResourceSlice.
pub const RESOURCE_SLICE: &[Label] =
    &[label!("spec.nodeName", "/spec/nodeName"), label!("spec.driver", "/spec/driver")];

/// core/v1 Event.
pub const EVENT: &[Label] = &[
    label!("involvedObject.kind", "/involvedObject/kind"),
    label!("involvedObject.namespace", "/involvedObject/namespace"),
    label!("involvedObject.name", "/involvedObject/name"),
    label!("involvedObject.uid", "/involvedObject/uid"),
    label!("involvedObject.apiVersion", "/involvedObject/apiVersion"),
    label!("involvedObject.resourceVersion", "/involvedObject/resourceVersion"),
    label!("involvedObject.fieldPath", "/involvedObject/fieldPath"),
    label!("reason", "/reason"),
    label!("reportingComponent", "/reportingComponent"),
    label!("source", event_source),
    label!("type", "/type"),
];

/// events.k8s.io/v1 Event: its own names for the fields of the stored core/v1 Event.
pub const EVENT_ALIASES: &[(&str, &str)] = &[
    ("reason", "reason"),
    ("regarding.kind", "involvedObject.kind"),
    ("regarding.namespace", "involvedObject.namespace"),
    ("regarding.name", "involvedObject.name"),
    ("regarding.uid", "involvedObject.uid"),
    ("regarding.apiVersion", "involvedObject.apiVersion"),
    ("regarding.resourceVersion", "involvedObject.resourceVersion"),
    ("regarding.fieldPath", "involvedObject.fieldPath"),
    ("reportingController", "reportingComponent"),
    ("type", "type"),
];

fn text(object: &Value, pointer: &str) -> String {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn flag(object: &Value, pointer: &str) -> String {
    object.pointer(pointer).and_then(Value::as_bool).unwrap_or_default().to_string()
}

fn number(object: &Value, pointer: &str) -> String {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or_default().to_string()
}

fn pod_ips(pod: &Value) -> Vec<&str> {
    let listed = pod.pointer("/status/podIPs").and_then(Value::as_array);
    let ips: Vec<&str> = listed.into_iter().flatten().filter_map(|ip| ip.get("ip")?.as_str()).collect();
    if ips.is_empty() {
        pod.pointer("/status/podIP").and_then(Value::as_str).into_iter().collect()
    } else {
        ips
    }
}

/// The source component, or the reporting component of events made with the newer API.
fn event_source(event: &Value) -> String {
    let source = text(event, "/source/component");
    if source.is_empty() { text(event, "/reportingComponent") } else { source }
}

impl Kind {
    /// What `label` in a field selector stands for.
    ///
    /// # Errors
    /// Upstream's text for a label that is not selectable.
    pub fn selected(&self, label: &str) -> Result<Selected, String> {
        let fields = &self.fields;
        let stored = match fields.aliases {
            Some(aliases) => aliases.iter().find(|(alias, _)| *alias == label).map(|(_, stored)| *stored),
            // Clients older than v1 called the node a host.
            None if self.kind == "Pod" && label == "spec.host" => Some("spec.nodeName"),
            None => Some(label),
        };
        let index = stored.and_then(|stored| fields.labels.iter().position(|known| known == stored));
        match (label, index) {
            ("metadata.name", _) => Ok(Selected::Name),
            ("metadata.namespace", _) if fields.by_namespace => Ok(Selected::Namespace),
            (_, Some(index)) => Ok(Selected::Value(index)),
            (_, None) => Err(self.refusal(label)),
        }
    }

    fn refusal(&self, label: &str) -> String {
        match self.fields.refusal {
            Refusal::Plain => format!("field label not supported: {label}"),
            Refusal::OnlyMetadata => {
                format!(
                    "{label:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
                )
            }
            Refusal::QuotedForKind => format!("field label {label:?} not supported for {}", self.kind),
            Refusal::ForGroupVersionKind => {
                format!("field label not supported for {}, Kind={}: {label}", self.api_version(), self.kind)
            }
        }
    }
}
