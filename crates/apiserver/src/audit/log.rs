//! The audit log: one JSON object per line, in files that are put aside when they are full.
//!
//! Requests never wait for it. Lines go into a bounded queue that a thread of its own empties; what does not
//! fit is counted and left out.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

/// Lines that wait.
const LINES_MAX: usize = 10_000;
/// Bytes that wait.
const BYTES_MAX: usize = 64 << 20;
/// Lines are on disk at the latest after this.
const FLUSH_EVERY: Duration = Duration::from_millis(500);
/// How long the end of the server waits for the last lines.
const FLUSH_WITHIN: Duration = Duration::from_secs(2);

/// Where the log is, and how much of it is kept. Zero: without bound.
#[derive(Clone, Debug, Default)]
pub struct LogConfig {
    /// The file; `-` is standard output.
    pub path: PathBuf,
    /// Megabytes of a file before it is put aside.
    pub max_megabytes: u64,
    /// Files that were put aside and are kept.
    pub max_backups: usize,
    /// Days for which they are kept.
    pub max_age_days: u64,
}

enum Message {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// The near end of the queue.
pub(super) struct Log {
    queue: SyncSender<Message>,
    waiting: Arc<AtomicUsize>,
    dropped: AtomicU64,
}

impl Log {
    /// Opens the file and starts the thread.
    pub fn open(config: LogConfig) -> io::Result<Self> {
        let files = Files::open(config)?;
        let (queue, lines) = sync_channel(LINES_MAX);
        let waiting = Arc::new(AtomicUsize::new(0));
        let counter = waiting.clone();
        std::thread::Builder::new().name("audit".to_owned()).spawn(move || write(&lines, files, &counter))?;
        Ok(Self { queue, waiting, dropped: AtomicU64::new(0) })
    }

    /// Adds a line, which ends with a newline.
    pub fn add(&self, line: Vec<u8>) {
        let size = line.len();
        let fits = self.waiting.fetch_add(size, Ordering::Relaxed) + size <= BYTES_MAX;
        if fits && self.queue.try_send(Message::Line(line)).is_ok() {
            return;
        }
        self.waiting.fetch_sub(size, Ordering::Relaxed);
        // Said at the first, the second, the fourth … lost line: a full queue must not fill the log, too.
        let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
        if dropped.is_power_of_two() {
            tracing::error!(dropped, "the audit log does not keep up; events are lost");
        }
    }

    /// Waits a moment until what was added is written.
    pub fn flush(&self) {
        let (done, wait) = sync_channel(1);
        if self.queue.try_send(Message::Flush(done)).is_ok() {
            let _ = wait.recv_timeout(FLUSH_WITHIN);
        }
    }
}

fn write(lines: &Receiver<Message>, mut files: Files, waiting: &AtomicUsize) {
    let mut dirty = false;
    loop {
        let next = if dirty {
            lines.recv_timeout(FLUSH_EVERY)
        } else {
            lines.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        let result = match next {
            Ok(Message::Line(line)) => {
                waiting.fetch_sub(line.len(), Ordering::Relaxed);
                dirty = true;
                files.write(&line)
            }
            Ok(Message::Flush(done)) => {
                dirty = false;
                let result = files.out.flush();
                let _ = done.try_send(());
                result
            }
            Err(RecvTimeoutError::Timeout) => {
                dirty = false;
                files.out.flush()
            }
            Err(RecvTimeoutError::Disconnected) => {
                let _ = files.out.flush();
                return;
            }
        };
        if let Err(error) = result {
            tracing::error!(%error, path = %files.config.path.display(), "the audit log cannot be written");
        }
    }
}

struct Files {
    config: LogConfig,
    out: BufWriter<Box<dyn Write + Send>>,
    size: u64,
}

fn open(path: &Path) -> io::Result<(Box<dyn Write + Send>, u64)> {
    use std::os::unix::fs::OpenOptionsExt;
    if path == Path::new("-") {
        return Ok((Box::new(io::stdout()), 0));
    }
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        fs::create_dir_all(dir)?;
    }
    let file: File = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    let size = file.metadata()?.len();
    Ok((Box::new(file), size))
}

impl Files {
    fn open(config: LogConfig) -> io::Result<Self> {
        let (out, size) = open(&config.path)?;
        Ok(Self { out: BufWriter::with_capacity(256 << 10, out), size, config })
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let limit = self.config.max_megabytes << 20;
        if limit > 0 && self.size > 0 && self.size + line.len() as u64 > limit {
            self.put_aside()?;
        }
        self.size += line.len() as u64;
        self.out.write_all(line)
    }

