//! Frames and their wire form.

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::header::{Deflater, Inflater};
use crate::{Error, Headers};

const FLAG_FIN: u8 = 1;
/// 3-byte lengths allow 16 MiB; peers send at most 32 KiB or so at a time.
const FRAME_BYTES_MAX: usize = 1 << 20;

#[derive(Debug)]
pub(crate) enum Frame {
    SynStream { id: u32, fin: bool, headers: Headers },
    SynReply { id: u32 },
    Reset { id: u32 },
    Data { id: u32, fin: bool, data: Bytes },
    Ping { id: u32 },
    GoAway,
    Other,
}

pub(crate) struct Encoder {
    deflater: Deflater,
}

impl Encoder {
    pub(crate) fn new() -> Self {
        Self { deflater: Deflater::new() }
    }

    pub(crate) fn encode(&mut self, frame: &Frame, out: &mut Vec<u8>) -> Result<(), Error> {
        match frame {
            Frame::SynStream { id, fin, headers } => {
                let mut body = Vec::from(id.to_be_bytes());
                body.extend_from_slice(&[0; 6]);
                self.deflater.encode(headers, &mut body)?;
                control(out, 1, if *fin { FLAG_FIN } else { 0 }, &body);
            }
            Frame::SynReply { id } => {
                let mut body = Vec::from(id.to_be_bytes());
                self.deflater.encode(&Headers::new(), &mut body)?;
                control(out, 2, 0, &body);
            }
            Frame::Reset { id } => {
                let mut body = Vec::from(id.to_be_bytes());
                body.extend_from_slice(&5u32.to_be_bytes());
                control(out, 3, 0, &body);
            }
            Frame::Data { id, fin, data } => {
                let mut rest = &data[..];
                loop {
                    let (chunk, tail) = rest.split_at(rest.len().min(FRAME_BYTES_MAX / 2));
                    rest = tail;
                    out.extend_from_slice(&id.to_be_bytes());
                    let last = *fin && rest.is_empty();
                    out.push(if last { FLAG_FIN } else { 0 });
                    out.extend_from_slice(&(chunk.len() as u32).to_be_bytes()[1..]);
                    out.extend_from_slice(chunk);
                    if rest.is_empty() {
                        break;
                    }
                }
            }
            Frame::Ping { id } => control(out, 6, 0, &id.to_be_bytes()),
            Frame::GoAway | Frame::Other => {}
        }
        Ok(())
    }
}

fn control(out: &mut Vec<u8>, kind: u16, flags: u8, body: &[u8]) {
    out.extend_from_slice(&0x8003u16.to_be_bytes());
    out.extend_from_slice(&kind.to_be_bytes());
    out.push(flags);
    out.extend_from_slice(&(body.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(body);
}

pub(crate) struct Decoder {
    inflater: Inflater,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self { inflater: Inflater::new() }
    }

    /// The next frame; `None` at the end of the transport.
    pub(crate) async fn read<R: AsyncRead + Unpin>(&mut self, io: &mut R) -> Result<Option<Frame>, Error> {
        let mut head = [0u8; 8];
        match io.read_exact(&mut head).await {
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        };
        let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(Error::Protocol("frame too large"));
        }
        let mut body = vec![0; length];
        io.read_exact(&mut body).await?;
        let fin = head[4] & FLAG_FIN != 0;
        if head[0] & 0x80 == 0 {
            let id = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
            return Ok(Some(Frame::Data { id, fin, data: Bytes::from(body) }));
        }
        self.control(u16::from_be_bytes([head[2], head[3]]), fin, &body).map(Some)
    }

    fn control(&mut self, kind: u16, fin: bool, body: &[u8]) -> Result<Frame, Error> {
        let id = || {
            body.first_chunk::<4>()
                .map(|b| u32::from_be_bytes(*b) & 0x7fff_ffff)
                .ok_or(Error::Protocol("short control frame"))
        };
        let mut block = |offset: usize| {
            let block = body.get(offset..).ok_or(Error::Protocol("short control frame"))?;
            self.inflater.decode(block)
        };
        Ok(match kind {
            1 => Frame::SynStream { id: id()?, fin, headers: block(10)? },
            2 => {
                // Decoded although unused: the compression state runs through every block.
                block(4)?;
                Frame::SynReply { id: id()? }
            }
            3 => Frame::Reset { id: id()? },
            6 => Frame::Ping { id: id()? },
            7 => Frame::GoAway,
            8 => {
                block(4)?;
                Frame::Other
            }
            _ => Frame::Other,
        })
    }
}
