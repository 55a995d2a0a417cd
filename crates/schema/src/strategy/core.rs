//! Preparing objects of kinds that do something of their own.

use serde_json::{Value, json};

use super::{disabled, prepare};

/// A new namespace is active and finalized by the namespace controller.
pub fn namespace_create(namespace: &mut Value) {
    // A generated name is not known before.
    let name = namespace["metadata"]["name"].clone();
    object(object(namespace, "metadata"), "labels")["kubernetes.io/metadata.name"] = name;
    namespace["status"] = json!({"phase": "Active"});
    if !namespace["spec"].is_object() {
        namespace["spec"] = json!({});
    }
    let spec = &mut namespace["spec"];
    if !spec["finalizers"].is_array() {
        spec["finalizers"] = json!([]);
    }
    if let Some(finalizers) = spec["finalizers"].as_array_mut()
        && !finalizers.iter().any(|f| f == "kubernetes")
    {
        finalizers.push(json!("kubernetes"));
    }
}

/// Finalizers of a namespace change only through its finalize subresource.
pub fn namespace_update(new: &mut Value, old: &Value) {
    prepare::keep(new, old, "status");
    prepare::keep(new, old, "spec");
}

/// A pod template has no fields that are behind gates that are off.
pub fn workload_create(object: &mut Value) {
    prepare::create(object);
    disabled::template(object, &Value::Null, TEMPLATE);
}

/// A changed workload: its status stays, its spec counts.
pub fn workload_update(new: &mut Value, old: &Value) {
    disabled::template(new, old, TEMPLATE);
    prepare::update(new, old);
}

const TEMPLATE: &str = "/spec/template";
const JOB_TEMPLATE: &str = "/spec/jobTemplate/spec/template";

/// A new CronJob.
pub fn cron_job_create(object: &mut Value) {
    prepare::create(object);
    disabled::template(object, &Value::Null, JOB_TEMPLATE);
}

/// A changed CronJob.
pub fn cron_job_update(new: &mut Value, old: &Value) {
    disabled::template(new, old, JOB_TEMPLATE);
    prepare::update(new, old);
}

/// A new PodTemplate.
pub fn pod_template_create(object: &mut Value) {
    prepare::start_generation(object);
    disabled::template(object, &Value::Null, "/template");
}

/// A changed PodTemplate.
pub fn pod_template_update(new: &mut Value, old: &Value) {
    disabled::template(new, old, "/template");
    prepare::count_all(new, old);
}

/// A new Job selects its pods by its uid, unless the user takes care of the selector. Upstream, a
/// Job without labels shares its template's, those that are generated included.
pub fn job_create(job: &mut Value) {
    workload_create(job);
    if job["spec"]["manualSelector"] != true {
        generate_selector(job);
    }
    let labels = &job["spec"]["template"]["metadata"]["labels"];
    if job["metadata"]["labels"].is_null() && labels.is_object() {
        job["metadata"]["labels"] = labels.clone();
    }
}

fn generate_selector(job: &mut Value) {
    let (name, uid) = (job["metadata"]["name"].clone(), job["metadata"]["uid"].clone());
    let template = object(object(job, "spec"), "template");
    let labels = object(object(template, "metadata"), "labels");
    for (label, value) in [
        ("job-name", &name),
        ("batch.kubernetes.io/job-name", &name),
        ("controller-uid", &uid),
        ("batch.kubernetes.io/controller-uid", &uid),
    ] {
        insert_new(labels, label, value);
    }
    let matched = object(object(object(job, "spec"), "selector"), "matchLabels");
    insert_new(matched, "batch.kubernetes.io/controller-uid", &uid);
}

fn object<'a>(parent: &'a mut Value, field: &str) -> &'a mut Value {
    let field = &mut parent[field];
    if !field.is_object() {
        *field = json!({});
    }
    field
}

fn insert_new(map: &mut Value, key: &str, value: &Value) {
    if map.get(key).is_none() {
        map[key] = if value.is_null() { json!("") } else { value.clone() };
    }
}

/// DaemonSets count changes of their template, too.
pub fn daemon_set_create(object: &mut Value) {
    workload_create(object);
    if object["spec"]["templateGeneration"].as_i64().unwrap_or(0) < 1 {
        // Only the internal type has this field; over the wire it is an annotation.
        set_template_generation(object, 1);
    }
}

/// DaemonSets count changes of their template, too.
pub fn daemon_set_update(new: &mut Value, old: &Value) {
    workload_update(new, old);
    let generation = template_generation(old);
    let changed = new["spec"]["template"] != old["spec"]["template"];
    set_template_generation(new, if changed { generation + 1 } else { generation });
}

/// Upstream keeps the count in a field that only its internal type has.
pub fn daemon_set_status_update(new: &mut Value, old: &Value) {
    prepare::keep_all_but_status(new, old);
    set_template_generation(new, template_generation(old));
}

const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

fn template_generation(object: &Value) -> i64 {
    let annotation = &object["metadata"]["annotations"][TEMPLATE_GENERATION];
    annotation.as_str().and_then(|g| g.parse().ok()).unwrap_or(0)
}

