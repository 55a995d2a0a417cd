//! A work queue for level-triggered reconciliation.
//!
//! An item that is added many times before it is worked on is worked on once. An item that is added
//! while it is being worked on is worked on again afterwards, never twice at the same time. Delayed
//! and failed items come back later. Source of the semantics: client-go's `util/workqueue`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::{Debug, Display};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base::backoff::Policy;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A queue of items to reconcile; clones share it.
pub struct WorkQueue<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Clone for WorkQueue<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

struct Shared<T> {
    state: Mutex<State<T>>,
    /// Signalled when there may be something to take.
    changed: Notify,
    /// How delays grow for an item that fails again and again.
    retry: Policy,
}

struct State<T> {
    /// Items ready to be worked on, oldest first.
    ready: VecDeque<T>,
    /// Items that want work: all of `ready`, and those to be queued again when `active` is done.
    dirty: BTreeSet<T>,
    /// Items being worked on.
    active: BTreeSet<T>,
    /// Items that become ready at a later time; the earliest time of each item counts.
    delayed: BTreeMap<T, Instant>,
    /// `delayed` by time.
    timers: BTreeSet<(Instant, T)>,
    /// How often in a row each item has failed.
    failures: BTreeMap<T, u32>,
}

impl<T: Ord + Clone> Default for WorkQueue<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Ord + Clone> WorkQueue<T> {
    /// An empty queue with client-go's retry delays.
    pub fn new() -> Self {
        Self::with_retry(Policy::WORK_QUEUE)
    }

    /// An empty queue with the given retry delays.
    pub fn with_retry(retry: Policy) -> Self {
        let state = State {
            ready: VecDeque::new(),
            dirty: BTreeSet::new(),
            active: BTreeSet::new(),
            delayed: BTreeMap::new(),
            timers: BTreeSet::new(),
            failures: BTreeMap::new(),
        };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), changed: Notify::new(), retry }) }
    }

    /// Asks for work on `item`.
    pub fn add(&self, item: T) {
        self.lock().add(item);
        self.shared.changed.notify_one();
    }

    /// Asks for work on `item` once `delay` has passed. An earlier request stands.
    pub fn add_after(&self, item: T, delay: Duration) {
        let at = Instant::now() + delay;
        let mut state = self.lock();
        if let Some(known) = state.delayed.get(&item).copied() {
            if known <= at {
                return;
            }
            state.timers.remove(&(known, item.clone()));
        }
        state.delayed.insert(item.clone(), at);
        state.timers.insert((at, item));
        drop(state);
        self.shared.changed.notify_one();
    }

    /// Asks for work on `item` after a delay that grows with each failure in a row.
    pub fn add_failed(&self, item: T) {
        let failures = {
            let mut state = self.lock();
            let count = state.failures.entry(item.clone()).or_insert(0);
            *count += 1;
            *count
        };
        self.add_after(item, self.shared.retry.delay(failures - 1));
    }

    /// Forgets the failures of `item`.
    pub fn succeeded(&self, item: &T) {
        self.lock().failures.remove(item);
    }

    /// Takes the next item, waiting for one. The caller must report [`Self::done`] for it.
    pub async fn next(&self) -> T {
        loop {
            let notified = self.shared.changed.notified();
            let timer = {
                let mut state = self.lock();
                state.promote(Instant::now());
                if let Some(item) = state.take() {
                    if !state.ready.is_empty() {
                        self.shared.changed.notify_one();
                    }
                    return item;
                }
                state.timers.first().map(|(at, _)| *at)
            };
            match timer {
                Some(at) => {
                    let _ = tokio::time::timeout_at(at, notified).await;
                }
                None => notified.await,
            }
        }
    }

    /// Reports that the work on `item` is over; it is queued again if it was added meanwhile.
    pub fn done(&self, item: &T) {
        let mut state = self.lock();
        state.active.remove(item);
        if state.dirty.contains(item) {
            state.ready.push_back(item.clone());
            drop(state);
            self.shared.changed.notify_one();
        }
    }

    /// The number of items that wait to be worked on, delayed ones not counted.
    pub fn len(&self) -> usize {
        self.lock().ready.len()
    }

    /// Whether no item waits to be worked on.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Ord + Clone> State<T> {
    fn add(&mut self, item: T) {
        if self.dirty.insert(item.clone()) && !self.active.contains(&item) {
            self.ready.push_back(item);
        }
    }

    /// Moves what has become due into the queue.
    fn promote(&mut self, now: Instant) {
        while let Some((at, _)) = self.timers.first()
            && *at <= now
            && let Some((_, item)) = self.timers.pop_first()
        {
            self.delayed.remove(&item);
            self.add(item);
        }
    }

    fn take(&mut self) -> Option<T> {
        let item = self.ready.pop_front()?;
        self.dirty.remove(&item);
        self.active.insert(item.clone());
        Some(item)
    }
}

/// What is to happen with an item after a successful reconciliation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing until it changes.
    Wait,
    /// Look at it again after this long, whatever happens.
    After(Duration),
}

