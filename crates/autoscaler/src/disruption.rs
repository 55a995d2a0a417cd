//! Disruption: nodes that are not worth their price go away, within the budgets of their pools.
//!
//! Driven by changes and by deadlines (`consolidateAfter`). Only where something was kept that is not
//! worth its price is there a slow second look, for reasons that no event tells of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::explain::DecisionRecord;
use api::instance::{InstanceType, OfferingKey};
use api::karpenter::NodeClaim;
use api::names;
use api::selector::Selector;
use client::{EventType, reference_to};
use k8s_openapi::api::core::v1::{Node, Pod};
use scaling::consolidate::{self, Candidate, Verdict};
use scaling::ledger::price_of;
use scaling::pool::{Limits, Pool};
use scaling::provision::{Demand, Input, Plan};
use scheduling::{Engine, PodClass, PodKey};
use tokio::time::Instant;

use crate::claim;
use crate::context::{Context, Error, allowed_by, lock};
use crate::decisions::{self, fact};
use crate::lifecycle::delete;
use crate::{picture, provisioning, termination};

/// Changes come in flocks; they are looked at together.
const SETTLE: Duration = Duration::from_millis(100);
/// Looking whether nodes with pods could go costs a simulation for each: not more often than this.
const CONSOLIDATE_EVERY: Duration = Duration::from_secs(2);
/// Nodes that are thought away per look.
const CANDIDATES_MAX: usize = 64;
/// What was kept is looked at again after this long, when nothing else happens.
const BACKSTOP: Duration = Duration::from_secs(15);
/// Pods that have waited in vain for this long do not hold others up any more.
const HOPELESS: Duration = Duration::from_secs(300);
/// A replacement is not itself replaced for this long.
const REPLACEMENT_REST: Duration = Duration::from_secs(600);

/// Looks whenever something has changed or is due.
pub(crate) async fn run(context: Arc<Context>) {
    let mut due: Option<Instant> = None;
    let mut last_consolidation: Option<Instant> = None;
    loop {
        let timer = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = context.wake_disruption.notified() => {}
            () = timer => {}
        }
        tokio::time::sleep(SETTLE).await;
        due = match look(&context, &mut last_consolidation).await {
            Ok(due) => due,
            Err(error) => {
                tracing::debug!(%error, "disruption failed; trying again");
                Some(Instant::now() + CONSOLIDATE_EVERY)
            }
        };
    }
}

/// A node that might go.
struct Subject {
    claim: Arc<NodeClaim>,
    node: Arc<Node>,
    /// Index in the usable pools.
    pool: usize,
    pods: Vec<Arc<Pod>>,
    price: f64,
}

/// A node that goes, since its pods fit on others.
struct Doomed {
    subject: Subject,
    moves: Vec<(PodKey, Arc<str>)>,
    saving: f64,
}

/// What one look works with.
struct Look<'a> {
    context: &'a Arc<Context>,
    catalogue: Arc<Vec<InstanceType>>,
    pools: Vec<(Pool, Limits)>,
    /// How many nodes of each pool there are and how many of them are going already.
    counts: BTreeMap<String, (usize, usize)>,
    due: Option<Instant>,
    /// Offerings without capacity.
    backed_off: &'a (dyn Fn(&OfferingKey) -> bool + Send + Sync),
}

async fn look(context: &Arc<Context>, last: &mut Option<Instant>) -> Result<Option<Instant>, Error> {
    finish_replacements(context).await?;
    let catalogue = context.cloud.catalogue();
    let pools = context.usable_pools(&catalogue);
    let backed_off = |key: &OfferingKey| context.offerings.is_backed_off(key);
    let mut look =
        Look { context, counts: counts(context), pools, catalogue, due: None, backed_off: &backed_off };
    let subjects = look.subjects();
    let (mut busy, mut removed) = (Vec::new(), false);
    for subject in subjects {
        if subject.pods.is_empty() {
            removed |= look.remove_empty(&subject).await?;
        } else if look.pools[subject.pool].0.disruption.underutilized {
            busy.push(subject);
        }
    }
    if removed {
        // What goes must not count as room for the pods of others.
        look.at(Instant::now() + SETTLE);
    } else if !busy.is_empty() {
        let next = last.map(|last| last + CONSOLIDATE_EVERY);
        match next.filter(|next| *next > Instant::now()) {
            Some(next) => look.at(next),
            None => {
                *last = Some(Instant::now());
                look.consolidate(busy).await?;
            }
        }
    }
    Ok(look.due)
}

