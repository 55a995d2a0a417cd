//! GET of a collection: one consistent view, streamed in chunks.

use std::collections::VecDeque;
use std::sync::Arc;

use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{Engine, alphabet};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use schema::types::{self, Type};
use serde::Serialize;
use serde_json::{Value, json};
use store::{Revision, StoreError};

use super::options::{ListOptions, Match, wait_for_version};
use crate::body::{Body, BoxError};
use crate::cache::{Entry, Filter, Objects, ResourceCache, range};
use crate::call::Call;
use crate::negotiate::Shape;
use crate::protobuf::{self, Encoder};
use crate::status::ApiError;
use crate::storage::store_error;
use crate::tables;

/// Bytes of one chunk of a streamed list.
const CHUNK_BYTES: usize = 128 << 10;

/// Where a list goes on, as upstream encodes it.
#[derive(Debug, Serialize)]
struct Continue {
    v: String,
    rv: i64,
    start: String,
}

/// One page of a list.
pub(crate) struct Page {
    entries: Entries,
    pub revision: Revision,
    remaining: Option<u64>,
    next: Option<String>,
}

enum Entries {
    /// The whole view, filtered by key prefix alone: never collected.
    All(Objects, String),
    Some(VecDeque<Arc<Entry>>),
}

impl Page {
    /// The page with its objects as the request wants them: those of custom kinds may have to be
    /// brought in line with their definition, or converted.
    pub async fn shown(mut self, call: &Call) -> Result<Self, ApiError> {
        let Some(handler) = &call.kind.custom else { return Ok(self) };
        let as_stored = match &self.entries {
            Entries::All(objects, prefix) => {
                range(objects, prefix, None).all(|entry| handler.shows_as_stored(entry))
            }
            Entries::Some(entries) => entries.iter().all(|entry| handler.shows_as_stored(entry)),
        };
        if !as_stored {
            let entries = std::mem::replace(&mut self.entries, Entries::Some(VecDeque::new()));
            let entries = Self { entries, next: None, ..self }.into_entries();
            self.entries = Entries::Some(handler.show(&call.server, entries).await?.into());
        }
        Ok(self)
    }

    /// Takes the objects out of the page.
    pub fn take_entries(&mut self) -> VecDeque<Arc<Entry>> {
        let entries = std::mem::replace(&mut self.entries, Entries::Some(VecDeque::new()));
        Self { entries, next: None, ..*self }.into_entries()
    }

    /// Puts other objects in place of those of the page.
    pub fn put_entries(&mut self, entries: Vec<Arc<Entry>>) {
        self.entries = Entries::Some(entries.into());
    }

    /// The objects of the page.
    pub fn into_entries(self) -> VecDeque<Arc<Entry>> {
        match self.entries {
            Entries::All(objects, prefix) => range(&objects, &prefix, None).cloned().collect(),
            Entries::Some(entries) => entries,
        }
    }
}

/// Answers a list.
pub(crate) async fn list(call: &Call) -> Result<Response<Body>, ApiError> {
    let options = ListOptions::parse(call, false)?;
    let resource = call.cache().resource(&call.kind.storage.dir).ok_or_else(ApiError::no_such_path)?;
    let page = page(call, &resource, &options).await?.shown(call).await?;
    if call.kind.is_stored_version() {
        if call.output.is_plain() {
            return Ok(stream_json(call, page));
        }
        if call.output.is_protobuf()
            && let Some(ty) = types::get(&call.kind.schema)
        {
            return stream_protobuf(call, page, ty).await;
        }
    }
    whole(call, page)
}

/// A list that lacks what cannot be read would be taken for all there is.
fn check_readable(call: &Call, objects: &Objects, filter: &Filter) -> Result<(), ApiError> {
    if !call.server.staleness.has_unreadable() {
        return Ok(());
    }
    range(objects, &filter.prefix, None).try_for_each(|entry| entry.check_readable())
}

