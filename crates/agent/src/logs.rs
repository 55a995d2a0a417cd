//! Container logs: reading them in CRI's format, and rotating them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use runtime::{ContainerState, Labels, Runtime};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, SeekFrom};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::Shared;
use crate::identity::{CONTAINER_NAME, POD_UID};

const ROTATE_EVERY: Duration = Duration::from_secs(10);
const LOG_BYTES_MAX: u64 = 10 << 20;
/// Files of one container, the current one included.
const LOG_FILES_MAX: usize = 5;
/// How often a followed log is looked at for more.
const FOLLOW_EVERY: Duration = Duration::from_millis(100);
const CHUNK_BYTES: usize = 32 * 1024;

/// Which part of a log to read.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Options {
    pub follow: bool,
    pub tail_lines: Option<u64>,
    pub since: Option<Timestamp>,
    pub timestamps: bool,
    pub limit_bytes: Option<u64>,
    /// Only this stream, `Stdout` or `Stderr`.
    pub stream: Option<String>,
}

/// Sends what the options ask for until the end, or until nobody listens.
pub(crate) async fn read(
    runtime: Arc<dyn Runtime>,
    container: String,
    path: PathBuf,
    options: Options,
    out: mpsc::Sender<io::Result<Bytes>>,
) {
    if let Err(error) = send(runtime.as_ref(), &container, &path, &options, &out).await {
        // The reader may be gone, which is how most followed logs end.
        let _ = out.send(Err(error)).await;
    }
}

async fn send(
    runtime: &dyn Runtime,
    container: &str,
    path: &Path,
    options: &Options,
    out: &mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<()> {
    let mut file = File::open(path).await?;
    let start = match options.tail_lines {
        Some(lines) => tail_offset(&mut file, lines).await?,
        None => 0,
    };
    file.seek(SeekFrom::Start(start)).await?;
    let mut formatter = Formatter { options, left: options.limit_bytes };
    let (mut pending, mut buffer) = (Vec::new(), vec![0; CHUNK_BYTES]);
    let mut last_look = false;
    loop {
        let length = file.read(&mut buffer).await?;
        if length > 0 {
            last_look = false;
            pending.extend_from_slice(&buffer[..length]);
            let text = formatter.lines(&mut pending);
            if !text.is_empty() && out.send(Ok(Bytes::from(text))).await.is_err() {
                return Ok(());
            }
            if formatter.left == Some(0) {
                return Ok(());
            }
            continue;
        }
        if !options.follow || last_look {
            return Ok(());
        }
        if let Some(next) = rotated(path, &file).await? {
            file = next;
            continue;
        }
        // What was written between the end of the file and the container's death is read once more.
        last_look = !is_running(runtime, container).await;
        if !last_look {
            tokio::select! {
                () = sleep(FOLLOW_EVERY) => {}
                () = out.closed() => return Ok(()),
            }
        }
    }
}

async fn is_running(runtime: &dyn Runtime, container: &str) -> bool {
    runtime
        .container(container)
        .await
        .is_ok_and(|c| matches!(c.state, ContainerState::Running | ContainerState::Created))
}

/// The new file, if the log was rotated away under us.
async fn rotated(path: &Path, current: &File) -> io::Result<Option<File>> {
    use std::os::unix::fs::MetadataExt;
    let ours = current.metadata().await?.ino();
    match tokio::fs::metadata(path).await {
        Ok(meta) if meta.ino() != ours => File::open(path).await.map(Some),
        _ => Ok(None),
    }
}

/// Where the last `lines` lines begin.
async fn tail_offset(file: &mut File, lines: u64) -> io::Result<u64> {
    let length = file.metadata().await?.len();
    let (mut end, mut seen) = (length, 0);
    if lines == 0 {
        return Ok(length);
    }
    let mut buffer = vec![0; CHUNK_BYTES];
    while end > 0 {
        let begin = end.saturating_sub(CHUNK_BYTES as u64);
        file.seek(SeekFrom::Start(begin)).await?;
        let chunk = &mut buffer[..(end - begin) as usize];
        file.read_exact(chunk).await?;
        for (i, byte) in chunk.iter().enumerate().rev() {
            let position = begin + i as u64;
            // The newline that ends the last line does not begin another one.
            if *byte == b'\n' && position + 1 != length {
                seen += 1;
                if seen == lines {
                    return Ok(position + 1);
                }
            }
        }
        end = begin;
    }
    Ok(0)
}

struct Formatter<'a> {
    options: &'a Options,
    /// Bytes that may still be sent.
    left: Option<u64>,
}

impl Formatter<'_> {
    /// Takes the complete lines out of `pending` and formats them.
    fn lines(&mut self, pending: &mut Vec<u8>) -> Vec<u8> {
        let Some(end) = pending.iter().rposition(|b| *b == b'\n') else { return Vec::new() };
        let rest = pending.split_off(end + 1);
        let complete = std::mem::replace(pending, rest);
        let mut out = Vec::with_capacity(complete.len());
        for line in complete.split_inclusive(|b| *b == b'\n') {
            self.line(line, &mut out);
        }
        if let Some(left) = &mut self.left {
            out.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= out.len() as u64;
        }
        out
    }

    /// `<time> <stream> <P|F> <text>`; a partial line (`P`) continues on the next one.
    fn line(&self, line: &[u8], out: &mut Vec<u8>) {
        let mut fields = line.splitn(4, |b| *b == b' ');
        let (Some(time), Some(stream), Some(tag), Some(text)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return;
        };
        let time_text = String::from_utf8_lossy(time);
        if let Some(since) = self.options.since
            && time_text.parse::<Timestamp>().is_ok_and(|t| t < since)
        {
            return;
        }
        let wanted = self.options.stream.as_deref();
        if wanted.is_some_and(|w| w != "All" && !w.as_bytes().eq_ignore_ascii_case(stream)) {
            return;
        }
        if self.options.timestamps {
            out.extend_from_slice(time);
            out.push(b' ');
        }
        let partial = tag.first() == Some(&b'P');
        out.extend_from_slice(if partial { text.strip_suffix(b"\n").unwrap_or(text) } else { text });
    }
}

