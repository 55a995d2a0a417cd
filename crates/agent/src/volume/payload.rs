//! The files of volumes whose content comes from the API.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, DownwardAPIVolumeFile, DownwardAPIVolumeSource, KeyToPath, Pod,
    ProjectedVolumeSource, SecretVolumeSource, VolumeProjection,
};

use crate::objects::{Data, Objects};
use crate::pod::fields::{self, Facts};
use crate::pod::spec;

/// A file's content and permission bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    pub content: Vec<u8>,
    pub mode: u32,
}

/// Files by their path below the volume.
#[derive(Debug, Default)]
pub(crate) struct Payload(BTreeMap<String, File>);

fn mode(own: Option<i32>, default: Option<i32>) -> u32 {
    own.or(default).and_then(|m| u32::try_from(m).ok()).unwrap_or(0o644)
}

impl Payload {
    pub(crate) fn files(&self) -> &BTreeMap<String, File> {
        &self.0
    }

    pub(crate) async fn config_map(
        objects: &Objects,
        pod: &Pod,
        source: &ConfigMapVolumeSource,
    ) -> Result<Self, String> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let data = objects.config_map(namespace, &source.name, source.optional).await?;
        let mut payload = Self::default();
        payload.add(data, source.items.as_deref(), source.default_mode, source.optional, &source.name)?;
        Ok(payload)
    }

    pub(crate) async fn secret(
        objects: &Objects,
        pod: &Pod,
        source: &SecretVolumeSource,
    ) -> Result<Self, String> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let name = source.secret_name.as_deref().unwrap_or_default();
        let data = objects.secret(namespace, name, source.optional).await?;
        let mut payload = Self::default();
        payload.add(data, source.items.as_deref(), source.default_mode, source.optional, name)?;
        Ok(payload)
    }

    pub(crate) fn downward_api(
        pod: &Pod,
        facts: &Facts,
        source: &DownwardAPIVolumeSource,
    ) -> Result<Self, String> {
        let mut payload = Self::default();
        payload.add_fields(pod, facts, source.items.as_deref(), source.default_mode)?;
        Ok(payload)
    }

    pub(crate) async fn projected(
        objects: &Objects,
        pod: &Pod,
        facts: &Facts,
        source: &ProjectedVolumeSource,
    ) -> Result<Self, String> {
        let mut payload = Self::default();
        for part in source.sources.iter().flatten() {
            payload.add_projection(objects, pod, facts, part, source.default_mode).await?;
        }
        Ok(payload)
    }

    async fn add_projection(
        &mut self,
        objects: &Objects,
        pod: &Pod,
        facts: &Facts,
        part: &VolumeProjection,
        default_mode: Option<i32>,
    ) -> Result<(), String> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        if let Some(p) = &part.config_map {
            let data = objects.config_map(namespace, &p.name, p.optional).await?;
            self.add(data, p.items.as_deref(), default_mode, p.optional, &p.name)?;
        }
        if let Some(p) = &part.secret {
            let data = objects.secret(namespace, &p.name, p.optional).await?;
            self.add(data, p.items.as_deref(), default_mode, p.optional, &p.name)?;
        }
        if let Some(p) = &part.downward_api {
            self.add_fields(pod, facts, p.items.as_deref(), default_mode)?;
        }
        if let Some(p) = &part.service_account_token {
            let audience = p.audience.as_deref().unwrap_or_default();
            let token = objects.token(pod, audience, p.expiration_seconds.unwrap_or(3600)).await?;
            self.put(&p.path, token.into_bytes(), mode(None, default_mode));
        }
        Ok(())
    }

    fn put(&mut self, path: &str, content: Vec<u8>, mode: u32) {
        self.0.insert(path.to_owned(), File { content, mode });
    }

    fn add(
        &mut self,
        data: Option<Data>,
        items: Option<&[KeyToPath]>,
        default_mode: Option<i32>,
        optional: Option<bool>,
        name: &str,
    ) -> Result<(), String> {
        let data = data.unwrap_or_default();
        let Some(items) = items.filter(|i| !i.is_empty()) else {
            for (key, content) in data {
                self.put(&key, content, mode(None, default_mode));
            }
            return Ok(());
        };
        for item in items {
            match data.get(&item.key) {
                Some(content) => self.put(&item.path, content.clone(), mode(item.mode, default_mode)),
                None if optional == Some(true) => {}
                None => return Err(format!("references non-existent key in {name}: {}", item.key)),
            }
        }
        Ok(())
    }

    fn add_fields(
        &mut self,
        pod: &Pod,
        facts: &Facts,
        items: Option<&[DownwardAPIVolumeFile]>,
        default_mode: Option<i32>,
    ) -> Result<(), String> {
        for item in items.unwrap_or_default() {
            let text = if let Some(selector) = &item.field_ref {
                fields::field(pod, facts, &selector.field_path)?
            } else if let Some(selector) = &item.resource_field_ref {
                let name = selector.container_name.as_deref().unwrap_or_default();
                let container = pod.spec.as_ref().and_then(|s| spec::find(s, name));
                let (_, container) = container.ok_or_else(|| format!("container {name} not found"))?;
                fields::resource(container, selector, facts)?
            } else {
                continue;
            };
            self.put(&item.path, text.into_bytes(), mode(item.mode, default_mode));
        }
        Ok(())
    }
}
