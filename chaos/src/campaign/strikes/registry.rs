//! Faults of the registry: gone, unwilling, slow, and one that serves other bytes than it names.
//!
//! What a worker has goes on starting; what is not what its digest says never starts.

use super::runtime::{described, run, stop, stopped};
use super::{Span, Struck};
use crate::campaign::field::Field;
use crate::campaign::workload::LONG;
use muster_proto::pb;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long tasks may take to start from images that are on the workers.
const STARTED_WITHIN: Duration = Duration::from_secs(25);
/// As many as one call runs, so that some are on workers with real containers.
const MANY: i32 = 10;
/// Packets a second that a slow registry sends: an image of 1 MB takes seconds.
const SLOW_PACKETS: &str = "25/second";

/// In turn: gone, asking for a password, slow, flipped bytes in a layer, another layer's bytes.
///
/// # Errors
/// The registry does not start again, or the machine refuses.
pub fn registry(field: &mut Field, _: Span) -> Result<Struck, String> {
    match field.turn() % 5 {
        0 => gone(field),
        1 => false_bytes(field, false),
        2 => locked(field),
        3 => slow(field),
        _ => false_bytes(field, true),
    }
}

/// The registry does not answer: what is on the workers goes on starting.
fn gone(field: &mut Field) -> Result<Struck, String> {
    let struck = field.record.now();
    field.cluster.registry.stop();
    let arns = run(field, LONG, MANY)?;
    let started = running(field, &arns);
    let (lab, registry) = (&field.cluster.lab, &mut field.cluster.registry);
    registry.start_again(lab);
    stop(field, arns)?;
    if let Err(why) = started {
        field.record.breach("I9", format!("the registry is gone: {why}"));
    }
    let what = format!("registry gone while {MANY} tasks with a known image start");
    Ok(Struck { what, struck, healed: field.record.now(), replaced: None })
}

/// The registry lets nobody in: what one may no longer see does not start from a copy either, and
/// says so; once the registry lets in again, it starts.
fn locked(field: &mut Field) -> Result<Struck, String> {
    let struck = field.record.now();
    field.cluster.registry.stop();
    let (lab, registry) = (&field.cluster.lab, &mut field.cluster.registry);
    registry.start_locked(lab);
    let arns = run(field, LONG, MANY)?;
    let seen = stopped(field, &arns);
    field.cluster.registry.stop();
    let (lab, registry) = (&field.cluster.lab, &mut field.cluster.registry);
    registry.start_again(lab);
    let refused = refused(field, seen, "CannotPullContainerAuth")?;
    stop(field, arns)?;
    again(field, LONG)?;
    let what = format!("registry answers 401: {refused} tasks refused and say so, then started");
    Ok(Struck { what, struck, healed: field.record.now(), replaced: None })
}

/// All of some tasks run.
fn running(field: &Field, arns: &[String]) -> Result<(), String> {
    field.until("tasks start", STARTED_WITHIN, || {
        let tasks = described(field, arns)?;
        let waits = tasks.iter().find(|task| task.last_status != "RUNNING");
        waits.map_or(Ok(()), |task| Err(format!("{} is {}", task.task_arn, task.last_status)))
    })
}

