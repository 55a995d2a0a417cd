//! Which resources the API server has.

use kube::discovery::{ApiCapabilities, ApiResource, Discovery, Scope, verbs};

/// A resource that can be listed and deleted, in its preferred version.
#[derive(Clone, Debug)]
pub struct Resource {
    /// Group, version, kind and plural.
    pub api: ApiResource,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// Whether it can be watched.
    pub watchable: bool,
    /// Whether a whole collection can be deleted with one request.
    pub collective: bool,
}

/// All resources whose objects can be listed and deleted.
pub async fn deletable(client: &kube::Client) -> Result<Vec<Resource>, kube::Error> {
    // Servers before 1.27, and some aggregated ones, have no aggregated discovery.
    let discovery = match Discovery::new(client.clone()).run_aggregated().await {
        Ok(discovery) if discovery.groups().next().is_some() => discovery,
        _ => Discovery::new(client.clone()).run().await?,
    };
    let mut resources: Vec<Resource> =
        discovery.groups().flat_map(|group| group.recommended_resources()).filter_map(of).collect();
    resources.sort_by(|a, b| (&a.api.group, &a.api.plural).cmp(&(&b.api.group, &b.api.plural)));
    Ok(resources)
}

fn of((api, capabilities): (ApiResource, ApiCapabilities)) -> Option<Resource> {
    let supported =
        capabilities.supports_operation(verbs::DELETE) && capabilities.supports_operation(verbs::LIST);
    supported.then(|| Resource {
        namespaced: capabilities.scope == Scope::Namespaced,
        watchable: capabilities.supports_operation(verbs::WATCH),
        collective: capabilities.supports_operation(verbs::DELETE_COLLECTION),
        api,
    })
}
