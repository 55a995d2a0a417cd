//! Policies and bindings as the dispatcher wants them, kept up with the watch cache.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use cel::Type;
use schema::policy_expressions::{Compiled, Compiler, Declared};
use serde_json::Value;

use super::conditions::MatchConditions;
use super::params::{ParamKind, ParamRef};
use crate::admission::Attributes;
use crate::admission::webhook::rules::{self, KindName, Matched, Rule};
use crate::selector::LabelSelector;
use crate::status::ApiError;

/// `matchConstraints` of a policy, `matchResources` of a binding.
pub(super) struct Constraints {
    rules: Vec<Rule>,
    excluded: Vec<Rule>,
    equivalent: bool,
    /// None for a selector that cannot be read.
    namespaces: Option<LabelSelector>,
    objects: Option<LabelSelector>,
}

impl Constraints {
    fn of(resources: &Value) -> Option<Self> {
        resources.as_object()?;
        Some(Self {
            rules: Rule::list(&resources["resourceRules"]),
            excluded: Rule::list(&resources["excludeResourceRules"]),
            equivalent: resources["matchPolicy"] == "Equivalent",
            namespaces: LabelSelector::of(&resources["namespaceSelector"]),
            objects: LabelSelector::of(&resources["objectSelector"]),
        })
    }

    /// What of it the request is for, if it is for any.
    ///
    /// # Errors
    /// When the namespace does not exist, or a selector cannot be read.
    pub async fn matches(
        &self,
        attributes: &Attributes<'_>,
        object: &Value,
    ) -> Result<Option<Matched>, ApiError> {
        // Rules are cheap and rarely match; the order makes no difference to the answer.
        let matched = match self.rules.is_empty() {
            true => Some(requested(attributes)),
            false => rules::find(&self.rules, self.equivalent, attributes),
        };
        let Some(matched) = matched else { return Ok(None) };
        let unreadable = || ApiError::internal("a label selector has an unknown operator");
        let namespaces = self.namespaces.as_ref().ok_or_else(unreadable)?;
        let objects = self.objects.as_ref().ok_or_else(unreadable)?;
        let in_namespace = rules::namespace_matches(namespaces, attributes, object).await;
        if matches!(in_namespace, Ok(false)) || !rules::object_matches(objects, attributes, object) {
            return Ok(None);
        }
        if rules::find(&self.excluded, self.equivalent, attributes).is_some() {
            return Ok(None);
        }
        in_namespace?;
        Ok(Some(matched))
    }
}

fn requested(attributes: &Attributes<'_>) -> Matched {
    let kind = attributes.kind;
    Matched {
        resource: attributes.call.kind.clone(),
        kind: KindName {
            group: kind.group.to_owned(),
            version: kind.version.to_owned(),
            kind: kind.kind.to_owned(),
        },
    }
}

/// A policy of either sort.
pub(super) struct Policy {
    pub name: String,
    /// `failurePolicy: Ignore`.
    pub ignores_failures: bool,
    pub constraints: Option<Constraints>,
    pub param_kind: Option<ParamKind>,
    /// `reinvocationPolicy: IfNeeded`.
    pub reinvoked: bool,
    spec: Value,
    compiled: OnceLock<Expressions>,
}

/// A policy's expressions, compiled when the policy is first needed.
pub(super) struct Expressions {
    pub conditions: MatchConditions,
    pub variables: Vec<(String, Compiled)>,
    pub validations: Vec<Validation>,
    pub audit_annotations: Vec<(String, Compiled)>,
    pub mutations: Vec<Mutation>,
}

/// One of a policy's `validations`.
pub(super) struct Validation {
    pub expression: Compiled,
    pub message: String,
    pub message_expression: Option<Compiled>,
    pub reason: String,
}

/// One of a policy's `mutations`.
pub(super) enum Mutation {
    JsonPatch(Compiled),
    ApplyConfiguration(Compiled),
}

impl Policy {
    fn of(name: &str, policy: &mut Value) -> Self {
        let spec = policy["spec"].take();
        Self {
            name: name.to_owned(),
            ignores_failures: spec["failurePolicy"] == "Ignore",
            constraints: Constraints::of(&spec["matchConstraints"]),
            param_kind: ParamKind::of(&spec["paramKind"]),
            reinvoked: spec["reinvocationPolicy"] == "IfNeeded",
            spec,
            compiled: OnceLock::new(),
        }
    }

    /// The expressions.
    pub fn expressions(&self) -> &Expressions {
        self.compiled.get_or_init(|| self.compile())
    }

