//! Real requests: sent at a steady rate to the application's ready pods, in turn, and counted.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use bytes::Bytes;
use cluster::Informer;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::world::is_ready;

/// Where the application listens.
pub const PORT: u16 = 8080;
/// Requests that one pod is given at a time; like a load balancer, more than that are turned away.
const AT_A_TIME: usize = 8;
/// A request that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(3);
/// Rates and latencies are those of this last while.
const WINDOW: Duration = Duration::from_millis(1500);

/// A client that sends requests until it is dropped.
pub struct Load {
    rate: watch::Sender<f64>,
    counts: Arc<Mutex<Counts>>,
    _task: JoinSet<()>,
}

/// What became of the requests.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Requests {
    /// Requests answered since the start.
    pub answered: u64,
    /// Requests turned away or failed since the start.
    pub failed: u64,
    /// Share of the recent ones that were answered, from 0 to 1.
    pub recent_share: f64,
    /// How long the recent ones took on average.
    pub latency: Duration,
}

impl Requests {
    /// The latency in milliseconds.
    pub fn latency_text(&self) -> String {
        format!("{} ms", self.latency.as_millis())
    }
}

impl Load {
    /// A client of the pods in `pods` that is silent at first; each request is for `path`.
    pub fn new(pods: Informer<Pod>, path: String) -> Self {
        let (rate, rates) = watch::channel(0.0);
        let counts = Arc::<Mutex<Counts>>::default();
        let mut task = JoinSet::new();
        task.spawn(send_requests(pods, path, rates, counts.clone()));
        Self { rate, counts, _task: task }
    }

    /// Changes the number of requests per second.
    pub fn set_rate(&self, rps: f64) {
        self.rate.send_replace(rps);
    }

    /// The number of requests per second.
    pub fn rate(&self) -> f64 {
        *self.rate.borrow()
    }

    /// What has become of the requests so far.
    pub fn requests(&self) -> Requests {
        let mut counts = lock(&self.counts);
        counts.forget_old();
        let answered: Vec<_> = counts.recent.iter().filter_map(|(_, took)| *took).collect();
        let count = answered.len().max(1);
        Requests {
            answered: counts.answered,
            failed: counts.failed,
            recent_share: answered.len() as f64 / counts.recent.len().max(1) as f64,
            latency: answered.iter().sum::<Duration>() / u32::try_from(count).unwrap_or(u32::MAX),
        }
    }
}

#[derive(Default)]
struct Counts {
    answered: u64,
    failed: u64,
    /// When each recent request ended, and how long it took if it was answered.
    recent: VecDeque<(Instant, Option<Duration>)>,
}

impl Counts {
    fn note(&mut self, took: Option<Duration>) {
        match took {
            Some(_) => self.answered += 1,
            None => self.failed += 1,
        }
        self.forget_old();
        self.recent.push_back((Instant::now(), took));
    }

    fn forget_old(&mut self) {
        while self.recent.front().is_some_and(|(ended, _)| ended.elapsed() > WINDOW) {
            self.recent.pop_front();
        }
    }
}

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn send_requests(
    pods: Informer<Pod>,
    path: String,
    mut rates: watch::Receiver<f64>,
    counts: Arc<Mutex<Counts>>,
) {
    let path: Arc<str> = path.into();
    let mut sent = JoinSet::new();
    let mut in_flight = BTreeMap::<String, usize>::new();
    let (mut next, mut turn) = (Instant::now(), 0_usize);
    loop {
        let rps = *rates.borrow_and_update();
        tokio::select! {
            changed = rates.changed() => {
                if changed.is_err() {
                    return;
                }
                next = Instant::now();
            }
            Some(ended) = sent.join_next() => {
                let Ok((ip, took)) = ended else { continue };
                if let Some(count) = in_flight.get_mut(&ip) {
                    *count = count.saturating_sub(1);
                }
                lock(&counts).note(took);
            }
            () = sleep_until(next), if rps > 0.0 => {
                next += Duration::from_secs_f64(1.0 / rps);
                turn = turn.wrapping_add(1);
                let Some(ip) = pick(&pods, &in_flight, turn) else {
                    lock(&counts).note(None);
                    continue;
                };
                *in_flight.entry(ip.clone()).or_default() += 1;
                let path = path.clone();
                sent.spawn(async move {
                    let began = Instant::now();
                    let answer = timeout(PATIENCE, get(&ip, &path)).await;
                    (ip, matches!(answer, Ok(Ok(_))).then(|| began.elapsed()))
                });
            }
        }
    }
}

/// The pod whose turn it is among those that have room.
fn pick(pods: &Informer<Pod>, in_flight: &BTreeMap<String, usize>, turn: usize) -> Option<String> {
    let mut ips = Vec::new();
    pods.for_each(|pod| {
        if let Some(ip) = address(pod)
            && in_flight.get(ip).is_none_or(|count| *count < AT_A_TIME)
        {
            ips.push(ip.to_owned());
        }
    });
    let turn = turn.checked_rem(ips.len())?;
    Some(ips.swap_remove(turn))
}

/// The address of a pod that takes requests.
pub fn address(pod: &Pod) -> Option<&str> {
    let serves = pod.metadata.deletion_timestamp.is_none() && is_ready(pod);
    pod.status.as_ref().filter(|_| serves)?.pod_ip.as_deref()
}

/// Sends one request and returns the body of the answer.
pub async fn get(ip: &str, path: &str) -> Result<Bytes> {
    let stream = TcpStream::connect((ip, PORT)).await?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get(path).header("host", ip).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    if response.status() != StatusCode::OK {
        bail!("{ip} answered {path} with {}", response.status());
    }
    Ok(response.into_body().collect().await?.to_bytes())
}
