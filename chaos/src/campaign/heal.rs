//! What must hold once a fault is over: I9 soon, I8 within a minute, I2 always.
//!
//! Each limit is the promise's; a wait goes on beyond it, so that slow is told from never.

use super::field::Field;
use super::workload::{ANCHORS, COUNTERS, Wanted};
use super::{intruder, kernel, resuming};
use muster_proto::pb;
use pb::ecs_client::EcsClient;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const LEADER_WITHIN: Duration = Duration::from_secs(3);
const DESIRED_WITHIN: Duration = Duration::from_secs(30);
const ORPHANS_WITHIN: Duration = Duration::from_secs(60);
/// After this, what has not healed will not.
const NEVER: Duration = Duration::from_secs(60);
/// Until the last reports are applied everywhere, with the workload at rest.
const QUIET_WITHIN: Duration = Duration::from_secs(20);

/// I9: a leader, all managers, all agents, all desired tasks.
///
/// # Errors
/// It does not heal at all: the campaign cannot go on.
pub fn well(field: &Field) -> Result<(), String> {
    let began = Instant::now();
    let within = |limit: Duration, what: &str| {
        let took = began.elapsed();
        if took > limit {
            let (took, limit) = (took.as_secs_f32(), limit.as_secs());
            field.record.breach("I9", format!("{what} after {took:.1} s; promised: {limit} s"));
        }
    };
    field.until("one manager leads", NEVER, || field.leader().ok_or_else(|| "none".into()))?;
    within(LEADER_WITHIN, "one manager leads");
    field.until("all managers have caught up", NEVER, || caught_up(field))?;
    let agents = field.shape.workers + field.shape.simulated;
    field.until("all agents are connected", NEVER, || connected(field, agents))?;
    within(DESIRED_WITHIN, "all agents are connected");
    field.until("all desired tasks run", NEVER, || desired(field))?;
    within(DESIRED_WITHIN, "all desired tasks run");
    Ok(())
}

/// Every manager follows one leader and has applied all but what is under way.
fn caught_up(field: &Field) -> Result<(), String> {
    let statuses = field.statuses();
    let there: Vec<_> = statuses.iter().flatten().collect();
    let leaders: BTreeSet<_> = there.iter().map(|status| status.leader).collect();
    let newest = there.iter().map(|s| s.applied_index).max().unwrap_or(0);
    let oldest = there.iter().map(|s| s.applied_index).min().unwrap_or(0);
    let all = there.len() == field.managers.len();
    match all && leaders.len() == 1 && newest - oldest < 200 {
        true => Ok(()),
        false => Err(format!("{} answer, leaders {leaders:?}, {oldest}..{newest}", there.len())),
    }
}

/// So many agents hold their leases.
///
/// # Errors
/// How many do, if fewer.
pub fn connected(field: &Field, wanted: u32) -> Result<(), String> {
    let connected = instances(field)?.iter().filter(|i| i.agent_connected).count();
    match connected >= wanted as usize {
        true => Ok(()),
        false => Err(format!("{connected} of {wanted}")),
    }
}

/// All container instances.
///
/// # Errors
/// No manager answers.
pub fn instances(field: &Field) -> Result<Vec<pb::ContainerInstance>, String> {
    let door = field.door(0)?;
    field.ask(async move {
        let text = |error: muster_model::Error| error.to_string();
        let list = async |channel, request| {
            EcsClient::new(channel).list_container_instances(request).await
        };
        let request = pb::ListContainerInstancesRequest::default();
        let arns = door.read(request, list).await.map_err(text)?.container_instance_arns;
        let describe = async |channel, request| {
            EcsClient::new(channel).describe_container_instances(request).await
        };
        let request = pb::DescribeContainerInstancesRequest {
            container_instances: arns,
            ..Default::default()
        };
        Ok(door.read(request, describe).await.map_err(text)?.container_instances)
    })
}

/// Every anchor has as many running tasks as are desired.
pub fn desired(field: &Field) -> Result<(), String> {
    for (name, count) in ANCHORS {
        let service = field.service(name)?;
        if service.running_count != count {
            return Err(format!("{name}: {} of {count} run", service.running_count));
        }
    }
    Ok(())
}

/// Once per row: no orphans, equal states, nothing lost, nothing left out of a watch, no secret
/// told.
///
/// # Errors
/// The campaign is interrupted, or a question cannot be asked.
pub fn batch(field: &Field) -> Result<(), String> {
    orphans(field)?;
    field.stop.rest(true);
    let quiet = equal_states(field).and_then(|()| resuming::complete(field));
    let kept = acknowledged(field);
    field.stop.rest(false);
    intruder::look(field);
    quiet.and(kept)
}