/// Finds the page that the options ask for.
pub(crate) async fn page(
    call: &Call,
    resource: &Arc<ResourceCache>,
    options: &ListOptions,
) -> Result<Page, ApiError> {
    let (objects, revision, start) = view(call, resource, options).await?;
    let (filter, row) = (&options.filter, resource.kind());
    check_readable(call, &objects, filter)?;
    if options.limit == 0 && filter.is_trivial() && start.is_none() {
        let prefix = filter.prefix.clone();
        return Ok(Page { entries: Entries::All(objects, prefix), revision, remaining: None, next: None });
    }
    let mut entries = VecDeque::new();
    let converted = in_requested_version(call, &objects, filter, start.as_deref()).await?;
    let stored = converted.is_none().then(|| range(&objects, &filter.prefix, start.as_deref()));
    let candidates = converted.iter().flatten().chain(stored.into_iter().flatten());
    let mut candidates = candidates.filter(|entry| filter.matches(entry, &row));
    let limit = if options.limit == 0 { usize::MAX } else { options.limit };
    entries.extend(candidates.by_ref().take(limit).cloned());
    let rest = candidates.next();
    let mut page = Page { remaining: None, next: None, revision, entries: Entries::Some(VecDeque::new()) };
    if let (Some(_), Some(last)) = (rest, entries.back()) {
        page.next = Some(continue_token(call, revision, last));
        // With a selector, upstream does not count either.
        if filter.is_trivial() {
            page.remaining = Some(1 + candidates.by_ref().count() as u64);
        }
    }
    drop(candidates);
    page.entries = Entries::Some(entries);
    Ok(page)
}

/// The objects of a custom kind as the request's version shows them, if the filter asks for fields: those are
/// the version's own, and may only come about by a conversion.
pub(crate) async fn in_requested_version(
    call: &Call,
    objects: &Objects,
    filter: &Filter,
    start: Option<&str>,
) -> Result<Option<Vec<Arc<Entry>>>, ApiError> {
    let Some(handler) = call.kind.custom.as_ref().filter(|_| filter.reads_fields()) else { return Ok(None) };
    let candidates = range(objects, &filter.prefix, start).cloned();
    handler.show(&call.server, candidates).await.map(Some)
}

/// The objects at the right revision, that revision, and the key to start after.
async fn view(
    call: &Call,
    resource: &Arc<ResourceCache>,
    options: &ListOptions,
) -> Result<(Objects, Revision, Option<String>), ApiError> {
    let cache = call.cache();
    if !options.continue_token.is_empty() {
        let (revision, start) = parse_continue(call, &options.continue_token)?;
        if options.version.is_some_and(|version| version != 0) {
            return Err(ApiError::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        if revision < 0 {
            let current = cache.fresh().await.map_err(store_error)?;
            let snapshot = resource.snapshot(current);
            return Ok((snapshot.objects, snapshot.revision, Some(start)));
        }
        let revision = revision as Revision;
        let objects = match objects_at(call, resource, revision).await {
            Err(StoreError::Compacted { .. }) => return Err(inconsistent(call, &start)),
            objects => objects.map_err(store_error)?,
        };
        return Ok((objects, revision, Some(start)));
    }
    match options.version {
        None => drop(cache.fresh().await.map_err(store_error)?),
        Some(0) => {}
        // Before there was a match parameter, a version with a limit meant exactly that version.
        Some(version)
            if options.version_match == Match::Exact
                || (options.version_match == Match::Unset && options.limit > 0) =>
        {
            wait_for_version(cache, version).await?;
            let objects = match objects_at(call, resource, version).await {
                Err(StoreError::Compacted { .. }) => {
                    return Err(ApiError::expired("The resourceVersion for the provided list is too old."));
                }
                objects => objects.map_err(store_error)?,
            };
            return Ok((objects, version, None));
        }
        Some(version) => wait_for_version(cache, version).await?,
    }
    let snapshot = resource.snapshot(cache.applied());
    Ok((snapshot.objects, snapshot.revision, None))
}

/// An older view: undone from the log, else read from the store's history.
async fn objects_at(
    call: &Call,
    resource: &Arc<ResourceCache>,
    revision: Revision,
) -> Result<Objects, StoreError> {
    let oldest = call.cache().compacted();
    if revision < oldest {
        return Err(StoreError::Compacted { oldest });
    }
    if let Some(objects) = resource.snapshot_at(revision) {
        return Ok(objects);
    }
    let prefix = call.kind.prefix(None);
    let found = call.cache().store().range(&prefix, None, 0, Some(revision)).await?;
    let entries = found
        .kvs
        .iter()
        .map(|kv| (kv.key.clone(), Arc::new(resource.entry(kv.key.clone(), &kv.value, kv.mod_revision))));
    Ok(entries.collect())
}

/// The answer to a token of a view that is gone: the list can go on, but with what is there now.
fn inconsistent(call: &Call, start: &str) -> ApiError {
    let mut error = ApiError::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new \
         list without the continue parameter, or use the continue token in this response to retrieve the \
         remainder of the results. Continuing with the provided token results in an inconsistent list - \
         objects that were created, modified, or deleted between the time the first chunk was returned and \
         now may show up in the list.",
    );
    error.details.get_or_insert_default().continue_token = token(call, -1, start);
    error
}

/// Upstream's token: the start is relative to what was listed, and ends with a zero byte because the
/// key itself was already seen.
fn continue_token(call: &Call, revision: Revision, last: &Entry) -> String {
    token(call, revision as i64, &last.key)
}

fn token(call: &Call, rv: i64, last: &str) -> String {
    let base = list_prefix(call);
    let start = last.strip_prefix(base.as_str()).unwrap_or(last);
    let token = Continue { v: "meta.k8s.io/v1".to_owned(), rv, start: format!("/{start}\0") };
    TOKEN.encode(serde_json::to_vec(&token).unwrap_or_default())
}

fn list_prefix(call: &Call) -> String {
    call.kind.prefix(Some(call.info.namespace.as_str()).filter(|namespace| !namespace.is_empty()))
}

fn parse_continue(call: &Call, token: &str) -> Result<(i64, String), ApiError> {
    let bad = |why: String| {
        ApiError::bad_request(format!("invalid continue token: continue key is not valid: {why}"))
    };
    let bytes = TOKEN.decode(token).map_err(|error| {
        let at = match error {
            base64::DecodeError::InvalidByte(at, _) => at,
            _ => token.len() / 4 * 4,
        };
        bad(format!("illegal base64 data at input byte {at}"))
    })?;
    let token = schema::decode::json_to_value(&bytes).map_err(|error| bad(error.to_string()))?;
    let (version, revision) = (token["v"].as_str().unwrap_or_default(), token["rv"].as_i64().unwrap_or(0));
    if version != "meta.k8s.io/v1" {
        return Err(bad(format!("server does not recognize this encoded version {version}")));
    }
    if revision == 0 {
        return Err(bad("incorrect encoded start resourceVersion (version meta.k8s.io/v1)".to_owned()));
    }
    let given = token["start"].as_str().unwrap_or_default();
    if given.is_empty() {
        return Err(bad("encoded start key empty (version meta.k8s.io/v1)".to_owned()));
    }
    let start = given.strip_prefix('/').unwrap_or(given);
    if start.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        return Err(ApiError::bad_request(format!("invalid continue token: {given}")));
    }
    Ok((revision, format!("{}{}", list_prefix(call), start.trim_end_matches('\0'))))
}

