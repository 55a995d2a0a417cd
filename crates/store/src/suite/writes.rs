use std::sync::Arc;

use super::{get, put, remove, set};
use crate::{Compare, KEY_BYTES_MAX, Store, StoreError, Write};

/// Each precondition, met and not met, for puts and deletes; a refused write changes nothing.
pub async fn preconditions_hold(store: &dyn Store) {
    for compare in [Compare::Present, Compare::ModRevision(0), Compare::ModRevision(1)] {
        conflict(store, Write::put("/a", compare, "x"), None).await;
    }
    for compare in [Compare::Any, Compare::Absent, Compare::Present, Compare::ModRevision(0)] {
        conflict(store, Write::delete("/a", compare), None).await;
    }
    let first = put(store, "/a", Compare::Absent, "1").await.expect("create of an absent key");
    for compare in [Compare::Absent, Compare::ModRevision(0), Compare::ModRevision(first + 1)] {
        conflict(store, Write::put("/a", compare, "x"), Some(first)).await;
        conflict(store, Write::delete("/a", compare), Some(first)).await;
    }
    let second = put(store, "/a", Compare::ModRevision(first), "2").await.expect("update at its revision");
    let third = put(store, "/a", Compare::Present, "3").await.expect("update of a present key");
    let kv = get(store, "/a").await.expect("the key is there");
    assert_eq!((kv.create_revision, kv.mod_revision, &kv.value[..]), (first, third, &b"3"[..]));
    conflict(store, Write::delete("/a", Compare::ModRevision(second)), Some(third)).await;
    let deleted = store.commit(Write::delete("/a", Compare::ModRevision(third))).await.expect("delete");
    assert_eq!(deleted.previous, Some(kv), "a delete answers with what it removed");
    assert_eq!(get(store, "/a").await, None);
    let reborn = set(store, "/a", "4").await;
    let kv = get(store, "/a").await.expect("the key is there");
    assert_eq!((kv.create_revision, kv.mod_revision), (reborn, reborn), "a key is born again after a delete");
    let long = "k".repeat(KEY_BYTES_MAX + 1);
    let refused = store.commit(Write::put(long, Compare::Any, "x")).await;
    assert!(matches!(refused, Err(StoreError::TooLarge { .. })), "{refused:?}");
}

async fn conflict(store: &dyn Store, write: Write, at: Option<u64>) {
    let before = store.current_revision().await.expect("revision");
    match store.commit(write.clone()).await {
        Err(StoreError::Conflict { current }) => {
            assert_eq!(current.map(|kv| kv.mod_revision), at, "the conflict of {write:?} shows the key");
        }
        other => panic!("{write:?} should conflict: {other:?}"),
    }
    assert_eq!(store.current_revision().await.expect("revision"), before, "a refused write has no revision");
}

/// Revisions start at 1 and grow by one with each commit, deletes included.
pub async fn revisions_count_committed_writes(store: &dyn Store) {
    assert_eq!(store.current_revision().await.expect("revision"), 0);
    assert_eq!(set(store, "/a", "1").await, 1);
    assert_eq!(set(store, "/b", "1").await, 2);
    assert_eq!(set(store, "/a", "1").await, 3, "an equal value is still a write");
    assert_eq!(remove(store, "/b").await, 4);
    assert_eq!(store.current_revision().await.expect("revision"), 4);
}

/// Writers on different keys get distinct, gapless revisions, each growing in its own order, and see
/// their own write at once.
pub async fn concurrent_writers_share_one_order(store: Arc<dyn Store>) {
    let (writers, writes) = (16, 25);
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut revisions = Vec::new();
                for n in 0..writes {
                    let key = format!("/w{writer}");
                    let revision = set(&*store, &key, &n.to_string()).await;
                    let seen = get(&*store, &key).await.expect("own write is visible");
                    assert_eq!(seen.mod_revision, revision);
                    assert!(store.current_revision().await.expect("revision") >= revision);
                    revisions.push(revision);
                }
                revisions
            })
        })
        .collect();
    let mut all = Vec::new();
    for task in tasks {
        let revisions = task.await.expect("writer");
        assert!(revisions.is_sorted(), "a writer's revisions grow: {revisions:?}");
        all.extend(revisions);
    }
    all.sort_unstable();
    assert_eq!(all, (1..=writers * writes).collect::<Vec<_>>());
}

/// Of many writers that update the same revision, exactly one succeeds; the others see the winner.
pub async fn racing_writers_have_one_winner(store: Arc<dyn Store>) {
    let mut revision = set(&*store, "/a", "0").await;
    for _ in 0..10 {
        let tasks: Vec<_> = (0..8)
            .map(|writer: u32| {
                let store = store.clone();
                tokio::spawn(async move {
                    put(&*store, "/a", Compare::ModRevision(revision), &writer.to_string()).await
                })
            })
            .collect();
        let mut winners = Vec::new();
        let mut seen = Vec::new();
        for task in tasks {
            match task.await.expect("writer") {
                Ok(revision) => winners.push(revision),
                Err(StoreError::Conflict { current }) => seen.extend(current.map(|kv| kv.mod_revision)),
                Err(other) => panic!("unexpected: {other}"),
            }
        }
        assert_eq!(winners, [revision + 1]);
        assert_eq!(seen, [revision + 1; 7], "who loses sees the winner");
        revision += 1;
    }
}
