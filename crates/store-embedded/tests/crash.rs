//! Kills a writing process at random moments, many times over one data directory, and compares what is
//! there afterwards with what had been acknowledged.
//!
//! Each writer in the child repeats a sequence of operations that is a function of the round and the
//! operation's number, one at a time, and prints every acknowledgement to a pipe. So after the kill a
//! writer's keys must be in the state after its last acknowledged operation or after the one that was in
//! flight; anything else is a lost, halved or invented write.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use store::{Compare, KeyValue, Limits, Revision, Store as _, StoreError, Write};
use store_embedded::{Embedded, Options, open};

const ROUNDS: u64 = 40;
const WRITERS: u64 = 16;
const KEYS_PER_WRITER: u64 = 5;

fn options() -> Options {
    // So small that kills also hit rotations and snapshots.
    Options {
        log_bytes_min: 256 << 10,
        limits: Limits { history_events: 500, history_bytes: 1 << 20 },
        ..Options::default()
    }
}

fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The operation `n` of a writer: a key and the value to put, or `None` to delete it.
fn operation(round: u64, writer: u64, n: u64) -> (String, Option<String>) {
    let dice = mix(mix(mix(round) ^ writer) ^ n);
    let key = format!("/{writer}/{}", dice % KEYS_PER_WRITER);
    if dice >> 8 & 7 == 0 { (key, None) } else { (key, Some(value(round, writer, n))) }
}

/// A value of up to 4 KiB that says where it comes from and differs in every part.
fn value(round: u64, writer: u64, n: u64) -> String {
    let mut value = format!("{round} {writer} {n}");
    let mut seed = mix(mix(round ^ writer << 32) ^ n);
    let len = seed % 4096;
    while (value.len() as u64) < len {
        seed = mix(seed);
        value.push_str(&format!(" {seed:x}"));
    }
    value
}

#[test]
#[ignore = "the child of acknowledged_writes_survive_sigkill"]
fn child() {
    let Ok(setting) = std::env::var("CRASH_CHILD") else { return };
    let (round, dir) = setting.split_once(' ').expect("ROUND DIR");
    let round = round.parse().expect("a round");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("runtime");
    runtime.block_on(async {
        let store = Arc::new(open(dir, options()).await.expect("open"));
        // The test harness leaves its own text on the line.
        println!();
        let writers = (0..WRITERS).map(|writer| tokio::spawn(write_for_ever(store.clone(), round, writer)));
        for writer in writers.collect::<Vec<_>>() {
            writer.await.expect("writer");
        }
    });
}

async fn write_for_ever(store: Arc<Embedded>, round: u64, writer: u64) {
    for n in 0.. {
        let (key, value) = operation(round, writer, n);
        let write = match value {
            Some(value) => Write::put(key, Compare::Any, value),
            None => Write::delete(key, Compare::Any),
        };
        let revision = match store.commit(write).await {
            Ok(committed) => committed.revision,
            Err(StoreError::Conflict { current: None }) => 0,
            Err(error) => panic!("writer {writer}: {error}"),
        };
        // Who dies is decided by the parent; a closed pipe means that it already has.
        if writeln!(std::io::stdout(), "ack {writer} {n} {revision}").is_err() {
            return;
        }
        let lease = Write::put("/lease", Compare::Any, value_of_lease(round, writer, n));
        let revision = store.commit(lease).await.expect("an unconditional put succeeds").revision;
        if writeln!(std::io::stdout(), "lease {revision}").is_err() {
            return;
        }
    }
}

fn value_of_lease(round: u64, writer: u64, n: u64) -> String {
    value(round, writer + WRITERS, n)
}

#[derive(Default)]
struct Acknowledged {
    /// Per writer: number of acknowledged operations and the revision of each (0: nothing to delete).
    revisions: BTreeMap<u64, Vec<Revision>>,
    lease: Revision,
}

