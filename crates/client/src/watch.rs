//! Raw list and watch: bytes in, lines out. Generic code above parses them once per object.

use bytes::{Buf, Bytes, BytesMut};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use http::Request;
use http_body_util::BodyExt;
use kube::client::Body;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Lines longer than this end the watch; no object is that large.
const LINE_BYTES_MAX: usize = 64 << 20;

/// One page of a list: its items as raw JSON.
#[derive(Deserialize)]
pub(crate) struct Page<'a> {
    #[serde(default)]
    pub metadata: PageMeta,
    #[serde(borrow, default)]
    pub items: Vec<&'a RawValue>,
}

/// The list metadata that matters for going on.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PageMeta {
    #[serde(default)]
    pub resource_version: String,
    #[serde(default)]
    pub r#continue: String,
}

/// A watch event before its object is parsed.
#[derive(Deserialize)]
pub(crate) struct RawEvent<'a> {
    pub r#type: &'a str,
    #[serde(borrow)]
    pub object: &'a RawValue,
}

/// Fetches `uri` and returns the whole body; an error answer becomes `kube::Error::Api`.
pub(crate) async fn fetch(client: &kube::Client, uri: &str) -> Result<Bytes, kube::Error> {
    let response = client.send(get(uri)?).await?;
    let success = response.status().is_success();
    let body = response.into_body().collect().await.map_err(|error| kube::Error::Service(error.into()))?;
    let bytes = body.to_bytes();
    if success { Ok(bytes) } else { Err(api_error(&bytes)) }
}

/// Opens the watch at `uri` and returns its lines in chunks as they arrive.
pub(crate) async fn lines(
    client: &kube::Client,
    uri: &str,
) -> Result<impl Stream<Item = Result<Vec<Bytes>, kube::Error>> + use<>, kube::Error> {
    let response = client.send(get(uri)?).await?;
    if !response.status().is_success() {
        let body =
            response.into_body().collect().await.map_err(|error| kube::Error::Service(error.into()))?;
        return Err(api_error(&body.to_bytes()));
    }
    let chunks = response.into_body().into_data_stream().map_err(|error| kube::Error::Service(error.into()));
    Ok(stream::unfold((chunks.boxed(), BytesMut::new()), |(mut chunks, mut partial)| async move {
        loop {
            let chunk = match chunks.next().await? {
                Ok(chunk) => chunk,
                Err(error) => return Some((Err(error), (chunks, partial))),
            };
            let lines = split_lines(&mut partial, chunk);
            if partial.len() > LINE_BYTES_MAX {
                return Some((Err(kube::Error::LinesCodecMaxLineLengthExceeded), (chunks, partial)));
            }
            if !lines.is_empty() {
                return Some((Ok(lines), (chunks, partial)));
            }
        }
    }))
}

/// Complete lines of `partial` followed by `chunk`; the rest stays in `partial`.
fn split_lines(partial: &mut BytesMut, mut chunk: Bytes) -> Vec<Bytes> {
    let mut lines = Vec::new();
    while let Some(end) = memchr::memchr(b'\n', &chunk) {
        let head = chunk.split_to(end);
        chunk.advance(1);
        if partial.is_empty() {
            lines.push(head);
        } else {
            partial.extend_from_slice(&head);
            lines.push(partial.split().freeze());
        }
    }
    partial.extend_from_slice(&chunk);
    lines
}

fn get(uri: &str) -> Result<Request<Body>, kube::Error> {
    Request::get(uri)
        .header(http::header::ACCEPT, "application/json")
        .body(Body::empty())
        .map_err(|error| kube::Error::Service(error.into()))
}

fn api_error(body: &[u8]) -> kube::Error {
    match serde_json::from_slice::<kube::core::Status>(body) {
        Ok(status) => kube::Error::Api(status.boxed()),
        Err(error) => kube::Error::SerdeError(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_may_span_chunks() {
        let mut partial = BytesMut::new();
        assert!(split_lines(&mut partial, Bytes::from_static(b"ab")).is_empty());
        let lines = split_lines(&mut partial, Bytes::from_static(b"c\nd\ne"));
        assert_eq!(lines, [&b"abc"[..], b"d"]);
        assert_eq!(split_lines(&mut partial, Bytes::from_static(b"\n")), [&b"e"[..]]);
    }
}
