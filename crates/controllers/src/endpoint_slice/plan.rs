//! Spreading endpoints over slices with as few writes as possible.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::names;
use client::object_key;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::endpoints::{Ports, is_headless, port_key};
use crate::owner;

/// The most endpoints of a slice.
pub const MAX_ENDPOINTS: usize = 100;
/// Label that says who writes a slice.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// The value of [`MANAGED_BY`] on our slices, the same as upstream's.
pub const MANAGER: &str = "endpointslice-controller.k8s.io";
/// The key of the object whose endpoints a slice holds, if `manager` writes the slice.
pub fn kept_for(slice: &EndpointSlice, manager: &str) -> Option<String> {
    let labels = slice.metadata.labels.as_ref()?;
    if labels.get(MANAGED_BY).map(String::as_str) != Some(manager) {
        return None;
    }
    let name = labels.get(names::SERVICE_NAME)?;
    Some(object_key(slice.metadata.namespace.as_deref().unwrap_or(""), name))
}

/// Label of the slices of headless Services.
const HEADLESS: &str = "service.kubernetes.io/headless";

/// The writes that bring a Service's slices of one address family up to date.
#[derive(Debug, Default)]
pub struct Plan {
    /// New slices.
    pub create: Vec<EndpointSlice>,
    /// Changed slices.
    pub update: Vec<EndpointSlice>,
    /// Slices without endpoints.
    pub delete: Vec<Arc<EndpointSlice>>,
}

/// Compares the slices there are with the endpoints there should be.
pub fn plan(
    service: &Service,
    address_type: &str,
    existing: &[Arc<EndpointSlice>],
    desired: Vec<(Ports, Vec<Endpoint>)>,
) -> Plan {
    let labels = labels(service);
    let mut by_ports: BTreeMap<String, Vec<Arc<EndpointSlice>>> = BTreeMap::new();
    for slice in existing {
        let key = port_key(slice.ports.as_deref().unwrap_or(&[]));
        by_ports.entry(key).or_default().push(slice.clone());
    }
    let mut plan = Plan::default();
    let mut kept = 0;
    for (ports, endpoints) in desired {
        let slices = by_ports.remove(&port_key(&ports)).unwrap_or_default();
        kept += fill(service, address_type, &labels, &ports, slices, endpoints, &mut plan);
    }
    let mut unused: Vec<Arc<EndpointSlice>> = by_ports.into_values().flatten().collect();
    if kept == 0 && plan.create.is_empty() {
        // A Service without endpoints keeps one empty slice, so that its readers see "none" and not
        // "unknown".
        let empty = |slice: &Arc<EndpointSlice>| slice.ports.as_ref().is_none_or(Vec::is_empty);
        match unused.iter().position(empty) {
            Some(position) => {
                let placeholder = unused.remove(position);
                if !placeholder.endpoints.as_ref().is_none_or(Vec::is_empty) || !has(&placeholder, &labels) {
                    plan.update.push(changed(&placeholder, &labels, Vec::new()));
                }
            }
            None => plan.create.push(new_slice(service, address_type, &labels, Vec::new(), Vec::new())),
        }
    }
    plan.delete.extend(unused);
    plan
}

