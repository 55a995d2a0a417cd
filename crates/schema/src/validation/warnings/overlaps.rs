//! Files of one volume that lie at the same path, or below one another.

use super::{COMPARED_MAX, WARNINGS_MAX, Warnings};
use crate::cursor::Node;
use crate::field::quote;

/// A file's path with a slash at its end, and what it comes from where a volume has several sources.
#[derive(Clone, PartialEq)]
struct File {
    path: String,
    source: String,
}

impl File {
    fn new(path: &Node, source: &str) -> Self {
        File { path: format!("{}/", path.str().trim_end_matches('/')), source: source.to_owned() }
    }

    fn shown(&self) -> String {
        let path = quote(self.path.trim_end_matches('/'));
        if self.source.is_empty() { path } else { format!("{path} ({})", self.source) }
    }

    fn meets(&self, other: &File) -> bool {
        let (one, two) = (&*self.path, &*other.path);
        one != "/" && two != "/" && (one.starts_with(two) || two.starts_with(one))
    }
}

/// All volumes of a pod.
pub(super) fn volumes(list: &Node, warnings: &mut Warnings) {
    for volume in list.items() {
        let name = quote(volume.at("name").str());
        for (kind, named, what) in [
            ("configMap", "name", "ConfigMap"),
            ("secret", "secretName", "Secret"),
            ("downwardAPI", "", "DownwardAPI"),
        ] {
            let Some(source) = volume.at(kind).opt() else { continue };
            let what = match named {
                "" => what.to_owned(),
                named => format!("{what} {}", quote(source.at(named).str())),
            };
            overlapping(items(&source, ""), &name, &what, warnings);
        }
        if let Some(projected) = volume.at("projected").opt() {
            let mut files = Vec::new();
            for source in projected.at("sources").items() {
                if source.is_empty() {
                    warnings.push(format!("volume {name} (Projected) has no sources provided"));
                }
                files.extend(projected_files(&source));
            }
            overlapping(files, &name, "Projected", warnings);
        }
    }
}

fn overlapping(files: Vec<File>, volume: &str, what: &str, warnings: &mut Warnings) {
    for (index, file) in files.iter().take(COMPARED_MAX).enumerate() {
        for other in files[..index].iter().filter(|other| file.meets(other)) {
            if warnings.len() >= WARNINGS_MAX {
                return;
            }
            let (file, other) = (file.shown(), other.shown());
            warnings.push(format!("volume {volume} ({what}): overlapping paths: {file} with {other}"));
        }
    }
}

fn items(source: &Node, what: &str) -> Vec<File> {
    source.at("items").items().map(|item| File::new(&item.at("path"), what)).collect()
}

/// The files of a source; of several kinds, only the first counts.
fn projected_files(source: &Node) -> Vec<File> {
    for (kind, what) in [("configMap", "ConfigMap"), ("secret", "Secret")] {
        let source = source.at(kind);
        if source.at("items").is_set() {
            return items(&source, &format!("{what} {}", quote(source.at("name").str())));
        }
    }
    if source.at("downwardAPI").at("items").is_set() {
        return items(&source.at("downwardAPI"), "DownwardAPI");
    }
    if let Some(token) = source.at("serviceAccountToken").opt() {
        return vec![File::new(&token.at("path"), "ServiceAccountToken")];
    }
    if let Some(bundle) = source.at("clusterTrustBundle").opt() {
        let name = bundle.at("name").opt().unwrap_or_else(|| bundle.at("signerName"));
        let what = format!("ClusterTrustBundle {}", quote(name.str()));
        return vec![File::new(&bundle.at("path"), &what)];
    }
    let certificate = source.at("podCertificate");
    [
        ("certificateChainPath", "PodCertificate chain"),
        ("keyPath", "PodCertificate key"),
        ("credentialBundlePath", "PodCertificate credential bundle"),
    ]
    .into_iter()
    .filter(|(path, _)| !certificate.at(path).is_empty())
    .map(|(path, what)| File::new(&certificate.at(path), what))
    .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn files_at_and_below_the_same_path() {
        let volume = json!([{"name": "v", "projected": {"sources": [
            {"secret": {"name": "s", "items": [{"key": "a", "path": "a/b"}]}},
            {},
            {"configMap": {"name": "c", "items": [{"key": "a", "path": "a/b/"}, {"key": "b", "path": "a/bc"}]}},
        ]}}]);
        let mut warnings = Vec::new();
        volumes(&Node::root(&volume), &mut warnings);
        assert_eq!(
            warnings,
            [
                "volume \"v\" (Projected) has no sources provided",
                "volume \"v\" (Projected): overlapping paths: \"a/b\" (ConfigMap \"c\") with \"a/b\" (Secret \"s\")",
            ]
        );
    }
}
