//! Changes of the managers while they work: one added and removed, one far behind, one whose files
//! are damaged.

use super::{Span, Struck};
use crate::campaign::field::Field;
use crate::campaign::record::Micros;
use muster_proto::pb;
use pb::ecs_client::EcsClient;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A damaged manager either ends or serves within this.
const DECIDED_WITHIN: Duration = Duration::from_secs(15);
/// How old a log is that is put back.
const STALE_BY: Duration = Duration::from_secs(3);
/// Definitions written to make a log long, and the bytes of each: three times the log that is kept.
const DEFINITIONS: u32 = 150;
const DEFINITION_BYTES: usize = 40_000;

/// A fourth manager joins, gets a vote, one is killed, and the fourth is removed for good.
///
/// # Errors
/// Nobody leads, or the machine refuses.
pub fn membership(field: &mut Field, _: Span) -> Result<Struck, String> {
    let new = field.shape.managers + 1;
    let host = format!("m{new}");
    let struck = field.record.now();
    field.cluster.join_manager(new);
    field.cluster.wait_voters(new as usize);
    let victim = format!("m{}", 1 + field.below(u64::from(field.shape.managers)));
    field.cluster.kill(&victim);
    field.last(Duration::from_secs(1))?;
    field.cluster.start(&victim);
    let id = member(field, &host)?;
    field.until("the fourth is removed", Duration::from_secs(30), || {
        let asked = field.cluster.ask(&["operator", "raft", "remove", &id]);
        if asked.status.success() || member(field, &host).is_err() {
            return Ok(());
        }
        // A manager that leads is not removed: it may lead, if the one killed did.
        field.cluster.ask(&["operator", "raft", "transfer"]);
        Err(String::from_utf8_lossy(&asked.stderr).into_owned())
    })?;
    field.cluster.crash(&host);
    field.cluster.managers = field.shape.managers;
    fs::remove_dir_all(field.cluster.path(&host)).ok();
    let what = format!("{host} joined, {victim} was killed meanwhile, {host} was removed");
    Ok(Struck { what, struck, healed: field.record.now(), replaced: None })
}

/// The Raft id of a manager.
fn member(field: &Field, host: &str) -> Result<String, String> {
    let statuses = field.statuses();
    let mut members = statuses.iter().flatten().flat_map(|status| &status.members);
    let found = members.find(|member| member.name == host);
    found.map(|member| member.id.to_string()).ok_or_else(|| format!("{host} is no member"))
}

/// A follower is away for longer than the log is kept, and comes back.
///
/// # Errors
/// Nobody leads, or the machine refuses.
pub fn snapshot(field: &mut Field, _: Span) -> Result<Struck, String> {
    let leader = field.wait_leader()?;
    let number = 1 + leader % field.shape.managers;
    let host = format!("m{number}");
    let had = field.status(number).map_or(0, |status| status.applied_index);
    let struck = field.record.now();
    field.cluster.kill(&host);
    lengthen(field)?;
    let purged = field.until("the log it needs is gone", Duration::from_secs(60), || {
        let snapshot = field.statuses().iter().flatten().map(|s| s.snapshot_index).max();
        match snapshot {
            Some(index) if index > had => Ok(index),
            other => Err(format!("snapshot at {other:?}, {host} has {had}")),
        }
    });
    let received = snapshots(field, &host);
    field.cluster.start(&host);
    let at = purged?;
    field.until("it has what it missed", Duration::from_secs(30), || {
        match field.status(number).map(|status| status.applied_index) {
            Some(index) if index >= at => Ok(()),
            other => Err(format!("{other:?} of {at}")),
        }
    })?;
    let by = match snapshots(field, &host) > received {
        true => "a snapshot",
        false => "its log alone",
    };
    let what = format!("{host} was away from index {had} to {at} and beyond, got it by {by}");
    Ok(Struck { what, struck, healed: field.record.now(), replaced: None })
}

/// How many snapshots a manager says it has received.
fn snapshots(field: &Field, host: &str) -> usize {
    let log = fs::read_to_string(field.cluster.path(host).join("log")).unwrap_or_default();
    log.matches("receiving a snapshot").count()
}

