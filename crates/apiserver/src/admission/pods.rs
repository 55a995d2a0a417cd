//! What is added to pods: service account, tolerations, priority.

use serde_json::{Value, json};

use super::{Attributes, Operation};
use crate::call::Call;
use crate::object::meta;
use crate::status::ApiError;

const MIRROR: &str = "kubernetes.io/config.mirror";
const TOKEN_MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const TOKEN_VOLUME: &str = "kube-api-access-";
/// An hour and a little, by which such tokens are told from others.
const TOKEN_SECONDS: i64 = 3607;
const ENFORCE_SECRETS: &str = "kubernetes.io/enforce-mountable-secrets";

fn forbidden(call: &Call, pod: &Value, why: &str) -> ApiError {
    ApiError::forbidden(&call.kind.group, &call.kind.plural, meta(pod, "name"), why)
}

/// ServiceAccount: the account, its pull secrets, and the volume with its token.
pub(super) async fn service_account(call: &Call, pod: &mut Value) -> Result<(), ApiError> {
    if pod["metadata"]["annotations"].get(MIRROR).is_some() {
        if !pod["spec"]["serviceAccountName"].as_str().unwrap_or_default().is_empty() {
            return Err(forbidden(call, pod, "a mirror pod may not reference service accounts"));
        }
        return Ok(());
    }
    let text = |field: &str| pod["spec"][field].as_str().unwrap_or_default();
    // The deprecated alias counts where the name itself is missing.
    let given = if text("serviceAccountName").is_empty() {
        text("serviceAccount")
    } else {
        text("serviceAccountName")
    };
    let name = if given.is_empty() { "default".to_owned() } else { given.to_owned() };
    pod["spec"]["serviceAccountName"] = name.clone().into();
    pod["spec"]["serviceAccount"] = name.clone().into();
    let namespace = call.info.namespace.as_str();
    let registry = call.server.registry();
    let Some(kind) = registry.resource("", "v1", "serviceaccounts") else { return Ok(()) };
    let mut found = call.server.cached(kind, namespace, &name);
    if found.is_none() {
        found = call.server.current(kind, namespace, &name).await?;
    }
    let Some(found) = found else {
        let why =
            format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found");
        return Err(forbidden(call, pod, &why));
    };
    let account = found.try_value()?;
    limit_secrets(call, pod, &account)?;
    if pod["spec"]["imagePullSecrets"].as_array().is_none_or(Vec::is_empty)
        && let Some(secrets) = account["imagePullSecrets"].as_array().filter(|secrets| !secrets.is_empty())
    {
        pod["spec"]["imagePullSecrets"] = json!(secrets);
    }
    let automount = pod["spec"]["automountServiceAccountToken"].as_bool();
    if automount.or_else(|| account["automountServiceAccountToken"].as_bool()).unwrap_or(true) {
        mount_token(&mut pod["spec"]);
    }
    Ok(())
}

/// Accounts that list their secrets may say that pods use no others.
fn limit_secrets(call: &Call, pod: &Value, account: &Value) -> Result<(), ApiError> {
    let enforced = account["metadata"]["annotations"][ENFORCE_SECRETS].as_str();
    if !matches!(enforced, Some("1" | "t" | "T" | "true" | "TRUE" | "True")) {
        return Ok(());
    }
    let account_name = meta(account, "name");
    let allowed =
        |name: &str| account["secrets"].as_array().into_iter().flatten().any(|secret| secret["name"] == name);
    let spec = &pod["spec"];
    for volume in spec["volumes"].as_array().into_iter().flatten() {
        if let Some(name) = volume["secret"]["secretName"].as_str().filter(|name| !allowed(name)) {
            let why = format!(
                "volume with secret.secretName={name:?} is not allowed because service account {account_name} does not reference that secret"
            );
            return Err(forbidden(call, pod, &why));
        }
    }
    for (list, word) in [("initContainers", "init container"), ("containers", "container")] {
        for container in spec[list].as_array().into_iter().flatten() {
            for env in container["env"].as_array().into_iter().flatten() {
                if let Some(name) =
                    env["valueFrom"]["secretKeyRef"]["name"].as_str().filter(|name| !allowed(name))
                {
                    let why = format!(
                        "{word} {} with envVar {} referencing secret.secretName={name:?} is not allowed because service account {account_name} does not reference that secret",
                        container["name"].as_str().unwrap_or_default(),
                        env["name"].as_str().unwrap_or_default(),
                    );
                    return Err(forbidden(call, pod, &why));
                }
            }
        }
    }
    Ok(())
}