/// Tokens are written without padding, and read as Go reads them.
const TOKEN: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

fn list_metadata(page: &Page) -> Value {
    let mut metadata = json!({"resourceVersion": page.revision.to_string()});
    if let Some(next) = &page.next {
        metadata["continue"] = json!(next);
    }
    if let Some(remaining) = page.remaining {
        metadata["remainingItemCount"] = json!(remaining);
    }
    metadata
}

/// Lists of custom kinds say where they go on even if they do not.
pub(crate) fn show_continue(call: &Call, metadata: &mut Value) {
    if call.kind.is_custom() && metadata["continue"].is_null() {
        metadata["continue"] = json!("");
    }
}

/// The list as text around the items.
fn head(call: &Call, page: &Page) -> String {
    let kind = &call.kind;
    let mut metadata = list_metadata(page);
    show_continue(call, &mut metadata);
    format!(
        "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"metadata\":{},\"items\":[",
        kind.list_kind,
        kind.api_version(),
        metadata
    )
}

/// Streams the cache's bytes.
fn stream_json(call: &Call, page: Page) -> Response<Body> {
    let start = head(call, &page).into_bytes();
    let writer = Writer::Json { typed: call.kind.is_custom(), first: true };
    stream(call, page, writer, start, b"]}\n")
}

