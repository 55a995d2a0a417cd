//! Role-based access control over an index of roles and bindings.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::user::UserInfo;
use serde::Deserialize;

use super::Attributes;

/// A PolicyRule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    /// Verbs, `*` for all.
    pub verbs: Vec<String>,
    /// API groups, `*` for all.
    #[serde(deserialize_with = "null_is_empty")]
    pub api_groups: Vec<String>,
    /// Resources: `pods`, `pods/log`, `*/scale`, `*`.
    #[serde(deserialize_with = "null_is_empty")]
    pub resources: Vec<String>,
    /// Names, none for all.
    #[serde(deserialize_with = "null_is_empty")]
    pub resource_names: Vec<String>,
    /// Paths, which may end with `*`.
    #[serde(rename = "nonResourceURLs", deserialize_with = "null_is_empty")]
    pub non_resource_urls: Vec<String>,
}

fn null_is_empty<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(
    from: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

impl Rule {
    /// As it is stored.
    pub fn to_value(&self) -> serde_json::Value {
        let mut value = serde_json::json!({"verbs": self.verbs});
        let lists = [
            ("apiGroups", &self.api_groups),
            ("resources", &self.resources),
            ("resourceNames", &self.resource_names),
            ("nonResourceURLs", &self.non_resource_urls),
        ];
        for (name, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
            value[name] = serde_json::json!(list);
        }
        value
    }

    /// Whether it allows what is wanted.
    pub(super) fn allows(&self, wanted: &Attributes<'_>) -> bool {
        let has = |set: &[String], item: &str| set.iter().any(|member| member == "*" || member == item);
        if !has(&self.verbs, wanted.verb) {
            return false;
        }
        if !wanted.is_resource {
            return self.non_resource_urls.iter().any(|url| url_covers(url, wanted.path));
        }
        has(&self.api_groups, wanted.group)
            && self
                .resources
                .iter()
                .any(|resource| resource_matches(resource, wanted.resource, wanted.subresource))
            && (self.resource_names.is_empty() || self.resource_names.iter().any(|name| name == wanted.name))
    }
}

/// Whether `url` of a rule covers `path`.
pub(super) fn url_covers(url: &str, path: &str) -> bool {
    url == "*" || url == path || (url.ends_with('*') && path.starts_with(url.trim_end_matches('*')))
}

fn resource_matches(rule: &str, resource: &str, subresource: &str) -> bool {
    match rule.split_once('/') {
        None => rule == "*" || (subresource.is_empty() && rule == resource),
        Some((of, sub)) => !subresource.is_empty() && sub == subresource && (of == "*" || of == resource),
    }
}

/// A RoleBinding or ClusterRoleBinding.
#[derive(Clone, Debug)]
struct Binding {
    role_kind: String,
    /// Where the role is, whatever its kind: nothing is put together for a decision.
    role: Id,
    subjects: Vec<(Subject, String)>,
}

/// Whom a binding names; service accounts by their user names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Subject {
    User(String),
    Group(String),
}

/// Namespace (empty for cluster scope) and name.
type Id = (String, String);

/// The bindings that name somebody, by namespace, so that a decision looks at those that count only.
type ByNamespace = BTreeMap<String, BTreeSet<Id>>;

/// The index.
#[derive(Default)]
pub struct Rbac {
    /// The rules of roles as they are stored: filling those that aggregate others is a controller's task.
    roles: BTreeMap<Id, Arc<[Rule]>>,
    bindings: BTreeMap<Id, Binding>,
    /// Bindings by whom they name.
    by_user: BTreeMap<String, ByNamespace>,
    by_group: BTreeMap<String, ByNamespace>,
}

const GROUP: &str = ".rbac.authorization.k8s.io/";

/// Whether the object at `key` is a role or a binding.
pub(super) fn is_relevant(key: &str) -> bool {
    parse_key(key).is_some()
}

