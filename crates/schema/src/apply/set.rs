//! Sets of field paths, and their form in `managedFields` (`FieldsV1`).
//!
//! Follows `fieldpath.Set` of kubernetes-sigs/structured-merge-diff.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Map, Value};

/// A scalar inside of a path: a key's value or a set's item.
#[derive(Clone, Debug)]
pub enum Scalar {
    /// A number.
    Number(serde_json::Number),
    /// A string.
    String(String),
    /// A truth value.
    Bool(bool),
    /// Null.
    Null,
}

impl Scalar {
    /// `None` for lists and objects.
    pub fn of(value: &Value) -> Option<Self> {
        Some(match value {
            Value::Number(n) => Self::Number(n.clone()),
            Value::String(s) => Self::String(s.clone()),
            Value::Bool(b) => Self::Bool(*b),
            Value::Null => Self::Null,
            Value::Array(_) | Value::Object(_) => return None,
        })
    }

    fn to_value(&self) -> Value {
        match self {
            Self::Number(n) => Value::Number(n.clone()),
            Self::String(s) => Value::String(s.clone()),
            Self::Bool(b) => Value::Bool(*b),
            Self::Null => Value::Null,
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Number(_) => 0,
            Self::String(_) => 1,
            Self::Bool(_) => 2,
            Self::Null => 3,
        }
    }
}

impl Ord for Scalar {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => match (a.as_i64(), b.as_i64()) {
                (Some(a), Some(b)) => a.cmp(&b),
                _ => a.as_f64().unwrap_or(0.0).total_cmp(&b.as_f64().unwrap_or(0.0)),
            },
            (Self::String(a), Self::String(b)) => a.cmp(b),
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Scalar {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scalar {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scalar {}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Element {
    /// A field of a struct or a key of a map.
    Field(String),
    /// An item of a list map, by its keys in the order of their names.
    Key(Vec<(String, Scalar)>),
    /// An item of a set.
    Value(Scalar),
    /// An item by position.
    Index(i64),
}

impl Element {
    /// The key in `FieldsV1` (`f:spec`, `k:{"name":"a"}`).
    pub fn encode(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Key(keys) => {
                let keys: Map<String, Value> = keys.iter().map(|(k, v)| (k.clone(), v.to_value())).collect();
                format!("k:{}", Value::Object(keys))
            }
            Self::Value(value) => format!("v:{}", value.to_value()),
            Self::Index(i) => format!("i:{i}"),
        }
    }

    fn decode(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_at_checked(2)?;
        Some(match kind {
            "f:" => Self::Field(rest.into()),
            "v:" => Self::Value(Scalar::of(&serde_json::from_str(rest).ok()?)?),
            "i:" => Self::Index(rest.parse().ok()?),
            "k:" => {
                let keys: Map<String, Value> = serde_json::from_str(rest).ok()?;
                let keys: Option<Vec<_>> =
                    keys.iter().map(|(k, v)| Some((k.clone(), Scalar::of(v)?))).collect();
                Self::Key(keys?)
            }
            _ => return None,
        })
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(keys) => {
                let keys: Vec<String> = keys.iter().map(|(k, v)| format!("{k}={}", v.to_value())).collect();
                write!(f, "[{}]", keys.join(","))
            }
            Self::Value(value) => write!(f, "[={}]", value.to_value()),
            Self::Index(i) => write!(f, "[{i}]"),
        }
    }
}

/// A path through an object.
pub type Path = Vec<Element>;

/// The text of a path (`.spec.containers[name="a"].image`).
pub fn path_text(path: &[Element]) -> String {
    path.iter().map(ToString::to_string).collect()
}

/// A set of paths, as a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    members: BTreeSet<Element>,
    children: BTreeMap<Element, Set>,
}

impl Set {
    /// A set of paths made of field names.
    pub fn of_fields(paths: &[&[&str]]) -> Self {
        let mut set = Self::default();
        for path in paths {
            let path: Path = path.iter().map(|name| Element::Field((*name).to_string())).collect();
            set.insert(&path);
        }
        set
    }

