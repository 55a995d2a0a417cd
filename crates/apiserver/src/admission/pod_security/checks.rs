//! The checks of the Pod Security Standards, and since which version each is what it is.
//!
//! Source: `k8s.io/pod-security-admission/policy`.

use std::collections::BTreeSet;

use schema::gotext::quote;
use serde_json::Value;

use super::policy::{Level, LevelVersion};

/// The newest version that has rules of its own.
const NEWEST: u64 = 35;

/// A pod, or the template of one.
#[derive(Clone, Copy)]
pub(super) struct Pod<'a> {
    pub metadata: &'a Value,
    pub spec: &'a Value,
}

/// Why a check refuses a pod.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Violation {
    /// In few words.
    pub reason: &'static str,
    /// Which containers, which values.
    pub detail: String,
}

/// `reason (detail), …`.
pub(super) fn details(violations: &[Violation]) -> String {
    let texts: Vec<String> =
        violations.iter().map(|violation| format!("{} ({})", violation.reason, violation.detail)).collect();
    texts.join(", ")
}

/// `reason, …`.
pub(super) fn reasons(violations: &[Violation]) -> String {
    violations.iter().map(|violation| violation.reason).collect::<Vec<_>>().join(", ")
}

type CheckFn = fn(Pod<'_>) -> Option<Violation>;

struct Check {
    level: Level,
    /// From which minor version on which function, oldest first.
    versions: &'static [(u64, CheckFn)],
    /// The check of the baseline level that this one makes superfluous.
    replaces: Option<&'static str>,
    id: &'static str,
}

const fn baseline(id: &'static str, versions: &'static [(u64, CheckFn)]) -> Check {
    Check { level: Level::Baseline, versions, replaces: None, id }
}

const fn restricted(
    id: &'static str,
    versions: &'static [(u64, CheckFn)],
    replaces: Option<&'static str>,
) -> Check {
    Check { level: Level::Restricted, versions, replaces, id }
}

/// In the order in which violations are told.
const CHECKS: [Check; 19] = [
    baseline("appArmorProfile", &[(0, app_armor)]),
    baseline("capabilities_baseline", &[(0, capabilities_baseline)]),
    baseline("hostNamespaces", &[(0, host_namespaces)]),
    baseline("hostPathVolumes", &[(0, host_path_volumes)]),
    baseline("hostPorts", &[(0, host_ports)]),
    baseline("hostProbesAndHostLifecycle", &[(34, probe_hosts)]),
    baseline("privileged", &[(0, privileged)]),
    baseline("procMount", &[(0, proc_mount), (35, |pod| unless_own_users(pod, proc_mount))]),
    baseline(
        "seLinuxOptions",
        &[(0, |pod| se_linux(pod, &SE_LINUX_TYPES[..4])), (31, |pod| se_linux(pod, &SE_LINUX_TYPES))],
    ),
    baseline("seccompProfile_baseline", &[(0, seccomp_annotations), (19, seccomp_baseline)]),
    baseline(
        "sysctls",
        &[
            (0, |pod| sysctls(pod, &SYSCTLS[..5])),
            (27, |pod| sysctls(pod, &SYSCTLS[..6])),
            (29, |pod| sysctls(pod, &SYSCTLS[..10])),
            (32, |pod| sysctls(pod, &SYSCTLS)),
        ],
    ),
    baseline("windowsHostProcess", &[(0, host_process)]),
    restricted(
        "allowPrivilegeEscalation",
        &[(8, privilege_escalation), (25, |pod| unless_windows(pod, privilege_escalation))],
        None,
    ),
    restricted(
        "capabilities_restricted",
        &[(22, capabilities_restricted), (25, |pod| unless_windows(pod, capabilities_restricted))],
        Some("capabilities_baseline"),
    ),
    restricted("procMount_restricted", &[(35, proc_mount)], Some("procMount")),
    restricted("restrictedVolumes", &[(0, restricted_volumes)], Some("hostPathVolumes")),
    restricted(
        "runAsNonRoot",
        &[(0, run_as_non_root), (35, |pod| unless_own_users(pod, run_as_non_root))],
        None,
    ),
    restricted("runAsUser", &[(23, run_as_user), (35, |pod| unless_own_users(pod, run_as_user))], None),
    restricted(
        "seccompProfile_restricted",
        &[(19, seccomp_restricted), (25, |pod| unless_windows(pod, seccomp_restricted))],
        Some("seccompProfile_baseline"),
    ),
];

/// What a pod does that the level forbids.
pub(super) fn evaluate(policy: LevelVersion, pod: Pod<'_>) -> Vec<Violation> {
    if policy.level == Level::Privileged {
        return Vec::new();
    }
    let version = policy.version.unwrap_or(NEWEST).min(NEWEST);
    let active = |check: &Check| {
        let newest = check.versions.iter().rev().find(|(since, _)| *since <= version);
        newest.filter(|_| check.level <= policy.level).map(|(_, check)| *check)
    };
    let replaced: Vec<&str> =
        CHECKS.iter().filter(|check| active(check).is_some()).filter_map(|check| check.replaces).collect();
    CHECKS
        .iter()
        .filter(|check| !replaced.contains(&check.id))
        .filter_map(|check| active(check)?(pod))
        .collect()
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

impl<'a> Pod<'a> {
    fn containers(self) -> impl Iterator<Item = &'a Value> {
        let spec = self.spec;
        ["initContainers", "containers", "ephemeralContainers"]
            .into_iter()
            .flat_map(move |field| spec[field].as_array().into_iter().flatten())
    }

    /// The names of the containers that `is_bad` says are bad.
    fn bad(self, mut is_bad: impl FnMut(&'a Value) -> bool) -> Vec<&'a str> {
        self.containers()
            .filter(|container| is_bad(container))
            .map(|container| text(&container["name"]))
            .collect()
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// `"a", "b"`.
fn join_quote<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

fn plural(one: &'static str, many: &'static str, count: usize) -> &'static str {
    if count == 1 { one } else { many }
}

/// `container "a"`, `containers "a", "b"`.
fn name_containers(names: &[&str]) -> String {
    format!("{} {}", plural("container", "containers", names.len()), join_quote(names.iter().copied()))
}

/// `pod and containers "a", "b"`: who set something, if anybody.
fn setters(pod: bool, containers: &[&str]) -> Option<String> {
    match (pod, containers.is_empty()) {
        (false, true) => None,
        (true, true) => Some("pod".to_owned()),
        (false, false) => Some(name_containers(containers)),
        (true, false) => Some(format!("pod and {}", name_containers(containers))),
    }
}

fn unless_windows(pod: Pod<'_>, check: CheckFn) -> Option<Violation> {
    if pod.spec["os"]["name"] == "windows" { None } else { check(pod) }
}

/// Pods with a user namespace of their own may do more.
fn unless_own_users(pod: Pod<'_>, check: CheckFn) -> Option<Violation> {
    if pod.spec["hostUsers"] == false { None } else { check(pod) }
}

fn app_armor(pod: Pod<'_>) -> Option<Violation> {
    const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
    let mut values: BTreeSet<&str> = BTreeSet::new();
    let is_bad = |profile: &Value| {
        profile.is_object() && !matches!(text(&profile["type"]), "RuntimeDefault" | "Localhost")
    };
    let own = &pod.spec["securityContext"]["appArmorProfile"];
    let mut bad_setters = Vec::new();
    if is_bad(own) {
        bad_setters.push("pod".to_owned());
        values.insert(text(&own["type"]));
    }
    let containers = pod.bad(|container| is_bad(&container["securityContext"]["appArmorProfile"]));
    for container in pod.containers() {
        let profile = &container["securityContext"]["appArmorProfile"];
        if is_bad(profile) {
            values.insert(text(&profile["type"]));
        }
    }
    if !containers.is_empty() {
        bad_setters.push(name_containers(&containers));
    }
    let allowed =
        |value: &str| value.is_empty() || value == "runtime/default" || value.starts_with("localhost/");
    let mut annotations: Vec<String> = pod.metadata["annotations"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, value)| key.starts_with(ANNOTATION) && !allowed(text(value)))
        .map(|(key, value)| format!("{key}={}", quote(text(value))))
        .collect();
    annotations.sort_unstable();
    if !annotations.is_empty() {
        bad_setters.push(plural("annotation", "annotations", annotations.len()).to_owned());
    }
    if bad_setters.is_empty() {
        return None;
    }
    let all: Vec<&str> = values.into_iter().chain(annotations.iter().map(String::as_str)).collect();
    Some(Violation {
        reason: plural("forbidden AppArmor profile", "forbidden AppArmor profiles", all.len()),
        detail: format!(
            "{} must not set AppArmor profile type to {}",
            bad_setters.join(" and "),
            join_quote(all)
        ),
    })
}

const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// The containers that add capabilities beyond `allowed`, and those capabilities.
fn added<'a>(pod: Pod<'a>, allowed: &[&str]) -> Option<String> {
    let mut capabilities: BTreeSet<&str> = BTreeSet::new();
    let containers = pod.bad(|container: &'a Value| {
        let mut is_bad = false;
        for name in items(&container["securityContext"]["capabilities"]["add"]).map(text) {
            if !allowed.contains(&name) {
                is_bad = true;
                capabilities.insert(name);
            }
        }
        is_bad
    });
    (!containers.is_empty()).then(|| {
        format!(
            "{} must not include {} in securityContext.capabilities.add",
            name_containers(&containers),
            join_quote(capabilities)
        )
    })
}

fn capabilities_baseline(pod: Pod<'_>) -> Option<Violation> {
    Some(Violation { reason: "non-default capabilities", detail: added(pod, &CAPABILITIES)? })
}

fn capabilities_restricted(pod: Pod<'_>) -> Option<Violation> {
    let keeping = pod.bad(|container| {
        !items(&container["securityContext"]["capabilities"]["drop"]).any(|name| name == "ALL")
    });
    let mut details = Vec::new();
    if !keeping.is_empty() {
        details.push(format!(
            "{} must set securityContext.capabilities.drop=[\"ALL\"]",
            name_containers(&keeping)
        ));
    }
    details.extend(added(pod, &["NET_BIND_SERVICE"]));
    (!details.is_empty())
        .then(|| Violation { reason: "unrestricted capabilities", detail: details.join("; ") })
}

fn host_namespaces(pod: Pod<'_>) -> Option<Violation> {
    let used: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .into_iter()
        .filter(|field| pod.spec[*field] == true)
        .map(|field| format!("{field}=true"))
        .collect();
    (!used.is_empty()).then(|| Violation { reason: "host namespaces", detail: used.join(", ") })
}

fn name_volumes(names: &[&str]) -> String {
    format!("{} {}", plural("volume", "volumes", names.len()), join_quote(names.iter().copied()))
}

fn host_path_volumes(pod: Pod<'_>) -> Option<Violation> {
    let volumes = items(&pod.spec["volumes"]).filter(|volume| volume["hostPath"].is_object());
    let volumes: Vec<&str> = volumes.map(|volume| text(&volume["name"])).collect();
    (!volumes.is_empty()).then(|| Violation { reason: "hostPath volumes", detail: name_volumes(&volumes) })
}

fn host_ports(pod: Pod<'_>) -> Option<Violation> {
    let of = |container: &Value| -> Vec<String> {
        let ports = items(&container["ports"]).filter_map(|port| port["hostPort"].as_i64());
        ports.filter(|port| *port != 0).map(|port| port.to_string()).collect()
    };
    let ports: BTreeSet<String> = pod.containers().flat_map(of).collect();
    let containers = pod.bad(|container| !of(container).is_empty());
    (!containers.is_empty()).then(|| Violation {
        reason: "hostPort",
        detail: format!(
            "{} {} {} {}",
            name_containers(&containers),
            plural("uses", "use", containers.len()),
            plural("hostPort", "hostPorts", ports.len()),
            ports.into_iter().collect::<Vec<_>>().join(", ")
        ),
    })
}

fn probe_hosts(pod: Pod<'_>) -> Option<Violation> {
    let of = |container: &'_ Value| -> Vec<String> {
        let lifecycle = &container["lifecycle"];
        let handlers = [
            &container["livenessProbe"],
            &container["readinessProbe"],
            &container["startupProbe"],
            &lifecycle["postStart"],
            &lifecycle["preStop"],
        ];
        let hosts = handlers
            .into_iter()
            .flat_map(|handler| [text(&handler["httpGet"]["host"]), text(&handler["tcpSocket"]["host"])]);
        hosts.filter(|host| !host.is_empty()).map(str::to_owned).collect()
    };
    let hosts: BTreeSet<String> = pod.containers().flat_map(of).collect();
    let containers: BTreeSet<&str> = pod.bad(|container| !of(container).is_empty()).into_iter().collect();
    let containers: Vec<&str> = containers.into_iter().collect();
    (!containers.is_empty()).then(|| Violation {
        reason: "probe or lifecycle host",
        detail: format!(
            "{} {} {} {}",
            name_containers(&containers),
            plural("uses", "use", containers.len()),
            plural("probe or lifecycle host", "probe or lifecycle hosts", hosts.len()),
            join_quote(hosts.iter().map(String::as_str))
        ),
    })
}