/// Nodes per pool, and how many of them are on their way out.
fn counts(context: &Context) -> BTreeMap<String, (usize, usize)> {
    let claims = context.all_claims();
    let replaced: BTreeSet<&str> =
        claims.iter().filter_map(|claim| claim::annotation(claim, claim::REPLACES)).collect();
    let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for claim in &claims {
        let (all, going) = counts.entry(claim::pool(claim).to_owned()).or_default();
        *all += 1;
        let goes = claim::is_deleting(claim)
            || claim::is_interrupted(claim)
            || replaced.contains(claim::name(claim));
        *going += usize::from(goes);
    }
    counts
}

/// Removes claims whose replacement is ready; opens those again whose replacement has failed.
async fn finish_replacements(context: &Arc<Context>) -> Result<(), Error> {
    let claims = context.all_claims();
    let mut awaited = BTreeSet::new();
    for claim in &claims {
        let Some(old) = claim::annotation(claim, claim::REPLACES) else { continue };
        if claim::is_deleting(claim) {
            continue;
        }
        awaited.insert(old.to_owned());
        if let Some(old) = context.claims.get("", old)
            && claim::is(claim, claim::INITIALIZED)
            && !claim::is_deleting(&old)
        {
            let message = format!("{} takes its place", claim::name(claim));
            context.recorder.event(
                &reference_to(old.as_ref()),
                EventType::Normal,
                "DisruptionTerminating",
                message,
            );
            delete(context, &old).await?;
        }
    }
    for claim in &claims {
        if claim::is_deleting(claim) || claim::is_interrupted(claim) || awaited.contains(claim::name(claim)) {
            continue;
        }
        if let Some(node) = context.node_of_claim(claim).filter(|node| has_disrupted_taint(node)) {
            termination::set_disrupted(context, &node, false).await?;
        }
    }
    Ok(())
}

fn has_disrupted_taint(node: &Node) -> bool {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    node.metadata.deletion_timestamp.is_none()
        && taints.into_iter().any(|taint| taint.key == names::DISRUPTED_TAINT)
}

