//! Defaults must be valid themselves.

use serde_json::Value;

use crate::field::{Error, ErrorList, Path};
use crate::structural::defaulting::{Step, surround};
use crate::structural::value::{Mode, Validator};
use crate::structural::{META_FIELDS, Structural, object_meta, pruning, rules};

/// Whether a schema has a default.
pub(super) fn is_set(schema: &Value) -> bool {
    schema.get("default").is_some_and(|default| !default.is_null())
}

/// Checks all defaults of the schema of a kind.
pub(super) fn validate<'a>(path: &Path<'a>, schema: &'a Structural, pruned: bool) -> ErrorList {
    let mut walk = Walk { pruned, budget: rules::REQUEST_BUDGET, steps: Vec::new(), errs: ErrorList::new() };
    let _ = walk.node(path, schema, Root { schema, is_node: true }, false);
    walk.errs
}

/// The schema of the innermost resource around a node.
#[derive(Clone, Copy)]
struct Root<'a> {
    schema: &'a Structural,
    /// Whether the node is the root itself.
    is_node: bool,
}

struct Walk {
    /// Whether unknown fields are refused.
    pruned: bool,
    /// What rules may still cost.
    budget: i64,
    /// The way from the innermost resource.
    steps: Vec<Step>,
    errs: ErrorList,
}

/// The budget for rules is used up.
struct Exhausted;

impl Walk {
    fn node<'a>(
        &mut self,
        path: &Path<'a>,
        schema: &'a Structural,
        root: Root<'a>,
        inside_meta: bool,
    ) -> Result<(), Exhausted> {
        if schema.extensions.embedded_resource || root.is_node {
            let outer = std::mem::take(&mut self.steps);
            let result = self.below(path, schema, Root { schema, is_node: true }, false);
            self.steps = outer;
            return result;
        }
        self.below(path, schema, root, inside_meta)
    }

    fn below<'a>(
        &mut self,
        path: &Path<'a>,
        schema: &'a Structural,
        root: Root<'a>,
        inside_meta: bool,
    ) -> Result<(), Exhausted> {
        if let Some(default) = &schema.generic.default {
            self.default(&path.child("default"), default, schema, root, inside_meta)?;
        }
        let inner = Root { is_node: false, ..root };
        if let Some(items) = &schema.items {
            self.steps.push(Step::Index);
            let result = self.node(&path.child("items"), items, inner, inside_meta);
            self.steps.pop();
            result?;
        }
        for (name, property) in &schema.properties {
            let inside_meta = inside_meta || (root.is_node && META_FIELDS.contains(&name.as_str()));
            self.steps.push(Step::Child(name.clone()));
            let result = self.node(&path.child("properties").key(name), property, inner, inside_meta);
            self.steps.pop();
            result?;
        }
        Ok(())
    }

    fn default<'a>(
        &mut self,
        path: &Path<'a>,
        default: &'a Value,
        schema: &'a Structural,
        root: Root<'a>,
        inside_meta: bool,
    ) -> Result<(), Exhausted> {
        if self.pruned && !inside_meta {
            let mut pruned = default.clone();
            let is_resource = schema.extensions.embedded_resource || root.is_node;
            pruning::prune(&mut pruned, Some(schema), is_resource, false);
            if pruned != *default {
                self.errs.push(Error::invalid(path, default.clone(), "must not have unknown fields"));
            }
        }
        let found = if inside_meta {
            self.meta(path, default, root.schema)
        } else {
            embedded_resources(path, default, schema, root.is_node)
        };
        if !found.is_empty() {
            self.errs.extend(found);
            return Ok(());
        }
        let found = Validator::new(schema, Mode::Defaults).check(path, default);
        if !found.is_empty() {
            self.errs.extend(found);
            return Ok(());
        }
        self.rules(path, default, schema, root.is_node)
    }

    /// A default of a field of metadata must result in valid metadata.
    fn meta(&self, path: &Path<'_>, default: &Value, root: &Structural) -> ErrorList {
        let mut object = surround(&self.steps, default.clone());
        if let Some(entries) = object.as_object_mut() {
            entries.entry("kind").or_insert_with(|| "Validation".into());
            entries.entry("apiVersion").or_insert_with(|| "validation/v1".into());
        }
        let wrong =
            match object_meta::coerce(&mut object, Some(root), true, object_meta::Malformed::Refuse, false) {
                Err(error) => error.to_string(),
                Ok(_) => object_meta::validate(&object, Some(root), true).message(),
            };
        let error =
            || Error::invalid(path, default.clone(), format!("must result in valid metadata: {wrong}"));
        if wrong.is_empty() { ErrorList::new() } else { [error()].into_iter().collect() }
    }

    fn rules<'a>(
        &mut self,
        path: &Path<'a>,
        default: &'a Value,
        schema: &'a Structural,
        is_root: bool,
    ) -> Result<(), Exhausted> {
        let Some(validator) = rules::Validator::new(schema, is_root) else { return Ok(()) };
        let (mut as_update, mut as_create) = (self.budget, self.budget);
        let found = run(&validator, &mut as_update, path, default, Some(default));
        let holds = found.is_empty();
        self.errs.extend(found);
        if holds {
            // Rules with an optional `oldSelf` may hold in an update only.
            let found = run(&validator, &mut as_create, path, default, None);
            self.errs.extend(found);
        }
        self.budget = as_update.min(as_create);
        if self.budget < 0 { Err(Exhausted) } else { Ok(()) }
    }
}

/// A default must have valid metadata where it holds resources.
fn embedded_resources<'a>(
    path: &Path<'a>,
    default: &'a Value,
    schema: &'a Structural,
    is_root: bool,
) -> ErrorList {
    let mut coerced = default.clone();
    let is_resource = schema.extensions.embedded_resource || is_root;
    let refuse = object_meta::Malformed::Refuse;
    match object_meta::coerce(&mut coerced, Some(schema), is_resource, refuse, false) {
        Err(error) => [placed(&path.to_string(), error)].into_iter().collect(),
        Ok(_) => object_meta::validate_at(path, default, Some(schema), is_resource),
    }
}

fn run(
    validator: &rules::Validator,
    budget: &mut i64,
    path: &Path<'_>,
    default: &Value,
    old: Option<&Value>,
) -> ErrorList {
    let prefix = path.to_string();
    let found = validator.check_within(budget, &Path::root(), default, old, None);
    found.errors.into_iter().map(|error| placed(&prefix, error)).collect()
}

/// An error about a part of a default.
fn placed(prefix: &str, error: Error) -> Error {
    let field = match error.field.as_str() {
        "<nil>" => prefix.to_owned(),
        field if field.starts_with('[') => format!("{prefix}{field}"),
        field => format!("{prefix}.{field}"),
    };
    Error { field, ..error }
}
