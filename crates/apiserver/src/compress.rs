//! gzip for large answers to clients that take it.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::StreamExt;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderValue, VARY};
use http::{Response, StatusCode};

use crate::body::{Body, BoxError};

/// Smaller answers are not worth the time, as upstream measured.
const BYTES_MIN: usize = 128 << 10;

/// Whether the client takes gzip.
pub(crate) fn accepted(headers: &HeaderMap) -> bool {
    let accepted = headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // As upstream: a clause with a quality is not understood, and so not taken.
    accepted.split(',').any(|clause| clause.trim() == "gzip")
}

/// Compresses an answer if it is large.
pub(crate) fn compress(response: Response<Body>) -> Response<Body> {
    if response.status() != StatusCode::OK {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let body = match body.into_parts() {
        Ok(bytes) if bytes.len() < BYTES_MIN => return Response::from_parts(parts, Body::full(bytes)),
        Ok(bytes) => {
            let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
            // Writing into memory cannot fail.
            let _ = encoder.write_all(&bytes);
            Body::full(encoder.finish().unwrap_or_default())
        }
        Err(stream) => {
            let encoder = GzEncoder::new(Vec::new(), Compression::fast());
            let state = (stream, Some(encoder));
            Body::stream(futures::stream::unfold(state, |(mut stream, encoder)| async move {
                let mut encoder = encoder?;
                match stream.next().await {
                    Some(Ok(bytes)) => {
                        let _ = encoder.write_all(&bytes);
                        let ready = std::mem::take(encoder.get_mut());
                        Some((Ok::<Bytes, BoxError>(ready.into()), (stream, Some(encoder))))
                    }
                    Some(Err(error)) => Some((Err(error), (stream, None))),
                    None => Some((Ok(encoder.finish().unwrap_or_default().into()), (stream, None))),
                }
            }))
        }
    };
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    if !parts.headers.get_all(VARY).iter().any(|by| by == "Accept-Encoding") {
        parts.headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    Response::from_parts(parts, body)
}
