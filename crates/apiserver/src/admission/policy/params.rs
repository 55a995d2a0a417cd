//! Parameters of policies: objects that bindings name or select.

use std::sync::Arc;

use serde_json::Value;

use super::super::Attributes;
use crate::cache::Entry;
use crate::kind::{Backend, Kind};
use crate::selector::LabelSelector;

/// A policy's `paramKind`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ParamKind {
    group: String,
    version: String,
    kind: String,
}

impl ParamKind {
    pub fn of(kind: &Value) -> Option<Self> {
        kind.as_object()?;
        let api_version = kind["apiVersion"].as_str().unwrap_or_default();
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        Some(Self {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind["kind"].as_str().unwrap_or_default().to_owned(),
        })
    }

    /// The kind's row.
    ///
    /// # Errors
    /// Upstream's text where there is no such kind.
    pub fn resolve(&self, attributes: &Attributes<'_>) -> Result<Arc<Kind>, String> {
        let registry = attributes.call.server.registry();
        let found = registry.kind(&self.group, &self.version, &self.kind);
        let found = found.filter(|kind| kind.storage.backend != Backend::Virtual).cloned();
        found.ok_or_else(|| {
            let (group, version, kind) = (&self.group, &self.version, &self.kind);
            format!("failed to find resource referenced by paramKind: '{group}/{version}, Kind={kind}'")
        })
    }
}

/// A binding's `paramRef`.
#[derive(Debug, Clone)]
pub(super) struct ParamRef {
    name: String,
    namespace: String,
    /// None where there is none; `Some(None)` for one that cannot be read.
    selector: Option<Option<LabelSelector>>,
    denies_missing: bool,
}

impl ParamRef {
    pub fn of(reference: &Value) -> Option<Self> {
        reference.as_object()?;
        let text = |field: &str| reference[field].as_str().unwrap_or_default().to_owned();
        let selector = &reference["selector"];
        Some(Self {
            name: text("name"),
            namespace: text("namespace"),
            selector: selector.is_object().then(|| LabelSelector::of(selector)),
            denies_missing: reference["parameterNotFoundAction"] == "Deny",
        })
    }
}

/// The params to evaluate a policy with, once for each: one that is none where the policy or the binding
/// uses none.
///
/// # Errors
/// Upstream's texts for references that make no sense, and for missing params that matter.
pub(super) async fn collect(
    attributes: &Attributes<'_>,
    kind: Option<&Arc<Kind>>,
    reference: Option<&ParamRef>,
) -> Result<Vec<Option<Value>>, String> {
    let (Some(kind), Some(reference)) = (kind, reference) else { return Ok(vec![None]) };
    let namespace = match (kind.namespaced, reference.namespace.as_str(), attributes.namespace) {
        (true, "", "") => {
            let why =
                "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources";
            return Err(why.to_owned());
        }
        (true, "", own) => own,
        (true, named, _) => named,
        (false, "", _) => "",
        (false, ..) => {
            return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".to_owned());
        }
    };
    let server = &attributes.call.server;
    let found: Vec<Arc<Entry>> = match (reference.name.as_str(), &reference.selector) {
        ("", None) => return Err("one of name or selector must be provided".to_owned()),
        ("", Some(selector)) => {
            let selector = selector.as_ref().ok_or("a label selector has an unknown operator")?;
            let resource = server.cache_of(kind).resource(&kind.storage.dir);
            let objects = resource.map(|resource| resource.snapshot(0).objects).unwrap_or_default();
            let prefix = kind.prefix(kind.namespaced.then_some(namespace));
            let entries = crate::cache::range(&objects, &prefix, None);
            entries.filter(|entry| selector.matches(&entry.selectable(kind).labels)).cloned().collect()
        }
        (_, Some(_)) => {
            return Err("paramRef.name and paramRef.selector are mutually exclusive".to_owned());
        }
        (name, None) => server.cached(kind, namespace, name).into_iter().collect(),
    };
    if found.is_empty() && reference.denies_missing {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".to_owned());
    }
    let found = match &kind.custom {
        Some(handler) => handler.show(server, found).await.map_err(|error| error.message)?,
        None => found,
    };
    Ok(found.iter().map(|entry| Some(shown(kind, entry))).collect())
}

/// The object in the version that the policy names.
fn shown(kind: &Kind, entry: &Entry) -> Value {
    let mut value = entry.to_value();
    if let Some(convert) = kind.storage.convert {
        (convert.from_storage)(&mut value);
    }
    value["kind"] = kind.kind.as_ref().into();
    value["apiVersion"] = kind.api_version().into();
    value
}
