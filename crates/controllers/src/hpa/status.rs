//! The status of an autoscaler, written when it says something new.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler as Hpa, HorizontalPodAutoscalerCondition as Condition,
    HorizontalPodAutoscalerStatus as Status, MetricStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

/// A status in which only measured values differ is written this often at most.
const METRICS_ONLY: Duration = Duration::from_secs(5);

/// The status as it will be.
pub(super) struct StatusDraft {
    former: Status,
    status: Status,
}

impl StatusDraft {
    /// Starts from the present status.
    pub fn of(hpa: &Hpa) -> Self {
        let former = hpa.status.clone().unwrap_or_default();
        let mut status = former.clone();
        status.observed_generation = hpa.metadata.generation;
        Self { former, status }
    }

    /// Sets a condition; the time of its last transition is kept unless its status changes.
    pub fn condition(&mut self, type_: &str, holds: bool, reason: &str, message: &str) {
        let status = if holds { "True" } else { "False" };
        let conditions = self.status.conditions.get_or_insert_default();
        let known = conditions.iter_mut().find(|condition| condition.type_ == type_);
        let since = match &known {
            Some(known) if known.status == status => known.last_transition_time.clone(),
            _ => Some(Time::from(base::clock::now())),
        };
        let condition = Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_transition_time: since,
        };
        match known {
            Some(known) => *known = condition,
            None => conditions.push(condition),
        }
    }

    /// Sets how many replicas there are; the wish is the same until something else is decided.
    pub fn current_replicas(&mut self, replicas: i32) {
        self.status.current_replicas = Some(replicas);
        self.status.desired_replicas = replicas;
    }

    /// Sets how many there should be.
    pub fn desired_replicas(&mut self, replicas: i32) {
        self.status.desired_replicas = replicas;
    }

    /// Notes that the target was scaled.
    pub fn rescaled(&mut self, now: Timestamp) {
        self.status.last_scale_time = Some(Time::from(now));
    }

    /// Sets what the metrics show.
    pub fn metrics(&mut self, metrics: Vec<MetricStatus>) {
        self.status.current_metrics = (!metrics.is_empty()).then_some(metrics);
    }

    /// Writes the status if it says something new; measured values alone not more often than every
    /// few seconds. `written` is when it was last written.
    pub async fn write(
        self,
        client: &kube::Client,
        hpa: &Hpa,
        written: &mut Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(), kube::Error> {
        if self.status == self.former {
            return Ok(());
        }
        let mut but_for_metrics = self.status.clone();
        but_for_metrics.current_metrics.clone_from(&self.former.current_metrics);
        let recent = written.is_some_and(|written| now < written + METRICS_ONLY);
        if recent && but_for_metrics == self.former {
            return Ok(());
        }
        let namespace = hpa.metadata.namespace.as_deref().unwrap_or("default");
        let api: Api<Hpa> = Api::namespaced(client.clone(), namespace);
        let name = hpa.metadata.name.as_deref().unwrap_or("");
        let patch = json!({"status": self.status});
        match api.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Ok(_) => *written = Some(now),
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