fn privileged(pod: Pod<'_>) -> Option<Violation> {
    let containers = pod.bad(|container| container["securityContext"]["privileged"] == true);
    (!containers.is_empty()).then(|| Violation {
        reason: "privileged",
        detail: format!("{} must not set securityContext.privileged=true", name_containers(&containers)),
    })
}

fn proc_mount(pod: Pod<'_>) -> Option<Violation> {
    fn bad(container: &Value) -> Option<&str> {
        container["securityContext"]["procMount"].as_str().filter(|mount| *mount != "Default")
    }
    let containers = pod.bad(|container| bad(container).is_some());
    let types: BTreeSet<&str> = pod.containers().filter_map(bad).collect();
    (!containers.is_empty()).then(|| Violation {
        reason: "procMount",
        detail: format!(
            "{} must not set securityContext.procMount to {}",
            name_containers(&containers),
            join_quote(types)
        ),
    })
}

const SE_LINUX_TYPES: [&str; 5] =
    ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];

fn se_linux(pod: Pod<'_>, allowed: &[&str]) -> Option<Violation> {
    let of = |context: &'_ Value| -> Vec<String> {
        let options = &context["seLinuxOptions"];
        let set = |field: &str| !text(&options[field]).is_empty();
        let r#type = text(&options["type"]);
        let mut faults = Vec::new();
        if !allowed.contains(&r#type) {
            faults.push(r#type.to_owned());
        }
        // No type contains a slash, so these cannot be mistaken for one.
        faults
            .extend(["user", "role"].into_iter().filter(|field| set(field)).map(|field| format!("/{field}")));
        faults
    };
    let own = of(&pod.spec["securityContext"]);
    let containers = pod.bad(|container| !of(&container["securityContext"]).is_empty());
    let setters = setters(!own.is_empty(), &containers)?;
    let all: BTreeSet<String> =
        pod.containers().flat_map(|container| of(&container["securityContext"])).chain(own).collect();
    let types: Vec<&str> =
        all.iter().map(String::as_str).filter(|fault| !matches!(*fault, "/user" | "/role")).collect();
    let mut data = Vec::new();
    if !types.is_empty() {
        data.push(format!("{} {}", plural("type", "types", types.len()), join_quote(types)));
    }
    for field in ["user", "role"] {
        if all.contains(&format!("/{field}")) {
            data.push(format!("{field} may not be set"));
        }
    }
    let detail = format!("{setters} set forbidden securityContext.seLinuxOptions: {}", data.join("; "));
    Some(Violation { reason: "seLinuxOptions", detail })
}

