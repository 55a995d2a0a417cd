//! Encryption at rest: what the store holds of some resources only the API server can read.
//!
//! A layer between the watch cache and the store. Values are bound to their key, so that nobody who can
//! write to the disk can pass one secret off as another. The first key of a resource writes; all read. What
//! an older key wrote is written again by the next update of the object, even one that changes nothing:
//! `kubectl get secrets -A -o json | kubectl replace -f -` after a change of keys.

mod config;
mod transform;

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use store::{
    Committed, Event, KeyValue, Op, Range, Revision, Store, StoreError, WatchBatch, WatchStream, Write,
};

pub use config::EncryptionConfig;
use transform::PREFIX;

/// A new key.
///
/// # Errors
/// When the TLS library's generator fails.
pub fn new_key<const BYTES: usize>() -> Result<[u8; BYTES], String> {
    let mut key = [0; BYTES];
    aws_lc_rs::rand::fill(&mut key).map_err(|_| "there is no randomness".to_owned())?;
    Ok(key)
}

/// A store whose values are encrypted below.
pub(crate) struct Encrypted {
    store: Arc<dyn Store>,
    shared: Arc<Shared>,
}

struct Shared {
    config: EncryptionConfig,
    /// Keys whose values an older key has written.
    stale: Mutex<BTreeSet<Arc<str>>>,
    /// Whether a value was ever met that cannot be read.
    unreadable: AtomicBool,
}

impl Encrypted {
    /// Encrypts what `config` says, on its way to `store`.
    pub fn new(store: Arc<dyn Store>, config: EncryptionConfig) -> Self {
        Self {
            store,
            shared: Arc::new(Shared { config, stale: Mutex::default(), unreadable: AtomicBool::default() }),
        }
    }

    /// Tells which values an older key has written.
    pub fn staleness(&self) -> Staleness {
        Staleness(self.shared.clone())
    }
}

/// Which values an older key has written.
#[derive(Clone)]
pub(crate) struct Staleness(Arc<Shared>);

impl Staleness {
    /// Whether the object at `key` is to be written again even if it does not change.
    pub fn is_stale(&self, key: &str) -> bool {
        self.0.stale().contains(key)
    }

    /// Whether some values cannot be read: then it is worth looking for them.
    pub fn has_unreadable(&self) -> bool {
        self.0.unreadable.load(Ordering::Relaxed)
    }
}

fn failed(key: &str, why: &str) -> StoreError {
    StoreError::Io(Arc::new(io::Error::new(io::ErrorKind::InvalidData, format!("{key}: {why}"))))
}

impl Shared {
    fn stale(&self) -> std::sync::MutexGuard<'_, BTreeSet<Arc<str>>> {
        self.stale.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a value readable.
    fn open(&self, kv: &mut KeyValue) -> Result<(), StoreError> {
        let transformers = self.config.of(&kv.key);
        if transformers.is_empty() && !kv.value.starts_with(PREFIX) {
            return Ok(());
        }
        match transform::open(transformers, &kv.key, &kv.value) {
            Ok(opened) => {
                if opened.stale {
                    self.stale().insert(kv.key.clone());
                }
                if let Some(value) = opened.value {
                    kv.value = value;
                }
                Ok(())
            }
            Err(why) => Err(failed(&kv.key, &why)),
        }
    }

    /// Makes a value readable, or into one that says why it is not: one broken object must not keep all others
    /// from being read.
    fn open_or_mark(&self, kv: &mut KeyValue) {
        if let Err(StoreError::Io(error)) = self.open(kv) {
            tracing::error!(%error, "a stored object cannot be decrypted");
            let why = error.to_string();
            let why = why.strip_prefix(&format!("{}: ", kv.key)).unwrap_or(&why);
            self.unreadable.store(true, Ordering::Relaxed);
            kv.value = crate::cache::unreadable(&kv.key, why);
        }
    }

    fn open_event(&self, event: &mut Event) {
        // A put makes the value as new as the key that wrote it.
        self.stale_no_more(&event.kv.key);
        if let Some(previous) = &mut event.previous {
            self.open_or_mark(previous);
            self.stale_no_more(&event.kv.key);
        }
        self.open_or_mark(&mut event.kv);
        if event.kind == store::EventKind::Delete {
            self.stale_no_more(&event.kv.key);
        }
    }

