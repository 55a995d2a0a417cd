//! What calls cost: `library.CostEstimator` of `k8s.io/apiserver/pkg/cel`, and the trackers of cel-go's extensions.

use crate::cost::{CallEstimate, CostEstimate, CostNode, EstimateArgs, SizeEstimate};
use crate::{Type, Value};

/// The cost of looking at one character.
pub(super) const STRING_TRAVERSAL: f64 = 0.1;
/// The cost of one character of a regular expression, for each character it is applied to.
pub(super) const REGEX_LENGTH: f64 = 0.25;
/// The cost of making a list.
pub(super) const LIST_CREATE: u64 = 10;

/// `actualSize`: the length of what has one, else 1.
pub(super) fn size(value: &Value<'_>) -> u64 {
    value.size().unwrap_or(1)
}

/// The size times a factor, rounded up.
pub(super) fn scaled(size: u64, factor: f64) -> u64 {
    (size as f64 * factor).ceil() as u64
}

/// An estimate without a result size.
pub(super) fn only(cost: CostEstimate) -> Option<CallEstimate> {
    Some(CallEstimate { cost, result_size: None })
}

fn sized(cost: CostEstimate, result: SizeEstimate) -> Option<CallEstimate> {
    Some(CallEstimate { cost, result_size: Some(result) })
}

/// Accessors: 1.
pub(super) fn estimate_nominal(_: &EstimateArgs<'_>) -> Option<CallEstimate> {
    only(CostEstimate::fixed(1))
}

/// Accessors: 1.
pub(super) fn actual_nominal<'v, 'a>(_: &'v [Value<'a>], _: &'v Value<'a>) -> Option<u64> {
    Some(1)
}

/// Parsing of the first argument, which is not a receiver.
pub(super) fn estimate_parse(call: &EstimateArgs<'_>) -> Option<CallEstimate> {
    only(call.size(call.args.first()?).multiply_by_cost_factor(STRING_TRAVERSAL))
}

/// As [`estimate_parse`], and the result is as long as the argument.
pub(super) fn estimate_parse_sized(call: &EstimateArgs<'_>) -> Option<CallEstimate> {
    let [arg] = call.args else { return None };
    let size = call.size(arg);
    sized(size.multiply_by_cost_factor(STRING_TRAVERSAL), size)
}

/// Traversal of the receiver; the result is at most as long.
pub(super) fn estimate_traverse(call: &EstimateArgs<'_>) -> Option<CallEstimate> {
    let size = call.size(call.target?);
    sized(size.multiply_by_cost_factor(STRING_TRAVERSAL), size)
}

/// Traversal of the first argument.
pub(super) fn actual_traverse<'v, 'a>(args: &'v [Value<'a>], _: &'v Value<'a>) -> Option<u64> {
    Some(scaled(size(args.first()?), STRING_TRAVERSAL))
}

/// Traversal of the first argument, and as much work again.
pub(super) fn actual_traverse_twice<'v, 'a>(args: &'v [Value<'a>], _: &'v Value<'a>) -> Option<u64> {
    Some(scaled(2 * size(args.first()?), STRING_TRAVERSAL))
}

/// `isSorted`, `sum`, `min`, `max`, `indexOf` and `lastIndexOf`, the latter two also of strings.
pub(super) fn estimate_scan(call: &EstimateArgs<'_>) -> Option<CallEstimate> {
    let target = call.target?;
    let Some(element) = element_type(target.ty) else {
        return only(call.size(target).multiply_by_cost_factor(STRING_TRAVERSAL));
    };
    let mut per_element = CostEstimate::fixed(1);
    if matches!(element, Type::String | Type::Bytes) {
        let size = element_size(call, target, element);
        per_element = per_element.add(size.multiply_by_cost_factor(STRING_TRAVERSAL));
    }
    only(call.size(target).multiply_by_cost(per_element))
}

/// Traversal of a whole data tree.
pub(super) fn actual_scan<'v, 'a>(args: &'v [Value<'a>], _: &'v Value<'a>) -> Option<u64> {
    Some(args.first().map_or(0, traversal))
}

/// `traversalCost`.
fn traversal(value: &Value<'_>) -> u64 {
    match value {
        Value::String(text) => (text.len() as f64 * STRING_TRAVERSAL) as u64,
        Value::Bytes(bytes) => (bytes.len() as f64 * STRING_TRAVERSAL) as u64,
        Value::List(list) => list.iter().map(|item| traversal(&item)).sum(),
        Value::Map(map) => {
            map.iter().map(|(key, value)| traversal(&key.to_value()) + traversal(&value)).sum()
        }
        _ => 1,
    }
}

