//! The schemas of a definition.

use serde_json::Value;

use super::cost::{self, TotalCost};
use super::options::Options;
use super::schema_node::{self, TYPES};
use super::{defaults, view};
use crate::cursor::Node;
use crate::field::{Error, ErrorList, Path};
use crate::structural::{META_FIELDS, Rule, Structural, go_json, invariants, parse, rules, valid_field_path};

/// What the root may say if the status is checked by its own part of the schema, by upstream's names.
const ROOT_FIELDS: &str = "[Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example XPreserveUnknownFields XValidations]";

/// The other fields, in the order in which upstream looks at all of them; `type` stands where its value is looked
/// at.
const OTHER_ROOT_FIELDS: [&str; 22] = [
    "id",
    "$schema",
    "$ref",
    "type",
    "nullable",
    "default",
    "enum",
    "maxProperties",
    "minProperties",
    "allOf",
    "oneOf",
    "anyOf",
    "not",
    "additionalProperties",
    "patternProperties",
    "dependencies",
    "additionalItems",
    "definitions",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
];

const REASONS: [&str; 4] =
    ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// What is wrong with a version's `schema` (or `validation`). Where the schema is `unmeasured`, it did not
/// change, and the cost of single rules is no reason to refuse it.
pub(super) fn validate(
    given: &Node<'_>,
    has_status: bool,
    unmeasured: bool,
    options: &Options,
    errs: &mut ErrorList,
) {
    let Some(schema) = given.value().and_then(view::open_api) else { return };
    let node = given.at("openAPIV3Schema");
    if has_status {
        errs.extend(root_with_status(given, schema));
    }
    if node.at("nullable").bool() {
        let at = given.path().child("openAPIV3Schema.nullable");
        errs.push(Error::forbidden(&at, "nullable cannot be true at the root"));
    }
    let mut not_parsed = None;
    let mut structural = None;
    if options.structural {
        match Structural::parse(schema) {
            Err(error) => not_parsed = Some(Error::invalid(node.path(), "", error)),
            Ok(parsed) => structural = Some(parsed),
        }
    }
    if let Some(parsed) = &structural {
        let mut found = invariants::validate(node.path(), parsed);
        if found.is_empty() {
            found = defaults::validate(node.path(), parsed, options.pruned_defaults);
        }
        if !found.is_empty() {
            // Rules are looked at in valid schemas only.
            errs.extend(found);
            structural = None;
        }
    }
    let before = errs.len();
    let mut walk = Walk {
        options,
        unmeasured,
        schema_errors: ErrorList::new(),
        rule_errors: ErrorList::new(),
        total: TotalCost::default(),
    };
    let context = structural.as_ref().map(|s| Context { structural: s, cardinality: Some(1) });
    walk.node(&node, &Rules { defaults: true, ..Rules::default() }, true, context);
    let Walk { schema_errors, rule_errors, total, .. } = walk;
    errs.extend(schema_errors);
    errs.extend(rule_errors);
    if let (true, Some(error)) = (errs.len() == before, not_parsed) {
        errs.push(error);
    }
    if structural.is_some() && total.total > cost::SCHEMA_LIMIT {
        for (path, _) in &total.most_expensive {
            let detail =
                "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            errs.push(Error::forbidden(path, detail));
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        errs.push(Error::forbidden(node.path(), cost::message(what, total.total, cost::SCHEMA_LIMIT)));
    }
}

fn root_with_status(given: &Node<'_>, schema: &Value) -> Option<Error> {
    let set = |name: &str| match schema.get(name) {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(_) => true,
    };
    let x_map_type = ["x-kubernetes-map-type"];
    for name in OTHER_ROOT_FIELDS.iter().chain(&x_map_type).filter(|name| set(name)) {
        if *name != "type" {
            let detail = format!(
                "only {ROOT_FIELDS} fields are allowed at the root of the schema if the status subresource is enabled"
            );
            return Some(Error::invalid(&given.path().child("openAPIV3Schema"), schema.clone(), detail));
        }
        let ty = schema["type"].as_str().unwrap_or_default();
        if ty != "object" {
            let detail = "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
            return Some(Error::invalid(&given.path().child("openAPIV3Schema.type"), ty, detail));
        }
    }
    None
}

/// What applies to a node because of what is around it.
#[derive(Clone, Default)]
struct Rules<'a> {
    /// Whether defaults are allowed.
    defaults: bool,
    /// Why they are not.
    why_no_defaults: String,
    /// Whether the node describes metadata or type of a resource.
    inside_meta: bool,
    /// Where around the node it cannot be told any more what a value was before.
    uncorrelatable: Option<Path<'a>>,
}

