//! The type table: for every built-in type its fields, how Go decodes and writes them, how lists
//! merge, and the protobuf numbers.
//!
//! The table is data: text files written by `cargo xtask types` from upstream's Go declarations
//! (`crates/schema/types`), parsed package by package when first asked for. Types of custom
//! resources are built at run time in the same terms.
//!
//! ```
//! let pod = schema::types::of_kind("", "v1", "Pod").unwrap();
//! assert_eq!(pod.name(), "io.k8s.api.core.v1.Pod");
//! assert!(pod.field("spec").is_some());
//! ```

mod docs;
mod parse;
mod table;

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use base::map::HashMap;
use serde_json::{Map as JsonMap, Value};

pub use docs::Docs;
pub use table::{PackageInfo, get, kinds, of_kind, packages, structs_of};

/// One type.
pub struct Type {
    name: String,
    go: String,
    shape: Shape,
}

impl Type {
    /// A type of a custom resource or another type that is made at run time. `go` is the name that
    /// error texts show.
    pub fn new(name: impl Into<String>, go: impl Into<String>, shape: Shape) -> Self {
        Self { name: name.into(), go: go.into(), shape }
    }

    /// The name in OpenAPI documents (`io.k8s.api.core.v1.Pod`); empty for types without a name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name that Go's error texts show (`v1.Pod`, `[]string`).
    pub fn go(&self) -> &str {
        &self.go
    }

    /// What values look like.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The struct behind this type, if it is one.
    pub fn as_struct(&self) -> Option<&Struct> {
        match &self.shape {
            Shape::Struct(s) => Some(s),
            _ => None,
        }
    }

    /// A field of a struct type.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.as_struct()?.field(name)
    }

    /// Go's name without the package, as it stands in front of a field (`PodSpec`).
    pub fn go_short(&self) -> &str {
        self.go.rsplit('.').next().unwrap_or(&self.go)
    }

    /// What Go writes for the zero value of this type.
    pub fn zero(&self) -> Value {
        match &self.shape {
            Shape::Bool => Value::Bool(false),
            Shape::Int32 | Shape::Int64 | Shape::IntOrString => Value::from(0),
            Shape::Float => Value::from(0),
            Shape::String(_) => Value::String(String::new()),
            Shape::Duration => Value::from("0s"),
            Shape::Quantity => Value::from("0"),
            Shape::Struct(s) => Value::Object(s.zero().clone()),
            Shape::Bytes
            | Shape::Time
            | Shape::MicroTime
            | Shape::Raw
            | Shape::Any
            | Shape::SchemaOr(_)
            | Shape::List(_)
            | Shape::Map(_) => Value::Null,
        }
    }

    /// Whether Go's `omitempty` leaves the value out.
    pub fn is_empty(&self, value: &Value) -> bool {
        match (&self.shape, value) {
            (_, Value::Null) => true,
            (Shape::List(_) | Shape::Any, Value::Array(items)) => items.is_empty(),
            (Shape::Map(_) | Shape::Any, Value::Object(entries)) => entries.is_empty(),
            (Shape::String(_) | Shape::Bytes | Shape::Any, Value::String(s)) => s.is_empty(),
            (Shape::Bool | Shape::Any, Value::Bool(b)) => !b,
            (Shape::Int32 | Shape::Int64 | Shape::Float | Shape::Any, Value::Number(n)) => {
                n.as_f64() == Some(0.0)
            }
            _ => false,
        }
    }
}

impl fmt::Debug for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.name.is_empty() { &self.go } else { &self.name })
    }
}

/// What the values of a type look like in JSON.
pub enum Shape {
    /// `true` or `false`.
    Bool,
    /// A whole number of 32 bits.
    Int32,
    /// A whole number of 64 bits.
    Int64,
    /// Any number.
    Float,
    /// A string; the values are those that OpenAPI names, and bind nobody.
    String(Vec<String>),
    /// Base64 of bytes.
    Bytes,
    /// RFC 3339 with whole seconds.
    Time,
    /// RFC 3339 with microseconds.
    MicroTime,
    /// A duration in Go's notation (`1h0m0s`).
    Duration,
    /// A quantity, in canonical form.
    Quantity,
    /// A 32-bit number or a string.
    IntOrString,
    /// An object of any kind, kept as it is (`runtime.RawExtension`, `FieldsV1`).
    Raw,
    /// Any JSON, kept as it is.
    Any,
    /// A JSON schema or something shorter.
    SchemaOr(SchemaOr),
    /// A list.
    List(List),
    /// A map from strings.
    Map(Map),
    /// A struct.
    Struct(Struct),
}