/// Rotates logs that have grown large, for ever.
pub(crate) async fn rotate(shared: Arc<Shared>) {
    loop {
        sleep(ROTATE_EVERY).await;
        for path in large_logs(&shared.config.log_dir) {
            if let Err(error) = rotate_one(shared.config.runtime.as_ref(), &path).await {
                tracing::warn!(path = %path.display(), error, "cannot rotate a log");
            }
        }
    }
}

fn subdirectories(path: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(path).into_iter().flatten().flatten().map(|e| e.path())
}

fn large_logs(root: &Path) -> Vec<PathBuf> {
    let is_large = |path: &PathBuf| {
        path.extension().is_some_and(|e| e == "log")
            && fs::metadata(path).is_ok_and(|m| m.len() > LOG_BYTES_MAX)
    };
    subdirectories(root)
        .flat_map(|pod| subdirectories(&pod).collect::<Vec<_>>())
        .flat_map(|container| subdirectories(&container).collect::<Vec<_>>())
        .filter(is_large)
        .collect()
}

/// `<namespace>_<pod>_<uid>/<container>/<attempt>.log`
async fn rotate_one(runtime: &dyn Runtime, path: &Path) -> Result<(), String> {
    let name = |path: Option<&Path>| Some(path?.file_name()?.to_str()?.to_owned());
    let container = name(path.parent()).ok_or("unexpected path")?;
    let pod = name(path.parent().and_then(Path::parent)).ok_or("unexpected path")?;
    let uid = pod.rsplit('_').next().unwrap_or_default().to_owned();
    let attempt: u32 = path.file_stem().and_then(|s| s.to_str()?.parse().ok()).ok_or("unexpected path")?;
    let labels = Labels::from([(POD_UID.to_owned(), uid), (CONTAINER_NAME.to_owned(), container)]);
    let containers = runtime.containers(&labels).await.map_err(|e| e.to_string())?;
    let running = |c: &&runtime::Container| c.attempt == attempt && c.state == ContainerState::Running;
    let Some(running) = containers.iter().find(running) else { return Ok(()) };
    let stamp = base::clock::now().strftime("%Y%m%d-%H%M%S");
    let old = PathBuf::from(format!("{}.{stamp}", path.display()));
    fs::rename(path, &old).map_err(|e| e.to_string())?;
    if let Err(error) = runtime.reopen_log(&running.id).await {
        // Without this, the container's output would go to a file that nobody reads.
        fs::rename(&old, path).map_err(|e| e.to_string())?;
        return Err(error.to_string());
    }
    let prefix = format!("{attempt}.log.");
    let mut files: Vec<PathBuf> =
        path.parent().into_iter().flat_map(|d| subdirectories(d).collect::<Vec<_>>()).collect();
    files.retain(|f| f.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&prefix)));
    files.sort();
    for file in files.iter().rev().skip(LOG_FILES_MAX - 1) {
        fs::remove_file(file).map_err(|e| e.to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "2026-11-20T10:00:00.000000001Z stdout F one\n\
        2026-11-20T10:00:01.000000001Z stderr F two\n\
        2026-11-20T10:00:02.000000001Z stdout P thr\n\
        2026-11-20T10:00:02.000000002Z stdout F ee\n\
        2026-11-20T10:00:03.000000001Z stdout F four\n";

    async fn check(options: Options, expected: &str) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        fs::write(&path, LOG).unwrap();
        let (tx, mut rx) = mpsc::channel(8);
        let runtime: Arc<dyn Runtime> = Arc::new(runtime::fake::Fake::default());
        tokio::spawn(read(runtime, "gone".into(), path, options.clone(), tx));
        let mut seen = Vec::new();
        while let Some(chunk) = rx.recv().await {
            seen.extend_from_slice(&chunk.unwrap());
        }
        assert_eq!(String::from_utf8(seen).unwrap(), expected, "{options:?}");
    }

    #[tokio::test]
    async fn options_select_lines() {
        let all = Options::default();
        check(all.clone(), "one\ntwo\nthree\nfour\n").await;
        check(Options { follow: true, ..all.clone() }, "one\ntwo\nthree\nfour\n").await;
        check(Options { tail_lines: Some(1), ..all.clone() }, "four\n").await;
        check(Options { tail_lines: Some(100), ..all.clone() }, "one\ntwo\nthree\nfour\n").await;
        check(Options { tail_lines: Some(0), ..all.clone() }, "").await;
        check(Options { limit_bytes: Some(6), ..all.clone() }, "one\ntw").await;
        check(Options { stream: Some("Stderr".into()), ..all.clone() }, "two\n").await;
        let since = Some("2026-11-20T10:00:03Z".parse().unwrap());
        let last = "2026-11-20T10:00:03.000000001Z four\n";
        check(Options { since, timestamps: true, ..all }, last).await;
    }
}
