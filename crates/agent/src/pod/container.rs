//! From a container's specification to what the engine is asked to create.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1 as core;
use runtime::{
    ContainerConfig, Image, Labels, Mount, Namespace, Namespaces, Propagation, Resources, Seccomp, Security,
};

use super::environment::environment;
use super::expand::expand;
use super::fields::Facts;
use super::spec::{self, Qos};
use crate::identity::{self, PodId};
use crate::objects::Objects;

/// What a container is created from, besides the pod.
pub(crate) struct Inputs<'a> {
    pub pod: &'a core::Pod,
    pub container: &'a core::Container,
    pub attempt: u32,
    pub image: &'a Image,
    pub facts: &'a Facts,
    /// Where the pod's volumes are on this machine.
    pub volumes: &'a BTreeMap<String, PathBuf>,
    /// A file for the termination message, below the pod's directory.
    pub termination_log: &'a Path,
    /// The pod's `/etc/hosts`, unless it is the machine's.
    pub hosts_file: Option<&'a Path>,
}

/// Builds the configuration. An error is one that only a change of some object resolves: it is shown as
/// `CreateContainerConfigError`.
pub(crate) async fn container_config(
    objects: &Objects,
    inputs: &Inputs<'_>,
) -> Result<ContainerConfig, String> {
    let Inputs { pod, container, attempt, image, facts, .. } = *inputs;
    let empty = core::PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let id = PodId::of(pod);
    let values = environment(objects, pod, container, facts).await?;
    let expanded =
        |words: &Option<Vec<String>>| words.iter().flatten().map(|w| expand(w, &values)).collect::<Vec<_>>();
    let mut labels = id.labels();
    labels.insert(identity::CONTAINER_NAME.to_owned(), container.name.clone());
    let annotations = Labels::from([
        (identity::HASH.to_owned(), identity::container_hash(&container.name, spec::image(container))),
        (identity::RESTART_COUNT.to_owned(), attempt.to_string()),
        (identity::TERMINATION_LOG.to_owned(), inputs.termination_log.display().to_string()),
    ]);
    Ok(ContainerConfig {
        name: container.name.clone(),
        attempt,
        image: image.id.clone(),
        user_specified_image: spec::image(container).to_owned(),
        command: expanded(&container.command),
        args: expanded(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        mounts: mounts(inputs, &values)?,
        envs: values.into_iter().collect(),
        labels,
        annotations,
        log_path: format!("{}/{attempt}.log", container.name),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        tty: container.tty.unwrap_or(false),
        resources: resources(spec, container, facts),
        security: security(spec, container, image)?,
        namespaces: namespaces(spec),
    })
}

/// The kernel namespaces of a pod.
pub(crate) fn namespaces(spec: &core::PodSpec) -> Namespaces {
    let mode = |host: Option<bool>, otherwise| if host == Some(true) { Namespace::Node } else { otherwise };
    let shared = spec.share_process_namespace == Some(true);
    Namespaces {
        network: mode(spec.host_network, Namespace::Pod),
        pid: mode(spec.host_pid, if shared { Namespace::Pod } else { Namespace::Container }),
        ipc: mode(spec.host_ipc, Namespace::Pod),
    }
}

fn mounts(inputs: &Inputs<'_>, values: &BTreeMap<String, String>) -> Result<Vec<Mount>, String> {
    let container = inputs.container;
    let mut mounts = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        let volume = inputs
            .volumes
            .get(&mount.name)
            .ok_or_else(|| format!("cannot find volume \"{}\" to mount into container", mount.name))?;
        let sub_path = match (&mount.sub_path_expr, &mount.sub_path) {
            (Some(expression), _) if !expression.is_empty() => expand(expression, values),
            (_, Some(path)) => path.clone(),
            _ => String::new(),
        };
        mounts.push(Mount {
            container_path: absolute(&mount.mount_path),
            host_path: sub_directory(volume, &sub_path)?.display().to_string(),
            readonly: mount.read_only.unwrap_or(false),
            propagation: match mount.mount_propagation.as_deref() {
                Some("HostToContainer") => Propagation::HostToContainer,
                Some("Bidirectional") => Propagation::Bidirectional,
                _ => Propagation::Private,
            },
        });
    }
    let mounted = |path: &str| mounts.iter().any(|m| m.container_path == path);
    let mut own = Vec::new();
    if let Some(hosts) = inputs.hosts_file.filter(|_| !mounted("/etc/hosts")) {
        own.push(("/etc/hosts".to_owned(), hosts));
    }
    let message_path = container.termination_message_path.as_deref().unwrap_or("/dev/termination-log");
    if !message_path.is_empty() {
        own.push((message_path.to_owned(), inputs.termination_log));
    }
    mounts.extend(own.into_iter().map(|(container_path, host)| Mount {
        container_path,
        host_path: host.display().to_string(),
        ..Mount::default()
    }));
    Ok(mounts)
}

fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

/// A path within a volume, which must stay there even if the volume's content contains links.
fn sub_directory(volume: &Path, sub_path: &str) -> Result<PathBuf, String> {
    if sub_path.is_empty() {
        return Ok(volume.to_owned());
    }
    let escapes =
        Path::new(sub_path).components().any(|c| !matches!(c, Component::Normal(_) | Component::CurDir));
    if escapes {
        return Err(format!("subPath {sub_path:?} must be a relative path without '..'"));
    }
    let failed = |e: std::io::Error| format!("failed to prepare subPath {sub_path:?}: {e}");
    let path = volume.join(sub_path);
    if std::fs::symlink_metadata(&path).is_err() {
        std::fs::create_dir_all(&path).map_err(failed)?;
    }
    let (real, root) = (path.canonicalize().map_err(failed)?, volume.canonicalize().map_err(failed)?);
    if real.starts_with(&root) {
        Ok(real)
    } else {
        Err(format!("subPath {sub_path:?} leads out of the volume"))
    }
}

