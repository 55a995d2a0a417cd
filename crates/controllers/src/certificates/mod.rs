//! Certificate signing requests: approved where nodes ask for their own certificates, signed once approved,
//! removed when they are old.
//!
//! After `k8s.io/kubernetes/pkg/controller/certificates`.

mod der;
mod issue;
mod request;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use client::{Informer, Next, WorkQueue, key_of};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, DeleteParams, PostParams, Preconditions};

use crate::context::{Context, Error, gone_is_fine, is_conflict};
use request::Request;

pub use issue::Authority;

const WORKERS: usize = 2;
/// How often old requests are looked for.
const CLEAN_EVERY: Duration = Duration::from_secs(3600);
const HOUR: i64 = 3600;
/// Requests are kept this long after they were signed, denied or failed.
const DONE_KEPT: i64 = HOUR;
/// And this long if nothing happens to them.
const PENDING_KEPT: i64 = 24 * HOUR;

/// Runs the controller until the context is stopped.
pub async fn run(context: Context) {
    let controller = Arc::new(Controller { requests: context.informers.of(), context: context.clone() });
    let queue: WorkQueue<String> = WorkQueue::new();
    let add = queue.clone();
    controller.requests.on_event(move |event| add.add(key_of(event.object().as_ref())));
    controller.requests.synced().await;
    let cleaner = {
        let controller = controller.clone();
        let stop = context.stop.clone();
        tokio::spawn(async move {
            while stop.run_until_cancelled(tokio::time::sleep(CLEAN_EVERY)).await.is_some() {
                controller.clean().await;
            }
        })
    };
    let reconcile =
        |controller: Arc<Controller>, key: String| async move { controller.reconcile(&key).await };
    context.work(queue, WORKERS, controller, reconcile).await;
    cleaner.abort();
}

struct Controller {
    context: Context,
    requests: Informer<CertificateSigningRequest>,
}

type Condition = CertificateSigningRequestCondition;

fn conditions(request: &CertificateSigningRequest) -> &[Condition] {
    request.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default()
}

fn has(request: &CertificateSigningRequest, kind: &str) -> bool {
    conditions(request).iter().any(|condition| condition.type_ == kind)
}

fn certificate(request: &CertificateSigningRequest) -> Option<&ByteString> {
    request.status.as_ref().and_then(|status| status.certificate.as_ref()).filter(|bytes| !bytes.0.is_empty())
}

fn condition(kind: &str, reason: &str, message: &str) -> Condition {
    let now = Some(Time(base::clock::now()));
    Condition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_update_time: now,
        ..Condition::default()
    }
}

impl Controller {
    fn api(&self) -> Api<CertificateSigningRequest> {
        Api::all(self.context.client.clone())
    }

    async fn reconcile(&self, name: &str) -> Result<Next, Error> {
        let Some(request) = self.requests.get("", name) else { return Ok(Next::Wait) };
        let done = certificate(&request).is_some() || has(&request, "Failed") || has(&request, "Denied");
        let deleted = request.metadata.deletion_timestamp.is_some();
        // What is no certificate request is not let in by the API server.
        let Some(parsed) =
            (!done && !deleted).then(|| Request::parse(&request.spec.request.0)).and_then(Result::ok)
        else {
            return Ok(Next::Wait);
        };
        let result = if has(&request, "Approved") {
            self.sign(&request, &parsed).await
        } else {
            self.approve(&request, &parsed).await
        };
        match result {
            // The change comes by as an event.
            Err(Error::Api(error)) if is_conflict(&error) => Ok(Next::Wait),
            Err(error) => Err(error),
            Ok(()) => Ok(Next::Wait),
        }
    }

    /// Approves nodes' requests for client certificates, if who asks may have them unasked.
    async fn approve(&self, request: &CertificateSigningRequest, parsed: &Request) -> Result<(), Error> {
        let spec = &request.spec;
        let usages = spec.usages.as_deref().unwrap_or_default();
        if spec.signer_name != request::KUBELET_CLIENT || parsed.check_kubelet_client(usages).is_err() {
            return Ok(());
        }
        let own = spec.username.as_deref() == Some(&parsed.common_name);
        let tries = [
            (
                own,
                "selfnodeclient",
                "Auto approving self kubelet client certificate after SubjectAccessReview.",
            ),
            (true, "nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview."),
        ];
        for (applies, subresource, message) in tries {
            if applies && self.may(request, subresource).await? {
                return self.set(request, "approval", condition("Approved", "AutoApproved", message)).await;
            }
        }
        Ok(())
    }

