//! Who owns the replicas of an object, seen through its Scale.
//!
//! Source: `ScaleHandler` of `util/managedfields` in apimachinery. Of the entries of the object, its
//! Scale has those that own replicas; what a write of the Scale makes of them goes back into the
//! object's.

use serde_json::{Value, json};

use super::managers::{Entry, Managers, Operation};
use super::set::Set;

/// The version of every Scale.
const SCALE_VERSION: &str = "autoscaling/v1";
/// Where a Scale has its replicas.
const REPLICAS: &[&str] = &["spec", "replicas"];

/// Where an object has its replicas.
pub struct Replicas<'a> {
    /// Version of the object in the request, with its group.
    pub api_version: &'a str,
    /// Names of the fields down to the replicas.
    pub path: &'a [&'a str],
}

impl Replicas<'_> {
    fn set(&self) -> Set {
        Set::of_fields(&[self.path])
    }

    /// Entries of other groups than the object's are nobody's.
    fn knows(&self, entry: &Entry) -> bool {
        let group = |version: &str| version.rsplit_once('/').map(|(group, _)| group.to_owned());
        group(&entry.api_version) == group(self.api_version)
    }

    /// The entries of the Scale of an object with these `managedFields`.
    pub fn to_scale(&self, object: &Value) -> Value {
        let replicas = self.set();
        let mut managers = Managers::parse(object).unwrap_or_default();
        managers.0.retain(|entry| self.knows(entry) && has(entry, &replicas));
        for entry in &mut managers.0 {
            entry.set = Set::of_fields(&[REPLICAS]);
            entry.api_version = SCALE_VERSION.to_owned();
        }
        written(managers)
    }

    /// The `managedFields` of an object, given those that it had and those of its changed Scale.
    pub fn to_object(&self, object: &Value, scale: &Value) -> Value {
        let replicas = self.set();
        let mut managers = Managers::parse(object).unwrap_or_default();
        let mut owners = Managers::parse(scale).unwrap_or_default();
        // As upstream, whoever owns anything of the Scale owns the replicas.
        owners.0.retain(|entry| !entry.set.is_empty());
        managers.0.retain(|entry| self.knows(entry));
        for entry in managers.0.iter_mut().filter(|entry| has(entry, &replicas)) {
            match owners.0.iter().position(|owner| is_same(owner, entry)) {
                Some(unchanged) => drop(owners.0.remove(unchanged)),
                None => entry.set = entry.set.difference(&replicas),
            }
        }
        managers.0.retain(|entry| !entry.set.is_empty());
        for owner in owners.0 {
            // As upstream, whoever owns replicas through a Scale does so without a time.
            let mut entry = Entry::new(&owner.manager, owner.operation, self.api_version, &owner.subresource);
            entry.set = self.set();
            managers.0.push(entry);
        }
        written(managers)
    }
}

fn has(entry: &Entry, fields: &Set) -> bool {
    !entry.set.intersection(fields).is_empty()
}

/// Only appliers keep their entry: those of updates name their version, which differs.
fn is_same(owner: &Entry, entry: &Entry) -> bool {
    owner.operation == Operation::Apply
        && entry.operation == Operation::Apply
        && owner.manager == entry.manager
        && owner.subresource == entry.subresource
}

fn written(managers: Managers) -> Value {
    let mut object = json!({});
    managers.write(&mut object);
    object["metadata"]["managedFields"].take()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(manager: &str, subresource: &str, version: &str, fields: Value) -> Value {
        let mut entry = json!({"manager": manager, "operation": "Update", "apiVersion": version,
            "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": fields}});
        if !subresource.is_empty() {
            entry["subresource"] = subresource.into();
        }
        entry
    }

    #[test]
    fn replicas_change_hands() {
        let replicas = Replicas { api_version: "apps/v1", path: REPLICAS };
        let before = json!([entry("a", "", "apps/v1", json!({"f:replicas": {}, "f:paused": {}}))]);
        let scale = replicas.to_scale(&before);
        assert_eq!(scale, json!([entry("a", "", "autoscaling/v1", json!({"f:replicas": {}}))]));
        let taken = json!([entry("b", "scale", "autoscaling/v1", json!({"f:replicas": {}}))]);
        let expected = json!([
            entry("a", "", "apps/v1", json!({"f:paused": {}})),
            entry("b", "scale", "apps/v1", json!({"f:replicas": {}})),
        ]);
        assert_eq!(replicas.to_object(&before, &taken), expected);
    }
}
