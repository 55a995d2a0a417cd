//! A pod's sandbox.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::PodSpec;
use runtime::{Dns, Labels, PortMapping, PortProtocol, SandboxConfig};

use super::container::namespaces;
use super::spec;
use super::worker::Worker;
use crate::identity;

/// Host names are limited by the kernel.
const HOSTNAME_MAX: usize = 63;

impl Worker {
    /// Runs a new sandbox in place of one that died.
    pub(super) async fn new_sandbox(&mut self) -> runtime::Result<()> {
        let runtime = self.shared.config.runtime.clone();
        for (i, old) in self.observed.sandboxes.iter().enumerate() {
            // Takes the dead one's network down. One generation is kept for its containers' status.
            runtime.stop_sandbox(&old.id).await?;
            if i > 0 {
                runtime.remove_sandbox(&old.id).await?;
            }
        }
        std::fs::create_dir_all(self.log_directory())
            .map_err(|e| runtime::Error::Internal(format!("{}: {e}", self.log_directory().display())))?;
        runtime.run_sandbox(&self.sandbox_config()).await.map(drop)
    }

    pub(super) fn log_directory(&self) -> PathBuf {
        self.shared.config.log_dir.join(self.id.log_directory())
    }

    pub(super) fn sandbox_config(&self) -> SandboxConfig {
        let spec = self.pod.spec.clone().unwrap_or_default();
        let config = &self.shared.config;
        let security = spec.security_context.clone().unwrap_or_default();
        let privileged = spec::containers(&spec)
            .any(|(_, c)| c.security_context.as_ref().and_then(|s| s.privileged) == Some(true));
        let grace = spec.termination_grace_period_seconds.unwrap_or(30).to_string();
        let sysctls = security.sysctls.iter().flatten().map(|s| (s.name.clone(), s.value.clone()));
        let groups = security.supplemental_groups.iter().flatten().chain(&security.fs_group).copied();
        SandboxConfig {
            name: self.id.name.clone(),
            namespace: self.id.namespace.clone(),
            uid: self.id.uid.clone(),
            attempt: self.observed.sandboxes.first().map_or(0, |s| match s.ready {
                true => s.attempt,
                false => s.attempt + 1,
            }),
            hostname: if spec::host_network(&spec) { String::new() } else { self.hostname(&spec) },
            log_directory: self.log_directory().display().to_string(),
            dns: self.dns(&spec),
            port_mappings: port_mappings(&spec),
            labels: self.id.labels(),
            annotations: Labels::from([(identity::GRACE_PERIOD.to_owned(), grace)]),
            cgroup_parent: spec::cgroup(&config.cgroup_root, &spec, &self.id.uid),
            namespaces: namespaces(&spec),
            privileged,
            supplemental_groups: groups.collect(),
            sysctls: sysctls.collect(),
            runtime_handler: String::new(),
        }
    }

    fn hostname(&self, spec: &PodSpec) -> String {
        let name = spec.hostname.clone().filter(|h| !h.is_empty()).unwrap_or_else(|| self.id.name.clone());
        name.chars().take(HOSTNAME_MAX).collect::<String>().trim_end_matches(['-', '.']).to_owned()
    }

    /// The pod's `/etc/hosts`.
    pub(super) fn hosts_file(&self, spec: &PodSpec) -> String {
        let mut text = String::from(
            "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
             fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
        );
        let hostname = self.hostname(spec);
        let names = match spec.subdomain.as_deref().filter(|s| !s.is_empty()) {
            Some(sub) => {
                let domain = &self.shared.config.cluster_domain;
                format!("{hostname}.{sub}.{}.svc.{domain}\t{hostname}", self.id.namespace)
            }
            None => hostname,
        };
        for ip in self.facts().pod_ips {
            text.push_str(&format!("{ip}\t{names}\n"));
        }
        let aliases = spec.host_aliases.as_deref().unwrap_or_default();
        if !aliases.is_empty() {
            text.push_str("\n# Entries added by HostAliases.\n");
        }
        for alias in aliases {
            text.push_str(&format!(
                "{}\t{}\n",
                alias.ip,
                alias.hostnames.as_deref().unwrap_or_default().join("\t")
            ));
        }
        text
    }

    /// Name resolution by `dnsPolicy` and `dnsConfig`; `None` leaves the machine's.
    fn dns(&self, spec: &PodSpec) -> Option<Dns> {
        let config = &self.shared.config;
        let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
        let cluster =
            policy == "ClusterFirstWithHostNet" || (policy == "ClusterFirst" && !spec::host_network(spec));
        let mut dns = match (&config.cluster_dns, policy) {
            (_, "None") => Dns::default(),
            (Some(server), _) if cluster => {
                let domain = &config.cluster_domain;
                Dns {
                    servers: vec![server.clone()],
                    searches: vec![
                        format!("{}.svc.{domain}", self.id.namespace),
                        format!("svc.{domain}"),
                        domain.clone(),
                    ],
                    options: vec!["ndots:5".to_owned()],
                }
            }
            _ => match &spec.dns_config {
                Some(_) => host_dns(),
                None => return None,
            },
        };
        if let Some(own) = &spec.dns_config {
            dns.servers.extend(own.nameservers.iter().flatten().cloned());
            dns.searches.extend(own.searches.iter().flatten().cloned());
            for option in own.options.iter().flatten() {
                let name = option.name.as_deref().unwrap_or_default();
                dns.options.retain(|o| o.split(':').next() != Some(name));
                dns.options.push(match &option.value {
                    Some(value) => format!("{name}:{value}"),
                    None => name.to_owned(),
                });
            }
        }
        Some(dns)
    }
}

/// The machine's own `/etc/resolv.conf`.
fn host_dns() -> Dns {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let mut dns = Dns::default();
    for line in text.lines() {
        let mut words = line.split_whitespace().map(str::to_owned);
        match words.next().as_deref() {
            Some("nameserver") => dns.servers.extend(words),
            Some("search") => dns.searches = words.collect(),
            Some("options") => dns.options.extend(words),
            _ => {}
        }
    }
    dns
}

fn port_mappings(spec: &PodSpec) -> Vec<PortMapping> {
    if spec::host_network(spec) {
        return Vec::new();
    }
    let number = |port: i32| u16::try_from(port).ok();
    spec::containers(spec)
        .flat_map(|(_, c)| c.ports.iter().flatten())
        .filter_map(|p| {
            Some(PortMapping {
                protocol: match p.protocol.as_deref() {
                    Some("UDP") => PortProtocol::Udp,
                    Some("SCTP") => PortProtocol::Sctp,
                    _ => PortProtocol::Tcp,
                },
                container_port: number(p.container_port)?,
                host_port: number(p.host_port?).filter(|p| *p > 0)?,
                host_ip: p.host_ip.clone().unwrap_or_default(),
            })
        })
        .collect()
}
