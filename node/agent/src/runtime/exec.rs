//! Runs a command inside a running container, with or without a terminal.
//!
//! The runtime's program stays between us and the command; the command is found by its pid file and
//! killed when nobody reads its output any more.

use super::Runtime;
use super::ready::register;
use super::shim::{Process, start_ticks};
use crate::error::{Error, Name, Result};
use crate::journal::ContainerKey;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin};
use tokio::sync::mpsc;

/// Pieces of output on their way to a slow reader.
const OUTPUT_MAX: usize = 64;
const INPUT_MAX: usize = 64;
const PIECE_BYTES: usize = 16 * 1024;
/// Commands of ECS are one line; the kernel's own bound is larger.
const COMMAND_BYTES_MAX: usize = 64 * 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    Exited(i32),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    Bytes(Vec<u8>),
    Closed,
    Resize { rows: u16, columns: u16 },
}

/// A running command. Dropping it kills the command.
pub struct Execution {
    pub output: mpsc::Receiver<io::Result<Output>>,
    pub input: mpsc::Sender<Input>,
    /// Ends the tasks that carry bytes.
    _tasks: tokio::task::JoinSet<()>,
    _guard: Guard,
}

/// Kills the command inside the container, which would outlive the runtime's program.
struct Guard {
    pid_file: PathBuf,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let text = std::fs::read_to_string(&self.pid_file).unwrap_or_default();
        let _ = std::fs::remove_file(&self.pid_file);
        let Ok(pid) = text.trim().parse::<i32>() else { return };
        if let Some(process) = start_ticks(pid).and_then(|start| Process::open(pid, start)) {
            process.kill();
        }
    }
}

static NEXT: AtomicU64 = AtomicU64::new(0);

impl Runtime {
    /// Starts `command` in the container; `terminal` is (rows, columns).
    pub fn exec(
        &self,
        key: &ContainerKey,
        command: &[String],
        terminal: Option<(u16, u16)>,
    ) -> Result<Execution> {
        let failed = |why: String| Error::new(Name::CannotInspectContainer, format!("exec: {why}"));
        let bytes: usize = command.iter().map(|word| word.len() + 1).sum();
        if command.is_empty() || bytes > COMMAND_BYTES_MAX {
            return Err(failed(format!("the command has {bytes} bytes; allowed are 1 to 65536")));
        }
        if !self.live().contains_key(key) {
            return Err(failed(format!("container {:?} of {} does not run", key.name, key.task)));
        }
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("exec-{}-{n}.pid", std::process::id());
        let pid_file = self.journal().container_dir(key).join(name);
        let mut words = vec!["--pid-file".to_owned(), pid_file.display().to_string()];
        if terminal.is_some() {
            // What Docker says to a command with a terminal: most of them ask.
            words.extend(["--tty", "--env", "TERM=xterm"].map(str::to_owned));
        }
        let id = key.id();
        let mut runc = self.runc().exec(&words, &id, command);
        let guard = Guard { pid_file };
        let (out, output) = mpsc::channel(OUTPUT_MAX);
        let (input, typed) = mpsc::channel(INPUT_MAX);
        let mut tasks = tokio::task::JoinSet::new();
        match terminal {
            None => {
                runc.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
                let mut child = runc.spawn().map_err(|e| failed(e.to_string()))?;
                let stdin = child.stdin.take();
                tasks.spawn(feed_pipe(typed, stdin));
                tasks.spawn(carry_pipes(child, out));
            }
            Some((rows, columns)) => {
                let pty = open_pty(rows, columns).map_err(|e| failed(e.to_string()))?;
                let slave = |fd: &OwnedFd| fd.try_clone().map_err(|e| failed(e.to_string()));
                runc.stdin(slave(&pty.slave)?).stdout(slave(&pty.slave)?);
                runc.stderr(slave(&pty.slave)?);
                let child = runc.spawn().map_err(|e| failed(e.to_string()))?;
                drop((runc, pty.slave));
                let master = std::sync::Arc::new(pty.master);
                let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
                let process = pid.and_then(|pid| Process::open(pid, start_ticks(pid)?));
                tasks.spawn(feed_terminal(typed, master.clone(), process));
                tasks.spawn(carry_terminal(child, master, out));
            }
        }
        Ok(Execution { output, input, _tasks: tasks, _guard: guard })
    }
}

