//! The group `karpenter.sh`, as its CRDs default.

use serde_json::{Value, json};

use super::fill::Fill;

/// NodePool.
pub fn node_pool(object: &mut Value) {
    let spec = object.filled("spec");
    spec.filled("template").filled("spec").fill_nil("expireAfter", "720h");
    let disruption = spec.filled("disruption");
    disruption.fill_nil("consolidateAfter", "0s");
    disruption.fill_nil("consolidationPolicy", "WhenEmptyOrUnderutilized");
    disruption.fill_nil("budgets", json!([{"nodes": "10%"}]));
}

/// NodeClaim.
pub fn node_claim(object: &mut Value) {
    object.filled("spec").fill_nil("expireAfter", "720h");
}
