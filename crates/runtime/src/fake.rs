//! An engine in memory, on tokio's clock. Containers are small programs chosen by their command:
//! `sleep N`, `sh -c "exit N"`, `true`, `false`; anything else runs until it is stopped.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::{
    AttachRequest, Change, Container, ContainerConfig, ContainerState, ContainerStats, Error, ExecOutput,
    ExecRequest, Image, Labels, PortConnection, RegistryAuth, Result, Runtime, Sandbox, SandboxConfig,
    Session, Status, UnixNanos, Version,
};

/// Answers the commands that tests run in containers.
pub type Exec = Arc<dyn Fn(&Container, &[String]) -> ExecOutput + Send + Sync>;

/// The engine. Clones share one world, so a test can keep one to look inside.
#[derive(Clone)]
pub struct Fake {
    world: Arc<Mutex<World>>,
    changes: broadcast::Sender<Change>,
}

struct World {
    next: u64,
    images: BTreeMap<String, Image>,
    sandboxes: BTreeMap<String, (SandboxConfig, Sandbox)>,
    containers: BTreeMap<String, (ContainerConfig, Container)>,
    exec: Exec,
    starts: u64,
}

impl Default for Fake {
    fn default() -> Self {
        Self::new(&["busybox"])
    }
}

impl Fake {
    /// An engine that holds these images.
    pub fn new(images: &[&str]) -> Self {
        let images = images.iter().map(|name| ((*name).to_owned(), image_of(name))).collect();
        let world = World {
            next: 0,
            images,
            sandboxes: BTreeMap::new(),
            containers: BTreeMap::new(),
            exec: Arc::new(|_, command| simulate(command)),
            starts: 0,
        };
        Self { world: Arc::new(Mutex::new(world)), changes: broadcast::channel(1024).0 }
    }

    /// Replaces what commands in containers answer.
    pub fn set_exec(&self, exec: Exec) {
        self.world().exec = exec;
    }

    /// Adds an image, as if somebody else had pulled it.
    pub fn add_image(&self, name: &str) {
        self.world().images.insert(name.to_owned(), image_of(name));
    }

    /// Makes a running container die.
    pub fn exit(&self, id: &str, code: i32, reason: &str) {
        if let Some((_, container)) = self.world().containers.get_mut(id) {
            finish(container, code, reason);
        }
        self.changed(id);
    }

    /// Containers started since the beginning.
    pub fn starts(&self) -> u64 {
        self.world().starts
    }

    /// What the containers of a pod were created with.
    pub fn configs(&self, name: &str) -> Vec<ContainerConfig> {
        self.world()
            .containers
            .values()
            .map(|(config, _)| config)
            .filter(|c| c.name == name)
            .cloned()
            .collect()
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self, id: &str) {
        // Without listeners there is nobody to tell.
        let _ = self.changes.send(Change { id: id.to_owned() });
    }

    fn schedule_exit(&self, id: String, after: Duration, code: i32) {
        let fake = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            fake.exit(&id, code, "");
        });
    }
}

fn image_of(name: &str) -> Image {
    Image { id: format!("sha256:{name}"), tags: vec![name.to_owned()], size: 1, ..Image::default() }
}

fn now() -> UnixNanos {
    i64::try_from(base::clock::now().as_nanosecond()).unwrap_or(i64::MAX)
}

fn finish(container: &mut Container, code: i32, reason: &str) {
    if container.state == ContainerState::Running {
        container.state = ContainerState::Exited;
        container.exit_code = code;
        container.finished_at = now();
        container.reason = if !reason.is_empty() {
            reason
        } else if code == 0 {
            "Completed"
        } else {
            "Error"
        }
        .to_owned();
    }
}

fn simulate(command: &[String]) -> ExecOutput {
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    let (stdout, exit_code) = match &words[..] {
        ["echo", rest @ ..] => (format!("{}\n", rest.join(" ")), 0),
        ["false"] => (String::new(), 1),
        ["sh", "-c", script] => (String::new(), exit_of(script).unwrap_or(0)),
        _ => (String::new(), 0),
    };
    ExecOutput { stdout: Bytes::from(stdout), stderr: Bytes::new(), exit_code }
}

fn exit_of(script: &str) -> Option<i32> {
    script.strip_prefix("exit ")?.trim().parse().ok()
}

