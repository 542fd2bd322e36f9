//! The local ECS for people's own test suites, driven by the clients that they use: boto3 and the
//! `aws` command line, both from PyPI, unmodified.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test's way to fail

use muster_chaos::lab::root;
use muster_chaos::local::{LocalEcs, alone};
use muster_chaos::python::{done, ecs_clients};
use std::process::Command;

/// Checks that the suite has: one that is forgotten at its end is not run.
const CHECKS: usize = 18;

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

/// A capacity provider on the command line: made, shown, changed, taken away; and what is refused.
#[test]
fn capacity_providers_have_a_noun_on_the_command_line() {
    let dir = tempfile::tempdir().unwrap();
    let local = LocalEcs::start_with(&["--data-dir", &dir.path().to_string_lossy()]);
    let ask = |words: &str| {
        let words: Vec<_> = ["capacity-provider"].into_iter().chain(words.split(' ')).collect();
        local.client(dir.path(), &words).output().unwrap()
    };
    let group = "arn:aws:autoscaling:::autoScalingGroup:1:autoScalingGroupName/spot";
    let (create, json) = (format!("create spot --group {group}"), "--output json");
    for (words, code, says) in [
        (&*format!("{create} --managed-scaling ENABLED --target-capacity 90"), 0, "90 %"),
        (&*create, 1, "already exists"),
        ("update spot --target-capacity 80 --managed-draining DISABLED", 0, "80 %"),
        ("update spot --target-capacity 101", 2, "targetCapacity: \"101\" is not allowed"),
        ("update spot", 2, "nothing to change"),
        ("describe spot", 0, "managed draining         DISABLED"),
        (&*format!("describe spot {json}"), 0, "\"targetCapacity\": 80"),
        (&*format!("list {json}"), 0, "\"name\": \"FARGATE\""),
        ("delete spot", 0, "INACTIVE"),
        ("describe none", 4, "does not exist"),
        ("create --help", 0, "Examples:\n  muster capacity-provider create spot"),
    ] {
        let output = ask(words);
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(code), "{words}: {said}");
        assert!(said.contains(says), "{words}: {said}");
    }
    let left = String::from_utf8_lossy(&ask("list").stdout).into_owned();
    assert!(!left.contains("spot") && left.contains("FARGATE_SPOT"), "{left}");
}
