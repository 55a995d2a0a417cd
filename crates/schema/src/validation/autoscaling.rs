//! HorizontalPodAutoscaler in the shape of `autoscaling/v2`.

use super::{format, metadata, resources, rules};
use crate::cursor::Node;
use crate::field::ErrorList;

/// The kinds of metrics with their fields.
const SOURCES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];
const SOURCE_TYPES: [&str; 5] = ["ContainerResource", "External", "Object", "Pods", "Resource"];
/// The longest stabilisation window.
const STABILIZATION_SECONDS_MAX: i64 = 3600;
/// The longest period of a policy.
const PERIOD_SECONDS_MAX: i64 = 1800;

/// HorizontalPodAutoscaler.
pub fn horizontal_pod_autoscaler(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate(&object.at("metadata"), format::name_is_subdomain, &mut errs);
    spec(&object.at("spec"), 1, false, &mut errs);
    errs
}

/// A changed HorizontalPodAutoscaler.
pub fn horizontal_pod_autoscaler_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    let scaled_to_zero = old.at("spec").at("minReplicas").opt_i64() == Some(0);
    // A target that was given without a group before may stay so.
    let groupless = !old.at("spec").at("scaleTargetRef").at("apiVersion").str().contains('/');
    spec(&new.at("spec"), i64::from(!scaled_to_zero), groupless, &mut errs);
    errs
}

/// A changed status.
pub fn horizontal_pod_autoscaler_status_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    rules::nonnegative_fields(&new.at("status"), &["currentReplicas", "desiredReplicas"], &mut errs);
    errs
}

fn spec(spec: &Node, lowest: i64, groupless: bool, errs: &mut ErrorList) {
    let (min, max) = (spec.at("minReplicas"), spec.at("maxReplicas"));
    if min.opt_i64().is_some_and(|min| min < lowest) {
        errs.push(min.invalid(format!("must be greater than or equal to {lowest}")));
    }
    match max.i64() {
        0 => errs.push(max.required("must be set and greater than 0")),
        n if n < 0 => errs.push(max.invalid_i64("must be greater than or equal to 1")),
        _ => {}
    }
    if min.opt_i64().is_some_and(|min| max.i64() < min) {
        errs.push(max.invalid_i64("must be greater than or equal to `minReplicas`"));
    }
    object_reference(&spec.at("scaleTargetRef"), groupless, errs);
    metrics(&spec.at("metrics"), &min, errs);
    if let Some(behavior) = spec.at("behavior").opt() {
        for direction in ["scaleUp", "scaleDown"] {
            if let Some(direction) = behavior.at(direction).opt() {
                scaling_rules(&direction, errs);
            }
        }
    }
}

fn object_reference(reference: &Node, core_allowed: bool, errs: &mut ErrorList) {
    for part in ["kind", "name"] {
        if rules::not_empty(&reference.at(part), errs) {
            rules::formatted(&reference.at(part), format::path_segment, errs);
        }
    }
    let version = reference.at("apiVersion");
    let slashes = version.str().matches('/').count();
    if slashes > 1 {
        errs.push(version.invalid_str(format!("unexpected GroupVersion string: {}", version.str())));
    } else if slashes == 0 && !core_allowed {
        errs.push(version.invalid_str("apiVersion must specify API group"));
    }
}

fn metrics(list: &Node, min: &Node, errs: &mut ErrorList) {
    for metric in list.items() {
        self::metric(&metric, errs);
    }
    let external = list.items().any(|m| ["Object", "External"].contains(&m.at("type").str()));
    if min.opt_i64() == Some(0) && !external {
        let detail =
            "must specify at least one Object or External metric to support scaling to zero replicas";
        errs.push(list.forbidden(detail));
    }
}

fn metric(metric: &Node, errs: &mut ErrorList) {
    let kind = metric.at("type");
    if kind.is_empty() {
        errs.push(kind.required("must specify a metric source type"));
    }
    rules::one_of(&kind, &SOURCE_TYPES, errs);
    let mut present = Vec::new();
    for (_, field) in SOURCES {
        let Some(source) = metric.at(field).opt() else { continue };
        present.push(field);
        if present.len() == 1 {
            self::source(field, &source, errs);
        }
    }
    let expected = SOURCES.iter().find(|(name, _)| *name == kind.str()).map(|(_, field)| *field);
    match expected {
        None => errs.push(kind.not_supported(&SOURCE_TYPES)),
        Some(field) if !present.contains(&field) => {
            errs.push(metric.at(field).required("must populate information for the given metric source"));
        }
        Some(_) => {}
    }
    if present.len() != 1 {
        for field in present.into_iter().filter(|field| Some(*field) != expected) {
            errs.push(metric.at(field).forbidden("must populate the given metric source only"));
        }
    }
}

