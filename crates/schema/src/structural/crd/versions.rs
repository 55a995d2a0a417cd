//! Versions and which of them are stored.

use std::collections::BTreeSet;

use super::view::{Version, View};
use crate::cursor::Node;
use crate::field::{ErrorList, Path};

/// `status.storedVersions`: those that ever were must still be there.
pub(super) fn stored(stored: &Node<'_>, view: &View<'_>, errs: &mut ErrorList) {
    if stored.is_empty() {
        return errs.push(stored.invalid("must have at least one stored version"));
    }
    // Each name is found once.
    let mut names: BTreeSet<&str> = stored.strings().into_iter().collect();
    for version in &view.versions {
        if !names.remove(version.name) && version.node.at("storage").bool() {
            errs.push(stored.invalid(format!("must have the storage version {}", version.name)));
        }
    }
    for item in stored.items() {
        let name = item.str();
        // Of a name that is there twice, upstream remembers the last place.
        let last = stored.items().filter(|other| other.str() == name).last();
        let is_last = last.is_some_and(|last| last.path().to_string() == item.path().to_string());
        if is_last && !view.versions.iter().any(|version| version.name == name) {
            errs.push(item.invalid_str(format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
            )));
        }
    }
}

/// A version's deprecation warning.
pub(super) fn deprecation_warning(version: &Version<'_>, errs: &mut ErrorList) {
    let warning = version.node.at("deprecationWarning");
    let Some(text) = warning.opt_str() else { return };
    if !version.node.at("deprecated").bool() {
        return errs.push(warning.invalid_str("can only be set for deprecated versions"));
    }
    if text.len() > 256 {
        errs.push(warning.invalid_str("must be <= 256 characters long"));
    }
    if text.is_empty() {
        errs.push(warning.invalid_str("must not be an empty string"));
    }
    if let Some((index, _)) = text.char_indices().find(|(_, c)| !base::gotext::printable(*c)) {
        errs.push(warning.invalid_str(format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {index}"
        )));
    }
}

/// The versions as upstream's internal type prints them.
pub(super) fn printed(view: &View<'_>) -> String {
    if !view.spec.at("versions").is_set() {
        return "null".to_owned();
    }
    let versions: Vec<String> = view.versions.iter().map(print).collect();
    format!("[{}]", versions.join(","))
}

fn print(version: &Version<'_>) -> String {
    let json =
        |value: Option<&serde_json::Value>| value.map_or_else(|| "null".to_owned(), ToString::to_string);
    let parts = &version.parts;
    format!(
        r#"{{"Name":{},"Served":{},"Storage":{},"Deprecated":{},"DeprecationWarning":{},"Schema":{},"Subresources":{},"AdditionalPrinterColumns":{},"SelectableFields":{}}}"#,
        serde_json::Value::from(version.name),
        version.node.at("served").bool(),
        version.node.at("storage").bool(),
        version.node.at("deprecated").bool(),
        json(version.node.at("deprecationWarning").value()),
        json(parts.schema),
        json(parts.subresources),
        json(parts.columns),
        json(parts.selectable),
    )
}

/// Where the spec complains about its versions.
pub(super) fn path<'a>(view: &View<'a>) -> Path<'a> {
    view.spec.at("versions").path().clone()
}
