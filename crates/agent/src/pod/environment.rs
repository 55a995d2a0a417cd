//! A container's environment.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, Pod, Service};

use super::expand::expand;
use super::fields::{self, Facts};
use crate::objects::Objects;

/// Builds the environment: services, then `envFrom`, then `env`, later ones winning. An error is one that
/// only a change of some object resolves.
pub(crate) async fn environment(
    objects: &Objects,
    pod: &Pod,
    container: &Container,
    facts: &Facts,
) -> Result<BTreeMap<String, String>, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let links = pod.spec.as_ref().and_then(|s| s.enable_service_links).unwrap_or(true);
    let mut values = service_variables(&objects.services_for(namespace, links));
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let data = if let Some(reference) = &source.config_map_ref {
            objects.config_map(namespace, &reference.name, reference.optional).await?.unwrap_or_default()
        } else if let Some(reference) = &source.secret_ref {
            objects.secret(namespace, &reference.name, reference.optional).await?.unwrap_or_default()
        } else {
            continue;
        };
        for (key, value) in data {
            values.insert(format!("{prefix}{key}"), String::from_utf8_lossy(&value).into_owned());
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match &variable.value_from {
            None => Some(expand(variable.value.as_deref().unwrap_or_default(), &values)),
            Some(source) => from_source(objects, pod, container, facts, variable, source).await?,
        };
        if let Some(value) = value {
            values.insert(variable.name.clone(), value);
        }
    }
    Ok(values)
}

async fn from_source(
    objects: &Objects,
    pod: &Pod,
    container: &Container,
    facts: &Facts,
    variable: &EnvVar,
    source: &EnvVarSource,
) -> Result<Option<String>, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    if let Some(selector) = &source.field_ref {
        return fields::field(pod, facts, &selector.field_path).map(Some);
    }
    if let Some(selector) = &source.resource_field_ref {
        let spec = pod.spec.as_ref();
        let named = selector.container_name.as_deref().filter(|n| !n.is_empty());
        let of = named.and_then(|n| super::spec::find(spec?, n)).map_or(container, |(_, c)| c);
        return fields::resource(of, selector, facts).map(Some);
    }
    let (kind, name, key, optional, data) = if let Some(s) = &source.config_map_key_ref {
        ("ConfigMap", &s.name, &s.key, s.optional, objects.config_map(namespace, &s.name, s.optional).await?)
    } else if let Some(s) = &source.secret_key_ref {
        ("Secret", &s.name, &s.key, s.optional, objects.secret(namespace, &s.name, s.optional).await?)
    } else {
        return Err(format!("environment variable {} has an unsupported source", variable.name));
    };
    match data.and_then(|mut data| data.remove(key)) {
        Some(value) => Ok(Some(String::from_utf8_lossy(&value).into_owned())),
        None if optional == Some(true) => Ok(None),
        None => Err(format!("couldn't find key {key} in {kind} {namespace}/{name}")),
    }
}

/// The variables by which containers find services without DNS, in Kubernetes' and in Docker's form.
fn service_variables(services: &[Arc<Service>]) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    for service in services {
        let Some(spec) = &service.spec else { continue };
        let Some(ip) = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None") else {
            continue;
        };
        let Some(first) = spec.ports.iter().flatten().next() else { continue };
        let name = variable_name(service.metadata.name.as_deref().unwrap_or_default());
        values.insert(format!("{name}_SERVICE_HOST"), ip.to_owned());
        values.insert(format!("{name}_SERVICE_PORT"), first.port.to_string());
        let bracketed = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
        for (i, port) in spec.ports.iter().flatten().enumerate() {
            if let Some(port_name) = port.name.as_deref().filter(|n| !n.is_empty()) {
                let key = format!("{name}_SERVICE_PORT_{}", variable_name(port_name));
                values.insert(key, port.port.to_string());
            }
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let url = format!("{}://{bracketed}:{}", protocol.to_lowercase(), port.port);
            if i == 0 {
                values.insert(format!("{name}_PORT"), url.clone());
            }
            let prefix = format!("{name}_PORT_{}_{}", port.port, protocol.to_uppercase());
            values.insert(prefix.clone(), url);
            values.insert(format!("{prefix}_PROTO"), protocol.to_lowercase());
            values.insert(format!("{prefix}_PORT"), port.port.to_string());
            values.insert(format!("{prefix}_ADDR"), ip.to_owned());
        }
    }
    values
}

fn variable_name(name: &str) -> String {
    name.to_uppercase().replace(['-', '.'], "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_announced_in_both_forms() {
        let service: Service = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "my-db"},
            "spec": {"clusterIP": "10.96.0.9", "ports": [{"name": "sql", "port": 5432}]},
        }))
        .unwrap();
        let headless: Service = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "none"}, "spec": {"clusterIP": "None", "ports": [{"port": 1}]},
        }))
        .unwrap();
        let values = service_variables(&[Arc::new(service), Arc::new(headless)]);
        assert_eq!(values["MY_DB_SERVICE_HOST"], "10.96.0.9");
        assert_eq!(values["MY_DB_SERVICE_PORT_SQL"], "5432");
        assert_eq!(values["MY_DB_PORT"], "tcp://10.96.0.9:5432");
        assert_eq!(values["MY_DB_PORT_5432_TCP_ADDR"], "10.96.0.9");
        assert_eq!(values.len(), 8);
    }
}
