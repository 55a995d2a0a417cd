//! Conversion between the versions of a custom kind: by changing the name of the version alone, or by
//! asking a webhook.

use std::sync::OnceLock;
use std::time::Duration;

use schema::cursor::Node;
use schema::field::ErrorList;
use schema::gotext;
use schema::structural::custom::Source;
use schema::types::Type;
use schema::validation;
use serde_json::{Value, json};

use super::definition::{Definition, Handler};
use super::parsed::Webhook;
use crate::object::meta;
use crate::server::Inner;
use crate::status::ApiError;
use crate::webhook_client::Endpoint;
use crate::webhook_client::answer::{self, Expected};

/// How long a webhook may take, and how much it may say.
const TIMEOUT: Duration = Duration::from_secs(30);
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// The definition's conversion webhook, if it has one.
pub(super) fn webhook(definition: &Definition) -> Option<&Webhook> {
    let conversion = definition.conversion()?;
    conversion.webhook.as_ref().filter(|_| conversion.strategy == "Webhook")
}

/// Strategy `None`: only the version's name changes.
pub(super) fn by_name(definition: &Definition, object: &mut Value, index: usize) {
    object["apiVersion"] = definition.api_version(index).into();
}

/// Converts objects of other versions to one version, in order.
pub(super) async fn convert(
    server: &Inner,
    definition: &Definition,
    mut objects: Vec<Value>,
    index: usize,
) -> Result<Vec<Value>, ApiError> {
    let Some(webhook) = webhook(definition) else {
        objects.iter_mut().for_each(|object| by_name(definition, object, index));
        return Ok(objects);
    };
    let failed = |what: &str| {
        let given = objects.first().map_or("", |object| object["apiVersion"].as_str().unwrap_or_default());
        let kind = &definition.names().kind;
        let message = format!("conversion webhook for {given}, Kind={kind} {what}");
        ApiError { code: 500, reason: "".into(), ..ApiError::bad_request(message) }
    };
    let wanted = definition.api_version(index);
    let uid = base::rng::uuid();
    let version = webhook.conversion_review_versions.iter().find(|v| matches!(v.as_str(), "v1" | "v1beta1"));
    let Some(version) = version else {
        return Err(ApiError::internal("no supported conversion review versions"));
    };
    let review = json!({"kind": "ConversionReview", "apiVersion": format!("apiextensions.k8s.io/{version}"),
        "request": {"uid": uid, "desiredAPIVersion": wanted, "objects": objects}});
    let answer = call(server, webhook, &review).await.map_err(|why| failed(&format!("failed: {why}")))?;
    let converted =
        converted_objects(answer, version, &uid).map_err(|why| failed(&format!("failed: {why}")))?;
    if converted.len() != objects.len() {
        let (got, expected) = (converted.len(), objects.len());
        return Err(failed(&format!("returned {got} objects, expected {expected}")));
    }
    if let Some(why) = converted.iter().find_map(unreadable) {
        return Err(ApiError { code: 500, reason: "".into(), ..ApiError::bad_request(why) });
    }
    let pairs = objects.iter().zip(converted).enumerate();
    pairs
        .map(|(at, (original, mut object))| {
            check_type(original, &object, &wanted)
                .map_err(|why| failed(&format!("returned invalid object at index {at}: {why}")))?;
            check_same(original, &object)
                .map_err(|why| failed(&format!("returned invalid object: {why}")))?;
            restore_metadata(original, &mut object)
                .map_err(|why| failed(&format!("returned invalid metadata: {why}")))?;
            Ok(object)
        })
        .collect()
}

/// Posts a review and reads the answer.
async fn call(server: &Inner, webhook: &Webhook, review: &Value) -> Result<Value, String> {
    let endpoint = Endpoint::of(&webhook.client_config).map_err(|error| error.to_string())?;
    let answer = server.webhook_clients.post(&endpoint, review.to_string().into(), TIMEOUT, ANSWER_BYTES_MAX);
    let answer = answer.await.map_err(|error| error.to_string())?;
    let version = review["apiVersion"].as_str().and_then(|version| version.rsplit_once('/'));
    let expected = Expected {
        group: "apiextensions.k8s.io",
        version: version.map_or("", |(_, version)| version),
        kind: "ConversionReview",
        ty: review_type(),
    };
    answer::read(&answer, &expected)
}

fn review_type() -> &'static Type {
    static TYPE: OnceLock<Type> = OnceLock::new();
    TYPE.get_or_init(|| {
        let fields = vec![
            ("uid", answer::text()),
            ("convertedObjects", answer::list("[]runtime.RawExtension", answer::any())),
            ("result", answer::status()),
        ];
        answer::review_type("ConversionReview", "ConversionResponse", fields)
    })
}

/// An object of one version of a kind in another one, as admission may want to see it.
pub(crate) async fn between(
    server: &Inner,
    from: &Handler,
    to: &Handler,
    object: Value,
) -> Result<Value, ApiError> {
    if from.index() == to.index() {
        return Ok(object);
    }
    let converted = convert(server, to.definition(), vec![object], to.index()).await?;
    let mut object = converted.into_iter().next().unwrap_or_default();
    to.version()?.coerce(&mut object, Source::Conversion).map_err(ApiError::internal)?;
    Ok(object)
}

