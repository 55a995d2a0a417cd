//! How the values of a struct type become a message: worked out once for each type.

use std::sync::{OnceLock, PoisonError, RwLock};

use base::map::HashMap;
use schema::types::{Field, Member, SchemaOr, Shape, Struct, Type};

use super::writer::Writer;

/// Wire types.
pub(super) const VARINT: u32 = 0;
pub(super) const FIXED64: u32 = 1;
pub(super) const BYTES: u32 = 2;

/// How the object of one struct type becomes a message.
pub(super) struct Plan {
    /// Members in the order of their numbers.
    pub items: Vec<Item>,
    /// How many JSON members the struct has, those of embedded structs included.
    pub values: usize,
    names: Names,
}

/// One member of a message.
pub(super) enum Item {
    /// A field of JSON.
    Field(FieldPlan),
    /// An embedded struct: a message of its own here, none in JSON.
    Group(u32, Vec<Item>),
}

/// One field.
pub(super) struct FieldPlan {
    /// Which of the object's values it is.
    pub value: usize,
    /// Number and wire type.
    pub tag: u32,
    /// How the value is written.
    pub form: Form,
    /// What Go writes when the value is absent, tag included.
    pub absent: Box<[u8]>,
}

/// How one value is written.
pub(super) enum Form {
    Bool,
    Int,
    Float,
    Text,
    Bytes,
    Time {
        micro: bool,
    },
    Duration,
    Quantity,
    IntOrString,
    /// JSON text in a message.
    Raw,
    SchemaOr(SchemaOr, Message),
    /// A message with the items as its first field (`ExtraValue`).
    Items(Box<Form>),
    Repeated(Box<Form>),
    Map(Box<Form>),
    Message(Message),
}

/// A struct type, whose plan is looked up when first needed: types refer to themselves.
pub(super) struct Message {
    ty: &'static Type,
    plan: OnceLock<&'static Plan>,
}

impl Message {
    fn of(ty: &'static Type) -> Self {
        Self { ty, plan: OnceLock::new() }
    }

    /// The plan of the type.
    pub fn plan(&self) -> &'static Plan {
        self.plan.get_or_init(|| plan_of(self.ty).unwrap_or(&EMPTY))
    }
}

static EMPTY: Plan = Plan { items: Vec::new(), values: 0, names: Names { slots: Vec::new() } };

/// The plan of a struct type of the table. Plans stay: there are no more of them than types in use.
pub(super) fn plan_of(ty: &'static Type) -> Option<&'static Plan> {
    static PLANS: OnceLock<RwLock<HashMap<usize, &'static Plan>>> = OnceLock::new();
    let plans = PLANS.get_or_init(RwLock::default);
    let key = std::ptr::from_ref(ty).addr();
    if let Some(plan) = plans.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
        return Some(plan);
    }
    let of = ty.as_struct()?;
    let mut builder = Builder::default();
    let items = builder.items(of);
    let values = builder.names.len();
    let plan: &'static Plan = Box::leak(Box::new(Plan { items, values, names: Names::new(&builder.names) }));
    Some(plans.write().unwrap_or_else(PoisonError::into_inner).entry(key).or_insert(plan))
}

impl Plan {
    /// Which value a member of that name is.
    pub fn value(&self, name: &[u8]) -> Option<usize> {
        self.names.get(name)
    }

    /// The message of the zero value.
    fn zero(&self) -> Vec<u8> {
        let mut out = Writer::default();
        write_absent(&self.items, &mut out);
        out.take()
    }
}

fn write_absent(items: &[Item], out: &mut Writer) {
    for item in items.iter().rev() {
        match item {
            Item::Field(field) => out.bytes(&field.absent),
            Item::Group(tag, items) => {
                let end = out.len();
                write_absent(items, out);
                out.close(*tag, end);
            }
        }
    }
}

#[derive(Default)]
struct Builder {
    names: Vec<&'static str>,
}

impl Builder {
    fn items(&mut self, of: &'static Struct) -> Vec<Item> {
        let mut items: Vec<(u32, Item)> = Vec::new();
        for member in of.members() {
            match member {
                Member::Field(field) if field.tag != 0 => {
                    let value = self.names.len();
                    self.names.push(&field.name);
                    items.push((field.tag, Item::Field(FieldPlan::new(field, value))));
                }
                Member::Inline(tag, embedded) => {
                    let Some(inner) = embedded.as_struct() else { continue };
                    match tag {
                        // A second name for the type; kinds have their TypeMeta in the envelope.
                        0 if !of.is_kind => {
                            items.extend(self.items(inner).into_iter().map(|item| (item.number(), item)))
                        }
                        0 => {}
                        _ => items.push((*tag, Item::Group(tag << 3 | BYTES, self.items(inner)))),
                    }
                }
                Member::Field(_) => {}
            }
        }
        items.sort_by_key(|(number, _)| *number);
        items.into_iter().map(|(_, item)| item).collect()
    }
}

