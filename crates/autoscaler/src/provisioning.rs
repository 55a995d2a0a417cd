//! Provisioning: machines for pods that fit nowhere.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::explain::DecisionRecord;
use api::instance::InstanceType;
use api::karpenter::{ClaimResources, NodeClaim, NodePool, Requirement};
use api::names;
use client::{EventType, reference_to};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::PostParams;
use scaling::pool::{Limits, Pool};
use scaling::provision::{self, Demand, Input, Plan, Purchase};
use scheduling::{Engine, PodClass, PodKey};
use tokio::time::Instant;

use crate::claim;
use crate::context::{Context, lock};
use crate::decisions::{self, fact};
use crate::picture;

/// Instance types that a claim lists at most, the cheapest ones.
const TYPES_MAX: usize = 60;
/// How often what a purchase leaves over is planned for again in one decision.
const ROUNDS_MAX: usize = 8;
/// Alternatives that a decision record keeps.
const ALTERNATIVES_MAX: usize = 8;
/// Pods that fit nowhere are looked at again after this long, when nothing else happens.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// Unchanged refusals are told again after this long.
const TELL_AGAIN: Duration = Duration::from_secs(300);

/// A pod that needs a place.
#[derive(Clone)]
pub(crate) struct Homeless {
    pub key: PodKey,
    pub pod: Arc<Pod>,
    pub class: PodClass,
}

/// Decides whenever pods have become unschedulable.
pub(crate) async fn run(context: Arc<Context>) {
    let mut told: BTreeMap<PodKey, Instant> = BTreeMap::new();
    loop {
        batch(&context).await;
        let left = decide(&context, &mut told).await;
        if left {
            let retry = context.offerings.next_end().unwrap_or(Instant::now() + LOOK_AGAIN);
            let soon = tokio::time::sleep_until(retry.min(Instant::now() + LOOK_AGAIN));
            tokio::select! {
                () = context.wake_provisioning.notified() => context.wake_provisioning.notify_one(),
                () = soon => context.wake_provisioning.notify_one(),
            }
        }
    }
}

/// Waits for a reason to decide, and then until no further one comes.
async fn batch(context: &Context) {
    context.wake_provisioning.notified().await;
    let end = Instant::now() + context.config.batch_max;
    loop {
        let idle = (Instant::now() + context.config.batch_idle).min(end);
        if tokio::time::timeout_at(idle, context.wake_provisioning.notified()).await.is_err() {
            return;
        }
    }
}

/// The pods without a place: unschedulable ones, and those on nodes that are about to go.
pub(crate) fn homeless(context: &Context) -> Vec<Homeless> {
    let mut picture = lock(&context.picture);
    picture.update();
    let mut pods: Vec<Homeless> = picture
        .unschedulable()
        .map(|(key, pod, class)| Homeless { key: key.clone(), pod: pod.clone(), class: class.clone() })
        .collect();
    for claim in context.claims.list() {
        if !claim::is_deleting(&claim) && !claim::is_interrupted(&claim) {
            continue;
        }
        let Some(node) = context.node_of_claim(&claim) else { continue };
        for pod in context.pods_on.get(node.metadata.name.as_deref().unwrap_or_default()) {
            if picture::is_movable(&pod) && pod.metadata.deletion_timestamp.is_none() {
                let key = PodKey::from(client::key_of(pod.as_ref()));
                let class = picture.class_of(&pod);
                pods.push(Homeless { key, pod, class });
            }
        }
    }
    // As the scheduler will try them: important ones first, then in order of their names.
    pods.sort_by(|a, b| b.class.priority.cmp(&a.class.priority).then_with(|| a.key.cmp(&b.key)));
    pods
}

