//! The Common Expression Language as Kubernetes 1.36 speaks it: parser, type checker, static cost
//! estimate, evaluator with a budget, and Kubernetes' function libraries. Pure: no I/O, no clock.
//!
//! The behaviour (results, costs and error texts) is that of cel-go as
//! `k8s.io/apiserver/pkg/cel/environment` configures it.
//!
//! # For hosts
//!
//! ```
//! use cel::{Bindings, Env, Type, Value};
//!
//! let env = Env::kubernetes().with_variable("self", Type::Dyn);
//! let program = env.compile("self.spec.replicas > 1").map_err(|issues| issues.to_string())?;
//! assert_eq!(program.output_type(), &Type::Bool);
//!
//! let object = serde_json::json!({"spec": {"replicas": 3}});
//! let bindings = Bindings::new().bind("self", Value::json(&object));
//! let outcome = program.eval(&bindings, cel::PER_CALL_LIMIT);
//! assert_eq!(outcome.result, Ok(Value::Bool(true)));
//! assert_eq!(outcome.cost, 4);
//! # Ok::<(), String>(())
//! ```
//!
//! - [`Env`] holds variables, object types and functions; it is cheap to clone and extend.
//! - [`Env::compile`] answers a [`Program`] (`Send + Sync`, cheap to clone) or [`Issues`], whose
//!   `Display` is cel-go's text (`ERROR: <input>:1:1: undeclared reference to 'x' …`);
//!   [`Issues::instantiation`] tells the failures that upstream finds only when it makes a program.
//! - [`Program::eval`] takes an [`Activation`], which resolves variables by name when they are first
//!   needed, and a budget; it answers the result and the actual cost. When the budget runs out the
//!   error is [`ErrorKind::CostLimit`].
//! - [`Program::estimate_cost`] is the static estimate; the host gives sizes through [`SizeHints`].
//! - [`Value`] borrows: [`Value::json`] (untyped, as `dyn`) and [`Value::typed`] (by a
//!   [`Schema`]) wrap a `serde_json` tree without copying it. [`Value::to_json`] goes back.
//!   [`Fields`] makes an object whose fields are computed on first use (`variables.x`).
//! - [`decl`] holds what Kubernetes derives from structural and OpenAPI schemas: [`Schema`] (host
//!   fills it in), [`DeclType`] made from it (field types, and maximum sizes for estimates) and
//!   [`DeclTypes`], the [`TypeProvider`] over a set of them.
//! - [`escape`] and [`unescape`] map property names to CEL identifiers (`__dot__`, …).
//!
//! # For function libraries
//!
//! A library answers a `Vec<Function>`:
//!
//! ```
//! use cel::{Error, Function, Overload, Type, Value};
//!
//! fn shout<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
//!     match args {
//!         [Value::String(s)] => Ok(Value::from(s.to_uppercase())),
//!         _ => Err(Error::no_such_overload()),
//!     }
//! }
//!
//! let function = Function::new("shout")
//!     .overload(Overload::member("string_shout", [Type::String], Type::String, shout));
//! # let _ = function;
//! ```
//!
//! - For a member overload the receiver is the first parameter and the first argument.
//! - [`Overload::with_regex`] asks for the argument at an index as a compiled regular expression (one
//!   that is a constant is compiled once, when the program is).
//! - [`Overload::cost`] gives the static estimate ([`EstimateFn`]) and the actual cost ([`ActualFn`]); either
//!   answers `None` for cel-go's default (1 plus the cost of the arguments).
//! - Extension types are [`Opaque`] values (`Value::Opaque(Arc<dyn Opaque>)`) of a declared
//!   [`Type::object`]; functions get them back with [`Value::downcast`].
//! - Macros, the standard library, optionals and two-variable comprehensions are here and not in [`ext`];
//!   the `sortBy` macro is here too and calls the function `@sortByAssociatedKeys`, which is in `ext`.

pub mod check;
pub mod cost;
pub mod decl;
mod env;
mod error;
pub mod eval;
pub mod ext;
mod function;
mod stdlib;
pub mod syntax;
mod types;
pub mod value;

pub use cost::{CallEstimate, CostEstimate, CostNode, EstimateArgs, NoHints, SizeEstimate, SizeHints};
pub use decl::{DeclType, DeclTypes, Schema, escape, is_reserved, unescape};
pub use env::{Env, Program};
pub use error::{Error, ErrorKind, Issue, Issues, Location};
pub use eval::{Activation, Bindings, Outcome};
pub use function::{ActualFn, CallFn, EstimateFn, Function, Overload, RegexFn};
pub use types::{FieldType, NoTypes, Type, TypeProvider};
pub use value::{Duration, Fields, Key, List, Map, Opaque, Str, Struct, Timestamp, Value, Weighed};

/// The budget of one evaluation in Kubernetes (`celconfig.PerCallLimit`).
pub const PER_CALL_LIMIT: u64 = 1_000_000;