    fn stale_no_more(&self, key: &str) {
        if !self.config.of(key).is_empty() {
            self.stale().remove(key);
        }
    }
}

#[async_trait]
impl Store for Encrypted {
    async fn commit(&self, mut write: Write) -> Result<Committed, StoreError> {
        let transformers = self.shared.config.of(&write.key);
        if transformers.is_empty() {
            return self.store.commit(write).await;
        }
        if let Op::Put(value) = &mut write.op {
            *value =
                transform::seal(transformers, &write.key, value).map_err(|why| failed(&write.key, &why))?;
        }
        let key = write.key.clone();
        match self.store.commit(write).await {
            Ok(mut committed) => {
                if let Some(previous) = &mut committed.previous {
                    self.shared.open_or_mark(previous);
                }
                self.shared.stale_no_more(&key);
                Ok(committed)
            }
            Err(StoreError::Conflict { mut current }) => {
                if let Some(current) = &mut current {
                    self.shared.open_or_mark(current);
                }
                Err(StoreError::Conflict { current })
            }
            Err(other) => Err(other),
        }
    }

    async fn get(&self, key: &str) -> Result<Option<KeyValue>, StoreError> {
        let mut found = self.store.get(key).await?;
        if let Some(kv) = &mut found {
            self.shared.open(kv)?;
        }
        Ok(found)
    }

    async fn range(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        limit: usize,
        at: Option<Revision>,
    ) -> Result<Range, StoreError> {
        let mut range = self.store.range(prefix, start_after, limit, at).await?;
        for kv in &mut range.kvs {
            self.shared.open_or_mark(kv);
        }
        Ok(range)
    }

    fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream, StoreError> {
        let shared = self.shared.clone();
        let stream = self.store.watch(prefix, after)?;
        let open = move |batch: Result<WatchBatch, StoreError>| {
            let mut batch = batch?;
            for event in &mut batch.events {
                shared.open_event(event);
            }
            Ok(batch)
        };
        Ok(stream.map(open).boxed())
    }

    async fn current_revision(&self) -> Result<Revision, StoreError> {
        self.store.current_revision().await
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.store.compact(revision).await
    }
}

/// A value as a reader gets it.
struct Opened {
    /// `None`: as it is stored.
    value: Option<Bytes>,
    stale: bool,
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use store::{Compare, Memory};

    use super::*;

    const KEY: &str = "/registry/secrets/a/b";

