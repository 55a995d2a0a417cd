//! The log segment being written.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
};

use store::Revision;

use crate::{
    dir::Dir,
    frame::{FILE_HEADER_LEN, SEGMENT_MAGIC, file_header},
};

/// An open segment and how far it is written.
pub struct Segment {
    file: File,
    /// Where the next frame goes; everything before it is whole frames.
    len: u64,
    /// How far the file's blocks are there: zeros beyond `len`.
    allocated: u64,
}

/// How much a segment grows at a time. A commit inside of blocks that are there already syncs its data
/// alone; one that makes the file longer waits for the file system's own records as well, a second trip
/// to the disk. Twice the bytes are written, in long runs.
const GROWTH_BYTES: usize = 1 << 20;
static ZEROS: [u8; GROWTH_BYTES] = [0; GROWTH_BYTES];

/// What a failed append left behind.
pub enum AppendError {
    /// The frame did not get in and the log is as before (typically: the disk is full).
    Rejected(io::Error),
    /// The log's state on disk is unknown; writing on could lose acknowledged data.
    Fatal(io::Error),
}

impl Segment {
    /// Creates the segment whose first write will have `revision`. It is on disk when this returns.
    pub fn create(dir: &Dir, revision: Revision) -> io::Result<Self> {
        let file = dir.create(&dir.segment(revision))?;
        file.write_all_at(&file_header(SEGMENT_MAGIC, revision), 0)?;
        file.sync_all()?;
        dir.sync()?;
        let len = FILE_HEADER_LEN as u64;
        Ok(Self { file, len, allocated: len })
    }

    /// Continues a recovered segment after its first `len` bytes. What recovery read may so far exist in
    /// the page cache only, and is about to be shown to clients: hence the sync.
    pub fn resume(dir: &Dir, revision: Revision, len: u64) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(dir.segment(revision))?;
        file.set_len(len)?;
        file.sync_all()?;
        dir.sync()?;
        Ok(Self { file, len, allocated: len })
    }

    /// Bytes written.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Appends a frame and, with `sync`, waits until it is on disk.
    pub fn append(&mut self, frame: &[u8], sync: bool) -> Result<(), AppendError> {
        if let Err(error) = self.write(frame, sync) {
            self.allocated = self.len;
            return Err(match self.file.set_len(self.len) {
                Ok(()) => AppendError::Rejected(error),
                Err(_) => AppendError::Fatal(error),
            });
        }
        if sync {
            // After a failed fsync the kernel may drop the dirty pages and report success next time.
            self.file.sync_data().map_err(AppendError::Fatal)?;
        }
        self.len += frame.len() as u64;
        Ok(())
    }

    fn write(&mut self, frame: &[u8], sync: bool) -> io::Result<()> {
        let end = self.len + frame.len() as u64;
        self.file.write_all_at(frame, self.len)?;
        // The frame's sync takes the zeros along.
        if sync && end > self.allocated {
            self.file.write_all_at(&ZEROS, end)?;
            self.allocated = end + GROWTH_BYTES as u64;
        }
        Ok(())
    }

    /// Cuts off what was allocated ahead and waits until everything appended is on disk: a segment that
    /// another one follows ends with a whole frame.
    pub fn finish(&mut self) -> io::Result<()> {
        self.file.set_len(self.len)?;
        self.allocated = self.len;
        self.file.sync_all()
    }
}
