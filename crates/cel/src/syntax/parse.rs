//! The parser: recursive descent over the grammar of cel-go's `CEL.g4`.

use std::sync::Arc;

use super::ast::{Expr, ExprId, ExprKind, MapEntry, StructField};
use super::lex::{Kind, Token, tokens};
use super::recovery::{OPERAND, escape};
use super::source::Source;
use super::unescape::unescape;
use super::{macros, operators};
use crate::Value;
use crate::decl::is_reserved;
use crate::error::{Issues, Location};

/// Longer sources are not parsed.
const MAX_CODE_POINTS: usize = 100_000;
/// How deeply a rule of the grammar may be nested in itself. Chains of operators and selections count.
const MAX_DEPTH: u32 = 250;
/// Macros that copy their target (`optMap`) could make the tree grow without bound.
const MAX_NODES: usize = 1_000_000;
/// After so many syntax errors the rest is not looked at.
const MAX_SYNTAX_ERRORS: usize = 30;

/// Parses an expression and expands its macros, with `bindings` also `cel.bind`.
pub(crate) fn parse(text: &str, bindings: bool) -> Result<(Expr, Source), Issues> {
    let mut parser = Parser { bindings, ..Parser::new(text) };
    let size = text.chars().count();
    if size > MAX_CODE_POINTS {
        parser.issues.push(
            Location::NONE,
            format!("expression code point size exceeds limit: size: {size}, limit {MAX_CODE_POINTS}"),
        );
        return Err(parser.issues);
    }
    let (found, errors) = tokens(text);
    for error in errors {
        let skipped = escape(&text[error.start..error.end]);
        parser.issue_at(error.start, format!("Syntax error: token recognition error at: '{skipped}'"));
    }
    parser.tokens = found;
    let expr = parser.nested(&[Kind::End]);
    parser.expect(Kind::End);
    if parser.issues.is_empty() { Ok((expr, parser.source)) } else { Err(parser.issues) }
}

/// How deeply the rules of the grammar are nested at the moment.
#[derive(Default)]
struct Depth {
    expr: u32,
    relation: u32,
    calc: u32,
    member: u32,
}

pub(super) struct Parser<'s> {
    text: &'s str,
    tokens: Vec<Token>,
    pub(super) at: usize,
    pub(super) source: Source,
    issues: Issues,
    depth: Depth,
    /// Whether `cel.bind` is a macro.
    pub(super) bindings: bool,
    /// Whether the last token did not fit, so that nothing is reported until one does.
    pub(super) recovering: bool,
    /// For each expression that is being parsed, outermost first: what may follow it.
    pub(super) follow: Vec<&'static [Kind]>,
}

impl<'s> Parser<'s> {
    fn new(text: &'s str) -> Parser<'s> {
        let source = Source::new(text);
        let issues = Issues::new(source.text.clone());
        Parser {
            text,
            tokens: vec![Token { kind: Kind::End, start: text.len(), end: text.len() }],
            at: 0,
            source,
            issues,
            depth: Depth::default(),
            bindings: false,
            recovering: false,
            follow: Vec::new(),
        }
    }

    // Tokens.

    pub(super) fn token(&self) -> Token {
        self.tokens[self.at]
    }

    pub(super) fn peek(&self) -> Kind {
        self.tokens[self.at].kind
    }

    pub(super) fn peek_at(&self, ahead: usize) -> Kind {
        self.tokens.get(self.at + ahead).map_or(Kind::End, |token| token.kind)
    }

    pub(super) fn token_text(&self) -> &'s str {
        let token = self.token();
        &self.text[token.start..token.end]
    }

    /// The text of the tokens from `start` to `end`, without the blanks between them.
    pub(super) fn text_between(&self, start: usize, end: usize) -> String {
        let tokens = self.tokens.iter().take(end + 1).skip(start);
        tokens.map(|token| &self.text[token.start..token.end]).collect()
    }

