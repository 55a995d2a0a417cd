//! The kind table: one [`Kind`] per built-in or custom kind and version, and the [`Registry`] that
//! routing, discovery, tables and storage are driven from.
//!
//! A `Registry` is an immutable value. Adding or removing custom kinds makes a new one
//! ([`Registry::with`], [`Registry::without`]), so that everything derived from it (discovery
//! documents) can be prepared once and goes away with it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use schema::types::{self, Type};
use serde_json::Value;

use crate::crd::Handler;
use crate::discovery::Documents;
use crate::openapi::OpenApi;

/// A string that is usually written in a row, but comes from a CustomResourceDefinition at run time.
pub type Text = Cow<'static, str>;

/// Everything the API server has to know about one kind in one version.
#[derive(Clone)]
pub struct Kind {
    /// API group, empty for core.
    pub group: Text,
    /// Version within the group, e.g. `v1`.
    pub version: Text,
    /// Kind in CamelCase, e.g. `Pod`.
    pub kind: Text,
    /// Kind of the list, e.g. `PodList`.
    pub list_kind: Text,
    /// Resource name in paths, e.g. `pods`.
    pub plural: Text,
    /// Singular name as discovery shows it, e.g. `pod`.
    pub singular: Text,
    /// Short names for kubectl, e.g. `po`.
    pub short_names: Vec<Text>,
    /// Categories for kubectl, e.g. `all`.
    pub categories: Vec<Text>,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// Verbs of the main resource, sorted as discovery shows them.
    pub verbs: Verbs,
    /// Name in the type table and in OpenAPI documents, e.g. `io.k8s.api.core.v1.Pod`; empty for kinds
    /// without a type.
    pub schema: Text,
    /// Where and as what objects are stored.
    pub storage: Storage,
    /// Subresources, sorted by name.
    pub subresources: Vec<Subresource>,
    /// Table columns and cells.
    pub table: Table,
    /// Selectable fields besides `metadata.name` and `metadata.namespace`.
    pub fields: Fields,
    /// Ways in which kinds differ on write.
    pub behaviour: Behaviour,
    /// What a CustomResourceDefinition says about its kind; none for built-in kinds.
    pub custom: Option<Arc<Handler>>,
    /// Warning that every request for the kind gets.
    pub deprecation: Option<Text>,
}

/// Verbs of the main resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbs {
    /// All eight.
    All,
    /// All but `deletecollection` (namespaces).
    NoDeleteCollection,
    /// `create` only: reviews and bindings.
    Create,
    /// `get` and `list` only: computed kinds.
    Read,
}

impl Verbs {
    /// As discovery lists them.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Verbs::All => {
                &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
            }
            Verbs::NoDeleteCollection => &["create", "delete", "get", "list", "patch", "update", "watch"],
            Verbs::Create => &["create"],
            Verbs::Read => &["get", "list"],
        }
    }

    /// Whether `verb` (as RBAC names it) is served.
    pub fn has(self, verb: &str) -> bool {
        self.names().contains(&verb)
    }
}

/// Where the objects of a kind live.
#[derive(Clone)]
pub struct Storage {
    /// Which store, if any.
    pub backend: Backend,
    /// Directory below `/registry/`: `pods`, `deployments.apps`. Versions of one kind share it.
    pub dir: Text,
    /// Group whose serialisation is stored.
    pub group: Text,
    /// Version whose serialisation is stored.
    pub version: Text,
    /// Version that upstream stores: discovery's storage version hash is made of it.
    pub upstream_version: Text,
    /// Conversion, for versions other than the stored one.
    pub convert: Option<Convert>,
}

/// Which store holds a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The durable store.
    Durable,
    /// The second, in-memory store: lost at restart, written often.
    Ephemeral,
    /// Computed on demand or create-only; never stored.
    Virtual,
}

/// Conversion between a served version and the stored one, over whole objects. `kind` and
/// `apiVersion`, where present, are rewritten as well.
#[derive(Clone, Copy)]
pub struct Convert {
    /// Served version to stored version.
    pub to_storage: fn(&mut Value),
    /// Stored version to served version.
    pub from_storage: fn(&mut Value),
}

