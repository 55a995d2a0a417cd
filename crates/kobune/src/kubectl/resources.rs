//! What the server offers, from aggregated discovery, and what a user means by a name.

use anyhow::{Result, bail};
use serde::Deserialize;

use super::fetch_json;

const ACCEPT: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// A kind of object as the server offers it.
#[derive(Clone, Debug)]
pub struct Resource {
    /// API group, empty for the core.
    pub group: String,
    /// Version.
    pub version: String,
    /// Kind, e.g. `Deployment`.
    pub kind: String,
    /// Name in paths, e.g. `deployments`.
    pub plural: String,
    /// Name for one, e.g. `deployment`.
    pub singular: String,
    /// Abbreviations, e.g. `deploy`.
    pub short_names: Vec<String>,
    /// Groups of kinds that it is a part of, e.g. `all`.
    pub categories: Vec<String>,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
}

impl Resource {
    /// `group/version`, or the version alone for the core.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// Path of the collection in `namespace`, or across all namespaces.
    pub fn path(&self, namespace: Option<&str>) -> String {
        let prefix = if self.group.is_empty() { "/api" } else { "/apis" };
        let version = self.api_version();
        match namespace.filter(|_| self.namespaced) {
            Some(namespace) => format!("{prefix}/{version}/namespaces/{namespace}/{}", self.plural),
            None => format!("{prefix}/{version}/{}", self.plural),
        }
    }

    /// How kubectl prints an object: `deployment.apps/web`.
    pub fn display(&self, name: &str) -> String {
        match self.group.as_str() {
            "" => format!("{}/{name}", self.singular),
            group => format!("{}.{group}/{name}", self.singular),
        }
    }

    fn answers_to(&self, word: &str) -> bool {
        let (name, group) = word.split_once('.').unwrap_or((word, ""));
        let named = self.plural == name
            || self.singular == name
            || self.kind.eq_ignore_ascii_case(name)
            || self.short_names.iter().any(|short| short == name);
        named
            && (group.is_empty()
                || group == self.group
                || group == format!("{}.{}", self.version, self.group))
    }
}

/// All kinds that the server offers, preferred versions first.
pub struct Catalogue {
    resources: Vec<Resource>,
}

impl Catalogue {
    /// Asks the server.
    pub async fn load(client: &kube::Client) -> Result<Self> {
        let mut resources = Vec::new();
        for path in ["/api", "/apis"] {
            let groups: Groups = fetch_json(client, path, ACCEPT).await?;
            for group in groups.items {
                for version in group.versions {
                    for offered in version.resources {
                        resources.push(offered.into_resource(&group.metadata.name, &version.version));
                    }
                }
            }
        }
        Ok(Self { resources })
    }

    /// The kinds meant by a word: a plural, singular or short name, a kind, each optionally with its
    /// group, or a category such as `all`; several words may be joined by commas.
    pub fn find(&self, words: &str) -> Result<Vec<&Resource>> {
        let mut found = Vec::new();
        for word in words.split(',') {
            let lower = word.to_lowercase();
            let named = self.resources.iter().find(|resource| resource.answers_to(&lower));
            let in_category = || {
                let members = self.resources.iter().filter(|r| r.categories.contains(&lower));
                members.collect::<Vec<_>>()
            };
            let matches = named.map(|resource| vec![resource]).unwrap_or_else(in_category);
            if matches.is_empty() {
                bail!("the server doesn't have a resource type {word:?}");
            }
            found.extend(matches);
        }
        Ok(found)
    }

    /// The kind of an object by its `apiVersion` and `kind`.
    pub fn of_object(&self, api_version: &str, kind: &str) -> Result<&Resource> {
        match self.resources.iter().find(|r| r.kind == kind && r.api_version() == api_version) {
            Some(resource) => Ok(resource),
            None => bail!(
                "no matches for kind {kind:?} in version {api_version:?}; is its CustomResourceDefinition installed?"
            ),
        }
    }
}

#[derive(Deserialize)]
struct Groups {
    items: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    #[serde(default)]
    metadata: Metadata,
    versions: Vec<Version>,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct Version {
    version: String,
    #[serde(default)]
    resources: Vec<Offered>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Offered {
    resource: String,
    response_kind: Kind,
    scope: String,
    #[serde(default)]
    singular_resource: String,
    #[serde(default)]
    short_names: Vec<String>,
    #[serde(default)]
    categories: Vec<String>,
}

#[derive(Deserialize)]
struct Kind {
    kind: String,
}

impl Offered {
    fn into_resource(self, group: &str, version: &str) -> Resource {
        Resource {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: self.response_kind.kind,
            plural: self.resource,
            singular: self.singular_resource,
            short_names: self.short_names,
            categories: self.categories,
            namespaced: self.scope == "Namespaced",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalogue() -> Catalogue {
        let resource = |group: &str, kind: &str, plural: &str, short: &str| Resource {
            group: group.to_owned(),
            version: "v1".to_owned(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
            singular: kind.to_lowercase(),
            short_names: vec![short.to_owned()],
            categories: vec!["all".to_owned()],
            namespaced: true,
        };
        let resources = vec![
            resource("", "Pod", "pods", "po"),
            resource("apps", "Deployment", "deployments", "deploy"),
            resource("metrics.k8s.io", "PodMetrics", "pods", ""),
        ];
        Catalogue { resources }
    }

    #[test]
    fn words_find_their_kinds() {
        let catalogue = catalogue();
        for (word, kinds) in [
            ("po", vec!["Pod"]),
            ("Deployment", vec!["Deployment"]),
            ("deployments.apps", vec!["Deployment"]),
            ("deployments.v1.apps", vec!["Deployment"]),
            ("pods.metrics.k8s.io", vec!["PodMetrics"]),
            ("pod,deploy", vec!["Pod", "Deployment"]),
            ("all", vec!["Pod", "Deployment", "PodMetrics"]),
        ] {
            let found: Vec<_> = catalogue.find(word).unwrap().iter().map(|r| r.kind.clone()).collect();
            assert_eq!(found, kinds, "{word}");
        }
        assert!(catalogue.find("nonsense").is_err());
    }

    #[test]
    fn paths_follow_group_and_scope() {
        let catalogue = catalogue();
        let deployment = catalogue.of_object("apps/v1", "Deployment").unwrap();
        assert_eq!(deployment.path(Some("shop")), "/apis/apps/v1/namespaces/shop/deployments");
        assert_eq!(deployment.path(None), "/apis/apps/v1/deployments");
        assert_eq!(deployment.display("web"), "deployment.apps/web");
    }
}
