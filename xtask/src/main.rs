//! `cargo xtask`: checks, code generation and packaging.

mod docs;
mod test;
mod types;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.split_first() {
        Some((command, [])) if command == "test" => test::run(),
        Some((command, rest)) if command == "types" => types::run(rest),
        _ => Err("usage: cargo xtask test | cargo xtask types --go DIR".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}
