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

use super::options::{ListOptions, wait_for_version};
use crate::body::Body;
use crate::cache::{Entry, WatchOptions, range, watch_stream};
use crate::call::Call;
use crate::kind::Kind;
use crate::negotiate::{Media, Shape};
use crate::status::ApiError;
use crate::storage::store_error;
use crate::tables::{self, IncludeObject};

/// Watches without `timeoutSeconds` last this long, and up to twice that.
const MIN_TIMEOUT: Duration = Duration::from_secs(1800);

/// Opens a watch.
pub(crate) async fn watch(call: &Call) -> Result<Response<Body>, ApiError> {
    let options = ListOptions::parse(call, true)?;
    if call.output.media != Media::Json {
        return Err(ApiError::not_acceptable(&[
            "application/json;stream=watch",
            "application/vnd.kubernetes.protobuf;stream=watch",
        ]));
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
        let filter = &options.filter;
        initial.extend(
            range(&snapshot.objects, &filter.prefix, None)
                .filter(|entry| filter.matches(entry, &resource.kind))
                .cloned(),
        );
        if options.send_initial_events == Some(true) && options.bookmarks {
            initial_end = Some(snapshot.revision);
        }
        (snapshot.next, snapshot.revision)
    } else if version == 0 {
        let snapshot = resource.snapshot(cache.applied());
        (snapshot.next, snapshot.revision)
    } else {
        // Of another life of the server, perhaps: its changes would be passed over in silence.
        wait_for_version(&cache, version).await?;
        match resource.cursor_after(version) {
            Ok(cursor) => (cursor, version),
            Err(oldest) => return Ok(respond(call, gone(version, oldest))),
        }
    };
    let timeout = options.timeout.unwrap_or_else(|| base::rng::jitter(MIN_TIMEOUT, 1.0));
    let progress = cache.clone();
    let watch = WatchOptions {
        filter: options.filter,
        transform: transform(call),
        initial,
        initial_end,
        cursor,
        after,
        bookmarks: options.bookmarks,
        timeout,
        applied: Arc::new(move || progress.applied()),
        bookmark: bookmark(call),
        shutdown: call.server.shutdown.subscribe(),
    };
    Ok(respond(call, Body::stream(watch_stream(resource, watch))))
}

fn respond(call: &Call, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, call.output.content_type());
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// A stream of the one event that says that the version is too old.
fn gone(version: Revision, oldest: Revision) -> Body {
    let event = json!({"type": "ERROR", "object": ApiError::too_old(version, oldest).to_value()});
    Body::full(format!("{event}\n"))
}

type Transform = Arc<dyn Fn(&Entry) -> Bytes + Send + Sync>;

/// How objects are shown, unless that is as they are stored.
fn transform(call: &Call) -> Option<Transform> {
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
    let bytes = |value: &Value| Bytes::from(value.to_string());
    match call.output.shape {
        Shape::Object if kind.is_stored_version() => None,
        Shape::Object => Some(Arc::new(move |entry| bytes(&show(&kind, entry)))),
        Shape::Metadata(version) => {
            Some(Arc::new(move |entry| bytes(&tables::partial(&show(&kind, entry), version, true))))
        }
        Shape::Table(version) => {
            let include = IncludeObject::of(call);
            let first = AtomicBool::new(true);
            Some(Arc::new(move |entry| {
                let object = show(&kind, entry);
                let metadata = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
                // Only the first event carries the column definitions.
                let columns =
                    if first.swap(false, Ordering::Relaxed) { tables::columns(&kind) } else { Value::Null };
                bytes(&tables::table(
                    metadata,
                    columns,
                    vec![tables::row(&kind, &object, include, version)],
                    version,
                ))
            }))
        }
    }
}

fn bookmark(call: &Call) -> Arc<dyn Fn(Revision, bool) -> Bytes + Send + Sync> {
    let (kind, shape) = (call.kind.clone(), call.output.shape);
    Arc::new(move |revision, ends_initial| {
        let mut object = json!({"kind": kind.kind, "apiVersion": kind.api_version(),
            "metadata": {"resourceVersion": revision.to_string(), "creationTimestamp": null}});
        if ends_initial {
            object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = match shape {
            Shape::Object => object,
            Shape::Metadata(version) => tables::partial(&object, version, true),
            Shape::Table(version) => {
                let row = tables::row(&kind, &object, IncludeObject::Metadata, version);
                tables::table(
                    json!({"resourceVersion": revision.to_string()}),
                    Value::Null,
                    vec![row],
                    version,
                )
            }
        };
        Bytes::from(object.to_string())
    })
}