fn lifetime(config: &ContainerConfig) -> Option<(Duration, i32)> {
    let words: Vec<&str> = config.command.iter().chain(&config.args).map(String::as_str).collect();
    match &words[..] {
        ["true"] => Some((Duration::ZERO, 0)),
        ["false"] => Some((Duration::ZERO, 1)),
        ["sleep", seconds] => Some((Duration::from_secs_f64(seconds.parse().ok()?), 0)),
        ["sh", "-c", script] => Some((Duration::ZERO, exit_of(script)?)),
        _ => None,
    }
}

fn matches(labels: &Labels, wanted: &Labels) -> bool {
    wanted.iter().all(|(k, v)| labels.get(k) == Some(v))
}

fn absent(kind: &str, id: &str) -> Error {
    Error::NotFound(format!("{kind} {id:?} not found"))
}

#[async_trait]
impl Runtime for Fake {
    async fn version(&self) -> Result<Version> {
        Ok(Version { name: "fake".into(), version: "1".into() })
    }

    async fn status(&self) -> Result<Status> {
        Ok(Status { ready: true, network_ready: true, message: String::new() })
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>> {
        let world = self.world();
        Ok(world.images.get(reference).or_else(|| world.images.values().find(|i| i.id == reference)).cloned())
    }

    async fn images(&self) -> Result<Vec<Image>> {
        Ok(self.world().images.values().cloned().collect())
    }

    async fn pull(&self, reference: &str, _auth: Option<&RegistryAuth>) -> Result<String> {
        match self.world().images.get(reference) {
            Some(image) => Ok(image.id.clone()),
            None => Err(Error::Pull(format!("failed to resolve reference {reference:?}: not found"))),
        }
    }

    async fn remove_image(&self, reference: &str) -> Result<()> {
        self.world().images.remove(reference);
        Ok(())
    }

    async fn run_sandbox(&self, config: &SandboxConfig) -> Result<String> {
        let mut world = self.world();
        world.next += 1;
        let id = format!("sandbox-{:04}", world.next);
        let sandbox = Sandbox {
            id: id.clone(),
            name: config.name.clone(),
            namespace: config.namespace.clone(),
            uid: config.uid.clone(),
            attempt: config.attempt,
            ready: true,
            created_at: now(),
            ips: vec![format!("10.0.{}.{}", world.next / 250, world.next % 250 + 2)],
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
        };
        world.sandboxes.insert(id.clone(), (config.clone(), sandbox));
        Ok(id)
    }

    async fn stop_sandbox(&self, id: &str) -> Result<()> {
        let mut world = self.world();
        if let Some((_, sandbox)) = world.sandboxes.get_mut(id) {
            sandbox.ready = false;
        }
        for (_, container) in world.containers.values_mut().filter(|(_, c)| c.sandbox_id == id) {
            finish(container, 137, "");
        }
        drop(world);
        self.changed(id);
        Ok(())
    }

    async fn remove_sandbox(&self, id: &str) -> Result<()> {
        let mut world = self.world();
        world.sandboxes.remove(id);
        world.containers.retain(|_, (_, c)| c.sandbox_id != id);
        Ok(())
    }

    async fn sandbox(&self, id: &str) -> Result<Sandbox> {
        self.world().sandboxes.get(id).map(|(_, s)| s.clone()).ok_or_else(|| absent("sandbox", id))
    }

    async fn sandboxes(&self, labels: &Labels) -> Result<Vec<Sandbox>> {
        Ok(self
            .world()
            .sandboxes
            .values()
            .map(|(_, s)| s)
            .filter(|s| matches(&s.labels, labels))
            .cloned()
            .collect())
    }

    async fn create_container(
        &self,
        sandbox_id: &str,
        config: &ContainerConfig,
        sandbox: &SandboxConfig,
    ) -> Result<String> {
        let mut world = self.world();
        if !world.sandboxes.contains_key(sandbox_id) {
            return Err(absent("sandbox", sandbox_id));
        }
        world.next += 1;
        let id = format!("container-{:04}", world.next);
        let container = Container {
            id: id.clone(),
            sandbox_id: sandbox_id.to_owned(),
            name: config.name.clone(),
            attempt: config.attempt,
            state: ContainerState::Created,
            created_at: now(),
            image: config.image.clone(),
            image_ref: config.image.clone(),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            log_path: format!("{}/{}", sandbox.log_directory, config.log_path),
            ..Container::default()
        };
        world.containers.insert(id.clone(), (config.clone(), container));
        Ok(id)
    }

    async fn start_container(&self, id: &str) -> Result<()> {
        let life = {
            let mut world = self.world();
            world.starts += 1;
            let (config, container) = world.containers.get_mut(id).ok_or_else(|| absent("container", id))?;
            container.state = ContainerState::Running;
            container.started_at = now();
            lifetime(config)
        };
        if let Some((after, code)) = life {
            self.schedule_exit(id.to_owned(), after, code);
        }
        self.changed(id);
        Ok(())
    }

    async fn stop_container(&self, id: &str, grace: Duration) -> Result<()> {
        // The simulated programs ignore the stop signal, as process 1 does by default.
        tokio::time::sleep(grace).await;
        self.exit(id, 137, "");
        Ok(())
    }

    async fn remove_container(&self, id: &str) -> Result<()> {
        self.world().containers.remove(id);
        Ok(())
    }

    async fn container(&self, id: &str) -> Result<Container> {
        self.world().containers.get(id).map(|(_, c)| c.clone()).ok_or_else(|| absent("container", id))
    }

    async fn containers(&self, labels: &Labels) -> Result<Vec<Container>> {
        Ok(self
            .world()
            .containers
            .values()
            .map(|(_, c)| c)
            .filter(|c| matches(&c.labels, labels))
            .cloned()
            .collect())
    }

    async fn reopen_log(&self, _id: &str) -> Result<()> {
        Ok(())
    }

    async fn exec_sync(&self, id: &str, command: &[String], timeout: Duration) -> Result<ExecOutput> {
        let container = self.container(id).await?;
        let exec = self.world().exec.clone();
        if let [program, seconds] = command
            && program == "sleep"
        {
            let length = Duration::from_secs_f64(seconds.parse().unwrap_or(0.0));
            tokio::time::sleep(length.min(timeout)).await;
            if length > timeout {
                return Err(Error::Timeout(format!("command {command:?} timed out")));
            }
        }
        Ok(exec(&container, command))
    }

    async fn exec(&self, id: &str, request: &ExecRequest) -> Result<Session> {
        let container = self.container(id).await?;
        let output = (self.world().exec.clone())(&container, &request.command);
        let (stdin_tx, mut stdin_rx) = mpsc::channel::<Bytes>(8);
        let (stdout_tx, stdout_rx) = mpsc::channel(8);
        let (exit_tx, exit_rx) = oneshot::channel();
        let echo = request.command == ["cat"];
        tokio::spawn(async move {
            let _ = stdout_tx.send(output.stdout).await;
            while echo && let Some(chunk) = stdin_rx.recv().await {
                let _ = stdout_tx.send(chunk).await;
            }
            drop(stdout_tx);
            let _ = exit_tx.send(Ok(output.exit_code));
        });
        Ok(Session {
            stdin: request.streams.stdin.then_some(stdin_tx),
            stdout: Some(stdout_rx),
            stderr: None,
            resize: None,
            exit: exit_rx,
        })
    }

    async fn attach(&self, _id: &str, _request: &AttachRequest) -> Result<Session> {
        Err(Error::Unsupported("the fake engine has nothing to attach to".into()))
    }

    async fn port_forward(&self, _sandbox_id: &str, _port: u16) -> Result<PortConnection> {
        Err(Error::Unsupported("the fake engine has no network".into()))
    }

    async fn stats(&self) -> Result<Vec<ContainerStats>> {
        let running = |c: &&Container| c.state == ContainerState::Running;
        let world = self.world();
        Ok(world
            .containers
            .values()
            .map(|(_, c)| c)
            .filter(running)
            .map(|c| ContainerStats {
                id: c.id.clone(),
                labels: c.labels.clone(),
                timestamp: now(),
                cpu_usage: Duration::ZERO,
                memory_working_set: 1 << 20,
            })
            .collect())
    }

    async fn changes(&self) -> Result<BoxStream<'static, Change>> {
        let receiver = self.changes.subscribe();
        Ok(futures::stream::unfold(receiver, |mut receiver| async move {
            loop {
                match receiver.recv().await {
                    Ok(change) => return Some((change, receiver)),
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        })
        .boxed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_fake_passes_the_suite() {
        let env = crate::suite::Env {
            image: "busybox".into(),
            log_directory: "/nonexistent".into(),
            cgroup_parent: "/suite".into(),
        };
        crate::suite::run(&Fake::default(), &env).await;
    }
}
