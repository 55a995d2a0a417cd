//! The server: its parts, its start, and the tower Service in front.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use store::{Memory, Store, StoreError, Write};
use tokio::sync::watch;

use crate::body::{Body, BoxError};
use crate::cache::WatchCache;
use crate::kind::{Backend, Kind, Registry};
use crate::service;

/// What an API server is started with.
pub struct Config {
    /// Where objects live.
    pub store: Arc<dyn Store>,
    /// The kinds to serve.
    pub registry: Registry,
    /// Addresses of services, such as `10.96.0.0/16`; the first one is the API server's.
    pub service_cidr: String,
}

impl Config {
    /// The usual settings over `store`.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, registry: Registry::with_platform(), service_cidr: "10.96.0.0/16".to_owned() }
    }
}

/// The API server. Clones share everything.
#[derive(Clone)]
pub struct ApiServer(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    registry: RwLock<Arc<Registry>>,
    durable: Arc<WatchCache>,
    ephemeral: Arc<WatchCache>,
    pub shutdown: watch::Sender<bool>,
}

impl ApiServer {
    /// Loads the store, starts to follow it and creates the objects that every cluster has.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub async fn start(config: Config) -> Result<Self, StoreError> {
        let kinds = |backend| {
            let kinds: Vec<Arc<Kind>> =
                config.registry.stored().filter(|kind| kind.storage.backend == backend).cloned().collect();
            kinds
        };
        let durable = WatchCache::start(config.store.clone(), kinds(Backend::Durable)).await?;
        let memory = Arc::new(Memory::new());
        // Revision 0 would mean "any" to clients, so the first list must come after one write.
        memory.commit(Write::put("/registry/.start", store::Compare::Any, Bytes::from_static(b"{}"))).await?;
        let ephemeral = WatchCache::start(memory, kinds(Backend::Ephemeral)).await?;
        let inner = Arc::new(Inner {
            registry: RwLock::new(Arc::new(config.registry)),
            durable,
            ephemeral,
            shutdown: watch::Sender::new(false),
        });
        crate::bootstrap::create(&inner, &config.service_cidr).await?;
        Ok(Self(inner))
    }

    /// Ends all watches, so that connections can close.
    pub fn shut_down(&self) {
        self.0.shutdown.send_replace(true);
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
