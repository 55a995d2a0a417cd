//! Upstream's named groups, in the order of `/apis`.

use super::*;
use crate::columns::{admission, autoscaling, config, policy, resource, services, storage, workloads};
use crate::{convert, fields};

/// All kinds of all named groups.
pub fn kinds() -> Vec<Kind> {
    [
        apiregistration(),
        apps(),
        events(),
        authentication(),
        authorization(),
        autoscaling_v2(),
        autoscaling_v1(),
        batch(),
        certificates(),
        networking(),
        policy_v1(),
        rbac(),
        storage_v1(),
        admissionregistration(),
        apiextensions(),
        scheduling(),
        coordination(),
        node(),
        discovery(),
        resource_v1(),
        flowcontrol(),
    ]
    .into_iter()
    .flatten()
    .map(Kind::from)
    .collect()
}

fn apiregistration() -> Vec<RowBuilder> {
    let v1 = Group {
        name: "apiregistration.k8s.io",
        version: "v1",
        package: "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1",
    };
    vec![
        v1.cluster("APIService", "apiservices")
            .category("api-extensions")
            .status()
            .conditional_update()
            .table(admission::API_SERVICE, admission::api_service),
    ]
}

fn apps() -> Vec<RowBuilder> {
    let v1 = Group { name: "apps", version: "v1", package: "io.k8s.api.apps.v1" };
    vec![
        v1.namespaced("ControllerRevision", "controllerrevisions")
            .table(workloads::CONTROLLER_REVISION, workloads::controller_revision),
        v1.namespaced("DaemonSet", "daemonsets")
            .short(&["ds"])
            .category("all")
            .status()
            .table(workloads::DAEMON_SET, workloads::daemon_set),
        v1.namespaced("Deployment", "deployments")
            .short(&["deploy"])
            .category("all")
            .scale()
            .status()
            .table(workloads::DEPLOYMENT, workloads::deployment),
        v1.namespaced("ReplicaSet", "replicasets")
            .short(&["rs"])
            .category("all")
            .scale()
            .status()
            .table(workloads::REPLICA_SET, workloads::replica_set),
        v1.namespaced("StatefulSet", "statefulsets")
            .short(&["sts"])
            .category("all")
            .scale()
            .status()
            .table(workloads::STATEFUL_SET, workloads::stateful_set),
    ]
}

fn events() -> Vec<RowBuilder> {
    let v1 = Group { name: "events.k8s.io", version: "v1", package: "io.k8s.api.events.v1" };
    vec![
        v1.namespaced("Event", "events")
            .short(&["ev"])
            .fields(fields::EVENT)
            .field_aliases(fields::EVENT_ALIASES)
            .create_on_update()
            .stored_as("", "v1", convert::EVENTS_TO_CORE)
            .table(config::EVENT, config::events_event),
    ]
}

fn authentication() -> Vec<RowBuilder> {
    let v1 = Group { name: "authentication.k8s.io", version: "v1", package: "io.k8s.api.authentication.v1" };
    vec![
        v1.cluster("SelfSubjectReview", "selfsubjectreviews")
            .review()
            .table(config::SELF_SUBJECT_REVIEW, config::self_subject_review),
        v1.cluster("TokenReview", "tokenreviews").review(),
    ]
}

fn authorization() -> Vec<RowBuilder> {
    let v1 = Group { name: "authorization.k8s.io", version: "v1", package: "io.k8s.api.authorization.v1" };
    vec![
        v1.namespaced("LocalSubjectAccessReview", "localsubjectaccessreviews").review(),
        v1.cluster("SelfSubjectAccessReview", "selfsubjectaccessreviews").review(),
        v1.cluster("SelfSubjectRulesReview", "selfsubjectrulesreviews").review(),
        v1.cluster("SubjectAccessReview", "subjectaccessreviews").review(),
    ]
}

fn autoscaling_v2() -> Vec<RowBuilder> {
    let v2 = Group { name: "autoscaling", version: "v2", package: "io.k8s.api.autoscaling.v2" };
    vec![
        v2.namespaced("HorizontalPodAutoscaler", "horizontalpodautoscalers")
            .short(&["hpa"])
            .category("all")
            .status()
            .table(autoscaling::HPA, autoscaling::hpa),
    ]
}

fn autoscaling_v1() -> Vec<RowBuilder> {
    let v1 = Group { name: "autoscaling", version: "v1", package: "io.k8s.api.autoscaling.v1" };
    vec![
        v1.namespaced("HorizontalPodAutoscaler", "horizontalpodautoscalers")
            .short(&["hpa"])
            .category("all")
            .status()
            .stored_as("autoscaling", "v2", convert::HPA_V1_TO_V2)
            .table(autoscaling::HPA, autoscaling::hpa),
    ]
}

