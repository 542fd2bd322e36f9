//! A strict singleton of real containers whose worker is cut off from all managers while its agent
//! is dead: its shim alone ends it, and only then the next one starts elsewhere, with a greater
//! fencing token. The container itself keeps the record: when it ran, by the clock since boot.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test's way to fail

use muster_chaos::cluster::Cluster;
use muster_chaos::wait;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// From the cut on: ten seconds without contact, two to stop, one for the shim, two for the clocks;
/// and the start of the next.
const REPLACED: Duration = Duration::from_secs(40);
const SOON: Duration = Duration::from_secs(30);

/// It does not listen to SIGTERM, and says ten times in a second that it runs.
const SCRIPT: &str = "trap '' TERM; while :; do cut -d' ' -f1 /proc/uptime \
                      >> /record/$MUSTER_FENCING_TOKEN; sleep 0.1; done";

/// Seconds since boot at which each token's task said that it runs: the first and the last.
fn runs(record: &Path) -> BTreeMap<u64, (f64, f64)> {
    let entries = fs::read_dir(record).unwrap().map(|entry| entry.unwrap().path());
    let runs = entries.filter_map(|path| {
        let token = path.file_name()?.to_str()?.parse().ok()?;
        let text = fs::read_to_string(&path).ok()?;
        let mut times = text.lines().filter_map(|line| line.parse::<f64>().ok());
        let first = times.next()?;
        Some((token, (first, times.next_back().unwrap_or(first))))
    });
    runs.collect()
}

fn cut(cluster: &Cluster, verb: &str, host: &str) {
    for manager in ["m1", "m2", "m3"] {
        cluster.lab.done(&[verb, host, manager]);
        cluster.lab.done(&[verb, manager, host]);
    }
}

#[test]
fn the_next_one_starts_when_the_shim_has_ended_the_one_out_of_reach() {
    let mut cluster = Cluster::form(3, 2);
    let record = tempfile::tempdir().unwrap();
    cluster.register_recording("only", SCRIPT, record.path());
    cluster.run(&["service", "create", "only", "--task-definition", "only", "--strict"]);
    let first = wait::until("the singleton runs", SOON, || {
        runs(record.path()).into_keys().next().ok_or_else(|| "nothing ran".to_owned())
    });
    let host = cluster.tasks("only")[0]["instanceName"].as_str().unwrap().to_owned();

    cut(&cluster, "cut", &host);
    cluster.kill(&host);
    let second = wait::until("another one runs", REPLACED, || {
        let runs = runs(record.path());
        runs.into_keys().find(|token| *token > first).ok_or_else(|| "only the first".to_owned())
    });
    let told = cluster.run(&["service", "describe", "only"]);
    assert!(told.contains("is out of reach; it is replaced in"), "{told}");

    cut(&cluster, "uncut", &host);
    cluster.start(&host);
    cluster.wait_connected(2);
    let runs = runs(record.path());
    assert_eq!(runs.len(), 2, "{runs:?}");
    let (ended, begun) = (runs[&first].1, runs[&second].0);
    assert!(ended < begun, "the first ran until {ended}, the second from {begun}: {runs:?}");

    // Within reach it is replaced like any other: the old one has ended before the new one starts.
    cluster.run(&["service", "update", "only", "--force-new-deployment"]);
    wait::until("the third runs", SOON, || match self::runs(record.path()) {
        runs if runs.len() == 3 => Ok(()),
        runs => Err(format!("{runs:?}")),
    });
    let runs: Vec<(f64, f64)> = self::runs(record.path()).into_values().collect();
    assert!(runs.windows(2).all(|pair| pair[0].1 < pair[1].0), "{runs:?}");
}