/// The first parameter of a parameterised type: of a list, what it is a list of.
fn element_type(ty: &Type) -> Option<&Type> {
    match ty {
        Type::List(element) => Some(element),
        Type::Map(types) => Some(&types.0),
        Type::Opaque(_, params) => params.first(),
        _ => None,
    }
}

/// What the host knows of the sizes of a list's elements.
fn element_size(call: &EstimateArgs<'_>, list: &CostNode<'_>, element: &Type) -> SizeEstimate {
    let mut path = list.path.to_vec();
    if !path.is_empty() {
        path.push("@items".into());
    }
    call.size(&CostNode { path: &path, ty: element, expr: list.expr, computed_size: None })
}

/// `replace`: the result is between the shortest and the longest that the lengths allow.
pub(super) fn estimate_replace(call: &EstimateArgs<'_>) -> Option<CallEstimate> {
    let text = call.size(call.target?);
    let [from, to, ..] = call.args else { return None };
    let (from, to) = (call.size(from), call.size(to));
    let (count_max, kept_max) = match from.min {
        0 => (text.max.saturating_add(1), text.max),
        least if to.max <= least => (0, text.max),
        least => ((text.max as f64 / least as f64).ceil() as u64, 0),
    };
    let (count_min, kept_min) = match from.max {
        0 => (text.min.saturating_add(1), text.min),
        most if most <= to.min => (0, text.min),
        most => ((text.min as f64 / most as f64).ceil() as u64, 0),
    };
    let count = SizeEstimate::new(count_min, count_max);
    let result = count.multiply(to).add(SizeEstimate::new(kept_min, kept_max));
    sized(text.multiply_by_cost_factor(2.0 * STRING_TRAVERSAL), result)
}

/// `split`: at most one element per character, or as many as a literal limit says.
pub(super) fn estimate_split(call: &EstimateArgs<'_>) -> Option<CallEstimate> {
    let text = call.size(call.target?);
    let most = match call.args.get(1).and_then(|limit| limit.literal()) {
        Some(Value::Int(limit)) => *limit as u64,
        _ => text.max,
    };
    sized(text.multiply_by_cost_factor(2.0 * STRING_TRAVERSAL), SizeEstimate::new(0, most))
}

/// `join`: the elements and the separators between them.
pub(super) fn estimate_join(call: &EstimateArgs<'_>) -> Option<CallEstimate> {
    let target = call.target?;
    let list = call.size(target);
    let mut result = match element_type(target.ty) {
        Some(element) => list.multiply(element_size(call, target, element)),
        None => SizeEstimate::fixed(0),
    };
    if let Some(separator) = call.args.first() {
        let separators = SizeEstimate::new(list.min.saturating_sub(1), list.max.saturating_sub(1));
        result = result.add(call.size(separator).multiply(separators));
    }
    sized(result.multiply_by_cost_factor(STRING_TRAVERSAL), result)
}

/// `join`, from its result.
pub(super) fn actual_join<'v, 'a>(_: &'v [Value<'a>], result: &'v Value<'a>) -> Option<u64> {
    Some(scaled(2 * size(result), STRING_TRAVERSAL))
}

/// Sizes in literals: `nodeAsIntValue`.
fn literal_int(node: &CostNode<'_>, default: u64) -> u64 {
    match node.literal() {
        Some(Value::Int(n)) => u64::try_from(*n).unwrap_or(0),
        _ => default,
    }
}

/// A call that makes a list of this size.
fn estimate_list_call(factor: f64, size: SizeEstimate) -> Option<CallEstimate> {
    sized(size.multiply_by_cost_factor(factor).add(CostEstimate::fixed(1 + LIST_CREATE)), size)
}

/// A call that made a list of this size.
fn actual_list_call(factor: f64, size: u64) -> Option<u64> {
    // A negative depth makes a negative cost, which wraps around as it does upstream.
    let work = size as f64 * factor;
    let work = if work < 0.0 { work as i64 as u64 } else { work as u64 };
    Some(work.wrapping_add(1 + LIST_CREATE))
}

/// `slice`.
pub(super) fn estimate_slice(call: &EstimateArgs<'_>) -> Option<CallEstimate> {
    let size = call.size(call.target?);
    let [start, end] = call.args else { return None };
    let (start, end) = (literal_int(start, 0), literal_int(end, size.max));
    estimate_list_call(1.0, SizeEstimate::fixed(end.wrapping_sub(start)))
}

/// `lists.range`.
pub(super) fn estimate_range(call: &EstimateArgs<'_>) -> Option<CallEstimate> {
    let [count] = call.args else { return None };
    estimate_list_call(1.0, SizeEstimate::fixed(literal_int(count, u64::MAX)))
}

