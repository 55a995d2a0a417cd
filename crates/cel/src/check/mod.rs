//! The type checker: gradual typing as in cel-go, with its texts.

mod literals;
mod unify;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use unify::{Mapping, instantiate, most_general};

use crate::error::Issues;
use crate::function::Function;
use crate::syntax::ast::{Comprehension, Expr, ExprId, ExprKind, MapEntry, StructField};
use crate::syntax::operators;
use crate::syntax::source::Source;
use crate::types::{Type, TypeProvider};
use crate::{Value, stdlib};

/// What names mean.
pub(crate) struct Declarations<'e> {
    pub(crate) variables: &'e BTreeMap<Arc<str>, Type>,
    pub(crate) types: &'e dyn TypeProvider,
    pub(crate) functions: &'e BTreeMap<&'static str, Function>,
}

/// What a name or call refers to.
#[derive(Clone, Debug)]
pub(crate) enum Reference {
    /// A variable of the environment or a comprehension.
    Variable,
    /// A type by its name.
    Type(Type),
    /// The overloads of a function that may apply, by index.
    Overloads(Vec<usize>),
}

/// What the checker found out about each node.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    types: Vec<Type>,
    references: Vec<Option<Reference>>,
}

impl Checked {
    pub(crate) fn type_of(&self, expr: &Expr) -> &Type {
        self.types.get(expr.id as usize).unwrap_or(&Type::Dyn)
    }

    pub(crate) fn reference(&self, id: ExprId) -> Option<&Reference> {
        self.references.get(id as usize)?.as_ref()
    }
}

/// Checks the tree. Names that turn out to be qualified are joined in it.
pub(crate) fn check(
    expr: &mut Expr,
    source: &Source,
    declarations: &Declarations<'_>,
) -> Result<Checked, Issues> {
    let mut checker = Checker {
        declarations,
        source,
        issues: Issues::new(source.text.clone()),
        types: vec![None; source.ids()],
        references: vec![None; source.ids()],
        mapping: Mapping::default(),
        scope: Vec::new(),
        free_variables: 0,
    };
    checker.check(expr);
    if checker.issues.is_empty() {
        literals::validate(&mut checker, expr);
    }
    if !checker.issues.is_empty() {
        return Err(checker.issues);
    }
    let types = checker.types.iter().map(|ty| match ty {
        Some(ty) => checker.mapping.substitute(ty, true),
        None => Type::Dyn,
    });
    Ok(Checked { types: types.collect(), references: checker.references })
}

struct Checker<'c> {
    declarations: &'c Declarations<'c>,
    source: &'c Source,
    issues: Issues,
    types: Vec<Option<Type>>,
    references: Vec<Option<Reference>>,
    mapping: Mapping,
    /// The variables of the comprehensions around, innermost last.
    scope: Vec<(Arc<str>, Type)>,
    free_variables: usize,
}

