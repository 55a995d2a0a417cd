//! How a cluster should look.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::Components;

/// What real or simulated nodes are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuntimeChoice {
    /// Containers if that is possible here, else simulation.
    Auto,
    /// Containers on containerd; an error if that is not possible.
    Cri,
    /// Simulated nodes.
    Sim,
}

/// The settings of a cluster on this machine.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where everything is kept: the store, keys, the kubeconfig, volumes.
    pub data_dir: PathBuf,
    /// Address of the API server; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Further names and addresses by which clients reach the API server.
    pub tls_names: Vec<String>,
    /// What runs.
    pub components: Components,
    /// What nodes are made of.
    pub runtime: RuntimeChoice,
    /// How many nodes there are from the start; 0 is the control plane alone.
    pub nodes: usize,
    /// The shape of simulated nodes from the start: millicores and bytes.
    pub sim_node: (i64, i64),
    /// How simulated nodes behave.
    pub sim: simnodes::Config,
    /// Static bearer tokens: a CSV file of `token,user,uid,"group,group"`.
    pub token_auth_file: Option<PathBuf>,
    /// Who may come in, what is recorded, what is encrypted.
    pub access: AccessOptions,
    /// A file with the instance types that can be bought, instead of the built-in one.
    pub catalogue: Option<PathBuf>,
    /// From the order of a simulated instance to its node joining.
    pub boot_delay: std::time::Duration,
    /// Where the cluster's DNS server is, if one is installed: pods on real nodes ask it.
    pub cluster_dns: Option<std::net::IpAddr>,
}

/// Settings of authentication, the audit log and encryption, by upstream's names.
#[derive(Clone, Debug, Default)]
pub struct AccessOptions {
    /// An `AuthenticationConfiguration`.
    pub authentication_config: Option<PathBuf>,
    /// An OpenID Connect provider.
    pub oidc: Option<apiserver::oidc::Options>,
    /// The authority of its server, if not one of the system's.
    pub oidc_ca_file: Option<PathBuf>,
    /// The authority of front proxies that are believed to say who a user is.
    pub requestheader_client_ca_file: Option<PathBuf>,
    /// Common names of front proxies; all that the authority vouches for, if empty.
    pub requestheader_allowed_names: Vec<String>,
    /// Which requests are recorded; none without it.
    pub audit_policy_file: Option<PathBuf>,
    /// Where they are recorded; in the data directory, if it is not said.
    pub audit_log: apiserver::audit::LogConfig,
    /// An `EncryptionConfiguration`. Without one, secrets are encrypted by a key in the data directory.
    pub encryption_config: Option<PathBuf>,
}

impl Options {
    /// The usual settings for a cluster kept in `data_dir`.
    pub fn new(data_dir: PathBuf) -> Self {
        Self {
            data_dir,
            listen: SocketAddr::from(([127, 0, 0, 1], 6443)),
            tls_names: Vec::new(),
            components: Components::default(),
            runtime: RuntimeChoice::Auto,
            nodes: 1,
            sim_node: (8000, 32 << 30),
            sim: simnodes::Config::default(),
            token_auth_file: None,
            access: AccessOptions::default(),
            catalogue: None,
            boot_delay: std::time::Duration::from_secs(20),
            cluster_dns: None,
        }
    }
}
