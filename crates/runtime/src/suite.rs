//! The behaviour every engine must show. An engine's own tests call [`run`] with an engine that is
//! ready and an image that contains `sh`, `sleep`, `echo` and `cat`.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;

use crate::{
    ContainerConfig, ContainerState, Error, ExecRequest, Labels, Runtime, SandboxConfig, Session, Streams,
};

/// What the suite needs to know of its surroundings.
pub struct Env {
    /// A present image with a shell.
    pub image: String,
    /// Where container logs go.
    pub log_directory: PathBuf,
    /// Parent of the suite's cgroups.
    pub cgroup_parent: String,
}

const DEADLINE: Duration = Duration::from_secs(20);

/// Runs every check. Panics with the first expectation that does not hold.
pub async fn run(engine: &dyn Runtime, env: &Env) {
    images(engine, env).await;
    let config = sandbox_config(env, "suite");
    let sandbox = engine.run_sandbox(&config).await.expect("run_sandbox");
    sandbox_is_listed(engine, &config, &sandbox).await;
    let main = long_running(engine, env, &config, &sandbox).await;
    exec_sync(engine, &main).await;
    exec_streams(engine, &main).await;
    stats(engine, &main).await;
    exit_codes(engine, env, &config, &sandbox).await;
    stopping(engine, &main, &sandbox).await;
}

/// A sandbox configuration named after a check.
pub fn sandbox_config(env: &Env, name: &str) -> SandboxConfig {
    let uid = format!("uid-{name}");
    SandboxConfig {
        name: name.to_owned(),
        namespace: "suite".to_owned(),
        hostname: name.to_owned(),
        log_directory: env.log_directory.join(name).display().to_string(),
        labels: Labels::from([("pod".to_owned(), name.to_owned())]),
        annotations: Labels::from([("note".to_owned(), "kept".to_owned())]),
        cgroup_parent: format!("{}/pod{uid}", env.cgroup_parent),
        uid,
        ..SandboxConfig::default()
    }
}

/// A container that runs a command.
pub fn container_config(env: &Env, name: &str, command: &[&str]) -> ContainerConfig {
    ContainerConfig {
        name: name.to_owned(),
        image: env.image.clone(),
        command: strings(command),
        labels: Labels::from([("container".to_owned(), name.to_owned())]),
        log_path: format!("{name}.log"),
        ..ContainerConfig::default()
    }
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|w| (*w).to_owned()).collect()
}

async fn images(engine: &dyn Runtime, env: &Env) {
    let image = engine.image(&env.image).await.expect("image").expect("the image is present");
    assert!(!image.id.is_empty());
    assert!(engine.images().await.expect("images").iter().any(|i| i.id == image.id));
    assert_eq!(engine.image("absent.invalid/none:1").await.expect("image"), None);
    engine.pull("absent.invalid/none:1", None).await.expect_err("a pull from nowhere fails");
    engine.remove_image("absent.invalid/none:1").await.expect("removing an absent image");
}

async fn sandbox_is_listed(engine: &dyn Runtime, config: &SandboxConfig, id: &str) {
    let found = engine.sandbox(id).await.expect("sandbox");
    assert!(found.ready, "a new sandbox is ready");
    assert_eq!((&found.name, &found.uid), (&config.name, &config.uid));
    assert_eq!(found.annotations.get("note").map(String::as_str), Some("kept"));
    let listed = engine.sandboxes(&config.labels).await.expect("sandboxes");
    assert_eq!(listed.iter().map(|s| s.id.as_str()).collect::<Vec<_>>(), [id]);
    let other = Labels::from([("pod".to_owned(), "other".to_owned())]);
    assert!(engine.sandboxes(&other).await.expect("sandboxes").is_empty());
    assert!(engine.sandbox("0123456789").await.expect_err("unknown sandbox").is_not_found());
}

async fn long_running(engine: &dyn Runtime, env: &Env, sandbox: &SandboxConfig, sandbox_id: &str) -> String {
    let config = container_config(env, "main", &["sleep", "3600"]);
    let id = engine.create_container(sandbox_id, &config, sandbox).await.expect("create");
    let created = engine.container(&id).await.expect("container");
    assert_eq!(created.state, ContainerState::Created);
    engine.start_container(&id).await.expect("start");
    let running = engine.container(&id).await.expect("container");
    assert_eq!(running.state, ContainerState::Running);
    assert!(running.started_at >= running.created_at);
    assert_eq!(running.labels.get("container").map(String::as_str), Some("main"));
    id
}

