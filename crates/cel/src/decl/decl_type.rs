//! Declared types: what the checker sees of a schema, with the greatest sizes that values can have.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::escape::is_reserved;
use super::{Schema, SchemaKind, escape};
use crate::cost::{CostNode, SizeEstimate, SizeHints};
use crate::types::{FieldType, Type, TypeProvider};

/// The size of the largest request, which bounds every string and every list.
pub const MAX_REQUEST_SIZE: i64 = 3 * 1024 * 1024;

/// Lengths of serialised durations and timestamps, with their quotation marks.
const MAX_DURATION: i64 = 32;
const MAX_DATE_TIME: i64 = 32;
const MIN_DURATION: i64 = 3;
const DATE: i64 = 12;
const MIN_DATE_TIME: i64 = 21;

/// A type that a schema declares.
#[derive(Clone, Debug, PartialEq)]
pub struct DeclType {
    /// The checker's type.
    pub ty: Type,
    /// What it is made of.
    pub kind: DeclKind,
    /// The greatest length of a string or list, or number of entries of a map.
    pub max_elements: i64,
    /// The least size in JSON, in bytes.
    pub min_serialized_size: i64,
}

/// What a declared type is made of.
#[derive(Clone, Debug, PartialEq)]
pub enum DeclKind {
    /// A scalar.
    Simple,
    /// A list of these.
    List(Arc<DeclType>),
    /// A map with string keys to these.
    Map(Arc<DeclType>),
    /// An object with fields by their escaped names.
    Object(BTreeMap<String, Arc<DeclType>>),
}

impl DeclType {
    /// A scalar type.
    pub fn simple(ty: Type, max_elements: i64, min_serialized_size: i64) -> DeclType {
        DeclType { ty, kind: DeclKind::Simple, max_elements, min_serialized_size }
    }

    /// A list type.
    pub fn list(element: DeclType, max_items: i64) -> DeclType {
        DeclType {
            ty: Type::list(element.ty.clone()),
            kind: DeclKind::List(Arc::new(element)),
            max_elements: max_items,
            min_serialized_size: 2,
        }
    }

    /// A map type with string keys.
    pub fn map(value: DeclType, max_properties: i64) -> DeclType {
        DeclType {
            ty: Type::map(Type::String, value.ty.clone()),
            kind: DeclKind::Map(Arc::new(value)),
            max_elements: max_properties,
            min_serialized_size: 2,
        }
    }

    /// An object type. Fields are given by their names as CEL identifiers.
    pub fn object(name: &str, fields: BTreeMap<String, Arc<DeclType>>) -> DeclType {
        DeclType {
            ty: Type::object(name),
            kind: DeclKind::Object(fields),
            max_elements: 0,
            min_serialized_size: 2,
        }
    }

    /// The declaration of a schema (`SchemaDeclType`), with nested objects named after their place below `name`
    /// (`MaybeAssignTypeName`). `None` if the schema is not to be seen in expressions. The schema of the root
    /// of a resource must have passed [`Schema::resource_root`].
    pub fn of_schema(schema: &Schema, name: &str) -> Option<DeclType> {
        if schema.int_or_string {
            let max = schema.max_length.map_or(MAX_REQUEST_SIZE - 2, max_string_length);
            return Some(DeclType::simple(Type::Dyn, max, 1));
        }
        match schema.kind {
            SchemaKind::Array => {
                let items = DeclType::of_schema(schema.items.as_deref()?, &format!("{name}.@idx"))?;
                let fitting = (MAX_REQUEST_SIZE - 2) / (items.min_serialized_size + 1);
                Some(DeclType::list(items, schema.max_items.map_or(fitting, |n| n.max(0))))
            }
            SchemaKind::Object => match schema.additional_properties.as_deref() {
                Some(values) => {
                    let values = DeclType::of_schema(values, &format!("{name}.@elem"))?;
                    let fitting = (MAX_REQUEST_SIZE - 2) / (values.min_serialized_size + 6);
                    Some(DeclType::map(values, schema.max_properties.map_or(fitting, |n| n.max(0))))
                }
                None => Some(DeclType::of_object(schema, name)),
            },
            SchemaKind::String => Some(DeclType::of_string(schema)),
            SchemaKind::Boolean => Some(DeclType::simple(Type::Bool, 0, 4)),
            SchemaKind::Number => Some(DeclType::simple(Type::Double, 0, 1)),
            SchemaKind::Integer => Some(DeclType::simple(Type::Int, 0, 1)),
            SchemaKind::Unspecified => None,
        }
    }

