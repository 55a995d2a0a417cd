//! What the informers have seen since the scheduler last looked: the newest state of each object.

use std::sync::{Arc, Mutex, PoisonError};

use base::map::HashMap;
use client::Event;
use tokio::sync::Notify;

/// Collects changes between two looks. Holds at most one entry per object, so a scheduler that falls
/// behind skips states instead of queueing them.
pub(crate) struct Inbox<K> {
    changes: Mutex<Changes<K>>,
    /// Shared by the inboxes of one scheduler.
    arrived: Arc<Notify>,
}

struct Changes<K> {
    /// In the order of arrival; `None` for objects that are gone.
    objects: Vec<(Arc<str>, Option<Arc<K>>)>,
    positions: HashMap<Arc<str>, usize>,
}

/// An object's key and newest state; `None` when it is gone.
pub(crate) type Change<K> = (Arc<str>, Option<Arc<K>>);

impl<K: client::Object> Inbox<K> {
    /// An inbox of everything an informer holds and will hold.
    pub(crate) fn of(informer: &client::Informer<K>, arrived: &Arc<Notify>) -> Arc<Self> {
        let inbox = Arc::new(Self {
            changes: Mutex::new(Changes { objects: Vec::new(), positions: HashMap::default() }),
            arrived: Arc::clone(arrived),
        });
        let sink = Arc::clone(&inbox);
        informer.on_event(move |event| {
            let state = match event {
                Event::Applied { new, .. } => Some(Arc::clone(new)),
                Event::Deleted(_) => None,
            };
            sink.put(Arc::from(client::key_of(event.object().as_ref())), state);
        });
        inbox
    }

    /// Everything that has come since the last call.
    pub(crate) fn take(&self) -> Vec<Change<K>> {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        changes.positions.clear();
        std::mem::take(&mut changes.objects)
    }

    fn put(&self, key: Arc<str>, state: Option<Arc<K>>) {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = &mut *changes;
        match changes.positions.get(&key) {
            Some(position) => changes.objects[*position].1 = state,
            None => {
                changes.positions.insert(Arc::clone(&key), changes.objects.len());
                changes.objects.push((key, state));
            }
        }
        self.arrived.notify_one();
    }
}
