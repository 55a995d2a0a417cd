//! The `authorizer` variable: checks of access, answered by the host.

use std::fmt;
use std::sync::Arc;

use api::format;
use api::user::UserInfo;

use super::{cost, opaque};
use crate::{
    CallEstimate, CostEstimate, Error, EstimateArgs, Function, Opaque, Overload, SizeEstimate, Type, Value,
};

/// The host's authorizer.
pub trait Authorizer: Send + Sync {
    /// Decides whether the user may do it.
    fn authorize(&self, check: &AccessCheck) -> Decision;
}

/// What an expression asks the authorizer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessCheck {
    /// Who: the one that sent the request, or a service account that the expression names.
    pub user: UserInfo,
    /// The API verb, or the HTTP verb for paths.
    pub verb: String,
    /// What.
    pub target: AccessTarget,
}

/// What is to be accessed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessTarget {
    /// A path that is not of a resource.
    Path(String),
    /// A resource, in any version (`*`).
    Resource(ResourceTarget),
}

/// A resource, or one object of it. Whatever is empty is not asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourceTarget {
    /// The API group.
    pub group: String,
    /// The plural name.
    pub resource: String,
    /// The subresource.
    pub subresource: String,
    /// The namespace; empty for the cluster's scope.
    pub namespace: String,
    /// The name of the object.
    pub name: String,
    /// A field selector, as written; it need not be one.
    pub field_selector: String,
    /// A label selector, as written; it need not be one.
    pub label_selector: String,
}

/// What the authorizer decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Whether it allows the access; it need not have an opinion.
    pub allowed: bool,
    /// Why.
    pub reason: String,
    /// What went wrong, if something did.
    pub error: Option<String>,
}

/// The value of the variable `authorizer`.
pub fn authorizer_value<'a>(user: UserInfo, authorizer: Arc<dyn Authorizer>) -> Value<'a> {
    Value::opaque(AuthorizerValue(Principal { user: Arc::new(user), authorizer }))
}

/// The value of the variable `authorizer.requestResource`: the check of the request's own resource.
pub fn request_resource_value<'a>(
    user: UserInfo,
    authorizer: Arc<dyn Authorizer>,
    target: ResourceTarget,
) -> Value<'a> {
    Value::opaque(ResourceCheck(Principal { user: Arc::new(user), authorizer }, target))
}

/// The type of the variable `authorizer`.
pub fn authorizer_type() -> Type {
    Type::object("kubernetes.authorization.Authorizer")
}

/// The type of the variable `authorizer.requestResource`.
pub fn resource_check_type() -> Type {
    Type::object("kubernetes.authorization.ResourceCheck")
}

/// Who asks whom.
#[derive(Clone)]
struct Principal {
    user: Arc<UserInfo>,
    authorizer: Arc<dyn Authorizer>,
}

#[derive(Clone)]
struct AuthorizerValue(Principal);

#[derive(Clone)]
struct PathCheck(Principal, String);

#[derive(Clone)]
struct GroupCheck(Principal, String);

#[derive(Clone)]
struct ResourceCheck(Principal, ResourceTarget);

/// None of these values can be compared, not even with itself: upstream's comparison of them never succeeds.
macro_rules! opaque_without_equality {
    ($($name:ident: $ty:expr),* $(,)?) => {
        $(
            impl Opaque for $name {
                fn type_of(&self) -> Type {
                    $ty
                }

                fn equals(&self, _other: &dyn Opaque) -> Option<bool> {
                    None
                }
            }

            impl fmt::Debug for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str(stringify!($name))
                }
            }
        )*
    };
}

opaque_without_equality! {
    AuthorizerValue: authorizer_type(),
    PathCheck: Type::object("kubernetes.authorization.PathCheck"),
    GroupCheck: Type::object("kubernetes.authorization.GroupCheck"),
    ResourceCheck: resource_check_type(),
    DecisionValue: Type::object("kubernetes.authorization.Decision"),
}

struct DecisionValue(Decision);

/// How the library's types are written in declarations.
fn types() -> [Type; 5] {
    [
        authorizer_type(),
        Type::object("kubernetes.authorization.PathCheck"),
        Type::object("kubernetes.authorization.GroupCheck"),
        resource_check_type(),
        Type::object("kubernetes.authorization.Decision"),
    ]
}

pub(super) fn functions() -> Vec<Function> {
    const S: Type = Type::String;
    let [authorizer, path_check, group_check, resource_check, decision] = types();
    let nominal = |overload: Overload| overload.cost(cost::estimate_nominal, cost::actual_nominal);
    let one = |name, overload| Function::new(name).overload(nominal(overload));
    let narrow = |id, call| Overload::member(id, [resource_check.clone(), S], resource_check.clone(), call);
    let checking = |overload: Overload| overload.cost(estimate_check, actual_check);
    let selecting = |name, id, call| {
        Function::new(name).overload(narrow(id, call).cost(estimate_selector, actual_selector))
    };
    let tell = |name, id, result, call| one(name, Overload::member(id, [decision.clone()], result, call));
    vec![
        one("path", Overload::member("authorizer_path", [authorizer.clone(), S], path_check.clone(), path)),
        one(
            "group",
            Overload::member("authorizer_group", [authorizer.clone(), S], group_check.clone(), group),
        ),
        one(
            "serviceAccount",
            Overload::member(
                "authorizer_serviceaccount",
                [authorizer.clone(), S, S],
                authorizer,
                service_account,
            ),
        ),
        one(
            "resource",
            Overload::member("groupcheck_resource", [group_check, S], resource_check.clone(), resource),
        ),
        one("subresource", narrow("resourcecheck_subresource", |args| with(args, |t| &mut t.subresource))),
        one("namespace", narrow("resourcecheck_namespace", |args| with(args, |t| &mut t.namespace))),
        one("name", narrow("resourcecheck_name", |args| with(args, |t| &mut t.name))),
        selecting("fieldSelector", "authorizer_fieldselector", |args| with(args, |t| &mut t.field_selector)),
        selecting("labelSelector", "authorizer_labelselector", |args| with(args, |t| &mut t.label_selector)),
        Function::new("check")
            .overload(checking(Overload::member(
                "pathcheck_check",
                [path_check, S],
                decision.clone(),
                check_path,
            )))
            .overload(checking(Overload::member(
                "resourcecheck_check",
                [resource_check.clone(), S],
                decision.clone(),
                check_resource,
            ))),
        tell("errored", "decision_errored", Type::Bool, |args| {
            told(args, |d| Value::Bool(d.error.is_some()))
        }),
        tell("error", "decision_error", S, |args| {
            told(args, |d| Value::from(d.error.clone().unwrap_or_default()))
        }),
        tell("allowed", "decision_allowed", Type::Bool, |args| told(args, |d| Value::Bool(d.allowed))),
        tell("reason", "decision_reason", S, |args| told(args, |d| Value::from(d.reason.clone()))),
    ]
}

