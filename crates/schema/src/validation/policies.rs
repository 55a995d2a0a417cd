//! Admission policies and their bindings.

use std::collections::BTreeSet;

use cel::Type;

use super::admission::{match_conditions, optional, rule_with_operations};
use super::expressions::Expressions;
use super::{format, labels, metadata, rules};
use crate::cursor::Node;
use crate::field::{Error, ErrorList};

const ANNOTATIONS_MAX: usize = 20;
const ANNOTATION_EXPRESSION_BYTES_MAX: usize = 5 << 10;

/// ValidatingAdmissionPolicy.
pub fn validating_policy(object: &Node) -> ErrorList {
    checked_validating_policy(object, true)
}

/// A changed ValidatingAdmissionPolicy. Conditions that stay the same are not looked at.
pub fn validating_policy_update(new: &Node, old: &Node) -> ErrorList {
    checked_validating_policy(new, conditions_change(new, old))
}

/// Whether conditions that were valid may not be so any longer.
fn conditions_change(new: &Node, old: &Node) -> bool {
    ["paramKind", "matchConditions"]
        .iter()
        .any(|field| new.at("spec").at(field).to_value() != old.at("spec").at(field).to_value())
}

fn checked_validating_policy(object: &Node, conditions: bool) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_common(&object.at("metadata"), format::name_is_subdomain, &mut errs);
    let spec = object.at("spec");
    let params = spec.at("paramKind").is_set();
    let mut expressions = match spec.at("variables").is_empty() {
        true => Expressions::plain(params),
        false => Expressions::with_variables(params),
    };
    common(&spec, false, conditions, &mut expressions, &mut errs);
    let (validations, annotations) = (spec.at("validations"), spec.at("auditAnnotations"));
    if validations.is_empty() && annotations.is_empty() {
        let detail = "validations or auditAnnotations must contain at least one item";
        errs.push(validations.required(detail));
        errs.push(annotations.required(detail));
    }
    validations.items().for_each(|validation| self::validation(&validation, &expressions, &mut errs));
    if annotations.len() > ANNOTATIONS_MAX {
        let detail = format!("must not have more than {ANNOTATIONS_MAX} auditAnnotations");
        errs.push(annotations.invalid(detail));
    }
    let policy = object.at("metadata").at("name").str();
    let mut keys = BTreeSet::new();
    for annotation in annotations.items() {
        let key = annotation.at("key");
        if policy.is_empty() {
            errs.push(key.invalid_str("requires metadata.name be non-empty"));
        } else {
            let full = format!("{policy}/{}", key.str());
            errs.extend(format::label_key(&full).into_iter().map(|m| key.invalid_as(full.as_str(), m)));
        }
        annotation_value(&annotation.at("valueExpression"), &expressions, &mut errs);
        if !keys.insert(key.str()) {
            errs.push(key.duplicate());
        }
    }
    errs
}

fn annotation_value(expression: &Node, expressions: &Expressions, errs: &mut ErrorList) {
    let trimmed = expression.str().trim();
    if trimmed.is_empty() {
        errs.push(expression.required("valueExpression is not specified"));
    } else if trimmed.len() > ANNOTATION_EXPRESSION_BYTES_MAX {
        let detail = format!("must not exceed {ANNOTATION_EXPRESSION_BYTES_MAX} bytes in length");
        errs.push(expression.required(detail));
    } else {
        expressions.annotation(expression, errs);
    }
}

fn validation(validation: &Node, expressions: &Expressions, errs: &mut ErrorList) {
    let expression = validation.at("expression");
    if expression.str().trim().is_empty() {
        errs.push(expression.required("expression is not specified"));
    } else {
        expressions.condition(&expression, expression.str(), errs);
    }
    let (message, by_expression) = (validation.at("message"), validation.at("messageExpression"));
    if !by_expression.is_empty() && by_expression.str().trim().is_empty() {
        errs.push(by_expression.invalid_str("must be non-empty if specified"));
    } else if !by_expression.is_empty() {
        expressions.message(&by_expression, errs);
    }
    if !message.is_empty() && message.str().trim().is_empty() {
        errs.push(message.invalid_str("must be non-empty if specified"));
    } else if message.str().trim().contains(['\n', '\r']) {
        errs.push(message.invalid_str("must not contain line breaks"));
    }
    optional(&validation.at("reason"), &["Forbidden", "Invalid", "RequestEntityTooLarge"], errs);
}

fn common(
    spec: &Node,
    mutating: bool,
    conditions: bool,
    expressions: &mut Expressions,
    errs: &mut ErrorList,
) {
    if let Some(policy) = spec.at("failurePolicy").opt() {
        rules::one_of(&policy, &["Fail", "Ignore"], errs);
    }
    if let Some(kind) = spec.at("paramKind").opt() {
        param_kind(&kind, errs);
    }
    match spec.at("matchConstraints").opt() {
        None => errs.push(spec.at("matchConstraints").required("")),
        Some(constraints) => {
            match_resources(&constraints, errs);
            rules::not_empty(&constraints.at("resourceRules"), errs);
            if mutating {
                mutable_operations(&constraints, errs);
            }
        }
    }
    if conditions {
        match_conditions(&spec.at("matchConditions"), spec.at("paramKind").is_set(), errs);
    }
    for variable in spec.at("variables").items() {
        let (name, expression) = (variable.at("name"), variable.at("expression"));
        if name.str().trim().is_empty() {
            errs.push(name.required("name is not specified"));
        } else if !format::c_identifier(name.str()).is_empty() || cel::is_reserved(name.str()) {
            errs.push(name.invalid_str("must be a valid CEL identifier"));
        }
        if expression.str().trim().is_empty() {
            errs.push(expression.required("expression is not specified"));
        } else {
            expressions.variable(name.str(), &expression, errs);
        }
    }
}

