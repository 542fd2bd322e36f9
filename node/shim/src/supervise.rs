//! The life of one container as the shim sees it: creating, running, draining, gone.
//!
//! One thread, one `poll`: two pipes from the container, or its terminal, and one descriptor that
//! becomes readable when a child ends. A child that ends before its process id is known is
//! remembered, because the container may be over before `runc create` has returned.

use crate::args::Plan;
use crate::console::Console;
use crate::leash::Held;
use crate::log::{Lines, Log, Stream};
use crate::record::{self, Exit, ExitFile, Watch};
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigHandler, SigSet, Signal, kill, signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo, pipe2};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long output may still come after the end, from a process that escaped with our pipe.
const DRAIN_MAX: Duration = Duration::from_secs(1);
/// Pause between tries to write the exit record, and how many are made before it is given up.
const EXIT_RETRY_PAUSE: Duration = Duration::from_secs(1);
const EXIT_RETRIES_MAX: u32 = 600;
/// One read from a pipe.
const READ_BYTES: usize = 32 * 1024;

/// Makes the container, tells the caller, and stays until it has ended. Returns the exit status.
pub fn run(plan: &Plan) -> i32 {
    let (mut shim, runc) = match prepare(plan) {
        Ok(ready) => ready,
        Err(why) => return give_up(&why),
    };
    match shim.create(runc) {
        Ok(init) => shim.watch(init),
        Err(why) => give_up(&why),
    }
}

fn give_up(why: &str) -> i32 {
    crate::report(&record::failure(why));
    1
}

/// Opens everything and spawns `runc create`, which passes the pipes on to the container.
fn prepare(plan: &Plan) -> Result<(Shim<'_>, Pid), String> {
    let because =
        |what: &str, e: io::Error| format!("cannot {what} in {}: {e}", plan.dir.display());
    let leash = plan.leash.as_ref().map(Held::new).transpose()?;
    let log = Log::open(&plan.dir, plan.log_bytes, plan.log_files);
    let exit = ExitFile::prepare(&plan.dir).map_err(|e| because("prepare exit.json", e))?;
    let Streams { child: [stdin, stdout, stderr], kept, outputs, console } = match plan.terminal {
        true => Streams::of_terminal(plan).map_err(|e| because("make the console's socket", e))?,
        false => Streams::of_pipes(plan).map_err(|e| because("make a pipe", e))?,
    };
    let children = watch_children().map_err(|e| because("watch children", e.into()))?;
    // Whoever finds this later knows that somebody is still at work here.
    write_watch(plan, 0).map_err(|e| because("write shim.json", e))?;
    let mut create = Command::new(&plan.runc);
    create.arg("--root").arg(&plan.root).arg("--log").arg(plan.dir.join("runc.log"));
    create.args(["--log-format", "json", "create", "--bundle"]).arg(&plan.bundle);
    create.arg("--pid-file").arg(plan.dir.join("init.pid"));
    if let Some(console) = &console {
        create.arg("--console-socket").arg(console.socket());
    }
    let runc = create.arg(&plan.id).stdin(stdin).stdout(stdout).stderr(stderr).spawn();
    let runc = runc.map_err(|e| format!("cannot run {}: {e}", plan.runc.display()))?;
    ignore_stops();
    let shim = Shim {
        plan,
        log,
        exit,
        _stdin: kept,
        outputs,
        console,
        children,
        leash,
        ended: Vec::new(),
    };
    Ok((shim, Pid::from_raw(runc.id() as i32)))
}

/// Writes `shim.json`; an `init` of 0 means that the container is being made.
fn write_watch(plan: &Plan, init: i32) -> io::Result<String> {
    let watch = Watch { shim_pid: std::process::id() as i32, init_pid: init }.json();
    record::replace(&plan.dir.join("shim.json"), &watch)?;
    Ok(watch)
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe2(nix::fcntl::OFlag::O_CLOEXEC)?)
}

/// What the container reads and writes.
struct Streams {
    /// Input, output and errors of the runtime, which the container has after it.
    child: [Stdio; 3],
    /// Both ends of its input, held open, so that the container never sees its end by accident.
    kept: Option<File>,
    outputs: Vec<Output>,
    console: Option<Console>,
}

