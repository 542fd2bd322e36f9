//! muster-shim: the one process that outlives the agent for each container.
//!
//! It owns the container's output and its exit code, because both are lost if no parent is left
//! when the container writes or ends: an agent may be killed or upgraded at any moment.
//! It detaches (double fork, own session), becomes the subreaper of the container, runs
//! `runc create`, prints one JSON line about the outcome on its standard output and closes it.
//! From then on it copies output into a rotating log, waits for the container's first process and
//! leaves `exit.json` behind. It never starts, signals or deletes anything: that is the agent's.
//! But the container of a strict task it kills when the agent was without a leader for too long.
//!
//! Called with `--pause` it does none of this: it is the first process of a namespace of process
//! ids that containers share, reaps what is orphaned there, and ends when it is killed.
//!
//! It does not know what a task is. Invariant: whatever fails around it (a full disk, a killed
//! agent, a closed pipe), the container is never blocked and the exit code is written once.

mod args;
mod console;
mod leash;
mod log;
mod record;
mod supervise;

use nix::sys::prctl;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::{ForkResult, fork, setsid};
use std::io::{Read, Write};

fn main() {
    if std::env::args().nth(1).as_deref() == Some(args::PAUSE) {
        pause();
    }
    let plan = match args::Plan::parse(std::env::args().skip(1)) {
        Ok(plan) => plan,
        Err(why) => {
            report(&record::failure(&why));
            std::process::exit(2);
        }
    };
    if let Err(why) = detach() {
        report(&record::failure(&format!("cannot detach: {why}")));
        std::process::exit(1);
    }
    std::process::exit(supervise::run(&plan));
}

/// Holds a namespace of process ids. Until the agent writes a byte it is not known anywhere, and
/// goes when the agent does.
fn pause() -> ! {
    let mut told = [0];
    if !matches!(std::io::stdin().read(&mut told), Ok(1)) {
        std::process::exit(0);
    }
    let _ = setsid();
    let _ = prctl::set_name(c"muster-pause");
    // Nobody asks what becomes of orphans: the kernel reaps them then.
    #[allow(unsafe_code)]
    // SAFETY: ignoring a signal installs no handler code.
    let _ = unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) };
    loop {
        nix::unistd::pause();
    }
}

/// Says how creation went. The agent reads this to its end, so the caller closes stdout after it.
/// An agent that died in between makes the write fail, and that must not stop the shim.
fn report(line: &str) {
    let mut out = std::io::stdout();
    let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
}

/// Leaves the caller's process group and session, and takes in orphans of `runc create`.
fn detach() -> nix::Result<()> {
    fork_and_leave_parent()?;
    setsid()?;
    // A session leader could still acquire a terminal; its child cannot.
    fork_and_leave_parent()?;
    prctl::set_child_subreaper(true)?;
    prctl::set_name(c"muster-shim")
}

#[allow(unsafe_code)]
fn fork_and_leave_parent() -> nix::Result<()> {
    // SAFETY: this process has a single thread, so the child may do anything after the fork.
    match unsafe { fork() }? {
        ForkResult::Parent { .. } => std::process::exit(0),
        ForkResult::Child => Ok(()),
    }
}