/// The cluster as it will be: without nodes that go, with those that come if `with_future`.
pub(crate) fn outlook(context: &Context, catalogue: &[InstanceType], with_future: bool) -> Engine {
    let mut picture = lock(&context.picture);
    picture.update();
    let mut engine = picture.cluster().engine().fork();
    drop(picture);
    for claim in context.all_claims() {
        let node = context.node_of_claim(&claim);
        let goes = claim::is_deleting(&claim) || claim::is_interrupted(&claim);
        if let Some(name) = node.as_ref().and_then(|node| node.metadata.name.as_deref()) {
            if goes {
                if let Some(id) = engine.snapshot().id(name) {
                    engine.remove_node(id);
                }
                continue;
            }
            if claim::is(&claim, claim::INITIALIZED) {
                continue;
            }
        }
        if goes || !with_future {
            continue;
        }
        // It joins soon: as it will be, not as it is while it starts.
        if let Some(mut future) = claim::future_node(&claim, catalogue) {
            if let Some(name) = node.as_ref().and_then(|node| node.metadata.name.as_deref()) {
                future.name = name.into();
            }
            engine.set_node(future);
        }
    }
    engine
}

/// Pods that run on every node.
pub(crate) fn daemons(context: &Context) -> Vec<PodClass> {
    let mut picture = lock(&context.picture);
    context
        .daemon_sets
        .list()
        .iter()
        .filter_map(|set| {
            let template = &set.spec.as_ref()?.template;
            let pod = Pod {
                metadata: template.metadata.clone().unwrap_or_default(),
                spec: template.spec.clone(),
                status: None,
            };
            Some(picture.class_of(&pod))
        })
        .collect()
}

/// Buys what is missing. Returns whether pods are left that nothing helps.
async fn decide(context: &Arc<Context>, told: &mut BTreeMap<PodKey, Instant>) -> bool {
    let pods = homeless(context);
    if pods.is_empty() {
        told.clear();
        return false;
    }
    let catalogue = context.cloud.catalogue();
    let mut engine = outlook(context, &catalogue, true);
    let mut left = Vec::new();
    for pod in pods {
        match engine.place_and_add(&pod.class) {
            Some(placement) => {
                let node = engine.snapshot().node(placement.node).map(|node| node.name.clone());
                promise(context, node.as_deref().unwrap_or_default());
            }
            None => left.push(pod),
        }
    }
    let daemons = daemons(context);
    let mut refused = Vec::new();
    for _ in 0..ROUNDS_MAX {
        if left.is_empty() {
            break;
        }
        let pools = context.usable_pools(&catalogue);
        let (demands, members) = demands(&left);
        let input = Input {
            demands: &demands,
            pools: &pools,
            catalogue: &catalogue,
            backed_off: &|key| context.offerings.is_backed_off(key),
            daemons: &daemons,
            price_below: None,
        };
        let plan = provision::plan(&input);
        let before = context.ledger(&catalogue).total();
        let bought = buy(context, &input, &plan).await;
        if bought.is_empty() {
            refused = plan
                .unplaced
                .iter()
                .map(|unplaced| (unplaced.clone(), members[unplaced.demand].clone()))
                .collect();
            break;
        }
        for bought in &bought {
            if let Some(node) = claim::future_node(&bought.claim, &catalogue) {
                engine.set_node(node);
            }
        }
        left = assign(context, &mut engine, left, &input, &plan, &bought, before);
    }
    let now = Instant::now();
    for (unplaced, members) in &refused {
        for pod in members.iter().rev().take(unplaced.count as usize).filter_map(|index| left.get(*index)) {
            if told.get(&pod.key).is_none_or(|at| now.duration_since(*at) >= TELL_AGAIN) {
                told.insert(pod.key.clone(), now);
                refuse(context, pod, &unplaced.reasons);
            }
        }
    }
    !left.is_empty()
}

/// A claim that was made for a purchase.
struct Bought {
    claim: NodeClaim,
    /// Index of the purchase in the plan.
    purchase: usize,
}