fn param_kind(kind: &Node, errs: &mut ErrorList) {
    let (version, name) = (kind.at("apiVersion"), kind.at("kind"));
    if rules::not_empty(&version, errs) {
        let (group, own) = version.str().split_once('/').unwrap_or(("", version.str()));
        if own.contains('/') {
            errs.push(version.invalid_str(format!("unexpected GroupVersion string: {}", version.str())));
        } else {
            let subdomain = if group.is_empty() { Vec::new() } else { format::dns1123_subdomain(group) };
            if !subdomain.is_empty() {
                errs.push(version.invalid_as(group, subdomain.join(",")));
            }
            if own.is_empty() {
                errs.push(version.invalid_str("version must be specified"));
            } else if let why @ [_, ..] = format::dns1035_label(own).as_slice() {
                errs.push(version.invalid_as(own, why.join(",")));
            }
        }
    }
    if rules::not_empty(&name, errs)
        && let why @ [_, ..] = format::dns1035_label(&name.str().to_lowercase()).as_slice()
    {
        let why = why.join(",");
        errs.push(name.invalid_str(format!("may have mixed case, but should otherwise match: {why}")));
    }
}

fn match_resources(resources: &Node, errs: &mut ErrorList) {
    labels::selector(&resources.at("namespaceSelector"), errs);
    labels::selector(&resources.at("objectSelector"), errs);
    for rule in ["resourceRules", "excludeResourceRules"].iter().flat_map(|list| resources.at(list).items()) {
        let mut seen = BTreeSet::new();
        for name in rule.at("resourceNames").items() {
            rules::formatted(&name, format::path_segment, errs);
            if !seen.insert(name.str()) {
                errs.push(name.duplicate());
            }
        }
        rule_with_operations(&rule, errs);
    }
    optional(&resources.at("matchPolicy"), &["Equivalent", "Exact"], errs);
}

/// What is deleted cannot be changed.
fn mutable_operations(resources: &Node, errs: &mut ErrorList) {
    let list = resources.at("resourceRules");
    let supported = ["*", "CONNECT", "CREATE", "UPDATE"];
    for operation in list.items().flat_map(|rule| rule.at("operations").items()) {
        if !supported.contains(&operation.str()) {
            let at = list.path().child("operations");
            errs.push(Error::not_supported(&at, operation.str(), &supported));
        }
    }
}

/// MutatingAdmissionPolicy.
pub fn mutating_policy(object: &Node) -> ErrorList {
    checked_mutating_policy(object, true)
}

/// A changed MutatingAdmissionPolicy. Conditions that stay the same are not looked at.
pub fn mutating_policy_update(new: &Node, old: &Node) -> ErrorList {
    checked_mutating_policy(new, conditions_change(new, old))
}

fn checked_mutating_policy(object: &Node, conditions: bool) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_common(&object.at("metadata"), format::name_is_subdomain, &mut errs);
    let spec = object.at("spec");
    let mut expressions = Expressions::with_variables(spec.at("paramKind").is_set());
    common(&spec, true, conditions, &mut expressions, &mut errs);
    let mutations = spec.at("mutations");
    if mutations.is_empty() {
        errs.push(mutations.required("mutations must contain at least one item"));
    }
    for mutation in mutations.items() {
        let kind = mutation.at("patchType");
        rules::required_one_of(&kind, &["ApplyConfiguration", "JSONPatch"], &mut errs);
        let patches = [
            ("ApplyConfiguration", "applyConfiguration", Type::object("Object")),
            ("JSONPatch", "jsonPatch", Type::list(Type::object("JSONPatch"))),
        ];
        let Some((name, field, wanted)) = patches.iter().find(|(name, ..)| *name == kind.str()) else {
            continue;
        };
        let patch = mutation.at(field);
        if patch.is_set() {
            let expression = patch.at("expression");
            if expression.str().trim().is_empty() {
                errs.push(expression.required(""));
            } else {
                expressions.mutation(&expression, wanted.clone(), &mut errs);
            }
        } else {
            errs.push(patch.required(format!("must be specified when patchType is {name}")));
        }
        for (_, other, _) in patches.iter().filter(|(other, ..)| other != name) {
            if mutation.at(other).is_set() {
                let detail = format!("must not be specified when patchType is {name}");
                errs.push(mutation.at(other).invalid_as(format!("{{{other}}}"), detail));
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
    let mut errs = binding(object);
    mutable_operations(&object.at("spec").at("matchResources"), &mut errs);
    errs
}