/// Streams the messages of the objects. What comes first says how long all is, so that lengths are
/// found out before; each object's only once.
async fn stream_protobuf(call: &Call, page: Page, ty: &'static Type) -> Result<Response<Body>, ApiError> {
    let mut encoder = Encoder::default();
    let list_meta = types::get(LIST_META).ok_or_else(|| ApiError::internal("no ListMeta"))?;
    let metadata = list_metadata(&page).to_string();
    let metadata = encoder.message(metadata.as_bytes(), list_meta).map_err(ApiError::internal)?.to_vec();
    let mut length = protobuf::header_length(metadata.len()) + metadata.len();
    let mut since_pause = 0;
    let mut add = |entry: &Entry| {
        let measured = protobuf::length(&mut encoder, entry, ty).map_err(ApiError::internal)?;
        length += protobuf::header_length(measured) + measured;
        since_pause += measured;
        Ok::<_, ApiError>(since_pause >= CHUNK_BYTES && std::mem::take(&mut since_pause) > 0)
    };
    match &page.entries {
        Entries::All(objects, prefix) => {
            for entry in range(objects, prefix, None) {
                if add(entry)? {
                    tokio::task::yield_now().await;
                }
            }
        }
        Entries::Some(entries) => {
            for entry in entries {
                if add(entry)? {
                    tokio::task::yield_now().await;
                }
            }
        }
    }
    let mut start = protobuf::envelope_start(&call.kind.api_version(), &call.kind.list_kind, length);
    protobuf::put_bytes(&mut start, 1, &metadata);
    Ok(stream(call, page, Writer::Protobuf { encoder, ty }, start, protobuf::ENVELOPE_END))
}

const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";

/// Streams a page between `start` and `end`. A small list is one piece, so that it has a length.
fn stream(call: &Call, page: Page, mut writer: Writer, start: Vec<u8>, end: &'static [u8]) -> Response<Body> {
    let mut chunk = start;
    let mut source = match page.entries {
        Entries::All(objects, prefix) => Source::View { objects, prefix, after: None },
        Entries::Some(entries) => Source::Some(entries),
    };
    let finished = source.fill(&mut writer, &mut chunk);
    if finished {
        chunk.extend_from_slice(end);
        return call.output.respond_bytes(StatusCode::OK, chunk.into());
    }
    let rest =
        futures::stream::unfold((source, writer, false), move |(mut source, mut writer, done)| async move {
            if done {
                return None;
            }
            let mut chunk = Vec::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 8);
            let finished = source.fill(&mut writer, &mut chunk);
            if finished {
                chunk.extend_from_slice(end);
            }
            Some((Ok::<_, BoxError>(Bytes::from(chunk)), (source, writer, finished)))
        });
    let first = futures::stream::once(async move { Ok(Bytes::from(chunk)) });
    let mut response = Response::new(Body::stream(futures::StreamExt::chain(first, rest)));
    response.headers_mut().insert(CONTENT_TYPE, call.output.content_type());
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

enum Source {
    View { objects: Objects, prefix: String, after: Option<Arc<str>> },
    Some(VecDeque<Arc<Entry>>),
}

/// How items are put into the list.
enum Writer {
    Json { typed: bool, first: bool },
    Protobuf { encoder: Encoder, ty: &'static Type },
}

impl Source {
    /// Fills one chunk; true when nothing is left.
    fn fill(&mut self, writer: &mut Writer, chunk: &mut Vec<u8>) -> bool {
        match self {
            Self::View { objects, prefix, after } => {
                let mut last = None;
                for entry in range(objects, prefix, after.as_deref()) {
                    writer.write(entry, chunk);
                    if chunk.len() >= CHUNK_BYTES {
                        last = Some(entry.key.clone());
                        break;
                    }
                }
                *after = last;
                after.is_none()
            }
            Self::Some(entries) => {
                while let Some(entry) = entries.pop_front() {
                    writer.write(&entry, chunk);
                    if chunk.len() >= CHUNK_BYTES {
                        break;
                    }
                }
                entries.is_empty()
            }
        }
    }
}

impl Writer {
    fn write(&mut self, entry: &Entry, chunk: &mut Vec<u8>) {
        match self {
            Self::Json { typed, first } => {
                if !std::mem::take(first) {
                    chunk.push(b',');
                }
                if *typed {
                    chunk.extend_from_slice(entry.bytes());
                } else {
                    chunk.push(b'{');
                    chunk.extend_from_slice(entry.without_type());
                }
            }
            // It could be encoded when it was measured.
            Self::Protobuf { encoder, ty } => {
                if let Ok(message) = encoder.message(entry.bytes(), ty) {
                    protobuf::put_bytes(chunk, 2, message);
                }
            }
        }
    }
}

/// The answer for every other form: trees, one after the other, then the whole.
pub(crate) fn whole(call: &Call, page: Page) -> Result<Response<Body>, ApiError> {
    let mut metadata = list_metadata(&page);
    if call.output.shape == Shape::Object {
        show_continue(call, &mut metadata);
    }
    let entries = page.into_entries();
    let list = tables::list(call, metadata, entries.iter().map(|entry| call.value_of(entry)))?;
    Ok(call.output.respond(StatusCode::OK, &list))
}
