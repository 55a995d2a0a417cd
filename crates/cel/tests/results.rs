//! Expressions with what they evaluate to, and what that costs.
#![allow(clippy::unwrap_used, reason = "tests")]

use cel::{Bindings, Env, PER_CALL_LIMIT, Type, Value};
use serde_json::json;

fn env() -> Env {
    Env::kubernetes()
        .with_variable("self", Type::Dyn)
        .with_variable("x", Type::Int)
        .with_variable("s", Type::String)
        .with_variable("l", Type::list(Type::Int))
        .with_variable("m", Type::map(Type::String, Type::Int))
        .with_variable("o", Type::optional(Type::map(Type::String, Type::Int)))
}

/// The result as JSON or the error, and the cost.
fn eval(source: &str) -> (String, u64) {
    let program = match env().compile(source) {
        Ok(program) => program,
        Err(issues) => return (issues.to_string(), 0),
    };
    let object = json!({
        "spec": {"replicas": 3, "name": "web", "ratio": 0.5, "tags": ["a", "b"], "none": null},
        "metadata": {"labels": {"app": "web"}},
    });
    let (list, map) = (json!([1, 2, 3]), json!({"a": 1, "b": 2}));
    let bindings = Bindings::new()
        .bind("self", Value::json(&object))
        .bind("x", Value::Int(5))
        .bind("s", Value::from("hello"))
        .bind("l", Value::json(&list))
        .bind("m", Value::json(&map))
        .bind("o", Value::some(Value::json(&map)));
    let outcome = program.eval(&bindings, PER_CALL_LIMIT);
    let shown = match outcome.result {
        Ok(Value::Type(ty)) => format!("type {}", ty.runtime_name()),
        Ok(Value::Optional(None)) => "none".to_owned(),
        Ok(Value::Optional(Some(value))) => format!("optional {}", value.to_json().unwrap()),
        Ok(value) => value.to_json().map_or_else(|e| format!("no JSON: {e}"), |json| json.to_string()),
        Err(error) => format!("error: {error}"),
    };
    (shown, outcome.cost)
}

