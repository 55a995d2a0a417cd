//! Writing a pod's status when it has changed, and only then.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{Api, Patch, PatchParams};
use runtime::{Container, ContainerState};
use serde_json::{Value, json};

use super::spec;
use super::status::{Context, pod_status};
use super::worker::Worker;
use crate::identity;

/// Bytes of a termination message that are kept, as upstream.
const MESSAGE_BYTES_MAX: usize = 4096;
/// Bytes of the log that may serve as one.
const LOG_MESSAGE_BYTES_MAX: usize = 2048;
const LOG_MESSAGE_LINES_MAX: usize = 80;

/// The status as it was last written or found.
pub(crate) struct Written {
    status: PodStatus,
    body: Option<Value>,
}

impl Written {
    pub(super) fn of(status: PodStatus) -> Self {
        Self { status, body: None }
    }

    pub(super) fn status(&self) -> &PodStatus {
        &self.status
    }
}

impl Worker {
    /// Writes the status if it differs from what was written last, or if somebody else changed readiness.
    pub(super) async fn publish(&mut self, finished: bool) -> Result<(), crate::Error> {
        let status = pod_status(&Context {
            pod: &self.pod,
            observed: &self.observed,
            memory: &self.memory,
            previous: &self.written.status,
            host_ip: &self.shared.config.node_ip,
            engine: &self.shared.engine,
            messages: &self.messages,
            failure: self.failure.as_ref(),
            finished,
            now: base::clock::now(),
        });
        let body = body(&self.pod, &status)?;
        let overruled =
            self.written.body.is_some() && self.ready_in_api() == Some("False") && ready(&status) == "True";
        if self.written.body.as_ref() == Some(&body) && !overruled {
            return Ok(());
        }
        let api: Api<Pod> = Api::namespaced(self.shared.config.client.clone(), &self.id.namespace);
        match api.patch_status(&self.id.name, &PatchParams::default(), &Patch::Strategic(&body)).await {
            Ok(_) => {}
            // The object is gone or another pod's: the informer will say so in a moment.
            Err(kube::Error::Api(e)) if e.code == 404 || e.code == 409 => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        self.written = Written { status, body: Some(body) };
        Ok(())
    }

    /// The Ready condition in the informer, once it has caught up with what was written.
    fn ready_in_api(&self) -> Option<&str> {
        let theirs = self.pod.status.as_ref()?;
        let caught_up = theirs.container_statuses == self.written.status.container_statuses;
        caught_up.then(|| ready(theirs))
    }

    /// Reads what dead containers left as their last words.
    pub(super) fn read_termination_messages(&mut self) {
        let ids: Vec<&String> = self.observed.containers.iter().map(|c| &c.id).collect();
        self.messages.retain(|id, _| ids.contains(&id));
        for container in self.observed.containers.iter().filter(|c| c.state == ContainerState::Exited) {
            if !self.messages.contains_key(&container.id) {
                self.messages.insert(container.id.clone(), self.termination_message(container));
            }
        }
    }

    fn termination_message(&self, container: &Container) -> String {
        let path = container.annotations.get(identity::TERMINATION_LOG);
        let said = path.and_then(|p| read_up_to(Path::new(p), MESSAGE_BYTES_MAX)).unwrap_or_default();
        let name = container.labels.get(identity::CONTAINER_NAME);
        let found = self.pod.spec.as_ref().zip(name).and_then(|(s, n)| spec::find_any(s, n));
        let policy = found.and_then(|(_, c)| c.termination_message_policy.clone());
        if said.is_empty() && container.exit_code != 0 && policy.as_deref() == Some("FallbackToLogsOnError") {
            return log_tail(Path::new(&container.log_path)).unwrap_or_default();
        }
        said
    }
}

fn read_up_to(path: &Path, limit: usize) -> Option<String> {
    let mut content = Vec::new();
    fs::File::open(path).ok()?.take(limit as u64).read_to_end(&mut content).ok()?;
    Some(String::from_utf8_lossy(&content).into_owned())
}

/// The last lines of a log, without their prefixes.
fn log_tail(path: &Path) -> Option<String> {
    let mut file = fs::File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(4 * LOG_MESSAGE_BYTES_MAX as u64))).ok()?;
    let mut content = Vec::new();
    file.read_to_end(&mut content).ok()?;
    let text = String::from_utf8_lossy(&content);
    // A partial line (tag `P`) ends without a newline.
    let line = |line: &str| {
        let mut fields = line.splitn(4, ' ').skip(2);
        let (tag, said) = (fields.next()?, fields.next()?);
        Some(if tag.starts_with('P') { said.to_owned() } else { format!("{said}\n") })
    };
    let lines: Vec<String> = text.lines().filter_map(line).collect();
    let from = lines.len().saturating_sub(LOG_MESSAGE_LINES_MAX);
    let mut tail = lines[from..].concat();
    while tail.len() > LOG_MESSAGE_BYTES_MAX {
        tail.remove(0);
    }
    Some(tail)
}

fn ready(status: &PodStatus) -> &str {
    let condition = status.conditions.iter().flatten().find(|c| c.type_ == "Ready");
    condition.map_or("Unknown", |c| c.status.as_str())
}

/// The patch. Conditions are merged by type, so what is absent must be said to be absent.
fn body(pod: &Pod, status: &PodStatus) -> Result<Value, crate::Error> {
    let mut status = serde_json::to_value(status)?;
    for condition in status["conditions"].as_array_mut().into_iter().flatten() {
        for field in ["reason", "message"] {
            if let Some(fields) = condition.as_object_mut() {
                fields.entry(field).or_insert(Value::Null);
            }
        }
    }
    Ok(json!({"metadata": {"uid": pod.metadata.uid}, "status": status}))
}
