//! The suite on the durable engine, and what only a disk can get wrong.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures::StreamExt as _;
use store::{Compare, Store as _, StoreError, Write, suite};
use store_embedded::{Embedded, OpenError, Options, open};
use tempfile::TempDir;

/// Small enough that tests pass through many snapshots.
const SMALL: Options = Options {
    sync: false,
    log_bytes_min: 16 << 10,
    limits: store::Limits { history_events: 1000, history_bytes: 1 << 20 },
};

fn temp() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

async fn reopen(dir: &Path) -> Embedded {
    open(dir, SMALL).await.expect("open")
}

async fn set(store: &Embedded, key: &str, value: impl Into<bytes::Bytes>) -> u64 {
    store.commit(Write::put(key, Compare::Any, value)).await.expect("put").revision
}

#[tokio::test(start_paused = true)]
async fn embedded_passes_the_suite() {
    let root = temp();
    let next = std::cell::Cell::new(0);
    suite::run(|limits| {
        next.set(next.get() + 1);
        let dir = root.path().join(next.get().to_string());
        async move { open(dir, Options { limits, ..SMALL }).await.expect("open") }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embedded_passes_the_suite_on_threads() {
    let root = temp();
    let next = std::cell::Cell::new(0);
    suite::run(|limits| {
        next.set(next.get() + 1);
        let dir = root.path().join(next.get().to_string());
        async move { open(dir, Options { limits, ..Options::default() }).await.expect("open") }
    })
    .await;
}

#[tokio::test]
async fn a_reopened_store_continues_where_it_was() {
    let dir = temp();
    let store = reopen(dir.path()).await;
    set(&store, "/a", "1").await;
    set(&store, "/b", "2").await;
    set(&store, "/a", "3").await;
    store.commit(Write::delete("/b", Compare::Any)).await.expect("delete");
    let before = store.range("", None, 0, None).await.expect("range");
    store.close().await.expect("close");
    assert!(matches!(store.get("/a").await, Err(StoreError::Closed)));
    assert!(matches!(store.commit(Write::delete("/a", Compare::Any)).await, Err(StoreError::Closed)));
    assert!(matches!(store.close().await, Err(StoreError::Closed)));
    drop(store);

    let store = reopen(dir.path()).await;
    assert_eq!(store.range("", None, 0, None).await.expect("range"), before);
    let old = store.range("", None, 0, Some(2)).await.expect("history survives, too");
    assert_eq!(old.kvs.len(), 2);
    let batch = store.watch("", 3).expect("watch").next().await.expect("batch").expect("no error");
    assert_eq!((batch.revision, batch.events.len()), (4, 1));
    assert_eq!(set(&store, "/c", "5").await, 5);
}

#[tokio::test]
async fn closing_ends_watches_and_dropping_does_too() {
    for close in [true, false] {
        let dir = temp();
        let store = reopen(dir.path()).await;
        let mut stream = store.watch("", 0).expect("watch");
        set(&store, "/a", "1").await;
        if close {
            store.close().await.expect("close");
        } else {
            drop(store);
        }
        let batch = stream.next().await.expect("what happened before the end").expect("no error");
        assert_eq!(batch.revision, 1);
        assert!(matches!(stream.next().await, Some(Err(StoreError::Closed))));
        assert!(stream.next().await.is_none());
    }
}

#[tokio::test]
async fn a_second_opener_learns_who_holds_the_directory() {
    let dir = temp();
    let store = reopen(dir.path()).await;
    match open(dir.path(), SMALL).await {
        Err(OpenError::Locked { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
        other => panic!("expected a locked directory: {:?}", other.err()),
    }
    store.close().await.expect("close");
    reopen(dir.path()).await;
}

#[tokio::test]
async fn nobody_else_may_read_the_files() {
    use std::os::unix::fs::PermissionsExt as _;
    let root = temp();
    let dir = root.path().join("data");
    let store = reopen(&dir).await;
    for n in 0..200 {
        set(&store, "/secret", vec![n; 200]).await;
    }
    store.close().await.expect("close");
    let mode = |path: &Path| fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for entry in fs::read_dir(&dir).expect("read_dir") {
        let path = entry.expect("entry").path();
        assert!(path.ends_with("LOCK") || mode(&path) == 0o600, "{}: {:o}", path.display(), mode(&path));
    }
}

fn disk_bytes(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).expect("read_dir");
    // A file may go between being listed and being looked at.
    entries.filter_map(|entry| entry.ok()?.metadata().ok()).map(|metadata| metadata.len()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hot_overwrites_do_not_grow_the_disk() {
    let dir = temp();
    let store = Arc::new(reopen(dir.path()).await);
    let (mut largest, mut written) = (0, 0);
    for round in 0..400_u64 {
        for lease in 0..20 {
            written += set(&store, &format!("/lease/{lease}"), vec![round as u8; 200]).await.min(1) * 200;
        }
        largest = largest.max(disk_bytes(dir.path()));
    }
    assert!(
        written > 1_500_000 && largest < 20 * SMALL.log_bytes_min,
        "{largest} bytes for {written} written"
    );
    let before = store.range("", None, 0, None).await.expect("range");
    store.close().await.expect("close");
    drop(store);
    assert_eq!(reopen(dir.path()).await.range("", None, 0, None).await.expect("range"), before);
}

/// Writes `/0` … `/4`, each in a frame of its own, and returns the log file and where the frames end.
async fn five_frames(dir: &Path) -> (PathBuf, Vec<u64>) {
    let store = open(dir, Options::default()).await.expect("open");
    let log = dir.join(format!("log-{:020}", 1));
    let mut ends = Vec::new();
    for n in 0..5 {
        set(&store, &format!("/{n}"), format!("value {n}")).await;
        // Behind the last frame there are only blocks allocated ahead.
        let bytes = fs::read(&log).expect("the log");
        ends.push(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1));
    }
    store.close().await.expect("close");
    (log, ends)
}

#[tokio::test]
async fn a_tail_torn_at_any_byte_is_cut_off() {
    let dir = temp();
    let (log, ends) = five_frames(dir.path()).await;
    let whole = fs::read(&log).expect("read");
    for len in ends[3]..ends[4] {
        let mut shapes = vec![whole[..len as usize].to_vec()];
        // A file may have its new length before it has its new bytes.
        shapes.push([&whole[..len as usize], &vec![0; (ends[4] - len) as usize]].concat());
        for shape in shapes {
            fs::write(&log, &shape).expect("write");
            let store = reopen(dir.path()).await;
            assert_eq!(store.current_revision().await.expect("revision"), 4, "cut at {len}");
            assert!(store.get("/4").await.expect("get").is_none());
            assert_eq!(set(&store, "/5", "after").await, 5);
            store.close().await.expect("close");
            let store = reopen(dir.path()).await;
            assert_eq!(store.range("", None, 0, None).await.expect("range").kvs.len(), 5);
            store.close().await.expect("close");
        }
    }
}

#[tokio::test]
async fn damage_before_the_tail_is_refused_not_dropped() {
    let dir = temp();
    let (log, ends) = five_frames(dir.path()).await;
    let whole = fs::read(&log).expect("read");
    for at in 0..ends[3] as usize {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        fs::write(&log, &damaged).expect("write");
        match open(dir.path(), SMALL).await {
            Err(OpenError::Corrupt { .. }) => {}
            other => panic!("damage at byte {at} went unnoticed: {:?}", other.err()),
        }
        assert_eq!(fs::read(&log).expect("read"), damaged, "a refused file is left as it is");
    }
}

#[tokio::test]
async fn a_segment_torn_in_its_header_begins_anew() {
    let dir = temp();
    reopen(dir.path()).await.close().await.expect("close");
    let log = dir.path().join(format!("log-{:020}", 1));
    for len in 0..16 {
        fs::write(&log, vec![0; len]).expect("write");
        let store = reopen(dir.path()).await;
        assert_eq!(store.current_revision().await.expect("revision"), 0);
        store.close().await.expect("close");
    }
}
