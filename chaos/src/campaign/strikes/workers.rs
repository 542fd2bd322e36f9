//! Faults of workers: the agent killed, the whole machine gone.

use super::{Span, Struck};
use crate::campaign::field::Field;
use crate::campaign::kernel;
use crate::campaign::workload::ANCHORS;
use muster_proto::pb;
use pb::ecs_client::EcsClient;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long a lost worker's tasks are waited for.
const REPLACED_WITHIN: Duration = Duration::from_secs(40);
/// How long tasks that eat memory may live.
const STOPPED_WITHIN: Duration = Duration::from_secs(30);

/// Processes of the anchors' tasks, which nobody has asked to stop: by task.
fn anchored(field: &Field) -> Result<BTreeMap<String, BTreeSet<kernel::Process>>, String> {
    let tasks = field.tasks().ok_or("no leader's rows are at hand")?;
    let anchors: BTreeSet<String> =
        ANCHORS.iter().map(|(name, _)| format!("service:{name}")).collect();
    let ids: BTreeSet<_> = tasks
        .iter()
        .filter(|(_, row)| anchors.contains(&row.group) && row.status == "RUNNING")
        .filter_map(|(arn, _)| arn.rsplit('/').next().map(str::to_owned))
        .collect();
    let running = kernel::running(field.cluster.lab.prefix());
    Ok(running.into_values().flatten().filter(|(task, _)| ids.contains(task)).collect())
}

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
    let replaced = field.until("its tasks run elsewhere", REPLACED_WITHIN, || {
        let tasks = field.tasks().ok_or("no leader's rows are at hand")?;
        for (name, count) in ANCHORS {
            let group = format!("service:{name}");
            let running = tasks.values().filter(|t| t.group == group && t.status == "RUNNING");
            let elsewhere = running.filter(|task| task.host != host).count();
            if elsewhere < usize::try_from(count).unwrap_or(0) {
                return Err(format!("{name}: {elsewhere} of {count}"));
            }
        }
        Ok(field.record.now() - struck)
    });
    field.cluster.start(&host);
    let healed = field.record.now();
    let replaced = match replaced {
        Ok(took) => Some(took),
        Err(why) if why == "interrupted" => return Err(why),
        Err(why) => {
            field.record.breach("I9", format!("{host} is gone: {why}"));
            None
        }
    };
    let what = format!("crash of {host}: every process at once");
    Ok(Struck { what, struck, healed, replaced })
}

/// Tasks take more memory than they may have: the kernel kills those with real containers, and
/// their status says so.
///
/// # Errors
/// The cluster refuses to run them.
pub fn out_of_memory(field: &mut Field, _: Span) -> Result<Struck, String> {
    let hungry =
        serde_json::json!({ "command": ["/bin/busybox", "tail", "/dev/zero"], "memory": 16 });
    field.cluster.register("hungry", hungry);
    let struck = field.record.now();
    let arns = hungry_tasks(field)?;
    let real: BTreeSet<_> = (1..=field.shape.workers).map(|number| format!("w{number}")).collect();
    let stopped = field.until("tasks without memory stop", STOPPED_WITHIN, || {
        let tasks = described(field, &arns)?;
        let real: Vec<_> =
            tasks.into_iter().filter(|task| real.contains(&task.instance_name)).collect();
        let live = real.iter().filter(|task| task.last_status != "STOPPED").count();
        match real.is_empty() || live > 0 {
            true => Err(format!("{live} of {} live", real.len())),
            false => Ok(real),
        }
    })?;
    for task in &stopped {
        for container in &task.containers {
            let (code, reason) = (container.exit_code, &container.reason);
            if code != Some(137) || !reason.contains("OutOfMemory") {
                let what = format!("{} was OOM-killed: exit {code:?}, {reason:?}", task.task_arn);
                field.record.breach("I8", what);
            }
        }
    }
    // Those that only pretend to run have no memory to run out of.
    let door = field.door(0)?;
    field.ask(async move {
        for task in arns {
            let request = pb::StopTaskRequest { task, ..Default::default() };
            let call = async |channel, request| EcsClient::new(channel).stop_task(request).await;
            door.write(request, call).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    })?;
    let what = format!("{} tasks beyond their memory, killed by the kernel", stopped.len());
    Ok(Struck { what, struck, healed: field.record.now(), replaced: None })
}

/// As many as one call runs; they are spread over all workers, so some are on real ones.
fn hungry_tasks(field: &Field) -> Result<Vec<String>, String> {
    let door = field.door(0)?;
    field.ask(async move {
        let request = pb::RunTaskRequest {
            task_definition: "hungry".into(),
            count: 10,
            ..Default::default()
        };
        let call = async |channel, request| EcsClient::new(channel).run_task(request).await;
        let answer = door.write(request, call).await.map_err(|error| error.to_string())?;
        Ok(answer.tasks.into_iter().map(|task| task.task_arn).collect())
    })
}

fn described(field: &Field, arns: &[String]) -> Result<Vec<pb::Task>, String> {
    let (door, tasks) = (field.door(0)?, arns.to_vec());
    let answer = field.ask(async move {
        let request = pb::DescribeTasksRequest { tasks, ..Default::default() };
        let call = async |channel, request| EcsClient::new(channel).describe_tasks(request).await;
        door.read(request, call).await.map_err(|error| error.to_string())
    })?;
    Ok(answer.tasks)
}
