//! DELETE of a collection: every selected object, one by one.

use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::delete::{DeleteOptions, delete_object, warn_of_orphans};
use super::list::{selected, show_continue};
use super::options::ListOptions;
use crate::body::Body;
use crate::call::Call;
use crate::status::ApiError;

/// Answers with the list of what was there.
pub(crate) async fn delete_collection(call: &Call) -> Result<Response<Body>, ApiError> {
    let list = ListOptions::parse(call, false)?;
    let options = DeleteOptions::parse(call)?;
    warn_of_orphans(call, &options);
    let mut items = Vec::new();
    for entry in selected(call, &list.filter).await? {
        let mut info = call.info.clone();
        info.name = entry.name().to_owned();
        if call.kind.namespaced {
            info.namespace = entry.namespace().to_owned();
        }
        let one = call.on(call.kind.clone(), info);
        let deleted = delete_object(&one, &options).await;
        call.take_warnings(&one);
        match deleted {
            // Said is what was listed, whatever deleting makes of it.
            Ok(_) => items.push(item(call, call.shown(&entry).await?.try_value()?)),
            // Gone already is what was wanted.
            Err(error) if error.code == 404 => {}
            Err(error) => return Err(error),
        }
    }
    let revision = call.cache().applied();
    let mut list = json!({"kind": call.kind.list_kind, "apiVersion": call.kind.api_version(),
        "metadata": {"resourceVersion": revision.to_string()}, "items": items});
    show_continue(call, &mut list["metadata"]);
    Ok(call.output.respond(StatusCode::OK, &list))
}

fn item(call: &Call, mut object: Value) -> Value {
    call.convert_from_storage(&mut object);
    if !call.kind.is_custom()
        && let Some(map) = object.as_object_mut()
    {
        map.remove("kind");
        map.remove("apiVersion");
    }
    object
}