/// One subresource of a kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Subresource {
    /// Path segment, e.g. `status`.
    pub name: Text,
    /// What it does.
    pub action: Action,
    /// Group shown in discovery and used in bodies, empty where it is the kind's own.
    pub group: Text,
    /// Version shown in discovery, empty where it is the kind's own.
    pub version: Text,
    /// Kind of the body, e.g. `Scale`.
    pub kind: Text,
    /// Verbs, sorted.
    pub verbs: &'static [&'static str],
}

/// What a subresource does.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Reads and writes the object, touching only status.
    Status,
    /// `autoscaling/v1` Scale.
    Scale(ScalePaths),
    /// Sets `spec.nodeName` of a pod.
    Binding,
    /// Deletes a pod if its disruption budgets allow.
    Eviction,
    /// Issues a service-account token.
    Token,
    /// Adds ephemeral containers to a pod.
    EphemeralContainers,
    /// Changes container resources in place.
    Resize,
    /// Removes `spec.finalizers` of a namespace.
    Finalize,
    /// Approves or denies a certificate signing request.
    Approval,
    /// Container logs.
    Log,
    /// Runs a command in a container.
    Exec,
    /// Attaches to a container.
    Attach,
    /// Forwards ports to a pod.
    PortForward,
    /// Proxies HTTP to a pod, service or node.
    Proxy,
}

/// Where the scale subresource finds its values, as JSON pointers.
#[derive(Clone, Debug, PartialEq)]
pub struct ScalePaths {
    /// Desired replicas, e.g. `/spec/replicas`.
    pub spec_replicas: Text,
    /// Observed replicas, e.g. `/status/replicas`.
    pub status_replicas: Text,
    /// The selector, if any: a LabelSelector, a plain map or a string.
    pub selector: Option<Text>,
}

/// One column definition of a Table.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Heading.
    pub name: Text,
    /// OpenAPI type.
    pub r#type: Text,
    /// OpenAPI format, or `name`, or empty.
    pub format: Text,
    /// What the column shows.
    pub description: Text,
    /// 0 is always shown, 1 with `-o wide`.
    pub priority: i32,
}

/// One row of a Table, without the object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// As many as there are columns.
    pub cells: Vec<Value>,
    /// TableRowConditions (only finished pods have one).
    pub conditions: Vec<Value>,
}

impl From<Vec<Value>> for Row {
    fn from(cells: Vec<Value>) -> Row {
        Row { cells, conditions: Vec::new() }
    }
}

/// Makes the row of one object at a time.
pub type RowFn = Arc<dyn Fn(&Value, Timestamp) -> Row + Send + Sync>;

/// Reads the selectable fields of a stored object.
pub type ValuesFn = Arc<dyn Fn(&Value) -> Vec<String> + Send + Sync>;

/// How a kind is shown as a Table.
#[derive(Clone)]
pub struct Table {
    /// The column definitions.
    pub columns: Arc<[Column]>,
    /// Row of one object (in this kind's version) at a time.
    pub row: RowFn,
}

/// Selectable fields of a kind besides `metadata.name`, which every kind has.
#[derive(Clone)]
pub struct Fields {
    /// Labels that may be used in a field selector.
    pub labels: Arc<[Text]>,
    /// Values of all `labels` of one stored object, in the order of `labels`. All versions of a kind
    /// have the same, so that the cache computes them once.
    pub values: ValuesFn,
    /// Names that stand for `labels` in this version, if they differ from the stored version's.
    pub aliases: Option<&'static [(&'static str, &'static str)]>,
    /// Whether `metadata.namespace` may be used as well.
    pub by_namespace: bool,
    /// Wording of the error for any other label.
    pub refusal: Refusal,
}

