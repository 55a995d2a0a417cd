//! The machines and what happens to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::names;
use async_trait::async_trait;
use cloud::{
    CapacityType, Cloud, CloudError, CloudEvent, Instance, InstanceId, InstanceType, LaunchRequest, Launched,
    OfferingKey,
};
use k8s_openapi::api::core::v1::Taint;
use tokio::sync::broadcast;

use crate::catalogue::Catalogue;

/// The region of the built-in catalogue.
pub(crate) const REGION: &str = "us-east-1";
/// Events kept for slow readers.
const EVENTS: usize = 4096;

/// How the simulated cloud behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// What it rents out.
    pub catalogue: Catalogue,
    /// From the launch of a machine until it runs.
    pub boot_delay: Duration,
    /// Up to this share of the delay is added at random, so that machines do not all come at once.
    pub boot_jitter: f64,
    /// How long an API call takes.
    pub call_delay: Duration,
    /// From the warning until an interrupted machine vanishes; EC2 gives two minutes.
    pub interruption_notice: Duration,
    /// Share of CPU and memory that machines keep for their system; handed on in [`Machine`].
    pub reserved: f64,
}

impl Default for Config {
    fn default() -> Self {
        let reserved = 0.05;
        Self {
            catalogue: Catalogue::built_in(reserved),
            boot_delay: Duration::from_secs(3),
            boot_jitter: 0.2,
            call_delay: Duration::from_millis(20),
            interruption_notice: Duration::from_secs(120),
            reserved,
        }
    }
}

/// A machine that has come up: what its node needs to register.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    /// The machine as the cloud knows it.
    pub instance: Instance,
    /// Name for the node.
    pub node_name: String,
    /// CPU in thousandths of a core.
    pub cpu_milli: i64,
    /// Memory in bytes.
    pub memory_bytes: i64,
    /// The most pods.
    pub pods: i64,
    /// Share of CPU and memory that the system keeps.
    pub reserved: f64,
    /// CPU architecture in Go's spelling.
    pub arch: String,
    /// Labels to register with, those of instance type, zone, region and capacity type included.
    pub labels: BTreeMap<String, String>,
    /// Taints to register with.
    pub taints: Vec<Taint>,
}

/// What to do when machines come and go. Hooks must not block; they run in the cloud's tasks.
pub struct Hooks {
    /// A machine is up.
    pub on_running: Box<dyn Fn(Machine) + Send + Sync>,
    /// A machine that was up is gone.
    pub on_gone: Box<dyn Fn(Machine) + Send + Sync>,
}

impl Default for Hooks {
    fn default() -> Self {
        Self { on_running: Box::new(|_| {}), on_gone: Box::new(|_| {}) }
    }
}

/// The simulated cloud; clones share it.
#[derive(Clone)]
pub struct SimCloud {
    shared: Arc<Shared>,
}

struct Shared {
    config: Config,
    catalogue: Arc<Vec<InstanceType>>,
    hooks: Hooks,
    state: Mutex<State>,
    events: broadcast::Sender<CloudEvent>,
}

#[derive(Default)]
struct State {
    machines: BTreeMap<InstanceId, Rented>,
    /// Which machine each claim has.
    by_claim: BTreeMap<String, InstanceId>,
    /// Offerings without capacity.
    exhausted: BTreeSet<OfferingKey>,
}

struct Rented {
    machine: Machine,
    is_running: bool,
}

