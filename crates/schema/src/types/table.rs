//! The embedded files and the look-ups in them.

use std::sync::OnceLock;

use super::Type;
use super::parse::{self, Package};

/// An embedded file: one version of one API group.
struct Source {
    file: &'static str,
    /// API group, empty for core.
    group: &'static str,
    version: &'static str,
    /// Prefix of the OpenAPI names.
    openapi: &'static str,
    text: &'static str,
    /// Descriptions; see `docs`.
    docs: &'static str,
    parsed: OnceLock<Package>,
}

macro_rules! sources {
    ($($file:literal $group:literal $version:literal $openapi:literal)*) => {
        const COUNT: usize = [$($file),*].len();
        static SOURCES: [Source; COUNT] = [$(Source {
            file: $file,
            group: $group,
            version: $version,
            openapi: $openapi,
            text: include_str!(concat!("../../types/", $file, ".types")),
            docs: include_str!(concat!("../../types/", $file, ".docs")),
            parsed: OnceLock::new(),
        }),*];
    };
}

sources! {
    "meta_v1" "meta.k8s.io" "v1" "io.k8s.apimachinery.pkg.apis.meta.v1"
    "core_v1" "" "v1" "io.k8s.api.core.v1"
    "admissionregistration_v1" "admissionregistration.k8s.io" "v1" "io.k8s.api.admissionregistration.v1"
    "apidiscovery_v2" "apidiscovery.k8s.io" "v2" "io.k8s.api.apidiscovery.v2"
    "apiextensions_v1" "apiextensions.k8s.io" "v1" "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1"
    "apiregistration_v1" "apiregistration.k8s.io" "v1" "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1"
    "apps_v1" "apps" "v1" "io.k8s.api.apps.v1"
    "authentication_v1" "authentication.k8s.io" "v1" "io.k8s.api.authentication.v1"
    "authorization_v1" "authorization.k8s.io" "v1" "io.k8s.api.authorization.v1"
    "autoscaling_v1" "autoscaling" "v1" "io.k8s.api.autoscaling.v1"
    "autoscaling_v2" "autoscaling" "v2" "io.k8s.api.autoscaling.v2"
    "batch_v1" "batch" "v1" "io.k8s.api.batch.v1"
    "certificates_v1" "certificates.k8s.io" "v1" "io.k8s.api.certificates.v1"
    "coordination_v1" "coordination.k8s.io" "v1" "io.k8s.api.coordination.v1"
    "discovery_v1" "discovery.k8s.io" "v1" "io.k8s.api.discovery.v1"
    "events_v1" "events.k8s.io" "v1" "io.k8s.api.events.v1"
    "flowcontrol_v1" "flowcontrol.apiserver.k8s.io" "v1" "io.k8s.api.flowcontrol.v1"
    "metrics_v1beta1" "metrics.k8s.io" "v1beta1" "io.k8s.metrics.pkg.apis.metrics.v1beta1"
    "networking_v1" "networking.k8s.io" "v1" "io.k8s.api.networking.v1"
    "node_v1" "node.k8s.io" "v1" "io.k8s.api.node.v1"
    "policy_v1" "policy" "v1" "io.k8s.api.policy.v1"
    "rbac_v1" "rbac.authorization.k8s.io" "v1" "io.k8s.api.rbac.v1"
    "resource_v1" "resource.k8s.io" "v1" "io.k8s.api.resource.v1"
    "scheduling_v1" "scheduling.k8s.io" "v1" "io.k8s.api.scheduling.v1"
    "storage_v1" "storage.k8s.io" "v1" "io.k8s.api.storage.v1"
    "karpenter_v1" "karpenter.sh" "v1" "sh.karpenter.v1"
    "explain_kobune_v1alpha1" "explain.kobune.dev" "v1alpha1" "dev.kobune.explain.v1alpha1"
    "metrics_kobune_v1alpha1" "metrics.kobune.dev" "v1alpha1" "dev.kobune.metrics.v1alpha1"
}

impl Source {
    fn package(&self) -> &Package {
        self.parsed.get_or_init(|| {
            let package = parse::package(self.file, self.text);
            debug_assert_eq!((package.group.as_str(), package.version.as_str()), (self.group, self.version));
            package
        })
    }
}

/// A package of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackageInfo {
    /// API group, empty for core.
    pub group: &'static str,
    /// Version.
    pub version: &'static str,
    /// Prefix of the OpenAPI names of its types.
    pub openapi: &'static str,
}

/// The type with an OpenAPI name.
pub fn get(name: &str) -> Option<&'static Type> {
    let (package, name) = name.rsplit_once('.')?;
    SOURCES.iter().find(|s| s.openapi == package)?.package().types.get(name)
}

/// The type of a built-in kind. Kinds of `meta.k8s.io` that every group serves (`Status`,
/// `DeleteOptions`, …) are found under any group.
pub fn of_kind(group: &str, version: &str, kind: &str) -> Option<&'static Type> {
    let own = SOURCES.iter().find(|s| s.group == group && s.version == version);
    own.and_then(|s| s.package().types.get(kind))
        .or_else(|| SOURCES[0].package().types.get(kind))
        .filter(|ty| ty.as_struct().is_some_and(|s| s.is_kind))
}

/// The `.docs` file of the package with that prefix of OpenAPI names, and the prefix.
pub(super) fn docs_of(openapi: &str) -> Option<(&'static str, &'static str)> {
    SOURCES.iter().find(|s| s.openapi == openapi).map(|s| (s.openapi, s.docs))
}

/// All packages.
pub fn packages() -> impl Iterator<Item = PackageInfo> {
    SOURCES.iter().map(|s| PackageInfo { group: s.group, version: s.version, openapi: s.openapi })
}

/// The kinds that a package declares, with their types.
pub fn kinds(group: &str, version: &str) -> impl Iterator<Item = (&'static str, &'static Type)> {
    structs_of(group, version).filter(|(_, ty)| ty.as_struct().is_some_and(|s| s.is_kind))
}

/// All types that a package declares, by Go name.
pub fn structs_of(group: &str, version: &str) -> impl Iterator<Item = (&'static str, &'static Type)> {
    let source = SOURCES.iter().find(|s| s.group == group && s.version == version);
    source.into_iter().flat_map(|s| s.package().types.iter().map(|(name, ty)| (name.as_str(), ty)))
}

/// Follows a reference between or within packages.
pub(super) fn resolve(file: &str, name: &str) -> &'static Type {
    SOURCES
        .iter()
        .find(|s| s.file == file)
        .and_then(|s| s.package().types.get(name))
        .unwrap_or_else(|| panic!("the type table refers to {name} of {file}, which it does not hold"))
}