    pub(super) fn kind_at(&self, index: usize) -> Kind {
        self.tokens.get(index).map_or(Kind::End, |token| token.kind)
    }

    pub(super) fn start_of(&self, index: usize) -> usize {
        self.tokens.get(index).map_or(self.text.len(), |token| token.start)
    }

    pub(super) fn advance(&mut self) {
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
    }

    pub(super) fn accept(&mut self, kind: Kind) -> bool {
        let there = self.peek() == kind;
        if there {
            self.advance();
            self.recovering = false;
        }
        there
    }

    // Issues.

    pub(super) fn issue_at(&mut self, offset: usize, message: String) {
        if self.issues.total >= MAX_SYNTAX_ERRORS {
            return self.give_up();
        }
        self.issues.push(self.source.location_at(offset), message);
    }

    fn too_deep(&mut self) -> Expr {
        let offset = self.token().start;
        if self.at + 1 < self.tokens.len() || !self.recovering {
            self.issues.push(Location::NONE, format!("expression recursion limit exceeded: {MAX_DEPTH}"));
        }
        self.give_up();
        self.node(offset, ExprKind::Unspecified)
    }

    fn give_up(&mut self) {
        self.at = self.tokens.len() - 1;
        self.recovering = true;
    }

    // Nodes.

    pub(super) fn node(&mut self, offset: usize, kind: ExprKind) -> Expr {
        if self.source.ids() == MAX_NODES {
            self.issues.push(Location::NONE, "expression is too large after macro expansion");
            self.give_up();
        }
        Expr { id: self.source.add(offset), kind }
    }

    pub(super) fn is_full(&self) -> bool {
        self.source.ids() > MAX_NODES
    }

    fn unspecified(&mut self) -> Expr {
        let offset = self.token().start;
        self.node(offset, ExprKind::Unspecified)
    }

    fn error_node(&mut self, offset: usize, message: impl Into<String>) -> Expr {
        self.issue_at(offset, message.into());
        self.node(offset, ExprKind::Unspecified)
    }

    /// A call, or what it expands to if it is one of a macro. The operator or parenthesis is at `offset`.
    fn call(&mut self, offset: usize, function: &str, target: Option<Expr>, args: Vec<Expr>) -> Expr {
        match macros::expand(self, offset, function, target, args) {
            Ok(expanded) => expanded,
            Err(macros::Failure::NotAMacro(target, args)) => {
                let target = target.map(Box::new);
                self.node(offset, ExprKind::Call { function: Arc::from(function), target, args })
            }
            Err(macros::Failure::Misuse { at, message }) => {
                let offset = self.source.offset(at);
                self.error_node(offset, message)
            }
        }
    }

    fn operator(&mut self, offset: usize, function: &str, args: Vec<Expr>) -> Expr {
        self.node(offset, ExprKind::Call { function: Arc::from(function), target: None, args })
    }

    // Rules.

    /// An expression that one of these tokens may follow.
    fn nested(&mut self, follow: &'static [Kind]) -> Expr {
        if self.depth.expr == MAX_DEPTH {
            return self.too_deep();
        }
        self.depth.expr += 1;
        self.follow.push(follow);
        let expr = self.expr();
        self.follow.pop();
        self.depth.expr -= 1;
        expr
    }

    fn expr(&mut self) -> Expr {
        let condition = self.logical(Kind::Or);
        let offset = self.token().start;
        if !self.accept(Kind::Question) {
            return condition;
        }
        self.follow.push(&[Kind::Colon]);
        let if_true = self.logical(Kind::Or);
        self.follow.pop();
        if !self.expect(Kind::Colon) {
            return self.unspecified();
        }
        let follow = self.follow.last().copied().unwrap_or_default();
        let if_false = self.nested(follow);
        self.operator(offset, operators::CONDITIONAL, vec![condition, if_true, if_false])
    }

