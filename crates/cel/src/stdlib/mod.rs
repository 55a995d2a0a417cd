//! The standard library: declarations here, what they do in the modules below.

mod convert;
mod operators;
mod optional;
pub(crate) mod regex;
mod strings;
mod time;

use crate::ext;
use crate::function::{Call, CallFn, Function, Overload};
use crate::syntax::operators as op;
use crate::types::Type;

pub(crate) use convert::{format_value, go_double};
pub(crate) use operators::{index_of, insert};

/// The types that can be named.
pub(crate) fn type_named(name: &str) -> Option<Type> {
    Some(match name {
        "bool" => Type::Bool,
        "bytes" => Type::Bytes,
        "double" => Type::Double,
        "google.protobuf.Duration" => Type::Duration,
        "int" => Type::Int,
        "list" => Type::list(Type::Dyn),
        "map" => Type::map(Type::Dyn, Type::Dyn),
        "null_type" => Type::Null,
        "string" => Type::String,
        "google.protobuf.Timestamp" => Type::Timestamp,
        "type" => Type::Type(None),
        "uint" => Type::Uint,
        "optional_type" | "net.IP" | "net.CIDR" => Type::Opaque(name.into(), [].into()),
        _ => return None,
    })
}

/// All functions of the standard library, of optionals and of two-variable comprehensions.
pub(crate) fn functions() -> Vec<Function> {
    let mut all = special_forms();
    all.extend(arithmetic());
    all.extend(comparisons());
    all.extend(containers());
    all.extend(convert::functions());
    all.extend(strings::functions());
    all.extend(time::functions());
    all.extend(optional::functions());
    all
}

fn a() -> Type {
    Type::param("A")
}

fn list_of_a() -> Type {
    Type::list(a())
}

fn map_of_ab() -> Type {
    Type::map(a(), Type::param("B"))
}

/// What the evaluator does itself.
fn special_forms() -> Vec<Function> {
    let form = |name, id, params: Vec<Type>, result| {
        Function::new(name).overload(Overload::of(id, false, params, result, Call::Operator))
    };
    vec![
        form(op::CONDITIONAL, "conditional", vec![Type::Bool, a(), a()], a()),
        form(op::AND, "logical_and", vec![Type::Bool, Type::Bool], Type::Bool),
        form(op::OR, "logical_or", vec![Type::Bool, Type::Bool], Type::Bool),
        form(op::NOT_STRICTLY_FALSE, "not_strictly_false", vec![Type::Bool], Type::Bool),
        Function::new(op::EQUALS).overload(
            Overload::of("equals", false, vec![a(), a()], Type::Bool, Call::Operator)
                .cost(ext::cost::estimate_equals, ext::cost::actual_equals),
        ),
        form(op::NOT_EQUALS, "not_equals", vec![a(), a()], Type::Bool),
        form(op::INDEX, "index_list", vec![list_of_a(), Type::Int], a())
            .overload(Overload::of(
                "index_map",
                false,
                vec![map_of_ab(), a()],
                Type::param("B"),
                Call::Operator,
            ))
            .overload(optional::index("optional_list_index_int", true, false))
            .overload(optional::index("optional_map_index_value", true, true)),
    ]
}

/// A function whose overloads all do the same.
fn singleton(name: &'static str, call: CallFn, overloads: Vec<(&'static str, Vec<Type>, Type)>) -> Function {
    let mut function = Function::new(name);
    function.singleton = true;
    for (id, params, result) in overloads {
        function = function.overload(Overload::global(id, params, result, call));
    }
    function
}

fn arithmetic() -> Vec<Function> {
    use Type::{Bytes, Double, Duration, Int, String, Timestamp, Uint};
    let same = |id, ty: Type| (id, vec![ty.clone(), ty.clone()], ty);
    vec![
        singleton(op::NOT, operators::not, vec![("logical_not", vec![Type::Bool], Type::Bool)]),
        singleton(
            op::ADD,
            operators::add,
            vec![
                same("add_bytes", Bytes),
                same("add_double", Double),
                same("add_duration_duration", Duration),
                ("add_duration_timestamp", vec![Duration, Timestamp], Timestamp),
                ("add_timestamp_duration", vec![Timestamp, Duration], Timestamp),
                same("add_int64", Int),
                same("add_list", list_of_a()),
                same("add_string", String),
                same("add_uint64", Uint),
            ],
        ),
        singleton(
            op::DIVIDE,
            operators::divide,
            vec![same("divide_double", Double), same("divide_int64", Int), same("divide_uint64", Uint)],
        ),
        singleton(
            op::MODULO,
            operators::modulo,
            vec![same("modulo_int64", Int), same("modulo_uint64", Uint)],
        ),
        singleton(
            op::MULTIPLY,
            operators::multiply,
            vec![same("multiply_double", Double), same("multiply_int64", Int), same("multiply_uint64", Uint)],
        ),
        singleton(
            op::NEGATE,
            operators::negate,
            vec![("negate_double", vec![Double], Double), ("negate_int64", vec![Int], Int)],
        ),
        singleton(
            op::SUBTRACT,
            operators::subtract,
            vec![
                same("subtract_double", Double),
                same("subtract_duration_duration", Duration),
                same("subtract_int64", Int),
                ("subtract_timestamp_duration", vec![Timestamp, Duration], Timestamp),
                ("subtract_timestamp_timestamp", vec![Timestamp, Timestamp], Duration),
                same("subtract_uint64", Uint),
            ],
        ),
    ]
}

