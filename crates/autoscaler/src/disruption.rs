//! Disruption: nodes that are not worth their price go away, within the budgets of their pools.
//!
//! Driven by changes and by deadlines (`consolidateAfter`). Only where something was kept that is not
//! worth its price is there a slow second look, for reasons that no event tells of.

mod consolidation;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::explain::DecisionRecord;
use api::instance::{InstanceType, OfferingKey};
use api::karpenter::NodeClaim;
use api::names;
use client::{EventType, reference_to};
use k8s_openapi::api::core::v1::{Node, Pod};
use scaling::consolidate;
use scaling::ledger::price_of;
use scaling::pool::{Limits, Pool};
use tokio::time::Instant;

use crate::claim;
use crate::context::{Context, Error, lock};
use crate::decisions::{self, fact};
use crate::lifecycle::delete;
use crate::{picture, termination};

/// Changes come in flocks; they are looked at together.
const SETTLE: Duration = Duration::from_millis(100);
/// Looking whether nodes with pods could go costs a simulation for each: not more often than this.
const CONSOLIDATE_EVERY: Duration = Duration::from_secs(2);
/// What was kept is looked at again after this long, when nothing else happens.
const BACKSTOP: Duration = Duration::from_secs(15);

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
