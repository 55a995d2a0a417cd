//! The commands that talk to a cluster: thin over the Kubernetes API (Tables, server-side apply),
//! so that a fresh machine needs no kubectl. They work against any cluster.

pub mod apply;
pub mod delete;
pub mod events;
pub mod exec;
pub mod explain;
pub mod get;
pub mod logs;
mod request;
mod resources;

use std::path::PathBuf;

use anyhow::{Context, Result};
use kube::config::{KubeConfigOptions, Kubeconfig};

pub use request::{fetch_json, fetch_text};
pub use resources::{Catalogue, Resource};

/// Which cluster and namespace to talk to.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Target {
    /// Path of the kubeconfig file; otherwise $KUBECONFIG, the running Kobune, or ~/.kube/config
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Namespace to work in
    #[arg(long, short, global = true)]
    pub namespace: Option<String>,
}

impl Target {
    /// A client for the chosen cluster, and the namespace to work in.
    pub async fn connect(&self) -> Result<(kube::Client, String)> {
        let path = match (&self.kubeconfig, std::env::var_os("KUBECONFIG")) {
            (Some(path), _) => Some(path.clone()),
            (None, Some(_)) => None,
            (None, None) => {
                Some(crate::local::default_data_dir().join("kubeconfig")).filter(|path| path.exists())
            }
        };
        let config = match path {
            Some(path) => {
                let file = Kubeconfig::read_from(&path)
                    .with_context(|| format!("cannot read the kubeconfig {}", path.display()))?;
                kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?
            }
            None => kube::Config::from_kubeconfig(&KubeConfigOptions::default()).await.context(
                "no cluster is configured; start one with `kobune up` or name a file with --kubeconfig",
            )?,
        };
        let namespace = self.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        Ok((kube::Client::try_from(config)?, namespace))
    }
}

/// One line for people about an error of the API: its cause and, where there is one, what to do.
pub fn describe(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => match status.reason.as_str() {
            "" => status.message.clone(),
            reason => format!("{} ({reason})", status.message),
        },
        other => {
            let mut text = other.to_string();
            let mut source = std::error::Error::source(other);
            while let Some(cause) = source {
                text = cause.to_string();
                source = cause.source();
            }
            format!("the cluster does not answer: {text}; is it running? (`kobune status`)")
        }
    }
}
