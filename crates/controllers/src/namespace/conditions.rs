//! The conditions of a terminating namespace, with upstream's types, reasons and texts
//! (`pkg/controller/namespace/deletion/status_condition_utils.go`).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::NamespaceCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// What one attempt to empty a namespace found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Findings {
    /// Why the resources could not be discovered.
    pub discovery_error: Option<String>,
    /// Why content could not be deleted, by resource.
    pub deletion_errors: Vec<String>,
    /// How many objects are left, by resource (`pods.`, `deployments.apps`).
    pub remaining: BTreeMap<String, usize>,
    /// On how many of those each finalizer is.
    pub finalizers: BTreeMap<String, usize>,
}

impl Findings {
    /// Whether the namespace is empty, as far as could be seen.
    pub fn is_empty(&self) -> bool {
        self.discovery_error.is_none() && self.deletion_errors.is_empty() && self.remaining.is_empty()
    }

    /// The conditions to show, in upstream's order.
    pub fn conditions(&self, current: &[NamespaceCondition], now: &Time) -> Vec<NamespaceCondition> {
        let mut conditions = current.to_vec();
        for (type_, status, reason, message) in self.wanted() {
            let known = conditions.iter_mut().find(|condition| condition.type_ == type_);
            match known {
                Some(known) => {
                    let same = known.status == status
                        && known.reason.as_deref() == Some(reason)
                        && known.message.as_deref() == Some(&message);
                    if !same {
                        if known.status != status {
                            known.last_transition_time = Some(now.clone());
                        }
                        known.status = status.to_string();
                        known.reason = Some(reason.to_string());
                        known.message = Some(message);
                    }
                }
                None => conditions.push(NamespaceCondition {
                    type_: type_.to_string(),
                    status: status.to_string(),
                    reason: Some(reason.to_string()),
                    message: Some(message),
                    last_transition_time: Some(now.clone()),
                }),
            }
        }
        conditions
    }

    fn wanted(&self) -> [(&'static str, &'static str, &'static str, String); 5] {
        let state = |failed: bool| if failed { "True" } else { "False" };
        let choose = |failed: bool, bad: &'static str, good: &'static str| if failed { bad } else { good };
        let join = |counts: &BTreeMap<String, usize>, link: &str| {
            counts
                .iter()
                .map(|(what, count)| format!("{what} {link} {count} resource instances"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let discovery = self.discovery_error.is_some();
        let content = !self.deletion_errors.is_empty();
        let (remaining, finalizers) = (!self.remaining.is_empty(), !self.finalizers.is_empty());
        let discovery_message = match &self.discovery_error {
            Some(error) => format!("Discovery failed for some groups, 1 failing: {error}"),
            None => "All resources successfully discovered".to_string(),
        };
        let content_message = match self.deletion_errors.len() {
            0 => "All content successfully deleted, may be waiting on finalization".to_string(),
            count => format!(
                "Failed to delete all resource types, {count} remaining: {}",
                self.deletion_errors.join(", ")
            ),
        };
        let remaining_message = if remaining {
            format!("Some resources are remaining: {}", join(&self.remaining, "has"))
        } else {
            "All content successfully removed".to_string()
        };
        let finalizers_message = if finalizers {
            let list = join(&self.finalizers, "in");
            format!("Some content in the namespace has finalizers remaining: {list}")
        } else {
            "All content-preserving finalizers finished".to_string()
        };
        [
            (
                "NamespaceDeletionDiscoveryFailure",
                state(discovery),
                choose(discovery, "DiscoveryFailed", "ResourcesDiscovered"),
                discovery_message,
            ),
            (
                "NamespaceDeletionGroupVersionParsingFailure",
                "False",
                "ParsedGroupVersions",
                "All legacy kube types successfully parsed".to_string(),
            ),
            (
                "NamespaceDeletionContentFailure",
                state(content),
                choose(content, "ContentDeletionFailed", "ContentDeleted"),
                content_message,
            ),
            (
                "NamespaceContentRemaining",
                state(remaining),
                choose(remaining, "SomeResourcesRemain", "ContentRemoved"),
                remaining_message,
            ),
            (
                "NamespaceFinalizersRemaining",
                state(finalizers),
                choose(finalizers, "SomeFinalizersRemain", "ContentHasNoFinalizers"),
                finalizers_message,
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_once_and_cleared_later() {
        let now = crate::pod::now();
        let stuck = Findings {
            remaining: [("pods.".to_string(), 2)].into(),
            finalizers: [("example.com/hold".to_string(), 1)].into(),
            ..Findings::default()
        };
        let conditions = stuck.conditions(&[], &now);
        let message = |conditions: &[NamespaceCondition], type_: &str| {
            let condition = conditions.iter().find(|condition| condition.type_ == type_).unwrap();
            format!("{} {}", condition.status, condition.message.clone().unwrap())
        };
        assert_eq!(
            message(&conditions, "NamespaceContentRemaining"),
            "True Some resources are remaining: pods. has 2 resource instances"
        );
        assert_eq!(
            message(&conditions, "NamespaceFinalizersRemaining"),
            "True Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances"
        );
        assert_eq!(stuck.conditions(&conditions, &now), conditions);
        let done = Findings::default().conditions(&conditions, &now);
        assert_eq!(done.len(), 5);
        assert_eq!(message(&done, "NamespaceContentRemaining"), "False All content successfully removed");
    }
}
