//! What a write changes, in the terms of every version in which somebody owns fields.

use serde_json::Value;

use super::ConvertTo;
use super::managers::{Managers, without_stripped};
use super::set::Set;
use super::typed::{self, Comparison, Slot};
use crate::types::Type;

/// An object in another version, and its type there.
type Converted = Option<(Value, &'static Type)>;

/// The changes of one write.
pub(super) struct Changes {
    /// In the version of the request.
    pub own: Comparison,
    /// In other versions that owners wrote in.
    others: Vec<(String, Comparison)>,
}

impl Changes {
    /// Those of a kind with one version.
    pub fn of_one(own: Comparison) -> Self {
        Self { own, others: Vec::new() }
    }

    /// Compares in the versions of all managers; `both` converts the object before and after.
    pub fn new(
        own: Comparison,
        version: &str,
        managers: &Managers,
        convert: Option<ConvertTo<'_>>,
        both: impl Fn(&dyn Fn(&Value) -> Converted) -> (Converted, Converted),
    ) -> Self {
        let mut changes = Self::of_one(own);
        let Some(convert) = convert else { return changes };
        for entry in managers.0.iter().filter(|entry| entry.api_version != version) {
            if changes.others.iter().any(|(known, _)| *known == entry.api_version) {
                continue;
            }
            let to_version = |object: &Value| convert(object, &entry.api_version);
            if let (Some((old, ty)), Some((new, _))) = both(&to_version) {
                let comparison = without_stripped(typed::compare(&old, &new, Slot::of(ty)));
                changes.others.push((entry.api_version.clone(), comparison));
            }
        }
        changes
    }

    /// Leaves out what the endpoint resets.
    pub fn without(mut self, ignored: &Set) -> Self {
        self.own = self.own.without(ignored);
        self.others = self.others.into_iter().map(|(version, c)| (version, c.without(ignored))).collect();
        self
    }

    /// The changes as somebody sees them who wrote in that version.
    pub fn in_version(&self, version: &str) -> &Comparison {
        self.others.iter().find(|(known, _)| known == version).map_or(&self.own, |(_, changes)| changes)
    }
}
