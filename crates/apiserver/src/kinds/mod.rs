//! The rows of the kind table. Adding a kind is adding a row.

use crate::columns::{self, Heading, RowFn};
use crate::fields::Label;
use crate::kind::{
    Action, Backend, Behaviour, Convert, Fields, Kind, Refusal, ScalePaths, Storage, Subresource, Text, Verbs,
};

mod core;
mod groups;
mod platform;

/// Upstream's kinds in the order of its discovery documents.
pub fn builtin() -> Vec<Kind> {
    let mut kinds = core::kinds();
    kinds.extend(groups::kinds());
    kinds
}

/// karpenter.sh, the groups of kobune.dev and metrics.k8s.io.
pub fn platform() -> Vec<Kind> {
    platform::kinds()
}

/// Verbs of most subresources that can be read and written.
const GET_PATCH_UPDATE: &[&str] = &["get", "patch", "update"];
const CREATE: &[&str] = &["create"];
const CREATE_GET: &[&str] = &["create", "get"];
const GET: &[&str] = &["get"];
const UPDATE: &[&str] = &["update"];
const PROXY: &[&str] = &["create", "delete", "get", "patch", "update"];

/// A group version that rows are declared in.
struct Group {
    name: &'static str,
    version: &'static str,
    /// Prefix of its types in the type table, e.g. `io.k8s.api.apps.v1`.
    package: &'static str,
}

impl Group {
    /// A namespaced kind with all verbs.
    fn namespaced(&self, kind: &'static str, plural: &'static str) -> RowBuilder {
        RowBuilder(self.row(kind, plural, true))
    }

    /// A cluster-scoped kind with all verbs.
    fn cluster(&self, kind: &'static str, plural: &'static str) -> RowBuilder {
        RowBuilder(self.row(kind, plural, false))
    }

    fn row(&self, kind: &'static str, plural: &'static str, namespaced: bool) -> Kind {
        let dir = if self.name.is_empty() { plural.to_owned() } else { format!("{plural}.{}", self.name) };
        let schema = if self.package.is_empty() { String::new() } else { format!("{}.{kind}", self.package) };
        Kind {
            group: self.name.into(),
            version: self.version.into(),
            kind: kind.into(),
            list_kind: format!("{kind}List").into(),
            plural: plural.into(),
            singular: kind.to_lowercase().into(),
            short_names: Vec::new(),
            categories: Vec::new(),
            namespaced,
            verbs: Verbs::All,
            schema: schema.into(),
            storage: Storage {
                backend: Backend::Durable,
                dir: dir.into(),
                group: self.name.into(),
                version: self.version.into(),
                upstream_version: self.version.into(),
                convert: None,
            },
            subresources: Vec::new(),
            table: columns::name_and_creation(),
            fields: Fields::metadata(),
            behaviour: Behaviour::default(),
            custom: None,
            deprecation: None,
        }
    }
}

/// A row under construction; every method states one way in which the kind differs from a plain one.
struct RowBuilder(Kind);

impl From<RowBuilder> for Kind {
    fn from(mut row: RowBuilder) -> Kind {
        row.0.subresources.sort_by(|a, b| a.name.cmp(&b.name));
        row.0
    }
}

impl RowBuilder {
    fn short(mut self, names: &[&'static str]) -> Self {
        self.0.short_names = names.iter().map(|name| Text::Borrowed(name)).collect();
        self
    }

    fn category(mut self, name: &'static str) -> Self {
        self.0.categories.push(name.into());
        self
    }

    fn singular(mut self, name: &'static str) -> Self {
        self.0.singular = name.into();
        self
    }

    fn verbs(mut self, verbs: Verbs) -> Self {
        self.0.verbs = verbs;
        self
    }

    fn backend(mut self, backend: Backend) -> Self {
        self.0.storage.backend = backend;
        self
    }

    /// Created, answered and forgotten.
    fn review(self) -> Self {
        self.verbs(Verbs::Create).backend(Backend::Virtual)
    }

    /// Upstream still stores an older version, which shows in the storage version hash.
    fn hashed_as(mut self, version: &'static str) -> Self {
        self.0.storage.upstream_version = version.into();
        self
    }

    /// Every request for the kind is answered with this warning.
    fn deprecated(mut self, warning: &'static str) -> Self {
        self.0.deprecation = Some(warning.into());
        self
    }

    /// This version is converted from and to another one, which is stored.
    fn stored_as(mut self, group: &'static str, version: &'static str, convert: Convert) -> Self {
        let plural = &self.0.plural;
        let dir = if group.is_empty() { plural.to_string() } else { format!("{plural}.{group}") };
        self.0.storage = Storage {
            backend: Backend::Durable,
            dir: dir.into(),
            group: group.into(),
            version: version.into(),
            upstream_version: version.into(),
            convert: Some(convert),
        };
        self
    }

    fn table(mut self, headings: &'static [Heading], row: RowFn) -> Self {
        self.0.table = columns::table(headings, row);
        self
    }

    fn fields(mut self, labels: &'static [Label]) -> Self {
        self.0.fields = Fields::of(labels);
        self
    }

    /// Names of the selectable fields in this version.
    fn field_aliases(mut self, aliases: &'static [(&'static str, &'static str)]) -> Self {
        self.0.fields.aliases = Some(aliases);
        self
    }

    /// `metadata.namespace` cannot be selected on (nodes, namespaces, …).
    fn no_namespace_field(mut self) -> Self {
        self.0.fields.by_namespace = false;
        self
    }

    fn refusal(mut self, refusal: Refusal) -> Self {
        self.0.fields.refusal = refusal;
        self
    }

    fn behaviour(mut self, change: impl FnOnce(&mut Behaviour)) -> Self {
        change(&mut self.0.behaviour);
        self
    }

    /// DELETE answers with the object.
    fn delete_returns_object(self) -> Self {
        self.behaviour(|behaviour| behaviour.delete_returns_object = true)
    }

    /// PUT must carry a resourceVersion.
    fn conditional_update(self) -> Self {
        self.behaviour(|behaviour| behaviour.unconditional_update = false)
    }

    /// PUT may create.
    fn create_on_update(self) -> Self {
        self.behaviour(|behaviour| behaviour.create_on_update = true)
    }

    /// A subresource whose body is the kind itself.
    fn own(self, name: &'static str, action: Action, verbs: &'static [&'static str]) -> Self {
        let kind = self.0.kind.clone();
        self.sub(name, action, ("", "", kind), verbs)
    }

    /// A subresource with a body of another kind; group and version empty where they are the kind's own.
    fn sub(
        mut self,
        name: &'static str,
        action: Action,
        (group, version, kind): (&'static str, &'static str, Text),
        verbs: &'static [&'static str],
    ) -> Self {
        self.0.subresources.push(Subresource {
            name: name.into(),
            action,
            group: group.into(),
            version: version.into(),
            kind,
            verbs,
        });
        self
    }

    /// A subresource with a body or options of a kind in the same group version.
    fn options(
        self,
        name: &'static str,
        action: Action,
        kind: &'static str,
        verbs: &'static [&'static str],
    ) -> Self {
        self.sub(name, action, ("", "", kind.into()), verbs)
    }

    fn status(self) -> Self {
        self.own("status", Action::Status, GET_PATCH_UPDATE)
    }

    fn scale(self) -> Self {
        let paths = ScalePaths {
            spec_replicas: "/spec/replicas".into(),
            status_replicas: "/status/replicas".into(),
            selector: Some("/spec/selector".into()),
        };
        self.sub("scale", Action::Scale(paths), ("autoscaling", "v1", "Scale".into()), GET_PATCH_UPDATE)
    }
}
