//! Snapshots: the whole state at one revision, which makes the log before it unnecessary.

use std::{
    fs,
    io::{self, Write as _},
    sync::atomic::{AtomicBool, Ordering},
};

use store::{Revision, mvcc::Head};

use crate::{
    OpenError,
    dir::Dir,
    frame::{FILE_HEADER_LEN, Frame, FrameWriter, Record, SNAPSHOT_MAGIC, file_header, u64_at},
};

/// A frame is sealed once it is this long.
const FRAME_BYTES: usize = 256 << 10;

/// Written data is pushed to the disk this often, so that the log's fsync never waits behind one
/// enormous write-back.
const SYNC_BYTES: usize = 1 << 20;

/// Writes `head` and gives it its name; the snapshot is whole and on disk as soon as it has one.
/// Returns its length in bytes, or `None` when `cancel` was raised meanwhile.
pub fn write(dir: &Dir, head: &Head, cancel: &AtomicBool) -> io::Result<Option<u64>> {
    let mut file = dir.create(&dir.temporary())?;
    file.write_all(&file_header(SNAPSHOT_MAGIC, head.revision()))?;
    let mut frame = FrameWriter::default();
    let (mut ordinal, mut len, mut unsynced) = (0, FILE_HEADER_LEN as u64, 0);
    let mut flush = |frame: &mut FrameWriter, ordinal: &mut u64| {
        let count = u64::from(frame.count());
        let bytes = frame.seal(*ordinal);
        file.write_all(bytes)?;
        *ordinal += count;
        len += bytes.len() as u64;
        unsynced += bytes.len();
        if unsynced >= SYNC_BYTES {
            file.sync_data()?;
            unsynced = 0;
        }
        frame.clear();
        io::Result::Ok(())
    };
    frame.clear();
    for kv in head.iter() {
        frame.item(kv);
        if frame.len() >= FRAME_BYTES {
            if cancel.load(Ordering::Relaxed) {
                return Ok(None);
            }
            flush(&mut frame, &mut ordinal)?;
        }
    }
    if frame.count() > 0 {
        flush(&mut frame, &mut ordinal)?;
    }
    // The empty frame at the end carries the number of items: without it the file is incomplete.
    flush(&mut frame, &mut ordinal)?;
    file.sync_all()?;
    fs::rename(dir.temporary(), dir.snapshot(head.revision()))?;
    dir.sync()?;
    Ok(Some(len))
}

/// Reads the snapshot at `revision`. Returns the state and the file's length in bytes.
pub fn read(dir: &Dir, revision: Revision) -> Result<(Head, u64), OpenError> {
    let path = dir.snapshot(revision);
    let corrupt = |offset: usize| OpenError::Corrupt { path: path.clone(), offset: offset as u64 };
    let bytes = fs::read(&path)?;
    if !bytes.starts_with(SNAPSHOT_MAGIC) || u64_at(&bytes, 8) != Some(revision) {
        return Err(corrupt(0));
    }
    let mut kvs = Vec::new();
    let mut at = FILE_HEADER_LEN;
    loop {
        let frame = Frame::parse(&bytes[at..]).ok_or_else(|| corrupt(at))?;
        if frame.revision != kvs.len() as u64 {
            return Err(corrupt(at));
        }
        for record in frame.records() {
            let Some(Record::Item(kv)) = record else { return Err(corrupt(at)) };
            kvs.push(kv);
        }
        at += frame.len;
        if frame.count == 0 {
            break;
        }
    }
    if at != bytes.len() {
        return Err(corrupt(at));
    }
    Ok((Head::restore(revision, kvs), bytes.len() as u64))
}