    fn compile(&self) -> Expressions {
        let spec = &self.spec;
        let declared =
            Declared { params: self.param_kind.is_some(), authorizer: true, ..Declared::default() };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut compiler = Compiler::with_variables();
        let mut variables = Vec::new();
        for variable in spec["variables"].as_array().into_iter().flatten() {
            let compiled = compiler.compile(&text(&variable["expression"]), declared, &[]);
            let name = text(&variable["name"]);
            compiler.declare(&name, compiled.output());
            variables.push((name, compiled));
        }
        let items = |field: &str| spec[field].as_array().into_iter().flatten();
        let in_messages = Declared { authorizer: false, ..declared };
        let validations = items("validations").map(|validation| Validation {
            expression: compiler.compile(&text(&validation["expression"]), declared, &[Type::Bool]),
            message: text(&validation["message"]),
            message_expression: validation["messageExpression"]
                .as_str()
                .filter(|expression| !expression.is_empty())
                .map(|expression| compiler.compile(expression, in_messages, &[Type::String])),
            reason: text(&validation["reason"]),
        });
        let audit_annotations = items("auditAnnotations").map(|annotation| {
            let wanted = [Type::String, Type::Null];
            let compiled = compiler.compile(&text(&annotation["valueExpression"]), declared, &wanted);
            (text(&annotation["key"]), compiled)
        });
        let in_patches = Declared { patches: true, ..declared };
        let mutations = items("mutations").filter_map(|mutation| {
            let compile = |part: &str, wanted: Type| {
                let expression = mutation[part]["expression"].as_str()?;
                Some(compiler.compile(expression, in_patches, &[wanted]))
            };
            match mutation["patchType"].as_str()? {
                "JSONPatch" => {
                    let patch = compile("jsonPatch", Type::list(Type::object("JSONPatch")))?;
                    Some(Mutation::JsonPatch(patch))
                }
                "ApplyConfiguration" => {
                    let object = compile("applyConfiguration", Type::object("Object"))?;
                    Some(Mutation::ApplyConfiguration(object))
                }
                _ => None,
            }
        });
        Expressions {
            validations: validations.collect(),
            audit_annotations: audit_annotations.collect(),
            mutations: mutations.collect(),
            conditions: MatchConditions::of_policy(
                &spec["matchConditions"],
                self.ignores_failures,
                declared,
                compiler.clone(),
            ),
            variables,
        }
    }
}

/// What puts a policy to work.
pub(super) struct Binding {
    pub name: String,
    pub policy: String,
    pub constraints: Option<Constraints>,
    pub param_ref: Option<ParamRef>,
    /// `validationActions`.
    pub actions: Vec<String>,
}

impl Binding {
    fn of(name: &str, binding: &Value) -> Self {
        let spec = &binding["spec"];
        let actions = spec["validationActions"].as_array().into_iter().flatten();
        Self {
            name: name.to_owned(),
            policy: spec["policyName"].as_str().unwrap_or_default().to_owned(),
            constraints: Constraints::of(&spec["matchResources"]),
            param_ref: ParamRef::of(&spec["paramRef"]),
            actions: actions.filter_map(|action| action.as_str().map(str::to_owned)).collect(),
        }
    }
}

/// A policy that is bound, with its bindings.
pub(super) struct Bound {
    pub policy: Arc<Policy>,
    pub bindings: Vec<Arc<Binding>>,
}

/// All policies of one sort, in the order of their names.
pub(super) struct Policies {
    /// Where policies and bindings are stored.
    policy_keys: &'static str,
    binding_keys: &'static str,
    current: RwLock<Current>,
}

#[derive(Default)]
struct Current {
    policies: BTreeMap<String, Arc<Policy>>,
    bindings: BTreeMap<String, Arc<Binding>>,
    bound: Arc<[Bound]>,
}

impl Policies {
    /// None yet.
    pub fn new(policy_keys: &'static str, binding_keys: &'static str) -> Self {
        Self { policy_keys, binding_keys, current: RwLock::default() }
    }

    /// The policies that are bound. Nothing is copied.
    pub fn bound(&self) -> Arc<[Bound]> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).bound.clone()
    }

    /// Takes over a change of the cache.
    pub fn apply(&self, key: &str, value: Option<&[u8]>) {
        let parse = || value.and_then(|bytes| serde_json::from_slice::<Value>(bytes).ok());
        let mut current = if let Some(name) = key.strip_prefix(self.policy_keys) {
            let policy = parse().map(|mut policy| Arc::new(Policy::of(name, &mut policy)));
            let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
            match policy {
                Some(policy) => current.policies.insert(name.to_owned(), policy),
                None => current.policies.remove(name),
            };
            current
        } else if let Some(name) = key.strip_prefix(self.binding_keys) {
            let binding = parse().map(|binding| Arc::new(Binding::of(name, &binding)));
            let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
            match binding {
                Some(binding) => current.bindings.insert(name.to_owned(), binding),
                None => current.bindings.remove(name),
            };
            current
        } else {
            return;
        };
        current.bind();
    }

    /// Forgets everything.
    pub fn clear(&self) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Current::default();
    }
}

impl Current {
    fn bind(&mut self) {
        let mut by_policy: BTreeMap<&str, Vec<Arc<Binding>>> = BTreeMap::new();
        for binding in self.bindings.values() {
            by_policy.entry(&binding.policy).or_default().push(binding.clone());
        }
        let bound = by_policy.into_iter().filter_map(|(name, bindings)| {
            Some(Bound { policy: self.policies.get(name)?.clone(), bindings })
        });
        self.bound = bound.collect();
    }
}