/// Runs a child, kills it after `kill_after` acknowledgements and returns everything it acknowledged.
fn run_and_kill(round: u64, dir: &Path, kill_after: u64) -> Acknowledged {
    let mut child = Command::new(std::env::current_exe().expect("own path"))
        .args(["--ignored", "--exact", "child", "--nocapture"])
        .env("CRASH_CHILD", format!("{round} {}", dir.display()))
        .stdout(Stdio::piped())
        .spawn()
        .expect("spawn");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut acknowledged = Acknowledged::default();
    let (mut line, mut count) = (String::new(), 0);
    loop {
        line.clear();
        // The kill may cut the last line; without its end it says nothing.
        if lines.read_line(&mut line).expect("read") == 0 || !line.ends_with('\n') {
            break;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| words[at].parse::<u64>().expect("a number");
        match words.first() {
            Some(&"ack") => {
                let revisions = acknowledged.revisions.entry(number(1)).or_default();
                assert_eq!(number(2), revisions.len() as u64, "a writer acknowledges in order");
                revisions.push(number(3));
                count += 1;
            }
            Some(&"lease") => acknowledged.lease = acknowledged.lease.max(number(1)),
            _ => {}
        }
        if count == kill_after {
            child.kill().expect("SIGKILL");
        }
    }
    child.wait().expect("wait");
    assert!(count >= kill_after, "the child of round {round} died by itself");
    acknowledged
}

type State = BTreeMap<String, (Revision, String)>;

fn apply(state: &mut State, round: u64, writer: u64, n: u64, revision: Revision) {
    match operation(round, writer, n) {
        (key, Some(value)) => state.insert(key, (revision, value)),
        (key, None) => state.remove(&key),
    };
}

#[tokio::test]
async fn acknowledged_writes_survive_sigkill() {
    let seed = std::env::var("CRASH_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_120);
    println!("CRASH_SEED={seed}");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut states: BTreeMap<u64, State> = (0..WRITERS).map(|writer| (writer, State::new())).collect();
    let (mut highest, mut total) = (0, 0);
    for round in 0..ROUNDS {
        let kill_after = 1 + mix(seed ^ round) % 1200;
        let acknowledged = run_and_kill(round, dir.path(), kill_after);
        let store = open(dir.path(), options()).await.expect("reopen");
        let context = format!("seed {seed}, round {round}");

        let revision = store.current_revision().await.expect("revision");
        let seen =
            acknowledged.revisions.values().flatten().copied().max().unwrap_or(0).max(acknowledged.lease);
        assert!(
            revision >= seen && revision >= highest,
            "{context}: back to {revision} from {seen}, {highest}"
        );
        for revisions in acknowledged.revisions.values() {
            let first = revisions.iter().find(|revision| **revision > 0);
            assert!(first.is_none_or(|first| *first > highest), "{context}: a revision was given twice");
            total += revisions.len();
        }
        highest = revision;

        for (writer, state) in &mut states {
            let none = Vec::new();
            let revisions = acknowledged.revisions.get(writer).unwrap_or(&none);
            for (n, revision) in revisions.iter().enumerate() {
                apply(state, round, *writer, n as u64, *revision);
            }
            let range = store.range(&format!("/{writer}/"), None, 0, None).await.expect("range");
            let found: State = range.kvs.iter().map(text).collect();
            if found != *state {
                // Not the acknowledged state: then exactly the operation in flight was added.
                let n = revisions.len() as u64;
                let (key, _) = operation(round, *writer, n);
                let added = found.get(&key).map_or(0, |(revision, _)| *revision);
                apply(state, round, *writer, n, added);
                assert_eq!(found, *state, "{context}, writer {writer} after {n} acknowledgements");
                let last = revisions.last().copied().unwrap_or(0);
                assert!(added == 0 || added > last, "{context}: {added} after {last}");
            }
        }
        let lease = store.get("/lease").await.expect("get");
        let lease_revision = lease.as_ref().map_or(0, |kv| kv.mod_revision);
        assert!(lease_revision >= acknowledged.lease, "{context}: the lease went back");
        if let Some(kv) = lease {
            let text = std::str::from_utf8(&kv.value).expect("text");
            let mut source = text.split(' ').map(|word| word.parse::<u64>().expect("a number"));
            let mut next = || source.next().expect("round, writer, n");
            assert_eq!(text, value(next(), next(), next()), "{context}: half a lease");
        }
        store.close().await.expect("close");
    }
    println!("{ROUNDS} kills, {total} acknowledged writes, revision {highest}");
}

fn text(kv: &KeyValue) -> (String, (Revision, String)) {
    (kv.key.to_string(), (kv.mod_revision, String::from_utf8_lossy(&kv.value).into_owned()))
}