    fn put_aside(&mut self) -> io::Result<()> {
        self.out.flush()?;
        let path = &self.config.path;
        if path == Path::new("-") {
            return Ok(());
        }
        let time = base::clock::now().strftime("%Y-%m-%dT%H-%M-%S.%3f");
        let (stem, extension) = name_parts(path);
        fs::rename(path, path.with_file_name(format!("{stem}-{time}{extension}")))?;
        let (out, size) = open(path)?;
        self.out = BufWriter::with_capacity(256 << 10, out);
        self.size = size;
        self.remove_old()
    }

    fn remove_old(&self) -> io::Result<()> {
        let (stem, extension) = name_parts(&self.config.path);
        let dir = self.config.path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let dir = dir.unwrap_or(Path::new("."));
        let mut old: Vec<String> = fs::read_dir(dir)?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| is_aside(name, &stem, &extension).is_some())
            .collect();
        // The names order by time; newest first.
        old.sort_unstable_by(|a, b| b.cmp(a));
        let oldest = base::clock::now().as_second() - (self.config.max_age_days * 86_400).cast_signed();
        let oldest = jiff::Timestamp::from_second(oldest).unwrap_or_default();
        let oldest = oldest.strftime("%Y-%m-%dT%H-%M-%S.%3f").to_string();
        for (index, name) in old.iter().enumerate() {
            let too_many = self.config.max_backups > 0 && index >= self.config.max_backups;
            let time = is_aside(name, &stem, &extension).unwrap_or_default();
            let too_old = self.config.max_age_days > 0 && time < oldest.as_str();
            if too_many || too_old {
                fs::remove_file(dir.join(name))?;
            }
        }
        Ok(())
    }
}

/// The time in the name of a file that was put aside.
fn is_aside<'a>(name: &'a str, stem: &str, extension: &str) -> Option<&'a str> {
    let time = name.strip_prefix(stem)?.strip_prefix('-')?.strip_suffix(extension)?;
    let of_time =
        time.len() == "2026-11-20T17-31-00.000".len() && time.bytes().filter(|b| *b == b'T').count() == 1;
    of_time.then_some(time)
}

fn name_parts(path: &Path) -> (String, String) {
    let text = |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned());
    let extension = text(path.extension()).map(|extension| format!(".{extension}"));
    (text(path.file_stem()).unwrap_or_default(), extension.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_files_are_put_aside_and_old_ones_removed() {
        let dir = std::env::temp_dir().join(format!("kobune-audit-{}", base::rng::name_suffix(10)));
        let config =
            LogConfig { path: dir.join("audit.log"), max_megabytes: 1, max_backups: 1, max_age_days: 0 };
        let log = Log::open(config).unwrap();
        fs::write(dir.join("audit-2020-01-01T00-00-00.000.log"), "old").unwrap();
        fs::write(dir.join("audit-of-something-else.log"), "mine").unwrap();
        let mut line = vec![b'x'; 700 << 10];
        line.push(b'\n');
        log.add(line.clone());
        log.add(line);
        log.flush();
        let mut names: Vec<String> = fs::read_dir(&dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names.len(), 3, "{names:?}");
        assert!(
            names.contains(&"audit.log".to_owned())
                && names.contains(&"audit-of-something-else.log".to_owned())
        );
        assert!(!names.contains(&"audit-2020-01-01T00-00-00.000.log".to_owned()));
        assert_eq!(log.dropped.load(Ordering::Relaxed), 0);
        fs::remove_dir_all(dir).unwrap();
    }
}
