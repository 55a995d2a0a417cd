//! The server: its parts, its start, and the tower Service in front.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};

use api::user::UserInfo;
use bytes::Bytes;
use http::{Request, Response};
use store::{Memory, Store, StoreError, Write};
use tokio::sync::watch;

use crate::admission::services::Allocator;
use crate::authn::service_account::Signer;
use crate::authn::{Token, Tokens};
use crate::authz::Authorizer;
use crate::body::{Body, BoxError};
use crate::cache::{Observer, WatchCache};
use crate::counters::Counters;
use crate::expiry::Expiry;
use crate::kind::{Backend, Kind, Registry};
use crate::kubelet_proxy::Kubelets;
use crate::pki::Credentials;
use crate::service;

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
    /// Signs service-account tokens: an ECDSA P-256 key in PEM. Empty: one for this run.
    pub service_account_key_pem: String,
    /// How kubelets are reached; without it logs and exec answer 503.
    pub kubelets: Option<KubeletAccess>,
    /// Whether requests without credentials may get as far as authorization.
    pub anonymous: bool,
    /// Address and port at which the `kubernetes` service ends, as clients outside see them.
    pub advertise: Option<SocketAddr>,
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
            kubelets: None,
            anonymous: true,
            advertise: None,
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
    pub expiry: Arc<Expiry>,
    pub shutdown: watch::Sender<bool>,
    pub tokens: Tokens,
    pub signer: Signer,
    pub anonymous: Arc<UserInfo>,
    pub anonymous_allowed: bool,
    pub kubelets: Option<Kubelets>,
    pub counters: Counters,
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
        if config.service_account_key_pem.is_empty() {
            let key = rcgen::KeyPair::generate().map_err(|error| StartError::Config(error.to_string()))?;
            config.service_account_key_pem = key.serialize_pem();
        }
        let signer = Signer::new(&config.service_account_key_pem).map_err(StartError::Config)?;
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
        let observers =
            Observers { authorizer: authorizer.clone(), services: services.clone(), expiry: expiry.clone() };
        let durable =
            WatchCache::start(config.store.clone(), Some(Arc::new(observers)), kinds(Backend::Durable))
                .await?;
        crate::authz::request::attach(&authorizer, &durable);
        // Above every revision of an earlier life, whose watchers would otherwise miss what comes first:
        // no life writes as often as once in a microsecond.
        let start = u64::try_from(base::clock::now().as_microsecond()).unwrap_or(0);
        let memory = Arc::new(Memory::starting_at(start));
        // Revision 0 would mean "any" to clients, so the first list must come after one write.
        memory.commit(Write::put("/registry/.start", store::Compare::Any, Bytes::from_static(b"{}"))).await?;
        let ephemeral = WatchCache::start(memory, None, kinds(Backend::Ephemeral)).await?;
        let inner = Arc::new(Inner {
            registry: RwLock::new(Arc::new(config.registry)),
            durable,
            ephemeral,
            authorizer,
            services,
            expiry,
            shutdown: watch::Sender::new(false),
            tokens: config.tokens.into_iter().map(|token| (token.token, Arc::new(token.user))).collect(),
            signer,
            anonymous: Arc::new(crate::authn::anonymous()),
            anonymous_allowed: config.anonymous,
            kubelets,
            counters: Counters::default(),
            external_url,
        });
        crate::bootstrap::create(&inner, config.advertise).await?;
        tokio::spawn(crate::expiry::run(Arc::downgrade(&inner)));
        Ok(Self(inner))
    }

    /// Ends all watches, so that connections can close.
    pub fn shut_down(&self) {
        self.0.shutdown.send_replace(true);
    }
}

/// What follows the durable cache.
struct Observers {
    authorizer: Arc<Authorizer>,
    services: Arc<Allocator>,
    expiry: Arc<Expiry>,
}

impl Observer for Observers {
    fn apply(&self, key: &str, value: Option<&[u8]>) {
        Observer::apply(&*self.authorizer, key, value);
        self.services.apply(key, value);
        self.expiry.apply(key, value.is_some());
    }

    fn reset(&self) {
        Observer::reset(&*self.authorizer);
        self.services.clear();
    }
}

impl Inner {
    /// The kinds served now.
    pub fn registry(&self) -> Arc<Registry> {
        self.registry.read().unwrap_or_else(PoisonError::into_inner).clone()
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
