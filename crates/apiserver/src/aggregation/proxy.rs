//! Passes requests on to the servers behind, with the user's identity in headers.

use std::sync::Arc;
use std::time::Duration;

use api::user::UserInfo;
use bytes::Bytes;
use http::header::{HOST, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::upgrade::OnUpgrade;

use super::remote::Remote;
use crate::body::Body;
use crate::kubelet_proxy::{passed_on, stream_back, tunnel};
use crate::server::Inner;
use crate::service::plain;
use crate::webhook_client;

/// How long the server behind may take to begin its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
const USER: HeaderName = HeaderName::from_static("x-remote-user");
const UID: HeaderName = HeaderName::from_static("x-remote-uid");
const GROUP: HeaderName = HeaderName::from_static("x-remote-group");
const EXTRA_PREFIX: &str = "x-remote-extra-";

/// In whose name documents are asked for.
pub(super) fn aggregator() -> UserInfo {
    UserInfo {
        name: "system:kube-aggregator".to_owned(),
        groups: vec![api::user::MASTERS.to_owned()],
        ..UserInfo::default()
    }
}

/// Says who the user is.
pub(super) fn identify(headers: &mut HeaderMap, user: &UserInfo) {
    let value = |text: &str| HeaderValue::from_str(text).ok();
    let stale: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("x-remote-")).cloned().collect();
    for name in stale {
        headers.remove(name);
    }
    headers.extend(value(&user.name).map(|name| (USER, name)));
    if !user.uid.is_empty() {
        headers.extend(value(&user.uid).map(|uid| (UID, uid)));
    }
    for group in user.groups.iter().filter_map(|group| value(group)) {
        headers.append(GROUP, group);
    }
    for (key, values) in &user.extra {
        let Ok(name) = HeaderName::try_from(format!("{EXTRA_PREFIX}{}", escape(key))) else { continue };
        for value in values.iter().filter_map(|text| value(text)) {
            headers.append(name.clone(), value);
        }
    }
}

/// A key as a part of a header's name: lower case, and what has no place there in percent signs.
fn escape(key: &str) -> String {
    let mut escaped = String::with_capacity(key.len());
    for byte in key.to_ascii_lowercase().bytes() {
        if byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02x}"));
        }
    }
    escaped
}

fn failure(code: StatusCode, why: &str) -> Response<Body> {
    plain(code, format!("{why}\n"))
}

/// Passes a request on to the server behind.
pub(crate) async fn forward(
    server: &Arc<Inner>,
    remote: &Remote,
    user: &UserInfo,
    parts: &mut Parts,
    body: Bytes,
) -> Response<Body> {
    let unavailable = || failure(StatusCode::SERVICE_UNAVAILABLE, "service unavailable");
    if !remote.available {
        return unavailable();
    }
    let pool = match &remote.pool {
        Ok(pool) => pool,
        Err(why) => return failure(StatusCode::INTERNAL_SERVER_ERROR, why),
    };
    if webhook_client::resolve(server, &remote.namespace, &remote.service, remote.port).is_err() {
        return unavailable();
    }
    let authority = format!("{}.{}.svc:{}", remote.service, remote.namespace, remote.port);
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let Ok(uri) = format!("https://{authority}{path}").parse() else {
        return failure(StatusCode::BAD_REQUEST, "the path cannot be proxied");
    };
    let upgrade = parts.extensions.remove::<OnUpgrade>().filter(|_| parts.headers.contains_key(UPGRADE));
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = uri;
    *request.headers_mut() = passed_on(&parts.headers, upgrade.is_some());
    identify(request.headers_mut(), user);
    if let Ok(host) = HeaderValue::from_str(&authority) {
        request.headers_mut().insert(HOST, host);
    }
    let mut response = match tokio::time::timeout(ANSWER_TIMEOUT, pool.request(request)).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => {
            return failure(StatusCode::SERVICE_UNAVAILABLE, &webhook_client::describe(&error));
        }
        Err(_) => return failure(StatusCode::SERVICE_UNAVAILABLE, "context deadline exceeded"),
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(client) = upgrade
    {
        tokio::spawn(tunnel(client, hyper::upgrade::on(&mut response)));
        let mut answer = Response::new(Body::empty());
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *answer.headers_mut() = response.headers().clone();
        return answer;
    }
    stream_back(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_is_ours_to_say() {
        let mut headers = HeaderMap::new();
        headers.insert(USER, HeaderValue::from_static("admin"));
        headers.insert(HeaderName::from_static("x-remote-extra-a"), HeaderValue::from_static("b"));
        let mut user = UserInfo::new("alice", &["dev"]);
        user.extra.insert("example.com/Scope".to_owned(), vec!["x".to_owned()]);
        identify(&mut headers, &user);
        let mut shown: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap())).collect();
        shown.sort();
        assert_eq!(
            shown,
            [
                "x-remote-extra-example.com%2fscope=x",
                "x-remote-group=dev",
                "x-remote-group=system:authenticated",
                "x-remote-user=alice"
            ]
        );
    }
}
