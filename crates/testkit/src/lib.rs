//! Our API server in process, for the tests of everything that talks to it.
//!
//! It is the real server on the in-memory store, so tests assert on the state of the world instead
//! of on calls. Run them on tokio's paused clock: waiting costs no real time.

use std::sync::Arc;
use std::time::Duration;

use api::user::UserInfo;
use apiserver::{ApiServer, Config};
use client::Informers;
use k8s_openapi::NamespaceResourceScope;
use kube::api::{Api, PostParams};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// How long [`TestServer::eventually`] waits, in virtual time.
const PATIENCE: Duration = Duration::from_secs(600);

/// A running API server.
#[derive(Clone)]
pub struct TestServer {
    /// The server, for tests that need its own interface.
    pub server: ApiServer,
}

impl TestServer {
    /// A fresh server that has only its bootstrap objects.
    pub async fn start() -> Self {
        let config = Config::new(Arc::new(store::Memory::new()));
        Self { server: ApiServer::start(config).await.expect("a server on an empty memory store starts") }
    }

    /// A client with all rights.
    pub fn client(&self) -> kube::Client {
        self.client_as(UserInfo::component("testkit"))
    }

    /// A client as a certain user.
    pub fn client_as(&self, user: UserInfo) -> kube::Client {
        client::in_process(self.server.clone(), user)
    }

    /// Informers with all rights.
    pub fn informers(&self) -> Informers {
        Informers::new(self.client())
    }

    /// Creates an object from JSON, which must have apiVersion, kind and all that is required.
    /// A namespaced object without a namespace goes into `default`.
    pub async fn create<K>(&self, object: Value) -> K
    where
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + serde::Serialize
            + DeserializeOwned
            + Clone
            + std::fmt::Debug,
    {
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default").to_owned();
        let object: K = serde_json::from_value(object).expect("the fixture has the type's form");
        let api: Api<K> = Api::namespaced(self.client(), &namespace);
        api.create(&PostParams::default(), &object).await.expect("the fixture is accepted")
    }

    /// Waits until `holds` answers with something, looking every 10 ms of virtual time.
    ///
    /// # Panics
    /// When it has not after ten virtual minutes; `what` says what was awaited.
    pub async fn eventually<T, F>(&self, what: &str, mut holds: impl FnMut() -> F) -> T
    where
        F: Future<Output = Option<T>>,
    {
        let search = async {
            loop {
                if let Some(found) = holds().await {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, search).await {
            Ok(found) => found,
            Err(_) => panic!("waited in vain for: {what}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_informer_follows_the_server() {
        let server = TestServer::start().await;
        let informer = server.informers().of::<ConfigMap>();
        informer.synced().await;
        let fixture =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}});
        let created: ConfigMap = server.create(fixture).await;
        let seen = server
            .eventually("the informer sees the ConfigMap", || {
                let seen = informer.get("default", "a");
                async move { seen }
            })
            .await;
        assert_eq!(*seen, created);
    }
}
