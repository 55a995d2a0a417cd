//! What is added to pods: service account, tolerations, priority.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::lookup::{PRIORITY_CLASSES, SERVICE_ACCOUNTS, path_fault};
use super::{Attributes, Operation, references};
use crate::call::Call;
use crate::object::meta;
use crate::status::ApiError;

const MIRROR: &str = "kubernetes.io/config.mirror";
const TOKEN_MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const TOKEN_VOLUME: &str = "kube-api-access-";
/// An hour and a little, by which such tokens are told from others.
const TOKEN_SECONDS: i64 = 3607;
const ENFORCE_SECRETS: &str = "kubernetes.io/enforce-mountable-secrets";

/// How often, and how far apart, the default account of a new namespace is looked for.
const ATTEMPTS: usize = 10;
const INTERVAL: Duration = Duration::from_millis(150);

fn is_mirror(pod: &Value) -> bool {
    pod["metadata"]["annotations"].get(MIRROR).is_some()
}

/// ServiceAccount: the account, its pull secrets, and the volume with its token.
pub(super) async fn service_account(attributes: &Attributes<'_>, pod: &mut Value) -> Result<(), ApiError> {
    if attributes.operation != Operation::Create || !attributes.is("", "pods") {
        return Ok(());
    }
    if is_mirror(pod) {
        return check_service_account(attributes, pod).await;
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
    let account = account(attributes, pod, &name).await?;
    if pod["spec"]["automountServiceAccountToken"].as_bool().or(account.automount).unwrap_or(true) {
        mount_token(&mut pod["spec"]);
    }
    if pod["spec"]["imagePullSecrets"].as_array().is_none_or(Vec::is_empty)
        && !account.pull_secrets.is_empty()
    {
        let secrets = account.pull_secrets.iter().map(|name| json!({"name": name}));
        pod["spec"]["imagePullSecrets"] = secrets.collect();
    }
    check_service_account(attributes, pod).await
}

/// What a service account says about its pods.
struct Account {
    automount: Option<bool>,
    pull_secrets: Vec<String>,
    /// The secrets that pods may use, if they may use no others.
    mountable: Option<Vec<String>>,
}

impl Account {
    fn parse(account: &Value) -> Self {
        let names = |field: &str| {
            let list = account[field].as_array().into_iter().flatten();
            list.filter_map(|item| item["name"].as_str().map(str::to_owned)).collect::<Vec<_>>()
        };
        let enforced = account["metadata"]["annotations"][ENFORCE_SECRETS].as_str();
        let enforced = matches!(enforced, Some("1" | "t" | "T" | "true" | "TRUE" | "True"));
        Self {
            automount: account["automountServiceAccountToken"].as_bool(),
            pull_secrets: names("imagePullSecrets"),
            mountable: enforced.then(|| names("secrets")),
        }
    }
}

/// The account of that name. The default one is made by a controller, which may need a moment.
async fn account(attributes: &Attributes<'_>, pod: &Value, name: &str) -> Result<Arc<Account>, ApiError> {
    let namespace = attributes.namespace;
    let attempts = if name == "default" { ATTEMPTS } else { 1 };
    for attempt in 0..attempts {
        if attempt > 0 {
            tokio::time::sleep(INTERVAL).await;
        }
        if let Some(entry) = SERVICE_ACCOUNTS.get(attributes.call, namespace, name).await? {
            return Ok(entry.parsed(Account::parse));
        }
    }
    let found = path_fault(name).unwrap_or_else(|| format!("serviceaccount {name:?} not found"));
    let why = format!("error looking up service account {namespace}/{name}: {found}");
    Err(attributes.forbidden(pod, why))
}

/// What pods may use of their account.
pub(super) async fn check_service_account(attributes: &Attributes<'_>, pod: &Value) -> Result<(), ApiError> {
    if !attributes.is_resource("", "pods") {
        return Ok(());
    }
    let ephemeral = match (attributes.operation, attributes.subresource) {
        (Operation::Create, "") => false,
        (Operation::Update, "ephemeralcontainers") => true,
        _ => return Ok(()),
    };
    let name = pod["spec"]["serviceAccountName"].as_str().unwrap_or_default();
    if !ephemeral && is_mirror(pod) {
        return match mirror_fault(pod, name) {
            Some(why) => Err(attributes.forbidden(pod, why)),
            None => Ok(()),
        };
    }
    if name.is_empty() {
        let why =
            format!("no service account specified for pod {}/{}", attributes.namespace, meta(pod, "name"));
        return Err(attributes.forbidden(pod, why));
    }
    let account = account(attributes, pod, name).await?;
    let Some(mountable) = &account.mountable else { return Ok(()) };
    let fault = secret_fault(&pod["spec"], name, &account, mountable, ephemeral);
    match fault {
        None => Ok(()),
        // Upstream forgets to say "forbidden" here.
        Some(why) if ephemeral => {
            Err(ApiError { code: 500, reason: "".into(), ..ApiError::bad_request(why) })
        }
        Some(why) => Err(attributes.forbidden(pod, why)),
    }
}

fn mirror_fault(pod: &Value, account: &str) -> Option<&'static str> {
    if !account.is_empty() {
        return Some("a mirror pod may not reference service accounts");
    }
    if references::has_secrets(pod) {
        return Some("a mirror pod may not reference secrets");
    }
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    let mut sources =
        volumes.flat_map(|volume| volume["projected"]["sources"].as_array().into_iter().flatten());
    sources
        .any(|source| source["serviceAccountToken"].is_object())
        .then_some("a mirror pod may not use ServiceAccountToken volume projections")
}

