//! Who owns what: the references between all objects of the cluster, and nothing else of them.
//!
//! A million pods must fit, so an object costs its uid in 16 bytes, its name and its owners.
//! Objects without owners cost their uid alone.

use std::collections::BTreeSet;
use std::sync::Arc;

use base::map::{HashMap, HashSet};
use serde::Deserialize;
use serde_json::{Value, json};

/// The finalizer of an object that is to be deleted after its dependents.
pub const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of an object whose dependents are to stay.
pub const ORPHAN: &str = "orphan";

/// A uid in 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid(u128);

impl Uid {
    /// The number of a UUID; of any other text, a hash.
    pub fn of(text: &str) -> Self {
        let hex = text.bytes().filter(|byte| *byte != b'-');
        let number = hex.clone().try_fold(0_u128, |number, byte| {
            Some((number << 4) | u128::from(char::from(byte).to_digit(16)?))
        });
        match number {
            Some(number) if hex.count() == 32 => Self(number),
            // FNV-1a; made-up uids only occur in tests and simulations.
            _ => Self(text.bytes().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, |hash, byte| {
                (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
            })),
        }
    }
}

/// The metadata that matters here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Meta {
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub namespace: String,
    #[serde(default)]
    pub uid: String,
    #[serde(default)]
    pub resource_version: String,
    #[serde(default)]
    pub deletion_timestamp: Option<String>,
    #[serde(default)]
    pub finalizers: Vec<String>,
    #[serde(default)]
    pub owner_references: Vec<Reference>,
}

/// A reference to an owner.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reference {
    pub api_version: String,
    pub kind: String,
    pub name: String,
    pub uid: String,
    #[serde(default)]
    pub block_owner_deletion: Option<bool>,
    #[serde(default)]
    pub controller: Option<bool>,
}

impl Reference {
    /// The reference as the API wants it, blocking or not.
    pub fn to_value(&self, blocking: Option<bool>) -> Value {
        let mut value = json!({
            "apiVersion": self.api_version,
            "kind": self.kind,
            "name": self.name,
            "uid": self.uid,
        });
        if let Some(blocking) = blocking {
            value["blockOwnerDeletion"] = blocking.into();
        }
        if let Some(controller) = self.controller {
            value["controller"] = controller.into();
        }
        value
    }
}

/// Where an object is found: the number of its resource, namespace (may be empty) and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub resource: u16,
    pub namespace: Arc<str>,
    pub name: Box<str>,
}

/// Work that an observation calls for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// Delete the object if no owner of it is left.
    Collect(Uid),
    /// The same, but some owner may simply not have been seen yet.
    CollectLater(Uid),
    /// Go on with the foreground deletion of an owner.
    Foreground(Uid),
    /// Free the dependents of an owner.
    Orphan(Uid),
}

struct Node {
    place: Place,
    owners: Box<[Edge]>,
}

#[derive(Clone, Copy, PartialEq)]
struct Edge {
    owner: Uid,
    blocking: bool,
}

/// The graph. Objects are nodes if they have owners.
#[derive(Default)]
pub struct Graph {
    /// All objects, with the number of their resource.
    present: HashMap<Uid, u16>,
    nodes: HashMap<Uid, Node>,
    dependents: HashMap<Uid, BTreeSet<Uid>>,
    /// Owners that are being deleted with a finalizer of ours.
    ending: HashMap<Uid, (Place, bool)>,
    namespaces: HashSet<Arc<str>>,
}

impl Graph {
    fn intern(&mut self, namespace: &str) -> Arc<str> {
        if let Some(known) = self.namespaces.get(namespace) {
            return known.clone();
        }
        let namespace: Arc<str> = namespace.into();
        self.namespaces.insert(namespace.clone());
        namespace
    }

