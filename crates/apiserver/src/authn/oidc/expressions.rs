//! CEL in an `AuthenticationConfiguration`: what is made of a token's claims, and what must hold for them and for
//! the user that comes of them.
//!
//! After `k8s.io/apiserver/pkg/authentication/cel` and `pkg/apis/apiserver/validation`.

use std::sync::OnceLock;

use api::user::UserInfo;
use cel::{Bindings, Env, ErrorKind, FieldType, Program, Type, TypeProvider};
use serde_json::{Map, Value, json};

/// What one token may cost, all expressions together: one that never ends must not hold up the server.
const BUDGET: u64 = 10_000_000;
const CLAIMS: &str = "claims";
const USER: &str = "user";
const USER_TYPE: &str = "kubernetes.UserInfo";
const NO_STRINGS: &str = "expression must return a string or a list of strings";

/// A rule that must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Evaluates to a boolean.
    pub expression: String,
    /// What is said when it does not hold.
    pub message: String,
}

/// The expressions of a provider; empty ones are not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expressions {
    /// Makes the user name.
    pub username: String,
    /// Makes the groups.
    pub groups: String,
    /// Makes the uid.
    pub uid: String,
    /// Keys of the user's extra, and what makes their values.
    pub extra: Vec<(String, String)>,
    /// What must hold for the claims.
    pub claim_rules: Vec<Rule>,
    /// What must hold for the user.
    pub user_rules: Vec<Rule>,
}

/// The same, compiled.
#[derive(Debug, Default)]
pub(super) struct Compiled {
    username: Option<Compilation>,
    groups: Option<Compilation>,
    uid: Option<Compilation>,
    extra: Vec<(String, Compilation)>,
    claim_rules: Vec<(Compilation, String)>,
    user_rules: Vec<(Compilation, String)>,
}

#[derive(Debug)]
struct Compilation {
    source: String,
    program: Program,
}

impl Expressions {
    /// Compiles all; the error says where one is wrong.
    pub(super) fn compile(&self) -> Result<Compiled, String> {
        let claims = |path: &str, source: &str, rule: bool| compile(claims_env(), path, source, rule);
        let optional = |path: &str, source: &str| {
            (!source.is_empty())
                .then(|| claims(&format!("claimMappings.{path}.expression"), source, false))
                .transpose()
        };
        let mut compiled = Compiled {
            username: optional("username", &self.username)?,
            groups: optional("groups", &self.groups)?,
            uid: optional("uid", &self.uid)?,
            ..Compiled::default()
        };
        for (index, (key, source)) in self.extra.iter().enumerate() {
            let path = format!("claimMappings.extra[{index}].valueExpression");
            compiled.extra.push((key.clone(), claims(&path, source, false)?));
        }
        for (index, rule) in self.claim_rules.iter().enumerate() {
            let path = format!("claimValidationRules[{index}].expression");
            compiled.claim_rules.push((claims(&path, &rule.expression, true)?, rule.message.clone()));
        }
        for (index, rule) in self.user_rules.iter().enumerate() {
            let path = format!("userValidationRules[{index}].expression");
            compiled
                .user_rules
                .push((compile(user_env(), &path, &rule.expression, true)?, rule.message.clone()));
        }
        compiled.check_email(&self.username)?;
        Ok(compiled)
    }
}

fn compile(env: &Env, path: &str, source: &str, is_rule: bool) -> Result<Compilation, String> {
    let shown = schema::gotext::quote(source);
    let program = env
        .compile(source)
        .map_err(|issues| format!("{path}: Invalid value: {shown}: compilation failed: {issues}"))?;
    if is_rule && *program.output_type() != Type::Bool {
        return Err(format!("{path}: Invalid value: {shown}: must evaluate to bool"));
    }
    Ok(Compilation { source: source.to_owned(), program })
}

fn claims_env() -> &'static Env {
    static ENV: OnceLock<Env> = OnceLock::new();
    ENV.get_or_init(|| Env::kubernetes().with_variable(CLAIMS, Type::map(Type::String, Type::Dyn)))
}

fn user_env() -> &'static Env {
    static ENV: OnceLock<Env> = OnceLock::new();
    ENV.get_or_init(|| Env::kubernetes().with_types(UserTypes).with_variable(USER, Type::object(USER_TYPE)))
}

struct UserTypes;

impl TypeProvider for UserTypes {
    fn find_type(&self, name: &str) -> Option<Type> {
        (name == USER_TYPE).then(|| Type::object(name))
    }

    fn field(&self, type_name: &str, field: &str) -> Option<FieldType> {
        let texts = || Type::list(Type::String);
        let ty = match (type_name, field) {
            (USER_TYPE, "username" | "uid") => Type::String,
            (USER_TYPE, "groups") => texts(),
            (USER_TYPE, "extra") => Type::map(Type::String, texts()),
            _ => return None,
        };
        Some(FieldType { ty })
    }
}

