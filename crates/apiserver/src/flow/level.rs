//! The seats of one priority level, and the queues in front of them.
//!
//! While seats are free and nobody waits, a request takes and returns its seats with one atomic operation
//! each. Only where seats are short there is a lock: requests wait in queues, each flow in one of the few
//! that are dealt to it (shuffle sharding), and queues take turns by the work that was done for them
//! (start-time fair queuing, after upstream's `fairqueuing/queueset`).

use std::collections::VecDeque;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::config::Queuing;
use super::retry::RetryAfter;

/// Seconds that a request is thought to take until it is known.
const GUESS: f64 = 0.003;

/// One priority level.
pub(super) struct Level {
    pub name: String,
    exempt: bool,
    /// Seats in use.
    seats: AtomicU64,
    /// Seats that may be in use.
    limit: AtomicU64,
    /// Requests in queues. As long as there are any, nobody passes them by.
    waiting: AtomicUsize,
    /// The most seats that were wanted at once since somebody last asked.
    demand: AtomicU64,
    /// How many seats one request may take at most.
    pub width_max: AtomicU64,
    pub counts: Counts,
    pub retry_after: RetryAfter,
    queues: Mutex<Queues>,
}

/// What has happened so far.
#[derive(Default)]
pub(super) struct Counts {
    pub executing: AtomicU64,
    pub dispatched: AtomicU64,
    pub rejected: AtomicU64,
    pub timed_out: AtomicU64,
    pub cancelled: AtomicU64,
}

#[derive(Default)]
struct Queues {
    /// `None`: who finds no seat is refused.
    queuing: Option<Queuing>,
    /// Longer than it should be while queues that were taken away are not yet empty.
    all: Vec<Queue>,
    /// The virtual time: where the queue began whose turn was last.
    now: f64,
    last: usize,
    waiting_seats: u64,
    next_id: u64,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiter>,
    /// Seats of those that wait and those that execute.
    seats: u64,
    /// The virtual time at which the first one's turn is: what was done for the queue so far, in seconds
    /// times seats.
    start: f64,
}

struct Waiter {
    id: u64,
    seats: u64,
    grant: oneshot::Sender<Permit>,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No seat, and no queue to wait in.
    ConcurrencyLimit,
    QueueFull,
    TimeOut,
}

/// Seats of a level; returned when dropped.
pub(crate) struct Permit {
    level: Arc<Level>,
    seats: u64,
    /// For one that has waited: its queue and when its turn came.
    queued: Option<(usize, Instant)>,
}

impl Permit {
    /// How many seats it is for.
    pub fn seats(&self) -> u64 {
        self.seats
    }
}

impl Level {
    pub fn new(name: &str, exempt: bool) -> Self {
        Self {
            name: name.to_owned(),
            exempt,
            seats: AtomicU64::new(0),
            limit: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            demand: AtomicU64::new(0),
            width_max: AtomicU64::new(1),
            counts: Counts::default(),
            retry_after: RetryAfter::default(),
            queues: Mutex::default(),
        }
    }

    /// Takes seats, waiting for at most `patience` if there are none. `flow` is asked only then.
    pub async fn acquire(
        self: &Arc<Self>,
        seats: u64,
        flow: impl FnOnce() -> u64,
        patience: Duration,
    ) -> Result<Permit, Refusal> {
        if self.exempt {
            self.note_demand(self.seats.fetch_add(seats, Relaxed) + seats);
            return Ok(self.permit(seats, None));
        }
        if self.waiting.load(SeqCst) == 0 && self.take(seats) {
            return Ok(self.permit(seats, None));
        }
        let ticket = self.enqueue(seats, flow).inspect_err(|_| {
            self.counts.rejected.fetch_add(1, Relaxed);
        })?;
        let Some(mut ticket) = ticket else { return Ok(self.permit(seats, None)) };
        match tokio::time::timeout(patience, &mut ticket.granted).await {
            Ok(Ok(permit)) => {
                ticket.done = true;
                Ok(permit)
            }
            _ => {
                self.counts.timed_out.fetch_add(1, Relaxed);
                ticket.timed_out = true;
                Err(Refusal::TimeOut)
            }
        }
    }

