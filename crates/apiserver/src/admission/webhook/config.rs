//! Webhook configurations as the dispatcher wants them, kept up with the watch cache.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde_json::Value;

use super::rules::Rule;
use crate::admission::policy::conditions::MatchConditions;
use crate::object::meta;
use crate::selector::LabelSelector;
use crate::webhook_client::{CallError, Endpoint};

/// Upstream's bounds of `timeoutSeconds`.
const TIMEOUT_SECONDS: std::ops::RangeInclusive<u64> = 1..=30;
/// What a configuration that says nothing gets.
const TIMEOUT_SECONDS_DEFAULT: u64 = 10;

/// Form of the reviews that a webhook is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReviewVersion {
    V1,
    V1Beta1,
}

impl ReviewVersion {
    pub fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V1Beta1 => "v1beta1",
        }
    }
}

/// One webhook of one configuration.
pub(super) struct Hook {
    pub name: String,
    pub configuration: String,
    /// Tells it from webhooks of the same name.
    pub uid: String,
    pub endpoint: Result<Endpoint, CallError>,
    pub rules: Vec<Rule>,
    /// `matchPolicy: Equivalent`.
    pub equivalent: bool,
    /// None for a selector that cannot be read.
    pub namespace_selector: Option<LabelSelector>,
    pub object_selector: Option<LabelSelector>,
    pub conditions: MatchConditions,
    /// `failurePolicy: Ignore`.
    pub ignores_failures: bool,
    /// Whether dry runs may be sent; none where the webhook does not say.
    pub takes_dry_runs: Option<bool>,
    pub timeout: Duration,
    /// The first form it takes that is known here.
    pub review: Option<ReviewVersion>,
    /// `reinvocationPolicy: IfNeeded`.
    pub reinvoked: bool,
}

impl Hook {
    fn of(configuration: &str, index: usize, hook: &Value) -> Self {
        let text = |field: &str| hook[field].as_str().unwrap_or_default();
        let name = text("name").to_owned();
        let versions = hook["admissionReviewVersions"].as_array().into_iter().flatten();
        let mut versions = versions.filter_map(|version| match version.as_str()? {
            "v1" => Some(ReviewVersion::V1),
            "v1beta1" => Some(ReviewVersion::V1Beta1),
            _ => None,
        });
        let seconds = hook["timeoutSeconds"].as_u64().unwrap_or(TIMEOUT_SECONDS_DEFAULT);
        let seconds = seconds.clamp(*TIMEOUT_SECONDS.start(), *TIMEOUT_SECONDS.end());
        let ignores_failures = text("failurePolicy") == "Ignore";
        Self {
            uid: format!("{configuration}/{name}/{index}"),
            configuration: configuration.to_owned(),
            endpoint: Endpoint::of(&hook["clientConfig"]),
            rules: Rule::list(&hook["rules"]),
            equivalent: text("matchPolicy") != "Exact",
            namespace_selector: LabelSelector::of(&hook["namespaceSelector"]),
            object_selector: LabelSelector::of(&hook["objectSelector"]),
            conditions: MatchConditions::of(&hook["matchConditions"], ignores_failures),
            ignores_failures,
            takes_dry_runs: hook["sideEffects"]
                .as_str()
                .map(|effects| matches!(effects, "None" | "NoneOnDryRun")),
            timeout: Duration::from_secs(seconds),
            review: versions.next(),
            reinvoked: text("reinvocationPolicy") == "IfNeeded",
            name,
        }
    }
}

/// All webhooks of one sort, in the order in which they are called: configurations by name, then as
/// they are listed.
#[derive(Default)]
pub(super) struct Configurations {
    current: RwLock<Current>,
}

#[derive(Default)]
struct Current {
    by_name: BTreeMap<String, Vec<Arc<Hook>>>,
    all: Arc<[Arc<Hook>]>,
}

impl Configurations {
    /// All webhooks. Nothing is copied.
    pub fn hooks(&self) -> Arc<[Arc<Hook>]> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).all.clone()
    }

    /// A configuration was written (its stored bytes) or is gone.
    pub fn apply(&self, name: &str, value: Option<&[u8]>) {
        let configuration = value.and_then(|bytes| serde_json::from_slice::<Value>(bytes).ok());
        let hooks = configuration.map(|configuration| {
            debug_assert_eq!(meta(&configuration, "name"), name);
            let hooks = configuration["webhooks"].as_array().into_iter().flatten().enumerate();
            hooks.map(|(index, hook)| Arc::new(Hook::of(name, index, hook))).collect()
        });
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        match hooks {
            Some(hooks) => current.by_name.insert(name.to_owned(), hooks),
            None => current.by_name.remove(name),
        };
        current.all = current.by_name.values().flatten().cloned().collect();
    }

    /// Forgets everything.
    pub fn clear(&self) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Current::default();
    }
}
