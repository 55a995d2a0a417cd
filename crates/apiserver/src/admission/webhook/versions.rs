//! The object under review in the version that a webhook or policy wants to see.

use std::borrow::Cow;

use schema::decode::Strictness;
use schema::types;
use serde_json::Value;

use super::rules::{KindName, Matched};
use crate::admission::Attributes;
use crate::codec;
use crate::kind::{Kind, group_version};
use crate::server::Inner;
use crate::status::ApiError;

/// Old and new object of one request in the versions asked for so far. The old one never changes, so it is
/// converted once for each version.
pub(crate) struct Versions<'a> {
    attributes: &'a Attributes<'a>,
    old: Vec<(KindName, Value)>,
}

impl<'a> Versions<'a> {
    /// Nothing converted yet.
    pub fn new(attributes: &'a Attributes<'a>) -> Self {
        Self { attributes, old: Vec::new() }
    }

    fn is_requested(&self, matched: &Matched) -> bool {
        let kind = self.attributes.kind;
        (kind.group, kind.version) == (matched.kind.group.as_str(), matched.kind.version.as_str())
    }

    /// The new and the old object in the version of the match; null where there is none.
    pub async fn of<'b>(
        &'b mut self,
        matched: &Matched,
        object: &'b Value,
    ) -> Result<(Cow<'b, Value>, Cow<'b, Value>), ApiError> {
        const NONE: &Value = &Value::Null;
        if self.is_requested(matched) {
            return Ok((Cow::Borrowed(object), Cow::Borrowed(self.attributes.old.unwrap_or(NONE))));
        }
        let call = self.attributes.call;
        let object = convert(&call.server, &call.kind, &matched.resource, object).await?;
        let Some(old) = self.attributes.old else {
            return Ok((Cow::Owned(object), Cow::Borrowed(NONE)));
        };
        let known = self.old.iter().position(|(kind, _)| *kind == matched.kind);
        let index = match known {
            Some(index) => index,
            None => {
                let old = convert(&call.server, &call.kind, &matched.resource, old).await?;
                self.old.push((matched.kind.clone(), old));
                self.old.len() - 1
            }
        };
        Ok((Cow::Owned(object), Cow::Borrowed(&self.old[index].1)))
    }

    /// Takes over what a webhook or policy made of the object, in the version of the match.
    pub async fn take_back(
        &self,
        matched: &Matched,
        changed: Value,
        strictness: Strictness,
    ) -> Result<Value, ApiError> {
        let changed = normalise(&matched.resource, &matched.kind, changed, strictness)?;
        if self.is_requested(matched) {
            return Ok(changed);
        }
        let call = self.attributes.call;
        convert(&call.server, &matched.resource, &call.kind, &changed).await
    }

    /// Like [`Versions::of`], for keeping: none where the version is the request's.
    pub async fn converted(
        &mut self,
        matched: &Matched,
        object: &Value,
    ) -> Result<Option<(Value, Value)>, ApiError> {
        if self.is_requested(matched) {
            return Ok(None);
        }
        let (object, old) = self.of(matched, object).await?;
        Ok(Some((object.into_owned(), old.into_owned())))
    }
}

/// Checks the form of a changed object and fills in defaults.
fn normalise(
    resource: &Kind,
    kind: &KindName,
    changed: Value,
    strictness: Strictness,
) -> Result<Value, ApiError> {
    if kind.kind == resource.kind {
        let decoded = codec::normalise(resource, changed, strictness);
        return Ok(decoded.map_err(ApiError::internal)?.value);
    }
    let Some(ty) = types::of_kind(&kind.group, &kind.version, &kind.kind) else { return Ok(changed) };
    let decoded = schema::decode::decode_value(changed, ty, strictness);
    let mut value = decoded.map_err(ApiError::internal)?.value;
    value["kind"] = kind.kind.as_str().into();
    value["apiVersion"] = group_version(&kind.group, &kind.version).into();
    Ok(value)
}

/// From one version of a resource to another.
async fn convert(server: &Inner, from: &Kind, to: &Kind, object: &Value) -> Result<Value, ApiError> {
    let mut converted = object.clone();
    if converted.is_null() {
        return Ok(converted);
    }
    if let (Some(from), Some(to)) = (&from.custom, &to.custom) {
        return crate::crd::between(server, from, to, converted).await;
    }
    if let Some(convert) = from.storage.convert {
        (convert.to_storage)(&mut converted);
    }
    if let Some(convert) = to.storage.convert {
        (convert.from_storage)(&mut converted);
    }
    converted["kind"] = to.kind.as_ref().into();
    converted["apiVersion"] = to.api_version().into();
    Ok(converted)
}
