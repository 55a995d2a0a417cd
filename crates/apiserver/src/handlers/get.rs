//! GET of one object.

use http::{Response, StatusCode};

use crate::body::Body;
use crate::call::Call;
use crate::handlers::options::parse_version;
use crate::status::ApiError;
use crate::storage::store_error;

/// The object as of now, or at least as new as `resourceVersion`. The usual case clones the cache's bytes.
pub(crate) async fn get(call: &Call) -> Result<Response<Body>, ApiError> {
    let cache = call.cache();
    match call.query.text("resourceVersion") {
        "" => drop(cache.fresh().await.map_err(store_error)?),
        "0" => {}
        text => {
            let revision =
                parse_version(text).map_err(|error| ApiError { code: 500, reason: "".into(), ..error })?;
            super::options::wait_for_version(cache, revision).await?;
        }
    }
    let resource = cache.resource(&call.kind.storage.dir).ok_or_else(|| call.not_found())?;
    let entry = resource
        .get(&call.kind.key(&call.info.namespace, &call.info.name))
        .ok_or_else(|| call.not_found())?;
    entry.check_readable()?;
    Ok(call.respond_entry(StatusCode::OK, &*call.shown(&entry).await?))
}
