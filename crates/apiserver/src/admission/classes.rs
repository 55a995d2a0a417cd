//! DefaultStorageClass and DefaultIngressClass: the class of objects that name none.

use std::sync::Arc;

use serde_json::Value;

use super::lookup::{Consulted, INGRESS_CLASSES, STORAGE_CLASSES};
use super::{Attributes, Operation};
use crate::call::Call;
use crate::object::meta;

const STORAGE_DEFAULT: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
const INGRESS_DEFAULT: [&str; 1] = ["ingressclass.kubernetes.io/is-default-class"];
/// Annotations that name a class in the old way.
const CLAIM_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const INGRESS_CLASS: &str = "kubernetes.io/ingress.class";

/// What of a class decides whether it is the default.
struct Class {
    annotations: Vec<String>,
    created: String,
}

impl Class {
    fn parse(object: &Value) -> Self {
        let annotations = object["metadata"]["annotations"].as_object().into_iter().flatten();
        Self {
            annotations: annotations
                .filter(|(_, value)| *value == "true")
                .map(|(name, _)| name.clone())
                .collect(),
            created: meta(object, "creationTimestamp").to_owned(),
        }
    }
}

/// The newest of the classes marked as default; of two equally new ones the first by name.
fn default_class(call: &Call, classes: Consulted, marks: &[&str]) -> Option<String> {
    let mut newest: Option<(Arc<Class>, String)> = None;
    for entry in classes.list(call, "") {
        let class = entry.parsed(Class::parse);
        let marked = class.annotations.iter().any(|name| marks.contains(&name.as_str()));
        // Times in RFC 3339 with whole seconds sort as texts.
        if marked && newest.as_ref().is_none_or(|(known, _)| class.created > known.created) {
            newest = Some((class, entry.name().to_owned()));
        }
    }
    newest.map(|(_, name)| name)
}

/// Names the default class in new claims and ingresses that name none.
pub(super) fn admit(attributes: &Attributes<'_>, object: &mut Value) {
    if attributes.operation != Operation::Create {
        return;
    }
    let (classes, marks, annotation, field) = if attributes.is("", "persistentvolumeclaims") {
        (STORAGE_CLASSES, &STORAGE_DEFAULT[..], CLAIM_CLASS, "storageClassName")
    } else if attributes.is("networking.k8s.io", "ingresses") {
        (INGRESS_CLASSES, &INGRESS_DEFAULT[..], INGRESS_CLASS, "ingressClassName")
    } else {
        return;
    };
    // An empty name is an answer, too: no class at all.
    let is_named =
        !object["spec"][field].is_null() || object["metadata"]["annotations"].get(annotation).is_some();
    if is_named {
        return;
    }
    if let Some(name) = default_class(attributes.call, classes, marks) {
        object["spec"][field] = name.into();
    }
}