impl Compilation {
    fn eval(&self, variable: &str, value: &Value, budget: &mut u64) -> Result<Value, String> {
        let variables = Bindings::new().bind(variable, cel::Value::json(value));
        let outcome = self.program.eval(&variables, *budget);
        *budget = budget.saturating_sub(outcome.cost);
        let result = outcome.result.map_err(|error| match error.kind() {
            ErrorKind::CostLimit => "operation cancelled: actual cost limit exceeded".to_owned(),
            _ => error.to_string(),
        });
        let json = result.and_then(|value| value.to_json().map_err(|error| error.to_string()));
        json.map_err(|error| format!("expression '{}' resulted in error: {error}", self.source))
    }
}

impl Compiled {
    /// Whoever is named by an address must have shown that it is theirs.
    fn check_email(&self, username: &str) -> Result<(), String> {
        let reads = |of: &Compilation, claim: &str| selects(of.program.expr(), claim);
        if !self.username.as_ref().is_some_and(|of| reads(of, "email")) {
            return Ok(());
        }
        let others = self.extra.iter().map(|(_, of)| of).chain(self.claim_rules.iter().map(|(of, _)| of));
        if self.username.iter().chain(others).any(|of| reads(of, "email_verified")) {
            return Ok(());
        }
        Err(format!(
            "claimMappings.username.expression: Invalid value: {}: claims.email_verified must be used in claimMappings.username.expression or claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in claimMappings.username.expression",
            schema::gotext::quote(username)
        ))
    }

    /// The user name, where an expression makes it.
    pub fn username(&self, claims: &Value, budget: &mut u64) -> Option<Result<String, String>> {
        let name = self.username.as_ref()?.eval(CLAIMS, claims, budget);
        Some(match name {
            Ok(Value::String(name)) if name.is_empty() => {
                Err("oidc: empty username via CEL expression is not allowed".to_owned())
            }
            Ok(Value::String(name)) => Ok(name),
            Ok(_) => Err("oidc: error evaluating username claim expression: username claim expression must return a string".to_owned()),
            Err(error) => Err(format!("oidc: error evaluating username claim expression: {error}")),
        })
    }

    /// The groups, where an expression makes them.
    pub fn groups(&self, claims: &Value, budget: &mut u64) -> Result<Vec<String>, String> {
        let Some(groups) = &self.groups else { return Ok(Vec::new()) };
        let groups = groups.eval(CLAIMS, claims, budget).and_then(texts);
        groups.map_err(|error| format!("oidc: error evaluating group claim expression: {error}"))
    }

    /// The uid, where an expression makes it.
    pub fn uid(&self, claims: &Value, budget: &mut u64) -> Result<String, String> {
        let Some(uid) = &self.uid else { return Ok(String::new()) };
        match uid.eval(CLAIMS, claims, budget) {
            Ok(Value::String(uid)) => Ok(uid),
            Ok(_) => {
                Err("oidc: error evaluating uid claim expression: uid claim expression must return a string"
                    .to_owned())
            }
            Err(error) => Err(format!("oidc: error evaluating uid claim expression: {error}")),
        }
    }

    /// Adds to a user's extra.
    pub fn extra(&self, claims: &Value, budget: &mut u64, user: &mut UserInfo) -> Result<(), String> {
        let evaluated: Result<Vec<_>, String> =
            self.extra.iter().map(|(key, of)| Ok((key, of, of.eval(CLAIMS, claims, budget)?))).collect();
        for (key, of, value) in evaluated? {
            let values = texts(value).map_err(|error| {
                format!("oidc: error evaluating extra claim expression: {}: {error}", of.source)
            })?;
            if !values.is_empty() {
                user.extra.insert(key.clone(), values);
            }
        }
        Ok(())
    }

    /// Whether the rules for claims hold.
    pub fn check_claims(&self, claims: &Value, budget: &mut u64) -> Result<(), String> {
        check(&self.claim_rules, CLAIMS, claims, budget)
            .map_err(|error| format!("oidc: error evaluating claim validation expression: {error}"))
    }

    /// Whether the rules for users hold.
    pub fn check_user(&self, user: &UserInfo, budget: &mut u64) -> Result<(), String> {
        if self.user_rules.is_empty() {
            return Ok(());
        }
        let shown =
            json!({"username": user.name, "uid": user.uid, "groups": user.groups, "extra": user.extra});
        check(&self.user_rules, USER, &shown, budget)
            .map_err(|error| format!("oidc: error evaluating user info validation rule: {error}"))
    }
}

/// What a token's expressions may cost.
pub(super) fn budget() -> u64 {
    BUDGET
}

/// Claims as expressions see them: all numbers are doubles, as Go reads JSON.
pub(super) fn shown(claims: &Map<String, Value>) -> Value {
    fn doubles(value: &Value) -> Value {
        match value {
            Value::Number(number) => number.as_f64().map_or(Value::Null, Value::from),
            Value::Array(items) => items.iter().map(doubles).collect(),
            Value::Object(fields) => {
                Value::Object(fields.iter().map(|(key, value)| (key.clone(), doubles(value))).collect())
            }
            other => other.clone(),
        }
    }
    Value::Object(claims.iter().map(|(claim, value)| (claim.clone(), doubles(value))).collect())
}