/// The first secret that the account does not allow.
fn secret_fault(
    spec: &Value,
    account_name: &str,
    account: &Account,
    mountable: &[String],
    ephemeral: bool,
) -> Option<String> {
    let refused = |name: &Value| {
        let name = name.as_str().unwrap_or_default();
        (!mountable.iter().any(|known| known == name)).then(|| name.to_owned())
    };
    let tail = format!("is not allowed because service account {account_name} does not reference that");
    let items = |list: &'_ Value| list.as_array().cloned().unwrap_or_default();
    if !ephemeral {
        for volume in items(&spec["volumes"]).iter().filter(|volume| volume["secret"].is_object()) {
            if let Some(name) = refused(&volume["secret"]["secretName"]) {
                return Some(format!("volume with secret.secretName=\"{name}\" {tail} secret"));
            }
        }
    }
    let lists: &[(&str, &str)] = if ephemeral {
        &[("ephemeralContainers", "ephemeral container")]
    } else {
        &[("initContainers", "init container"), ("containers", "container")]
    };
    for (field, word) in lists {
        for container in items(&spec[*field]) {
            let who = format!("{word} {}", container["name"].as_str().unwrap_or_default());
            for env in items(&container["env"]) {
                let key = &env["valueFrom"]["secretKeyRef"];
                if let Some(name) = refused(&key["name"]).filter(|_| key.is_object()) {
                    let env = env["name"].as_str().unwrap_or_default();
                    return Some(format!(
                        "{who} with envVar {env} referencing secret.secretName=\"{name}\" {tail} secret"
                    ));
                }
            }
            for source in items(&container["envFrom"]) {
                let secret = &source["secretRef"];
                if let Some(name) = refused(&secret["name"]).filter(|_| secret.is_object()) {
                    return Some(format!(
                        "{who} with envFrom referencing secret.secretName=\"{name}\" {tail} secret"
                    ));
                }
            }
        }
    }
    let pull_secrets = if ephemeral { Vec::new() } else { items(&spec["imagePullSecrets"]) };
    pull_secrets.iter().enumerate().find_map(|(index, secret)| {
        let name = secret["name"].as_str().unwrap_or_default();
        let known = account.pull_secrets.iter().any(|known| known == name);
        (!known).then(|| format!("imagePullSecrets[{index}].name=\"{name}\" {tail} imagePullSecret"))
    })
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
pub(super) fn tolerations(attributes: &Attributes<'_>, pod: &mut Value) {
    if !is_written_pod(attributes) {
        return;
    }
    let covers = |toleration: &Value, key: &str| {
        let text = |field: &str| toleration[field].as_str().unwrap_or_default();
        matches!(text("effect"), "" | "NoExecute") && (text("key") == key || text("key").is_empty())
    };
    let given = pod["spec"]["tolerations"].as_array().cloned().unwrap_or_default();
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        if !given.iter().any(|toleration| covers(toleration, key)) {
            let toleration =
                json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
            push(&mut pod["spec"]["tolerations"], toleration);
        }
    }
}

