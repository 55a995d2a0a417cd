//! JSON text as an input, by the grammar of Go's `encoding/json`.

use std::borrow::Cow;

use super::MAX_KEPT_DEPTH;
use super::typed::{Event, Input, Stop};

/// Go refuses deeper nesting.
const MAX_DEPTH: usize = 10_000;

pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, depth: 0 }
    }

    fn peek(&mut self) -> Result<u8, Stop> {
        while let Some(&byte) = self.bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
                return Ok(byte);
            }
            self.at += 1;
        }
        Err(Stop::Syntax)
    }

    fn expect(&mut self, wanted: u8) -> Result<(), Stop> {
        if self.peek()? != wanted {
            return Err(Stop::Syntax);
        }
        self.at += 1;
        Ok(())
    }

    fn word(&mut self, word: &str) -> Result<(), Stop> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(Stop::Syntax);
        }
        self.at += word.len();
        Ok(())
    }

    fn number(&mut self) -> Result<Cow<'a, str>, Stop> {
        let start = self.at;
        let digits = |at: &mut usize| {
            let from = *at;
            while self.bytes.get(*at).is_some_and(u8::is_ascii_digit) {
                *at += 1;
            }
            *at > from
        };
        let mut at = self.at;
        if self.bytes.get(at) == Some(&b'-') {
            at += 1;
        }
        if self.bytes.get(at) == Some(&b'0') {
            at += 1;
        } else if !digits(&mut at) {
            return Err(Stop::Syntax);
        }
        if self.bytes.get(at) == Some(&b'.') {
            at += 1;
            if !digits(&mut at) {
                return Err(Stop::Syntax);
            }
        }
        if matches!(self.bytes.get(at), Some(b'e' | b'E')) {
            at += 1;
            if matches!(self.bytes.get(at), Some(b'+' | b'-')) {
                at += 1;
            }
            if !digits(&mut at) {
                return Err(Stop::Syntax);
            }
        }
        self.at = at;
        std::str::from_utf8(&self.bytes[start..at]).map(Cow::Borrowed).map_err(|_| Stop::Syntax)
    }

    /// Reads a string whose opening quote has been read.
    fn string(&mut self) -> Result<Cow<'a, str>, Stop> {
        let start = self.at;
        loop {
            match self.bytes.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => return self.escaped_string(start),
                Some(byte) if *byte >= 0x20 => self.at += 1,
                _ => return Err(Stop::Syntax),
            }
        }
        let raw = &self.bytes[start..self.at];
        self.at += 1;
        Ok(match std::str::from_utf8(raw) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => {
                let mut text = String::with_capacity(raw.len());
                push_lossy(&mut text, raw);
                Cow::Owned(text)
            }
        })
    }

    fn escaped_string(&mut self, start: usize) -> Result<Cow<'a, str>, Stop> {
        let mut text = String::new();
        let mut plain = start;
        loop {
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    push_lossy(&mut text, &self.bytes[plain..self.at]);
                    self.at += 1;
                    return Ok(Cow::Owned(text));
                }
                Some(b'\\') => {
                    push_lossy(&mut text, &self.bytes[plain..self.at]);
                    text.push(self.escape()?);
                    plain = self.at;
                }
                Some(byte) if *byte >= 0x20 => self.at += 1,
                _ => return Err(Stop::Syntax),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Stop> {
        let code = *self.bytes.get(self.at + 1).ok_or(Stop::Syntax)?;
        self.at += 2;
        Ok(match code {
            b'"' | b'\\' | b'/' => char::from(code),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let high = self.hex4(self.at)?;
                self.at += 4;
                if (0xd800..0xdc00).contains(&high)
                    && self.bytes[self.at..].starts_with(b"\\u")
                    && let Ok(low @ 0xdc00..0xe000) = self.hex4(self.at + 2)
                {
                    self.at += 6;
                    let code = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                    char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
                } else {
                    char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER)
                }
            }
            _ => return Err(Stop::Syntax),
        })
    }

    fn hex4(&self, at: usize) -> Result<u32, Stop> {
        let digits = self.bytes.get(at..at + 4).ok_or(Stop::Syntax)?;
        digits.iter().try_fold(0, |code, byte| {
            char::from(*byte).to_digit(16).map(|d| code * 16 + d).ok_or(Stop::Syntax)
        })
    }

    fn deeper(&mut self) -> Result<(), Stop> {
        self.depth += 1;
        if self.depth > MAX_KEPT_DEPTH { Err(Stop::Syntax) } else { Ok(()) }
    }
}

/// Appends bytes as Go does: every byte that is not part of valid UTF-8 becomes U+FFFD.
fn push_lossy(text: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
}

impl<'a> Input<'a> for Reader<'a> {
    fn next(&mut self) -> Result<Event<'a>, Stop> {
        Ok(match self.peek()? {
            b'"' => {
                self.at += 1;
                Event::String(self.string()?)
            }
            b'{' => {
                self.at += 1;
                self.deeper()?;
                Event::Object
            }
            b'[' => {
                self.at += 1;
                self.deeper()?;
                Event::Array
            }
            b't' => self.word("true").map(|()| Event::Bool(true))?,
            b'f' => self.word("false").map(|()| Event::Bool(false))?,
            b'n' => self.word("null").map(|()| Event::Null)?,
            b'-' | b'0'..=b'9' => Event::Number(self.number()?),
            _ => return Err(Stop::Syntax),
        })
    }

    fn key(&mut self, first: bool) -> Result<Option<Cow<'a, str>>, Stop> {
        match self.peek()? {
            b'}' => {
                self.at += 1;
                self.depth -= 1;
                return Ok(None);
            }
            b',' if !first => self.at += 1,
            _ if first => {}
            _ => return Err(Stop::Syntax),
        }
        self.expect(b'"')?;
        let key = self.string()?;
        self.expect(b':')?;
        Ok(Some(key))
    }

    fn element(&mut self, first: bool) -> Result<bool, Stop> {
        match self.peek()? {
            b']' => {
                self.at += 1;
                self.depth -= 1;
                Ok(false)
            }
            b',' if !first => {
                self.at += 1;
                // `[1,]` is refused where the value is read.
                Ok(true)
            }
            _ if first => Ok(true),
            _ => Err(Stop::Syntax),
        }
    }

    /// Iterative, because what is passed over may nest as deeply as Go allows.
    fn skip(&mut self, event: Event<'a>) -> Result<(), Stop> {
        let mut open = match event {
            Event::Object => vec![(true, true)],
            Event::Array => vec![(false, true)],
            _ => return Ok(()),
        };
        let base = self.depth;
        while let Some((object, first)) = open.last_mut() {
            let more = if *object { self.key(*first)?.is_some() } else { self.element(*first)? };
            *first = false;
            if !more {
                open.pop();
                continue;
            }
            self.depth = 0;
            match self.next()? {
                Event::Object => open.push((true, true)),
                Event::Array => open.push((false, true)),
                _ => {}
            }
            if base + open.len() > MAX_DEPTH {
                return Err(Stop::Syntax);
            }
            self.depth = base + open.len();
        }
        self.depth = base - 1;
        Ok(())
    }

    fn end(&mut self) -> Result<(), Stop> {
        match self.peek() {
            Ok(_) => Err(Stop::Syntax),
            Err(_) => Ok(()),
        }
    }
}
