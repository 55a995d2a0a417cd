//! What is checked of literals once the types are right: durations, timestamps and regular expressions can be
//! parsed, format strings fit their arguments, and the elements of lists and maps are all of one type.

use super::Checker;
use crate::syntax::ast::{Expr, ExprId, ExprKind};
use crate::value::{Duration, Value, timestamp};
use crate::{Type, ext, stdlib};

/// Reports literals that cannot be right.
pub(super) fn validate(checker: &mut Checker<'_>, expr: &Expr) {
    Validator { checker }.visit(expr, false);
}

struct Validator<'v, 'c> {
    checker: &'v mut Checker<'c>,
}

impl Validator<'_, '_> {
    fn visit(&mut self, expr: &Expr, in_format: bool) {
        match &expr.kind {
            ExprKind::Unspecified | ExprKind::Literal(_) | ExprKind::Ident(_) => {}
            ExprKind::Select { operand, .. } => self.visit(operand, in_format),
            ExprKind::Call { function, target, args } => {
                self.literal_argument(function, args);
                if let Some((id, why)) = ext::format::check_call(expr, &|expr| self.type_of(expr, false)) {
                    self.checker.error(id, why);
                }
                // The arguments of `format` are a list of whatever is to be formatted.
                let in_format = in_format || &**function == "format";
                for arg in target.iter().map(|target| &**target).chain(args) {
                    self.visit(arg, in_format);
                }
            }
            ExprKind::List { elements, optional } => {
                if !in_format {
                    let types: Vec<(ExprId, Type)> = elements
                        .iter()
                        .enumerate()
                        .map(|(index, element)| {
                            (element.id, self.type_of(element, optional.contains(&index)))
                        })
                        .collect();
                    self.all_same(&types, true);
                }
                elements.iter().for_each(|element| self.visit(element, in_format));
            }
            ExprKind::Map(entries) => {
                if !in_format {
                    let keys: Vec<_> =
                        entries.iter().map(|e| (e.key.id, self.type_of(&e.key, false))).collect();
                    let values: Vec<_> =
                        entries.iter().map(|e| (e.value.id, self.type_of(&e.value, e.optional))).collect();
                    self.all_same(&keys, false);
                    self.all_same(&values, false);
                }
                for entry in entries {
                    self.visit(&entry.key, in_format);
                    self.visit(&entry.value, in_format);
                }
            }
            ExprKind::Struct { fields, .. } => {
                fields.iter().for_each(|field| self.visit(&field.value, in_format))
            }
            ExprKind::Comprehension(fold) => {
                let parts =
                    [&fold.iter_range, &fold.accu_init, &fold.loop_condition, &fold.loop_step, &fold.result];
                parts.into_iter().for_each(|part| self.visit(part, in_format));
            }
        }
    }

    fn literal_argument(&mut self, function: &str, args: &[Expr]) {
        let Some(Expr { id, kind: ExprKind::Literal(literal) }) = args.first() else { return };
        let valid = match (function, literal) {
            ("duration", Value::String(text)) => Duration::parse(text).is_ok(),
            // Upstream does not take numbers here, though it does if they are not literals.
            ("duration", Value::Int(_)) => false,
            ("timestamp", Value::String(text)) => timestamp::parse(text).is_ok_and(timestamp::in_range),
            ("timestamp", Value::Int(seconds)) => timestamp::of_seconds(*seconds).is_some(),
            ("matches", Value::String(text)) => stdlib::regex::compile(text).is_ok(),
            _ => true,
        };
        if !valid {
            self.checker.error(*id, format!("invalid {function} argument"));
        }
    }

    fn type_of(&self, expr: &Expr, optional: bool) -> Type {
        let ty = self.checker.mapping.substitute(&self.checker.type_of(expr), true);
        match ty.optional_value() {
            Some(value) if optional => value.clone(),
            _ => ty,
        }
    }

    fn all_same(&mut self, types: &[(ExprId, Type)], only_first: bool) {
        let Some(((_, first), rest)) = types.split_first() else { return };
        for (id, ty) in rest.iter().filter(|(_, ty)| ty != first) {
            self.checker.type_mismatch(*id, first, ty);
            if only_first {
                return;
            }
        }
    }
}
