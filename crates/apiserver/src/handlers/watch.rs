//! GET of changes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use serde_json::{Value, json};
use store::Revision;

use super::list::in_requested_version;
use super::options::{FUTURE_WAIT, ListOptions, wait_for_version};
use crate::body::Body;
use crate::cache::{
    Entry, Show, WatchCache, WatchOptions, WriteEvent, range, watch_stream, write_json_event,
};
use crate::call::Call;
use crate::kind::Kind;
use crate::negotiate::{Media, STREAM_MEDIA_TYPES, Shape};
use crate::protobuf;
use crate::status::ApiError;
use crate::storage::store_error;
use crate::tables::{self, IncludeObject};

/// Watches without `timeoutSeconds` last this long, and up to twice that.
const MIN_TIMEOUT: Duration = Duration::from_secs(1800);

/// Opens a watch.
pub(crate) async fn watch(call: &Call) -> Result<Response<Body>, ApiError> {
    let options = ListOptions::parse(call, true)?;
    if call.output.media == Media::Yaml {
        return Err(ApiError::not_acceptable(STREAM_MEDIA_TYPES));
    }
    if matches!(call.output.shape, Shape::MetadataList(_)) {
        // An event's object is no list; upstream's stream ends when it finds out.
        return Ok(respond(call, Body::empty()));
    }
    let cache = call.cache().clone();
    let resource = cache.resource(&call.kind.storage.dir).ok_or_else(ApiError::no_such_path)?;
    let version = options.version.unwrap_or(0);
    let send_initial = match options.send_initial_events {
        Some(send) => send,
        // Without a version (or with 0) a watch starts with what is there.
        None => version == 0,
    };
    let mut initial = VecDeque::new();
    let mut initial_end = None;
    let (cursor, after) = if send_initial {
        match options.version {
            None => drop(cache.fresh().await.map_err(store_error)?),
            Some(0) => {}
            Some(version) => wait_for_version(&cache, version).await?,
        }
        let snapshot = resource.snapshot(cache.applied());
        let (filter, row) = (&options.filter, resource.kind());
        let converted = in_requested_version(call, &snapshot.objects, filter, None).await?;
        let stored = converted.is_none().then(|| range(&snapshot.objects, &filter.prefix, None));
        let candidates = converted.iter().flatten().chain(stored.into_iter().flatten());
        initial.extend(candidates.filter(|entry| filter.matches(entry, &row)).cloned());
        if options.send_initial_events == Some(true) && options.bookmarks {
            initial_end = Some(snapshot.revision);
        }
        (snapshot.next, snapshot.revision)
    } else if version == 0 {
        let snapshot = resource.snapshot(cache.applied());
        (snapshot.next, snapshot.revision)
    } else {
        cache.fresh().await.map_err(store_error)?;
        if cache.applied() < version {
            return Ok(from_the_future(call, cache, version, options.timeout));
        }
        match resource.cursor_after(version) {
            Ok(cursor) => (cursor, version),
            Err(oldest) => return Ok(only_error(call, &ApiError::too_old(version, oldest))),
        }
    };
    let timeout = options.timeout.unwrap_or_else(|| base::rng::jitter(MIN_TIMEOUT, 1.0));
    let progress = cache.clone();
    if let Some(handler) = &call.kind.custom {
        initial = handler.show(&call.server, initial).await?.into();
    }
    let watch = WatchOptions {
        filter: options.filter,
        show: show(call),
        transform: transform(call)?,
        initial,
        initial_end,
        cursor,
        after,
        bookmarks: options.bookmarks,
        timeout,
        applied: Arc::new(move || progress.applied()),
        bookmark: bookmark(call),
        write: write_event(call),
        error: error_object(call),
        shutdown: call.server.shutdown.subscribe(),
    };
    Ok(respond(call, Body::stream(watch_stream(resource, watch))))
}

