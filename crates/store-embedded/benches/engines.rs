//! Measures storage engines under what a Kubernetes API server writes, for the choice written down in
//! `docs/benchmarks.md`, "Store engines":
//!
//! ```text
//! cargo bench -p store-embedded --bench engines -- [SECONDS [DIR]]
//! ```
//!
//! 64 writers, each with one write outstanding; values of 2 KiB; of four writes one overwrites one of
//! 1,000 leases, two overwrite the status of one of 10,000 pods, one creates a key. Writes that wait
//! together are committed together, each commit is synced. After SECONDS the process is killed with
//! SIGKILL, and another opens the directory and reads everything into memory.
//!
//! `kobune` is the engine of this crate through `Store::commit`: with its index, preconditions, history
//! and one watcher. The libraries get the same group commit and nothing else, so they are flattered.
#![allow(clippy::unwrap_used, reason = "a benchmark stops at the first surprise")]

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use store::{Compare, Store as _, Write};
use store_embedded::{Embedded, Options, open};
use tokio::{sync::oneshot, time::Instant};

const ENGINES: [&str; 3] = ["kobune", "fjall", "redb"];
const ROUNDS: usize = 3;
const WRITERS: usize = 64;
const VALUE_BYTES: usize = 2 << 10;
const LEASES: u64 = 1_000;
const PODS: u64 = 10_000;
const TABLE: redb::TableDefinition<'static, &'static str, &'static [u8]> = redb::TableDefinition::new("kv");

/// What is measured: durable when it returns.
#[async_trait]
trait Engine: Send + Sync + 'static {
    async fn put(&self, key: String, value: Bytes);
}

#[async_trait]
impl Engine for Embedded {
    async fn put(&self, key: String, value: Bytes) {
        self.commit(Write::put(key, Compare::Any, value)).await.unwrap();
    }
}

/// A library's synchronous, durable batch write and its reading of everything.
trait Library: Send + Sized + 'static {
    fn open(dir: &Path) -> Self;
    fn commit(&mut self, batch: &[Pending]);
    fn load(&self) -> BTreeMap<String, Vec<u8>>;
}

struct Pending {
    key: String,
    value: Bytes,
    done: oneshot::Sender<()>,
}

/// The same group commit as `store_embedded`'s queue: whoever finds the library idle takes it to the
/// blocking pool and commits until nothing waits.
struct Grouped<L>(Arc<Mutex<(Vec<Pending>, Option<L>)>>);

#[async_trait]
impl<L: Library> Engine for Grouped<L> {
    async fn put(&self, key: String, value: Bytes) {
        let (done, answer) = oneshot::channel();
        let library = {
            let mut state = self.0.lock().unwrap();
            state.0.push(Pending { key, value, done });
            state.1.take()
        };
        if let Some(mut library) = library {
            let shared = self.0.clone();
            tokio::task::spawn_blocking(move || {
                loop {
                    let batch = {
                        let mut state = shared.lock().unwrap();
                        if state.0.is_empty() {
                            state.1 = Some(library);
                            return;
                        }
                        std::mem::take(&mut state.0)
                    };
                    library.commit(&batch);
                    for pending in batch {
                        let _ = pending.done.send(());
                    }
                }
            });
        }
        answer.await.unwrap();
    }
}

struct Redb(redb::Database);

impl Library for Redb {
    fn open(dir: &Path) -> Self {
        fs::create_dir_all(dir).unwrap();
        let database = redb::Database::create(dir.join("redb")).unwrap();
        let write = database.begin_write().unwrap();
        write.open_table(TABLE).unwrap();
        write.commit().unwrap();
        Self(database)
    }

    fn commit(&mut self, batch: &[Pending]) {
        // Commits are `Durability::Immediate` by default.
        let write = self.0.begin_write().unwrap();
        {
            let mut table = write.open_table(TABLE).unwrap();
            for pending in batch {
                table.insert(pending.key.as_str(), &*pending.value).unwrap();
            }
        }
        write.commit().unwrap();
    }

    fn load(&self) -> BTreeMap<String, Vec<u8>> {
        use redb::{ReadableDatabase as _, ReadableTable as _};
        let read = self.0.begin_read().unwrap();
        let table = read.open_table(TABLE).unwrap();
        let entries = table.iter().unwrap().map(|entry| entry.unwrap());
        entries.map(|(key, value)| (key.value().to_owned(), value.value().to_vec())).collect()
    }
}

struct Fjall(fjall::Database, fjall::Keyspace);

impl Library for Fjall {
    fn open(dir: &Path) -> Self {
        let database = fjall::Database::builder(dir).open().unwrap();
        let keyspace = database.keyspace("kv", fjall::KeyspaceCreateOptions::default).unwrap();
        Self(database, keyspace)
    }

    fn commit(&mut self, batch: &[Pending]) {
        let mut write = self.0.batch().durability(Some(fjall::PersistMode::SyncData));
        for pending in batch {
            write.insert(&self.1, pending.key.as_str(), &*pending.value);
        }
        write.commit().unwrap();
    }

