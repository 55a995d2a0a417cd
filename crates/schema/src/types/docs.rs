//! The texts of OpenAPI documents: `.docs` files beside the type table, read when a document is made
//! and forgotten with the reader.
//!
//! The files are written by `cargo xtask types` from upstream's doc comments; their format is described
//! in `xtask/src/docs.rs`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::table;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// Reads descriptions, package by package.
#[derive(Default)]
pub struct Docs(BTreeMap<&'static str, Package>);

/// The types of a package by name.
type Package = BTreeMap<&'static str, Described>;

#[derive(Default)]
struct Described {
    text: &'static str,
    fields: BTreeMap<&'static str, &'static str>,
}

impl Docs {
    /// The description of a type, by its OpenAPI name. Of an enum: what is added to the description of
    /// its fields.
    pub fn of_type(&mut self, name: &str) -> Option<Cow<'static, str>> {
        self.find(name, None)
    }

    /// The description of a field of a type.
    pub fn of_field(&mut self, of: &str, field: &str) -> Option<Cow<'static, str>> {
        self.find(of, Some(field))
    }

    fn find(&mut self, of: &str, field: Option<&str>) -> Option<Cow<'static, str>> {
        let (package, name) = of.rsplit_once('.')?;
        // Quantities and the like are described with the other types that every package uses.
        let package = table::docs_of(package).or_else(|| {
            package.starts_with("io.k8s.apimachinery.pkg.").then(|| table::docs_of(META)).flatten()
        })?;
        let types = self.0.entry(package.0).or_insert_with(|| parse(package.1));
        let find = |name: &str, field: Option<&str>| {
            let described = types.get(name)?;
            match field {
                Some(field) => described.fields.get(field).copied(),
                None => Some(described.text).filter(|text| !text.is_empty()),
            }
        };
        let text = find(name, field)?;
        let text = match text.strip_prefix('=') {
            Some(same) => match same.split_once('.') {
                Some((name, field)) => find(name, Some(field))?,
                None => find(same, None)?,
            },
            None => text,
        };
        Some(unescape(text))
    }
}

fn parse(text: &'static str) -> Package {
    let mut types = Package::new();
    let mut last = "";
    for line in text.lines() {
        let (name, text) = line.trim_start().split_once(' ').unwrap_or((line, ""));
        if line.starts_with("  ") {
            types.entry(last).or_default().fields.insert(name, text);
        } else {
            last = name;
            types.entry(last).or_default().text = text;
        }
    }
    types
}

fn unescape(text: &'static str) -> Cow<'static, str> {
    if !text.contains('\\') {
        return text.into();
    }
    let mut out = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        out.push(match letter {
            '\\' => match letters.next() {
                Some('n') => '\n',
                Some('t') => '\t',
                Some(other) => other,
                None => break,
            },
            other => other,
        });
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_fields_and_enums_have_texts() {
        let mut docs = Docs::default();
        let pod = docs.of_type("io.k8s.api.core.v1.Pod").unwrap();
        assert!(pod.starts_with("Pod is a collection of containers"));
        // The same text stands with an earlier type.
        let metadata = docs.of_field("io.k8s.api.apps.v1.Deployment", "metadata").unwrap();
        assert!(metadata.starts_with("Standard object's metadata."));
        let protocol = docs.of_type("io.k8s.api.core.v1.Protocol").unwrap();
        assert!(protocol.starts_with("\n\nPossible enum values:\n - `\"SCTP\"` is the SCTP protocol."));
        assert!(docs.of_type("io.k8s.apimachinery.pkg.api.resource.Quantity").unwrap().contains("\n\n\t"));
        assert!(docs.of_field("io.k8s.api.core.v1.Pod", "nope").is_none());
        assert!(docs.of_type("io.example.v1.Thing").is_none());
    }
}