fn batch() -> Vec<RowBuilder> {
    let v1 = Group { name: "batch", version: "v1", package: "io.k8s.api.batch.v1" };
    vec![
        v1.namespaced("CronJob", "cronjobs")
            .short(&["cj"])
            .category("all")
            .status()
            .table(workloads::CRON_JOB, workloads::cron_job),
        v1.namespaced("Job", "jobs")
            .category("all")
            .fields(fields::JOB)
            .refusal(Refusal::QuotedForKind)
            .behaviour(|behaviour| behaviour.orphans_by_default = true)
            .status()
            .table(workloads::JOB, workloads::job),
    ]
}

fn certificates() -> Vec<RowBuilder> {
    let v1 = Group { name: "certificates.k8s.io", version: "v1", package: "io.k8s.api.certificates.v1" };
    vec![
        v1.cluster("CertificateSigningRequest", "certificatesigningrequests")
            .short(&["csr"])
            .fields(fields::SIGNER)
            .no_namespace_field()
            .own("approval", Action::Approval, GET_PATCH_UPDATE)
            .status()
            .table(policy::CERTIFICATE_SIGNING_REQUEST, policy::certificate_signing_request),
    ]
}

fn networking() -> Vec<RowBuilder> {
    let v1 = Group { name: "networking.k8s.io", version: "v1", package: "io.k8s.api.networking.v1" };
    vec![
        v1.cluster("IngressClass", "ingressclasses").table(services::INGRESS_CLASS, services::ingress_class),
        v1.namespaced("Ingress", "ingresses")
            .short(&["ing"])
            .status()
            .table(services::INGRESS, services::ingress),
        v1.cluster("IPAddress", "ipaddresses")
            .short(&["ip"])
            .table(services::IP_ADDRESS, services::ip_address),
        v1.namespaced("NetworkPolicy", "networkpolicies")
            .short(&["netpol"])
            .table(services::NETWORK_POLICY, services::network_policy),
        v1.cluster("ServiceCIDR", "servicecidrs")
            .status()
            .table(services::SERVICE_CIDR, services::service_cidr),
    ]
}

fn policy_v1() -> Vec<RowBuilder> {
    let v1 = Group { name: "policy", version: "v1", package: "io.k8s.api.policy.v1" };
    vec![
        v1.namespaced("PodDisruptionBudget", "poddisruptionbudgets")
            .short(&["pdb"])
            .conditional_update()
            .status()
            .table(policy::POD_DISRUPTION_BUDGET, policy::pod_disruption_budget),
    ]
}

fn rbac() -> Vec<RowBuilder> {
    let v1 = Group { name: "rbac.authorization.k8s.io", version: "v1", package: "io.k8s.api.rbac.v1" };
    vec![
        v1.cluster("ClusterRoleBinding", "clusterrolebindings")
            .create_on_update()
            .table(policy::CLUSTER_ROLE_BINDING, policy::role_binding),
        v1.cluster("ClusterRole", "clusterroles")
            .create_on_update()
            .table(columns::NAME_CREATED_AT, columns::name_created_at),
        v1.namespaced("RoleBinding", "rolebindings")
            .create_on_update()
            .table(policy::ROLE_BINDING, policy::role_binding),
        v1.namespaced("Role", "roles")
            .create_on_update()
            .table(columns::NAME_CREATED_AT, columns::name_created_at),
    ]
}

fn storage_v1() -> Vec<RowBuilder> {
    let v1 = Group { name: "storage.k8s.io", version: "v1", package: "io.k8s.api.storage.v1" };
    vec![
        v1.cluster("CSIDriver", "csidrivers")
            .delete_returns_object()
            .conditional_update()
            .table(storage::CSI_DRIVER, storage::csi_driver),
        v1.cluster("CSINode", "csinodes")
            .delete_returns_object()
            .conditional_update()
            .table(storage::CSI_NODE, storage::csi_node),
        v1.namespaced("CSIStorageCapacity", "csistoragecapacities")
            .conditional_update()
            .table(columns::NAME_CREATED_AT, columns::name_created_at),
        v1.cluster("StorageClass", "storageclasses")
            .short(&["sc"])
            .delete_returns_object()
            .table(storage::STORAGE_CLASS, storage::storage_class),
        v1.cluster("VolumeAttachment", "volumeattachments")
            .delete_returns_object()
            .conditional_update()
            .status()
            .table(storage::VOLUME_ATTACHMENT, storage::volume_attachment),
        v1.cluster("VolumeAttributesClass", "volumeattributesclasses")
            .short(&["vac"])
            .delete_returns_object()
            .table(storage::VOLUME_ATTRIBUTES_CLASS, storage::volume_attributes_class),
    ]
}

