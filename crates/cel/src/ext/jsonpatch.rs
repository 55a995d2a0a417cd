//! `jsonpatch.escapeKey()`, which only mutating policies have.

use super::{cost, opaque};
use crate::{Error, Function, Overload, Type, Value};

pub(super) fn functions() -> Vec<Function> {
    let escape =
        Overload::global("string_jsonpatch_escapeKey_string", [Type::String], Type::String, escape_key);
    vec![
        Function::new("jsonpatch.escapeKey")
            .overload(escape.cost(cost::estimate_parse_sized, cost::actual_traverse)),
    ]
}

/// RFC 6901: `~` and `/` in a key of a path.
fn escape_key<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let key = opaque::text(args)?;
    Ok(Value::from(key.replace('~', "~0").replace('/', "~1")))
}
