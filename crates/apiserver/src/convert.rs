//! Conversion between the versions of kinds that have several.

use serde_json::Value;

use crate::kind::Convert;

/// events.k8s.io/v1 Event, stored as core/v1.
pub const EVENTS_TO_CORE: Convert = Convert { to_storage: same, from_storage: same };
/// autoscaling/v1 HorizontalPodAutoscaler, stored as v2.
pub const HPA_V1_TO_V2: Convert = Convert { to_storage: same, from_storage: same };

fn same(_: &mut Value) {}
