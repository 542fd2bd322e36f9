//! What every Muster process has: a clock, an allocator, a configuration file, logs, telemetry, and
//! an end on SIGTERM. It does not know what the process is for.

pub mod clock;
pub mod config;
pub mod telemetry;

use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A write is some two hundred small allocations: glibc's allocator took a quarter of the leader's
/// time in `benches -- commit`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long tasks that were told to stop may take before the process ends without them.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// Runs a program's work to its end.
pub fn run(name: &str, work: impl Future<Output = ExitCode>) -> ExitCode {
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

/// Cancelled by the first SIGTERM or SIGINT.
///
/// # Errors
/// The signals cannot be caught.
pub fn stop_on_signal() -> std::io::Result<CancellationToken> {
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let cancel = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        cancel.cancel();
    });
    Ok(stop)
}
