//! Macros, which become comprehensions.

use std::sync::Arc;

use super::ast::{Comprehension, Expr, ExprId, ExprKind, MapEntry, StructField};
use super::operators::{
    ADD, AND, CONDITIONAL, EQUALS, MAP_INSERT, NOT, NOT_STRICTLY_FALSE, OR, SORT_BY_KEYS,
};
use super::parse::Parser;
use crate::Value;

/// The accumulator of a macro's comprehension; no name that could be written.
pub(crate) const ACCUMULATOR: &str = "@result";
/// What the accumulator used to be called, which is still not allowed as a variable.
const OLD_ACCUMULATOR: &str = "__result__";
/// The iteration variable of a comprehension that only binds a name.
const UNUSED: &str = "#unused";
const SORT_INPUT: &str = "@__sortBy_input__";

/// Why a call was not expanded.
pub(super) enum Failure {
    /// There is no macro of this name and number of arguments.
    NotAMacro(Option<Expr>, Vec<Expr>),
    /// The arguments are not as they have to be.
    Misuse { at: ExprId, message: String },
}

type Expansion = Result<Expr, Failure>;

fn misuse<T>(at: ExprId, message: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Misuse { at, message: message.into() })
}

/// Expands the call if it is one of a macro. New nodes are placed at `offset`.
pub(super) fn expand(
    parser: &mut Parser<'_>,
    offset: usize,
    function: &str,
    target: Option<Expr>,
    args: Vec<Expr>,
) -> Expansion {
    let mut expander = Expander { parser, offset };
    let Some(target) = target else {
        return match (function, <[Expr; 1]>::try_from(args)) {
            ("has", Ok([arg])) => expander.has(arg),
            (_, Ok([arg])) => Err(Failure::NotAMacro(None, vec![arg])),
            (_, Err(args)) => Err(Failure::NotAMacro(None, args)),
        };
    };
    match (function, args.len()) {
        ("bind", 3) if expander.parser.bindings && is_named(&target, "cel") => expander.bind_macro(args),
        ("all" | "exists" | "exists_one", 2 | 3) | ("existsOne", 3) => {
            expander.quantifier(function, target, args)
        }
        ("map", 2 | 3) => expander.map(target, args),
        ("filter", 2) => expander.filter(target, args),
        ("optMap" | "optFlatMap", 2) => expander.opt_map(function, target, args),
        ("transformList", 3 | 4) => expander.transform_list(target, args),
        ("transformMap" | "transformMapEntry", 3 | 4) => expander.transform_map(function, target, args),
        ("sortBy", 2) => expander.sort_by(target, args),
        _ => Err(Failure::NotAMacro(Some(target), args)),
    }
}

fn is_named(expr: &Expr, wanted: &str) -> bool {
    matches!(&expr.kind, ExprKind::Ident(name) if &**name == wanted)
}

struct Expander<'p, 's> {
    parser: &'p mut Parser<'s>,
    offset: usize,
}

/// The variables of a comprehension.
struct Variables {
    first: Arc<str>,
    second: Option<Arc<str>>,
}

/// The accumulator of a fold and how it goes on.
struct Fold {
    init: Expr,
    condition: Expr,
    step: Expr,
    result: Expr,
}

impl Expander<'_, '_> {
    fn node(&mut self, kind: ExprKind) -> Expr {
        self.parser.node(self.offset, kind)
    }

    fn literal(&mut self, value: impl Into<Value<'static>>) -> Expr {
        self.node(ExprKind::Literal(value.into()))
    }

    fn ident(&mut self, name: &str) -> Expr {
        self.node(ExprKind::Ident(Arc::from(name)))
    }

    fn accumulator(&mut self) -> Expr {
        self.ident(ACCUMULATOR)
    }

    fn list(&mut self, elements: Vec<Expr>) -> Expr {
        self.node(ExprKind::List { elements, optional: Vec::new() })
    }

    fn call(&mut self, function: &str, args: Vec<Expr>) -> Expr {
        self.node(ExprKind::Call { function: Arc::from(function), target: None, args })
    }

    fn member_call(&mut self, target: Expr, function: &str, args: Vec<Expr>) -> Expr {
        self.node(ExprKind::Call { function: Arc::from(function), target: Some(Box::new(target)), args })
    }

    fn fold(&mut self, iter_range: Expr, variables: Variables, accu_var: &str, fold: Fold) -> Expr {
        self.node(ExprKind::Comprehension(Box::new(Comprehension {
            iter_range,
            iter_var: variables.first,
            iter_var2: variables.second,
            accu_var: Arc::from(accu_var),
            accu_init: fold.init,
            loop_condition: fold.condition,
            loop_step: fold.step,
            result: fold.result,
        })))
    }

    /// A fold over every element, whose accumulator is the result.
    fn fold_all(&mut self, iter_range: Expr, variables: Variables, init: Expr, step: Expr) -> Expr {
        let condition = self.literal(true);
        let result = self.accumulator();
        self.fold(iter_range, variables, ACCUMULATOR, Fold { init, condition, step, result })
    }

