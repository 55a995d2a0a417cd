//! Starting a container.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use client::EventType;
use k8s_openapi::api::core::v1::Container;
use runtime::{ContainerState, UnixNanos};

use super::container::{Inputs, container_config};
use super::hook;
use super::image::Presence;
use super::plan::Health;
use super::spec::{self, Role};
use super::worker::{Worker, now};

/// Errors that only a change elsewhere resolves are looked at again after this long.
const CONFIG_RETRY: Duration = Duration::from_secs(5);
/// Upstream sets no limit; a hook that hangs would otherwise hold up the pod for ever.
const HOOK_MAX: Duration = Duration::from_secs(600);
/// Dead attempts that are kept, for their logs and `lastState`.
const ATTEMPTS_KEPT: usize = 2;

/// The outcome of a start.
pub(super) enum Started {
    Yes,
    /// Try again after this long.
    Later(Duration),
}

impl Worker {
    pub(super) async fn start(
        &mut self,
        name: &str,
        finished: Option<UnixNanos>,
    ) -> Result<Started, crate::Error> {
        let spec = self.pod.spec.clone().unwrap_or_default();
        let Some((role, container)) = spec::find_any(&spec, name) else {
            return Ok(Started::Later(CONFIG_RETRY));
        };
        let container = container.as_ref();
        let image = match self.image_of(container).await? {
            Presence::Present(image) => image,
            Presence::Absent(wait) => return Ok(Started::Later(wait)),
        };
        let attempt = self.next_attempt(name);
        let prepared = self.prepare_files(name, attempt);
        let (termination_log, hosts_file) = match prepared {
            Ok(paths) => paths,
            Err(error) => {
                self.fail_to_start(name, "CreateContainerError", error.to_string());
                return Ok(Started::Later(CONFIG_RETRY));
            }
        };
        let facts = self.facts();
        let inputs = Inputs {
            pod: &self.pod,
            container,
            attempt,
            image: &image,
            facts: &facts,
            volumes: &self.volumes,
            termination_log: &termination_log,
            hosts_file: hosts_file.as_deref(),
        };
        let config = match container_config(&self.shared.objects, &inputs).await {
            Ok(config) => config,
            Err(error) => {
                self.fail_to_start(name, "CreateContainerConfigError", error);
                return Ok(Started::Later(CONFIG_RETRY));
            }
        };
        let Some(sandbox) = self.observed.sandbox().map(|s| s.id.clone()) else {
            return Ok(Started::Later(Duration::from_millis(100)));
        };
        let runtime = self.shared.config.runtime.clone();
        let id = match runtime.create_container(&sandbox, &config, &self.sandbox_config()).await {
            Ok(id) => id,
            Err(error @ runtime::Error::Unavailable(_)) => return Err(error.into()),
            Err(error) => {
                self.fail_to_start(name, "CreateContainerError", error.to_string());
                return Ok(Started::Later(CONFIG_RETRY));
            }
        };
        self.container_event(name, EventType::Normal, "Created", format!("Container created: {name}"));
        self.launch(role, container, &id).await;
        if let Some(finished) = finished {
            self.memory.backoff.entry(name.to_owned()).or_default().restarted(finished, now());
        }
        self.prune(name).await;
        Ok(Started::Yes)
    }

    /// Starts a created container and runs its start hook.
    async fn launch(&mut self, role: Role, container: &Container, id: &str) {
        let name = &container.name;
        let runtime = self.shared.config.runtime.clone();
        if let Err(error) = runtime.start_container(id).await {
            // The engine keeps the container as one that ended at once; restarts follow from that.
            self.container_event(name, EventType::Warning, "Failed", format!("Error: {error}"));
            self.memory.set_waiting(name, "RunContainerError", error.to_string());
            return;
        }
        self.memory.waiting.remove(name);
        self.container_event(name, EventType::Normal, "Started", format!("Container started: {name}"));
        let post_start = container.lifecycle.as_ref().and_then(|l| l.post_start.as_ref());
        let health = Health {
            started: container.startup_probe.is_none(),
            ready: container.readiness_probe.is_none(),
            unhealthy: false,
        };
        let Some(handler) = post_start.filter(|_| role != Role::Init) else {
            self.memory.health.insert(id.to_owned(), health);
            return;
        };
        let ip = self.facts().pod_ips.first().cloned().unwrap_or_default();
        let result = tokio::select! {
            result = hook::run(runtime.as_ref(), handler, container, id, &ip, HOOK_MAX) => result,
            // A pod that is to be deleted does not wait for its start.
            () = self.deletion() => Ok(()),
        };
        let unhealthy = result.is_err();
        if let Err(error) = result {
            let text = format!("PostStartHook failed: {error}");
            self.container_event(name, EventType::Warning, "FailedPostStartHook", text);
        }
        self.memory
            .health
            .insert(id.to_owned(), Health { started: health.started && !unhealthy, unhealthy, ..health });
    }

    /// The number of the next attempt: what the API shows as `restartCount`.
    fn next_attempt(&self, name: &str) -> u32 {
        match self.observed.attempts(name).map(|c| c.attempt).max() {
            Some(attempt) => attempt + 1,
            None => self
                .status_before(name)
                .filter(|s| s.container_id.is_some())
                .map_or(0, |s| u32::try_from(s.restart_count).unwrap_or(0) + 1),
        }
    }

    /// Files that the container mounts, and the directory for its log.
    fn prepare_files(&self, name: &str, attempt: u32) -> std::io::Result<(PathBuf, Option<PathBuf>)> {
        let directory = self.directory();
        let container = directory.join("containers").join(name);
        fs::create_dir_all(&container)?;
        fs::create_dir_all(self.log_directory().join(name))?;
        let termination_log = container.join(attempt.to_string());
        fs::write(&termination_log, b"")?;
        open_to_all(&termination_log)?;
        let spec = self.pod.spec.clone().unwrap_or_default();
        if spec::host_network(&spec) {
            return Ok((termination_log, None));
        }
        let hosts = directory.join("etc-hosts");
        fs::write(&hosts, self.hosts_file(&spec))?;
        fs::set_permissions(&hosts, std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        Ok((termination_log, Some(hosts)))
    }

    /// Removes all but the newest dead attempts.
    async fn prune(&mut self, name: &str) {
        let dead: Vec<String> = self
            .observed
            .attempts(name)
            .filter(|c| c.state == ContainerState::Exited)
            .skip(ATTEMPTS_KEPT - 1)
            .map(|c| c.id.clone())
            .collect();
        for id in dead {
            if let Err(error) = self.shared.config.runtime.remove_container(&id).await {
                tracing::warn!(container = id, %error, "cannot remove a dead container");
            }
        }
    }
}

/// The container may run as any user.
fn open_to_all(path: &Path) -> std::io::Result<()> {
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o666))
}
