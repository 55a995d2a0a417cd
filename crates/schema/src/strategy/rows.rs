//! The table: one row per kind that has rules of its own.

use serde_json::Value;

use super::{GENERIC, Strategy, certificates, core, devices, pod, prepare, service};
use crate::cursor::Node;
use crate::defaults;
use crate::field::ErrorList;
use crate::structural::crd;
use crate::validation as rules;
use crate::validation::core::{cluster, config, endpoints, limits, storage};
use crate::validation::{apps, autoscaling, batch, kind_warnings, policy};

/// A rule for cursors as a rule for values.
macro_rules! rule {
    ($rule:path) => {
        |object| $rule(&Node::root(object))
    };
}

/// A rule about a change, for cursors, as one for values.
macro_rules! change {
    ($rule:path) => {
        |new, old| $rule(&Node::root(new), &Node::root(old))
    };
}

/// A kind with spec, status and generation.
const COUNTED: Strategy =
    Strategy { prepare_create: prepare::create, prepare_update: prepare::update, ..GENERIC };
/// A kind with spec and status, but without generation.
const WITH_STATUS: Strategy =
    Strategy { prepare_create: prepare::clear_status, prepare_update: prepare::keep_status, ..GENERIC };
/// A kind with a spec and generation, but without status.
const COUNTED_SPEC: Strategy =
    Strategy { prepare_create: prepare::start_generation, prepare_update: prepare::count_spec, ..GENERIC };
/// A kind whose whole content counts.
const COUNTED_CONTENT: Strategy =
    Strategy { prepare_create: prepare::start_generation, prepare_update: prepare::count_all, ..GENERIC };

/// The row of a subresource that is updated with rules of its own.
pub fn subresource_row(group: &str, kind: &str, subresource: &str) -> Option<&'static Strategy> {
    static EPHEMERAL_CONTAINERS: Strategy = Strategy {
        prepare_update: pod::ephemeral_containers_update,
        validate_update: change!(rules::pod::ephemeral_containers_update),
        ..GENERIC
    };
    static RESIZE: Strategy = Strategy {
        prepare_update: pod::resize_update,
        validate_update: change!(rules::pod::resize),
        ..GENERIC
    };
    static FINALIZE: Strategy = Strategy {
        prepare_update: prepare::keep_status,
        validate_update: change!(cluster::namespace_finalize_update),
        ..GENERIC
    };
    static APPROVAL: Strategy = Strategy {
        prepare_update: certificates::approval_update,
        validate_update: change!(rules::certificates::signing_request_approval_update),
        ..GENERIC
    };
    match (group, kind, subresource) {
        ("certificates.k8s.io", "CertificateSigningRequest", "approval") => Some(&APPROVAL),
        ("", "Pod", "ephemeralcontainers") => Some(&EPHEMERAL_CONTAINERS),
        ("", "Pod", "resize") => Some(&RESIZE),
        ("", "Namespace", "finalize") => Some(&FINALIZE),
        _ => None,
    }
}

/// A changed object must satisfy what a new one must, and keep its identity.
fn both(new: &Value, old: &Value, rule: fn(&Node) -> ErrorList) -> ErrorList {
    let (new, old) = (Node::root(new), Node::root(old));
    let mut errs = ErrorList::new();
    rules::metadata::validate_update(&new.at("metadata"), &old.at("metadata"), &mut errs);
    errs.extend(rule(&new));
    errs
}

/// Only metadata, with a subdomain as name.
fn named_subdomain(object: &Node) -> ErrorList {
    let mut errs = ErrorList::new();
    rules::metadata::validate(&object.at("metadata"), rules::format::name_is_subdomain, &mut errs);
    errs
}

macro_rules! rows {
    ($($group:literal { $($kind:literal => $row:expr,)* })*) => {
        /// The row of a kind, if it has one.
        pub fn row(group: &str, kind: &str) -> Option<&'static Strategy> {
            match group {
                $($group => match kind {
                    $($kind => {
                        static ROW: Strategy = $row;
                        Some(&ROW)
                    })*
                    _ => None,
                },)*
                _ => None,
            }
        }
    };
}

