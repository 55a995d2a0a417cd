//! Nobody hands out rights they do not have: checks on writes of roles and bindings.

use std::collections::{BTreeMap, BTreeSet};

use api::user::{MASTERS, UserInfo};
use serde::Deserialize;
use serde_json::Value;

use super::rbac::url_covers;
use super::{Attributes, Authorizer, Rule};
use crate::status::ApiError;

const GROUP: &str = "rbac.authorization.k8s.io";

/// What is written: the request's resource, namespace and object name.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// `roles`, `clusterroles`, `rolebindings`, `clusterrolebindings`.
    pub resource: &'a str,
    /// Namespace, empty for cluster scope.
    pub namespace: &'a str,
    /// Name in the path, empty on create.
    pub request_name: &'a str,
    /// Name of the object.
    pub name: &'a str,
}

impl Authorizer {
    /// Refuses a write of a role or a binding that would grant what `user` does not hold. `old` is the
    /// stored object on update. Does nothing for other resources.
    ///
    /// # Errors
    /// 403 with what is missing; 404 when a binding refers to a role that is not there.
    pub fn check_escalation(
        &self,
        user: &UserInfo,
        target: Target<'_>,
        new: &Value,
        old: Option<&Value>,
    ) -> Result<(), ApiError> {
        if user.is_in(MASTERS) {
            return Ok(());
        }
        match target.resource {
            "roles" | "clusterroles" => self.check_role(user, target, new, old),
            "rolebindings" | "clusterrolebindings" => self.check_binding(user, target, new, old),
            _ => Ok(()),
        }
    }

    fn check_role(
        &self,
        user: &UserInfo,
        target: Target<'_>,
        new: &Value,
        old: Option<&Value>,
    ) -> Result<(), ApiError> {
        let escalate = Attributes {
            verb: "escalate",
            is_resource: true,
            group: GROUP,
            resource: target.resource,
            namespace: target.namespace,
            name: target.request_name,
            ..Attributes::default()
        };
        if old.is_some_and(|old| same_but_for_collection(old, new)) || self.allows(user, &escalate) {
            return Ok(());
        }
        let rules = Vec::<Rule>::deserialize(&new["rules"]).unwrap_or_default();
        self.confirm(user, target, &rules)?;
        let (own, _) = self.rules_for(user, target.namespace);
        if (aggregates(new) || old.is_some_and(aggregates)) && !covers(&own, &everything()).is_empty() {
            let why = "must have cluster-admin privileges to use the aggregationRule";
            return Err(ApiError::forbidden(GROUP, target.resource, target.name, why));
        }
        Ok(())
    }

    fn check_binding(
        &self,
        user: &UserInfo,
        target: Target<'_>,
        new: &Value,
        old: Option<&Value>,
    ) -> Result<(), ApiError> {
        let text = |field: &str| new["roleRef"][field].as_str().unwrap_or_default();
        let (kind, name) = (text("kind"), text("name"));
        let resource = match kind {
            "ClusterRole" => "clusterroles",
            _ => "roles",
        };
        let bind = Attributes {
            verb: "bind",
            is_resource: true,
            group: GROUP,
            resource,
            namespace: target.namespace,
            name,
            ..Attributes::default()
        };
        if old.is_some_and(|old| same_but_for_collection(old, new)) || self.allows(user, &bind) {
            return Ok(());
        }
        let rules = self.read().role_rules(kind, name, target.namespace).map(|rules| rules.to_vec());
        match rules {
            Ok(rules) => self.confirm(user, target, &rules),
            Err(_) => Err(ApiError::not_found(GROUP, target.resource, name)),
        }
    }

    fn confirm(&self, user: &UserInfo, target: Target<'_>, rules: &[Rule]) -> Result<(), ApiError> {
        let (own, errors) = self.rules_for(user, target.namespace);
        let missing = covers(&own, rules);
        if missing.is_empty() {
            return Ok(());
        }
        let missing: BTreeSet<String> = compact(missing).iter().map(describe).collect();
        let missing: Vec<String> = missing.into_iter().collect();
        let mut why = format!(
            "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
            user.name,
            quoted(&user.groups),
            missing.join("\n")
        );
        if !errors.is_empty() {
            // Here, upstream reads the store and not its cache, whose errors name things differently.
            let errors: Vec<String> =
                errors.iter().map(|error| error.replacen("role.rbac.", "roles.rbac.", 1)).collect();
            why.push_str(&format!("; resolution errors: [{}]", errors.join(", ")));
        }
        Err(ApiError::forbidden(GROUP, target.resource, target.name, why))
    }
}

