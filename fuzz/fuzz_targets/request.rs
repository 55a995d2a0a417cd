//! Any request: line by line method and target, headers, then the body, against a whole server in process.
#![no_main]

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use api::user::UserInfo;
use apiserver::{ApiServer, Config};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use libfuzzer_sys::fuzz_target;
use tokio::runtime::Runtime;
use tower::ServiceExt;

thread_local! {
    static SERVER: RefCell<Option<(Runtime, ApiServer)>> = const { RefCell::new(None) };
}

const METHODS: [Method; 5] = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
const TYPES: [&str; 7] = [
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];
const ACCEPTS: [&str; 4] = [
    "application/json",
    "application/vnd.kubernetes.protobuf",
    "application/json;as=Table;v=v1;g=meta.k8s.io",
    "application/yaml",
];

fuzz_target!(|data: &[u8]| {
    let [choice, kinds, rest @ ..] = data else { return };
    let Some(split) = rest.iter().position(|byte| *byte == b'\n') else { return };
    let Ok(target) = std::str::from_utf8(&rest[..split]) else { return };
    let request = Request::builder()
        .method(&METHODS[usize::from(*choice) % METHODS.len()])
        .uri(target)
        .header("content-type", TYPES[usize::from(kinds & 15) % TYPES.len()])
        .header("accept", ACCEPTS[usize::from(kinds >> 4) % ACCEPTS.len()])
        .body(Full::new(Bytes::copy_from_slice(&rest[split + 1..])));
    let Ok(mut request) = request else { return };
    request.extensions_mut().insert(UserInfo::component("fuzz"));
    SERVER.with_borrow_mut(|server| {
        let (runtime, server) = server.get_or_insert_with(|| {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let server = runtime.block_on(ApiServer::start(Config::new(Arc::new(store::Memory::new()))));
            (runtime, server.expect("a server"))
        });
        let server = server.clone();
        runtime.block_on(async move {
            let answer = server.oneshot(request).await.expect("errors are answers");
            assert_ne!(answer.status().as_u16(), 0);
            // A watch goes on; a moment of it is enough.
            let _ = tokio::time::timeout(Duration::from_millis(20), answer.into_body().collect()).await;
        });
    });
});