/// Creates the claims of a plan.
async fn buy(context: &Context, input: &Input<'_>, plan: &Plan) -> Vec<Bought> {
    let mut claims = Vec::new();
    for (index, purchase) in plan.purchases.iter().enumerate() {
        let pool = &input.pools[purchase.pool].0;
        let Some(object) = context.pools.get("", &pool.name) else { continue };
        let template = claim_for(&object, pool, input, purchase);
        for _ in 0..purchase.count {
            let mut claim = template.clone();
            claim.metadata.name = Some(format!("{}-{}", pool.name, base::rng::name_suffix(5)));
            claims.push((index, claim));
        }
    }
    let mut bought = Vec::new();
    // A few at a time keep the server busy; thousands at once would only queue up in it.
    for chunk in claims.chunks(64) {
        let mut creating = tokio::task::JoinSet::new();
        for (purchase, claim) in chunk.iter().cloned() {
            let api = context.claim_api();
            // Noted before, since the informer may show the claim, and even its end, before the answer.
            note_fresh(context, &claim);
            creating.spawn(async move {
                let created = api.create(&PostParams::default(), &claim).await;
                (purchase, claim, created)
            });
        }
        while let Some(created) = creating.join_next().await {
            match created {
                Ok((purchase, _, Ok(claim))) => {
                    context.nominate(claim::name(&claim));
                    bought.push(Bought { claim, purchase });
                }
                Ok((_, claim, Err(error))) => {
                    lock(&context.fresh_claims).remove(claim::name(&claim));
                    tracing::warn!(%error, "a NodeClaim could not be created");
                }
                Err(_) => {}
            }
        }
    }
    bought.sort_by(|a, b| {
        a.purchase.cmp(&b.purchase).then_with(|| claim::name(&a.claim).cmp(claim::name(&b.claim)))
    });
    bought
}

/// Buys one replacement machine.
pub(crate) async fn buy_replacement(
    context: &Context,
    input: &Input<'_>,
    plan: &Plan,
    replaced: &str,
) -> Result<Option<NodeClaim>, kube::Error> {
    let Some(purchase) = plan.purchases.first() else { return Ok(None) };
    let pool = &input.pools[purchase.pool].0;
    let Some(object) = context.pools.get("", &pool.name) else { return Ok(None) };
    let mut claim = claim_for(&object, pool, input, purchase);
    claim.metadata.name = Some(format!("{}-{}", pool.name, base::rng::name_suffix(5)));
    let annotations = claim.metadata.annotations.get_or_insert_default();
    annotations.insert(claim::REPLACES.to_owned(), replaced.to_owned());
    note_fresh(context, &claim);
    match context.claim_api().create(&PostParams::default(), &claim).await {
        Ok(claim) => {
            context.nominate(claim::name(&claim));
            Ok(Some(claim))
        }
        Err(error) => {
            lock(&context.fresh_claims).remove(claim::name(&claim));
            Err(error)
        }
    }
}

/// Lets a claim count before the informer shows it.
fn note_fresh(context: &Context, claim: &NodeClaim) {
    let name = claim::name(claim).to_owned();
    lock(&context.fresh_claims).insert(name, (claim.clone(), Instant::now()));
}

/// The claim for one machine of a purchase, without a name.
fn claim_for(object: &NodePool, pool: &Pool, input: &Input<'_>, purchase: &Purchase) -> NodeClaim {
    let template = &object.spec.template;
    let offerings = provision::offerings_for(input, purchase);
    let mut types: Vec<String> = Vec::new();
    let (mut zones, mut capacity_types) = (Vec::new(), Vec::new());
    for (_, key) in &offerings {
        let push = |list: &mut Vec<String>, value: &str| {
            if !list.iter().any(|known| known == value) {
                list.push(value.to_owned());
            }
        };
        if types.len() >= TYPES_MAX && !types.iter().any(|known| **known == *key.instance_type) {
            continue;
        }
        push(&mut types, &key.instance_type);
        push(&mut zones, &key.zone);
        push(&mut capacity_types, key.capacity_type.as_str());
    }
    zones.sort();
    let is_in = |key: &str, values: Vec<String>| Requirement {
        key: key.to_owned(),
        operator: "In".to_owned(),
        values,
        min_values: None,
    };
    let narrowed = [names::INSTANCE_TYPE, names::ZONE, names::CAPACITY_TYPE];
    let mut requirements: Vec<Requirement> = template
        .spec
        .requirements
        .iter()
        .filter(|requirement| !narrowed.contains(&requirement.key.as_str()))
        .cloned()
        .collect();
    requirements.push(is_in(names::INSTANCE_TYPE, types));
    requirements.push(is_in(names::ZONE, zones));
    requirements.push(is_in(names::CAPACITY_TYPE, capacity_types));
    let mut claim = NodeClaim::named("");
    claim.metadata.labels = Some(purchase.labels.clone());
    claim.metadata.annotations = template.metadata.as_ref().and_then(|metadata| metadata.annotations.clone());
    claim.metadata.finalizers = Some(vec![names::TERMINATION_FINALIZER.to_owned()]);
    claim.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "karpenter.sh/v1".to_owned(),
        kind: "NodePool".to_owned(),
        name: pool.name.to_string(),
        uid: object.metadata.uid.clone().unwrap_or_default(),
        block_owner_deletion: Some(true),
        controller: None,
    }]);
    claim.spec.taints = template.spec.taints.clone();
    claim.spec.startup_taints = template.spec.startup_taints.clone();
    claim.spec.requirements = requirements;
    claim.spec.resources = Some(ClaimResources { requests: claim::resource_list(&purchase.requests) });
    claim.spec.node_class_ref = template.spec.node_class_ref.clone();
    claim.spec.termination_grace_period = template.spec.termination_grace_period.clone();
    claim.spec.expire_after = template.spec.expire_after.clone();
    claim
}

