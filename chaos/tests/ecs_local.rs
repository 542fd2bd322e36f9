//! The local ECS for people's own test suites, driven by the clients that they use: boto3 and the
//! `aws` command line, both from PyPI, unmodified.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test's way to fail

use muster_chaos::lab::root;
use muster_chaos::local::{LocalEcs, alone};
use muster_chaos::python::{done, ecs_clients};
use serde_json::Value;
use std::process::Command;

/// Checks that the suite has: one that is forgotten at its end is not run.
const CHECKS: usize = 21;

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

/// The account that ARNs carry is as it was told; their region is the one that a client signs for.
/// One access key, and made-up ones are nobody's.
#[test]
fn an_account_is_as_told_and_a_key_ends_made_up_ones() {
    let (clients, dir) = (ecs_clients(), tempfile::tempdir().unwrap());
    let data_dir = dir.path().to_string_lossy();
    let told = ["--account-id", "210987654321", "--region", "eu-north-1", "--data-dir", &data_dir];
    let local = LocalEcs::start_with(&told);
    let aws = |key: Option<&Value>, words: &[&str]| {
        let mut command = Command::new(clients.program("aws"));
        local.enter(command.args(words));
        // The one variable for all of AWS does as well as ECS's own.
        command.env_remove("AWS_ENDPOINT_URL_ECS");
        command.env("AWS_ENDPOINT_URL", format!("http://{}", local.address));
        if let Some(key) = key {
            command.env("AWS_ACCESS_KEY_ID", key["accessKeyId"].as_str().unwrap());
            command.env("AWS_SECRET_ACCESS_KEY", key["secretAccessKey"].as_str().unwrap());
        }
        let output = command.output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let made = aws(None, &["ecs", "create-cluster", "--cluster-name", "lab"]);
    assert!(made.contains("arn:aws:ecs:eu-central-1:210987654321:cluster/lab"), "{made}");
    let listed = done(&mut local.client(dir.path(), &["cluster", "list", "--output", "json"]));
    assert!(listed.contains("arn:aws:ecs:eu-north-1:210987654321:cluster/lab"), "{listed}");

    let create = ["access-key", "create", "--output", "json"];
    let key: Value = serde_json::from_str(&done(&mut local.client(dir.path(), &create))).unwrap();
    let refused = aws(None, &["ecs", "list-clusters"]);
    assert!(refused.contains("UnrecognizedClientException"), "{refused}");
    let listed = aws(Some(&key), &["ecs", "list-clusters"]);
    assert!(listed.contains("cluster/lab"), "{listed}");
    let caller = aws(Some(&key), &["sts", "get-caller-identity"]);
    assert!(caller.contains("210987654321"), "{caller}");
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
