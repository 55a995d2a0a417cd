//! Expressions of admission policies and match conditions: which variables, types and functions they may
//! use, and compiling them. Upstream's `apiserver/pkg/admission/plugin/cel`.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use cel::{Env, FieldType, Program, Type, TypeProvider, ext};

/// Name of the type of `variables`.
pub const VARIABLES: &str = "kubernetes.variables";
const REQUEST: &str = "kubernetes.AdmissionRequest";
const NAMESPACE: &str = "kubernetes.Namespace";

/// Which variables there are besides those that every expression has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Declared {
    /// `params`.
    pub params: bool,
    /// `authorizer`; only an expression that makes a message has none.
    pub authorizer: bool,
    /// The types of patches, in mutations.
    pub patches: bool,
}

/// An expression, compiled or not.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The text.
    pub source: Arc<str>,
    /// Why it does not compile, in upstream's words.
    pub program: Result<Program, String>,
}

impl Compiled {
    /// The type of what it evaluates to; `dyn` where it does not compile.
    pub fn output(&self) -> Type {
        self.program.as_ref().map_or(Type::Dyn, |program| program.output_type().clone())
    }
}

/// Compiles the expressions of one policy or webhook. Variables may use those before them.
#[derive(Clone, Default)]
pub struct Compiler {
    /// Types of the variables so far; none where `variables` is not declared.
    variables: Option<BTreeMap<Arc<str>, Type>>,
}

impl Compiler {
    /// With `variables`, of which there are none yet.
    pub fn with_variables() -> Self {
        Self { variables: Some(BTreeMap::new()) }
    }

    /// Declares a variable.
    pub fn declare(&mut self, name: &str, ty: Type) {
        self.variables.get_or_insert_default().insert(Arc::from(name), ty);
    }

    /// Compiles an expression that must have one of the types; none for any.
    pub fn compile(&self, source: &str, declared: Declared, wanted: &[Type]) -> Compiled {
        let types = PolicyTypes { variables: self.variables.clone(), patches: declared.patches };
        let mut env = base(declared).clone().with_types(types);
        if self.variables.is_some() {
            env = env.with_variable("variables", Type::object(VARIABLES));
        }
        let program = env.compile(source).map_err(|issues| issues.explain());
        let program = program.and_then(|program| check_output(program, wanted));
        Compiled { source: Arc::from(source), program }
    }
}

fn check_output(program: Program, wanted: &[Type]) -> Result<Program, String> {
    let found = program.output_type();
    if wanted.is_empty() || wanted.contains(found) {
        return Ok(program);
    }
    let found = type_name(found);
    Err(match wanted {
        [one] => format!("must evaluate to {} but got {found}", type_name(one)),
        many => {
            let many: Vec<String> = many.iter().map(type_name).collect();
            format!("must evaluate to one of [{}] but got {found}", many.join(" "))
        }
    })
}

/// A type as cel-go's `Type.String()` shows it, which is not quite what its checker shows.
fn type_name(ty: &Type) -> String {
    match ty {
        Type::List(item) => format!("list({})", type_name(item)),
        Type::Map(of) => format!("map({}, {})", type_name(&of.0), type_name(&of.1)),
        Type::Type(Some(of)) => format!("type({})", type_name(of)),
        Type::Opaque(name, parameters) if !parameters.is_empty() => {
            let parameters: Vec<String> = parameters.iter().map(type_name).collect();
            format!("{name}({})", parameters.join(", "))
        }
        simple => simple.runtime_name().to_owned(),
    }
}

/// The environments without types, made once.
fn base(declared: Declared) -> &'static Env {
    static BASES: OnceLock<Vec<(Declared, Env)>> = OnceLock::new();
    let bases = BASES.get_or_init(|| {
        let all = (0..8u8).map(|bits| Declared {
            params: bits & 1 != 0,
            authorizer: bits & 2 != 0,
            patches: bits & 4 != 0,
        });
        all.map(|declared| (declared, new_base(declared))).collect()
    });
    let found = bases.iter().find(|(known, _)| *known == declared);
    &found.unwrap_or(&bases[0]).1
}

fn new_base(declared: Declared) -> Env {
    let mut env = Env::kubernetes()
        .with_variable("object", Type::Dyn)
        .with_variable("oldObject", Type::Dyn)
        .with_variable("namespaceObject", Type::object(NAMESPACE))
        .with_variable("request", Type::object(REQUEST));
    if declared.params {
        env = env.with_variable("params", Type::Dyn);
    }
    if declared.authorizer {
        env = env
            .with_variable("authorizer", ext::authorizer_type())
            .with_variable("authorizer.requestResource", ext::resource_check_type());
    }
    if declared.patches {
        env = env.with_functions(ext::json_patch_functions());
    }
    env
}

