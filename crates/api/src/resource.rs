//! The boilerplate that makes a hand-written type a Kubernetes object for `kube::Api`.

/// Implements `k8s_openapi::{Resource, Metadata}` for an object and defines its list kind name.
macro_rules! object {
    ($type:ident, $group:literal, $version:literal, $plural:literal, $scope:ident) => {
        impl k8s_openapi::Resource for $type {
            const API_VERSION: &'static str = concat!($group, "/", $version);
            const GROUP: &'static str = $group;
            const KIND: &'static str = stringify!($type);
            const VERSION: &'static str = $version;
            const URL_PATH_SEGMENT: &'static str = $plural;
            type Scope = k8s_openapi::$scope;
        }

        impl k8s_openapi::Metadata for $type {
            type Ty = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

            fn metadata(&self) -> &Self::Ty {
                &self.metadata
            }

            fn metadata_mut(&mut self) -> &mut Self::Ty {
                &mut self.metadata
            }
        }
    };
}

/// The `apiVersion` and `kind` of an object as fields that always hold the type's own constants.
macro_rules! type_meta {
    ($type:ident) => {
        impl $type {
            /// An object of this kind with the given name, everything else empty.
            pub fn named(name: impl Into<String>) -> Self {
                let mut object = Self {
                    api_version: <Self as k8s_openapi::Resource>::API_VERSION.to_owned(),
                    kind: <Self as k8s_openapi::Resource>::KIND.to_owned(),
                    ..Self::default()
                };
                object.metadata.name = Some(name.into());
                object
            }
        }
    };
}

pub(crate) use {object, type_meta};
