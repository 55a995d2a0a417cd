//! Which names of a definition are accepted: those that no other definition of its group has taken.
//!
//! The rules are those of upstream's naming and establishing controllers.

use std::collections::BTreeSet;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};

use super::conditions;
use super::parsed::{Condition, Crd, Names};

/// The names that the definitions of a group have.
#[derive(Debug, Default)]
pub(super) struct Taken {
    resources: BTreeSet<String>,
    kinds: BTreeSet<String>,
}

impl Taken {
    /// Takes over the accepted names of one definition.
    pub fn add(&mut self, names: &Names) {
        self.resources.extend([names.plural.clone(), names.singular.clone()]);
        self.resources.extend(names.short_names.iter().cloned());
        self.kinds.extend([names.kind.clone(), names.list_kind.clone()]);
    }
}

/// What the status is to say.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Verdict {
    /// New accepted names.
    pub names: Option<Names>,
    /// Conditions that are not as they should be.
    pub conditions: Vec<Condition>,
}

impl Verdict {
    pub fn is_empty(&self) -> bool {
        self.names.is_none() && self.conditions.is_empty()
    }

    /// Writes it into the status.
    pub fn write(&self, object: &mut Value) {
        if !object["status"].is_object() {
            object["status"] = json!({});
        }
        if let Some(names) = &self.names {
            object["status"]["acceptedNames"] = json!(names);
        }
        for condition in &self.conditions {
            conditions::set(object, condition);
        }
    }

    /// The definition as the status will have it.
    pub fn apply(&self, crd: &mut Crd) {
        if let Some(names) = &self.names {
            crd.status.accepted_names = names.clone();
        }
        let list = crd.status.conditions.get_or_insert_default();
        for condition in &self.conditions {
            list.retain(|known| known.r#type != condition.r#type);
            list.push(condition.clone());
        }
    }
}

/// What a definition's status is to say, given what the definitions of its group (itself among them)
/// have taken.
pub(super) fn judge(crd: &Crd, taken: &Taken) -> Verdict {
    let mut verdict = Verdict::default();
    let wanted = |verdict: &mut Verdict, condition: Condition| {
        if crd.condition(&condition.r#type) != Some(&condition) {
            verdict.conditions.push(condition);
        }
    };
    let mut accepted = crd.is("NamesAccepted");
    if crd.spec.names != crd.status.accepted_names || crd.condition("NamesAccepted").is_none() {
        let (names, condition) = accept(crd, taken);
        accepted = condition.status == "True";
        if names != crd.status.accepted_names {
            verdict.names = Some(names);
        }
        wanted(&mut verdict, condition);
    }
    let established = crd.is("Established");
    if !established && crd.metadata.deletion_timestamp.is_none() {
        wanted(&mut verdict, establish(crd, accepted));
    }
    if let Some(condition) = conditions::approval(crd) {
        wanted(&mut verdict, condition);
    }
    verdict
}

fn accept(crd: &Crd, taken: &Taken) -> (Names, Condition) {
    let (requested, accepted) = (&crd.spec.names, &crd.status.accepted_names);
    let mut names = accepted.clone();
    let mut refusal: Option<(&str, String)> = None;
    let in_use = |name: &str| format!("{} is already in use", schema::gotext::quote(name));
    let mut check = |new: &str, old: &str, among: &BTreeSet<String>, reason, into: &mut String| {
        if new != old && among.contains(new) {
            refusal = Some((reason, in_use(new)));
        } else {
            new.clone_into(into);
        }
    };
    let resources = &taken.resources;
    check(&requested.plural, &accepted.plural, resources, "PluralConflict", &mut names.plural);
    check(&requested.singular, &accepted.singular, resources, "SingularConflict", &mut names.singular);
    if requested.short_names != accepted.short_names {
        let new = requested.short_names.iter().filter(|name| !accepted.short_names.contains(name));
        let refused: Vec<String> =
            new.filter(|name| resources.contains(*name)).map(|name| in_use(name)).collect();
        match refused.as_slice() {
            [] => names.short_names = requested.short_names.clone(),
            [one] => refusal = Some(("ShortNamesConflict", one.clone())),
            many => refusal = Some(("ShortNamesConflict", format!("[{}]", many.join(", ")))),
        }
    }
    let mut check = |new: &str, old: &str, reason, into: &mut String| {
        if new != old && taken.kinds.contains(new) {
            refusal = Some((reason, in_use(new)));
        } else {
            new.clone_into(into);
        }
    };
    check(&requested.kind, &accepted.kind, "KindConflict", &mut names.kind);
    check(&requested.list_kind, &accepted.list_kind, "ListKindConflict", &mut names.list_kind);
    names.categories = requested.categories.clone();
    let condition = match refusal {
        Some((reason, message)) => Condition::new("NamesAccepted", "False", reason, message),
        None => Condition::new("NamesAccepted", "True", "NoConflicts", "no conflicts found"),
    };
    (names, condition)
}

fn establish(crd: &Crd, accepted: bool) -> Condition {
    if !accepted {
        return match crd.condition("Established") {
            Some(known) => known.clone(),
            None => Condition::new("Established", "False", "NotAccepted", "not all names are accepted"),
        };
    }
    let webhook = crd.spec.conversion.as_ref().and_then(|conversion| conversion.webhook.as_ref());
    let bundle = webhook.and_then(|webhook| webhook.client_config["caBundle"].as_str());
    if bundle.is_some_and(|bundle| !bundle.is_empty() && !is_ca_bundle(bundle)) {
        let message = "The conversion webhook CABundle is invalid";
        return Condition::new("Established", "False", "InvalidCABundle", message);
    }
    let message = "the initial names have been accepted";
    Condition::new("Established", "True", "InitialNamesAccepted", message)
}

/// Whether base64 text holds at least one certificate in PEM.
fn is_ca_bundle(text: &str) -> bool {
    use base64::Engine as _;
    let Ok(pem) = base64::engine::general_purpose::STANDARD.decode(text) else { return false };
    if pem.iter().all(u8::is_ascii_whitespace) {
        return true;
    }
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    certificates.is_ok_and(|certificates| !certificates.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crd(plural: &str, short: &[&str], kind: &str) -> Crd {
        let definition = json!({"metadata": {"name": format!("{plural}.x.io")}, "spec": {"group": "x.io",
            "scope": "Namespaced", "names": {"plural": plural, "singular": kind.to_lowercase(),
            "shortNames": short, "kind": kind, "listKind": format!("{kind}List")}}});
        Crd::parse(definition.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn the_first_to_ask_gets_the_name() {
        let mut taken = Taken::default();
        let mut first = crd("things", &["th"], "Thing");
        let verdict = judge(&first, &taken);
        verdict.apply(&mut first);
        assert!(first.is("NamesAccepted") && first.is("Established"));
        taken.add(&first.status.accepted_names);
        assert!(judge(&first, &taken).is_empty());

        let mut second = crd("theses", &["th"], "Thesis");
        judge(&second, &taken).apply(&mut second);
        let refused = second.condition("NamesAccepted").unwrap();
        assert_eq!(
            (refused.reason.as_str(), refused.message.as_str()),
            ("ShortNamesConflict", "\"th\" is already in use")
        );
        assert_eq!(second.condition("Established").unwrap().reason, "NotAccepted");
        assert_eq!(second.status.accepted_names.plural, "theses");
        // Once the name is free it is established.
        judge(&second, &Taken::default()).apply(&mut second);
        assert!(second.is("Established"));
    }
}
