//! What the objects of a namespace count for.

use api::quantity::Quantity;
use api::quota::{Evaluator, Scope};
use api::resource_list::{self as lists, ResourceList};
use http::Request;
use serde::Serialize;
use serde_json::Value;

use crate::discovery::Resource;

const PAGE: usize = 500;
/// Whoever only counts objects need not see them.
const METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";

/// The object as a tree, which is what evaluators read.
pub fn to_value<T: Serialize>(object: &T) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

/// The sum over all objects that the quota's scopes select, of what the quota counts.
pub fn sum(
    evaluator: &Evaluator,
    hard: &ResourceList,
    spec: &Value,
    objects: impl Iterator<Item = Value>,
) -> ResourceList {
    let counted = |name: &str| hard.contains_key(name) && evaluator.counts(name);
    let names = hard.keys().filter(|name| counted(name));
    let mut sum: ResourceList = names.map(|name| (name.clone(), Quantity::ZERO)).collect();
    let scopes = Scope::of_spec(spec);
    let now = base::clock::now();
    for object in objects {
        if scopes.iter().all(|scope| evaluator.in_scope(scope, &object)) {
            lists::add(&mut sum, &lists::mask(&evaluator.usage(&object, now), counted));
        }
    }
    sum
}

/// The objects of a namespace.
pub async fn list(
    client: &kube::Client,
    resource: &Resource,
    namespace: &str,
    evaluator: &Evaluator,
) -> Result<Vec<Value>, kube::Error> {
    let api = &resource.api;
    let root = if api.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", api.group) };
    let base = format!("{root}/{}/namespaces/{namespace}/{}?limit={PAGE}", api.version, api.plural);
    let accept = if matches!(evaluator, Evaluator::Count(_)) { METADATA } else { "application/json" };
    let (mut objects, mut token) = (Vec::new(), String::new());
    loop {
        let uri = if token.is_empty() { base.clone() } else { format!("{base}&continue={token}") };
        let request = Request::get(uri)
            .header(http::header::ACCEPT, accept)
            .body(Vec::new())
            .map_err(|error| kube::Error::Service(error.into()))?;
        let mut page: Value = client.request(request).await?;
        if let Some(items) = page["items"].as_array_mut() {
            objects.append(items);
        }
        // Tokens are base64; of its alphabet only these need escapes in a query.
        let next = page["metadata"]["continue"].as_str().unwrap_or_default();
        token = next.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        if token.is_empty() {
            return Ok(objects);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_is_in_scope_counts() {
        let hard = lists::read(&json!({"pods": "3", "requests.cpu": "1", "secrets": "1"}));
        let pod = |class: &str, cpu: &str| {
            json!({"spec": {"priorityClassName": class,
                "containers": [{"name": "a", "resources": {"requests": {"cpu": cpu}}}]}})
        };
        let spec = json!({"scopeSelector": {"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}});
        let pods = [pod("high", "100m"), pod("low", "1"), pod("high", "200m")];
        let used = sum(&Evaluator::Pods, &hard, &spec, pods.into_iter());
        assert_eq!(lists::show(&used), "pods=2,requests.cpu=300m");
    }
}
