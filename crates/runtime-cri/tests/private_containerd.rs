//! The engine suite on a private containerd, and the proof that nothing of it is left afterwards.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use runtime::Runtime;
use runtime_cri::private::{self, Config};

fn config(dir: &std::path::Path) -> Config {
    Config::of(dir, "10.199.17.0/24")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_containerd_runs_the_suite_and_leaves_nothing() {
    if let Some(reason) = private::unavailable() {
        println!("skipped: {reason}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let outcome = tokio::spawn(life(config.clone(), dir.path().join("logs"))).await;
    private::down(&config).await.unwrap();
    outcome.unwrap();
    assert_eq!(private::leftovers(&config).to_string(), "");
    private::down(&config).await.expect("down is safe to repeat");
}

async fn life(config: Config, log_directory: std::path::PathBuf) {
    let started = private::up(config.clone()).await.unwrap();
    assert!(!started.adopted);
    started.import_busybox().await.unwrap();
    let engine = started.engine();
    let env = runtime::suite::Env {
        image: "busybox".into(),
        log_directory,
        cgroup_parent: config.cgroup_root.clone(),
    };
    runtime::suite::run(&engine, &env).await;

    // What survives a crash is adopted with everything in it, and removed by `down` without help.
    let sandbox = runtime::suite::sandbox_config(&env, "left");
    let id = engine.run_sandbox(&sandbox).await.unwrap();
    let container = runtime::suite::container_config(&env, "main", &["sleep", "3600"]);
    let container = engine.create_container(&id, &container, &sandbox).await.unwrap();
    engine.start_container(&container).await.unwrap();
    drop(started);
    let again = private::up(config).await.unwrap();
    assert!(again.adopted);
    let found = again.engine().sandbox(&id).await.unwrap();
    assert!(found.ready && found.ips[0].starts_with("10.199.17."), "{found:?}");
    let stopped = tokio::time::timeout(Duration::from_secs(5), again.engine().container(&container)).await;
    assert_eq!(stopped.unwrap().unwrap().state, runtime::ContainerState::Running);
}