impl Look<'_> {
    /// Asks for another look at a certain time.
    fn at(&mut self, time: Instant) {
        self.due = Some(self.due.map_or(time, |due| due.min(time)));
    }

    /// The nodes that may be disrupted now. Those that may be later set the time of the next look.
    fn subjects(&mut self) -> Vec<Subject> {
        let claims = self.context.all_claims();
        let replaced: BTreeSet<String> = claims
            .iter()
            .filter_map(|claim| claim::annotation(claim, claim::REPLACES).map(str::to_owned))
            .collect();
        claims
            .into_iter()
            .filter(|claim| {
                claim::is(claim, claim::INITIALIZED)
                    && !claim::is_deleting(claim)
                    && !claim::is_interrupted(claim)
                    && !replaced.contains(claim::name(claim))
            })
            .filter_map(|claim| self.subject(claim))
            .collect()
    }

    fn subject(&mut self, claim: Arc<NodeClaim>) -> Option<Subject> {
        let node = self.context.node_of_claim(&claim)?;
        let pool = self.pools.iter().position(|(pool, _)| *pool.name == *claim::pool(&claim))?;
        let name = node.metadata.name.as_deref()?;
        let after = self.pools[pool].0.disruption.consolidate_after?;
        let is_protected = |annotations: Option<&BTreeMap<String, String>>| {
            annotations.and_then(|all| all.get(names::DO_NOT_DISRUPT)).is_some_and(|value| value == "true")
        };
        if is_protected(node.metadata.annotations.as_ref())
            || is_protected(claim.metadata.annotations.as_ref())
        {
            return None;
        }
        // A node without known activity is as old as its initialization; after a restart of the
        // autoscaler that is the careful guess.
        let now = Instant::now();
        let active = *lock(&self.context.pod_activity).entry(name.to_owned()).or_insert(now);
        let rest = |since: Duration| now + after.saturating_sub(since);
        let initialized = claim::since(&claim, claim::INITIALIZED)?;
        let age = Duration::try_from(base::clock::now().duration_since(initialized)).unwrap_or_default();
        let nominated = self.context.nominated_until(claim::name(&claim)).unwrap_or(now);
        let ripe = rest(now.duration_since(active)).max(rest(age)).max(nominated);
        if ripe > now {
            self.at(ripe);
            return None;
        }
        let pods =
            self.context.pods_on.get(name).into_iter().filter(|pod| picture::is_movable(pod)).collect();
        let price = price_of(&self.catalogue, &claim::offering(&claim)?)?;
        Some(Subject { claim, node, pool, pods, price })
    }

    /// Whether the pool's budgets allow one more disruption; if so it is counted.
    fn take_allowance(&mut self, pool: usize, reason: &str) -> bool {
        let pool = &self.pools[pool].0;
        let (all, going) = self.counts.entry(pool.name.to_string()).or_default();
        // Budgets with a schedule hold all the time: too careful rather than too bold.
        let allowed = consolidate::allowance(&pool.disruption.budgets, reason, *all, *going, |_| true) > 0;
        *going += usize::from(allowed);
        allowed
    }

    /// Gives an empty node back. Returns whether the budgets allowed it.
    async fn remove_empty(&mut self, subject: &Subject) -> Result<bool, Error> {
        if !self.take_allowance(subject.pool, "Empty") {
            self.at(Instant::now() + BACKSTOP);
            return Ok(false);
        }
        let after = self.pools[subject.pool].0.disruption.consolidate_after.unwrap_or_default();
        let summary =
            format!("removed: no pods for {} s, ${:.4}/h saved", after.as_secs_f64(), subject.price);
        let mut record = self.record("RemoveEmptyNode", summary, subject);
        record.chosen =
            vec![decisions::option("delete the node", "nothing runs on it", Some(-subject.price))];
        self.tell(subject, "Empty", record);
        delete(self.context, &subject.claim).await?;
        Ok(true)
    }

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
    async fn consolidate(&mut self, mut subjects: Vec<Subject>) -> Result<(), Error> {
        let catalogue = self.catalogue.clone();
        let Some(mut engine) = self.room() else {
            self.at(Instant::now() + CONSOLIDATE_EVERY);
            return Ok(());
        };
        subjects.sort_by(|a, b| {
            let weight = |subject: &Subject| self.pools[subject.pool].0.weight;
            let key =
                |subject: &Subject| (weight(subject), subject.pods.len(), (-subject.price * 1e6) as i64);
            key(a).cmp(&key(b)).then_with(|| claim::name(&a.claim).cmp(claim::name(&b.claim)))
        });
        let daemons = provisioning::daemons(self.context);
        let (mut receiving, mut doomed) = (BTreeSet::<Arc<str>>::new(), Vec::new());
        let (mut considered, mut kept, mut replacement) = (0, false, None);
        for subject in subjects {
            if considered >= CANDIDATES_MAX {
                kept = true;
                break;
            }
            let name = subject.node.metadata.name.as_deref().unwrap_or_default();
            let blocked = self.blocked(&subject.pods);
            if receiving.contains(name) || blocked.is_some() {
                tracing::debug!(node = name, reason = blocked, "not disrupted");
                kept = true;
                continue;
            }
            considered += 1;
            let candidate = self.candidate(&subject);
            let pools = self.pools_for(&subject);
            let input = self.input(&pools, &catalogue, &daemons);
            let economics = &self.context.config.economics;
            let replaceable = may_be_replaced(&subject.claim);
            let verdict = consolidate::consider(&engine, &candidate, &input, economics, replaceable);
            if let Verdict::Keep { reason } = &verdict {
                tracing::debug!(node = name, reason, "kept");
                kept = true;
                continue;
            }
            if !self.take_allowance(subject.pool, "Underutilized") {
                kept = true;
                continue;
            }
            match verdict {
                Verdict::Keep { .. } => {}
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
        if kept || !doomed.is_empty() {
            self.at(Instant::now() + BACKSTOP);
        }
        Ok(())
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

    /// A record with what is common to all disruptions.
    fn record(&self, action: &str, summary: String, subject: &Subject) -> DecisionRecord {
        let total = self.context.ledger(&self.catalogue).total();
        let mut record = decisions::record("consolidation", action, summary);
        let offering = claim::offering(&subject.claim).map(|key| key.to_string()).unwrap_or_default();
        record.inputs = vec![
            fact("node", format!("{offering}, ${:.4}/h", subject.price)),
            fact("pods that would move", subject.pods.len()),
            fact("pool", claim::pool(&subject.claim)),
        ];
        record.dollars_per_hour_before = Some(total);
        record.dollars_per_hour_after = Some(total - subject.price);
        record
    }

    /// Tells node and claim.
    fn tell(&self, subject: &Subject, reason: &str, record: DecisionRecord) {
        let record = Arc::new(record);
        let message = format!("{reason}: {}", record.summary);
        let claim = reference_to(subject.claim.as_ref());
        let node = reference_to(subject.node.as_ref());
        self.context.recorder.event(&claim, EventType::Normal, "DisruptionTerminating", message.clone());
        self.context.recorder.event(&node, EventType::Normal, "DisruptionTerminating", message);
        self.context.decisions.record(claim, record.clone());
        self.context.decisions.record(node, record);
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
