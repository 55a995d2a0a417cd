//! Security contexts of pods and containers.

use super::super::{format, rules};
use super::Pod;
use crate::cursor::Node;
use crate::field::{Error, ErrorList};

/// The security context of a pod and the fields of the spec that belong to it.
pub fn pod(spec: &Node, errs: &mut ErrorList) {
    let context = spec.at("securityContext");
    for id in ["fsGroup", "runAsUser", "runAsGroup"] {
        if let Some(id) = context.at(id).opt() {
            rules::number(&id, format::posix_id, errs);
        }
    }
    context.at("supplementalGroups").items().for_each(|group| rules::number(&group, format::posix_id, errs));
    if spec.at("shareProcessNamespace").bool() && spec.at("hostPID").bool() {
        // Upstream has the field inside of the security context.
        let at = context.path().child("shareProcessNamespace");
        errs.push(Error::invalid(&at, true, "ShareProcessNamespace and HostPID cannot both be enabled"));
    }
    sysctls(spec, &context.at("sysctls"), errs);
    if let Some(policy) = context.at("fsGroupChangePolicy").opt() {
        rules::one_of(&policy, &["Always", "OnRootMismatch"], errs);
    }
    seccomp(&context.at("seccompProfile"), errs);
    windows_options(&context.at("windowsOptions"), errs);
    app_armor(&context.at("appArmorProfile"), errs);
    if let Some(policy) = context.at("supplementalGroupsPolicy").opt() {
        rules::one_of(&policy, &["Merge", "Strict"], errs);
    }
    if let Some(policy) = context.at("seLinuxChangePolicy").opt() {
        // `MountOption` is behind a feature gate that is off.
        rules::one_of(&policy, &["Recursive"], errs);
    }
}

fn sysctls(spec: &Node, list: &Node, errs: &mut ErrorList) {
    let mut seen = std::collections::BTreeSet::new();
    for name in list.items().map(|sysctl| sysctl.at("name")) {
        if rules::not_empty(&name, errs) {
            if !is_sysctl_name(name.str()) {
                let regex = r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
                errs.push(
                    name.invalid_str(format!("must have at most 253 characters and match regex {regex}")),
                );
            } else if seen.contains(name.str()) {
                errs.push(name.duplicate());
            }
        }
        let dotted = name.str().replace('/', ".");
        let ipc = ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|p| dotted.starts_with(p))
            || dotted == "kernel.sem";
        if spec.at("hostNetwork").bool() && dotted.starts_with("net.") {
            errs.push(name.invalid_str("may not be specified when 'hostNetwork' is true"));
        } else if spec.at("hostIPC").bool() && ipc {
            errs.push(name.invalid_str("may not be specified when 'hostIPC' is true"));
        }
        seen.insert(name.str());
    }
}

fn is_sysctl_name(name: &str) -> bool {
    let edge = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let segment = |s: &str| {
        let bytes = s.as_bytes();
        let inner = bytes.iter().all(|b| edge(*b) || b"-_".contains(b));
        inner && bytes.first().is_some_and(|b| edge(*b)) && bytes.last().is_some_and(|b| edge(*b))
    };
    name.len() <= 253 && name.split(['.', '/']).all(segment)
}

fn seccomp(profile: &Node, errs: &mut ErrorList) {
    if !profile.is_set() {
        return;
    }
    let (kind, local) = (profile.at("type"), profile.at("localhostProfile"));
    let kinds = ["Localhost", "RuntimeDefault", "Unconfined"];
    if kind.is_empty() {
        errs.push(kind.required("type is required when seccompProfile is set"));
    } else {
        rules::one_of(&kind, &kinds, errs);
    }
    match (kind.str() == "Localhost", local.is_set()) {
        (true, false) => errs.push(local.required("must be set when seccomp type is Localhost")),
        (true, true) => rules::descending_path(&local, errs),
        (false, true) => {
            errs.push(local.invalid_as(profile.to_value(), "can only be set when seccomp type is Localhost"));
        }
        (false, false) => {}
    }
}