impl<'a> Rules<'a> {
    fn without_defaults(&self, why: String) -> Rules<'a> {
        Rules { defaults: false, why_no_defaults: why, ..self.clone() }
    }

    fn uncorrelatable_at(mut self, path: &Path<'a>) -> Rules<'a> {
        self.uncorrelatable.get_or_insert_with(|| path.clone());
        self
    }
}

/// The structure of a node whose rules are compiled, and how often there can be values of it.
#[derive(Clone, Copy)]
struct Context<'s> {
    structural: &'s Structural,
    cardinality: Option<u64>,
}

impl<'s> Context<'s> {
    fn below(&self, schema: &Value, structural: Option<&'s Structural>) -> Option<Context<'s>> {
        Some(Context {
            structural: structural?,
            cardinality: cost::cardinality_below(schema, self.cardinality),
        })
    }
}

struct Walk<'o, 'a> {
    options: &'o Options,
    unmeasured: bool,
    schema_errors: ErrorList,
    rule_errors: ErrorList,
    total: TotalCost<'a>,
}

impl<'a> Walk<'_, 'a> {
    fn node(&mut self, node: &Node<'a>, around: &Rules<'a>, is_root: bool, context: Option<Context<'_>>) {
        let (Some(schema), Some(_)) = (node.value(), node.object()) else { return };
        let first = self.schema_errors.len();
        self.keywords(node, around);
        self.additional(node, schema, around, context);
        self.properties(node, schema, around, is_root, context);
        self.junctors(node, around);
        self.items(node, schema, around, context);
        for (_, dependency) in node.at("dependencies").entries() {
            self.node(&dependency, around, false, None);
        }
        let preserve = node.at("x-kubernetes-preserve-unknown-fields");
        if preserve.opt_bool() == Some(false) {
            self.schema_errors.push(preserve.invalid("must be true or undefined"));
        }
        schema_node::topology(node, self.options.atomic_sets, &mut self.schema_errors);
        if self.options.list_map_keys {
            self.schema_errors.extend(schema_node::list_map_keys(node));
        }
        let validations = node.at("x-kubernetes-validations");
        if validations.is_empty() {
            return;
        }
        for rule in validations.items() {
            self.rule_texts(&rule, schema, context);
        }
        // Rules in schemas that are wrong would only confuse.
        if let (true, Some(context)) = (self.schema_errors.len() == first, context) {
            self.compile(&validations, schema, around, is_root, context);
        }
    }

