//! The static estimate (`checker/cost.go`).

use std::collections::BTreeMap;
use std::sync::Arc;

use base::map::HashMap;

use super::{CallEstimate, CostEstimate, CostNode, EstimateArgs, SizeEstimate, SizeHints};
use crate::check::{Checked, Reference};
use crate::function::{Function, Overload};
use crate::syntax::ACCUMULATOR;
use crate::syntax::ast::{Comprehension, Expr, ExprId, ExprKind, MapEntry};
use crate::{Type, Value};

const NOTHING: CostEstimate = CostEstimate::fixed(0);
const IDENT_OR_SELECT: CostEstimate = CostEstimate::fixed(1);
const LIST: CostEstimate = CostEstimate::fixed(10);
const MAP: CostEstimate = CostEstimate::fixed(30);
const STRUCT: CostEstimate = CostEstimate::fixed(40);
/// The cost per character of a string that is read once.
const STRING_TRAVERSAL: f64 = 0.1;
/// The cost of a regular expression per character.
const REGEX_LENGTH: f64 = 0.25;

/// What an evaluation of the tree costs.
pub(crate) fn estimate(
    expr: &Expr,
    checked: &Checked,
    functions: &BTreeMap<&'static str, Function>,
    hints: &dyn SizeHints,
) -> CostEstimate {
    let mut coster = Coster {
        checked,
        functions,
        hints,
        paths: HashMap::default(),
        sizes: HashMap::default(),
        entry_sizes: HashMap::default(),
        locals: Vec::new(),
    };
    coster.cost(expr)
}

/// The sizes of the entries of a list or map: of keys or indices, and of values.
#[derive(Clone, Copy)]
struct EntrySize {
    is_list: bool,
    key: SizeEstimate,
    value: SizeEstimate,
}

/// A variable of a comprehension.
struct Local {
    name: Arc<str>,
    path: Vec<String>,
    size: Option<SizeEstimate>,
    entry_size: Option<EntrySize>,
}

struct Coster<'c> {
    checked: &'c Checked,
    functions: &'c BTreeMap<&'static str, Function>,
    hints: &'c dyn SizeHints,
    paths: HashMap<ExprId, Vec<String>>,
    sizes: HashMap<ExprId, SizeEstimate>,
    entry_sizes: HashMap<ExprId, EntrySize>,
    locals: Vec<Local>,
}

/// An operand with its path.
struct Operand<'e> {
    expr: &'e Expr,
    path: Vec<String>,
    size: Option<SizeEstimate>,
}