fn seccomp_annotations(pod: Pod<'_>) -> Option<Violation> {
    let valid = |value: &str| {
        matches!(value, "runtime/default" | "docker/default") || value.starts_with("localhost/")
    };
    let annotations = &pod.metadata["annotations"];
    let keys = std::iter::once("seccomp.security.alpha.kubernetes.io/pod".to_owned()).chain(
        pod.containers().map(|container| {
            format!("container.seccomp.security.alpha.kubernetes.io/{}", text(&container["name"]))
        }),
    );
    let forbidden: BTreeSet<String> = keys
        .filter_map(|key| {
            let value = annotations[&key].as_str().filter(|value| !valid(value))?;
            Some(format!("{key}={}", quote(value)))
        })
        .collect();
    (!forbidden.is_empty()).then(|| Violation {
        reason: "seccompProfile",
        detail: format!(
            "forbidden {} {}",
            plural("annotation", "annotations", forbidden.len()),
            forbidden.into_iter().collect::<Vec<_>>().join(", ")
        ),
    })
}

/// The type of a seccomp profile, if the context has a profile.
fn seccomp(context: &Value) -> Option<&str> {
    let profile = &context["seccompProfile"];
    profile.is_object().then(|| text(&profile["type"]))
}

fn seccomp_baseline(pod: Pod<'_>) -> Option<Violation> {
    fn bad(context: &Value) -> Option<&str> {
        seccomp(context).filter(|kind| !matches!(*kind, "Localhost" | "RuntimeDefault"))
    }
    let own = bad(&pod.spec["securityContext"]);
    let containers = pod.bad(|container| bad(&container["securityContext"]).is_some());
    let setters = setters(own.is_some(), &containers)?;
    let values: BTreeSet<&str> =
        pod.containers().filter_map(|container| bad(&container["securityContext"])).chain(own).collect();
    Some(Violation {
        reason: "seccompProfile",
        detail: format!(
            "{setters} must not set securityContext.seccompProfile.type to {}",
            join_quote(values)
        ),
    })
}

