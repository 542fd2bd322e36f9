//! Faults of containers and of what makes them: too little memory, too many processes, processes
//! that nobody reaps, and a runc that hangs or fails.
//!
//! What the cluster says of such a task must be what happened to it; its neighbours must not
//! notice.

use super::{Span, Struck, anchored};
use crate::campaign::field::Field;
use crate::campaign::{heal, kernel};
use muster_proto::pb;
use pb::ecs_client::EcsClient;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

/// How long tasks that eat memory may live.
const STOPPED_WITHIN: Duration = Duration::from_secs(30);
const ROOM_WITHIN: Duration = Duration::from_secs(30);
/// How long starting may take, and ending what was told to stop.
const DONE_WITHIN: Duration = Duration::from_secs(30);
/// Most processes of one container (`node/agent`'s limit): a bomb must stay below it.
const PROCESSES_MAX: usize = 4096;
/// How long a fork bomb goes off.
const BOMB: Duration = Duration::from_secs(4);
/// As many tasks as one call runs: they are spread over all workers, so some are on real ones.
const MANY: i32 = 10;

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
    let arns = run(field, "hungry", MANY)?;
    let stopped = stopped(field, &arns)?;
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
    stop(field, arns)?;
    let what = format!("{} tasks beyond their memory, killed by the kernel", stopped.len());
    Ok(Struck { what, struck, healed: field.record.now(), replaced: None })
}

/// A container that forks without end, and one that leaves dead children unreaped, in turn.
///
/// # Errors
/// The cluster refuses to run them, or does not stop them.
pub fn processes(field: &mut Field, _: Span) -> Result<Struck, String> {
    let bomb = "f() { f | f & }; f; sleep 100";
    let zombies = "for n in $(seq 200); do (sleep 0.2 &); done; exec sleep 100000";
    let (name, script) = match field.turn() % 2 {
        0 => ("fork bomb", bomb),
        _ => ("200 zombies", zombies),
    };
    let shell = serde_json::json!(["/bin/busybox", "sh", "-c", script]);
    let family = format!("processes{}", field.turn() % 2);
    field.cluster.register(&family, serde_json::json!({ "command": shell, "memory": 24 }));
    let before = anchored(field)?;
    let struck = field.record.now();
    let arns = run(field, &family, 4)?;
    let ids: BTreeSet<_> = arns.iter().filter_map(|arn| arn.rsplit('/').next()).collect();
    let most = std::cell::Cell::new(0);
    let end = std::time::Instant::now() + BOMB;
    while std::time::Instant::now() < end {
        let running = kernel::running(field.cluster.lab.prefix());
        let ours = running.values().flatten().filter(|(task, _)| ids.contains(task.as_str()));
        most.set(ours.map(|(_, processes)| processes.len()).max().unwrap_or(0).max(most.get()));
        field.last(Duration::from_millis(100))?;
    }
    if most.get() > PROCESSES_MAX {
        field.record.breach("I6", format!("a container had {} processes", most.get()));
    }
    let owned: Vec<_> = ids.iter().map(|id| (*id).to_owned()).collect();
    stop(field, arns.clone())?;
    field.until("its processes are gone", DONE_WITHIN, || {
        let running = kernel::running(field.cluster.lab.prefix());
        let left: usize = running.values().flatten().filter(|(t, _)| owned.contains(t)).count();
        if left == 0 { Ok(()) } else { Err(format!("{left} tasks have processes")) }
    })?;
    disturbed(field, &before, name)?;
    let what = format!("{name} in 4 tasks: at most {} processes in one, then stopped", most.get());
    Ok(Struck { what, struck, healed: field.record.now(), replaced: None })
}