fn set_template_generation(daemon_set: &mut Value, generation: i64) {
    let annotations = object(object(daemon_set, "metadata"), "annotations");
    annotations[TEMPLATE_GENERATION] = json!(generation.to_string());
}

/// A new volume is pending since now.
pub fn persistent_volume_create(volume: &mut Value) {
    volume["status"] = json!({"phase": "Pending", "lastPhaseTransitionTime": now()});
    protect(volume, "kubernetes.io/pv-protection");
}

fn now() -> String {
    base::clock::rfc3339(base::clock::now())
}

/// The time of the last change of phase is kept, or now.
pub fn persistent_volume_status_update(new: &mut Value, old: &Value) {
    prepare::keep_all_but_status(new, old);
    let (was, is) = (&old["status"], &new["status"]);
    let (time_was, time_is) = (&was["lastPhaseTransitionTime"], &is["lastPhaseTransitionTime"]);
    let changed = was["phase"] != is["phase"];
    if !changed && time_is.is_null() && !time_was.is_null() {
        new["status"]["lastPhaseTransitionTime"] = time_was.clone();
    } else if changed && (time_is.is_null() || time_is == time_was) {
        new["status"]["lastPhaseTransitionTime"] = json!(now());
    }
}

/// A new claim is pending; both ways to name a data source say the same.
pub fn persistent_volume_claim_create(claim: &mut Value) {
    claim["status"] = json!({"phase": "Pending"});
    protect(claim, "kubernetes.io/pvc-protection");
    same_data_sources(claim, &Value::Null);
}

/// The status of a claim stays; both ways to name a data source say the same.
pub fn persistent_volume_claim_update(new: &mut Value, old: &Value) {
    prepare::keep(new, old, "status");
    same_data_sources(new, &old["spec"]);
}

/// Storage that is in use is not deleted: the finalizer of the protecting controller.
fn protect(storage: &mut Value, finalizer: &str) {
    let metadata = object(storage, "metadata");
    if !metadata["finalizers"].is_array() {
        metadata["finalizers"] = json!([]);
    }
    if let Some(finalizers) = metadata["finalizers"].as_array_mut()
        && !finalizers.iter().any(|f| f == finalizer)
    {
        finalizers.push(json!(finalizer));
    }
}

/// Bounds on unavailable pods of StatefulSets are behind a feature gate that is off.
pub fn stateful_set_create(set: &mut Value) {
    workload_create(set);
    drop_max_unavailable(set);
}

/// Bounds on unavailable pods of StatefulSets are behind a feature gate that is off.
pub fn stateful_set_update(new: &mut Value, old: &Value) {
    if old["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"].is_null() {
        drop_max_unavailable(new);
    }
    workload_update(new, old);
}

fn drop_max_unavailable(set: &mut Value) {
    if let Some(rolling) =
        set.pointer_mut("/spec/updateStrategy/rollingUpdate").and_then(Value::as_object_mut)
    {
        rolling.remove("maxUnavailable");
    }
}

/// Topology of endpoints cannot be written any more.
pub fn endpoint_slice_create(slice: &mut Value) {
    prepare::start_generation(slice);
    drop_topology(slice);
}

fn drop_topology(slice: &mut Value) {
    for endpoint in slice.get_mut("endpoints").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(endpoint) = endpoint.as_object_mut() {
            endpoint.remove("deprecatedTopology");
        }
    }
}

/// Coordinated leader election is behind a feature gate that is off.
pub fn lease_prepare(lease: &mut Value) {
    if let Some(spec) = lease.get_mut("spec").and_then(Value::as_object_mut) {
        spec.remove("strategy");
        spec.remove("preferredHolder");
    }
}

/// What `dataSource` may name: other sources are dropped silently, as they always were.
fn is_data_source(source: &Value) -> bool {
    let group = source["apiGroup"].as_str().unwrap_or_default();
    match source["kind"].as_str() {
        Some("PersistentVolumeClaim") => group.is_empty(),
        Some("VolumeSnapshot") => group == "snapshot.storage.k8s.io",
        _ => false,
    }
}

fn same_data_sources(claim: &mut Value, old_spec: &Value) {
    let Some(spec) = claim.get_mut("spec").and_then(Value::as_object_mut) else { return };
    let had_reference = !old_spec["dataSourceRef"].is_null();
    // Sources of other namespaces are behind a feature gate that is off.
    let foreign = |reference: &Value| !reference["namespace"].as_str().unwrap_or_default().is_empty();
    if !had_reference && spec.get("dataSourceRef").is_some_and(foreign) {
        spec.remove("dataSourceRef");
    }
    if !had_reference
        && old_spec["dataSource"].is_null()
        && spec.get("dataSourceRef").is_none()
        && spec.get("dataSource").is_some_and(|source| !is_data_source(source))
    {
        spec.remove("dataSource");
    }
    match (spec.get("dataSource").cloned(), spec.get("dataSourceRef").cloned()) {
        (Some(source), None) => {
            spec.insert("dataSourceRef".to_owned(), source);
        }
        (None, Some(reference)) if reference["namespace"].as_str().unwrap_or_default().is_empty() => {
            spec.insert("dataSource".to_owned(), reference);
        }
        _ => {}
    }
}