/// Works on the items of `queue` with at most `workers` reconciliations at a time until `stop`.
///
/// A reconciliation that fails is logged and tried again with growing delays. When `stop` is
/// cancelled, the running ones are given up.
pub async fn run_workers<T, F, R, E>(
    queue: WorkQueue<T>,
    workers: usize,
    reconcile: F,
    stop: CancellationToken,
) where
    T: Ord + Clone + Debug + Send + Sync + 'static,
    F: Fn(T) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Next, E>> + Send + 'static,
    E: Display + Send + 'static,
{
    let mut running: JoinSet<()> = JoinSet::new();
    loop {
        while running.len() >= workers {
            running.join_next().await;
        }
        let Some(item) = stop.run_until_cancelled(queue.next()).await else { return };
        while running.try_join_next().is_some() {}
        let work = reconcile(item.clone());
        let taken = Taken { queue: queue.clone(), item, outcome: None };
        running.spawn(async move {
            // Moves it in whole; naming only its fields would leave it outside.
            let mut taken = taken;
            match work.await {
                Ok(next) => taken.outcome = Some(next),
                Err(error) => {
                    let item = &taken.item;
                    tracing::debug!(?item, %error, "reconciliation failed; trying again");
                }
            }
        });
    }
}

/// An item being worked on. Dropping it reports what became of it, also when the work panicked or was
/// given up: an item is never lost.
struct Taken<T: Ord + Clone> {
    queue: WorkQueue<T>,
    item: T,
    /// What is to happen next; `None` while the work has not succeeded.
    outcome: Option<Next>,
}

impl<T: Ord + Clone> Drop for Taken<T> {
    fn drop(&mut self) {
        match self.outcome {
            None => self.queue.add_failed(self.item.clone()),
            Some(next) => {
                self.queue.succeeded(&self.item);
                if let Next::After(delay) = next {
                    self.queue.add_after(self.item.clone(), delay);
                }
            }
        }
        self.queue.done(&self.item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_item_is_worked_on_once_however_often_it_is_added() {
        let queue = WorkQueue::new();
        queue.add("a");
        queue.add("b");
        queue.add("a");
        assert_eq!((queue.next().await, queue.next().await), ("a", "b"));
        assert!(queue.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn an_item_added_during_work_comes_back_afterwards() {
        let queue = WorkQueue::new();
        queue.add("a");
        let item = queue.next().await;
        queue.add("a");
        assert!(queue.is_empty());
        queue.done(&item);
        assert_eq!(queue.next().await, "a");
    }

    #[tokio::test(start_paused = true)]
    async fn the_earliest_delay_counts() {
        let queue = WorkQueue::new();
        let start = Instant::now();
        queue.add_after("a", Duration::from_secs(10));
        queue.add_after("a", Duration::from_secs(3));
        queue.add_after("a", Duration::from_secs(7));
        assert_eq!(queue.next().await, "a");
        assert_eq!(start.elapsed().as_secs(), 3);
        queue.done(&"a");
        assert!(tokio::time::timeout(Duration::from_secs(60), queue.next()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_succeeds_is_not_repeated() {
        let (queue, stop) = (WorkQueue::new(), CancellationToken::new());
        let count = Arc::new(Mutex::new(0));
        let counted = count.clone();
        queue.add(1);
        let work = move |_| {
            let counted = counted.clone();
            async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                *counted.lock().unwrap() += 1;
                Ok::<_, String>(Next::Wait)
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(600), run_workers(queue, 4, work, stop)).await;
        assert_eq!(*count.lock().unwrap(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_panics_is_tried_again() {
        let (queue, stop) = (WorkQueue::new(), CancellationToken::new());
        let (attempts, token) = (Arc::new(Mutex::new(0)), stop.clone());
        queue.add(1);
        let work = move |_| {
            let (attempts, token) = (attempts.clone(), token.clone());
            async move {
                let attempt = {
                    let mut attempts = attempts.lock().unwrap();
                    *attempts += 1;
                    *attempts
                };
                assert_ne!(attempt, 1, "the first attempt panics");
                token.cancel();
                Ok::<_, String>(Next::Wait)
            }
        };
        tokio::time::timeout(Duration::from_secs(60), run_workers(queue, 1, work, stop)).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn failures_back_off_until_success() {
        let queue = WorkQueue::new();
        let (start, stop) = (Instant::now(), CancellationToken::new());
        let attempts = Arc::new(Mutex::new(Vec::new()));
        let (seen, token) = (attempts.clone(), stop.clone());
        queue.add(1);
        run_workers(
            queue,
            4,
            move |_| {
                let (seen, token) = (seen.clone(), token.clone());
                async move {
                    let mut seen = seen.lock().unwrap();
                    seen.push(start.elapsed().as_millis());
                    if seen.len() < 4 {
                        return Err("not yet");
                    }
                    token.cancel();
                    Ok(Next::Wait)
                }
            },
            stop,
        )
        .await;
        // 5, 10 and 20 ms after one another; timers are a millisecond coarse.
        let attempts = attempts.lock().unwrap().clone();
        assert_eq!(attempts.len(), 4);
        assert!((35..=40).contains(attempts.last().unwrap()), "{attempts:?}");
    }
}
