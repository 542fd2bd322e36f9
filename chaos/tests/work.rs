//! Jobs and schedules of real containers while the leading manager is killed: as many tasks succeed
//! as were asked for, a due time comes to one run, and what was done is in a file of the host.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test's way to fail

use muster_chaos::cluster::Cluster;
use muster_chaos::wait;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);
/// A minute, and the one after it.
const BY_THE_CLOCK: Duration = Duration::from_secs(180);
/// How far ahead a schedule is due: time enough to create it and to kill the leader.
const AHEAD: &str = "+8 seconds";

fn lines(record: &Path, file: &str) -> usize {
    fs::read_to_string(record.join(file)).unwrap_or_default().lines().count()
}

/// What `date` says in a time zone.
fn date(words: &[&str], zone: &str) -> String {
    let said = Command::new("date").args(words).env("TZ", zone).output().unwrap();
    String::from_utf8(said.stdout).unwrap().trim().to_owned()
}

/// What became of the due times of a schedule, the first one first, once there are so many.
fn outcomes(cluster: &Cluster, schedule: &str, least: usize) -> Vec<Value> {
    wait::until(&format!("{schedule} was due {least} times"), BY_THE_CLOCK, || {
        let shown = cluster.json(&["schedule", "describe", schedule]);
        let runs = shown["runs"].as_array().cloned().unwrap_or_default();
        match runs.len() >= least {
            true => Ok(runs.iter().rev().map(|run| run["outcome"].clone()).collect()),
            false => Err(shown.to_string()),
        }
    })
}

fn job(cluster: &Cluster, name: &str) -> Value {
    cluster.json(&["job", "describe", name])
}

/// A job whose tasks take too long, and one that does as a whole.
fn too_long(cluster: &Cluster, record: &Path) {
    cluster.register_recording("slow", "sleep 1000", record);
    let each = ["job", "run", "slow", "slow", "--attempt-timeout", "2", "--retries", "1"];
    cluster.run(&each);
    cluster.run(&["job", "run", "whole", "slow", "--job-timeout", "4"]);
    for name in ["slow", "whole"] {
        let waited = cluster.ask(&["job", "wait", name, "--timeout", "60"]);
        assert!(!waited.status.success());
        assert_eq!(job(cluster, name)["status"], "FAILED");
    }
    assert_eq!(job(cluster, "slow")["failed"], 2, "each of its tasks took too long");
}

#[test]
fn work_is_done_as_often_as_it_was_asked_for_whoever_leads() {
    let mut cluster = Cluster::form(3, 2);
    let record = tempfile::tempdir().unwrap();
    cluster.register_recording("import", "sleep 2; echo done >> /record/import", record.path());
    cluster.register_recording("broken", "exit 3", record.path());
    cluster.register_recording("load", "echo done >> /record/load", record.path());
    cluster.register_recording("tick", "echo done >> /record/tick", record.path());

    cluster.register_recording("long", "echo done >> /record/long; sleep 1000", record.path());
    cluster.register_recording("there", "echo done >> /record/there", record.path());
    // By the clock on a wall in Kolkata, half an hour beside everybody else's, in a minute or two.
    let there = date(&["-d", "+90 seconds", "+cron(%-M %-H * * ? *)"], "IST-5:30");
    let zone = ["--timezone", "Asia/Kolkata"];
    let words = ["schedule", "create", "there", "there", "--expression", &there];
    cluster.run(&[&words[..], &zone].concat());
    let words = ["schedule", "create", "long", "long", "--expression", "rate(1 minute)"];
    cluster.run(&[&words[..], &["--overlap", "SKIP"]].concat());

    let words = ["job", "run", "import", "import", "--completions", "5", "--parallelism", "2"];
    cluster.run(&words);
    wait::until("the first one is done", SOON, || match lines(record.path(), "import") {
        0 => Err("none".to_owned()),
        _ => Ok(()),
    });
    cluster.depose();
    cluster.run(&["job", "wait", "import", "--timeout", "60"]);
    let import = job(&cluster, "import");
    assert_eq!((&import["status"], &import["succeeded"]), (&json!("SUCCEEDED"), &json!(5)));
    assert_eq!(lines(record.path(), "import"), 5, "{import}");

    cluster.run(&["job", "run", "broken", "broken", "--retries", "1"]);
    let waited = cluster.ask(&["job", "wait", "broken", "--timeout", "60"]);
    assert!(!waited.status.success());
    let broken = job(&cluster, "broken");
    assert_eq!((&broken["status"], &broken["failed"]), (&json!("FAILED"), &json!(2)), "{broken}");

    too_long(&cluster, record.path());

    let due = date(&["-d", AHEAD, "+at(%Y-%m-%dT%H:%M:%S)"], "UTC");
    cluster.run(&["schedule", "create", "once", "tick", "--expression", &due]);
    let of_jobs = ["--job", "--completions", "3", "--parallelism", "2"];
    let words = ["schedule", "create", "batch", "load", "--expression", &due];
    cluster.run(&[&words[..], &of_jobs].concat());
    cluster.depose();
    wait::until("its run is over", SOON, || match lines(record.path(), "tick") {
        0 => Err(cluster.json(&["schedule", "describe", "once"]).to_string()),
        _ => Ok(()),
    });
    cluster.depose();
    let once = cluster.json(&["schedule", "describe", "once"]);
    let runs = once["runs"].as_array().cloned().unwrap_or_default();
    assert_eq!(runs.len(), 1, "{once}");
    assert_eq!(runs[0]["outcome"], "STARTED", "{once}");
    assert_eq!(lines(record.path(), "tick"), 1, "{once}");

    let batch = cluster.json(&["schedule", "describe", "batch"]);
    let runs = batch["runs"].as_array().cloned().unwrap_or_default();
    assert_eq!(runs.len(), 1, "{batch}");
    let id = runs[0]["jobId"].as_str().unwrap();
    cluster.run(&["job", "wait", id, "--timeout", "60"]);
    let load = job(&cluster, id);
    assert!(load["spec"]["name"].as_str().unwrap().starts_with("batch-"), "{load}");
    assert_eq!((&load["status"], &load["succeeded"]), (&json!("SUCCEEDED"), &json!(3)), "{load}");
    assert_eq!(lines(record.path(), "load"), 3, "{load}");

    assert_eq!(outcomes(&cluster, "there", 1), ["STARTED"]);
    assert_eq!(outcomes(&cluster, "long", 2)[..2], ["STARTED", "SKIPPED"]);
    wait::until("each has run once", SOON, || {
        match (lines(record.path(), "there"), lines(record.path(), "long")) {
            (1, 1) => Ok(()),
            done => Err(format!("{done:?}")),
        }
    });
}