fn is_written_pod(attributes: &Attributes<'_>) -> bool {
    matches!(attributes.operation, Operation::Create | Operation::Update) && attributes.is("", "pods")
}

/// A PriorityClass, parsed.
struct Class {
    name: String,
    value: i64,
    policy: Option<String>,
    is_default: bool,
}

impl Class {
    fn parse(class: &Value) -> Self {
        Self {
            name: meta(class, "name").to_owned(),
            value: class["value"].as_i64().unwrap_or(0),
            policy: class["preemptionPolicy"].as_str().map(str::to_owned),
            is_default: class["globalDefault"] == true,
        }
    }
}

/// Priority: from the class, or the default class.
pub(super) async fn priority(attributes: &Attributes<'_>, pod: &mut Value) -> Result<(), ApiError> {
    if !is_written_pod(attributes) {
        return Ok(());
    }
    if attributes.operation == Operation::Update {
        for field in ["priority", "preemptionPolicy"] {
            if let Some(value) = attributes.old.and_then(|old| old["spec"].get(field))
                && pod["spec"].get(field).is_none()
            {
                pod["spec"][field] = value.clone();
            }
        }
        return Ok(());
    }
    let name = pod["spec"]["priorityClassName"].as_str().unwrap_or_default();
    let class = if name.is_empty() {
        default_class(attributes.call)
    } else {
        let entry = PRIORITY_CLASSES.get(attributes.call, "", name).await?;
        let missing = || attributes.forbidden(pod, format!("no PriorityClass with name {name} was found"));
        Some(entry.ok_or_else(missing)?.parsed(Class::parse))
    };
    let (value, policy) = match &class {
        Some(class) => (class.value, class.policy.as_deref()),
        None => (0, Some("PreemptLowerPriority")),
    };
    if let Some(given) = pod["spec"]["priority"].as_i64().filter(|given| *given != value) {
        let why = format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name"
        );
        return Err(attributes.forbidden(pod, why));
    }
    if let (Some(given), Some(policy)) = (pod["spec"]["preemptionPolicy"].as_str(), policy)
        && given != policy
    {
        let why = format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
        );
        return Err(attributes.forbidden(pod, why));
    }
    if let Some(class) = class.as_ref().filter(|_| name.is_empty()) {
        pod["spec"]["priorityClassName"] = class.name.as_str().into();
    }
    pod["spec"]["priority"] = value.into();
    if let Some(policy) = policy {
        pod["spec"]["preemptionPolicy"] = policy.into();
    }
    Ok(())
}

/// The default class with the lowest value, should there be several.
fn default_class(call: &Call) -> Option<Arc<Class>> {
    let classes = PRIORITY_CLASSES.list(call, "").into_iter().map(|entry| entry.parsed(Class::parse));
    classes.filter(|class| class.is_default).min_by_key(|class| class.value)
}

/// There is one default class at most.
pub(super) fn check_class(attributes: &Attributes<'_>, class: &Value) -> Result<(), ApiError> {
    let written = matches!(attributes.operation, Operation::Create | Operation::Update);
    if !written || !attributes.is("scheduling.k8s.io", "priorityclasses") || class["globalDefault"] != true {
        return Ok(());
    }
    match default_class(attributes.call) {
        Some(other) if attributes.operation == Operation::Create || other.name != meta(class, "name") => {
            let why = format!(
                "PriorityClass {} is already marked as default. Only one default can exist",
                other.name
            );
            Err(attributes.forbidden(class, why))
        }
        _ => Ok(()),
    }
}
