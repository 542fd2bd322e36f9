//! The README's first command as a newcomer runs it, and Amazon's tutorial on the cluster that it
//! leaves, with what it prints to be pasted.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test's way to fail

use muster_chaos::cluster::muster;
use muster_chaos::lab::root;
use muster_chaos::local;
use muster_chaos::python::{done, ecs_clients};
use std::process::Command;

#[test]
fn amazons_tutorial_runs_on_what_the_quickstart_leaves() {
    let clients = ecs_clients();
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    command.args(["--net", "--"]).arg(root().join("chaos/tests/ecs/quickstart.sh"));
    clients.enter(local::alone(&mut command), None);
    // Short: interfaces are named by it.
    command.env("LAB", "qt").env("CLUSTER_DIR", dir.path().join("cluster"));
    let said = done(command.env("MUSTER_BIN", muster().parent().unwrap()));
    assert!(said.contains("next write accepted after"), "{said}");
    assert!(said.contains("its tasks run elsewhere after"), "{said}");
}