    fn config(providers: &str) -> EncryptionConfig {
        EncryptionConfig::parse(&format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  providers: [{providers}]\n"
        ))
        .unwrap()
    }

    fn aes(kind: &str, names: &[&str]) -> String {
        let keys: Vec<String> = names
            .iter()
            .map(|name| format!("{{name: {name}, secret: {}}}", STANDARD.encode([name.as_bytes()[0]; 32])))
            .collect();
        format!("{{{kind}: {{keys: [{}]}}}}", keys.join(", "))
    }

    async fn put(store: &Encrypted, value: &'static str) {
        store.commit(Write::put(KEY, Compare::Any, value)).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn values_are_encrypted_below_and_plain_above() {
        for (kind, prefix) in [
            ("aesgcm", "k8s:enc:aesgcm:v1:x:"),
            ("aescbc", "k8s:enc:aescbc:v1:x:"),
            ("secretbox", "k8s:enc:secretbox:v1:x:"),
        ] {
            let memory = Arc::new(Memory::new());
            let store = Encrypted::new(memory.clone(), config(&aes(kind, &["x"])));
            let mut watch = store.watch("/registry/", 0).unwrap();
            put(&store, "plain").await;
            let raw = memory.get(KEY).await.unwrap().unwrap().value;
            assert!(raw.starts_with(prefix.as_bytes()) && !raw.windows(5).any(|window| window == b"plain"));
            assert_eq!(store.get(KEY).await.unwrap().unwrap().value, "plain");
            assert_eq!(store.range("/registry/", None, 0, None).await.unwrap().kvs[0].value, "plain");
            let batch = watch.next().await.unwrap().unwrap();
            assert_eq!(batch.events[0].kv.value, "plain");
            let other = Write::put("/registry/pods/a/b", Compare::Any, "open");
            store.commit(other).await.unwrap();
            assert_eq!(memory.get("/registry/pods/a/b").await.unwrap().unwrap().value, "open");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_belongs_to_its_key() {
        let memory = Arc::new(Memory::new());
        let store = Encrypted::new(memory.clone(), config(&aes("aesgcm", &["x"])));
        put(&store, "plain").await;
        let raw = memory.get(KEY).await.unwrap().unwrap().value;
        memory.commit(Write::put("/registry/secrets/a/c", Compare::Any, raw)).await.unwrap();
        assert!(store.get("/registry/secrets/a/c").await.is_err());
        // All others can be listed all the same.
        let all = store.range("/registry/", None, 0, None).await.unwrap().kvs;
        assert_eq!(all[0].value, "plain");
        assert!(String::from_utf8_lossy(&all[1].value).contains("cipher: message authentication failed"));
    }

    #[test]
    fn boxes_have_the_lengths_of_nacl() {
        let key: Vec<u8> = (0..32).collect();
        let transformer = transform::Transformer::secretbox("x", &key).unwrap();
        let sealed = transform::seal(&[transformer], KEY, &Bytes::from_static(b"value")).unwrap();
        let again = [transform::Transformer::secretbox("x", &key).unwrap()];
        assert_eq!(transform::open(&again, KEY, &sealed).unwrap().value.unwrap(), "value");
        assert_eq!(sealed.len(), "k8s:enc:secretbox:v1:x:".len() + 24 + 16 + 5);
    }

    #[tokio::test(start_paused = true)]
    async fn keys_rotate_and_stale_values_are_known() {
        let memory = Arc::new(Memory::new());
        put(&Encrypted::new(memory.clone(), config("{identity: {}}")), "one").await;
        let store =
            Encrypted::new(memory.clone(), config(&format!("{}, {{identity: {{}}}}", aes("aesgcm", &["x"]))));
        assert_eq!(store.get(KEY).await.unwrap().unwrap().value, "one");
        assert!(store.staleness().is_stale(KEY));
        put(&store, "two").await;
        assert!(!store.staleness().is_stale(KEY));
        let store = Encrypted::new(memory.clone(), config(&aes("aesgcm", &["y", "x"])));
        assert_eq!(store.get(KEY).await.unwrap().unwrap().value, "two");
        assert!(store.staleness().is_stale(KEY));
        let without = Encrypted::new(memory.clone(), config(&aes("aesgcm", &["y"])));
        assert!(without.get(KEY).await.is_err());
        let nothing = Encrypted::new(memory.clone(), EncryptionConfig::default());
        assert!(nothing.get(KEY).await.is_err(), "ciphertext is never taken for an object");
    }

    #[test]
    fn configurations_are_read_strictly() {
        let parse = |text: &str| EncryptionConfig::parse(text);
        let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n";
        let key = STANDARD.encode([7; 32]);
        for bad in [
            "- {resources: [secrets], providers: []}",
            "- {resources: [secrets], providers: [{identity: {}, aesgcm: {keys: []}}]}",
            "- {resources: [secrets], providers: [{aesgcm: {keys: [{name: a, secret: c2hvcnQ=}]}}]}",
            "- {resources: [secrets], providers: [{kms: {name: a}}]}",
            "- {resources: ['*.*', '*.'], providers: [{identity: {}}]}\n- {resources: ['*.*'], providers: [{identity: {}}]}",
        ] {
            assert!(parse(&format!("{head}{bad}\n")).is_err(), "{bad}");
        }
        let good = format!(
            "{head}- {{resources: [secrets], providers: [{{identity: {{}}}}]}}\n- {{resources: ['*.apps', '*.'], providers: [{{aesgcm: {{keys: [{{name: a, secret: {key}}}]}}}}]}}\n"
        );
        let config = parse(&good).unwrap();
        let encrypts =
            |key: &str| transform::seal(config.of(key), key, &Bytes::from_static(b"v")).unwrap() != "v";
        assert!(!encrypts("/registry/secrets/a/b"));
        assert!(encrypts("/registry/configmaps/a/b") && encrypts("/registry/deployments.apps/a/b"));
        assert!(config.of("/registry/jobs.batch/a/b").is_empty());
    }
}
