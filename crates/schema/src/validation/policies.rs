//! Admission policies and their bindings. Expressions are only looked at for being there: compiling
//! CEL is not done here.

use std::collections::BTreeSet;

use super::admission::{match_conditions, optional, rule_with_operations};
use super::{format, labels, metadata, rules};
use crate::cursor::Node;
use crate::field::{Error, ErrorList};

/// ValidatingAdmissionPolicy.
pub fn validating_policy(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_common(&object.at("metadata"), format::name_is_subdomain, &mut errs);
    let spec = object.at("spec");
    common(&spec, &mut errs);
    let (validations, annotations) = (spec.at("validations"), spec.at("auditAnnotations"));
    if validations.is_empty() && annotations.is_empty() {
        let detail = "validations or auditAnnotations must contain at least one item";
        errs.push(validations.required(detail));
        errs.push(annotations.required(detail));
    }
    validations.items().for_each(|validation| self::validation(&validation, &mut errs));
    let policy = object.at("metadata").at("name").str();
    let mut keys = BTreeSet::new();
    for annotation in annotations.items() {
        let key = annotation.at("key");
        let full = format!("{policy}/{}", key.str());
        errs.extend(format::label_key(&full).into_iter().map(|m| key.invalid_as(full.as_str(), m)));
        if !keys.insert(key.str()) {
            errs.push(key.duplicate());
        }
        required_expression(&annotation.at("valueExpression"), &mut errs);
    }
    errs
}

fn required_expression(expression: &Node, errs: &mut ErrorList) {
    if expression.str().trim().is_empty() {
        errs.push(expression.required("expression is not specified"));
    }
}

fn validation(validation: &Node, errs: &mut ErrorList) {
    required_expression(&validation.at("expression"), errs);
    let (message, by_expression) = (validation.at("message"), validation.at("messageExpression"));
    if !by_expression.is_empty() && by_expression.str().trim().is_empty() {
        errs.push(by_expression.invalid_str("must be non-empty if specified"));
    }
    if !message.is_empty() && message.str().trim().is_empty() {
        errs.push(message.invalid_str("message must be non-empty if specified"));
    } else if message.str().contains(['\n', '\r']) {
        errs.push(message.invalid_str("must not contain line breaks"));
    }
    optional(&validation.at("reason"), &["Forbidden", "Invalid", "RequestEntityTooLarge"], errs);
}

fn common(spec: &Node, errs: &mut ErrorList) {
    if let Some(policy) = spec.at("failurePolicy").opt() {
        rules::one_of(&policy, &["Fail", "Ignore"], errs);
    }
    if let Some(kind) = spec.at("paramKind").opt() {
        let version = kind.at("apiVersion");
        if rules::not_empty(&version, errs) {
            match version.str().matches('/').count() {
                0 | 1 => {}
                _ => errs
                    .push(version.invalid_str(format!("unexpected GroupVersion string: {}", version.str()))),
            }
        }
        rules::not_empty(&kind.at("kind"), errs);
    }
    match spec.at("matchConstraints").opt() {
        None => errs.push(spec.at("matchConstraints").required("")),
        Some(constraints) => {
            match_resources(&constraints, errs);
            rules::not_empty(&constraints.at("resourceRules"), errs);
        }
    }
    match_conditions(&spec.at("matchConditions"), errs);
    let mut names = BTreeSet::new();
    for variable in spec.at("variables").items() {
        let name = variable.at("name");
        if rules::not_empty(&name, errs) {
            if !format::c_identifier(name.str()).is_empty() {
                errs.push(name.invalid_str("must be a valid CEL identifier"));
            }
            if !names.insert(name.str()) {
                errs.push(name.duplicate());
            }
        }
        required_expression(&variable.at("expression"), errs);
    }
}

fn match_resources(resources: &Node, errs: &mut ErrorList) {
    labels::selector(&resources.at("namespaceSelector"), errs);
    labels::selector(&resources.at("objectSelector"), errs);
    for rule in ["resourceRules", "excludeResourceRules"].iter().flat_map(|list| resources.at(list).items()) {
        rule_with_operations(&rule, errs);
    }
    optional(&resources.at("matchPolicy"), &["Equivalent", "Exact"], errs);
}

