//! Who sends a request.

use std::collections::BTreeMap;

/// An authenticated identity, as the `UserInfo` of `authentication.k8s.io/v1`.
///
/// In process it travels in the extensions of the HTTP request, where only code of this process can
/// put it; over the network the API server derives it from certificates and tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserInfo {
    /// The name, e.g. `alice`, `system:node:n1` or `system:serviceaccount:default:web`.
    pub name: String,
    /// Distinguishes users who had the same name at different times; may be empty.
    pub uid: String,
    /// Groups, e.g. `system:masters`.
    pub groups: Vec<String>,
    /// Further attributes for authorizers.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// Members may do anything.
pub const MASTERS: &str = "system:masters";
/// Everybody who is authenticated is a member.
pub const AUTHENTICATED: &str = "system:authenticated";
/// Everybody who is not authenticated is a member.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The name of everybody who is not authenticated.
pub const ANONYMOUS: &str = "system:anonymous";

impl UserInfo {
    /// A user with the given name and groups; `system:authenticated` is added.
    pub fn new(name: impl Into<String>, groups: &[&str]) -> Self {
        let mut groups: Vec<String> = groups.iter().map(|&group| group.to_owned()).collect();
        groups.push(AUTHENTICATED.to_owned());
        Self { name: name.into(), groups, ..Self::default() }
    }

    /// A component of the control plane, e.g. `system:kube-scheduler`, with all rights.
    pub fn component(name: &str) -> Self {
        Self::new(name, &[MASTERS])
    }

    /// Whether the user is a member of `group`.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|member| member == group)
    }
}
