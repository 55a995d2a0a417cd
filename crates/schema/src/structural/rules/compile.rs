//! Compiles the rules of one node.

use std::sync::OnceLock;

use cel::decl::MAX_REQUEST_SIZE;
use cel::{DeclType, DeclTypes, Env, Program, Schema, Type};

use super::super::{Rule, Structural, valid_field_path};

/// One rule, or what is wrong with it.
#[derive(Debug, Default)]
pub(in super::super) struct Compiled {
    /// The rule; none if it is empty or wrong.
    pub program: Option<Program>,
    /// Why it does not compile.
    pub error: Option<String>,
    /// Whether it compares with what was before.
    pub uses_old_self: bool,
    /// What one evaluation costs at most, by the sizes that the schema allows.
    pub max_cost: u64,
    /// How often values of this schema fit into a request.
    pub max_cardinality: u64,
    /// The expression that says what is wrong.
    pub message: Option<Program>,
    /// Why that does not compile.
    pub message_error: Option<String>,
    /// What that costs at most.
    pub message_max_cost: u64,
    /// The field to complain about, as error paths print it.
    pub field_path: String,
}

/// Compiles the rules of a node whose values have the given schema in expressions.
pub(in super::super) fn compile(structural: &Structural, schema: &Schema) -> Result<Vec<Compiled>, String> {
    if structural.rules.is_empty() {
        return Ok(Vec::new());
    }
    // Upstream's name for the type of `self` differs from time to time, so that nobody relies on it.
    let declared = DeclType::of_schema(schema, "selfType")
        .ok_or("failed to convert to declType for CEL validation rules")?;
    let fitting = MAX_REQUEST_SIZE / declared.min_serialized_size.saturating_add(1).max(1);
    let max_cardinality = u64::try_from(fitting).unwrap_or_default();
    let ty = declared.ty.clone();
    let types = DeclTypes::new(declared);
    let env = kubernetes().with_types(types.clone()).with_variable("self", ty.clone());
    let envs =
        [env.clone().with_variable("oldSelf", ty.clone()), env.with_variable("oldSelf", Type::optional(ty))];
    let one = |rule: &Rule| {
        let env = &envs[usize::from(rule.optional_old_self == Some(true))];
        let mut compiled = Compiled { max_cardinality, ..Compiled::default() };
        compiled.fill(rule, structural, env, &types);
        compiled
    };
    Ok(structural.rules.iter().map(one).collect())
}

/// The functions are declared once.
fn kubernetes() -> Env {
    static ENV: OnceLock<Env> = OnceLock::new();
    ENV.get_or_init(Env::kubernetes).clone()
}

impl Compiled {
    fn fill(&mut self, rule: &Rule, structural: &Structural, env: &Env, types: &DeclTypes) {
        if rule.rule.trim().is_empty() {
            return;
        }
        let program = match env.compile(&rule.rule) {
            Ok(program) if *program.output_type() != Type::Bool => {
                self.error = Some("cel expression must evaluate to a bool".to_owned());
                return;
            }
            Ok(program) => program,
            Err(issues) => {
                self.error = Some(issues.explain());
                return;
            }
        };
        self.uses_old_self = program.references("oldSelf");
        self.max_cost = program.estimate_cost(types).max;
        self.program = Some(program);
        if !rule.message_expression.is_empty() {
            match env.compile(&rule.message_expression) {
                Ok(program) if *program.output_type() != Type::String => {
                    self.message_error = Some("messageExpression must evaluate to a string".to_owned());
                    return;
                }
                Ok(program) => {
                    self.message_max_cost = program.estimate_cost(types).max;
                    self.message = Some(program);
                }
                Err(issues) => {
                    let step = if issues.instantiation.is_some() { "instantiation" } else { "compilation" };
                    self.message_error = Some(format!("messageExpression {step} failed: {issues}"));
                    return;
                }
            }
        }
        if let Ok((path, _)) = valid_field_path(&rule.field_path, structural, true) {
            self.field_path = path.text;
        }
    }
}
