//! The decoder proper: follows the type and pulls from an input.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Number, Value};

use super::{Strictness, duration, time};
use crate::types::{Field, SchemaOr, Shape, Struct, Type, TypeRef};

/// Go's decoder does not check the unused bits of the last character.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// Go stops collecting strict errors here.
const MAX_STRICT_ERRORS: usize = 100;

/// Why decoding ended early.
pub(super) enum Stop {
    /// The input is malformed (or nested too deeply).
    Syntax,
    /// A type that reads its own JSON refused; Go ends there.
    Unmarshaler(String),
}

/// The beginning of a value.
pub(super) enum Event<'a> {
    Null,
    Bool(bool),
    /// The literal as written.
    Number(Cow<'a, str>),
    String(Cow<'a, str>),
    Array,
    Object,
}

impl Event<'_> {
    /// Go's word for the kind of value.
    fn kind(&self) -> &'static str {
        match self {
            Event::Null => "null",
            Event::Bool(_) => "bool",
            Event::Number(_) => "number",
            Event::String(_) => "string",
            Event::Array => "array",
            Event::Object => "object",
        }
    }
}

/// Something that values are pulled from.
pub(super) trait Input<'a> {
    /// Begins the next value.
    fn next(&mut self) -> Result<Event<'a>, Stop>;
    /// The next key of the object that was begun; `None` at its end.
    fn key(&mut self, first: bool) -> Result<Option<Cow<'a, str>>, Stop>;
    /// Whether the array that was begun has a next element.
    fn element(&mut self, first: bool) -> Result<bool, Stop>;
    /// Passes over the rest of a value.
    fn skip(&mut self, event: Event<'a>) -> Result<(), Stop>;
    /// After the document: nothing may follow.
    fn end(&mut self) -> Result<(), Stop>;
}

/// Where in the document the decoder is.
enum Segment<'t> {
    Field(&'t Field),
    Key(String),
    Index(usize),
}

/// Reads one document.
pub(super) struct Decoder<'t, I> {
    input: I,
    collect_strict: bool,
    /// Complain as Go's conversion of trees to structs does, not as its JSON decoder.
    pub(super) from_tree: bool,
    path: Vec<Segment<'t>>,
    /// The first value of a wrong kind; Go reads on and reports it at the end.
    pub(super) first_error: Option<String>,
    pub(super) strict_errors: Vec<String>,
}

impl<'a, 't, I: Input<'a>> Decoder<'t, I> {
    pub(super) fn new(input: I, strictness: Strictness) -> Self {
        Self {
            input,
            collect_strict: strictness != Strictness::Ignore,
            from_tree: false,
            path: Vec::with_capacity(16),
            first_error: None,
            strict_errors: Vec::new(),
        }
    }

    pub(super) fn document(&mut self, ty: &'t Type) -> Result<Value, Stop> {
        let event = self.input.next()?;
        let value = self.value(ty, event, None)?;
        self.input.end()?;
        Ok(value)
    }

    /// Reads a value; `owner` is the innermost struct around it.
    fn value(&mut self, ty: &'t Type, event: Event<'a>, owner: Option<&'t Type>) -> Result<Value, Stop> {
        match ty.shape() {
            Shape::Struct(body) => match event {
                Event::Object => self.object(ty, body),
                Event::Null => Ok(ty.zero()),
                other => self.mismatch(other, ty, owner),
            },
            Shape::List(list) => match event {
                Event::Array => self.array(&list.items, owner),
                Event::Null => Ok(Value::Null),
                other => self.mismatch(other, ty, owner),
            },
            Shape::Map(map) => match event {
                Event::Object => self.map(&map.values, owner),
                Event::Null => Ok(Value::Null),
                other => self.mismatch(other, ty, owner),
            },
            Shape::SchemaOr(or) => self.schema_or(*or, event, owner),
            Shape::Raw => self.any(event, Numbers::Kept),
            Shape::Any => self.any(event, Numbers::AsGo),
            Shape::Bytes if matches!(event, Event::Array) => self.byte_array(ty, owner),
            shape => self.scalar(shape, ty, event, owner),
        }
    }

