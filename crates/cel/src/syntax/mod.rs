//! From source text to the syntax tree.

pub mod ast;
mod lex;
mod macros;
mod parse;
mod recovery;
pub(crate) mod source;
mod unescape;

pub(crate) use macros::ACCUMULATOR;
pub(crate) use parse::parse;

/// Names of operators and of functions that macros call.
pub(crate) mod operators {
    pub(crate) const CONDITIONAL: &str = "_?_:_";
    pub(crate) const AND: &str = "_&&_";
    pub(crate) const OR: &str = "_||_";
    pub(crate) const NOT: &str = "!_";
    pub(crate) const EQUALS: &str = "_==_";
    pub(crate) const NOT_EQUALS: &str = "_!=_";
    pub(crate) const LESS: &str = "_<_";
    pub(crate) const LESS_EQUALS: &str = "_<=_";
    pub(crate) const GREATER: &str = "_>_";
    pub(crate) const GREATER_EQUALS: &str = "_>=_";
    pub(crate) const ADD: &str = "_+_";
    pub(crate) const SUBTRACT: &str = "_-_";
    pub(crate) const MULTIPLY: &str = "_*_";
    pub(crate) const DIVIDE: &str = "_/_";
    pub(crate) const MODULO: &str = "_%_";
    pub(crate) const NEGATE: &str = "-_";
    pub(crate) const INDEX: &str = "_[_]";
    pub(crate) const OPT_INDEX: &str = "_[?_]";
    pub(crate) const OPT_SELECT: &str = "_?._";
    pub(crate) const NOT_STRICTLY_FALSE: &str = "@not_strictly_false";
    pub(crate) const IN: &str = "@in";
    pub(crate) const MAP_INSERT: &str = "cel.@mapInsert";
    pub(crate) const SORT_BY_KEYS: &str = "@sortByAssociatedKeys";
}

/// How deep a tree is.
pub(crate) fn depth(expr: &ast::Expr) -> usize {
    use ast::ExprKind;
    let deepest = match &expr.kind {
        ExprKind::Unspecified | ExprKind::Literal(_) | ExprKind::Ident(_) => 0,
        ExprKind::Select { operand, .. } => depth(operand),
        ExprKind::Call { target, args, .. } => {
            target.iter().map(|target| &**target).chain(args).map(depth).max().unwrap_or(0)
        }
        ExprKind::List { elements, .. } => elements.iter().map(depth).max().unwrap_or(0),
        ExprKind::Map(entries) => {
            entries.iter().map(|entry| depth(&entry.key).max(depth(&entry.value))).max().unwrap_or(0)
        }
        ExprKind::Struct { fields, .. } => fields.iter().map(|field| depth(&field.value)).max().unwrap_or(0),
        ExprKind::Comprehension(fold) => {
            [&fold.iter_range, &fold.accu_init, &fold.loop_condition, &fold.loop_step, &fold.result]
                .into_iter()
                .map(depth)
                .max()
                .unwrap_or(0)
        }
    };
    deepest + 1
}
