//! Consolidation: nodes whose pods fit on others, or on something cheaper.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::instance::InstanceType;
use api::karpenter::NodeClaim;
use api::names;
use api::selector::Selector;
use client::reference_to;
use k8s_openapi::api::core::v1::Pod;
use scaling::consolidate::{self, Candidate, Verdict};
use scaling::pool::{Limits, Pool};
use scaling::provision::{Demand, Input, Plan};
use scheduling::{Engine, PodClass, PodKey};
use tokio::time::Instant;

use super::{BACKSTOP, CONSOLIDATE_EVERY, Look, Subject};
use crate::context::{Error, allowed_by, lock};
use crate::lifecycle::delete;
use crate::{claim, decisions, picture, provisioning, termination};

/// Nodes that are thought away per look.
const CANDIDATES_MAX: usize = 64;
/// Pods that have waited in vain for this long do not hold others up any more.
const HOPELESS: Duration = Duration::from_secs(300);
/// A replacement is not itself replaced for this long.
const REPLACEMENT_REST: Duration = Duration::from_secs(600);

/// A node that goes, since its pods fit on others.
struct Doomed {
    subject: Subject,
    moves: Vec<(PodKey, Arc<str>)>,
    saving: f64,
}

impl Look<'_> {
    /// The nodes with the places of pods that wait taken, since those have the first claim on free
    /// room; `None` while one of them fits nowhere.
    fn room(&self) -> Option<Engine> {
        let waiting = provisioning::homeless(self.context);
        let mut engine = provisioning::outlook(self.context, &self.catalogue, false);
        for pod in waiting {
            if engine.place_and_add(&pod.class).is_none() && !is_hopeless(&pod.pod) {
                return None;
            }
        }
        // What was just evicted comes back in a moment.
        let mut picture = lock(&self.context.picture);
        for claim in self.context.claims.list().iter().filter(|claim| claim::is_deleting(claim)) {
            let Some(node) = self.context.node_of_claim(claim) else { continue };
            for pod in self.context.pods_on.get(node.metadata.name.as_deref().unwrap_or_default()) {
                if picture::is_movable(&pod) && pod.metadata.deletion_timestamp.is_some() {
                    let class = picture.class_of(&pod);
                    engine.place_and_add(&class);
                }
            }
        }
        Some(engine)
    }

    /// Thinks nodes away one by one: those of the pools that are the last resort first, and of these
    /// the cheapest to disrupt. Whatever goes, its pods' places are taken for those that follow.
    pub(super) async fn consolidate(&mut self, mut subjects: Vec<Subject>) -> Result<(), Error> {
        let catalogue = self.catalogue.clone();
        let Some(mut engine) = self.room() else {
            self.at(Instant::now() + CONSOLIDATE_EVERY);
            return Ok(());
        };
        self.sort(&mut subjects);
        let daemons = provisioning::daemons(self.context);
        let (mut receiving, mut doomed) = (BTreeSet::<Arc<str>>::new(), Vec::new());
        let (mut considered, mut replacement) = (0, None);
        for subject in subjects {
            let name = subject.node.metadata.name.as_deref().unwrap_or_default();
            let blocked = self.blocked(&subject.pods);
            if considered >= CANDIDATES_MAX || receiving.contains(name) || blocked.is_some() {
                tracing::debug!(node = name, reason = blocked, "not disrupted");
                continue;
            }
            considered += 1;
            let candidate = self.candidate(&subject);
            let pools = self.pools_for(&subject);
            let input = self.input(&pools, &catalogue, &daemons);
            let economics = &self.context.config.economics;
            let replaceable = may_be_replaced(&subject.claim);
            match consolidate::consider(&engine, &candidate, &input, economics, replaceable) {
                Verdict::Keep { reason } => tracing::debug!(node = name, reason, "kept"),
                _ if !self.take_allowance(subject.pool, "Underutilized") => {}
                Verdict::Delete { moves, saving } => {
                    move_away(&mut engine, &candidate, &moves);
                    receiving.extend(moves.iter().map(|(_, node)| Arc::clone(node)));
                    doomed.push(Doomed { subject, moves, saving });
                }
                Verdict::Replace { demands, plan, saving } => {
                    // One at a time: the next look counts with the new machine.
                    replacement = Some((subject, demands, plan, saving));
                    break;
                }
            }
        }
        self.remove_underutilized(&doomed).await?;
        if let Some((subject, demands, plan, saving)) = replacement {
            let pools = self.pools_for(&subject);
            let input = self.input(&pools, &catalogue, &daemons);
            self.replace(&subject, &input, &demands, &plan, saving).await?;
            self.at(Instant::now() + CONSOLIDATE_EVERY);
        }
        // What was kept may have been kept for reasons that no event tells the end of.
        self.at(Instant::now() + BACKSTOP);
        Ok(())
    }

    fn sort(&self, subjects: &mut [Subject]) {
        subjects.sort_by(|a, b| {
            let weight = |subject: &Subject| self.pools[subject.pool].0.weight;
            let key =
                |subject: &Subject| (weight(subject), subject.pods.len(), (-subject.price * 1e6) as i64);
            key(a).cmp(&key(b)).then_with(|| claim::name(&a.claim).cmp(claim::name(&b.claim)))
        });
    }

    /// The pools that may take the pods of a node: a base that was bought on purpose is not replaced
    /// by what costs less and can vanish.
    fn pools_for(&self, subject: &Subject) -> Vec<(Pool, Limits)> {
        let weight = self.pools[subject.pool].0.weight;
        self.pools.iter().filter(|(pool, _)| pool.weight >= weight).cloned().collect()
    }

    fn input<'a>(
        &'a self,
        pools: &'a [(Pool, Limits)],
        catalogue: &'a [InstanceType],
        daemons: &'a [PodClass],
    ) -> Input<'a> {
        Input { demands: &[], pools, catalogue, backed_off: self.backed_off, daemons, price_below: None }
    }

    /// Gives nodes back whose pods fit on others.
    async fn remove_underutilized(&self, doomed: &[Doomed]) -> Result<(), Error> {
        // All are closed before the first is drained, or pods would move from one to the next.
        for Doomed { subject, .. } in doomed {
            if let Err(error) = termination::set_disrupted(self.context, &subject.node, true).await {
                tracing::debug!(%error, "a node is closed only when it is drained");
            }
        }
        for Doomed { subject, moves, saving } in doomed {
            let summary =
                format!("removed: its {} pods fit on other nodes, ${saving:.4}/h saved", moves.len());
            let mut record = self.record("DeleteUnderutilizedNode", summary, subject);
            let tell_move = |(pod, node): &(PodKey, Arc<str>)| {
                decisions::option(format!("pod {pod} to node {node}"), "has room", None)
            };
            record.chosen = moves.iter().take(8).map(tell_move).collect();
            self.tell(subject, "Underutilized", record);
            delete(self.context, &subject.claim).await?;
        }
        Ok(())
    }

    async fn replace(
        &self,
        subject: &Subject,
        input: &Input<'_>,
        demands: &[Demand],
        plan: &Plan,
        saving: f64,
    ) -> Result<(), Error> {
        // The plan's contents refer to the demands that it was made for.
        let input = Input {
            demands,
            pools: input.pools,
            catalogue: input.catalogue,
            backed_off: input.backed_off,
            daemons: input.daemons,
            price_below: Some(subject.price),
        };
        let Some(purchase) = plan.purchases.first() else { return Ok(()) };
        let new =
            provisioning::buy_replacement(self.context, &input, plan, claim::name(&subject.claim)).await?;
        let Some(new) = new else { return Ok(()) };
        termination::set_disrupted(self.context, &subject.node, true).await?;
        let summary =
            format!("replaced by {} ({}), ${saving:.4}/h saved", claim::name(&new), purchase.offering);
        let mut record = self.record("ReplaceNode", summary, subject);
        record.chosen = vec![decisions::option(
            purchase.offering.to_string(),
            "holds its pods",
            Some(purchase.dollars_per_hour),
        )];
        let keep = decisions::option("keep the node", "dearer", Some(subject.price));
        record.rejected.push(keep);
        self.context.decisions.record(reference_to(&new), Arc::new(record.clone()));
        self.tell(subject, "Underutilized", record);
        Ok(())
    }

    fn candidate(&self, subject: &Subject) -> Candidate {
        let mut picture = lock(&self.context.picture);
        picture.update();
        let pods = subject
            .pods
            .iter()
            .map(|pod| (PodKey::from(client::key_of(pod.as_ref())), picture.class_of(pod)));
        Candidate {
            node: subject.node.metadata.name.as_deref().unwrap_or_default().into(),
            dollars_per_hour: subject.price,
            pods: pods.collect(),
        }
    }

    /// Why the pods must not be moved now, if so.
    fn blocked(&self, pods: &[Arc<Pod>]) -> Option<String> {
        for pod in pods {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            let annotation = pod.metadata.annotations.as_ref().and_then(|all| all.get(names::DO_NOT_DISRUPT));
            if annotation.is_some_and(|value| value == "true") {
                return Some(format!("pod {name} must not be disrupted"));
            }
            if pod.metadata.deletion_timestamp.is_some() {
                return Some(format!("pod {name} is going away by itself"));
            }
            if pod.metadata.owner_references.as_ref().is_none_or(Vec::is_empty) {
                return Some(format!("pod {name} has no controller that would create it again"));
            }
            for budget in
                self.context.budgets.in_namespace(pod.metadata.namespace.as_deref().unwrap_or_default())
            {
                let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
                let selects = selector.is_some_and(|selector| {
                    Selector::from_label_selector(selector)
                        .is_ok_and(|selector| selector.matches_optional(pod.metadata.labels.as_ref()))
                });
                if selects && allowed_by(&budget) < 1 {
                    let budget = budget.metadata.name.as_deref().unwrap_or_default();
                    return Some(format!("PodDisruptionBudget {budget} allows no disruption of pod {name}"));
                }
            }
        }
        None
    }
}