    fn scalar(
        &mut self,
        shape: &Shape,
        ty: &'t Type,
        event: Event<'a>,
        owner: Option<&'t Type>,
    ) -> Result<Value, Stop> {
        match (shape, event) {
            (Shape::Quantity, event) => self.quantity(event),
            (_, Event::Null) => Ok(ty.zero()),
            (Shape::Bool, Event::Bool(b)) => Ok(Value::Bool(b)),
            (Shape::String(_), Event::String(s)) => Ok(Value::String(s.into_owned())),
            (Shape::Int64 | Shape::Int32, Event::Number(n)) if self.from_tree && n.contains('.') => {
                Err(Stop::Unmarshaler(format!("cannot convert float64 to {}", ty.go())))
            }
            (Shape::Int64, Event::Number(n)) => match n.parse::<i64>() {
                Ok(n) => Ok(Value::from(n)),
                Err(_) => self.mismatch_text(&format!("number {n}"), ty.go(), owner),
            },
            (Shape::Int32, Event::Number(n)) => match n.parse::<i32>() {
                Ok(n) => Ok(Value::from(n)),
                Err(_) => self.mismatch_text(&format!("number {n}"), ty.go(), owner),
            },
            (Shape::Float, Event::Number(n)) => match n.parse::<f64>() {
                Ok(float) if float.is_finite() => Ok(float_as_go(float)),
                _ => self.mismatch_text(&format!("number {n}"), ty.go(), owner),
            },
            (Shape::Bytes, Event::String(s)) => Ok(self.bytes(s)),
            (Shape::Time, Event::String(s)) => time::time(&s).map_err(Stop::Unmarshaler),
            (Shape::MicroTime, Event::String(s)) => time::micro_time(&s).map_err(Stop::Unmarshaler),
            (Shape::Duration, Event::String(s)) => duration::duration(&s).map_err(Stop::Unmarshaler),
            (Shape::Time | Shape::MicroTime | Shape::Duration, other) => {
                Err(Stop::Unmarshaler(self.mismatch_of(other.kind(), "string", owner)))
            }
            (Shape::IntOrString, Event::String(s)) => Ok(Value::String(s.into_owned())),
            (Shape::IntOrString, Event::Number(n)) => n
                .parse::<i32>()
                .map(Value::from)
                .map_err(|_| Stop::Unmarshaler(self.mismatch_of(&format!("number {n}"), "int32", owner))),
            (Shape::IntOrString, other) => {
                Err(Stop::Unmarshaler(self.mismatch_of(other.kind(), "int32", owner)))
            }
            (_, other) => self.mismatch(other, ty, owner),
        }
    }

    fn object(&mut self, ty: &'t Type, body: &'t Struct) -> Result<Value, Stop> {
        let mut object = Map::new();
        let mut seen = 0u128;
        let mut first = true;
        while let Some(key) = self.input.key(first)? {
            first = false;
            let Some(position) = body.position(&key) else {
                self.unknown(key, body.preserve_unknown, &mut object)?;
                continue;
            };
            let field: &'t Field = &body.fields()[position];
            let bit = 1u128.checked_shl(position as u32).unwrap_or(0);
            if seen & bit != 0 {
                self.strict("duplicate field", &field.name);
            }
            let again = seen & bit != 0;
            seen |= bit;
            let event = self.input.next()?;
            if matches!(event, Event::Null) {
                let clears = field.pointer || matches!(field.ty.shape(), Shape::List(_) | Shape::Map(_));
                if clears && again {
                    object.remove(&field.name);
                }
                continue;
            }
            self.path.push(Segment::Field(field));
            let value = self.value(&field.ty, event, Some(ty))?;
            self.path.pop();
            store(&mut object, field, value, again);
        }
        for (position, field, zero) in body.always() {
            let given = 1u128.checked_shl(position as u32).is_some_and(|bit| seen & bit != 0);
            if !given || !object.contains_key(&field.name) {
                object.insert(field.name.clone(), zero.clone());
            }
        }
        Ok(Value::Object(object))
    }

    fn unknown(
        &mut self,
        key: Cow<'a, str>,
        keep: bool,
        object: &mut Map<String, Value>,
    ) -> Result<(), Stop> {
        if keep {
            let event = self.input.next()?;
            self.path.push(Segment::Key(key.to_string()));
            let value = self.any(event, Numbers::AsGo)?;
            self.path.pop();
            if object.insert(key.to_string(), value).is_some() {
                self.strict("duplicate field", &key);
            }
            return Ok(());
        }
        self.strict("unknown field", &key);
        let event = self.input.next()?;
        self.input.skip(event)
    }

