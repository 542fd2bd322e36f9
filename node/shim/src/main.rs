//! muster-shim: the one process that outlives the agent for each container.
//!
//! It owns the container's output and its exit code, because both are lost if no parent is left
//! when the container writes or ends: an agent may be killed or upgraded at any moment.
//! It detaches (double fork, own session), becomes the subreaper of the container, runs
//! `runc create`, prints one JSON line about the outcome on its standard output and closes it.
//! From then on it copies output into a rotating log, waits for the container's first process and
//! leaves `exit.json` behind. It never starts, signals or deletes anything: that is the agent's.
//!
//! It does not know what a task is. Invariant: whatever fails around it (a full disk, a killed
//! agent, a closed pipe), the container is never blocked and the exit code is written once.

mod args;
mod log;
mod record;
mod supervise;

use nix::sys::prctl;
use nix::unistd::{ForkResult, fork, setsid};
use std::io::Write;

fn main() {
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