    /// Whether it holds no path.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.values().all(Set::is_empty)
    }

    /// Adds a path; the empty path means the whole object, which nobody owns.
    pub fn insert(&mut self, path: &[Element]) {
        match path {
            [] => {}
            [last] => {
                self.members.insert(last.clone());
            }
            [first, rest @ ..] => self.children.entry(first.clone()).or_default().insert(rest),
        }
    }

    /// Whether the path itself is in the set.
    pub fn has(&self, path: &[Element]) -> bool {
        match path {
            [] => false,
            [last] => self.members.contains(last),
            [first, rest @ ..] => self.children.get(first).is_some_and(|child| child.has(rest)),
        }
    }

    /// Whether a path of one element is in the set.
    pub(super) fn has_member(&self, element: &Element) -> bool {
        self.members.contains(element)
    }

    /// The paths below an element.
    pub(super) fn below(&self, element: &Element) -> Option<&Set> {
        self.children.get(element).filter(|child| !child.is_empty())
    }

    /// Elements with paths below them.
    pub(super) fn children(&self) -> impl Iterator<Item = (&Element, &Set)> {
        self.children.iter()
    }

    pub(super) fn add_member(&mut self, element: Element) {
        self.members.insert(element);
    }

    /// Replaces what is below an element.
    pub(super) fn set_child(&mut self, element: Element, child: Set) {
        if !child.is_empty() {
            self.children.insert(element, child);
        }
    }

    /// Adds an element: itself if `own`, and what is below it.
    pub(super) fn attach(&mut self, element: Element, own: bool, below: Set) {
        match (own, below.is_empty()) {
            (true, true) => self.add_member(element),
            (true, false) => {
                self.members.insert(element.clone());
                self.children.insert(element, below);
            }
            (false, _) => self.set_child(element, below),
        }
    }

    pub(super) fn members_only(&self) -> Set {
        Set { members: self.members.clone(), children: BTreeMap::new() }
    }

    /// Paths in either.
    pub fn union(&self, other: &Self) -> Self {
        let mut union = self.clone();
        union.absorb(other);
        union
    }

    /// Adds the paths of another set.
    pub(super) fn absorb(&mut self, other: &Self) {
        self.members.extend(other.members.iter().cloned());
        for (element, child) in &other.children {
            self.children.entry(element.clone()).or_default().absorb(child);
        }
    }

    /// Paths in both.
    pub fn intersection(&self, other: &Self) -> Self {
        let mut both = Set {
            members: self.members.intersection(&other.members).cloned().collect(),
            children: BTreeMap::new(),
        };
        for (element, child) in &self.children {
            if let Some(theirs) = other.children.get(element) {
                both.set_child(element.clone(), child.intersection(theirs));
            }
        }
        both
    }

    /// Paths of this set that the other does not hold.
    pub fn difference(&self, other: &Self) -> Self {
        let mut rest = Set {
            members: self.members.difference(&other.members).cloned().collect(),
            children: BTreeMap::new(),
        };
        for (element, child) in &self.children {
            let left = match other.children.get(element) {
                Some(theirs) => child.difference(theirs),
                None => child.clone(),
            };
            rest.set_child(element.clone(), left);
        }
        rest
    }

    /// Paths that neither are in the other set nor lie below one of its paths.
    pub fn recursive_difference(&self, other: &Self) -> Self {
        let mut rest = Set {
            members: self.members.difference(&other.members).cloned().collect(),
            children: BTreeMap::new(),
        };
        for (element, child) in &self.children {
            if other.members.contains(element) {
                continue;
            }
            let left = match other.children.get(element) {
                Some(theirs) => child.recursive_difference(theirs),
                None => child.clone(),
            };
            rest.set_child(element.clone(), left);
        }
        rest
    }

    /// All paths, those of one level before those below.
    pub fn paths(&self) -> Vec<Path> {
        let mut paths = Vec::new();
        self.collect(&mut Vec::new(), &mut paths);
        paths
    }

    fn collect(&self, prefix: &mut Path, paths: &mut Vec<Path>) {
        for member in &self.members {
            let mut path = prefix.clone();
            path.push(member.clone());
            paths.push(path);
        }
        for (element, child) in &self.children {
            prefix.push(element.clone());
            child.collect(prefix, paths);
            prefix.pop();
        }
    }

    /// The `FieldsV1` form.
    pub fn to_fields(&self) -> Value {
        let mut fields = Map::new();
        for (element, child) in &self.children {
            let mut below = match child.to_fields() {
                Value::Object(below) => below,
                _ => Map::new(),
            };
            if self.members.contains(element) {
                below.insert(".".into(), Value::Object(Map::new()));
            }
            fields.insert(element.encode(), Value::Object(below));
        }
        for member in self.members.iter().filter(|m| !self.children.contains_key(*m)) {
            fields.insert(member.encode(), Value::Object(Map::new()));
        }
        Value::Object(fields)
    }

    /// Reads the `FieldsV1` form; `None` if it is not one.
    pub fn from_fields(fields: &Value) -> Option<Self> {
        let mut set = Self::default();
        for (key, below) in fields.as_object()? {
            if key == "." {
                continue;
            }
            let element = Element::decode(key)?;
            let entries = below.as_object()?;
            if entries.is_empty() || entries.contains_key(".") {
                set.members.insert(element.clone());
            }
            set.set_child(element, Self::from_fields(below)?);
        }
        Some(set)
    }
}

/// Whether a `FieldsV1` value holds a path, without reading all of it.
pub(super) fn fields_hold(fields: &Value, path: &[Element]) -> bool {
    let mut at = fields;
    for element in path {
        match at.get(element.encode()) {
            Some(below) => at = below,
            None => return false,
        }
    }
    at.as_object().is_some_and(|below| below.is_empty() || below.contains_key("."))
}
