//! Values that no enum of ECS's model has, at every member of a request that is one: each is
//! refused by an error that names the member, and nothing comes of the request.
#![allow(clippy::unwrap_used)]

mod support;

use muster_proto::json::{Described, Message, Shape};
use muster_proto::pb;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use support::door::{open, send};

fn with(mut whole: Value, more: Value) -> Value {
    whole.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    whole
}

fn definition(more: Value) -> Value {
    let main = json!({ "name": "main", "image": "busybox", "memory": 8 });
    with(json!({ "family": "web", "containerDefinitions": [main] }), more)
}

fn container(more: Value) -> Value {
    let main = with(json!({ "name": "main", "image": "busybox", "memory": 8 }), more);
    json!({ "family": "web", "containerDefinitions": [main] })
}

fn service(more: Value) -> Value {
    with(json!({ "serviceName": "new", "taskDefinition": "web" }), more)
}

fn run(more: Value) -> Value {
    with(json!({ "taskDefinition": "web" }), more)
}

fn provider(more: Value) -> Value {
    let group = with(json!({ "autoScalingGroupArn": "a" }), more);
    json!({ "name": "new", "autoScalingGroupProvider": group })
}

fn update(more: Value) -> Value {
    json!({ "name": "new", "autoScalingGroupProvider": more })
}

/// An operation, its request, and the member that its refusal names.
type Asked = (&'static str, Value, &'static str);

/// What no enum has.
const P: &str = "PURPLE";

fn of_lists_and_states() -> Vec<Asked> {
    let nobody = "0123456789abcdef0123456789abcdef";
    let attribute = json!({ "name": "a", "targetType": P, "targetId": nobody });
    vec![
        ("ListTasks", json!({ "desiredStatus": P }), "desiredStatus"),
        ("ListTasks", json!({ "launchType": P }), "launch type"),
        ("ListServices", json!({ "launchType": P }), "launch type"),
        ("ListServices", json!({ "schedulingStrategy": P }), "schedulingStrategy"),
        ("ListContainerInstances", json!({ "status": P }), "status"),
        ("ListTaskDefinitions", json!({ "status": P }), "status"),
        ("ListTaskDefinitions", json!({ "sort": P }), "sort"),
        ("ListTaskDefinitionFamilies", json!({ "status": P }), "status"),
        ("ListAttributes", json!({ "targetType": P }), "targetType"),
        ("PutAttributes", json!({ "attributes": [attribute] }), "attributes[0].targetType"),
        ("DescribeClusters", json!({ "include": [P] }), "include"),
        ("DescribeTasks", json!({ "tasks": [nobody], "include": [P] }), "include"),
        ("DescribeServices", json!({ "services": ["web"], "include": [P] }), "include"),
        (
            "DescribeContainerInstances",
            json!({ "containerInstances": [nobody], "include": [P] }),
            "include",
        ),
        ("DescribeTaskDefinition", json!({ "taskDefinition": "web", "include": [P] }), "include"),
        ("DescribeCapacityProviders", json!({ "include": [P] }), "include"),
        ("ListAccountSettings", json!({ "name": P }), "PURPLE should be one of"),
        ("PutAccountSetting", json!({ "name": P, "value": "on" }), "PURPLE should be one of"),
        (
            "UpdateContainerInstancesState",
            json!({ "containerInstances": [nobody], "status": P }),
            "status",
        ),
        ("ListServiceDeployments", json!({ "service": "web", "status": [P] }), "status"),
        (
            "StopServiceDeployment",
            json!({ "serviceDeploymentArn": "arn:aws:ecs:local:000000000000:service-deployment/\
                default/web/1234567890123456789", "stopType": P }),
            "stopType",
        ),
        (
            "UpdateClusterSettings",
            json!({ "cluster": "default", "settings": [{ "name": P, "value": "on" }] }),
            "settings",
        ),
    ]
}

fn set(more: Value) -> Value {
    with(json!({ "service": "web", "taskDefinition": "web" }), more)
}

fn of_providers_and_settings() -> Vec<Asked> {
    vec![
        ("CreateCapacityProvider", provider(json!({ "managedDraining": P })), "managedDraining"),
        (
            "CreateCapacityProvider",
            provider(json!({ "managedTerminationProtection": P })),
            "managedTerminationProtection",
        ),
        (
            "CreateCapacityProvider",
            provider(json!({ "managedScaling": { "status": P } })),
            "managedScaling.status",
        ),
        ("UpdateCapacityProvider", update(json!({ "managedDraining": P })), "managedDraining"),
        (
            "UpdateCapacityProvider",
            update(json!({ "managedTerminationProtection": P })),
            "managedTerminationProtection",
        ),
        ("ListServices", json!({ "resourceManagementType": P }), "resourceManagementType"),
        ("DescribeTaskSets", json!({ "service": "web", "include": [P] }), "include"),
        ("CreateTaskSet", set(json!({ "launchType": P })), "launch type"),
        ("CreateTaskSet", set(json!({ "scale": { "value": 1, "unit": P } })), "scale.unit"),
        (
            "UpdateTaskSet",
            json!({ "service": "web", "taskSet": "a", "scale": { "value": 1, "unit": P } }),
            "scale.unit",
        ),
        (
            "PutAccountSettingDefault",
            json!({ "name": P, "value": "on" }),
            "PURPLE should be one of",
        ),
        ("DeleteAccountSetting", json!({ "name": P }), "PURPLE should be one of"),
        (
            "ContinueServiceDeployment",
            json!({ "serviceDeploymentArn": "arn:aws:ecs:local:000000000000:service-deployment/\
                default/web/1234567890123456789", "hookId": "a", "action": P }),
            "action",
        ),
        (
            "CreateCluster",
            json!({ "clusterName": "new", "configuration": { "executeCommandConfiguration":
                { "logging": P } } }),
            "configuration",
        ),
    ]
}

