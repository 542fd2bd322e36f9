//! A real process, killed with SIGKILL while it writes: what it said was done is done; also if the
//! power went with it and only what was synced is left.
#![allow(clippy::unwrap_used)] // a test that cannot go on should fail

mod common;

use common::{Fleet, deadline, numbers};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The child finds here where to write; without it the child's test does nothing.
const DIR: &str = "MUSTER_TEST_KILL_DIR";
const ROUNDS: usize = 6;

/// Only does something as the child of the test below.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_writes_until_it_is_killed() {
    let Some(dir) = std::env::var_os(DIR).map(PathBuf::from) else { return };
    let fresh = !dir.exists();
    let mut fleet = Fleet::empty(move |config| {
        config.data_dir = dir.clone();
        config.log_bytes_max = 16 * 1024;
    });
    fleet.add_machine(1).await;
    fleet.start(1, fresh).await.unwrap();
    if fresh {
        fleet.propose(1, 0).await.unwrap();
    }
    let mut number = numbers(&fleet.replica(1).read(deadline()).await.unwrap()).len() as u64;
    loop {
        number += 1;
        fleet.propose(1, number).await.unwrap();
        println!("\nacknowledged {number}");
        std::io::stdout().flush().unwrap();
    }
}

/// The highest number that the child has said is done, once that is `target` or it has ended.
fn acknowledged(child: &mut Child, target: u64) -> u64 {
    let mut highest = 0;
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for line in lines.map_while(Result::ok) {
        let number = line.strip_prefix("acknowledged ").and_then(|n| n.parse::<u64>().ok());
        highest = highest.max(number.unwrap_or(0));
        if highest >= target {
            break;
        }
    }
    highest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_has_kept_what_it_acknowledged() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("data");
    let mut acknowledged = 0;
    for round in 0..ROUNDS {
        let target = acknowledged + 20 + 13 * round as u64;
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_writes_until_it_is_killed", "--nocapture"])
            .env(DIR, &dir)
            .env("TMPDIR", root.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        acknowledged = acknowledged.max(self::acknowledged(&mut child, target));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(acknowledged >= target, "the child ended by itself at {acknowledged}");
        let copy = dir.clone();
        let mut fleet = Fleet::empty(move |config| config.data_dir = copy.clone());
        fleet.add_machine(1).await;
        fleet.start(1, false).await.unwrap();
        let state = fleet.replica(1).read(deadline()).await.unwrap();
        let found = numbers(&state);
        let expected: Vec<u64> = (1..=found.len() as u64).collect();
        assert_eq!(found, expected, "no gap");
        assert!(found.len() as u64 >= acknowledged, "{} of {acknowledged}", found.len());
        acknowledged = found.len() as u64;
        fleet.stop(1).await;
    }
}

/// Builds the library that keeps what a power cut would leave.
fn shim(dir: &Path) -> PathBuf {
    let library = dir.join("power.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/power/shim.c");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .status()
        .unwrap();
    assert!(built.success());
    library
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_takes_nothing_that_was_acknowledged() {
    let root = tempfile::tempdir().unwrap();
    let (dir, left) = (root.path().join("data"), root.path().join("left"));
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_writes_until_it_is_killed", "--nocapture"])
        .env(DIR, &dir)
        .env("TMPDIR", root.path())
        .env("LD_PRELOAD", shim(root.path()))
        .env("MUSTER_POWER_FROM", &dir)
        .env("MUSTER_POWER_TO", &left)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let acknowledged = acknowledged(&mut child, 150);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(acknowledged >= 150, "the child ended by itself at {acknowledged}");
    let mut fleet = Fleet::empty(move |config| config.data_dir = left.clone());
    fleet.add_machine(1).await;
    fleet.start(1, false).await.unwrap();
    let found = numbers(&fleet.replica(1).read(deadline()).await.unwrap());
    assert!(found.len() as u64 >= acknowledged, "{} of {acknowledged}", found.len());
    fleet.stop(1).await;
}
