//! Which form the answer takes: media type, indentation, Table or metadata only.

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use http::{Response, StatusCode};
use serde_json::Value;

use crate::body::Body;
use crate::query::Query;
use crate::status::ApiError;
use crate::yaml;

/// Media types of objects, in the order in which upstream names them.
pub const OBJECT_MEDIA_TYPES: &[&str] =
    &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

/// The encoding of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Media {
    /// JSON.
    #[default]
    Json,
    /// YAML.
    Yaml,
}

/// What becomes of the object on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shape {
    /// The object itself.
    #[default]
    Object,
    /// `meta.k8s.io` Table of the named version.
    Table(&'static str),
    /// `meta.k8s.io` PartialObjectMetadata or its list, of the named version.
    Metadata(&'static str),
}

/// The negotiated form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Output {
    /// Encoding.
    pub media: Media,
    /// Indented JSON.
    pub pretty: bool,
    /// Transformation.
    pub shape: Shape,
}

impl Output {
    /// Whether the cache's bytes can go out as they are.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// The `Content-Type`.
    pub fn content_type(&self) -> HeaderValue {
        HeaderValue::from_static(match self.media {
            Media::Json => "application/json",
            Media::Yaml => "application/yaml",
        })
    }

    /// A whole answer.
    pub fn respond(&self, code: StatusCode, object: &Value) -> Response<Body> {
        self.respond_bytes(code, self.encode(object))
    }

    /// A whole answer whose bytes are in the right form already.
    pub fn respond_bytes(&self, code: StatusCode, bytes: Bytes) -> Response<Body> {
        let mut response = Response::new(Body::full(bytes));
        *response.status_mut() = code;
        response.headers_mut().insert(CONTENT_TYPE, self.content_type());
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
        response
    }

    /// The object's bytes.
    pub fn encode(&self, object: &Value) -> Bytes {
        match self.media {
            Media::Yaml => yaml::to_string(object).into(),
            Media::Json if self.pretty => serde_json::to_vec_pretty(object).unwrap_or_default().into(),
            Media::Json => serde_json::to_vec(object).unwrap_or_default().into(),
        }
    }

    /// An error in this form.
    pub fn error(&self, error: &ApiError) -> Response<Body> {
        let code = StatusCode::from_u16(error.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = self.respond(code, &error.to_value());
        let retry_after = error.details.as_ref().map_or(0, |details| details.retry_after_seconds);
        if retry_after > 0 {
            response.headers_mut().insert(http::header::RETRY_AFTER, HeaderValue::from(retry_after));
        }
        response
    }
}

/// Negotiates by `Accept`, `pretty` and `User-Agent`. Table and metadata only where `transforms`.
pub fn negotiate(headers: &HeaderMap, query: &Query, transforms: bool) -> Result<Output, ApiError> {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut output =
        if accept.trim().is_empty() { Output::default() } else { by_accept(accept, transforms)? };
    output.pretty |= wants_pretty(headers, query);
    Ok(output)
}

/// The form of error bodies, which never fails to be found.
pub fn negotiate_error(headers: &HeaderMap, query: &Query) -> Output {
    let mut output = negotiate(headers, query, true).unwrap_or_default();
    output.shape = Shape::Object;
    output
}

fn wants_pretty(headers: &HeaderMap, query: &Query) -> bool {
    match query.text("pretty") {
        "" => {
            let agent = headers.get(USER_AGENT).map(HeaderValue::as_bytes).unwrap_or_default();
            [&b"curl"[..], b"Wget", b"Mozilla/5.0"].iter().any(|prefix| agent.starts_with(prefix))
        }
        value => matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True"),
    }
}

struct Clause<'a> {
    media: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    quality: f32,
}

fn clauses(accept: &str) -> Vec<Clause<'_>> {
    let mut clauses: Vec<Clause<'_>> = accept
        .split(',')
        .map(|clause| {
            let mut pieces = clause.split(';').map(str::trim);
            let media = pieces.next().unwrap_or_default();
            let mut quality = 1.0;
            let mut parameters = Vec::new();
            for (key, value) in pieces.filter_map(|piece| piece.split_once('=')) {
                match key.trim() {
                    "q" => quality = value.trim().parse().unwrap_or(1.0),
                    key => parameters.push((key, value.trim())),
                }
            }
            Clause { media, parameters, quality }
        })
        .filter(|clause| !clause.media.is_empty())
        .collect();
    clauses.sort_by(|a, b| b.quality.total_cmp(&a.quality));
    clauses
}

fn by_accept(accept: &str, transforms: bool) -> Result<Output, ApiError> {
    let clauses = clauses(accept);
    // The router below upstream's handlers looks at the bare types first, with an answer of its own.
    let known = |clause: &Clause<'_>| clause.media == "*/*" || OBJECT_MEDIA_TYPES.contains(&clause.media);
    if !clauses.iter().any(known) {
        let message =
            format!("406: Not Acceptable\n\nAvailable representations: {}", OBJECT_MEDIA_TYPES.join(", "));
        return Err(ApiError::new(406, "NotAcceptable", message).about("", "", ""));
    }
    clauses
        .iter()
        .find_map(|clause| accepts(clause, transforms))
        .ok_or_else(|| ApiError::not_acceptable(OBJECT_MEDIA_TYPES))
}

fn accepts(clause: &Clause<'_>, transforms: bool) -> Option<Output> {
    let media = match clause.media {
        "application/json" | "*/*" | "application/*" => Media::Json,
        "application/yaml" => Media::Yaml,
        _ => return None,
    };
    let mut output = Output { media, ..Output::default() };
    let parameter =
        |name: &str| clause.parameters.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
    let version = match (parameter("g"), parameter("v")) {
        (None | Some(""), None | Some("")) => "",
        (Some("meta.k8s.io"), Some("v1")) => "v1",
        (Some("meta.k8s.io"), Some("v1beta1")) => "v1beta1",
        _ => return None,
    };
    match parameter("as") {
        None | Some("") if version.is_empty() => {}
        Some("Table") if transforms && !version.is_empty() => output.shape = Shape::Table(version),
        Some("PartialObjectMetadata" | "PartialObjectMetadataList") if transforms && !version.is_empty() => {
            output.shape = Shape::Metadata(version);
        }
        _ => return None,
    }
    output.pretty = parameter("pretty") == Some("1");
    Some(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(accept: &str) -> Result<Output, String> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        negotiate(&headers, &Query::default(), true).map_err(|error| error.message)
    }

    #[test]
    fn accept_is_read_as_upstream_reads_it() {
        assert_eq!(check("application/json;q=0.1,application/yaml;q=0.9").unwrap().media, Media::Yaml);
        assert_eq!(check("text/html,*/*;q=0.1").unwrap(), Output::default());
        assert_eq!(check("application/vnd.kubernetes.protobuf,application/json").unwrap(), Output::default());
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(check(kubectl).unwrap().shape, Shape::Table("v1"));
        assert!(check("application/*").unwrap_err().starts_with("406: Not Acceptable"));
        assert!(check("application/json;v=9").unwrap_err().starts_with("only the following media types"));
    }
}