fn app_armor(profile: &Node, errs: &mut ErrorList) {
    if !profile.is_set() {
        return;
    }
    let (kind, local) = (profile.at("type"), profile.at("localhostProfile"));
    let needed = "must be set when AppArmor type is Localhost";
    match kind.str() {
        "Localhost" => {
            match local.opt_str() {
                None => errs.push(local.required(needed)),
                Some(path) if path.trim() != path => {
                    errs.push(local.invalid_str("must not be padded with whitespace"));
                }
                Some("") => errs.push(local.required(needed)),
                Some(_) => {}
            }
            // PATH_MAX without the final zero.
            if local.len() > 4095 {
                errs.push(local.too_long(4095));
            }
        }
        "RuntimeDefault" | "Unconfined" => {
            if local.is_set() {
                errs.push(local.invalid("can only be set when AppArmor type is Localhost"));
            }
        }
        "" => errs.push(kind.required("type is required when appArmorProfile is set")),
        _ => errs.push(kind.not_supported(&["Localhost", "RuntimeDefault", "Unconfined"])),
    }
}

fn windows_options(options: &Node, errs: &mut ErrorList) {
    if let Some(name) = options.at("gmsaCredentialSpecName").opt() {
        rules::named(&name, format::name_is_subdomain, errs);
    }
    if let Some(spec) = options.at("gmsaCredentialSpec").opt() {
        if spec.is_empty() {
            errs.push(spec.invalid_str("gmsaCredentialSpec cannot be an empty string"));
        } else if spec.len() > 64 << 10 {
            errs.push(spec.invalid_str("gmsaCredentialSpec size must be under 64 KiB"));
        }
    }
    if let Some(user) = options.at("runAsUserName").opt() {
        windows_user(&user, errs);
    }
}

/// `user` or `domain\user`.
fn windows_user(name: &Node, errs: &mut ErrorList) {
    let parts: Vec<&str> = name.str().split('\\').collect();
    if name.is_empty() {
        errs.push(name.invalid_str("runAsUserName cannot be an empty string"));
        return;
    }
    if name.str().bytes().any(|b| b.is_ascii_control()) {
        errs.push(name.invalid_str("runAsUserName cannot contain control characters"));
        return;
    }
    let (domain, user) = match parts[..] {
        [user] => (None, user),
        [domain, user] => (Some(domain), user),
        _ => {
            errs.push(name.invalid_str("runAsUserName cannot contain more than one backslash"));
            return;
        }
    };
    if domain.is_some_and(|domain| domain.len() >= 256) {
        errs.push(name.invalid_str("runAsUserName's Domain length must be under 256 characters"));
    }
    if domain.is_some_and(|domain| !is_net_bios(domain) && !is_windows_domain(domain)) {
        errs.push(name.invalid_str("runAsUserName's Domain doesn't match the NetBios nor the DNS format"));
    }
    if user.is_empty() {
        errs.push(name.invalid_str("runAsUserName's User cannot be empty"));
    } else if user.len() > 104 {
        let detail = "runAsUserName's User length must not be longer than 104 characters";
        errs.push(name.invalid_str(detail));
    }
    if !user.is_empty() && user.bytes().all(|b| b". ".contains(&b)) {
        errs.push(name.invalid_str("runAsUserName's User cannot contain only periods or spaces"));
    }
    if user.contains(|c| "\"/\\:;|=,+*?<>@[]".contains(c)) {
        let characters = "\"/\\:;|=,+*?<>@[]";
        let detail = format!("runAsUserName's User cannot contain the following characters: {characters}");
        errs.push(name.invalid_str(detail));
    }
}

fn is_net_bios(domain: &str) -> bool {
    (1..=15).contains(&domain.chars().count())
        && !domain.starts_with('.')
        && !domain.contains(|c| "\\/:*?\"<>|".contains(c))
}

/// DNS labels in any case.
fn is_windows_domain(domain: &str) -> bool {
    domain.split('.').all(|label| format::dns1123_label(&label.to_ascii_lowercase()).is_empty())
}

