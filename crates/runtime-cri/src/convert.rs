//! Between the trait's types and CRI messages.

use std::time::Duration;

use runtime::{
    Container, ContainerConfig, ContainerState, ContainerStats, Image, Namespace, Namespaces, PortProtocol,
    Propagation, Resources, Sandbox, SandboxConfig, Seccomp, Security, Status,
};

use crate::proto;

/// What is hidden in containers that are not privileged: the usual list of container engines.
const MASKED_PATHS: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

pub(crate) fn image_spec(image: &str, user_specified: &str) -> proto::ImageSpec {
    proto::ImageSpec { image: image.to_owned(), user_specified_image: user_specified.to_owned() }
}

fn namespace_mode(namespace: Namespace) -> i32 {
    let mode = match namespace {
        Namespace::Pod => proto::NamespaceMode::Pod,
        Namespace::Container => proto::NamespaceMode::Container,
        Namespace::Node => proto::NamespaceMode::Node,
    };
    mode.into()
}

fn namespace_option(namespaces: Namespaces) -> proto::NamespaceOption {
    proto::NamespaceOption {
        network: namespace_mode(namespaces.network),
        pid: namespace_mode(namespaces.pid),
        ipc: namespace_mode(namespaces.ipc),
        target_id: String::new(),
    }
}

pub(crate) fn sandbox_config(config: &SandboxConfig) -> proto::PodSandboxConfig {
    let security_context = proto::LinuxSandboxSecurityContext {
        namespace_options: Some(namespace_option(config.namespaces)),
        run_as_user: None,
        supplemental_groups: config.supplemental_groups.clone(),
        privileged: config.privileged,
        seccomp: None,
    };
    let port_mappings = config.port_mappings.iter().map(|m| proto::PortMapping {
        protocol: match m.protocol {
            PortProtocol::Tcp => proto::Protocol::Tcp,
            PortProtocol::Udp => proto::Protocol::Udp,
            PortProtocol::Sctp => proto::Protocol::Sctp,
        }
        .into(),
        container_port: m.container_port.into(),
        host_port: m.host_port.into(),
        host_ip: m.host_ip.clone(),
    });
    proto::PodSandboxConfig {
        metadata: Some(proto::PodSandboxMetadata {
            name: config.name.clone(),
            uid: config.uid.clone(),
            namespace: config.namespace.clone(),
            attempt: config.attempt,
        }),
        hostname: config.hostname.clone(),
        log_directory: config.log_directory.clone(),
        dns_config: config.dns.as_ref().map(|dns| proto::DnsConfig {
            servers: dns.servers.clone(),
            searches: dns.searches.clone(),
            options: dns.options.clone(),
        }),
        port_mappings: port_mappings.collect(),
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
        linux: Some(proto::LinuxPodSandboxConfig {
            cgroup_parent: config.cgroup_parent.clone(),
            security_context: Some(security_context),
            sysctls: config.sysctls.clone(),
        }),
    }
}

pub(crate) fn container_config(config: &ContainerConfig) -> proto::ContainerConfig {
    let mounts = config.mounts.iter().map(|m| proto::Mount {
        container_path: m.container_path.clone(),
        host_path: m.host_path.clone(),
        readonly: m.readonly,
        propagation: match m.propagation {
            Propagation::Private => proto::MountPropagation::PropagationPrivate,
            Propagation::HostToContainer => proto::MountPropagation::PropagationHostToContainer,
            Propagation::Bidirectional => proto::MountPropagation::PropagationBidirectional,
        }
        .into(),
    });
    let envs =
        config.envs.iter().map(|(key, value)| proto::KeyValue { key: key.clone(), value: value.clone() });
    proto::ContainerConfig {
        metadata: Some(proto::ContainerMetadata { name: config.name.clone(), attempt: config.attempt }),
        image: Some(image_spec(&config.image, &config.user_specified_image)),
        command: config.command.clone(),
        args: config.args.clone(),
        working_dir: config.working_dir.clone(),
        envs: envs.collect(),
        mounts: mounts.collect(),
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
        log_path: config.log_path.clone(),
        stdin: config.stdin,
        stdin_once: config.stdin_once,
        tty: config.tty,
        linux: Some(proto::LinuxContainerConfig {
            resources: Some(resources(config.resources)),
            security_context: Some(security(&config.security, config.namespaces)),
        }),
    }
}

fn resources(resources: Resources) -> proto::LinuxContainerResources {
    proto::LinuxContainerResources {
        cpu_period: resources.cpu_period,
        cpu_quota: resources.cpu_quota,
        cpu_shares: resources.cpu_shares,
        memory_limit_in_bytes: resources.memory_limit,
        oom_score_adj: resources.oom_score_adj,
    }
}

