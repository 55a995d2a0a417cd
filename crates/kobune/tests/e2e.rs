//! Black-box tests of the binary: real processes, HTTPS, simulated nodes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::Api;
use kube::config::{KubeConfigOptions, Kubeconfig};

/// No single thing that is awaited takes longer on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A cluster in a directory of its own, gone at the end of the test.
struct Cluster {
    dir: PathBuf,
    process: Option<Child>,
}

impl Cluster {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("kobune-e2e-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        Self { dir, process: None }
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Starts the cluster and waits until it says that it is ready.
    async fn up(&mut self) {
        let log = self.dir.join("log");
        let child = kobune(&[
            "up",
            "--runtime",
            "sim",
            "--nodes",
            "2",
            "--listen",
            "127.0.0.1:0",
            "--pod-start",
            "0.05",
        ])
        .env("KOBUNE_DATA_DIR", self.data())
        .stdout(std::fs::File::create(&log).unwrap())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
        self.process = Some(child);
        eventually("the cluster is ready", async || {
            std::fs::read_to_string(&log).unwrap().contains("ready in ").then_some(())
        })
        .await;
    }

    fn kill(&mut self) {
        let mut child = self.process.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Runs a command against the cluster.
    fn run(&self, arguments: &[&str]) -> Output {
        kobune(arguments)
            .env("KOBUNE_DATA_DIR", self.data())
            .env("KUBECONFIG", self.data().join("kubeconfig"))
            .output()
            .unwrap()
    }

    /// Runs a command that must succeed and returns what it prints.
    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?} failed: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must fail and returns its complaint.
    fn fails(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?} succeeded");
        String::from_utf8(output.stderr).unwrap()
    }

    async fn client(&self) -> kube::Client {
        let file = Kubeconfig::read_from(self.data().join("kubeconfig")).unwrap();
        let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
        kube::Client::try_from(config).unwrap()
    }

    async fn deployment_available(&self, name: &str, replicas: i32) {
        let deployments: Api<Deployment> = Api::namespaced(self.client().await, "default");
        eventually("the Deployment is available", async || {
            let status = deployments.get(name).await.ok()?.status?;
            (status.available_replicas == Some(replicas) && status.updated_replicas == Some(replicas))
                .then_some(())
        })
        .await;
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn kobune(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kobune"));
    command.args(arguments).stdin(Stdio::null()).env_remove("KUBECONFIG");
    command
}

async fn eventually<T>(what: &str, mut holds: impl AsyncFnMut() -> Option<T>) -> T {
    let search = async {
        loop {
            if let Some(found) = holds().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, search).await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

fn manifest(dir: &Path, replicas: usize, image: &str) -> String {
    let path = dir.join("web.yaml");
    let text = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\nspec:\n  replicas: {replicas}\n  \
         selector:\n    matchLabels: {{app: web}}\n  template:\n    metadata:\n      labels: {{app: web}}\n    \
         spec:\n      containers:\n      - name: web\n        image: {image}\n---\napiVersion: v1\nkind: Service\n\
         metadata:\n  name: web\nspec:\n  selector: {{app: web}}\n  ports:\n  - port: 80\n"
    );
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_lives_through_a_crash() {
    let mut cluster = Cluster::new("crash");
    cluster.up().await;
    let file = manifest(&cluster.dir, 3, "web:1");
    assert_eq!(cluster.ok(&["apply", "-f", &file]), "deployment.apps/web created\nservice/web created\n");
    cluster.deployment_available("web", 3).await;
    assert_eq!(cluster.ok(&["apply", "-f", &file]), "deployment.apps/web unchanged\nservice/web unchanged\n");

    let pods = cluster.ok(&["get", "pods", "-l", "app=web"]);
    assert_eq!(pods.matches("Running").count(), 3, "{pods}");
    let before = cluster.ok(&["get", "pods", "-o", "name"]);

    cluster.kill();
    cluster.up().await;
    assert_eq!(cluster.ok(&["get", "pods", "-o", "name"]), before, "pods survive, none is replaced");

    let file = manifest(&cluster.dir, 4, "web:2");
    cluster.ok(&["apply", "-f", &file]);
    cluster.deployment_available("web", 4).await;
    let replica_sets = cluster.ok(&["get", "rs"]);
    assert_eq!(replica_sets.lines().count(), 3, "a header, the old and the new one: {replica_sets}");
    assert!(cluster.ok(&["events"]).contains("ScalingReplicaSet"));

    cluster.ok(&["delete", "-f", &file]);
    eventually("the pods are gone", async || {
        cluster.ok(&["get", "pods", "-o", "name"]).is_empty().then_some(())
    })
    .await;
    assert!(cluster.ok(&["down"]).contains("stopped"));
    assert!(!cluster.data().join("run.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_explained_in_one_line() {
    let mut cluster = Cluster::new("mistakes");
    cluster.up().await;
    let second = cluster.fails(&["up", "--runtime", "sim"]);
    assert!(second.contains("already running") && second.contains("kobune down"), "{second}");
    assert_eq!(second.lines().count(), 1, "{second}");
    let unknown = cluster.fails(&["get", "nonsense"]);
    assert!(unknown.contains("doesn't have a resource type"), "{unknown}");
    let missing = cluster.fails(&["get", "pods", "nobody"]);
    assert!(missing.contains("pods \"nobody\" not found"), "{missing}");

    let bad = cluster.dir.join("bad.yaml");
    std::fs::write(&bad, "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: Bad_Name\n").unwrap();
    let refused = cluster.fails(&["apply", "-f", &bad.display().to_string()]);
    assert!(refused.contains("bad.yaml") && refused.contains("metadata.name"), "{refused}");

    let status = cluster.ok(&["status"]);
    assert!(status.contains("running") && status.contains("simulated"), "{status}");
}
