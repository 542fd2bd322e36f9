//! The third observer: what really runs on the workers with real containers, from the kernel's list
//! of cgroups, and whom their agents obeyed, from the agents' files.
//!
//! It asks neither agents nor managers. Instances are told apart by the first characters of their
//! ids, which name their cgroups.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A process: its pid and when it started, in ticks since boot; together they name it for good.
pub type Process = (i32, u64);

/// What runs on one instance: the processes of each task.
pub type Running = BTreeMap<String, BTreeSet<Process>>;

/// Every task below the lab's cgroup that has a process: by instance, then by task.
pub fn running(lab: &str) -> BTreeMap<String, Running> {
    let Some(root) = root(lab) else { return BTreeMap::new() };
    let instances = directories(&root).into_iter().map(|(instance, path)| {
        let tasks = directories(&path).into_iter().map(|(task, path)| (task, processes(&path)));
        (instance, tasks.filter(|(_, processes)| !processes.is_empty()).collect())
    });
    instances.collect()
}

/// Which of these tasks have a process now, wherever. It reads their groups and no others': to read
/// all of them, all the time, slows down whoever makes containers.
pub fn running_of(lab: &str, tasks: &BTreeSet<String>) -> BTreeSet<String> {
    let instances = root(lab).map(|root| directories(&root)).unwrap_or_default();
    let runs = |task: &&String| {
        let groups = instances.iter().map(|(_, instance)| instance.join(task));
        groups.filter(|group| group.is_dir()).any(|group| !processes(&group).is_empty())
    };
    tasks.iter().filter(runs).cloned().collect()
}

/// Version 2 has one tree; of version 1's, every container is in the one that counts processes.
fn root(lab: &str) -> Option<PathBuf> {
    let trees = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"];
    trees.iter().map(|tree| Path::new(tree).join(lab)).find(|path| path.is_dir())
}

fn directories(path: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let named = entries.filter(|entry| entry.path().is_dir());
    named.map(|e| (e.file_name().to_string_lossy().into_owned(), e.path())).collect()
}

/// Of a group and all below it; what ends meanwhile is left out.
fn processes(path: &Path) -> BTreeSet<Process> {
    let text = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    let own = text.lines().filter_map(|line| line.parse().ok());
    let mut all: BTreeSet<_> = own.filter_map(|pid| Some((pid, started(pid)?))).collect();
    for (_, below) in directories(path) {
        all.extend(processes(&below));
    }
    all
}

fn started(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything: count after it.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// The highest (epoch, revision) that an agent has obeyed, as its file has it.
pub fn obeyed(data: &Path) -> Option<(u64, u64)> {
    let text = fs::read_to_string(data.join("obeyed.json")).ok()?;
    let stored: serde_json::Value = serde_json::from_str(&text).ok()?;
    Some((stored["epoch"].as_u64()?, stored["revision"].as_u64()?))
}

/// Tasks in an agent's ledger.
pub fn ledger(data: &Path) -> BTreeSet<String> {
    directories(&data.join("tasks")).into_iter().map(|(task, _)| task).collect()
}

/// Connections that workers have to a manager, as the manager's kernel counts them.
pub fn sessions(manager: i32) -> usize {
    let text = fs::read_to_string(format!("/proc/{manager}/net/tcp")).unwrap_or_default();
    text.lines().filter(|line| is_session(line)).count()
}

/// Established, to the managers' port, from an address above .100: those are workers.
fn is_session(line: &str) -> bool {
    let mut words = line.split_whitespace().skip(1);
    let (Some(local), Some(remote), Some("01")) = (words.next(), words.next(), words.next()) else {
        return false;
    };
    // The address is little endian: its last number comes first.
    let last = remote.get(..2).and_then(|byte| u8::from_str_radix(byte, 16).ok());
    local.ends_with(":1CE8") && last.is_some_and(|last| (101..=200).contains(&last))
}

/// Resident bytes of a process.
pub fn memory(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_a_workers_connection_to_the_managers_port() {
        let line = |remote: &str, state: &str| {
            format!("   3: 01004D0A:1CE8 {remote}004D0A:9C40 {state} 00000000:00000000 00:00000000")
        };
        assert!(is_session(&line("67", "01")), "10.77.0.103, established");
        assert!(!is_session(&line("67", "06")), "it is being closed");
        assert!(!is_session(&line("02", "01")), "a manager's");
        assert!(!is_session("  sl  local_address rem_address   st tx_queue rx_queue"));
    }

    #[test]
    fn a_process_is_named_by_its_start() {
        let me = i32::try_from(std::process::id()).unwrap_or(0);
        assert!(started(me).is_some_and(|ticks| ticks > 0));
        assert!(memory(me).is_some_and(|bytes| bytes > 0));
    }
}