fn seccomp_restricted(pod: Pod<'_>) -> Option<Violation> {
    if let Some(violation) = seccomp_baseline(pod) {
        return Some(violation);
    }
    if seccomp(&pod.spec["securityContext"]).is_some() {
        return None;
    }
    let containers = pod.bad(|container| seccomp(&container["securityContext"]).is_none());
    (!containers.is_empty()).then(|| Violation {
        reason: "seccompProfile",
        detail: format!(
            "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
            name_containers(&containers)
        ),
    })
}

/// Versions allow more and more of them, from the left.
const SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

fn sysctls(pod: Pod<'_>, allowed: &[&str]) -> Option<Violation> {
    let names = items(&pod.spec["securityContext"]["sysctls"]).map(|sysctl| text(&sysctl["name"]));
    let forbidden: Vec<&str> = names.filter(|name| !allowed.contains(name)).collect();
    (!forbidden.is_empty()).then(|| Violation { reason: "forbidden sysctls", detail: forbidden.join(", ") })
}

fn host_process(pod: Pod<'_>) -> Option<Violation> {
    let is_set = |context: &Value| context["windowsOptions"]["hostProcess"] == true;
    let containers = pod.bad(|container| is_set(&container["securityContext"]));
    let setters = setters(is_set(&pod.spec["securityContext"]), &containers)?;
    Some(Violation {
        reason: "hostProcess",
        detail: format!("{setters} must not set securityContext.windowsOptions.hostProcess=true"),
    })
}

