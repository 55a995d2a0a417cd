//! `kobune bench`.
use anyhow::Result;
/// Measure
#[derive(clap::Args, Debug)]
pub struct Args {}
/// Runs the command.
pub async fn run(_args: Args) -> Result<()> {
    Ok(())
}