/// References to secrets carry only names.
pub fn service_account_prepare(account: &mut Value) {
    for secret in account.get_mut("secrets").and_then(Value::as_array_mut).into_iter().flatten() {
        let name = secret["name"].clone();
        *secret = if name.is_null() { json!({}) } else { json!({ "name": name }) };
    }
}

/// A LimitRange without a name is given one.
pub fn limit_range_create(range: &mut Value) {
    if range["metadata"]["name"].as_str().unwrap_or_default().is_empty() {
        object(range, "metadata")["name"] = json!(base::rng::uuid());
    }
}

/// Volumes of drivers count against limits whatever this says: it is behind a feature gate that is off.
pub fn csi_driver_create(driver: &mut Value) {
    if let Some(spec) = driver.get_mut("spec").and_then(Value::as_object_mut) {
        spec.remove("preventPodSchedulingIfMissing");
    }
}

/// As for new drivers, but for what was there.
pub fn csi_driver_update(new: &mut Value, old: &Value) {
    if old["spec"]["preventPodSchedulingIfMissing"].is_null() {
        csi_driver_create(new);
    }
    prepare::count_spec(new, old);
}

/// Counts the spec of an Ingress, where no rules are as good as an empty list of them.
pub fn ingress_update(new: &mut Value, old: &Value) {
    prepare::keep(new, old, "status");
    let mut spec = new["spec"].clone();
    if prepare::is_empty_list(&spec["rules"])
        && let Some(spec) = spec.as_object_mut()
    {
        spec.remove("rules");
    }
    if spec != old["spec"] {
        prepare::bump_generation(new, old);
    }
}

/// The type of a Secret stays when an update leaves it out.
pub fn secret_update(new: &mut Value, old: &Value) {
    if new["type"].as_str().unwrap_or_default().is_empty() {
        prepare::keep(new, old, "type");
    }
}

/// EndpointSlices count changes of content and labels.
pub fn endpoint_slice_update(new: &mut Value, old: &Value) {
    // Topology counts as a change before it is dropped.
    prepare::count_all(new, old);
    if new["metadata"]["labels"] != old["metadata"]["labels"] {
        prepare::bump_generation(new, old);
    }
    if new["endpoints"] != old["endpoints"] {
        drop_topology(new);
    }
}

/// Deployments count changes of annotations, too, because rollouts are steered by them.
pub fn deployment_update(new: &mut Value, old: &Value) {
    workload_update(new, old);
    if new["metadata"]["annotations"] != old["metadata"]["annotations"] {
        prepare::bump_generation(new, old);
    }
}

/// The status of a Deployment may not change its labels.
pub fn deployment_status_update(new: &mut Value, old: &Value) {
    prepare::keep_all_but_status(new, old);
    if let (Some(metadata), true) = (new.get_mut("metadata"), old["metadata"].is_object()) {
        prepare::keep(metadata, &old["metadata"], "labels");
    }
}

/// A new Node may say everything but what configures kubelets dynamically, which is gone.
pub fn node_create(node: &mut Value) {
    for (part, field) in [("spec", "configSource"), ("status", "config")] {
        if let Some(part) = node.get_mut(part) {
            disabled::remove(part, field);
        }
    }
}

/// Status and spec of a Node are changed apart.
pub fn node_update(new: &mut Value, old: &Value) {
    prepare::keep(new, old, "status");
    if let (Some(spec), true) = (new.get_mut("spec"), old["spec"]["configSource"].is_null()) {
        disabled::remove(spec, "configSource");
    }
}

/// Status and spec of a Node are changed apart.
pub fn node_status_update(new: &mut Value, old: &Value) {
    prepare::keep_all_but_status(new, old);
    if let (Some(status), true) = (new.get_mut("status"), old["status"]["config"].is_null()) {
        disabled::remove(status, "config");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_lists_do_not_count() {
        let stored = json!({"metadata": {"generation": 1}, "spec": {"defaultBackend": {}}});
        let mut new = stored.clone();
        new["spec"]["rules"] = json!([]);
        ingress_update(&mut new, &stored);
        assert_eq!(new["metadata"]["generation"], 1);
        let stored = json!({"metadata": {"generation": 1}, "addressType": "IPv4", "endpoints": null});
        let mut new = stored.clone();
        new["endpoints"] = json!([]);
        endpoint_slice_update(&mut new, &stored);
        assert_eq!(new["metadata"]["generation"], 1);
    }

    #[test]
    fn sources_of_other_namespaces_are_dropped() {
        let foreign = json!({"kind": "A", "apiGroup": "b.c", "name": "n", "namespace": "other"});
        let mut claim = json!({"spec": {"dataSourceRef": foreign}});
        same_data_sources(&mut claim, &Value::Null);
        assert_eq!(claim, json!({"spec": {}}));
        let mut odd = json!({"spec": {"dataSource": {}}});
        same_data_sources(&mut odd, &json!({"dataSource": {"kind": "PersistentVolumeClaim"}}));
        assert_eq!(odd["spec"]["dataSource"], json!({}));
    }
}