    /// Takes in an object as it is now.
    pub fn applied(&mut self, resource: u16, meta: &Meta) -> Vec<Work> {
        let uid = Uid::of(&meta.uid);
        let mut work = Vec::new();
        self.present.insert(uid, resource);
        let owners: Box<[Edge]> = meta
            .owner_references
            .iter()
            .map(|reference| Edge {
                owner: Uid::of(&reference.uid),
                blocking: reference.block_owner_deletion == Some(true),
            })
            .collect();
        let before: Box<[Edge]> = self.nodes.get(&uid).map(|node| node.owners.clone()).unwrap_or_default();
        if before != owners {
            self.unlink(uid, &before);
            for edge in &owners {
                self.dependents.entry(edge.owner).or_default().insert(uid);
            }
            // An owner in foreground deletion may have waited for this object alone.
            work.extend(self.waiting(&before).map(Work::Foreground));
            if owners.is_empty() {
                self.nodes.remove(&uid);
            } else {
                let place = self.place(resource, meta);
                self.nodes.insert(uid, Node { place, owners: owners.clone() });
            }
            if owners
                .iter()
                .any(|edge| self.ending.get(&edge.owner).is_some_and(|(_, foreground)| *foreground))
            {
                work.push(Work::Collect(uid));
            } else if owners.iter().any(|edge| !self.present.contains_key(&edge.owner)) {
                work.push(Work::CollectLater(uid));
            }
        }
        if meta.deletion_timestamp.is_some() {
            let has = |wanted: &str| meta.finalizers.iter().any(|finalizer| finalizer == wanted);
            let (foreground, orphan) = (has(FOREGROUND), has(ORPHAN));
            if foreground || orphan {
                let place = self.place(resource, meta);
                let is_new = self.ending.insert(uid, (place, foreground)).is_none();
                if orphan {
                    work.push(Work::Orphan(uid));
                } else {
                    work.push(Work::Foreground(uid));
                    if is_new {
                        work.extend(self.dependents(uid).into_iter().map(Work::Collect));
                    }
                }
            } else {
                self.ending.remove(&uid);
            }
        }
        work
    }

    fn place(&mut self, resource: u16, meta: &Meta) -> Place {
        Place { resource, namespace: self.intern(&meta.namespace), name: meta.name.as_str().into() }
    }

    fn waiting(&self, owners: &[Edge]) -> impl Iterator<Item = Uid> {
        owners.iter().map(|edge| edge.owner).filter(|owner| self.ending.contains_key(owner))
    }

    fn unlink(&mut self, uid: Uid, owners: &[Edge]) {
        for edge in owners {
            if let Some(dependents) = self.dependents.get_mut(&edge.owner) {
                dependents.remove(&uid);
                if dependents.is_empty() {
                    self.dependents.remove(&edge.owner);
                }
            }
        }
    }

    /// Takes in that an object is gone.
    pub fn deleted(&mut self, uid: Uid) -> Vec<Work> {
        self.present.remove(&uid);
        self.ending.remove(&uid);
        let mut work: Vec<Work> = self.dependents(uid).into_iter().map(Work::Collect).collect();
        if let Some(node) = self.nodes.remove(&uid) {
            self.unlink(uid, &node.owners);
            work.extend(self.waiting(&node.owners).map(Work::Foreground));
        }
        work
    }

    /// Forgets all objects of a resource but these: what a new list does not show is gone.
    pub fn retain(&mut self, resource: u16, listed: &HashSet<Uid>) -> Vec<Work> {
        let of_resource = self.present.iter().filter(|(_, known)| **known == resource);
        let mut gone: Vec<Uid> =
            of_resource.map(|(uid, _)| *uid).filter(|uid| !listed.contains(uid)).collect();
        gone.sort_unstable();
        gone.into_iter().flat_map(|uid| self.deleted(uid)).collect()
    }

    /// The objects that refer to an owner.
    pub fn dependents(&self, owner: Uid) -> Vec<Uid> {
        self.dependents.get(&owner).map(|uids| uids.iter().copied().collect()).unwrap_or_default()
    }

