//! Requests of the public API, in protobuf and in JSON, from bytes to what they do to a state.
//!
//! Conversion and `apply` answer or refuse; they never panic. JSON that is accepted is shown and
//! accepted again as the same message. An error that crossed the wire can be told.

use super::world::world;
use super::{chosen, text};
use muster_model::{Command, Error};
use muster_proto::json::{Described, from_ecs, from_str_lenient, from_str_strict, to_value};
use muster_proto::{convert, error, pb};
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tonic::{Code, Status};

#[test]
fn api_request() {
    muster_fuzz::target("api_request", protobuf, |input| {
        let (number, bytes) = chosen(input);
        request(number, &Form::Protobuf(bytes));
    });
}

#[test]
fn api_json() {
    muster_fuzz::target("api_json", json, |input| {
        let (number, bytes) = chosen(input);
        let Some(text) = text(bytes) else { return };
        request(number, &Form::Json(text));
    });
}

#[test]
fn api_status() {
    let seeds = || {
        let errors = [Error::refused("no"), Error::invalid("family", "?", "a name")];
        let status = |error| error::to_status(error).details().to_vec();
        errors.iter().map(|error| [vec![9], status(error)].concat()).collect()
    };
    muster_fuzz::target("api_status", seeds, |input| {
        let (code, details) = chosen(input);
        let message = String::from_utf8_lossy(details);
        let details = details.to_vec().into();
        let status = Status::with_details(Code::from_i32(code.into()), message, details);
        let told = error::from_status(&status);
        error::message(&told);
        error::to_status(&told);
    });
}

enum Form<'a> {
    Protobuf(&'a [u8]),
    Json(&'a str),
}

impl Form<'_> {
    fn read<T>(&self) -> Option<T>
    where
        T: Message
            + Default
            + PartialEq
            + Described
            + Serialize
            + DeserializeOwned
            + std::fmt::Debug,
    {
        match self {
            Self::Protobuf(bytes) => T::decode(*bytes).ok(),
            Self::Json(text) => {
                let strict = from_str_strict::<T>(text).ok();
                let lenient = from_str_lenient::<T>(text).ok();
                // An empty body is an empty message there.
                if let Some(wire) = from_ecs::<T>(text.as_bytes()).ok().filter(|_| !text.is_empty())
                {
                    let named = || from_str_lenient(&naming_lists(text)).ok();
                    let same = lenient.as_ref() == Some(&wire) || named().as_ref() == Some(&wire);
                    assert!(same, "the wire door reads otherwise: {wire:?}");
                }
                if let Some(strict) = strict {
                    assert_eq!(lenient.as_ref(), Some(&strict), "strict and lenient differ");
                    let shown = to_value(&strict).to_string();
                    assert_eq!(from_str_strict::<T>(&shown).as_ref(), Ok(&strict), "{shown}");
                }
                lenient
            }
        }
    }
}

/// The text that says by a member of its own which lists it names, empty or not, as the wire door
/// hears it. A message that knows no such member ignores it.
fn naming_lists(text: &str) -> String {
    let Ok(Value::Object(mut members)) = serde_json::from_str(text) else { return text.into() };
    let lists = [
        ("placementConstraints", "setPlacementConstraints"),
        ("placementStrategy", "setPlacementStrategy"),
    ];
    for (list, member) in lists {
        if members.contains_key(list) {
            members.insert(member.into(), true.into());
        }
    }
    Value::Object(members).to_string()
}

fn request(number: u8, form: &Form<'_>) {
    use convert::{cluster, definition, instance, operator, service, task};
    let mut world = world();
    let (s, ids) = (&world.state, &mut world.ids);
    let one = |command: Result<Command, Error>| vec![command];
    let commands: Option<Vec<Result<Command, Error>>> = match number % 15 {
        0 => form.read().map(|m| one(cluster::create(s, ids, &m))),
        1 => form.read().map(|m| one(cluster::delete(s, &m))),
        2 => form.read().map(|m| one(cluster::tag(s, &m))),
        3 => form.read().map(|m| one(cluster::untag(s, &m))),
        4 => form.read().map(|m| one(definition::register(&m))),
        5 => form.read().map(|m| one(definition::deregister(s, &m))),
        6 => form.read().map(|m| one(service::create(s, ids, &m))),
        7 => form.read().map(|m| one(service::update(s, ids, &m))),
        8 => form.read().map(|m| one(service::delete(s, &m))),
        9 => form.read().map(|m| one(task::run(s, ids, &m))),
        10 => form.read().map(|m| one(task::stop(s, &m))),
        11 => form.read().and_then(|m| instance::update_status(s, &m).ok()),
        12 => form.read().map(|m| one(instance::deregister(s, &m))),
        13 => {
            let _ = form.read().map(|m| instance::simulated(&m));
            None
        }
        _ => {
            let _ = form.read().map(|m| operator::create_user(&m));
            None
        }
    };
    for command in commands.into_iter().flatten().flatten() {
        // What it came to is a result, whatever it is.
        let _ = world.apply(command);
    }
}

