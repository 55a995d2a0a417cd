//! Printer columns: the tables of custom kinds.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::json_path::{self, JsonPath};
use crate::decode::float_as_go;

/// One column besides the name.
#[derive(Clone, Debug)]
pub struct Column {
    /// Heading.
    pub name: String,
    /// `integer`, `number`, `string`, `boolean` or `date`.
    pub r#type: String,
    /// OpenAPI format, or empty.
    pub format: String,
    /// What it shows.
    pub description: String,
    /// 0 is always shown, others with `-o wide`.
    pub priority: i64,
    path: JsonPath,
}

/// The columns of one version, without the name, which is always the first.
#[derive(Clone, Debug, Default)]
pub struct Columns(Vec<Column>);

impl Columns {
    /// Compiles a version's `additionalPrinterColumns`; without any, the age. As upstream, columns
    /// after one that is no JSONPath are left out.
    pub fn new(columns: &Value) -> Columns {
        let age = [json!({
            "name": "Age",
            "type": "date",
            "description": CREATION_TIMESTAMP,
            "jsonPath": ".metadata.creationTimestamp",
        })];
        let given = columns.as_array().map(Vec::as_slice).filter(|columns| !columns.is_empty());
        Columns(given.unwrap_or(&age).iter().map_while(column).collect())
    }

    /// The columns in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Column> {
        self.0.iter()
    }

    /// The cells of an object, without the name. `age` says how long ago a time was, in words
    /// (apimachinery's `HumanDuration`).
    pub fn cells(&self, object: &Value, age: &dyn Fn(Timestamp) -> String) -> Vec<Value> {
        self.0.iter().map(|column| column.cell(object, age)).collect()
    }
}

fn column(column: &Value) -> Option<Column> {
    let text = |name: &str| column[name].as_str().unwrap_or_default().to_owned();
    let path = text("jsonPath");
    let description = match text("description") {
        given if given.is_empty() => {
            format!("Custom resource definition column (in JSONPath format): {path}")
        }
        given => given,
    };
    Some(Column {
        name: text("name"),
        r#type: text("type"),
        format: text("format"),
        description,
        priority: column["priority"].as_i64().unwrap_or_default(),
        path: JsonPath::parse(&format!("{{{path}}}")).ok()?,
    })
}

impl Column {
    fn cell(&self, object: &Value, age: &dyn Fn(Timestamp) -> String) -> Value {
        let found = match self.path.find(object) {
            Ok(found) => found,
            Err(_) => return Value::Null,
        };
        let Some(value) = found.first() else { return Value::Null };
        match (self.r#type.as_str(), &**value) {
            ("string", value) => json_path::print(value).into(),
            ("integer", Value::Number(n)) => n.as_i64().or(n.as_f64().map(truncated)).into(),
            ("number", Value::Number(n)) => n.as_f64().map(float_as_go).into(),
            ("boolean", Value::Bool(b)) => (*b).into(),
            ("date", Value::String(text)) => date(text, age),
            _ => Value::Null,
        }
    }
}

/// As Go converts a float to an integer: those that are none are the smallest one.
fn truncated(float: f64) -> i64 {
    let fits = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&float);
    if fits { float as i64 } else { i64::MIN }
}

/// As `metav1.Time` and `ConvertToHumanReadableDateType` treat it.
fn date(text: &str, age: &dyn Fn(Timestamp) -> String) -> Value {
    if text.is_empty() || text == "null" {
        return "<unknown>".into();
    }
    match text.parse::<Timestamp>() {
        Ok(then) => age(then).into(),
        Err(_) => "<invalid>".into(),
    }
}

/// What OpenAPI says about `metadata.creationTimestamp`.
const CREATION_TIMESTAMP: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_as_go_shows_them() {
        let column = |r#type: &str| json!({"name": r#type, "type": r#type, "jsonPath": ".v"});
        let columns = Columns::new(&json!([column("integer"), column("number"), column("string")]));
        let cells = |value: Value| Value::Array(columns.cells(&json!({"v": value}), &|_| String::new()));
        assert_eq!(cells(json!(1)), json!([1, 1, "1"]));
        assert_eq!(cells(json!(1.5)), json!([1, 1.5, "1.5"]));
        assert_eq!(cells(json!(1e21))[0], json!(i64::MIN));
    }
}
