//! The record behind `kobune explain hpa NAME`.

use api::explain::{Alternative, DecisionRecord, Fact};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler as Hpa;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

use super::metrics::Evaluation;

/// Records why the replicas were changed. A cluster without the Decision kind keeps no records.
pub(super) async fn record(
    client: &kube::Client,
    hpa: &Hpa,
    from: i32,
    to: i32,
    reason: &str,
    evaluation: &Evaluation,
) {
    let target = &hpa.spec.scale_target_ref;
    let fact = |name: &str, value: String| Fact { name: name.to_owned(), value };
    let mut inputs = vec![
        fact("target", format!("{} {}", target.kind, target.name)),
        fact("bounds", format!("{} to {}", hpa.spec.min_replicas.unwrap_or(1), hpa.spec.max_replicas)),
    ];
    let mut rejected = Vec::new();
    for proposal in &evaluation.proposals {
        match proposal {
            Ok((name, proposal)) => {
                let shown = proposal
                    .utilization
                    .map_or_else(String::new, |percent| format!("{percent} % of request, "));
                inputs.push(fact(name, format!("{shown}{} per pod", proposal.average)));
                if proposal.replicas != to {
                    rejected.push(Alternative {
                        option: format!("{} replicas", proposal.replicas),
                        reason: format!("what {name} asks for, before bounds and behaviour"),
                        ..Alternative::default()
                    });
                }
            }
            Err((reason, message)) => inputs.push(fact(reason, message.clone())),
        }
    }
    let record = DecisionRecord {
        time: Some(MicroTime(base::clock::now())),
        decider: "hpa".to_owned(),
        action: "Rescale".to_owned(),
        summary: format!("{} {} from {from} to {to} replicas: {reason}", target.kind, target.name),
        inputs,
        chosen: vec![Alternative {
            option: format!("{to} replicas"),
            reason: reason.to_owned(),
            ..Alternative::default()
        }],
        rejected,
        ..DecisionRecord::default()
    };
    client::record_decision(client, hpa, record).await;
}
