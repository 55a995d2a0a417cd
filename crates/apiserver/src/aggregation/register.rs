//! Keeps an APIService for every group version that is served here: upstream's `autoregister`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};
use store::Compare;

use super::{GROUP, PLURAL, local, priorities, service_name, set_condition};
use crate::cache::Entry;
use crate::kind::{Kind, Registry};
use crate::object::meta;
use crate::server::Inner;
use crate::storage::PutError;

/// Who looks after an APIService: the server, once at its start, or always; or somebody else.
const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";
const ON_START: &str = "onstart";
const ALWAYS: &str = "true";

/// What APIServices there are to be: by name, those of built-in groups and those of custom resources.
fn wanted(registry: &Registry, starting: bool) -> BTreeMap<String, Value> {
    let mut wanted = BTreeMap::new();
    for group in registry.groups() {
        for version in &group.versions {
            let custom = version.kinds.values().all(|kind| kind.is_custom());
            let priority = match custom {
                true => Some(priorities::CUSTOM),
                false if starting => priorities::of(&group.name, &version.name),
                // Somebody who takes it away later means it.
                false => None,
            };
            let Some((minimum, priority)) = priority else { continue };
            let mut spec = json!({"version": version.name, "groupPriorityMinimum": minimum,
                "versionPriority": priority});
            if !group.name.is_empty() {
                spec["group"] = json!(group.name);
            }
            let name = service_name(&group.name, &version.name);
            let managed = if custom { ALWAYS } else { ON_START };
            let mut object = json!({"metadata": {"name": name, "labels": {MANAGED: managed}}, "spec": spec});
            set_condition(&mut object, local());
            wanted.insert(name, object);
        }
    }
    wanted
}

/// What has to happen to one APIService.
#[derive(Debug, PartialEq)]
enum Step {
    Nothing,
    Create,
    Update,
    Delete,
}

fn step(current: Option<&Value>, wanted: Option<&Value>, starting: bool) -> Step {
    let managed = current.and_then(|current| current["metadata"]["labels"][MANAGED].as_str());
    match (current, wanted) {
        (None, None) => Step::Nothing,
        (None, Some(_)) => Step::Create,
        // Somebody else's.
        (Some(_), _) if !matches!(managed, Some(ON_START | ALWAYS)) => Step::Nothing,
        (Some(_), _) if managed == Some(ON_START) && !starting => Step::Nothing,
        (Some(_), None) => Step::Delete,
        (Some(current), Some(wanted)) if current["spec"] == wanted["spec"] => Step::Nothing,
        (Some(_), Some(_)) => Step::Update,
    }
}

/// Brings the APIServices of what is served here up to date.
pub(super) async fn sync(server: &Arc<Inner>, present: &[(Arc<Entry>, Value)], starting: bool) {
    let registry = server.registry();
    let Some(kind) = registry.resource(GROUP, "v1", PLURAL) else { return };
    let wanted = wanted(&registry, starting);
    let present: BTreeMap<&str, &(Arc<Entry>, Value)> =
        present.iter().map(|both| (meta(&both.1, "name"), both)).collect();
    let names: BTreeSet<&str> = wanted.keys().map(String::as_str).chain(present.keys().copied()).collect();
    for name in names {
        let (current, wanted) = (present.get(name).copied(), wanted.get(name));
        let done = match (step(current.map(|(_, value)| value), wanted, starting), current, wanted) {
            (Step::Create, _, Some(wanted)) => create(server, kind, wanted).await,
            (Step::Update, Some((entry, value)), Some(wanted)) => {
                let mut object = value.clone();
                object["spec"] = wanted["spec"].clone();
                set_condition(&mut object, local());
                super::controller::write(server, kind, entry, value, object, "").await
            }
            (Step::Delete, Some((entry, _)), _) => server.remove(kind, entry).await.map(|_| ()),
            _ => Ok(()),
        };
        if let Err(PutError::Other(error)) = done {
            tracing::warn!(%error, name, "an APIService cannot be brought up to date");
        }
    }
}

async fn create(server: &Arc<Inner>, kind: &Arc<Kind>, wanted: &Value) -> Result<(), PutError> {
    let mut object = wanted.clone();
    let name = meta(wanted, "name").to_owned();
    object["metadata"]["uid"] = base::rng::uuid().into();
    object["metadata"]["creationTimestamp"] = base::clock::rfc3339(base::clock::now()).into();
    let tracked =
        crate::managed_fields::track_kind(kind, &Value::Null, &mut object, super::controller::MANAGER, "");
    tracked.map_err(PutError::Other)?;
    crate::codec::canonicalise(kind, &mut object);
    server.put(kind, &kind.key("", &name), Compare::Absent, &object).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_managed_is_touched() {
        let object = |managed: &str, priority: u32| {
            json!({"metadata": {"name": "v1.a", "labels": {MANAGED: managed}},
                "spec": {"group": "a", "version": "v1", "versionPriority": priority}})
        };
        let wanted = object(ALWAYS, 1);
        assert_eq!(step(None, Some(&wanted), false), Step::Create);
        assert_eq!(step(Some(&object(ALWAYS, 1)), Some(&wanted), false), Step::Nothing);
        assert_eq!(step(Some(&object(ALWAYS, 2)), Some(&wanted), false), Step::Update);
        assert_eq!(step(Some(&object("", 2)), Some(&wanted), false), Step::Nothing);
        assert_eq!(step(Some(&object(ALWAYS, 2)), None, false), Step::Delete);
        assert_eq!(step(Some(&object(ON_START, 2)), None, false), Step::Nothing);
        assert_eq!(step(Some(&object(ON_START, 2)), None, true), Step::Delete);
    }

    #[test]
    fn built_in_groups_have_upstreams_priorities() {
        let registry = Registry::with_platform();
        let all = wanted(&registry, true);
        assert_eq!(
            all["v1."]["spec"],
            json!({"version": "v1", "groupPriorityMinimum": 18000, "versionPriority": 1})
        );
        assert_eq!(all["v2.autoscaling"]["spec"]["versionPriority"], 30);
        assert!(
            !all.contains_key("v1.apiregistration.k8s.io") && !all.contains_key("v1beta1.metrics.k8s.io")
        );
        assert!(wanted(&registry, false).is_empty());
    }
}
