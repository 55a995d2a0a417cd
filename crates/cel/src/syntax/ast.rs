//! The syntax tree. Macros are expanded while parsing: a comprehension is the only loop there is.

use std::sync::Arc;

use crate::Value;

/// Identifies a node; ids are dense and start at 1.
pub type ExprId = u32;

/// A node.
#[derive(Clone, Debug)]
pub struct Expr {
    /// Its id, by which types, references and places are looked up.
    pub id: ExprId,
    /// What it is.
    pub kind: ExprKind,
}

/// What a node is.
#[derive(Clone, Debug)]
pub enum ExprKind {
    /// Stands for what could not be parsed; only in trees that come with issues.
    Unspecified,
    /// A constant.
    Literal(Value<'static>),
    /// A variable, or a type by its name. A leading dot is kept.
    Ident(Arc<str>),
    /// `operand.field`, or `has(operand.field)` if `test_only`.
    Select {
        /// The left side.
        operand: Box<Expr>,
        /// The field.
        field: Arc<str>,
        /// Whether only presence is asked for.
        test_only: bool,
    },
    /// A call of a function, method or operator.
    Call {
        /// The function; operators have names such as `_+_`.
        function: Arc<str>,
        /// The receiver of a member call.
        target: Option<Box<Expr>>,
        /// The arguments.
        args: Vec<Expr>,
    },
    /// `[a, ?b]`.
    List {
        /// The elements.
        elements: Vec<Expr>,
        /// The indices of the optional ones, in order.
        optional: Vec<usize>,
    },
    /// `{k: v, ?k: v}`.
    Map(Vec<MapEntry>),
    /// `Name{field: v, ?field: v}`.
    Struct {
        /// The name of the object type.
        type_name: Arc<str>,
        /// The fields.
        fields: Vec<StructField>,
    },
    /// A fold.
    Comprehension(Box<Comprehension>),
}

/// One entry of a map literal.
#[derive(Clone, Debug)]
pub struct MapEntry {
    /// The entry's own id.
    pub id: ExprId,
    /// The key.
    pub key: Expr,
    /// The value.
    pub value: Expr,
    /// Whether the value is an optional, and the entry absent if it is none.
    pub optional: bool,
}

/// One field of a struct literal.
#[derive(Clone, Debug)]
pub struct StructField {
    /// The field's own id.
    pub id: ExprId,
    /// The name.
    pub name: Arc<str>,
    /// The value.
    pub value: Expr,
    /// Whether the value is an optional, and the field absent if it is none.
    pub optional: bool,
}

/// A fold over a list or a map.
#[derive(Clone, Debug)]
pub struct Comprehension {
    /// What is iterated over.
    pub iter_range: Expr,
    /// The element (or with `iter_var2` the index) of a list, the key of a map.
    pub iter_var: Arc<str>,
    /// The element or value, in comprehensions over two variables.
    pub iter_var2: Option<Arc<str>>,
    /// The accumulator.
    pub accu_var: Arc<str>,
    /// Its first value.
    pub accu_init: Expr,
    /// Whether to go on, before each element.
    pub loop_condition: Expr,
    /// The accumulator's next value.
    pub loop_step: Expr,
    /// The value of the whole.
    pub result: Expr,
}

impl Expr {
    /// The qualified name `a.b.c` that this chain of selections spells, if it is one.
    pub fn qualified_name(&self) -> Option<String> {
        match &self.kind {
            ExprKind::Ident(name) => Some(name.to_string()),
            ExprKind::Select { operand, field, test_only: false } => {
                let mut name = operand.qualified_name()?;
                name.push('.');
                name.push_str(field);
                Some(name)
            }
            _ => None,
        }
    }
}
