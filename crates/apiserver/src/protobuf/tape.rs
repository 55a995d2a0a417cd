//! An index over JSON text: where every value begins and ends, found in one pass.
//!
//! The encoder visits members in the order of protobuf numbers, not in the order of the text; the
//! index lets it, without making a tree of values.

/// Containers in containers: as deep as request bodies may be.
const DEPTH_MAX: usize = 512;

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    True,
    False,
    Number,
    /// Without escapes: the text is what it says.
    Plain,
    /// With escapes.
    Escaped,
    Object,
    List,
}

/// One value (or the key of a member, which its value follows).
#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    pub kind: Kind,
    /// Where the text begins; for strings, behind the quote.
    pub start: u32,
    /// Where it ends; for strings, before the quote.
    pub end: u32,
    /// The place of what follows, past all that is inside of this value.
    pub next: u32,
}

/// The text is not JSON, or too deep, or too long.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Fills `tape` with the values of `text` in their order; the first is the whole.
pub(super) fn index(text: &[u8], tape: &mut Vec<Token>) -> Result<(), Malformed> {
    tape.clear();
    if u32::try_from(text.len()).is_err() {
        return Err(Malformed);
    }
    Scanner { text, at: 0, tape }.document()
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    tape: &'a mut Vec<Token>,
}

impl Scanner<'_> {
    fn document(mut self) -> Result<(), Malformed> {
        // The containers that are open, by their places.
        let mut open: Vec<usize> = Vec::with_capacity(16);
        loop {
            self.spaces();
            let place = self.tape.len();
            match self.peek()? {
                b'{' | b'[' => {
                    let kind = if self.text[self.at] == b'{' { Kind::Object } else { Kind::List };
                    self.tape.push(Token { kind, start: self.at as u32, end: 0, next: 0 });
                    self.at += 1;
                    open.push(place);
                    if open.len() > DEPTH_MAX {
                        return Err(Malformed);
                    }
                    self.spaces();
                    if !matches!(self.peek()?, b'}' | b']') {
                        if kind == Kind::Object {
                            self.key()?;
                        }
                        continue;
                    }
                }
                b'"' => self.string()?,
                b't' => self.word(b"true", Kind::True)?,
                b'f' => self.word(b"false", Kind::False)?,
                b'n' => self.word(b"null", Kind::Null)?,
                b'-' | b'0'..=b'9' => self.number(),
                _ => return Err(Malformed),
            }
            // A value is complete: close what ends here, go on with what follows.
            loop {
                let Some(&container) = open.last() else { return Ok(()) };
                self.spaces();
                let is_object = self.tape[container].kind == Kind::Object;
                match self.peek()? {
                    b',' => {
                        self.at += 1;
                        if is_object {
                            self.spaces();
                            self.key()?;
                        }
                        break;
                    }
                    b'}' if is_object => {}
                    b']' if !is_object => {}
                    _ => return Err(Malformed),
                }
                self.at += 1;
                let next = self.tape.len() as u32;
                let token = &mut self.tape[container];
                (token.end, token.next) = (self.at as u32, next);
                open.pop();
            }
        }
    }

    fn peek(&self) -> Result<u8, Malformed> {
        self.text.get(self.at).copied().ok_or(Malformed)
    }

    fn spaces(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.text.get(self.at) {
            self.at += 1;
        }
    }

    fn push(&mut self, kind: Kind, start: usize, end: usize) {
        let next = self.tape.len() as u32 + 1;
        self.tape.push(Token { kind, start: start as u32, end: end as u32, next });
    }

    fn key(&mut self) -> Result<(), Malformed> {
        if self.peek()? != b'"' {
            return Err(Malformed);
        }
        self.string()?;
        self.spaces();
        if self.peek()? != b':' {
            return Err(Malformed);
        }
        self.at += 1;
        Ok(())
    }

    fn string(&mut self) -> Result<(), Malformed> {
        let start = self.at + 1;
        let mut kind = Kind::Plain;
        self.at = start;
        loop {
            self.at += quote_or_backslash(&self.text[self.at..]).ok_or(Malformed)?;
            if self.text[self.at] == b'"' {
                break;
            }
            kind = Kind::Escaped;
            self.at += 2;
            if self.at > self.text.len() {
                return Err(Malformed);
            }
        }
        self.push(kind, start, self.at);
        self.at += 1;
        Ok(())
    }

    fn number(&mut self) {
        let start = self.at;
        while let Some(b'-' | b'+' | b'.' | b'0'..=b'9' | b'e' | b'E') = self.text.get(self.at) {
            self.at += 1;
        }
        self.push(Kind::Number, start, self.at);
    }

    fn word(&mut self, word: &[u8], kind: Kind) -> Result<(), Malformed> {
        if !self.text[self.at..].starts_with(word) {
            return Err(Malformed);
        }
        self.push(kind, self.at, self.at + word.len());
        self.at += word.len();
        Ok(())
    }
}

/// Where the first `"` or `\` is, eight bytes at a time.
fn quote_or_backslash(text: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let (words, rest) = text.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let quote = word ^ (ONES * u64::from(b'"'));
        let slash = word ^ (ONES * u64::from(b'\\'));
        // A byte is zero where it matches; borrows only reach later bytes, so the first hit is right.
        let found = ((quote.wrapping_sub(ONES) & !quote) | (slash.wrapping_sub(ONES) & !slash)) & HIGH;
        if found != 0 {
            return Some(index * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let found = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
    Some(words.len() * 8 + found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Result<Vec<String>, Malformed> {
        let mut tape = Vec::new();
        index(text.as_bytes(), &mut tape)?;
        Ok(tape.iter().map(|token| text[token.start as usize..token.end as usize].to_owned()).collect())
    }

    #[test]
    fn values_are_found_where_they_are() {
        let found =
            texts(r#" {"a": [1, -2.5e3, {}], "b\"": "x\\", "long enough to be scanned": null}"#).unwrap();
        assert_eq!(
            found[1..],
            [
                "a",
                "[1, -2.5e3, {}]",
                "1",
                "-2.5e3",
                "{}",
                "b\\\"",
                "x\\\\",
                "long enough to be scanned",
                "null"
            ]
        );
    }

    #[test]
    fn what_is_broken_is_refused() {
        for text in ["", "{", "[1", "{\"a\"}", "{\"a\":}", "[1}", "\"abc", "\"abc\\", "tru", "{1:2}", "[,]"] {
            assert_eq!(texts(text), Err(Malformed), "{text}");
        }
        assert_eq!(texts(&"[".repeat(600)), Err(Malformed));
    }
}
