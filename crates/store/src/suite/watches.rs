use std::{collections::BTreeMap, sync::Arc};

use futures::StreamExt as _;

use super::{Random, remove, set};
use crate::{Compare, Event, EventKind, Limits, Revision, Store, StoreError, WatchStream, Write};

/// Events up to `until`, checking what holds for every stream: batches grow, and events lie within them.
async fn collect(stream: &mut WatchStream, mut after: Revision, until: Revision) -> Vec<Event> {
    let mut events = Vec::new();
    while after < until {
        let batch = stream.next().await.expect("the stream goes on").expect("the stream has no error");
        assert!(batch.revision > after, "batch revisions grow: {} after {after}", batch.revision);
        for event in batch.events {
            let revision = event.kv.mod_revision;
            assert!(
                revision > after && revision <= batch.revision,
                "{revision} in ({after}, {}]",
                batch.revision
            );
            after = revision;
            events.push(event);
        }
        after = batch.revision;
    }
    events
}

/// A watch delivers what came after its revision and nothing else, with the state before and after.
pub async fn a_watch_resumes_from_a_revision(store: &dyn Store) {
    set(store, "/a", "1").await;
    set(store, "/a", "2").await;
    remove(store, "/a").await;
    set(store, "/b", "4").await;
    for after in 0..=4 {
        let mut stream = store.watch("", after).expect("watch");
        let events = collect(&mut stream, after, 4).await;
        let revisions: Vec<_> = events.iter().map(|event| event.kv.mod_revision).collect();
        assert_eq!(revisions, (after + 1..=4).collect::<Vec<_>>());
    }
    assert!(matches!(store.watch("", 5), Err(StoreError::FutureRevision { current: 4 })));
    let events = collect(&mut store.watch("", 0).expect("watch"), 0, 4).await;
    let kinds: Vec<_> = events.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::Put, EventKind::Put, EventKind::Delete, EventKind::Put]);
    assert_eq!(events[0].previous, None);
    assert_eq!(events[1].previous.as_ref(), Some(&events[0].kv));
    assert_eq!(events[2].previous.as_ref(), Some(&events[1].kv));
    let deleted = &events[2].kv;
    assert_eq!((&deleted.value[..], deleted.create_revision, deleted.mod_revision), (&b"2"[..], 1, 3));
    assert_eq!(events[3].kv.create_revision, 4);
}

/// A prefix watch sees its keys only, and learns how far the store has come when nothing matched.
pub async fn a_watch_of_a_prefix_reports_progress(store: &dyn Store) {
    let mut stream = store.watch("/pods/", 0).expect("watch");
    set(store, "/nodes/1", "").await;
    set(store, "/pods/1", "").await;
    set(store, "/podsx", "").await;
    let events = collect(&mut stream, 0, 3).await;
    assert_eq!(events.iter().map(|event| &*event.kv.key).collect::<Vec<_>>(), ["/pods/1"]);
    set(store, "/nodes/2", "").await;
    let batch = stream.next().await.expect("progress").expect("no error");
    assert_eq!((batch.revision, batch.events.len()), (4, 0));
}

/// Replaying the events of watches opened at any time, before and during concurrent writes, gives the
/// store's own content.
pub async fn a_watch_has_no_gap_and_no_duplicate_while_writers_run(store: Arc<dyn Store>) {
    let (writers, writes) = (8_u64, 100);
    let mut watchers = vec![tokio::spawn(replay(store.clone(), 0, writers * writes))];
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 0..writes {
                    set(&*store, &format!("/{writer}/{}", n % 10), &n.to_string()).await;
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for _ in 0..20 {
        let after = store.current_revision().await.expect("revision");
        watchers.push(tokio::spawn(replay(store.clone(), after, writers * writes)));
        tokio::task::yield_now().await;
    }
    for task in tasks.into_iter().chain(watchers) {
        task.await.expect("task");
    }
}

async fn replay(store: Arc<dyn Store>, after: Revision, until: Revision) {
    let start = store.range("", None, 0, Some(after)).await.expect("range");
    let mut state: BTreeMap<_, _> = start.kvs.into_iter().map(|kv| (kv.key.clone(), kv)).collect();
    let mut stream = store.watch("", after).expect("watch");
    let mut next = after;
    for event in collect(&mut stream, after, until).await {
        next += 1;
        assert_eq!(event.kv.mod_revision, next, "no gap, no duplicate");
        let previous = state.insert(event.kv.key.clone(), event.kv);
        assert_eq!(previous, event.previous);
    }
    let end = store.range("", None, 0, Some(until)).await.expect("range");
    assert_eq!(state.into_values().collect::<Vec<_>>(), end.kvs);
}

/// Old history goes by itself: hot overwrites keep no more than the limits allow.
pub async fn history_is_bounded(store: &dyn Store, limits: Limits) {
    let writes = 10 * limits.history_events as u64;
    for n in 0..writes {
        set(store, &format!("/lease/{}", n % 3), "renewed").await;
    }
    let Err(StoreError::Compacted { oldest }) = store.range("", None, 0, Some(1)).await else {
        panic!("revision 1 should be compacted after {writes} writes");
    };
    assert!(oldest >= writes - limits.history_events as u64 && oldest <= writes, "oldest is {oldest}");
    assert_eq!(store.range("", None, 0, Some(oldest)).await.expect("range").kvs.len(), 3);
    let big = "x".repeat(limits.history_bytes / 4);
    for _ in 0..8 {
        set(store, "/big", &big).await;
    }
    let last = store.current_revision().await.expect("revision");
    let oldest = match store.watch("", last - 8) {
        Err(StoreError::Compacted { oldest }) => oldest,
        other => panic!("the history is bounded in bytes, too: {:?}", other.err()),
    };
    assert!(oldest >= last - 4, "{oldest} of {last}");
}

/// A watcher that does not read while history passes it by gets `Compacted` as its last item; one that
/// keeps up gets everything.
pub async fn a_slow_watcher_is_told_not_fed(store: &dyn Store, limits: Limits) {
    let mut slow = store.watch("", 0).expect("watch");
    let mut steady = store.watch("", 0).expect("watch");
    let mut random = Random(7);
    for n in 1..=2 * limits.history_events as u64 {
        let key = format!("/{}", random.below(5));
        store.commit(Write::put(key, Compare::Any, "x")).await.expect("put");
        assert_eq!(collect(&mut steady, n - 1, n).await.len(), 1);
    }
    let told = slow.next().await;
    assert!(matches!(told, Some(Err(StoreError::Compacted { .. }))), "{told:?}");
    assert!(slow.next().await.is_none(), "an error ends the stream");
    let revision = store.current_revision().await.expect("revision");
    let mut behind = store.watch("", revision - 10).expect("watch");
    store.compact(revision).await.expect("compact");
    let told = behind.next().await;
    assert!(matches!(told, Some(Err(StoreError::Compacted { .. }))), "{told:?}");
}