    fn load(&self) -> BTreeMap<String, Vec<u8>> {
        let entries = self.1.iter().map(|guard| guard.into_inner().unwrap());
        entries.map(|(key, value)| (String::from_utf8(key.to_vec()).unwrap(), value.to_vec())).collect()
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    match args.first().map(String::as_str) {
        Some("write") => runtime.block_on(write(&args[1], Path::new(&args[2]), args[3].parse().unwrap())),
        Some("reopen") => runtime.block_on(reopen(&args[1], Path::new(&args[2]))),
        seconds => {
            let seconds = seconds.map_or(20, |seconds| seconds.parse().unwrap());
            let parent = args.get(1).map_or_else(std::env::temp_dir, Into::into);
            compare(seconds, &parent);
        }
    }
}

/// Runs each engine in processes of its own and prints a table row for each.
fn compare(seconds: u64, parent: &Path) {
    println!(
        "| engine | writes/s | p50 ms | p99 ms | p99.9 ms | disk MiB at ¼ ½ ¾ 1 | live MiB | written/value bytes | peak RSS MiB | reopen + load ms |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    // Interleaved rounds, so that a busy moment of the machine does not decide.
    for engine in (0..ROUNDS).flat_map(|_| ENGINES) {
        let dir = parent.join(format!("kobune-engines-{engine}"));
        let _ = fs::remove_dir_all(&dir);
        let this = || {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.stdout(Stdio::piped());
            command
        };
        let mut writer = this().args(["write", engine]).arg(&dir).arg(seconds.to_string()).spawn().unwrap();
        let mut row = String::new();
        BufReader::new(writer.stdout.take().unwrap()).read_line(&mut row).unwrap();
        // It is still writing.
        writer.kill().unwrap();
        writer.wait().unwrap();
        let reopened = this().args(["reopen", engine]).arg(&dir).output().unwrap();
        println!("| {engine} | {} | {} |", row.trim(), String::from_utf8_lossy(&reopened.stdout).trim());
        let _ = fs::remove_dir_all(&dir);
    }
}

async fn write(engine: &str, dir: &Path, seconds: u64) {
    let engine: Arc<dyn Engine> = match engine {
        "kobune" => {
            let store = open(dir, Options::default()).await.unwrap();
            let mut watch = store.watch("", 0).unwrap();
            tokio::spawn(async move { while let Some(Ok(_)) = watch.next().await {} });
            Arc::new(store)
        }
        "redb" => Arc::new(Grouped(Arc::new(Mutex::new((Vec::new(), Some(Redb::open(dir))))))),
        "fjall" => Arc::new(Grouped(Arc::new(Mutex::new((Vec::new(), Some(Fjall::open(dir))))))),
        other => panic!("no engine {other}"),
    };
    let latencies: Vec<_> = (0..WRITERS).map(|_| Arc::new(Mutex::new(Vec::<u32>::new()))).collect();
    let start = Instant::now();
    for (writer, latencies) in latencies.iter().enumerate() {
        tokio::spawn(write_for_ever(engine.clone(), writer as u64, latencies.clone()));
    }
    let mut disk = Vec::new();
    for quarter in 1..=4_u32 {
        tokio::time::sleep_until(start + Duration::from_secs(seconds) * quarter / 4).await;
        disk.push((disk_bytes(dir) >> 20).to_string());
    }
    let elapsed = start.elapsed().as_secs_f64();
    let mut all: Vec<u32> = latencies.iter().flat_map(|one| one.lock().unwrap().clone()).collect();
    all.sort_unstable();
    let at = |quantile: f64| f64::from(all[((all.len() - 1) as f64 * quantile) as usize]) / 1000.0;
    let created = all.len() as u64 / 4;
    let live = ((LEASES + PODS + created) * VALUE_BYTES as u64) >> 20;
    let values = (all.len() * VALUE_BYTES) as f64;
    println!(
        "{:.0} | {:.2} | {:.2} | {:.2} | {} | {live} | {:.2} | {}",
        all.len() as f64 / elapsed,
        at(0.5),
        at(0.99),
        at(0.999),
        disk.join(" "),
        process_figure("/proc/self/io", "write_bytes:") as f64 / values,
        process_figure("/proc/self/status", "VmHWM:") >> 10,
    );
    std::future::pending::<()>().await;
}

async fn write_for_ever(engine: Arc<dyn Engine>, writer: u64, latencies: Arc<Mutex<Vec<u32>>>) {
    let mut state = writer + 1;
    let mut random = move || {
        // xorshift64*
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    };
    // Half of a JSON object's bytes are entropy, about: compression gains what it would in life.
    let mut template = Vec::with_capacity(VALUE_BYTES + 32);
    while template.len() < VALUE_BYTES {
        template.extend_from_slice(format!("\"field\":\"{:012x}\",", random()).as_bytes());
    }
    template.truncate(VALUE_BYTES);
    for n in 0_u64.. {
        let key = match n % 4 {
            0 => format!("/registry/leases.coordination.k8s.io/kube-node-lease/node-{}", random() % LEASES),
            1 | 2 => format!("/registry/pods/default/web-{}", random() % PODS),
            _ => format!("/registry/events/default/{writer}-{n}"),
        };
        template[..8].copy_from_slice(&n.to_le_bytes());
        let value = template.clone();
        let begin = Instant::now();
        engine.put(key, value.into()).await;
        latencies.lock().unwrap().push(begin.elapsed().as_micros() as u32);
    }
}

async fn reopen(engine: &str, dir: &Path) {
    let begin = Instant::now();
    let keys = match engine {
        "kobune" => {
            let store = open(dir, Options::default()).await.unwrap();
            store.range("", None, 0, None).await.unwrap().kvs.len()
        }
        "redb" => Redb::open(dir).load().len(),
        "fjall" => Fjall::open(dir).load().len(),
        other => panic!("no engine {other}"),
    };
    assert!(keys as u64 > LEASES);
    println!("{}", begin.elapsed().as_millis());
}

fn disk_bytes(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    // Files come and go meanwhile.
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let metadata = entry.metadata().ok()?;
            // Blocks and not lengths: engines preallocate and punch holes.
            use std::os::unix::fs::MetadataExt as _;
            Some(if metadata.is_dir() { disk_bytes(&entry.path()) } else { metadata.blocks() * 512 })
        })
        .sum()
}

/// The number after `name` in one of the kernel's process files.
fn process_figure(path: &str, name: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