/// Distributes the endpoints of one set of ports; returns how many existing slices stay.
fn fill(
    service: &Service,
    address_type: &str,
    labels: &BTreeMap<String, String>,
    ports: &Ports,
    slices: Vec<Arc<EndpointSlice>>,
    endpoints: Vec<Endpoint>,
    plan: &mut Plan,
) -> usize {
    let mut missing: BTreeMap<String, Endpoint> =
        endpoints.into_iter().map(|endpoint| (endpoint_key(&endpoint), endpoint)).collect();
    // Endpoints stay in the slice they are in.
    let mut drafts: Vec<Draft> = Vec::with_capacity(slices.len());
    for slice in slices {
        let mut draft = Draft { changed: !has(&slice, labels), endpoints: Vec::new(), slice };
        for current in draft.slice.endpoints.iter().flatten() {
            match missing.remove(&endpoint_key(current)) {
                Some(wanted) => {
                    draft.changed |= wanted != *current;
                    draft.endpoints.push(wanted);
                }
                None => draft.changed = true,
            }
        }
        drafts.push(draft);
    }
    // New ones go to slices that are written anyway, then to the fullest that has room for all.
    let mut missing: Vec<Endpoint> = missing.into_values().collect();
    for draft in drafts.iter_mut().filter(|draft| draft.changed && !draft.endpoints.is_empty()) {
        draft.take(&mut missing);
    }
    if !missing.is_empty() {
        let rest = missing.len() % MAX_ENDPOINTS;
        let fits = |draft: &&mut Draft| draft.endpoints.len() + rest <= MAX_ENDPOINTS;
        if rest > 0
            && let Some(draft) = drafts.iter_mut().filter(fits).max_by_key(|draft| draft.endpoints.len())
        {
            let mut rest = missing.split_off(missing.len() - rest);
            draft.take(&mut rest);
        }
    }
    while !missing.is_empty() {
        let chunk = missing.split_off(missing.len().saturating_sub(MAX_ENDPOINTS));
        plan.create.push(new_slice(service, address_type, labels, ports.clone(), chunk));
    }
    let mut kept = 0;
    for draft in drafts {
        if draft.endpoints.is_empty() {
            plan.delete.push(draft.slice);
            continue;
        }
        kept += 1;
        if draft.changed {
            plan.update.push(changed(&draft.slice, labels, draft.endpoints));
        }
    }
    kept
}

/// An existing slice with the endpoints it will have.
struct Draft {
    slice: Arc<EndpointSlice>,
    endpoints: Vec<Endpoint>,
    changed: bool,
}

impl Draft {
    fn take(&mut self, missing: &mut Vec<Endpoint>) {
        let count = (MAX_ENDPOINTS.saturating_sub(self.endpoints.len())).min(missing.len());
        if count > 0 {
            self.endpoints.extend(missing.drain(..count));
            self.changed = true;
        }
    }
}

fn endpoint_key(endpoint: &Endpoint) -> String {
    let uid = endpoint.target_ref.as_ref().and_then(|target| target.uid.as_deref()).unwrap_or("");
    format!("{uid}/{}", endpoint.addresses.first().map_or("", String::as_str))
}

/// The Service's labels and those that tie a slice to it.
fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if is_headless(service) {
        labels.insert(HEADLESS.to_string(), String::new());
    }
    labels.insert(names::SERVICE_NAME.to_string(), service.metadata.name.clone().unwrap_or_default());
    labels.insert(MANAGED_BY.to_string(), MANAGER.to_string());
    labels
}

fn has(slice: &EndpointSlice, labels: &BTreeMap<String, String>) -> bool {
    slice.metadata.labels.as_ref() == Some(labels)
}

fn changed(
    slice: &EndpointSlice,
    labels: &BTreeMap<String, String>,
    endpoints: Vec<Endpoint>,
) -> EndpointSlice {
    let mut slice = slice.clone();
    slice.metadata.labels = Some(labels.clone());
    slice.endpoints = Some(endpoints);
    slice
}

fn new_slice(
    service: &Service,
    address_type: &str,
    labels: &BTreeMap<String, String>,
    ports: Ports,
    endpoints: Vec<Endpoint>,
) -> EndpointSlice {
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", service.metadata.name.as_deref().unwrap_or(""))),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels.clone()),
            owner_references: Some(vec![owner::reference(service)]),
            ..Default::default()
        },
        address_type: address_type.to_string(),
        endpoints: Some(endpoints),
        ports: Some(ports),
    }
}

#[cfg(test)]
mod tests {
    use super::super::endpoints::{address_types, desired};
    use super::*;
    use crate::pod::fixtures;
    use k8s_openapi::api::core::v1::{Container, ContainerPort, Pod, PodIP, ServicePort, ServiceSpec};
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

