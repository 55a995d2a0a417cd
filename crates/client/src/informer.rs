//! Shared informers: one list and watch per kind and process, parsed once, read by everybody.

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use base::backoff::{Backoff, Policy};
use futures::StreamExt;
use kube::core::Status;
use serde::de::DeserializeOwned;
use tokio::sync::watch as signal;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::watch::{Page, RawEvent, fetch, lines};

/// Objects per page of the initial list: large enough to be quick, small enough to stay bounded.
const PAGE: usize = 2000;
/// The server ends a watch after this long; below the 290 s at which idle connections are dropped.
const WATCH_SECONDS: u64 = 285;
/// A watch that ends sooner has failed.
const WATCH_MIN: Duration = Duration::from_secs(1);
/// A watch that stays silent this long past its own end is taken for dead.
const WATCH_GRACE: Duration = Duration::from_secs(30);

/// What an informer can hold: any typed Kubernetes object.
pub trait Object: kube::Resource<DynamicType = ()> + DeserializeOwned + Send + Sync + 'static {}

impl<K: kube::Resource<DynamicType = ()> + DeserializeOwned + Send + Sync + 'static> Object for K {}

/// A change of one object.
#[derive(Debug)]
pub enum Event<'a, K> {
    /// The object appeared or changed; `old` is its former state.
    Applied {
        /// Former state, `None` when the object is new to the informer.
        old: Option<&'a Arc<K>>,
        /// Present state.
        new: &'a Arc<K>,
    },
    /// The object is gone; its last known state.
    Deleted(&'a Arc<K>),
}

impl<K> Event<'_, K> {
    /// The newest state of the object that the event is about.
    pub fn object(&self) -> &Arc<K> {
        match self {
            Event::Applied { new, .. } => new,
            Event::Deleted(last) => last,
        }
    }
}

/// Which objects of a kind an informer holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scope {
    /// Only this namespace.
    pub namespace: Option<String>,
    /// Only objects that match this label selector.
    pub labels: Option<String>,
    /// Only objects that match this field selector.
    pub fields: Option<String>,
}

/// The informers of a process: hands out one shared [`Informer`] per kind and scope.
#[derive(Clone)]
pub struct Informers {
    inner: Arc<Inner>,
}

struct Inner {
    client: kube::Client,
    /// The informers handed out so far; the values are `Informer<K>`.
    shared: Mutex<BTreeMap<(TypeId, Scope), Box<dyn Any + Send + Sync>>>,
    /// Ends the background tasks of all informers.
    stop: CancellationToken,
    /// Cancels `stop` when the last `Informers` and the last [`Informer`] are dropped.
    alive: Arc<DropGuard>,
}

impl Informers {
    /// Informers that read through `client`. Their background tasks end when the last clone and the
    /// last informer handed out are dropped.
    pub fn new(client: kube::Client) -> Self {
        let stop = CancellationToken::new();
        let alive = Arc::new(stop.clone().drop_guard());
        Self { inner: Arc::new(Inner { client, shared: Mutex::default(), stop, alive }) }
    }

    /// The client that the informers read through.
    pub fn client(&self) -> &kube::Client {
        &self.inner.client
    }

    /// The informer of all objects of a kind. The first call starts it.
    pub fn of<K: Object>(&self) -> Informer<K> {
        self.scoped(Scope::default())
    }

    /// The informer of the objects of a kind in `scope`. The first call starts it.
    pub fn scoped<K: Object>(&self, scope: Scope) -> Informer<K> {
        let mut shared = lock(&self.inner.shared);
        if let Some(known) = shared.get(&(TypeId::of::<K>(), scope.clone()))
            && let Some(informer) = known.downcast_ref::<Informer<K>>()
        {
            return informer.kept_alive_by(&self.inner.alive);
        }
        let informer = Informer::<K>::empty();
        let reflector =
            Reflector { client: self.inner.client.clone(), informer: informer.clone(), scope: scope.clone() };
        let stop = self.inner.stop.clone();
        tokio::spawn(async move { stop.run_until_cancelled(reflector.run()).await });
        let handed_out = informer.kept_alive_by(&self.inner.alive);
        shared.insert((TypeId::of::<K>(), scope), Box::new(informer));
        handed_out
    }
}