fn admissionregistration() -> Vec<RowBuilder> {
    let v1 = Group {
        name: "admissionregistration.k8s.io",
        version: "v1",
        package: "io.k8s.api.admissionregistration.v1",
    };
    let kind = |kind, plural| v1.cluster(kind, plural).category("api-extensions").conditional_update();
    vec![
        kind("MutatingAdmissionPolicy", "mutatingadmissionpolicies")
            .hashed_as("v1beta1")
            .table(admission::MUTATING_ADMISSION_POLICY, admission::mutating_admission_policy),
        kind("MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings")
            .hashed_as("v1beta1")
            .table(admission::ADMISSION_POLICY_BINDING, admission::admission_policy_binding),
        kind("MutatingWebhookConfiguration", "mutatingwebhookconfigurations")
            .table(admission::WEBHOOK_CONFIGURATION, admission::webhook_configuration),
        kind("ValidatingAdmissionPolicy", "validatingadmissionpolicies")
            .status()
            .table(admission::VALIDATING_ADMISSION_POLICY, admission::validating_admission_policy),
        kind("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings")
            .table(admission::ADMISSION_POLICY_BINDING, admission::admission_policy_binding),
        kind("ValidatingWebhookConfiguration", "validatingwebhookconfigurations")
            .table(admission::WEBHOOK_CONFIGURATION, admission::webhook_configuration),
    ]
}

fn apiextensions() -> Vec<RowBuilder> {
    let v1 = Group {
        name: "apiextensions.k8s.io",
        version: "v1",
        package: "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1",
    };
    vec![
        v1.cluster("CustomResourceDefinition", "customresourcedefinitions")
            .short(&["crd", "crds"])
            .category("api-extensions")
            .conditional_update()
            .delete_returns_object()
            .status()
            .table(columns::NAME_CREATED_AT, columns::name_created_at),
    ]
}

fn scheduling() -> Vec<RowBuilder> {
    let v1 = Group { name: "scheduling.k8s.io", version: "v1", package: "io.k8s.api.scheduling.v1" };
    vec![
        v1.cluster("PriorityClass", "priorityclasses")
            .short(&["pc"])
            .table(policy::PRIORITY_CLASS, policy::priority_class),
    ]
}

fn coordination() -> Vec<RowBuilder> {
    let v1 = Group { name: "coordination.k8s.io", version: "v1", package: "io.k8s.api.coordination.v1" };
    vec![
        v1.namespaced("Lease", "leases")
            .create_on_update()
            .conditional_update()
            .table(config::LEASE, config::lease),
    ]
}

fn node() -> Vec<RowBuilder> {
    let v1 = Group { name: "node.k8s.io", version: "v1", package: "io.k8s.api.node.v1" };
    vec![
        v1.cluster("RuntimeClass", "runtimeclasses")
            .create_on_update()
            .conditional_update()
            .table(config::RUNTIME_CLASS, config::runtime_class),
    ]
}

fn discovery() -> Vec<RowBuilder> {
    let v1 = Group { name: "discovery.k8s.io", version: "v1", package: "io.k8s.api.discovery.v1" };
    vec![
        v1.namespaced("EndpointSlice", "endpointslices")
            .table(services::ENDPOINT_SLICE, services::endpoint_slice),
    ]
}

fn resource_v1() -> Vec<RowBuilder> {
    let v1 = Group { name: "resource.k8s.io", version: "v1", package: "io.k8s.api.resource.v1" };
    vec![
        v1.cluster("DeviceClass", "deviceclasses")
            .delete_returns_object()
            .table(columns::NAME_AGE, columns::name_age),
        v1.namespaced("ResourceClaim", "resourceclaims")
            .delete_returns_object()
            .status()
            .table(resource::RESOURCE_CLAIM, resource::resource_claim),
        v1.namespaced("ResourceClaimTemplate", "resourceclaimtemplates")
            .delete_returns_object()
            .table(columns::NAME_AGE, columns::name_age),
        v1.cluster("ResourceSlice", "resourceslices")
            .fields(fields::RESOURCE_SLICE)
            .refusal(Refusal::ForGroupVersionKind)
            .no_namespace_field()
            .delete_returns_object()
            .table(resource::RESOURCE_SLICE, resource::resource_slice),
    ]
}

fn flowcontrol() -> Vec<RowBuilder> {
    let v1 =
        Group { name: "flowcontrol.apiserver.k8s.io", version: "v1", package: "io.k8s.api.flowcontrol.v1" };
    vec![
        v1.cluster("FlowSchema", "flowschemas").status().table(policy::FLOW_SCHEMA, policy::flow_schema),
        v1.cluster("PriorityLevelConfiguration", "prioritylevelconfigurations")
            .status()
            .table(policy::PRIORITY_LEVEL_CONFIGURATION, policy::priority_level_configuration),
    ]
}
