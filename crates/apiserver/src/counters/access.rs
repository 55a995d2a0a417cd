//! How often somebody was recognised and allowed, and what the server is. Names and labels are upstream's.

use std::fmt::Write;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::describe;

/// Outcomes of authentication and authorization.
#[derive(Default)]
pub(crate) struct Access {
    recognised: AtomicU64,
    unknown: AtomicU64,
    /// Requests of users with telling names, and of all others.
    users: [AtomicU64; USERS.len()],
    allowed: AtomicU64,
    denied: AtomicU64,
}

/// Names that are told apart: there would be no end to all.
const USERS: [&str; 6] =
    ["admin", "client", "kube_proxy", "kubelet", "system:serviceaccount:kube-system:default", "other"];

impl Access {
    /// A sender was recognised.
    pub fn recognised(&self, user: &str) {
        self.recognised.fetch_add(1, Relaxed);
        let place = USERS.iter().position(|known| *known == user).unwrap_or(USERS.len() - 1);
        self.users[place].fetch_add(1, Relaxed);
    }

    /// Credentials did not hold.
    pub fn unknown(&self) {
        self.unknown.fetch_add(1, Relaxed);
    }

    /// A request was allowed or not.
    pub fn decided(&self, allowed: bool) {
        if allowed { &self.allowed } else { &self.denied }.fetch_add(1, Relaxed);
    }

    pub(super) fn render(&self, out: &mut String) {
        let name = "authenticated_user_requests";
        describe(out, name, "counter", "Counter of authenticated requests broken out by username.");
        for (user, count) in USERS.iter().zip(&self.users).filter(|(_, count)| count.load(Relaxed) > 0) {
            let _ = writeln!(out, "{name}{{username=\"{user}\"}} {}", count.load(Relaxed));
        }
        let mut pair = |name: &str, help: &str, counts: [(&str, &AtomicU64); 2]| {
            describe(out, name, "counter", help);
            for (result, count) in counts {
                let _ = writeln!(out, "{name}{{result=\"{result}\"}} {}", count.load(Relaxed));
            }
        };
        pair(
            "authentication_attempts",
            "Counter of authenticated attempts.",
            [("failure", &self.unknown), ("success", &self.recognised)],
        );
        pair(
            "authorization_attempts_total",
            "Counter of authorization attempts broken down by result. It can be either 'allowed', 'denied', 'no-opinion' or 'error'.",
            [("allowed", &self.allowed), ("no-opinion", &self.denied)],
        );
    }
}

/// What the program is.
pub(super) fn build(out: &mut String) {
    let version = crate::nonresource::version();
    let label = |field: &str| version[field].as_str().unwrap_or_default().to_owned();
    let name = "kubernetes_build_info";
    describe(
        out,
        name,
        "gauge",
        "A metric with a constant '1' value labeled by major, minor, git version, git commit, git tree state, build date, Go version, and compiler from which Kubernetes was built, and platform on which it is running.",
    );
    let labels: Vec<String> = [
        ("build_date", "buildDate"),
        ("compiler", "compiler"),
        ("git_commit", "gitCommit"),
        ("git_tree_state", "gitTreeState"),
        ("git_version", "gitVersion"),
        ("go_version", "goVersion"),
        ("major", "major"),
        ("minor", "minor"),
        ("platform", "platform"),
    ]
    .map(|(name, field)| format!("{name}=\"{}\"", label(field)))
    .to_vec();
    let _ = writeln!(out, "{name}{{{}}} 1", labels.join(","));
    let name = "version_info";
    describe(
        out,
        name,
        "gauge",
        "Provides the compatibility version info of the component. The component label is the name of the component, usually kube, but is relevant for aggregated-apiservers.",
    );
    let (major, minor) = (label("major"), label("minor"));
    let (min_major, min_minor) = (label("minCompatibilityMajor"), label("minCompatibilityMinor"));
    let _ = writeln!(
        out,
        "{name}{{binary=\"{major}.{minor}\",component=\"kube\",emulation=\"{major}.{minor}\",min_compat=\"{min_major}.{min_minor}\"}} 1"
    );
}
