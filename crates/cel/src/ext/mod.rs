//! Kubernetes' function libraries: what `k8s.io/apiserver/pkg/cel/environment` of version 1.36 enables besides the
//! standard library, optionals and two-variable comprehensions.
//!
//! Each library is a module that answers its functions. Those named after what they compute (`amount`, `net_url`,
//! `netip`, `semver_version`) know nothing of CEL. Overload ids, results, error texts and costs are upstream's.

mod amount;
mod authz;
mod cidr;
pub(crate) mod cost;
pub(crate) mod format;
mod go_lists;
mod ip;
mod jsonpatch;
mod lists;
mod named_format;
mod net_url;
mod netip;
mod opaque;
mod order;
mod quantity;
mod regexes;
mod semver;
mod semver_version;
mod sets;
mod strings;
mod urls;

pub use authz::{
    AccessCheck, AccessTarget, Authorizer, Decision, ResourceTarget, authorizer_type, authorizer_value,
    request_resource_value, resource_check_type,
};

use crate::Function;

/// The functions that all expressions have.
pub fn functions() -> Vec<Function> {
    // Where libraries overload one function, the order is that in which upstream registers them.
    [
        urls::functions(),
        regexes::functions(),
        lists::functions(),
        authz::functions(),
        quantity::functions(),
        strings::functions(),
        format::functions(),
        sets::functions(),
        ip::functions(),
        cidr::functions(),
        named_format::functions(),
        semver::functions(),
        go_lists::functions(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The functions that only mutating policies have besides.
pub fn json_patch_functions() -> Vec<Function> {
    jsonpatch::functions()
}