/// I8, by the kernel's word.
fn orphans(field: &Field) -> Result<(), String> {
    let gone = field.until("no orphan runs", ORPHANS_WITHIN, || match field.orphans()? {
        none if none.is_empty() => Ok(()),
        some => Err(some.join(", ")),
    });
    field.record.count("I8 checks", 1);
    match gone {
        Err(why) if why == "interrupted" => Err(why),
        Err(why) => {
            field.record.breach("I8", why);
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// I2: with the workload at rest, all managers come to one index and one hash.
fn equal_states(field: &Field) -> Result<(), String> {
    let look = || {
        let statuses = field.statuses_with(pb::RaftStatusRequest { state_hash: true });
        let states: BTreeMap<u64, BTreeSet<String>> =
            statuses.iter().flatten().fold(BTreeMap::new(), |mut states, status| {
                let hashes: &mut BTreeSet<_> = states.entry(status.applied_index).or_default();
                hashes.insert(status.state_hash.clone());
                states
            });
        let there = statuses.iter().flatten().count();
        match states.len() == 1 && there == field.managers.len() {
            true => Ok(states),
            false => Err(format!("{there} managers at {states:?}")),
        }
    };
    match field.until("all managers have one state", QUIET_WITHIN, look) {
        Ok(states) => {
            field.record.count("I2 states compared", 1);
            for (index, hashes) in states.iter().filter(|(_, hashes)| hashes.len() > 1) {
                field.record.breach("I2", format!("at index {index} the states are {hashes:?}"));
            }
            Ok(())
        }
        Err(why) if why == "interrupted" => Err(why),
        Err(why) => {
            field.record.breach("I9", why);
            Ok(())
        }
    }
}

/// I2: what was acknowledged is there.
fn acknowledged(field: &Field) -> Result<(), String> {
    // Calls that were under way when the rest began are answered or given up by now; what they
    // asked for is taken first, what is there is read after.
    let (counters, services) = (field.promised.counters(), field.promised.services());
    let (door, names) = (field.door(0)?, services.keys().cloned().collect::<Vec<_>>());
    let (tags, rows) = field.ask(async move {
        let text = |error: muster_model::Error| error.to_string();
        let request = pb::DescribeClustersRequest {
            clusters: vec![COUNTERS.into()],
            include: vec!["TAGS".into()],
            ..Default::default()
        };
        let describe =
            async |channel, request| EcsClient::new(channel).describe_clusters(request).await;
        let clusters = door.read(request, describe).await.map_err(text)?.clusters;
        let tags = clusters.into_iter().flat_map(|cluster| cluster.tags);
        let tags: BTreeMap<_, _> = tags.map(|tag| (tag.key, tag.value)).collect();
        let mut rows = BTreeMap::new();
        for some in names.chunks(10) {
            let request =
                pb::DescribeServicesRequest { services: some.to_vec(), ..Default::default() };
            let describe =
                async |channel, request| EcsClient::new(channel).describe_services(request).await;
            for row in door.read(request, describe).await.map_err(text)?.services {
                rows.insert(row.service_name.clone(), row);
            }
        }
        Ok((tags, rows))
    })?;
    for (key, (acknowledged, _)) in counters {
        let found = tags.get(&key).and_then(|value| value.parse().ok()).unwrap_or(0u64);
        field.record.count("I2 counters checked", 1);
        if found < acknowledged {
            let what = format!("{key}: {acknowledged} was acknowledged, {found} is there");
            field.record.breach("I2", what);
        }
    }
    // What changed while it was read is the next row's matter.
    let still = field.promised.services();
    for (name, wanted) in services.iter().filter(|(name, w)| still.get(*name) == Some(w)) {
        field.record.count("I2 services checked", 1);
        let row = rows.get(name);
        let kept = match (wanted, row) {
            (Wanted::Desired(count), Some(row)) => {
                row.status == "ACTIVE" && row.desired_count == *count
            }
            (Wanted::Deleted, row) => row.is_none_or(|row| row.status != "ACTIVE"),
            (Wanted::Desired(_), None) => false,
        };
        if !kept {
            let found = row.map(|row| (row.status.clone(), row.desired_count));
            let what = format!("service {name}: {wanted:?} was acknowledged, {found:?} is there");
            field.record.breach("I2", what);
        }
    }
    Ok(())
}

/// Tasks in the ledgers of all agents with real containers.
fn ledgers(field: &Field) -> BTreeSet<String> {
    let hosts = (1..=field.shape.workers).map(|number| format!("w{number}"));
    let data = hosts.map(|host| field.cluster.path(&host).join("data"));
    data.flat_map(|data| kernel::ledger(&data)).collect()
}

/// The kernel's word on I7 and I8: what runs, runs once, and its agent knows of it. And I3: whom
/// the agents obeyed.
pub fn kernel_holds(field: &Field, obeyed: &mut BTreeMap<String, (u64, u64)>) {
    // Before and after: what begins or ends meanwhile is in one of them.
    let mut ledgers = ledgers(field);
    let running = kernel::running(field.cluster.lab.prefix());
    ledgers.extend(self::ledgers(field));
    let mut where_ = BTreeMap::new();
    for (instance, tasks) in running {
        for task in tasks.into_keys() {
            field.record.count("I8 containers in a ledger", 1);
            if !ledgers.contains(&task) {
                let what = format!("{instance}/{task} runs and no agent's ledger has it");
                field.record.breach("I8", what);
            }
            if let Some(other) = where_.insert(task.clone(), instance.clone()) {
                let what = format!("task {task} runs on {other} and on {instance}");
                field.record.breach("I7", what);
            }
        }
    }
    for number in 1..=field.shape.workers + field.shape.simulated {
        let host = format!("w{number}");
        let Some(new) = kernel::obeyed(&field.cluster.path(&host).join("data")) else { continue };
        let old = obeyed.insert(host.clone(), new).unwrap_or_default();
        field.record.count("I3 looks", 1);
        if new < old {
            field.record.breach("I3", format!("{host} obeyed {new:?} after {old:?}"));
        }
    }
}