/// MutatingAdmissionPolicy.
pub fn mutating_policy(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_common(&object.at("metadata"), format::name_is_subdomain, &mut errs);
    let spec = object.at("spec");
    common(&spec, &mut errs);
    let rules_list = spec.at("matchConstraints").at("resourceRules");
    for operation in rules_list.items().flat_map(|rule| rule.at("operations").items()) {
        let supported = ["*", "CONNECT", "CREATE", "UPDATE"];
        if operation.str() == "DELETE" {
            let at = rules_list.path().child("operations");
            errs.push(Error::not_supported(&at, operation.str(), &supported));
        }
    }
    let mutations = spec.at("mutations");
    if mutations.is_empty() {
        errs.push(mutations.required("mutations must contain at least one item"));
    }
    for mutation in mutations.items() {
        let kind = mutation.at("patchType");
        rules::required_one_of(&kind, &["ApplyConfiguration", "JSONPatch"], &mut errs);
        let pairs = [("ApplyConfiguration", "applyConfiguration"), ("JSONPatch", "jsonPatch")];
        for (name, field) in pairs {
            let patch = mutation.at(field);
            match (kind.str() == name, patch.is_set()) {
                (true, false) => {
                    errs.push(patch.required(format!("must be specified when patchType is {name}")));
                }
                (true, true) => required_expression(&patch.at("expression"), &mut errs),
                (false, true) if pairs.iter().any(|(other, _)| *other == kind.str()) => {
                    errs.push(
                        patch.invalid(format!("must not be specified when patchType is {}", kind.str())),
                    );
                }
                _ => {}
            }
        }
    }
    let policy = spec.at("reinvocationPolicy");
    rules::required_one_of(&policy, &["IfNeeded", "Never"], &mut errs);
    errs
}

fn binding(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_common(&object.at("metadata"), format::name_is_subdomain, &mut errs);
    let spec = object.at("spec");
    if rules::not_empty(&spec.at("policyName"), &mut errs) {
        rules::named(&spec.at("policyName"), format::name_is_subdomain, &mut errs);
    }
    if let Some(reference) = spec.at("paramRef").opt() {
        let (name, selector) = (reference.at("name"), reference.at("selector"));
        match (!name.is_empty(), selector.is_set()) {
            (true, true) => {
                let detail = "name and selector are mutually exclusive";
                errs.push(name.forbidden(detail));
                errs.push(selector.forbidden(detail));
            }
            (true, false) => rules::formatted(&name, format::path_segment, &mut errs),
            (false, true) => labels::selector(&selector, &mut errs),
            (false, false) => errs.push(reference.required("one of name or selector must be specified")),
        }
        let missing = reference.at("parameterNotFoundAction");
        rules::required_one_of(&missing, &["Deny", "Allow"], &mut errs);
    }
    if let Some(resources) = spec.at("matchResources").opt() {
        match_resources(&resources, &mut errs);
    }
    errs
}

/// ValidatingAdmissionPolicyBinding.
pub fn validating_binding(object: &Node) -> ErrorList {
    let mut errs = binding(object);
    let actions = object.at("spec").at("validationActions");
    if actions.is_empty() {
        errs.push(actions.required("at least one validation action is required"));
        return errs;
    }
    let mut seen = BTreeSet::new();
    for action in actions.items() {
        rules::one_of(&action, &["Audit", "Deny", "Warn"], &mut errs);
        if !seen.insert(action.str()) {
            errs.push(action.duplicate());
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        errs.push(actions.invalid(
            "must not contain both Deny and Warn (repeating the same validation failure information in the API \
             response and headers serves no purpose)",
        ));
    }
    errs
}

/// MutatingAdmissionPolicyBinding.
pub fn mutating_binding(object: &Node) -> ErrorList {
    binding(object)
}
