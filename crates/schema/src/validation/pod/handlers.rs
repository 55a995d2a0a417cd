//! Probes and lifecycle hooks.

use super::super::{format, rules};
use super::Pod;
use crate::cursor::Node;
use crate::field::{Error, ErrorList};

const SIGNALS: [&str; 65] = [
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGIOT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPOLL",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGRTMAX",
    "SIGRTMAX-1",
    "SIGRTMAX-10",
    "SIGRTMAX-11",
    "SIGRTMAX-12",
    "SIGRTMAX-13",
    "SIGRTMAX-14",
    "SIGRTMAX-2",
    "SIGRTMAX-3",
    "SIGRTMAX-4",
    "SIGRTMAX-5",
    "SIGRTMAX-6",
    "SIGRTMAX-7",
    "SIGRTMAX-8",
    "SIGRTMAX-9",
    "SIGRTMIN",
    "SIGRTMIN+1",
    "SIGRTMIN+10",
    "SIGRTMIN+11",
    "SIGRTMIN+12",
    "SIGRTMIN+13",
    "SIGRTMIN+14",
    "SIGRTMIN+15",
    "SIGRTMIN+2",
    "SIGRTMIN+3",
    "SIGRTMIN+4",
    "SIGRTMIN+5",
    "SIGRTMIN+6",
    "SIGRTMIN+7",
    "SIGRTMIN+8",
    "SIGRTMIN+9",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
];

/// All three probes of a container.
pub fn probes(pod: &Pod<'_>, container: &Node, errs: &mut ErrorList) {
    if let Some(liveness) = container.at("livenessProbe").opt() {
        probe(pod, &liveness, errs);
        once_successful(&liveness, errs);
    }
    if let Some(readiness) = container.at("readinessProbe").opt() {
        probe(pod, &readiness, errs);
        if let Some(period) = readiness.at("terminationGracePeriodSeconds").opt() {
            errs.push(period.invalid("must not be set for readinessProbes"));
        }
    }
    if let Some(startup) = container.at("startupProbe").opt() {
        probe(pod, &startup, errs);
        once_successful(&startup, errs);
    }
}

fn once_successful(probe: &Node, errs: &mut ErrorList) {
    let threshold = probe.at("successThreshold");
    if threshold.i64() != 1 {
        errs.push(threshold.invalid_i64("must be 1"));
    }
}

fn probe(pod: &Pod<'_>, probe: &Node, errs: &mut ErrorList) {
    handler(pod, probe, &["exec", "httpGet", "tcpSocket", "grpc"], errs);
    for count in
        ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
    {
        rules::nonnegative(&probe.at(count), errs);
    }
    if let Some(period) = probe.at("terminationGracePeriodSeconds").opt()
        && period.i64() <= 0
    {
        errs.push(period.invalid("must be greater than 0"));
    }
}

/// `lifecycle` of a container, if it has one.
pub fn lifecycle(pod: &Pod<'_>, container: &Node, errs: &mut ErrorList) {
    let lifecycle = container.at("lifecycle");
    for hook in ["postStart", "preStop"] {
        if let Some(hook) = lifecycle.at(hook).opt() {
            handler(pod, &hook, &["exec", "httpGet", "tcpSocket", "sleep"], errs);
        }
    }
    if let Some(signal) = lifecycle.at("stopSignal").opt() {
        match pod.os() {
            None => errs.push(signal.forbidden("may not be set for containers with empty `spec.os.name`")),
            Some("windows") => rules::one_of(&signal, &["SIGKILL", "SIGTERM"], errs),
            Some("linux") => rules::one_of(&signal, &SIGNALS, errs),
            Some(_) => {}
        }
    }
}

/// Exactly one of the kinds of handler.
fn handler(pod: &Pod<'_>, handler: &Node, kinds: &[&'static str], errs: &mut ErrorList) {
    let mut found = false;
    for kind in kinds {
        let Some(action) = handler.object().and_then(|h| h.get(*kind)).and_then(|_| handler.at(kind).opt())
        else {
            continue;
        };
        if found {
            errs.push(action.forbidden("may not specify more than 1 handler type"));
            continue;
        }
        found = true;
        match *kind {
            "exec" => {
                rules::not_empty(&action.at("command"), errs);
            }
            "httpGet" => http_get(&action, errs),
            "sleep" => sleep(pod, &action, errs),
            "grpc" => rules::number(&action.at("port"), format::port_number, errs),
            _ => rules::port_number_or_name(&action.at("port"), errs),
        }
    }
    if !found {
        errs.push(handler.required("must specify a handler type"));
    }
}

fn http_get(action: &Node, errs: &mut ErrorList) {
    rules::not_empty(&action.at("path"), errs);
    rules::port_number_or_name(&action.at("port"), errs);
    rules::one_of(&action.at("scheme"), &["HTTP", "HTTPS"], errs);
    let headers = action.at("httpHeaders");
    for name in headers.items().map(|header| header.at("name").str()) {
        let wrong = format::http_header_name(name);
        errs.extend(wrong.into_iter().map(|m| headers.invalid_as(name, m)));
    }
}

fn sleep(pod: &Pod<'_>, action: &Node, errs: &mut ErrorList) {
    let seconds = action.at("seconds").i64();
    if let Some(grace) = pod.grace_period
        && !(0..=grace).contains(&seconds)
    {
        let detail = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        errs.push(Error::invalid(action.path(), seconds, detail));
    }
}