impl Item {
    fn number(&self) -> u32 {
        match self {
            Item::Field(field) => field.tag >> 3,
            Item::Group(tag, _) => tag >> 3,
        }
    }
}

impl FieldPlan {
    fn new(field: &'static Field, value: usize) -> Self {
        let form = Form::of(&field.ty);
        let tag = field.tag << 3 | form.wire();
        let absent = if field.pointer { Vec::new() } else { form.absent(tag) };
        Self { value, tag, form, absent: absent.into() }
    }
}

impl Form {
    fn of(ty: &'static Type) -> Self {
        match ty.shape() {
            Shape::List(list) if !super::is_message(ty) => Form::Repeated(Box::new(Form::of(&list.items))),
            Shape::List(list) => Form::Items(Box::new(Form::of(&list.items))),
            Shape::Map(map) => Form::Map(Box::new(Form::of(&map.values))),
            Shape::Bool => Form::Bool,
            Shape::Int32 | Shape::Int64 => Form::Int,
            Shape::Float => Form::Float,
            Shape::String(_) => Form::Text,
            Shape::Bytes => Form::Bytes,
            Shape::Time => Form::Time { micro: false },
            Shape::MicroTime => Form::Time { micro: true },
            Shape::Duration => Form::Duration,
            Shape::Quantity => Form::Quantity,
            Shape::IntOrString => Form::IntOrString,
            Shape::Raw | Shape::Any => Form::Raw,
            Shape::SchemaOr(what) => {
                let schema = schema::types::get(
                    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps",
                );
                Form::SchemaOr(*what, Message::of(schema.unwrap_or(ty)))
            }
            Shape::Struct(_) => Form::Message(Message::of(ty)),
        }
    }

    /// The wire type of one value of this form.
    pub fn wire(&self) -> u32 {
        match self {
            Form::Bool | Form::Int => VARINT,
            Form::Float => FIXED64,
            Form::Repeated(items) => items.wire(),
            _ => BYTES,
        }
    }

    /// What stands for the zero value, tag included; nothing for what is nil in Go.
    pub fn absent(&self, tag: u32) -> Vec<u8> {
        let mut out = Writer::default();
        match self {
            Form::Repeated(_) | Form::Map(_) | Form::Bytes | Form::Items(_) | Form::SchemaOr(..) => {
                return Vec::new();
            }
            _ => self.write_zero(&mut out),
        }
        out.varint(tag.into());
        out.take()
    }

    /// The zero value without its tag.
    pub fn write_zero(&self, out: &mut Writer) {
        let message: &[u8] = match self {
            Form::Bool | Form::Int => return out.varint(0),
            Form::Float => return out.bytes(&[0; 8]),
            Form::Quantity => &[0x0a, 1, b'0'],
            Form::IntOrString => &[0x08, 0, 0x10, 0, 0x1a, 0],
            Form::Duration => &[0x08, 0],
            Form::Message(message) => &message.plan().zero(),
            _ => &[],
        };
        out.bytes(message);
        out.varint(message.len() as u64);
    }
}

/// Names to their places: open addressing, as every member of every object is looked up here.
struct Names {
    slots: Vec<Option<(&'static str, u16)>>,
}

impl Names {
    fn new(names: &[&'static str]) -> Self {
        let mut slots = vec![None; (names.len() * 2).next_power_of_two().max(2)];
        for (place, name) in names.iter().enumerate() {
            let mut slot = hash(name.as_bytes()) & (slots.len() - 1);
            while slots[slot].is_some() {
                slot = (slot + 1) & (slots.len() - 1);
            }
            slots[slot] = Some((*name, place as u16));
        }
        Self { slots }
    }

    fn get(&self, name: &[u8]) -> Option<usize> {
        let mask = self.slots.len().checked_sub(1)?;
        let mut slot = hash(name) & mask;
        while let Some((known, place)) = self.slots[slot] {
            if known.as_bytes() == name {
                return Some(usize::from(place));
            }
            slot = (slot + 1) & mask;
        }
        None
    }
}

/// Length, first, middle and last letter: enough to tell the fields of a struct apart.
fn hash(name: &[u8]) -> usize {
    let [Some(first), Some(last)] = [name.first(), name.last()] else { return 0 };
    let middle = name[name.len() / 2];
    let mixed = u32::from_le_bytes([*first, *last, middle, name.len() as u8]).wrapping_mul(0x9E37_79B1);
    (mixed >> 16) as usize
}