    /// The dependents that an owner in foreground deletion waits for.
    pub fn blocking(&self, owner: Uid) -> Vec<Uid> {
        let blocks = |uid: &Uid| {
            let owners = self.nodes.get(uid).map(|node| &node.owners);
            owners.is_some_and(|owners| owners.iter().any(|edge| edge.owner == owner && edge.blocking))
        };
        self.dependents(owner).into_iter().filter(blocks).collect()
    }

    /// Where an object with owners is found.
    pub fn place_of(&self, uid: Uid) -> Option<Place> {
        self.nodes.get(&uid).map(|node| node.place.clone())
    }

    /// Where an owner that is being deleted with a finalizer of ours is found.
    pub fn ending(&self, uid: Uid) -> Option<Place> {
        self.ending.get(&uid).map(|(place, _)| place.clone())
    }

    /// Whether an object was seen and not yet seen to be gone.
    pub fn is_present(&self, uid: Uid) -> bool {
        self.present.contains_key(&uid)
    }

    /// Whether an owner is being deleted in the foreground.
    pub fn is_foreground(&self, uid: Uid) -> bool {
        self.ending.get(&uid).is_some_and(|(_, foreground)| *foreground)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, owner: Option<(&str, bool)>) -> Meta {
        Meta {
            name: name.into(),
            uid: name.into(),
            owner_references: owner
                .map(|(owner, blocking)| Reference {
                    name: owner.into(),
                    uid: owner.into(),
                    block_owner_deletion: Some(blocking),
                    ..Reference::default()
                })
                .into_iter()
                .collect(),
            ..Meta::default()
        }
    }

    #[test]
    fn uuids_keep_their_number_and_other_texts_differ() {
        assert_eq!(Uid::of("00000000-0000-0000-0000-0000000000ff"), Uid(255));
        assert_ne!(Uid::of("a"), Uid::of("b"));
    }

    #[test]
    fn dependents_are_collected_when_their_owner_goes() {
        let mut graph = Graph::default();
        assert_eq!(graph.applied(0, &object("rs", None)), []);
        assert_eq!(graph.applied(1, &object("pod", Some(("rs", true)))), []);
        assert_eq!(graph.deleted(Uid::of("rs")), [Work::Collect(Uid::of("pod"))]);
        assert_eq!(graph.deleted(Uid::of("pod")), []);
        assert!(graph.nodes.is_empty() && graph.dependents.is_empty() && graph.present.is_empty());
    }

    #[test]
    fn an_unseen_owner_is_looked_for_later() {
        let mut graph = Graph::default();
        let later = [Work::CollectLater(Uid::of("pod"))];
        assert_eq!(graph.applied(1, &object("pod", Some(("rs", true)))), later);
    }

    #[test]
    fn foreground_deletion_waits_for_blocking_dependents() {
        let mut graph = Graph::default();
        let mut owner = object("rs", None);
        graph.applied(0, &owner);
        graph.applied(1, &object("blocking", Some(("rs", true))));
        graph.applied(1, &object("loose", Some(("rs", false))));
        owner.deletion_timestamp = Some("now".into());
        owner.finalizers = vec![FOREGROUND.into()];
        let work = graph.applied(0, &owner);
        assert!(work.contains(&Work::Foreground(Uid::of("rs"))));
        assert!(work.contains(&Work::Collect(Uid::of("loose"))));
        assert_eq!(graph.blocking(Uid::of("rs")), [Uid::of("blocking")]);
        assert_eq!(graph.deleted(Uid::of("blocking")), [Work::Foreground(Uid::of("rs"))]);
        assert_eq!(graph.blocking(Uid::of("rs")), []);
    }

    #[test]
    fn a_new_list_shows_what_is_gone() {
        let mut graph = Graph::default();
        graph.applied(0, &object("rs", None));
        graph.applied(1, &object("pod", Some(("rs", true))));
        let work = graph.retain(0, &HashSet::default());
        assert_eq!(work, [Work::Collect(Uid::of("pod"))]);
        assert!(graph.is_present(Uid::of("pod")));
    }
}
