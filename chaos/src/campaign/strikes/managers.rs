//! Faults of manager processes: killed, paused.

use super::{Span, Struck};
use crate::campaign::field::Field;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::Duration;

/// A signal to a host's daemon without the time that a shell needs.
///
/// # Errors
/// It has no process.
pub fn signal(field: &Field, host: &str, signal: Signal) -> Result<(), String> {
    let pid = field.cluster.pid(host).ok_or_else(|| format!("{host} has no process"))?;
    kill(Pid::from_raw(pid), signal).map_err(|errno| format!("{signal} to {host}: {errno}"))?;
    match field.cluster.waiting_pid(host) {
        // `nsenter` stops when its child does, and would never see it end.
        Some(waiting) if signal == Signal::SIGCONT => kill(Pid::from_raw(waiting), signal)
            .map_err(|errno| format!("{signal} to nsenter of {host}: {errno}")),
        _ => Ok(()),
    }
}

fn kill_and_start(field: &mut Field, hosts: &[String]) -> Result<Struck, String> {
    let down = Duration::from_millis(300 + field.below(2700));
    let struck = field.record.now();
    for host in hosts {
        signal(field, host, Signal::SIGKILL)?;
    }
    for host in hosts {
        field.cluster.reap(host);
    }
    field.last(down)?;
    for host in hosts {
        field.cluster.start(host);
    }
    let what =
        format!("kill -9 of {}, started after {:.1} s", hosts.join(", "), down.as_secs_f32());
    Ok(Struck { what, struck, healed: field.record.now(), replaced: None })
}

/// Between half a second and the longest.
fn some_time(field: &mut Field, span: Span) -> Duration {
    let longest = u64::try_from(span.longest.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(500 + field.below(longest.saturating_sub(500)))
}

/// # Errors
/// Nobody leads, or the machine refuses.
pub fn leader_kill(field: &mut Field, _: Span) -> Result<Struck, String> {
    let leader = format!("m{}", field.wait_leader()?);
    kill_and_start(field, &[leader])
}

/// # Errors
/// Nobody leads, or the machine refuses.
pub fn any_kill(field: &mut Field, _: Span) -> Result<Struck, String> {
    let host = format!("m{}", 1 + field.below(u64::from(field.shape.managers)));
    kill_and_start(field, &[host])
}

/// # Errors
/// The machine refuses.
pub fn all_kill(field: &mut Field, _: Span) -> Result<Struck, String> {
    let hosts: Vec<_> = (1..=field.shape.managers).map(|n| format!("m{n}")).collect();
    kill_and_start(field, &hosts)
}

/// The leader stands still for longer than an election takes, then goes on where it was.
///
/// # Errors
/// Nobody leads, or the machine refuses.
pub fn leader_pause(field: &mut Field, span: Span) -> Result<Struck, String> {
    let leader = format!("m{}", field.wait_leader()?);
    let pause = some_time(field, span).max(Duration::from_secs(2));
    let struck = field.record.now();
    signal(field, &leader, Signal::SIGSTOP)?;
    let waited = field.last(pause);
    signal(field, &leader, Signal::SIGCONT)?;
    waited?;
    let what = format!("SIGSTOP of the leader {leader} for {:.1} s", pause.as_secs_f32());
    Ok(Struck { what, struck, healed: field.record.now(), replaced: None })
}
