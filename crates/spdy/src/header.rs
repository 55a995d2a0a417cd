//! Compressed header blocks: one zlib stream per direction, primed with SPDY's dictionary.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use crate::{Error, Headers};

/// The dictionary of the SPDY/3 draft, section 2.6.10.1; a constant of the protocol.
const DICTIONARY: &[u8] = include_bytes!("dictionary.bin");
/// A block larger than this is an attack, not a header.
const BLOCK_BYTES_MAX: usize = 256 * 1024;
const CORRUPT: Error = Error::Protocol("corrupt header block");

pub(crate) struct Deflater(Compress);

impl Deflater {
    pub(crate) fn new() -> Self {
        let mut compress = Compress::new(Compression::default(), true);
        // Cannot fail on a fresh stream; if it did, the peer would report a corrupt block.
        let _ = compress.set_dictionary(DICTIONARY);
        Self(compress)
    }

    pub(crate) fn encode(&mut self, headers: &Headers, out: &mut Vec<u8>) -> Result<(), Error> {
        let mut plain = Vec::new();
        put(&mut plain, headers.len());
        for (name, value) in headers {
            for text in [name.to_ascii_lowercase(), value.clone()] {
                put(&mut plain, text.len());
                plain.extend_from_slice(text.as_bytes());
            }
        }
        let mut rest = &plain[..];
        loop {
            out.reserve(plain.len() + 64);
            let before = self.0.total_in();
            self.0.compress_vec(rest, out, FlushCompress::Sync).map_err(|_| CORRUPT)?;
            rest = &rest[(self.0.total_in() - before) as usize..];
            if rest.is_empty() && out.len() < out.capacity() {
                return Ok(());
            }
        }
    }
}

fn put(out: &mut Vec<u8>, length: usize) {
    out.extend_from_slice(&(length as u32).to_be_bytes());
}

pub(crate) struct Inflater(Decompress);

impl Inflater {
    pub(crate) fn new() -> Self {
        Self(Decompress::new(true))
    }

    pub(crate) fn decode(&mut self, block: &[u8]) -> Result<Headers, Error> {
        let mut plain = Vec::with_capacity(4096);
        let mut rest = block;
        while !rest.is_empty() {
            if plain.len() >= BLOCK_BYTES_MAX {
                return Err(CORRUPT);
            }
            plain.reserve(4096);
            let (read_before, written_before) = (self.0.total_in(), plain.len());
            let result = self.0.decompress_vec(rest, &mut plain, FlushDecompress::Sync);
            rest = &rest[(self.0.total_in() - read_before) as usize..];
            match result {
                Err(e) if e.needs_dictionary().is_some() => {
                    self.0.set_dictionary(DICTIONARY).map_err(|_| CORRUPT)?;
                }
                Err(_) => return Err(CORRUPT),
                Ok(Status::StreamEnd) => break,
                Ok(_) if rest.len() == block.len() && plain.len() == written_before => return Err(CORRUPT),
                Ok(_) => {}
            }
        }
        parse(&plain).ok_or(CORRUPT)
    }
}

fn parse(plain: &[u8]) -> Option<Headers> {
    fn number(rest: &mut &[u8]) -> Option<usize> {
        let (head, tail) = rest.split_first_chunk::<4>()?;
        *rest = tail;
        Some(u32::from_be_bytes(*head) as usize)
    }
    fn text(rest: &mut &[u8]) -> Option<String> {
        let length = number(rest)?;
        let (head, tail) = rest.split_at_checked(length)?;
        *rest = tail;
        Some(String::from_utf8_lossy(head).into_owned())
    }
    let mut rest = plain;
    let count = number(&mut rest)?;
    let mut headers = Headers::new();
    for _ in 0..count {
        let name = text(&mut rest)?.to_ascii_lowercase();
        headers.push((name, text(&mut rest)?));
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_share_one_compression_stream() {
        let (mut deflater, mut inflater) = (Deflater::new(), Inflater::new());
        for i in 0..50 {
            let headers = vec![("streamtype".to_owned(), format!("stdout{}", "x".repeat(i * 100)))];
            let mut block = Vec::new();
            deflater.encode(&headers, &mut block).unwrap();
            assert_eq!(inflater.decode(&block).unwrap(), headers);
        }
        assert!(Inflater::new().decode(b"not zlib").is_err());
    }
}
