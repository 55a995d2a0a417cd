//! Kinds that extend the API server.

use super::*;

/// MutatingWebhookConfiguration and ValidatingWebhookConfiguration.
pub const WEBHOOK_CONFIGURATION: &[Heading] = &[
    NAME,
    column(
        "Webhooks",
        "integer",
        "Webhooks indicates the number of webhooks registered in this configuration",
    ),
    AGE,
];

/// ValidatingAdmissionPolicy.
pub const VALIDATING_ADMISSION_POLICY: &[Heading] = &[
    NAME,
    column(
        "Validations",
        "integer",
        "Validations indicates the number of validation rules defined in this configuration",
    ),
    column(
        "ParamKind",
        "string",
        "ParamKind specifies the kind of resources used to parameterize this policy",
    ),
    AGE,
];

/// MutatingAdmissionPolicy.
pub const MUTATING_ADMISSION_POLICY: &[Heading] = &[
    NAME,
    column(
        "Mutations",
        "integer",
        "Mutation indicates the number of mutations rules defined in this configuration",
    ),
    column(
        "ParamKind",
        "string",
        "ParamKind specifies the kind of resources used to parameterize this policy",
    ),
    AGE,
];

/// MutatingAdmissionPolicyBinding and ValidatingAdmissionPolicyBinding.
pub const ADMISSION_POLICY_BINDING: &[Heading] = &[
    NAME,
    column(
        "PolicyName",
        "string",
        "PolicyName indicates the policy definition which the policy binding binded to",
    ),
    column("ParamRef", "string", "ParamRef indicates the param resource which sets the configuration param"),
    AGE,
];

/// One MutatingWebhookConfiguration or ValidatingWebhookConfiguration.
pub fn webhook_configuration(object: &Value, now: Timestamp) -> Row {
    row![name(object), list(object, "/webhooks").len(), age(object, now)]
}

fn param_kind(object: &Value) -> String {
    match object.pointer("/spec/paramKind") {
        Some(kind) => format!("{}/{}", text(kind, "/apiVersion"), text(kind, "/kind")),
        None => "<unset>".to_owned(),
    }
}

/// One ValidatingAdmissionPolicy.
pub fn validating_admission_policy(object: &Value, now: Timestamp) -> Row {
    row![name(object), list(object, "/spec/validations").len(), param_kind(object), age(object, now)]
}

/// One MutatingAdmissionPolicy.
pub fn mutating_admission_policy(object: &Value, now: Timestamp) -> Row {
    row![name(object), list(object, "/spec/mutations").len(), param_kind(object), age(object, now)]
}

/// One ValidatingAdmissionPolicyBinding or MutatingAdmissionPolicyBinding.
pub fn admission_policy_binding(object: &Value, now: Timestamp) -> Row {
    let param = object.pointer("/spec/paramRef").map_or_else(
        || "<unset>".to_owned(),
        |param| match (text(param, "/namespace"), text(param, "/name")) {
            (_, "") if param.get("selector").is_none() => "<unset>".to_owned(),
            (_, "") => go_selector(&param["selector"]),
            ("", name) => format!("*/{name}"),
            (namespace, name) => format!("{namespace}/{name}"),
        },
    );
    row![name(object), text(object, "/spec/policyName"), param, age(object, now)]
}

/// A LabelSelector as Go's generated `String` writes it.
fn go_selector(selector: &Value) -> String {
    let labels = selector.get("matchLabels").and_then(Value::as_object);
    let labels: String = labels
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}: {},", value.as_str().unwrap_or_default()))
        .collect();
    let expressions: String = list(selector, "/matchExpressions")
        .iter()
        .map(|expression| {
            format!(
                "LabelSelectorRequirement{{Key:{},Operator:{},Values:[{}],}},",
                text(expression, "/key"),
                text(expression, "/operator"),
                texts(expression, "/values").join(" ")
            )
        })
        .collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )
}

/// APIService.
pub const API_SERVICE: &[Heading] = &[
    NAME,
    column("Service", "string", "The reference to the service that hosts this API endpoint."),
    column("Available", "string", "Whether this service is available."),
    AGE,
];

/// One APIService.
pub fn api_service(object: &Value, now: Timestamp) -> Row {
    let service = match object.pointer("/spec/service") {
        Some(service) => format!("{}/{}", text(service, "/namespace"), text(service, "/name")),
        None => "Local".to_owned(),
    };
    let available = match condition(object, "Available") {
        Some(available) if text(available, "/status") == "True" => "True".to_owned(),
        Some(available) => format!("{} ({})", text(available, "/status"), text(available, "/reason")),
        None => "Unknown".to_owned(),
    };
    row![name(object), service, available, age(object, now)]
}
