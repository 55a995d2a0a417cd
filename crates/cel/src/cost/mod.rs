//! Cost: ranges of sizes and costs, the static estimate and what hosts and libraries give for it.

mod estimate;

pub(crate) use estimate::estimate;

use crate::syntax::ast::{Expr, ExprKind};
use crate::{Type, Value};

/// A range of sizes: string length, number of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeEstimate {
    /// The least.
    pub min: u64,
    /// The greatest; `u64::MAX` if unbounded.
    pub max: u64,
}

/// A range of costs. All arithmetic saturates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CostEstimate {
    /// The least.
    pub min: u64,
    /// The greatest; `u64::MAX` if unbounded.
    pub max: u64,
}

/// What a call costs, and how large its result is if that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallEstimate {
    /// The cost of the call itself, without that of its arguments.
    pub cost: CostEstimate,
    /// The size of its result.
    pub result_size: Option<SizeEstimate>,
}

macro_rules! range_arithmetic {
    ($range:ident) => {
        impl $range {
            /// Exactly this.
            pub const fn fixed(n: u64) -> $range {
                $range { min: n, max: n }
            }

            /// From `min` to `max`.
            pub const fn new(min: u64, max: u64) -> $range {
                $range { min, max }
            }

            /// Nothing is known.
            pub const UNKNOWN: $range = $range { min: 0, max: u64::MAX };

            /// The sum.
            #[allow(clippy::should_implement_trait, reason = "named as in cel-go, saturating")]
            pub fn add(self, other: $range) -> $range {
                $range { min: self.min.saturating_add(other.min), max: self.max.saturating_add(other.max) }
            }

            /// The range that holds both.
            pub fn union(self, other: $range) -> $range {
                $range { min: self.min.min(other.min), max: self.max.max(other.max) }
            }

            /// Times a factor per unit, rounded up.
            pub fn multiply_by_cost_factor(self, per_unit: f64) -> CostEstimate {
                CostEstimate { min: times_factor(self.min, per_unit), max: times_factor(self.max, per_unit) }
            }
        }
    };
}
range_arithmetic!(SizeEstimate);
range_arithmetic!(CostEstimate);

impl SizeEstimate {
    /// The product.
    pub fn multiply(self, other: SizeEstimate) -> SizeEstimate {
        SizeEstimate { min: self.min.saturating_mul(other.min), max: self.max.saturating_mul(other.max) }
    }

    /// The cost of doing something of this cost as often as this size.
    pub fn multiply_by_cost(self, cost: CostEstimate) -> CostEstimate {
        CostEstimate { min: self.min.saturating_mul(cost.min), max: self.max.saturating_mul(cost.max) }
    }
}

impl CostEstimate {
    /// The product.
    pub fn multiply(self, other: CostEstimate) -> CostEstimate {
        CostEstimate { min: self.min.saturating_mul(other.min), max: self.max.saturating_mul(other.max) }
    }
}

fn times_factor(n: u64, per_unit: f64) -> u64 {
    // A factor below 1 makes even the unbounded size a number, as it does in cel-go; conversion saturates.
    (n as f64 * per_unit).ceil() as u64
}

/// An operand of a call, as estimates see it.
pub struct CostNode<'a> {
    /// The field path from a variable (`["self", "spec", "@items"]`); empty if the value is computed.
    /// `@items` are elements of a list, `@keys` and `@values` those of a map.
    pub path: &'a [String],
    /// The checked type.
    pub ty: &'a Type,
    /// The expression.
    pub expr: &'a Expr,
    /// The size if it follows from the expression (a literal, the result of a call whose result size is known).
    pub computed_size: Option<SizeEstimate>,
}

impl CostNode<'_> {
    /// The value if the operand is a literal.
    pub fn literal(&self) -> Option<&Value<'static>> {
        match &self.expr.kind {
            ExprKind::Literal(value) => Some(value),
            _ => None,
        }
    }

    /// The number of elements if the operand is a list literal.
    pub fn literal_elements(&self) -> Option<&[Expr]> {
        match &self.expr.kind {
            ExprKind::List { elements, .. } => Some(elements),
            _ => None,
        }
    }
}

/// The arguments of a call to be estimated.
pub struct EstimateArgs<'a> {
    /// The receiver of a member call.
    pub target: Option<&'a CostNode<'a>>,
    /// The arguments without the receiver.
    pub args: &'a [CostNode<'a>],
    /// The host's knowledge of sizes.
    pub hints: &'a dyn SizeHints,
}

impl EstimateArgs<'_> {
    /// The size of an operand: as computed, else as the host says, else unknown (`sizeEstimate`).
    pub fn size(&self, node: &CostNode<'_>) -> SizeEstimate {
        node.computed_size.or_else(|| self.hints.size(node)).unwrap_or(SizeEstimate::UNKNOWN)
    }
}

/// The host's knowledge of the sizes of variables and what is below them.
pub trait SizeHints {
    /// The size of what is at `node.path`, or `None` if unknown.
    fn size(&self, node: &CostNode<'_>) -> Option<SizeEstimate>;
}

/// No knowledge: every size is unbounded.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHints;

impl SizeHints for NoHints {
    fn size(&self, _node: &CostNode<'_>) -> Option<SizeEstimate> {
        None
    }
}

impl<F: Fn(&CostNode<'_>) -> Option<SizeEstimate>> SizeHints for F {
    fn size(&self, node: &CostNode<'_>) -> Option<SizeEstimate> {
        self(node)
    }
}