impl Coster<'_> {
    fn cost(&mut self, expr: &Expr) -> CostEstimate {
        match &expr.kind {
            ExprKind::Unspecified | ExprKind::Literal(_) => NOTHING,
            ExprKind::Ident(name) => {
                let path = match self.local(name) {
                    Some(local) => local.path.clone(),
                    None => vec![name.to_string()],
                };
                self.paths.insert(expr.id, path);
                IDENT_OR_SELECT
            }
            ExprKind::Select { operand, test_only: true, .. } => self.cost(operand),
            ExprKind::Select { operand, field, test_only: false } => {
                let mut sum = self.cost(operand);
                if matches!(self.checked.type_of(operand), Type::Map(_) | Type::Object(_) | Type::Param(_)) {
                    sum = sum.add(IDENT_OR_SELECT);
                }
                let mut path = self.path(operand);
                path.push(field.to_string());
                self.paths.insert(expr.id, path);
                sum
            }
            ExprKind::Call { function, target, args } => {
                self.cost_call(expr, function, target.as_deref(), args)
            }
            ExprKind::List { elements, .. } => self.cost_list(expr, elements),
            ExprKind::Map(entries) => self.cost_map(expr, entries),
            ExprKind::Struct { fields, .. } => {
                let sum = fields.iter().fold(NOTHING, |sum, field| sum.add(self.cost(&field.value)));
                sum.add(STRUCT)
            }
            ExprKind::Comprehension(fold) if is_bind(fold) => self.cost_bind(expr, fold),
            ExprKind::Comprehension(fold) => self.cost_comprehension(expr, fold),
        }
    }

    fn cost_list(&mut self, expr: &Expr, elements: &[Expr]) -> CostEstimate {
        let mut sum = NOTHING;
        let mut item = empty_union(elements.is_empty());
        for element in elements {
            sum = sum.add(self.cost(element));
            item = item.union(self.size_or_unknown(element));
        }
        self.entry_sizes
            .insert(expr.id, EntrySize { is_list: true, key: SizeEstimate::fixed(1), value: item });
        sum.add(LIST)
    }

    fn cost_map(&mut self, expr: &Expr, entries: &[MapEntry]) -> CostEstimate {
        let mut sum = NOTHING;
        let (mut key, mut value) = (empty_union(entries.is_empty()), empty_union(entries.is_empty()));
        for entry in entries {
            sum = sum.add(self.cost(&entry.key)).add(self.cost(&entry.value));
            key = key.union(self.size_or_unknown(&entry.key));
            value = value.union(self.size_or_unknown(&entry.value));
        }
        self.entry_sizes.insert(expr.id, EntrySize { is_list: false, key, value });
        sum.add(MAP)
    }

    // Comprehensions.

    fn cost_comprehension(&mut self, expr: &Expr, fold: &Comprehension) -> CostEstimate {
        let mut sum = self.cost(&fold.iter_range);
        sum = sum.add(self.cost(&fold.accu_init));
        self.push_accumulator(fold);
        let inner = self.locals.len();
        match &fold.iter_var2 {
            Some(second) => {
                self.push_iteration(&fold.iter_var, &fold.iter_range, Part::Key);
                self.push_iteration(second, &fold.iter_range, Part::Value);
            }
            None => self.push_iteration(&fold.iter_var, &fold.iter_range, Part::Single),
        }
        let condition = self.cost(&fold.loop_condition);
        let step = self.cost(&fold.loop_step);
        self.locals.truncate(inner);
        sum = sum.add(self.cost(&fold.result));
        self.locals.pop();
        let count = self.size_or_unknown(&fold.iter_range);
        sum = sum.add(count.multiply_by_cost(step.add(condition)));
        match fold.accu_init.kind {
            ExprKind::Literal(_) => {
                let size = self.size(&fold.accu_init);
                self.set_size(expr.id, size);
            }
            ExprKind::List { .. } | ExprKind::Map(_) => {
                self.set_size(expr.id, Some(count));
                if let Some(entry_size) = self.entry_size(&fold.loop_step) {
                    self.entry_sizes.insert(expr.id, entry_size);
                }
            }
            _ => {}
        }
        sum
    }

    /// A comprehension over nothing, which only binds a name.
    fn cost_bind(&mut self, expr: &Expr, fold: &Comprehension) -> CostEstimate {
        let mut sum = self.cost(&fold.iter_range);
        sum = sum.add(self.cost(&fold.accu_init));
        self.push_accumulator(fold);
        sum = sum.add(self.cost(&fold.result));
        self.locals.pop();
        self.copy_sizes(expr, &fold.result);
        sum
    }

    fn push_accumulator(&mut self, fold: &Comprehension) {
        let local = Local {
            name: fold.accu_var.clone(),
            path: self.path(&fold.accu_init),
            entry_size: self.entry_size(&fold.accu_init),
            size: self.size(&fold.accu_init),
        };
        self.locals.push(local);
    }

    fn push_iteration(&mut self, name: &Arc<str>, range: &Expr, part: Part) {
        let entry = self.entry_size(range);
        let is_list = match entry {
            Some(entry) => entry.is_list,
            None => matches!(self.checked.type_of(range), Type::List(_)),
        };
        let key = entry.map(|entry| entry.key);
        let value = entry.map(|entry| entry.value);
        let (size, part) = match (part, is_list) {
            (Part::Key, true) => (key, "@indices"),
            (Part::Key | Part::Single, false) => (key, "@keys"),
            (Part::Value | Part::Single, true) => (value, "@items"),
            (Part::Value, false) => (value, "@values"),
        };
        let mut path = self.path(range);
        path.push(part.to_owned());
        self.locals.push(Local { name: name.clone(), path, size, entry_size: None });
    }

    // Calls.

    fn cost_call(
        &mut self,
        expr: &Expr,
        function: &str,
        target: Option<&Expr>,
        args: &[Expr],
    ) -> CostEstimate {
        // `dyn` only turns off the checker.
        if let ("dyn", [arg]) = (function, args) {
            let cost = self.cost(arg);
            self.copy_sizes(expr, arg);
            return cost.add(CostEstimate::fixed(1));
        }
        let mut arg_costs = Vec::with_capacity(args.len());
        let mut operands = Vec::with_capacity(args.len());
        for arg in args {
            arg_costs.push(self.cost(arg));
            operands.push(self.operand(arg));
        }
        let mut sum = NOTHING;
        let receiver = target.map(|target| {
            sum = self.cost(target);
            self.operand(target)
        });
        let checked = self.checked;
        let functions = self.functions;
        let Some(Reference::Overloads(matching)) = checked.reference(expr.id) else { return NOTHING };
        let Some(function) = functions.get(function) else { return NOTHING };
        let mut cost = CostEstimate { min: u64::MAX, max: 0 };
        let mut result_size: Option<SizeEstimate> = None;
        for overload in matching.iter().filter_map(|index| function.overloads.get(*index)) {
            let call = self.function_cost(expr, overload, receiver.as_ref(), &operands, &arg_costs);
            cost = cost.union(call.cost);
            result_size = match (result_size, call.result_size) {
                (Some(a), Some(b)) => Some(a.union(b)),
                (a, b) => a.or(b),
            };
            let part = match overload.id {
                "index_list" => Some("@items"),
                "index_map" => Some("@values"),
                _ => None,
            };
            if let (Some(part), [container, ..]) = (part, args) {
                result_size = self.entry_size(container).map(|entry| entry.value);
                let mut path = self.path(container);
                path.push(part.to_owned());
                self.paths.insert(expr.id, path);
            }
            if result_size.is_none() {
                result_size = self.size(expr);
            }
        }
        self.set_size(expr.id, result_size);
        sum.add(cost)
    }

    fn operand<'e>(&mut self, expr: &'e Expr) -> Operand<'e> {
        let mut path = self.path(expr);
        if path.first().is_some_and(|first| first == ACCUMULATOR) {
            path.clear();
        }
        let size = self.size(expr);
        Operand { expr, path, size }
    }

    fn node<'n>(&'n self, operand: &'n Operand<'n>) -> CostNode<'n> {
        let ty = self.checked.type_of(operand.expr);
        CostNode { path: &operand.path, ty, expr: operand.expr, computed_size: operand.size }
    }

    fn function_cost(
        &mut self,
        expr: &Expr,
        overload: &Overload,
        target: Option<&Operand<'_>>,
        args: &[Operand<'_>],
        arg_costs: &[CostEstimate],
    ) -> CallEstimate {
        let args_cost = arg_costs.iter().fold(NOTHING, |sum, cost| sum.add(*cost));
        let with_args =
            |cost: CostEstimate, result_size| CallEstimate { cost: cost.add(args_cost), result_size };
        if let Some(call) = self.library_cost(overload, target, args) {
            return with_args(call.cost, call.result_size);
        }
        let size = |operand: Option<&Operand<'_>>| {
            operand.and_then(|operand| operand.size).unwrap_or(SizeEstimate::UNKNOWN)
        };
        let (first, second) = (size(args.first()), size(args.get(1)));
        match (overload.id, args) {
            ("string_format", _) if target.is_some() => {
                with_args(size(target).multiply_by_cost_factor(STRING_TRAVERSAL), None)
            }
            ("string_to_bytes", [_]) => {
                let result = SizeEstimate { min: first.min, max: first.max.wrapping_mul(4) };
                with_args(first.multiply_by_cost_factor(STRING_TRAVERSAL), Some(result))
            }
            ("bytes_to_string", [_]) => {
                let result = SizeEstimate { min: first.min / 4, max: first.max };
                with_args(first.multiply_by_cost_factor(STRING_TRAVERSAL), Some(result))
            }
            ("starts_with_string" | "ends_with_string", [_]) => {
                with_args(first.multiply_by_cost_factor(STRING_TRAVERSAL), None)
            }
            ("in_list", [_, _]) => with_args(second.multiply_by_cost_factor(1.0), None),
            ("matches_string", [_]) if target.is_some() => {
                let text = size(target).add(SizeEstimate::fixed(1)).multiply_by_cost_factor(STRING_TRAVERSAL);
                with_args(text.multiply(first.multiply_by_cost_factor(REGEX_LENGTH)), None)
            }
            ("contains_string", [_]) if target.is_some() => {
                let text = size(target).multiply_by_cost_factor(STRING_TRAVERSAL);
                with_args(text.multiply(first.multiply_by_cost_factor(STRING_TRAVERSAL)), None)
            }
            ("logical_or" | "logical_and", [_, _]) => {
                let cost = CostEstimate { min: arg_costs[0].min, max: arg_costs[0].add(arg_costs[1]).max };
                CallEstimate { cost, result_size: None }
            }
            ("conditional", [_, if_true, if_false]) => {
                let result = second.union(size(args.get(2)));
                self.join_entry_sizes(expr, if_true.expr, if_false.expr);
                let cost = arg_costs[0].add(arg_costs[1].union(arg_costs[2]));
                CallEstimate { cost, result_size: Some(result) }
            }
            ("add_string" | "add_bytes" | "add_list", [left, right]) => {
                let result = first.add(second);
                self.join_entry_sizes(expr, left.expr, right.expr);
                let cost = match overload.id {
                    "add_list" => CostEstimate::fixed(1),
                    _ => result.multiply_by_cost_factor(STRING_TRAVERSAL),
                };
                with_args(cost, Some(result))
            }
            (id, [_, _]) if compares_contents(id) => {
                let shorter = first.max.min(second.max);
                let compared = CostEstimate { min: u64::from(shorter > 0), max: shorter };
                with_args(compared.multiply_by_cost_factor(STRING_TRAVERSAL), None)
            }
            _ => with_args(CostEstimate::fixed(1), None),
        }
    }

    /// What the library that has the function says.
    fn library_cost(
        &self,
        overload: &Overload,
        target: Option<&Operand<'_>>,
        args: &[Operand<'_>],
    ) -> Option<CallEstimate> {
        let estimate = overload.estimate?;
        let nodes: Vec<CostNode<'_>> = args.iter().map(|operand| self.node(operand)).collect();
        let target = target.map(|operand| self.node(operand));
        estimate(&EstimateArgs { target: target.as_ref(), args: &nodes, hints: self.hints })
    }

    // Sizes and paths.

    fn local(&self, name: &str) -> Option<&Local> {
        self.locals.iter().rev().find(|local| &*local.name == name)
    }

    fn local_of(&self, expr: &Expr) -> Option<&Local> {
        match &expr.kind {
            ExprKind::Ident(name) => self.local(name),
            _ => None,
        }
    }

    fn path(&self, expr: &Expr) -> Vec<String> {
        match self.local_of(expr) {
            Some(local) => local.path.clone(),
            None => self.paths.get(&expr.id).cloned().unwrap_or_default(),
        }
    }

    fn set_size(&mut self, id: ExprId, size: Option<SizeEstimate>) {
        if let Some(size) = size {
            self.sizes.insert(id, size);
        }
    }

    fn copy_sizes(&mut self, to: &Expr, from: &Expr) {
        let size = self.size(from);
        self.set_size(to.id, size);
        if let Some(entry_size) = self.entry_size(from) {
            self.entry_sizes.insert(to.id, entry_size);
        }
    }

    fn join_entry_sizes(&mut self, expr: &Expr, left: &Expr, right: &Expr) {
        if let (Some(left), Some(right)) = (self.entry_size(left), self.entry_size(right)) {
            let joined = EntrySize {
                is_list: left.is_list,
                key: left.key.union(right.key),
                value: left.value.union(right.value),
            };
            self.entry_sizes.insert(expr.id, joined);
        }
    }

    fn entry_size(&self, expr: &Expr) -> Option<EntrySize> {
        let known = self.entry_sizes.get(&expr.id).copied();
        known.or_else(|| self.local_of(expr).and_then(|local| local.entry_size))
    }

    fn size_or_unknown(&mut self, expr: &Expr) -> SizeEstimate {
        self.size(expr).unwrap_or(SizeEstimate::UNKNOWN)
    }

    fn size(&mut self, expr: &Expr) -> Option<SizeEstimate> {
        if let Some(size) = self.sizes.get(&expr.id) {
            return Some(*size);
        }
        if let Some(size) = literal_size(expr) {
            return Some(SizeEstimate::fixed(size));
        }
        let path = self.path(expr);
        let ty = self.checked.type_of(expr);
        let node = CostNode { path: &path, ty, expr, computed_size: None };
        if let Some(size) = self.hints.size(&node) {
            self.sizes.insert(expr.id, size);
            return Some(size);
        }
        if is_scalar(ty) {
            return Some(SizeEstimate::fixed(1));
        }
        self.local_of(expr).and_then(|local| local.size)
    }
}

