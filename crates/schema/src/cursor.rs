//! A value together with its path, so that rules read as sentences and cannot name a wrong field.

use serde_json::{Map, Value};

use crate::field::{Error, Path};

/// A place in an object: its path, and its value if there is one.
///
/// Reading what is not there gives Go's zero value, because upstream's rules are written for Go
/// structs; [`Node::opt`] tells an absent pointer from a zero one.
#[derive(Clone, Debug)]
pub struct Node<'a> {
    value: Option<&'a Value>,
    path: Path<'a>,
}

impl<'a> Node<'a> {
    /// The root of an object.
    pub fn root(object: &'a Value) -> Self {
        Node { value: Some(object), path: Path::root() }
    }

    /// A value at a path of its own.
    pub fn new(value: Option<&'a Value>, path: Path<'a>) -> Self {
        match value {
            None | Some(Value::Null) => Node { value: None, path },
            // What has fields or items will be asked for them.
            Some(Value::Object(_) | Value::Array(_)) => Node { value, path: path.shared() },
            Some(_) => Node { value, path },
        }
    }

    /// The field `name`, whether it is there or not.
    pub fn at(&self, name: &'a str) -> Node<'a> {
        Node::new(self.value.and_then(|v| v.get(name)), self.path.child(name))
    }

    /// The map entry `key`, whether it is there or not.
    pub fn key(&self, key: &'a str) -> Node<'a> {
        Node::new(self.value.and_then(|v| v.get(key)), self.path.key(key))
    }

    /// The list item at `index`, whether it is there or not.
    pub fn index(&self, index: usize) -> Node<'a> {
        Node::new(self.value.and_then(|v| v.get(index)), self.path.index(index))
    }

    /// The items of a list; none if there is no list.
    pub fn items(&self) -> impl ExactSizeIterator<Item = Node<'a>> + use<'a> {
        let path = self.path.clone();
        let items = self.value.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        items.iter().enumerate().map(move |(i, item)| Node::new(Some(item), path.index(i)))
    }

    /// The entries of a map; none if there is no map.
    pub fn entries(&self) -> impl Iterator<Item = (&'a str, Node<'a>)> + use<'a> {
        let path = self.path.clone();
        let entries = self.value.and_then(Value::as_object).into_iter().flatten();
        entries.map(move |(key, value)| (key.as_str(), Node::new(Some(value), path.key(key))))
    }

    /// The fields of a struct as they are in JSON.
    pub fn object(&self) -> Option<&'a Map<String, Value>> {
        self.value.and_then(Value::as_object)
    }

    /// This node if there is a value: a pointer that is not nil.
    pub fn opt(&self) -> Option<Node<'a>> {
        self.value.map(|_| self.clone())
    }

    /// Whether there is a value (a pointer that is not nil).
    pub fn is_set(&self) -> bool {
        self.value.is_some()
    }

    /// The value, if any.
    pub fn value(&self) -> Option<&'a Value> {
        self.value
    }

    /// A copy of the value; null if there is none.
    pub fn to_value(&self) -> Value {
        self.value.cloned().unwrap_or_default()
    }

    /// The path.
    pub fn path(&self) -> &Path<'a> {
        &self.path
    }

    /// The same value, reported at another path: where upstream passes a parent's path down.
    pub fn reported_at(&self, path: &Path<'a>) -> Node<'a> {
        Node { value: self.value, path: path.clone() }
    }

    /// The string; `""` if there is none.
    pub fn str(&self) -> &'a str {
        self.opt_str().unwrap_or_default()
    }

    /// The string, if there is one.
    pub fn opt_str(&self) -> Option<&'a str> {
        self.value.and_then(Value::as_str)
    }

    /// The integer; 0 if there is none.
    pub fn i64(&self) -> i64 {
        self.opt_i64().unwrap_or_default()
    }

    /// The integer, if there is one.
    pub fn opt_i64(&self) -> Option<i64> {
        self.value.and_then(Value::as_i64)
    }

    /// The boolean; false if there is none.
    pub fn bool(&self) -> bool {
        self.opt_bool().unwrap_or_default()
    }

    /// The boolean, if there is one.
    pub fn opt_bool(&self) -> Option<bool> {
        self.value.and_then(Value::as_bool)
    }

    /// How many items or entries or bytes there are.
    pub fn len(&self) -> usize {
        match self.value {
            Some(Value::Array(items)) => items.len(),
            Some(Value::Object(entries)) => entries.len(),
            Some(Value::String(text)) => text.len(),
            _ => 0,
        }
    }

    /// Whether a list, map or string is absent or empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The strings of a list.
    pub fn strings(&self) -> Vec<&'a str> {
        self.items().map(|item| item.str()).collect()
    }

    /// "Required value" here.
    pub fn required(&self, detail: impl Into<String>) -> Error {
        Error::required(&self.path, detail)
    }

    /// "Invalid value" here, showing the value that is here (null if none).
    pub fn invalid(&self, detail: impl Into<String>) -> Error {
        Error::invalid(&self.path, self.to_value(), detail)
    }

    /// "Invalid value" here, showing the string that is here (`""` if none).
    pub fn invalid_str(&self, detail: impl Into<String>) -> Error {
        Error::invalid(&self.path, self.str(), detail)
    }

    /// "Invalid value" here, showing the integer that is here (0 if none).
    pub fn invalid_i64(&self, detail: impl Into<String>) -> Error {
        Error::invalid(&self.path, self.i64(), detail)
    }

    /// "Invalid value" here, showing something else.
    pub fn invalid_as(&self, shown: impl Into<Value>, detail: impl Into<String>) -> Error {
        Error::invalid(&self.path, shown, detail)
    }

    /// "Unsupported value" here, showing the string that is here.
    pub fn not_supported(&self, supported: &[&str]) -> Error {
        Error::not_supported(&self.path, self.str(), supported)
    }

    /// "Duplicate value" here.
    pub fn duplicate(&self) -> Error {
        Error::duplicate(&self.path, self.to_value())
    }

    /// "Forbidden" here.
    pub fn forbidden(&self, detail: impl Into<String>) -> Error {
        Error::forbidden(&self.path, detail)
    }

    /// "Not found" here.
    pub fn not_found(&self) -> Error {
        Error::not_found(&self.path, self.str())
    }

    /// "Too long" here, in bytes.
    pub fn too_long(&self, max_bytes: usize) -> Error {
        Error::too_long(&self.path, max_bytes)
    }

    /// "Too many" here: the list has more than `max` items.
    pub fn too_many(&self, max: usize) -> Error {
        Error::too_many(&self.path, self.len(), max)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn absent_fields_read_as_zero_and_keep_their_path() {
        let object = json!({"spec": {"ports": [{"port": 80}], "gone": null, "labels": {"a": "b"}}});
        let spec = Node::root(&object).at("spec");
        let port = spec.at("ports").items().next().unwrap();
        assert_eq!((port.at("port").i64(), port.at("name").str()), (80, ""));
        assert_eq!(port.at("name").path().to_string(), "spec.ports[0].name");
        assert!(spec.at("gone").opt().is_none());
        let deep = spec.at("a").at("b");
        assert_eq!(deep.required("").to_string(), "spec.a.b: Required value");
        let (key, value) = spec.at("labels").entries().next().unwrap();
        assert_eq!((key, value.path().to_string().as_str()), ("a", "spec.labels[a]"));
    }
}
