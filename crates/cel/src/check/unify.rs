//! Assignability and substitution of type variables.

use std::sync::Arc;

use base::map::HashMap;

use crate::Type;

/// What type variables stand for, with a log by which failed attempts are taken back.
#[derive(Default)]
pub(super) struct Mapping {
    map: HashMap<Arc<str>, Type>,
    log: Vec<(Arc<str>, Option<Type>)>,
}

impl Mapping {
    /// Whether `a` and `b` can be made the same; if not, nothing has changed.
    pub(super) fn assignable(&mut self, a: &Type, b: &Type) -> bool {
        self.attempt(|mapping| mapping.is_assignable(a, b))
    }

    /// As [`Mapping::assignable`], for all pairs.
    pub(super) fn all_assignable(&mut self, a: &[Type], b: &[Type]) -> bool {
        self.attempt(|mapping| mapping.are_assignable(a, b))
    }

    fn attempt(&mut self, f: impl FnOnce(&mut Self) -> bool) -> bool {
        self.log.clear();
        let done = f(self);
        if !done {
            while let Some((name, before)) = self.log.pop() {
                match before {
                    Some(ty) => self.map.insert(name, ty),
                    None => self.map.remove(&name),
                };
            }
        }
        done
    }

    fn bind(&mut self, name: &Arc<str>, ty: Type) {
        let before = self.map.insert(name.clone(), ty);
        self.log.push((name.clone(), before));
    }

    fn find(&self, ty: &Type) -> Option<&Type> {
        match ty {
            Type::Param(name) => self.map.get(name),
            _ => None,
        }
    }

    fn is_assignable(&mut self, a: &Type, b: &Type) -> bool {
        if let Type::Param(_) = b {
            match self.substitutes(a, b) {
                (true, _) => return true,
                (false, true) => return false,
                (false, false) => {}
            }
        }
        if let Type::Param(_) = a {
            return self.substitutes(b, a).0;
        }
        let wild = |ty: &Type| ty.is_dyn() || *ty == Type::Error;
        if wild(a) || wild(b) {
            return true;
        }
        match (a, b) {
            (Type::Null, other) | (other, Type::Null) => matches!(
                other,
                Type::Null | Type::Opaque(..) | Type::Object(_) | Type::Duration | Type::Timestamp
            ),
            (Type::Type(_), Type::Type(_)) => true,
            (Type::List(a), Type::List(b)) => self.is_assignable(a, b),
            (Type::Map(a), Type::Map(b)) => self.is_assignable(&a.0, &b.0) && self.is_assignable(&a.1, &b.1),
            (Type::Opaque(a, a_params), Type::Opaque(b, b_params)) => {
                a == b && self.are_assignable(a_params, b_params)
            }
            _ => a == b,
        }
    }

    fn are_assignable(&mut self, a: &[Type], b: &[Type]) -> bool {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| self.is_assignable(a, b))
    }

    /// Whether the variable `var` can stand for `ty`, and whether it stood for something before.
    fn substitutes(&mut self, ty: &Type, var: &Type) -> (bool, bool) {
        if ty == var {
            return (true, true);
        }
        let Type::Param(name) = var else { return (false, false) };
        if let Some(before) = self.map.get(name).cloned() {
            if *ty == before {
                return (true, true);
            }
            if !self.is_assignable(ty, &before) {
                return (false, true);
            }
            let general = most_general(ty, &before).clone();
            if self.does_not_occur(var, &general) {
                self.bind(name, general);
            }
            return (true, true);
        }
        if self.does_not_occur(var, ty) {
            self.bind(name, ty.clone());
            return (true, false);
        }
        (false, false)
    }

    fn does_not_occur(&self, var: &Type, within: &Type) -> bool {
        if var == within {
            return false;
        }
        match within {
            Type::Param(name) => self.map.get(name).is_none_or(|ty| self.does_not_occur(var, ty)),
            Type::List(element) => self.does_not_occur(var, element),
            Type::Map(types) => self.does_not_occur(var, &types.0) && self.does_not_occur(var, &types.1),
            Type::Opaque(_, params) => params.iter().all(|param| self.does_not_occur(var, param)),
            Type::Type(Some(of)) => self.does_not_occur(var, of),
            _ => true,
        }
    }

    /// The type with its variables replaced; those that stand for nothing become `dyn` if `free_to_dyn`.
    pub(super) fn substitute(&self, ty: &Type, free_to_dyn: bool) -> Type {
        if let Some(found) = self.find(ty) {
            return self.substitute(found, free_to_dyn);
        }
        match ty {
            Type::Param(_) if free_to_dyn => Type::Dyn,
            Type::List(element) => Type::list(self.substitute(element, free_to_dyn)),
            Type::Map(types) => {
                Type::map(self.substitute(&types.0, free_to_dyn), self.substitute(&types.1, free_to_dyn))
            }
            Type::Opaque(name, params) => {
                let params = params.iter().map(|param| self.substitute(param, free_to_dyn)).collect();
                Type::Opaque(name.clone(), params)
            }
            Type::Type(Some(of)) => Type::type_of(self.substitute(of, free_to_dyn)),
            other => other.clone(),
        }
    }
}

/// The more general of two types that can be made the same.
pub(super) fn most_general<'t>(a: &'t Type, b: &'t Type) -> &'t Type {
    if is_equal_or_less_specific(a, b) { a } else { b }
}

fn is_equal_or_less_specific(a: &Type, b: &Type) -> bool {
    let open = |ty: &Type| ty.is_dyn() || matches!(ty, Type::Param(_));
    if open(a) {
        return true;
    }
    if open(b) {
        return false;
    }
    match (a, b) {
        (Type::List(a), Type::List(b)) => is_equal_or_less_specific(a, b),
        (Type::Map(a), Type::Map(b)) => {
            is_equal_or_less_specific(&a.0, &b.0) && is_equal_or_less_specific(&a.1, &b.1)
        }
        (Type::Opaque(a, a_params), Type::Opaque(b, b_params)) => {
            a == b
                && a_params.len() == b_params.len()
                && a_params.iter().zip(b_params.iter()).all(|(a, b)| is_equal_or_less_specific(a, b))
        }
        (Type::Type(_), Type::Type(_)) => true,
        _ => a == b,
    }
}

/// The type with the variables of a declaration replaced by fresh ones.
pub(super) fn instantiate(ty: &Type, fresh: &mut impl FnMut(&Arc<str>) -> Type) -> Type {
    match ty {
        Type::Param(name) => fresh(name),
        Type::List(element) => Type::list(instantiate(element, fresh)),
        Type::Map(types) => {
            let key = instantiate(&types.0, fresh);
            Type::map(key, instantiate(&types.1, fresh))
        }
        Type::Opaque(name, params) => {
            Type::Opaque(name.clone(), params.iter().map(|param| instantiate(param, fresh)).collect())
        }
        Type::Type(Some(of)) => Type::type_of(instantiate(of, fresh)),
        other => other.clone(),
    }
}
