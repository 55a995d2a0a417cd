//! DELETE of a collection: every listed object, one by one.

use http::Response;

use super::delete::{DeleteOptions, delete_object, warn_of_orphans};
use super::list::{page, whole};
use super::options::ListOptions;
use crate::body::Body;
use crate::call::Call;
use crate::status::ApiError;

/// Answers with the list of what was there.
pub(crate) async fn delete_collection(call: &Call) -> Result<Response<Body>, ApiError> {
    let list = ListOptions::parse(call, false)?;
    let options = DeleteOptions::parse(call)?;
    warn_of_orphans(call, &options);
    let resource = call.cache().resource(&call.kind.storage.dir).ok_or_else(ApiError::no_such_path)?;
    let mut page = page(call, &resource, &list).await?;
    let mut deleted = Vec::new();
    for entry in page.take_entries() {
        let mut info = call.info.clone();
        info.name = entry.name().to_owned();
        if call.kind.namespaced {
            info.namespace = entry.namespace().to_owned();
        }
        let one = call.on(call.kind.clone(), info);
        let outcome = delete_object(&one, &options).await;
        call.take_warnings(&one);
        match outcome {
            // Said is what was listed, whatever deleting makes of it.
            Ok(_) => deleted.push(entry),
            // Gone already is what was wanted.
            Err(error) if error.code == 404 => {}
            Err(error) => return Err(error),
        }
    }
    page.put_entries(deleted);
    whole(call, page.shown(call).await?)
}