fn converted_objects(mut answer: Value, version: &str, uid: &str) -> Result<Vec<Value>, String> {
    if version == "v1" {
        let (kind, api_version) = (&answer["kind"], &answer["apiVersion"]);
        if kind != "ConversionReview" || api_version != "apiextensions.k8s.io/v1" {
            return Err(format!(
                "expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got {}, Kind={}",
                api_version.as_str().filter(|text| !text.is_empty()).unwrap_or("/"),
                kind.as_str().unwrap_or_default()
            ));
        }
    }
    let Some(response) = answer.get_mut("response").filter(|response| response.is_object()) else {
        return Err("no response provided".to_owned());
    };
    let given = response["uid"].as_str().unwrap_or_default();
    if version == "v1" && given != uid {
        return Err(format!("expected response.uid={uid:?}, got {given:?}"));
    }
    let result = &response["result"];
    let status = result["status"].as_str().unwrap_or_default();
    if status != "Success" {
        return Err(match result["message"].as_str().unwrap_or_default() {
            "" => format!("response.result.status was '{status}', not 'Success'"),
            message => message.to_owned(),
        });
    }
    match response["convertedObjects"].take() {
        Value::Array(objects) => Ok(objects),
        _ => Ok(Vec::new()),
    }
}

/// What Go says about an object that is none.
fn unreadable(object: &Value) -> Option<String> {
    match object {
        Value::Object(_) => None,
        Value::Null => Some("unexpected end of JSON input".to_owned()),
        other => Some(format!(
            "json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            gotext::kind(other)
        )),
    }
}

fn check_type(original: &Value, object: &Value, wanted: &str) -> Result<(), String> {
    let text = |object: &Value, field: &str| object[field].as_str().unwrap_or_default().to_owned();
    let got = text(object, "apiVersion");
    if got != wanted {
        return Err(format!("invalid groupVersion (expected {wanted}, received {got})"));
    }
    let (expected, got) = (text(original, "kind"), text(object, "kind"));
    if got != expected {
        return Err(format!("invalid kind (expected {expected}, received {got})"));
    }
    Ok(())
}

fn check_same(original: &Value, object: &Value) -> Result<(), String> {
    for (field, name) in [("name", "name"), ("namespace", "namespace"), ("uid", "UID")] {
        let (expected, got) = (meta(original, field), meta(object, field));
        if expected != got {
            return Err(format!("must have the same {name}: {expected} != {got}"));
        }
    }
    Ok(())
}

/// A webhook may change labels and annotations; everything else in metadata is as it was.
fn restore_metadata(original: &Value, object: &mut Value) -> Result<(), String> {
    let given = match object.get_mut("metadata") {
        None => return Err("missing metadata in converted object".to_owned()),
        Some(Value::Object(given)) => std::mem::take(given),
        Some(_) => return Err("invalid metadata of type in converted object".to_owned()),
    };
    let mut metadata = original["metadata"].as_object().cloned().unwrap_or_default();
    for field in ["labels", "annotations"] {
        let before = metadata.remove(field);
        match given.get(field) {
            None | Some(Value::Null) => {}
            Some(Value::Object(map)) => {
                for (key, value) in map {
                    if !value.is_string() {
                        let found = gotext::type_of(value);
                        return Err(format!(
                            "metadata.{field}[{key}] must be a string, but is {found} in converted object"
                        ));
                    }
                }
                if before.as_ref().and_then(Value::as_object) != Some(map) {
                    check_map(field, &given[field])?;
                }
                metadata.insert(field.to_owned(), given[field].clone());
            }
            Some(_) => return Err(format!("invalid metadata.{field} in converted object")),
        }
    }
    object["metadata"] = Value::Object(metadata);
    Ok(())
}

fn check_map(field: &str, map: &Value) -> Result<(), String> {
    let holder = json!({"metadata": {field: map}});
    let (node, mut errors) = (Node::root(&holder).at("metadata").at(field), ErrorList::new());
    match field {
        "labels" => validation::labels::labels(&node, &mut errors),
        _ => validation::metadata::annotations(&node, &mut errors),
    }
    if errors.is_empty() { Ok(()) } else { Err(errors.message()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_labels_and_annotations_may_change() {
        let original = json!({"metadata": {"name": "a", "uid": "u", "labels": {"x": "y"}}});
        let mut object = json!({"metadata": {"name": "b", "labels": {"z": "1"}, "finalizers": ["f"]}});
        restore_metadata(&original, &mut object).unwrap();
        assert_eq!(object["metadata"], json!({"name": "a", "uid": "u", "labels": {"z": "1"}}));
        let mut object = json!({"metadata": {"labels": {"not a label": "1"}}});
        assert!(restore_metadata(&original, &mut object).is_err());
    }

    #[test]
    fn answers_are_for_the_question() {
        let answer = |response: Value| {
            let review = json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1", "response": response});
            converted_objects(review, "v1", "u")
        };
        let success = json!({"status": "Success"});
        assert_eq!(
            answer(json!({"uid": "u", "result": success, "convertedObjects": [1]})),
            Ok(vec![json!(1)])
        );
        assert_eq!(
            answer(json!({"uid": "v", "result": success})),
            Err("expected response.uid=\"u\", got \"v\"".to_owned())
        );
        assert_eq!(
            answer(json!({"uid": "u", "result": {"status": "Failure", "message": "no"}})),
            Err("no".to_owned())
        );
    }
}