impl SimCloud {
    /// A cloud without machines.
    pub fn new(config: Config, hooks: Hooks) -> Self {
        let shared = Shared {
            catalogue: Arc::new(config.catalogue.types.clone()),
            config,
            hooks,
            state: Mutex::default(),
            events: broadcast::Sender::new(EVENTS),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Takes away or gives back the capacity of an offering. Running machines stay.
    pub fn set_capacity(&self, offering: &OfferingKey, available: bool) {
        let mut state = self.lock();
        if available {
            state.exhausted.remove(offering);
        } else {
            state.exhausted.insert(offering.clone());
        }
    }

    /// Takes a machine back: a warning now, the end after the configured notice. Returns whether
    /// there is such a machine.
    pub fn interrupt(&self, id: &InstanceId) -> bool {
        if !self.lock().machines.contains_key(id) {
            return false;
        }
        let notice = self.shared.config.interruption_notice;
        let deadline = base::clock::now() + notice;
        self.announce(CloudEvent::Interruption { instance: id.clone(), deadline });
        let (cloud, id) = (self.clone(), id.clone());
        tokio::spawn(async move {
            tokio::time::sleep(notice).await;
            cloud.remove(&id);
        });
        true
    }

    /// Takes over a machine that a former process rented, as NodeClaims remember it. One that is
    /// running already leads to no hook; one that is not boots again. Unknown instance types are
    /// ignored.
    pub fn adopt(
        &self,
        request: &LaunchRequest,
        id: InstanceId,
        offering: OfferingKey,
        is_running: bool,
    ) -> bool {
        let Some((kind, price)) = self.find(&offering) else { return false };
        let instance = Instance {
            id: id.clone(),
            claim: request.claim.clone(),
            offering,
            dollars_per_hour: price,
            image: String::new(),
            launched: base::clock::now(),
        };
        let machine = self.machine(instance, kind, request);
        let mut state = self.lock();
        state.by_claim.insert(request.claim.clone(), id.clone());
        state.machines.insert(id.clone(), Rented { machine, is_running });
        drop(state);
        if !is_running {
            self.boot(id);
        }
        true
    }

    fn find(&self, key: &OfferingKey) -> Option<(&InstanceType, f64)> {
        let kind = self.shared.catalogue.iter().find(|kind| kind.name == key.instance_type)?;
        let offering = kind
            .offerings
            .iter()
            .find(|known| known.zone == key.zone && known.capacity_type == key.capacity_type)?;
        Some((kind, offering.dollars_per_hour))
    }

    fn machine(&self, instance: Instance, kind: &InstanceType, request: &LaunchRequest) -> Machine {
        let mut labels = kind.labels.clone();
        labels.extend(request.labels.clone());
        for (key, value) in [
            (names::INSTANCE_TYPE, &*kind.name),
            (names::ZONE, &*instance.offering.zone),
            (names::REGION, region_of(&instance.offering.zone)),
            (names::CAPACITY_TYPE, instance.offering.capacity_type.as_str()),
        ] {
            labels.insert(key.to_owned(), value.to_owned());
        }
        Machine {
            node_name: request.claim.clone(),
            cpu_milli: kind.capacity.cpu_milli,
            memory_bytes: kind.capacity.memory_bytes,
            pods: kind.capacity.pods,
            reserved: self.shared.config.reserved,
            arch: kind.arch.to_string(),
            labels,
            taints: request.taints.clone(),
            instance,
        }
    }

    /// Lets a machine come up after the boot delay, unless it is gone by then.
    fn boot(&self, id: InstanceId) {
        let config = &self.shared.config;
        let delay = base::rng::jitter(config.boot_delay, config.boot_jitter);
        let cloud = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            let machine = {
                let mut state = cloud.lock();
                let Some(rented) = state.machines.get_mut(&id) else { return };
                rented.is_running = true;
                rented.machine.clone()
            };
            (cloud.shared.hooks.on_running)(machine);
        });
    }

    fn remove(&self, id: &InstanceId) -> bool {
        let rented = {
            let mut state = self.lock();
            let Some(rented) = state.machines.remove(id) else { return false };
            state.by_claim.remove(&rented.machine.instance.claim);
            rented
        };
        if rented.is_running {
            (self.shared.hooks.on_gone)(rented.machine);
        }
        self.announce(CloudEvent::Gone { instance: id.clone() });
        true
    }

    fn announce(&self, event: CloudEvent) {
        // Without readers there is nobody to tell.
        let _ = self.shared.events.send(event);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn call(&self) {
        if !self.shared.config.call_delay.is_zero() {
            tokio::time::sleep(self.shared.config.call_delay).await;
        }
    }
}

#[async_trait]
impl Cloud for SimCloud {
    fn catalogue(&self) -> Arc<Vec<InstanceType>> {
        self.shared.catalogue.clone()
    }

    async fn launch(&self, request: &LaunchRequest) -> Result<Launched, CloudError> {
        self.call().await;
        let mut unavailable = Vec::new();
        let mut state = self.lock();
        if let Some(rented) = state.by_claim.get(&request.claim).and_then(|id| state.machines.get(id)) {
            return Ok(Launched { instance: rented.machine.instance.clone(), unavailable });
        }
        for key in &request.offerings {
            let Some((kind, price)) = self.find(key) else { continue };
            if state.exhausted.contains(key) {
                unavailable.push(key.clone());
                continue;
            }
            let id = InstanceId::new(format!("sim:///{}/i-{:016x}", key.zone, base::rng::u64()));
            let instance = Instance {
                id: id.clone(),
                claim: request.claim.clone(),
                offering: key.clone(),
                dollars_per_hour: price,
                image: format!("sim-{}", kind.arch),
                launched: base::clock::now(),
            };
            let machine = self.machine(instance.clone(), kind, request);
            state.by_claim.insert(request.claim.clone(), id.clone());
            state.machines.insert(id.clone(), Rented { machine, is_running: false });
            drop(state);
            self.boot(id);
            return Ok(Launched { instance, unavailable });
        }
        if unavailable.is_empty() {
            return Err(CloudError::GiveUp("none of the offerings is in the catalogue".to_owned()));
        }
        Err(CloudError::InsufficientCapacity { offerings: unavailable })
    }

    async fn terminate(&self, id: &InstanceId) -> Result<(), CloudError> {
        self.call().await;
        if self.remove(id) { Ok(()) } else { Err(CloudError::NotFound(id.clone())) }
    }

