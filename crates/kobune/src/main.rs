//! The `kobune` command.

mod args;
mod bench;
mod demo;
mod kubectl;
mod local;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};

/// Objects are trees of many small strings; the C library's allocator took a fifth of a write's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = Args::parse();
    match run(args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// Lets the process have many open files, as Go programs do: shells give 1,024, and each client's connection is one.
fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    /// What containers usually get. They inherit it, and some programs close every number up to their limit.
    const ENOUGH: u64 = 1 << 20;
    let mut limit = getrlimit(Resource::Nofile);
    let allowed = limit.maximum.unwrap_or(ENOUGH).min(ENOUGH);
    limit.current = limit.current.map(|current| current.max(allowed));
    // Where that is refused, connections beyond the old limit are.
    let _ = setrlimit(Resource::Nofile, limit);
}

fn run(args: Args) -> anyhow::Result<ExitCode> {
    raise_open_files();
    // Before any thread exists: detaching forks the process.
    if let Command::Up(up) = &args.command
        && up.detach
    {
        return local::detach::run(up);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(dispatch(args));
    // A blocked read of standard input must not hold the process.
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    result
}

async fn dispatch(args: Args) -> anyhow::Result<ExitCode> {
    let target = &args.target;
    match args.command {
        Command::Up(up) => local::up::run(*up).await?,
        Command::Down(down) => local::down::run(down).await?,
        Command::Status(status) => local::status::run(status).await?,
        Command::Demo(demo) => demo::run(demo).await?,
        Command::Bench(bench) => bench::run(bench).await?,
        Command::Get(get) => kubectl::get::run(get, target).await?,
        Command::Apply(apply) => kubectl::apply::run(apply, target).await?,
        Command::Delete(delete) => kubectl::delete::run(delete, target).await?,
        Command::Logs(logs) => kubectl::logs::run(logs, target).await?,
        Command::Exec(exec) => return Ok(ExitCode::from(kubectl::exec::run(exec, target).await?)),
        Command::Events(events) => kubectl::events::run(events, target).await?,
        Command::Explain(explain) => kubectl::explain::run(explain, target).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// An error and its causes in one line, each cause once.
pub(crate) fn one_line(error: &anyhow::Error) -> String {
    let mut text = match error.downcast_ref::<kube::Error>() {
        Some(error) => kubectl::describe(error),
        None => error.to_string(),
    };
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text.replace('\n', " ")
}