fn mount_token(spec: &mut Value) {
    let existing =
        spec["volumes"].as_array().into_iter().flatten().filter_map(|volume| volume["name"].as_str());
    let existing = existing.into_iter().find(|name| name.starts_with(TOKEN_VOLUME)).map(str::to_owned);
    let is_new = existing.is_none();
    let name = existing.unwrap_or_else(|| format!("{TOKEN_VOLUME}{}", base::rng::name_suffix(5)));
    let mut mounted = false;
    for list in ["initContainers", "containers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            let mounts = container["volumeMounts"].as_array();
            if mounts.is_some_and(|mounts| mounts.iter().any(|mount| mount["mountPath"] == TOKEN_MOUNT)) {
                continue;
            }
            let mount = json!({"name": name, "readOnly": true, "mountPath": TOKEN_MOUNT});
            push(&mut container["volumeMounts"], mount);
            mounted = true;
        }
    }
    if mounted && is_new {
        push(&mut spec["volumes"], token_volume(&name));
    }
}

fn push(list: &mut Value, item: Value) {
    match list.as_array_mut() {
        Some(items) => items.push(item),
        None => *list = json!([item]),
    }
}

fn token_volume(name: &str) -> Value {
    json!({"name": name, "projected": {"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}})
}

/// DefaultTolerationSeconds: five minutes on a node that fails.
pub(super) fn tolerations(pod: &mut Value) {
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerated = pod["spec"]["tolerations"].as_array().into_iter().flatten().any(|toleration| {
            let text = |field: &str| toleration[field].as_str().unwrap_or_default();
            matches!(text("effect"), "" | "NoExecute") && (text("key") == key || text("key").is_empty())
        });
        if !tolerated {
            let toleration =
                json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
            push(&mut pod["spec"]["tolerations"], toleration);
        }
    }
}

/// Priority: from the class, or the default class.
pub(super) async fn priority(attributes: &Attributes<'_>, pod: &mut Value) -> Result<(), ApiError> {
    let (call, old) = (attributes.call, attributes.old);
    if attributes.operation == Operation::Update {
        if let Some(priority) = old.and_then(|old| old["spec"].get("priority"))
            && pod["spec"].get("priority").is_none()
        {
            pod["spec"]["priority"] = priority.clone();
        }
        return Ok(());
    }
    let name = pod["spec"]["priorityClassName"].as_str().unwrap_or_default().to_owned();
    let class =
        if name.is_empty() { default_class(call) } else { Some(named_class(call, pod, &name).await?) };
    let (value, policy) = match &class {
        Some(class) => (
            class["value"].as_i64().unwrap_or(0),
            class["preemptionPolicy"].as_str().unwrap_or("PreemptLowerPriority"),
        ),
        None => (0, "PreemptLowerPriority"),
    };
    if let Some(class) = class.as_ref().filter(|_| name.is_empty()) {
        pod["spec"]["priorityClassName"] = meta(class, "name").into();
    }
    if let Some(given) = pod["spec"]["priority"].as_i64().filter(|given| *given != value) {
        let why = format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name"
        );
        return Err(forbidden(call, pod, &why));
    }
    pod["spec"]["priority"] = value.into();
    if let Some(given) = pod["spec"]["preemptionPolicy"].as_str().filter(|given| *given != policy) {
        let why = format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
        );
        return Err(forbidden(call, pod, &why));
    }
    pod["spec"]["preemptionPolicy"] = policy.into();
    Ok(())
}

/// The default class with the lowest value, should there be several.
pub(super) fn default_class(call: &Call) -> Option<Value> {
    let registry = call.server.registry();
    let kind = registry.resource("scheduling.k8s.io", "v1", "priorityclasses")?;
    let resource = call.server.cache_of(kind).resource(&kind.storage.dir)?;
    let classes = resource.snapshot(0).objects;
    let defaults =
        classes.values().map(|entry| entry.to_value()).filter(|class| class["globalDefault"] == true);
    defaults.min_by_key(|class| class["value"].as_i64().unwrap_or(0))
}

async fn named_class(call: &Call, pod: &Value, name: &str) -> Result<Value, ApiError> {
    let registry = call.server.registry();
    let kind =
        registry.resource("scheduling.k8s.io", "v1", "priorityclasses").ok_or_else(ApiError::no_such_path)?;
    if let Some(entry) = call.server.cached(kind, "", name) {
        return Ok(entry.to_value());
    }
    let entry = call.server.current(kind, "", name).await?;
    let missing = || forbidden(call, pod, &format!("no PriorityClass with name {name} was found"));
    entry.map(|entry| entry.to_value()).ok_or_else(missing)
}