/// The argument after the receiver.
fn text<'v>(args: &'v [Value<'_>], index: usize) -> Result<&'v str, Error> {
    args.get(index).and_then(Value::as_str).ok_or_else(Error::no_such_overload)
}

fn path<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let AuthorizerValue(principal) = opaque::receiver(args)?;
    let path = text(args, 1)?;
    if path.trim().is_empty() {
        return Err(Error::new("path must not be empty"));
    }
    Ok(Value::opaque(PathCheck(principal.clone(), path.to_owned())))
}

fn group<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let AuthorizerValue(principal) = opaque::receiver(args)?;
    Ok(Value::opaque(GroupCheck(principal.clone(), text(args, 1)?.to_owned())))
}

fn service_account<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let AuthorizerValue(principal) = opaque::receiver(args)?;
    let (namespace, name) = (text(args, 1)?, text(args, 2)?);
    if !format::name_is_subdomain(name, false).is_empty() {
        return Err(Error::new("Invalid service account name"));
    }
    if !format::name_is_label(namespace, false).is_empty() {
        return Err(Error::new("Invalid service account namespace"));
    }
    let user = UserInfo {
        name: format!("system:serviceaccount:{namespace}:{name}"),
        groups: vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")],
        ..UserInfo::default()
    };
    let authorizer = principal.authorizer.clone();
    Ok(Value::opaque(AuthorizerValue(Principal { user: Arc::new(user), authorizer })))
}

fn resource<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let GroupCheck(principal, group) = opaque::receiver(args)?;
    let resource = text(args, 1)?;
    if resource.trim().is_empty() {
        return Err(Error::new("resource must not be empty"));
    }
    let target =
        ResourceTarget { group: group.clone(), resource: resource.to_owned(), ..ResourceTarget::default() };
    Ok(Value::opaque(ResourceCheck(principal.clone(), target)))
}

/// The receiver with one more part of the target set.
fn with<'a>(args: &[Value<'a>], part: fn(&mut ResourceTarget) -> &mut String) -> Result<Value<'a>, Error> {
    let mut check = opaque::receiver::<ResourceCheck>(args)?.clone();
    *part(&mut check.1) = text(args, 1)?.to_owned();
    Ok(Value::opaque(check))
}

fn check_path<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let PathCheck(principal, path) = opaque::receiver(args)?;
    Ok(principal.ask(text(args, 1)?, AccessTarget::Path(path.clone())))
}

fn check_resource<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let ResourceCheck(principal, target) = opaque::receiver(args)?;
    Ok(principal.ask(text(args, 1)?, AccessTarget::Resource(target.clone())))
}

impl Principal {
    fn ask<'a>(&self, verb: &str, target: AccessTarget) -> Value<'a> {
        let check = AccessCheck { user: (*self.user).clone(), verb: verb.to_owned(), target };
        Value::opaque(DecisionValue(self.authorizer.authorize(&check)))
    }
}

fn told<'a>(args: &[Value<'a>], tell: fn(&Decision) -> Value<'static>) -> Result<Value<'a>, Error> {
    opaque::receiver::<DecisionValue>(args).map(|decision| tell(&decision.0))
}

/// An expression can afford two checks.
const CHECK: u64 = 350_000;

fn estimate_check(_: &EstimateArgs<'_>) -> Option<CallEstimate> {
    cost::only(CostEstimate::fixed(CHECK))
}

fn actual_check<'v, 'a>(_: &'v [Value<'a>], _: &'v Value<'a>) -> Option<u64> {
    Some(CHECK)
}

/// Parsing makes a list of requirements, each of at least two characters, with a list of values.
fn selector(length: SizeEstimate) -> CostEstimate {
    const PER_REQUIREMENT: f64 = 50.0;
    let parsing = length.multiply_by_cost_factor(cost::STRING_TRAVERSAL);
    let requirements = length.multiply_by_cost_factor(0.5).multiply_by_cost_factor(PER_REQUIREMENT);
    CostEstimate::fixed(cost::LIST_CREATE).add(parsing).add(requirements)
}

fn estimate_selector(call: &EstimateArgs<'_>) -> Option<CallEstimate> {
    cost::only(selector(call.size(call.args.first()?)))
}

fn actual_selector<'v, 'a>(args: &'v [Value<'a>], _: &'v Value<'a>) -> Option<u64> {
    Some(selector(SizeEstimate::fixed(cost::size(args.get(1)?))).max)
}
