//! Expressions that do not compile, with the texts of cel-go.
#![allow(clippy::unwrap_used, reason = "tests")]

use cel::{Env, Type};

fn issues(source: &str) -> String {
    let env = Env::kubernetes().with_variable("x", Type::Int).with_variable("s", Type::String);
    match env.compile(source) {
        Ok(program) => format!("compiles to {}", program.output_type()),
        Err(issues) => issues.to_string(),
    }
}

fn check(cases: &[(&str, &str)]) {
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|(source, expected)| {
            let text = issues(source);
            (text != *expected).then(|| format!("{source}\n   is {text}\n  not {expected}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn syntax() {
    let operand = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";
    let mismatched = |line: &str, column: usize, mark: &str| {
        format!(
            "ERROR: <input>:1:{column}: Syntax error: mismatched input '<EOF>' expecting {operand}\n | {line}\n | {mark}^"
        )
    };
    check(&[
        // There is no character to point at.
        ("", mismatched("", 0, "").split('\n').next().unwrap_or_default()),
        ("1 +", &mismatched("1 +", 4, "...")),
        (
            "x = 1",
            "ERROR: <input>:1:3: Syntax error: token recognition error at: '= '\n | x = 1\n | ..^\nERROR: <input>:1:5: Syntax error: extraneous input '1' expecting <EOF>\n | x = 1\n | ....^",
        ),
        ("x)", "ERROR: <input>:1:2: Syntax error: extraneous input ')' expecting <EOF>\n | x)\n | .^"),
        ("(x", "ERROR: <input>:1:3: Syntax error: missing ')' at '<EOF>'\n | (x\n | ..^"),
        ("x.", "ERROR: <input>:1:3: Syntax error: no viable alternative at input '.'\n | x.\n | ..^"),
        (
            "x.true",
            "ERROR: <input>:1:3: Syntax error: mismatched input 'true' expecting IDENTIFIER\n | x.true\n | ..^",
        ),
        ("x y z", "ERROR: <input>:1:3: Syntax error: mismatched input 'y' expecting <EOF>\n | x y z\n | ..^"),
        (
            "[1, 2",
            "ERROR: <input>:1:6: Syntax error: mismatched input '<EOF>' expecting {']', ','}\n | [1, 2\n | .....^",
        ),
        (
            "'abc",
            "ERROR: <input>:1:1: Syntax error: token recognition error at: ''abc'\n | 'abc\n | ^\nERROR: <input>:1:5: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}\n | 'abc\n | ....^",
        ),
        (
            "x ? 1",
            "ERROR: <input>:1:6: Syntax error: mismatched input '<EOF>' expecting ':'\n | x ? 1\n | .....^",
        ),
        ("if", "ERROR: <input>:1:1: reserved identifier: if\n | if\n | ^"),
        ("9223372036854775808", "ERROR: <input>:1:1: invalid int literal\n | 9223372036854775808\n | ^"),
        ("has(x)", "ERROR: <input>:1:5: invalid argument to has() macro\n | has(x)\n | ....^"),
        (
            "[1].all(1, x)",
            "ERROR: <input>:1:9: argument must be a simple name\n | [1].all(1, x)\n | ........^",
        ),
        ("{'a': 1}.`a`", "ERROR: <input>:1:10: unsupported syntax: '`'\n | {'a': 1}.`a`\n | .........^"),
    ]);
}

#[test]
fn types() {
    check(&[
        ("y", "ERROR: <input>:1:1: undeclared reference to 'y' (in container '')\n | y\n | ^"),
        ("f(x)", "ERROR: <input>:1:2: undeclared reference to 'f' (in container '')\n | f(x)\n | .^"),
        (
            "x + s",
            "ERROR: <input>:1:3: found no matching overload for '_+_' applied to '(int, string)'\n | x + s\n | ..^",
        ),
        (
            "s.startsWith(x)",
            "ERROR: <input>:1:13: found no matching overload for 'startsWith' applied to 'string.(int)'\n | s.startsWith(x)\n | ............^",
        ),
        ("x.y", "ERROR: <input>:1:2: type 'int' does not support field selection\n | x.y\n | .^"),
        ("[1, 'a']", "ERROR: <input>:1:5: expected type 'int' but found 'string'\n | [1, 'a']\n | ....^"),
        ("x && true", "ERROR: <input>:1:1: expected type 'bool' but found 'int'\n | x && true\n | ^"),
        (
            "x.all(i, true)",
            "ERROR: <input>:1:1: expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)\n | x.all(i, true)\n | ^",
        ),
        (
            "duration('abc')",
            "ERROR: <input>:1:10: invalid duration argument\n | duration('abc')\n | .........^",
        ),
        (
            "s.matches('(')",
            "ERROR: <input>:1:11: invalid matches argument\n | s.matches('(')\n | ..........^",
        ),
        (
            "[1, dyn(2)]",
            "ERROR: <input>:1:8: expected type 'int' but found 'dyn'\n | [1, dyn(2)]\n | .......^",
        ),
        (
            "x ==\n  s",
            "ERROR: <input>:1:3: found no matching overload for '_==_' applied to '(int, string)'\n | x ==\n | ..^",
        ),
        (
            "'é' + x",
            "ERROR: <input>:1:5: found no matching overload for '_+_' applied to '(string, int)'\n | 'é' + x\n | .\u{ff0e}..^",
        ),
        ("[].map(i, i)", "compiles to list(dyn)"),
        ("int('x')", "type conversion error from 'string' to 'int'"),
    ]);
}

#[test]
fn depth_is_bounded() {
    let nested = |n: usize| format!("{}x{}", "(".repeat(n), ")".repeat(n));
    assert_eq!(issues(&nested(200)), "compiles to int");
    assert!(issues(&nested(300)).contains("expression recursion limit exceeded: 250"));
    let chain = |n: usize| vec!["x"; n].join(" + ");
    assert_eq!(issues(&chain(200)), "compiles to int");
    assert!(issues(&chain(300)).contains("expression recursion limit exceeded: 250"));
    let all = vec!["x > 1"; 5000].join(" && ");
    assert_eq!(issues(&all), "compiles to bool");
    let optional = format!("optional.of(1){}", ".optMap(i, i)".repeat(60));
    assert!(issues(&optional).contains("too large"), "{}", issues(&optional));
    assert!(
        issues(&"x".repeat(100_001))
            .contains("expression code point size exceeds limit: size: 100001, limit 100000")
    );
}

#[test]
fn syntax_errors_that_go_on() {
    let texts = |source: &str| -> Vec<String> {
        let env = Env::standard().with_variable("x", Type::Int);
        let issues = env.compile(source).unwrap_err().issues;
        let short = |text: &str| text.split(" expecting {'['").next().unwrap_or_default().to_owned();
        issues
            .iter()
            .map(|issue| format!("{} {}", issue.location.column + 1, short(&issue.message)))
            .collect()
    };
    let cases: [(&str, &[&str]); 7] = [
        ("[1,,2]", &["4 Syntax error: mismatched input ',' expecting ']'"]),
        ("{'a': 1,,}", &["9 Syntax error: extraneous input ',' expecting '}'"]),
        (
            "x.?",
            &[
                "4 Syntax error: mismatched input '<EOF>' expecting {IDENTIFIER, ESC_IDENTIFIER}",
                "4 unsupported ident kind",
            ],
        ),
        (
            "-",
            &[
                "2 Syntax error: no viable alternative at input '-'",
                "2 Syntax error: mismatched input '<EOF>'",
            ],
        ),
        (
            "--",
            &[
                "3 Syntax error: no viable alternative at input '-'",
                "3 Syntax error: mismatched input '<EOF>'",
            ],
        ),
        ("!-x", &["3 Syntax error: no viable alternative at input '-x'"]),
        ("-!b", &["2 Syntax error: no viable alternative at input '-!'"]),
    ];
    for (source, expected) in cases {
        assert_eq!(texts(source), expected, "{source}");
    }
}