fn of_runs_and_services() -> Vec<Asked> {
    let rule = json!([{ "type": P }]);
    let hooks =
        |hook: Value| service(json!({ "deploymentConfiguration": { "lifecycleHooks": [hook] } }));
    let at = ["PRE_SCALE_UP"];
    let timeout = json!({ "targetType": "PAUSE", "lifecycleStages": at,
        "timeoutConfiguration": { "action": P } });
    let breaker = json!({ "enable": true, "rollback": true,
        "thresholdConfiguration": { "type": P, "value": 5 } });
    vec![
        ("RunTask", run(json!({ "launchType": P })), "launch type"),
        (
            "CreateService",
            service(json!({ "placementConstraints": rule })),
            "placementConstraints[0].type",
        ),
        (
            "CreateService",
            service(json!({ "placementStrategy": rule })),
            "placementStrategy[0].type",
        ),
        (
            "CreateService",
            hooks(json!({ "targetType": "PAUSE", "lifecycleStages": [P] })),
            "lifecycleHooks[0].lifecycleStages",
        ),
        (
            "CreateService",
            hooks(json!({ "targetType": P, "lifecycleStages": at })),
            "lifecycleHooks[0].targetType",
        ),
        ("CreateService", hooks(timeout), "lifecycleHooks[0].timeoutConfiguration.action"),
        ("CreateService", service(json!({ "launchType": P })), "launch type"),
        ("RunTask", run(json!({ "propagateTags": P })), "propagateTags"),
        (
            "StartTask",
            run(json!({ "containerInstances": ["there"], "propagateTags": P })),
            "propagateTags",
        ),
        (
            "UpdateService",
            json!({ "service": "web", "availabilityZoneRebalancing": P }),
            "availabilityZoneRebalancing",
        ),
        ("UpdateService", json!({ "service": "web", "propagateTags": P }), "propagateTags"),
        ("CreateService", service(json!({ "schedulingStrategy": P })), "schedulingStrategy"),
        ("CreateService", service(json!({ "propagateTags": P })), "propagateTags"),
        (
            "CreateService",
            service(json!({ "availabilityZoneRebalancing": P })),
            "availabilityZoneRebalancing",
        ),
        (
            "CreateService",
            service(json!({ "deploymentController": { "type": P } })),
            "deploymentController.type",
        ),
        (
            "CreateService",
            service(json!({ "deploymentConfiguration": { "strategy": P } })),
            "deploymentConfiguration.strategy",
        ),
        (
            "CreateService",
            service(json!({ "deploymentConfiguration": { "deploymentCircuitBreaker": breaker } })),
            "thresholdConfiguration.type",
        ),
    ]
}

fn of_definitions() -> Vec<Asked> {
    vec![
        ("RegisterTaskDefinition", definition(json!({ "networkMode": P })), "networkMode"),
        ("RegisterTaskDefinition", definition(json!({ "pidMode": P })), "pidMode"),
        ("RegisterTaskDefinition", definition(json!({ "ipcMode": P })), "ipcMode"),
        (
            "RegisterTaskDefinition",
            definition(json!({ "requiresCompatibilities": [P] })),
            "requiresCompatibilities[0]",
        ),
        (
            "RegisterTaskDefinition",
            definition(json!({ "runtimePlatform": { "cpuArchitecture": P } })),
            "cpuArchitecture",
        ),
        (
            "RegisterTaskDefinition",
            definition(json!({ "runtimePlatform": { "operatingSystemFamily": P } })),
            "operatingSystemFamily",
        ),
        (
            "RegisterTaskDefinition",
            definition(json!({ "volumes": [{ "name": "a", "dockerVolumeConfiguration": {
                "scope": P } }] })),
            "dockerVolumeConfiguration.scope",
        ),
        (
            "RegisterTaskDefinition",
            definition(json!({ "volumes": [{ "name": "a", "efsVolumeConfiguration": {
                "fileSystemId": "fs", "transitEncryption": P } }] })),
            "transitEncryption",
        ),
        (
            "RegisterTaskDefinition",
            definition(json!({ "volumes": [{ "name": "a", "efsVolumeConfiguration": {
                "fileSystemId": "fs", "authorizationConfig": { "iam": P } } }] })),
            "authorizationConfig.iam",
        ),
    ]
}