    /// Terms joined by `||`, whose terms are joined by `&&`.
    fn logical(&mut self, operator: Kind) -> Expr {
        let term = |parser: &mut Self| match operator {
            Kind::Or => parser.logical(Kind::And),
            _ => parser.relation(),
        };
        let first = term(self);
        if self.peek() != operator {
            return first;
        }
        let mut terms = vec![Some(first)];
        let mut offsets = Vec::new();
        loop {
            let offset = self.token().start;
            if !self.accept(operator) {
                break;
            }
            offsets.push(offset);
            let next = term(self);
            terms.push(Some(next));
        }
        let function = if operator == Kind::Or { operators::OR } else { operators::AND };
        self.balanced(function, &mut terms, &offsets)
    }

    /// The terms as a balanced tree: the operators are associative, and long chains stay shallow.
    fn balanced(&mut self, function: &str, terms: &mut [Option<Expr>], offsets: &[usize]) -> Expr {
        if offsets.is_empty() {
            return match terms.first_mut().and_then(Option::take) {
                Some(term) => term,
                None => self.unspecified(),
            };
        }
        let middle = offsets.len() / 2;
        let (left_terms, right_terms) = terms.split_at_mut(middle + 1);
        let left = self.balanced(function, left_terms, &offsets[..middle]);
        let right = self.balanced(function, right_terms, &offsets[middle + 1..]);
        self.operator(offsets[middle], function, vec![left, right])
    }

    fn relation(&mut self) -> Expr {
        let entered = self.depth.relation;
        self.depth.relation += 1;
        let mut left = self.calc(0);
        loop {
            let offset = self.token().start;
            let function = match self.peek() {
                Kind::Equals => operators::EQUALS,
                Kind::NotEquals => operators::NOT_EQUALS,
                Kind::Less => operators::LESS,
                Kind::LessEquals => operators::LESS_EQUALS,
                Kind::Greater => operators::GREATER,
                Kind::GreaterEquals => operators::GREATER_EQUALS,
                Kind::In => operators::IN,
                _ => break,
            };
            self.depth.relation += 1;
            if self.depth.relation > MAX_DEPTH {
                left = self.too_deep();
                break;
            }
            let kind = self.peek();
            self.accept(kind);
            let right = self.calc(0);
            left = self.operator(offset, function, vec![left, right]);
        }
        self.depth.relation = entered;
        left
    }

    /// Sums (precedence 0) of products (precedence 1).
    fn calc(&mut self, precedence: u32) -> Expr {
        let entered = self.depth.calc;
        self.depth.calc += 1;
        let mut left = self.unary();
        loop {
            let offset = self.token().start;
            let (function, binds) = match self.peek() {
                Kind::Star => (operators::MULTIPLY, 1),
                Kind::Slash => (operators::DIVIDE, 1),
                Kind::Percent => (operators::MODULO, 1),
                Kind::Plus => (operators::ADD, 0),
                Kind::Minus => (operators::SUBTRACT, 0),
                _ => break,
            };
            if binds < precedence {
                break;
            }
            self.depth.calc += 1;
            if self.depth.calc > MAX_DEPTH {
                left = self.too_deep();
                break;
            }
            let kind = self.peek();
            self.accept(kind);
            let right = if binds == 1 { self.unary() } else { self.calc(1) };
            left = self.operator(offset, function, vec![left, right]);
        }
        self.depth.calc = entered;
        left
    }

    fn unary(&mut self) -> Expr {
        if !self.sync(OPERAND, &[]) {
            return self.unspecified();
        }
        let offset = self.token().start;
        let operator = self.peek();
        let number = |kind| matches!(kind, Kind::Int | Kind::Float);
        let signed_literal = operator == Kind::Minus && number(self.peek_at(1));
        if !matches!(operator, Kind::Minus | Kind::Exclamation) || signed_literal {
            return self.member();
        }
        let mut count = 0;
        while self.peek() == operator {
            if operator == Kind::Minus && !self.negates() {
                self.no_viable_alternative(self.at, self.at + 1);
                return self.unspecified();
            }
            self.accept(operator);
            count += 1;
        }
        if !OPERAND.contains(&self.peek()) {
            self.extraneous(OPERAND);
            return self.unspecified();
        }
        let operand = self.member();
        if count % 2 == 0 {
            return operand;
        }
        let function = if operator == Kind::Minus { operators::NEGATE } else { operators::NOT };
        self.operator(offset, function, vec![operand])
    }

