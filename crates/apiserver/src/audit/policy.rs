//! Which requests are recorded, and how much of them: `Policy` of `audit.k8s.io/v1`.

use api::user::UserInfo;
use schema::validation::format;
use serde::Deserialize;

use crate::authz::Attributes;

/// How much is recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum Level {
    /// Nothing.
    #[default]
    None,
    /// Who did what to which object, and how it ended.
    Metadata,
    /// Also what was sent.
    Request,
    /// Also what was answered.
    RequestResponse,
}

impl Level {
    /// Its name in events.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Metadata => "Metadata",
            Self::Request => "Request",
            Self::RequestResponse => "RequestResponse",
        }
    }
}

/// A moment in the life of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Stage {
    /// Its sender is known.
    RequestReceived,
    /// The headers of a long answer go out.
    ResponseStarted,
    /// The answer is complete.
    ResponseComplete,
    /// The server failed.
    Panic,
}

impl Stage {
    /// Its name in events.
    pub fn name(self) -> &'static str {
        match self {
            Self::RequestReceived => "RequestReceived",
            Self::ResponseStarted => "ResponseStarted",
            Self::ResponseComplete => "ResponseComplete",
            Self::Panic => "Panic",
        }
    }
}

/// Rules, the first that matches counts.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default, rename = "metadata")]
    _metadata: serde::de::IgnoredAny,
    rules: Vec<Rule>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Rule {
    level: Option<Level>,
    users: Vec<String>,
    user_groups: Vec<String>,
    verbs: Vec<String>,
    resources: Vec<GroupResources>,
    namespaces: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    omit_stages: Vec<Stage>,
    omit_managed_fields: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct GroupResources {
    group: String,
    resources: Vec<String>,
    resource_names: Vec<String>,
}

/// What the policy says about one request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// How much is recorded.
    pub level: Level,
    /// When nothing is recorded.
    pub omit_stages: Vec<Stage>,
    /// Whether `metadata.managedFields` is left out of objects.
    pub omit_managed_fields: bool,
}

impl Policy {
    /// Reads and checks a policy in YAML.
    ///
    /// # Errors
    /// What is wrong with it: a policy that is understood in part would leave gaps nobody knows of.
    pub fn parse(yaml: &str) -> Result<Self, String> {
        let policy: Self = serde_saphyr::from_str(yaml).map_err(|error| error.to_string())?;
        if policy.kind != "Policy" || policy.api_version != "audit.k8s.io/v1" {
            return Err(format!(
                "unknown group version field {:?} of kind {:?} in policy",
                policy.api_version, policy.kind
            ));
        }
        if policy.rules.is_empty() {
            return Err("loaded illegal policy with 0 rules".to_owned());
        }
        for (index, rule) in policy.rules.iter().enumerate() {
            rule.check().map_err(|why| format!("rules[{index}].{why}"))?;
        }
        Ok(policy)
    }

    /// What is recorded of a request of `user`; none while nobody knows who it is.
    pub fn evaluate(&self, user: Option<&UserInfo>, attributes: &Attributes<'_>) -> Verdict {
        let Some(rule) = self.rules.iter().find(|rule| rule.matches(user, attributes)) else {
            return Verdict { omit_stages: self.omit_stages.clone(), ..Verdict::default() };
        };
        Verdict {
            level: rule.level.unwrap_or_default(),
            omit_stages: [self.omit_stages.as_slice(), &rule.omit_stages].concat(),
            omit_managed_fields: rule.omit_managed_fields.unwrap_or(self.omit_managed_fields),
        }
    }
}

fn has(set: &[String], item: &str) -> bool {
    set.iter().any(|member| member == item)
}

impl Rule {
    fn check(&self) -> Result<(), String> {
        if self.level.is_none() {
            return Err("level: Required value".to_owned());
        }
        for (index, url) in self.non_resource_urls.iter().enumerate() {
            let why = if url == "*" {
                continue;
            } else if !url.starts_with('/') {
                "non-resource URL rules must begin with a '/' character"
            } else if url.strip_suffix('*').unwrap_or(url).contains('*') {
                "non-resource URL wildcards '*' must be the final character of the rule"
            } else {
                continue;
            };
            return Err(format!("nonResourceURLs[{index}]: Invalid value: {url:?}: {why}"));
        }
        for of in &self.resources {
            if !of.group.is_empty() && of.group != "*" {
                let errors = format::dns1123_subdomain(&of.group);
                if !errors.is_empty() {
                    return Err(format!(
                        "resources.group: Invalid value: {:?}: {}",
                        of.group,
                        errors.join(",")
                    ));
                }
            }
            if of.resources.is_empty() && !of.resource_names.is_empty() {
                return Err(
                    "resources.resourceNames: using resourceNames requires at least one resource".to_owned()
                );
            }
        }
        let of_resources = !self.resources.is_empty() || !self.namespaces.is_empty();
        if of_resources && !self.non_resource_urls.is_empty() {
            return Err(
                "nonResourceURLs: rules cannot apply to both regular resources and non-resource URLs"
                    .to_owned(),
            );
        }
        Ok(())
    }

