//! How important the served group versions are: `groupPriorityMinimum` and `versionPriority` of their
//! APIServices. Upstream's `apiVersionPriorities`.

/// Group, version, priority of the group, priority of the version in it.
const PRIORITIES: &[(&str, &str, u32, u32)] = &[
    ("", "v1", 18000, 1),
    ("apps", "v1", 17800, 15),
    ("events.k8s.io", "v1", 17750, 15),
    ("authentication.k8s.io", "v1", 17700, 15),
    ("authorization.k8s.io", "v1", 17600, 15),
    ("autoscaling", "v1", 17500, 15),
    ("autoscaling", "v2", 17500, 30),
    ("batch", "v1", 17400, 15),
    ("certificates.k8s.io", "v1", 17300, 15),
    ("networking.k8s.io", "v1", 17200, 15),
    ("policy", "v1", 17100, 15),
    ("rbac.authorization.k8s.io", "v1", 17000, 15),
    ("storage.k8s.io", "v1", 16800, 15),
    ("apiextensions.k8s.io", "v1", 16700, 15),
    ("admissionregistration.k8s.io", "v1", 16700, 15),
    ("scheduling.k8s.io", "v1", 16600, 15),
    ("coordination.k8s.io", "v1", 16500, 15),
    ("node.k8s.io", "v1", 16300, 15),
    ("discovery.k8s.io", "v1", 16200, 15),
    ("resource.k8s.io", "v1", 16200, 21),
    ("flowcontrol.apiserver.k8s.io", "v1", 16100, 21),
];

/// The priorities of custom resources, and of our own groups.
pub(super) const CUSTOM: (u32, u32) = (1000, 100);

/// The priorities of a built-in group version. The group of APIServices has no APIService itself; and
/// `metrics.k8s.io` has none until somebody makes it, so that a metrics server can be installed.
pub(super) fn of(group: &str, version: &str) -> Option<(u32, u32)> {
    let upstream = PRIORITIES.iter().find(|row| (row.0, row.1) == (group, version));
    match upstream {
        Some(row) => Some((row.2, row.3)),
        None if ["apiregistration.k8s.io", "metrics.k8s.io"].contains(&group) => None,
        None => Some(CUSTOM),
    }
}
