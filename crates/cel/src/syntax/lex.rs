//! Tokens. The lexer takes the longest token there is, as ANTLR's does, and words its errors likewise.

/// The kinds of tokens, in the order in which ANTLR lists them as expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Equals,
    NotEquals,
    In,
    Less,
    LessEquals,
    GreaterEquals,
    Greater,
    And,
    Or,
    LeftBracket,
    RightBracket,
    LeftBrace,
    RightBrace,
    LeftParen,
    RightParen,
    Dot,
    Comma,
    Minus,
    Exclamation,
    Question,
    Colon,
    Plus,
    Star,
    Slash,
    Percent,
    True,
    False,
    Null,
    Float,
    Int,
    Uint,
    String,
    Bytes,
    Identifier,
    EscapedIdentifier,
    End,
}

impl Kind {
    /// The name in lists of expected tokens.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Float => "NUM_FLOAT",
            Kind::Int => "NUM_INT",
            Kind::Uint => "NUM_UINT",
            Kind::String => "STRING",
            Kind::Bytes => "BYTES",
            Kind::Identifier => "IDENTIFIER",
            Kind::EscapedIdentifier => "ESC_IDENTIFIER",
            Kind::End => "<EOF>",
            Kind::In => "'in'",
            Kind::True => "'true'",
            Kind::False => "'false'",
            Kind::Null => "'null'",
            punctuation => match PUNCTUATION.iter().find(|(_, _, kind)| *kind == punctuation) {
                Some((_, quoted, _)) => quoted,
                None => "",
            },
        }
    }
}

/// Longer ones first.
const PUNCTUATION: [(&str, &str, Kind); 24] = [
    ("==", "'=='", Kind::Equals),
    ("!=", "'!='", Kind::NotEquals),
    ("<=", "'<='", Kind::LessEquals),
    (">=", "'>='", Kind::GreaterEquals),
    ("&&", "'&&'", Kind::And),
    ("||", "'||'", Kind::Or),
    ("<", "'<'", Kind::Less),
    (">", "'>'", Kind::Greater),
    ("[", "'['", Kind::LeftBracket),
    ("]", "']'", Kind::RightBracket),
    ("{", "'{'", Kind::LeftBrace),
    ("}", "'}'", Kind::RightBrace),
    ("(", "'('", Kind::LeftParen),
    (")", "')'", Kind::RightParen),
    (".", "'.'", Kind::Dot),
    (",", "','", Kind::Comma),
    ("-", "'-'", Kind::Minus),
    ("!", "'!'", Kind::Exclamation),
    ("?", "'?'", Kind::Question),
    (":", "':'", Kind::Colon),
    ("+", "'+'", Kind::Plus),
    ("*", "'*'", Kind::Star),
    ("/", "'/'", Kind::Slash),
    ("%", "'%'", Kind::Percent),
];

/// A token: its kind and its place in the source, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// A stretch of the source that is no token.
pub(super) struct LexError {
    pub(super) start: usize,
    pub(super) end: usize,
}

/// All tokens, the last of which is [`Kind::End`], and what was passed over as no token.
pub(super) fn tokens(source: &str) -> (Vec<Token>, Vec<LexError>) {
    let mut lexer = Lexer { source, position: 0 };
    let mut tokens = Vec::new();
    let mut errors = Vec::new();
    loop {
        lexer.skip_blanks();
        let start = lexer.position;
        if start == source.len() {
            tokens.push(Token { kind: Kind::End, start, end: start });
            return (tokens, errors);
        }
        match longest(&source[start..]) {
            Ok((kind, length)) => {
                lexer.position += length;
                tokens.push(Token { kind, start, end: lexer.position });
            }
            Err(length) => {
                // What was read so far and the character that does not fit are passed over.
                let failing = source[start + length..].chars().next().map_or(0, char::len_utf8);
                lexer.position += length + failing;
                errors.push(LexError { start, end: lexer.position });
            }
        }
    }
}

struct Lexer<'a> {
    source: &'a str,
    position: usize,
}

impl Lexer<'_> {
    fn skip_blanks(&mut self) {
        loop {
            let rest = &self.source[self.position..];
            let blank = rest.len() - rest.trim_start_matches(['\t', ' ', '\r', '\n', '\u{c}']).len();
            let comment = match rest[blank..].starts_with("//") {
                true => rest[blank..].find('\n').unwrap_or(rest.len() - blank),
                false => 0,
            };
            if blank + comment == 0 {
                return;
            }
            self.position += blank + comment;
        }
    }
}

