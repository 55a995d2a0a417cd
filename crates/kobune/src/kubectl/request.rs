//! Requests without types.

use anyhow::{Result, anyhow};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::client::Body;
use serde::de::DeserializeOwned;

use super::describe;

/// GETs `path` and parses the JSON answer.
pub async fn fetch_json<T: DeserializeOwned>(client: &kube::Client, path: &str, accept: &str) -> Result<T> {
    Ok(serde_json::from_str(&fetch_text(client, path, accept).await?)?)
}

/// GETs `path` and returns the answer as text.
pub async fn fetch_text(client: &kube::Client, path: &str, accept: &str) -> Result<String> {
    Ok(send(client, Method::GET, path, accept, "application/json", Vec::new()).await?.1)
}

/// Sends a request; answers outside 2xx are errors with the server's message.
pub async fn send(
    client: &kube::Client,
    method: Method,
    path: &str,
    accept: &str,
    content_type: &str,
    body: Vec<u8>,
) -> Result<(StatusCode, String)> {
    let response = open(client, method, path, accept, content_type, body).await?;
    let status = response.status();
    let bytes =
        response.into_body().collect().await.map_err(|error| anyhow!("the answer broke off: {error}"))?;
    Ok((status, String::from_utf8_lossy(&bytes.to_bytes()).into_owned()))
}

/// Sends a request and returns the answer with its body still to be read.
pub async fn open(
    client: &kube::Client,
    method: Method,
    path: &str,
    accept: &str,
    content_type: &str,
    body: Vec<u8>,
) -> Result<Response<Body>> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::ACCEPT, accept)
        .header(http::header::CONTENT_TYPE, content_type)
        .body(Body::from(body))?;
    let response = client.send(request).await.map_err(|error| anyhow!(describe(&error)))?;
    for warning in response.headers().get_all("warning") {
        let text = warning.to_str().unwrap_or("");
        eprintln!("Warning: {}", text.split('"').nth(1).unwrap_or(text));
    }
    if response.status().is_success() {
        return Ok(response);
    }
    let code = response.status();
    let bytes = response.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    match serde_json::from_slice::<kube::core::Status>(&bytes) {
        Ok(status) => Err(anyhow::Error::new(kube::Error::Api(status.boxed()))),
        Err(_) => Err(anyhow!("{code}: {}", String::from_utf8_lossy(&bytes).trim())),
    }
}