/// A worker's runc hangs, or fails, while tasks are to start there; in turn.
///
/// # Errors
/// The machine refuses, or nothing starts once runc works again.
pub fn runc(field: &mut Field, span: Span) -> Result<Struck, String> {
    let host = format!("w{}", 1 + field.below(u64::from(field.shape.workers)));
    let hang = field.turn().is_multiple_of(2);
    let (wrapper, file) = wrap(field, &host)?;
    field.set_config(&host, "runtime", &wrapper.to_string_lossy())?;
    field.cluster.kill(&host);
    field.cluster.start(&host);
    heal::well(field)?;
    let stays = "trap 'exit 0' TERM; sleep 100000 & wait";
    let shell = serde_json::json!(["/bin/busybox", "sh", "-c", stays]);
    field.cluster.register("behind-runc", serde_json::json!({ "command": shell, "memory": 16 }));
    let before = anchored(field)?;
    let struck = field.record.now();
    super::say(&file, if hang { "hang" } else { "fail" })?;
    let arns = run(field, "behind-runc", MANY)?;
    let waited = field.last(span.longest.min(Duration::from_secs(6)));
    let during = described(field, &arns)?;
    super::say(&file, "")?;
    waited?;
    let there: Vec<_> = during.iter().filter(|task| task.instance_name == host).collect();
    let untrue = there.iter().filter(|task| task.last_status == "RUNNING").count();
    if untrue > 0 {
        let what = format!("{untrue} tasks are RUNNING on {host} although runc made none");
        field.record.breach("I8", what);
    }
    let elsewhere = during.iter().filter(|t| t.instance_name != host);
    let late = elsewhere.filter(|task| task.last_status != "RUNNING").count();
    if late > 0 {
        field.record.breach("I9", format!("runc of {host} is broken: {late} tasks elsewhere wait"));
    }
    let settled = settle(field, &host, &arns, hang)?;
    stop(field, arns)?;
    disturbed(field, &before, "a broken runc")?;
    field.set_config(&host, "runtime", "runc")?;
    field.cluster.kill(&host);
    field.cluster.start(&host);
    let how = if hang { "hangs" } else { "fails" };
    let what = format!("runc of {host} {how}: {} tasks behind it, {settled}", there.len());
    Ok(Struck { what, struck, healed: field.record.now(), replaced: None })
}

/// Tasks behind a runc that hung run once it goes on; those behind one that failed say so.
fn settle(field: &Field, host: &str, arns: &[String], hang: bool) -> Result<&'static str, String> {
    field.until("what was behind runc is settled", DONE_WITHIN, || {
        let tasks = described(field, arns)?;
        let mut there = tasks.iter().filter(|task| task.instance_name == host);
        let settled = |task: &&pb::Task| match hang {
            true => task.last_status == "RUNNING",
            false => task.last_status == "STOPPED",
        };
        match there.find(|task| !settled(task)) {
            None => Ok(()),
            Some(task) => Err(format!("{} is {}", task.task_arn, task.last_status)),
        }
    })?;
    if hang {
        return Ok("which ran once it went on");
    }
    let tasks = described(field, arns)?;
    for task in tasks.iter().filter(|task| task.instance_name == host) {
        let mut reasons = task.containers.iter().map(|container| &container.reason);
        if !reasons.any(|reason| reason.contains("broken on purpose"))
            && !task.stopped_reason.contains("broken on purpose")
        {
            let what = format!("{} stopped and does not say what runc said", task.task_arn);
            field.record.breach("I8", what);
        }
    }
    Ok("which stopped with what runc said")
}

