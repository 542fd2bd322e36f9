//! A wall clock that jumps an hour, to and fro: libfaketime under real daemons, on the wall clock
//! only (a machine's monotonic clock never jumps).

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test's way to fail

use muster_chaos::cluster::Cluster;
use muster_chaos::wait;
use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Debian's libfaketime, for processes with threads.
const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
const SOON: Duration = Duration::from_secs(60);
/// How long each jump is watched: an instance's lease and its grace are over within.
const WATCHED: Duration = Duration::from_secs(10);

/// The file that says how far a host's wall clock is off.
fn offset(cluster: &Cluster, host: &str) -> PathBuf {
    cluster.path(host).join("clock")
}

fn environment(cluster: &Cluster, host: &str) -> Vec<String> {
    vec![
        format!("LD_PRELOAD={LIBRARY}"),
        format!("FAKETIME_TIMESTAMP_FILE={}", offset(cluster, host).display()),
        "FAKETIME_NO_CACHE=1".to_owned(),
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
    ]
}

/// Moves a host's wall clock by so many seconds from the true time.
fn set(cluster: &Cluster, host: &str, seconds: i64) {
    // Replaced as a whole: the daemon reads it at any moment.
    let (path, new) = (offset(cluster, host), cluster.path(host).join("clock.new"));
    std::fs::write(&new, format!("{seconds:+}")).unwrap();
    std::fs::rename(new, path).unwrap();
}

fn restart(cluster: &mut Cluster, host: &str) {
    cluster.signal(host, "-TERM");
    cluster.reap(host);
    let environment = environment(cluster, host);
    cluster.start_with(host, &environment);
}

/// What a program on the host takes for the time, less the true time.
fn seen(cluster: &Cluster, host: &str) -> i64 {
    let environment = environment(cluster, host);
    let mut words = vec!["run", host, "env"];
    words.extend(environment.iter().map(String::as_str));
    words.extend(["date", "+%s"]);
    let there: i64 = cluster.lab.done(&words).parse().unwrap();
    let here = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    there - here.as_secs() as i64
}

fn pids(cluster: &Cluster) -> Vec<(String, u64)> {
    wait::until("both tasks run", SOON, || {
        let running = cluster.running("web");
        if running.len() == 2 { Ok(running) } else { Err(format!("{running:?}")) }
    })
}

fn raft(cluster: &Cluster) -> (serde_json::Value, serde_json::Value) {
    let status = cluster.json(&["operator", "raft", "status"]);
    (status["leader"].clone(), status["term"].clone())
}

#[test]
fn a_clock_that_jumps_an_hour_moves_no_task_and_no_leader() {
    let mut cluster = Cluster::form(3, 1);
    for host in ["m1", "m2", "m3", "w1"] {
        set(&cluster, host, 0);
        restart(&mut cluster, host);
    }
    cluster.wait_leader();
    cluster.wait_connected(1);
    cluster.register("web", json!({ "command": ["/bin/busybox", "sleep", "100000"] }));
    cluster.run(&["service", "create", "web", "--task-definition", "web", "--desired-count", "2"]);
    let before = pids(&cluster);
    let leader = cluster.wait_leader();
    let reign = raft(&cluster);

    for jump in [3600, -3600, 0] {
        for host in [&*leader, "w1"] {
            set(&cluster, host, jump);
            let off = seen(&cluster, host) - jump;
            assert!(off.abs() <= 2, "{host}'s clock is {off} s from where it was set");
        }
        let watched = Instant::now();
        let mut writes = 0;
        while watched.elapsed() < WATCHED {
            writes += 1;
            cluster.run(&["cluster", "create", &format!("jump-{}-{writes}", jump + 3600)]);
            assert_eq!(cluster.running("web"), before, "after a jump to {jump:+} s");
            assert_eq!(raft(&cluster), reign, "after a jump to {jump:+} s");
        }
    }
}

#[test]
fn a_manager_and_an_agent_that_start_with_a_wrong_clock_find_everything_as_it_was() {
    let mut cluster = Cluster::form(1, 1);
    cluster.register("web", json!({ "command": ["/bin/busybox", "sleep", "100000"] }));
    cluster.run(&["service", "create", "web", "--task-definition", "web", "--desired-count", "2"]);
    let before = pids(&cluster);
    for jump in [3600, 0] {
        for host in ["m1", "w1"] {
            set(&cluster, host, jump);
            restart(&mut cluster, host);
        }
        cluster.wait_leader();
        cluster.wait_connected(1);
        let watched = Instant::now();
        let mut writes = 0;
        while watched.elapsed() < WATCHED {
            writes += 1;
            cluster.run(&["cluster", "create", &format!("start-{jump}-{writes}")]);
            assert_eq!(cluster.running("web"), before, "started at {jump:+} s");
        }
    }
}
