//! What every Muster process has: a clock, an allocator, a configuration file, logs, telemetry, and
//! an end on SIGTERM. It does not know what the process is for.

pub mod clock;
pub mod config;
pub mod telemetry;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
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

/// Open files that a process asks for: 20,000 agents and 4,096 connections of the ECS door come to
/// less than half.
const OPEN_FILES: u64 = 65_536;

/// Raises the limit on open files as far as the system lets this process: a connection takes one,
/// and with a shell's usual 1,024 as many silent peers would mute every listener.
fn raise_open_files() -> std::io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(OPEN_FILES, |most| most.min(OPEN_FILES));
    if limit.current.is_some_and(|now| now < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit })?;
    }
    Ok(())
}

/// Runs a program's work to its end.
pub fn run(name: &str, work: impl Future<Output = ExitCode>) -> ExitCode {
    if let Err(error) = raise_open_files() {
        eprintln!("{name}: raising the limit on open files: {error}");
    }
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_shells_limit_on_open_files_is_raised() {
        let limit = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(256), ..limit }).unwrap();
        raise_open_files().unwrap();
        let wanted = limit.maximum.map_or(OPEN_FILES, |most| most.min(OPEN_FILES));
        assert_eq!(getrlimit(Resource::Nofile).current, Some(wanted));
    }
}
