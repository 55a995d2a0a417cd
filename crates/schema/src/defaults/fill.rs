//! Small edits of JSON trees in the words of defaulting.

use serde_json::{Value, json};

/// Filling in what is missing. Anything applied to a value that is no object does nothing: type
/// checks came before.
pub trait Fill {
    /// The field if it is there.
    fn field(&mut self, name: &str) -> Option<&mut Value>;
    /// The struct in the field, made empty if it is not there.
    fn filled(&mut self, name: &str) -> &mut Value;
    /// The items of the list in the field.
    fn items(&mut self, name: &str) -> std::slice::IterMut<'_, Value>;
    /// Sets the field if it is absent, or holds Go's zero of a string or number.
    fn fill(&mut self, name: &str, value: impl Into<Value>);
    /// Sets the field only if it is absent: for pointers, which may point at zero.
    fn fill_nil(&mut self, name: &str, value: impl Into<Value>);
    /// Whether the field is absent.
    fn lacks(&self, name: &str) -> bool;
    /// The string in the field, or `""`.
    fn text(&self, name: &str) -> &str;
}

impl Fill for Value {
    fn field(&mut self, name: &str) -> Option<&mut Value> {
        self.get_mut(name)
    }

    fn filled(&mut self, name: &str) -> &mut Value {
        if !self.is_object() {
            *self = json!({});
        }
        let field = &mut self[name];
        if field.is_null() {
            *field = json!({});
        }
        field
    }

    fn items(&mut self, name: &str) -> std::slice::IterMut<'_, Value> {
        self.get_mut(name).and_then(Value::as_array_mut).map(|a| a.iter_mut()).unwrap_or_default()
    }

    fn fill(&mut self, name: &str, value: impl Into<Value>) {
        let Some(object) = self.as_object_mut() else { return };
        let zero = match object.get(name) {
            None | Some(Value::Null) => true,
            Some(Value::String(text)) => text.is_empty(),
            Some(Value::Number(n)) => n.as_i64() == Some(0),
            Some(_) => false,
        };
        if zero {
            object.insert(name.to_owned(), value.into());
        }
    }

    fn fill_nil(&mut self, name: &str, value: impl Into<Value>) {
        let Some(object) = self.as_object_mut() else { return };
        if object.get(name).is_none_or(Value::is_null) {
            object.insert(name.to_owned(), value.into());
        }
    }

    fn lacks(&self, name: &str) -> bool {
        self.get(name).is_none_or(Value::is_null)
    }

    fn text(&self, name: &str) -> &str {
        self.get(name).and_then(Value::as_str).unwrap_or_default()
    }
}
