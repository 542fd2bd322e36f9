//! One binary, every role: a manager, an agent, both on a laptop, and the command line.

mod cli;
mod clock;
mod config;
mod files;
mod roles;
mod telemetry;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("muster: starting the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(cli::run(arguments));
    // Whatever still runs belongs to a role that was told to stop and has had its time.
    runtime.shutdown_background();
    code
}
