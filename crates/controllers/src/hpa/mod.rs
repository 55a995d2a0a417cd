//! HorizontalPodAutoscaler: scales workloads by what their pods use.
//!
//! The arithmetic is `scaling::hpa`. This module gathers what it needs, acts when usage arrives
//! instead of on a tick, and says what it did in status, events and a decision record.
//! Source: `pkg/controller/podautoscaler`.

mod decision;
mod metrics;
mod status;
mod target;
mod usage;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use client::{EventType, Informer, Next, Recorder, WorkQueue, key_of, reference_to, run_workers};
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler as Hpa;
use k8s_openapi::api::core::v1::Pod;
use scaling::hpa::{History, Limits, normalize};

use crate::{Context, Error};
use metrics::{Evaluation, evaluate};
use status::StatusDraft;
use target::Target;
use usage::Usages;

/// Usage that arrives within this time is acted on together.
const GATHER: Duration = Duration::from_millis(200);
/// While a stabilisation window or a rate policy holds a change back, it is looked at this often.
const HELD_BACK: Duration = Duration::from_secs(1);
/// An autoscaler is looked at this often even if nothing is heard, as upstream's sync period.
const SYNC: Duration = Duration::from_secs(15);
/// Autoscalers worked on at the same time.
const WORKERS: usize = 8;

/// Runs the controller until the context's token is cancelled.
pub async fn run(context: Context) {
    let hpas: Informer<Hpa> = context.informers.of();
    let pods: Informer<Pod> = context.informers.of();
    let queue: WorkQueue<String> = WorkQueue::new();
    let usages = Usages::start(&context, &hpas, &queue).await;
    let on_change = queue.clone();
    hpas.on_event(move |event| on_change.add(key_of(event.object().as_ref())));
    let recorder = context.recorder("horizontal-pod-autoscaler");
    let autoscaler = Arc::new(Autoscaler {
        client: context.client.clone(),
        hpas,
        pods,
        usages,
        recorder,
        memory: Mutex::default(),
    });
    autoscaler.hpas.synced().await;
    autoscaler.pods.synced().await;
    run_workers(
        queue,
        WORKERS,
        move |key: String| {
            let autoscaler = autoscaler.clone();
            async move { autoscaler.reconcile(&key).await }
        },
        context.stop.clone(),
    )
    .await;
}

struct Autoscaler {
    client: kube::Client,
    hpas: Informer<Hpa>,
    pods: Informer<Pod>,
    usages: Usages,
    recorder: Recorder,
    /// What each autoscaler remembers, by key; gone with the autoscaler.
    memory: Mutex<BTreeMap<String, Memory>>,
}

/// What one autoscaler remembers between its decisions.
#[derive(Clone, Default)]
struct Memory {
    history: History,
    /// When its status was last written.
    written: Option<Timestamp>,
}

/// How the replicas should change.
struct Decision {
    replicas: i32,
    /// Why, as the SuccessfulRescale event says it; empty when nothing changes.
    reason: String,
    /// Whether bounds or windows hold back what the metrics ask for.
    held_back: bool,
}

