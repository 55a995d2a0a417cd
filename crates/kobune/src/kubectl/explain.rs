//! `kobune explain`: why a pod, node, claim or autoscaler is as it is, from the decision records.

use anyhow::{Result, anyhow, bail};
use api::explain::{Alternative, Decision, DecisionRecord};
use api::names;
use kube::api::Api;

use super::events::age;
use super::{Catalogue, Target, describe};

/// Say why something is as it is: what was considered, what was chosen, at what price
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Kind, e.g. `pod`, `node`, `nodeclaim`, `hpa`; or KIND/NAME
    pub kind: String,
    /// Name
    pub name: Option<String>,
    /// Only the latest decision, not how it came to it
    #[arg(long)]
    pub latest: bool,
}

/// Runs the command.
pub async fn run(args: Args, target: &Target) -> Result<()> {
    let (client, namespace) = target.connect().await?;
    let (kind, name) = match (args.kind.split_once('/'), args.name) {
        (Some((kind, name)), None) => (kind.to_owned(), name.to_owned()),
        (None, Some(name)) => (args.kind, name),
        _ => bail!("name one object: `kobune explain pod NAME`"),
    };
    let catalogue = Catalogue::load(&client).await?;
    let resource = catalogue.find(&kind)?[0].clone();
    let home = if resource.namespaced { namespace.as_str() } else { names::KOBUNE_NAMESPACE };
    let record = format!("{}-{name}", resource.kind.to_lowercase());
    let decisions: Api<Decision> = Api::namespaced(client, home);
    match decisions.get_opt(&record).await.map_err(|error| anyhow!(describe(&error)))? {
        Some(decision) => {
            print_record(&resource.display(&name), &decision.latest);
            for record in decision.history.iter().filter(|_| !args.latest) {
                print_record("\nbefore that", record);
            }
            Ok(())
        }
        None => {
            println!(
                "No decision about {} is on record: nothing had to be decided, or it is long gone.",
                resource.display(&name)
            );
            println!("What happened to it: kobune events --for {}/{name}", resource.singular);
            Ok(())
        }
    }
}

fn print_record(title: &str, record: &DecisionRecord) {
    let when = record.time.as_ref().map(|time| {
        let seconds = base::clock::now().duration_since(time.0).as_secs();
        format!(", {} ago", age(seconds))
    });
    println!("{title}: {} by {}{}", record.action, record.decider, when.unwrap_or_default());
    println!("  {}", record.summary);
    if !record.inputs.is_empty() {
        println!("\n  what went in");
        for fact in &record.inputs {
            println!("    {:<28} {}", fact.name, fact.value);
        }
    }
    print_alternatives("chosen", &record.chosen);
    print_alternatives("rejected", &record.rejected);
    if let (Some(before), Some(after)) = (record.dollars_per_hour_before, record.dollars_per_hour_after) {
        println!("\n  cost: ${before:.4}/h → ${after:.4}/h");
    }
}

fn print_alternatives(title: &str, alternatives: &[Alternative]) {
    if alternatives.is_empty() {
        return;
    }
    println!("\n  {title}");
    for alternative in alternatives {
        let price = alternative.dollars_per_hour.map(|price| format!("${price:.4}/h")).unwrap_or_default();
        let count = if alternative.count > 1 { format!(" (×{})", alternative.count) } else { String::new() };
        println!(
            "    {:<44} {:>12}  {}",
            format!("{}{count}", alternative.option),
            price,
            alternative.reason
        );
    }
}