/// `reverse`.
pub(super) fn estimate_reverse(call: &EstimateArgs<'_>) -> Option<CallEstimate> {
    estimate_list_call(1.0, call.size(call.target?))
}

/// `flatten`: once per level.
pub(super) fn estimate_flatten(call: &EstimateArgs<'_>) -> Option<CallEstimate> {
    let depth = call.args.first().map_or(1, |depth| literal_int(depth, u64::MAX));
    estimate_list_call(depth as f64, call.size(call.target?))
}

/// `distinct`: every element is compared with every other.
pub(super) fn estimate_distinct(call: &EstimateArgs<'_>) -> Option<CallEstimate> {
    let size = call.size(call.target?);
    estimate_list_call(2.0, size.multiply(size))
}

/// `sort` of elements whose comparison takes one step.
pub(super) fn estimate_sort(call: &EstimateArgs<'_>) -> Option<CallEstimate> {
    estimate_distinct(call)
}

/// `sort` of strings and bytes.
pub(super) fn estimate_sort_text(call: &EstimateArgs<'_>) -> Option<CallEstimate> {
    let size = call.size(call.target?);
    estimate_list_call(2.0 + STRING_TRAVERSAL, size.multiply(size))
}

/// `@sortByAssociatedKeys` with keys whose comparison takes one step.
pub(super) fn estimate_sort_by(call: &EstimateArgs<'_>) -> Option<CallEstimate> {
    let size = call.size(call.args.first()?);
    estimate_list_call(2.0, size.multiply(size))
}

/// `@sortByAssociatedKeys` with strings and bytes as keys.
pub(super) fn estimate_sort_by_text(call: &EstimateArgs<'_>) -> Option<CallEstimate> {
    let size = call.size(call.args.first()?);
    estimate_list_call(2.0 + STRING_TRAVERSAL, size.multiply(size))
}

/// `slice`, `lists.range` and `reverse`: the size of the result.
pub(super) fn actual_output<'v, 'a>(_: &'v [Value<'a>], result: &'v Value<'a>) -> Option<u64> {
    actual_list_call(1.0, size(result))
}

/// `flatten`: once per level.
pub(super) fn actual_flatten<'v, 'a>(args: &'v [Value<'a>], _: &'v Value<'a>) -> Option<u64> {
    let depth = match args.get(1) {
        Some(Value::Int(depth)) => *depth as f64,
        _ => 1.0,
    };
    actual_list_call(depth, size(args.first()?))
}

/// `distinct` and `sort`: every element is compared with every other.
pub(super) fn actual_self_compare<'v, 'a>(args: &'v [Value<'a>], _: &'v Value<'a>) -> Option<u64> {
    self_compare(args.first()?)
}

/// `@sortByAssociatedKeys`: every key is compared with every other.
pub(super) fn actual_sort_by<'v, 'a>(args: &'v [Value<'a>], _: &'v Value<'a>) -> Option<u64> {
    self_compare(args.get(1)?)
}

fn self_compare(list: &Value<'_>) -> Option<u64> {
    let Value::List(list) = list else { return None };
    let factor = match list.get(0) {
        Some(Value::String(_) | Value::Bytes(_)) => 2.0 + STRING_TRAVERSAL,
        _ => 2.0,
    };
    let size = list.len() as u64;
    actual_list_call(factor, size * size)
}

/// `==` of two values of one extension type.
pub(crate) fn estimate_equals(call: &EstimateArgs<'_>) -> Option<CallEstimate> {
    const MAX_FORMAT_SIZE: u64 = 64;
    let [left, right] = call.args else { return None };
    if left.ty != right.ty {
        return None;
    }
    let most = match left.ty {
        Type::Opaque(name, _) if matches!(&**name, "net.IP" | "net.CIDR") => {
            return only(CostEstimate::fixed(1));
        }
        Type::Object(name) => match &**name {
            "kubernetes.NamedFormat" => MAX_FORMAT_SIZE,
            "kubernetes.URL" => right.computed_size.map_or(1, |size| size.max),
            "kubernetes.Quantity" | "kubernetes.Semver" => return only(CostEstimate::fixed(1)),
            name if name.starts_with("kubernetes.authorization.") => return only(CostEstimate::fixed(1)),
            _ => return None,
        },
        _ => return None,
    };
    only(CostEstimate::new(1, most).multiply_by_cost_factor(STRING_TRAVERSAL))
}

/// `==` whose left side is of an extension type.
pub(crate) fn actual_equals<'v, 'a>(args: &'v [Value<'a>], _: &'v Value<'a>) -> Option<u64> {
    matches!(args, [Value::Opaque(_), _]).then_some(1)
}
