//! The data directory: its lock, the names in it, and the file operations that must survive power loss.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use store::Revision;

use crate::OpenError;

/// The locked data directory. The lock is the kernel's: it ends with the process, however that dies.
pub struct Dir {
    path: PathBuf,
    /// Open for directory fsyncs: a file is only there after power loss when its directory entry is.
    handle: File,
    /// Locked as long as it is open.
    _lock: File,
}

impl Dir {
    /// Creates the directory if needed and locks it.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        if !path.is_dir() {
            // Objects include Secrets: nobody else may read them.
            fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
            if let Some(parent) = path.canonicalize()?.parent() {
                File::open(parent)?.sync_all()?;
            }
        }
        let mut lock =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path.join("LOCK"))?;
        if let Err(error) = flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            if error != rustix::io::Errno::WOULDBLOCK {
                return Err(io::Error::from(error).into());
            }
            let mut owner = String::new();
            lock.read_to_string(&mut owner)?;
            return Err(OpenError::Locked { dir: path.into(), pid: owner.trim().parse().ok() });
        }
        lock.set_len(0)?;
        write!(lock, "{}", std::process::id())?;
        Ok(Self { path: path.into(), handle: File::open(path)?, _lock: lock })
    }

    /// Where the segment that begins with `revision` lives.
    pub fn segment(&self, revision: Revision) -> PathBuf {
        self.path.join(format!("log-{revision:020}"))
    }

    /// Where the snapshot at `revision` lives.
    pub fn snapshot(&self, revision: Revision) -> PathBuf {
        self.path.join(format!("snapshot-{revision:020}"))
    }

    /// Where a snapshot is written before it gets its name.
    pub fn temporary(&self) -> PathBuf {
        self.path.join("snapshot.tmp")
    }

    /// The revisions in the names that begin with `prefix`, ascending.
    fn revisions(&self, prefix: &str) -> io::Result<Vec<Revision>> {
        let mut revisions = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            let revision: Option<Revision> =
                name.to_str().and_then(|name| name.strip_prefix(prefix)?.parse().ok());
            revisions.extend(revision);
        }
        revisions.sort_unstable();
        Ok(revisions)
    }

    /// First revisions of the segments, ascending.
    pub fn segments(&self) -> io::Result<Vec<Revision>> {
        self.revisions("log-")
    }

    /// Revisions of the snapshots, ascending.
    pub fn snapshots(&self) -> io::Result<Vec<Revision>> {
        self.revisions("snapshot-")
    }

    /// Creates an empty file that only its owner may read, replacing one that is there.
    pub fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)
    }

    /// Makes created, renamed and removed names durable.
    pub fn sync(&self) -> io::Result<()> {
        self.handle.sync_all()
    }

    /// Removes what the snapshot at `revision` replaces: older snapshots, and the segments in which
    /// every write is part of it.
    pub fn remove_before(&self, revision: Revision) -> io::Result<()> {
        for old in self.snapshots()?.into_iter().filter(|old| *old < revision) {
            fs::remove_file(self.snapshot(old))?;
        }
        // A segment ends where the next begins; the last one is being written.
        for pair in self.segments()?.windows(2).filter(|pair| pair[1] <= revision + 1) {
            fs::remove_file(self.segment(pair[0]))?;
        }
        self.sync()
    }
}