    fn matches(&self, user: Option<&UserInfo>, wanted: &Attributes<'_>) -> bool {
        if !self.users.is_empty() && !user.is_some_and(|user| has(&self.users, &user.name)) {
            return false;
        }
        let in_group = |user: &UserInfo| user.groups.iter().any(|group| has(&self.user_groups, group));
        if !self.user_groups.is_empty() && !user.is_some_and(in_group) {
            return false;
        }
        if !self.verbs.is_empty() && !has(&self.verbs, wanted.verb) {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return wanted.is_resource && self.matches_resource(wanted);
        }
        if !self.non_resource_urls.is_empty() {
            return !wanted.is_resource && self.non_resource_urls.iter().any(|url| covers(url, wanted.path));
        }
        true
    }

    fn matches_resource(&self, wanted: &Attributes<'_>) -> bool {
        if !self.namespaces.is_empty() && !has(&self.namespaces, wanted.namespace) {
            return false;
        }
        self.resources.is_empty()
            || self.resources.iter().filter(|of| of.group == wanted.group).any(|of| {
                let named = of.resource_names.is_empty() || has(&of.resource_names, wanted.name);
                of.resources.is_empty() || (named && of.resources.iter().any(|of| names(of, wanted)))
            })
    }
}

/// `pods`, `pods/log`, `*`, `*/log` or `pods/*`; the last also means pods themselves.
fn names(pattern: &str, wanted: &Attributes<'_>) -> bool {
    let (resource, subresource) = (wanted.resource, wanted.subresource);
    match pattern.split_once('/') {
        None => pattern == "*" || (subresource.is_empty() && pattern == resource),
        Some(("*", sub)) => !subresource.is_empty() && sub == subresource,
        Some((of, "*")) => of == resource,
        Some((of, sub)) => of == resource && sub == subresource,
    }
}

fn covers(pattern: &str, path: &str) -> bool {
    pattern == "*"
        || pattern == path
        || pattern.strip_suffix('*').is_some_and(|start| path.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, users: ["system:kube-proxy"], verbs: [watch]}
- {level: Metadata, resources: [{group: "", resources: ["secrets", "configmaps"]}], omitManagedFields: true}
- {level: Request, resources: [{group: "", resources: ["pods/*"], resourceNames: ["p"]}], namespaces: [a]}
- {level: None, nonResourceURLs: ["/healthz*"]}
- {level: RequestResponse, userGroups: ["devs"], omitStages: [ResponseStarted]}
"#;

    #[test]
    fn the_first_matching_rule_counts() {
        let policy = Policy::parse(POLICY).unwrap();
        let level = |user: &str, group: &str, wanted: Attributes<'_>| {
            policy.evaluate(Some(&UserInfo::new(user, &[group])), &wanted).level
        };
        let get = |resource, subresource, namespace, name| Attributes {
            verb: "get",
            is_resource: true,
            resource,
            subresource,
            namespace,
            name,
            ..Attributes::default()
        };
        assert_eq!(level("a", "", get("secrets", "", "n", "s")), Level::Metadata);
        assert_eq!(level("a", "", get("pods", "log", "a", "p")), Level::Request);
        assert_eq!(level("a", "", get("pods", "", "a", "p")), Level::Request);
        assert_eq!(level("a", "", get("pods", "", "b", "p")), Level::None);
        assert_eq!(level("a", "devs", get("pods", "", "b", "p")), Level::RequestResponse);
        let path = |path| Attributes { verb: "get", path, ..Attributes::default() };
        assert_eq!(level("a", "devs", path("/healthz/etcd")), Level::None);
        assert_eq!(level("a", "devs", path("/version")), Level::RequestResponse);
        let verdict = policy.evaluate(Some(&UserInfo::new("a", &["devs"])), &path("/version"));
        assert_eq!(verdict.omit_stages, [Stage::RequestReceived, Stage::ResponseStarted]);
    }

    #[test]
    fn policies_are_read_strictly() {
        for (from, to) in [
            ("audit.k8s.io/v1", "audit.k8s.io/v1beta1"),
            ("level: Request,", "level: Requests,"),
            ("level: None, users", "users"),
            ("userGroups", "groups"),
            ("/healthz*", "healthz"),
            ("/healthz*", "/health*z"),
            ("namespaces: [a]", "namespaces: [a], nonResourceURLs: [\"/x\"]"),
        ] {
            assert!(Policy::parse(&POLICY.replace(from, to)).is_err(), "{to}");
        }
    }
}