/// Requests and limits as cgroup values, by upstream's formulas (`pkg/kubelet/cm`).
fn resources(spec: &core::PodSpec, container: &core::Container, facts: &Facts) -> Resources {
    const PERIOD: i64 = 100_000;
    let of = container.resources.as_ref();
    let shares = spec::request(of, "cpu").map_or(0, |q| q.milli()) * 1024 / 1000;
    let quota = spec::limit(of, "cpu").map_or(0, |q| q.milli()) * PERIOD / 1000;
    let requested = spec::request(of, "memory").map_or(0, |q| q.units());
    let oom_score_adj = match spec::qos(spec) {
        Qos::Guaranteed => -997,
        Qos::BestEffort => 1000,
        Qos::Burstable => (1000 - 1000 * requested / facts.node_memory.max(1)).clamp(3, 999),
    };
    Resources {
        cpu_period: PERIOD,
        cpu_quota: if quota == 0 { 0 } else { quota.max(1000) },
        cpu_shares: shares.clamp(2, 262_144),
        memory_limit: spec::limit(of, "memory").map_or(0, |q| q.units()),
        oom_score_adj,
    }
}

fn security(spec: &core::PodSpec, container: &core::Container, image: &Image) -> Result<Security, String> {
    let (of_pod, own) = (spec.security_context.as_ref(), container.security_context.as_ref());
    let user = own.and_then(|s| s.run_as_user).or_else(|| of_pod?.run_as_user);
    let group = own.and_then(|s| s.run_as_group).or_else(|| of_pod?.run_as_group);
    let non_root = own.and_then(|s| s.run_as_non_root).or_else(|| of_pod?.run_as_non_root);
    if non_root == Some(true) {
        check_non_root(user, image)?;
    }
    let (run_as_user, run_as_username) = match (user, group) {
        (Some(user), _) => (Some(user), String::new()),
        // A group needs a user: the image's.
        (None, Some(_)) => (image.uid.or(image.username.is_empty().then_some(0)), image.username.clone()),
        (None, None) => (None, String::new()),
    };
    let capabilities = own.and_then(|s| s.capabilities.clone()).unwrap_or_default();
    let profile = own.and_then(|s| s.seccomp_profile.as_ref()).or_else(|| of_pod?.seccomp_profile.as_ref());
    let supplemental =
        of_pod.map(|s| s.supplemental_groups.iter().flatten().chain(&s.fs_group).copied().collect());
    Ok(Security {
        privileged: own.and_then(|s| s.privileged).unwrap_or(false),
        run_as_user,
        run_as_group: group,
        run_as_username,
        readonly_rootfs: own.and_then(|s| s.read_only_root_filesystem).unwrap_or(false),
        supplemental_groups: supplemental.unwrap_or_default(),
        add_capabilities: capabilities.add.unwrap_or_default(),
        drop_capabilities: capabilities.drop.unwrap_or_default(),
        no_new_privs: own.and_then(|s| s.allow_privilege_escalation) == Some(false),
        seccomp: match profile {
            Some(p) if p.type_ == "RuntimeDefault" => Seccomp::RuntimeDefault,
            Some(p) if p.type_ == "Localhost" => {
                Seccomp::Localhost(p.localhost_profile.clone().unwrap_or_default())
            }
            _ => Seccomp::Unconfined,
        },
        unmasked_proc: own.and_then(|s| s.proc_mount.as_deref()) == Some("Unmasked"),
    })
}

fn check_non_root(user: Option<i64>, image: &Image) -> Result<(), String> {
    match (user, image.uid) {
        (Some(0), _) => Err("container's runAsUser breaks non-root policy".to_owned()),
        (Some(_), _) => Ok(()),
        (None, Some(uid)) if uid != 0 => Ok(()),
        (None, None) if !image.username.is_empty() => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({}), cannot verify user is non-root",
            image.username
        )),
        _ => Err("container has runAsNonRoot and image will run as root".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_become_cgroup_values() {
        let pod: core::Pod = serde_json::from_value(serde_json::json!({"spec": {"containers": [{
            "name": "c", "resources": {"limits": {"cpu": "1500m", "memory": "64Mi"}, "requests": {"cpu": "100m"}},
        }]}}))
        .unwrap();
        let spec = pod.spec.unwrap();
        let facts = Facts { node_memory: 1 << 30, ..Facts::default() };
        let made = resources(&spec, &spec.containers[0], &facts);
        assert_eq!((made.cpu_shares, made.cpu_quota, made.memory_limit), (102, 150_000, 64 << 20));
        assert_eq!(made.oom_score_adj, 1000 - 62);
    }

    #[test]
    fn sub_paths_stay_in_their_volume() {
        let dir = tempfile::tempdir().unwrap();
        assert!(sub_directory(dir.path(), "a/b").unwrap().ends_with("a/b"));
        assert!(sub_directory(dir.path(), "../x").is_err());
        std::os::unix::fs::symlink("/etc", dir.path().join("out")).unwrap();
        assert!(sub_directory(dir.path(), "out").is_err());
    }
}
