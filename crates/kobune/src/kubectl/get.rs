//! `kobune get`: lists objects as the server's Tables, or whole as JSON or YAML.

use anyhow::{Result, bail};
use futures::StreamExt;
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::Value;

use super::request::{fetch_json, open};
use super::{Catalogue, Resource, Target};

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// Show objects
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Kinds, e.g. `pods`, `deploy,svc`, `all`; or KIND/NAME
    pub kinds: String,
    /// Names of objects; all when none is given
    pub names: Vec<String>,
    /// Across all namespaces
    #[arg(long, short = 'A')]
    pub all_namespaces: bool,
    /// Only objects with these labels, e.g. `app=web,tier!=cache`
    #[arg(long, short = 'l', value_name = "SELECTOR")]
    pub selector: Option<String>,
    /// Only objects with these fields, e.g. `status.phase=Running`
    #[arg(long, value_name = "SELECTOR")]
    pub field_selector: Option<String>,
    /// How to print
    #[arg(long, short, value_enum)]
    pub output: Option<Output>,
    /// Keep printing what changes
    #[arg(long, short)]
    pub watch: bool,
}

/// How to print objects.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq)]
pub enum Output {
    /// More columns
    Wide,
    /// Whole objects as JSON
    Json,
    /// Whole objects as YAML
    Yaml,
    /// KIND/NAME
    Name,
}

/// Runs the command.
pub async fn run(args: Args, target: &Target) -> Result<()> {
    let (client, namespace) = target.connect().await?;
    let catalogue = Catalogue::load(&client).await?;
    let (kinds, mut names) = (args.kinds.clone(), args.names.clone());
    let kinds = match kinds.split_once('/') {
        Some((kind, name)) => {
            names.insert(0, name.to_owned());
            kind.to_owned()
        }
        None => kinds,
    };
    let resources = catalogue.find(&kinds)?;
    let namespace = (!args.all_namespaces).then_some(namespace.as_str());
    let several = resources.len() > 1;
    if args.watch && (several || names.len() > 1) {
        bail!("--watch takes one kind, and at most one name");
    }
    let mut empty = true;
    for resource in resources {
        let collection = resource.path(namespace);
        let paths: Vec<String> = match names.as_slice() {
            [] => vec![format!("{collection}?{}", selectors(&args))],
            names => names.iter().map(|name| format!("{collection}/{name}")).collect(),
        };
        match args.output {
            Some(output @ (Output::Json | Output::Yaml | Output::Name)) => {
                for path in paths {
                    print_objects(&fetch_json(&client, &path, "application/json").await?, output, resource)?;
                }
                empty = false;
            }
            wide => {
                let mut tables = Vec::new();
                for path in paths {
                    tables.push(fetch_json::<Table>(&client, &path, TABLE).await?);
                }
                let merged = Table::merge(tables);
                if !merged.rows.is_empty() {
                    if several && !empty {
                        println!();
                    }
                    let prefix = several.then_some(resource);
                    let shows_namespace = args.all_namespaces && resource.namespaced;
                    merged.print(wide.is_some(), shows_namespace, prefix, empty || several);
                    empty = false;
                }
                if args.watch {
                    return watch(&client, resource, namespace, &args, &names, &merged).await;
                }
            }
        }
    }
    if empty && names.is_empty() {
        match namespace {
            Some(namespace) => eprintln!("No resources found in {namespace} namespace."),
            None => eprintln!("No resources found"),
        }
    }
    Ok(())
}

fn selectors(args: &Args) -> String {
    let mut query = String::from("limit=0");
    for (name, value) in [("labelSelector", &args.selector), ("fieldSelector", &args.field_selector)] {
        if let Some(value) = value {
            query.push_str(&format!("&{name}={}", percent_encode(value)));
        }
    }
    query
}

/// `text` as the value of a query parameter.
pub fn percent_encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

