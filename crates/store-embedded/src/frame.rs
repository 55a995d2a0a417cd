//! The on-disk encoding, shared by log segments and snapshots.
//!
//! A file is a header followed by frames. One frame is one unit of trust: its checksum covers everything
//! in it, so that a commit batch is on disk entirely or not at all. All integers are little-endian.
//!
//! ```text
//! file    magic [8]  revision u64
//! frame   magic u32  payload_len u32  revision u64  count u32  crc32 u32 (of the 20 bytes before and the payload)  payload
//! put     0u8  key_len u16  value_len u32  key  value
//! delete  1u8  key_len u16  0u32           key
//! item    2u8  key_len u16  value_len u32  key  value  create_revision u64  mod_revision u64
//! ```

use std::sync::Arc;

use bytes::Bytes;
use store::{Event, EventKind, KEY_BYTES_MAX, KeyValue, Op, Revision, VALUE_BYTES_MAX};

/// First bytes of a log segment; the header's revision is that of its first write.
pub const SEGMENT_MAGIC: &[u8; 8] = b"KOBULOG1";
/// First bytes of a snapshot; the header's revision is the snapshot's.
pub const SNAPSHOT_MAGIC: &[u8; 8] = b"KOBUSNP1";
/// Length of a file's header.
pub const FILE_HEADER_LEN: usize = 16;
/// Length of a frame's header.
pub const FRAME_HEADER_LEN: usize = 24;

const FRAME_MAGIC: [u8; 4] = *b"KFRM";
const CRC_AT: usize = 20;
const RECORD_HEADER_LEN: usize = 7;

/// A frame's payload never exceeds this: the sequencer stops a batch after `BATCH_BYTES` and one more
/// record may follow.
const PAYLOAD_BYTES_MAX: usize = crate::sequencer::BATCH_BYTES + KEY_BYTES_MAX + VALUE_BYTES_MAX + (1 << 20);

/// The header of a segment or snapshot.
pub fn file_header(magic: &[u8; 8], revision: Revision) -> [u8; FILE_HEADER_LEN] {
    let mut header = [0; FILE_HEADER_LEN];
    header[..8].copy_from_slice(magic);
    header[8..].copy_from_slice(&revision.to_le_bytes());
    header
}

/// Collects records into a frame.
#[derive(Default)]
pub struct FrameWriter {
    buffer: Vec<u8>,
    count: u32,
}

impl FrameWriter {
    /// Forgets the records and keeps the memory.
    pub fn clear(&mut self) {
        self.buffer.clear();
        self.buffer.resize(FRAME_HEADER_LEN, 0);
        self.count = 0;
    }

    /// Bytes of the frame so far.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Records of the frame so far.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Appends a write.
    pub fn event(&mut self, event: &Event) {
        match event.kind {
            EventKind::Put => self.record(0, &event.kv.key, &event.kv.value),
            EventKind::Delete => self.record(1, &event.kv.key, &[]),
        }
    }

    /// Appends a key as it is.
    pub fn item(&mut self, kv: &KeyValue) {
        self.record(2, &kv.key, &kv.value);
        self.buffer.extend_from_slice(&kv.create_revision.to_le_bytes());
        self.buffer.extend_from_slice(&kv.mod_revision.to_le_bytes());
    }

    fn record(&mut self, kind: u8, key: &str, value: &[u8]) {
        // `Head::apply` holds keys and values to limits that fit these widths.
        self.buffer.push(kind);
        self.buffer.extend_from_slice(&(key.len() as u16).to_le_bytes());
        self.buffer.extend_from_slice(&(value.len() as u32).to_le_bytes());
        self.buffer.extend_from_slice(key.as_bytes());
        self.buffer.extend_from_slice(value);
        self.count += 1;
    }

