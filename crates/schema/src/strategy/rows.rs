//! The table: one row per kind that has rules of its own.

use super::{GENERIC, Strategy, core, pod, prepare, service};
use crate::cursor::Node;
use crate::defaults;
use crate::validation::{self, core::storage};

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
        "Pod" => Strategy {
            default: defaults::pod::pod,
            prepare_create: pod::create,
            prepare_update: prepare::update,
            prepare_status_update: pod::status_update,
            validate: |new| validation::pod::create(&Node::root(new)),
            validate_update: |new, old| validation::pod::update(&Node::root(new), &Node::root(old)),
            validate_status_update: |new, old| {
                validation::pod::status_update(&Node::root(new), &Node::root(old))
            },
            ..GENERIC
        },
        "PodTemplate" => Strategy { default: defaults::core::pod_template, ..COUNTED_CONTENT },
        "ReplicationController" => Strategy { default: defaults::core::replication_controller, ..COUNTED },
        "Service" => Strategy {
            default: defaults::core::service,
            prepare_create: prepare::clear_status,
            prepare_update: service::update,
            ..GENERIC
        },
        "Endpoints" => Strategy { default: defaults::core::endpoints, ..GENERIC },
        "Namespace" => Strategy {
            default: defaults::core::namespace,
            prepare_create: core::namespace_create,
            prepare_update: core::namespace_update,
            ..GENERIC
        },
        "Node" => Strategy { default: defaults::core::node, prepare_update: core::node_update, ..GENERIC },
        "Secret" => Strategy { default: defaults::core::secret, prepare_update: core::secret_update, ..GENERIC },
        "ServiceAccount" => Strategy {
            prepare_create: core::service_account_prepare,
            prepare_update: |new, _| core::service_account_prepare(new),
            ..GENERIC
        },
        "PersistentVolume" => Strategy {
            default: defaults::core::persistent_volume,
            prepare_create: core::persistent_volume_create,
            prepare_update: prepare::keep_status,
            prepare_status_update: core::persistent_volume_status_update,
            ..GENERIC
        },
        "PersistentVolumeClaim" => Strategy {
            default: defaults::core::persistent_volume_claim,
            prepare_create: core::persistent_volume_claim_create,
            prepare_update: core::persistent_volume_claim_update,
            validate: |new| storage::claim(&Node::root(new)),
            validate_update: |new, old| storage::claim_update(&Node::root(new), &Node::root(old)),
            validate_status_update: |new, old| storage::claim_status_update(&Node::root(new), &Node::root(old)),
            ..GENERIC
        },
        "LimitRange" => Strategy { default: defaults::core::limit_range, ..GENERIC },
        "ResourceQuota" => Strategy { default: defaults::core::resource_quota, ..WITH_STATUS },
    }
    "apps" {
        "Deployment" => Strategy {
            default: defaults::apps::deployment,
            prepare_update: core::deployment_update,
            prepare_status_update: core::deployment_status_update,
            ..COUNTED
        },
        "ReplicaSet" => Strategy { default: defaults::apps::replica_set, ..COUNTED },
        "DaemonSet" => Strategy {
            default: defaults::apps::daemon_set,
            prepare_create: core::daemon_set_create,
            prepare_update: core::daemon_set_update,
            ..GENERIC
        },
        "StatefulSet" => Strategy { default: defaults::apps::stateful_set, ..COUNTED },
    }
    "batch" {
        "Job" => Strategy { default: defaults::batch::job, prepare_create: core::job_create, ..COUNTED },
        "CronJob" => Strategy { default: defaults::batch::cron_job, ..COUNTED },
    }
    "autoscaling" {
        "HorizontalPodAutoscaler" => Strategy {
            default: defaults::autoscaling::horizontal_pod_autoscaler,
            ..WITH_STATUS
        },
    }
    "policy" {
        "PodDisruptionBudget" => COUNTED,
    }
    "networking.k8s.io" {
        "Ingress" => COUNTED,
        "IngressClass" => Strategy { default: defaults::misc::ingress_class, ..COUNTED_SPEC },
        "NetworkPolicy" => Strategy { default: defaults::misc::network_policy, ..COUNTED_SPEC },
        "ServiceCIDR" => WITH_STATUS,
    }
    "discovery.k8s.io" {
        "EndpointSlice" => Strategy {
            default: defaults::misc::endpoint_slice,
            prepare_update: core::endpoint_slice_update,
            ..COUNTED_CONTENT
        },
    }
    "rbac.authorization.k8s.io" {
        "RoleBinding" => Strategy { default: defaults::misc::role_binding, ..GENERIC },
        "ClusterRoleBinding" => Strategy { default: defaults::misc::role_binding, ..GENERIC },
    }
    "scheduling.k8s.io" {
        "PriorityClass" => Strategy {
            default: defaults::misc::priority_class,
            prepare_create: prepare::start_generation,
            ..GENERIC
        },
    }
    "storage.k8s.io" {
        "StorageClass" => Strategy { default: defaults::misc::storage_class, ..GENERIC },
        "CSIDriver" => Strategy {
            default: defaults::misc::csi_driver,
            prepare_update: prepare::count_spec,
            ..GENERIC
        },
        "VolumeAttachment" => Strategy {
            prepare_status_update: prepare::keep_all_but_status_and_metadata,
            ..WITH_STATUS
        },
    }
    "admissionregistration.k8s.io" {
        "ValidatingWebhookConfiguration" => Strategy {
            default: defaults::admission::validating_webhooks,
            ..COUNTED_CONTENT
        },
        "MutatingWebhookConfiguration" => Strategy {
            default: defaults::admission::mutating_webhooks,
            ..COUNTED_CONTENT
        },
        "ValidatingAdmissionPolicy" => Strategy { default: defaults::admission::policy, ..COUNTED },
        "MutatingAdmissionPolicy" => Strategy { default: defaults::admission::policy, ..COUNTED_SPEC },
        "ValidatingAdmissionPolicyBinding" => Strategy {
            default: defaults::admission::policy_binding,
            ..COUNTED_SPEC
        },
        "MutatingAdmissionPolicyBinding" => Strategy {
            default: defaults::admission::policy_binding,
            ..COUNTED_SPEC
        },
    }
    "apiextensions.k8s.io" {
        "CustomResourceDefinition" => Strategy {
            default: defaults::misc::custom_resource_definition,
            prepare_create: prepare::start_generation,
            prepare_update: prepare::update,
            ..GENERIC
        },
    }
    "apiregistration.k8s.io" {
        "APIService" => Strategy { default: defaults::misc::api_service, ..WITH_STATUS },
    }
    "flowcontrol.apiserver.k8s.io" {
        "FlowSchema" => Strategy { default: defaults::misc::flow_schema, ..COUNTED },
        "PriorityLevelConfiguration" => Strategy { default: defaults::misc::priority_level, ..COUNTED },
    }
    "resource.k8s.io" {
        "ResourceClaim" => Strategy {
            default: defaults::misc::resource_claim,
            prepare_status_update: prepare::keep_all_but_status_and_metadata,
            ..WITH_STATUS
        },
        "ResourceClaimTemplate" => Strategy { default: defaults::misc::resource_claim_template, ..GENERIC },
        "ResourceSlice" => COUNTED_SPEC,
        "DeviceClass" => COUNTED_SPEC,
    }
    "authentication.k8s.io" {
        "TokenRequest" => Strategy { default: defaults::misc::token_request, ..GENERIC },
    }
    "karpenter.sh" {
        "NodePool" => Strategy { default: defaults::karpenter::node_pool, ..COUNTED },
        "NodeClaim" => Strategy { default: defaults::karpenter::node_claim, ..COUNTED },
    }
}
