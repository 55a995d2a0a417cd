//! `/healthz`, `/livez`, `/readyz` and their single checks, in upstream's form.
//!
//! An answer at all means health: the store closes itself, and with it the server, when it cannot write;
//! and what upstream does after it has begun to listen is done here before.

use http::{Response, StatusCode};

use crate::body::Body;
use crate::query::Query;
use crate::service::plain;

/// The checks of all three, in upstream's order.
const CHECKS: [&str; 34] = [
    "ping",
    "log",
    "loopback-serving-certificate",
    "etcd",
    "poststarthook/start-apiserver-admission-initializer",
    "poststarthook/generic-apiserver-start-informers",
    "poststarthook/priority-and-fairness-config-consumer",
    "poststarthook/priority-and-fairness-filter",
    "poststarthook/storage-object-count-tracker-hook",
    "poststarthook/start-apiextensions-informers",
    "poststarthook/start-apiextensions-controllers",
    "poststarthook/crd-informer-synced",
    "poststarthook/start-system-namespaces-controller",
    "poststarthook/peer-endpoint-reconciler-controller",
    "poststarthook/start-cluster-authentication-info-controller",
    "poststarthook/start-kube-apiserver-identity-lease-controller",
    "poststarthook/start-kube-apiserver-identity-lease-garbage-collector",
    "poststarthook/storage-readiness",
    "poststarthook/start-legacy-token-tracking-controller",
    "poststarthook/start-service-ip-repair-controllers",
    "poststarthook/rbac/bootstrap-roles",
    "poststarthook/scheduling/bootstrap-system-priority-classes",
    "poststarthook/priority-and-fairness-config-producer",
    "poststarthook/bootstrap-controller",
    "poststarthook/start-kubernetes-service-cidr-controller",
    "poststarthook/start-kube-aggregator-informers",
    "poststarthook/apiservice-status-local-available-controller",
    "poststarthook/apiservice-status-remote-available-controller",
    "poststarthook/apiservice-registration-controller",
    "poststarthook/apiservice-discovery-controller",
    "poststarthook/kube-apiserver-autoregistration",
    "autoregister-completion",
    "poststarthook/apiservice-openapi-controller",
    "poststarthook/apiservice-openapiv3-controller",
];

/// What `/readyz` checks besides: the first two follow `etcd`, the last comes last.
const READY: [&str; 3] = ["etcd-readiness", "informer-sync", "shutdown"];

/// The checks of `/<name>`, in order.
pub(crate) fn checks(name: &str) -> Vec<&'static str> {
    if name != "readyz" {
        return CHECKS.to_vec();
    }
    let ready = CHECKS.iter().copied().filter(|check| *check != "loopback-serving-certificate");
    let mut checks: Vec<&str> = ready.collect();
    let [readiness, informers, shutdown] = READY;
    checks.splice(3..3, [readiness, informers]);
    checks.push(shutdown);
    checks
}

/// Answers below the three paths; `None` where there is nothing.
pub(crate) fn respond(path: &str, query: &Query) -> Option<Response<Body>> {
    let path = path.strip_prefix('/')?;
    let (name, check) = path.split_once('/').map_or((path, None), |(name, check)| (name, Some(check)));
    if !matches!(name, "healthz" | "livez" | "readyz") {
        return None;
    }
    let checks = checks(name);
    if let Some(check) = check {
        let mut answer = checks.contains(&check).then(|| plain(StatusCode::OK, "ok"))?;
        answer.headers_mut().remove(http::header::X_CONTENT_TYPE_OPTIONS);
        return Some(answer);
    }
    if query.get("verbose").is_none() {
        return Some(plain(StatusCode::OK, "ok"));
    }
    Some(plain(StatusCode::OK, report(name, &checks, query.all("exclude").collect())))
}

fn report(name: &str, checks: &[&str], excluded: Vec<&str>) -> String {
    let mut lines = String::new();
    for check in checks {
        let outcome = if excluded.contains(check) { "excluded: ok" } else { "ok" };
        lines.push_str(&format!("[+]{check} {outcome}\n"));
    }
    let mut unknown: Vec<String> = excluded
        .iter()
        .filter(|check| !checks.contains(check))
        .map(|check| schema::gotext::quote(check))
        .collect();
    unknown.sort();
    unknown.dedup();
    if !unknown.is_empty() {
        lines.push_str(&format!(
            "warn: some health checks cannot be excluded: no matches for {}\n",
            unknown.join(",")
        ));
    }
    lines + &format!("{name} check passed\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_have_upstreams_form() {
        let text = report("livez", &["ping", "etcd"], vec!["etcd", "nothing"]);
        assert_eq!(
            text,
            "[+]ping ok\n[+]etcd excluded: ok\nwarn: some health checks cannot be excluded: no matches for \"nothing\"\nlivez check passed\n"
        );
        let ready = checks("readyz");
        assert_eq!(ready[..6], ["ping", "log", "etcd", "etcd-readiness", "informer-sync", CHECKS[4]]);
        assert_eq!(ready.last(), Some(&"shutdown"));
        assert!(respond("/livez/poststarthook/rbac/bootstrap-roles", &Query::default()).is_some());
        assert!(respond("/livez/shutdown", &Query::default()).is_none());
        assert!(respond("/healthz/", &Query::default()).is_none());
    }
}
