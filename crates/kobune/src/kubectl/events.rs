//! `kobune events`: what happened, oldest first.

use anyhow::{Result, anyhow};
use k8s_openapi::api::core::v1::Event;
use kube::api::{Api, ListParams};

use super::get::print_columns;
use super::{Target, describe};

/// Show what happened
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Only about KIND/NAME
    #[arg(long = "for", value_name = "KIND/NAME")]
    pub about: Option<String>,
    /// Across all namespaces
    #[arg(long, short = 'A')]
    pub all_namespaces: bool,
    /// Only warnings
    #[arg(long)]
    pub warnings: bool,
}

/// Runs the command.
pub async fn run(args: Args, target: &Target) -> Result<()> {
    let (client, namespace) = target.connect().await?;
    let api: Api<Event> =
        if args.all_namespaces { Api::all(client) } else { Api::namespaced(client, &namespace) };
    let list = api.list(&ListParams::default()).await.map_err(|error| anyhow!(describe(&error)))?;
    let mut events: Vec<Event> = list.items.into_iter().filter(|event| is_wanted(event, &args)).collect();
    events.sort_by_key(last_seen);
    let now = base::clock::now();
    let mut lines = vec![["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"].map(str::to_owned).to_vec()];
    for event in events {
        let about = &event.involved_object;
        let age = last_seen(&event).map(|seen| age(now.duration_since(seen).as_secs()));
        let count = event.count.filter(|&count| count > 1).map(|count| format!(" (x{count})"));
        lines.push(vec![
            format!("{}{}", age.unwrap_or_default(), count.unwrap_or_default()),
            event.type_.unwrap_or_default(),
            event.reason.unwrap_or_default(),
            format!(
                "{}/{}",
                about.kind.clone().unwrap_or_default().to_lowercase(),
                about.name.clone().unwrap_or_default()
            ),
            event.message.unwrap_or_default().trim().to_owned(),
        ]);
    }
    if lines.len() == 1 {
        eprintln!("No events found.");
        return Ok(());
    }
    print_columns(&lines);
    Ok(())
}

fn is_wanted(event: &Event, args: &Args) -> bool {
    let about = &event.involved_object;
    let matches_about = args.about.as_ref().is_none_or(|wanted| {
        let (kind, name) = wanted.split_once('/').unwrap_or(("", wanted));
        about.name.as_deref() == Some(name)
            && (kind.is_empty() || about.kind.as_ref().is_some_and(|k| k.eq_ignore_ascii_case(kind)))
    });
    matches_about && (!args.warnings || event.type_.as_deref() == Some("Warning"))
}

fn last_seen(event: &Event) -> Option<jiff::Timestamp> {
    let times = [
        event.last_timestamp.as_ref().map(|time| time.0),
        event.event_time.as_ref().map(|time| time.0),
        event.metadata.creation_timestamp.as_ref().map(|time| time.0),
    ];
    times.into_iter().flatten().next()
}

/// A duration as kubectl shows ages: `5s`, `3m`, `2h`, `4d`.
pub fn age(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{}s", seconds.max(0)),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}
