//! Which requests a webhook or policy is for: rules, and the selectors of namespaces and objects.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::super::{Attributes, Operation};
use crate::kind::{Backend, Kind};
use crate::object::meta;
use crate::selector::LabelSelector;
use crate::status::ApiError;

/// One of `rules`, or of a policy's `resourceRules`.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    /// Resource and subresource.
    resources: Vec<(String, String)>,
    /// Names of objects; empty for all. Webhooks have none.
    names: Vec<String>,
    scope: Scope,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    All,
    Namespaced,
    Cluster,
}

/// What a rule found: the resource and kind in the version that the rule asks for.
pub(crate) struct Matched {
    /// The resource, in the rule's version.
    pub resource: Arc<Kind>,
    /// Group, version and kind of the object, in the rule's version.
    pub kind: KindName,
}

/// An owned group, version and kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KindName {
    /// API group, empty for core.
    pub group: String,
    /// Version within the group.
    pub version: String,
    /// Kind in CamelCase.
    pub kind: String,
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

impl Rule {
    /// Reads a rule.
    pub fn of(rule: &Value) -> Self {
        let resources = texts(&rule["resources"]).into_iter().map(|resource| {
            let (resource, subresource) = resource.split_once('/').unwrap_or((&resource, ""));
            (resource.to_owned(), subresource.to_owned())
        });
        Self {
            operations: texts(&rule["operations"]),
            groups: texts(&rule["apiGroups"]),
            versions: texts(&rule["apiVersions"]),
            resources: resources.collect(),
            names: texts(&rule["resourceNames"]),
            scope: match rule["scope"].as_str() {
                Some("Namespaced") => Scope::Namespaced,
                Some("Cluster") => Scope::Cluster,
                _ => Scope::All,
            },
        }
    }

    /// Reads a list of rules.
    pub fn list(rules: &Value) -> Vec<Self> {
        rules.as_array().into_iter().flatten().map(Self::of).collect()
    }

    fn matches(&self, attributes: &Attributes<'_>, resource: &Kind) -> bool {
        let one_of = |items: &[String], wanted: &str| items.iter().any(|item| item == "*" || item == wanted);
        // A request for a Namespace has its name as namespace, but the object is cluster-scoped.
        let is_namespace = resource.group.is_empty() && resource.plural == "namespaces";
        let namespaced = !is_namespace && !attributes.namespace.is_empty();
        let in_scope = match self.scope {
            Scope::All => true,
            Scope::Namespaced => namespaced,
            Scope::Cluster => !namespaced,
        };
        in_scope
            && one_of(&self.operations, attributes.operation.name())
            && one_of(&self.groups, &resource.group)
            && one_of(&self.versions, &resource.version)
            && self.resources.iter().any(|(name, subresource)| {
                (name == "*" || *name == resource.plural)
                    && (subresource == "*" || subresource == attributes.subresource)
            })
            && (self.names.is_empty() || self.names.iter().any(|name| name == attributes.name))
    }
}

/// What the first of the rules that is for this request asks for: the resource as requested, else, where
/// equivalents count, the same resource in another group or version.
pub(crate) fn find(rules: &[Rule], equivalent: bool, attributes: &Attributes<'_>) -> Option<Matched> {
    let requested = &attributes.call.kind;
    if rules.iter().any(|rule| rule.matches(attributes, requested)) {
        let kind = attributes.kind;
        let kind = KindName {
            group: kind.group.to_owned(),
            version: kind.version.to_owned(),
            kind: kind.kind.to_owned(),
        };
        return Some(Matched { resource: requested.clone(), kind });
    }
    if !equivalent || rules.is_empty() {
        return None;
    }
    let others = equivalents(attributes);
    rules.iter().find_map(|rule| {
        let resource = others.iter().find(|resource| rule.matches(attributes, resource))?;
        Some(Matched { resource: resource.clone(), kind: kind_of(resource, attributes)? })
    })
}

/// The kind of the object under review when the resource is asked for in another version.
fn kind_of(resource: &Kind, attributes: &Attributes<'_>) -> Option<KindName> {
    let own = || KindName {
        group: resource.group.to_string(),
        version: resource.version.to_string(),
        kind: resource.kind.to_string(),
    };
    if attributes.subresource.is_empty() || attributes.kind.kind == attributes.call.kind.kind {
        return Some(own());
    }
    resource.subresource(attributes.subresource)?;
    let kind = attributes.kind;
    let same_group = kind.group == attributes.call.kind.group;
    Some(KindName {
        group: kind.group.to_owned(),
        version: if same_group { resource.version.to_string() } else { kind.version.to_owned() },
        kind: kind.kind.to_owned(),
    })
}

/// The resource in its other groups and versions: those that are stored in the same place.
fn equivalents(attributes: &Attributes<'_>) -> Vec<Arc<Kind>> {
    let requested = &attributes.call.kind;
    if requested.storage.backend == Backend::Virtual {
        return Vec::new();
    }
    let registry = attributes.call.server.registry();
    // Events are the only kind with two groups.
    let groups: &[&str] =
        if requested.storage.dir == "events" { &["events.k8s.io", ""] } else { &[requested.group.as_ref()] };
    let versions = groups.iter().filter_map(|group| registry.group(group)).flat_map(|group| &group.versions);
    versions
        .filter_map(|version| version.kinds.get(&requested.plural))
        .filter(|kind| kind.storage.dir == requested.storage.dir)
        .filter(|kind| (&kind.group, &kind.version) != (&requested.group, &requested.version))
        .cloned()
        .collect()
}

/// `metadata.labels`.
pub(crate) fn labels_of(object: &Value) -> BTreeMap<String, String> {
    let labels = object["metadata"]["labels"].as_object().into_iter().flatten();
    labels.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
}

/// Whether the object, or what it was, has the labels.
pub(crate) fn object_matches(selector: &LabelSelector, attributes: &Attributes<'_>, object: &Value) -> bool {
    let matches = |object: &Value| object.is_object() && selector.matches(&labels_of(object));
    selector.is_empty() || matches(object) || attributes.old.is_some_and(matches)
}

/// Whether the request's namespace has the labels; requests for what is in no namespace always do.
///
/// # Errors
/// 404 for a namespace that does not exist.
pub(crate) async fn namespace_matches(
    selector: &LabelSelector,
    attributes: &Attributes<'_>,
    object: &Value,
) -> Result<bool, ApiError> {
    let is_namespace = attributes.call.kind.plural == "namespaces";
    if selector.is_empty() || (attributes.namespace.is_empty() && !is_namespace) {
        return Ok(true);
    }
    // A Namespace that is written has the labels that it is to have.
    let written = is_namespace
        && attributes.subresource.is_empty()
        && matches!(attributes.operation, Operation::Create | Operation::Update);
    let namespace = if written { Cow::Borrowed(object) } else { Cow::Owned(namespace_of(attributes).await?) };
    Ok(selector.matches(&labels_of(&namespace)))
}

/// The request's Namespace.
///
/// # Errors
/// 404 where it does not exist.
pub(crate) async fn namespace_of(attributes: &Attributes<'_>) -> Result<Value, ApiError> {
    let server = &attributes.call.server;
    let name = attributes.namespace;
    let missing = || ApiError::not_found("", "namespaces", name);
    let kind = server.registry().resource("", "v1", "namespaces").cloned().ok_or_else(missing)?;
    let entry = match server.cached(&kind, "", name) {
        Some(entry) => entry,
        None => server.current(&kind, "", name).await?.ok_or_else(missing)?,
    };
    let namespace = entry.try_value()?;
    debug_assert_eq!(meta(&namespace, "name"), name);
    Ok(namespace)
}
