//! `explain.kobune.dev/v1alpha1` Decision: why something is as it is.
//!
//! Whoever decides (scheduler, autoscalers) writes one Decision per subject; the latest decision
//! wins and a short history stays inside. An ownerReference to the subject lets garbage collection
//! remove it with the subject. `kobune explain` prints it.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use serde::{Deserialize, Serialize};

use crate::resource::{object, type_meta};

/// At most this many earlier decisions are kept in a Decision.
pub const HISTORY_LIMIT: usize = 5;

/// The record of the latest decision about one subject.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// Always `explain.kobune.dev/v1alpha1`.
    #[serde(default)]
    pub api_version: String,
    /// Always `Decision`.
    #[serde(default)]
    pub kind: String,
    /// Standard metadata. The name is `<subject kind in lower case>-<subject name>`.
    pub metadata: ObjectMeta,
    /// What was decided about: a Pod, Node, NodeClaim, HorizontalPodAutoscaler, …
    #[serde(default)]
    pub subject: ObjectReference,
    /// The latest decision.
    #[serde(default)]
    pub latest: DecisionRecord,
    /// Earlier decisions, newest first, at most [`HISTORY_LIMIT`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<DecisionRecord>,
}

object!(Decision, "explain.kobune.dev", "v1alpha1", "decisions", NamespaceResourceScope);
type_meta!(Decision);

/// One decision: inputs, choice, rejected alternatives, money.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DecisionRecord {
    /// When it was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<MicroTime>,
    /// Who decided: `scheduler`, `provisioner`, `consolidation`, `hpa`, …
    #[serde(default)]
    pub decider: String,
    /// What was decided, in CamelCase: `Unschedulable`, `LaunchNodes`, `RemoveEmptyNode`, `Rescale`, …
    #[serde(default)]
    pub action: String,
    /// One sentence for people.
    #[serde(default)]
    pub summary: String,
    /// The facts that went in, as name and text, e.g. `pending pods` = `12 (3 cpu, 6Gi)`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Fact>,
    /// What was chosen; may be empty (nothing possible).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chosen: Vec<Alternative>,
    /// What was considered and rejected, best first, bounded by the decider.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<Alternative>,
    /// Cost per hour before the decision in US dollars, where money is involved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dollars_per_hour_before: Option<f64>,
    /// Cost per hour after it in US dollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dollars_per_hour_after: Option<f64>,
}

/// A named input of a decision.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fact {
    /// What it is.
    pub name: String,
    /// Its value as people read it.
    pub value: String,
}

/// Something that could be done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alternative {
    /// What it is, e.g. `2 × m7g.large spot in us-east-1a` or `node n1`.
    pub option: String,
    /// Why it was chosen or rejected.
    #[serde(default)]
    pub reason: String,
    /// What it costs per hour in US dollars, where money is involved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dollars_per_hour: Option<f64>,
    /// How often it applies (nodes that failed for the reason, instances bought); 0 where meaningless.
    #[serde(default)]
    pub count: i64,
}

impl Decision {
    /// Replaces the latest decision and moves the former one into the history.
    pub fn record(&mut self, record: DecisionRecord) {
        let former = std::mem::replace(&mut self.latest, record);
        if former.time.is_some() {
            self.history.insert(0, former);
            self.history.truncate(HISTORY_LIMIT);
        }
    }
}