/// Upstream words the refusal of an unknown field label in several ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `field label not supported: X`
    Plain,
    /// `"X" is not a known field selector: only "metadata.name", "metadata.namespace"`
    OnlyMetadata,
    /// `field label "X" not supported for Job`
    QuotedForKind,
    /// `field label not supported for resource.k8s.io/v1, Kind=ResourceSlice: X`
    ForGroupVersionKind,
}

/// Ways in which kinds differ on write and delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behaviour {
    /// DELETE starts a grace period (pods).
    pub graceful_delete: bool,
    /// DELETE answers with the last object instead of a Status.
    pub delete_returns_object: bool,
    /// PUT without resourceVersion overwrites.
    pub unconditional_update: bool,
    /// PUT of a missing object creates it.
    pub create_on_update: bool,
    /// Dependents are orphaned unless the request says otherwise (ReplicationController, Job).
    pub orphans_by_default: bool,
}

impl Default for Behaviour {
    fn default() -> Behaviour {
        Behaviour {
            graceful_delete: false,
            delete_returns_object: false,
            unconditional_update: true,
            create_on_update: false,
            orphans_by_default: false,
        }
    }
}

impl Kind {
    /// `v1`, `apps/v1`.
    pub fn api_version(&self) -> String {
        group_version(&self.group, &self.version)
    }

    /// `pods`, `deployments.apps`: how messages name the resource.
    pub fn qualified_resource(&self) -> String {
        if self.group.is_empty() {
            self.plural.to_string()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    /// `Pod`, `Deployment.apps`: how messages name the kind.
    pub fn qualified_kind(&self) -> String {
        if self.group.is_empty() { self.kind.to_string() } else { format!("{}.{}", self.kind, self.group) }
    }

    /// The key under which upstream keeps an object, which some messages quote.
    pub fn upstream_key(&self, namespace: &str, name: &str) -> String {
        let plural = self.plural.as_ref();
        let directory = match (self.group.as_ref(), plural) {
            ("", "services") => "services/specs".to_owned(),
            ("", "endpoints") => "services/endpoints".to_owned(),
            ("", "nodes") => "minions".to_owned(),
            ("", "replicationcontrollers") => "controllers".to_owned(),
            ("networking.k8s.io", "ingresses") => "ingress".to_owned(),
            (group @ ("apiextensions.k8s.io" | "apiregistration.k8s.io"), _) => format!("{group}/{plural}"),
            (group, _) if self.is_custom() => format!("{group}/{plural}"),
            _ => plural.to_owned(),
        };
        let inside = if self.namespaced { format!("{namespace}/{name}") } else { name.to_owned() };
        format!("/registry/{directory}/{inside}")
    }

    /// `/registry/pods/` or `/registry/pods/<namespace>/`.
    pub fn prefix(&self, namespace: Option<&str>) -> String {
        match namespace {
            Some(namespace) if self.namespaced => format!("/registry/{}/{namespace}/", self.storage.dir),
            _ => format!("/registry/{}/", self.storage.dir),
        }
    }

    /// The storage key of one object; `namespace` is ignored for cluster-scoped kinds.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        if self.namespaced {
            format!("/registry/{}/{namespace}/{name}", self.storage.dir)
        } else {
            format!("/registry/{}/{name}", self.storage.dir)
        }
    }

    /// The subresource of that name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|sub| sub.name == name)
    }

    /// Whether the cache hands out objects in this version: it is the stored one, or the kind is a custom
    /// one, whose objects are converted on their way out of the cache.
    pub fn is_stored_version(&self) -> bool {
        self.storage.convert.is_none()
    }

    /// Whether the kind comes from a CustomResourceDefinition: list items carry kind and apiVersion.
    pub fn is_custom(&self) -> bool {
        self.custom.is_some()
    }

    /// The type of the objects, if there is one.
    pub fn ty(&self) -> Option<&Type> {
        match &self.custom {
            Some(handler) => handler.ty(),
            None => types::get(&self.schema),
        }
    }
}