/// What may stand in place of a `JSONSchemaProps`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaOr {
    /// A list of schemas.
    Array,
    /// `true` or `false`.
    Bool,
    /// A list of strings.
    StringArray,
}

/// A list and how two writers' versions of it merge.
pub struct List {
    /// The type of the items.
    pub items: TypeRef,
    /// How it merges.
    pub merge: ListMerge,
    /// Whether upstream says so; lists about which it says nothing are atomic.
    pub declared: bool,
}

/// How lists merge in server-side apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListMerge {
    /// As one value.
    Atomic,
    /// As a set of scalars.
    Set,
    /// As a map, by the values of these fields of the items.
    Map(Vec<String>),
}

/// A map from strings.
pub struct Map {
    /// The type of the values.
    pub values: TypeRef,
    /// Whether it merges as one value.
    pub atomic: bool,
}

/// A struct type.
pub struct Struct {
    /// Fields and embedded structs in the order of declaration, each of the latter with its
    /// protobuf number.
    members: Vec<Member>,
    /// Whether it merges as one value.
    pub atomic: bool,
    /// Whether it is the type of a kind (has kind, apiVersion).
    pub is_kind: bool,
    /// Whether fields that are not declared are kept (custom resources).
    pub preserve_unknown: bool,
    flat: OnceLock<Flat>,
    zero: OnceLock<JsonMap<String, Value>>,
}

/// What stands on one line of a struct.
pub enum Member {
    /// A field.
    Field(Box<Field>),
    /// An embedded struct: its fields belong to this one in JSON, not in protobuf.
    Inline(u32, TypeRef),
}

/// The fields of a struct with those of the embedded ones.
struct Flat {
    fields: Vec<Field>,
    /// Positions of the fields by name. Clients choose what is looked up, not what is stored.
    by_name: HashMap<String, u16>,
    /// Positions of the fields that Go writes when they are absent, with what it writes.
    always: Vec<(u16, Value)>,
}

impl Struct {
    /// A struct of these members.
    pub fn new(members: Vec<Member>) -> Self {
        Self {
            members,
            atomic: false,
            is_kind: false,
            preserve_unknown: false,
            flat: OnceLock::new(),
            zero: OnceLock::new(),
        }
    }

    /// Fields and embedded structs as declared.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// All fields, those of embedded structs included.
    pub fn fields(&self) -> &[Field] {
        &self.flat().fields
    }

    /// A field by its JSON name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.position(name).map(|i| &self.flat().fields[i])
    }

    /// The place of a field among `fields()`.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.flat().by_name.get(name).map(|found| usize::from(*found))
    }

    /// The fields that Go writes even when they were not given, and what it writes for them.
    pub fn always(&self) -> impl Iterator<Item = (usize, &Field, &Value)> {
        let flat = self.flat();
        flat.always.iter().map(|(i, zero)| (usize::from(*i), &flat.fields[usize::from(*i)], zero))
    }

    /// What Go writes for the zero value.
    pub fn zero(&self) -> &JsonMap<String, Value> {
        self.zero.get_or_init(|| self.always().map(|(_, f, zero)| (f.name.clone(), zero.clone())).collect())
    }

    fn flat(&self) -> &Flat {
        self.flat.get_or_init(|| {
            let mut fields = Vec::new();
            for member in &self.members {
                match member {
                    Member::Field(field) => fields.push(Field::clone(field)),
                    Member::Inline(_, ty) => {
                        let own = ty.as_struct().into_iter().flat_map(|s| s.fields().iter().cloned());
                        fields.extend(own.map(|field| field.embedded_in(ty.go_short())));
                    }
                }
            }
            let by_name = (0u16..).zip(&fields).map(|(i, field)| (field.name.clone(), i)).collect();
            let always = fields
                .iter()
                .enumerate()
                .filter_map(|(i, field)| Some((i as u16, field.absent()?)))
                .collect();
            Flat { fields, by_name, always }
        })
    }
}

/// When Go leaves a field out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Omit {
    /// Never.
    Never,
    /// `omitempty`: nil, empty, zero; never for structs.
    Empty,
    /// `omitzero`: also the zero value of a struct.
    Zero,
}