    fn map(&mut self, values: &'t TypeRef, owner: Option<&'t Type>) -> Result<Value, Stop> {
        let ty: &'t Type = values;
        let deep = matches!(ty.shape(), Shape::Struct(_) | Shape::Map(_) | Shape::List(_));
        let mut object = Map::new();
        let mut first = true;
        while let Some(key) = self.input.key(first)? {
            first = false;
            let event = self.input.next()?;
            if deep {
                self.path.push(Segment::Key(key.to_string()));
            }
            let value = self.value(ty, event, owner)?;
            if deep {
                self.path.pop();
            }
            if object.contains_key(key.as_ref()) {
                self.strict("duplicate field", &key);
            }
            // Bytes that are not there are no bytes, once they have been stored.
            let none = value.is_null() && matches!(ty.shape(), Shape::Bytes);
            object.insert(key.into_owned(), if none { Value::from("") } else { value });
        }
        Ok(Value::Object(object))
    }

    fn array(&mut self, items: &'t TypeRef, owner: Option<&'t Type>) -> Result<Value, Stop> {
        let ty: &'t Type = items;
        let mut array = Vec::new();
        while self.input.element(array.is_empty())? {
            self.path.push(Segment::Index(array.len()));
            let event = self.input.next()?;
            array.push(self.value(ty, event, owner)?);
            self.path.pop();
        }
        Ok(Value::Array(array))
    }

    fn any(&mut self, event: Event<'a>, numbers: Numbers) -> Result<Value, Stop> {
        Ok(match event {
            Event::Null => Value::Null,
            Event::Bool(b) => Value::Bool(b),
            Event::String(s) => Value::String(s.into_owned()),
            Event::Number(n) => match numbers.read(&n) {
                Some(number) => number,
                None => {
                    let text = self.mismatch_of(&format!("number {n}"), "float64", None);
                    self.first_error.get_or_insert(text);
                    Value::Null
                }
            },
            Event::Array => {
                let mut array = Vec::new();
                while self.input.element(array.is_empty())? {
                    self.path.push(Segment::Index(array.len()));
                    let event = self.input.next()?;
                    array.push(self.any(event, numbers)?);
                    self.path.pop();
                }
                Value::Array(array)
            }
            Event::Object => {
                let mut object = Map::new();
                let mut first = true;
                while let Some(key) = self.input.key(first)? {
                    first = false;
                    if object.contains_key(key.as_ref()) && numbers == Numbers::AsGo {
                        self.strict("duplicate field", &key);
                    }
                    let event = self.input.next()?;
                    self.path.push(Segment::Key(key.to_string()));
                    let value = self.any(event, numbers)?;
                    self.path.pop();
                    object.insert(key.into_owned(), value);
                }
                Value::Object(object)
            }
        })
    }

    fn schema_or(&mut self, or: SchemaOr, event: Event<'a>, owner: Option<&'t Type>) -> Result<Value, Stop> {
        let schema =
            crate::types::get("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps");
        let Some(schema) = schema else { return self.any(event, Numbers::Kept) };
        match (or, event) {
            (SchemaOr::Bool, Event::Bool(b)) => Ok(Value::Bool(b)),
            (_, Event::Object) => match schema.as_struct() {
                // What an own unmarshaler reads is not checked strictly.
                Some(body) => {
                    let collect = std::mem::replace(&mut self.collect_strict, false);
                    let value = self.object(schema, body);
                    self.collect_strict = collect;
                    value
                }
                None => Ok(Value::Null),
            },
            (SchemaOr::Array, Event::Array) => {
                let mut schemas = Vec::new();
                while self.input.element(schemas.is_empty())? {
                    let event = self.input.next()?;
                    schemas.push(self.value(schema, event, owner)?);
                }
                Ok(Value::Array(schemas))
            }
            (SchemaOr::StringArray, Event::Array) => self.any(Event::Array, Numbers::Kept),
            (SchemaOr::Bool, _) => Err(Stop::Unmarshaler("boolean or JSON schema expected".into())),
            (_, event) => {
                self.input.skip(event)?;
                Ok(Value::Null)
            }
        }
    }

