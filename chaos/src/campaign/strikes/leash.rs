//! The worker of the strict singleton out of reach for longer than its leash: the task must stop by
//! itself there, and run elsewhere afterwards.

use super::managers::signal;
use super::network::{both_ways, others};
use super::{Span, Struck};
use crate::campaign::field::Field;
use crate::campaign::only;
use nix::sys::signal::Signal;
use std::time::Duration;

/// How long its replacement is waited for: 15 s are promised from the last confirmed heartbeat on.
const REPLACED_WITHIN: Duration = Duration::from_secs(40);

/// The worker is cut off from all managers; in turn its agent lives, is dead, or stands still.
///
/// # Errors
/// The singleton does not run, or the machine refuses.
pub fn slack(field: &mut Field, _: Span) -> Result<Struck, String> {
    let (task, host) = field.until("the singleton runs", REPLACED_WITHIN, || running(field))?;
    let cuts = both_ways(&host, &others(field, ""));
    let struck = field.record.now();
    for (from, to) in &cuts {
        field.cluster.lab.done(&["cut", from, to]);
    }
    let form = field.turn() % 3;
    match form {
        1 => field.cluster.kill(&host),
        2 => signal(field, &host, Signal::SIGSTOP)?,
        _ => {}
    }
    let replaced = field.until("the singleton runs elsewhere", REPLACED_WITHIN, || {
        let (new, at) = running(field)?;
        match new != task && at != host {
            true => Ok(field.record.now() - struck),
            false => Err(format!("{new} on {at}")),
        }
    });
    match form {
        1 => field.cluster.start(&host),
        2 => signal(field, &host, Signal::SIGCONT)?,
        _ => {}
    }
    for (from, to) in &cuts {
        field.cluster.lab.done(&["uncut", from, to]);
    }
    let healed = field.record.now();
    let after = match replaced {
        Ok(after) => after,
        Err(why) if why == "interrupted" => return Err(why),
        Err(why) => {
            field.record.breach("I9", why);
            healed - struck
        }
    };
    let agent = ["lives", "is dead", "stands still"][form as usize];
    let secs = after as f64 / 1e6;
    let what =
        format!("{host} cut off, its agent {agent}: the singleton elsewhere after {secs:.1} s");
    Ok(Struck { what, struck, healed, replaced: None })
}

/// The task that runs by the leader's word, and its host.
fn running(field: &Field) -> Result<(String, String), String> {
    let tasks = field.tasks().ok_or("no leader's rows are at hand")?;
    let own = only::group();
    let mut running = tasks.into_iter().filter(|(_, t)| t.group == own && t.status == "RUNNING");
    let (task, row) = running.next().ok_or("no task of it is RUNNING")?;
    Ok((task, row.host))
}
