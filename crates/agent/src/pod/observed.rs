//! What the engine says about one pod.

use std::collections::BTreeMap;

use runtime::{Container, ContainerState, Runtime, Sandbox};

use crate::identity::{CONTAINER_NAME, PodId};

/// The sandboxes and containers of a pod, newest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Observed {
    pub sandboxes: Vec<Sandbox>,
    pub containers: Vec<Container>,
}

impl Observed {
    /// Asks the engine. `dead` remembers containers that can no longer change.
    pub(crate) async fn look(
        runtime: &dyn Runtime,
        pod: &PodId,
        dead: &mut BTreeMap<String, Container>,
    ) -> runtime::Result<Self> {
        let selector = pod.selector();
        let mut sandboxes = Vec::new();
        for sandbox in runtime.sandboxes(&selector).await? {
            match runtime.sandbox(&sandbox.id).await {
                Ok(detailed) => sandboxes.push(detailed),
                Err(e) if e.is_not_found() => {}
                Err(e) => return Err(e),
            }
        }
        sandboxes.sort_by_key(|s| std::cmp::Reverse((s.attempt, s.created_at)));
        let listed = runtime.containers(&selector).await?;
        dead.retain(|id, _| listed.iter().any(|c| c.id == *id));
        let mut containers = Vec::new();
        for listed in listed {
            if let Some(known) = dead.get(&listed.id) {
                containers.push(known.clone());
                continue;
            }
            let detailed = match runtime.container(&listed.id).await {
                Ok(detailed) => Container { sandbox_id: listed.sandbox_id, ..detailed },
                Err(e) if e.is_not_found() => continue,
                Err(e) => return Err(e),
            };
            if detailed.state == ContainerState::Exited {
                dead.insert(detailed.id.clone(), detailed.clone());
            }
            containers.push(detailed);
        }
        containers.sort_by_key(|c| std::cmp::Reverse((c.attempt, c.created_at)));
        Ok(Self { sandboxes, containers })
    }

    /// The sandbox in use, if it runs.
    pub(crate) fn sandbox(&self) -> Option<&Sandbox> {
        self.sandboxes.first().filter(|s| s.ready)
    }

    /// Every attempt of a container, newest first.
    pub(crate) fn attempts<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Container> + use<'a> {
        let name = name.to_owned();
        self.containers.iter().filter(move |c| c.labels.get(CONTAINER_NAME) == Some(&name))
    }

    pub(crate) fn latest(&self, name: &str) -> Option<&Container> {
        self.attempts(name).next()
    }

    /// The newest attempt in the sandbox in use.
    pub(crate) fn current(&self, name: &str) -> Option<&Container> {
        let sandbox = self.sandbox()?;
        self.latest(name).filter(|c| c.sandbox_id == sandbox.id)
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = &Container> {
        self.containers.iter().filter(|c| c.state == ContainerState::Running)
    }
}