impl Streams {
    fn of_pipes(plan: &Plan) -> io::Result<Self> {
        let (stdout, stdout_in) = pipe()?;
        let (stderr, stderr_in) = pipe()?;
        let (stdin, kept) = open_stdin(plan)?;
        Ok(Self {
            child: [stdin, stdout_in.into(), stderr_in.into()],
            kept,
            outputs: vec![Output::new(stdout, Stream::Stdout), Output::new(stderr, Stream::Stderr)],
            console: None,
        })
    }

    /// The terminal is everything: its input stays open as long as we have the other end.
    fn of_terminal(plan: &Plan) -> io::Result<Self> {
        Ok(Self {
            child: [Stdio::null(), Stdio::null(), Stdio::null()],
            kept: None,
            outputs: Vec::new(),
            console: Some(Console::listen(&plan.dir)?),
        })
    }
}

fn open_stdin(plan: &Plan) -> io::Result<(Stdio, Option<File>)> {
    if !plan.stdin {
        return Ok((Stdio::null(), None));
    }
    let path = plan.dir.join("stdin");
    match mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(e) => return Err(e.into()),
    }
    let kept = OpenOptions::new().read(true).write(true).open(&path)?;
    Ok((File::open(&path)?.into(), Some(kept)))
}

/// Only after the spawn are signals ignored: a container would inherit that.
fn ignore_stops() {
    for stop in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM] {
        #[allow(unsafe_code)]
        // SAFETY: ignoring a signal installs no handler code.
        let _ = unsafe { signal(stop, SigHandler::SigIgn) };
    }
}

/// Makes the ends of children readable. `Command` clears the mask again in the child.
fn watch_children() -> nix::Result<SignalFd> {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    mask.thread_block()?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

struct Output {
    pipe: Option<File>,
    lines: Lines,
}

impl Output {
    fn new(pipe: OwnedFd, stream: Stream) -> Self {
        Self { pipe: Some(pipe.into()), lines: Lines::new(stream) }
    }
}

/// A child that ended: its exit code as a shell would show it, and the signal that ended it.
#[derive(Clone, Copy)]
struct Ended {
    pid: Pid,
    code: i32,
    signal: Option<i32>,
}

struct Shim<'a> {
    plan: &'a Plan,
    log: Log,
    exit: ExitFile,
    _stdin: Option<File>,
    outputs: Vec<Output>,
    /// Until the runtime has sent the terminal.
    console: Option<Console>,
    children: SignalFd,
    leash: Option<Held<'a>>,
    ended: Vec<Ended>,
}

