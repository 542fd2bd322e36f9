//! The local ECS for people's own test suites, driven by the clients that they use: boto3 and the
//! `aws` command line, both from PyPI, unmodified.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test's way to fail

use muster_chaos::lab::root;
use muster_chaos::local::{LocalEcs, alone};
use muster_chaos::python::{done, ecs_clients};
use std::process::Command;

/// Checks that the suite has: one that is forgotten at its end is not run.
const CHECKS: usize = 17;

#[test]
fn a_test_suite_on_boto3_finds_what_it_knows_of_ecs() {
    let (clients, local) = (ecs_clients(), LocalEcs::start());
    let mut suite = Command::new(clients.program("python"));
    local.enter(suite.arg(root().join("chaos/tests/ecs/local.py")));
    let said = done(&mut suite);
    let held = said.lines().filter(|line| line.starts_with("ok ")).count();
    assert_eq!(held, CHECKS, "every check ran: {said}");
}

/// What the README says to type, line by line, after `muster dev` in the other terminal.
#[test]
fn the_readme_s_local_ecs_is_as_it_says() {
    let (clients, local) = (ecs_clients(), LocalEcs::start());
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let block = readme.split("muster dev --simulate --ecs-listen 127.0.0.1:8400").nth(1).unwrap();
    let block = block.split("```").next().unwrap();
    assert!(block.contains("aws ecs") && block.contains("AWS_ENDPOINT_URL_ECS"), "{block}");
    let script = block.replace("127.0.0.1:8400", &local.address.to_string());
    let commands: Vec<_> = script.lines().skip(1).collect();
    let mut shell = Command::new("bash");
    clients.enter(&mut shell, None);
    let said = done(alone(shell.args(["-euc", &commands.join("\n")])));
    assert!(said.contains("\"lastStatus\": \"RUNNING\""), "{said}");
}
