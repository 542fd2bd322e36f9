//! Calls to the OCI runtime's program (`runc`, or `crun`, which takes the same arguments).
//!
//! Each call has a deadline and bounded output, and never gets a pipe that a container could
//! inherit and keep open. Creating goes through the shim, because a container's parent must outlive
//! the agent. It does not know what a task is.

use super::ready::register;
use super::shim::Process;
use crate::error::{Context, Error, Name, Result};
use serde::Deserialize;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, Interest};
use tokio::process::Command;

/// A loaded machine needs 100 ms; this is for one that hardly moves.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Output of a call that is kept; more is read and thrown away.
const OUTPUT_BYTES_MAX: u64 = 64 * 1024;

/// What the runtime says of a container.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct State {
    /// `creating`, `created`, `running`, `paused` or `stopped`.
    pub status: String,
    #[serde(default)]
    pub pid: i32,
}

/// The program and where it keeps its records.
#[derive(Clone, Debug)]
pub struct Runc {
    program: PathBuf,
    root: PathBuf,
}

impl Runc {
    pub fn new(program: &Path, root: &Path) -> Self {
        Self { program: program.to_owned(), root: root.to_owned() }
    }

    pub fn program(&self) -> &Path {
        &self.program
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Lets a created container run. `init` is its first process.
    ///
    /// In runc, that process waits until somebody reads from its pipe, and `runc start` does
    /// nothing else; reading it here saves a process, a sixth of the whole start. Another runtime,
    /// or a pipe that is not there, is left to the program.
    pub async fn start(&self, id: &str, init: Option<&Process>) -> Result<()> {
        let fifo = self.root.join(id).join("exec.fifo");
        let is_runc = self.program.file_name().is_some_and(|name| name == "runc");
        // Opened for that alone: whoever opens it lets the container run.
        if is_runc
            && let Some(init) = init
            && let Ok(pipe) = open_fifo(&fifo)
        {
            let why = match tokio::time::timeout(CALL_TIMEOUT, released(pipe, init)).await {
                Ok(Ok(())) => return forget_fifo(&fifo),
                Ok(Err(why)) => why,
                Err(_) => format!("it did not run within {} s", CALL_TIMEOUT.as_secs()),
            };
            return Err(Error::new(Name::CannotStartContainer, format!("container {id}: {why}")));
        }
        self.call(Name::CannotStartContainer, &["start", id]).await.map(drop)
    }

    /// Sends a signal to the container's first process. One that has ended already is fine.
    pub async fn kill(&self, id: &str, signal: &str) -> Result<()> {
        match self.call(Name::CannotStopContainer, &["kill", id, signal]).await {
            Err(e) if is_gone(&e.text) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Forgets a stopped container. One that is unknown is fine.
    pub async fn delete(&self, id: &str) -> Result<()> {
        match self.call(Name::CannotStopContainer, &["delete", id]).await {
            Err(e) if e.text.contains("does not exist") => Ok(()),
            other => other.map(drop),
        }
    }

    /// Kills and forgets, for what a crash left: slow where something still runs.
    pub async fn delete_force(&self, id: &str) -> Result<()> {
        match self.call(Name::CannotStopContainer, &["delete", "--force", id]).await {
            Err(e) if e.text.contains("does not exist") => Ok(()),
            other => other.map(drop),
        }
    }

    /// `None` if the runtime does not know the container.
    pub async fn state(&self, id: &str) -> Result<Option<State>> {
        match self.call(Name::CannotInspectContainer, &["state", id]).await {
            Ok(text) => serde_json::from_str(&text)
                .map(Some)
                .map_err(|e| Error::new(Name::CannotInspectContainer, format!("{id}: {e}"))),
            Err(e) if e.text.contains("does not exist") => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Ids that the runtime has records of; read from its directory, which costs no process.
    pub fn ids(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(&self.root) else { return Vec::new() };
        let mut ids: Vec<String> = entries
            .flatten()
            .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
            .filter_map(|e| e.file_name().into_string().ok())
            .collect();
        ids.sort();
        ids
    }

    /// The program for a command inside a running container; the caller wires its output.
    pub fn exec(&self, options: &[String], id: &str, command: &[String]) -> Command {
        let mut runc = Command::new(&self.program);
        runc.arg("--root").arg(&self.root).arg("exec").args(options).arg(id).args(command);
        runc.kill_on_drop(true);
        runc
    }

    async fn call(&self, name: Name, args: &[&str]) -> Result<String> {
        let failed = |why: String| {
            let text = format!("{} {}: {why}", self.program.display(), args.join(" "));
            Error::new(name, text)
        };
        let mut child = Command::new(&self.program)
            .arg("--root")
            .arg(&self.root)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| failed(format!("cannot run it: {e}; is it installed?")))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let run = async {
            let (out, err) = tokio::join!(bounded(stdout), bounded(stderr));
            (child.wait().await, out, err)
        };
        match tokio::time::timeout(CALL_TIMEOUT, run).await {
            Ok((Ok(status), out, _)) if status.success() => Ok(out),
            Ok((Ok(status), _, err)) => Err(failed(message(&err).unwrap_or(status.to_string()))),
            Ok((Err(e), ..)) => Err(failed(e.to_string())),
            Err(_) => {
                let seconds = CALL_TIMEOUT.as_secs();
                let text = format!("{} {}", self.program.display(), args.join(" "));
                Err(Error::new(Name::DockerTimeout, format!("{text}: no answer in {seconds} s")))
            }
        }
    }
}

fn open_fifo(path: &Path) -> std::io::Result<AsyncFd<File>> {
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC;
    let pipe = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    register(pipe, Interest::READABLE)
}

/// Returns when the container's first process has written into the pipe, which it does last.
async fn released(pipe: AsyncFd<File>, init: &Process) -> std::result::Result<(), String> {
    let mut byte = [0; 16];
    loop {
        tokio::select! {
            ready = pipe.readable() => {
                let mut ready = ready.map_err(|e| e.to_string())?;
                match ready.try_io(|pipe| pipe.get_ref().read(&mut byte)) {
                    Ok(Ok(1..)) => return Ok(()),
                    Ok(Ok(0)) => return Err("it ended before it was started".into()),
                    Ok(Err(e)) => return Err(e.to_string()),
                    Err(_would_block) => {}
                }
            }
            // A short program may be over before we look: what it wrote first is still here.
            () = init.ended() => return match pipe.get_ref().read(&mut byte) {
                Ok(1..) => Ok(()),
                _ => Err("it ended before it was started".into()),
            },
        }
    }
}

/// The pipe's absence is how the runtime knows that the container was started.
fn forget_fifo(path: &Path) -> Result<()> {
    std::fs::remove_file(path)
        .context(Name::CannotStartContainer, format!("cannot remove {}", path.display()))
}

async fn bounded(pipe: Option<impl tokio::io::AsyncRead + Unpin>) -> String {
    let Some(mut pipe) = pipe else { return String::new() };
    let mut bytes = Vec::new();
    // An error here shows in the exit status.
    let _ = (&mut pipe).take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes).await;
    let _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

fn is_gone(text: &str) -> bool {
    ["process already finished", "container not running", "does not exist", "no such process"]
        .iter()
        .any(|known| text.contains(known))
}

/// The last words of the runtime, without its log decoration.
pub fn message(output: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Line {
        #[serde(default)]
        level: String,
        msg: String,
    }
    let mut last = None;
    for line in output.lines().map(str::trim).filter(|l| !l.is_empty()) {
        match serde_json::from_str::<Line>(line) {
            Ok(line) if line.level == "error" || line.level == "fatal" => last = Some(line.msg),
            Ok(_) => {}
            Err(_) => last = Some(line.to_owned()),
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_is_found_in_both_log_forms() {
        let json =
            "{\"level\":\"warning\",\"msg\":\"w\"}\n{\"level\":\"error\",\"msg\":\"boom\"}\n";
        assert_eq!(message(json).as_deref(), Some("boom"));
        assert_eq!(message("a\n\n  b \n").as_deref(), Some("b"));
        assert_eq!(message(""), None);
    }

    #[tokio::test]
    async fn a_missing_program_is_named() {
        let runc = Runc::new(Path::new("/nonexistent/runc"), Path::new("/tmp"));
        let error = runc.start("x", None).await.unwrap_err().to_string();
        assert!(
            error.starts_with("CannotStartContainerError: /nonexistent/runc start x"),
            "{error}"
        );
    }
}
