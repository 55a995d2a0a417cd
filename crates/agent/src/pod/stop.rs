//! Stopping containers, and the end of a pod.

use std::time::Duration;

use client::EventType;
use kube::api::{Api, DeleteParams, Preconditions};
use tokio::time::{Instant, sleep, timeout};

use super::hook;
use super::plan::{Step, Why, termination};
use super::spec;
use super::worker::{Next, Report, Worker};
use crate::cgroup;

/// A stop gets at least this long after its hook.
const GRACE_MIN: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(3600);

impl Worker {
    /// Stops a container in the background, with its hook and within its grace period.
    pub(super) fn stop(&mut self, id: &str, name: &str, why: Why) {
        let found = self.pod.spec.as_ref().and_then(|s| spec::find_any(s, name)).map(|(_, c)| c.into_owned());
        let liveness = found.as_ref().and_then(|c| c.liveness_probe.as_ref());
        let grace = match why {
            Why::Unhealthy => spec::probe_grace_period(&self.pod, liveness),
            _ => spec::grace_period(&self.pod),
        };
        let message = match why {
            Why::Unhealthy => format!("Container {name} failed liveness probe, will be restarted"),
            Why::DefinitionChanged => format!("Container {name} definition changed, will be restarted"),
            Why::PodEnded | Why::Lost => format!("Stopping container {name}"),
        };
        self.container_event(name, EventType::Normal, "Killing", message);
        self.memory.stopping.insert(id.to_owned());
        self.deadlines.insert(id.to_owned(), Instant::now() + grace);
        let announce = self.announcer(name);
        let (runtime, reports, id) =
            (self.shared.config.runtime.clone(), self.reports.clone(), id.to_owned());
        let ip = self.facts().pod_ips.first().cloned().unwrap_or_default();
        tokio::spawn(async move {
            let begun = Instant::now();
            let hook = found.as_ref().and_then(|c| Some((c, c.lifecycle.as_ref()?.pre_stop.as_ref()?)));
            if let Some((container, handler)) = hook.filter(|_| !grace.is_zero()) {
                let result = hook::run(runtime.as_ref(), handler, container, &id, &ip, grace).await;
                if let Err(error) = result {
                    announce(EventType::Warning, "FailedPreStopHook", format!("PreStopHook failed: {error}"));
                }
            }
            let left = grace.saturating_sub(begun.elapsed());
            let left = if grace.is_zero() { grace } else { left.max(GRACE_MIN.min(grace)) };
            let result = runtime.stop_container(&id, left).await;
            if result.is_err() {
                // The report makes the worker try again.
                sleep(RETRY).await;
            }
            // The worker may have ended meanwhile.
            let _ = reports.send(Report::Stopped { container: id, result }).await;
        });
    }

    /// Ends a pod whose deletion was asked for, or whose object is gone.
    pub(super) async fn terminate(&mut self, gone: bool) -> Result<Next, crate::Error> {
        for step in termination(&self.pod, &self.observed, &self.memory) {
            if let Step::Stop { id, name, why } = step {
                self.stop(&id, &name, why);
            }
        }
        if self.observed.running().next().is_some() {
            self.hurry(gone);
            if !gone {
                self.publish(false).await?;
            }
            return Ok(Next::After(LONG));
        }
        let runtime = self.shared.config.runtime.clone();
        if !gone {
            self.publish(true).await?;
        }
        for sandbox in &self.observed.sandboxes {
            runtime.stop_sandbox(&sandbox.id).await?;
            runtime.remove_sandbox(&sandbox.id).await?;
        }
        self.clean_up()?;
        if gone { Ok(Next::Done) } else { self.delete_object().await }
    }

    /// Kills what was given more time than is left now, because the pod was deleted again with less.
    fn hurry(&mut self, gone: bool) {
        let grace = if gone { Duration::ZERO } else { spec::grace_period(&self.pod) };
        let latest = Instant::now() + grace;
        for (id, deadline) in &mut self.deadlines {
            if *deadline > latest + Duration::from_millis(1) && (gone || *deadline > latest + GRACE_MIN) {
                *deadline = latest;
                let (runtime, id) = (self.shared.config.runtime.clone(), id.clone());
                tokio::spawn(async move {
                    if let Err(error) = runtime.stop_container(&id, grace).await {
                        tracing::warn!(container = id, %error, "cannot stop a container");
                    }
                });
            }
        }
    }

    /// Everything has run its course, but the pod stays until somebody deletes it, with its logs.
    pub(super) async fn finish(&mut self) -> Result<Next, crate::Error> {
        self.publish(true).await?;
        let runtime = self.shared.config.runtime.clone();
        for sandbox in self.observed.sandboxes.iter().filter(|s| s.ready) {
            runtime.stop_sandbox(&sandbox.id).await?;
        }
        Ok(Next::After(LONG))
    }

    fn clean_up(&self) -> Result<(), crate::Error> {
        let io = |path: std::path::PathBuf| move |source| crate::Error::Io { path, source };
        let directory = self.directory();
        crate::volume::tear_down(&directory).map_err(io(directory.clone()))?;
        let logs = self.log_directory();
        match std::fs::remove_dir_all(&logs) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io(logs)(e)),
            _ => {}
        }
        let spec = self.pod.spec.clone().unwrap_or_default();
        cgroup::remove(&spec::cgroup(&self.shared.config.cgroup_root, &spec, &self.id.uid));
        self.shared.objects.forget(&self.id);
        self.shared.owners.release(&self.id);
        Ok(())
    }

    /// Nothing of the pod is left here: its object may go.
    async fn delete_object(&self) -> Result<Next, crate::Error> {
        let api: Api<k8s_openapi::api::core::v1::Pod> =
            Api::namespaced(self.shared.config.client.clone(), &self.id.namespace);
        let preconditions = Preconditions { uid: Some(self.id.uid.clone()), resource_version: None };
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        let call = timeout(Duration::from_secs(30), api.delete(&self.id.name, &params));
        match call.await {
            // Finalizers may keep the object, but the node's part is done.
            Ok(Ok(_)) => Ok(Next::Done),
            Ok(Err(kube::Error::Api(status))) if status.code == 404 || status.code == 409 => Ok(Next::Done),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Ok(Next::After(RETRY)),
        }
    }
}
