//! What happens to an object between the wire and the store: by the strategy table for built-in kinds,
//! by their definition for custom ones.

use schema::field::ErrorList;
use schema::strategy::{self, Strategy};
use schema::structural::CustomVersion;
use schema::structural::custom::Checked;
use serde_json::Value;

use crate::call::invalid;
use crate::kind::Kind;
use crate::status::ApiError;

/// The rules of a kind, in upstream's terms its strategy.
pub(crate) struct Rules<'a> {
    kind: &'a Kind,
    source: Source<'a>,
}

enum Source<'a> {
    Table(&'static Strategy),
    Definition(&'a CustomVersion),
}

impl<'a> Rules<'a> {
    /// The rules of the kind's objects.
    pub fn of(kind: &'a Kind) -> Result<Self, ApiError> {
        let source = match &kind.custom {
            Some(handler) => Source::Definition(handler.version()?),
            None => Source::Table(strategy::of(&kind.group, &kind.kind)),
        };
        Ok(Self { kind, source })
    }

    /// The rules of a subresource that has rules of its own, else the kind's.
    pub fn of_subresource(kind: &'a Kind, subresource: &str) -> Result<Self, ApiError> {
        match strategy::of_subresource(&kind.group, &kind.kind, subresource) {
            Some(own) if !kind.is_custom() => Ok(Self { kind, source: Source::Table(own) }),
            _ => Self::of(kind),
        }
    }

    pub fn prepare_create(&self, object: &mut Value) {
        match &self.source {
            Source::Table(strategy) => (strategy.prepare_create)(object),
            Source::Definition(version) => version.prepare_create(object),
        }
    }

    /// Everything wrong with a new object.
    pub fn check_create(&self, object: &Value) -> ErrorList {
        match &self.source {
            Source::Table(strategy) => strategy.check_create(object),
            Source::Definition(version) => {
                let errors = version.check_create(object);
                if errors.is_empty() { strategy::common_errors(object) } else { errors }
            }
        }
    }

    /// What the sender of a valid new object should know.
    pub fn warnings(&self, object: &Value) -> Vec<String> {
        match &self.source {
            Source::Table(strategy) => (strategy.warnings)(object),
            Source::Definition(version) => version.warnings(object, None),
        }
    }

    pub fn before_update(&self, new: &mut Value, old: &Value) {
        match &self.source {
            Source::Table(strategy) => strategy.before_update(new, old),
            Source::Definition(version) => {
                strategy::keep_system_metadata(new, old, |new, old| version.prepare_update(new, old));
            }
        }
    }

    pub fn before_status_update(&self, new: &mut Value, old: &Value) {
        match &self.source {
            Source::Table(strategy) => strategy.before_status_update(new, old),
            Source::Definition(version) => {
                strategy::keep_system_metadata(new, old, |new, old| version.prepare_status_update(new, old));
            }
        }
    }

    /// Everything wrong with a changed object, and what its sender should know.
    pub fn check_update(&self, new: &Value, old: &Value) -> Checked {
        match &self.source {
            Source::Table(strategy) => {
                Self::checked(strategy.warnings_on_update, strategy.check_update(new, old), new, old)
            }
            Source::Definition(version) => {
                let mut own = version.check_update(new, old);
                if own.errors.is_empty() {
                    own.warnings.extend(version.warnings(new, Some(old)));
                }
                Self::with_common(own, new, old)
            }
        }
    }

    /// Everything wrong with a changed status, and what its sender should know.
    pub fn check_status_update(&self, new: &Value, old: &Value) -> Checked {
        match &self.source {
            Source::Table(strategy) => {
                let errors = strategy.check_status_update(new, old);
                Self::checked(strategy.warnings_on_status_update, errors, new, old)
            }
            Source::Definition(version) => Self::with_common(version.check_status_update(new, old), new, old),
        }
    }

    fn checked(
        warnings: fn(&Value, &Value) -> Vec<String>,
        errors: ErrorList,
        new: &Value,
        old: &Value,
    ) -> Checked {
        let warnings = if errors.is_empty() { warnings(new, old) } else { Vec::new() };
        Checked { errors, warnings }
    }

    fn with_common(own: Checked, new: &Value, old: &Value) -> Checked {
        let mut errors = strategy::common_update_errors(new, old);
        errors.extend(own.errors);
        Checked { errors, warnings: own.warnings }
    }

    /// 422 about an object: custom ones are called what they say they are.
    pub fn invalid(&self, object: &Value, name: &str, errors: &ErrorList) -> ApiError {
        let (group, kind) = match &self.source {
            // Upstream's rules for Events call them by the group of the older ones.
            Source::Table(_) if self.kind.group == "events.k8s.io" => ("", &*self.kind.kind),
            Source::Table(_) => (&*self.kind.group, &*self.kind.kind),
            Source::Definition(_) => {
                let text = |field: &str| object[field].as_str().unwrap_or_default();
                (text("apiVersion").split_once('/').map_or("", |(group, _)| group), text("kind"))
            }
        };
        invalid(group, kind, name, errors)
    }
}