type Handler<K> = Box<dyn FnMut(&Event<'_, K>) + Send>;

/// The objects of one kind, kept up to date by a watch.
///
/// Reads never wait. Objects are shared (`Arc<K>`) and immutable.
pub struct Informer<K> {
    state: Arc<State<K>>,
    /// Keeps the background task running; absent in the task's own handle and in the registry.
    alive: Option<Arc<DropGuard>>,
}

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self { state: self.state.clone(), alive: self.alive.clone() }
    }
}

struct State<K> {
    /// Objects by `namespace/name`, or `name` if cluster-scoped.
    objects: RwLock<BTreeMap<Arc<str>, Arc<K>>>,
    /// Called for every event, in order. The lock also serialises writers of `objects`.
    handlers: Mutex<Vec<Handler<K>>>,
    /// Whether the initial list has been taken in.
    synced: signal::Sender<bool>,
}

impl<K: Object> Informer<K> {
    fn empty() -> Self {
        let state = State {
            objects: RwLock::default(),
            handlers: Mutex::default(),
            synced: signal::Sender::new(false),
        };
        Self { state: Arc::new(state), alive: None }
    }

    fn kept_alive_by(&self, guard: &Arc<DropGuard>) -> Self {
        Self { state: self.state.clone(), alive: Some(guard.clone()) }
    }

    /// The object with this name; the namespace is ignored if empty.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.get_key(&object_key(namespace, name))
    }

    /// The object with this key (see [`object_key`]).
    pub fn get_key(&self, key: &str) -> Option<Arc<K>> {
        read(&self.state.objects).get(key).cloned()
    }

    /// All objects, ordered by namespace and name.
    pub fn list(&self) -> Vec<Arc<K>> {
        read(&self.state.objects).values().cloned().collect()
    }

    /// The objects of one namespace, ordered by name.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let prefix = format!("{namespace}/");
        let objects = read(&self.state.objects);
        objects
            .range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(&prefix))
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// The number of objects.
    pub fn len(&self) -> usize {
        read(&self.state.objects).len()
    }

    /// Whether there are no objects.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `look` with each object, without collecting them. `look` must not block.
    pub fn for_each(&self, mut look: impl FnMut(&Arc<K>)) {
        read(&self.state.objects).values().for_each(&mut look);
    }

    /// Waits until the initial list has been taken in.
    pub async fn synced(&self) {
        let mut synced = self.state.synced.subscribe();
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = synced.wait_for(|&synced| synced).await;
    }

    /// Whether the initial list has been taken in.
    pub fn is_synced(&self) -> bool {
        *self.state.synced.borrow()
    }

    /// Calls `handler` for every object there is and for every later change, in order.
    ///
    /// Handlers run in the informer's task: they must be quick and must not block, typically they
    /// add a key to a work queue. They may read the informer but not register handlers on it.
    pub fn on_event(&self, mut handler: impl FnMut(&Event<'_, K>) + Send + 'static) {
        let mut handlers = lock(&self.state.handlers);
        for new in self.list() {
            handler(&Event::Applied { old: None, new: &new });
        }
        handlers.push(Box::new(handler));
    }

    /// An index over the objects: `keys` says under which keys each object is found.
    pub fn index(&self, keys: impl Fn(&K) -> Vec<String> + Send + 'static) -> Index<K> {
        let index = Index { entries: Arc::default() };
        let entries: Entries<K> = index.entries.clone();
        self.on_event(move |event| {
            let mut entries = entries.write().unwrap_or_else(PoisonError::into_inner);
            let (old, new) = match event {
                Event::Applied { old, new } => (*old, Some(*new)),
                Event::Deleted(last) => (Some(*last), None),
            };
            for (object, present) in old.map(|old| (old, false)).into_iter().chain(new.map(|new| (new, true)))
            {
                let object_key: Arc<str> = key_of(object.as_ref()).into();
                for key in keys(object) {
                    if present {
                        entries.entry(key).or_default().insert(object_key.clone(), object.clone());
                    } else if let Some(group) = entries.get_mut(&key) {
                        group.remove(&object_key);
                        if group.is_empty() {
                            entries.remove(&key);
                        }
                    }
                }
            }
        });
        index
    }

    fn apply(&self, object: K) {
        let mut handlers = lock(&self.state.handlers);
        let (key, new) = (Arc::<str>::from(key_of(&object)), Arc::new(object));
        let old = self.state.objects.write().unwrap_or_else(PoisonError::into_inner).insert(key, new.clone());
        dispatch(&mut handlers, &Event::Applied { old: old.as_ref(), new: &new });
    }

    fn delete(&self, object: K) {
        let mut handlers = lock(&self.state.handlers);
        let key = key_of(&object);
        self.state.objects.write().unwrap_or_else(PoisonError::into_inner).remove(key.as_str());
        dispatch(&mut handlers, &Event::Deleted(&Arc::new(object)));
    }

    /// Takes in a complete list: applies what changed, deletes what is gone.
    fn replace(&self, objects: Vec<K>) {
        let mut gone: BTreeMap<Arc<str>, Arc<K>> = read(&self.state.objects).clone();
        for object in objects {
            let known = gone.remove(key_of(&object).as_str());
            if known.is_none_or(|known| known.meta().resource_version != object.meta().resource_version) {
                self.apply(object);
            }
        }
        for (key, last) in gone {
            let mut handlers = lock(&self.state.handlers);
            self.state.objects.write().unwrap_or_else(PoisonError::into_inner).remove(&key);
            dispatch(&mut handlers, &Event::Deleted(&last));
        }
    }
}

