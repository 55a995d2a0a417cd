//! Environments, and the programs compiled in them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, LazyLock};

use crate::check::{Checked, Declarations, check};
use crate::cost::{CostEstimate, SizeHints, estimate};
use crate::error::{Issues, Location};
use crate::eval::plan::{Plan, plan};
use crate::eval::run::Run;
use crate::eval::{Activation, Outcome};
use crate::function::Function;
use crate::syntax::ast::Expr;
use crate::syntax::{depth, parse};
use crate::types::{NoTypes, Type, TypeProvider};
use crate::{ext, stdlib};

type Functions = BTreeMap<&'static str, Function>;

/// Trees may not be deeper than this, so that walking them cannot exhaust the stack.
const MAX_TREE_DEPTH: usize = 500;

/// What expressions may refer to: variables, object types and functions. Cheap to clone and to extend.
#[derive(Clone)]
pub struct Env {
    variables: Arc<BTreeMap<Arc<str>, Type>>,
    types: Arc<dyn TypeProvider>,
    functions: Arc<Functions>,
    bindings: bool,
}

static STANDARD: LazyLock<Arc<Functions>> = LazyLock::new(|| {
    Arc::new(stdlib::functions().into_iter().map(|function| (function.name, function)).collect())
});

static KUBERNETES: LazyLock<Env> = LazyLock::new(|| Env::standard().with_functions(ext::functions()));

impl Env {
    /// The standard library, optionals and two-variable comprehensions only.
    pub fn standard() -> Env {
        Env {
            variables: Arc::default(),
            types: Arc::new(NoTypes),
            functions: STANDARD.clone(),
            bindings: false,
        }
    }

    /// Everything that Kubernetes offers to all expressions.
    pub fn kubernetes() -> Env {
        KUBERNETES.clone()
    }

    /// With the macro `cel.bind`.
    pub fn with_bindings(self) -> Env {
        Env { bindings: true, ..self }
    }

    /// With one more variable.
    pub fn with_variable(mut self, name: &str, ty: Type) -> Env {
        Arc::make_mut(&mut self.variables).insert(Arc::from(name), ty);
        self
    }

    /// With these object types. They replace those given before.
    pub fn with_types(mut self, types: impl TypeProvider + 'static) -> Env {
        self.types = Arc::new(types);
        self
    }

    /// With more functions; overloads are added to functions there are.
    pub fn with_functions(mut self, functions: impl IntoIterator<Item = Function>) -> Env {
        let table = Arc::make_mut(&mut self.functions);
        for function in functions {
            match table.get_mut(function.name) {
                Some(there) => {
                    there.overloads.extend(function.overloads);
                    there.singleton = false;
                }
                None => {
                    table.insert(function.name, function);
                }
            }
        }
        self
    }

    /// Parses, checks and plans an expression. The issues say whether the expression is wrong or only cannot be
    /// made into a program ([`Issues::instantiation`]).
    pub fn compile(&self, source: &str) -> Result<Program, Issues> {
        let (mut expr, source) = parse(source, self.bindings)?;
        if depth(&expr) > MAX_TREE_DEPTH {
            let mut issues = Issues::new(source.text.clone());
            issues.push(Location::NONE, "max recursion depth exceeded");
            return Err(issues);
        }
        let declarations =
            Declarations { variables: &self.variables, types: &*self.types, functions: &self.functions };
        let checked = check(&mut expr, &source, &declarations)?;
        let planned = plan(&expr, &checked, &self.functions).map_err(|error| {
            let mut issues = Issues::new(source.text.clone());
            issues.instantiation = Some(error.to_string());
            issues
        })?;
        Ok(Program {
            inner: Arc::new(Inner {
                output_type: checked.type_of(&expr).clone(),
                plan: planned.plan,
                slots: planned.slots,
                variables: planned.variables,
                expr,
                checked,
                functions: self.functions.clone(),
            }),
        })
    }
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Env").field("variables", &self.variables).finish_non_exhaustive()
    }
}

/// A compiled expression. Cheap to clone.
#[derive(Clone)]
pub struct Program {
    inner: Arc<Inner>,
}

struct Inner {
    output_type: Type,
    plan: Plan,
    slots: usize,
    variables: BTreeSet<Arc<str>>,
    expr: Expr,
    checked: Checked,
    functions: Arc<Functions>,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("expr", &self.inner.expr).finish_non_exhaustive()
    }
}

impl Program {
    /// The type of the result.
    pub fn output_type(&self) -> &Type {
        &self.inner.output_type
    }

    /// Whether the expression reads the variable.
    pub fn references(&self, variable: &str) -> bool {
        self.inner.variables.contains(variable)
    }

    /// The tree, macros expanded.
    pub fn expr(&self) -> &Expr {
        &self.inner.expr
    }

    /// What an evaluation costs at least and at most, given what the host knows of sizes.
    pub fn estimate_cost(&self, hints: &dyn SizeHints) -> CostEstimate {
        estimate(&self.inner.expr, &self.inner.checked, &self.inner.functions, hints)
    }

    /// Evaluates. The result may borrow from the program and from what the activation holds. When more than
    /// `budget` is spent the evaluation ends with [`ErrorKind::CostLimit`](crate::ErrorKind::CostLimit).
    pub fn eval<'a>(&'a self, activation: &'a dyn Activation, budget: u64) -> Outcome<'a> {
        let mut run = Run::new(activation, budget, self.inner.slots);
        let result = run.eval(&self.inner.plan);
        Outcome { result, cost: run.cost }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_shared_between_threads() {
        fn shared<T: Send + Sync + 'static>() {}
        shared::<Env>();
        shared::<Program>();
    }
}