/// Tells a pod's node that it is counted on.
fn promise(context: &Context, node: &str) {
    match context.claim_of_node(node) {
        Some(claim) => context.nominate(claim::name(&claim)),
        None => context.nominate(node),
    }
}

/// Pods of one class together, and which pods those are.
fn demands(pods: &[Homeless]) -> (Vec<Demand>, Vec<Vec<usize>>) {
    let mut known: base::map::HashMap<PodClass, usize> = base::map::HashMap::default();
    let (mut demands, mut members): (Vec<Demand>, Vec<Vec<usize>>) = (Vec::new(), Vec::new());
    for (index, pod) in pods.iter().enumerate() {
        let demand = *known.entry(pod.class.clone()).or_insert_with(|| {
            demands.push(Demand { class: pod.class.clone(), count: 0 });
            members.push(Vec::new());
            demands.len() - 1
        });
        demands[demand].count += 1;
        members[demand].push(index);
    }
    (demands, members)
}

/// Lets the placement engine put the pods on the new nodes, and tells them. Returns the pods that
/// did not find a place after all.
fn assign(
    context: &Context,
    engine: &mut Engine,
    pods: Vec<Homeless>,
    input: &Input<'_>,
    plan: &Plan,
    bought: &[Bought],
    before: f64,
) -> Vec<Homeless> {
    let summary = summarize(input, plan, &pods, before);
    let by_name: BTreeMap<&str, &Bought> =
        bought.iter().map(|bought| (claim::name(&bought.claim), bought)).collect();
    let mut records: BTreeMap<usize, Arc<DecisionRecord>> = BTreeMap::new();
    for bought in bought {
        let purchase = &plan.purchases[bought.purchase];
        let record = records
            .entry(bought.purchase)
            .or_insert_with(|| Arc::new(for_purchase(&summary, input, purchase)));
        context.decisions.record(reference_to(&bought.claim), record.clone());
    }
    let mut left = Vec::new();
    for pod in pods {
        let Some(placement) = engine.place_and_add(&pod.class) else {
            left.push(pod);
            continue;
        };
        let name = engine.snapshot().node(placement.node).map(|node| node.name.clone()).unwrap_or_default();
        let reference = reference_to(pod.pod.as_ref());
        let message = format!("Pod should schedule on: nodeclaim/{name}");
        context.recorder.event(&reference, EventType::Normal, "Nominated", message);
        if let Some(record) = by_name.get(&*name).and_then(|bought| records.get(&bought.purchase)) {
            context.decisions.record(reference, record.clone());
        }
    }
    left
}

