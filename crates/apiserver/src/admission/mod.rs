//! Admission: what is added to objects, and what is refused although it is valid.
//!
//! The plugins are those that are on by default in Kubernetes 1.36, and NodeRestriction, in upstream's
//! order (`pkg/kubeapiserver/options/plugins.go`):
//!
//! | plugin | mutates | validates |
//! |---|---|---|
//! | NamespaceLifecycle | [`namespace_lifecycle`] | |
//! | LimitRanger | [`limit_ranger`] | [`limit_ranger`] |
//! | ServiceAccount | [`pods`] | [`pods`] |
//! | NodeRestriction | [`node_restriction`] | |
//! | TaintNodesByCondition | [`nodes`] | |
//! | PodSecurity | | [`pod_security`] |
//! | Priority | [`pods`] | [`pods`] |
//! | DefaultTolerationSeconds | [`pods`] | |
//! | DefaultStorageClass | [`classes`] | |
//! | StorageObjectInUseProtection | [`storage`] | |
//! | PersistentVolumeClaimResize | | [`storage`] |
//! | RuntimeClass | [`runtime_class`] | [`runtime_class`] |
//! | CertificateApproval, CertificateSigning, CertificateSubjectRestriction | | [`certificates`] |
//! | DefaultIngressClass | [`classes`] | |
//! | PodTopologyLabels | [`nodes`] | |
//! | PodResizeValidator | | [`nodes`] |
//! | MutatingAdmissionPolicy, MutatingAdmissionWebhook | at the end | |
//! | ValidatingAdmissionPolicy, ValidatingAdmissionWebhook | | at the end |
//! | ResourceQuota | | [`quota`], last |
//!
//! On by default as well, but without effect as long as their feature gates are off: PodGroupProtection,
//! PodGroupWorkloadExists, JobValidation, ClusterTrustBundleAttest. NodeDeclaredFeatureValidator is missing:
//! no node here declares features.

use serde_json::Value;

use crate::call::Call;
use crate::status::ApiError;

mod attributes;
mod certificates;
mod classes;
pub(crate) mod dynamic;
mod limit_ranger;
mod lookup;
mod namespace_lifecycle;
mod node_restriction;
mod nodes;
mod pod_security;
mod pods;
mod policy;
pub(crate) mod quota;
mod references;
mod runtime_class;
pub(crate) mod service_addresses;
mod service_ports;
pub(crate) mod services;
mod storage;
mod webhook;

pub(crate) use attributes::{Attributes, ObjectKind};
use dynamic::Reinvocation;

/// What is about to happen to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
    /// A connection: exec, attach, port forwarding, a proxy.
    Connect,
}

impl Operation {
    /// As webhooks and rules name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// Something taken for a write that has not happened yet: an address, a share of a quota. Given back
/// when dropped, unless [`Reservation::finish`] says that the write succeeded.
#[derive(Default)]
#[must_use]
pub(crate) struct Reservation {
    done: Vec<Box<dyn FnOnce() + Send>>,
}

impl Reservation {
    /// What to do once the write has happened or failed.
    pub fn when_done(&mut self, act: impl FnOnce() + Send + 'static) {
        self.done.push(Box::new(act));
    }

    /// The write is over.
    pub fn finish(self) {}

    /// Both, until the write is over.
    pub fn join(mut self, mut other: Self) -> Self {
        self.done.append(&mut other.done);
        self
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        for act in self.done.drain(..) {
            act();
        }
    }
}

/// The mutating plugins, in upstream's order. They may change `object`, which is in the request's version.
pub(crate) async fn admit(attributes: &Attributes<'_>, object: &mut Value) -> Result<(), ApiError> {
    let mut reinvocation = Reinvocation::default();
    admit_builtin(attributes, object).await?;
    dynamic::mutate(attributes, object, &mut reinvocation).await?;
    if reinvocation.again() {
        admit_builtin(attributes, object).await?;
        dynamic::mutate(attributes, object, &mut reinvocation).await?;
    }
    Ok(())
}

async fn admit_builtin(attributes: &Attributes<'_>, object: &mut Value) -> Result<(), ApiError> {
    namespace_lifecycle::admit(attributes, object).await?;
    limit_ranger::admit(attributes, object);
    pods::service_account(attributes, object).await?;
    node_restriction::admit(attributes, object)?;
    nodes::taint(attributes, object);
    pods::priority(attributes, object).await?;
    pods::tolerations(attributes, object);
    classes::admit(attributes, object);
    storage::protect(attributes, object);
    runtime_class::admit(attributes, object).await?;
    nodes::label(attributes, object);
    Ok(())
}

/// What storage takes for a new or changed object before validating plugins see it: addresses, ports.
/// They are written into `object`, which like `old` is in the stored version.
pub(crate) async fn allocate(
    attributes: &Attributes<'_>,
    object: &mut Value,
    old: Option<&Value>,
) -> Result<Reservation, ApiError> {
    if attributes.is("", "services") {
        return services::allocate(attributes, object, old).await;
    }
    Ok(Reservation::default())
}

/// What is given back before the delete of an object is answered.
pub(crate) async fn after_delete(call: &Call, object: &Value) {
    if call.kind.group.is_empty() && call.kind.kind == "Service" {
        remove_endpoints(call, object).await;
        let addresses = services::addresses_of(object);
        service_addresses::release(call.server.clone(), addresses).await;
    }
}

/// The Endpoints of a service go with it, so that a service of the same name does not find them.
async fn remove_endpoints(call: &Call, service: &Value) {
    let Some(kind) = call.server.registry().resource("", "v1", "endpoints").cloned() else { return };
    let name = crate::object::meta(service, "name");
    let Some(entry) = call.server.cached(&kind, &call.info.namespace, name) else { return };
    if entry.try_value().is_ok_and(|endpoints| crate::object::finalizers(&endpoints).is_empty())
        && let Err(crate::storage::PutError::Other(error)) = call.server.remove(&kind, &entry).await
    {
        tracing::warn!(%error, name, "the endpoints of a deleted service stay");
    }
}

/// The validating plugins, in upstream's order. `object` is complete and valid, in the request's version.
pub(crate) async fn validate(attributes: &Attributes<'_>, object: &Value) -> Result<Reservation, ApiError> {
    let call = attributes.call;
    if matches!(attributes.operation, Operation::Create | Operation::Update)
        && attributes.subresource.is_empty()
        && call.kind.group == "rbac.authorization.k8s.io"
    {
        crate::authz::request::check_escalation(call, object, attributes.old)?;
    }
    limit_ranger::validate(attributes, object)?;
    pods::check_service_account(attributes, object).await?;
    pod_security::validate(attributes, object).await?;
    pods::check_class(attributes, object)?;
    storage::check_resize(attributes, object)?;
    runtime_class::validate(attributes, object).await?;
    certificates::validate(attributes, object)?;
    nodes::check_resize(attributes, object)?;
    dynamic::validate(attributes, object).await?;
    // Last: what is refused by anybody else must not be charged.
    quota::validate(attributes, object).await
}
