//! What happens to an object of each kind between the wire and the store: defaults, preparation,
//! validation, warnings. One row per kind; kinds without rules of their own get the generic row,
//! which still validates metadata.

mod app_armor;
mod certificates;
mod core;
mod devices;
mod disabled;
mod pod;
pub(crate) mod prepare;
mod rows;
mod service;

pub use app_armor::deprecated_annotations as app_armor_warnings;
pub(crate) use app_armor::field as app_armor_field;
pub use pod::qos_class;
pub use prepare::keep_system_metadata;

use serde_json::Value;

use crate::cursor::Node;
use crate::field::ErrorList;
use crate::validation::{format, metadata};

/// One kind's rules. Objects are type-checked and normalised before any of them runs.
///
/// Callers normally use the methods, which add what is common to all kinds.
#[derive(Clone, Copy)]
pub struct Strategy {
    /// Fills in what the user left out; runs on every read from the wire.
    pub default: fn(&mut Value),
    /// Clears or sets what is not for a creating user to say: status, generation.
    pub prepare_create: fn(&mut Value),
    /// Keeps what an update of the main resource must not change; counts the generation.
    pub prepare_update: fn(new: &mut Value, old: &Value),
    /// Keeps what an update of the status must not change.
    pub prepare_status_update: fn(new: &mut Value, old: &Value),
    /// What is wrong with a new object.
    pub validate: fn(&Value) -> ErrorList,
    /// What is wrong with a changed object, including changes that are not allowed.
    pub validate_update: fn(new: &Value, old: &Value) -> ErrorList,
    /// What is wrong with a changed status.
    pub validate_status_update: fn(new: &Value, old: &Value) -> ErrorList,
    /// What the creating user should know although it is valid.
    pub warnings: fn(&Value) -> Vec<String>,
    /// What the updating user should know although it is valid.
    pub warnings_on_update: fn(new: &Value, old: &Value) -> Vec<String>,
    /// What the user who updates the status should know although it is valid.
    pub warnings_on_status_update: fn(new: &Value, old: &Value) -> Vec<String>,
}

/// The row of a kind without rules of its own.
pub const GENERIC: Strategy = Strategy {
    default: |_| {},
    prepare_create: |_| {},
    prepare_update: |_, _| {},
    prepare_status_update: prepare::keep_all_but_status,
    validate: |object| validate_named(object, format::name_is_subdomain),
    validate_update: validate_metadata_update,
    validate_status_update: validate_metadata_update,
    warnings: |_| Vec::new(),
    warnings_on_update: |_, _| Vec::new(),
    warnings_on_status_update: |_, _| Vec::new(),
};

static GENERIC_ROW: Strategy = GENERIC;

/// The row of a kind: the same for all its versions, since rules see the storage version's shape
/// (HorizontalPodAutoscaler: `autoscaling/v2`).
pub fn of(group: &str, kind: &str) -> &'static Strategy {
    rows::row(group, kind).unwrap_or(&GENERIC_ROW)
}

/// The row of a subresource that is updated with rules of its own (`ephemeralcontainers`,
/// `resize`, `finalize`, `approval`); statuses are part of the kind's row.
pub fn of_subresource(group: &str, kind: &str, subresource: &str) -> Option<&'static Strategy> {
    rows::subresource_row(group, kind, subresource)
}

impl Strategy {
    /// Everything wrong with a new object: the kind's own rules, then, only if they hold, the
    /// common ones.
    pub fn check_create(&self, object: &Value) -> ErrorList {
        let errs = (self.validate)(object);
        if errs.is_empty() { common_errors(object) } else { errs }
    }

    /// Prepares an update: what no update changes, then the kind's own preparation.
    pub fn before_update(&self, new: &mut Value, old: &Value) {
        prepare::keep_system_metadata(new, old, self.prepare_update);
    }

    /// Prepares an update of the status subresource.
    pub fn before_status_update(&self, new: &mut Value, old: &Value) {
        prepare::keep_system_metadata(new, old, self.prepare_status_update);
    }

    /// Everything wrong with a changed object: common rules, then the kind's own.
    pub fn check_update(&self, new: &Value, old: &Value) -> ErrorList {
        let mut errs = common_update_errors(new, old);
        errs.extend((self.validate_update)(new, old));
        errs
    }

    /// Everything wrong with a changed status: common rules, then the kind's own.
    pub fn check_status_update(&self, new: &Value, old: &Value) -> ErrorList {
        let mut errs = common_update_errors(new, old);
        errs.extend((self.validate_status_update)(new, old));
        errs
    }
}

/// What is wrong with any new object, whatever its kind.
pub fn common_errors(object: &Value) -> ErrorList {
    validate_named(object, format::name_is_path_segment)
}

/// What is wrong with any changed object, whatever its kind.
pub fn common_update_errors(new: &Value, old: &Value) -> ErrorList {
    let mut errs = validate_named(new, format::name_is_path_segment);
    errs.extend(validate_metadata_update(new, old));
    errs
}

/// Only metadata, under the kind's rule for names.
fn validate_named(object: &Value, name_rule: format::NameRule) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_common(&Node::root(object).at("metadata"), name_rule, &mut errs);
    errs
}

/// Only metadata, against what it was.
fn validate_metadata_update(new: &Value, old: &Value) -> ErrorList {
    let mut errs = ErrorList::new();
    metadata::validate_update_common(
        &Node::root(new).at("metadata"),
        &Node::root(old).at("metadata"),
        &mut errs,
    );
    errs
}