/// Whether a claim may be replaced: not again right after it was itself a replacement.
fn may_be_replaced(claim: &NodeClaim) -> bool {
    let rests = claim::annotation(claim, claim::REPLACES).is_some()
        && claim::created(claim).is_some_and(|created| {
            Duration::try_from(base::clock::now().duration_since(created)).unwrap_or_default()
                < REPLACEMENT_REST
        });
    !rests
}

/// Whether a pod waits for something that will not come.
fn is_hopeless(pod: &Pod) -> bool {
    let created = pod.metadata.creation_timestamp.as_ref();
    picture::node_of(pod).is_none()
        && created.is_some_and(|created| {
            Duration::try_from(base::clock::now().duration_since(created.0)).unwrap_or_default() > HOPELESS
        })
}

/// Takes a node out of the engine and puts its pods where they will go.
fn move_away(engine: &mut Engine, candidate: &Candidate, moves: &[(PodKey, Arc<str>)]) {
    if let Some(id) = engine.snapshot().id(&candidate.node) {
        engine.remove_node(id);
    }
    let classes: BTreeMap<&PodKey, &PodClass> =
        candidate.pods.iter().map(|(key, class)| (key, class)).collect();
    for (key, node) in moves {
        if let (Some(id), Some(class)) = (engine.snapshot().id(node), classes.get(key)) {
            engine.add_pod(id, class);
        }
    }
}