/// The types that upstream declares for policies.
struct PolicyTypes {
    variables: Option<BTreeMap<Arc<str>, Type>>,
    patches: bool,
}

impl TypeProvider for PolicyTypes {
    fn find_type(&self, name: &str) -> Option<Type> {
        let known = match name {
            VARIABLES => self.variables.is_some(),
            "JSONPatch" | "Object" => self.patches,
            _ => self.patches && name.starts_with("Object.") || !fields_of(name).is_empty(),
        };
        known.then(|| Type::object(name))
    }

    fn field(&self, type_name: &str, field: &str) -> Option<FieldType> {
        let ty = match type_name {
            VARIABLES => self.variables.as_ref()?.get(field)?.clone(),
            "JSONPatch" if self.patches => match field {
                "op" | "path" | "from" => Type::String,
                "value" => Type::Dyn,
                _ => return None,
            },
            "Object" if self.patches => Type::Dyn,
            _ if self.patches && type_name.starts_with("Object.") => Type::Dyn,
            _ => {
                let (_, ty) = fields_of(type_name).iter().find(|(name, _)| *name == field)?;
                declared_type(ty)
            }
        };
        Some(FieldType { ty })
    }
}

/// Fields of the declared types, with their types in CEL's notation.
fn fields_of(type_name: &str) -> &'static [(&'static str, &'static str)] {
    match type_name {
        REQUEST => &[
            ("kind", "kubernetes.GroupVersionKind"),
            ("resource", "kubernetes.GroupVersionResource"),
            ("subResource", "string"),
            ("requestKind", "kubernetes.GroupVersionKind"),
            ("requestResource", "kubernetes.GroupVersionResource"),
            ("requestSubResource", "string"),
            ("name", "string"),
            ("namespace", "string"),
            ("operation", "string"),
            ("userInfo", "kubernetes.UserInfo"),
            ("dryRun", "bool"),
            ("options", "dyn"),
        ],
        "kubernetes.GroupVersionKind" => &[("group", "string"), ("version", "string"), ("kind", "string")],
        "kubernetes.GroupVersionResource" => {
            &[("group", "string"), ("version", "string"), ("resource", "string")]
        }
        "kubernetes.UserInfo" => &[
            ("username", "string"),
            ("uid", "string"),
            ("groups", "list(string)"),
            ("extra", "map(string, list(string))"),
        ],
        NAMESPACE => &[
            ("metadata", "kubernetes.NamespaceMetadata"),
            ("spec", "kubernetes.NamespaceSpec"),
            ("status", "kubernetes.NamespaceStatus"),
        ],
        "kubernetes.NamespaceSpec" => &[("finalizers", "list(string)")],
        "kubernetes.NamespaceStatus" => {
            &[("conditions", "list(kubernetes.NamespaceCondition)"), ("phase", "string")]
        }
        "kubernetes.NamespaceCondition" => &[
            ("status", "string"),
            ("type", "string"),
            ("lastTransitionTime", "timestamp"),
            ("message", "string"),
            ("reason", "string"),
        ],
        "kubernetes.NamespaceMetadata" => &[
            ("name", "string"),
            ("generateName", "string"),
            ("namespace", "string"),
            ("labels", "map(string, string)"),
            ("annotations", "map(string, string)"),
            ("UID", "string"),
            ("creationTimestamp", "timestamp"),
            ("deletionGracePeriodSeconds", "int"),
            ("deletionTimestamp", "timestamp"),
            ("generation", "int"),
            ("resourceVersion", "string"),
            ("finalizers", "list(string)"),
        ],
        _ => &[],
    }
}

fn declared_type(text: &str) -> Type {
    match text {
        "string" => Type::String,
        "bool" => Type::Bool,
        "int" => Type::Int,
        "timestamp" => Type::Timestamp,
        "dyn" => Type::Dyn,
        "list(string)" => Type::list(Type::String),
        "map(string, string)" => Type::map(Type::String, Type::String),
        "map(string, list(string))" => Type::map(Type::String, Type::list(Type::String)),
        "list(kubernetes.NamespaceCondition)" => Type::list(Type::object("kubernetes.NamespaceCondition")),
        name => Type::object(name),
    }
}
