//! Which resources are encrypted, and by which keys: `EncryptionConfiguration` of `apiserver.config.k8s.io`.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::transform::Transformer;

/// Which resources are encrypted, and how. The default encrypts nothing.
#[derive(Clone, Default)]
pub struct EncryptionConfig {
    rules: Vec<Rule>,
}

#[derive(Clone)]
struct Rule {
    resources: Vec<Pattern>,
    transformers: Arc<[Transformer]>,
}

#[derive(Clone, Debug, PartialEq)]
enum Pattern {
    /// `secrets`, `deployments.apps`: the directory in storage.
    Resource(String),
    /// `*.apps`; `*.` is the core group.
    Group(String),
    /// `*.*`
    Everything,
}

impl std::fmt::Debug for EncryptionConfig {
    // Keys are not shown.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.rules.iter().map(|rule| &rule.resources)).finish()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    resources: Vec<FileRule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileRule {
    resources: Vec<String>,
    providers: Vec<Provider>,
}

/// One of these.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Provider {
    identity: Option<Identity>,
    aesgcm: Option<Keys>,
    aescbc: Option<Keys>,
    secretbox: Option<Keys>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    keys: Vec<Key>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    name: String,
    secret: String,
}

impl EncryptionConfig {
    /// Reads and checks an `EncryptionConfiguration` in YAML.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(yaml: &str) -> Result<Self, String> {
        let file: File = serde_saphyr::from_str(yaml).map_err(|error| error.to_string())?;
        if file.kind != "EncryptionConfiguration" || file.api_version != "apiserver.config.k8s.io/v1" {
            return Err(format!("no kind {:?} is registered for version {:?}", file.kind, file.api_version));
        }
        let mut config = Self::default();
        for (index, rule) in file.resources.into_iter().enumerate() {
            let rule = rule.checked().map_err(|why| format!("resources[{index}].{why}"))?;
            let known = |pattern: &Pattern| config.rules.iter().any(|rule| rule.resources.contains(pattern));
            if let Some(twice) = rule.resources.iter().find(|pattern| known(pattern)) {
                return Err(format!("resources[{index}].resources: {twice:?} is configured twice"));
            }
            config.rules.push(rule);
        }
        Ok(config)
    }

    /// Secrets by one key of 32 bytes; what was stored before stays readable.
    ///
    /// # Errors
    /// When the key has another length.
    pub fn secrets(key: &[u8]) -> Result<Self, String> {
        let transformers = vec![Transformer::gcm("local", key)?, Transformer::Identity];
        let resources = vec![Pattern::Resource("secrets".to_owned())];
        Ok(Self { rules: vec![Rule { resources, transformers: transformers.into() }] })
    }

    /// How the value at a storage key is encrypted: the first rule that names its resource.
    pub(super) fn of(&self, key: &str) -> &[Transformer] {
        let Some(rest) = key.strip_prefix("/registry/") else { return &[] };
        let dir = rest.split_once('/').map_or(rest, |(dir, _)| dir);
        let rule = self.rules.iter().find(|rule| rule.resources.iter().any(|pattern| pattern.names(dir)));
        rule.map_or(&[], |rule| &rule.transformers)
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(match text.split_once('.') {
            Some(("*", "*")) => Self::Everything,
            Some(("*", group)) if !group.contains('*') => Self::Group(group.to_owned()),
            _ if text.contains('*') || text.is_empty() || text.contains('/') => {
                return Err(format!("resources: {text:?}: use '*.<group>' or '*.*', without subresources"));
            }
            _ => Self::Resource(text.trim_end_matches('.').to_owned()),
        })
    }

    fn names(&self, dir: &str) -> bool {
        match self {
            Self::Resource(resource) => resource == dir,
            Self::Group(group) => dir.split_once('.').map_or("", |(_, group)| group) == group,
            Self::Everything => true,
        }
    }
}

impl FileRule {
    fn checked(self) -> Result<Rule, String> {
        let resources =
            self.resources.iter().map(|text| Pattern::parse(text)).collect::<Result<Vec<_>, _>>()?;
        if resources.is_empty() {
            return Err("resources: at least one is needed".to_owned());
        }
        let mut transformers = Vec::new();
        for (index, provider) in self.providers.into_iter().enumerate() {
            provider.add(&mut transformers).map_err(|why| format!("providers[{index}]: {why}"))?;
        }
        if transformers.is_empty() {
            return Err("providers: at least one is needed".to_owned());
        }
        Ok(Rule { resources, transformers: transformers.into() })
    }
}

impl Provider {
    fn add(self, transformers: &mut Vec<Transformer>) -> Result<(), String> {
        type Make = fn(&str, &[u8]) -> Result<Transformer, String>;
        let (keys, make): (Keys, Make) = match (self.identity, self.aesgcm, self.aescbc, self.secretbox) {
            (Some(Identity {}), None, None, None) => {
                transformers.push(Transformer::Identity);
                return Ok(());
            }
            (None, Some(keys), None, None) => (keys, Transformer::gcm),
            (None, None, Some(keys), None) => (keys, Transformer::cbc),
            (None, None, None, Some(keys)) => (keys, Transformer::secretbox),
            _ => return Err("exactly one of identity, aesgcm, aescbc and secretbox is needed".to_owned()),
        };
        if keys.keys.is_empty() {
            return Err("keys: at least one is needed".to_owned());
        }
        for key in keys.keys {
            if key.name.is_empty() || key.name.contains(':') {
                return Err(format!("keys: {:?}: a name without colons is needed", key.name));
            }
            let secret =
                STANDARD.decode(&key.secret).map_err(|_| format!("key {:?}: not base64", key.name))?;
            transformers.push(make(&key.name, &secret).map_err(|why| format!("key {:?}: {why}", key.name))?);
        }
        Ok(())
    }
}
