//! The agent's side of the shim: launching one, and reading what it leaves.
//!
//! Processes are known by id *and* start time within one boot, because ids are reused. Waiting is
//! done on pidfds, so nothing here polls.

use super::ready::register;
use super::runc::{Runc, message};
use crate::error::{Context, Error, Name, Result};
use muster_model::Millis;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncReadExt, Interest};
use tokio::process::Command;

/// When the runtime is given up by the shim.
pub const CREATE_TIMEOUT: Duration = Duration::from_secs(60);
/// When the shim itself is given up; a little more, so that its own answer comes first.
const LAUNCH_TIMEOUT: Duration = Duration::from_secs(65);
/// Pause between looks where the kernel cannot tell (no descriptor left).
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What a shim says about creation fits in this.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Rotation of a container's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLimits {
    pub bytes_max: u64,
    pub files: u32,
}

impl LogLimits {
    /// 30 MiB per container at most; Docker's default, unlimited, fills disks.
    pub const STANDARD: Self = Self { bytes_max: 10 << 20, files: 3 };
}

/// `shim.json`: who watches whom. A `pid` of 0 means that the container is being made.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Watch {
    pub shim_pid: i32,
    pub shim_start: u64,
    pub pid: i32,
    pub start: u64,
    pub boot_id: String,
}

/// `exit.json`: how it ended. A container whose shim was lost has no code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    pub exit_code: Option<i32>,
    #[serde(default)]
    pub signal: Option<i32>,
    #[serde(default)]
    pub oom_kills: u64,
    #[serde(default)]
    pub started_at: Option<u64>,
    /// Milliseconds since 1970.
    pub finished_at: u64,
    #[serde(default)]
    pub log_lines_dropped: u64,
}

/// What one shim is told.
pub struct Launch<'a> {
    pub program: &'a Path,
    pub runc: &'a Runc,
    pub id: &'a str,
    /// Log and records of the container.
    pub dir: &'a Path,
    /// Where its `config.json` is.
    pub bundle: &'a Path,
    pub oom_file: PathBuf,
    pub log: LogLimits,
    pub stdin: bool,
    pub terminal: bool,
    /// Of a strict task: the file of contacts, and how long after the last one it is killed.
    pub leash: Option<(PathBuf, Millis)>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Created(Watch),
    Failed { error: String },
}

/// Starts a shim and waits until it has created the container.
pub async fn launch(launch: Launch<'_>) -> Result<Watch> {
    let mut command = Command::new(launch.program);
    command
        .arg("--runc")
        .arg(launch.runc.program())
        .arg("--root")
        .arg(launch.runc.root())
        .args(["--id", launch.id])
        .arg("--bundle")
        .arg(launch.bundle)
        .arg("--dir")
        .arg(launch.dir)
        .arg("--oom-file")
        .arg(&launch.oom_file)
        .args(["--log-bytes", &launch.log.bytes_max.to_string()])
        .args(["--log-files", &launch.log.files.to_string()])
        .args(["--create-timeout-ms", &CREATE_TIMEOUT.as_millis().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    if launch.stdin {
        command.args(["--stdin", "yes"]);
    }
    if launch.terminal {
        command.args(["--terminal", "yes"]);
    }
    if let Some((file, over_after)) = &launch.leash {
        command.arg("--contact-file").arg(file);
        command.args(["--contact-ms", &over_after.0.to_string()]);
    }
    let program = launch.program.display();
    let mut child = command
        .spawn()
        .context(Name::CannotCreateContainer, format!("cannot run the shim {program}"))?;
    let stdout = child.stdout.take();
    let mut answer = String::new();
    let read = async {
        if let Some(stdout) = stdout {
            // The shim closes its end once it has said all: the container never has this pipe.
            let _ = stdout.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).await;
        }
        child.wait().await
    };
    if tokio::time::timeout(LAUNCH_TIMEOUT, read).await.is_err() {
        let seconds = LAUNCH_TIMEOUT.as_secs();
        let text = format!("the shim of {} did not answer within {seconds} s", launch.id);
        return Err(Error::new(Name::DockerTimeout, text));
    }
    match serde_json::from_str(answer.trim()) {
        Ok(Answer::Created(watch)) => Ok(watch),
        Ok(Answer::Failed { error }) => {
            let log = fs::read_to_string(launch.dir.join("runc.log")).unwrap_or_default();
            Err(Error::new(Name::CannotCreateContainer, message(&log).unwrap_or(error)))
        }
        Err(_) => {
            let text = format!("the shim of {} died before it answered", launch.id);
            Err(Error::new(Name::CannotCreateContainer, text))
        }
    }
}

/// `shim.json` of this boot; `None` if there is none or it is of another.
pub fn read_watch(dir: &Path) -> Option<Watch> {
    let watch: Watch = serde_json::from_slice(&fs::read(dir.join("shim.json")).ok()?).ok()?;
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    (watch.boot_id == boot_id.trim()).then_some(watch)
}

pub fn read_exit(dir: &Path) -> Option<Exit> {
    serde_json::from_slice(&fs::read(dir.join("exit.json")).ok()?).ok()
}

/// Leaves an exit record for a container whose shim cannot any more.
pub fn write_exit(dir: &Path, exit: &Exit) -> io::Result<()> {
    let tmp = dir.join("exit.json.agent");
    fs::write(&tmp, serde_json::to_vec(exit)?)?;
    fs::rename(tmp, dir.join("exit.json"))
}

/// When a process started, in clock ticks since boot; `None` if there is none.
pub fn start_ticks(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

/// A process that cannot be mistaken for a later one with the same id.
pub struct Process(OwnedFd);

impl Process {
    /// Opens the process if it is still the one that started then.
    pub fn open(pid: i32, start: u64) -> Option<Self> {
        let fd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        // Checked after opening: the descriptor then belongs to the process looked at.
        if start_ticks(pid) != Some(start) {
            return None;
        }
        Some(Self(fd))
    }

    /// Returns when the process has ended.
    pub async fn ended(&self) {
        let registered = self.0.try_clone().and_then(|fd| register(fd, Interest::READABLE));
        match registered {
            // An error means the runtime shuts down, and this with it.
            Ok(fd) => drop(fd.readable().await),
            Err(e) => {
                tracing::warn!(error = %e, "cannot wait on a process, looking now and then");
                while !self.is_ended() {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
        }
    }

    /// A pidfd is readable from the end of its process on.
    fn is_ended(&self) -> bool {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        // The only error is that it has ended meanwhile.
        let _ = rustix::process::pidfd_send_signal(&self.0, signal);
    }

    pub fn kill(&self) {
        self.signal(rustix::process::Signal::KILL);
    }
}