fn source(kind: &str, source: &Node, errs: &mut ErrorList) {
    let (target, name) = (source.at("target"), source.at("name"));
    let has = |field| target.object().is_some_and(|t| t.contains_key(field));
    match kind {
        "object" => {
            object_reference(&source.at("describedObject"), true, errs);
            identifier(&source.at("metric"), errs);
            metric_target(&target, errs);
            if !has("value") && !has("averageValue") {
                let detail = "must set either a target value or averageValue";
                errs.push(target.at("averageValue").required(detail));
            }
        }
        "external" => {
            identifier(&source.at("metric"), errs);
            metric_target(&target, errs);
            match (has("value"), has("averageValue")) {
                (false, false) => {
                    let detail = "must set either a target value for metric or a per-pod target";
                    errs.push(target.at("averageValue").required(detail));
                }
                (true, true) => {
                    let detail = "may not set both a target value for metric and a per-pod target";
                    errs.push(target.at("value").forbidden(detail));
                }
                _ => {}
            }
        }
        "pods" => {
            identifier(&source.at("metric"), errs);
            metric_target(&target, errs);
            if !has("averageValue") {
                let detail = "must specify a positive target averageValue";
                errs.push(target.at("averageValue").required(detail));
            }
        }
        _ => {
            if name.is_empty() {
                errs.push(name.required("must specify a resource name"));
            } else if kind == "containerResource" {
                resources::container_name(name.str(), &name, errs);
            }
            if kind == "containerResource" {
                let container = source.at("container");
                if container.is_empty() {
                    errs.push(container.required("must specify a container"));
                } else {
                    rules::formatted(&container, format::dns1123_label, errs);
                }
            }
            metric_target(&target, errs);
            match (has("averageUtilization"), has("averageValue")) {
                (false, false) => {
                    let detail = "must set either a target raw value or a target utilization";
                    errs.push(target.at("averageUtilization").required(detail));
                }
                (true, true) => {
                    let detail = "may not set both a target raw value and a target utilization";
                    errs.push(target.at("averageValue").forbidden(detail));
                }
                _ => {}
            }
        }
    }
}

fn identifier(metric: &Node, errs: &mut ErrorList) {
    let name = metric.at("name");
    if name.is_empty() {
        errs.push(name.required("must specify a metric name"));
    } else {
        rules::formatted(&name, format::path_segment, errs);
    }
}

fn metric_target(target: &Node, errs: &mut ErrorList) {
    let kind = target.at("type");
    if kind.is_empty() {
        errs.push(kind.required("must specify a metric target type"));
    }
    if !["Utilization", "Value", "AverageValue"].contains(&kind.str()) {
        errs.push(kind.invalid_str("must be either Utilization, Value, or AverageValue"));
    }
    for value in ["value", "averageValue"] {
        if let Some(value) = target.at(value).opt()
            && rules::quantity(&value) <= api::quantity::Quantity::ZERO
        {
            errs.push(value.invalid("must be positive"));
        }
    }
    let utilization = target.at("averageUtilization");
    if utilization.opt_i64().is_some_and(|percent| percent < 1) {
        errs.push(utilization.invalid("must be greater than 0"));
    }
}

fn scaling_rules(scaling: &Node, errs: &mut ErrorList) {
    if let Some(window) = scaling.at("stabilizationWindowSeconds").opt() {
        if window.i64() < 0 {
            errs.push(window.invalid("must be greater than or equal to zero"));
        }
        if window.i64() > STABILIZATION_SECONDS_MAX {
            errs.push(window.invalid(format!("must be less than or equal to {STABILIZATION_SECONDS_MAX}")));
        }
    }
    if let Some(select) = scaling.at("selectPolicy").opt() {
        rules::one_of(&select, &["Disabled", "Max", "Min"], errs);
    }
    let policies = scaling.at("policies");
    if policies.is_empty() {
        errs.push(policies.required("must specify at least one Policy"));
    }
    for policy in policies.items() {
        rules::one_of(&policy.at("type"), &["Percent", "Pods"], errs);
        rules::positive(&policy.at("value"), errs);
        let period = policy.at("periodSeconds");
        rules::positive(&period, errs);
        if period.i64() > PERIOD_SECONDS_MAX {
            errs.push(period.invalid(format!("must be less than or equal to {PERIOD_SECONDS_MAX}")));
        }
    }
    if let Some(tolerance) = scaling.at("tolerance").opt() {
        rules::nonnegative_quantity(&tolerance, errs);
    }
}
