//! Runs `tests/data/*.txt`: a request, `----`, and what comes of it. `UPDATE=1` records anew.
//!
//! A case is a line `<operation>` with, below it, JSON that is laid over the operation's base
//! request (given once by `base <operation>`): objects merge, lists merge by position, null
//! removes. So each case shows only what is special about it.

use crate::world::World;
use muster_model::{Command, Error};
use muster_proto::json::{Described, from_str_strict, to_value};
use muster_proto::{arn, convert, error, pb, view};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

#[test]
fn every_script_comes_to_what_it_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let mut scripts: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "txt"))
        .collect();
    scripts.sort();
    assert!(scripts.len() >= 3, "no scripts in {}", folder.display());
    let update = std::env::var_os("UPDATE").is_some();
    let mut different = Vec::new();
    for path in scripts {
        let recorded = std::fs::read_to_string(&path).unwrap();
        let now = run(&recorded);
        if now != recorded && update {
            std::fs::write(&path, &now).unwrap();
        } else if now != recorded {
            different.push(format!("==== {}\n{}", path.display(), difference(&recorded, &now)));
        }
    }
    assert!(different.is_empty(), "{}\nUPDATE=1 records them anew", different.join("\n"));
}

fn difference(recorded: &str, now: &str) -> String {
    let mut lines = recorded.lines().zip(now.lines()).enumerate();
    match lines.find(|(_, (old, new))| old != new) {
        Some((at, (old, new))) => format!("line {}:\n  recorded {old}\n  now      {new}", at + 1),
        None => "one is longer than the other".into(),
    }
}