    /// The step if the element passes the filter.
    fn filtered(&mut self, filter: Option<Expr>, step: Expr) -> Expr {
        match filter {
            Some(filter) => {
                let unchanged = self.accumulator();
                self.call(CONDITIONAL, vec![filter, step, unchanged])
            }
            None => step,
        }
    }

    fn appended(&mut self, element: Expr) -> Expr {
        let accumulator = self.accumulator();
        let element = self.list(vec![element]);
        self.call(ADD, vec![accumulator, element])
    }

    fn has(&mut self, arg: Expr) -> Expansion {
        match arg.kind {
            ExprKind::Select { operand, field, .. } => {
                Ok(self.node(ExprKind::Select { operand, field, test_only: true }))
            }
            _ => misuse(arg.id, "invalid argument to has() macro"),
        }
    }

    fn quantifier(&mut self, function: &str, target: Expr, mut args: Vec<Expr>) -> Expansion {
        let Some(predicate) = args.pop() else { return Err(Failure::NotAMacro(Some(target), args)) };
        let variables = variables(&args, "argument must be a simple name")?;
        let fold = match function {
            "all" => {
                let init = self.literal(true);
                let accumulator = self.accumulator();
                let condition = self.call(NOT_STRICTLY_FALSE, vec![accumulator]);
                let accumulator = self.accumulator();
                let step = self.call(AND, vec![accumulator, predicate]);
                Fold { init, condition, step, result: self.accumulator() }
            }
            "exists" => {
                let init = self.literal(false);
                let accumulator = self.accumulator();
                let negated = self.call(NOT, vec![accumulator]);
                let condition = self.call(NOT_STRICTLY_FALSE, vec![negated]);
                let accumulator = self.accumulator();
                let step = self.call(OR, vec![accumulator, predicate]);
                Fold { init, condition, step, result: self.accumulator() }
            }
            _ => {
                let init = self.literal(0i64);
                let condition = self.literal(true);
                let (accumulator, one) = (self.accumulator(), self.literal(1i64));
                let counted = self.call(ADD, vec![accumulator, one]);
                let step = self.filtered(Some(predicate), counted);
                let (accumulator, one) = (self.accumulator(), self.literal(1i64));
                Fold { init, condition, step, result: self.call(EQUALS, vec![accumulator, one]) }
            }
        };
        Ok(self.fold(target, variables, ACCUMULATOR, fold))
    }

    fn map(&mut self, target: Expr, mut args: Vec<Expr>) -> Expansion {
        let variables = variables(&args[..1], "argument is not an identifier")?;
        let Some(transform) = args.pop() else { return Err(Failure::NotAMacro(Some(target), args)) };
        let filter = if args.len() == 2 { args.pop() } else { None };
        let init = self.list(Vec::new());
        let step = self.appended(transform);
        let step = self.filtered(filter, step);
        Ok(self.fold_all(target, variables, init, step))
    }

    fn filter(&mut self, target: Expr, mut args: Vec<Expr>) -> Expansion {
        let variables = variables(&args[..1], "argument is not an identifier")?;
        let filter = args.pop();
        let Some(variable) = args.pop() else { return Err(Failure::NotAMacro(Some(target), args)) };
        let init = self.list(Vec::new());
        let step = self.appended(variable);
        let step = self.filtered(filter, step);
        Ok(self.fold_all(target, variables, init, step))
    }

    fn transform_list(&mut self, target: Expr, mut args: Vec<Expr>) -> Expansion {
        let variables = variables(&args[..2], "argument must be a simple name")?;
        let Some(transform) = args.pop() else { return Err(Failure::NotAMacro(Some(target), args)) };
        let filter = if args.len() == 3 { args.pop() } else { None };
        let init = self.list(Vec::new());
        let step = self.appended(transform);
        let step = self.filtered(filter, step);
        Ok(self.fold_all(target, variables, init, step))
    }

    fn transform_map(&mut self, function: &str, target: Expr, mut args: Vec<Expr>) -> Expansion {
        let variables = variables(&args[..2], "argument must be a simple name")?;
        let Some(transform) = args.pop() else { return Err(Failure::NotAMacro(Some(target), args)) };
        let filter = if args.len() == 3 { args.pop() } else { None };
        let accumulator = self.accumulator();
        let inserted = match function {
            "transformMap" => vec![accumulator, self.ident(&variables.first), transform],
            _ => vec![accumulator, transform],
        };
        let step = self.call(MAP_INSERT, inserted);
        let step = self.filtered(filter, step);
        let init = self.node(ExprKind::Map(Vec::new()));
        Ok(self.fold_all(target, variables, init, step))
    }

    /// A comprehension over nothing, only to bind the accumulator to a value in the result.
    fn bind(&mut self, name: &str, value: Expr, body: Expr) -> Expr {
        let nothing = self.list(Vec::new());
        let condition = self.literal(false);
        let step = self.ident(name);
        let variables = Variables { first: Arc::from(UNUSED), second: None };
        self.fold(nothing, variables, name, Fold { init: value, condition, step, result: body })
    }