fn security(security: &Security, namespaces: Namespaces) -> proto::LinuxContainerSecurityContext {
    let masks = |paths: &[&str]| match security.privileged || security.unmasked_proc {
        true => Vec::new(),
        false => paths.iter().map(|p| (*p).to_owned()).collect(),
    };
    let profile = |kind: proto::security_profile::ProfileType, path: &str| proto::SecurityProfile {
        profile_type: kind.into(),
        localhost_ref: path.to_owned(),
    };
    proto::LinuxContainerSecurityContext {
        capabilities: Some(proto::Capability {
            add_capabilities: security.add_capabilities.clone(),
            drop_capabilities: security.drop_capabilities.clone(),
        }),
        privileged: security.privileged,
        namespace_options: Some(namespace_option(namespaces)),
        run_as_user: security.run_as_user.map(|value| proto::Int64Value { value }),
        run_as_group: security.run_as_group.map(|value| proto::Int64Value { value }),
        run_as_username: security.run_as_username.clone(),
        readonly_rootfs: security.readonly_rootfs,
        supplemental_groups: security.supplemental_groups.clone(),
        no_new_privs: security.no_new_privs,
        masked_paths: masks(&MASKED_PATHS),
        readonly_paths: masks(&READONLY_PATHS),
        seccomp: match &security.seccomp {
            Seccomp::Unconfined => Some(profile(proto::security_profile::ProfileType::Unconfined, "")),
            Seccomp::RuntimeDefault => {
                Some(profile(proto::security_profile::ProfileType::RuntimeDefault, ""))
            }
            Seccomp::Localhost(path) => Some(profile(proto::security_profile::ProfileType::Localhost, path)),
        },
    }
}

pub(crate) fn status(answer: proto::StatusResponse) -> Status {
    let conditions = answer.status.map(|s| s.conditions).unwrap_or_default();
    let holds = |kind: &str| conditions.iter().any(|c| c.r#type == kind && c.status);
    let message =
        conditions.iter().filter(|c| !c.status).map(|c| c.message.as_str()).collect::<Vec<_>>().join("; ");
    Status { ready: holds("RuntimeReady"), network_ready: holds("NetworkReady"), message }
}

pub(crate) fn image(image: proto::Image) -> Image {
    Image {
        id: image.id,
        tags: image.repo_tags,
        digests: image.repo_digests,
        size: image.size,
        uid: image.uid.map(|u| u.value),
        username: image.username,
    }
}

pub(crate) fn sandbox(sandbox: proto::PodSandbox) -> Sandbox {
    let ready = sandbox.state() == proto::PodSandboxState::SandboxReady;
    let metadata = sandbox.metadata.unwrap_or_default();
    Sandbox {
        id: sandbox.id,
        name: metadata.name,
        namespace: metadata.namespace,
        uid: metadata.uid,
        attempt: metadata.attempt,
        ready,
        created_at: sandbox.created_at,
        ips: Vec::new(),
        labels: sandbox.labels,
        annotations: sandbox.annotations,
    }
}

pub(crate) fn sandbox_status(status: proto::PodSandboxStatus) -> Sandbox {
    let ready = status.state() == proto::PodSandboxState::SandboxReady;
    let metadata = status.metadata.unwrap_or_default();
    let network = status.network.unwrap_or_default();
    let ips = std::iter::once(network.ip).chain(network.additional_ips.into_iter().map(|i| i.ip));
    Sandbox {
        id: status.id,
        name: metadata.name,
        namespace: metadata.namespace,
        uid: metadata.uid,
        attempt: metadata.attempt,
        ready,
        created_at: status.created_at,
        ips: ips.filter(|ip| !ip.is_empty()).collect(),
        labels: status.labels,
        annotations: status.annotations,
    }
}

fn container_state(state: proto::ContainerState) -> ContainerState {
    match state {
        proto::ContainerState::ContainerCreated => ContainerState::Created,
        proto::ContainerState::ContainerRunning => ContainerState::Running,
        proto::ContainerState::ContainerExited => ContainerState::Exited,
        proto::ContainerState::ContainerUnknown => ContainerState::Unknown,
    }
}

pub(crate) fn container(container: proto::Container) -> Container {
    let state = container_state(container.state());
    let metadata = container.metadata.unwrap_or_default();
    Container {
        id: container.id,
        sandbox_id: container.pod_sandbox_id,
        name: metadata.name,
        attempt: metadata.attempt,
        state,
        created_at: container.created_at,
        image: container.image.unwrap_or_default().image,
        image_ref: container.image_ref,
        labels: container.labels,
        annotations: container.annotations,
        ..Container::default()
    }
}

pub(crate) fn container_status(status: proto::ContainerStatus) -> Container {
    let state = container_state(status.state());
    let metadata = status.metadata.unwrap_or_default();
    Container {
        id: status.id,
        sandbox_id: String::new(),
        name: metadata.name,
        attempt: metadata.attempt,
        state,
        created_at: status.created_at,
        started_at: status.started_at,
        // containerd notes the start of a very short run after its end.
        finished_at: if status.finished_at == 0 { 0 } else { status.finished_at.max(status.started_at) },
        exit_code: status.exit_code,
        image: status.image.unwrap_or_default().image,
        image_ref: status.image_ref,
        reason: status.reason,
        message: status.message,
        labels: status.labels,
        annotations: status.annotations,
        log_path: status.log_path,
    }
}

pub(crate) fn stats(stats: proto::ContainerStats) -> Option<ContainerStats> {
    let attributes = stats.attributes?;
    let cpu = stats.cpu?;
    let memory = stats.memory.unwrap_or_default();
    Some(ContainerStats {
        id: attributes.id,
        labels: attributes.labels,
        timestamp: cpu.timestamp,
        cpu_usage: Duration::from_nanos(cpu.usage_core_nano_seconds.map_or(0, |v| v.value)),
        memory_working_set: memory.working_set_bytes.or(memory.usage_bytes).map_or(0, |v| v.value),
    })
}
