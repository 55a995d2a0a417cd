//! Types as the checker knows them.

use std::fmt;
use std::sync::Arc;

/// A CEL type. `Display` is the form that cel-go's checker prints (`list(int)`, `map(string, dyn)`).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Type {
    /// Known only at run time.
    #[default]
    Dyn,
    /// `google.protobuf.Any`.
    Any,
    /// The type of an expression in which the checker has found an error.
    Error,
    /// The type of `null`.
    Null,
    /// Booleans.
    Bool,
    /// 64-bit signed integers.
    Int,
    /// 64-bit unsigned integers.
    Uint,
    /// IEEE 754 doubles.
    Double,
    /// Unicode strings.
    String,
    /// Byte strings.
    Bytes,
    /// Spans of time.
    Duration,
    /// Points in time.
    Timestamp,
    /// A list of one element type.
    List(Arc<Type>),
    /// A map: key and value type.
    Map(Arc<(Type, Type)>),
    /// An object with declared fields, or an extension type without fields, by name.
    Object(Arc<str>),
    /// A parameterised abstract type such as `optional_type(int)`.
    Opaque(Arc<str>, Arc<[Type]>),
    /// A type parameter of a function declaration, or a type variable of the checker.
    Param(Arc<str>),
    /// The type of a type.
    Type(Option<Arc<Type>>),
}

impl Type {
    /// `list(element)`.
    pub fn list(element: Type) -> Type {
        Type::List(Arc::new(element))
    }

    /// `map(key, value)`.
    pub fn map(key: Type, value: Type) -> Type {
        Type::Map(Arc::new((key, value)))
    }

    /// The object or extension type of this name.
    pub fn object(name: impl Into<Arc<str>>) -> Type {
        Type::Object(name.into())
    }

    /// `optional_type(value)`.
    pub fn optional(value: Type) -> Type {
        Type::Opaque(Arc::from(OPTIONAL), Arc::from([value]))
    }

    /// A type parameter.
    pub fn param(name: &str) -> Type {
        Type::Param(Arc::from(name))
    }

    /// The type of the type `of`.
    pub fn type_of(of: Type) -> Type {
        Type::Type(Some(Arc::new(of)))
    }

    /// The value type of an optional.
    pub fn optional_value(&self) -> Option<&Type> {
        match self {
            Type::Opaque(name, params) if &**name == OPTIONAL => params.first(),
            _ => None,
        }
    }

    /// Whether values of any type may stand here (`dyn` or `any`).
    pub fn is_dyn(&self) -> bool {
        matches!(self, Type::Dyn | Type::Any)
    }

    /// The name that `string(type(x))` answers: without parameters.
    pub fn runtime_name(&self) -> &str {
        match self {
            Type::Dyn => "dyn",
            Type::Any => "google.protobuf.Any",
            Type::Error => "error",
            Type::Null => "null_type",
            Type::Bool => "bool",
            Type::Int => "int",
            Type::Uint => "uint",
            Type::Double => "double",
            Type::String => "string",
            Type::Bytes => "bytes",
            Type::Duration => "google.protobuf.Duration",
            Type::Timestamp => "google.protobuf.Timestamp",
            Type::List(_) => "list",
            Type::Map(_) => "map",
            Type::Object(name) | Type::Opaque(name, _) | Type::Param(name) => name,
            Type::Type(_) => "type",
        }
    }
}

const OPTIONAL: &str = "optional_type";

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Any => f.write_str("any"),
            Type::Error => f.write_str("!error!"),
            Type::Null => f.write_str("null"),
            Type::Duration => f.write_str("duration"),
            Type::Timestamp => f.write_str("timestamp"),
            Type::List(element) => write!(f, "list({element})"),
            Type::Map(types) => write!(f, "map({}, {})", types.0, types.1),
            Type::Type(Some(of)) => write!(f, "type({of})"),
            Type::Opaque(name, params) if !params.is_empty() => {
                write!(f, "{name}(")?;
                for (i, param) in params.iter().enumerate() {
                    let separator = if i == 0 { "" } else { ", " };
                    write!(f, "{separator}{param}")?;
                }
                f.write_str(")")
            }
            other => f.write_str(other.runtime_name()),
        }
    }
}

/// A field of an object type.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldType {
    /// The type of the field's values.
    pub ty: Type,
}

/// The object types of an environment.
pub trait TypeProvider: Send + Sync {
    /// The type of this name (usually [`Type::object`] of it), if it is declared.
    fn find_type(&self, name: &str) -> Option<Type>;

    /// The field of an object type.
    fn field(&self, type_name: &str, field: &str) -> Option<FieldType>;

    /// Whether a field that was not set reads as absent and not as an error, as with protobuf messages.
    /// Objects from JSON answer `false`.
    fn has_defaults(&self, _type_name: &str) -> bool {
        false
    }
}

/// No object types.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTypes;

impl TypeProvider for NoTypes {
    fn find_type(&self, _name: &str) -> Option<Type> {
        None
    }

    fn field(&self, _type_name: &str, _field: &str) -> Option<FieldType> {
        None
    }
}
