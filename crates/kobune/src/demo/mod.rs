//! `kobune demo`.
use anyhow::Result;
/// Demo
#[derive(clap::Args, Debug)]
pub struct Args {}
/// Runs the command.
pub async fn run(_args: Args) -> Result<()> {
    Ok(())
}