    /// Whether something that can be negated is behind the minus sign.
    fn negates(&self) -> bool {
        let next = self.peek_at(1);
        next != Kind::Exclamation && OPERAND.contains(&next)
    }

    fn member(&mut self) -> Expr {
        let entered = self.depth.member;
        self.depth.member += 1;
        let mut operand = self.primary();
        while matches!(self.peek(), Kind::Dot | Kind::LeftBracket) {
            self.depth.member += 1;
            if self.depth.member > MAX_DEPTH {
                operand = self.too_deep();
                break;
            }
            operand = match self.peek() {
                Kind::Dot => self.selection(operand),
                _ => self.index(operand),
            };
        }
        self.depth.member = entered;
        operand
    }

    fn selection(&mut self, operand: Expr) -> Expr {
        let start = self.at;
        let offset = self.token().start;
        match self.peek_at(1) {
            Kind::Identifier | Kind::EscapedIdentifier | Kind::Question => {}
            _ => {
                self.no_viable_alternative(start, start + 1);
                return self.unspecified();
            }
        }
        self.accept(Kind::Dot);
        let optional = self.accept(Kind::Question);
        let behind = self.token().start;
        let Some((name, name_offset)) = self.field_name() else {
            self.issue_at(behind, "unsupported ident kind".to_owned());
            return self.unspecified();
        };
        if optional {
            let name = self.node(name_offset, ExprKind::Literal(Value::from(name)));
            return self.operator(offset, operators::OPT_SELECT, vec![operand, name]);
        }
        let open = self.token().start;
        if self.peek() == Kind::LeftParen && self.tokens[self.at - 1].kind == Kind::Identifier {
            self.accept(Kind::LeftParen);
            let args = self.arguments();
            return self.call(open, &name, Some(operand), args);
        }
        let operand = Box::new(operand);
        self.node(offset, ExprKind::Select { operand, field: Arc::from(name), test_only: false })
    }

    /// An identifier, possibly in backquotes (which Kubernetes does not enable).
    fn field_name(&mut self) -> Option<(String, usize)> {
        if !self.sync(&[Kind::Identifier, Kind::EscapedIdentifier], &[]) {
            return None;
        }
        let offset = self.token().start;
        let name = self.token_text().to_owned();
        if self.accept(Kind::EscapedIdentifier) {
            self.issue_at(offset, "unsupported syntax: '`'".to_owned());
            return Some((name.trim_matches('`').to_owned(), offset));
        }
        self.accept(Kind::Identifier);
        Some((name, offset))
    }

    fn index(&mut self, operand: Expr) -> Expr {
        let offset = self.token().start;
        self.accept(Kind::LeftBracket);
        if !self.sync(OPERAND, &[Kind::Question]) {
            return self.unspecified();
        }
        let optional = self.accept(Kind::Question);
        let index = self.nested(&[Kind::RightBracket]);
        if !self.expect(Kind::RightBracket) {
            return self.unspecified();
        }
        let function = if optional { operators::OPT_INDEX } else { operators::INDEX };
        self.operator(offset, function, vec![operand, index])
    }

    /// Behind the opening parenthesis.
    fn arguments(&mut self) -> Vec<Expr> {
        let mut args = Vec::new();
        if self.accept(Kind::RightParen) || !self.sync(OPERAND, &[Kind::RightParen]) {
            return args;
        }
        if self.accept(Kind::RightParen) {
            return args;
        }
        loop {
            args.push(self.nested(&[Kind::Comma, Kind::RightParen]));
            if !self.accept(Kind::Comma) {
                break;
            }
        }
        self.expect(Kind::RightParen);
        args
    }

