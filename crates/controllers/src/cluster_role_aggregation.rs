//! Cluster roles that collect the rules of others, by label: `admin`, `edit`, `view` and whoever wants the
//! same.

use std::sync::Arc;

use api::selector::Selector;
use client::{Informer, Next, WorkQueue, key_of, run_workers};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use crate::context::{Context, Error, GATHER};

const MANAGER: &str = "clusterrole-aggregation-controller";

/// Runs the controller until the context is stopped.
pub async fn run(context: Context) {
    let roles: Informer<ClusterRole> = context.informers.of();
    let queue: WorkQueue<String> = WorkQueue::new();
    let (add, all) = (queue.clone(), roles.clone());
    // Any role may be part of any aggregation.
    roles.on_event(move |event| {
        add.add_after(key_of(event.object().as_ref()), GATHER);
        all.for_each(|role| {
            if role.aggregation_rule.is_some() {
                add.add_after(key_of(role.as_ref()), GATHER);
            }
        });
    });
    roles.synced().await;
    roles.for_each(|role| queue.add(key_of(role.as_ref())));
    let client = context.client.clone();
    let reconcile = move |name: String| {
        let (roles, client) = (roles.clone(), client.clone());
        async move { reconcile(&roles, client, &name).await }
    };
    run_workers(queue, 1, reconcile, context.stop.clone()).await;
}

async fn reconcile(roles: &Informer<ClusterRole>, client: kube::Client, name: &str) -> Result<Next, Error> {
    let Some(role) = roles.get("", name).filter(|role| role.aggregation_rule.is_some()) else {
        return Ok(Next::Wait);
    };
    let rules = collected(&role, roles.list())?;
    if role.rules.as_deref().unwrap_or_default() == rules {
        return Ok(Next::Wait);
    }
    let apply = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": name}, "rules": rules});
    let params = PatchParams::apply(MANAGER).force();
    Api::<ClusterRole>::all(client).patch(name, &params, &Patch::Apply(&apply)).await?;
    Ok(Next::Wait)
}

/// The rules of all roles that `role` selects, by name, each rule once.
fn collected(role: &ClusterRole, mut all: Vec<Arc<ClusterRole>>) -> Result<Vec<PolicyRule>, Error> {
    all.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    let selectors = role.aggregation_rule.as_ref().and_then(|rule| rule.cluster_role_selectors.as_deref());
    let mut rules: Vec<PolicyRule> = Vec::new();
    for selector in selectors.unwrap_or_default() {
        let selector = Selector::from_label_selector(selector)?;
        for other in &all {
            let selected = selector.matches_optional(other.metadata.labels.as_ref());
            if other.metadata.name == role.metadata.name || !selected {
                continue;
            }
            for rule in other.rules.iter().flatten() {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_come_in_the_order_of_names_and_once() {
        let role = |name: &str, label: &str, resource: &str| -> Arc<ClusterRole> {
            Arc::new(
                serde_json::from_value(json!({"metadata": {"name": name, "labels": {"part": label}},
                    "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": [resource]}]}))
                .unwrap(),
            )
        };
        let all = serde_json::from_value(json!({"metadata": {"name": "all", "labels": {"part": "yes"}},
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"part": "yes"}}]}}))
        .unwrap();
        let others = vec![
            role("c", "yes", "pods"),
            role("b", "yes", "nodes"),
            role("a", "no", "secrets"),
            role("d", "yes", "pods"),
        ];
        let rules = collected(&all, others).unwrap();
        let resources: Vec<_> = rules.iter().map(|rule| rule.resources.clone().unwrap()[0].clone()).collect();
        assert_eq!(resources, ["nodes", "pods"]);
    }
}
