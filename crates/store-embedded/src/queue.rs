//! The queue in front of the sequencer.
//!
//! There is no task or thread that waits for work: the idle sequencer is parked in the queue, and the
//! caller that finds it there sends it to the blocking pool. While a batch is being synced, the next one
//! gathers; that is all group commit needs.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
};

use store::{StoreError, mvcc::View};
use tokio::runtime::Handle;

use crate::sequencer::{Request, Sequencer, Snapshots};

/// See the module's documentation.
pub struct Queue {
    state: Mutex<State>,
    runtime: Handle,
    view: Arc<View>,
    snapshots: Arc<Snapshots>,
}

struct State {
    pending: VecDeque<Request>,
    sequencer: Parked,
}

/// Where the sequencer is.
enum Parked {
    Idle(Box<Sequencer>),
    Working,
    Stopped,
}

impl Queue {
    /// An empty queue.
    pub fn new(sequencer: Sequencer, view: Arc<View>, runtime: Handle) -> Self {
        let snapshots = sequencer.snapshots();
        let state = State { pending: VecDeque::new(), sequencer: Parked::Idle(Box::new(sequencer)) };
        Self { state: Mutex::new(state), runtime, view, snapshots }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a snapshot in progress give up.
    pub fn abandon_snapshot(&self) {
        self.snapshots.cancel.store(true, Ordering::Relaxed);
    }

    /// Queues a request and sees to it that somebody works on it.
    pub fn push(self: &Arc<Self>, request: Request) -> Result<(), StoreError> {
        let mut state = self.lock();
        if matches!(state.sequencer, Parked::Stopped) {
            return Err(StoreError::Closed);
        }
        state.pending.push_back(request);
        match std::mem::replace(&mut state.sequencer, Parked::Working) {
            Parked::Idle(sequencer) => {
                let work = Work { queue: self.clone(), sequencer: Some(sequencer) };
                drop(state);
                self.runtime.spawn_blocking(move || work.run());
            }
            busy => state.sequencer = busy,
        }
        Ok(())
    }
}

/// The sequencer on its way through the queue. Whatever ends it early (an IO error, a panic, a runtime
/// that shuts down), nobody is left waiting.
struct Work {
    queue: Arc<Queue>,
    /// `None` once it is parked again.
    sequencer: Option<Box<Sequencer>>,
}

impl Work {
    fn run(mut self) {
        let mut batch = VecDeque::new();
        while let Some(sequencer) = &mut self.sequencer {
            if batch.is_empty() {
                let mut state = self.queue.lock();
                if state.pending.is_empty() {
                    if let Some(sequencer) = self.sequencer.take() {
                        state.sequencer = Parked::Idle(sequencer);
                    }
                    return;
                }
                std::mem::swap(&mut batch, &mut state.pending);
            }
            if let Err(stopped) = sequencer.run(&mut std::iter::from_fn(|| batch.pop_front())) {
                let runtime = self.queue.runtime.clone();
                // Everything that has the directory open ends before the answer, which promises that it
                // can be opened again.
                drop(self);
                stopped.finish(&runtime);
                return;
            }
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let Some(sequencer) = self.sequencer.take() else { return };
        drop(sequencer);
        self.queue.abandon_snapshot();
        let unanswered = {
            let mut state = self.queue.lock();
            state.sequencer = Parked::Stopped;
            std::mem::take(&mut state.pending)
        };
        self.queue.view.close();
        // Dropping a request drops its reply, which its caller reads as `Closed`.
        drop(unanswered);
    }
}