    fn permit(self: &Arc<Self>, seats: u64, queued: Option<(usize, Instant)>) -> Permit {
        self.counts.executing.fetch_add(1, Relaxed);
        self.counts.dispatched.fetch_add(1, Relaxed);
        Permit { level: self.clone(), seats, queued }
    }

    /// Takes seats if so many are free. A request that is wider than the level takes all of it.
    fn take(&self, seats: u64) -> bool {
        let mut used = self.seats.load(SeqCst);
        loop {
            let limit = self.limit.load(Relaxed);
            if limit == 0 || (used > 0 && used + seats > limit) {
                return false;
            }
            match self.seats.compare_exchange_weak(used, used + seats, SeqCst, SeqCst) {
                Ok(_) => {
                    self.note_demand(used + seats);
                    return true;
                }
                Err(now) => used = now,
            }
        }
    }

    fn note_demand(&self, seats: u64) {
        if seats > self.demand.load(Relaxed) {
            self.demand.fetch_max(seats, Relaxed);
        }
    }

    /// Waits in a queue; `None` where a level without queues had a seat after all.
    fn enqueue(self: &Arc<Self>, seats: u64, flow: impl FnOnce() -> u64) -> Result<Option<Ticket>, Refusal> {
        let mut queues = self.lock();
        let Some(queuing) = queues.queuing else {
            self.note_demand(self.seats.load(Relaxed) + seats);
            return if self.take(seats) { Ok(None) } else { Err(Refusal::ConcurrencyLimit) };
        };
        let index = queues.shortest_of_hand(queuing, if queuing.queues > 1 { flow() } else { 0 });
        if queues.all[index].waiting.len() >= queuing.queue_length_limit as usize {
            return Err(Refusal::QueueFull);
        }
        let (grant, granted) = oneshot::channel();
        let id = queues.next_id;
        queues.next_id += 1;
        queues.waiting_seats += seats;
        let now = queues.now;
        let queue = &mut queues.all[index];
        if queue.waiting.is_empty() {
            queue.start = queue.start.max(now);
        }
        queue.waiting.push_back(Waiter { id, seats, grant });
        queue.seats += seats;
        self.waiting.fetch_add(1, SeqCst);
        self.note_demand(self.seats.load(Relaxed) + queues.waiting_seats);
        let ticket = Ticket { level: self.clone(), index, id, granted, done: false, timed_out: false };
        self.dispatch(queues);
        Ok(Some(ticket))
    }

    /// Gives free seats to those who wait. Takes the lock's guard, as permits must be handed out without it.
    fn dispatch(self: &Arc<Self>, mut queues: MutexGuard<'_, Queues>) {
        let mut grants = Vec::new();
        while let Some(index) = queues.turn() {
            let Some(seats) = queues.all[index].waiting.front().map(|waiter| waiter.seats) else { break };
            // A wide one waits until there is room for it, and everybody else with it, or it never comes.
            if !self.take(seats) {
                break;
            }
            let Some(waiter) = queues.all[index].waiting.pop_front() else { break };
            queues.last = index;
            queues.now = queues.all[index].start;
            queues.waiting_seats -= seats;
            queues.all[index].start += seats as f64 * GUESS;
            self.waiting.fetch_sub(1, SeqCst);
            grants.push((waiter.grant, self.permit(seats, Some((index, Instant::now())))));
        }
        drop(queues);
        for (grant, permit) in grants {
            // Whoever does not wait any more returns the seats at once.
            drop(grant.send(permit));
        }
    }

    /// Sets how many seats there are.
    pub fn set_limit(self: &Arc<Self>, limit: u64) {
        self.limit.store(limit, SeqCst);
        if self.waiting.load(SeqCst) > 0 {
            self.dispatch(self.lock());
        }
    }

