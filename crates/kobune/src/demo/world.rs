//! What the demo sees: the cluster through its API, as any client would.

use std::collections::BTreeMap;

use anyhow::Result;
use api::karpenter::NodeClaim;
use api::names;
use cluster::{Informer, Informers};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Node, Pod, Service};

use super::load::{Load, Requests};
use super::manifests::{self, APP, CPU_LIMIT_MILLI, CPU_PER_REQUEST_MILLI};

/// Informers of everything that the demo shows.
pub struct World {
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    claims: Informer<NodeClaim>,
    deployments: Informer<Deployment>,
    autoscalers: Informer<HorizontalPodAutoscaler>,
    services: Informer<Service>,
    usage: Informer<api::usage::NodeUsage>,
    traffic: Traffic,
}

/// Where the requests come from.
pub enum Traffic {
    /// There are none: simulated pods use CPU as if there were, by an annotation of the Service.
    Simulated(kube::Client),
    /// From a client in this process.
    Real(Load),
}

/// The world at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// Requests per second offered.
    pub rps: f64,
    /// Share of them that is served, or that the ready pods can serve if simulated; from 0 to 1.
    pub served: f64,
    /// CPU per running pod in millicores, as last reported.
    pub cpu_milli: f64,
    /// Replicas that the autoscaler wants.
    pub wanted: i32,
    /// Replicas that the Deployment asks for.
    pub replicas: i32,
    /// Pods that are there and not on their way out.
    pub pods: usize,
    /// Those of them that have no node yet.
    pub pending: usize,
    /// Those of them that serve.
    pub ready: usize,
    /// Pods on their way out.
    pub leaving: usize,
    /// Nodes ordered or there, by capacity type.
    pub nodes: BTreeMap<String, usize>,
    /// Nodes that take pods.
    pub nodes_ready: usize,
    /// What the nodes cost, in dollars per hour.
    pub dollars_per_hour: f64,
    /// What became of the requests, if they are real.
    pub requests: Option<Requests>,
}

impl View {
    /// Nodes ordered or there.
    pub fn node_count(&self) -> usize {
        self.nodes.values().sum()
    }

    /// `2 on-demand + 5 spot`.
    pub fn nodes_text(&self) -> String {
        let parts: Vec<_> = self.nodes.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        if parts.is_empty() { "0".to_owned() } else { parts.join(" + ") }
    }

    /// Whether all of the traffic is served.
    pub fn is_served(&self) -> bool {
        self.served > 0.995
    }

    /// What the pods cost where nodes are bought, and how quickly they answer where requests are real.
    pub fn standing(&self) -> String {
        let pods = if self.ready == 1 { "1 pod".to_owned() } else { format!("{} pods", self.ready) };
        match &self.requests {
            None => format!("{pods} on {} nodes for ${:.3}/h", self.nodes_text(), self.dollars_per_hour),
            Some(requests) => {
                format!("{pods}, {:.0} % served in {}", self.served * 100.0, requests.latency_text())
            }
        }
    }
}

impl World {
    /// Starts to watch.
    pub fn new(informers: &Informers, traffic: Traffic) -> Self {
        Self {
            pods: informers.of(),
            nodes: informers.of(),
            claims: informers.of(),
            deployments: informers.of(),
            autoscalers: informers.of(),
            services: informers.of(),
            usage: informers.of(),
            traffic,
        }
    }

    /// Sets the requests per second offered to the application.
    pub async fn set_traffic(&self, rps: f64) -> Result<()> {
        match &self.traffic {
            Traffic::Simulated(client) => manifests::set_traffic(client, rps).await?,
            Traffic::Real(load) => load.set_rate(rps),
        }
        Ok(())
    }

    /// The world now.
    pub fn view(&self) -> View {
        let mut view = View::default();
        self.pods.for_each(|pod| {
            if pod.metadata.deletion_timestamp.is_some() {
                view.leaving += 1;
            } else {
                view.pods += 1;
                view.pending += usize::from(pod.spec.as_ref().is_none_or(|spec| spec.node_name.is_none()));
                view.ready += usize::from(is_ready(pod));
            }
        });
        self.claims.for_each(|claim| {
            let labels = claim.metadata.labels.as_ref();
            let kind = labels.and_then(|labels| labels.get(names::CAPACITY_TYPE));
            if let Some(kind) = kind.filter(|_| claim.metadata.deletion_timestamp.is_none()) {
                *view.nodes.entry(kind.clone()).or_default() += 1;
            }
            view.dollars_per_hour += price_of(claim);
        });
        self.nodes.for_each(|node| {
            let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
            view.nodes_ready += usize::from(taints.is_none_or(Vec::is_empty));
        });
        if let Some(autoscaler) = self.autoscalers.get("default", APP) {
            view.wanted = autoscaler.status.as_ref().map_or(0, |status| status.desired_replicas);
        }
        if let Some(deployment) = self.deployments.get("default", APP) {
            view.replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0);
        }
        self.measure_traffic(&mut view);
        view
    }

    fn measure_traffic(&self, view: &mut View) {
        match &self.traffic {
            Traffic::Simulated(_) => self.simulated_traffic(view),
            Traffic::Real(load) => {
                let requests = load.requests();
                view.rps = load.rate();
                view.served = requests.recent_share;
                view.requests = Some(requests);
            }
        }
        let (mut cpu, mut measured) = (0, 0);
        self.usage.for_each(|node| {
            for pod in &node.pods {
                cpu += pod.containers.iter().map(|container| container.cpu_milli).sum::<i64>();
                measured += 1;
            }
        });
        view.cpu_milli = if measured > 0 { cpu as f64 / f64::from(measured) } else { 0.0 };
    }

    fn simulated_traffic(&self, view: &mut View) {
        if let Some(service) = self.services.get("default", APP) {
            let annotation = service.metadata.annotations.as_ref().and_then(|all| all.get(names::SIM_RPS));
            view.rps = annotation.and_then(|rps| rps.parse().ok()).unwrap_or(0.0);
        }
        let per_pod = CPU_LIMIT_MILLI / CPU_PER_REQUEST_MILLI;
        view.served = if view.rps > 0.0 { (view.ready as f64 * per_pod / view.rps).min(1.0) } else { 1.0 };
    }
}

/// Whether a pod serves.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// What the claim's instance costs, in dollars per hour.
fn price_of(claim: &NodeClaim) -> f64 {
    let annotations = claim.metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(names::PRICE)).and_then(|price| price.parse().ok()).unwrap_or(0.0)
}