    fn quantity(&mut self, event: Event<'a>) -> Result<Value, Stop> {
        let text = match &event {
            Event::Null => return Ok(Value::from("0")),
            Event::String(s) | Event::Number(s) => s.trim(),
            Event::Bool(_) | Event::Array | Event::Object => "true",
        };
        if is_canonical_quantity(text) {
            return Ok(Value::from(text));
        }
        super::quantity::canonical(text)
            .map(|text| Value::String(text.into_owned()))
            .map_err(|e| Stop::Unmarshaler(e.to_string()))
    }

    fn bytes(&mut self, text: Cow<'a, str>) -> Value {
        let mut text = text.into_owned();
        text.retain(|c| c != '\r' && c != '\n');
        match BASE64.decode(&text) {
            Ok(bytes) => Value::String(BASE64.encode(bytes)),
            Err(e) => {
                let invalid = match e {
                    base64::DecodeError::InvalidByte(at, _) => at,
                    _ => text.len() / 4 * 4,
                };
                let at = first_foreign_byte(&text).map_or(invalid, |foreign| foreign.min(invalid));
                let through = if self.from_tree { "error decoding from json: " } else { "" };
                self.first_error.get_or_insert(format!("{through}illegal base64 data at input byte {at}"));
                Value::Null
            }
        }
    }

    /// Go also reads bytes from an array of numbers.
    fn byte_array(&mut self, ty: &'t Type, owner: Option<&'t Type>) -> Result<Value, Stop> {
        let mut bytes = Vec::new();
        while self.input.element(bytes.is_empty())? {
            match self.input.next()? {
                Event::Number(n) => match n.parse::<u8>() {
                    Ok(byte) => bytes.push(byte),
                    Err(_) => {
                        self.mismatch_text(&format!("number {n}"), "uint8", owner)?;
                        bytes.push(0);
                    }
                },
                Event::Null => bytes.push(0),
                other => {
                    self.mismatch(other, ty, owner)?;
                    bytes.push(0);
                }
            }
        }
        Ok(Value::String(BASE64.encode(bytes)))
    }

    /// Records a value of the wrong kind and passes over it.
    fn mismatch(&mut self, event: Event<'a>, ty: &Type, owner: Option<&Type>) -> Result<Value, Stop> {
        if self.from_tree {
            return Err(Stop::Unmarshaler(cannot_restore(&event, ty)));
        }
        if self.first_error.is_none() {
            self.first_error = Some(self.mismatch_of(event.kind(), ty.go(), owner));
        }
        self.input.skip(event)?;
        Ok(Value::Null)
    }

    fn mismatch_text(&mut self, kind: &str, go: &str, owner: Option<&Type>) -> Result<Value, Stop> {
        if self.first_error.is_none() {
            self.first_error = Some(self.mismatch_of(kind, go, owner));
        }
        Ok(Value::Null)
    }

    fn mismatch_of(&self, kind: &str, go: &str, owner: Option<&Type>) -> String {
        let owner = owner.filter(|_| !self.from_tree);
        let fields: Vec<String> = self
            .path
            .iter()
            .filter_map(|s| match s {
                Segment::Field(field) => Some(format!("{}{}", field.embedded, field.name)),
                _ => None,
            })
            .collect();
        match owner {
            Some(owner) => format!(
                "json: cannot unmarshal {kind} into Go struct field {}.{} of type {go}",
                owner.go_short(),
                fields.join(".")
            ),
            None => format!("json: cannot unmarshal {kind} into Go value of type {go}"),
        }
    }

    fn strict(&mut self, what: &str, name: &str) {
        if !self.collect_strict || self.strict_errors.len() >= MAX_STRICT_ERRORS {
            return;
        }
        let mut path = String::new();
        for segment in &self.path {
            match segment {
                Segment::Index(i) => path.push_str(&format!("[{i}]")),
                Segment::Field(field) => push_name(&mut path, &field.name),
                Segment::Key(name) => push_name(&mut path, name),
            }
        }
        push_name(&mut path, name);
        let text = format!("{what} {}", crate::gotext::quote(&path));
        if !self.strict_errors.contains(&text) {
            self.strict_errors.push(text);
        }
    }
}

