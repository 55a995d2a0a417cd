//! Bytes written from the end to the beginning, so that lengths are known when they are written.

/// A buffer that grows towards its front.
#[derive(Default)]
pub(super) struct Writer {
    /// What is written is at the end.
    buffer: Vec<u8>,
    /// Where it begins.
    start: usize,
}

impl Writer {
    /// Room for about so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { buffer: vec![0; bytes], start: bytes }
    }

    /// How much has been written.
    pub fn len(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// Forgets what was written, and keeps the room.
    pub fn clear(&mut self) {
        self.start = self.buffer.len();
    }

    /// What was written.
    pub fn written(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// What was written, alone.
    pub fn take(mut self) -> Vec<u8> {
        self.buffer.drain(..self.start);
        self.buffer
    }

    /// Puts bytes in front.
    #[inline]
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        let end = self.start;
        self.start -= bytes.len();
        self.buffer[self.start..end].copy_from_slice(bytes);
    }

    /// Puts a number in front.
    #[inline]
    pub fn varint(&mut self, mut number: u64) {
        if number < 0x80 {
            self.reserve(1);
            self.start -= 1;
            self.buffer[self.start] = number as u8;
            return;
        }
        let mut digits = [0u8; 10];
        let mut length = 0;
        loop {
            digits[length] = number as u8 | 0x80;
            number >>= 7;
            length += 1;
            if number == 0 {
                break;
            }
        }
        digits[length - 1] &= 0x7f;
        self.bytes(&digits[..length]);
    }

    /// Puts length and tag in front of what was written since `len()` was `end`.
    #[inline]
    pub fn close(&mut self, tag: u32, end: usize) {
        self.varint((self.len() - end) as u64);
        self.varint(tag.into());
    }

    #[inline]
    fn reserve(&mut self, bytes: usize) {
        if self.start < bytes {
            self.grow(bytes);
        }
    }

    #[cold]
    fn grow(&mut self, bytes: usize) {
        let written = self.len();
        let size = (self.buffer.len() * 2).max(written + bytes).max(64);
        let mut larger = vec![0; size];
        larger[size - written..].copy_from_slice(self.written());
        self.start = size - written;
        self.buffer = larger;
    }
}
