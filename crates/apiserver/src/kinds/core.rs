//! core/v1.

use super::*;
use crate::columns::{config as tables, nodes, pods, services, storage, workloads};
use crate::fields;

const V1: Group = Group { name: "", version: "v1", package: "io.k8s.api.core.v1" };

/// All kinds of core/v1.
pub fn kinds() -> Vec<Kind> {
    [
        V1.namespaced("Binding", "bindings").review(),
        V1.cluster("ComponentStatus", "componentstatuses")
            .short(&["cs"])
            .deprecated("v1 ComponentStatus is deprecated in v1.19+")
            .verbs(Verbs::Read)
            .backend(Backend::Virtual)
            .table(tables::COMPONENT_STATUS, tables::component_status),
        V1.namespaced("ConfigMap", "configmaps").short(&["cm"]).table(tables::CONFIG_MAP, tables::config_map),
        V1.namespaced("Endpoints", "endpoints")
            .short(&["ep"])
            .deprecated("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
            .create_on_update()
            .table(services::ENDPOINTS, services::endpoints),
        V1.namespaced("Event", "events")
            .short(&["ev"])
            .fields(fields::EVENT)
            .create_on_update()
            .table(tables::EVENT, tables::event),
        V1.namespaced("LimitRange", "limitranges")
            .short(&["limits"])
            .create_on_update()
            .table(columns::NAME_CREATED_AT, columns::name_created_at),
        V1.cluster("Namespace", "namespaces")
            .short(&["ns"])
            .verbs(Verbs::NoDeleteCollection)
            .fields(fields::NAMESPACE)
            .no_namespace_field()
            .delete_returns_object()
            .own("finalize", Action::Finalize, UPDATE)
            .status()
            .table(tables::NAMESPACE, tables::namespace),
        V1.cluster("Node", "nodes")
            .short(&["no"])
            .fields(fields::NODE)
            .no_namespace_field()
            .status()
            .options("proxy", Action::Proxy, "NodeProxyOptions", PROXY)
            .table(nodes::NODE, nodes::node),
        V1.namespaced("PersistentVolumeClaim", "persistentvolumeclaims")
            .short(&["pvc"])
            .delete_returns_object()
            .status()
            .table(storage::PERSISTENT_VOLUME_CLAIM, storage::persistent_volume_claim),
        V1.cluster("PersistentVolume", "persistentvolumes")
            .short(&["pv"])
            .delete_returns_object()
            .status()
            .table(storage::PERSISTENT_VOLUME, storage::persistent_volume),
        pod(),
        V1.namespaced("PodTemplate", "podtemplates")
            .delete_returns_object()
            .table(workloads::POD_TEMPLATE, workloads::pod_template),
        V1.namespaced("ReplicationController", "replicationcontrollers")
            .short(&["rc"])
            .category("all")
            .fields(fields::REPLICAS)
            .behaviour(|behaviour| behaviour.orphans_by_default = true)
            .scale()
            .status()
            .table(workloads::REPLICATION_CONTROLLER, workloads::replication_controller),
        V1.namespaced("ResourceQuota", "resourcequotas")
            .short(&["quota"])
            .delete_returns_object()
            .status()
            .table(tables::RESOURCE_QUOTA, tables::resource_quota),
        V1.namespaced("Secret", "secrets").fields(fields::SECRET).table(tables::SECRET, tables::secret),
        V1.namespaced("ServiceAccount", "serviceaccounts")
            .short(&["sa"])
            .delete_returns_object()
            .sub("token", Action::Token, ("authentication.k8s.io", "v1", "TokenRequest".into()), CREATE)
            .table(columns::NAME_AGE, columns::name_age),
        V1.namespaced("Service", "services")
            .short(&["svc"])
            .category("all")
            .fields(fields::SERVICE)
            .delete_returns_object()
            .create_on_update()
            .status()
            .options("proxy", Action::Proxy, "ServiceProxyOptions", PROXY)
            .table(services::SERVICE, services::service),
    ]
    .into_iter()
    .map(Kind::from)
    .collect()
}

fn pod() -> RowBuilder {
    V1.namespaced("Pod", "pods")
        .short(&["po"])
        .category("all")
        .fields(fields::POD)
        .delete_returns_object()
        .behaviour(|behaviour| behaviour.graceful_delete = true)
        .status()
        .own("ephemeralcontainers", Action::EphemeralContainers, GET_PATCH_UPDATE)
        .own("resize", Action::Resize, GET_PATCH_UPDATE)
        .own("log", Action::Log, GET)
        .sub("eviction", Action::Eviction, ("policy", "v1", "Eviction".into()), CREATE)
        .options("binding", Action::Binding, "Binding", CREATE)
        .options("attach", Action::Attach, "PodAttachOptions", CREATE_GET)
        .options("exec", Action::Exec, "PodExecOptions", CREATE_GET)
        .options("portforward", Action::PortForward, "PodPortForwardOptions", CREATE_GET)
        .options("proxy", Action::Proxy, "PodProxyOptions", PROXY)
        .table(pods::POD, pods::pod)
}
