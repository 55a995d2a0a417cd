//! `kobune delete`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use http::Method;
use serde_json::{Value, json};

use super::apply::{locate, read_all};
use super::request::{fetch_json, send};
use super::{Catalogue, Target};

/// How long to wait for the objects to be gone.
const WAIT: Duration = Duration::from_secs(120);

/// Delete objects by files or by names
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Kind, or KIND/NAME
    pub kind: Option<String>,
    /// Names
    pub names: Vec<String>,
    /// Files, directories or `-`: delete the objects in them
    #[arg(long, short, value_name = "FILE", conflicts_with = "kind")]
    pub filename: Vec<PathBuf>,
    /// Seconds that pods get to end; the pods' own setting when absent
    #[arg(long, value_name = "SECONDS")]
    pub grace_period: Option<i64>,
    /// Do not wait until the objects are gone
    #[arg(long)]
    pub no_wait: bool,
}

/// Runs the command.
pub async fn run(args: Args, target: &Target) -> Result<()> {
    let (client, namespace) = target.connect().await?;
    let catalogue = Catalogue::load(&client).await?;
    let mut deleted = Vec::new();
    for (display, path) in targets(&args, &catalogue, &namespace)? {
        let mut options =
            json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"});
        if let Some(seconds) = args.grace_period {
            options["gracePeriodSeconds"] = json!(seconds);
        }
        let body = serde_json::to_vec(&options)?;
        send(&client, Method::DELETE, &path, "application/json", "application/json", body).await?;
        println!("{display} deleted");
        deleted.push((display, path));
    }
    if !args.no_wait {
        for (display, path) in deleted {
            let gone = tokio::time::timeout(WAIT, wait_gone(&client, &path)).await;
            if gone.is_err() {
                bail!("{display} is still there after {} s; what holds it: its finalizers", WAIT.as_secs());
            }
        }
    }
    Ok(())
}

fn targets(args: &Args, catalogue: &Catalogue, namespace: &str) -> Result<Vec<(String, String)>> {
    if !args.filename.is_empty() {
        let objects = read_all(&args.filename)?;
        return objects
            .iter()
            .rev()
            .map(|(_, object)| {
                locate(catalogue, namespace, object)
                    .map(|(resource, name, path)| (resource.display(&name), path))
            })
            .collect();
    }
    let Some(kind) = &args.kind else { bail!("say what to delete: KIND NAME, KIND/NAME or -f FILE") };
    let mut names = args.names.clone();
    let kind = match kind.split_once('/') {
        Some((kind, name)) => {
            names.insert(0, name.to_owned());
            kind
        }
        None => kind,
    };
    if names.is_empty() {
        bail!("say which {kind} to delete by name");
    }
    let mut targets = Vec::new();
    for resource in catalogue.find(kind)? {
        for name in &names {
            targets.push((resource.display(name), format!("{}/{name}", resource.path(Some(namespace)))));
        }
    }
    Ok(targets)
}

async fn wait_gone(client: &kube::Client, path: &str) {
    while fetch_json::<Value>(client, path, "application/json").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