/// A field of a struct.
#[derive(Clone)]
pub struct Field {
    /// The JSON name.
    pub name: String,
    /// The protobuf number; 0 where there is none.
    pub tag: u32,
    /// The type of its values.
    pub ty: TypeRef,
    /// Whether it is a pointer in Go, so that absent and zero differ.
    pub pointer: bool,
    /// When Go leaves it out.
    pub omit: Omit,
    /// Whether OpenAPI calls it required.
    pub required: bool,
    /// Whether its map or struct merges as one value.
    pub atomic: bool,
    /// The default that OpenAPI declares.
    pub default: Option<Value>,
    /// How strategic merge treats it.
    pub patch: Option<PatchStrategy>,
    /// The embedded structs in which Go has the field, outermost first, with a dot after each.
    pub embedded: String,
}

impl Field {
    /// A field without special rules, left out when empty.
    pub fn new(name: impl Into<String>, ty: TypeRef) -> Self {
        Self {
            name: name.into(),
            tag: 0,
            ty,
            pointer: true,
            omit: Omit::Empty,
            required: false,
            atomic: false,
            default: None,
            patch: None,
            embedded: String::new(),
        }
    }

    fn embedded_in(mut self, name: &str) -> Self {
        self.embedded.insert_str(0, &format!("{name}."));
        self
    }

    /// What Go writes when the field was not given; `None` if nothing.
    fn absent(&self) -> Option<Value> {
        match self.omit {
            Omit::Zero => None,
            Omit::Empty if self.pointer || !self.is_go_struct() => None,
            Omit::Empty => Some(self.ty.zero()),
            Omit::Never if self.pointer => Some(Value::Null),
            Omit::Never => Some(self.ty.zero()),
        }
    }

    /// The value that an absent field has where it is the key of a list: the declared default, else
    /// Go's zero value if Go always writes the field.
    pub fn key_default(&self) -> Option<Value> {
        let always = self.omit == Omit::Never && !self.pointer;
        self.default.clone().or_else(|| always.then(|| self.ty.zero()))
    }

    /// Whether Go holds the value in a struct, which `omitempty` never leaves out.
    fn is_go_struct(&self) -> bool {
        matches!(
            self.ty.shape(),
            Shape::Struct(_)
                | Shape::Time
                | Shape::MicroTime
                | Shape::Duration
                | Shape::Quantity
                | Shape::IntOrString
                | Shape::Raw
        )
    }

    /// Whether Go leaves this value of the field out.
    pub fn omits(&self, value: &Value) -> bool {
        match self.omit {
            Omit::Never => false,
            _ if self.pointer => value.is_null(),
            Omit::Empty => !self.is_go_struct() && self.ty.is_empty(value),
            Omit::Zero => value.is_null() || *value == self.ty.zero(),
        }
    }
}

/// How strategic merge treats a list or map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PatchStrategy {
    /// Items merge instead of the whole being replaced.
    pub merge: bool,
    /// The whole map is replaced, where others would merge.
    pub replace: bool,
    /// Only the keys that the patch names stay.
    pub retain_keys: bool,
    /// The field of the items by which they are matched; none for lists of scalars.
    pub merge_key: Option<String>,
}

/// A reference to a type: owned, or by name into the built-in table.
#[derive(Clone)]
pub struct TypeRef(Target);

#[derive(Clone)]
enum Target {
    Owned(Arc<Type>),
    Static(&'static Type),
    Named(Arc<Named>),
}

/// A name that is looked up when first followed, because packages refer to each other.
struct Named {
    package: String,
    name: String,
    found: OnceLock<&'static Type>,
}

impl TypeRef {
    fn named(package: &str, name: &str) -> Self {
        Self(Target::Named(Arc::new(Named {
            package: package.into(),
            name: name.into(),
            found: OnceLock::new(),
        })))
    }
}

impl From<Type> for TypeRef {
    fn from(ty: Type) -> Self {
        Self(Target::Owned(Arc::new(ty)))
    }
}

impl From<&'static Type> for TypeRef {
    fn from(ty: &'static Type) -> Self {
        Self(Target::Static(ty))
    }
}

impl From<Arc<Type>> for TypeRef {
    fn from(ty: Arc<Type>) -> Self {
        Self(Target::Owned(ty))
    }
}

impl Deref for TypeRef {
    type Target = Type;

    fn deref(&self) -> &Type {
        match &self.0 {
            Target::Owned(ty) => ty,
            Target::Static(ty) => ty,
            Target::Named(named) => named.found.get_or_init(|| table::resolve(&named.package, &named.name)),
        }
    }
}

impl fmt::Debug for TypeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests;
