//! Writes decision records, the objects behind `kobune explain`.

use api::explain::{Decision, DecisionRecord};
use api::names::KOBUNE_NAMESPACE;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, PostParams};

use crate::reference_to;

/// How often a record is tried again when somebody else writes it too.
const ATTEMPTS: usize = 5;

/// Records a decision about `subject`; earlier ones move into its history. A record about a
/// cluster-scoped object lives in `kobune-system`. A failure is logged: deciding goes on.
pub async fn record_decision<K: kube::Resource<DynamicType = ()>>(
    client: &kube::Client,
    subject: &K,
    record: DecisionRecord,
) {
    let namespace = subject.meta().namespace.as_deref().unwrap_or(KOBUNE_NAMESPACE);
    let api: Api<Decision> = Api::namespaced(client.clone(), namespace);
    for _ in 0..ATTEMPTS {
        match write(&api, subject, namespace, &record).await {
            Ok(()) => return,
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {}
            Err(error) => {
                tracing::debug!(%error, "a decision could not be recorded");
                return;
            }
        }
    }
}

async fn write<K: kube::Resource<DynamicType = ()>>(
    api: &Api<Decision>,
    subject: &K,
    namespace: &str,
    record: &DecisionRecord,
) -> Result<(), kube::Error> {
    let about = reference_to(subject);
    let (kind, object) = (about.kind.clone().unwrap_or_default(), about.name.clone().unwrap_or_default());
    let name = format!("{}-{object}", kind.to_lowercase());
    let known = api.get_opt(&name).await?;
    let exists = known.is_some();
    let mut decision = known.unwrap_or_else(|| Decision::named(&name));
    // A record about a former object of the same name is not this one's history.
    if decision.subject.uid != about.uid {
        decision.latest = DecisionRecord::default();
        decision.history.clear();
    }
    decision.metadata.namespace = Some(namespace.to_owned());
    decision.metadata.owner_references = Some(vec![OwnerReference {
        api_version: about.api_version.clone().unwrap_or_default(),
        kind,
        name: object,
        uid: about.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    }]);
    decision.subject = about;
    decision.record(record.clone());
    let params = PostParams::default();
    if exists {
        api.replace(&name, &params, &decision).await?
    } else {
        api.create(&params, &decision).await?
    };
    Ok(())
}