/// `v1` for core, else `group/version`.
pub fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// The index of a group, or where it goes if it is one of custom resources.
fn place_of_group(groups: &[Arc<Group>], builtin: usize, name: &str) -> Result<usize, usize> {
    let (fixed, custom) = groups.split_at(builtin);
    if let Some(index) = fixed.iter().position(|group| group.name == name) {
        return Ok(index);
    }
    match custom.binary_search_by(|group| group.name.as_ref().cmp(name)) {
        Ok(index) => Ok(builtin + index),
        Err(index) => Err(builtin + index),
    }
}

/// Where a new version goes: those of custom resources by maturity and number, newest first.
fn place_of_version(versions: &[Version], kind: &Kind) -> usize {
    let priority = version_priority(&kind.version);
    let follows = |version: &Version| kind.is_custom() && version_priority(&version.name) < priority;
    versions.iter().position(follows).unwrap_or(versions.len())
}

/// Orders versions as upstream does: `v2` > `v1` > `v1beta2` > `v1alpha1` > anything else, and those
/// by name in reverse.
pub fn version_priority(version: &str) -> (u8, u32, u32, std::cmp::Reverse<String>) {
    let other = || (0, 0, 0, std::cmp::Reverse(version.to_owned()));
    let none = || std::cmp::Reverse(String::new());
    let Some(rest) = version.strip_prefix('v') else { return other() };
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let Ok(major) = rest[..digits].parse() else { return other() };
    match &rest[digits..] {
        "" => (3, major, 0, none()),
        suffix => {
            let (rank, minor) = match (suffix.strip_prefix("beta"), suffix.strip_prefix("alpha")) {
                (Some(minor), _) => (2, minor),
                (_, Some(minor)) => (1, minor),
                _ => return other(),
            };
            minor.parse().map_or_else(|_| other(), |minor| (rank, major, minor, none()))
        }
    }
}

/// All kinds that are served, in discovery order.
pub struct Registry {
    /// Groups in the order of `/apis` (core, the empty group, comes first). Those of custom resources
    /// alone come last, by name.
    groups: Vec<Arc<Group>>,
    /// How many groups there are before those of custom resources.
    builtin: usize,
    /// Discovery documents, made on first use.
    documents: OnceLock<Arc<Documents>>,
    /// OpenAPI documents, made on first use.
    openapi: OnceLock<Arc<OpenApi>>,
}

/// One API group.
#[derive(Clone)]
pub struct Group {
    /// Name, empty for core.
    pub name: Text,
    /// Versions, the preferred one first.
    pub versions: Vec<Version>,
}

/// One version of a group.
#[derive(Clone)]
pub struct Version {
    /// E.g. `v1`.
    pub name: Text,
    /// Kinds by plural name; discovery sorts by it as well.
    pub kinds: BTreeMap<Text, Arc<Kind>>,
}

impl Group {
    fn add(&mut self, kind: Kind) {
        let index = self.versions.iter().position(|version| version.name == kind.version);
        let index = index.unwrap_or_else(|| {
            let index = place_of_version(&self.versions, &kind);
            self.versions.insert(index, Version { name: kind.version.clone(), kinds: BTreeMap::new() });
            index
        });
        self.versions[index].kinds.insert(kind.plural.clone(), Arc::new(kind));
    }

    /// Whether all that it has comes from CustomResourceDefinitions.
    pub fn is_custom(&self) -> bool {
        self.versions.iter().all(|version| version.kinds.values().all(|kind| kind.is_custom()))
    }
}

impl Registry {
    /// The kinds of upstream Kubernetes v1.36, and nothing else.
    pub fn builtin() -> Registry {
        Registry::empty().with(crate::kinds::builtin())
    }

    /// Upstream's kinds, the platform's own groups, karpenter.sh and metrics.k8s.io.
    pub fn with_platform() -> Registry {
        Registry::builtin().with(crate::kinds::platform())
    }

    /// No kinds at all.
    pub fn empty() -> Registry {
        Registry::of(Vec::new(), 0)
    }

    fn of(groups: Vec<Arc<Group>>, builtin: usize) -> Registry {
        Registry { groups, builtin, documents: OnceLock::new(), openapi: OnceLock::new() }
    }