const JSON: [(u8, &str); 15] = [
    (0, r#"{"clusterName": "second", "tags": [{"key": "team", "value": "blue"}]}"#),
    (1, r#"{"cluster": "arn:aws:ecs:local:000000000000:cluster/default"}"#),
    (
        2,
        r#"{"resourceArn": "arn:aws:ecs:local:000000000000:service/default/web", "tags": [{"key": "a", "value": "b"}]}"#,
    ),
    (3, r#"{"resourceArn": "arn:aws:ecs:local:000000000000:cluster/default", "tagKeys": ["a"]}"#),
    (
        4,
        r#"{"family": "sleep", "containerDefinitions": [{"name": "main", "image": "busybox", "memory": 16}]}"#,
    ),
    (5, r#"{"taskDefinition": "web:1"}"#),
    (
        6,
        r#"{"serviceName": "next", "taskDefinition": "web", "desiredCount": 2, "placementStrategy": [{"type": "spread", "field": "attribute:ecs.availability-zone"}], "deploymentConfiguration": {"maximumPercent": 150, "minimumHealthyPercent": 50}}"#,
    ),
    (
        7,
        r#"{"service": "web", "desiredCount": 9, "taskDefinition": "web:1", "forceNewDeployment": true}"#,
    ),
    (8, r#"{"service": "web", "force": true}"#),
    (
        9,
        r#"{"taskDefinition": "web", "count": 3, "overrides": {"containerOverrides": [{"name": "web", "command": ["x"], "environment": [{"name": "A", "value": "1"}]}]}, "startedBy": "me"}"#,
    ),
    (10, r#"{"task": "00000000000000000000000000000001", "reason": "enough"}"#),
    (11, r#"{"containerInstances": ["00000000000000000000000000000001"], "status": "DRAINING"}"#),
    (12, r#"{"containerInstance": "i2", "force": true}"#),
    (
        13,
        r#"{"instanceIdentityDocument": "{\"instanceId\":\"i-1\",\"instanceType\":\"m5.large\"}", "totalResources": [{"name": "CPU", "type": "INTEGER", "integerValue": 2048}, {"name": "PORTS", "type": "STRINGSET", "stringSetValue": ["22"]}], "attributes": [{"name": "disk", "value": "ssd"}]}"#,
    ),
    (
        14,
        r#"{"name": "ci", "role": "operator", "certificateRequestPem": "x", "validitySeconds": 3600}"#,
    ),
];

fn json() -> Vec<Vec<u8>> {
    JSON.iter().map(|(number, text)| [&[*number], text.as_bytes()].concat()).collect()
}

/// The same requests on the other wire.
fn protobuf() -> Vec<Vec<u8>> {
    fn bytes<T: Message + Described + DeserializeOwned>(number: u8) -> Vec<u8> {
        let (_, text) = JSON[usize::from(number)];
        let message = from_str_strict::<T>(text).expect("the seeds are valid");
        [vec![number], message.encode_to_vec()].concat()
    }
    vec![
        bytes::<pb::CreateClusterRequest>(0),
        bytes::<pb::DeleteClusterRequest>(1),
        bytes::<pb::TagResourceRequest>(2),
        bytes::<pb::UntagResourceRequest>(3),
        bytes::<pb::RegisterTaskDefinitionRequest>(4),
        bytes::<pb::DeregisterTaskDefinitionRequest>(5),
        bytes::<pb::CreateServiceRequest>(6),
        bytes::<pb::UpdateServiceRequest>(7),
        bytes::<pb::DeleteServiceRequest>(8),
        bytes::<pb::RunTaskRequest>(9),
        bytes::<pb::StopTaskRequest>(10),
        bytes::<pb::UpdateContainerInstancesStateRequest>(11),
        bytes::<pb::DeregisterContainerInstanceRequest>(12),
        bytes::<pb::CreateUserRequest>(14),
    ]
}
