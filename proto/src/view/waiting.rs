//! Why a task is not placed, in words and in ECS's reason codes.

use crate::arn::{Arns, name_of};
use crate::pb;
use muster_model::spec::Named;
use muster_model::task::{Blocker, Shortfall, Waiting};
use muster_model::{InstanceId, Query, State, Task};

/// ECS's text for a cluster without instances.
const NO_INSTANCES: &str = "No Container Instances were found in your cluster.";

/// One line: how many instances each filter removed, largest first, and the nearest miss.
pub fn waiting(state: &State, task: &Task, why: &Waiting) -> String {
    if why.instances == 0 {
        return NO_INSTANCES.into();
    }
    format!(
        "no container instance fits ({} in the cluster){}",
        why.instances,
        removed(state, task, why)
    )
}

/// `: 3 short of memory, 2 not connected; nearest: ...`; empty if nothing was removed.
pub(super) fn removed(state: &State, task: &Task, why: &Waiting) -> String {
    let lacks =
        |(blocker, count): &(Blocker, u32)| format!("{count} {}", lacking(state, task, *blocker));
    let removed: Vec<String> = why.removed.iter().map(lacks).collect();
    let mut text = String::new();
    if !removed.is_empty() {
        text.push_str(&format!(": {}", removed.join(", ")));
    }
    if let Some((instance, shortfall)) = &why.nearest {
        let missing = short(state, task, shortfall);
        text.push_str(&format!("; nearest: {} {missing}", named(state, *instance)));
    }
    text
}

/// What instances are that a filter removed.
fn lacking(state: &State, task: &Task, blocker: Blocker) -> String {
    match blocker {
        Blocker::MemberOf(number) => {
            let query = state.members_of(task).nth(usize::from(number));
            let query = query.map_or("of the task", Query::text);
            format!("outside memberOf \"{query}\"")
        }
        Blocker::Resource(_) => {
            let code = state.code(task, blocker);
            format!("short of {}", code.trim_start_matches("RESOURCE:"))
        }
        Blocker::Inactive => "draining or deregistered".into(),
        Blocker::Agent => "not connected".into(),
        Blocker::Cpu => "short of cpu".into(),
        Blocker::Memory => "short of memory".into(),
        Blocker::Ports => "with a wanted host port taken".into(),
        Blocker::Constraint => "with a task of the same group (distinctInstance)".into(),
        Blocker::Skew => "where the spread would exceed its maxSkew".into(),
        Blocker::Reserve => "in zones whose reserve is kept free of growth".into(),
    }
}

fn named(state: &State, id: InstanceId) -> String {
    match state.instance(id) {
        Some(row) => format!("{} ({id})", row.spec.hostname),
        None => id.to_string(),
    }
}

fn short(state: &State, task: &Task, shortfall: &Shortfall) -> String {
    match shortfall {
        Shortfall::Rule(blocker) => format!("is {}", lacking(state, task, *blocker)),
        Shortfall::Cpu { wanted, free } => format!("has {free} cpu units free, {wanted} wanted"),
        Shortfall::MemoryMib { wanted, free } => format!("has {free} MiB free, {wanted} wanted"),
        Shortfall::Port { port } => format!("has host port {port} taken"),
        Shortfall::Named { name, wanted, free } => {
            format!("has {free} {name} free, {wanted} wanted")
        }
        Shortfall::Reserve { cpu, memory_mib } => {
            format!(
                "is in a zone that lacks {cpu} cpu units and {memory_mib} MiB beyond its reserve"
            )
        }
    }
}

/// RunTask's failure for a task that found no place: the nearest instance and ECS's reason.
/// `None` if nothing is known yet.
pub fn placement_failure(state: &State, task: &Task) -> Option<pb::Failure> {
    let why = task.waiting.as_deref()?;
    let reason = match (&why.nearest, why.removed.first()) {
        (Some((_, Shortfall::Cpu { .. })), _) => "RESOURCE:CPU".into(),
        (Some((_, Shortfall::MemoryMib { .. })), _) => "RESOURCE:MEMORY".into(),
        (Some((_, Shortfall::Port { .. })), _) => "RESOURCE:PORTS".into(),
        (Some((_, Shortfall::Named { name, .. })), _) => format!("RESOURCE:{name}"),
        (Some((_, Shortfall::Reserve { cpu: 0, .. })), _) => "RESOURCE:MEMORY".into(),
        (Some((_, Shortfall::Reserve { .. })), _) => "RESOURCE:CPU".into(),
        (Some((_, Shortfall::Rule(blocker))), _) => state.code(task, *blocker),
        // Written by an earlier release.
        (None, Some((blocker, _))) => state.code(task, *blocker),
        (None, None) => "RESOURCE".into(),
    };
    let cluster = name_of(state, task.cluster);
    let arn = match why.nearest {
        Some((instance, _)) => Arns::of(state).instance(&cluster, instance),
        None => String::new(),
    };
    Some(pb::Failure { arn, reason, detail: waiting(state, task, why) })
}

/// StartTask's failure for an instance that took no task, which wanted these named resources.
pub fn refusal(arn: impl Into<String>, blocker: Blocker, wanted: &Named) -> pb::Failure {
    pb::Failure { arn: arn.into(), reason: blocker.code_for(wanted), detail: String::new() }
}
