//! How stored objects are shown: as they are, or pruned, with defaults and converted.

use std::sync::Arc;

use schema::structural::custom::Source;
use serde_json::Value;

use super::convert;
use super::definition::{Definition, Handler};
use crate::cache::{Change, Entry};
use crate::object::encode_stored_as;
use crate::server::Inner;
use crate::status::ApiError;

/// Objects that one call of a conversion webhook converts.
const BATCH_OBJECTS_MAX: usize = 500;

impl Handler {
    /// Whether the object is shown as it is stored.
    pub(crate) fn shows_as_stored(&self, entry: &Entry) -> bool {
        self.definition().is_current(entry, self.index())
    }

    /// Whether no webhook has to be asked for any object.
    pub(crate) fn shows_at_once(&self) -> bool {
        convert::webhook(self.definition()).is_none()
    }

    /// The object as this version shows it, without asking a webhook.
    pub(crate) fn show_at_once(&self, entry: &Arc<Entry>) -> Result<Arc<Entry>, ApiError> {
        if self.shows_as_stored(entry) {
            return Ok(entry.clone());
        }
        let (definition, index) = (self.definition(), self.index());
        if let Some(shown) = entry.shown_as(definition.token(index)) {
            return Ok(shown);
        }
        let mut object = read(definition, entry)?;
        convert::by_name(definition, &mut object, index);
        finish(definition, entry, object, index)
    }

    /// The objects as this version shows them, in the same order.
    pub(crate) async fn show(
        &self,
        server: &Inner,
        entries: impl IntoIterator<Item = Arc<Entry>>,
    ) -> Result<Vec<Arc<Entry>>, ApiError> {
        let (definition, index) = (self.definition(), self.index());
        let mut shown: Vec<Arc<Entry>> = entries.into_iter().collect();
        if self.shows_at_once() {
            for entry in &mut shown {
                *entry = self.show_at_once(entry)?;
            }
            return Ok(shown);
        }
        let wanted = definition.api_version(index);
        let mut pending: Vec<(usize, Value)> = Vec::new();
        for (at, entry) in shown.iter_mut().enumerate() {
            if self.shows_as_stored(entry) {
                continue;
            }
            if let Some(known) = entry.shown_as(definition.token(index)) {
                *entry = known;
                continue;
            }
            let object = read(definition, entry)?;
            if object["apiVersion"] == wanted {
                *entry = finish(definition, entry, object, index)?;
            } else {
                pending.push((at, object));
            }
        }
        for batch in pending.chunks(BATCH_OBJECTS_MAX) {
            let objects: Vec<Value> = batch.iter().map(|(_, object)| object.clone()).collect();
            let converted = convert::convert(server, definition, objects, index).await?;
            for ((at, _), object) in batch.iter().zip(converted) {
                shown[*at] = finish(definition, &shown[*at], object, index)?;
            }
        }
        Ok(shown)
    }

    /// The changes of a watch as this version shows them.
    pub(crate) async fn show_changes(
        &self,
        server: &Inner,
        mut changes: Vec<Change>,
    ) -> Result<Vec<Change>, ApiError> {
        let as_stored = |change: &Change| {
            let previous = change.previous.as_ref().is_none_or(|previous| self.shows_as_stored(previous));
            previous && (change.deleted || self.shows_as_stored(&change.entry))
        };
        if changes.iter().all(as_stored) {
            return Ok(changes);
        }
        for change in &mut changes {
            if let Some(previous) = change.previous.take() {
                change.previous = self.show(server, [previous]).await?.pop();
            }
            change.entry = match &change.previous {
                // The last state of a deleted object is that of before, at the revision of its end.
                Some(previous) if change.deleted => Arc::new(previous.at_revision(change.revision)),
                _ => match self.show(server, [change.entry.clone()]).await?.pop() {
                    Some(entry) => entry,
                    None => continue,
                },
            };
        }
        Ok(changes)
    }

    /// The bytes to be stored for an object of this version.
    pub(crate) async fn to_stored(&self, server: &Inner, object: &Value) -> Result<bytes::Bytes, ApiError> {
        let definition = self.definition();
        let storage = definition.storage();
        let mut object = object.clone();
        self.version()?.coerce(&mut object, Source::Conversion).map_err(invalid_object)?;
        if storage != self.index() {
            let converted = convert::convert(server, definition, vec![object], storage).await?;
            object = converted.into_iter().next().unwrap_or_default();
            definition.compiled(storage)?.coerce(&mut object, Source::Conversion).map_err(invalid_object)?;
        }
        // What is stored is what will be read until the definition changes.
        definition.compiled(storage)?.apply_defaults(&mut object);
        Ok(encode_stored_as(&object, &definition.api_version(storage)))
    }
}

fn invalid_object(error: String) -> ApiError {
    ApiError::internal(error)
}

/// The stored object in the version that it was stored in, as that version's schema wants it today.
fn read(definition: &Definition, entry: &Entry) -> Result<Value, ApiError> {
    let mut object = entry.try_value()?;
    let Some(index) = definition.place(entry.stored_version()) else {
        return Err(ApiError::internal(format!(
            "request to convert CR from an invalid group/version: {}",
            entry.stored_version()
        )));
    };
    let version = definition.compiled(index)?;
    version.coerce(&mut object, Source::Store).map_err(invalid_object)?;
    version.apply_defaults(&mut object);
    Ok(object)
}

/// Makes the entry of a converted object, and remembers it.
fn finish(
    definition: &Definition,
    entry: &Entry,
    mut object: Value,
    index: usize,
) -> Result<Arc<Entry>, ApiError> {
    let version = definition.compiled(index)?;
    version.coerce(&mut object, Source::Conversion).map_err(invalid_object)?;
    let api_version = definition.api_version(index);
    let stored = encode_stored_as(&object, &api_version);
    let kind = &definition.names().kind;
    let shown = Arc::new(Entry::of_custom(entry.key.clone(), kind, &api_version, &stored, entry.revision));
    entry.remember(definition.token(index), shown.clone());
    Ok(shown)
}