    fn service(target: IntOrString) -> Service {
        Service {
            metadata: ObjectMeta {
                name: Some("web".into()),
                namespace: Some("default".into()),
                ..Default::default()
            },
            spec: Some(ServiceSpec {
                ports: Some(vec![ServicePort { port: 80, target_port: Some(target), ..Default::default() }]),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn backend(number: usize) -> Pod {
        let mut pod = fixtures::pod(&format!("web-{number:04}"), "Running", "n1", Some(10));
        pod.status.as_mut().unwrap().pod_ips =
            Some(vec![PodIP { ip: format!("10.0.{}.{}", number / 250, number % 250) }]);
        pod.spec.as_mut().unwrap().containers = vec![Container {
            ports: Some(vec![ContainerPort {
                name: Some("http".into()),
                container_port: 8080 + i32::try_from(number % 2).unwrap(),
                ..Default::default()
            }]),
            ..Default::default()
        }];
        pod
    }

    fn planned(service: &Service, existing: &[Arc<EndpointSlice>], pods: &[Pod]) -> Plan {
        let zone = |node: &str| (node == "n1").then(|| "z1".to_string());
        let address_type = &address_types(service)[0];
        plan(service, address_type, existing, desired(service, pods, address_type, zone))
    }

    fn stored(plan: Plan, existing: &[Arc<EndpointSlice>]) -> Vec<Arc<EndpointSlice>> {
        let mut slices: Vec<Arc<EndpointSlice>> = existing.to_vec();
        slices.retain(|slice| {
            !plan.delete.iter().any(|gone| gone.metadata.name == slice.metadata.name)
                && !plan.update.iter().any(|new| new.metadata.name == slice.metadata.name)
        });
        slices.extend(plan.update.into_iter().map(Arc::new));
        for mut slice in plan.create {
            slice.metadata.name = Some(format!("web-{}", slices.len()));
            slices.push(Arc::new(slice));
        }
        slices
    }

    fn sizes(slices: &[Arc<EndpointSlice>]) -> Vec<usize> {
        let mut sizes: Vec<usize> =
            slices.iter().map(|slice| slice.endpoints.as_ref().map_or(0, Vec::len)).collect();
        sizes.sort_unstable();
        sizes
    }

    #[test]
    fn slices_hold_a_hundred_endpoints_and_change_little() {
        let web = service(IntOrString::Int(8080));
        let mut pods: Vec<Pod> = (0..250).map(backend).collect();
        let slices = stored(planned(&web, &[], &pods), &[]);
        assert_eq!(sizes(&slices), [50, 100, 100]);

        let again = planned(&web, &slices, &pods);
        assert!(again.create.is_empty() && again.update.is_empty() && again.delete.is_empty());

        pods.push(backend(250));
        let one_more = planned(&web, &slices, &pods);
        assert_eq!((one_more.create.len(), one_more.update.len(), one_more.delete.len()), (0, 1, 0));
        let slices = stored(one_more, &slices);

        pods.remove(0);
        let one_less = planned(&web, &slices, &pods);
        assert_eq!((one_less.create.len(), one_less.update.len(), one_less.delete.len()), (0, 1, 0));
    }

    #[test]
    fn named_ports_group_pods_by_number() {
        let web = service(IntOrString::String("http".into()));
        let pods: Vec<Pod> = (0..4).map(backend).collect();
        let slices = stored(planned(&web, &[], &pods), &[]);
        assert_eq!(sizes(&slices), [2, 2]);
        let none = service(IntOrString::String("grpc".into()));
        let slices = stored(planned(&none, &[], &pods), &[]);
        assert_eq!(sizes(&slices), [0]);
    }

    #[test]
    fn conditions_follow_readiness_and_deletion() {
        let web = service(IntOrString::Int(8080));
        let mut pods: Vec<Pod> = (0..3).map(backend).collect();
        pods[1].status.as_mut().unwrap().conditions = None;
        pods[2].metadata.deletion_timestamp = Some(crate::pod::now());
        let slices = stored(planned(&web, &[], &pods), &[]);
        let conditions: Vec<_> = slices[0]
            .endpoints
            .iter()
            .flatten()
            .map(|endpoint| {
                let conditions = endpoint.conditions.clone().unwrap();
                (conditions.ready.unwrap(), conditions.serving.unwrap(), conditions.terminating.unwrap())
            })
            .collect();
        assert_eq!(conditions, [(true, true, false), (false, false, false), (false, true, true)]);
        assert_eq!(slices[0].endpoints.as_ref().unwrap()[0].zone.as_deref(), Some("z1"));
    }

    #[test]
    fn without_endpoints_one_empty_slice_stays() {
        let web = service(IntOrString::Int(8080));
        let slices = stored(planned(&web, &[], &[backend(1)]), &[]);
        let slices = stored(planned(&web, &slices, &[]), &slices);
        assert_eq!(sizes(&slices), [0]);
        let again = planned(&web, &slices, &[]);
        assert!(again.create.is_empty() && again.update.is_empty() && again.delete.is_empty());
    }
}
