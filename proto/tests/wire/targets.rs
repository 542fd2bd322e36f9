//! What each rpc acts on, as it follows from the names of its request's fields: recorded, so that a
//! new rpc is looked at before policies decide about it. `UPDATE=1` records anew.

#![allow(dead_code, reason = "the build script uses the rest")]

#[path = "../../build/target.rs"]
mod target;

use crate::policy::build as policy;
use muster_proto::pb;
use muster_proto::target::{Acts, On, actions};
use std::path::Path;

fn compiled(files: &[&str], also: &str) -> prost_reflect::DescriptorPool {
    let api = concat!(env!("CARGO_MANIFEST_DIR"), "/api");
    let mut compiler = protox::Compiler::new([also, api]).unwrap();
    compiler.open_files(files).unwrap();
    compiler.descriptor_pool()
}

#[test]
fn each_action_acts_on_what_is_recorded() {
    let pool = compiled(&["ecs.proto"], env!("CARGO_MANIFEST_DIR"));
    let mut now = String::new();
    for rpc in target::declared(&pool).unwrap() {
        let on = rpc.on.map_or("*".to_owned(), |(kind, field)| format!("{kind} by {field}"));
        let cluster = if rpc.cluster { ", ecs:cluster" } else { "" };
        let tags = if rpc.tags { ", aws:RequestTag" } else { "" };
        now.push_str(&format!("{}: {on}{cluster}{tags}\n", rpc.action));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/targets/actions.txt");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    let recorded = std::fs::read_to_string(&path).unwrap();
    assert_eq!(now, recorded, "UPDATE=1 records it anew; look at each line that changed");
}

#[test]
fn a_live_rpc_without_an_action_fails_the_build() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("live-without-an-action");
    std::fs::create_dir_all(&dir).unwrap();
    let compile = |option: &str| {
        let source = format!(
            "syntax = \"proto3\"; package muster.v1; import \"options.proto\"; message M {{}}
            service Live {{ rpc Peek(M) returns (M) {{ option (auth) = AUTH_USER_READ; {option} }} }}"
        );
        std::fs::write(dir.join("live.proto"), source).unwrap();
        let pool = compiled(&["live.proto"], dir.to_str().unwrap());
        target::targets(&pool).map_err(|error| error.to_string())
    };
    let code = compile("option (action) = \"muster:Peek\";").unwrap();
    assert!(
        code.contains("impl Acts for crate::pb::M { const ACTION: &'static str = \"muster:Peek\"")
    );
    let error = compile("").unwrap_err();
    assert_eq!(error, "rpc muster.v1.Live.Peek does not set (muster.v1.action)");
}

#[test]
fn a_request_tells_what_it_names() {
    let request = pb::DescribeTasksRequest {
        cluster: "blue".into(),
        tasks: vec!["a".into(), "b".into()],
        ..Default::default()
    };
    let target = request.target();
    assert_eq!((target.on, target.cluster), (On::Task, Some("blue")));
    assert_eq!(target.names.iter().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(pb::exec_request::Start::ACTION, "ecs:ExecuteCommand");
    assert!(actions().any(|action| action == "ecs:RunTask"));
}
