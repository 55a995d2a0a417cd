//! Expressions of policies and webhooks: whether they compile, and to what.

use cel::Type;

use crate::cursor::Node;
use crate::field::ErrorList;
use crate::policy_expressions::{Compiled, Compiler, Declared};

/// Checks the expressions of one object.
pub(super) struct Expressions {
    compiler: Compiler,
    declared: Declared,
}

impl Expressions {
    /// Those that may use no variables: match conditions, and those of policies that have none.
    pub fn plain(params: bool) -> Self {
        let declared = Declared { params, authorizer: true, patches: false };
        Self { compiler: Compiler::default(), declared }
    }

    /// Those that may use variables.
    pub fn with_variables(params: bool) -> Self {
        Self { compiler: Compiler::with_variables(), ..Self::plain(params) }
    }

    /// A variable, which those after it may use.
    pub fn variable(&mut self, name: &str, expression: &Node, errs: &mut ErrorList) {
        let compiled = self.compiler.compile(expression.str(), self.declared, &[]);
        self.compiler.declare(name, compiled.output());
        report(expression, expression.str(), &compiled, errs);
    }

    /// An expression that is true or false.
    pub fn condition(&self, expression: &Node, shown: &str, errs: &mut ErrorList) {
        report(expression, shown, &self.compiler.compile(shown, self.declared, &[Type::Bool]), errs);
    }

    /// An expression that makes a message; it may not ask the authorizer.
    pub fn message(&self, expression: &Node, errs: &mut ErrorList) {
        let declared = Declared { authorizer: false, ..self.declared };
        let compiled = self.compiler.compile(expression.str(), declared, &[Type::String]);
        report(expression, expression.str(), &compiled, errs);
    }

    /// The value of an audit annotation, which may be null.
    pub fn annotation(&self, expression: &Node, errs: &mut ErrorList) {
        let wanted = [Type::String, Type::Null];
        let compiled = self.compiler.compile(expression.str().trim(), self.declared, &wanted);
        report(expression, expression.str(), &compiled, errs);
    }

    /// An expression that makes a JSON patch or an apply configuration.
    pub fn mutation(&self, expression: &Node, wanted: Type, errs: &mut ErrorList) {
        let declared = Declared { patches: true, ..self.declared };
        let source = expression.str().trim();
        report(expression, source, &self.compiler.compile(source, declared, &[wanted]), errs);
    }
}

fn report(expression: &Node, shown: &str, compiled: &Compiled, errs: &mut ErrorList) {
    if let Err(why) = &compiled.program {
        errs.push(expression.invalid_as(shown, why.clone()));
    }
}