rows! {
    "" {
        "Event" => Strategy {
            validate: rule!(rules::events::core_event),
            validate_update: change!(rules::events::core_event_update),
            ..GENERIC
        },
        "Pod" => Strategy {
            default: defaults::pod::pod,
            prepare_create: pod::create,
            prepare_update: pod::update,
            prepare_status_update: pod::status_update,
            validate: rule!(rules::pod::create),
            validate_update: change!(rules::pod::update),
            validate_status_update: change!(rules::pod::status_update),
            warnings: rule!(rules::warnings::pod),
            warnings_on_status_update: change!(kind_warnings::pod_status),
            ..GENERIC
        },
        "PodTemplate" => Strategy {
            default: defaults::core::pod_template,
            prepare_create: core::pod_template_create,
            prepare_update: core::pod_template_update,
            validate: rule!(apps::pod_template),
            validate_update: change!(apps::pod_template_update),
            warnings: rule!(rules::warnings::workload),
            warnings_on_update: change!(rules::warnings::workload_update),
            ..GENERIC
        },
        "ReplicationController" => Strategy {
            default: defaults::core::replication_controller,
            prepare_create: core::workload_create,
            prepare_update: core::workload_update,
            validate: rule!(apps::replication_controller),
            validate_update: change!(apps::replication_controller_update),
            validate_status_update: change!(apps::replica_set_status_update),
            warnings: rule!(rules::warnings::named_workload),
            warnings_on_update: change!(rules::warnings::replication_controller_update),
            ..COUNTED
        },
        "Service" => Strategy {
            default: defaults::core::service,
            prepare_create: service::create,
            prepare_update: service::update,
            validate: rule!(rules::core::service::service),
            validate_update: change!(rules::core::service::service_update),
            validate_status_update: change!(rules::core::service::service_status_update),
            warnings: rule!(rules::warnings::service),
            warnings_on_update: |new, _| rules::warnings::service(&Node::root(new)),
            warnings_on_status_update: change!(kind_warnings::load_balancer_status),
            ..GENERIC
        },
        "Endpoints" => Strategy {
            default: defaults::core::endpoints,
            validate: rule!(endpoints::endpoints),
            validate_update: change!(endpoints::endpoints_update),
            warnings: rule!(kind_warnings::endpoints),
            warnings_on_update: |new, _| kind_warnings::endpoints(&Node::root(new)),
            ..GENERIC
        },
        "Namespace" => Strategy {
            default: defaults::core::namespace,
            prepare_create: core::namespace_create,
            prepare_update: core::namespace_update,
            validate: rule!(cluster::namespace),
            validate_update: change!(cluster::namespace_update),
            validate_status_update: change!(cluster::namespace_status_update),
            ..GENERIC
        },
        "Node" => Strategy {
            default: defaults::core::node, prepare_create: core::node_create,
            prepare_update: core::node_update,
            prepare_status_update: core::node_status_update,
            validate: rule!(cluster::node),
            validate_update: change!(cluster::node_update),
            validate_status_update: change!(cluster::node_status_update),
            warnings: rule!(kind_warnings::node),
            warnings_on_update: |new, _| kind_warnings::node(&Node::root(new)),
            ..GENERIC
        },
        "Secret" => Strategy {
            default: defaults::core::secret, prepare_update: core::secret_update,
            validate: rule!(config::secret),
            validate_update: change!(config::secret_update),
            warnings: rule!(kind_warnings::secret),
            warnings_on_update: |new, _| kind_warnings::secret(&Node::root(new)),
            ..GENERIC
        },
        "ServiceAccount" => Strategy {
            prepare_create: core::service_account_prepare,
            prepare_update: |new, _| core::service_account_prepare(new),
            validate: rule!(named_subdomain),
            validate_update: |new, old| both(new, old, named_subdomain),
            warnings: rule!(kind_warnings::service_account),
            warnings_on_update: change!(kind_warnings::service_account_update),
            ..GENERIC
        },
        "PersistentVolume" => Strategy {
            default: defaults::core::persistent_volume,
            prepare_create: core::persistent_volume_create,
            prepare_update: prepare::keep_status,
            prepare_status_update: core::persistent_volume_status_update,
            validate: rule!(rules::core::volumes::persistent_volume_create),
            validate_update: change!(rules::core::volumes::persistent_volume_update),
            warnings: rule!(kind_warnings::volume),
            warnings_on_update: |new, _| kind_warnings::volume(&Node::root(new)),
            ..GENERIC
        },
        "PersistentVolumeClaim" => Strategy {
            default: defaults::core::persistent_volume_claim,
            prepare_create: core::persistent_volume_claim_create,
            prepare_update: core::persistent_volume_claim_update,
            validate: rule!(storage::claim),
            validate_update: change!(storage::claim_update),
            validate_status_update: change!(storage::claim_status_update),
            warnings: rule!(kind_warnings::claim),
            warnings_on_update: |new, _| kind_warnings::claim(&Node::root(new)),
            ..GENERIC
        },
        "ConfigMap" => Strategy {
            validate: rule!(config::config_map),
            validate_update: change!(config::config_map_update),
            ..GENERIC
        },
        "LimitRange" => Strategy {
            default: defaults::core::limit_range,
            prepare_create: core::limit_range_create,
            validate: rule!(limits::limit_range),
            validate_update: |new, _| limits::limit_range(&Node::root(new)),
            ..GENERIC
        },
        "ResourceQuota" => Strategy {
            default: defaults::core::resource_quota,
            validate: rule!(limits::resource_quota),
            validate_update: change!(limits::resource_quota_update),
            validate_status_update: change!(limits::resource_quota_status_update),
            warnings: rule!(rules::warnings::resource_quota),
            ..WITH_STATUS
        },
    }
    "apps" {
        "Deployment" => Strategy {
            default: defaults::apps::deployment,
            prepare_create: core::workload_create,
            prepare_update: core::deployment_update,
            prepare_status_update: core::deployment_status_update,
            validate: rule!(apps::deployment),
            validate_update: change!(apps::deployment_update),
            validate_status_update: change!(apps::deployment_status_update),
            warnings: rule!(rules::warnings::named_workload),
            warnings_on_update: change!(rules::warnings::workload_update),
            ..COUNTED
        },
        "ReplicaSet" => Strategy {
            default: defaults::apps::replica_set,
            prepare_create: core::workload_create,
            prepare_update: core::workload_update,
            validate: rule!(apps::replica_set),
            validate_update: change!(apps::replica_set_update),
            validate_status_update: change!(apps::replica_set_status_update),
            warnings: rule!(rules::warnings::named_workload),
            warnings_on_update: change!(rules::warnings::workload_update),
            ..COUNTED
        },
        "DaemonSet" => Strategy {
            default: defaults::apps::daemon_set,
            prepare_create: core::daemon_set_create,
            prepare_update: core::daemon_set_update,
            prepare_status_update: core::daemon_set_status_update,
            validate: rule!(apps::daemon_set),
            validate_update: change!(apps::daemon_set_update),
            validate_status_update: change!(apps::daemon_set_status_update),
            warnings: rule!(rules::warnings::workload),
            warnings_on_update: change!(rules::warnings::daemon_set_update),
            ..GENERIC
        },
        "StatefulSet" => Strategy {
            default: defaults::apps::stateful_set,
            prepare_create: core::stateful_set_create,
            prepare_update: core::stateful_set_update,
            validate: rule!(apps::stateful_set),
            validate_update: change!(apps::stateful_set_update),
            validate_status_update: change!(apps::stateful_set_status_update),
            warnings: rule!(kind_warnings::stateful_set),
            warnings_on_update: change!(kind_warnings::stateful_set_update),
            ..COUNTED
        },
        "ControllerRevision" => Strategy {
            validate: rule!(apps::controller_revision),
            validate_update: change!(apps::controller_revision_update),
            ..GENERIC
        },
    }
    "batch" {
        "Job" => Strategy {
            default: defaults::batch::job, prepare_create: core::job_create,
            prepare_update: core::workload_update,
            validate: rule!(batch::job),
            validate_update: change!(batch::job_update),
            validate_status_update: change!(batch::job_status_update),
            warnings: rule!(rules::warnings::named_workload),
            warnings_on_update: change!(rules::warnings::workload_update),
            ..COUNTED
        },
        "CronJob" => Strategy {
            default: defaults::batch::cron_job,
            prepare_create: core::cron_job_create,
            prepare_update: core::cron_job_update,
            validate: rule!(batch::cron_job),
            validate_update: change!(batch::cron_job_update),
            warnings: rule!(rules::warnings::named_workload),
            warnings_on_update: change!(kind_warnings::cron_job_update),
            ..COUNTED
        },
    }
    "autoscaling" {
        "HorizontalPodAutoscaler" => Strategy {
            default: defaults::autoscaling::horizontal_pod_autoscaler,
            validate: rule!(autoscaling::horizontal_pod_autoscaler),
            validate_update: change!(autoscaling::horizontal_pod_autoscaler_update),
            validate_status_update: change!(autoscaling::horizontal_pod_autoscaler_status_update),
            ..WITH_STATUS
        },
    }
    "policy" {
        "PodDisruptionBudget" => Strategy {
            validate: rule!(policy::pod_disruption_budget),
            validate_update: |new, _| policy::pod_disruption_budget(&Node::root(new)),
            validate_status_update: change!(policy::pod_disruption_budget_status_update),
            ..COUNTED
        },
    }
    "networking.k8s.io" {
        "IPAddress" => Strategy {
            validate: rule!(rules::networking::ip_address),
            validate_update: change!(rules::networking::ip_address_update),
            ..GENERIC
        },
        "Ingress" => Strategy {
            prepare_update: core::ingress_update,
            validate: rule!(rules::networking::ingress),
            validate_update: change!(rules::networking::ingress_update),
            validate_status_update: change!(rules::networking::ingress_status_update),
            warnings: rule!(kind_warnings::ingress),
            warnings_on_status_update: change!(kind_warnings::load_balancer_status),
            ..COUNTED
        },
        "IngressClass" => Strategy {
            default: defaults::misc::ingress_class,
            validate: rule!(rules::networking::ingress_class),
            validate_update: change!(rules::networking::ingress_class_update),
            ..COUNTED_SPEC
        },
        "NetworkPolicy" => Strategy {
            default: defaults::misc::network_policy,
            validate: rule!(rules::networking::network_policy),
            validate_update: change!(rules::networking::network_policy_update),
            warnings: rule!(kind_warnings::network_policy),
            warnings_on_update: |new, _| kind_warnings::network_policy(&Node::root(new)),
            ..COUNTED_SPEC
        },
        "ServiceCIDR" => Strategy {
            validate: rule!(rules::networking::service_cidr),
            validate_update: change!(rules::networking::service_cidr_update),
            prepare_status_update: prepare::keep_all_but_status_and_metadata,
            ..WITH_STATUS
        },
    }
    "discovery.k8s.io" {
        "EndpointSlice" => Strategy {
            default: defaults::misc::endpoint_slice,
            prepare_create: core::endpoint_slice_create,
            prepare_update: core::endpoint_slice_update,
            validate: rule!(rules::discovery::endpoint_slice),
            validate_update: change!(rules::discovery::endpoint_slice_update),
            warnings: rule!(kind_warnings::endpoint_slice),
            warnings_on_update: |new, _| kind_warnings::endpoint_slice_update(&Node::root(new)),
            ..COUNTED_CONTENT
        },
    }
    "rbac.authorization.k8s.io" {
        "ClusterRole" => Strategy {
            validate: rule!(rules::rbac::cluster_role),
            validate_update: change!(rules::rbac::cluster_role_update),
            ..GENERIC
        },
        "Role" => Strategy {
            validate: rule!(rules::rbac::role),
            validate_update: change!(rules::rbac::role_update),
            ..GENERIC
        },
        "RoleBinding" => Strategy {
            default: defaults::misc::role_binding,
            validate: rule!(rules::rbac::role_binding),
            validate_update: change!(rules::rbac::role_binding_update),
            ..GENERIC
        },
        "ClusterRoleBinding" => Strategy {
            default: defaults::misc::role_binding,
            validate: rule!(rules::rbac::cluster_role_binding),
            validate_update: change!(rules::rbac::cluster_role_binding_update),
            ..GENERIC
        },
    }
    "scheduling.k8s.io" {
        "PriorityClass" => Strategy {
            default: defaults::misc::priority_class,
            prepare_create: prepare::start_generation,
            validate: rule!(rules::scheduling::priority_class),
            validate_update: change!(rules::scheduling::priority_class_update),
            ..GENERIC
        },
    }
    "storage.k8s.io" {
        "VolumeAttributesClass" => Strategy {
            validate: rule!(rules::storage::volume_attributes_class),
            validate_update: change!(rules::storage::volume_attributes_class_update),
            ..GENERIC
        },
        "CSIStorageCapacity" => Strategy {
            validate: rule!(rules::storage::csi_storage_capacity),
            validate_update: change!(rules::storage::csi_storage_capacity_update),
            warnings: rule!(kind_warnings::storage_capacity),
            warnings_on_update: |new, _| kind_warnings::storage_capacity(&Node::root(new)),
            ..GENERIC
        },
        "CSINode" => Strategy {
            validate: rule!(rules::storage::csi_node),
            validate_update: change!(rules::storage::csi_node_update),
            ..GENERIC
        },
        "StorageClass" => Strategy {
            default: defaults::misc::storage_class,
            validate: rule!(rules::storage::storage_class),
            validate_update: change!(rules::storage::storage_class_update),
            warnings: rule!(kind_warnings::storage_class),
            warnings_on_update: |new, _| kind_warnings::storage_class(&Node::root(new)),
            ..GENERIC
        },
        "CSIDriver" => Strategy {
            default: defaults::misc::csi_driver,
            prepare_create: core::csi_driver_create,
            prepare_update: core::csi_driver_update,
            validate: rule!(rules::storage::csi_driver),
            validate_update: change!(rules::storage::csi_driver_update),
            warnings: rule!(rules::warnings::csi_driver),
            warnings_on_update: |new, old| {
                let changed = new["spec"]["tokenRequests"] != old["spec"]["tokenRequests"];
                if changed { rules::warnings::csi_driver(&Node::root(new)) } else { Vec::new() }
            },
            ..GENERIC
        },
        "VolumeAttachment" => Strategy {
            prepare_status_update: prepare::keep_all_but_status_and_metadata,
            validate: rule!(rules::storage::volume_attachment),
            validate_update: change!(rules::storage::volume_attachment_update),
            ..WITH_STATUS
        },
    }
    "admissionregistration.k8s.io" {
        "ValidatingWebhookConfiguration" => Strategy {
            default: defaults::admission::validating_webhooks,
            validate: rule!(rules::admission::webhooks),
            validate_update: change!(rules::admission::webhooks_update),
            ..COUNTED_CONTENT
        },
        "MutatingWebhookConfiguration" => Strategy {
            default: defaults::admission::mutating_webhooks,
            validate: rule!(rules::admission::webhooks),
            validate_update: change!(rules::admission::webhooks_update),
            ..COUNTED_CONTENT
        },
        "ValidatingAdmissionPolicy" => Strategy {
            default: defaults::admission::policy,
            validate: rule!(rules::policies::validating_policy),
            validate_update: change!(rules::policies::validating_policy_update),
            prepare_status_update: prepare::keep_all_but_status_and_metadata,
            ..COUNTED
        },
        "MutatingAdmissionPolicy" => Strategy {
            default: defaults::admission::policy,
            validate: rule!(rules::policies::mutating_policy),
            validate_update: change!(rules::policies::mutating_policy_update),
            ..COUNTED_SPEC
        },
        "ValidatingAdmissionPolicyBinding" => Strategy {
            default: defaults::admission::policy_binding,
            validate: rule!(rules::policies::validating_binding),
            validate_update: |new, _| rules::policies::validating_binding(&Node::root(new)),
            ..COUNTED_SPEC
        },
        "MutatingAdmissionPolicyBinding" => Strategy {
            default: defaults::admission::policy_binding,
            validate: rule!(rules::policies::mutating_binding),
            validate_update: |new, _| rules::policies::mutating_binding(&Node::root(new)),
            ..COUNTED_SPEC
        },
    }
    "apiextensions.k8s.io" {
        "CustomResourceDefinition" => Strategy {
            default: defaults::misc::custom_resource_definition,
            prepare_create: crd::prepare_create,
            prepare_update: crd::prepare_update,
            validate: crd::validate,
            validate_update: crd::validate_update,
            validate_status_update: crd::validate_status_update,
            warnings: crd::warnings,
            warnings_on_update: crd::warnings_on_update,
            ..GENERIC
        },
    }
    "apiregistration.k8s.io" {
        "APIService" => Strategy {
            default: defaults::misc::api_service,
            prepare_create: prepare::api_service,
            prepare_status_update: prepare::keep_all_but_status_and_metadata,
            validate: rule!(rules::api_service::api_service),
            validate_update: change!(rules::api_service::api_service_update),
            validate_status_update: change!(rules::api_service::api_service_status_update),
            ..WITH_STATUS
        },
    }
    "flowcontrol.apiserver.k8s.io" {
        "FlowSchema" => Strategy {
            default: defaults::misc::flow_schema,
            validate: rule!(rules::flowcontrol::flow_schema),
            validate_update: change!(rules::flowcontrol::flow_schema_update),
            validate_status_update: change!(rules::flowcontrol::status_update),
            prepare_status_update: prepare::keep_all_but_status_and_metadata,
            ..COUNTED
        },
        "PriorityLevelConfiguration" => Strategy {
            default: defaults::misc::priority_level,
            validate: rule!(rules::flowcontrol::priority_level),
            validate_update: change!(rules::flowcontrol::priority_level_update),
            validate_status_update: change!(rules::flowcontrol::status_update),
            prepare_status_update: prepare::keep_all_but_status_and_metadata,
            ..COUNTED
        },
    }
    "resource.k8s.io" {
        "ResourceClaim" => Strategy {
            default: defaults::misc::resource_claim,
            validate: rule!(rules::devices::claim),
            validate_update: change!(rules::devices::claim_update),
            validate_status_update: change!(rules::devices::claim_status_update),
            prepare_status_update: devices::claim_status_update,
            ..WITH_STATUS
        },
        "ResourceClaimTemplate" => Strategy {
            default: defaults::misc::resource_claim_template,
            validate: rule!(rules::devices::claim_template),
            validate_update: change!(rules::devices::claim_template_update),
            ..GENERIC
        },
        "ResourceSlice" => Strategy {
            default: defaults::misc::resource_slice,
            prepare_create: devices::slice_create,
            prepare_update: devices::slice_update,
            validate: rule!(rules::devices::slice),
            validate_update: change!(rules::devices::slice_update),
            warnings: rule!(kind_warnings::resource_slice),
            warnings_on_update: |new, _| kind_warnings::resource_slice(&Node::root(new)),
            ..GENERIC
        },
        "DeviceClass" => Strategy {
            validate: rule!(rules::devices::class),
            validate_update: change!(rules::devices::class_update),
            ..COUNTED_SPEC
        },
    }
    "authentication.k8s.io" {
        "TokenRequest" => Strategy { default: defaults::misc::token_request, ..GENERIC },
    }
    "karpenter.sh" {
        "NodePool" => Strategy {
            default: defaults::karpenter::node_pool,
            validate: rule!(rules::karpenter::node_pool),
            validate_update: |new, old| both(new, old, rules::karpenter::node_pool),
            ..COUNTED
        },
        "NodeClaim" => Strategy {
            default: defaults::karpenter::node_claim,
            validate: rule!(rules::karpenter::node_claim),
            validate_update: change!(rules::karpenter::node_claim_update),
            ..COUNTED
        },
    }
    "coordination.k8s.io" {
        "Lease" => Strategy {
            validate: rule!(rules::discovery::lease),
            validate_update: change!(rules::discovery::lease_update),
            prepare_create: core::lease_prepare,
            prepare_update: |new, _| core::lease_prepare(new),
            ..GENERIC
        },
    }
    "node.k8s.io" {
        "RuntimeClass" => Strategy {
            validate: rule!(rules::scheduling::runtime_class),
            validate_update: change!(rules::scheduling::runtime_class_update),
            warnings: rule!(kind_warnings::runtime_class),
            warnings_on_update: |new, _| kind_warnings::runtime_class(&Node::root(new)),
            ..GENERIC
        },
    }
    "events.k8s.io" {
        "Event" => Strategy {
            validate: rule!(rules::events::event),
            validate_update: change!(rules::events::event_update),
            ..GENERIC
        },
    }
    "certificates.k8s.io" {
        "CertificateSigningRequest" => Strategy {
            prepare_update: certificates::update,
            prepare_status_update: certificates::status_update,
            validate: rule!(rules::certificates::signing_request),
            validate_update: change!(rules::certificates::signing_request_update),
            validate_status_update: change!(rules::certificates::signing_request_status_update),
            ..WITH_STATUS
        },
    }
}