fn check(cases: &[(&str, &str)]) {
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|(source, expected)| {
            let (result, _) = eval(source);
            (result != *expected).then(|| format!("{source}\n   is {result}\n  not {expected}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn literals() {
    check(&[
        ("1", "1"),
        ("-1", "-1"),
        ("--1", "1"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("0xff", "255"),
        ("12u", "12"),
        ("1.5e3", "1500.0"),
        (".5", "0.5"),
        ("true", "true"),
        ("null", "null"),
        (r#""a\tb\u00e9\x41\101""#, r#""a\tbéAA""#),
        (
            r"'it''s'",
            "ERROR: <input>:1:5: Syntax error: extraneous input ''s'' expecting <EOF>\n | 'it''s'\n | ....^",
        ),
        (r"r'\d'", r#""\\d""#),
        ("'''a\n'b' '''", r#""a\n'b' ""#),
        (r"b'\xffa'", r#""/2E=""#),
        ("[1, 2,]", "[1,2]"),
        ("{'a': [1], 'b': [2]}", r#"{"a":[1],"b":[2]}"#),
        ("{'a': 1}.a", "1"),
        ("// comment\n1", "1"),
    ]);
}

#[test]
fn operators() {
    check(&[
        ("1 + 2 * 3 - 4 / 2 % 3", "5"),
        ("7 / 2", "3"),
        ("-7 / 2", "-3"),
        ("-7 % 3", "-1"),
        ("1 / 0", "error: division by zero"),
        ("1 % 0", "error: modulus by zero"),
        ("9223372036854775807 + 1", "error: integer overflow"),
        ("0u - 1u", "error: unsigned integer overflow"),
        ("'a' + 'b'", r#""ab""#),
        ("[1] + [2]", "[1,2]"),
        ("!true", "false"),
        ("x > 4 ? 'big' : 'small'", r#""big""#),
        ("1 < 1.5 && 2u > 1", "true"),
        ("dyn(1) == 1.0", "true"),
        ("dyn(1) == dyn('1')", "false"),
        ("dyn('a') + dyn(1)", "error: no such overload"),
        ("x in l", "false"),
        ("x in [1, 5]", "true"),
        ("'a' in m", "true"),
        ("2 in l", "true"),
        ("l[0] + l[2]", "4"),
        ("l[3]", "error: index out of bounds: 3"),
        ("m['z']", "error: no such key: z"),
        ("{1: 'a'}[1]", r#""a""#),
        ("{dyn(1): 'a'}[dyn(1u)]", r#""a""#),
        ("l[dyn(1.0)]", "2"),
        (
            "1 in {1u: 1}",
            "ERROR: <input>:1:3: found no matching overload for '@in' applied to '(int, map(uint, int))'\n | 1 in {1u: 1}\n | ..^",
        ),
    ]);
}

#[test]
fn errors_are_absorbed_by_logic() {
    check(&[
        ("true || 1 / 0 > 1", "true"),
        ("1 / 0 > 1 || true", "true"),
        ("false && 1 / 0 > 1", "false"),
        ("1 / 0 > 1 && false", "false"),
        ("1 / 0 > 1 || false", "error: division by zero"),
        ("[1, 0].exists(i, 1 / i == 1)", "true"),
        ("[0, 1].exists(i, 1 / i == 1)", "true"),
        ("[0, 2].exists(i, 1 / i == 1)", "error: division by zero"),
        ("[0, 2].all(i, 1 / i == 1)", "false"),
        ("[0, 1].exists_one(i, 1 / i == 1)", "error: division by zero"),
        ("true ? 1 : 1 / 0", "1"),
        ("self.spec.missing == 1 || true", "true"),
    ]);
}

#[test]
fn selections() {
    check(&[
        ("self.spec.replicas", "3"),
        ("self.spec.ratio", "0.5"),
        ("self.spec.missing", "error: no such key: missing"),
        ("self.spec.name.x", "error: no such key: x"),
        ("has(self.spec.replicas)", "true"),
        ("has(self.spec.missing)", "false"),
        ("has(self.spec.none)", "true"),
        ("has(self.nope.missing)", "error: no such key: nope"),
        ("self.metadata.labels['app']", r#""web""#),
        ("self.?spec.?missing.orValue(7)", "7"),
        ("self.?spec.replicas.orValue(7)", "3"),
        ("self.?spec.replicas", "optional 3"),
        ("self.spec.tags[?5]", "none"),
        ("o.a", "optional 1"),
        ("o.?z", "none"),
        ("o.optMap(v, v.a + 1)", "optional 2"),
        ("optional.none().optMap(v, v + 1).hasValue()", "false"),
        ("o.optFlatMap(v, v.?a).value()", "1"),
        ("optional.none().value()", "error: optional.none() dereference"),
        ("optional.ofNonZeroValue('')", "none"),
        ("[?optional.of(1), ?optional.none(), 2]", "[1,2]"),
        ("{?'a': optional.of(1), ?'b': optional.none()}", r#"{"a":1}"#),
        ("[1, 2].first().value() + [1, 2].last().value()", "3"),
        ("optional.of(1).or(optional.of(2)).value()", "1"),
    ]);
}

#[test]
fn macros() {
    check(&[
        ("l.map(i, i * 2)", "[2,4,6]"),
        ("l.map(i, i > 1, i * 2)", "[4,6]"),
        ("l.filter(i, i % 2 == 1)", "[1,3]"),
        ("l.all(i, i > 0)", "true"),
        ("l.exists(i, i > 2)", "true"),
        ("l.exists_one(i, i > 1)", "false"),
        ("m.all(k, m[k] > 0)", "true"),
        ("m.map(k, k)", r#"["a","b"]"#),
        ("l.all(i, v, i < v)", "true"),
        ("l.exists(i, v, i == 2 && v == 3)", "true"),
        ("l.existsOne(i, v, v == 3)", "true"),
        ("m.transformList(k, v, k + string(v))", r#"["a1","b2"]"#),
        ("m.transformMap(k, v, v * 10)", r#"{"a":10,"b":20}"#),
        ("m.transformMap(k, v, v > 1, v * 10)", r#"{"b":20}"#),
        ("m.transformMapEntry(k, v, {string(v): k})", r#"{"1":"a","2":"b"}"#),
        ("[1, 1].transformMapEntry(i, v, {v: i})", "error: insert failed: key 1 already exists"),
        ("[[1, 2], [3]].map(i, i.map(j, j + 1))", "[[2,3],[4]]"),
        ("['bb', 'a'].sortBy(e, size(e))", r#"["a","bb"]"#),
        ("l.map(i, l.filter(j, j < i))", "[[],[1],[1,2]]"),
    ]);
}

#[test]
fn conversions() {
    check(&[
        ("int('42') + int(4.9) + int(3u)", "49"),
        ("int(x > 1 ? 'abc' : '1')", "error: type conversion error from 'string' to 'int'"),
        ("uint(-x)", "error: unsigned integer overflow"),
        ("double(x)", "5.0"),
        (
            "string(1.0) + string(1e21) + string(0.00001) + string(123456789.5)",
            r#""11e+211e-051.234567895e+08""#,
        ),
        ("string(b'abc')", r#""abc""#),
        ("bool('true')", "true"),
        ("duration('1h30m') == duration('90m')", "true"),
        ("string(duration('90m'))", r#""5400s""#),
        ("duration('90m').getHours()", "1"),
        ("timestamp('2024-02-29T12:30:45.5Z').getDayOfYear()", "59"),
        ("timestamp('2024-02-29T12:30:45Z').getHours('-08:00')", "4"),
        ("timestamp('2024-02-29T12:30:45Z').getHours('Europe/Berlin')", "13"),
        ("timestamp('2024-01-01T00:00:00Z') + duration('24h') == timestamp('2024-01-02T00:00:00Z')", "true"),
        ("string(timestamp('2024-01-01T00:00:00.25Z'))", r#""2024-01-01T00:00:00.25Z""#),
        ("timestamp('2024-01-02T00:00:00Z') - timestamp('2024-01-01T00:00:00Z') == duration('24h')", "true"),
        ("type(1)", "type int"),
        ("type(x) == int", "true"),
        ("type(l) == list", "true"),
        ("type(type(1)) == type", "true"),
        ("size('héé') + size(b'ab') + l.size() + m.size()", "10"),
        ("s.startsWith('he') && s.endsWith('lo') && s.contains('ell') && s.matches('^h.*o$')", "true"),
    ]);
}

#[test]
fn costs_are_those_of_cel_go() {
    let cases = [
        ("1", 0),
        ("x", 1),
        ("self.spec.replicas", 3),
        ("self.spec.replicas > 1", 4),
        ("has(self.spec.replicas)", 2),
        ("x > 1 ? self.spec.replicas : 0", 4),
        ("s == 'hello'", 2),
        ("s + s", 3),
        ("s.matches('^h')", 2),
        ("s.contains('ell')", 2),
        ("x in [1, 2, 3]", 1),
        ("x in l", 5),
        ("[1, 2, 3]", 0),
        ("[x]", 11),
        ("{'a': x}", 31),
        ("l.all(i, i > 0)", 1 + 3 * (2 + 1 + 2) + 1),
        ("l.exists(i, i > 5)", 1 + 3 * (3 + 1 + 2) + 1),
        ("l.map(i, i)", 1 + 3 * (1 + 1 + 10 + 1) + 1),
        ("l.filter(i, i > 5)", 1 + 3 * 2 + 1),
        ("l[0]", 2),
        ("l[x - 5]", 4),
        ("self.spec.tags[l[0]]", 5),
        ("duration('1h')", 0),
        ("self.?spec.?missing.orValue(1)", 2),
        ("optional.none()", 1),
        ("size(s) > 3", 3),
        ("dyn(s) > dyn('a')", 3),
    ];
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|(source, expected)| {
            let (result, cost) = eval(source);
            (cost != *expected).then(|| format!("{source} = {result} costs {cost}, not {expected}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_budget_stops_the_evaluation() {
    let program = env().compile("l.all(i, l.all(j, i + j > 0)) || true").unwrap();
    let list = json!([1, 2, 3]);
    let bindings = Bindings::new().bind("l", Value::json(&list));
    let outcome = program.eval(&bindings, 10);
    assert_eq!(outcome.result.unwrap_err().to_string(), "operation cancelled: actual cost limit exceeded");
    assert!(outcome.cost > 10);
}
