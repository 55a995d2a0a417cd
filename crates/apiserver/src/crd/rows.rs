//! The rows of the kind table that a definition makes.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use schema::structural::columns::Columns;
use schema::structural::json_path::{self, JsonPath};
use serde_json::Value;

use super::definition::{Definition, Handler};
use super::parsed::{Crd, Scale, VersionSpec};
use crate::columns;
use crate::kind::{
    Action, Backend, Behaviour, Column, Fields, Kind, Refusal, Row, ScalePaths, Storage, Subresource, Table,
    Text, Verbs, version_priority,
};

/// One row for every served version.
pub(super) fn served(definition: &Arc<Definition>) -> Vec<Kind> {
    let versions = definition.crd.spec.versions.iter().enumerate();
    versions.filter(|(_, version)| version.served).map(|(index, _)| row(definition, index)).collect()
}

/// The storage version's row, for the watch cache: every field by which any version selects.
pub(super) fn stored(definition: &Arc<Definition>) -> Kind {
    let mut kind = row(definition, definition.storage());
    let all = definition.crd.spec.versions.iter();
    kind.fields = fields(&definition.crd, all);
    kind
}

fn row(definition: &Arc<Definition>, index: usize) -> Kind {
    let crd = &definition.crd;
    let (names, version) = (&crd.status.accepted_names, &crd.spec.versions[index]);
    let stored = &crd.spec.versions[definition.storage()].name;
    let text = |text: &String| Text::Owned(text.clone());
    Kind {
        group: text(&crd.spec.group),
        version: text(&version.name),
        kind: text(&names.kind),
        list_kind: text(&names.list_kind),
        plural: text(&names.plural),
        singular: text(&names.singular),
        short_names: names.short_names.iter().map(text).collect(),
        categories: names.categories.iter().map(text).collect(),
        namespaced: crd.spec.scope == "Namespaced",
        verbs: Verbs::All,
        schema: model_name(&crd.spec.group, &version.name, &names.kind).into(),
        storage: Storage {
            backend: Backend::Durable,
            dir: crd.dir().into(),
            group: text(&crd.spec.group),
            version: text(stored),
            upstream_version: text(stored),
            convert: None,
        },
        subresources: subresources(version, &names.kind),
        table: table(&version.additional_printer_columns),
        fields: fields(crd, std::iter::once(version)),
        behaviour: Behaviour { unconditional_update: false, ..Behaviour::default() },
        deprecation: deprecation(crd, version).map(Text::Owned),
        custom: Some(Arc::new(Handler::new(definition.clone(), index))),
    }
}

/// The name in OpenAPI documents: `com.example.v1.Thing`.
fn model_name(group: &str, version: &str, kind: &str) -> String {
    let group: Vec<&str> = group.rsplit('.').collect();
    format!("{}.{version}.{kind}", group.join("."))
}

fn subresources(version: &VersionSpec, kind: &str) -> Vec<Subresource> {
    const VERBS: &[&str] = &["get", "patch", "update"];
    let Some(given) = &version.subresources else { return Vec::new() };
    let status = given.status.as_ref().map(|_| Subresource {
        name: "status".into(),
        action: Action::Status,
        group: Text::default(),
        version: Text::default(),
        kind: kind.to_owned().into(),
        verbs: VERBS,
    });
    let scale = given.scale.as_ref().map(|scale| Subresource {
        name: "scale".into(),
        action: Action::Scale(scale_paths(scale)),
        group: "autoscaling".into(),
        version: "v1".into(),
        kind: "Scale".into(),
        verbs: VERBS,
    });
    status.into_iter().chain(scale).collect()
}

/// `.spec.replicas` as a JSON pointer.
fn scale_paths(scale: &Scale) -> ScalePaths {
    let pointer = |path: &str| {
        let path = path.strip_prefix('.').unwrap_or(path).replace('~', "~0").replace('/', "~1");
        Text::Owned(format!("/{}", path.replace('.', "/")))
    };
    ScalePaths {
        spec_replicas: pointer(&scale.spec_replicas_path),
        status_replicas: pointer(&scale.status_replicas_path),
        selector: scale.label_selector_path.as_deref().filter(|path| !path.is_empty()).map(pointer),
    }
}

fn table(given: &Value) -> Table {
    let printed = Columns::new(given);
    let own = printed.iter().map(|column| Column {
        name: column.name.clone().into(),
        r#type: column.r#type.clone().into(),
        format: column.format.clone().into(),
        description: column.description.clone().into(),
        priority: i32::try_from(column.priority).unwrap_or_default(),
    });
    let all = std::iter::once(columns::name_column()).chain(own).collect();
    let row = move |object: &Value, now: Timestamp| {
        let mut cells = vec![object["metadata"]["name"].clone()];
        cells.extend(printed.cells(object, &|then| columns::age_of(then, now)));
        Row::from(cells)
    };
    Table { columns: all, row: Arc::new(row) }
}

fn fields<'a>(crd: &Crd, versions: impl Iterator<Item = &'a VersionSpec>) -> Fields {
    let mut paths: BTreeMap<String, JsonPath> = BTreeMap::new();
    for field in versions.flat_map(|version| &version.selectable_fields) {
        let name = field.json_path.strip_prefix('.').unwrap_or(&field.json_path);
        if let Ok(path) = JsonPath::parse(&format!("{{{}}}", field.json_path)) {
            paths.insert(name.to_owned(), path);
        }
    }
    let labels = paths.keys().map(|name| Text::Owned(name.clone())).collect();
    let values = move |object: &Value| paths.values().map(|path| selected(path, object)).collect();
    Fields {
        labels,
        values: Arc::new(values),
        by_namespace: crd.spec.scope == "Namespaced",
        refusal: Refusal::Plain,
        ..Fields::metadata()
    }
}

fn selected(path: &JsonPath, object: &Value) -> String {
    let Ok(found) = path.find(object) else { return String::new() };
    let first = found.first().filter(|value| !value.is_null());
    first.map(|value| json_path::print(value)).unwrap_or_default()
}

/// The warning that users of a deprecated version get.
fn deprecation(crd: &Crd, version: &VersionSpec) -> Option<String> {
    if !version.deprecated {
        return None;
    }
    if let Some(warning) = &version.deprecation_warning {
        return Some(warning.clone());
    }
    let (group, kind) = (&crd.spec.group, &crd.spec.names.kind);
    let own = version_priority(&version.name);
    let better = crd.spec.versions.iter().filter(|other| other.served && !other.deprecated);
    let better = better.filter(|other| version_priority(&other.name) > own);
    let better = better.max_by_key(|other| version_priority(&other.name));
    let advice = better.map(|other| format!("; use {group}/{} {kind}", other.name)).unwrap_or_default();
    Some(format!("{group}/{} {kind} is deprecated{advice}", version.name))
}
