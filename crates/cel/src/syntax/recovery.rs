//! What the parser says and does when a token does not fit: ANTLR's default error strategy.
//!
//! A single superfluous token is passed over, a single missing one imagined; otherwise tokens are passed
//! over up to one that can follow, and nothing more is reported until a token has matched.

use super::lex::Kind;
use super::parse::Parser;

/// The tokens with which an operand begins.
pub(super) const OPERAND: &[Kind] = &[
    Kind::LeftBracket,
    Kind::LeftBrace,
    Kind::LeftParen,
    Kind::Dot,
    Kind::Minus,
    Kind::Exclamation,
    Kind::True,
    Kind::False,
    Kind::Null,
    Kind::Float,
    Kind::Int,
    Kind::Uint,
    Kind::String,
    Kind::Bytes,
    Kind::Identifier,
];

/// The tokens that may come behind an operand wherever it is.
const BEHIND_OPERAND: &[Kind] = &[
    Kind::Equals,
    Kind::NotEquals,
    Kind::In,
    Kind::Less,
    Kind::LessEquals,
    Kind::GreaterEquals,
    Kind::Greater,
    Kind::And,
    Kind::Or,
    Kind::LeftBracket,
    Kind::Dot,
    Kind::Minus,
    Kind::Question,
    Kind::Plus,
    Kind::Star,
    Kind::Slash,
    Kind::Percent,
];

impl Parser<'_> {
    /// Takes the token if it is there; otherwise passes one over, imagines it, or gives up (`false`).
    pub(super) fn expect(&mut self, kind: Kind) -> bool {
        if self.accept(kind) {
            return true;
        }
        if self.peek_at(1) == kind {
            self.syntax_error(format!("extraneous input {} expecting {}", self.display_token(), kind.name()));
            self.advance();
            return self.accept(kind);
        }
        let next = self.peek();
        let fits_behind = match kind {
            Kind::End => false,
            Kind::Colon => OPERAND.contains(&next),
            _ => BEHIND_OPERAND.contains(&next) || self.follow.last().is_some_and(|set| set.contains(&next)),
        };
        if fits_behind {
            self.syntax_error(format!("missing {} at {}", kind.name(), self.display_token()));
            self.recovering = true;
            return true;
        }
        self.mismatched(&[kind]);
        false
    }

    /// Makes sure that the next token is one of the two sets.
    pub(super) fn sync(&mut self, set: &[Kind], more: &[Kind]) -> bool {
        let fits = |kind: Kind| set.contains(&kind) || more.contains(&kind);
        if fits(self.peek()) {
            return true;
        }
        let expected: Vec<Kind> = set.iter().chain(more).copied().collect();
        if !self.recovering && fits(self.peek_at(1)) {
            let expected = expected_text(&expected);
            self.syntax_error(format!("extraneous input {} expecting {expected}", self.display_token()));
            self.advance();
            return true;
        }
        self.mismatched(&expected);
        false
    }

    fn mismatched(&mut self, expected: &[Kind]) {
        let expected = expected_text(expected);
        self.syntax_error(format!("mismatched input {} expecting {expected}", self.display_token()));
        self.recover();
    }

    /// The token at hand is not one of the set, in a loop that has been through once.
    pub(super) fn extraneous(&mut self, expected: &[Kind]) {
        let expected = expected_text(expected);
        self.syntax_error(format!("extraneous input {} expecting {expected}", self.display_token()));
        self.recover();
    }

    /// No alternative begins with the tokens from `start` up to the one at `offending`.
    pub(super) fn no_viable_alternative(&mut self, start: usize, offending: usize) {
        let kind = self.kind_at(offending);
        let text = match kind {
            Kind::End if start == offending => "<EOF>".to_owned(),
            _ => self.text_between(start, offending),
        };
        // A minus sign may go on as the operator between what was before and what comes.
        self.at = if self.kind_at(start) == Kind::Minus { start } else { offending };
        if !self.recovering {
            let reserved = matches!(kind, Kind::True | Kind::False | Kind::Null) && text.starts_with('.');
            let message = match reserved {
                true => format!("mismatched input '{}' expecting IDENTIFIER", &text[1..]),
                false => format!("no viable alternative at input '{}'", escape(&text)),
            };
            let offset = self.start_of(offending);
            self.issue_at(offset, format!("Syntax error: {message}"));
        }
        self.recover();
    }

    /// Passes over tokens that nothing around could go on with.
    fn recover(&mut self) {
        self.recovering = true;
        while self.peek() != Kind::End {
            let next = self.peek();
            if BEHIND_OPERAND.contains(&next) || self.follow.iter().any(|set| set.contains(&next)) {
                return;
            }
            self.advance();
        }
    }

    fn syntax_error(&mut self, message: String) {
        if !self.recovering {
            let offset = self.token().start;
            self.issue_at(offset, format!("Syntax error: {message}"));
        }
    }

    fn display_token(&self) -> String {
        match self.peek() {
            Kind::End => "'<EOF>'".to_owned(),
            _ => format!("'{}'", escape(self.token_text())),
        }
    }
}

/// Line breaks and tabs as ANTLR shows them.
pub(super) fn escape(text: &str) -> String {
    text.replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t")
}

fn expected_text(kinds: &[Kind]) -> String {
    let mut kinds = kinds.to_vec();
    kinds.sort();
    kinds.dedup();
    match &*kinds {
        [one] => one.name().to_owned(),
        many => format!("{{{}}}", many.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ")),
    }
}
