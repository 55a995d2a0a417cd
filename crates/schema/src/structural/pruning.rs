//! Removes what a schema does not specify.

use serde_json::{Map, Value};

use super::{Additional, META_FIELDS, Structural};

/// Removes the fields of an object that its schema does not specify; without a schema, all but
/// metadata and type. With `track`, answers the paths of what was removed, sorted.
///
/// At the root (`is_root`) and in embedded resources metadata and type stay as they are.
pub fn prune(object: &mut Value, schema: Option<&Structural>, is_root: bool, track: bool) -> Vec<String> {
    let mut pruner = Pruner { track, path: String::new(), unknown: Vec::new() };
    match (schema, is_root) {
        (None, true) => pruner.prune(object, Some(&Structural::default()), true),
        (schema, is_root) => pruner.prune(object, schema, is_root),
    }
    pruner.unknown.sort();
    pruner.unknown
}

struct Pruner {
    track: bool,
    /// Where the walk is; kept only if removed fields are to be reported.
    path: String,
    unknown: Vec<String>,
}

impl Pruner {
    fn prune(&mut self, value: &mut Value, schema: Option<&Structural>, is_root: bool) {
        match (value, schema) {
            (value, Some(s)) if s.extensions.preserve_unknown => self.keep_unknown(value, s, is_root),
            (Value::Object(entries), None) => {
                for key in entries.keys() {
                    self.report(key);
                }
                entries.clear();
            }
            (Value::Object(entries), Some(s)) => self.prune_object(entries, s, is_root),
            (Value::Array(items), s) => {
                for (i, item) in items.iter_mut().enumerate() {
                    self.at_index(i, |this| this.prune(item, s.and_then(|s| s.items.as_deref()), false));
                }
            }
            _ => {}
        }
    }

    fn prune_object(&mut self, entries: &mut Map<String, Value>, schema: &Structural, is_root: bool) {
        let is_resource = schema.extensions.embedded_resource || is_root;
        entries.retain(|key, value| {
            if is_resource && META_FIELDS.contains(&key.as_str()) {
                return true;
            }
            if let Some(property) = schema.properties.get(key) {
                self.at_key(key, |this| this.prune(value, Some(property), false));
                return true;
            }
            if schema.additional.is_some() {
                self.at_key(key, |this| this.prune(value, schema.additional_schema(), false));
                return true;
            }
            if !META_FIELDS.contains(&key.as_str()) || !self.path.is_empty() {
                self.report(key);
            }
            false
        });
    }

    /// Prunes only what is specified below a value that keeps unknown fields.
    fn keep_unknown(&mut self, value: &mut Value, schema: &Structural, is_root: bool) {
        match value {
            Value::Object(entries) => {
                let is_resource = schema.extensions.embedded_resource || is_root;
                for (key, value) in entries {
                    if is_resource && META_FIELDS.contains(&key.as_str()) {
                        continue;
                    }
                    let below = match (schema.properties.get(key), &schema.additional) {
                        (Some(property), _) => Some(property),
                        (None, Some(Additional::Schema(schema))) => Some(&**schema),
                        (None, Some(Additional::Any(_))) => None,
                        (None, None) => continue,
                    };
                    self.at_key(key, |this| this.prune(value, below, false));
                }
            }
            Value::Array(items) => {
                let Some(schema) = &schema.items else { return };
                for (i, item) in items.iter_mut().enumerate() {
                    self.at_index(i, |this| this.keep_unknown(item, schema, false));
                }
            }
            _ => {}
        }
    }

    fn at_key(&mut self, key: &str, below: impl FnOnce(&mut Self)) {
        if !self.track {
            return below(self);
        }
        let length = self.path.len();
        self.push(key);
        below(self);
        self.path.truncate(length);
    }

    fn at_index(&mut self, index: usize, below: impl FnOnce(&mut Self)) {
        if !self.track {
            return below(self);
        }
        let length = self.path.len();
        self.path.push_str(&format!("[{index}]"));
        below(self);
        self.path.truncate(length);
    }

    fn push(&mut self, key: &str) {
        if !self.path.is_empty() {
            self.path.push('.');
        }
        self.path.push_str(key);
    }

    fn report(&mut self, key: &str) {
        if self.track {
            let length = self.path.len();
            self.push(key);
            self.unknown.push(self.path.clone());
            self.path.truncate(length);
        }
    }
}