    /// Keywords that are not supported, or not here.
    fn keywords(&mut self, node: &Node<'a>, around: &Rules<'a>) {
        let errs = &mut self.schema_errors;
        let ty = node.at("type");
        if self.options.valid_types && !ty.is_empty() && !TYPES.contains(&ty.str()) {
            errs.push(ty.not_supported(&TYPES));
        }
        if node.at("default").is_set() && !around.defaults {
            let why = &around.why_no_defaults;
            let space = if why.is_empty() { "" } else { " " };
            errs.push(node.at("default").forbidden(format!("must not be set{space}{why}")));
        }
        let mut unsupported = |name: &'static str, given: bool| {
            if given {
                errs.push(node.at(name).forbidden(format!("{name} is not supported")));
            }
        };
        unsupported("id", !node.at("id").is_empty());
        unsupported("additionalItems", node.at("additionalItems").is_set());
        unsupported("patternProperties", !node.at("patternProperties").is_empty());
        unsupported("definitions", !node.at("definitions").is_empty());
        unsupported("dependencies", node.at("dependencies").is_set());
        unsupported("$ref", node.at("$ref").is_set());
        if ty.str() == "null" {
            errs.push(ty.forbidden("type cannot be set to null, use nullable as an alternative"));
        }
        let items = node.at("items");
        if items.value().is_some_and(Value::is_array) && !items.is_empty() {
            errs.push(items.forbidden("items must be a schema object and not an array"));
        }
        let embedded = node.at("x-kubernetes-embedded-resource");
        if around.inside_meta && embedded.bool() {
            errs.push(embedded.forbidden("must not be used inside of resource meta"));
        }
        let unique = node.at("uniqueItems");
        if unique.bool() {
            let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            errs.push(unique.forbidden(detail));
        }
    }

    fn additional(
        &mut self,
        node: &Node<'a>,
        schema: &Value,
        around: &Rules<'a>,
        context: Option<Context<'_>>,
    ) {
        let additional = node.at("additionalProperties");
        let anything = additional.opt_bool() == Some(true);
        if additional.is_set() && !node.at("properties").is_empty() && !anything {
            let detail = "additionalProperties and properties are mutual exclusive";
            self.schema_errors.push(additional.forbidden(detail));
        }
        let inner = match around.inside_meta {
            true => {
                &around.without_defaults("inside additionalProperties applying to object metadata".to_owned())
            }
            false => around,
        };
        let context = context.and_then(|c| c.below(schema, c.structural.additional_schema()));
        self.node(&additional, inner, false, context);
    }

    fn properties(
        &mut self,
        node: &Node<'a>,
        schema: &Value,
        around: &Rules<'a>,
        is_root: bool,
        context: Option<Context<'_>>,
    ) {
        let is_resource = is_root || node.at("x-kubernetes-embedded-resource").bool();
        let correlatable = rules::is_correlatable(node.at("x-kubernetes-map-type").opt_str());
        for (name, property) in node.at("properties").entries() {
            let mut inner = around.clone();
            if !correlatable {
                inner = inner.uncorrelatable_at(node.path());
            }
            if is_resource && META_FIELDS.contains(&name) {
                inner.inside_meta = true;
                if is_root {
                    inner = inner.without_defaults(format!("in top-level {name}"));
                }
            }
            let context = context.and_then(|c| c.below(schema, c.structural.properties.get(name)));
            self.node(&property, &inner, false, context);
        }
    }

    fn junctors(&mut self, node: &Node<'a>, around: &Rules<'a>) {
        self.node(&node.at("not"), around, false, None);
        for name in ["allOf", "oneOf", "anyOf"] {
            for nested in node.at(name).items() {
                self.node(&nested, around, false, None);
            }
        }
        for (_, definition) in node.at("definitions").entries() {
            self.node(&definition, around, false, None);
        }
    }

    fn items(&mut self, node: &Node<'a>, schema: &Value, around: &Rules<'a>, context: Option<Context<'_>>) {
        let items = node.at("items");
        if !items.is_set() {
            return;
        }
        let mut inner = around.clone();
        if node.at("x-kubernetes-list-type").str() != "map" {
            inner = inner.uncorrelatable_at(node.path());
        }
        let context = context.and_then(|c| c.below(schema, c.structural.items.as_deref()));
        self.node(&items, &inner, false, context);
        for item in items.items() {
            self.node(&item, &inner, false, None);
        }
    }

    /// The texts of a rule, apart from what they mean.
    fn rule_texts(&mut self, rule: &Node<'a>, schema: &Value, context: Option<Context<'_>>) {
        let errs = &mut self.schema_errors;
        let (text, message) = (rule.at("rule"), rule.at("message"));
        let trimmed = message.str().trim();
        if text.str().trim().is_empty() {
            errs.push(text.required("rule is not specified"));
        } else if !message.is_empty() && trimmed.is_empty() {
            errs.push(message.invalid_str("must be non-empty if specified"));
        } else if has_newlines(trimmed) {
            errs.push(message.invalid_str("must not contain line breaks"));
        } else if has_newlines(text.str().trim()) && trimmed.is_empty() {
            errs.push(message.required("message must be specified if rule contains line breaks"));
        }
        let expression = rule.at("messageExpression");
        if !expression.is_empty() && expression.str().trim().is_empty() {
            errs.push(expression.required("messageExpression must be non-empty if specified"));
        }
        let reason = rule.at("reason");
        if reason.is_set() && !REASONS.contains(&reason.str()) {
            errs.push(reason.not_supported(&REASONS));
        }
        let path = rule.at("fieldPath");
        if path.is_empty() {
            return;
        }
        if path.str().trim().is_empty() {
            errs.push(path.invalid_str("must be non-empty if specified"));
        }
        if has_newlines(path.str()) {
            errs.push(path.invalid_str("must not contain line breaks"));
        }
        let leads_nowhere = |structural: &Structural| valid_field_path(path.str(), structural, true).is_err();
        let invalid = match context {
            Some(context) => leads_nowhere(context.structural),
            None => Structural::parse(schema).is_ok_and(|structural| leads_nowhere(&structural)),
        };
        if invalid {
            errs.push(path.invalid_str("must be a valid path"));
        }
    }

    fn compile(
        &mut self,
        validations: &Node<'a>,
        schema: &Value,
        around: &Rules<'a>,
        is_root: bool,
        context: Context<'_>,
    ) {
        let embedded = schema.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true));
        let declared = rules::declare_schema(context.structural, is_root || embedded);
        let compiled = match rules::compile(context.structural, &declared) {
            Ok(compiled) => compiled,
            Err(_) => {
                return self.rule_errors.push(Error::internal(
                    validations.path(),
                    "internal error: failed to construct type information for x-kubernetes-validations rules: unable to convert structural schema to CEL declarations",
                ));
            }
        };
        for (given, compiled) in validations.items().zip(compiled) {
            self.rule(&given, &compiled, around, context.cardinality);
        }
    }

    fn rule(
        &mut self,
        given: &Node<'a>,
        compiled: &rules::Compiled,
        around: &Rules<'a>,
        cardinality: Option<u64>,
    ) {
        let errs = &mut self.rule_errors;
        let rule: Rule = given.value().map(parse::rule).unwrap_or_default();
        let (text, expression) = (given.at("rule"), given.at("messageExpression"));
        let cost = compiled.max_cost.saturating_mul(cardinality.unwrap_or(compiled.max_cardinality));
        if !self.unmeasured && cost > cost::EXPRESSION_LIMIT {
            let message = cost::message("estimated rule cost", cost, cost::EXPRESSION_LIMIT);
            errs.push(text.forbidden(message));
        }
        self.total.observe(text.path().clone(), cost);
        if let Some(error) = &compiled.error {
            errs.push(go_json::invalid_showing(text.path(), &go_json::rule(&rule), error));
        }
        let message_cost = compiled.message_max_cost;
        if let Some(error) = &compiled.message_error {
            errs.push(go_json::invalid_showing(expression.path(), &go_json::rule(&rule), error));
        } else if compiled.message.is_some() {
            if !self.unmeasured && message_cost > cost::EXPRESSION_LIMIT {
                let message =
                    cost::message("estimated messageExpression cost", message_cost, cost::EXPRESSION_LIMIT);
                errs.push(expression.forbidden(message));
            }
            self.total.observe(expression.path().clone(), message_cost);
        }
        let optional = given.at("optionalOldSelf");
        match &around.uncorrelatable {
            Some(place) if compiled.uses_old_self => errs.push(text.invalid_str(format!(
                "oldSelf cannot be used on the uncorrelatable portion of the schema within {place}"
            ))),
            _ if !compiled.uses_old_self && optional.is_set() => {
                errs.push(optional.invalid("may not be set if oldSelf is not used in rule"));
            }
            _ => {}
        }
    }
}

fn has_newlines(text: &str) -> bool {
    text.contains(['\n', '\r'])
}
