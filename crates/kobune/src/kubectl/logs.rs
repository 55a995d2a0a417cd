//! `kobune logs`.

use anyhow::{Result, anyhow};
use futures::{AsyncReadExt, pin_mut};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, LogParams};
use tokio::io::AsyncWriteExt;

use super::{Target, describe};

/// Show what a container wrote
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The pod
    pub pod: String,
    /// The container; the only or first one when absent
    #[arg(long, short)]
    pub container: Option<String>,
    /// Keep printing
    #[arg(long, short)]
    pub follow: bool,
    /// Only the last lines
    #[arg(long, value_name = "LINES")]
    pub tail: Option<i64>,
    /// Only what is newer than this many seconds
    #[arg(long, value_name = "SECONDS")]
    pub since: Option<i64>,
    /// Of the container's previous run
    #[arg(long, short)]
    pub previous: bool,
    /// With times
    #[arg(long)]
    pub timestamps: bool,
}

/// Runs the command.
pub async fn run(args: Args, target: &Target) -> Result<()> {
    let (client, namespace) = target.connect().await?;
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    let params = LogParams {
        container: args.container,
        follow: args.follow,
        tail_lines: args.tail,
        since_seconds: args.since,
        previous: args.previous,
        timestamps: args.timestamps,
        ..LogParams::default()
    };
    let name = args.pod.strip_prefix("pod/").unwrap_or(&args.pod);
    let stream = pods.log_stream(name, &params).await.map_err(|error| anyhow!(describe(&error)))?;
    pin_mut!(stream);
    let (mut out, mut buffer) = (tokio::io::stdout(), vec![0; 16 << 10]);
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(out.flush().await?),
            length => out.write_all(&buffer[..length]).await?,
        }
        out.flush().await?;
    }
}