    fn of_object(schema: &Schema, name: &str) -> DeclType {
        let mut fields = BTreeMap::new();
        let mut min_size = 2;
        for (property_name, property) in schema.properties.iter().flatten() {
            let escaped = escape(property_name);
            let field_name = format!("{name}.{}", escaped.as_deref().unwrap_or(property_name));
            let Some(field) = DeclType::of_schema(property, &field_name) else { continue };
            if schema.required.contains(property_name) && !property.has_default {
                min_size += property_name.len() as i64 + field.min_serialized_size + 4;
            }
            if let Some(escaped) = escaped {
                fields.insert(escaped, Arc::new(field));
            }
        }
        DeclType { min_serialized_size: min_size, ..DeclType::object(name, fields) }
    }

    fn of_string(schema: &Schema) -> DeclType {
        match &*schema.format {
            "byte" => {
                let max = schema.max_length.map_or(MAX_REQUEST_SIZE - 2, |n| n.max(0));
                DeclType::simple(Type::Bytes, max, 2)
            }
            "duration" => DeclType::simple(Type::Duration, MAX_DURATION, MIN_DURATION),
            "date" => DeclType::simple(Type::Timestamp, DATE, DATE),
            "date-time" => DeclType::simple(Type::Timestamp, MAX_DATE_TIME, MIN_DATE_TIME),
            _ => {
                let longest = schema.enum_values.iter().filter_map(|v| v.as_str()).map(str::len).max();
                let max = match (schema.max_length, schema.enum_values.is_empty()) {
                    (Some(n), _) => max_string_length(n),
                    (None, false) => longest.unwrap_or(0) as i64,
                    (None, true) => MAX_REQUEST_SIZE - 2,
                };
                DeclType::simple(Type::String, max, 2)
            }
        }
    }

    /// The element type of a list, the value type of a map.
    pub fn element(&self) -> Option<&DeclType> {
        match &self.kind {
            DeclKind::List(element) | DeclKind::Map(element) => Some(element),
            _ => None,
        }
    }

    /// The field of an object, by its name as an identifier. Reserved words may be written as they are.
    pub fn field(&self, name: &str) -> Option<&DeclType> {
        let DeclKind::Object(fields) = &self.kind else { return None };
        let field = fields.get(name).or_else(|| match is_reserved(name) {
            true => fields.get(&format!("__{name}__")),
            false => None,
        });
        field.map(|field| &**field)
    }
}

/// Lengths are in code points, sizes in bytes, of which a code point has up to four.
fn max_string_length(max_length: i64) -> i64 {
    max_length.max(0).saturating_mul(4)
}

/// Declared types as a [`TypeProvider`]; and, for a variable that is of the root type, as [`SizeHints`]
/// (paths are followed from their second part on, whatever the variable is called).
#[derive(Clone, Debug)]
pub struct DeclTypes {
    root: Arc<DeclType>,
    objects: Arc<BTreeMap<Arc<str>, Arc<DeclType>>>,
}

impl DeclTypes {
    /// The root type and all object types below it.
    pub fn new(root: DeclType) -> DeclTypes {
        let root = Arc::new(root);
        let mut objects = BTreeMap::new();
        collect(&root, &mut objects);
        DeclTypes { root, objects: Arc::new(objects) }
    }

    /// The root type.
    pub fn root(&self) -> &DeclType {
        &self.root
    }

    /// With the objects of `other` as well. The root stays.
    pub fn with(mut self, other: &DeclTypes) -> DeclTypes {
        let objects = Arc::make_mut(&mut self.objects);
        objects.extend(other.objects.iter().map(|(name, ty)| (name.clone(), ty.clone())));
        self
    }
}

fn collect(ty: &Arc<DeclType>, objects: &mut BTreeMap<Arc<str>, Arc<DeclType>>) {
    match &ty.kind {
        DeclKind::Simple => {}
        DeclKind::List(element) | DeclKind::Map(element) => collect(element, objects),
        DeclKind::Object(fields) => {
            if let Type::Object(name) = &ty.ty {
                objects.insert(name.clone(), ty.clone());
            }
            fields.values().for_each(|field| collect(field, objects));
        }
    }
}

impl TypeProvider for DeclTypes {
    fn find_type(&self, name: &str) -> Option<Type> {
        self.objects.get(name).map(|object| object.ty.clone())
    }

    fn field(&self, type_name: &str, field: &str) -> Option<FieldType> {
        let field = self.objects.get(type_name)?.field(field)?;
        Some(FieldType { ty: field.ty.clone() })
    }
}

impl SizeHints for DeclTypes {
    fn size(&self, node: &CostNode<'_>) -> Option<SizeEstimate> {
        let (_variable, path) = node.path.split_first()?;
        let string_key = DeclType::simple(Type::String, 0, 2);
        let mut ty = &*self.root;
        for part in path {
            ty = match part.as_str() {
                "@items" | "@values" => ty.element()?,
                "@keys" if matches!(ty.kind, DeclKind::Map(_)) => &string_key,
                "@keys" => return None,
                name => match &ty.kind {
                    DeclKind::Object(fields) => fields.get(name)?,
                    _ => return None,
                },
            };
        }
        Some(SizeEstimate { min: 0, max: ty.max_elements as u64 })
    }
}
