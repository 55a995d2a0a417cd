//! API aggregation: group versions that other servers serve, behind this one.
//!
//! APIService objects say which. Those without a service are served here; the `controller` keeps one for
//! every group version, and finds out whether the servers behind the others are there. Requests for those
//! are passed on, with the user's identity in headers that only a holder of our client certificate may
//! use. Discovery and OpenAPI documents are merged. After upstream's `kube-aggregator`.

mod available_check;
mod controller;
mod documents;
mod priorities;
mod proxy;
mod register;
mod remote;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::object::meta;
use crate::pki::Credentials;
use crate::request_info::RequestInfo;
use documents::Merged;
use remote::Remote;

pub(crate) use controller::start;
pub(crate) use documents::Found;
pub(crate) use proxy::forward;

const GROUP: &str = "apiregistration.k8s.io";
const PLURAL: &str = "apiservices";
const PREFIX: &str = "/registry/apiservices.apiregistration.k8s.io/";

/// How the API server shows itself to the servers behind it.
#[derive(Clone)]
pub struct ProxyClient {
    /// The client certificate it shows.
    pub client: Credentials,
    /// The common name in it.
    pub name: String,
    /// The authority that vouches for it.
    pub ca_pem: String,
    /// The authority of clients, which the servers behind may trust as well.
    pub client_ca_pem: String,
}

/// Which servers are behind this one.
pub(crate) struct Aggregation {
    client: Option<ProxyClient>,
    routes: RwLock<Arc<Routes>>,
    /// Whether there are any: requests need not look further otherwise.
    any: AtomicBool,
    /// Namespaces of the services behind, whose changes matter.
    namespaces: RwLock<BTreeSet<String>>,
    /// Counts changes of what is served, and of what the servers behind depend on.
    changes: watch::Sender<u64>,
    checks: watch::Sender<u64>,
}

/// The group versions that are served elsewhere.
#[derive(Default)]
pub(crate) struct Routes {
    by_version: BTreeMap<(String, String), Arc<Remote>>,
    /// The documents of all servers together, for the registry that they were merged for.
    merged: Mutex<Option<Arc<Merged>>>,
}

impl Aggregation {
    pub fn new(client: Option<ProxyClient>) -> Self {
        Self {
            client,
            routes: RwLock::default(),
            any: AtomicBool::new(false),
            namespaces: RwLock::default(),
            changes: watch::Sender::new(0),
            checks: watch::Sender::new(0),
        }
    }

    /// Takes over a change of the cache.
    pub fn apply(&self, key: &str) {
        if key.starts_with(PREFIX) {
            self.changed();
        } else if self.any.load(Ordering::Relaxed) && self.is_behind(key) {
            self.checks.send_modify(|count| *count += 1);
        }
    }

    /// What is served here has changed, or everything may have.
    pub fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
        self.checks.send_modify(|count| *count += 1);
    }

    /// Whether the object is of a kind and in a namespace that servers behind depend on.
    fn is_behind(&self, key: &str) -> bool {
        let rest = ["services/", "endpointslices.discovery.k8s.io/"]
            .iter()
            .find_map(|dir| key.strip_prefix("/registry/")?.strip_prefix(dir));
        let namespace = rest.and_then(|rest| rest.split_once('/')).map(|(namespace, _)| namespace);
        let namespaces = self.namespaces.read().unwrap_or_else(PoisonError::into_inner);
        namespace.is_some_and(|namespace| namespaces.contains(namespace))
    }

    /// The servers behind, if there are any.
    pub fn routes(&self) -> Option<Arc<Routes>> {
        self.any
            .load(Ordering::Relaxed)
            .then(|| self.routes.read().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Whoever serves what a request asks for, if it is not this server.
    pub fn route(&self, info: &RequestInfo) -> Option<Arc<Remote>> {
        let routes = self.routes()?;
        if info.is_resource {
            // An empty group would be core, which nobody else can serve.
            return routes.get(&info.group, &info.version);
        }
        let mut parts = info.path.trim_matches('/').split('/');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some("apis"), Some(group), Some(version), None) => routes.get(group, version),
            _ => None,
        }
    }

    fn set_routes(&self, remotes: &[Arc<Remote>]) {
        let namespaces = remotes.iter().map(|remote| remote.namespace.clone()).collect();
        *self.namespaces.write().unwrap_or_else(PoisonError::into_inner) = namespaces;
        let key = |remote: &Arc<Remote>| (remote.group.clone(), remote.version.clone());
        let by_version: BTreeMap<_, _> = remotes.iter().map(|remote| (key(remote), remote.clone())).collect();
        let any = !by_version.is_empty();
        let routes = Routes { by_version, merged: Mutex::default() };
        *self.routes.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(routes);
        self.any.store(any, Ordering::Relaxed);
    }
}

impl Routes {
    fn get(&self, group: &str, version: &str) -> Option<Arc<Remote>> {
        let mut remotes = self.by_version.range((group.to_owned(), version.to_owned())..);
        remotes.next().filter(|((g, v), _)| g == group && v == version).map(|(_, remote)| remote.clone())
    }

    fn remotes(&self) -> impl Iterator<Item = &Arc<Remote>> {
        self.by_version.values()
    }
}

/// The `Available` condition of an APIService.
fn available(status: &str, reason: &str, message: impl Into<String>) -> Value {
    json!({"type": "Available", "status": status, "reason": reason, "message": message.into()})
}

/// The condition of what is served here.
fn local() -> Value {
    available("True", "Local", "Local APIServices are always available")
}

fn condition(service: &Value) -> Option<&Value> {
    let conditions = service["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == "Available")
}

/// Sets the condition; its time changes with its status. False if it is so already.
fn set_condition(service: &mut Value, mut wanted: Value) -> bool {
    let present = condition(service);
    let same = |field: &str| present.is_some_and(|present| present[field] == wanted[field]);
    if ["status", "reason", "message"].into_iter().all(same) {
        return false;
    }
    wanted["lastTransitionTime"] = match present {
        Some(present) if present["status"] == wanted["status"] => present["lastTransitionTime"].clone(),
        _ => base::clock::rfc3339(base::clock::now()).into(),
    };
    let conditions = service["status"]["conditions"].as_array();
    let others = conditions.into_iter().flatten().filter(|other| other["type"] != "Available").cloned();
    let conditions: Vec<Value> = others.chain([wanted]).collect();
    service["status"] = json!({"conditions": conditions});
    true
}

/// `v1.apps`, as APIServices are called.
fn service_name(group: &str, version: &str) -> String {
    format!("{version}.{group}")
}

fn is_remote(service: &Value) -> bool {
    service["spec"]["service"].is_object() && meta(service, "name") != "v1."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_keep_their_time_while_their_status_stays() {
        let mut service = json!({"metadata": {"name": "v1.a"}, "status": {}});
        assert!(set_condition(&mut service, available("False", "ServiceNotFound", "a")));
        service["status"]["conditions"][0]["lastTransitionTime"] = "then".into();
        assert!(set_condition(&mut service, available("False", "MissingEndpoints", "b")));
        assert_eq!(service["status"]["conditions"][0]["lastTransitionTime"], "then");
        assert!(!set_condition(&mut service, available("False", "MissingEndpoints", "b")));
        assert!(set_condition(&mut service, local()));
        assert_ne!(service["status"]["conditions"][0]["lastTransitionTime"], "then");
        assert_eq!(service["status"]["conditions"].as_array().unwrap().len(), 1);
    }
}