    /// Sets how requests wait.
    pub fn set_queuing(&self, queuing: Option<Queuing>) {
        let mut queues = self.lock();
        queues.queuing = queuing;
        let wanted = queuing.map_or(0, |queuing| queuing.queues as usize);
        while queues.all.len() > wanted && queues.all.last().is_some_and(|queue| queue.seats == 0) {
            queues.all.pop();
        }
        if queues.all.len() < wanted {
            queues.all.resize_with(wanted, Queue::default);
        }
    }

    /// The most seats that were wanted at once since the last call.
    pub fn take_demand(&self) -> u64 {
        let waiting = if self.waiting.load(Relaxed) > 0 { self.lock().waiting_seats } else { 0 };
        let now = self.seats.load(Relaxed) + waiting;
        self.demand.swap(now, Relaxed).max(now)
    }

    pub fn limit(&self) -> u64 {
        self.limit.load(Relaxed)
    }

    pub fn is_idle(&self) -> bool {
        self.counts.executing.load(Relaxed) == 0 && self.waiting() == 0
    }

    pub fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    /// Of every queue: those that wait, seats of all, and its virtual time.
    pub fn dump_queues(&self) -> Vec<(usize, u64, f64)> {
        self.lock().all.iter().map(|queue| (queue.waiting.len(), queue.seats, queue.start)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queues {
    /// The queue with the least work of those that are dealt to a flow.
    fn shortest_of_hand(&self, queuing: Queuing, flow: u64) -> usize {
        let mut best = None;
        deal(u64::from(queuing.queues), queuing.hand_size as usize, flow, |card| {
            let seats = self.all[card].seats;
            if best.is_none_or(|(_, least)| seats < least) {
                best = Some((card, seats));
            }
        });
        best.map_or(0, |(card, _)| card)
    }

    /// The queue whose turn it is: the one for which least was done, the next of equals.
    fn turn(&self) -> Option<usize> {
        let count = self.all.len();
        let mut best: Option<usize> = None;
        for offset in 1..=count {
            let index = (self.last + offset) % count;
            let queue = &self.all[index];
            if !queue.waiting.is_empty() && best.is_none_or(|best| queue.start < self.all[best].start) {
                best = Some(index);
            }
        }
        best
    }
}

/// Deals a hand of `hand` different cards out of `deck` by the digits of `hash` (upstream's
/// `shufflesharding`).
fn deal(deck: u64, hand: usize, mut hash: u64, mut pick: impl FnMut(usize)) {
    let mut remainders = [0_u64; 15];
    let hand = hand.min(remainders.len());
    for (index, remainder) in remainders.iter_mut().take(hand).enumerate() {
        let left = deck - index as u64;
        *remainder = hash % left;
        hash /= left;
    }
    for index in 0..hand {
        let mut card = remainders[index];
        for earlier in (0..index).rev() {
            if card >= remainders[earlier] {
                card += 1;
            }
        }
        pick(card as usize);
    }
}

/// A place in a queue; left when dropped.
struct Ticket {
    level: Arc<Level>,
    index: usize,
    id: u64,
    granted: oneshot::Receiver<Permit>,
    done: bool,
    timed_out: bool,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let mut queues = self.level.lock();
        let queue = &mut queues.all[self.index];
        // One that is not there any more has its seats on the way, and they go back with the receiver.
        let Some(place) = queue.waiting.iter().position(|waiter| waiter.id == self.id) else { return };
        if let Some(waiter) = queue.waiting.remove(place) {
            queue.seats -= waiter.seats;
            queues.waiting_seats -= waiter.seats;
            self.level.waiting.fetch_sub(1, SeqCst);
        }
        if !self.timed_out {
            self.level.counts.cancelled.fetch_add(1, Relaxed);
        }
        self.level.dispatch(queues);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let level = &self.level;
        level.counts.executing.fetch_sub(1, Relaxed);
        level.seats.fetch_sub(self.seats, SeqCst);
        if let Some((index, since)) = self.queued {
            let mut queues = level.lock();
            let took = since.elapsed().as_secs_f64();
            if let Some(queue) = queues.all.get_mut(index) {
                queue.seats -= self.seats;
                queue.start += self.seats as f64 * (took - GUESS);
            }
            level.dispatch(queues);
        } else if level.waiting.load(SeqCst) > 0 {
            level.dispatch(level.lock());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(15);

    fn level(limit: u64, queuing: Option<Queuing>) -> Arc<Level> {
        let level = Arc::new(Level::new("test", false));
        level.set_queuing(queuing);
        level.set_limit(limit);
        level
    }

    const QUEUING: Option<Queuing> = Some(Queuing { queues: 8, hand_size: 2, queue_length_limit: 10 });

    #[test]
    fn hands_are_dealt_without_repetition() {
        for hash in [0, 1, 12_345_678_901_234_567, u64::MAX] {
            let mut hand = Vec::new();
            deal(8, 8, hash, |card| hand.push(card));
            hand.sort_unstable();
            assert_eq!(hand, [0, 1, 2, 3, 4, 5, 6, 7], "{hash}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn seats_are_limited_and_come_back() {
        let level = level(2, None);
        let first = level.acquire(1, || 0, PATIENCE).await.ok().unwrap();
        let second = level.acquire(1, || 0, PATIENCE).await.ok().unwrap();
        assert_eq!(level.acquire(1, || 0, PATIENCE).await.err(), Some(Refusal::ConcurrencyLimit));
        drop(first);
        // Wider than what is free, then than all there is.
        assert!(level.acquire(2, || 0, PATIENCE).await.is_err());
        drop(second);
        assert!(level.acquire(5, || 0, PATIENCE).await.is_ok());
        assert!(level.is_idle());
    }

    #[tokio::test(start_paused = true)]
    async fn queues_are_bounded_in_length_and_time() {
        let level = level(1, Some(Queuing { queues: 1, hand_size: 1, queue_length_limit: 1 }));
        let held = level.acquire(1, || 0, PATIENCE).await.ok().unwrap();
        let waits = {
            let level = level.clone();
            tokio::spawn(async move { level.acquire(1, || 0, PATIENCE).await.err() })
        };
        tokio::task::yield_now().await;
        assert_eq!(level.acquire(1, || 0, PATIENCE).await.err(), Some(Refusal::QueueFull));
        assert_eq!(waits.await.unwrap(), Some(Refusal::TimeOut));
        drop(held);
        assert!(level.is_idle() && level.acquire(1, || 0, PATIENCE).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_leaves_makes_room() {
        let level = level(2, QUEUING);
        let held = level.acquire(1, || 0, PATIENCE).await.ok().unwrap();
        let spawn = |seats| {
            let level = level.clone();
            tokio::spawn(async move { level.acquire(seats, || 1, PATIENCE).await.is_ok() })
        };
        let wide = spawn(2);
        tokio::task::yield_now().await;
        let narrow = spawn(1);
        tokio::task::yield_now().await;
        assert_eq!(level.waiting(), 2, "the narrow one does not pass by the wide one");
        wide.abort();
        assert!(narrow.await.unwrap());
        drop(held);
        assert!(level.is_idle());
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_does_not_starve_a_quiet_flow() {
        let level = level(4, QUEUING);
        let order = Arc::new(Mutex::new(Vec::new()));
        let spawn = |flow: u64, name: &'static str| {
            let (level, order) = (level.clone(), order.clone());
            tokio::spawn(async move {
                let Ok(_permit) = level.acquire(1, || flow, PATIENCE).await else { return };
                tokio::time::sleep(Duration::from_millis(10)).await;
                order.lock().unwrap().push(name);
            })
        };
        let mut tasks: Vec<_> = (0..200).map(|_| spawn(0, "flood")).collect();
        tokio::task::yield_now().await;
        // Queues 0 and 1 are the flood's; this one has others.
        tasks.extend((0..3).map(|_| spawn(2 + 8 * 3, "quiet")));
        for task in tasks {
            task.await.unwrap();
        }
        let order = order.lock().unwrap();
        let last = order.iter().rposition(|name| *name == "quiet").unwrap();
        assert_eq!(order.iter().filter(|name| **name == "quiet").count(), 3);
        assert!(last < 15, "the last quiet one was number {last}");
        assert_eq!(order.len(), 4 + 20 + 3, "what found its queues full was refused");
    }
}