fn privilege_escalation(pod: Pod<'_>) -> Option<Violation> {
    let containers = pod.bad(|container| container["securityContext"]["allowPrivilegeEscalation"] != false);
    (!containers.is_empty()).then(|| Violation {
        reason: "allowPrivilegeEscalation != false",
        detail: format!(
            "{} must set securityContext.allowPrivilegeEscalation=false",
            name_containers(&containers)
        ),
    })
}

const FREE_VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];
const RESTRICTED_VOLUMES: [&str; 21] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "gitRepo",
    "nfs",
    "iscsi",
    "glusterfs",
    "rbd",
    "flexVolume",
    "cinder",
    "cephfs",
    "flocker",
    "fc",
    "azureFile",
    "vsphereVolume",
    "quobyte",
    "azureDisk",
    "photonPersistentDisk",
    "portworxVolume",
    "scaleIO",
    "storageos",
];

fn restricted_volumes(pod: Pod<'_>) -> Option<Violation> {
    let has = |volume: &Value, field: &&&str| volume[**field].is_object();
    let (mut names, mut types) = (Vec::new(), BTreeSet::new());
    for volume in items(&pod.spec["volumes"]) {
        if !FREE_VOLUMES.iter().any(|field| has(volume, &field)) {
            names.push(text(&volume["name"]));
            types.insert(*RESTRICTED_VOLUMES.iter().find(|field| has(volume, field)).unwrap_or(&"unknown"));
        }
    }
    (!names.is_empty()).then(|| Violation {
        reason: "restricted volume types",
        detail: format!(
            "{} {} {} {}",
            name_volumes(&names),
            plural("uses", "use", names.len()),
            plural("restricted volume type", "restricted volume types", types.len()),
            join_quote(types)
        ),
    })
}