impl Checker<'_> {
    fn error(&mut self, id: ExprId, message: String) {
        self.issues.push(self.source.location(id), message);
    }

    fn type_mismatch(&mut self, id: ExprId, expected: &Type, actual: &Type) {
        self.error(id, format!("expected type '{expected}' but found '{actual}'"));
    }

    fn undeclared(&mut self, id: ExprId, name: &str) -> Type {
        self.error(id, format!("undeclared reference to '{name}' (in container '')"));
        Type::Error
    }

    fn new_variable(&mut self) -> Type {
        self.free_variables += 1;
        Type::Param(format!("_var{}", self.free_variables - 1).into())
    }

    fn type_of(&self, expr: &Expr) -> Type {
        self.types.get(expr.id as usize).and_then(Clone::clone).unwrap_or(Type::Error)
    }

    /// Checks a node and notes its type.
    fn check(&mut self, expr: &mut Expr) {
        let ty = self.check_kind(expr);
        if let Some(slot) = self.types.get_mut(expr.id as usize) {
            *slot = Some(ty);
        }
    }

    fn check_kind(&mut self, expr: &mut Expr) -> Type {
        let id = expr.id;
        match &mut expr.kind {
            ExprKind::Unspecified => Type::Error,
            ExprKind::Literal(value) => value.type_of(),
            ExprKind::Ident(name) => {
                let name = name.clone();
                self.lookup(id, &name).unwrap_or_else(|| self.undeclared(id, &name))
            }
            ExprKind::Select { .. } => self.check_select(expr),
            ExprKind::Call { .. } => self.check_call(expr),
            ExprKind::List { elements, optional } => self.check_list(elements, optional),
            ExprKind::Map(entries) => self.check_map(entries),
            ExprKind::Struct { type_name, fields } => self.check_struct(id, type_name, fields),
            ExprKind::Comprehension(fold) => self.check_comprehension(fold),
        }
    }

    /// The type of a variable or type by its name, and notes which it is.
    fn lookup(&mut self, id: ExprId, name: &str) -> Option<Type> {
        let name = name.strip_prefix('.').unwrap_or(name);
        let local = self.scope.iter().rev().find(|(local, _)| **local == *name).map(|(_, ty)| ty.clone());
        let variable = local.or_else(|| self.declarations.variables.get(name).cloned());
        if let Some(ty) = variable {
            self.references[id as usize] = Some(Reference::Variable);
            return Some(ty);
        }
        let ty = stdlib::type_named(name).or_else(|| self.declarations.types.find_type(name))?;
        self.references[id as usize] = Some(Reference::Type(ty.clone()));
        Some(Type::type_of(ty))
    }

    fn check_select(&mut self, expr: &mut Expr) -> Type {
        let id = expr.id;
        if let Some(name) = expr.qualified_name()
            && let Some(ty) = self.lookup(id, &name)
        {
            expr.kind = ExprKind::Ident(name.into());
            return ty;
        }
        let ExprKind::Select { operand, field, test_only } = &mut expr.kind else { return Type::Error };
        let ty = self.check_field(id, operand, field, false);
        if *test_only { Type::Bool } else { self.mapping.substitute(&ty, false) }
    }

    fn check_field(&mut self, id: ExprId, operand: &mut Expr, field: &str, optional: bool) -> Type {
        self.check(operand);
        let operand_type = self.mapping.substitute(&self.type_of(operand), false);
        let target = operand_type.optional_value().unwrap_or(&operand_type);
        let result = match target {
            Type::Map(types) => types.1.clone(),
            Type::Object(name) => self.field_type(id, name, field),
            Type::Param(_) => {
                self.mapping.assignable(&Type::Dyn, target);
                Type::Dyn
            }
            Type::Dyn | Type::Any | Type::Error => Type::Dyn,
            other => {
                self.error(id, format!("type '{other}' does not support field selection"));
                Type::Dyn
            }
        };
        if optional || operand_type.optional_value().is_some() { Type::optional(result) } else { result }
    }

    fn field_type(&mut self, id: ExprId, type_name: &str, field: &str) -> Type {
        if self.declarations.types.find_type(type_name).is_none() {
            self.error(id, format!("unexpected failed resolution of '{type_name}'"));
            return Type::Error;
        }
        match self.declarations.types.field(type_name, field) {
            Some(field) => field.ty,
            None => {
                self.error(id, format!("undefined field '{field}'"));
                Type::Error
            }
        }
    }

    fn check_call(&mut self, expr: &mut Expr) -> Type {
        let id = expr.id;
        let ExprKind::Call { function, target, args } = &mut expr.kind else { return Type::Error };
        if &**function == operators::OPT_SELECT {
            return self.check_opt_select(id, args);
        }
        args.iter_mut().for_each(|arg| self.check(arg));
        let functions = self.declarations.functions;
        // `a.b.c(x)` is the function `a.b.c` if there is one.
        let qualified = target
            .as_ref()
            .and_then(|target| target.qualified_name())
            .map(|prefix| format!("{}.{function}", prefix.strip_prefix('.').unwrap_or(&prefix)))
            .and_then(|name| functions.get(&*name));
        if let Some(found) = qualified {
            *function = Arc::from(found.name);
            *target = None;
        } else if let Some(target) = target {
            self.check(target);
        }
        let name = function.strip_prefix('.').unwrap_or(function);
        let Some(found) = functions.get(name) else {
            let name = function.clone();
            return self.undeclared(id, &name);
        };
        if name.len() != function.len() {
            *function = Arc::from(found.name);
        }
        self.resolve(id, found, target.as_deref(), args)
    }

    fn check_opt_select(&mut self, id: ExprId, args: &mut [Expr]) -> Type {
        let [operand, name] = args else { return Type::Error };
        let ExprKind::Literal(Value::String(field)) = &name.kind else { return Type::Error };
        let field = field.to_string();
        let ty = self.check_field(id, operand, &field, true);
        self.references[id as usize] = Some(Reference::Overloads(vec![0]));
        self.mapping.substitute(&ty, false)
    }

    fn resolve(&mut self, id: ExprId, function: &Function, target: Option<&Expr>, args: &[Expr]) -> Type {
        let mut arg_types: Vec<Type> = target.into_iter().chain(args).map(|arg| self.type_of(arg)).collect();
        if matches!(function.name, operators::AND | operators::OR) {
            return self.resolve_logical(id, args, &arg_types);
        }
        let mut result: Option<Type> = None;
        let mut matching = Vec::new();
        for (index, overload) in function.overloads.iter().enumerate() {
            if overload.member != target.is_some() {
                continue;
            }
            let mut fresh: Vec<(Arc<str>, Type)> = Vec::new();
            let mut next = |name: &Arc<str>| match fresh.iter().find(|(known, _)| known == name) {
                Some((_, ty)) => ty.clone(),
                None => {
                    let ty = self.new_variable();
                    fresh.push((name.clone(), ty.clone()));
                    ty
                }
            };
            let params: Vec<Type> =
                overload.params.iter().map(|param| instantiate(param, &mut next)).collect();
            let overload_result = instantiate(&overload.result, &mut next);
            if !self.mapping.all_assignable(&arg_types, &params) {
                continue;
            }
            matching.push(index);
            let this = self.mapping.substitute(&overload_result, false);
            result = Some(match result {
                None => this,
                Some(before) if !before.is_dyn() && before != this => Type::Dyn,
                Some(before) => before,
            });
        }
        let Some(result) = result else {
            arg_types.iter_mut().for_each(|ty| *ty = self.mapping.substitute(ty, true));
            let signature = signature(&arg_types, target.is_some());
            let name = function.name;
            self.error(id, format!("found no matching overload for '{name}' applied to '{signature}'"));
            return Type::Error;
        };
        self.references[id as usize] = Some(Reference::Overloads(matching));
        result
    }

    fn resolve_logical(&mut self, id: ExprId, args: &[Expr], arg_types: &[Type]) -> Type {
        let mut result = Type::Bool;
        for (arg, ty) in args.iter().zip(arg_types) {
            if !self.mapping.assignable(ty, &Type::Bool) {
                self.type_mismatch(arg.id, &Type::Bool, ty);
                result = Type::Error;
            }
        }
        self.references[id as usize] = Some(Reference::Overloads(vec![0]));
        result
    }

    /// The type of an optional element: what is in the optional.
    fn unwrapped(&mut self, expr: &Expr, optional: bool) -> Type {
        let ty = self.type_of(expr);
        if !optional {
            return ty;
        }
        if let Some(value) = ty.optional_value() {
            return value.clone();
        }
        if !ty.is_dyn() {
            self.type_mismatch(expr.id, &Type::optional(ty.clone()), &ty);
        }
        ty
    }

    fn check_list(&mut self, elements: &mut [Expr], optional: &[usize]) -> Type {
        let mut joined = None;
        for (index, element) in elements.iter_mut().enumerate() {
            self.check(element);
            let ty = self.unwrapped(element, optional.contains(&index));
            joined = Some(self.join(joined, ty));
        }
        Type::list(joined.unwrap_or_else(|| self.new_variable()))
    }

    fn check_map(&mut self, entries: &mut [MapEntry]) -> Type {
        let (mut keys, mut values) = (None, None);
        for entry in entries {
            self.check(&mut entry.key);
            let key = self.type_of(&entry.key);
            keys = Some(self.join(keys, key));
            self.check(&mut entry.value);
            let value = self.unwrapped(&entry.value, entry.optional);
            values = Some(self.join(values, value));
        }
        let key = keys.unwrap_or_else(|| self.new_variable());
        let value = values.unwrap_or_else(|| self.new_variable());
        Type::map(key, value)
    }

    /// The type of elements so far and of one more; `dyn` if they differ, which [`literals`] reports.
    fn join(&mut self, previous: Option<Type>, current: Type) -> Type {
        let Some(previous) = previous else { return current };
        if self.mapping.assignable(&previous, &current) {
            return most_general(&previous, &current).clone();
        }
        Type::Dyn
    }

    fn check_struct(&mut self, id: ExprId, type_name: &mut Arc<str>, fields: &mut [StructField]) -> Type {
        let Some(found) = self.lookup(id, type_name) else {
            let name = type_name.clone();
            return self.undeclared(id, &name);
        };
        let result = match &found {
            Type::Type(Some(of)) => match &**of {
                Type::Object(name) => {
                    *type_name = name.clone();
                    (**of).clone()
                }
                other => {
                    self.error(id, format!("'{}' is not a message type", other.runtime_name()));
                    Type::Error
                }
            },
            other => {
                self.error(id, format!("'{}' is not a type", other.runtime_name()));
                Type::Error
            }
        };
        for field in fields {
            self.check(&mut field.value);
            let expected = self.field_type(field.id, type_name, &field.name);
            let provided = self.unwrapped(&field.value, field.optional);
            if !self.mapping.assignable(&expected, &provided) {
                let name = &field.name;
                self.error(
                    field.id,
                    format!(
                        "expected type of field '{name}' is '{expected}' but provided type is '{provided}'"
                    ),
                );
            }
        }
        result
    }

    fn check_comprehension(&mut self, fold: &mut Comprehension) -> Type {
        self.check(&mut fold.iter_range);
        self.check(&mut fold.accu_init);
        let range = self.mapping.substitute(&self.type_of(&fold.iter_range), false);
        let accumulator = self.type_of(&fold.accu_init);
        let outer = self.scope.len();
        self.scope.push((fold.accu_var.clone(), accumulator.clone()));
        let two = fold.iter_var2.is_some();
        let (first, second) = match &range {
            Type::List(element) if two => (Type::Int, (**element).clone()),
            Type::List(element) => ((**element).clone(), Type::Dyn),
            Type::Map(types) => (types.0.clone(), types.1.clone()),
            Type::Dyn | Type::Error | Type::Param(_) => {
                self.mapping.assignable(&Type::Dyn, &range);
                (Type::Dyn, Type::Dyn)
            }
            other => {
                self.error(
                    fold.iter_range.id,
                    format!(
                        "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                    ),
                );
                (Type::Error, Type::Error)
            }
        };
        let inner = self.scope.len();
        self.scope.push((fold.iter_var.clone(), first));
        if let Some(name) = &fold.iter_var2 {
            self.scope.push((name.clone(), second));
        }
        self.check(&mut fold.loop_condition);
        self.assert_type(&fold.loop_condition, &Type::Bool);
        self.check(&mut fold.loop_step);
        self.assert_type(&fold.loop_step, &accumulator);
        self.scope.truncate(inner);
        self.check(&mut fold.result);
        self.scope.truncate(outer);
        self.mapping.substitute(&self.type_of(&fold.result), false)
    }

    fn assert_type(&mut self, expr: &Expr, expected: &Type) {
        let actual = self.type_of(expr);
        if !self.mapping.assignable(expected, &actual) {
            self.type_mismatch(expr.id, expected, &actual);
        }
    }
}

/// `(int, string)`, or `int.(string)` for a member call.
fn signature(args: &[Type], member: bool) -> String {
    let mut text = String::new();
    let args = match (member, args.split_first()) {
        (true, Some((target, rest))) => {
            let _ = write!(text, "{target}.");
            rest
        }
        _ => args,
    };
    let args: Vec<String> = args.iter().map(Type::to_string).collect();
    let _ = write!(text, "({})", args.join(", "));
    text
}
