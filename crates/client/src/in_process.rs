//! A `kube::Client` that calls a service in this process instead of a socket.

use std::task::{Context, Poll};

use api::user::UserInfo;
use bytes::Bytes;
use http::{Request, Response};
use kube::client::Body;
use tower::{BoxError, Service};

/// A client whose requests go straight into `service`, as `user`: same semantics as over the
/// network (authorization, admission), no TCP, no TLS. Upgrades (exec, port-forward) are not
/// possible over it.
pub fn in_process<S, B>(service: S, user: UserInfo) -> kube::Client
where
    S: Service<Request<Body>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    kube::Client::new(Identified { service, user }, "default")
}

/// Attaches an identity to every request.
struct Identified<S> {
    service: S,
    user: UserInfo,
}

impl<S: Service<Request<Body>>> Service<Request<Body>> for Identified<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> S::Future {
        request.extensions_mut().insert(self.user.clone());
        self.service.call(request)
    }
}