/// What of an entry an iteration variable stands for.
#[derive(Clone, Copy)]
enum Part {
    Key,
    Value,
    /// The element of a list, the key of a map.
    Single,
}

/// What a union of sizes begins with.
fn empty_union(is_empty: bool) -> SizeEstimate {
    SizeEstimate { min: if is_empty { 0 } else { u64::MAX }, max: 0 }
}

fn is_bind(fold: &Comprehension) -> bool {
    let over_nothing =
        matches!(&fold.iter_range.kind, ExprKind::List { elements, .. } if elements.is_empty());
    over_nothing && matches!(fold.loop_condition.kind, ExprKind::Literal(Value::Bool(false)))
}

fn compares_contents(id: &str) -> bool {
    matches!(
        id,
        "less_string"
            | "greater_string"
            | "less_equals_string"
            | "greater_equals_string"
            | "less_bytes"
            | "greater_bytes"
            | "less_equals_bytes"
            | "greater_equals_bytes"
            | "equals"
            | "not_equals"
    )
}

fn literal_size(expr: &Expr) -> Option<u64> {
    match &expr.kind {
        ExprKind::Literal(value) => Some(value.size().unwrap_or(1)),
        ExprKind::List { elements, .. } => Some(elements.len() as u64),
        ExprKind::Map(entries) => Some(entries.len() as u64),
        _ => None,
    }
}

fn is_scalar(ty: &Type) -> bool {
    match ty {
        Type::Bool | Type::Double | Type::Duration | Type::Int | Type::Timestamp | Type::Uint => true,
        other => other.optional_value().is_some_and(is_scalar),
    }
}
