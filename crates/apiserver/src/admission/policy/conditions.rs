//! `matchConditions` of webhooks and policies.

use std::sync::OnceLock;

use cel::{Type, Value};
use schema::policy_expressions::{Compiled, Compiler, Declared};
use serde_json::Value as Tree;

pub(crate) use super::input::Input;

/// What all conditions of one request may cost (`celconfig.RuntimeCELCostBudgetMatchConditions`).
const BUDGET: u64 = 2_500_000;

/// Conditions that must all hold.
pub(crate) struct MatchConditions {
    sources: Vec<String>,
    declared: Declared,
    compiler: Compiler,
    /// Where they cannot be evaluated, the webhook or policy is passed over.
    ignores_failures: bool,
    compiled: OnceLock<Vec<Compiled>>,
}

impl MatchConditions {
    /// A webhook's.
    pub fn of(conditions: &Tree, ignores_failures: bool) -> Self {
        let declared = Declared { authorizer: true, ..Declared::default() };
        Self::of_policy(conditions, ignores_failures, declared, Compiler::default())
    }

    /// A policy's, which may use params and variables.
    pub fn of_policy(
        conditions: &Tree,
        ignores_failures: bool,
        declared: Declared,
        compiler: Compiler,
    ) -> Self {
        let conditions = conditions.as_array().into_iter().flatten();
        let sources = conditions.map(|one| one["expression"].as_str().unwrap_or_default().to_owned());
        let sources = sources.collect();
        Self { sources, declared, compiler, ignores_failures, compiled: OnceLock::new() }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Whether they hold. One that is false decides, whatever happens to others.
    ///
    /// # Errors
    /// When one cannot be evaluated and failures count.
    pub fn hold(&self, input: &Input<'_>) -> Result<bool, String> {
        let compiled = self.compiled.get_or_init(|| {
            let compile = |source: &String| self.compiler.compile(source, self.declared, &[Type::Bool]);
            self.sources.iter().map(compile).collect()
        });
        let mut budget = BUDGET;
        let mut results = Vec::with_capacity(compiled.len());
        for condition in compiled {
            match input.evaluate(condition, &mut budget) {
                Ok(result) => results.push(result),
                Err(why) => return if self.ignores_failures { Ok(false) } else { Err(why.to_owned()) },
            }
        }
        if results.iter().any(|result| matches!(result, Ok(Value::Bool(false)))) {
            return Ok(false);
        }
        let errors: Vec<String> = results.into_iter().filter_map(Result::err).collect();
        match errors.as_slice() {
            [] => Ok(true),
            _ if self.ignores_failures => Ok(false),
            [one] => Err(one.clone()),
            many => {
                let mut texts: Vec<&str> = many.iter().map(String::as_str).collect();
                texts.dedup();
                Err(if texts.len() == 1 { texts[0].to_owned() } else { format!("[{}]", texts.join(", ")) })
            }
        }
    }
}