    fn bind_macro(&mut self, args: Vec<Expr>) -> Expansion {
        let [name, value, body] = match <[Expr; 3]>::try_from(args) {
            Ok(args) => args,
            Err(args) => return Err(Failure::NotAMacro(None, args)),
        };
        match &name.kind {
            ExprKind::Ident(variable) => Ok(self.bind(variable, value, body)),
            _ => misuse(name.id, "cel.bind() variable names must be simple identifiers"),
        }
    }

    fn opt_map(&mut self, function: &str, target: Expr, mut args: Vec<Expr>) -> Expansion {
        let Some(body) = args.pop() else { return Err(Failure::NotAMacro(Some(target), args)) };
        let variable = match &args[0].kind {
            ExprKind::Ident(name) => name.clone(),
            _ => {
                return misuse(args[0].id, format!("{function}() variable name must be a simple identifier"));
            }
        };
        let copy = self.copy(&target);
        let has_value = self.member_call(target, "hasValue", Vec::new());
        let value = self.member_call(copy, "value", Vec::new());
        let mut mapped = self.bind(&variable, value, body);
        if function == "optMap" {
            mapped = self.call("optional.of", vec![mapped]);
        }
        let none = self.call("optional.none", Vec::new());
        Ok(self.call(CONDITIONAL, vec![has_value, mapped, none]))
    }

    fn sort_by(&mut self, target: Expr, args: Vec<Expr>) -> Expansion {
        let sortable = matches!(
            target.kind,
            ExprKind::List { .. }
                | ExprKind::Select { .. }
                | ExprKind::Ident(_)
                | ExprKind::Comprehension(_)
                | ExprKind::Call { .. }
        );
        if !sortable {
            let message =
                "sortBy can only be applied to a list, identifier, comprehension, call or select expression";
            return misuse(target.id, message);
        }
        let input = self.ident(SORT_INPUT);
        let keys = self.map(input, args)?;
        let input = self.ident(SORT_INPUT);
        let sorted = self.member_call(input, SORT_BY_KEYS, vec![keys]);
        Ok(self.bind(SORT_INPUT, target, sorted))
    }

    /// A copy with ids of its own, at the same places.
    fn copy(&mut self, expr: &Expr) -> Expr {
        let offset = self.parser.source.offset(expr.id);
        if self.parser.is_full() {
            return self.parser.node(offset, ExprKind::Unspecified);
        }
        let kind = match &expr.kind {
            ExprKind::Unspecified | ExprKind::Literal(_) | ExprKind::Ident(_) => expr.kind.clone(),
            ExprKind::Select { operand, field, test_only } => ExprKind::Select {
                operand: Box::new(self.copy(operand)),
                field: field.clone(),
                test_only: *test_only,
            },
            ExprKind::Call { function, target, args } => ExprKind::Call {
                function: function.clone(),
                target: target.as_ref().map(|target| Box::new(self.copy(target))),
                args: args.iter().map(|arg| self.copy(arg)).collect(),
            },
            ExprKind::List { elements, optional } => ExprKind::List {
                elements: elements.iter().map(|element| self.copy(element)).collect(),
                optional: optional.clone(),
            },
            ExprKind::Map(entries) => ExprKind::Map(
                entries
                    .iter()
                    .map(|entry| MapEntry {
                        id: self.node(ExprKind::Unspecified).id,
                        key: self.copy(&entry.key),
                        value: self.copy(&entry.value),
                        optional: entry.optional,
                    })
                    .collect(),
            ),
            ExprKind::Struct { type_name, fields } => ExprKind::Struct {
                type_name: type_name.clone(),
                fields: fields
                    .iter()
                    .map(|field| StructField {
                        id: self.node(ExprKind::Unspecified).id,
                        name: field.name.clone(),
                        value: self.copy(&field.value),
                        optional: field.optional,
                    })
                    .collect(),
            },
            ExprKind::Comprehension(fold) => ExprKind::Comprehension(Box::new(Comprehension {
                iter_range: self.copy(&fold.iter_range),
                iter_var: fold.iter_var.clone(),
                iter_var2: fold.iter_var2.clone(),
                accu_var: fold.accu_var.clone(),
                accu_init: self.copy(&fold.accu_init),
                loop_condition: self.copy(&fold.loop_condition),
                loop_step: self.copy(&fold.loop_step),
                result: self.copy(&fold.result),
            })),
        };
        self.parser.node(offset, kind)
    }
}

/// The one or two variables that the arguments name.
fn variables(args: &[Expr], not_a_name: &str) -> Result<Variables, Failure> {
    let mut names = Vec::with_capacity(2);
    for arg in args {
        match &arg.kind {
            ExprKind::Ident(name) => names.push(name.clone()),
            _ => return misuse(arg.id, not_a_name),
        }
    }
    if let [first, second] = &*names
        && first == second
    {
        return misuse(args[1].id, format!("duplicate variable name: {first}"));
    }
    for (name, arg) in names.iter().zip(args) {
        if matches!(&**name, ACCUMULATOR | OLD_ACCUMULATOR) {
            return misuse(arg.id, "iteration variable overwrites accumulator variable");
        }
    }
    let mut names = names.into_iter();
    let first = names.next().unwrap_or_else(|| Arc::from(UNUSED));
    Ok(Variables { first, second: names.next() })
}
