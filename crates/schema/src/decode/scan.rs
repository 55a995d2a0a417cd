//! The syntax check of Go's `encoding/json`, for the text of its complaint. Runs only over bodies
//! that were refused.

use crate::gotext::quote_with;

const MAX_DEPTH: usize = 10_000;
const END: &str = "unexpected end of JSON input";

/// Checks the grammar; the error is Go's text.
pub(super) fn check(bytes: &[u8]) -> Result<(), String> {
    let mut scan = Scan { bytes, at: 0 };
    let mut open: Vec<u8> = Vec::new();
    'value: loop {
        match scan.token()? {
            b'{' => {
                deeper(&mut open, b'{')?;
                if scan.token()? != b'}' {
                    scan.at -= 1;
                    scan.object_key()?;
                    continue 'value;
                }
                open.pop();
            }
            b'[' => {
                deeper(&mut open, b'[')?;
                if scan.token()? != b']' {
                    scan.at -= 1;
                    continue 'value;
                }
                open.pop();
            }
            b'"' => scan.string()?,
            b't' => scan.word("true")?,
            b'f' => scan.word("false")?,
            b'n' => scan.word("null")?,
            first @ (b'-' | b'0'..=b'9') => scan.number(first)?,
            other => return invalid(other, "looking for beginning of value"),
        }
        // A value has ended: what may follow depends on what is open.
        loop {
            match (open.last(), scan.token_or_end()) {
                (None, None) => return Ok(()),
                (None, Some(byte)) => return invalid(byte, "after top-level value"),
                (Some(_), None) => return Err(END.into()),
                (Some(b'{'), Some(b',')) => {
                    scan.object_key()?;
                    continue 'value;
                }
                (Some(b'['), Some(b',')) => continue 'value,
                (Some(b'{'), Some(b'}')) | (Some(b'['), Some(b']')) => {
                    open.pop();
                }
                (Some(b'{'), Some(byte)) => return invalid(byte, "after object key:value pair"),
                (Some(_), Some(byte)) => return invalid(byte, "after array element"),
            }
        }
    }
}

fn deeper(open: &mut Vec<u8>, bracket: u8) -> Result<(), String> {
    open.push(bracket);
    if open.len() > MAX_DEPTH { Err("exceeded max depth".into()) } else { Ok(()) }
}

fn invalid<T>(byte: u8, context: &str) -> Result<T, String> {
    let shown = match byte {
        b'"' => "'\"'".to_string(),
        _ => quote_with(&char::from(byte).to_string(), '\''),
    };
    Err(format!("invalid character {shown} {context}"))
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn byte(&mut self) -> Result<u8, String> {
        let byte = self.bytes.get(self.at).copied().ok_or(END)?;
        self.at += 1;
        Ok(byte)
    }

    fn token_or_end(&mut self) -> Option<u8> {
        while let Some(&byte) = self.bytes.get(self.at) {
            self.at += 1;
            if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
                return Some(byte);
            }
        }
        None
    }

    fn token(&mut self) -> Result<u8, String> {
        self.token_or_end().ok_or_else(|| END.into())
    }

    fn object_key(&mut self) -> Result<(), String> {
        match self.token()? {
            b'"' => self.string()?,
            other => return invalid(other, "looking for beginning of object key string"),
        }
        match self.token()? {
            b':' => Ok(()),
            other => invalid(other, "after object key"),
        }
    }

    fn string(&mut self) -> Result<(), String> {
        loop {
            match self.byte()? {
                b'"' => return Ok(()),
                b'\\' => match self.byte()? {
                    b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => {}
                    b'u' => {
                        for _ in 0..4 {
                            let byte = self.byte()?;
                            if !byte.is_ascii_hexdigit() {
                                return invalid(byte, "in \\u hexadecimal character escape");
                            }
                        }
                    }
                    other => return invalid(other, "in string escape code"),
                },
                byte if byte < 0x20 => return invalid(byte, "in string literal"),
                _ => {}
            }
        }
    }

    fn word(&mut self, word: &str) -> Result<(), String> {
        for wanted in word.bytes().skip(1) {
            let byte = self.byte()?;
            if byte != wanted {
                return invalid(byte, &format!("in literal {word} (expecting '{}')", char::from(wanted)));
            }
        }
        Ok(())
    }

    fn digits(&mut self) {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
    }

    fn digit(&mut self, context: &str) -> Result<(), String> {
        match self.byte()? {
            b'0'..=b'9' => Ok(()),
            other => invalid(other, context),
        }
    }

    fn number(&mut self, first: u8) -> Result<(), String> {
        let mut leading = first;
        if first == b'-' {
            leading = self.byte()?;
            if !leading.is_ascii_digit() {
                return invalid(leading, "in numeric literal");
            }
        }
        if leading != b'0' {
            self.digits();
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digit("after decimal point in numeric literal")?;
            self.digits();
        }
        if matches!(self.bytes.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.bytes.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digit("in exponent of numeric literal")?;
            self.digits();
        }
        Ok(())
    }
}
