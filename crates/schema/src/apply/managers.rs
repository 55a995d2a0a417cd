//! The entries of `metadata.managedFields`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::changes::Changes;
use super::set::{Element, Set, fields_hold, path_text};
use super::typed::Comparison;
use super::{Conflict, set_managed_fields};
use crate::gotext;

/// Upstream keeps this many entries of updates; older ones become one.
const MAX_UPDATE_ENTRIES: usize = 10;
const ANCIENT_CHANGES: &str = "ancient-changes";

/// How a manager wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Apply,
    Update,
}

/// Manager, operation, subresource and, of updates, version.
type Identity = (String, Operation, String, Option<String>);

/// One manager's fields.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) manager: String,
    pub(super) operation: Operation,
    pub(super) api_version: String,
    pub(super) subresource: String,
    pub(super) time: Option<String>,
    pub(super) set: Set,
}

impl Entry {
    pub(super) fn new(manager: &str, operation: Operation, api_version: &str, subresource: &str) -> Self {
        Self {
            manager: if manager.is_empty() { "unknown".into() } else { manager.into() },
            operation,
            api_version: api_version.into(),
            subresource: subresource.into(),
            time: None,
            set: Set::default(),
        }
    }

    /// What is the same of all entries of one manager.
    fn identity(&self) -> Identity {
        let version = (self.operation == Operation::Update).then(|| self.api_version.clone());
        (self.manager.clone(), self.operation, self.subresource.clone(), version)
    }

    /// Whether both stand for one manager: appliers keep their entry across versions.
    fn is_same(&self, other: &Self) -> bool {
        self.manager == other.manager
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }

    /// The name in messages.
    fn describe(&self) -> String {
        let mut text = gotext::quote(&self.manager);
        if !self.subresource.is_empty() {
            text = format!("{text} with subresource {}", gotext::quote(&self.subresource));
        }
        if self.operation == Operation::Update {
            text = format!("{text} using {}", self.api_version);
        }
        text
    }

    fn parse(entry: &Value) -> Option<Self> {
        let text = |name: &str| entry[name].as_str().unwrap_or_default().to_string();
        let operation = match entry["operation"].as_str() {
            Some("Apply") => Operation::Apply,
            Some("Update") => Operation::Update,
            _ => return None,
        };
        if text("apiVersion").is_empty() || entry["fieldsType"] != "FieldsV1" {
            return None;
        }
        let fields = &entry["fieldsV1"];
        Some(Self {
            manager: text("manager"),
            operation,
            api_version: text("apiVersion"),
            subresource: text("subresource"),
            time: entry["time"].as_str().map(str::to_string),
            set: if fields.is_null() { Set::default() } else { Set::from_fields(fields)? },
        })
    }

    /// The entry's form in `managedFields`.
    fn to_value(&self) -> Value {
        self.with_fields(self.set.to_fields())
    }

    /// The same with other fields than its own.
    pub(super) fn with_fields(&self, fields: Value) -> Value {
        let mut entry = Map::new();
        let mut text = |name: &str, value: &str| {
            if !value.is_empty() {
                entry.insert(name.into(), value.into());
            }
        };
        text("manager", &self.manager);
        text("operation", if self.operation == Operation::Apply { "Apply" } else { "Update" });
        text("apiVersion", &self.api_version);
        text("time", self.time.as_deref().unwrap_or_default());
        text("fieldsType", "FieldsV1");
        text("subresource", &self.subresource);
        entry.insert("fieldsV1".into(), fields);
        Value::Object(entry)
    }
}

/// All entries of an object.
#[derive(Clone, Debug, Default)]
pub(super) struct Managers(pub(super) Vec<Entry>);

impl Managers {
    /// The entries of a stored object; none if they cannot be read.
    pub(super) fn read(object: &Value) -> Self {
        Self::parse(&object["metadata"]["managedFields"]).unwrap_or_default()
    }

    /// `None` if an entry cannot be read.
    pub(super) fn parse(entries: &Value) -> Option<Self> {
        let entries = entries.as_array().map_or(&[][..], Vec::as_slice);
        entries.iter().map(Entry::parse).collect::<Option<Vec<_>>>().map(Self)
    }