/// Whether it is a binding, the namespace (empty for cluster scope) and the name.
fn parse_key(key: &str) -> Option<(bool, &str, &str)> {
    let (resource, rest) = key.strip_prefix("/registry/")?.split_once(GROUP)?;
    match resource {
        "clusterroles" | "clusterrolebindings" => Some((resource == "clusterrolebindings", "", rest)),
        "roles" | "rolebindings" => {
            let (namespace, name) = rest.split_once('/')?;
            Some((resource == "rolebindings", namespace, name))
        }
        _ => None,
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct StoredRole {
    #[serde(deserialize_with = "null_is_empty")]
    rules: Vec<Rule>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct StoredBinding {
    role_ref: RoleRef,
    #[serde(deserialize_with = "null_is_empty")]
    subjects: Vec<StoredSubject>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RoleRef {
    kind: String,
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct StoredSubject {
    kind: String,
    name: String,
    namespace: String,
}

impl StoredSubject {
    /// The subject and how reasons describe it.
    fn resolve(self, binding_namespace: &str) -> Option<(Subject, String)> {
        let describe = |name: &str| format!("{} {name:?}", self.kind);
        match self.kind.as_str() {
            "User" => Some((Subject::User(self.name.clone()), describe(&self.name))),
            "Group" => Some((Subject::Group(self.name.clone()), describe(&self.name))),
            "ServiceAccount" => {
                let namespace = if self.namespace.is_empty() { binding_namespace } else { &self.namespace };
                let user = format!("system:serviceaccount:{namespace}:{}", self.name);
                let description = describe(&format!("{}/{namespace}", self.name));
                (!namespace.is_empty()).then_some((Subject::User(user), description))
            }
            _ => None,
        }
    }
}

impl Rbac {
    /// Takes over the change of one object; what cannot be read grants nothing.
    pub fn apply(&mut self, key: &str, value: Option<&[u8]>) {
        let Some((is_binding, namespace, name)) = parse_key(key) else { return };
        let id = (namespace.to_owned(), name.to_owned());
        if is_binding {
            self.remove_binding(&id);
            if let Some(binding) = value.and_then(|bytes| serde_json::from_slice(bytes).ok()) {
                self.insert_binding(id, binding);
            }
            return;
        }
        match value.and_then(|bytes| serde_json::from_slice::<StoredRole>(bytes).ok()) {
            Some(role) => {
                self.roles.insert(id, role.rules.into());
            }
            None => {
                self.roles.remove(&id);
            }
        }
    }

    fn insert_binding(&mut self, id: Id, stored: StoredBinding) {
        let subjects: Vec<_> =
            stored.subjects.into_iter().filter_map(|subject| subject.resolve(&id.0)).collect();
        for (subject, _) in &subjects {
            let (index, name) = self.index_of(subject);
            let bindings = index.entry(name).or_default();
            bindings.entry(id.0.clone()).or_default().insert(id.clone());
        }
        let StoredBinding { role_ref, .. } = stored;
        let namespace = if role_ref.kind == "Role" { id.0.clone() } else { String::new() };
        let binding = Binding { role_kind: role_ref.kind, role: (namespace, role_ref.name), subjects };
        self.bindings.insert(id, binding);
    }

    fn remove_binding(&mut self, id: &Id) {
        let Some(binding) = self.bindings.remove(id) else { return };
        for (subject, _) in &binding.subjects {
            let (index, name) = self.index_of(subject);
            let Some(bindings) = index.get_mut(&name) else { continue };
            if let Some(ids) = bindings.get_mut(&id.0) {
                ids.remove(id);
                if ids.is_empty() {
                    bindings.remove(&id.0);
                }
            }
            if bindings.is_empty() {
                index.remove(&name);
            }
        }
    }

    fn index_of(&mut self, subject: &Subject) -> (&mut BTreeMap<String, ByNamespace>, String) {
        match subject {
            Subject::User(name) => (&mut self.by_user, name.clone()),
            Subject::Group(name) => (&mut self.by_group, name.clone()),
        }
    }

    /// Bindings in exactly that namespace (empty: cluster-wide) that name the user or one of its groups.
    pub(super) fn bindings_of<'a>(
        &'a self,
        user: &'a UserInfo,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Id> {
        let by_user = self.by_user.get(&user.name);
        let by_group = user.groups.iter().filter_map(|group| self.by_group.get(group));
        by_user.into_iter().chain(by_group).filter_map(move |ids| ids.get(namespace)).flatten()
    }

    fn rules_of(&self, binding: &Binding) -> Result<Arc<[Rule]>, String> {
        self.rules_at(&binding.role_kind, &binding.role)
    }

    /// The rules of a role as a binding in `namespace` refers to it, or why there are none.
    pub fn role_rules(&self, kind: &str, name: &str, namespace: &str) -> Result<Arc<[Rule]>, String> {
        let namespace = if kind == "Role" { namespace } else { "" };
        self.rules_at(kind, &(namespace.to_owned(), name.to_owned()))
    }

    fn rules_at(&self, kind: &str, id: &Id) -> Result<Arc<[Rule]>, String> {
        let resource = match kind {
            "Role" => "role",
            "ClusterRole" => "clusterrole",
            other => return Err(format!("unsupported role reference kind: {other:?}")),
        };
        let name = &id.1;
        self.roles
            .get(id)
            .cloned()
            .ok_or_else(|| format!("{resource}.rbac.authorization.k8s.io {name:?} not found"))
    }

    /// Whether any rule allows it.
    pub fn allows(&self, user: &UserInfo, wanted: &Attributes<'_>) -> bool {
        self.search(user, wanted, &mut |_| {}).is_some()
    }

    /// Which binding allows it, or what could not be resolved on the way.
    pub fn explain(&self, user: &UserInfo, wanted: &Attributes<'_>) -> Result<String, String> {
        let mut errors: Vec<String> = Vec::new();
        if let Some(id) = self.search(user, wanted, &mut |error| errors.push(error)) {
            return Ok(self.describe(user, id));
        }
        errors.dedup();
        Err(match errors.as_slice() {
            [] => String::new(),
            [one] => format!("RBAC: {one}"),
            all => format!("RBAC: [{}]", all.join(", ")),
        })
    }

    fn search<'a>(
        &'a self,
        user: &'a UserInfo,
        wanted: &Attributes<'a>,
        failed: &mut dyn FnMut(String),
    ) -> Option<&'a Id> {
        let in_namespace = (!wanted.namespace.is_empty()).then(|| self.bindings_of(user, wanted.namespace));
        self.bindings_of(user, "").chain(in_namespace.into_iter().flatten()).find(|id| {
            let Some(binding) = self.bindings.get(*id) else { return false };
            match self.rules_of(binding) {
                Ok(rules) => rules.iter().any(|rule| rule.allows(wanted)),
                Err(error) => {
                    failed(error);
                    false
                }
            }
        })
    }

    fn describe(&self, user: &UserInfo, id: &Id) -> String {
        let Some(binding) = self.bindings.get(id) else { return String::new() };
        let applies = |subject: &Subject| match subject {
            Subject::User(name) => *name == user.name,
            Subject::Group(name) => user.is_in(name),
        };
        let subject = binding.subjects.iter().find(|(subject, _)| applies(subject));
        let to = subject.map_or("", |(_, description)| description.as_str());
        let (namespace, name) = id;
        let by = match namespace.as_str() {
            "" => format!("ClusterRoleBinding {name:?}"),
            namespace => format!("RoleBinding {:?}", format!("{name}/{namespace}")),
        };
        format!("RBAC: allowed by {by} of {} {:?} to {to}", binding.role_kind, binding.role.1)
    }

    /// All rules that apply to `user` in `namespace`, and what could not be resolved.
    pub fn rules_for(&self, user: &UserInfo, namespace: &str) -> (Vec<Rule>, Vec<String>) {
        let mut ids: BTreeSet<&Id> = self.bindings_of(user, "").collect();
        if !namespace.is_empty() {
            ids.extend(self.bindings_of(user, namespace));
        }
        let (mut rules, mut errors) = (Vec::new(), Vec::new());
        for id in ids {
            let Some(binding) = self.bindings.get(id) else { continue };
            match self.rules_of(binding) {
                Ok(found) => rules.extend(found.iter().cloned()),
                Err(error) => errors.push(error),
            }
        }
        (rules, errors)
    }
}