    async fn may(&self, request: &CertificateSigningRequest, subresource: &str) -> Result<bool, Error> {
        let spec = &request.spec;
        let text = |text: &str| Some(text.to_owned());
        let extra: Option<BTreeMap<String, Vec<String>>> = spec.extra.clone();
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: spec.username.clone(),
                uid: spec.uid.clone(),
                groups: spec.groups.clone(),
                extra,
                resource_attributes: Some(ResourceAttributes {
                    group: text("certificates.k8s.io"),
                    resource: text("certificatesigningrequests"),
                    subresource: text(subresource),
                    verb: text("create"),
                    version: text("*"),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let reviews: Api<SubjectAccessReview> = Api::all(self.context.client.clone());
        let answer = reviews.create(&PostParams::default(), &review).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }

    async fn sign(&self, request: &CertificateSigningRequest, parsed: &Request) -> Result<(), Error> {
        let Some(authority) = &self.context.authority else { return Ok(()) };
        let usages = request.spec.usages.as_deref().unwrap_or_default();
        let checked = match request.spec.signer_name.as_str() {
            request::KUBELET_SERVING => parsed.check_kubelet_serving(usages),
            request::KUBELET_CLIENT => parsed.check_kubelet_client(usages),
            request::CLIENT => request::check_client_usages(usages),
            request::LEGACY => Ok(()),
            // Others have signers of their own.
            _ => return Ok(()),
        };
        if let Err(why) = checked {
            return self.set(request, "status", condition("Failed", "SignerValidationFailure", &why)).await;
        }
        let issued = authority
            .issue(parsed, usages, request.spec.expiration_seconds, base::clock::now())
            .map_err(Error::NotYet)?;
        let mut signed = request.clone();
        signed.status.get_or_insert_default().certificate = Some(ByteString(issued.into_bytes()));
        self.replace(&signed, "status").await
    }

    async fn set(
        &self,
        request: &CertificateSigningRequest,
        subresource: &str,
        condition: Condition,
    ) -> Result<(), Error> {
        let mut changed = request.clone();
        changed.status.get_or_insert_default().conditions.get_or_insert_default().push(condition);
        self.replace(&changed, subresource).await
    }

    async fn replace(&self, request: &CertificateSigningRequest, subresource: &str) -> Result<(), Error> {
        let name = request.metadata.name.clone().unwrap_or_default();
        self.api().replace_subresource(subresource, &name, &PostParams::default(), request).await?;
        Ok(())
    }

    async fn clean(&self) {
        let now = base::clock::now();
        for request in self.requests.list().iter().filter(|request| is_over(request, now)) {
            let name = request.metadata.name.clone().unwrap_or_default();
            let only_this = Preconditions { uid: request.metadata.uid.clone(), resource_version: None };
            let params = DeleteParams { preconditions: Some(only_this), ..DeleteParams::default() };
            if let Err(error) = gone_is_fine(self.api().delete(&name, &params).await) {
                tracing::warn!(%error, name, "an old certificate signing request cannot be removed");
            }
        }
    }
}

/// Whether a request has been kept long enough.
fn is_over(request: &CertificateSigningRequest, now: Timestamp) -> bool {
    let older = |time: Option<&Time>, seconds| {
        time.is_some_and(|time| now.as_second() - time.0.as_second() > seconds)
    };
    let issued = certificate(request);
    let expired = issued.is_some_and(|pem| issue::has_expired(&pem.0, now));
    let pending =
        conditions(request).is_empty() && older(request.metadata.creation_timestamp.as_ref(), PENDING_KEPT);
    pending
        || conditions(request).iter().any(|condition| {
            let since = condition.last_update_time.as_ref();
            match condition.type_.as_str() {
                "Approved" if issued.is_some() => expired || older(since, DONE_KEPT),
                "Approved" => older(since, PENDING_KEPT),
                "Denied" | "Failed" => older(since, DONE_KEPT),
                _ => false,
            }
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn old_requests_are_over() {
        let now: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
        let check = |status: serde_json::Value, expected: bool| {
            let request = json!({"metadata": {"creationTimestamp": "2026-11-19T11:00:00Z"},
                "spec": {"request": "", "signerName": "x"}, "status": status});
            let request: CertificateSigningRequest = serde_json::from_value(request).unwrap();
            assert_eq!(is_over(&request, now), expected, "{status}");
        };
        let condition = |kind: &str, hour: &str| json!([{"type": kind, "status": "True", "lastUpdateTime": format!("2026-11-20T{hour}:00:00Z")}]);
        check(json!({}), true);
        check(json!({"conditions": condition("Denied", "10")}), true);
        check(json!({"conditions": condition("Denied", "11")}), false);
        check(json!({"conditions": condition("Approved", "01")}), false);
        check(json!({"conditions": condition("Approved", "10"), "certificate": "eA=="}), true);
        check(json!({"conditions": condition("Approved", "11"), "certificate": "eA=="}), false);
    }
}
