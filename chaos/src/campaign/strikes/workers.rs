//! Faults of workers: the agent killed or paused, the machine gone or rebooted, a whole zone lost.

use super::managers::signal;
use super::{Span, Struck, anchored};
use crate::campaign::field::Field;
use crate::campaign::heal;
use crate::campaign::record::Micros;
use crate::campaign::watching::SeenTask;
use crate::campaign::workload::ANCHORS;
use crate::cluster;
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a lost worker's tasks are waited for.
const REPLACED_WITHIN: Duration = Duration::from_secs(40);

/// kill -9 of an agent with real containers; each keeps its pid and its start time.
///
/// # Errors
/// The machine refuses.
pub fn agent_kill(field: &mut Field, _: Span) -> Result<Struck, String> {
    let host = format!("w{}", 1 + field.below(u64::from(field.shape.workers)));
    let before = anchored(field)?;
    let struck = field.record.now();
    field.cluster.kill(&host);
    let down = Duration::from_millis(200 + field.below(2500));
    field.last(down)?;
    field.cluster.start(&host);
    let healed = field.record.now();
    let after = anchored(field)?;
    field.record.count("containers over an agent's restart", before.len() as u64);
    for (task, processes) in &before {
        // It may have begun more of them meanwhile.
        if !after.get(task).is_some_and(|now| now.is_superset(processes)) {
            field.record.count("containers lost by an agent's restart", 1);
            let (was, is) = (processes, after.get(task));
            let what = format!("the agent of {host} was killed; task {task}: {was:?}, now {is:?}");
            field.record.breach("I8", what);
        }
    }
    let what = format!(
        "kill -9 of the agent of {host} for {:.1} s, {} containers of anchors",
        down.as_secs_f32(),
        before.len()
    );
    Ok(Struck { what, struck, healed, replaced: None })
}

/// Every process of a worker gone at once; its tasks must run elsewhere before it returns.
///
/// # Errors
/// The machine refuses.
pub fn crash(field: &mut Field, _: Span) -> Result<Struck, String> {
    let workers = u64::from(field.shape.workers + field.shape.simulated);
    let host = format!("w{}", 1 + field.below(workers));
    let struck = field.record.now();
    field.cluster.crash(&host);
    let replaced = replaced(field, struck, std::slice::from_ref(&host));
    field.cluster.start(&host);
    let what = format!("crash of {host}: every process at once");
    Ok(Struck { what, struck, healed: field.record.now(), replaced: replaced? })
}

/// A third of everything: all workers of a zone crash and its manager is killed; their tasks must
/// run in the other zones before they return.
///
/// # Errors
/// The machine refuses.
pub fn zone(field: &mut Field, _: Span) -> Result<Struck, String> {
    let lost = cluster::zone(1 + u32::try_from(field.turn() % 3).unwrap_or(0));
    let workers = field.shape.workers + field.shape.simulated;
    let of = |all: u32, letter: char| {
        let numbers = (1..=all).filter(|number| cluster::zone(*number) == lost);
        numbers.map(|number| format!("{letter}{number}")).collect::<Vec<_>>()
    };
    let (workers, managers) = (of(workers, 'w'), of(field.shape.managers, 'm'));
    let struck = field.record.now();
    for host in &managers {
        field.cluster.kill(host);
    }
    for host in &workers {
        field.cluster.crash(host);
    }
    let replaced = replaced(field, struck, &workers);
    for host in managers.iter().chain(&workers) {
        field.cluster.start(host);
    }
    let what = format!("zone {lost} lost: {} and {}", workers.join(", "), managers.join(", "));
    Ok(Struck { what, struck, healed: field.record.now(), replaced: replaced? })
}

/// Waits until all anchors run without some hosts; how long that took since they were lost.
fn replaced(field: &Field, struck: Micros, lost: &[String]) -> Result<Option<Micros>, String> {
    let seen = field.until("the lost tasks run elsewhere", REPLACED_WITHIN, || {
        let tasks = field.tasks().ok_or("no leader's rows are at hand")?;
        for (name, count) in ANCHORS {
            let group = format!("service:{name}");
            let running = tasks.values().filter(|t| t.group == group && t.status == "RUNNING");
            let elsewhere = running.filter(|task| !lost.contains(&task.host)).count();
            if elsewhere < usize::try_from(count).unwrap_or(0) {
                return Err(format!("{name}: {elsewhere} of {count}"));
            }
        }
        Ok(field.record.now() - struck)
    });
    match seen {
        Ok(took) => Ok(Some(took)),
        Err(why) if why == "interrupted" => Err(why),
        Err(why) => {
            field.record.breach("I9", format!("{} gone: {why}", lost.join(", ")));
            Ok(None)
        }
    }
}

/// A worker's machine goes down and is there again before anybody misses it: each of its tasks is
/// replaced, or restarted, once.
///
/// # Errors
/// The machine refuses, or it does not heal.
pub fn reboot(field: &mut Field, _: Span) -> Result<Struck, String> {
    let host = format!("w{}", 1 + field.below(u64::from(field.shape.workers)));
    let before = anchors(field)?;
    let lost = before.values().filter(|t| t.host == host && t.status == "RUNNING").count();
    let struck = field.record.now();
    field.cluster.crash(&host);
    field.cluster.start(&host);
    let healed = field.record.now();
    heal::well(field)?;
    let after = anchors(field)?;
    let new = after.keys().filter(|arn| !before.contains_key(*arn)).count();
    if new > lost {
        let what = format!("{host} with {lost} tasks was rebooted, and {new} took their places");
        field.record.breach("I7", what);
    }
    let what = format!("reboot of {host}: {lost} tasks of anchors, {new} new ones");
    Ok(Struck { what, struck, healed, replaced: None })
}

/// All tasks of anchors that the leader has rows of.
fn anchors(field: &Field) -> Result<BTreeMap<String, SeenTask>, String> {
    let mut tasks = field.leaders_tasks()?;
    let groups = ANCHORS.map(|(name, _)| format!("service:{name}"));
    tasks.retain(|_, task| groups.contains(&task.group));
    Ok(tasks)
}

/// An agent stands still, for less than its lease or for more, and goes on where it was.
///
/// # Errors
/// The machine refuses.
pub fn agent_pause(field: &mut Field, span: Span) -> Result<Struck, String> {
    let workers = u64::from(field.shape.workers + field.shape.simulated);
    let host = format!("w{}", 1 + field.below(workers));
    let time = if field.turn().is_multiple_of(2) { Duration::from_secs(2) } else { span.longest };
    let struck = field.record.now();
    signal(field, &host, Signal::SIGSTOP)?;
    let waited = field.last(time);
    signal(field, &host, Signal::SIGCONT)?;
    waited?;
    let what = format!("SIGSTOP of the agent of {host} for {:.1} s", time.as_secs_f32());
    Ok(Struck { what, struck, healed: field.record.now(), replaced: None })
}