async fn feed_pipe(mut typed: mpsc::Receiver<Input>, stdin: Option<ChildStdin>) {
    let Some(mut stdin) = stdin else { return };
    while let Some(Input::Bytes(bytes)) = typed.recv().await {
        // The command may not read: then nobody needs what comes.
        if stdin.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

async fn carry_pipes(mut child: Child, out: mpsc::Sender<io::Result<Output>>) {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    tokio::join!(carry(stdout, Output::Stdout, &out), carry(stderr, Output::Stderr, &out));
    finish(child, out).await;
}

async fn carry(
    pipe: Option<impl tokio::io::AsyncRead + Unpin>,
    wrap: impl Fn(Vec<u8>) -> Output,
    out: &mpsc::Sender<io::Result<Output>>,
) {
    let Some(mut pipe) = pipe else { return };
    let mut piece = vec![0; PIECE_BYTES];
    while let Ok(n @ 1..) = pipe.read(&mut piece).await {
        if out.send(Ok(wrap(piece[..n].to_vec()))).await.is_err() {
            return;
        }
    }
}

async fn finish(mut child: Child, out: mpsc::Sender<io::Result<Output>>) {
    let exit = child.wait().await.map(|status| Output::Exited(status.code().unwrap_or(137)));
    let _ = out.send(exit).await;
}

struct Pty {
    master: AsyncFd<File>,
    slave: OwnedFd,
}

fn open_pty(rows: u16, columns: u16) -> io::Result<Pty> {
    let size = nix::pty::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = nix::pty::openpty(Some(&size), None)?;
    for fd in [&pty.master, &pty.slave] {
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC)?;
    }
    rustix::io::ioctl_fionbio(&pty.master, true)?;
    // The terminal inside echoes: until runc has made this one raw, keys would be shown twice.
    let mut raw = rustix::termios::tcgetattr(&pty.slave)?;
    raw.make_raw();
    rustix::termios::tcsetattr(&pty.slave, rustix::termios::OptionalActions::Now, &raw)?;
    let both = tokio::io::Interest::READABLE | tokio::io::Interest::WRITABLE;
    Ok(Pty { master: register(File::from(pty.master), both)?, slave: pty.slave })
}

type Master = std::sync::Arc<AsyncFd<File>>;

/// `runc` is the runtime's program, which carries the bytes on to the terminal inside.
async fn feed_terminal(mut typed: mpsc::Receiver<Input>, master: Master, runc: Option<Process>) {
    while let Some(input) = typed.recv().await {
        match input {
            Input::Bytes(bytes) => {
                let mut rest = bytes.as_slice();
                while !rest.is_empty() {
                    let Ok(mut ready) = master.writable().await else { return };
                    match ready.try_io(|fd| fd.get_ref().write(rest)) {
                        Ok(Ok(n)) => rest = &rest[n..],
                        Ok(Err(_)) => return,
                        Err(_would_block) => {}
                    }
                }
            }
            Input::Resize { rows, columns } => {
                resize(&master, rows, columns);
                // The terminal is nobody's controlling one, so the kernel tells nobody of it.
                if let Some(runc) = &runc {
                    runc.signal(rustix::process::Signal::WINCH);
                }
            }
            // A terminal's input ends with a control character, which the user types.
            Input::Closed => {}
        }
    }
}

fn resize(master: &AsyncFd<File>, rows: u16, columns: u16) {
    let size =
        rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // A terminal that is closed has no size; the command has ended then.
    let _ = rustix::termios::tcsetwinsize(master.get_ref(), size);
}

async fn carry_terminal(child: Child, master: Master, out: mpsc::Sender<io::Result<Output>>) {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let Ok(mut ready) = master.readable().await else { break };
        match ready.try_io(|fd| fd.get_ref().read(&mut piece)) {
            // The other end is closed: Linux reports an error instead of an end.
            Ok(Ok(0) | Err(_)) => break,
            Ok(Ok(n)) => {
                if out.send(Ok(Output::Stdout(piece[..n].to_vec()))).await.is_err() {
                    return;
                }
            }
            Err(_would_block) => {}
        }
    }
    finish(child, out).await;
}