fn dispatch<K>(handlers: &mut [Handler<K>], event: &Event<'_, K>) {
    handlers.iter_mut().for_each(|handler| handler(event));
}

type Entries<K> = Arc<RwLock<BTreeMap<String, BTreeMap<Arc<str>, Arc<K>>>>>;

/// Objects of an informer by keys of one's own choice, e.g. pods by node.
pub struct Index<K> {
    entries: Entries<K>,
}

impl<K> Clone for Index<K> {
    fn clone(&self) -> Self {
        Self { entries: self.entries.clone() }
    }
}

impl<K> Index<K> {
    /// The objects under `key`, ordered by namespace and name.
    pub fn get(&self, key: &str) -> Vec<Arc<K>> {
        let entries = read(&self.entries);
        entries.get(key).map(|group| group.values().cloned().collect()).unwrap_or_default()
    }

    /// How many objects there are under `key`.
    pub fn count(&self, key: &str) -> usize {
        read(&self.entries).get(key).map_or(0, BTreeMap::len)
    }
}

/// The key of an object in informers and work queues: `namespace/name`, or `name` if cluster-scoped.
pub fn object_key(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}

/// [`object_key`] of a whole object.
pub fn key_of<K: kube::Resource>(object: &K) -> String {
    let meta = object.meta();
    object_key(meta.namespace.as_deref().unwrap_or(""), meta.name.as_deref().unwrap_or(""))
}

/// Keeps one informer in step with the server.
struct Reflector<K> {
    client: kube::Client,
    informer: Informer<K>,
    scope: Scope,
}

/// Why a watch came to its end.
enum WatchEnd {
    /// Go on from the last seen version.
    Resume,
    /// The version is gone: list again.
    Relist,
}

impl<K: Object> Reflector<K> {
    async fn run(self) {
        let mut backoff = Backoff::new(Policy::RECONNECT);
        loop {
            match self.list().await {
                Ok(version) => {
                    self.informer.state.synced.send_replace(true);
                    backoff.reset();
                    self.follow(version, &mut backoff).await;
                }
                Err(error) => {
                    tracing::warn!(kind = %K::kind(&()), %error, "listing failed; trying again");
                    tokio::time::sleep(backoff.next_delay()).await;
                }
            }
        }
    }

    /// Watches from `version` on, reconnecting, until the version is too old.
    async fn follow(&self, mut version: String, backoff: &mut Backoff) {
        loop {
            let began = tokio::time::Instant::now();
            match self.watch(&mut version).await {
                Ok(WatchEnd::Resume) if began.elapsed() >= WATCH_MIN => backoff.reset(),
                // A server that ends watches at once, at its shutdown for one, is not to be hammered.
                Ok(WatchEnd::Resume) => tokio::time::sleep(backoff.next_delay()).await,
                Ok(WatchEnd::Relist) => return,
                Err(kube::Error::Api(status)) if status.code == 410 => return,
                Err(error) => {
                    tracing::debug!(kind = %K::kind(&()), %error, "watch broke; reconnecting");
                    tokio::time::sleep(backoff.next_delay()).await;
                }
            }
        }
    }

