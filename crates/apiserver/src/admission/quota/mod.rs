//! ResourceQuota: what a namespace may hold in total.
//!
//! A quota's `status.used` is what counts, as upstream: a request is let through once the status that
//! includes it has been written. Those writes are batched per quota ([`ledger`]), and namespaces without
//! quotas pay nothing.

pub(crate) mod ledger;

use api::quantity::Quantity;
use api::quota::{Change, Evaluator, Scope};
use api::resource_list::{self as lists, ResourceList};
use serde_json::Value;

use self::ledger::{Demand, Refusal};
use super::lookup::QUOTAS;
use super::{Attributes, Operation, Reservation};
use crate::object::meta;
use crate::status::ApiError;

/// A ResourceQuota, parsed.
pub(super) struct Quota {
    pub name: String,
    pub hard: ResourceList,
    pub used: ResourceList,
    scopes: Vec<Scope>,
}

impl Quota {
    pub fn parse(object: &Value) -> Self {
        Self {
            name: meta(object, "name").to_owned(),
            hard: lists::read(&object["status"]["hard"]),
            used: lists::read(&object["status"]["used"]),
            scopes: Scope::of_spec(&object["spec"]),
        }
    }

    /// The quota's resources that objects of the kind count for.
    fn counted<'a>(&'a self, evaluator: &'a Evaluator) -> impl Iterator<Item = &'a str> {
        self.hard.keys().map(String::as_str).filter(|name| evaluator.counts(name))
    }

    fn covers(&self, evaluator: &Evaluator, object: &Value) -> bool {
        self.counted(evaluator).next().is_some()
            && self.scopes.iter().all(|scope| evaluator.in_scope(scope, object))
    }

    /// What a request would leave used, unless that is too much.
    pub fn charge(&self, used: &ResourceList, demand: &ResourceList) -> Result<ResourceList, String> {
        let mut sum = used.clone();
        lists::add(&mut sum, demand);
        let exceeds = |name: &str| {
            demand.contains_key(name) && self.hard.get(name).is_some_and(|hard| sum[name] > *hard)
        };
        let requested = lists::mask(demand, exceeds);
        if requested.is_empty() {
            return Ok(sum);
        }
        Err(format!(
            "exceeded quota: {}, requested: {}, used: {}, limited: {}",
            self.name,
            lists::show(&requested),
            lists::show(&lists::mask(used, exceeds)),
            lists::show(&lists::mask(&self.hard, exceeds))
        ))
    }
}

/// Charges the quotas of the namespace for a new or changed object.
pub(super) async fn validate(attributes: &Attributes<'_>, object: &Value) -> Result<Reservation, ApiError> {
    let call = attributes.call;
    let change = match (attributes.operation, attributes.old) {
        (Operation::Create, _) => Change::Create,
        (Operation::Update, Some(old)) => Change::Update(old),
        _ => return Ok(Reservation::default()),
    };
    if !call.kind.namespaced || attributes.namespace.is_empty() {
        return Ok(Reservation::default());
    }
    let quotas = QUOTAS.list(call, attributes.namespace);
    if quotas.is_empty() {
        return Ok(Reservation::default());
    }
    let Some(evaluator) = Evaluator::of(&call.kind.group, &call.kind.plural) else {
        return Ok(Reservation::default());
    };
    if !evaluator.handles(change, attributes.subresource, object) {
        return Ok(Reservation::default());
    }
    let now = base::clock::now();
    let mut usage: Option<(ResourceList, Option<ResourceList>)> = None;
    let mut demands = Vec::new();
    for entry in quotas {
        let quota = entry.parsed(Quota::parse);
        if !quota.covers(&evaluator, object) {
            continue;
        }
        check(attributes, &quota, &evaluator, object)?;
        let (whole, increase) = match &mut usage {
            Some(known) => known,
            unknown => {
                let whole = evaluator.usage(object, now);
                refuse_negative(attributes, object, &whole)?;
                let increase = match change {
                    Change::Create => None,
                    Change::Update(old) => Some(lists::increase(&whole, &evaluator.usage(old, now))),
                };
                unknown.insert((whole, increase))
            }
        };
        let delta = match (change, increase) {
            (Change::Update(old), Some(increase)) if quota.covers(&evaluator, old) => increase,
            _ => whole,
        };
        let delta = lists::mask(delta, |name| quota.hard.contains_key(name) && !delta[name].is_zero());
        if !delta.is_empty() {
            demands.push(Demand { key: entry.key.clone(), delta });
        }
    }
    if demands.is_empty() {
        return Ok(Reservation::default());
    }
    let limited = attributes.subresource != "status";
    let refused = |refusal| match refusal {
        Refusal::Exceeded(why) => attributes.forbidden(object, why),
        Refusal::Other(error) => error,
    };
    ledger::charge(call, demands, limited, attributes.dry_run).await.map_err(refused)
}

/// What must hold before anything is counted.
fn check(
    attributes: &Attributes<'_>,
    quota: &Quota,
    evaluator: &Evaluator,
    object: &Value,
) -> Result<(), ApiError> {
    if let Err(why) = evaluator.check(quota.counted(evaluator), object) {
        return Err(attributes.forbidden(object, format!("failed quota: {}: {why}", quota.name)));
    }
    let counted: Vec<&str> = quota.counted(evaluator).collect();
    if counted.iter().any(|name| !quota.used.contains_key(*name)) {
        let why = format!("status unknown for quota: {}, resources: {}", quota.name, counted.join(","));
        return Err(attributes.forbidden(object, why));
    }
    Ok(())
}

fn refuse_negative(
    attributes: &Attributes<'_>,
    object: &Value,
    usage: &ResourceList,
) -> Result<(), ApiError> {
    let negative = lists::mask(usage, |name| usage[name] < Quantity::ZERO);
    if negative.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = negative.keys().map(String::as_str).collect();
    let why = format!("quota usage is negative for resource(s): {}", names.join(","));
    Err(attributes.forbidden(object, why))
}
