//! Environments, and the programs compiled in them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cost::{CostEstimate, SizeHints};
use crate::error::Issues;
use crate::eval::{Activation, Outcome};
use crate::function::Function;
use crate::types::{NoTypes, Type, TypeProvider};
use crate::{Error, ext};

/// What expressions may refer to: variables, object types and functions. Cheap to clone and to extend.
#[derive(Clone)]
pub struct Env {
    variables: Arc<BTreeMap<Arc<str>, Type>>,
    types: Arc<dyn TypeProvider>,
    functions: Arc<BTreeMap<&'static str, Function>>,
}

impl Env {
    /// The standard library, optionals and two-variable comprehensions only.
    pub fn standard() -> Env {
        Env { variables: Arc::default(), types: Arc::new(NoTypes), functions: Arc::default() }
    }

    /// Everything that Kubernetes offers to all expressions.
    pub fn kubernetes() -> Env {
        Env::standard().with_functions(ext::functions())
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
                Some(there) => there.overloads.extend(function.overloads),
                None => {
                    table.insert(function.name, function);
                }
            }
        }
        self
    }

    /// Parses, checks and plans an expression.
    pub fn compile(&self, source: &str) -> Result<Program, Issues> {
        let _ = (&self.types, &self.functions);
        Err(Issues::new(Arc::from(source)))
    }
}

/// A compiled expression. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Program {
    output_type: Type,
}

impl Program {
    /// The type of the result.
    pub fn output_type(&self) -> &Type {
        &self.output_type
    }

    /// Whether the expression reads the variable.
    pub fn references(&self, _variable: &str) -> bool {
        false
    }

    /// What an evaluation costs at least and at most, given what the host knows of sizes.
    pub fn estimate_cost(&self, _hints: &dyn SizeHints) -> CostEstimate {
        CostEstimate::UNKNOWN
    }

    /// Evaluates. The result may borrow from the program and from what the activation holds. When more than
    /// `budget` is spent the evaluation ends with [`ErrorKind::CostLimit`](crate::ErrorKind::CostLimit).
    pub fn eval<'a>(&'a self, _activation: &'a dyn Activation, _budget: u64) -> Outcome<'a> {
        Outcome { result: Err(Error::no_such_overload()), cost: 0 }
    }
}