/// The kind and length of the token at the beginning of `rest`; else how much of it is the beginning of one.
fn longest(rest: &str) -> Result<(Kind, usize), usize> {
    let bytes = rest.as_bytes();
    let first = bytes[0];
    if first.is_ascii_digit() || (first == b'.' && bytes.get(1).is_some_and(u8::is_ascii_digit)) {
        return Ok(number(bytes));
    }
    let word = rest.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
    if let Some((kind, prefix)) = quote_prefix(bytes) {
        match (string(&rest[prefix..], is_raw(&bytes[..prefix])), word) {
            (Ok(length), _) => return Ok((kind, prefix + length)),
            (Err(read), 0) => return Err(prefix + read),
            // The prefix is an identifier when what follows is no string.
            (Err(_), _) => {}
        }
    }
    if word > 0 {
        let kind = match &rest[..word] {
            "in" => Kind::In,
            "true" => Kind::True,
            "false" => Kind::False,
            "null" => Kind::Null,
            _ => Kind::Identifier,
        };
        return Ok((kind, word));
    }
    if first == b'`' {
        let name = |b: &u8| b.is_ascii_alphanumeric() || b"_.-/ ".contains(b);
        let length = bytes[1..].iter().take_while(|b| name(b)).count();
        return match length > 0 && bytes.get(1 + length) == Some(&b'`') {
            true => Ok((Kind::EscapedIdentifier, length + 2)),
            false => Err(1 + length),
        };
    }
    match PUNCTUATION.iter().find(|(text, _, _)| rest.starts_with(text)) {
        Some((text, _, kind)) => Ok((*kind, text.len())),
        None if matches!(first, b'=' | b'&' | b'|') => Err(1),
        None => Err(0),
    }
}

fn number(bytes: &[u8]) -> (Kind, usize) {
    let digits = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    let with_unsigned = |length: usize| match bytes.get(length) {
        Some(b'u' | b'U') => (Kind::Uint, length + 1),
        _ => (Kind::Int, length),
    };
    if bytes.starts_with(b"0x") {
        let hex = bytes[2..].iter().take_while(|b| b.is_ascii_hexdigit()).count();
        if hex > 0 {
            return with_unsigned(2 + hex);
        }
    }
    let whole = digits(0);
    let mut length = whole;
    if bytes.get(length) == Some(&b'.') {
        let fraction = digits(length + 1);
        if fraction > 0 {
            length += 1 + fraction;
        }
    }
    if let Some(b'e' | b'E') = bytes.get(length) {
        let sign = usize::from(matches!(bytes.get(length + 1), Some(b'+' | b'-')));
        let exponent = bytes.get(length + 1 + sign).map_or(0, |_| digits(length + 1 + sign));
        if exponent > 0 {
            length += 1 + sign + exponent;
        }
    }
    if length > whole { (Kind::Float, length) } else { with_unsigned(whole) }
}

/// The kind of literal and the length of its prefix, if a quotation mark comes after it.
fn quote_prefix(bytes: &[u8]) -> Option<(Kind, usize)> {
    let lower = |i: usize| bytes.get(i).map(u8::to_ascii_lowercase);
    let bytes_prefix = usize::from(lower(0) == Some(b'b'));
    let raw_prefix = usize::from(lower(bytes_prefix) == Some(b'r'));
    let prefix = bytes_prefix + raw_prefix;
    match bytes.get(prefix) {
        Some(b'"' | b'\'') => Some((if bytes_prefix == 1 { Kind::Bytes } else { Kind::String }, prefix)),
        _ => None,
    }
}

fn is_raw(prefix: &[u8]) -> bool {
    prefix.last().is_some_and(|b| b.eq_ignore_ascii_case(&b'r'))
}

/// The length of the quoted string, or how far it could be read.
fn string(text: &str, raw: bool) -> Result<usize, usize> {
    let quote = &text[..1];
    let triple = quote.repeat(3);
    let long = text.starts_with(&triple);
    if long && let Ok(length) = quoted(text, &triple, raw, true) {
        return Ok(length);
    }
    // Three quotation marks that nothing closes are an empty string and the beginning of another.
    quoted(text, quote, raw, false)
}

fn quoted(text: &str, mark: &str, raw: bool, multi_line: bool) -> Result<usize, usize> {
    let bytes = text.as_bytes();
    let mut at = mark.len();
    while at < bytes.len() {
        if text[at..].starts_with(mark) {
            return Ok(at + mark.len());
        }
        match bytes[at] {
            b'\\' if !raw => at += escape_length(&bytes[at..]).map_err(|read| at + read)?,
            b'\n' | b'\r' if !multi_line => return Err(at),
            _ => at += text[at..].chars().next().map_or(1, char::len_utf8),
        }
    }
    Err(bytes.len())
}

/// The length of an escape sequence, or how far it could be read.
fn escape_length(bytes: &[u8]) -> Result<usize, usize> {
    let sequence = |digits: usize, allowed: fn(&u8) -> bool| {
        let found = bytes[2..].iter().take(digits).take_while(|b| allowed(b)).count();
        if found == digits { Ok(2 + digits) } else { Err(2 + found) }
    };
    match bytes.get(1) {
        Some(b'a' | b'b' | b'f' | b'n' | b'r' | b't' | b'v' | b'"' | b'\'' | b'\\' | b'?' | b'`') => Ok(2),
        Some(b'x' | b'X') => sequence(2, u8::is_ascii_hexdigit),
        Some(b'u') => sequence(4, u8::is_ascii_hexdigit),
        Some(b'U') => sequence(8, u8::is_ascii_hexdigit),
        Some(b'0'..=b'3') => sequence(2, |b| (b'0'..=b'7').contains(b)),
        _ => Err(1),
    }
}