    /// Seals the frame: `revision` is that of its first write, or the ordinal of its first item.
    pub fn seal(&mut self, revision: Revision) -> &[u8] {
        let payload_len = (self.buffer.len() - FRAME_HEADER_LEN) as u32;
        self.buffer[..4].copy_from_slice(&FRAME_MAGIC);
        self.buffer[4..8].copy_from_slice(&payload_len.to_le_bytes());
        self.buffer[8..16].copy_from_slice(&revision.to_le_bytes());
        self.buffer[16..20].copy_from_slice(&self.count.to_le_bytes());
        let crc = checksum(&self.buffer);
        self.buffer[CRC_AT..FRAME_HEADER_LEN].copy_from_slice(&crc.to_le_bytes());
        &self.buffer
    }
}

fn checksum(frame: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&frame[..CRC_AT]);
    hasher.update(&frame[FRAME_HEADER_LEN..]);
    hasher.finalize()
}

/// A frame whose checksum has been verified.
pub struct Frame<'a> {
    /// See [`FrameWriter::seal`].
    pub revision: Revision,
    /// Number of records.
    pub count: u32,
    /// Bytes on disk, header included.
    pub len: usize,
    payload: &'a [u8],
}

/// One decoded record.
pub enum Record {
    /// A write.
    Write(Arc<str>, Op),
    /// A key as it is.
    Item(KeyValue),
}

impl<'a> Frame<'a> {
    /// The frame at the beginning of `bytes`, unless it is cut short or damaged.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let header = bytes.get(..FRAME_HEADER_LEN)?;
        if header[..4] != FRAME_MAGIC {
            return None;
        }
        let payload_len = u32_at(header, 4)? as usize;
        if payload_len > PAYLOAD_BYTES_MAX {
            return None;
        }
        let len = FRAME_HEADER_LEN + payload_len;
        let frame = bytes.get(..len)?;
        if checksum(frame) != u32_at(frame, CRC_AT)? {
            return None;
        }
        let (revision, count) = (u64_at(frame, 8)?, u32_at(frame, 16)?);
        Some(Self { revision, count, len, payload: &frame[FRAME_HEADER_LEN..] })
    }

    /// The records; `None` in place of one that cannot be decoded, which a checksummed frame never has
    /// unless another version wrote it.
    pub fn records(&self) -> impl Iterator<Item = Option<Record>> + use<'a> {
        let mut rest = self.payload;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let record = take_record(&mut rest);
            if record.is_none() {
                rest = &[];
            }
            Some(record)
        })
    }
}

fn take_record(rest: &mut &[u8]) -> Option<Record> {
    let header = take(rest, RECORD_HEADER_LEN)?;
    let key_len = u16::from_le_bytes([header[1], header[2]]) as usize;
    let value_len = u32_at(header, 3)? as usize;
    let key: Arc<str> = std::str::from_utf8(take(rest, key_len)?).ok()?.into();
    // A copy of its own: a slice of the file's buffer would keep all of it alive.
    let value = Bytes::copy_from_slice(take(rest, value_len)?);
    Some(match header[0] {
        0 => Record::Write(key, Op::Put(value)),
        1 => Record::Write(key, Op::Delete),
        2 => {
            let revisions = take(rest, 16)?;
            let (create_revision, mod_revision) = (u64_at(revisions, 0)?, u64_at(revisions, 8)?);
            Record::Item(KeyValue { key, value, create_revision, mod_revision })
        }
        _ => return None,
    })
}

/// True when a whole, valid frame begins anywhere in `bytes`. A torn write leaves none behind it,
/// because the next frame is only written once the one before it is on disk: finding one means that
/// acknowledged data was damaged.
pub fn any_frame_in(bytes: &[u8]) -> bool {
    let starts = bytes.windows(FRAME_MAGIC.len()).enumerate().filter(|(_, window)| **window == FRAME_MAGIC);
    starts.into_iter().any(|(at, _)| Frame::parse(&bytes[at..]).is_some())
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(head)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The integer at `at`, if `bytes` is long enough.
pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}