/// With the registry as it should be, tasks of a family run.
fn again(field: &Field, family: &str) -> Result<(), String> {
    let arns = run(field, family, 4)?;
    let started = running(field, &arns);
    stop(field, arns)?;
    match started {
        Err(why) if why == "interrupted" => Err(why),
        Err(why) => {
            field.record.breach("I9", format!("once the registry is well: {why}"));
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// Tasks that could not start say why, and did not start; how many.
fn refused(
    field: &Field,
    seen: Result<Vec<pb::Task>, String>,
    because: &str,
) -> Result<usize, String> {
    let seen = match seen {
        Err(why) if why == "interrupted" => return Err(why),
        Err(why) => {
            field.record.breach("I9", format!("{because}: {why}"));
            Vec::new()
        }
        Ok(seen) => seen,
    };
    for task in &seen {
        let reasons: Vec<_> = task.containers.iter().map(|c| c.reason.clone()).collect();
        let told = format!("{} {}", task.stopped_reason, reasons.join(" "));
        if !told.contains(because) {
            let what = format!("{} says {told:?}, not {because}", task.task_arn);
            field.record.breach("I8", what);
        }
        if task.containers.iter().any(|container| container.exit_code.is_some()) {
            let what = format!("{} started although {because}", task.task_arn);
            field.record.breach("I12", what);
        }
    }
    Ok(seen.len())
}

/// The registry sends so slowly that an unknown image takes seconds: its task starts all the same.
fn slow(field: &mut Field) -> Result<Struck, String> {
    let struck = field.record.now();
    let (family, _) = unknown_image(field, struck)?;
    let rules = [
        ["-m", "limit", "--limit", SLOW_PACKETS, "--limit-burst", "5", "-j", "ACCEPT"].as_slice(),
        ["-j", "DROP"].as_slice(),
    ];
    let all = |verb: &str| {
        for rule in rules {
            let words = ["in", "hub", "iptables", verb, "OUTPUT", "-p", "tcp", "--sport", "5000"];
            field.cluster.lab.done(&[&words[..], rule].concat());
        }
    };
    all("-A");
    let started = run(field, &family, 4).and_then(|arns| {
        let began = std::time::Instant::now();
        let seen = running(field, &arns);
        stop(field, arns)?;
        seen.map(|()| began.elapsed())
    });
    all("-D");
    let what = match started {
        Err(why) if why == "interrupted" => return Err(why),
        Err(why) => {
            field.record.breach("I9", why.clone());
            why
        }
        Ok(took) => format!("registry slow: 4 tasks of an unknown image ran after {took:.1?}"),
    };
    Ok(Struck { what, struck, healed: field.record.now(), replaced: None })
}

/// The registry serves other bytes than the manifest names: nothing of them may start, and the task
/// says why; once they are right, it starts.
fn false_bytes(field: &mut Field, other: bool) -> Result<Struck, String> {
    let struck = field.record.now();
    let (family, layer) = unknown_image(field, struck)?;
    let right = fs::read(&layer).map_err(|error| format!("{}: {error}", layer.display()))?;
    let wrong = if other { another(&right)? } else { flipped(&right) };
    write(&layer, &wrong)?;
    let arns = run(field, &family, 6)?;
    let seen = stopped(field, &arns);
    write(&layer, &right)?;
    let refused = refused(field, seen, "CannotPullContainer")?;
    field.record.count("tasks refused for false bytes", refused as u64);
    stop(field, arns)?;
    again(field, &family)?;
    let how = if other { "another layer's bytes" } else { "flipped bytes in a layer" };
    let what = format!("registry serves {how}: {refused} tasks refused it, then started");
    Ok(Struck { what, struck, healed: field.record.now(), replaced: None })
}

/// A definition whose image no worker has, since its layer has never been; and where the registry
/// keeps that.
fn unknown_image(field: &Field, number: u64) -> Result<(String, PathBuf), String> {
    let (lab, dir) = (&field.cluster.lab, field.cluster.dir.path());
    let (image, layer) = field.cluster.registry.push_unknown(lab, dir, number)?;
    let stays = "trap 'exit 0' TERM; sleep 100000 & wait";
    let shell = serde_json::json!(["/bin/busybox", "sh", "-c", stays]);
    let family = format!("unknown-{number}");
    let container = serde_json::json!({ "command": shell, "memory": 16, "image": image });
    field.cluster.register(&family, container);
    Ok((family, layer))
}

/// Written over in place: the registry has no copy of its own.
fn write(layer: &Path, bytes: &[u8]) -> Result<(), String> {
    fs::write(layer, bytes).map_err(|error| format!("{}: {error}", layer.display()))
}

fn flipped(right: &[u8]) -> Vec<u8> {
    let mut wrong = right.to_vec();
    let middle = wrong.len() / 2;
    wrong.iter_mut().skip(middle).take(16).for_each(|byte| *byte = !*byte);
    wrong
}

/// A sound archive of the same length, as a mirror that mixes things up would send.
fn another(right: &[u8]) -> Result<Vec<u8>, String> {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let text = |error: std::io::Error| format!("gzip: {error}");
    let mut gzip = Command::new("gzip");
    let mut child =
        gzip.arg("-nc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(text)?;
    // An archive without entries is two empty blocks.
    child.stdin.take().map_or(Ok(()), |mut input| input.write_all(&[0; 1024])).map_err(text)?;
    let mut wrong = child.wait_with_output().map_err(text)?.stdout;
    wrong.resize(right.len(), 0);
    Ok(wrong)
}
