//! Groups of Kubernetes' own need an annotation that says who approved the API.

use crate::cursor::Node;
use crate::field::ErrorList;

const ANNOTATION: &str = "api-approved.kubernetes.io";

#[derive(PartialEq, Eq)]
enum State {
    Missing,
    Bypassed,
    Approved,
    Invalid,
}

fn state(annotation: &str) -> State {
    let host = |url: &str| {
        let after = url.split_once("://").map(|(scheme, rest)| (scheme, rest.split(['/', '?']).next()));
        after.is_some_and(|(scheme, host)| !scheme.is_empty() && host.is_some_and(|host| !host.is_empty()))
    };
    match annotation {
        "" => State::Missing,
        text if text.starts_with("unapproved") => State::Bypassed,
        text if crate::structural::formats::is_request_uri(text) && host(text) => State::Approved,
        _ => State::Invalid,
    }
}

fn is_protected(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"].iter().any(|domain| {
        group.strip_suffix(domain).is_some_and(|front| front.is_empty() || front.ends_with('.'))
    })
}

pub(super) fn validate(new: &Node<'_>, old: Option<&Node<'_>>, errs: &mut ErrorList) {
    if !is_protected(new.at("spec").at("group").str()) {
        return;
    }
    let meta = new.at("metadata");
    let annotation = meta.at("annotations").key(ANNOTATION);
    let now = state(annotation.str());
    let before = old.map(|old| state(old.at("metadata").at("annotations").key(ANNOTATION).str()));
    if before.is_some_and(|before| before == now) {
        return;
    }
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    match now {
        State::Missing => errs.push(
            annotation.required(format!("protected groups must have approval annotation \"{ANNOTATION}\", {see}")),
        ),
        State::Invalid => errs.push(annotation.invalid_str(format!(
            "protected groups must have approval annotation \"{ANNOTATION}\" with either a URL or a reason starting with \"unapproved\", {see}"
        ))),
        State::Approved | State::Bypassed => {}
    }
}