fn run_as_non_root(pod: Pod<'_>) -> Option<Violation> {
    let given = |context: &Value| context["runAsNonRoot"].as_bool();
    let own = given(&pod.spec["securityContext"]);
    let explicit = pod.bad(|container| given(&container["securityContext"]) == Some(false));
    let reason = "runAsNonRoot != true";
    if let Some(setters) = setters(own == Some(false), &explicit) {
        let detail = format!("{setters} must not set securityContext.runAsNonRoot=false");
        return Some(Violation { reason, detail });
    }
    if own == Some(true) {
        return None;
    }
    let implicit = pod.bad(|container| given(&container["securityContext"]).is_none());
    (!implicit.is_empty()).then(|| Violation {
        reason,
        detail: format!("pod or {} must set securityContext.runAsNonRoot=true", name_containers(&implicit)),
    })
}

fn run_as_user(pod: Pod<'_>) -> Option<Violation> {
    let is_root = |context: &Value| context["runAsUser"].as_i64() == Some(0);
    let containers = pod.bad(|container| is_root(&container["securityContext"]));
    let setters = setters(is_root(&pod.spec["securityContext"]), &containers)?;
    Some(Violation { reason: "runAsUser=0", detail: format!("{setters} must not set runAsUser=0") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(level: Level, version: Option<u64>, spec: &Value) -> String {
        let pod = Pod { metadata: &Value::Null, spec };
        details(&evaluate(LevelVersion { level, version }, pod))
    }

    #[test]
    fn a_careless_pod_violates_restricted() {
        let spec = json!({"containers": [{"name": "a"}, {"name": "b"}], "volumes": [{"name": "v", "hostPath": {"path": "/"}}]});
        assert_eq!(check(Level::Baseline, None, &spec), "hostPath volumes (volume \"v\")");
        assert_eq!(
            check(Level::Restricted, None, &spec),
            "allowPrivilegeEscalation != false (containers \"a\", \"b\" must set securityContext.allowPrivilegeEscalation=false), \
             unrestricted capabilities (containers \"a\", \"b\" must set securityContext.capabilities.drop=[\"ALL\"]), \
             restricted volume types (volume \"v\" uses restricted volume type \"hostPath\"), \
             runAsNonRoot != true (pod or containers \"a\", \"b\" must set securityContext.runAsNonRoot=true), \
             seccompProfile (pod or containers \"a\", \"b\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
        );
        assert_eq!(check(Level::Privileged, None, &spec), "");
    }

    #[test]
    fn versions_matter() {
        let spec = json!({"hostUsers": false, "securityContext": {"runAsUser": 0, "sysctls": [{"name": "net.ipv4.tcp_rmem"}],
            "seLinuxOptions": {"type": "container_engine_t", "user": "u"}}});
        assert_eq!(
            check(Level::Baseline, Some(30), &spec),
            "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type \"container_engine_t\"; user may not be set), \
             forbidden sysctls (net.ipv4.tcp_rmem)"
        );
        assert_eq!(
            check(Level::Restricted, Some(99), &spec),
            "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: user may not be set)"
        );
        assert!(
            check(Level::Restricted, Some(34), &spec).ends_with("runAsUser=0 (pod must not set runAsUser=0)")
        );
    }
}
