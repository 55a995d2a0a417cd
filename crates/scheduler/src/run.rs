//! The loop: observe, decide, act.

use std::sync::Arc;
use std::time::Duration;

use client::{CancellationToken, EventType, Informer, Informers, Recorder};
use k8s_openapi::api::core::v1::{Node, Pod};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::{Instant, sleep_until};

use crate::decisions::{Decisions, Verdict};
use crate::inbox::Inbox;
use crate::pod::Identity;
use crate::requests;
use crate::state::{Action, BindOutcome, Binding, Report, State};

/// The scheduler name of pods that name none.
pub const DEFAULT_SCHEDULER: &str = "default-scheduler";

/// Bindings in flight. Enough to fill the API server's commit batches; few enough that the order of
/// priorities is kept when it is slow.
const BINDINGS_MAX: usize = 512;
/// Placements between two looks at the inboxes.
const PLACEMENTS_PER_ROUND: usize = 256;
/// Status writes in flight.
const REPORTS_MAX: usize = 64;
/// Pods that wait hear at most this often that their reasons have changed.
const RESTATE_EVERY: Duration = Duration::from_secs(10);
/// Upstream truncates event messages to this many bytes (`NoteLengthLimit`).
const EVENT_BYTES_MAX: usize = 1024;

/// What a scheduler needs.
#[derive(Clone)]
pub struct Config {
    /// For bindings, conditions, events and records.
    pub client: kube::Client,
    /// Shared informers; those of Pods and Nodes are used.
    pub informers: Informers,
    /// The pods whose `spec.schedulerName` is this are placed; see [`DEFAULT_SCHEDULER`].
    pub scheduler_name: String,
    /// Shuffles nodes between which nothing else decides.
    pub seed: u64,
}

impl Config {
    /// The default scheduler over these informers and their client.
    pub fn new(informers: Informers) -> Self {
        Self {
            client: informers.client().clone(),
            informers,
            scheduler_name: DEFAULT_SCHEDULER.to_owned(),
            seed: base::rng::u64(),
        }
    }
}

/// Schedules until `shutdown`. Bindings in flight then come to their own end.
pub async fn run(config: Config, shutdown: CancellationToken) {
    let arrived = Arc::new(Notify::new());
    let nodes = config.informers.of::<Node>();
    let pods = config.informers.of::<Pod>();
    let node_inbox = Inbox::of(&nodes, &arrived);
    let pod_inbox = Inbox::of(&pods, &arrived);
    let synced = async {
        nodes.synced().await;
        pods.synced().await;
    };
    if shutdown.run_until_cancelled(synced).await.is_none() {
        return;
    }
    let (outcomes_in, outcomes) = mpsc::channel(BINDINGS_MAX);
    let scheduler = Scheduler {
        state: State::new(config.scheduler_name.clone(), config.seed),
        node_inbox,
        pod_inbox,
        arrived,
        outcomes,
        hands: Hands {
            recorder: Recorder::new(config.client.clone(), config.scheduler_name),
            decisions: Decisions::new(config.client.clone()),
            client: config.client,
            pods,
            reports: Arc::new(Semaphore::new(REPORTS_MAX)),
            outcomes: outcomes_in,
        },
        in_flight: 0,
        restate_at: Instant::now() + RESTATE_EVERY,
    };
    shutdown.run_until_cancelled(scheduler.run()).await;
}

struct Scheduler {
    state: State,
    node_inbox: Arc<Inbox<Node>>,
    pod_inbox: Arc<Inbox<Pod>>,
    arrived: Arc<Notify>,
    outcomes: mpsc::Receiver<(Identity, BindOutcome)>,
    hands: Hands,
    /// Bindings that have not come to an end.
    in_flight: usize,
    restate_at: Instant,
}

impl Scheduler {
    async fn run(mut self) {
        loop {
            self.observe();
            let room = BINDINGS_MAX.saturating_sub(self.in_flight).min(PLACEMENTS_PER_ROUND);
            let now = Instant::now();
            self.state.schedule(room, now);
            if now >= self.restate_at && self.state.is_outdated() {
                self.state.restate();
                self.restate_at = now + RESTATE_EVERY;
            }
            for action in self.state.take_actions() {
                self.in_flight += usize::from(matches!(action, Action::Bind(_)));
                self.hands.act(action);
            }
            if self.state.has_work() && self.in_flight < BINDINGS_MAX {
                // More to place at once; let the bindings and the informers run in between.
                tokio::task::yield_now().await;
            } else {
                self.wait().await;
            }
        }
    }

