//! Executes a container's health check inside it: how it ended, or that it took too long.
//!
//! It does not know when checks run or what their outcomes mean: the worker's brain does. Output is
//! kept as far as a person needs it to see what was wrong. Invariant: when a check's future is
//! over, also because it was dropped, nothing that hung of it runs on in the container.

use super::Runtime;
use super::shim::{Process, start_ticks};
use crate::journal::ContainerKey;
use muster_model::life::HealthCheck;
use rustix::process::{Pid, Signal, kill_process_group};
use std::path::PathBuf;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Child;

/// Docker keeps 4 KiB of each check; a reason has room for less.
const OUTPUT_BYTES_MAX: u64 = 4096;
/// Of that, what is told.
const SAID_CHARS_MAX: usize = 200;

/// How long what it wrote last may take to reach us after its end.
const LAST_WORDS: Duration = Duration::from_millis(100);

static NEXT: AtomicU64 = AtomicU64::new(0);

/// The check's first process, until it has ended by itself.
struct Leader {
    pid_file: PathBuf,
    ended: bool,
}

impl Drop for Leader {
    fn drop(&mut self) {
        let text = std::fs::read_to_string(&self.pid_file).unwrap_or_default();
        let _ = std::fs::remove_file(&self.pid_file);
        let pid = text.trim().parse::<i32>().ok().filter(|_| !self.ended);
        // Its parent, the runtime's program, has not been waited for: the id is still its own.
        let Some((raw, pid)) = pid.and_then(|raw| Some((raw, Pid::from_raw(raw)?))) else { return };
        let Some(process) = start_ticks(raw).and_then(|start| Process::open(raw, start)) else {
            return;
        };
        // What a shell started hangs on without it. The runtime made it the leader of a session.
        let _ = kill_process_group(pid, Signal::KILL);
        process.kill();
    }
}

impl Runtime {
    /// Runs the check once. The text says why it failed.
    pub async fn check(&self, key: &ContainerKey, check: &HealthCheck) -> Result<(), String> {
        if !self.live().contains_key(key) {
            return Err("the container does not run".into());
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("check-{}-{number}.pid", std::process::id());
        let pid_file = self.journal().container_dir(key).join(name);
        let options = ["--pid-file".to_owned(), pid_file.display().to_string()];
        let mut leader = Leader { pid_file, ended: false };
        let mut runc = self.runc().exec(&options, &key.id(), &check.words());
        runc.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = runc.spawn().map_err(|e| format!("it cannot be executed: {e}"))?;
        let timeout = Duration::from_secs(u64::from(check.timeout_secs));
        let outcome = tokio::time::timeout(timeout, outcome(&mut child)).await;
        leader.ended = outcome.is_ok();
        match outcome {
            Err(_) => Err(format!("it took longer than its timeout of {} s", timeout.as_secs())),
            Ok((Err(e), _)) => Err(format!("its end cannot be seen: {e}")),
            Ok((Ok(status), _)) if status.success() => Ok(()),
            Ok((Ok(status), said)) => Err(format!("it ended with {}{said}", shown(status))),
        }
    }
}

/// How it ended, and what it said. A process that it left behind may hold the output open: its own
/// end is what counts.
async fn outcome(child: &mut Child) -> (std::io::Result<ExitStatus>, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let status = {
        let mut reading = pin!(async {
            tokio::join!(read(stdout, &mut out), read(stderr, &mut err));
        });
        tokio::select! {
            () = &mut reading => child.wait().await,
            status = child.wait() => {
                let _ = tokio::time::timeout(LAST_WORDS, &mut reading).await;
                status
            }
        }
    };
    out.append(&mut err);
    let text = String::from_utf8_lossy(&out);
    let text: String = text.trim().chars().take(SAID_CHARS_MAX).collect();
    (status, if text.is_empty() { text } else { format!(": {text}") })
}

async fn read(pipe: Option<impl AsyncRead + Unpin>, into: &mut Vec<u8>) {
    let Some(mut pipe) = pipe else { return };
    // An error ends the output as its end does.
    let _ = (&mut pipe).take(OUTPUT_BYTES_MAX).read_to_end(into).await;
    // More is thrown away: a check that is noisy is not to be held up by us.
    let _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
}

fn shown(status: ExitStatus) -> String {
    status.code().map_or_else(|| "a signal".to_owned(), |code| format!("code {code}"))
}