    fn primary(&mut self) -> Expr {
        let offset = self.token().start;
        match self.peek() {
            Kind::LeftParen => {
                self.accept(Kind::LeftParen);
                let inner = self.nested(&[Kind::RightParen]);
                self.expect(Kind::RightParen);
                inner
            }
            Kind::LeftBracket => self.list(offset),
            Kind::LeftBrace => self.map(offset),
            Kind::Dot | Kind::Identifier => self.name(offset),
            _ => self.literal(offset),
        }
    }

    fn name(&mut self, offset: usize) -> Expr {
        let start = self.at;
        let dot = self.peek() == Kind::Dot;
        if dot {
            self.advance();
        }
        if self.peek() != Kind::Identifier {
            self.no_viable_alternative(start, self.at);
            return self.unspecified();
        }
        self.recovering = false;
        if self.at_struct() {
            return self.structure(dot);
        }
        let name_offset = self.token().start;
        let name = self.token_text();
        self.accept(Kind::Identifier);
        let open = self.token().start;
        let args = self.accept(Kind::LeftParen).then(|| self.arguments());
        if is_reserved(name) {
            return self.error_node(offset, format!("reserved identifier: {name}"));
        }
        let name = if dot { format!(".{name}") } else { name.to_owned() };
        match args {
            Some(args) => self.call(open, &name, None, args),
            None => self.node(name_offset, ExprKind::Ident(Arc::from(name))),
        }
    }

    /// Whether a qualified name and an opening brace come next.
    fn at_struct(&self) -> bool {
        let mut ahead = 1;
        while self.peek_at(ahead) == Kind::Dot && self.peek_at(ahead + 1) == Kind::Identifier {
            ahead += 2;
        }
        self.peek_at(ahead) == Kind::LeftBrace
    }

    fn structure(&mut self, dot: bool) -> Expr {
        let mut name = String::from(if dot { "." } else { "" });
        while self.peek() != Kind::LeftBrace {
            name.push_str(self.token_text());
            self.advance();
        }
        let offset = self.token().start;
        self.accept(Kind::LeftBrace);
        let mut fields = Vec::new();
        let first = &[Kind::Question, Kind::Identifier, Kind::EscapedIdentifier];
        if !self.sync(first, &[Kind::RightBrace, Kind::Comma]) {
            return self.unspecified();
        }
        let mut more = first.contains(&self.peek());
        while more {
            let optional = self.accept(Kind::Question);
            let Some((name, _)) = self.field_name() else { return self.unspecified() };
            let colon = self.token().start;
            if !self.expect(Kind::Colon) {
                return self.unspecified();
            }
            let id = self.entry(colon);
            let value = self.nested(&[Kind::Comma, Kind::RightBrace]);
            fields.push(StructField { id, name: Arc::from(name), value, optional });
            more = self.another(first, &[]);
        }
        if !self.close(Kind::RightBrace) {
            return self.unspecified();
        }
        self.node(offset, ExprKind::Struct { type_name: Arc::from(name), fields })
    }

    fn entry(&mut self, offset: usize) -> ExprId {
        self.node(offset, ExprKind::Unspecified).id
    }

    /// Takes the comma if one more element comes behind it.
    fn another(&mut self, first: &[Kind], more: &[Kind]) -> bool {
        let next = self.peek_at(1);
        let there = self.peek() == Kind::Comma && (first.contains(&next) || more.contains(&next));
        there && self.accept(Kind::Comma)
    }

    /// Takes the closing token, and a comma before it.
    fn close(&mut self, kind: Kind) -> bool {
        if !self.sync(&[Kind::Comma, kind], &[]) {
            return false;
        }
        self.accept(Kind::Comma);
        self.expect(kind)
    }

