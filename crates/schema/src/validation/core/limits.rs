//! LimitRanges and ResourceQuotas.

use std::collections::{BTreeMap, BTreeSet};

use api::quantity::Quantity;

use super::super::{format, metadata, resources, rules};
use crate::cursor::Node;
use crate::field::{Error, ErrorList};

/// LimitRange.
pub fn limit_range(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate(&object.at("metadata"), format::name_is_subdomain, &mut errs);
    let mut kinds = BTreeSet::new();
    for limit in object.at("spec").at("limits").items() {
        let kind = limit.at("type");
        let wrong = format::label_key(kind.str());
        if wrong.is_empty()
            && !["Pod", "Container", "PersistentVolumeClaim"].contains(&kind.str())
            && !kind.str().contains('/')
        {
            errs.push(kind.invalid_str("must be a standard limit type or fully qualified"));
        }
        errs.extend(wrong.into_iter().map(|m| kind.invalid_str(m)));
        if !kinds.insert(kind.str()) {
            errs.push(kind.duplicate());
        }
        limit_names(&limit, &mut errs);
        let lists = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];
        let names: BTreeSet<&str> =
            lists.iter().flat_map(|list| limit.at(list).entries()).map(|(n, _)| n).collect();
        names.into_iter().for_each(|name| limit_values(&limit, name, &mut errs));
    }
    errs
}

fn limit_names(limit: &Node, errs: &mut ErrorList) {
    let kind = limit.at("type").str();
    let names = |list: &'static str, errs: &mut ErrorList| {
        for (name, at) in limit.at(list).entries() {
            if ["Pod", "Container"].contains(&kind) {
                resources::container_name(name, &at, errs);
            } else {
                resources::name(name, &at, errs);
            }
        }
    };
    names("max", errs);
    names("min", errs);
    for list in ["default", "defaultRequest"] {
        if kind != "Pod" {
            names(list, errs);
        } else if !limit.at(list).is_empty() {
            errs.push(limit.at(list).forbidden("may not be specified when `type` is 'Pod'"));
        }
    }
    let storage = |list| limit.at(list).key("storage").is_set();
    if kind == "PersistentVolumeClaim" && !storage("min") && !storage("max") {
        let detail = "either minimum or maximum storage value is required, but neither was provided";
        errs.push(limit.at("limits").required(detail));
    }
    names("maxLimitRequestRatio", errs);
}

fn limit_values(limit: &Node, name: &str, errs: &mut ErrorList) {
    let of = |list: &'static str| {
        let known = list != "default" && list != "defaultRequest" || limit.at("type").str() != "Pod";
        limit.at(list).key(name).opt().filter(|_| known).map(|q| rules::quantity(&q))
    };
    let (min, max, ratio) = (of("min"), of("max"), of("maxLimitRequestRatio"));
    let (default, request) = (of("default"), of("defaultRequest"));
    let mut check = |list: &'static str, shown: Option<Quantity>, detail: String| {
        let shown = shown.map(|q| q.to_string()).unwrap_or_default();
        errs.push(Error::invalid(limit.at(list).key(name).path(), shown, detail));
    };
    let above = |a: Option<Quantity>, b: Option<Quantity>| a.zip(b).filter(|(a, b)| a > b);
    if let Some((a, b)) = above(min, max) {
        check("min", min, format!("min value {a} is greater than max value {b}"));
    }
    if let Some((a, b)) = above(min, request) {
        check("defaultRequest", request, format!("min value {a} is greater than default request value {b}"));
    }
    if let Some((a, b)) = above(request, max) {
        check("defaultRequest", request, format!("default request value {a} is greater than max value {b}"));
    }
    if let Some((a, b)) = above(request, default) {
        let detail = format!("default request value {a} is greater than default limit value {b}");
        check("defaultRequest", request, detail);
    }
    if let Some((a, b)) = above(min, default) {
        check("default", min, format!("min value {a} is greater than default value {b}"));
    }
    if let Some((a, b)) = above(default, max) {
        check("default", max, format!("default value {a} is greater than max value {b}"));
    }
    if let Some(r) = ratio.filter(|r| *r < Quantity::from_units(1)) {
        check("maxLimitRequestRatio", ratio, format!("ratio {r} is less than 1"));
    }
    if let (Some(r), Some(min), Some(max)) = (ratio, min, max) {
        // Thousandths where they fit, else whole units.
        let fit = [r, min, max].iter().all(|q| q.units() < i64::MAX / 1000);
        let (r_value, most) = if fit {
            (r.milli() as f64 / 1000.0, max.milli() as f64 / min.milli() as f64)
        } else {
            (r.units() as f64, max.units() as f64 / min.units() as f64)
        };
        if r_value > most {
            check("maxLimitRequestRatio", ratio, format!("ratio {r} is greater than max/min = {most:.6}"));
        }
    }
    let fixed = !resources::is_native(name) || resources::is_huge_page(name);
    if let (true, Some(d), Some(r)) = (fixed, default, request)
        && d != r
    {
        let detail = format!("default value {d} must equal to defaultRequest value {r} in {name}");
        check("defaultRequest", request, detail);
    }
}

