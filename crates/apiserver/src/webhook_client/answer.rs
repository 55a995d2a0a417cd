//! Reviews that webhooks answer with, read as client-go reads them: JSON or YAML, by type, with Go's words.

use schema::decode::{self, Strictness};
use schema::types::{self, Field, List, ListMerge, Map, Member, Shape, Struct, Type, TypeRef};
use serde_json::Value;

/// Where upstream makes the scheme that its messages about unknown kinds name.
const SCHEME: &str = "k8s.io/apiserver/pkg/util/webhook/client.go:71";

/// What is expected of an answer.
pub(crate) struct Expected<'a> {
    /// `admission.k8s.io`
    pub group: &'a str,
    /// The version that the question was asked in: `v1` or `v1beta1`.
    pub version: &'a str,
    /// `AdmissionReview`
    pub kind: &'a str,
    /// The type of the review.
    pub ty: &'a Type,
}

/// Reads an answer. Kind and version are those that it names, if any.
///
/// # Errors
/// What client-go says of an answer that it cannot decode.
pub(crate) fn read(answer: &[u8], expected: &Expected<'_>) -> Result<Value, String> {
    let from_yaml;
    let json = if answer.trim_ascii_start().starts_with(b"{") {
        answer
    } else {
        from_yaml = decode::yaml_to_value(answer).map_err(|error| error.to_string())?.to_string();
        from_yaml.as_bytes()
    };
    let found = decode::type_meta(json).map_err(|error| error.to_string())?;
    let kind = if found.kind.is_empty() { expected.kind } else { &found.kind };
    let (group, version) = match (found.group.as_str(), found.version.as_str()) {
        ("", "") => (expected.group, expected.version),
        given => given,
    };
    if kind != expected.kind || group != expected.group || !matches!(version, "v1" | "v1beta1") {
        let version = crate::kind::group_version(group, version);
        return Err(format!("no kind {kind:?} is registered for version {version:?} in scheme {SCHEME:?}"));
    }
    let decoded = decode::decode_json(json, expected.ty, Strictness::Ignore);
    let review = decoded.map_err(|error| error.to_string())?.value;
    if version != expected.version {
        let wanted = expected.version;
        return Err(format!("converting ({version}.{kind}) to ({wanted}.{kind}): unknown conversion"));
    }
    Ok(review)
}

/// The type of a review whose response has `fields`.
pub(crate) fn review_type(kind: &str, response: &str, fields: Vec<(&str, TypeRef)>) -> Type {
    let response = structure(format!("v1.{response}"), fields);
    let fields =
        vec![("kind", text()), ("apiVersion", text()), ("request", any()), ("response", response.into())];
    structure(format!("v1.{kind}"), fields)
}

fn structure(go: String, fields: Vec<(&str, TypeRef)>) -> Type {
    let members = fields.into_iter().map(|(name, ty)| Member::Field(Box::new(Field::new(name, ty))));
    Type::new("", go, Shape::Struct(Struct::new(members.collect())))
}

/// A string.
pub(crate) fn text() -> TypeRef {
    Type::new("", "string", Shape::String(Vec::new())).into()
}

/// True or false.
pub(crate) fn boolean() -> TypeRef {
    Type::new("", "bool", Shape::Bool).into()
}

/// Bytes in base64.
pub(crate) fn bytes() -> TypeRef {
    Type::new("", "[]uint8", Shape::Bytes).into()
}

/// Anything.
pub(crate) fn any() -> TypeRef {
    Type::new("", "interface {}", Shape::Any).into()
}

/// A list.
pub(crate) fn list(go: &str, items: TypeRef) -> TypeRef {
    Type::new("", go, Shape::List(List { items, merge: ListMerge::Atomic, declared: false })).into()
}

/// A map of strings.
pub(crate) fn texts() -> TypeRef {
    Type::new("", "map[string]string", Shape::Map(Map { values: text(), atomic: false })).into()
}

/// `metav1.Status`.
pub(crate) fn status() -> TypeRef {
    match types::get("io.k8s.apimachinery.pkg.apis.meta.v1.Status") {
        Some(ty) => ty.into(),
        None => any(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_client_go_reads_them() {
        let fields = vec![("uid", text()), ("allowed", boolean()), ("status", status()), ("patch", bytes())];
        let ty = review_type("AdmissionReview", "AdmissionResponse", fields);
        let expected =
            Expected { group: "admission.k8s.io", version: "v1", kind: "AdmissionReview", ty: &ty };
        let said = |answer: &str| read(answer.as_bytes(), &expected).unwrap_err();
        let struct_type = r#"struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#;
        for (answer, words) in [
            (
                "hello",
                format!(
                    "couldn't get version/kind; json parse error: json: cannot unmarshal string into Go value of type {struct_type}"
                ),
            ),
            (
                r#"{"kind":"Foo","apiVersion":"admission.k8s.io/v1"}"#,
                format!("no kind \"Foo\" is registered for version \"admission.k8s.io/v1\" in scheme \"{SCHEME}\""),
            ),
            (
                r#"{"response":{"allowed":"yes"}}"#,
                "json: cannot unmarshal string into Go struct field AdmissionResponse.response.allowed of type bool".to_owned(),
            ),
            (
                r#"{"response":{"status":{"code":"x"}}}"#,
                "json: cannot unmarshal string into Go struct field Status.response.status.code of type int32".to_owned(),
            ),
            (r#"{"response":{"patch":"!"}}"#, "illegal base64 data at input byte 0".to_owned()),
            (
                r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1beta1"}"#,
                "converting (v1beta1.AdmissionReview) to (v1.AdmissionReview): unknown conversion".to_owned(),
            ),
        ] {
            assert_eq!(said(answer), words);
        }
        let yaml = "kind: AdmissionReview\nresponse: {uid: u, allowed: true}\n";
        assert_eq!(read(yaml.as_bytes(), &expected).unwrap()["response"]["allowed"], true);
    }
}