fn check(rules: &[(Compilation, String)], name: &str, value: &Value, budget: &mut u64) -> Result<(), String> {
    let evaluated: Result<Vec<Value>, String> =
        rules.iter().map(|(rule, _)| rule.eval(name, value, budget)).collect();
    for ((rule, message), holds) in rules.iter().zip(evaluated?) {
        match holds {
            Value::Bool(true) => {}
            Value::Bool(false) => {
                return Err(format!("validation expression '{}' failed: {message}", rule.source));
            }
            _ => return Err("validation expression must return a boolean".to_owned()),
        }
    }
    Ok(())
}

/// A text or a list of texts; empty ones do not count.
fn texts(value: Value) -> Result<Vec<String>, String> {
    let items = match value {
        Value::String(text) => vec![Value::String(text)],
        Value::Array(items) => items,
        _ => return Err(NO_STRINGS.to_owned()),
    };
    let mut texts = Vec::new();
    for item in items {
        let Value::String(text) = item else { return Err(NO_STRINGS.to_owned()) };
        if !text.is_empty() {
            texts.push(text);
        }
    }
    Ok(texts)
}

/// Whether an expression reads `claims.<claim>`.
fn selects(expr: &cel::syntax::ast::Expr, claim: &str) -> bool {
    use cel::syntax::ast::ExprKind;
    let is_claims =
        |expr: &cel::syntax::ast::Expr| matches!(&expr.kind, ExprKind::Ident(name) if &**name == CLAIMS);
    let any = |expr: &cel::syntax::ast::Expr| selects(expr, claim);
    match &expr.kind {
        ExprKind::Unspecified | ExprKind::Literal(_) | ExprKind::Ident(_) => false,
        ExprKind::Select { operand, field, .. } => (is_claims(operand) && **field == *claim) || any(operand),
        ExprKind::Call { target, args, .. } => {
            let optional = matches!(args.as_slice(), [of, name] if is_claims(of)
                && matches!(&name.kind, ExprKind::Literal(text) if text.as_str() == Some(claim)));
            optional || args.iter().any(any) || target.as_deref().is_some_and(any)
        }
        ExprKind::List { elements, .. } => elements.iter().any(any),
        ExprKind::Map(entries) => entries.iter().any(|entry| any(&entry.key) || any(&entry.value)),
        ExprKind::Struct { fields, .. } => fields.iter().any(|field| any(&field.value)),
        ExprKind::Comprehension(fold) => {
            let parts =
                [&fold.iter_range, &fold.accu_init, &fold.loop_condition, &fold.loop_step, &fold.result];
            parts.into_iter().any(any)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(expression: &str, message: &str) -> Rule {
        Rule { expression: expression.to_owned(), message: message.to_owned() }
    }

    fn expressions() -> Expressions {
        Expressions {
            username: "'ext:' + claims.sub".to_owned(),
            groups: "claims.roles.split(',')".to_owned(),
            uid: "string(claims.number)".to_owned(),
            extra: vec![("example.org/tenant".to_owned(), "claims.?tenant.orValue('')".to_owned())],
            claim_rules: vec![rule("claims.number > 1.0", "too small")],
            user_rules: vec![rule("!user.username.startsWith('system:')", "reserved")],
        }
    }

    #[test]
    fn users_are_made_of_claims() {
        let compiled = expressions().compile().unwrap();
        let claims = json!({"sub": "a", "roles": "x,,y", "number": 7, "tenant": "t"});
        let claims = shown(claims.as_object().unwrap());
        let mut budget = budget();
        assert_eq!(compiled.username(&claims, &mut budget).unwrap().unwrap(), "ext:a");
        assert_eq!(compiled.groups(&claims, &mut budget).unwrap(), ["x", "y"]);
        assert_eq!(compiled.uid(&claims, &mut budget).unwrap(), "7");
        let mut user = UserInfo::new("system:admin", &[]);
        compiled.extra(&claims, &mut budget, &mut user).unwrap();
        assert_eq!(user.extra["example.org/tenant"], ["t"]);
        compiled.check_claims(&claims, &mut budget).unwrap();
        assert_eq!(
            compiled.check_user(&user, &mut budget).unwrap_err(),
            "oidc: error evaluating user info validation rule: validation expression '!user.username.startsWith('system:')' failed: reserved"
        );
        assert!(
            compiled.check_claims(&shown(json!({"number": 1}).as_object().unwrap()), &mut budget).is_err()
        );
    }

    #[test]
    fn expressions_are_checked_before_they_are_needed() {
        let wrong = [
            Expressions { username: "claims.email".to_owned(), ..Expressions::default() },
            Expressions { username: "claims.".to_owned(), ..Expressions::default() },
            Expressions { claim_rules: vec![rule("'x'", "")], ..Expressions::default() },
            Expressions { user_rules: vec![rule("user.nothing == ''", "")], ..Expressions::default() },
        ];
        for wrong in wrong {
            assert!(wrong.compile().is_err(), "{wrong:?}");
        }
        let verified = "claims.email_verified ? claims.email : ''".to_owned();
        assert!(Expressions { username: verified, ..Expressions::default() }.compile().is_ok());
    }
}