/// What all records of one decision have in common.
fn summarize(input: &Input<'_>, plan: &Plan, pods: &[Homeless], before: f64) -> DecisionRecord {
    let (mut cpu, mut memory) = (0, 0);
    for pod in pods {
        cpu += pod.class.requests.cpu_milli;
        memory += pod.class.requests.memory_bytes;
    }
    let machines: u32 = plan.purchases.iter().map(|purchase| purchase.count).sum();
    let offerings: usize = input.catalogue.iter().map(|kind| kind.offerings.len()).sum();
    let mut record = decisions::record(
        "provisioner",
        "LaunchNodes",
        format!("{} pods fit on no node: {machines} bought for ${:.4}/h", pods.len(), plan.dollars_per_hour),
    );
    record.inputs = vec![
        fact(
            "pods without a place",
            format!(
                "{} ({} cpu, {} memory)",
                pods.len(),
                api::quantity::Quantity::from_milli(cpu),
                api::quantity::Quantity::from_bytes(memory)
            ),
        ),
        fact(
            "pools",
            input.pools.iter().map(|(pool, used)| describe_pool(pool, used)).collect::<Vec<_>>().join("; "),
        ),
        fact("considered", format!("{} instance types, {offerings} offerings", input.catalogue.len())),
    ];
    if plan.bound_dollars_per_hour > 0.0 {
        record.inputs.push(fact(
            "lower bound",
            format!("${:.4}/h with machines cut to size", plan.bound_dollars_per_hour),
        ));
    }
    record.dollars_per_hour_before = Some(before);
    record.dollars_per_hour_after = Some(before + plan.dollars_per_hour);
    record.rejected = plan
        .alternatives
        .iter()
        .filter(|alternative| alternative.dollars_per_hour > plan.dollars_per_hour)
        .take(ALTERNATIVES_MAX)
        .map(|alternative| {
            let more = 100.0 * (alternative.dollars_per_hour / plan.dollars_per_hour.max(1e-9) - 1.0);
            decisions::option(
                &alternative.option,
                format!("{more:.1} % dearer"),
                Some(alternative.dollars_per_hour),
            )
        })
        .collect();
    record
}

fn describe_pool(pool: &Pool, used: &Limits) -> String {
    let mut text = format!("{} (weight {}", pool.name, pool.weight);
    if pool.limits.cpu_milli != i64::MAX {
        let cpu = api::quantity::Quantity::from_milli;
        text.push_str(&format!(", {} of {} cpu used", cpu(used.cpu_milli), cpu(pool.limits.cpu_milli)));
    }
    text.push(')');
    text
}

/// The record of the pods and claims of one purchase.
fn for_purchase(summary: &DecisionRecord, input: &Input<'_>, purchase: &Purchase) -> DecisionRecord {
    let mut record = summary.clone();
    let pods: u32 = purchase.contents.iter().map(|(_, count)| count).sum();
    let mut chosen = decisions::option(
        purchase.offering.to_string(),
        format!(
            "pool {}: cheapest for {pods} pods each, {:.0} % full",
            input.pools[purchase.pool].0.name,
            purchase.fill * 100.0
        ),
        Some(purchase.dollars_per_hour * f64::from(purchase.count)),
    );
    chosen.count = i64::from(purchase.count);
    record.chosen = vec![chosen];
    // The next best offerings for the very same contents.
    let others = provision::offerings_for(input, purchase);
    let next =
        others.iter().filter(|(_, key)| *key != purchase.offering && key.zone == purchase.offering.zone);
    for (price, key) in next.take(ALTERNATIVES_MAX) {
        let reason = if (input.backed_off)(key) {
            "no capacity a moment ago".to_owned()
        } else if *price > purchase.dollars_per_hour {
            format!("{:.1} % dearer for the same pods", 100.0 * (price / purchase.dollars_per_hour - 1.0))
        } else {
            "costs the same or less, but serves the pods as a whole worse".to_owned()
        };
        record.rejected.push(decisions::option(key.to_string(), reason, Some(*price)));
    }
    record
}

/// Tells a pod that no pool can take it, and why.
fn refuse(context: &Context, pod: &Homeless, reasons: &[(Arc<str>, provision::Refusal)]) {
    let reference = reference_to(pod.pod.as_ref());
    let texts: Vec<String> =
        reasons.iter().map(|(pool, refusal)| format!("pool {pool}: {refusal}")).collect();
    let summary = match texts.as_slice() {
        [] => "there is no NodePool to buy a node for it".to_owned(),
        texts => texts.join("; "),
    };
    context.recorder.event(
        &reference,
        EventType::Warning,
        "FailedScheduling",
        format!("No node can be bought: {summary}"),
    );
    let mut record =
        decisions::record("provisioner", "NoNodePossible", format!("no node can be bought: {summary}"));
    record.rejected = reasons
        .iter()
        .map(|(pool, refusal)| decisions::option(format!("pool {pool}"), refusal.to_string(), None))
        .collect();
    context.decisions.record(reference, Arc::new(record));
}
