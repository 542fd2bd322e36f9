//! One binary, every role: a manager, an agent, both on a laptop, and the command line.

mod cli;
mod clock;
mod config;
mod files;
mod roles;
mod telemetry;

use clap::Parser;
use std::process::ExitCode;

/// A write is some two hundred small allocations: glibc's allocator took a quarter of the leader's
/// time in `benches -- commit`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long tasks that were told to stop may take before the process ends without them.
const LAST_WAIT: std::time::Duration = std::time::Duration::from_secs(2);

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
    // Whatever still runs belongs to a role that was told to stop and has had its time. It is
    // waited for, because RocksDB must be closed before the process's own clean-up destroys its
    // locks.
    runtime.shutdown_timeout(LAST_WAIT);
    code
}