    /// Lists page by page; returns the version to watch from.
    async fn list(&self) -> Result<String, kube::Error> {
        let (mut objects, mut token) = (Vec::new(), String::new());
        loop {
            let mut uri = self.uri();
            uri.push_str(&format!("limit={PAGE}"));
            if !token.is_empty() {
                uri.push_str(&format!("&continue={}", percent_encode(&token)));
            }
            let body = fetch(&self.client, &uri).await?;
            let page: Page<'_> = serde_json::from_slice(&body).map_err(kube::Error::SerdeError)?;
            objects.extend(page.items.iter().filter_map(|item| parse(item.get())));
            token = page.metadata.r#continue;
            if token.is_empty() {
                self.informer.replace(objects);
                return Ok(page.metadata.resource_version);
            }
        }
    }

    async fn watch(&self, version: &mut String) -> Result<WatchEnd, kube::Error> {
        let uri = format!(
            "{}watch=true&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}&resourceVersion={version}",
            self.uri()
        );
        let mut lines = Box::pin(lines(&self.client, &uri).await?);
        let silence_max = Duration::from_secs(WATCH_SECONDS) + WATCH_GRACE;
        while let Ok(Some(batch)) = tokio::time::timeout(silence_max, lines.next()).await {
            for line in batch? {
                if let WatchEnd::Relist = self.take(&line, version)? {
                    return Ok(WatchEnd::Relist);
                }
            }
        }
        Ok(WatchEnd::Resume)
    }

    fn take(&self, line: &[u8], version: &mut String) -> Result<WatchEnd, kube::Error> {
        let event: RawEvent<'_> = serde_json::from_slice(line).map_err(kube::Error::SerdeError)?;
        if event.r#type == "ERROR" {
            let status: Status = serde_json::from_str(event.object.get()).map_err(kube::Error::SerdeError)?;
            return if status.code == 410 {
                Ok(WatchEnd::Relist)
            } else {
                Err(kube::Error::Api(status.boxed()))
            };
        }
        if event.r#type == "BOOKMARK" {
            let bookmark: Bookmark =
                serde_json::from_str(event.object.get()).map_err(kube::Error::SerdeError)?;
            *version = bookmark.metadata.resource_version;
            return Ok(WatchEnd::Resume);
        }
        // Go on from here even if the object cannot be parsed.
        let marker: Bookmark = serde_json::from_str(event.object.get()).map_err(kube::Error::SerdeError)?;
        *version = marker.metadata.resource_version;
        match (event.r#type, parse::<K>(event.object.get())) {
            (_, None) => {}
            ("DELETED", Some(object)) => self.informer.delete(object),
            (_, Some(object)) => self.informer.apply(object),
        }
        Ok(WatchEnd::Resume)
    }

    /// The collection's URI up to and including `?` and the selectors.
    fn uri(&self) -> String {
        let mut uri = K::url_path(&(), self.scope.namespace.as_deref());
        uri.push('?');
        for (name, value) in [("labelSelector", &self.scope.labels), ("fieldSelector", &self.scope.fields)] {
            if let Some(value) = value {
                uri.push_str(&format!("{name}={}&", percent_encode(value)));
            }
        }
        uri
    }
}

/// An object from the wire. One that does not have the type's form is said and left out: one bad object
/// must not blind a controller to all others.
fn parse<K: Object>(raw: &str) -> Option<K> {
    match serde_json::from_str(raw) {
        Ok(object) => Some(object),
        Err(error) => {
            let start: String = raw.chars().take(200).collect();
            tracing::error!(kind = %K::kind(&()), %error, %start, "an object cannot be read and is left out");
            None
        }
    }
}

/// The part of an object that tells where a watch is.
#[derive(serde::Deserialize)]
struct Bookmark {
    metadata: BookmarkMeta,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct BookmarkMeta {
    resource_version: String,
}

fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}