    /// Takes in everything that has happened.
    fn observe(&mut self) {
        for (name, node) in self.node_inbox.take() {
            match node {
                Some(node) => self.state.node_applied(&node),
                None => self.state.node_deleted(&name),
            }
        }
        for (key, pod) in self.pod_inbox.take() {
            match pod {
                Some(pod) => self.state.pod_applied(&pod),
                None => self.state.pod_deleted(&key),
            }
        }
        while let Ok((pod, outcome)) = self.outcomes.try_recv() {
            self.end_binding(&pod, outcome);
        }
    }

    fn end_binding(&mut self, pod: &Identity, outcome: BindOutcome) {
        self.in_flight -= 1;
        self.state.bound(pod, outcome, Instant::now());
    }

    /// Waits until something happens or is due.
    async fn wait(&mut self) {
        let restate = self.state.is_outdated().then_some(self.restate_at);
        let due = self.state.next_deadline().into_iter().chain(restate).min();
        let deadline = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let ended = tokio::select! {
            ended = self.outcomes.recv() => ended,
            () = self.arrived.notified() => None,
            () = deadline => None,
        };
        if let Some((pod, outcome)) = ended {
            self.end_binding(&pod, outcome);
        }
    }
}

/// Does what the state machine has decided, in the background.
struct Hands {
    /// For the identities of victims.
    pods: Informer<Pod>,
    client: kube::Client,
    recorder: Recorder,
    decisions: Decisions,
    reports: Arc<Semaphore>,
    outcomes: mpsc::Sender<(Identity, BindOutcome)>,
}

impl Hands {
    fn act(&self, action: Action) {
        match action {
            Action::Bind(binding) => self.bind(binding),
            Action::Report(report) => self.report(report),
            Action::Evict { victims, preemptor, node } => {
                for victim in victims {
                    // Who has the name meanwhile but is not on the node is not who was meant.
                    let is_there = |pod: &Arc<Pod>| {
                        pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(&*node)
                    };
                    let Some(victim) = self.pods.get_key(&victim).filter(is_there) else { continue };
                    let victim = Identity::of(&victim);
                    let (client, preemptor, node) =
                        (self.client.clone(), preemptor.clone(), Arc::clone(&node));
                    let recorder = self.recorder.clone();
                    tokio::spawn(async move {
                        requests::evict(&client, &victim, &preemptor, &node, &recorder).await;
                    });
                }
            }
        }
    }

    fn bind(&self, binding: Binding) {
        let (client, outcomes) = (self.client.clone(), self.outcomes.clone());
        let (recorder, decisions) = (self.recorder.clone(), self.decisions.clone());
        tokio::spawn(async move {
            let outcome = requests::bind(&client, &binding).await;
            if outcome == BindOutcome::Done {
                let message = format!("Successfully assigned {} to {}", binding.pod.key, binding.node);
                recorder.event(&requests::reference(&binding.pod), EventType::Normal, "Scheduled", message);
                if binding.told {
                    let verdict =
                        Verdict::Scheduled { node: Arc::clone(&binding.node), scores: binding.scores };
                    decisions.record(binding.pod.clone(), verdict);
                }
            }
            // The scheduler may have been shut down meanwhile.
            let _ = outcomes.send((binding.pod, outcome)).await;
        });
    }

    fn report(&self, report: Report) {
        let details = Arc::clone(&report.refusal.details);
        let verdict = Verdict::Unschedulable { details, message: Arc::clone(&report.refusal.message) };
        self.decisions.record(report.pod.clone(), verdict);
        let message = truncated(&report.refusal.message, EVENT_BYTES_MAX);
        self.recorder.event(
            &requests::reference(&report.pod),
            EventType::Warning,
            "FailedScheduling",
            message,
        );
        let (client, permits) = (self.client.clone(), Arc::clone(&self.reports));
        tokio::spawn(async move {
            // The semaphore is never closed.
            let _permit = permits.acquire_owned().await;
            requests::report(&client, &report).await;
        });
    }
}

/// The message, cut at a character border so that it has at most `max` bytes.
fn truncated(message: &str, max: usize) -> String {
    const ELLIPSIS: &str = " ...";
    if message.len() <= max {
        return message.to_owned();
    }
    let cut = message.floor_char_boundary(max - ELLIPSIS.len());
    format!("{}{ELLIPSIS}", &message[..cut])
}
