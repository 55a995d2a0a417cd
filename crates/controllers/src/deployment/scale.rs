//! How many replicas each ReplicaSet of a Deployment gets.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::int_or_percent::{Round, resolve};

/// Annotation on a ReplicaSet: the Deployment's replicas when it was last scaled.
pub const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
/// Annotation on a ReplicaSet: the Deployment's replicas plus surge when it was last scaled.
pub const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";

/// The replicas the Deployment asks for.
pub fn desired(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// The replicas the ReplicaSet is asked for.
pub fn size(rs: &ReplicaSet) -> i32 {
    rs.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// The replicas of the ReplicaSet that are available.
pub fn available(rs: &ReplicaSet) -> i32 {
    rs.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
}

/// Whether the Deployment replaces pods step by step.
pub fn is_rolling(deployment: &Deployment) -> bool {
    deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.strategy.as_ref())
        .and_then(|strategy| strategy.type_.as_deref())
        .is_none_or(|type_| type_ == "RollingUpdate")
}

/// The surge and unavailability limits of a rolling update, resolved together: when both come to
/// zero, one pod may be unavailable, or nothing could ever move.
fn fenceposts(deployment: &Deployment) -> (i32, i32) {
    let rolling = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.strategy.as_ref())
        .and_then(|strategy| strategy.rolling_update.as_ref());
    let quarter = IntOrString::String("25%".into());
    let surge = rolling.and_then(|rolling| rolling.max_surge.as_ref()).unwrap_or(&quarter);
    let unavailable = rolling.and_then(|rolling| rolling.max_unavailable.as_ref()).unwrap_or(&quarter);
    let total = desired(deployment);
    let surge = resolve(surge, total, Round::Up).unwrap_or(0);
    let unavailable = resolve(unavailable, total, Round::Down).unwrap_or(0);
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
}

/// How many pods may exist above the desired count.
pub fn max_surge(deployment: &Deployment) -> i32 {
    if is_rolling(deployment) { fenceposts(deployment).0 } else { 0 }
}

/// How many of the desired pods may be unavailable.
pub fn max_unavailable(deployment: &Deployment) -> i32 {
    let total = desired(deployment);
    if !is_rolling(deployment) || total == 0 { 0 } else { fenceposts(deployment).1.min(total) }
}

/// The size of the new ReplicaSet when all sets together have `current_total` replicas.
pub fn new_set_size(deployment: &Deployment, new_size: i32, current_total: i32) -> i32 {
    let desired = desired(deployment);
    if !is_rolling(deployment) {
        return desired;
    }
    let room = desired + max_surge(deployment) - current_total;
    if room <= 0 { new_size } else { new_size + room.min(desired - new_size) }
}

/// The new sizes when the Deployment was scaled while several ReplicaSets are active: each takes
/// its share, the largest first, and rounding leftovers go to the largest.
pub fn proportional(deployment: &Deployment, active: &[&ReplicaSet]) -> Vec<(String, i32)> {
    let desired = desired(deployment);
    let allowed = if desired > 0 { desired + max_surge(deployment) } else { 0 };
    let to_add = allowed - active.iter().map(|rs| size(rs)).sum::<i32>();
    let mut sorted = active.to_vec();
    // Sets of one size grow from the newest and shrink from the oldest.
    sorted.sort_by(|a, b| {
        let by_age = created(a).cmp(&created(b)).then_with(|| a.metadata.name.cmp(&b.metadata.name));
        size(b).cmp(&size(a)).then_with(|| if to_add > 0 { by_age.reverse() } else { by_age })
    });
    let mut added = 0;
    let mut sizes: Vec<(String, i32)> = Vec::with_capacity(sorted.len());
    for rs in sorted {
        let share = share(deployment, rs, to_add, added);
        added += share;
        sizes.push((rs.metadata.name.clone().unwrap_or_default(), size(rs) + share));
    }
    if let Some(first) = sizes.first_mut().filter(|_| to_add != 0) {
        first.1 = (first.1 + to_add - added).max(0);
    }
    sizes
}

/// The age by which ReplicaSets are ordered.
pub fn created(rs: &ReplicaSet) -> Option<jiff::Timestamp> {
    rs.metadata.creation_timestamp.as_ref().map(|time| time.0)
}

fn share(deployment: &Deployment, rs: &ReplicaSet, to_add: i32, added: i32) -> i32 {
    if size(rs) == 0 || to_add == 0 || to_add == added {
        return 0;
    }
    let fraction = fraction(deployment, rs);
    if to_add > 0 { fraction.min(to_add - added) } else { fraction.max(to_add - added) }
}

fn fraction(deployment: &Deployment, rs: &ReplicaSet) -> i32 {
    let desired = desired(deployment);
    if desired == 0 {
        return -size(rs);
    }
    let observed = || deployment.status.as_ref().and_then(|status| status.replicas).unwrap_or(0);
    let before = annotated_count(rs, MAX_REPLICAS).filter(|count| *count > 0).unwrap_or_else(observed);
    if before == 0 {
        return 0;
    }
    let share = f64::from(size(rs)) * f64::from(desired + max_surge(deployment)) / f64::from(before);
    share.round() as i32 - size(rs)
}

/// A count kept in an annotation.
pub fn annotated_count(rs: &ReplicaSet, annotation: &str) -> Option<i32> {
    rs.metadata.annotations.as_ref()?.get(annotation)?.parse().ok().filter(|count| *count >= 0)
}

/// Sets the size annotations and returns whether they changed.
pub fn annotate(rs: &mut ReplicaSet, deployment: &Deployment) -> bool {
    let annotations = rs.metadata.annotations.get_or_insert_default();
    let mut changed = false;
    for (key, count) in
        [(DESIRED_REPLICAS, desired(deployment)), (MAX_REPLICAS, desired(deployment) + max_surge(deployment))]
    {
        let count = count.to_string();
        if annotations.get(key) != Some(&count) {
            annotations.insert(key.to_string(), count);
            changed = true;
        }
    }
    changed
}

/// Whether the new ReplicaSet holds all desired replicas, all of them available.
pub fn is_saturated(deployment: &Deployment, rs: &ReplicaSet) -> bool {
    let desired = desired(deployment);
    size(rs) == desired && annotated_count(rs, DESIRED_REPLICAS) == Some(desired) && available(rs) == desired
}