/// The complaint of apimachinery's `FromUnstructured`.
fn cannot_restore(event: &Event<'_>, ty: &Type) -> String {
    let from = match event {
        Event::Null => "invalid",
        Event::Bool(_) => "bool",
        Event::Number(n) if n.contains(['.', 'e', 'E']) => "float64",
        Event::Number(_) => "int64",
        Event::String(_) => "string",
        Event::Array => "slice",
        Event::Object => "map",
    };
    let kind = match ty.shape() {
        Shape::Struct(_) => return format!("cannot restore struct from: {from}"),
        Shape::List(_) | Shape::Bytes => return format!("cannot restore slice from {from}"),
        Shape::Map(_) => return format!("cannot restore map from {from}"),
        Shape::String(_) if from == "int64" => return format!("cannot convert int64 to {}", ty.go()),
        Shape::String(_) => "string",
        Shape::Bool => "bool",
        Shape::Int32 => "int32",
        Shape::Int64 => "int64",
        _ => "float64",
    };
    format!("unrecognized type: {kind}")
}

fn push_name(path: &mut String, name: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(name);
}

/// Lists that messages show, and where they tell an empty one from none.
const SHOWN_WHEN_EMPTY: [&str; 4] = [
    "[]v1.IngressRule",
    "[]v2.HPAScalingPolicy",
    "[]v1.ResourceQuotaScope",
    "[]v1.PersistentVolumeAccessMode",
];

/// Puts a decoded field into its object; `again`: the field was given before. Go decodes a second
/// time into the same struct or map, so that the two merge.
fn store(object: &mut Map<String, Value>, field: &Field, value: Value, again: bool) {
    let value = match (value, again.then(|| object.get_mut(&field.name)).flatten()) {
        (Value::Object(new), Some(Value::Object(old))) => return old.extend(new),
        (value, _) => value,
    };
    // Validation tells an empty list from none in these places; it is dropped when stored.
    let kept = match &value {
        Value::Array(items) => items.is_empty() && SHOWN_WHEN_EMPTY.contains(&field.ty.go()),
        Value::Object(entries) => {
            entries.is_empty() && field.name == "capacity" && field.ty.go() == "v1.ResourceList"
        }
        _ => false,
    };
    if kept || !field.omits(&value) {
        object.insert(field.name.clone(), value);
    } else if again {
        object.remove(&field.name);
    }
}

/// What becomes of number literals in values without a type.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Numbers {
    /// The bytes are kept upstream: `1.0` stays.
    Kept,
    /// Read into int64 or float64 and written again: `1.0` becomes `1`.
    AsGo,
}

impl Numbers {
    fn read(self, literal: &str) -> Option<Value> {
        if let Ok(int) = literal.parse::<i64>() {
            return Some(Value::from(int));
        }
        let float: f64 = literal.parse().ok().filter(|f: &f64| f.is_finite())?;
        match self {
            Self::Kept => Number::from_f64(float).map(Value::Number),
            Self::AsGo => Some(float_as_go(float)),
        }
    }
}

/// Go stumbles over the first byte that is none of base64, also where the length is wrong.
fn first_foreign_byte(text: &str) -> Option<usize> {
    text.bytes().position(|b| !b.is_ascii_alphanumeric() && !b"+/=".contains(&b))
}

/// Go writes floats without a fraction as whole numbers.
pub(crate) fn float_as_go(float: f64) -> Value {
    if float.fract() == 0.0 && float.abs() < 1e15 {
        return Value::from(float as i64);
    }
    // Beyond that not every whole number is a float: Go writes the shortest digits that mean this one, and
    // zeros behind them, as Rust does.
    if float.fract() == 0.0 {
        let digits = float.to_string();
        let whole = digits.parse::<i64>().map(Value::from);
        if let Ok(whole) = whole.or_else(|_| digits.parse::<u64>().map(Value::from)) {
            return whole;
        }
    }
    Number::from_f64(float).map_or(Value::Null, Value::Number)
}

/// The commonest quantities, small whole numbers with a usual suffix, need no arithmetic. Whole
/// multiples of the next suffix's base would be written with that suffix, so they are left out.
pub(super) fn is_canonical_quantity(text: &str) -> bool {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, suffix) = text.split_at(digits);
    if digits == 0 || digits > 6 || number.starts_with('0') {
        return false;
    }
    match suffix {
        "m" | "" | "k" | "M" | "G" => !number.ends_with("000"),
        "Ki" | "Mi" | "Gi" => number.parse::<u32>().is_ok_and(|n| n % 1024 != 0),
        _ => false,
    }
}
