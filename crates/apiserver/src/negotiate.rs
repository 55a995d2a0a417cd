//! Which form the answer takes: media type, indentation, Table or metadata only.

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use http::{Response, StatusCode};
use serde_json::Value;

use crate::body::Body;
use crate::protobuf;
use crate::query::Query;
use crate::status::ApiError;
use crate::yaml;

/// Media types of objects, in the order in which upstream names them.
pub const OBJECT_MEDIA_TYPES: &[&str] =
    &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

/// Media types of streams of events, in the order in which upstream names them.
pub(crate) const STREAM_MEDIA_TYPES: &[&str] =
    &["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];

/// The encoding of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Media {
    /// JSON.
    #[default]
    Json,
    /// YAML.
    Yaml,
    /// Kubernetes' protobuf.
    Protobuf,
}

/// What becomes of the object on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shape {
    /// The object itself.
    #[default]
    Object,
    /// `meta.k8s.io` Table of the named version.
    Table(&'static str),
    /// `meta.k8s.io` PartialObjectMetadata, of the named version.
    Metadata(&'static str),
    /// `meta.k8s.io` PartialObjectMetadataList, of the named version.
    MetadataList(&'static str),
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

/// What an endpoint can answer with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether objects can become Tables and bare metadata.
    pub transforms: bool,
    /// Whether the objects themselves have protobuf messages.
    pub protobuf: bool,
    /// Whether upstream's router looks at the header first, with an answer of its own.
    pub routed: bool,
    /// Whether it can also answer with a stream of events.
    pub streams: bool,
}

impl Endpoint {
    /// Discovery documents, errors, and what else is never transformed.
    pub const PLAIN: Endpoint = Endpoint { transforms: false, protobuf: true, routed: true, streams: false };
}

impl Output {
    /// Whether the cache's bytes can go out as they are.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the cache's bytes can be encoded as they are.
    pub fn is_protobuf(&self) -> bool {
        self.media == Media::Protobuf && self.shape == Shape::Object
    }

    /// The `Content-Type`.
    pub fn content_type(&self) -> HeaderValue {
        HeaderValue::from_static(match self.media {
            Media::Json => "application/json",
            Media::Yaml => "application/yaml",
            Media::Protobuf => protobuf::MEDIA_TYPE,
        })
    }

    /// A whole answer.
    pub fn respond(&self, code: StatusCode, object: &Value) -> Response<Body> {
        match self.encode(object) {
            Ok(bytes) => self.respond_bytes(code, bytes),
            Err(error) => {
                let error = ApiError::internal(error);
                let code = StatusCode::from_u16(error.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                Self::default().respond(code, &error.to_value())
            }
        }
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
    ///
    /// # Errors
    /// When an object has no message in protobuf, which negotiation should have seen.
    pub fn encode(&self, object: &Value) -> Result<Bytes, protobuf::Unencodable> {
        Ok(match self.media {
            Media::Yaml => yaml::to_string(object).into(),
            Media::Json if self.pretty => serde_json::to_vec_pretty(object).unwrap_or_default().into(),
            Media::Json => serde_json::to_vec(object).unwrap_or_default().into(),
            Media::Protobuf => protobuf::object(object)?.into(),
        })
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

/// Negotiates by `Accept`, `pretty` and `User-Agent`.
///
/// # Errors
/// 406 when nothing fits.
pub fn negotiate(headers: &HeaderMap, query: &Query, endpoint: Endpoint) -> Result<Output, ApiError> {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut output = if accept.is_empty() { Output::default() } else { by_accept(accept, endpoint)? };
    output.pretty |= wants_pretty(headers, query);
    if output.media != Media::Json {
        output.pretty = false;
    }
    Ok(output)
}

/// The form of error bodies: indented JSON where nothing can be agreed on.
pub fn negotiate_error(headers: &HeaderMap, query: &Query) -> Output {
    let endpoint = Endpoint { routed: false, ..Endpoint::PLAIN };
    negotiate(headers, query, endpoint).unwrap_or(Output { pretty: true, ..Output::default() })
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

/// One clause of an `Accept` header.
struct Clause<'a> {
    r#type: &'a str,
    subtype: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    quality: f64,
}

impl<'a> Clause<'a> {
    /// Reads a clause as the library does that upstream uses; `None` for what it skips.
    fn parse(text: &'a str) -> Option<Self> {
        let mut pieces = text.trim_matches(' ').split(';');
        let media = pieces.next().unwrap_or_default();
        let (r#type, subtype) = match media.split_once('/') {
            Some((r#type, subtype)) if !subtype.contains('/') && !subtype.is_empty() => {
                (r#type.trim_matches(' '), subtype.trim_matches(' '))
            }
            None | Some((_, "")) if media.trim_matches(['/', ' ']) == "*" => ("*", "*"),
            _ => return None,
        };
        let mut clause = Self { r#type, subtype, parameters: Vec::new(), quality: 1.0 };
        for (key, value) in pieces.filter_map(|piece| piece.split_once('=')) {
            match (key.trim_matches(' '), value) {
                (_, value) if value.is_empty() || value.contains('=') => {}
                ("q", value) => clause.quality = value.parse().unwrap_or(0.0),
                (key, value) => clause.parameters.push((key, value.trim_matches(' '))),
            }
        }
        Some(clause)
    }

    /// Whether it comes before another. Not an order: upstream's is none either.
    fn precedes(&self, other: &Self) -> bool {
        self.quality > other.quality
            || (self.r#type != "*" && other.r#type == "*")
            || (self.subtype != "*" && other.subtype == "*")
    }

    fn fits(&self, media_type: &str) -> bool {
        let (r#type, subtype) = media_type.split_once('/').unwrap_or_default();
        (self.r#type == r#type && (self.subtype == subtype || self.subtype == "*"))
            || (self.r#type == "*" && self.subtype == "*")
    }
}

fn clauses(accept: &str) -> Vec<Clause<'_>> {
    let mut clauses: Vec<Clause<'_>> = Vec::new();
    // An insertion sort, as Go's is for so few: with a comparison that is no order, the way counts.
    for clause in accept.split(',').filter_map(Clause::parse).take(CLAUSES_MAX) {
        let place =
            clauses.iter().rposition(|earlier| !clause.precedes(earlier)).map_or(0, |place| place + 1);
        clauses.insert(place, clause);
    }
    clauses
}

/// The media type among `offered` that an `Accept` header likes best; an absent one takes the first.
pub(crate) fn best<'a>(headers: &HeaderMap, offered: &[&'a str]) -> Option<&'a str> {
    let accept =
        headers.get(ACCEPT).and_then(|value| value.to_str().ok()).filter(|accept| !accept.is_empty());
    let fits = |clause: &Clause<'_>| offered.iter().find(|media_type| clause.fits(media_type)).copied();
    clauses(accept.unwrap_or("*/*")).iter().find_map(fits)
}

/// In which encoding an `Accept` header asks for aggregated discovery, if it asks for that first.
pub(crate) fn aggregated(accept: &str) -> Option<Media> {
    for clause in clauses(accept) {
        let kind = |name: &str| clause.parameters.iter().rev().find(|(key, _)| *key == name).map(|(_, v)| *v);
        let asked = (kind("g"), kind("v"), kind("as"));
        for (media_type, media) in OBJECT_MEDIA_TYPES.iter().zip(MEDIA) {
            match asked {
                _ if !clause.fits(media_type) => {}
                (None, None, None) => return None,
                (Some("apidiscovery.k8s.io"), Some("v2"), Some("APIGroupDiscoveryList")) => {
                    return Some(media);
                }
                _ => {}
            }
        }
    }
    None
}

/// The encodings of [`OBJECT_MEDIA_TYPES`].
const MEDIA: [Media; 3] = [Media::Json, Media::Yaml, Media::Protobuf];

/// More clauses than any client sends.
const CLAUSES_MAX: usize = 64;

fn by_accept(accept: &str, endpoint: Endpoint) -> Result<Output, ApiError> {
    if endpoint.routed {
        routable(accept, endpoint.streams)?;
    }
    for clause in clauses(accept) {
        for (media_type, media) in OBJECT_MEDIA_TYPES.iter().zip(MEDIA) {
            if clause.fits(media_type)
                && let Some(output) = accepts(&clause, media, endpoint)
            {
                return Ok(output);
            }
        }
    }
    Err(ApiError::not_acceptable(OBJECT_MEDIA_TYPES))
}

/// What the router in front of upstream's handlers makes of the bare types.
pub(crate) fn routable(accept: &str, streams: bool) -> Result<(), ApiError> {
    let streamed = if streams { STREAM_MEDIA_TYPES } else { &[] };
    let known = |clause: &str| {
        let media = clause.split(';').next().unwrap_or_default().trim_matches(' ');
        media == "*/*" || OBJECT_MEDIA_TYPES.contains(&media)
    };
    if accept.split(',').any(known) {
        return Ok(());
    }
    Err(unroutable(&[OBJECT_MEDIA_TYPES, streamed].concat()))
}

/// The router's 406.
pub(crate) fn unroutable(available: &[&str]) -> ApiError {
    let message = format!("406: Not Acceptable\n\nAvailable representations: {}", available.join(", "));
    ApiError::new(406, "NotAcceptable", message).about("", "", "")
}

fn accepts(clause: &Clause<'_>, media: Media, endpoint: Endpoint) -> Option<Output> {
    let mut output = Output { media, ..Output::default() };
    let (mut group, mut version, mut r#as) = (None, None, None);
    for (key, value) in &clause.parameters {
        match *key {
            "g" => group = Some(*value),
            "v" => version = Some(*value),
            "as" => r#as = Some(*value),
            "stream" if *value != "watch" || media == Media::Yaml => return None,
            // The only version that upstream serves for its own generic kinds.
            "sv" if *value != "v1" => return None,
            "pretty" => output.pretty = *value == "1",
            _ => {}
        }
    }
    if group.is_none() && version.is_none() && r#as.is_none() {
        return (media != Media::Protobuf || endpoint.protobuf).then_some(output);
    }
    let version = match (group, version) {
        (Some("meta.k8s.io"), Some("v1")) => "v1",
        (Some("meta.k8s.io"), Some("v1beta1")) => "v1beta1",
        _ => return None,
    };
    output.shape = match r#as.filter(|_| endpoint.transforms)? {
        "Table" if media != Media::Protobuf => Shape::Table(version),
        "PartialObjectMetadata" => Shape::Metadata(version),
        "PartialObjectMetadataList" => Shape::MetadataList(version),
        _ => return None,
    };
    Some(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: Endpoint = Endpoint { transforms: true, protobuf: true, routed: true, streams: true };

    fn check(accept: &str, endpoint: Endpoint) -> Result<Output, String> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        negotiate(&headers, &Query::default(), endpoint).map_err(|error| error.message)
    }

    #[test]
    fn accept_is_read_as_upstream_reads_it() {
        let media = |accept: &str| check(accept, LIST).unwrap().media;
        assert_eq!(media("application/json;q=0.1,application/yaml;q=0.9"), Media::Yaml);
        assert_eq!(media("text/html,*/*;q=0.1"), Media::Json);
        assert_eq!(media("application/vnd.kubernetes.protobuf,application/json"), Media::Protobuf);
        assert_eq!(media("application/*;q=0.9,*/*,application/yaml;q=0.1"), Media::Yaml);
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(check(kubectl, LIST).unwrap().shape, Shape::Table("v1"));
        assert!(check("application/*", LIST).unwrap_err().ends_with("protobuf;stream=watch"));
        assert_eq!(check("application/*", Endpoint { routed: false, ..LIST }), Ok(Output::default()));
        assert!(
            check("application/json;v=9", LIST).unwrap_err().starts_with("only the following media types")
        );
    }

    #[test]
    fn not_everything_has_messages() {
        let custom = Endpoint { protobuf: false, ..LIST };
        assert!(check("application/vnd.kubernetes.protobuf", custom).is_err());
        assert_eq!(
            check("application/vnd.kubernetes.protobuf,application/json", custom),
            Ok(Output::default())
        );
        let metadata = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        assert_eq!(check(metadata, custom).unwrap().shape, Shape::MetadataList("v1"));
        assert!(check("application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1", LIST).is_err());
    }
}