/// ResourceQuota.
pub fn resource_quota(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate(&object.at("metadata"), format::name_is_subdomain, &mut errs);
    quota_spec(&object.at("spec"), &mut errs);
    quota_lists(&object.at("status"), &["hard", "used"], &mut errs);
    errs
}

/// A changed ResourceQuota: its scopes stay.
pub fn resource_quota_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    quota_spec(&new.at("spec"), &mut errs);
    let scopes = |object: &Node| -> BTreeSet<String> {
        object.at("spec").at("scopes").strings().into_iter().map(str::to_owned).collect()
    };
    if scopes(new) != scopes(old) {
        errs.push(new.at("spec").at("scopes").invalid("field is immutable"));
    }
    errs
}

/// A changed status of a ResourceQuota.
pub fn resource_quota_status_update(new: &Node, old: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    quota_lists(&new.at("status"), &["hard", "used"], &mut errs);
    errs
}

fn quota_lists(holder: &Node, lists: &[&'static str], errs: &mut ErrorList) {
    for (name, quantity) in lists.iter().flat_map(|list| holder.at(list).entries()) {
        resources::name(name, &quantity, errs);
        if !name.contains('/') && !resources::is_standard_for_quota(name) {
            errs.push(quantity.invalid_as(name, "must be a standard resource for quota"));
        }
        resources::value(name, &quantity, errs);
    }
}

const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];

/// Whether a scope can narrow the use of a resource.
fn scope_fits(scope: &str, resource: &str) -> bool {
    let compute = ["pods", "cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];
    match scope {
        "Terminating"
        | "NotTerminating"
        | "NotBestEffort"
        | "PriorityClass"
        | "CrossNamespacePodAffinity" => compute.contains(&resource),
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => resource == "persistentvolumeclaims" || resource == "requests.storage",
        _ => true,
    }
}

fn quota_spec<'a>(spec: &Node<'a>, errs: &mut ErrorList) {
    quota_lists(spec, &["hard"], errs);
    let hard: Vec<&str> = spec.at("hard").entries().map(|(name, _)| name).collect();
    let mut known = BTreeMap::new();
    let mut misfits = |scope: &'a str| -> usize {
        let count =
            || hard.iter().filter(|r| resources::is_standard_for_quota(r) && !scope_fits(scope, r)).count();
        *known.entry(scope).or_insert_with(count)
    };
    let scopes = spec.at("scopes");
    for scope in scopes.strings() {
        if errs.is_full() {
            return;
        }
        if !SCOPES.contains(&scope) {
            errs.push(scopes.invalid("unsupported scope"));
        }
        errs.extend((0..misfits(scope)).map(|_| scopes.invalid("unsupported scope applied to resource")));
    }
    conflicting(&scopes.strings(), &scopes, &scopes, errs);
    let Some(selector) = spec.at("scopeSelector").opt() else { return };
    let list = selector.at("matchExpressions");
    for requirement in list.items() {
        // Upstream leaves the index out.
        let at = |field| requirement.at(field).reported_at(list.at(field).path());
        let (scope, operator, values) = (at("scopeName"), at("operator"), at("values"));
        if !SCOPES.contains(&scope.str()) {
            errs.push(scope.invalid_str("unsupported scope"));
        }
        for _ in 0..misfits(scope.str()) {
            if errs.is_full() {
                return;
            }
            errs.push(list.invalid_as(selector.to_value(), "unsupported scope applied to resource"));
        }
        let exists_only = !["PriorityClass", "VolumeAttributesClass"].contains(&scope.str());
        if exists_only && SCOPES.contains(&scope.str()) && operator.str() != "Exists" {
            errs.push(operator.invalid_str(
                "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, \
                 ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort \
                 or ResourceQuotaScopeCrossNamespacePodAffinity",
            ));
        }
        match operator.str() {
            "In" | "NotIn" if values.is_empty() => errs.push(values.required(
                "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
            )),
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                errs.push(values.invalid(
                    "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
                ))
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => errs.push(operator.invalid_str("not a valid selector operator")),
        }
    }
    let names: Vec<&str> = list.items().map(|requirement| requirement.at("scopeName").str()).collect();
    conflicting(&names, &list, &scopes, errs);
}

fn conflicting(scopes: &[&str], at: &Node, shown: &Node, errs: &mut ErrorList) {
    for pair in [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]] {
        if pair.iter().all(|scope| scopes.contains(scope)) {
            errs.push(at.invalid_as(shown.to_value(), "conflicting scopes"));
        }
    }
}
