//! The server: its parts, its start, and the tower Service in front.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use store::{Memory, Store, StoreError, Write};
use tokio::sync::watch;

use crate::admission::dynamic::Dynamic;
use crate::admission::quota::ledger::Ledger;
use crate::admission::services::Allocator;
use crate::aggregation::{self, Aggregation, ProxyClient};
use crate::audit::{AuditConfig, Auditor};
use crate::authn::{AuthenticationConfig, Authenticator, Token};
use crate::authz::Authorizer;
use crate::body::{Body, BoxError};
use crate::cache::{Observer, WatchCache};
use crate::counters::Counters;
use crate::crd;
use crate::encryption::{Encrypted, EncryptionConfig, Staleness};
use crate::expiry::Expiry;
use crate::flow::{self, Flow};
use crate::kind::{Backend, Kind, Registry};
use crate::kubelet_proxy::Kubelets;
use crate::pki::Credentials;
use crate::service;
use crate::webhook_client::WebhookClients;

/// What an API server is started with.
pub struct Config {
    /// Where objects live.
    pub store: Arc<dyn Store>,
    /// The kinds to serve.
    pub registry: Registry,
    /// Addresses of services, such as `10.96.0.0/16`; the first one is the API server's.
    pub service_cidr: String,
    /// Static bearer tokens.
    pub tokens: Vec<Token>,
    /// Signs service-account tokens: RSA or ECDSA keys in PEM. The first signs, all verify, so that keys
    /// can be exchanged. Empty: one for this run.
    pub service_account_key_pem: String,
    /// What is recorded of requests; nothing if there is none.
    pub audit: Option<AuditConfig>,
    /// What is encrypted in the store. With the default nothing is, and nothing encrypted can be read.
    pub encryption: EncryptionConfig,
    /// Other ways to find out who sends a request.
    pub authentication: AuthenticationConfig,
    /// How kubelets are reached; without it logs and exec answer 503.
    pub kubelets: Option<KubeletAccess>,
    /// Whether requests without credentials may get as far as authorization.
    pub anonymous: bool,
    /// Address and port at which the `kubernetes` service ends, as clients outside see them.
    pub advertise: Option<SocketAddr>,
    /// How many requests from outside are worked on at once (upstream's `--max-requests-inflight` and
    /// `--max-mutating-requests-inflight` together).
    pub concurrency: u32,
    /// How the server shows itself to the servers of aggregated APIs.
    pub proxy_client: Option<ProxyClient>,
}

/// How the API server connects to kubelets.
#[derive(Clone)]
pub struct KubeletAccess {
    /// The client certificate it shows.
    pub client: Credentials,
    /// The authority of the kubelets' certificates.
    pub ca_pem: String,
}

impl Config {
    /// The usual settings over `store`.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            registry: Registry::with_platform(),
            service_cidr: "10.96.0.0/16".to_owned(),
            tokens: Vec::new(),
            service_account_key_pem: String::new(),
            encryption: EncryptionConfig::default(),
            authentication: AuthenticationConfig::default(),
            audit: None,
            kubelets: None,
            anonymous: true,
            advertise: None,
            concurrency: flow::SEATS,
            proxy_client: None,
        }
    }
}

/// The API server. Clones share everything.
#[derive(Clone)]
pub struct ApiServer(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    registry: RwLock<Arc<Registry>>,
    durable: Arc<WatchCache>,
    ephemeral: Arc<WatchCache>,
    pub authorizer: Arc<Authorizer>,
    pub services: Arc<Allocator>,
    pub quotas: Arc<Ledger>,
    pub expiry: Arc<Expiry>,
    pub shutdown: watch::Sender<bool>,
    pub authn: Authenticator,
    pub staleness: Staleness,
    pub auditor: Option<Arc<Auditor>>,
    pub kubelets: Option<Kubelets>,
    pub counters: Counters,
    /// Webhooks and policies.
    pub dynamic_admission: Arc<Dynamic>,
    /// Whose turn it is.
    pub flow: Arc<Flow>,
    /// Who serves what is not served here.
    pub aggregation: Arc<Aggregation>,
    /// Connections to webhooks.
    pub webhook_clients: WebhookClients,
    /// How clients outside reach the server.
    pub external_url: String,
}

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A setting makes no sense.
    #[error("{0}")]
    Config(String),
}