    fn list(&mut self, offset: usize) -> Expr {
        self.accept(Kind::LeftBracket);
        let (mut elements, mut optional) = (Vec::new(), Vec::new());
        if !self.sync(OPERAND, &[Kind::RightBracket, Kind::Comma, Kind::Question]) {
            return self.unspecified();
        }
        let mut more = !matches!(self.peek(), Kind::RightBracket | Kind::Comma);
        while more {
            if self.accept(Kind::Question) {
                optional.push(elements.len());
            }
            elements.push(self.nested(&[Kind::Comma, Kind::RightBracket]));
            more = self.another(OPERAND, &[Kind::Question]);
        }
        if !self.close(Kind::RightBracket) {
            return self.unspecified();
        }
        self.node(offset, ExprKind::List { elements, optional })
    }

    fn map(&mut self, offset: usize) -> Expr {
        self.accept(Kind::LeftBrace);
        let mut entries = Vec::new();
        if !self.sync(OPERAND, &[Kind::RightBrace, Kind::Comma, Kind::Question]) {
            return self.unspecified();
        }
        let mut more = !matches!(self.peek(), Kind::RightBrace | Kind::Comma);
        while more {
            let optional = self.accept(Kind::Question);
            let key = self.nested(&[Kind::Colon]);
            let colon = self.token().start;
            if !self.expect(Kind::Colon) {
                return self.unspecified();
            }
            let id = self.entry(colon);
            let value = self.nested(&[Kind::Comma, Kind::RightBrace]);
            entries.push(MapEntry { id, key, value, optional });
            more = self.another(OPERAND, &[Kind::Question]);
        }
        if !self.close(Kind::RightBrace) {
            return self.unspecified();
        }
        self.node(offset, ExprKind::Map(entries))
    }

    fn literal(&mut self, offset: usize) -> Expr {
        let negative = self.peek() == Kind::Minus;
        if negative && !matches!(self.peek_at(1), Kind::Int | Kind::Float) {
            self.no_viable_alternative(self.at, self.at + 1);
            return self.unspecified();
        }
        if negative {
            self.advance();
        }
        let sign = if negative { "-" } else { "" };
        let text = self.token_text();
        let kind = self.peek();
        let value = match kind {
            Kind::True => Ok(Value::Bool(true)),
            Kind::False => Ok(Value::Bool(false)),
            Kind::Null => Ok(Value::Null),
            Kind::Int => integer(sign, text).map(Value::Int).ok_or("invalid int literal"),
            Kind::Uint => unsigned(text).map(Value::Uint).ok_or("invalid uint literal"),
            Kind::Float => double(sign, text).map(Value::Double).ok_or("invalid double literal"),
            Kind::String => unescape(text, false).and_then(|bytes| match String::from_utf8(bytes) {
                Ok(text) => Ok(Value::from(text)),
                Err(_) => Err("unable to unescape string"),
            }),
            Kind::Bytes => unescape(&text[1..], true).map(Value::bytes),
            _ => {
                self.sync(OPERAND, &[]);
                return self.unspecified();
            }
        };
        self.accept(kind);
        match value {
            Ok(value) => self.node(offset, ExprKind::Literal(value)),
            Err(message) => self.error_node(offset, message),
        }
    }
}

fn integer(sign: &str, text: &str) -> Option<i64> {
    match text.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(&format!("{sign}{hex}"), 16).ok(),
        None => format!("{sign}{text}").parse().ok(),
    }
}

fn unsigned(text: &str) -> Option<u64> {
    let digits = text.strip_suffix(['u', 'U'])?;
    match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => digits.parse().ok(),
    }
}

/// Go reports numbers that are out of range.
fn double(sign: &str, text: &str) -> Option<f64> {
    format!("{sign}{text}").parse::<f64>().ok().filter(|d| d.is_finite())
}
