//! Nothing that can be written makes the parser panic, the stack overflow or the evaluation exceed its budget.
#![allow(clippy::unwrap_used, reason = "tests")]

use cel::{Bindings, Env, ErrorKind, Type, Value};
use proptest::prelude::*;

/// Expressions, most of which have the right types.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("1".to_owned()),
        Just("x".to_owned()),
        Just("l".to_owned()),
        Just("'a'".to_owned()),
        Just("s".to_owned()),
        Just("true".to_owned()),
        Just("[]".to_owned()),
    ];
    leaf.prop_recursive(6, 64, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} + {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("[{a}, {b}]")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} == {b})")),
            inner.clone().prop_map(|a| format!("dyn({a})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("dyn({a}).map(x, dyn({b}))")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("l.filter(x, dyn({a}) == dyn({b}))")),
            (inner.clone(), inner)
                .prop_map(|(a, b)| format!("lists.range(1000).map(x, [dyn({a}), dyn({b})])")),
        ]
    })
}

fn env() -> Env {
    Env::kubernetes()
        .with_variable("x", Type::Int)
        .with_variable("s", Type::String)
        .with_variable("l", Type::list(Type::Int))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_text_can_be_compiled(text in "[ -~é\\n]{0,40}") {
        let _ = env().compile(&text).map_err(|issues| issues.to_string());
    }

    #[test]
    fn any_tokens_can_be_compiled(tokens in prop::collection::vec(
        prop::sample::select(vec!["x", ".", "(", ")", "[", "]", "{", "}", "?", ":", ",", "-", "!", "1", "'a'", "==",
            "&&", "in", "has", "all", "y", "true", "`a`", "+"]), 0..20)) {
        let _ = env().compile(&tokens.join(" ")).map_err(|issues| issues.to_string());
    }

    #[test]
    fn the_budget_holds(source in expression(), budget in 0u64..2000) {
        let list = serde_json::json!([1, 2, 3, 4, 5, 6, 7, 8, 9]);
        let bindings =
            Bindings::new().bind("x", Value::Int(1)).bind("s", Value::from("text")).bind("l", Value::json(&list));
        if let Ok(program) = env().compile(&source) {
            let outcome = program.eval(&bindings, budget);
            match outcome.result {
                Err(error) if error.kind() == ErrorKind::CostLimit => prop_assert!(outcome.cost > budget),
                _ => prop_assert!(outcome.cost <= budget),
            }
        }
    }
}

#[test]
fn deep_nesting_does_not_exhaust_the_stack() {
    let env = env();
    let run = |source: String| {
        if let Ok(program) = env.compile(&source) {
            let bindings = Bindings::new().bind("x", Value::Int(1));
            let outcome = program.eval(&bindings, 1_000_000);
            assert!(outcome.result.is_ok(), "{:?}", outcome.result);
        }
    };
    for depth in [10, 80, 240] {
        run(format!("{}x{}", "[1].map(y, ".repeat(depth), ")".repeat(depth)));
        run(format!("{}x{}", "[".repeat(depth), "]".repeat(depth)));
        run(format!("{}x{}", "!(".repeat(depth), " == 1)".repeat(depth)));
        run(format!("x{}", " + x".repeat(depth)));
        run(format!("{}x{}", "{'a': ".repeat(depth), "}".repeat(depth)));
        run(format!("{}x{}", "(true ? ".repeat(depth), " : 2)".repeat(depth)));
    }
}

#[test]
fn lists_do_not_grow_without_end() {
    let source = format!("[l]{}.size() == 1", ".map(y, y + y)".repeat(60));
    let program = env().compile(&source).unwrap();
    let list = serde_json::json!([1, 2, 3]);
    let bindings = Bindings::new().bind("l", Value::json(&list));
    let outcome = program.eval(&bindings, cel::PER_CALL_LIMIT);
    assert_eq!(outcome.result.unwrap_err().kind(), ErrorKind::CostLimit);
}

/// Values share their parts: each step makes two of what there is at the price of one.
#[test]
fn values_do_not_double_without_end() {
    let eval = |source: &str| {
        let program = env().compile(source).unwrap();
        let list = serde_json::json!([[1, 2], [3, 4]]);
        let bindings = Bindings::new().bind("l", Value::json(&list));
        let outcome = program.eval(&bindings, cel::PER_CALL_LIMIT);
        outcome.result.map(|value| value.to_json().unwrap()).map_err(|error| error.kind())
    };
    let uses = [
        "",
        ".all(z, z == z)",
        ".all(z, z in [z])",
        ".all(z, sets.contains([z], [z]))",
        ".all(z, [z, z].distinct() == [z])",
    ];
    for step in [
        ".map(v, [v, v])",
        ".map(v, true, dyn([v] + [v]))",
        ".map(v, {'a': v, 'b': v})",
        ".map(v, [optional.of(v), optional.of(v)])",
        ".map(v, {0: v, 1: v}.transformMap(i, w, w))",
        ".map(v, [v, v].reverse())",
    ] {
        for then in uses {
            let source = format!("[dyn([1, 2])]{}{then}", step.repeat(24));
            assert_eq!(eval(&source), Err(ErrorKind::CostLimit), "{source}");
        }
    }
    assert_eq!(eval(&format!("[l]{}.size()", ".map(v, [v, v])".repeat(24))), Err(ErrorKind::CostLimit));
    // What is heavy but not too heavy can be compared, not for nothing.
    let heavy = format!("[dyn([1, 2])]{}", ".map(v, [v, v])".repeat(16));
    assert_eq!(eval(&format!("{heavy}.all(z, z == z)")), Ok(serde_json::json!(true)));
    let often = format!("{heavy}.all(z, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10].all(i, z == z))");
    let (program, nothing) = (env().compile(&often).unwrap(), Bindings::new());
    let outcome = program.eval(&nothing, 10_000);
    assert_eq!(outcome.result.unwrap_err().kind(), ErrorKind::CostLimit);
}