impl Shim<'_> {
    /// Waits for `runc create` and reports; the answer is the container's first process.
    fn create(&mut self, runc: Pid) -> Result<Pid, String> {
        let deadline = Instant::now() + self.plan.create_timeout;
        while !self.ended.iter().any(|e| e.pid == runc) {
            if Instant::now() >= deadline {
                let _ = kill(runc, Signal::SIGKILL);
                let seconds = self.plan.create_timeout.as_secs();
                return Err(format!("runtime did not create the container within {seconds} s"));
            }
            self.step(Some(deadline));
        }
        let code = self.take(runc).map_or(0, |e| e.code);
        if code != 0 {
            return Err(format!("runtime create ended with status {code}"));
        }
        if self.console.is_some() {
            return Err("the runtime sent no terminal".to_owned());
        }
        let path = self.plan.dir.join("init.pid");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let init: i32 = text.trim().parse().map_err(|_| format!("no pid in {}", path.display()))?;
        let watch =
            write_watch(self.plan, init).map_err(|e| format!("cannot write shim.json: {e}"))?;
        crate::report(&watch);
        close_stdio();
        Ok(Pid::from_raw(init))
    }

    /// Copies output until the container's first process has ended, then leaves the record.
    fn watch(&mut self, init: Pid) -> i32 {
        while !self.ended.iter().any(|e| e.pid == init) {
            // Whoever else ended is an orphan that nobody asks about.
            self.ended.clear();
            if self.leash.as_mut().is_some_and(Held::is_over) {
                // It has not been reaped, so nobody else has its number.
                let _ = kill(init, Signal::SIGKILL);
            }
            self.step(self.leash.as_ref().map(Held::look_at));
        }
        // The count must be read before anybody deletes the cgroup, so before the record.
        let oom_kills = record::oom_kills(&self.plan.oom_file);
        let deadline = Instant::now() + DRAIN_MAX;
        while self.outputs.iter().any(|o| o.pipe.is_some()) && Instant::now() < deadline {
            self.step(Some(deadline));
        }
        for output in &mut self.outputs {
            output.lines.finish(&mut self.log);
        }
        let ended = self.take(init);
        let exit = Exit {
            pid: init.as_raw(),
            exit_code: ended.map_or(255, |e| e.code),
            signal: ended.and_then(|e| e.signal),
            oom_kills,
            log_lines_dropped: self.log.dropped(),
        };
        for _ in 0..EXIT_RETRIES_MAX {
            match self.exit.publish(&exit) {
                Ok(()) => return 0,
                // The whole directory is gone: nobody is left who could want the record.
                Err(_) if !self.plan.dir.exists() => return 1,
                Err(_) => std::thread::sleep(EXIT_RETRY_PAUSE),
            }
        }
        1
    }

    fn take(&mut self, pid: Pid) -> Option<Ended> {
        let at = self.ended.iter().position(|e| e.pid == pid)?;
        Some(self.ended.swap_remove(at))
    }

    /// Waits for something to happen and deals with it.
    fn step(&mut self, deadline: Option<Instant>) {
        let timeout = match deadline.map(|d| d.saturating_duration_since(Instant::now())) {
            None => PollTimeout::NONE,
            // Rounded up, so that the last wait does not spin.
            Some(left) => PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX),
        };
        let mut fds = vec![PollFd::new(self.children.as_fd(), PollFlags::POLLIN)];
        fds.extend(self.console.iter().map(|c| PollFd::new(c.as_fd(), PollFlags::POLLIN)));
        for pipe in self.outputs.iter().filter_map(|o| o.pipe.as_ref()) {
            fds.push(PollFd::new(pipe.as_fd(), PollFlags::POLLIN));
        }
        if poll(&mut fds, timeout).is_err() {
            return;
        }
        let mut ready = fds.iter().map(|fd| fd.any().unwrap_or(false));
        let child_ended = ready.next().unwrap_or(false);
        let connected = self.console.is_some() && ready.next().unwrap_or(false);
        let pipes: Vec<bool> = ready.collect();
        let open = self.outputs.iter_mut().filter(|o| o.pipe.is_some());
        for (output, _) in open.zip(pipes).filter(|(_, ready)| *ready) {
            copy(output, &mut self.log);
        }
        if connected && let Some(Ok(terminal)) = self.console.as_ref().map(Console::receive) {
            self.outputs.push(Output::new(terminal, Stream::Stdout));
            self.console = None;
        }
        if child_ended {
            self.reap();
        }
    }

    fn reap(&mut self) {
        while let Ok(Some(_)) = self.children.read_signal() {}
        while let Some(ended) = reap_one() {
            self.ended.push(ended);
        }
    }
}

/// Collects one child that has ended. Not nix's `waitpid`: that refuses real-time signals, and the
/// status would be lost with the error.
#[allow(unsafe_code)]
fn reap_one() -> Option<Ended> {
    let mut status = 0;
    // SAFETY: `status` outlives the call, which writes only to it.
    let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
    if pid <= 0 {
        return None;
    }
    let signal = libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status));
    let code = signal.map_or(libc::WEXITSTATUS(status), |s| 128 + s);
    Some(Ended { pid: Pid::from_raw(pid), code, signal })
}

fn copy(output: &mut Output, log: &mut Log) {
    let Some(pipe) = &mut output.pipe else { return };
    let mut buffer = [0; READ_BYTES];
    match pipe.read(&mut buffer) {
        Ok(0) => output.pipe = None,
        Ok(n) => output.lines.push(&buffer[..n], log),
        Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
        Err(_) => output.pipe = None,
    }
}

/// Lets go of the caller's pipe: the agent reads it to its end.
fn close_stdio() {
    let Ok(null) = OpenOptions::new().read(true).write(true).open("/dev/null") else { return };
    let _ = nix::unistd::dup2_stdin(&null);
    let _ = nix::unistd::dup2_stdout(&null);
    let _ = nix::unistd::dup2_stderr(&null);
}
