//! The Kubernetes API server: one tower Service over a [`store::Store`].
//!
//! Reading answers with bytes of the watch cache ([`cache`]); writing decodes, admits, prepares,
//! validates and commits one object ([`ApiServer`]). The kind table ([`kind`]) drives routing,
//! discovery, tables and storage.

mod admission;
mod aggregation;
pub mod audit;
mod authn;
pub mod authz;
mod body;
mod bootstrap;
mod cache;
mod call;
mod codec;
pub mod columns;
mod compaction;
mod component_status;
mod compress;
pub mod convert;
mod counters;
mod crd;
mod device_access;
pub mod discovery;
pub mod encryption;
mod expiry;
pub mod fields;
mod flow;
mod handlers;
mod health;
pub mod kind;
pub mod kinds;
mod kubelet_proxy;
mod managed_fields;
mod metrics;
mod negotiate;
mod nonresource;
mod object;
pub mod openapi;
pub mod pki;
mod protobuf;
mod query;
mod request_info;
mod rules;
mod selector;
mod serve;
mod server;
mod service;
pub mod status;
mod storage;
mod tables;
mod webhook_client;
mod yaml;

pub use aggregation::ProxyClient;
pub use authn::{
    AuthenticationConfig, CertificateAuthorities, FrontProxy, Token, oidc,
    parse_config as parse_authentication_config, parse_token_file,
};
pub use body::{Body, BoxError};
pub use request_info::RequestInfo;
pub use serve::{listen, serve};
pub use server::{ApiServer, Config, KubeletAccess, StartError};