impl ApiServer {
    /// Loads the store, starts to follow it and creates the objects that every cluster has.
    ///
    /// # Errors
    /// When the store cannot be read or written, or a setting makes no sense.
    pub async fn start(mut config: Config) -> Result<Self, StartError> {
        let authn = Authenticator::new(&mut config).map_err(StartError::Config)?;
        let store = Encrypted::new(config.store.clone(), std::mem::take(&mut config.encryption));
        let staleness = store.staleness();
        let auditor = config.audit.take().map(Auditor::new).transpose();
        let auditor = auditor.map_err(|error| StartError::Config(format!("the audit log: {error}")))?;
        let kinds = |backend| {
            let kinds: Vec<Arc<Kind>> =
                config.registry.stored().filter(|kind| kind.storage.backend == backend).cloned().collect();
            kinds
        };
        let kubelets = config.kubelets.as_ref().map(Kubelets::new).transpose();
        let kubelets = kubelets.map_err(|error| StartError::Config(error.to_string()))?;
        let external_url = match config.advertise {
            Some(address) => format!("https://{address}"),
            None => "https://kubernetes.default.svc".to_owned(),
        };
        let authorizer = Arc::new(Authorizer::default());
        let services = Arc::new(Allocator::new(&config.service_cidr).map_err(StartError::Config)?);
        let expiry = Arc::new(Expiry::default());
        let definitions = Arc::new(crd::Queue::default());
        let dynamic_admission = Arc::new(Dynamic::default());
        let flow = Arc::new(Flow::new(config.concurrency));
        let aggregation = Arc::new(Aggregation::new(config.proxy_client.take()));
        let observers = Observers {
            authorizer: authorizer.clone(),
            services: services.clone(),
            expiry: expiry.clone(),
            definitions: definitions.clone(),
            dynamic_admission: dynamic_admission.clone(),
            flow: flow.clone(),
            aggregation: aggregation.clone(),
        };
        let durable =
            WatchCache::start(Arc::new(store), Some(Arc::new(observers)), kinds(Backend::Durable)).await?;
        // Above every revision of an earlier life, whose watchers would otherwise miss what comes first:
        // no life writes as often as once in a microsecond.
        let start = u64::try_from(base::clock::now().as_microsecond()).unwrap_or(0);
        let memory = Arc::new(Memory::starting_at(start));
        // Revision 0 would mean "any" to clients, so the first list must come after one write.
        memory.commit(Write::put("/registry/.start", store::Compare::Any, Bytes::from_static(b"{}"))).await?;
        let ephemeral = WatchCache::start(memory, None, kinds(Backend::Ephemeral)).await?;
        let inner = Arc::new_cyclic(|weak| Inner {
            registry: RwLock::new(Arc::new(config.registry)),
            durable,
            ephemeral,
            authorizer,
            services,
            quotas: Arc::default(),
            expiry,
            shutdown: watch::Sender::new(false),
            authn,
            staleness,
            auditor: auditor.map(Arc::new),
            kubelets,
            counters: Counters::default(),
            dynamic_admission,
            flow,
            aggregation,
            webhook_clients: WebhookClients::new(weak.clone()),
            external_url,
        });
        crate::bootstrap::create(&inner, config.advertise).await?;
        flow::start(&inner).await;
        crd::start(&inner, definitions).await;
        aggregation::start(&inner).await;
        tokio::spawn(crate::bootstrap::keep(Arc::downgrade(&inner), config.advertise));
        tokio::spawn(crate::expiry::run(Arc::downgrade(&inner)));
        tokio::spawn(crate::compaction::run(Arc::downgrade(&inner)));
        let freed = inner.services.freed.clone();
        tokio::spawn(crate::admission::service_addresses::run(Arc::downgrade(&inner), freed));
        Ok(Self(inner))
    }

    /// Ends all watches, so that connections can close.
    pub fn shut_down(&self) {
        self.0.shutdown.send_replace(true);
        if let Some(auditor) = &self.0.auditor {
            auditor.flush();
        }
    }
}

/// What follows the durable cache.
struct Observers {
    authorizer: Arc<Authorizer>,
    services: Arc<Allocator>,
    expiry: Arc<Expiry>,
    definitions: Arc<crd::Queue>,
    dynamic_admission: Arc<Dynamic>,
    flow: Arc<Flow>,
    aggregation: Arc<Aggregation>,
}

impl Observer for Observers {
    fn apply(&self, key: &str, value: Option<&[u8]>) {
        Observer::apply(&*self.authorizer, key, value);
        self.services.apply(key, value);
        self.expiry.apply(key, value.is_some());
        self.definitions.apply(key, value.is_some());
        self.dynamic_admission.apply(key, value);
        self.flow.apply(key);
        self.aggregation.apply(key);
    }

    fn reset(&self) {
        Observer::reset(&*self.authorizer);
        self.services.clear();
        self.definitions.reset();
        self.dynamic_admission.clear();
        self.flow.changed();
        self.aggregation.changed();
    }
}

impl Inner {
    /// The kinds served now.
    pub fn registry(&self) -> Arc<Registry> {
        self.registry.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Serves other kinds from now on.
    pub fn set_registry(&self, registry: Registry) {
        *self.registry.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(registry);
        self.aggregation.changed();
    }

    /// The cache of what is kept.
    pub fn durable(&self) -> &Arc<WatchCache> {
        &self.durable
    }

    /// The cache that holds a kind.
    pub fn cache_of(&self, kind: &Kind) -> &Arc<WatchCache> {
        match kind.storage.backend {
            Backend::Ephemeral => &self.ephemeral,
            Backend::Durable | Backend::Virtual => &self.durable,
        }
    }
}

impl<B> tower::Service<Request<B>> for ApiServer
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let inner = self.0.clone();
        Box::pin(async move { Ok(service::handle(inner, request).await) })
    }
}
