//! A value tree as an input.

use std::borrow::Cow;

use serde_json::Value;

use super::MAX_KEPT_DEPTH;
use super::typed::{Event, Input, Stop};

pub(super) struct Reader {
    /// The value that `next` begins.
    pending: Option<Value>,
    open: Vec<Open>,
}

enum Open {
    Array(std::vec::IntoIter<Value>),
    Object(serde_json::map::IntoIter),
}

impl Reader {
    pub(super) fn new(value: Value) -> Self {
        Self { pending: Some(value), open: Vec::with_capacity(8) }
    }

    fn open(&mut self, open: Open) -> Result<(), Stop> {
        self.open.push(open);
        if self.open.len() > MAX_KEPT_DEPTH { Err(Stop::Syntax) } else { Ok(()) }
    }
}

impl Input<'static> for Reader {
    fn next(&mut self) -> Result<Event<'static>, Stop> {
        Ok(match self.pending.take().ok_or(Stop::Syntax)? {
            Value::Null => Event::Null,
            Value::Bool(b) => Event::Bool(b),
            Value::Number(n) => Event::Number(Cow::Owned(n.to_string())),
            Value::String(s) => Event::String(Cow::Owned(s)),
            Value::Array(items) => {
                self.open(Open::Array(items.into_iter()))?;
                Event::Array
            }
            Value::Object(entries) => {
                self.open(Open::Object(entries.into_iter()))?;
                Event::Object
            }
        })
    }

    fn key(&mut self, _first: bool) -> Result<Option<Cow<'static, str>>, Stop> {
        let Some(Open::Object(entries)) = self.open.last_mut() else { return Err(Stop::Syntax) };
        match entries.next() {
            Some((key, value)) => {
                self.pending = Some(value);
                Ok(Some(Cow::Owned(key)))
            }
            None => {
                self.open.pop();
                Ok(None)
            }
        }
    }

    fn element(&mut self, _first: bool) -> Result<bool, Stop> {
        let Some(Open::Array(items)) = self.open.last_mut() else { return Err(Stop::Syntax) };
        self.pending = items.next();
        if self.pending.is_none() {
            self.open.pop();
        }
        Ok(self.pending.is_some())
    }

    fn skip(&mut self, event: Event<'static>) -> Result<(), Stop> {
        if matches!(event, Event::Array | Event::Object) {
            self.open.pop();
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Stop> {
        Ok(())
    }
}