fn of_containers() -> Vec<Asked> {
    let depends = json!([{ "containerName": "main", "condition": P }]);
    vec![
        (
            "RegisterTaskDefinition",
            container(json!({ "portMappings": [{ "containerPort": 80, "protocol": P }] })),
            "portMappings[0].protocol",
        ),
        (
            "RegisterTaskDefinition",
            container(json!({ "portMappings": [{ "containerPort": 80, "name": "a",
                "appProtocol": P }] })),
            "portMappings[0].appProtocol",
        ),
        (
            "RegisterTaskDefinition",
            container(json!({ "linuxParameters": { "devices": [{ "hostPath": "/dev/null",
                "permissions": [P] }] } })),
            "devices[0].permissions",
        ),
        (
            "RegisterTaskDefinition",
            container(json!({ "environmentFiles": [{ "value": "arn:aws:s3:::a/b", "type": P }] })),
            "environmentFiles[0].type",
        ),
        (
            "RegisterTaskDefinition",
            container(json!({ "versionConsistency": P })),
            "versionConsistency",
        ),
        (
            "RegisterTaskDefinition",
            container(json!({ "dependsOn": depends })),
            "dependsOn[0].condition",
        ),
        (
            "RegisterTaskDefinition",
            container(json!({ "logConfiguration": { "logDriver": P } })),
            "logDriver",
        ),
        (
            "RegisterTaskDefinition",
            container(json!({ "ulimits": [{ "name": P, "softLimit": 1, "hardLimit": 1 }] })),
            "ulimits[0].name",
        ),
        (
            "RegisterTaskDefinition",
            container(json!({ "linuxParameters": { "capabilities": { "add": [P] } } })),
            "capabilities.add",
        ),
        (
            "RegisterTaskDefinition",
            container(json!({ "resourceRequirements": [{ "type": P, "value": "x" }] })),
            "resourceRequirements[0]",
        ),
    ]
}

fn all() -> Vec<Asked> {
    [
        of_lists_and_states(),
        of_providers_and_settings(),
        of_runs_and_services(),
        of_definitions(),
        of_containers(),
    ]
    .concat()
}

macro_rules! requests {
    ($($name:ident $method:ident $request:ident $response:ident;)*) => {
        const REQUESTS: &[(&str, &Message)] =
            &[$((stringify!($name), <pb::$request as Described>::MESSAGE)),*];
    };
}
muster_proto::ecs_operations!(requests);

/// Requests that are refused before anybody looks into them.
const NOT_SERVED: [&str; 2] = ["SubmitTaskStateChange", "RegisterContainerInstance"];

/// Members of a message, and of those in it, that are enums with ECS.
fn enums(message: &'static Message, found: &mut BTreeSet<String>) {
    for field in message.fields {
        match &field.shape {
            Shape::Message(inner) => enums(inner, found),
            Shape::OneOf(_) => drop(found.insert(format!("{}.{}", message.name, field.name))),
            _ => {}
        }
    }
}

/// Those of them that a request is wrong at.
fn wrong_at(message: &'static Message, body: &Value, found: &mut BTreeSet<String>) {
    for field in message.fields {
        let values = match &body[field.name] {
            Value::Array(values) => values.iter().collect(),
            one => vec![one],
        };
        for value in values {
            match &field.shape {
                Shape::Message(inner) => wrong_at(inner, value, found),
                Shape::OneOf(_) if *value == P => {
                    found.insert(format!("{}.{}", message.name, field.name));
                }
                _ => {}
            }
        }
    }
}

#[test]
fn every_member_that_is_an_enum_is_asked_for_once_what_it_has_not() {
    let (mut there, mut asked) = (BTreeSet::new(), BTreeSet::new());
    for (name, message) in REQUESTS.iter().filter(|(name, _)| !NOT_SERVED.contains(name)) {
        enums(message, &mut there);
        for (_, body, _) in all().iter().filter(|(operation, ..)| operation == name) {
            wrong_at(message, body, &mut asked);
        }
    }
    let missing: Vec<_> = there.difference(&asked).collect();
    assert!(missing.is_empty(), "no request is wrong at {missing:#?}");
}

#[tokio::test]
async fn a_value_that_an_enum_has_not_is_refused_by_its_member() {
    let (mut bench, door) = open().await;
    let home = bench.instance(1024, 4096).await.to_string();
    let (status, answer) = send(&door, "RegisterTaskDefinition", &definition(json!({}))).await;
    assert_eq!(status, 200, "{answer}");
    let web = json!({ "serviceName": "web", "taskDefinition": "web" });
    let (status, answer) = send(&door, "CreateService", &web).await;
    assert_eq!(status, 200, "{answer}");
    let before = bench.replica.state().applied();
    let mut wrong = Vec::new();
    for (operation, mut body, member) in all() {
        if operation == "StartTask" {
            body["containerInstances"] = json!([home]);
        }
        let (status, answer) = send(&door, operation, &body).await;
        let told = answer["message"].as_str().unwrap_or_default();
        if status != 400 || !told.contains(member) {
            wrong.push(format!("{operation} {body}: {status} {answer}"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new(), "{}", wrong.join("\n"));
    assert_eq!(bench.replica.state().applied(), before, "nothing came of any of them");
}
