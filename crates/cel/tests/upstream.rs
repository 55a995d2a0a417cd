//! Expressions with what upstream makes of them: type, static estimate, actual cost, and value or error.
//!
//! `upstream.txt` has one block per expression. The variables and sizes are those of `environment` and `sizes` below.
//! After a change that is meant, compare by eye: the expectations come from cel-go in Kubernetes 1.36's environment.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fmt::Write as _;
use std::sync::Arc;

use api::user::UserInfo;
use base::gotext::quote_bytes;
use cel::ext::{self, AccessCheck, AccessTarget, Authorizer, Decision};
use cel::{Bindings, CostNode, Env, PER_CALL_LIMIT, SizeEstimate, Type, Value};
use serde_json::json;

/// Allows `get`, fails at `err`, and tells as the reason what it was asked.
struct Telling;

impl Authorizer for Telling {
    fn authorize(&self, check: &AccessCheck) -> Decision {
        let AccessCheck { user, verb, target } = check;
        let (is_resource, path, resource) = match target {
            AccessTarget::Path(path) => (false, path.clone(), ext::ResourceTarget::default()),
            AccessTarget::Resource(resource) => (true, String::new(), resource.clone()),
        };
        let ext::ResourceTarget { group, resource, subresource, namespace, name, .. } = resource;
        let version = if is_resource { "*" } else { "" };
        Decision {
            allowed: verb == "get",
            reason: format!(
                "user={} groups=[{}] verb={verb} ns={namespace} res={resource} sub={subresource} name={name} \
                 group={group} ver={version} isres={is_resource} path={path}",
                user.name,
                user.groups.join(" "),
            ),
            error: (verb == "err").then(|| "boom".to_owned()),
        }
    }
}

fn environment() -> Env {
    Env::kubernetes()
        .with_functions(ext::json_patch_functions())
        .with_variable("s", Type::String)
        .with_variable("i", Type::Int)
        .with_variable("u", Type::Uint)
        .with_variable("d", Type::Double)
        .with_variable("b", Type::Bool)
        .with_variable("x", Type::Dyn)
        .with_variable("ls", Type::list(Type::String))
        .with_variable("li", Type::list(Type::Int))
        .with_variable("lx", Type::list(Type::Dyn))
        .with_variable("m", Type::map(Type::String, Type::String))
        .with_variable("mx", Type::map(Type::String, Type::Dyn))
        .with_variable("authorizer", ext::authorizer_type())
        .with_variable("requestResource", ext::resource_check_type())
}

/// `s` and what is in `ls` have at most ten characters, `ls` ten elements.
fn sizes(node: &CostNode<'_>) -> Option<SizeEstimate> {
    let known = matches!(node.path.first().map(String::as_str), Some("ls"))
        || matches!(node.path, [only] if only == "s");
    known.then(|| SizeEstimate::new(0, 10))
}

/// What we make of an expression, in the form of the file.
fn outcome(env: &Env, source: &str) -> String {
    let mut out = format!("== {source}\n");
    let program = match env.compile(source) {
        Ok(program) => program,
        Err(issues) => {
            let _ = writeln!(out, "issues: {}", issues.to_string().replace('\n', "\n  "));
            return out;
        }
    };
    let objects = [
        json!({"a": 1, "l": [1, "two", 3.0], "n": null, "s": "str", "q": "10Mi"}),
        json!(["a", "bb", "ccc"]),
        json!([3, 1, 2]),
        json!([1, "a", null]),
        json!({"k": "v", "k2": "v2"}),
        json!({"a": 1}),
    ];
    let user = UserInfo { name: "alice".into(), groups: vec!["g".into()], ..UserInfo::default() };
    let bindings = Bindings::new()
        .bind("s", Value::from("héllo"))
        .bind("i", Value::Int(-3))
        .bind("u", Value::Uint(7))
        .bind("d", Value::Double(1.5))
        .bind("b", Value::Bool(true))
        .bind("x", Value::json(&objects[0]))
        .bind("ls", Value::json(&objects[1]))
        .bind("li", Value::json(&objects[2]))
        .bind("lx", Value::json(&objects[3]))
        .bind("m", Value::json(&objects[4]))
        .bind("mx", Value::json(&objects[5]))
        .bind("authorizer", ext::authorizer_value(user, Arc::new(Telling)));
    let estimate = program.estimate_cost(&sizes);
    let _ = writeln!(out, "type: {}", program.output_type());
    let _ = writeln!(out, "estimate: {}..{}", estimate.min, estimate.max);
    let evaluated = program.eval(&bindings, PER_CALL_LIMIT);
    let _ = writeln!(out, "cost: {}", evaluated.cost);
    let _ = match evaluated.result {
        Ok(value) => writeln!(out, "value: {}", show(&value)),
        Err(error) => writeln!(out, "error: {error}"),
    };
    out
}

fn show(value: &Value<'_>) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(b) => b.to_string(),
        Value::Int(i) => i.to_string(),
        Value::Uint(u) => format!("{u}u"),
        Value::Double(d) => format!("double({})", show_double(*d)),
        Value::String(text) => serde_json::to_string(text.as_str()).unwrap(),
        Value::Bytes(bytes) => format!("b{}", quote_bytes(bytes)),
        Value::Duration(duration) => format!("google.protobuf.Duration({})", duration.seconds_text()),
        Value::Timestamp(_) => {
            format!("google.protobuf.Timestamp({})", value.to_json().unwrap().as_str().unwrap())
        }
        Value::List(list) => {
            format!("[{}]", list.iter().map(|item| show(&item)).collect::<Vec<_>>().join(", "))
        }
        Value::Map(map) => {
            let entry = |(key, value): (cel::Key<'_>, Value<'_>)| {
                format!("{}: {}", show(&key.to_value()), show(&value))
            };
            let mut entries: Vec<String> = map.iter().map(entry).collect();
            entries.sort();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Optional(None) => "optional.none()".into(),
        Value::Optional(Some(value)) => format!("optional.of({})", show(value)),
        Value::Type(ty) => format!("type({})", ty.runtime_name()),
        other => other.type_of().runtime_name().to_owned(),
    }
}

fn show_double(d: f64) -> String {
    if d.is_infinite() {
        return if d > 0.0 { "+Inf" } else { "-Inf" }.into();
    }
    let text = format!("{d:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    match exponent.parse::<i32>().unwrap_or(0) {
        exponent if !(-4..6).contains(&exponent) => {
            format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
        }
        _ => d.to_string(),
    }
}

#[test]
fn expressions_are_what_they_are_upstream() {
    let env = environment();
    let mut different = String::new();
    let mut count = 0;
    let expectations = include_str!("upstream.txt");
    for block in expectations.strip_prefix("== ").unwrap().split("\n== ") {
        let source = block.lines().next().unwrap();
        let expected = format!("== {}\n", block.trim_end());
        let actual = outcome(&env, source);
        if actual != expected {
            count += 1;
            let _ = write!(different, "{expected}--- but\n{}\n", actual.split_once('\n').unwrap().1);
        }
    }
    assert!(count == 0, "{count} expressions differ:\n{different}");
}
