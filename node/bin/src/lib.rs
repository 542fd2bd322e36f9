//! What the two programs are made of: `muster`, with every role and the command line, and
//! `muster-agent`, which is the agent alone.

mod agent_program;
mod cli;
mod clock;
mod config;
mod files;
mod roles;
mod telemetry;

pub use agent_program::Arguments as AgentArguments;
pub use cli::Arguments;

use std::process::ExitCode;
use std::time::Duration;

/// A write is some two hundred small allocations: glibc's allocator took a quarter of the leader's
/// time in `benches -- commit`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long tasks that were told to stop may take before the process ends without them.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// Runs `muster`.
pub fn muster(arguments: Arguments) -> ExitCode {
    program("muster", cli::run(arguments))
}

/// Runs `muster-agent`.
pub fn muster_agent(arguments: AgentArguments) -> ExitCode {
    program("muster-agent", agent_program::run(arguments))
}

fn program(name: &str, work: impl Future<Output = ExitCode>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("{name}: starting the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(work);
    // Whatever still runs belongs to a role that was told to stop and has had its time. It is
    // waited for, because RocksDB must be closed before the process's own clean-up destroys its
    // locks.
    runtime.shutdown_timeout(LAST_WAIT);
    code
}