impl Autoscaler {
    async fn reconcile(&self, key: &str) -> Result<Next, Error> {
        let Some(hpa) = self.hpas.get_key(key) else {
            self.memory.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
            return Ok(Next::Wait);
        };
        let mut memory =
            self.memory.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned().unwrap_or_default();
        let result = self.autoscale(&hpa, &mut memory).await;
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned(), memory);
        result
    }

    async fn autoscale(&self, hpa: &Arc<Hpa>, memory: &mut Memory) -> Result<Next, Error> {
        let now = base::clock::now();
        let mut draft = StatusDraft::of(hpa);
        let target = match Target::find(&self.client, hpa).await {
            Ok(target) => target,
            Err(error) => {
                let message =
                    format!("the HPA controller was unable to get the target's current scale: {error}");
                self.warn(hpa, "FailedGetScale", &error.to_string());
                draft.condition("AbleToScale", false, "FailedGetScale", &message);
                draft.write(&self.client, hpa, &mut memory.written, now).await?;
                return Ok(Next::After(SYNC));
            }
        };
        draft.condition(
            "AbleToScale",
            true,
            "SucceededGetScale",
            "the HPA controller was able to get the target's current scale",
        );
        let current = replicas_of(&target.scale);
        memory.history.start_with(current, now);
        draft.current_replicas(current);
        let evaluation = self.evaluate(hpa, &target, current, now);
        let Some(decision) = self.decide(hpa, current, &evaluation, &mut memory.history, &mut draft, now)
        else {
            draft.metrics(evaluation.statuses);
            draft.write(&self.client, hpa, &mut memory.written, now).await?;
            return Ok(Next::After(SYNC));
        };
        if decision.replicas != current {
            self.rescale(hpa, &target, current, &decision, &evaluation, &mut draft).await?;
            memory.history.scaled(current, decision.replicas, now);
            draft.rescaled(now);
        }
        draft.desired_replicas(decision.replicas);
        draft.metrics(evaluation.statuses);
        draft.write(&self.client, hpa, &mut memory.written, now).await?;
        Ok(Next::After(if decision.held_back { HELD_BACK } else { SYNC }))
    }

    fn evaluate(&self, hpa: &Hpa, target: &Target, current: i32, now: Timestamp) -> Evaluation {
        let namespace = hpa.metadata.namespace.as_deref().unwrap_or("");
        let pods = self.pods.in_namespace(namespace);
        let selected =
            pods.into_iter().filter(|pod| target.selector.matches_optional(pod.metadata.labels.as_ref()));
        evaluate(hpa, &selected.collect::<Vec<_>>(), &self.usages, current, now)
    }

    /// What to do; `None` when the metrics say nothing that may be acted on.
    fn decide(
        &self,
        hpa: &Arc<Hpa>,
        current: i32,
        evaluation: &Evaluation,
        history: &mut History,
        draft: &mut StatusDraft,
        now: Timestamp,
    ) -> Option<Decision> {
        let limits = limits_of(hpa);
        let forced = |replicas: i32, reason: &str| {
            Some(Decision { replicas, reason: reason.to_owned(), held_back: false })
        };
        if current == 0 && limits.min != 0 {
            let message = "scaling is disabled since the replica count of the target is zero";
            draft.condition("ScalingActive", false, "ScalingDisabled", message);
            return forced(0, "");
        }
        if current > limits.max {
            return forced(limits.max, "Current number of replicas above Spec.MaxReplicas");
        }
        if current < limits.min {
            return forced(limits.min, "Current number of replicas below Spec.MinReplicas");
        }
        let (wanted, metric) = match evaluation.outcome(current) {
            Ok(wanted) => wanted,
            Err((reason, message)) => {
                self.warn(hpa, reason, &message);
                self.warn(hpa, "FailedComputeMetricsReplicas", &message);
                let message = format!("the HPA was unable to compute the replica count: {message}");
                draft.condition("ScalingActive", false, reason, &message);
                return None;
            }
        };
        let message = format!("the HPA was able to successfully calculate a replica count from {metric}");
        draft.condition("ScalingActive", true, "ValidMetricFound", &message);
        let normalized = normalize(history, &limits, current, wanted, now);
        draft.condition("AbleToScale", true, normalized.able.0, normalized.able.1);
        draft.condition("ScalingLimited", normalized.limited.0, normalized.limited.1, normalized.limited.2);
        let reason = match wanted.cmp(&current) {
            std::cmp::Ordering::Greater => format!("{metric} above target"),
            std::cmp::Ordering::Less => "All metrics below target".to_owned(),
            std::cmp::Ordering::Equal => String::new(),
        };
        Some(Decision {
            replicas: normalized.replicas,
            reason,
            held_back: normalized.replicas != wanted.clamp(limits.min, limits.max),
        })
    }

    async fn rescale(
        &self,
        hpa: &Arc<Hpa>,
        target: &Target,
        current: i32,
        decision: &Decision,
        evaluation: &Evaluation,
        draft: &mut StatusDraft,
    ) -> Result<(), Error> {
        let (replicas, reason) = (decision.replicas, &decision.reason);
        if let Err(error) = target.set_replicas(&self.client, replicas).await {
            let message = format!("New size: {replicas}; reason: {reason}; error: {error}");
            self.warn(hpa, "FailedRescale", &message);
            return Err(error.into());
        }
        let message = format!("the HPA controller was able to update the target scale to {replicas}");
        draft.condition("AbleToScale", true, "SucceededRescale", &message);
        let message = format!("New size: {replicas}; reason: {reason}");
        self.recorder.event(&reference_to(hpa.as_ref()), EventType::Normal, "SuccessfulRescale", message);
        decision::record(&self.client, hpa, current, replicas, reason, evaluation).await;
        Ok(())
    }

    fn warn(&self, hpa: &Arc<Hpa>, reason: &str, message: &str) {
        self.recorder.event(&reference_to(hpa.as_ref()), EventType::Warning, reason, message);
    }
}

fn replicas_of(scale: &Scale) -> i32 {
    scale.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0)
}

fn limits_of(hpa: &Hpa) -> Limits {
    let behavior = hpa.spec.behavior.as_ref().map(|behavior| {
        (
            metrics::rules(behavior.scale_up.as_ref(), metrics::Direction::Up),
            metrics::rules(behavior.scale_down.as_ref(), metrics::Direction::Down),
        )
    });
    Limits { min: hpa.spec.min_replicas.unwrap_or(1), max: hpa.spec.max_replicas, behavior }
}
