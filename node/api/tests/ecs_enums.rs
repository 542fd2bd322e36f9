//! Values that no enum of ECS's model has, at every member of a request that is one: each is
//! refused by an error that names the member, and nothing comes of the request.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
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

/// An operation, its request, and the member that its refusal names.
type Asked = (&'static str, Value, &'static str);

/// What no enum has.
const P: &str = "PURPLE";

fn of_lists_and_states() -> Vec<Asked> {
    let nobody = "0123456789abcdef0123456789abcdef";
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
    ]
}

fn of_runs_and_services() -> Vec<Asked> {
    let rule = json!([{ "type": P }]);
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
    let depends = json!([{ "containerName": "main", "condition": P }]);
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
            container(json!({ "portMappings": [{ "containerPort": 80, "protocol": P }] })),
            "portMappings[0].protocol",
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

#[tokio::test]
async fn a_value_that_an_enum_has_not_is_refused_by_its_member() {
    let (bench, door) = open().await;
    let (status, answer) = send(&door, "RegisterTaskDefinition", &definition(json!({}))).await;
    assert_eq!(status, 200, "{answer}");
    let web = json!({ "serviceName": "web", "taskDefinition": "web" });
    let (status, answer) = send(&door, "CreateService", &web).await;
    assert_eq!(status, 200, "{answer}");
    let before = bench.replica.state().applied();
    let mut wrong = Vec::new();
    let all = [of_lists_and_states(), of_runs_and_services(), of_definitions()].concat();
    for (operation, body, member) in all {
        let (status, answer) = send(&door, operation, &body).await;
        let told = answer["message"].as_str().unwrap_or_default();
        if status != 400 || !told.contains(member) {
            wrong.push(format!("{operation} {body}: {status} {answer}"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new(), "{}", wrong.join("\n"));
    assert_eq!(bench.replica.state().applied(), before, "nothing came of any of them");
}