    /// Without the entries of versions that the object cannot be converted to, those of which another takes
    /// the place and those that own nothing. What is left of entries that a client brought.
    pub(super) fn tidied(self, own_version: &str, kind: &str) -> Self {
        let mut kept: Vec<Entry> = Vec::new();
        // There may be as many as a client likes, too many to compare each with every other.
        let mut places: BTreeMap<Identity, usize> = BTreeMap::new();
        for entry in self.0.into_iter().filter(|entry| is_known(&entry.api_version, own_version, kind)) {
            let place = *places.entry(entry.identity()).or_insert(kept.len());
            match kept.get_mut(place) {
                Some(former) => *former = entry,
                None => kept.push(entry),
            }
        }
        kept.retain(|entry| !entry.set.is_empty());
        Self(kept)
    }

    /// Drops the entries of other groups: an object cannot be converted to those.
    pub(super) fn retain_group(&mut self, own_version: &str) {
        self.0.retain(|entry| group_of(&entry.api_version) == group_of(own_version));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts an entry in place of the same manager's; returns the former.
    pub(super) fn replace(&mut self, entry: Entry) -> Option<Entry> {
        match self.0.iter_mut().find(|e| e.is_same(&entry)) {
            Some(own) => Some(std::mem::replace(own, entry)),
            None => {
                self.0.push(entry);
                None
            }
        }
    }

    /// Adds an entry's fields to the same manager's.
    pub(super) fn join(&mut self, mut entry: Entry) {
        if let Some(own) = self.0.iter_mut().find(|e| e.is_same(&entry)) {
            entry.set = entry.set.union(&own.set);
            *own = entry;
        } else {
            self.0.push(entry);
        }
    }

    pub(super) fn all_fields(&self) -> Set {
        let mut all = Set::default();
        self.0.iter().for_each(|entry| all.absorb(&entry.set));
        all
    }

    /// Takes from all but one manager what changed. Without `force`, nothing is taken and the
    /// conflicts are returned if others own changed fields.
    pub(super) fn yield_to(&mut self, own: &Entry, changes: &Changes, force: bool) -> Vec<Conflict> {
        if !force {
            let conflicts = self.conflicts(own, changes);
            if !conflicts.is_empty() {
                return conflicts;
            }
        }
        for entry in self.0.iter_mut().filter(|e| !e.is_same(own)) {
            let seen = changes.in_version(&entry.api_version);
            let changed = seen.modified.union(&seen.added);
            entry.set = entry.set.difference(&changed).difference(&seen.removed);
        }
        self.0.retain(|e| !e.set.is_empty());
        Vec::new()
    }

    fn conflicts(&self, own: &Entry, changes: &Changes) -> Vec<Conflict> {
        let mut others: Vec<&Entry> = self.0.iter().filter(|e| !e.is_same(own)).collect();
        others.sort_by_key(|e| e.describe());
        let mut conflicts = Vec::new();
        for entry in others {
            let seen = changes.in_version(&entry.api_version);
            for path in entry.set.intersection(&seen.modified.union(&seen.added)).paths() {
                conflicts.push(Conflict { manager: entry.describe(), field: path_text(&path) });
            }
        }
        conflicts
    }

    /// Removes from a manager's fields those that nobody owns.
    pub(super) fn strip(&mut self, own: &Entry) {
        if let Some(entry) = self.0.iter_mut().find(|e| e.is_same(own)) {
            entry.set = entry.set.difference(&STRIPPED_FIELDS);
        }
        self.0.retain(|e| !e.set.is_empty());
    }

    pub(super) fn set_time(&mut self, own: &Entry, time: Option<String>) {
        if let Some(entry) = self.0.iter_mut().find(|e| e.is_same(own)) {
            entry.time = time;
        }
    }

    /// Merges the oldest update entries until there are no more than upstream allows.
    pub(super) fn cap(&mut self) {
        let updates = self.0.iter().filter(|e| e.operation == Operation::Update).count();
        let mut excess = updates.saturating_sub(MAX_UPDATE_ENTRIES);
        if excess == 0 {
            return;
        }
        let (mut kept, mut rest): (Vec<Entry>, Vec<Entry>) =
            std::mem::take(&mut self.0).into_iter().partition(|e| e.operation == Operation::Apply);
        rest.sort_by(|a, b| (&a.time, &a.manager).cmp(&(&b.time, &b.manager)));
        // Two entries of one version become one, which frees one place.
        let mut buckets: Vec<Entry> = Vec::new();
        for entry in rest {
            let bucket = buckets.iter_mut().find(|b| b.api_version == entry.api_version);
            match bucket {
                Some(bucket) if excess > 0 => {
                    bucket.set.absorb(&entry.set);
                    bucket.manager = ANCIENT_CHANGES.into();
                    bucket.subresource = String::new();
                    bucket.time = entry.time;
                    excess -= 1;
                }
                None if excess > 0 => buckets.push(entry),
                _ => kept.push(entry),
            }
        }
        kept.extend(buckets);
        self.0 = kept;
    }

    /// Writes the entries into an object.
    pub(super) fn write(self, object: &mut Value) {
        set_managed_fields(object, self.into_value());
    }

    /// The entries in upstream's order.
    pub(super) fn into_value(mut self) -> Value {
        self.0.sort_by(|a, b| {
            let key = |e: &Entry| {
                (e.operation, e.time.clone(), e.manager.clone(), e.api_version.clone(), e.subresource.clone())
            };
            key(a).cmp(&key(b))
        });
        Value::Array(self.0.iter().map(Entry::to_value).collect())
    }
}

/// Whether some encoded entry is of another group.
pub(super) fn has_other_group(entries: &Value, own_version: &str) -> bool {
    let mut entries = entries.as_array().into_iter().flatten();
    entries.any(|entry| group_of(entry["apiVersion"].as_str().unwrap_or_default()) != group_of(own_version))
}

fn group_of(version: &str) -> &str {
    version.rsplit_once('/').map_or("", |(group, _)| group)
}

/// Whether an object can be converted to a version: upstream knows more than are served.
fn is_known(version: &str, own_version: &str, kind: &str) -> bool {
    let (group, name) = version.rsplit_once('/').unwrap_or(("", version));
    let is_built_in = crate::types::of_kind(group, own_version.rsplit('/').next().unwrap_or_default(), kind);
    group == group_of(own_version)
        && (version == own_version
            || is_built_in.is_none()
            || name.contains("alpha")
            || name.contains("beta")
            || crate::types::of_kind(group, name, kind).is_some())
}

/// An empty list and one empty entry are requests to forget all owners.
pub(super) fn is_reset(entries: &[Value]) -> bool {
    entries.is_empty() || matches!(entries, [only] if *only == json!({}))
}

pub(super) const STRIPPED: [&str; 9] = [
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "clusterName",
    "generation",
    "managedFields",
    "resourceVersion",
];

/// Fields that are nobody's.
static STRIPPED_FIELDS: LazyLock<Set> = LazyLock::new(|| {
    let mut set = Set::of_fields(&[&["apiVersion"], &["kind"], &["metadata"]]);
    for name in STRIPPED {
        set.insert(&[Element::Field("metadata".into()), Element::Field(name.into())]);
    }
    set
});

/// A comparison without the fields that are nobody's.
pub(super) fn without_stripped(comparison: Comparison) -> Comparison {
    Comparison {
        added: comparison.added.difference(&STRIPPED_FIELDS),
        modified: comparison.modified.difference(&STRIPPED_FIELDS),
        removed: comparison.removed.difference(&STRIPPED_FIELDS),
    }
}

/// Gives the writer's entry a new time, if the write changes nothing else about the entries;
/// `false` and nothing done otherwise.
pub(super) fn only_time_changes(entries: &mut Value, own: &Entry, changes: &Comparison, now: &str) -> bool {
    if !changes.removed.is_empty() || !changes.added.is_empty() {
        return false;
    }
    let Some(list) = entries.as_array_mut() else { return false };
    let paths = changes.modified.paths();
    let mut found = None;
    for (i, entry) in list.iter().enumerate() {
        let text = |name: &str| entry[name].as_str().unwrap_or_default();
        // In another version, the fields may have other names.
        if text("apiVersion") != own.api_version {
            return false;
        }
        let is_own = text("manager") == own.manager
            && text("operation") == "Update"
            && text("apiVersion") == own.api_version
            && text("subresource") == own.subresource;
        let held = paths.iter().filter(|path| fields_hold(&entry["fieldsV1"], path)).count();
        match (is_own, held) {
            (true, held) if held == paths.len() => found = Some(i),
            (false, 0) => {}
            _ => return false,
        }
    }
    let Some(i) = found else { return false };
    let mut entry = list.remove(i);
    entry["time"] = now.into();
    let place = list.iter().position(|other| sort_key(other) > sort_key(&entry));
    list.insert(place.unwrap_or(list.len()), entry);
    true
}

/// The order of encoded entries.
fn sort_key(entry: &Value) -> [&str; 5] {
    ["operation", "time", "manager", "apiVersion", "subresource"]
        .map(|name| entry[name].as_str().unwrap_or_default())
}
