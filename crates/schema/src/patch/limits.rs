//! What a JSON patch may make of an object: a few `copy` operations could otherwise make it as large, and a
//! few `move` operations as deep, as one likes.

use serde_json::Value;

use super::PatchError;

/// Upstream's limit of the operations.
const MAX_OPERATIONS: usize = 10_000;
/// Upstream's limit of what all `copy` operations together may add, in bytes of JSON.
const MAX_COPIED: usize = 3 << 20;
/// How deep values may be put while a patch goes on; what is left at the end is held to less.
const MAX_DEPTH: usize = 500;
/// How many values may be looked at for that.
const MAX_VISITS: usize = 10_000_000;
/// How many items of lists may be moved to make room for others or to close up, all in all.
const MAX_SHIFTED: usize = 20_000_000;

/// What the operations of one patch have used.
pub(super) struct Limits {
    copied: usize,
    visits: usize,
    shifted: usize,
}

impl Limits {
    /// The limits of a patch that is about to begin.
    pub fn of(operations: &[Value]) -> Result<Self, PatchError> {
        let many = operations.len();
        if many > MAX_OPERATIONS {
            return Err(PatchError::TooLarge(format!(
                "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {many}"
            )));
        }
        Ok(Self { copied: 0, visits: 0, shifted: 0 })
    }

    /// Accounts for a copy before it is made.
    pub fn copied(&mut self, value: &Value) -> Result<(), PatchError> {
        self.copied += value.to_string().len();
        if self.copied > MAX_COPIED {
            return Err(PatchError::Unprocessable(format!(
                "Unable to complete the copy, the accumulated size increase of copy is {}, exceeding the limit {MAX_COPIED}",
                self.copied
            )));
        }
        Ok(())
    }

    /// Accounts for the items of a list that may have to move when one is added or removed.
    pub fn shift(&mut self, container: &Value, key: &str) -> Result<(), PatchError> {
        let many = container.as_array().filter(|_| key != "-").map_or(0, Vec::len);
        self.shifted = self.shifted.saturating_add(many);
        if self.shifted > MAX_SHIFTED {
            return Err(PatchError::Unprocessable("too many changes of long lists".into()));
        }
        Ok(())
    }

    /// Accounts for a value before it is put somewhere.
    pub fn place(&mut self, path: &str, value: &Value) -> Result<(), PatchError> {
        let depth = path.matches('/').count().saturating_add(self.depth(value));
        if depth > MAX_DEPTH || self.visits > MAX_VISITS {
            return Err(PatchError::Unprocessable("exceeded max depth".into()));
        }
        Ok(())
    }

    fn depth(&mut self, value: &Value) -> usize {
        self.visits += 1;
        if self.visits > MAX_VISITS {
            return 0;
        }
        match value {
            Value::Array(items) => 1 + items.iter().map(|item| self.depth(item)).max().unwrap_or(0),
            Value::Object(entries) => 1 + entries.values().map(|entry| self.depth(entry)).max().unwrap_or(0),
            _ => 0,
        }
    }
}
