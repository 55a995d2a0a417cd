//! Opening a data directory: the newest snapshot, then the log after it.

use std::{fs, path::Path, sync::Arc};

use store::{
    Compare, Limits, Revision, Write,
    mvcc::{Head, History},
};

use crate::{
    OpenError,
    dir::Dir,
    frame::{FILE_HEADER_LEN, Frame, Record, SEGMENT_MAGIC, any_frame_in, u64_at},
    segment::Segment,
    snapshot,
};

/// What a data directory held.
pub struct Recovered {
    /// The state after the last whole commit batch.
    pub head: Head,
    /// The events since the snapshot, as far as the limits allow, so that watches resume over a restart.
    pub history: History,
    /// The segment to continue.
    pub segment: Segment,
    /// Length of the snapshot the log builds upon.
    pub snapshot_bytes: u64,
    /// Length of the log since then.
    pub log_bytes: u64,
}

/// Restores the state and cuts off a torn tail.
pub fn recover(dir: &Dir, limits: Limits) -> Result<Recovered, OpenError> {
    match fs::remove_file(dir.temporary()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let (mut head, mut snapshot_bytes) = (Head::default(), 0);
    if let Some(revision) = dir.snapshots()?.pop() {
        (head, snapshot_bytes) = snapshot::read(dir, revision)?;
        // The crash may have come between naming the snapshot and removing what it replaces.
        dir.remove_before(revision)?;
    }
    let mut history = History::new(head.revision(), limits);
    let mut segments = dir.segments()?;
    let mut log_bytes = 0;
    let Some(last) = segments.pop() else {
        if snapshot_bytes > 0 {
            return Err(OpenError::Corrupt { path: dir.segment(head.revision() + 1), offset: 0 });
        }
        let segment = Segment::create(dir, head.revision() + 1)?;
        return Ok(Recovered { head, history, segment, snapshot_bytes, log_bytes });
    };
    for revision in segments {
        let path = dir.segment(revision);
        let bytes = fs::read(&path)?;
        let end = replay(&path, &bytes, revision, &mut head, &mut history)?;
        // Only the segment being written can be torn: each is on disk before the next begins.
        if end != bytes.len() {
            return Err(OpenError::Corrupt { path, offset: end as u64 });
        }
        log_bytes += bytes.len() as u64;
    }
    let path = dir.segment(last);
    let bytes = fs::read(&path)?;
    let end = replay(&path, &bytes, last, &mut head, &mut history)?;
    if any_frame_in(&bytes[end..]) {
        return Err(OpenError::Corrupt { path, offset: end as u64 });
    }
    // Zeros are blocks that were allocated ahead.
    if bytes[end..].iter().any(|byte| *byte != 0) {
        tracing::info!(path = %path.display(), bytes = bytes.len() - end, "cut off a torn log tail");
    }
    log_bytes += end as u64;
    let segment =
        if end == 0 { Segment::create(dir, last)? } else { Segment::resume(dir, last, end as u64)? };
    Ok(Recovered { head, history, segment, snapshot_bytes, log_bytes })
}

/// Applies the frames of a segment and returns the offset after the last valid one.
fn replay(
    path: &Path,
    bytes: &[u8],
    first: Revision,
    head: &mut Head,
    history: &mut History,
) -> Result<usize, OpenError> {
    let corrupt = |offset: usize| OpenError::Corrupt { path: path.into(), offset: offset as u64 };
    if first != head.revision() + 1 {
        return Err(corrupt(0));
    }
    if !bytes.starts_with(SEGMENT_MAGIC) || u64_at(bytes, 8) != Some(first) {
        return Ok(0);
    }
    let mut at = FILE_HEADER_LEN;
    while let Some(frame) = Frame::parse(&bytes[at..]) {
        if frame.revision != head.revision() + 1 {
            return Err(corrupt(at));
        }
        let mut events = Vec::with_capacity(frame.count as usize);
        for record in frame.records() {
            let Some(Record::Write(key, op)) = record else { return Err(corrupt(at)) };
            let write = Write { key, compare: Compare::Any, op };
            events.push(head.apply(write).map_err(|_| corrupt(at))?);
        }
        if !events.is_empty() {
            history.push(Arc::from(events));
        }
        at += frame.len;
    }
    Ok(at)
}