    async fn get(&self, id: &InstanceId) -> Result<Instance, CloudError> {
        self.call().await;
        let state = self.lock();
        let rented = state.machines.get(id).ok_or_else(|| CloudError::NotFound(id.clone()))?;
        Ok(rented.machine.instance.clone())
    }

    async fn list(&self) -> Result<Vec<Instance>, CloudError> {
        self.call().await;
        Ok(self.lock().machines.values().map(|rented| rented.machine.instance.clone()).collect())
    }

    fn events(&self) -> broadcast::Receiver<CloudEvent> {
        self.shared.events.subscribe()
    }
}

/// The region of a zone: its name without the final letter.
fn region_of(zone: &str) -> &str {
    zone.strip_suffix(|last: char| last.is_ascii_lowercase()).unwrap_or(REGION)
}

impl Machine {
    /// Only spot machines are taken back by the cloud.
    pub fn is_interruptible(&self) -> bool {
        self.instance.offering.capacity_type == CapacityType::Spot
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;
    use tokio::time::Instant;

    use super::*;

    fn bench() -> cloud::suite::Bench {
        let cloud = SimCloud::new(Config::default(), Hooks::default());
        let (capacity, interrupt) = (cloud.clone(), cloud.clone());
        cloud::suite::Bench {
            cloud: Arc::new(cloud),
            set_capacity: Box::new(move |offering, available| capacity.set_capacity(offering, available)),
            interrupt: Box::new(move |id| assert!(interrupt.interrupt(id))),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_simulated_cloud_is_a_cloud() {
        cloud::suite::run(bench).await;
    }

    #[tokio::test(start_paused = true)]
    async fn machines_run_after_the_boot_delay_and_vanish_after_the_notice() {
        let (running_in, mut running) = mpsc::unbounded_channel();
        let (gone_in, mut gone) = mpsc::unbounded_channel();
        let hooks = Hooks {
            on_running: Box::new(move |machine| running_in.send(machine).unwrap()),
            on_gone: Box::new(move |machine| gone_in.send(machine).unwrap()),
        };
        let config = Config {
            boot_delay: Duration::from_secs(30),
            boot_jitter: 0.0,
            call_delay: Duration::ZERO,
            ..Config::default()
        };
        let cloud = SimCloud::new(config, hooks);
        let key = OfferingKey {
            instance_type: "m7g.large".into(),
            zone: "us-east-1b".into(),
            capacity_type: CapacityType::Spot,
        };
        let start = Instant::now();
        let request = LaunchRequest {
            claim: "c1".to_owned(),
            offerings: vec![key.clone()],
            ..LaunchRequest::default()
        };
        let id = cloud.launch(&request).await.unwrap().instance.id;
        let machine = running.recv().await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 30);
        assert_eq!(machine.labels[names::REGION], "us-east-1");
        assert_eq!((machine.node_name.as_str(), machine.arch.as_str()), ("c1", "arm64"));
        cloud.interrupt(&id);
        assert_eq!(gone.recv().await.unwrap(), machine);
        assert_eq!(start.elapsed().as_secs(), 150);
    }

    #[tokio::test(start_paused = true)]
    async fn adopted_machines_are_known_again() {
        let cloud = SimCloud::new(Config::default(), Hooks::default());
        let id = InstanceId::new("sim:///us-east-1a/i-1");
        let key = OfferingKey {
            instance_type: "c5.large".into(),
            zone: "us-east-1a".into(),
            capacity_type: CapacityType::OnDemand,
        };
        let request = LaunchRequest { claim: "c1".to_owned(), ..LaunchRequest::default() };
        assert!(cloud.adopt(&request, id.clone(), key.clone(), true));
        assert_eq!(cloud.get(&id).await.unwrap().offering, key);
        assert_eq!(cloud.launch(&request).await.unwrap().instance.id, id);
    }

    #[tokio::test(start_paused = true)]
    async fn an_adopted_machine_that_was_booting_comes_up() {
        let (running_in, mut running) = mpsc::unbounded_channel();
        let hooks = Hooks {
            on_running: Box::new(move |machine| running_in.send(machine).unwrap()),
            on_gone: Box::new(|_| {}),
        };
        let cloud = SimCloud::new(Config::default(), hooks);
        let key = OfferingKey {
            instance_type: "c5.large".into(),
            zone: "us-east-1a".into(),
            capacity_type: CapacityType::OnDemand,
        };
        let request = |claim: &str| LaunchRequest {
            claim: claim.to_owned(),
            labels: BTreeMap::from([("team".to_owned(), "a".to_owned())]),
            ..LaunchRequest::default()
        };
        assert!(cloud.adopt(&request("there"), InstanceId::new("i-1"), key.clone(), true));
        assert!(cloud.adopt(&request("booting"), InstanceId::new("i-2"), key, false));
        let machine = running.recv().await.unwrap();
        assert_eq!((machine.node_name.as_str(), machine.labels["team"].as_str()), ("booting", "a"));
        assert!(running.try_recv().is_err(), "the other one was up already");
    }
}
