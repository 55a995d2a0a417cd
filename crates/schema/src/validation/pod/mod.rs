//! Pods and pod templates.
//!
//! Source: `pkg/apis/core/validation`. The order of the rules is upstream's, since messages list
//! errors in it.

pub(super) mod affinity;
mod annotations;
mod containers;
mod env;
mod handlers;
mod mounts;
mod projected;
mod resize;
mod security;
mod spec;
mod spread;
mod status;
mod tolerations;
mod update;
pub mod volumes;

use std::collections::{BTreeMap, BTreeSet};

pub use affinity::{node_selector, node_selector_term};
pub use resize::resize;
pub use status::update as status_update;
pub use tolerations::{taint_effect, validate as tolerations};
pub use update::ephemeral_containers_update;

use super::{format, labels, metadata, rules};
use crate::cursor::Node;
use crate::field::ErrorList;

/// What the rules for parts of a pod need to know about the whole.
struct Pod<'a> {
    /// Only pods, not templates.
    is_pod: bool,
    /// The pod's metadata; templates have none that counts.
    metadata: Option<Node<'a>>,
    spec: Node<'a>,
    /// The valid volumes by name.
    volumes: BTreeMap<&'a str, Node<'a>>,
    /// The names of the pod's resource claims.
    claims: BTreeSet<&'a str>,
    grace_period: Option<i64>,
    /// False if the pod has a user namespace of its own.
    host_users: bool,
}

impl<'a> Pod<'a> {
    fn new(spec: &Node<'a>, metadata: Option<Node<'a>>, is_pod: bool) -> Self {
        let claims =
            spec.at("resourceClaims").items().map(|c| c.at("name").str()).filter(|n| !n.is_empty()).collect();
        Pod {
            is_pod,
            metadata,
            spec: spec.clone(),
            volumes: BTreeMap::new(),
            claims,
            grace_period: spec.at("terminationGracePeriodSeconds").opt_i64(),
            host_users: spec.at("hostUsers").opt_bool() != Some(false),
        }
    }

    fn os(&self) -> Option<&'a str> {
        self.spec.at("os").opt().map(|os| os.at("name").str())
    }

    /// All containers in upstream's visiting order.
    fn all_containers(&self) -> impl Iterator<Item = Node<'a>> + use<'a> {
        let lists = ["initContainers", "containers", "ephemeralContainers"];
        let nodes: Vec<Node<'a>> = lists.into_iter().flat_map(|list| self.spec.at(list).items()).collect();
        nodes.into_iter()
    }
}

/// A new Pod.
pub fn create(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata_and_spec(object, &mut errs);
    let spec = object.at("spec");
    if !spec.at("ephemeralContainers").is_empty() {
        errs.push(spec.at("ephemeralContainers").forbidden("cannot be set on create"));
    }
    if !spec.at("nodeName").is_empty() && !spec.at("schedulingGates").is_empty() {
        errs.push(spec.at("nodeName").forbidden("cannot be set until all schedulingGates have been cleared"));
    }
    annotations::match_fields(object, &mut errs);
    errs
}

/// A changed Pod.
pub fn update(new: &Node, old: &Node) -> ErrorList {
    update::update(new, old)
}

fn metadata_and_spec(object: &Node, errs: &mut ErrorList) {
    let (meta, spec) = (object.at("metadata"), object.at("spec"));
    metadata::validate(&meta, format::name_is_subdomain, errs);
    annotations::validate(&meta.at("annotations"), &spec, errs);
    spec::validate(&mut Pod::new(&spec, Some(meta), true), errs);
    if spec.at("serviceAccountName").is_empty() {
        for volume in spec.at("volumes").items() {
            for source in volume.at("projected").at("sources").items() {
                if let Some(token) = source.at("serviceAccountToken").opt() {
                    errs.push(token.forbidden("must not be specified when serviceAccountName is not set"));
                }
            }
        }
    }
    for list in ["containers", "initContainers"] {
        spec.at(list).items().for_each(|container| containers::unpadded_image(&container, errs));
    }
}

/// A `PodTemplateSpec`.
pub fn template(template: &Node, errs: &mut ErrorList) {
    template_metadata(template, errs);
    let spec = template.at("spec");
    spec::validate(&mut Pod::new(&spec, None, false), errs);
    annotations::match_fields(template, errs);
    if !spec.at("ephemeralContainers").is_empty() {
        errs.push(
            spec.at("ephemeralContainers").forbidden("ephemeral containers not allowed in pod template"),
        );
    }
}

/// Labels and annotations of a `PodTemplateSpec`.
pub fn template_metadata(template: &Node, errs: &mut ErrorList) {
    let meta = template.at("metadata");
    // Upstream leaves `metadata` out of these two paths.
    let without_metadata = |name| meta.at(name).reported_at(template.at(name).path());
    labels::labels(&without_metadata("labels"), errs);
    let annotations = without_metadata("annotations");
    metadata::annotations(&annotations, errs);
    annotations::validate(&annotations, &template.at("spec"), errs);
}

/// When images are pulled.
fn pull_policy(policy: &Node, errs: &mut ErrorList) {
    rules::required_one_of(policy, &["Always", "IfNotPresent", "Never"], errs);
}
