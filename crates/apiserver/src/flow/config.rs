//! FlowSchemas and PriorityLevelConfigurations as data, and which FlowSchema a request belongs to.

use api::user::UserInfo;
use serde::Deserialize;

use crate::request_info::RequestInfo;

/// What both kinds are read for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Metadata {
    pub name: String,
    pub uid: String,
}

/// A FlowSchema.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FlowSchema {
    pub metadata: Metadata,
    pub spec: FlowSchemaSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct FlowSchemaSpec {
    pub priority_level_configuration: Reference,
    pub matching_precedence: i32,
    pub distinguisher_method: Option<Distinguisher>,
    pub rules: Vec<Rules>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Reference {
    pub name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Distinguisher {
    pub r#type: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Rules {
    subjects: Vec<Subject>,
    resource_rules: Vec<ResourceRule>,
    non_resource_rules: Vec<NonResourceRule>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Subject {
    kind: String,
    user: Option<Reference>,
    group: Option<Reference>,
    service_account: Option<ServiceAccount>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ServiceAccount {
    namespace: String,
    name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ResourceRule {
    verbs: Vec<String>,
    api_groups: Vec<String>,
    resources: Vec<String>,
    cluster_scope: bool,
    namespaces: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct NonResourceRule {
    verbs: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    urls: Vec<String>,
}

impl FlowSchema {
    /// Whether a request belongs to this flow schema.
    pub fn matches(&self, user: &UserInfo, info: &RequestInfo) -> bool {
        self.spec.rules.iter().any(|rules| rules.matches(user, info))
    }

    /// What tells the flows of this schema apart.
    pub fn flow<'a>(&self, user: &'a UserInfo, info: &'a RequestInfo) -> &'a str {
        match self.spec.distinguisher_method.as_ref().map(|method| method.r#type.as_str()) {
            Some("ByUser") => &user.name,
            Some("ByNamespace") => &info.namespace,
            _ => "",
        }
    }
}

impl Rules {
    fn matches(&self, user: &UserInfo, info: &RequestInfo) -> bool {
        self.subjects.iter().any(|subject| subject.is(user))
            && if info.is_resource {
                self.resource_rules.iter().any(|rule| rule.matches(info))
            } else {
                self.non_resource_rules.iter().any(|rule| rule.matches(info))
            }
    }
}

impl Subject {
    fn is(&self, user: &UserInfo) -> bool {
        match (self.kind.as_str(), &self.user, &self.group, &self.service_account) {
            ("User", Some(wanted), _, _) => wanted.name == "*" || wanted.name == user.name,
            ("Group", _, Some(wanted), _) => wanted.name == "*" || user.is_in(&wanted.name),
            ("ServiceAccount", _, _, Some(wanted)) => {
                let name = user.name.strip_prefix("system:serviceaccount:");
                name.and_then(|name| name.split_once(':')).is_some_and(|(namespace, name)| {
                    namespace == wanted.namespace && (wanted.name == "*" || name == wanted.name)
                })
            }
            _ => false,
        }
    }
}

impl ResourceRule {
    fn matches(&self, info: &RequestInfo) -> bool {
        let scope = match info.namespace.as_str() {
            "" => self.cluster_scope,
            namespace => lists(&self.namespaces, namespace),
        };
        scope
            && lists(&self.verbs, &info.verb)
            && lists(&self.api_groups, &info.group)
            && self.names_resource(info)
    }

    fn names_resource(&self, info: &RequestInfo) -> bool {
        if info.subresource.is_empty() {
            return lists(&self.resources, &info.resource);
        }
        is_all(&self.resources)
            || self.resources.iter().any(|listed| {
                listed.split_once('/') == Some((info.resource.as_str(), info.subresource.as_str()))
            })
    }
}

impl NonResourceRule {
    fn matches(&self, info: &RequestInfo) -> bool {
        lists(&self.verbs, &info.verb) && self.urls.iter().any(|url| covers(url, &info.path))
    }
}

/// Whether a rule's path is `path` or above it.
fn covers(rule: &str, path: &str) -> bool {
    if rule == "*" || rule == path {
        return true;
    }
    let prefix = rule.strip_suffix('*').unwrap_or(rule);
    match path.strip_prefix(prefix) {
        Some(rest) => prefix.ends_with('/') || rest.starts_with('/'),
        None => false,
    }
}

fn is_all(list: &[String]) -> bool {
    matches!(list, [only] if only == "*")
}

fn lists(list: &[String], wanted: &str) -> bool {
    is_all(list) || list.iter().any(|listed| listed == wanted)
}

/// A PriorityLevelConfiguration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PriorityLevel {
    pub metadata: Metadata,
    spec: PriorityLevelSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PriorityLevelSpec {
    r#type: String,
    limited: Option<Limited>,
    exempt: Option<Shares>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Limited {
    #[serde(flatten)]
    shares: Shares,
    borrowing_limit_percent: Option<u32>,
    limit_response: LimitResponse,
}

/// How many seats a level has, and how many of them others may use.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Shares {
    nominal_concurrency_shares: Option<u32>,
    lendable_percent: Option<u32>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct LimitResponse {
    r#type: String,
    queuing: Option<Queuing>,
}

/// The queues of a level.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Queuing {
    pub queues: u32,
    pub hand_size: u32,
    pub queue_length_limit: u32,
}

/// The name of the level without limits, and of its flow schema.
pub(super) const EXEMPT: &str = "exempt";
/// The name of the level and flow schema of what no other flow schema matches.
pub(super) const CATCH_ALL: &str = "catch-all";

impl PriorityLevel {
    /// Whether the parts fit together: others are ignored.
    pub fn is_sound(&self) -> bool {
        let exempt = self.spec.r#type == "Exempt";
        let response = self.spec.limited.as_ref().map(|limited| &limited.limit_response);
        (self.spec.r#type == "Limited") == self.spec.limited.is_some()
            && exempt == self.spec.exempt.is_some()
            && exempt == (self.metadata.name == EXEMPT)
            && response.is_none_or(|response| {
                (response.r#type == "Reject") == response.queuing.is_none()
                    && response.queuing.is_none_or(|queuing| queuing.is_sound())
            })
    }

    pub fn is_exempt(&self) -> bool {
        self.spec.r#type == "Exempt"
    }

    pub fn queuing(&self) -> Option<Queuing> {
        self.spec.limited.as_ref()?.limit_response.queuing
    }

    fn common(&self) -> Option<&Shares> {
        self.spec.limited.as_ref().map(|limited| &limited.shares).or(self.spec.exempt.as_ref())
    }

    pub fn shares(&self) -> f64 {
        let default = if self.is_exempt() { 0 } else { 30 };
        f64::from(self.common().and_then(|common| common.nominal_concurrency_shares).unwrap_or(default))
    }

    /// Which part of its seats it lends when it does not need them.
    pub fn lendable(&self) -> f64 {
        f64::from(self.common().and_then(|common| common.lendable_percent).unwrap_or(0)) / 100.0
    }

    /// How many seats it may borrow, as a part of its own; `None` is without limit.
    pub fn borrowing(&self) -> Option<f64> {
        Some(f64::from(self.spec.limited.as_ref()?.borrowing_limit_percent?) / 100.0)
    }
}

impl Queuing {
    /// Within the bounds of validation, which the arithmetic of dealing relies on.
    fn is_sound(self) -> bool {
        let entropy = f64::from(self.queues.max(1)).log2() * f64::from(self.hand_size);
        (1..=10_000_000).contains(&self.queues)
            && (1..=self.queues.min(15)).contains(&self.hand_size)
            && self.queue_length_limit >= 1
            && entropy <= 60.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_cover_what_is_below_them() {
        assert!(covers("/healthz", "/healthz/etcd") && covers("/apis/*", "/apis/apps") && covers("*", "/x"));
        assert!(!covers("/healthz", "/healthzz") && !covers("/apis/*", "/apiss"));
    }

    #[test]
    fn rules_name_resources_with_their_subresource() {
        let rules: Rules = serde_json::from_value(serde_json::json!({
            "subjects": [{"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": "*"}}],
            "resourceRules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["nodes/status"],
                "clusterScope": true}],
        }))
        .unwrap();
        let info = |subresource: &str| RequestInfo {
            is_resource: true,
            verb: "get".to_owned(),
            resource: "nodes".to_owned(),
            subresource: subresource.to_owned(),
            ..RequestInfo::default()
        };
        let user = |name: &str| UserInfo { name: name.to_owned(), ..UserInfo::default() };
        assert!(rules.matches(&user("system:serviceaccount:kube-system:a"), &info("status")));
        assert!(!rules.matches(&user("system:serviceaccount:kube-system:a"), &info("")));
        assert!(!rules.matches(&user("system:serviceaccount:default:a"), &info("status")));
    }
}
