//! Any expression over a small object: compiles or not, ends within its budget, never panics.
#![no_main]

use cel::{Bindings, Env, NoHints, Type, Value};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(source) = std::str::from_utf8(data) else { return };
    let env = Env::kubernetes().with_variable("self", Type::Dyn).with_variable("n", Type::Int);
    let program = match env.compile(source) {
        Ok(program) => program,
        Err(issues) => {
            let _ = issues.to_string();
            return;
        }
    };
    let _ = program.estimate_cost(&NoHints);
    let object = serde_json::json!({"a": [1, 2, 3], "s": "text", "m": {"k": {"x": 1.5}}, "t": true});
    let bindings = Bindings::new().bind("self", Value::json(&object)).bind("n", Value::Int(3));
    const BUDGET: u64 = 50_000;
    let outcome = program.eval(&bindings, BUDGET);
    if let Ok(value) = outcome.result {
        assert!(outcome.cost <= BUDGET, "{} is more than the budget", outcome.cost);
        let _ = value.to_json();
    }
});
