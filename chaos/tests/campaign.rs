//! The campaign itself: it says what held, and whatever becomes of it, nothing of it is left.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test's way to fail

use muster_chaos::wait;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

fn campaign(out: &Path, times: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster-chaos"));
    command.args(["run", "--row", "leader-kill", "--times", times, "--out"]).arg(out);
    command.stdin(Stdio::null());
    command
}

/// Names of what a campaign with this pid leaves on a machine.
fn left(pid: u32) -> Vec<String> {
    let prefix = format!("t{pid:x}0");
    let mut left = Vec::new();
    for dir in ["/run/netns", "/run/muster-lab", "/run", "/sys/fs/cgroup", "/sys/fs/cgroup/pids"] {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let ours = names.filter(|name| name.split('-').next() == Some(&prefix));
        left.extend(ours.map(|name| format!("{dir}/{name}")));
    }
    left
}

fn wait_clean(pid: u32) {
    wait::until("nothing is left", Duration::from_secs(30), || match left(pid) {
        none if none.is_empty() => Ok(()),
        some => Err(some.join(", ")),
    });
}

/// Reads what it prints until the first fault is over.
fn wait_struck(child: &mut Child) {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut said = Vec::new();
    let struck = lines.map_while(Result::ok).any(|line| {
        said.push(line);
        said.last().is_some_and(|line| line.contains("kill -9 of m"))
    });
    assert!(struck, "it ended before its first fault: {said:#?}");
}

#[test]
fn a_killed_leader_breaks_no_promise() {
    let _alone = alone();
    let out = tempfile::tempdir().unwrap();
    let output = campaign(out.path(), "2").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    for promised in [" 2/2 ", "figure chaos.acknowledged_writes_lost 0"] {
        assert!(text.contains(promised), "{promised:?} is not in\n{text}");
    }
    let json = std::fs::read_to_string(out.path().join("report.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["strikes"].as_array().unwrap().len(), 2);
    assert!(json["counts"]["I1 calls checked"].as_u64().unwrap() > 0);
    let page = std::fs::read_to_string(out.path().join("report.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("every invariant held"));
}

#[test]
fn a_campaign_that_is_killed_leaves_nothing_behind() {
    let _alone = alone();
    let out = tempfile::tempdir().unwrap();
    let mut child = campaign(out.path(), "50").stdout(Stdio::piped()).spawn().unwrap();
    wait_struck(&mut child);
    assert!(!left(child.id()).is_empty(), "the test looks where nothing ever is");
    child.kill().unwrap();
    child.wait().unwrap();
    wait_clean(child.id());
}
