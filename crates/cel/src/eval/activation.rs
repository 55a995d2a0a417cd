//! Where variables come from.

use crate::{Error, Value};

/// Resolves variables when they are read. A variable that is read more than once may be asked for again.
pub trait Activation {
    /// The value of a variable; `None` if there is no such variable.
    fn resolve(&self, name: &str) -> Result<Option<Value<'_>>, Error>;
}

/// A few variables with their values.
#[derive(Clone, Debug, Default)]
pub struct Bindings<'a>(Vec<(&'a str, Value<'a>)>);

impl<'a> Bindings<'a> {
    /// No variables.
    pub fn new() -> Bindings<'a> {
        Bindings(Vec::new())
    }

    /// With one more variable.
    pub fn bind(mut self, name: &'a str, value: Value<'a>) -> Bindings<'a> {
        self.0.push((name, value));
        self
    }
}

impl Activation for Bindings<'_> {
    fn resolve(&self, name: &str) -> Result<Option<Value<'_>>, Error> {
        Ok(self.0.iter().rev().find(|(bound, _)| *bound == name).map(|(_, value)| value.clone()))
    }
}