async fn watch(
    client: &kube::Client,
    resource: &Resource,
    namespace: Option<&str>,
    args: &Args,
    names: &[String],
    shown: &Table,
) -> Result<()> {
    let mut path = format!(
        "{}?watch=true&resourceVersion={}&{}",
        resource.path(namespace),
        shown.metadata.resource_version,
        selectors(args)
    );
    if let [name] = names {
        path.push_str(&format!("&fieldSelector=metadata.name%3D{name}"));
    }
    let response = open(client, http::Method::GET, &path, TABLE, "application/json", Vec::new()).await?;
    let mut chunks = response.into_body().into_data_stream();
    let mut pending = Vec::new();
    while let Some(chunk) = chunks.next().await {
        pending.extend_from_slice(&chunk.map_err(|error| anyhow::anyhow!("the watch broke off: {error}"))?);
        while let Some(end) = pending.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            let event: WatchEvent = serde_json::from_slice(&line)?;
            if event.r#type == "ERROR" {
                bail!("{}", event.object["message"].as_str().unwrap_or("the watch ended"));
            }
            let mut table: Table = serde_json::from_value(event.object)?;
            if table.columns.is_empty() {
                table.columns.clone_from(&shown.columns);
            }
            let wide = args.output == Some(Output::Wide);
            table.print(wide, args.all_namespaces && resource.namespaced, None, false);
        }
    }
    Ok(())
}

fn print_objects(value: &Value, output: Output, resource: &Resource) -> Result<()> {
    match output {
        Output::Yaml => print!("{}", serde_saphyr::to_string(value)?),
        Output::Name => {
            let items =
                value.get("items").and_then(Value::as_array).cloned().unwrap_or_else(|| vec![value.clone()]);
            for item in items {
                println!("{}", resource.display(item["metadata"]["name"].as_str().unwrap_or("")));
            }
        }
        _ => println!("{}", serde_json::to_string_pretty(value)?),
    }
    Ok(())
}

#[derive(Deserialize)]
struct WatchEvent {
    r#type: String,
    object: Value,
}

/// A `meta.k8s.io/v1` Table.
#[derive(Clone, Default, Deserialize)]
pub struct Table {
    #[serde(default)]
    metadata: ListMeta,
    #[serde(default, rename = "columnDefinitions")]
    columns: Vec<Column>,
    #[serde(default)]
    rows: Vec<Row>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMeta {
    #[serde(default)]
    resource_version: String,
}

#[derive(Clone, Deserialize)]
struct Column {
    name: String,
    #[serde(default)]
    priority: i32,
}

#[derive(Clone, Deserialize)]
struct Row {
    cells: Vec<Value>,
    #[serde(default)]
    object: Value,
}

impl Table {
    fn merge(tables: Vec<Table>) -> Table {
        let mut tables = tables.into_iter();
        let mut merged = tables.next().unwrap_or_default();
        for table in tables {
            merged.rows.extend(table.rows);
        }
        merged
    }

    fn print(&self, wide: bool, namespaces: bool, prefix: Option<&Resource>, header: bool) {
        let shown: Vec<usize> =
            (0..self.columns.len()).filter(|&i| wide || self.columns[i].priority == 0).collect();
        let mut lines = Vec::new();
        if header {
            let mut line: Vec<String> = shown.iter().map(|&i| self.columns[i].name.to_uppercase()).collect();
            if namespaces {
                line.insert(0, "NAMESPACE".to_owned());
            }
            lines.push(line);
        }
        for row in &self.rows {
            let mut line: Vec<String> =
                shown.iter().map(|&i| row.cells.get(i).map(cell_text).unwrap_or_default()).collect();
            if let (Some(resource), Some(first)) = (prefix, line.first_mut()) {
                *first = resource.display(first);
            }
            if namespaces {
                line.insert(0, row.object["metadata"]["namespace"].as_str().unwrap_or("").to_owned());
            }
            lines.push(line);
        }
        print_columns(&lines);
    }
}

/// Prints lines of cells as left-aligned columns, three spaces apart.
pub fn print_columns(lines: &[Vec<String>]) {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |i: usize| lines.iter().filter_map(|line| line.get(i)).map(|c| c.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|i| width(i).unwrap_or(0)).collect();
    for line in lines {
        let mut text = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            text.push_str(&format!("{cell:<width$}   "));
        }
        println!("{}", text.trim_end());
    }
}

fn cell_text(cell: &Value) -> String {
    match cell {
        Value::String(text) => text.clone(),
        Value::Null => "<none>".to_owned(),
        other => other.to_string(),
    }
}