fn respond(call: &Call, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let content_type = match call.output.media {
        Media::Protobuf => HeaderValue::from_static(protobuf::WATCH_MEDIA_TYPE),
        _ => call.output.content_type(),
    };
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// A watch from a version that is still to come says nothing until it is there, as upstream's. But it may
/// be a version of another life of the server, and never come: the client is then told to list again.
fn from_the_future(
    call: &Call,
    cache: Arc<WatchCache>,
    version: Revision,
    timeout: Option<Duration>,
) -> Response<Body> {
    let ends_silently = timeout.is_some_and(|timeout| timeout <= FUTURE_WAIT);
    let wait = timeout.map_or(FUTURE_WAIT, |timeout| timeout.min(FUTURE_WAIT));
    let (write, object) = (write_event(call), error_object(call));
    let stream = futures::stream::once(async move {
        let mut event = Vec::new();
        if cache.wait_for_at_most(version, wait).await || !ends_silently {
            let error = ApiError::too_old(version, cache.applied());
            write(&mut event, "ERROR", &object(&error));
        }
        Ok(Bytes::from(event))
    });
    respond(call, Body::stream(stream))
}

/// How an event is put on the stream.
fn write_event(call: &Call) -> WriteEvent {
    match call.output.media {
        Media::Protobuf => protobuf::write_event,
        _ => write_json_event,
    }
}

/// A stream of the one event that says what is wrong.
fn only_error(call: &Call, error: &ApiError) -> Response<Body> {
    let mut event = Vec::new();
    write_event(call)(&mut event, "ERROR", &error_object(call)(error));
    respond(call, Body::full(event))
}

/// An error as the object of an event.
fn error_object(call: &Call) -> fn(&ApiError) -> Bytes {
    match call.output.media {
        Media::Protobuf => |error| protobuf::object(&error.to_value()).unwrap_or_default().into(),
        _ => |error| error.to_value().to_string().into(),
    }
}

type Transform = Arc<dyn Fn(&Entry) -> Bytes + Send + Sync>;

/// How changes of a custom kind are shown.
fn show(call: &Call) -> Option<Show> {
    call.kind.custom.as_ref()?;
    let (kind, server) = (call.kind.clone(), Arc::downgrade(&call.server));
    Some(Arc::new(move |changes| {
        let (kind, server) = (kind.clone(), server.upgrade());
        Box::pin(async move {
            match (&kind.custom, server) {
                (Some(handler), Some(server)) => handler.show_changes(&server, changes).await,
                _ => Err(ApiError::service_unavailable("the server is shutting down")),
            }
        })
    }))
}

/// How an object in tree form is encoded.
fn encoding(call: &Call) -> impl Fn(&Value) -> Bytes + Send + Sync + 'static {
    let media = call.output.media;
    move |value: &Value| match media {
        Media::Protobuf => protobuf::object(value).unwrap_or_default().into(),
        _ => value.to_string().into(),
    }
}

/// How objects are shown, unless that is as they are stored.
fn transform(call: &Call) -> Result<Option<Transform>, ApiError> {
    let kind = call.kind.clone();
    let show = move |kind: &Kind, entry: &Entry| {
        let mut value = entry.to_value();
        if let Some(convert) = kind.storage.convert {
            (convert.from_storage)(&mut value);
            value["apiVersion"] = kind.api_version().into();
            value["kind"] = kind.kind.as_ref().into();
        }
        value
    };
    let bytes = encoding(call);
    Ok(match call.output.shape {
        Shape::Object if kind.is_stored_version() && call.output.media == Media::Json => None,
        Shape::Object if kind.is_stored_version() => {
            Some(Arc::new(move |entry| protobuf::entry(&kind, entry).unwrap_or_default()))
        }
        Shape::Object => Some(Arc::new(move |entry| bytes(&show(&kind, entry)))),
        // Of a list there is none: `watch` ends before anything is shown.
        Shape::Metadata(version) | Shape::MetadataList(version) => {
            Some(Arc::new(move |entry| bytes(&tables::partial(&show(&kind, entry), version))))
        }
        Shape::Table(version) => {
            let include = IncludeObject::of(call)?;
            let first = AtomicBool::new(true);
            Some(Arc::new(move |entry| {
                let object = tables::stored_form(&kind, entry).unwrap_or_else(|| show(&kind, entry));
                let metadata = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
                // Only the first event carries the column definitions.
                let columns =
                    if first.swap(false, Ordering::Relaxed) { tables::columns(&kind) } else { Value::Null };
                let rows = vec![tables::row(&kind, &object, include, version)];
                bytes(&tables::table(metadata, columns, rows, version))
            }))
        }
    })
}

fn bookmark(call: &Call) -> Arc<dyn Fn(Revision, bool) -> Bytes + Send + Sync> {
    let (kind, shape) = (call.kind.clone(), call.output.shape);
    let bytes = encoding(call);
    Arc::new(move |revision, ends_initial| {
        let mut object = json!({"kind": kind.kind, "apiVersion": kind.api_version(),
            "metadata": {"resourceVersion": revision.to_string(), "creationTimestamp": null}});
        if ends_initial {
            object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        bytes(&match shape {
            Shape::Object => object,
            Shape::Metadata(version) | Shape::MetadataList(version) => tables::partial(&object, version),
            Shape::Table(version) => {
                let row = tables::row(&kind, &object, IncludeObject::Metadata, version);
                let metadata = json!({"resourceVersion": revision.to_string()});
                tables::table(metadata, Value::Null, vec![row], version)
            }
        })
    })
}