/// A script in front of runc, and the file that tells it what to do.
fn wrap(field: &Field, host: &str) -> Result<(PathBuf, PathBuf), String> {
    use std::os::unix::fs::PermissionsExt;
    let path = field.cluster.path(host);
    let (wrapper, file) = (path.join("runc"), path.join("runc.mode"));
    super::say(&file, "")?;
    let script = format!(
        "#!/bin/sh\n# runc, but `create` hangs or fails while a file says so.\n\
         mode() {{ cat {file}; }}\n\
         case \" $* \" in *' create '*)\n\
         \x20   if [ \"$(mode)\" = fail ]; then\n\
         \x20       log=${{*#*--log }}\n\
         \x20       echo '{{\"level\":\"error\",\"msg\":\"broken on purpose\"}}' >>\"${{log%% *}}\"\n\
         \x20       exit 1\n\
         \x20   fi\n\
         \x20   while [ \"$(mode)\" = hang ]; do sleep 0.1; done ;;\nesac\nexec runc \"$@\"\n",
        file = file.display()
    );
    let made = std::fs::write(&wrapper, script)
        .and_then(|()| std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)));
    made.map_err(|error| format!("{}: {error}", wrapper.display()))?;
    Ok((wrapper, file))
}

/// The anchors' containers that were there are there still.
fn disturbed(
    field: &Field,
    before: &BTreeMap<String, BTreeSet<kernel::Process>>,
    by: &str,
) -> Result<(), String> {
    let after = anchored(field)?;
    for (task, processes) in before {
        if after.get(task).is_none_or(|now| now.is_disjoint(processes)) {
            field.record.breach("I8", format!("{by} ended task {task} of an anchor"));
        }
    }
    Ok(())
}

/// Runs tasks, as many as asked for once there is room; their ARNs.
pub fn run(field: &Field, family: &str, count: i32) -> Result<Vec<String>, String> {
    let mut arns = Vec::new();
    field.until("tasks are run", ROOM_WITHIN, || {
        let missing = count - i32::try_from(arns.len()).unwrap_or(count);
        let answer = ask_for(field, family, missing)?;
        arns.extend(answer.tasks.into_iter().map(|task| task.task_arn));
        match answer.failures.first() {
            Some(failure) => Err(format!("{}: {}", failure.reason, failure.detail)),
            None => Ok(()),
        }
    })?;
    Ok(arns)
}

fn ask_for(field: &Field, family: &str, count: i32) -> Result<pb::RunTaskResponse, String> {
    let door = field.door(0)?;
    let task_definition = family.to_owned();
    field.ask(async move {
        let request = pb::RunTaskRequest { task_definition, count, ..Default::default() };
        let call = async |channel, request| EcsClient::new(channel).run_task(request).await;
        door.write(request, call).await.map_err(|error| error.to_string())
    })
}

/// Stops tasks.
pub fn stop(field: &Field, arns: Vec<String>) -> Result<(), String> {
    let door = field.door(0)?;
    field.ask(async move {
        for task in arns {
            let request = pb::StopTaskRequest { task, ..Default::default() };
            let call = async |channel, request| EcsClient::new(channel).stop_task(request).await;
            door.write(request, call).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    })
}

pub fn described(field: &Field, arns: &[String]) -> Result<Vec<pb::Task>, String> {
    let (door, tasks) = (field.door(0)?, arns.to_vec());
    let answer = field.ask(async move {
        let request = pb::DescribeTasksRequest { tasks, ..Default::default() };
        let call = async |channel, request| EcsClient::new(channel).describe_tasks(request).await;
        door.read(request, call).await.map_err(|error| error.to_string())
    })?;
    Ok(answer.tasks)
}

/// Those of some tasks that were placed on workers with real containers, once all have stopped.
pub fn stopped(field: &Field, arns: &[String]) -> Result<Vec<pb::Task>, String> {
    let real: BTreeSet<_> = (1..=field.shape.workers).map(|number| format!("w{number}")).collect();
    field.until("tasks that cannot run stop", STOPPED_WITHIN, || {
        let tasks = described(field, arns)?;
        let real: Vec<_> =
            tasks.into_iter().filter(|task| real.contains(&task.instance_name)).collect();
        let live = real.iter().filter(|task| task.last_status != "STOPPED").count();
        match real.is_empty() || live > 0 {
            true => Err(format!("{live} of {} live", real.len())),
            false => Ok(real),
        }
    })
}