/// Whether nothing differs but what the garbage collector needs to change to delete an object.
fn same_but_for_collection(old: &Value, new: &Value) -> bool {
    const OF_COLLECTION: [&str; 3] = ["ownerReferences", "finalizers", "managedFields"];
    let bare = |object: &Value| {
        let mut object = object.clone();
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.retain(|field, _| !OF_COLLECTION.contains(&field.as_str()));
        }
        // Go compares missing lists and empty ones as equal, and objects come with and without their kind.
        if let Some(fields) = object.as_object_mut() {
            fields.retain(|field, value| {
                !["kind", "apiVersion"].contains(&field.as_str())
                    && !value.is_null()
                    && value.as_array().is_none_or(|items| !items.is_empty())
            });
        }
        object
    };
    bare(old) == bare(new)
}

/// Whether a cluster role collects the rules of others.
fn aggregates(role: &Value) -> bool {
    let selectors = role.pointer("/aggregationRule/clusterRoleSelectors").and_then(Value::as_array);
    selectors.is_some_and(|selectors| !selectors.is_empty())
}

/// What cluster-admin may do.
fn everything() -> Vec<Rule> {
    let all = || vec!["*".to_owned()];
    vec![
        Rule { verbs: all(), api_groups: all(), resources: all(), ..Rule::default() },
        Rule { verbs: all(), non_resource_urls: all(), ..Rule::default() },
    ]
}

/// The rules of `wanted` that `own` does not cover, joined where they differ by verb only.
pub(super) fn missing_rules(own: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    compact(covers(own, wanted))
}

/// The smallest parts of `wanted` that no rule of `own` covers.
fn covers(own: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    let parts = wanted.iter().flat_map(parts);
    parts.filter(|part| !own.iter().any(|rule| rule_covers(rule, part))).collect()
}

/// A rule as rules of one group, resource, verb and name each.
fn parts(rule: &Rule) -> Vec<Rule> {
    let one = |text: &String| vec![text.clone()];
    let mut parts = Vec::new();
    for group in &rule.api_groups {
        for resource in &rule.resources {
            for verb in &rule.verbs {
                let part = Rule {
                    verbs: one(verb),
                    api_groups: one(group),
                    resources: one(resource),
                    ..Rule::default()
                };
                if rule.resource_names.is_empty() {
                    parts.push(part);
                } else {
                    let named = |name| Rule { resource_names: one(name), ..part.clone() };
                    parts.extend(rule.resource_names.iter().map(named));
                }
            }
        }
    }
    for url in &rule.non_resource_urls {
        let part = |verb| Rule { verbs: one(verb), non_resource_urls: one(url), ..Rule::default() };
        parts.extend(rule.verbs.iter().map(part));
    }
    parts
}

fn rule_covers(own: &Rule, part: &Rule) -> bool {
    let has = |set: &[String], item: &str| set.iter().any(|member| member == item);
    let all = |set: &[String], of: &[String]| has(set, "*") || of.iter().all(|item| has(set, item));
    let resources = all(&own.resources, &part.resources)
        || part.resources.iter().all(|resource| {
            has(&own.resources, resource)
                || resource.split_once('/').is_some_and(|(_, sub)| has(&own.resources, &format!("*/{sub}")))
        });
    let names = own.resource_names.is_empty()
        || (!part.resource_names.is_empty()
            && part.resource_names.iter().all(|name| has(&own.resource_names, name)));
    let urls =
        part.non_resource_urls.iter().all(|url| own.non_resource_urls.iter().any(|own| url_covers(own, url)));
    all(&own.verbs, &part.verbs) && all(&own.api_groups, &part.api_groups) && resources && names && urls
}

/// Joins parts that differ by their verb only.
fn compact(parts: Vec<Rule>) -> Vec<Rule> {
    let mut simple: BTreeMap<(String, String, Vec<String>), Rule> = BTreeMap::new();
    let mut others = Vec::new();
    for part in parts {
        let ([group], [resource]) = (part.api_groups.as_slice(), part.resources.as_slice()) else {
            others.push(part);
            continue;
        };
        let key = (group.clone(), resource.clone(), part.resource_names.clone());
        match simple.get_mut(&key) {
            Some(rule) => rule.verbs.extend(part.verbs),
            None => {
                simple.insert(key, part);
            }
        }
    }
    others.extend(simple.into_values());
    others
}

/// A rule as upstream's messages show it.
fn describe(rule: &Rule) -> String {
    let fields = [
        ("APIGroups", &rule.api_groups),
        ("Resources", &rule.resources),
        ("NonResourceURLs", &rule.non_resource_urls),
        ("ResourceNames", &rule.resource_names),
        ("Verbs", &rule.verbs),
    ];
    let shown: Vec<String> = fields
        .iter()
        .filter(|(_, values)| !values.is_empty())
        .map(|(name, values)| format!("{name}:{}", quoted(values)))
        .collect();
    format!("{{{}}}", shown.join(", "))
}

/// Go's `%q` of a list of strings.
fn quoted(texts: &[String]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| format!("{text:?}")).collect();
    format!("[{}]", texts.join(" "))
}