/// The script with its answers as they are now.
fn run(script: &str) -> String {
    let mut world = World::new();
    let mut bases = BTreeMap::new();
    let mut out = String::new();
    for case in script.trim_end().split("\n\n") {
        let comments: Vec<&str> = case.lines().take_while(|line| line.starts_with('#')).collect();
        let rest: Vec<&str> = case.lines().skip(comments.len()).collect();
        let input: Vec<&str> = rest.iter().copied().take_while(|line| *line != "----").collect();
        for line in comments.iter().chain(&input) {
            out.push_str(&format!("{line}\n"));
        }
        if let Some((operation, body)) = input.split_first() {
            if let Some(operation) = operation.strip_prefix("base ") {
                bases.insert(operation.to_owned(), parse(&body.join("\n")));
            } else {
                out.push_str(&format!("----\n{}\n", answer(&mut world, &bases, operation, body)));
            }
        }
        out.push('\n');
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

fn answer(world: &mut World, bases: &BTreeMap<String, Value>, line: &str, body: &[&str]) -> String {
    if let Some(what) = line.strip_prefix("show ") {
        let shown = show(world, what);
        return serde_json::to_string_pretty(&shown).unwrap();
    }
    let (operation, apply) = match line.strip_prefix("apply ") {
        Some(operation) => (operation, true),
        None => (line, false),
    };
    let mut request = bases.get(operation).cloned().unwrap_or_else(|| parse("{}"));
    if !body.is_empty() {
        merge(&mut request, parse(&body.join("\n")));
    }
    let result = commands(world, operation, &request.to_string());
    let result = match (result, apply) {
        (Ok(commands), true) => commands.into_iter().try_for_each(|c| world.apply(c).map(drop)),
        (Ok(_), false) => Ok(()),
        (Err(error), _) => Err(error),
    };
    match result {
        Ok(()) => "ok".into(),
        Err(error) => {
            let face = error::face(&error);
            format!("{:?} {}\n{}", face.code, face.exception, face.message)
        }
    }
}

/// Objects merge by name, lists by position; null removes.
fn merge(base: &mut Value, patch: Value) {
    match (base, patch) {
        (Value::Object(base), Value::Object(patch)) => {
            for (name, patch) in patch {
                if patch.is_null() {
                    base.remove(&name);
                } else {
                    merge(base.entry(name).or_insert(Value::Null), patch);
                }
            }
        }
        (Value::Array(base), Value::Array(patch)) if !patch.is_empty() => {
            for (index, patch) in patch.into_iter().enumerate() {
                if index == base.len() {
                    base.push(Value::Null);
                }
                merge(&mut base[index], patch);
            }
        }
        (base, patch) => *base = patch,
    }
}

fn commands(world: &mut World, operation: &str, json: &str) -> Result<Vec<Command>, Error> {
    fn of<T: Described + DeserializeOwned>(json: &str) -> Result<T, Error> {
        from_str_strict(json)
    }
    let (state, ids) = (&world.state, &mut world.ids);
    let one = |command: Result<Command, Error>| command.map(|command| vec![command]);
    match operation {
        "register" => one(convert::definition::register(&of(json)?)),
        "deregister" => one(convert::definition::deregister(state, &of(json)?)),
        "create-cluster" => one(convert::cluster::create(state, ids, &of(json)?)),
        "delete-cluster" => one(convert::cluster::delete(state, &of(json)?)),
        "tag" => one(convert::cluster::tag(state, &of(json)?)),
        "untag" => one(convert::cluster::untag(state, &of(json)?)),
        "create-service" => one(convert::service::create(state, ids, &of(json)?)),
        "update-service" => one(convert::service::update(state, ids, &of(json)?)),
        "delete-service" => one(convert::service::delete(state, &of(json)?)),
        "run-task" => one(convert::task::run(state, ids, &of(json)?)),
        "stop-task" => one(convert::task::stop(state, &of(json)?)),
        "update-instances" => {
            convert::instance::update_status(state, &of(json)?)?.into_iter().collect()
        }
        "deregister-instance" => one(convert::instance::deregister(state, &of(json)?)),
        "create-user" => convert::operator::create_user(&of(json)?).map(|_| Vec::new()),
        "rotate-token" => {
            let request: pb::RotateTokenRequest = of(json)?;
            convert::operator::token_role(&request.role).map(|_| Vec::new())
        }
        "remove-manager" => {
            let request: pb::RemoveManagerRequest = of(json)?;
            convert::operator::raft_id("id", request.id).map(|_| Vec::new())
        }
        "list" => {
            let request: pb::ListTasksRequest = of(json)?;
            convert::page_size(request.max_results, convert::PageSizes::MOST)?;
            Ok(Vec::new())
        }
        "describe-services" => {
            let request: pb::DescribeServicesRequest = of(json)?;
            convert::some_names("services", &request.services, 10)?;
            let cluster = arn::cluster(state, &request.cluster)?;
            request
                .services
                .iter()
                .try_for_each(|name| arn::service(state, cluster, name).map(drop))
                .map(|()| Vec::new())
        }
        other => panic!("no operation {other:?}"),
    }
}

fn show(world: &World, what: &str) -> Value {
    let state = &world.state;
    let cluster = arn::cluster(state, "").unwrap();
    let (kind, name) = what.split_once(' ').unwrap_or((what, ""));
    match kind {
        "cluster" => to_value(&view::cluster(state, cluster)),
        "definition" => to_value(&view::definition(state, arn::definition(state, name).unwrap())),
        "service" => to_value(&view::service(state, arn::service(state, cluster, name).unwrap())),
        "instance" => {
            to_value(&view::instance(state, arn::instance(state, cluster, name).unwrap()))
        }
        "tasks" => {
            let mut tasks: Vec<_> = state.tasks().collect();
            tasks.sort_by_key(|task| task.slot());
            tasks.into_iter().map(|task| to_value(&view::task(state, task))).collect()
        }
        "failures" => state
            .tasks()
            .filter_map(|task| view::placement_failure(state, task))
            .map(|failure| to_value(&failure))
            .collect(),
        other => panic!("nothing to show: {other:?}"),
    }
}