/// The suffixes of the overloads of an ordering, and what they compare.
const ORDERED: [(&str, &str, &str, &str, Type, Type); 14] = [
    ("less_bool", "less_equals_bool", "greater_bool", "greater_equals_bool", Type::Bool, Type::Bool),
    ("less_int64", "less_equals_int64", "greater_int64", "greater_equals_int64", Type::Int, Type::Int),
    (
        "less_int64_double",
        "less_equals_int64_double",
        "greater_int64_double",
        "greater_equals_int64_double",
        Type::Int,
        Type::Double,
    ),
    (
        "less_int64_uint64",
        "less_equals_int64_uint64",
        "greater_int64_uint64",
        "greater_equals_int64_uint64",
        Type::Int,
        Type::Uint,
    ),
    ("less_uint64", "less_equals_uint64", "greater_uint64", "greater_equals_uint64", Type::Uint, Type::Uint),
    (
        "less_uint64_double",
        "less_equals_uint64_double",
        "greater_uint64_double",
        "greater_equals_uint64_double",
        Type::Uint,
        Type::Double,
    ),
    (
        "less_uint64_int64",
        "less_equals_uint64_int64",
        "greater_uint64_int64",
        "greater_equals_uint64_int64",
        Type::Uint,
        Type::Int,
    ),
    (
        "less_double",
        "less_equals_double",
        "greater_double",
        "greater_equals_double",
        Type::Double,
        Type::Double,
    ),
    (
        "less_double_int64",
        "less_equals_double_int64",
        "greater_double_int64",
        "greater_equals_double_int64",
        Type::Double,
        Type::Int,
    ),
    (
        "less_double_uint64",
        "less_equals_double_uint64",
        "greater_double_uint64",
        "greater_equals_double_uint64",
        Type::Double,
        Type::Uint,
    ),
    (
        "less_string",
        "less_equals_string",
        "greater_string",
        "greater_equals_string",
        Type::String,
        Type::String,
    ),
    ("less_bytes", "less_equals_bytes", "greater_bytes", "greater_equals_bytes", Type::Bytes, Type::Bytes),
    (
        "less_timestamp",
        "less_equals_timestamp",
        "greater_timestamp",
        "greater_equals_timestamp",
        Type::Timestamp,
        Type::Timestamp,
    ),
    (
        "less_duration",
        "less_equals_duration",
        "greater_duration",
        "greater_equals_duration",
        Type::Duration,
        Type::Duration,
    ),
];

fn comparisons() -> Vec<Function> {
    type Id = fn(&(&'static str, &'static str, &'static str, &'static str, Type, Type)) -> &'static str;
    let ordering = |name, call: CallFn, id: Id| {
        let overloads = ORDERED.iter().map(|row| (id(row), vec![row.4.clone(), row.5.clone()], Type::Bool));
        singleton(name, call, overloads.collect())
    };
    vec![
        ordering(op::LESS, operators::less, |row| row.0),
        ordering(op::LESS_EQUALS, operators::less_equals, |row| row.1),
        ordering(op::GREATER, operators::greater, |row| row.2),
        ordering(op::GREATER_EQUALS, operators::greater_equals, |row| row.3),
    ]
}

fn containers() -> Vec<Function> {
    let insert = op::MAP_INSERT;
    let map = || Type::map(Type::param("K"), Type::param("V"));
    let mut size = Function::new("size");
    size.singleton = true;
    for (id, member_id, ty) in [
        ("size_bytes", "bytes_size", Type::Bytes),
        ("size_list", "list_size", list_of_a()),
        ("size_map", "map_size", map_of_ab()),
        ("size_string", "string_size", Type::String),
    ] {
        size = size
            .overload(Overload::global(id, [ty.clone()], Type::Int, operators::size))
            .overload(Overload::member(member_id, [ty], Type::Int, operators::size));
    }
    vec![
        singleton(
            op::IN,
            operators::contained,
            vec![
                ("in_list", vec![a(), list_of_a()], Type::Bool),
                ("in_map", vec![a(), map_of_ab()], Type::Bool),
            ],
        ),
        size,
        Function::new(insert)
            .overload(Overload::global(
                "@mapInsert_map_key_value",
                [map(), Type::param("K"), Type::param("V")],
                map(),
                operators::insert_entry,
            ))
            .overload(Overload::global("@mapInsert_map_map", [map(), map()], map(), operators::insert_map)),
    ]
}
