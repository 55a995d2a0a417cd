//! `kobune apply`: server-side apply of manifests.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use http::{Method, StatusCode};
use serde_json::Value;

use super::request::{fetch_json, send};
use super::{Catalogue, Resource, Target};

/// Create or change objects to what files say
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Files, directories or `-` for standard input
    #[arg(long, short, required = true, value_name = "FILE")]
    pub filename: Vec<PathBuf>,
    /// Take over fields that others manage
    #[arg(long)]
    pub force_conflicts: bool,
    /// Only ask the server what would happen
    #[arg(long)]
    pub dry_run: bool,
}

/// Runs the command.
pub async fn run(args: Args, target: &Target) -> Result<()> {
    let (client, namespace) = target.connect().await?;
    let objects = read_all(&args.filename)?;
    let mut catalogue = Catalogue::load(&client).await?;
    let mut failed = 0;
    for (origin, object) in &objects {
        let kind = object["kind"].as_str().unwrap_or("");
        if catalogue.of_object(object["apiVersion"].as_str().unwrap_or(""), kind).is_err() {
            // A definition earlier in the same files may have added the kind.
            catalogue = Catalogue::load(&client).await?;
        }
        match apply(&client, &catalogue, &namespace, object, &args).await {
            Ok(line) => println!("{line}"),
            Err(error) => {
                failed += 1;
                eprintln!("error: {origin}: {}", crate::one_line(&error));
            }
        }
    }
    match failed {
        0 => Ok(()),
        _ => bail!("{failed} of {} objects were not applied", objects.len()),
    }
}

async fn apply(
    client: &kube::Client,
    catalogue: &Catalogue,
    namespace: &str,
    object: &Value,
    args: &Args,
) -> Result<String> {
    let (resource, name, path) = locate(catalogue, namespace, object)?;
    let before: Option<Value> = fetch_json(client, &path, "application/json").await.ok();
    let query = format!(
        "fieldManager=kobune&fieldValidation=Strict&force={}{}",
        args.force_conflicts,
        if args.dry_run { "&dryRun=All" } else { "" }
    );
    let (status, after) = send(
        client,
        Method::PATCH,
        &format!("{path}?{query}"),
        "application/json",
        "application/apply-patch+yaml",
        serde_json::to_vec(object)?,
    )
    .await?;
    let after: Value = serde_json::from_str(&after)?;
    let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
    let outcome = match before {
        _ if status == StatusCode::CREATED => "created",
        Some(before) if version(&before) == version(&after) && !args.dry_run => "unchanged",
        _ => "configured",
    };
    let suffix = if args.dry_run { " (server dry run)" } else { "" };
    Ok(format!("{} {outcome}{suffix}", resource.display(&name)))
}

/// The kind, name and path of an object from a manifest.
pub fn locate<'a>(
    catalogue: &'a Catalogue,
    namespace: &str,
    object: &Value,
) -> Result<(&'a Resource, String, String)> {
    let text = |field: &Value| field.as_str().map(str::to_owned);
    let api_version = text(&object["apiVersion"]).ok_or_else(|| anyhow!("apiVersion is missing"))?;
    let kind = text(&object["kind"]).ok_or_else(|| anyhow!("kind is missing"))?;
    let name = text(&object["metadata"]["name"])
        .ok_or_else(|| anyhow!("metadata.name is missing in a {kind}; apply needs a name"))?;
    let resource = catalogue.of_object(&api_version, &kind)?;
    let own = object["metadata"]["namespace"].as_str().unwrap_or(namespace);
    let path = format!("{}/{name}", resource.path(Some(own)));
    Ok((resource, name, path))
}

/// All objects of the files, each with where it came from; Lists are taken apart.
pub fn read_all(files: &[PathBuf]) -> Result<Vec<(String, Value)>> {
    let mut objects = Vec::new();
    for file in files {
        if file.as_os_str() == "-" {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
            parse("standard input", &text, &mut objects)?;
        } else if file.is_dir() {
            for file in manifests_in(file)? {
                read_file(&file, &mut objects)?;
            }
        } else {
            read_file(file, &mut objects)?;
        }
    }
    if objects.is_empty() {
        bail!(
            "no objects in {}",
            files.iter().map(|f| f.display().to_string()).collect::<Vec<_>>().join(", ")
        );
    }
    Ok(objects)
}

fn manifests_in(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        std::fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json"))
        .collect();
    files.sort();
    Ok(files)
}

fn read_file(file: &Path, objects: &mut Vec<(String, Value)>) -> Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    parse(&file.display().to_string(), &text, objects)
}

fn parse(origin: &str, text: &str, objects: &mut Vec<(String, Value)>) -> Result<()> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|error| anyhow!("{origin} is not valid YAML: {error}"))?;
    for document in documents {
        match document.get("items").and_then(Value::as_array) {
            Some(items) if document["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) => {
                objects.extend(items.iter().map(|item| (origin.to_owned(), item.clone())));
            }
            _ if document.is_null() => {}
            _ => objects.push((origin.to_owned(), document)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_are_taken_apart() {
        let mut objects = Vec::new();
        let text = "kind: A\n---\n---\nkind: List\nitems:\n- kind: B\n- kind: C\n";
        parse("f", text, &mut objects).unwrap();
        let kinds: Vec<_> = objects.iter().map(|(_, o)| o["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["A", "B", "C"]);
    }
}
