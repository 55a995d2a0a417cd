//! A definition in upstream's internal form.

use serde_json::Value;

use crate::cursor::Node;

/// A definition's spec, with what all versions have in common.
pub(super) struct View<'a> {
    pub spec: Node<'a>,
    pub versions: Vec<Version<'a>>,
    /// What all versions have in common.
    pub common: Parts<'a>,
}

/// One version, without what all have in common.
pub(super) struct Version<'a> {
    pub node: Node<'a>,
    pub name: &'a str,
    pub parts: Parts<'a>,
}

/// What may stand in `spec` or in a version.
#[derive(Clone, Copy, Default)]
pub(super) struct Parts<'a> {
    /// `schema` in versions, `validation` in the spec.
    pub schema: Option<&'a Value>,
    pub subresources: Option<&'a Value>,
    pub columns: Option<&'a Value>,
    pub selectable: Option<&'a Value>,
}

impl<'a> View<'a> {
    pub fn new(spec: &Node<'a>) -> View<'a> {
        let mut versions: Vec<Version<'a>> = spec
            .at("versions")
            .items()
            .map(|node| Version { name: node.at("name").str(), parts: Parts::of(&node), node })
            .collect();
        let mut common = Parts::default();
        if let Some(first) = versions.first().map(|version| version.parts) {
            let same = |part: fn(&Parts<'a>) -> Option<&'a Value>| {
                versions.iter().all(|version| part(&version.parts) == part(&first))
            };
            let (schema, subresources) = (same(|p| p.schema), same(|p| p.subresources));
            let (columns, selectable) = (same(|p| p.columns), same(|p| p.selectable));
            common = Parts {
                schema: first.schema.filter(|_| schema),
                subresources: first.subresources.filter(|_| subresources),
                columns: first.columns.filter(|_| columns),
                selectable: first.selectable.filter(|_| selectable),
            };
            for version in &mut versions {
                let parts = &mut version.parts;
                parts.schema = parts.schema.filter(|_| !schema);
                parts.subresources = parts.subresources.filter(|_| !subresources);
                parts.columns = parts.columns.filter(|_| !columns);
                parts.selectable = parts.selectable.filter(|_| !selectable);
            }
        }
        View { spec: spec.clone(), versions, common }
    }

    /// The schema (`schema` of a version) that is in force for a version.
    pub fn schema_of(&self, version: &str) -> Option<&'a Value> {
        let own = self.versions.iter().find(|v| v.name == version);
        self.common.schema.or(own.and_then(|v| v.parts.schema))
    }

    /// All schemas (`openAPIV3Schema`).
    pub fn schemas(&self) -> impl Iterator<Item = &'a Value> {
        let own = self.versions.iter().map(|version| version.parts.schema);
        std::iter::once(self.common.schema).chain(own).flatten().filter_map(open_api)
    }
}

impl<'a> Parts<'a> {
    fn of(version: &Node<'a>) -> Parts<'a> {
        // Go's lists are absent when they are empty.
        let list =
            |name| version.at(name).value().filter(|v| v.as_array().is_some_and(|items| !items.is_empty()));
        Parts {
            schema: version.at("schema").value(),
            subresources: version.at("subresources").value(),
            columns: list("additionalPrinterColumns"),
            selectable: list("selectableFields"),
        }
    }

    /// Whether the status is a subresource.
    pub fn has_status(&self) -> bool {
        self.subresources.and_then(|s| s.get("status")).is_some_and(|status| !status.is_null())
    }
}

/// The schema proper.
pub(super) fn open_api(schema: &Value) -> Option<&Value> {
    schema.get("openAPIV3Schema").filter(|schema| !schema.is_null())
}
