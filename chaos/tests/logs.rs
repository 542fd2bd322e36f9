//! What containers write and use, read by a person at the command line, while tasks are replaced
//! and the leader dies.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test's way to fail

use muster_chaos::cluster::Cluster;
use muster_chaos::service::{Service, short, text};
use muster_chaos::wait;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::process::Child;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

const SOON: Duration = Duration::from_secs(60);

/// Counts aloud until it is told to stop, and says so.
const COUNTS: &str = "trap 'echo bye; exit 0' TERM; i=0; \
    while :; do echo $i; i=$((i+1)); usleep 20000; done";

/// A `muster` that goes on; killed when dropped.
struct Followed {
    muster: Child,
    out: PathBuf,
}

impl Followed {
    fn start(cluster: &Cluster, words: &[&str]) -> Self {
        let out = cluster.dir.path().join("followed");
        let mut command = cluster.client(words);
        let muster = command.stdout(File::create(&out).unwrap()).spawn().unwrap();
        Self { muster, out }
    }

    /// The whole lines that it printed.
    fn said(&self) -> String {
        let mut said = std::fs::read_to_string(&self.out).unwrap();
        said.truncate(said.rfind('\n').map_or(0, |end| end + 1));
        said
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.muster.kill().ok();
        self.muster.wait().ok();
    }
}

/// Lines as `muster service logs` prints them, without what stands before them.
fn by_task(printed: &str) -> BTreeMap<String, Vec<String>> {
    let mut tasks: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in printed.lines() {
        let (from, line) = line.split_once(" | ").unwrap_or_else(|| panic!("{line:?}"));
        let task = from.strip_suffix(" main").unwrap_or_else(|| panic!("{from:?}"));
        tasks.entry(task.to_owned()).or_default().push(line.to_owned());
    }
    tasks
}

/// Nothing is missing and nothing there twice: 0, 1, 2 and so on, and if it has ended a last word.
fn whole(lines: &[String], ended: bool) -> bool {
    let counted = if ended { lines.len().saturating_sub(1) } else { lines.len() };
    let counts = lines.iter().take(counted).enumerate().all(|(n, line)| *line == n.to_string());
    counts && (!ended || lines.last().is_some_and(|line| line == "bye"))
}

fn counting(cluster: &Cluster) {
    cluster.run(&["cluster", "update", "default", "--setting", "taskHealthyAfterSeconds=2"]);
    cluster.register("web", json!({ "command": ["/bin/busybox", "sh", "-c", COUNTS] }));
}

