//! Values: cheap to clone, and borrowed from the input as long as possible.

mod duration;
mod equality;
mod json;
mod list;
mod map;
mod str;
pub(crate) mod timestamp;
mod weight;

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

pub use duration::Duration;
pub(crate) use equality::{compare_numbers, equal};
pub use list::List;
pub use map::{Key, Map};
pub use str::Str;
pub use timestamp::Timestamp;
pub use weight::Weighed;
pub(crate) use weight::{LARGEST_WEIGHT, Weights, of_value};

use crate::decl::Schema;
use crate::{Error, Type};

/// A value. What came as JSON is converted when it is looked at, and borrowed for `'a`.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// `null`.
    Null,
    /// A boolean.
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// An unsigned integer.
    Uint(u64),
    /// A double.
    Double(f64),
    /// A string.
    String(Str<'a>),
    /// A byte string.
    Bytes(Arc<[u8]>),
    /// A span of time.
    Duration(Duration),
    /// A point in time, in the years 1 to 9999.
    Timestamp(Timestamp),
    /// A list.
    List(List<'a>),
    /// A map, or an object that came as JSON.
    Map(Map<'a>),
    /// An object that the expression constructed.
    Struct(Struct<'a>),
    /// An optional.
    Optional(Option<Arc<Value<'a>>>),
    /// A type.
    Type(Type),
    /// A value of an extension type.
    Opaque(Arc<dyn Opaque>),
    /// An object whose fields the host computes.
    Fields(&'a dyn Fields),
    /// Input that does not fit its schema. Whoever reads it gets this error.
    Invalid(Arc<str>),
}

/// An object that the expression constructed: `Object.spec{replicas: 3}`.
#[derive(Clone, Debug)]
pub struct Struct<'a> {
    /// The name of its type.
    pub type_name: Arc<str>,
    /// The fields that were set.
    pub fields: Arc<Weighed<BTreeMap<Arc<str>, Value<'a>>>>,
}

/// An object whose fields are computed when they are first read, such as `variables` in policies. What has been
/// computed is best kept in a `OnceLock` or behind a `Mutex`.
pub trait Fields: Sync {
    /// The field's value; `None` if there is no such field.
    fn field(&self, name: &str) -> Option<Result<Value<'_>, Error>>;

    /// The name of the object type.
    fn type_name(&self) -> &str {
        "map"
    }
}

impl fmt::Debug for dyn Fields + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.type_name())
    }
}

/// A value of an extension type.
pub trait Opaque: Any + Send + Sync + fmt::Debug {
    /// The type; usually [`Type::object`] of a name.
    fn type_of(&self) -> Type;

    /// Whether two values, of whatever types, are equal; `None` if they cannot be compared, and `==` is an error.
    fn equals(&self, other: &dyn Opaque) -> Option<bool>;

    /// The JSON form, if there is one.
    fn to_json(&self) -> Option<serde_json::Value> {
        None
    }

    /// The size that costs are reckoned with, if the value has one.
    fn size(&self) -> Option<u64> {
        None
    }
}

impl dyn Opaque {
    /// The value as the Rust type `T`, if it is one.
    pub fn downcast_ref<T: 'static>(&self) -> Option<&T> {
        (self as &dyn Any).downcast_ref()
    }
}

impl<'a> Value<'a> {
    /// A JSON tree without a schema, as `dyn`.
    pub fn json(value: &'a serde_json::Value) -> Value<'a> {
        json::untyped(value)
    }

    /// A JSON tree whose types are those of the schema.
    pub fn typed(value: &'a serde_json::Value, schema: &'a Schema) -> Value<'a> {
        json::typed(value, schema)
    }

    /// The JSON form; an error for values that have none. Durations are `"3.5s"`, timestamps RFC 3339,
    /// bytes base64.
    pub fn to_json(&self) -> Result<serde_json::Value, Error> {
        json::to_json(self)
    }

    /// A value of an extension type.
    pub fn opaque(value: impl Opaque) -> Value<'a> {
        Value::Opaque(Arc::new(value))
    }

    /// A list.
    pub fn list(items: Vec<Value<'a>>) -> Value<'a> {
        Value::List(List::from(items))
    }

    /// An optional with a value.
    pub fn some(value: Value<'a>) -> Value<'a> {
        Value::Optional(Some(Arc::new(value)))
    }

    /// Bytes.
    pub fn bytes(bytes: impl Into<Arc<[u8]>>) -> Value<'a> {
        Value::Bytes(bytes.into())
    }

    /// The extension value as the Rust type `T`, if it is one.
    pub fn downcast<T: 'static>(&self) -> Option<&T> {
        match self {
            Value::Opaque(value) => value.downcast_ref(),
            _ => None,
        }
    }

    /// The characters of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(s) => Some(s),
            _ => None,
        }
    }

    /// What `type(x)` answers: without parameters.
    pub fn type_of(&self) -> Type {
        match self {
            Value::Null => Type::Null,
            Value::Bool(_) => Type::Bool,
            Value::Int(_) => Type::Int,
            Value::Uint(_) => Type::Uint,
            Value::Double(_) => Type::Double,
            Value::String(_) => Type::String,
            Value::Bytes(_) => Type::Bytes,
            Value::Duration(_) => Type::Duration,
            Value::Timestamp(_) => Type::Timestamp,
            Value::List(_) => Type::list(Type::Dyn),
            Value::Map(_) => Type::map(Type::Dyn, Type::Dyn),
            Value::Struct(object) => Type::Object(object.type_name.clone()),
            Value::Optional(_) => Type::optional(Type::Dyn),
            Value::Type(_) => Type::Type(None),
            Value::Opaque(value) => value.type_of(),
            Value::Fields(fields) => Type::object(fields.type_name()),
            Value::Invalid(_) => Type::Error,
        }
    }

    /// The length of a string (code points), byte string, list or map; what an extension type calls its size.
    pub fn size(&self) -> Option<u64> {
        let size = match self {
            Value::String(s) => s.chars().count(),
            Value::Bytes(bytes) => bytes.len(),
            Value::List(list) => list.len(),
            Value::Map(map) => map.len(),
            Value::Opaque(value) => return value.size(),
            _ => return None,
        };
        Some(size as u64)
    }
}

/// CEL's equality, in which numbers of different types may be equal and values of other different types are not.
impl PartialEq for Value<'_> {
    fn eq(&self, other: &Self) -> bool {
        equality::equal(self, other) == Some(true)
    }
}

impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Value::Bool(value)
    }
}

impl From<i64> for Value<'_> {
    fn from(value: i64) -> Self {
        Value::Int(value)
    }
}

impl From<u64> for Value<'_> {
    fn from(value: u64) -> Self {
        Value::Uint(value)
    }
}

impl From<f64> for Value<'_> {
    fn from(value: f64) -> Self {
        Value::Double(value)
    }
}

impl From<String> for Value<'_> {
    fn from(value: String) -> Self {
        Value::String(Str::from(value))
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(value: &'a str) -> Self {
        Value::String(Str::Borrowed(value))
    }
}

impl<'a> From<Vec<Value<'a>>> for Value<'a> {
    fn from(items: Vec<Value<'a>>) -> Self {
        Value::list(items)
    }
}