/// Containers that are processes of the host come together, in the host's network.
pub fn host_processes(pod: &Pod<'_>, errs: &mut ErrorList) {
    let own = |holder: &Node| holder.at("securityContext").at("windowsOptions").at("hostProcess").opt_bool();
    let whole = own(&pod.spec);
    let (mut all, mut host) = (0, 0);
    for container in pod.all_containers() {
        all += 1;
        let process = own(&container);
        if let (Some(whole), Some(process)) = (whole, process)
            && whole != process
        {
            let at = container.at("securityContext").at("windowsOptions").at("hostProcess");
            let detail =
                format!("pod hostProcess value must be identical if both are specified, was {whole}");
            errs.push(at.invalid(detail));
        }
        host += usize::from(process.or(whole) == Some(true));
    }
    if host == 0 {
        return;
    }
    if host != all {
        let detail =
            "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        errs.push(pod.spec.invalid_as("", detail));
    }
    if !pod.spec.at("hostNetwork").bool() {
        let detail = "hostNetwork must be true if pod contains any hostProcess containers";
        errs.push(pod.spec.at("hostNetwork").invalid_as(false, detail));
    }
}

/// The security context of a container.
pub fn container(pod: &Pod<'_>, context: &Node, errs: &mut ErrorList) {
    for id in ["runAsUser", "runAsGroup"] {
        if let Some(id) = context.at(id).opt() {
            rules::number(&id, format::posix_id, errs);
        }
    }
    if let Some(mount) = context.at("procMount").opt() {
        rules::one_of(&mount, &["Default", "Unmasked"], errs);
        if pod.host_users && mount.str() == "Unmasked" {
            errs.push(mount.invalid("`hostUsers` must be false to use `Unmasked`"));
        }
    }
    seccomp(&context.at("seccompProfile"), errs);
    if context.at("allowPrivilegeEscalation").opt_bool() == Some(false) {
        if context.at("privileged").bool() {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errs.push(context.invalid(detail));
        }
        for _ in context.at("capabilities").at("add").items().filter(|c| c.str() == "CAP_SYS_ADMIN") {
            let detail =
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errs.push(context.invalid(detail));
        }
    }
    windows_options(&context.at("windowsOptions"), errs);
    app_armor(&context.at("appArmorProfile"), errs);
}

/// Linux pods have no options of Windows.
pub fn no_windows_options(pod: &Pod<'_>, errs: &mut ErrorList) {
    let holders = std::iter::once(pod.spec.clone()).chain(pod.all_containers());
    for options in holders.filter_map(|holder| holder.at("securityContext").at("windowsOptions").opt()) {
        errs.push(options.forbidden("windows options cannot be set for a linux pod"));
    }
}

/// Windows pods have nothing that only Linux has.
pub fn windows(pod: &Pod<'_>, errs: &mut ErrorList) {
    let forbid = |field: Node, counts: bool, errs: &mut ErrorList| {
        if counts {
            errs.push(field.forbidden("cannot be set for a windows pod"));
        }
    };
    let (spec, context) = (&pod.spec, pod.spec.at("securityContext"));
    for name in ["appArmorProfile", "seLinuxOptions"] {
        forbid(context.at(name), context.at(name).is_set(), errs);
    }
    forbid(spec.at("hostUsers"), spec.at("hostUsers").is_set(), errs);
    for name in ["hostPID", "hostIPC"] {
        forbid(spec.at(name), spec.at(name).bool(), errs);
    }
    for name in ["seccompProfile", "fsGroup", "fsGroupChangePolicy", "sysctls"] {
        forbid(context.at(name), context.at(name).is_set(), errs);
    }
    forbid(spec.at("shareProcessNamespace"), spec.at("shareProcessNamespace").is_set(), errs);
    for name in
        ["runAsUser", "runAsGroup", "supplementalGroups", "supplementalGroupsPolicy", "seLinuxChangePolicy"]
    {
        forbid(context.at(name), context.at(name).is_set(), errs);
    }
    let linux_only = [
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "capabilities",
        "readOnlyRootFilesystem",
        "privileged",
        "allowPrivilegeEscalation",
        "procMount",
        "runAsUser",
        "runAsGroup",
    ];
    for context in pod.all_containers().map(|container| container.at("securityContext")) {
        for name in linux_only {
            forbid(context.at(name), context.at(name).is_set(), errs);
        }
    }
}