    /// A registry with `kinds` added (or replaced). New groups and versions come after the known ones.
    /// What is not touched is shared with this registry.
    #[must_use]
    pub fn with(&self, kinds: impl IntoIterator<Item = Kind>) -> Registry {
        let (mut groups, mut builtin) = (self.groups.clone(), self.builtin);
        for kind in kinds {
            let index = place_of_group(&groups, builtin, &kind.group).unwrap_or_else(|custom| {
                let index = if kind.is_custom() { custom } else { builtin };
                builtin += usize::from(!kind.is_custom());
                groups.insert(index, Arc::new(Group { name: kind.group.clone(), versions: Vec::new() }));
                index
            });
            Arc::make_mut(&mut groups[index]).add(kind);
        }
        Registry::of(groups, builtin)
    }

    /// A registry without the kinds that `drop` picks; empty versions and groups go with them.
    #[must_use]
    pub fn without(&self, drop: impl Fn(&Kind) -> bool) -> Registry {
        let (mut groups, mut builtin) = (Vec::with_capacity(self.groups.len()), self.builtin);
        for (index, group) in self.groups.iter().enumerate() {
            let mut kinds = group.versions.iter().flat_map(|version| version.kinds.values());
            if !kinds.any(|kind| drop(kind)) {
                groups.push(group.clone());
                continue;
            }
            let mut left = Group::clone(group);
            left.versions.iter_mut().for_each(|version| version.kinds.retain(|_, kind| !drop(kind)));
            left.versions.retain(|version| !version.kinds.is_empty());
            if !left.versions.is_empty() {
                groups.push(Arc::new(left));
            } else if index < self.builtin {
                builtin -= 1;
            }
        }
        Registry::of(groups, builtin)
    }

    /// The kind served at `/apis/{group}/{version}/…/{plural}` (group empty: `/api/{version}`).
    pub fn resource(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Kind>> {
        self.version(group, version)?.kinds.get(plural)
    }

    /// The kind of that group, version and CamelCase name that is a main resource.
    pub fn kind(&self, group: &str, version: &str, kind: &str) -> Option<&Arc<Kind>> {
        self.version(group, version)?.kinds.values().find(|row| row.kind == kind)
    }

    /// Any version of a kind, the preferred one first.
    pub fn any_version(&self, group: &str, kind: &str) -> Option<&Arc<Kind>> {
        let group = self.group(group)?;
        group.versions.iter().find_map(|version| version.kinds.values().find(|row| row.kind == kind))
    }

    /// One group version.
    pub fn version(&self, group: &str, version: &str) -> Option<&Version> {
        self.group(group)?.versions.iter().find(|row| row.name == version)
    }

    /// One group.
    pub fn group(&self, name: &str) -> Option<&Group> {
        place_of_group(&self.groups, self.builtin, name).ok().map(|index| &*self.groups[index])
    }

    /// All groups in discovery order, core first.
    pub fn groups(&self) -> &[Arc<Group>] {
        &self.groups
    }

    /// All kinds in all versions.
    pub fn kinds(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.groups.iter().flat_map(|group| &group.versions).flat_map(|version| version.kinds.values())
    }

    /// One kind per storage directory, in the stored version: what the watch cache follows.
    pub fn stored(&self) -> impl Iterator<Item = &Arc<Kind>> {
        let stored = |kind: &Kind| kind.is_stored_version() && kind.version == kind.storage.version;
        self.kinds().filter(move |kind| kind.storage.backend != Backend::Virtual && stored(kind))
    }

    /// The discovery documents of this registry, prepared once.
    pub fn documents(&self) -> &Arc<Documents> {
        self.documents.get_or_init(|| Arc::new(Documents::new(self)))
    }

    /// The OpenAPI documents of this registry, each made once.
    pub fn openapi(&self) -> &Arc<OpenApi> {
        self.openapi.get_or_init(|| Arc::new(OpenApi::new(self)))
    }
}