#[test]
fn a_service_is_followed_over_a_replaced_task_and_a_dead_leader() {
    let _alone = alone();
    let mut cluster = Cluster::form(3, 2);
    counting(&cluster);
    let leader = cluster.wait_leader();
    Service::create(&cluster, "web", "web", &["--desired-count", "3"]);
    // Before any task runs.
    let mut followed = Followed::start(&cluster, &["service", "logs", "-f", "web"]);
    // Three tasks go on, and so many were heard since the beginning.
    let counting = |followed: &Followed, ever: usize, from: &BTreeMap<String, Vec<String>>| {
        wait::until(&format!("three of {ever} tasks are heard"), SOON, || {
            let now = by_task(&followed.said());
            let on = |(task, lines): &(&String, &Vec<String>)| {
                lines.len() > from.get(*task).map_or(0, Vec::len) + 20
            };
            match now.iter().filter(on).count() {
                heard if heard >= 3 && now.len() >= ever => Ok(now),
                heard => Err(format!("{heard} of {}", now.len())),
            }
        })
    };
    let heard = counting(&followed, 3, &BTreeMap::new());
    let first = short(&cluster.tasks("web")[0]["taskArn"]);
    cluster.run(&["task", "stop", &first]);
    cluster.kill(&leader);
    // The other two and the new one go on, through another manager.
    counting(&followed, 4, &heard);
    cluster.run(&["service", "update", "web", "--desired-count", "0"]);
    wait::until("all have said their last word", SOON, || {
        let now = by_task(&followed.said());
        let open: Vec<_> = now.iter().filter(|(_, lines)| !whole(lines, true)).collect();
        let short = |(task, lines): &(&String, &Vec<String>)| {
            let end: Vec<_> = lines.iter().rev().take(3).collect();
            format!("{task}: {} lines, last {end:?}", lines.len())
        };
        match open.is_empty() && now.len() >= 4 {
            true => Ok(()),
            false => Err(format!("{:?}", open.iter().map(short).collect::<Vec<_>>())),
        }
    });
    assert!(followed.muster.try_wait().unwrap().is_none(), "it follows on");
    // What is kept is what was followed, in order of time.
    let listed = cluster.run(&["service", "logs", "web"]);
    assert_eq!(by_task(&listed), by_task(&followed.said()));
    spans(&cluster);
    cluster.start(&leader);
    drop(followed);
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A span of time has all lines of that time and no other, whatever task they are of.
fn spans(cluster: &Cluster) {
    let logs = |words: &[&str]| {
        let all = ["service", "logs", "web", "--output", "json"];
        json_lines(&cluster.run(&[&all, words].concat()))
    };
    let all = logs(&[]);
    let at = |line: &Value| text(&line["at"]);
    let times: Vec<_> = all.iter().map(|line| instant(&at(line))).collect();
    assert!(times.windows(2).all(|two| two[0] <= two[1]), "not in order of time");
    let (from, to) = (at(&all[all.len() / 3]), at(&all[all.len() / 2]));
    let within = |line: &&Value| (instant(&from)..=instant(&to)).contains(&instant(&at(line)));
    let expected: Vec<_> = all.iter().filter(within).cloned().collect();
    let sorted = |mut lines: Vec<Value>| {
        lines.sort_by_key(ToString::to_string);
        lines
    };
    assert_eq!(sorted(logs(&["--since", &from, "--until", &to])), sorted(expected));
    assert_eq!(logs(&["--since", "1d", "--until", "1h"]), Vec::<Value>::new());
    let refused = cluster.ask(&["service", "logs", "web", "--since", "yesterday"]);
    assert_eq!(refused.status.code(), Some(2));
}

/// Comparable: fractions of a second are written with as many digits as they need.
fn instant(at: &str) -> String {
    let (whole, fraction) = at.trim_end_matches('Z').split_once('.').unwrap_or((at, ""));
    format!("{}.{fraction:0<9}", whole.trim_end_matches('Z'))
}

#[test]
fn a_busy_task_is_told_from_one_that_sleeps() {
    let _alone = alone();
    let cluster = Cluster::form(1, 2);
    let line = |line: &str| json!({ "command": ["/bin/busybox", "sh", "-c", line] });
    cluster.register("busy", line("trap 'exit 0' TERM; while :; do :; done"));
    cluster.register("idle", line("trap 'exit 0' TERM; sleep 1000 & wait"));
    for name in ["busy", "idle"] {
        Service::create(&cluster, name, name, &["--desired-count", "2"]);
        cluster.run(&["service", "wait", name, "--timeout", "60"]);
    }
    let used = |words: &[&str]| json_lines(&cluster.run(&[words, &["--output", "json"]].concat()));
    let millicores = |line: &Value| line["cpuMillicores"].as_u64().unwrap();
    let busy = used(&["service", "stats", "busy"]);
    assert_eq!(busy.len(), 2, "{busy:?}");
    assert!(busy.iter().all(|line| millicores(line) > 100), "{busy:?}");
    let idle = short(&cluster.tasks("idle")[0]["taskArn"]);
    let told = used(&["task", "stats", &idle]);
    assert_eq!((told.len(), &told[0]["task"]), (1, &json!(idle)), "{told:?}");
    assert!(millicores(&told[0]) < 50, "{told:?}");
    assert!(told[0]["memoryBytes"].as_u64().unwrap() > 0, "{told:?}");
    // sh and sleep, and nothing of another container.
    assert_eq!((&told[0]["pids"], &told[0]["memoryLimitBytes"]), (&json!(2), &json!(32 << 20)));
    let table = cluster.run(&["service", "stats", "busy"]);
    assert!(table.trim_start().starts_with("TASK ") && table.lines().count() == 3, "{table}");

    let followed =
        Followed::start(&cluster, &["service", "stats", "-f", "idle", "--output", "json"]);
    let seen = wait::until("samples come each second", SOON, || {
        let said = followed.said();
        let lines = json_lines(&said);
        if lines.len() >= 6 { Ok(lines) } else { Err(said) }
    });
    let tasks: std::collections::BTreeSet<_> =
        seen.iter().map(|line| text(&line["task"])).collect();
    assert_eq!(tasks.len(), 2, "{seen:?}");
    cluster.run(&["task", "stop", &idle]);
    wait::until("the one in its place is seen", SOON, || {
        let said = followed.said();
        let lines = json_lines(&said);
        let last: Vec<_> = lines.iter().rev().take(2).map(|line| text(&line["task"])).collect();
        match !last.contains(&idle)
            && lines.iter().any(|line| !tasks.contains(&text(&line["task"])))
        {
            true => Ok(()),
            false => Err(said),
        }
    });
    let stopped = cluster.ask(&["task", "stats", &idle]);
    let told = String::from_utf8_lossy(&stopped.stderr).into_owned();
    assert!(!stopped.status.success() && told.contains("STOPPED"), "{told}");
}