/// Writes more than the managers keep of their log.
fn lengthen(field: &Field) -> Result<(), String> {
    let door = field.door(0)?;
    field.ask(async move {
        for number in 0..DEFINITIONS {
            let environment = (0..4).map(|part| pb::KeyValuePair {
                name: format!("PART_{part}"),
                value: "x".repeat(DEFINITION_BYTES / 4),
            });
            let container = pb::ContainerDefinition {
                name: "main".into(),
                image: "none".into(),
                memory: Some(16),
                environment: environment.collect(),
                ..Default::default()
            };
            let request = pb::RegisterTaskDefinitionRequest {
                family: format!("large{}", number % 4),
                container_definitions: vec![container],
                ..Default::default()
            };
            let call = async |channel, request| {
                EcsClient::new(channel).register_task_definition(request).await
            };
            door.write(request, call).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    })
}

/// A follower's largest log or table is damaged while it is down, or its log is one of seconds ago:
/// it must refuse or rebuild, and never serve them. Whatever it does, it is then replaced, as an
/// operator would.
///
/// # Errors
/// Nobody leads, or the machine refuses.
pub fn corruption(field: &mut Field, _: Span) -> Result<Struck, String> {
    let leader = field.wait_leader()?;
    let number = 1 + leader % field.shape.managers;
    let host = format!("m{number}");
    // As the host sees it: its data may be on a disk of its own.
    let init = field.cluster.lab.done(&["init-pid", &host]);
    let data = field.cluster.path(&host).join("data");
    let seen =
        Path::new("/proc").join(init).join("root").join(data.strip_prefix("/").unwrap_or(&data));
    let harm = match field.turn() % 5 {
        2 => return stale(field, number, &seen),
        1 => Harm::Zeroes,
        3 => Harm::Cut,
        _ => Harm::Flip,
    };
    field.cluster.kill(&host);
    let struck = field.record.now();
    let endings = if field.below(2) == 0 { ["sst", "log"] } else { ["log", "sst"] };
    // There are no tables before the first one is full.
    let Some(file) = endings.iter().find_map(|ending| largest(&seen, ending)) else {
        field.cluster.start(&host);
        return Err(format!("{host} has neither logs nor tables in {}", data.display()));
    };
    // The end of a log may be missing after any crash: only a table that is short is damaged.
    let harm = if file.extension().is_some_and(|e| e == "sst") { harm } else { harm.of_log() };
    let place = hurt(&file, harm).map_err(|error| format!("{}: {error}", file.display()))?;
    damaged(field, number, struck, &format!("{}, {harm:?} at {place}", named(&file)))
}

/// The log of some seconds ago, as a backup of files brings it back.
fn stale(field: &mut Field, number: u32, data: &Path) -> Result<Struck, String> {
    let log = largest(data, "log").ok_or_else(|| format!("no log in {}", data.display()))?;
    let failed = |error: std::io::Error| format!("{}: {error}", log.display());
    let older = field.cluster.dir.path().join("older");
    fs::copy(&log, &older).map_err(failed)?;
    field.last(STALE_BY)?;
    field.cluster.kill(&format!("m{number}"));
    let struck = field.record.now();
    fs::copy(&older, &log).map_err(failed)?;
    let how = format!("{}, as it was {} s ago", named(&log), STALE_BY.as_secs());
    damaged(field, number, struck, &how)
}

fn named(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Starts a manager with damaged files, sees what it does, and replaces it.
fn damaged(field: &mut Field, number: u32, struck: Micros, how: &str) -> Result<Struck, String> {
    let host = format!("m{number}");
    field.cluster.start(&host);
    let fate = field.until("it ends or serves", DECIDED_WITHIN, || {
        let serves = field.status(number).is_some();
        match (field.cluster.pid(&host), serves) {
            (None, _) => Ok("it refused to start"),
            (Some(_), true) => Ok("it served, with the damage found or not read"),
            (Some(pid), false) => Err(format!("pid {pid} says nothing")),
        }
    })?;
    replace(field, number)?;
    let what = format!("{host}'s {how}: {fate}; replaced");
    Ok(Struck { what, struck, healed: field.record.now(), replaced: None })
}

/// Removes a manager for good and joins another in its place, with an empty disk.
fn replace(field: &mut Field, number: u32) -> Result<(), String> {
    let host = format!("m{number}");
    let id = member(field, &host)?;
    field.cluster.crash(&host);
    field.until("it is removed", Duration::from_secs(30), || {
        let asked = field.cluster.ask(&["operator", "raft", "remove", &id]);
        match asked.status.success() || member(field, &host).is_err() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&asked.stderr).into_owned()),
        }
    })?;
    let path = field.cluster.path(&host);
    fs::remove_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    field.cluster.join_manager(number);
    field.cluster.wait_voters(field.shape.managers as usize);
    Ok(())
}

/// The largest file with this ending, anywhere below.
fn largest(dir: &Path, ending: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(dir).ok()?.flatten().map(|entry| entry.path());
    let files = entries.filter_map(|path| match path.is_dir() {
        true => largest(&path, ending),
        false => path.extension().is_some_and(|have| have == ending).then_some(path),
    });
    files.max_by_key(|path| fs::metadata(path).map_or(0, |metadata| metadata.len()))
}

/// What is done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    /// 16 bytes are what they were not.
    Flip,
    /// A page that was never written, as some disks leave it.
    Zeroes,
    /// The second half is missing.
    Cut,
}

impl Harm {
    fn of_log(self) -> Self {
        if self == Self::Cut { Self::Flip } else { self }
    }
}

/// Harms a file in its middle; where.
fn hurt(file: &Path, harm: Harm) -> std::io::Result<u64> {
    use std::os::unix::fs::FileExt;
    let handle = fs::OpenOptions::new().read(true).write(true).open(file)?;
    let place = handle.metadata()?.len() / 2;
    let mut bytes = vec![0; if harm == Harm::Flip { 16 } else { 4096 }];
    let got = handle.read_at(&mut bytes, place)?;
    match harm {
        Harm::Flip => bytes.iter_mut().for_each(|byte| *byte = !*byte),
        Harm::Zeroes => bytes.fill(0),
        Harm::Cut => {
            handle.set_len(place)?;
            return Ok(place);
        }
    }
    handle.write_all_at(&bytes[..got], place)?;
    Ok(place)
}
