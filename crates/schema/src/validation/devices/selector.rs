//! CEL expressions that select devices.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use cel::{CostNode, DeclType, DeclTypes, Env, Program, SizeEstimate, SizeHints, Type};

use super::{LIST_MAX, at_most};
use crate::cursor::Node;
use crate::field::ErrorList;

const EXPRESSION_MAX_BYTES: usize = 10 * 1024;
/// What one expression may cost at most, by estimate.
const COST_MAX: u64 = 1_000_000;
/// The greatest sizes of what a device has.
const DRIVER_MAX: i64 = 63;
const DOMAIN_MAX: u64 = 63;
const ID_MAX: u64 = 32;
const ENTRIES_MAX: i64 = 32;
const ATTRIBUTE_MAX: i64 = 64;

/// Selectors of devices, each an expression that is cheap enough.
pub(super) fn selectors(list: &Node, errs: &mut ErrorList) {
    if !at_most(list, LIST_MAX, errs) {
        return;
    }
    for cel in list.items().map(|selector| selector.at("cel")) {
        if !cel.is_set() {
            errs.push(cel.required(""));
            continue;
        }
        let expression = cel.at("expression");
        if expression.len() > EXPRESSION_MAX_BYTES {
            errs.push(expression.too_long(EXPRESSION_MAX_BYTES));
            continue;
        }
        let devices = devices();
        match devices.compile(expression.str()) {
            Err(why) => errs.push(expression.invalid_str(why)),
            Ok(program) if program.estimate_cost(devices).max > COST_MAX => {
                errs.push(expression.forbidden("too complex, exceeds cost limit"));
            }
            Ok(_) => {}
        }
    }
}

/// The variable `device` and the sizes of what is in it.
struct Devices {
    env: Env,
    types: DeclTypes,
}

fn devices() -> &'static Devices {
    static DEVICES: OnceLock<Devices> = OnceLock::new();
    DEVICES.get_or_init(|| {
        let entries = |value: DeclType| DeclType::map(DeclType::map(value, ENTRIES_MAX), ENTRIES_MAX);
        let quantity = DeclType::simple(Type::object("kubernetes.Quantity"), 0, 8);
        let fields = [
            ("driver", DeclType::simple(Type::String, DRIVER_MAX, 2)),
            ("allowMultipleAllocations", DeclType::simple(Type::Bool, 1, 4)),
            ("attributes", entries(DeclType::simple(Type::Any, ATTRIBUTE_MAX, 1))),
            ("capacity", entries(quantity)),
        ];
        let fields: BTreeMap<String, Arc<DeclType>> =
            fields.into_iter().map(|(name, ty)| (name.to_owned(), Arc::new(ty))).collect();
        let device = DeclType::object("kubernetes.DRADevice", fields);
        let ty = device.ty.clone();
        let types = DeclTypes::new(device);
        let env = Env::kubernetes().with_bindings().with_types(types.clone()).with_variable("device", ty);
        Devices { env, types }
    })
}

impl Devices {
    /// The program of an expression about a device, or why there is none.
    fn compile(&self, expression: &str) -> Result<Program, String> {
        let program = self.env.compile(expression).map_err(|issues| issues.explain())?;
        if [Type::Bool, Type::Any].contains(program.output_type()) {
            return Ok(program);
        }
        let found = full_name(program.output_type());
        Err(format!("must evaluate to bool or the unknown type, not {found}"))
    }
}

/// A type as cel-go prints it outside of the checker.
fn full_name(ty: &Type) -> String {
    let parameters = |name: &str, of: &[Type]| {
        let of: Vec<String> = of.iter().map(full_name).collect();
        format!("{name}({})", of.join(", "))
    };
    match ty {
        Type::List(element) => parameters("list", std::slice::from_ref(element)),
        Type::Map(types) => parameters("map", &[types.0.clone(), types.1.clone()]),
        Type::Opaque(name, of) if !of.is_empty() => parameters(name, of),
        Type::Type(Some(of)) => parameters("type", std::slice::from_ref(of)),
        other => other.runtime_name().to_owned(),
    }
}

impl SizeHints for Devices {
    fn size(&self, node: &CostNode<'_>) -> Option<SizeEstimate> {
        let path: Vec<&str> = node.path.iter().map(String::as_str).collect();
        let up_to = |max| Some(SizeEstimate { min: 0, max });
        match path[..] {
            ["device", "attributes" | "capacity", "@keys"] => up_to(DOMAIN_MAX),
            ["device", "attributes" | "capacity", "@values" | "@items", "@keys"] => up_to(ID_MAX),
            // Attributes are of one size, whatever they are called.
            ["device", "attributes", "@values" | "@items", _] => up_to(ATTRIBUTE_MAX as u64),
            ["device", ..] => self.types.size(node),
            _ => None,
        }
    }
}
