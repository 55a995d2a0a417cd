//! Whether the server behind an APIService is there: upstream's `remote_available_controller`.

use std::sync::Arc;

use serde_json::Value;

use super::available;
use super::controller::unavailable;
use super::remote::Remote;
use crate::server::Inner;
use crate::webhook_client::resolve;

/// How often a server is asked for its discovery before it counts as gone.
const ATTEMPTS: usize = 5;

/// The `Available` condition as of now.
pub(super) async fn check(server: &Arc<Inner>, remote: &Remote) -> Value {
    if let Err(why) = reachable(server, remote) {
        return why;
    }
    let mut last = String::new();
    for _ in 0..ATTEMPTS {
        match ask(server, remote).await {
            Ok(()) => return available("True", "Passed", "all checks passed"),
            Err(why) => last = why,
        }
        // What does not answer at all does not do so five times in a row.
        if last.ends_with("deadline exceeded") {
            break;
        }
    }
    unavailable("FailedDiscoveryCheck", last)
}

/// Whether the service and its endpoints are there.
fn reachable(server: &Inner, remote: &Remote) -> Result<(), Value> {
    let (namespace, name, port) = (&remote.namespace, &remote.service, remote.port);
    let registry = server.registry();
    let services = registry.resource("", "v1", "services");
    let Some(service) = services.and_then(|kind| server.cached(kind, namespace, name)) else {
        let message = format!("service/{name} in {namespace:?} is not present");
        return Err(unavailable("ServiceNotFound", message));
    };
    let service = service.to_value();
    if service["spec"]["type"].as_str().unwrap_or("ClusterIP") != "ClusterIP" {
        return Ok(());
    }
    let mut ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let Some(chosen) = ports.find(|candidate| candidate["port"].as_u64() == Some(port.into())) else {
        let message = format!("service/{name} in {namespace:?} is not listening on port {port}");
        return Err(unavailable("ServicePortError", message));
    };
    let port_name = chosen["name"].as_str().unwrap_or_default();
    if !crate::webhook_client::ready_endpoints(server, namespace, name, port_name).is_empty() {
        return Ok(());
    }
    let slices = registry.resource("discovery.k8s.io", "v1", "endpointslices");
    let objects = slices.and_then(|kind| {
        let resource = server.cache_of(kind).resource(&kind.storage.dir)?;
        Some((resource.snapshot(0).objects, kind.prefix(Some(namespace))))
    });
    let is_of_service =
        |slice: Value| slice["metadata"]["labels"]["kubernetes.io/service-name"] == name.as_str();
    let any = objects.is_some_and(|(objects, prefix)| {
        crate::cache::range(&objects, &prefix, None).any(|entry| is_of_service(entry.to_value()))
    });
    Err(match any {
        true => unavailable(
            "MissingEndpoints",
            format!(
                "endpointslices for service/{name} in {namespace:?} have no addresses with port name {port_name:?}"
            ),
        ),
        false => unavailable(
            "EndpointsNotFound",
            format!("cannot find endpointslices for service/{name} in {namespace:?}"),
        ),
    })
}

/// Asks the server for a document that it has to have.
async fn ask(server: &Inner, remote: &Remote) -> Result<(), String> {
    let (host, port) = resolve(server, &remote.namespace, &remote.service, remote.port)?;
    let url = format!("https://{host}:{port}{}", remote.path());
    match remote.get(&remote.path(), "*/*").await {
        Ok(response) if response.status().is_success() || response.status().is_redirection() => Ok(()),
        Ok(response) => {
            let code = response.status().as_u16();
            Err(format!("failing or missing response from {url}: bad status from {url}: {code}"))
        }
        Err(why) => Err(format!("failing or missing response from {url}: Get {url:?}: {why}")),
    }
}