async fn exec_sync(engine: &dyn Runtime, id: &str) {
    let output = engine.exec_sync(id, &strings(&["echo", "hello"]), DEADLINE).await.expect("exec_sync");
    assert_eq!((&output.stdout[..], output.exit_code), (&b"hello\n"[..], 0));
    let output = engine.exec_sync(id, &strings(&["sh", "-c", "exit 7"]), DEADLINE).await.expect("exec_sync");
    assert_eq!(output.exit_code, 7);
    let slow = engine.exec_sync(id, &strings(&["sleep", "60"]), Duration::from_secs(1)).await;
    assert!(matches!(slow, Err(Error::Timeout(_))), "a slow command times out: {slow:?}");
}

async fn exec_streams(engine: &dyn Runtime, id: &str) {
    let streams = Streams { stdin: true, stdout: true, stderr: true, tty: false };
    let request = ExecRequest { command: strings(&["cat"]), streams };
    let Session { stdin, stdout, exit, .. } = engine.exec(id, &request).await.expect("exec");
    let (stdin, mut stdout) = (stdin.expect("stdin"), stdout.expect("stdout"));
    stdin.send(Bytes::from_static(b"through the pipe")).await.expect("send");
    drop(stdin);
    let mut seen = Vec::new();
    while let Some(chunk) = stdout.recv().await {
        seen.extend_from_slice(&chunk);
    }
    assert_eq!(seen, b"through the pipe", "closing standard input ends cat");
    assert_eq!(exit.await.expect("exit").expect("exit code"), 0);

    let request = ExecRequest {
        command: strings(&["sh", "-c", "exit 5"]),
        streams: Streams { stdin: false, ..streams },
    };
    let session = engine.exec(id, &request).await.expect("exec");
    assert_eq!(session.exit.await.expect("exit").expect("exit code"), 5);
}

/// How often stats are asked for, 50 ms apart.
const STATS_ATTEMPTS: usize = 100;

async fn stats(engine: &dyn Runtime, id: &str) {
    // An engine may take its first measurement a moment after the start.
    let mut stats = Vec::new();
    for _ in 0..STATS_ATTEMPTS {
        stats = engine.stats().await.expect("stats");
        if stats.iter().any(|s| s.id == id && s.timestamp > 0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no stats of {id} in {stats:?}");
}

async fn exit_codes(engine: &dyn Runtime, env: &Env, sandbox: &SandboxConfig, sandbox_id: &str) {
    let config = container_config(env, "exits", &["sh", "-c", "exit 3"]);
    let id = engine.create_container(sandbox_id, &config, sandbox).await.expect("create");
    engine.start_container(&id).await.expect("start");
    let dead = wait_for_exit(engine, &id).await;
    assert_eq!(dead.exit_code, 3);
    assert!(dead.finished_at >= dead.started_at);
    engine.stop_container(&id, Duration::ZERO).await.expect("stopping a dead container");
    engine.remove_container(&id).await.expect("remove");
    engine.remove_container(&id).await.expect("remove again");
    assert!(engine.container(&id).await.expect_err("removed").is_not_found());
}

async fn wait_for_exit(engine: &dyn Runtime, id: &str) -> crate::Container {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        let container = engine.container(id).await.expect("container");
        if container.state == ContainerState::Exited {
            return container;
        }
        assert!(tokio::time::Instant::now() < deadline, "{id} does not exit: {container:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn stopping(engine: &dyn Runtime, main: &str, sandbox: &str) {
    // `sleep` is process 1 of its namespace and ignores SIGTERM: this takes the kill.
    engine.stop_container(main, Duration::from_secs(1)).await.expect("stop");
    let dead = engine.container(main).await.expect("container");
    assert_eq!((dead.state, dead.exit_code), (ContainerState::Exited, 137));
    engine.stop_sandbox(sandbox).await.expect("stop_sandbox");
    engine.stop_sandbox(sandbox).await.expect("stop_sandbox again");
    engine.remove_sandbox(sandbox).await.expect("remove_sandbox");
    engine.remove_sandbox(sandbox).await.expect("remove_sandbox again");
    assert!(engine.sandbox(sandbox).await.expect_err("removed").is_not_found());
    assert!(engine.container(main).await.expect_err("removed with its sandbox").is_not_found());
}
