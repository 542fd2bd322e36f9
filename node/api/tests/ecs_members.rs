//! Members of requests that ECS's tools send, through the wire protocol's door: which lists an
//! update replaces, what is kept and shown, and what is refused by the capability it needs.
#![allow(clippy::unwrap_used)]

mod support;

use muster_api::ecs::Door;
use serde_json::{Value, json};
use support::door::{open, send};

async fn ask(door: &Door, operation: &str, body: Value) -> Value {
    let (status, answer) = send(door, operation, &body).await;
    assert_eq!(status, 200, "{operation} {body}: {answer}");
    answer
}

/// What refuses a request, and with which words.
async fn refused(door: &Door, operation: &str, body: Value) -> (String, String) {
    let (status, answer) = send(door, operation, &body).await;
    assert_ne!(status, 200, "{operation} {body}: {answer}");
    let text = |name: &str| answer[name].as_str().unwrap().to_owned();
    (text("__type"), text("message"))
}

/// A definition of one container, with more beside it.
fn definition(more: Value) -> Value {
    let main = json!({ "name": "main", "image": "busybox", "memory": 8 });
    let mut whole = json!({ "family": "web", "containerDefinitions": [main] });
    whole.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    whole
}

fn ports(mapping: Value) -> Value {
    let main =
        json!({ "name": "main", "image": "busybox", "memory": 8, "portMappings": [mapping] });
    json!({ "family": "web", "containerDefinitions": [main] })
}

#[tokio::test]
async fn an_update_replaces_the_lists_that_it_names() {
    let (_bench, door) = open().await;
    ask(&door, "RegisterTaskDefinition", definition(json!({}))).await;
    let ssd = json!([{ "type": "memberOf", "expression": "attribute:disk == ssd" }]);
    let alone = json!([{ "type": "distinctInstance" }]);
    let packed = json!([{ "type": "binpack", "field": "memory" }]);
    let made = json!({ "serviceName": "web", "taskDefinition": "web", "placementConstraints": ssd,
        "placementStrategy": packed });
    ask(&door, "CreateService", made).await;
    let none = json!([]);
    for (named, constraints, strategy) in [
        (json!({}), &ssd, &packed),
        (json!({ "placementConstraints": alone }), &alone, &packed),
        (json!({ "placementStrategy": [] }), &alone, &none),
        (json!({ "placementConstraints": null, "placementStrategy": packed }), &alone, &packed),
        (json!({ "placementConstraints": [], "placementStrategy": [] }), &none, &none),
    ] {
        let mut body = json!({ "service": "web", "desiredCount": 1 });
        body.as_object_mut().unwrap().extend(named.as_object().unwrap().clone());
        let answer = ask(&door, "UpdateService", body).await;
        let service = &answer["service"];
        assert_eq!(&service["placementConstraints"], constraints, "{named}");
        assert_eq!(&service["placementStrategy"], strategy, "{named}");
    }
}

#[tokio::test]
async fn a_platform_that_instances_are_is_kept_and_another_refused_by_name() {
    let (_bench, door) = open().await;
    for platform in [
        json!({ "cpuArchitecture": "X86_64", "operatingSystemFamily": "LINUX" }),
        json!({ "cpuArchitecture": "ARM64" }),
        json!({ "operatingSystemFamily": "LINUX" }),
    ] {
        let body = definition(json!({ "runtimePlatform": platform }));
        let answer = ask(&door, "RegisterTaskDefinition", body).await;
        assert_eq!(answer["taskDefinition"]["runtimePlatform"], platform);
        // What it means for placement is no constraint that anybody wrote.
        assert_eq!(answer["taskDefinition"]["placementConstraints"], json!([]));
    }
    let plain = ask(&door, "RegisterTaskDefinition", definition(json!({}))).await;
    assert!(plain["taskDefinition"].get("runtimePlatform").is_none(), "{plain}");
    for (platform, exception, says) in [
        (
            json!({ "operatingSystemFamily": "WINDOWS_SERVER_2022_CORE" }),
            "UnsupportedFeatureException",
            "instances run Linux",
        ),
        (json!({ "operatingSystemFamily": "BEOS" }), "InvalidParameterException", "LINUX"),
        (json!({ "cpuArchitecture": "x86" }), "InvalidParameterException", "X86_64 or ARM64"),
    ] {
        let body = definition(json!({ "runtimePlatform": platform }));
        let (found, message) = refused(&door, "RegisterTaskDefinition", body).await;
        assert_eq!(found, exception, "{message}");
        assert!(message.contains("runtimePlatform.") && message.contains(says), "{message}");
    }
}

#[tokio::test]
async fn what_a_port_speaks_is_kept_and_shown() {
    let (_bench, door) = open().await;
    for protocol in ["http", "http2", "grpc"] {
        let body = ports(json!({ "containerPort": 80, "appProtocol": protocol }));
        let answer = ask(&door, "RegisterTaskDefinition", body).await;
        let shown = &answer["taskDefinition"]["containerDefinitions"][0]["portMappings"][0];
        assert_eq!(shown["appProtocol"], protocol);
    }
    let plain = ask(&door, "RegisterTaskDefinition", ports(json!({ "containerPort": 80 }))).await;
    let shown = &plain["taskDefinition"]["containerDefinitions"][0]["portMappings"][0];
    assert!(shown.get("appProtocol").is_none(), "{shown}");
    let other = ports(json!({ "containerPort": 80, "appProtocol": "smtp" }));
    let (exception, message) = refused(&door, "RegisterTaskDefinition", other).await;
    assert_eq!(exception, "ClientException");
    assert!(message.contains("portMappings[0].appProtocol"), "{message}");
}

/// Every way to ask for a load balancer, a capacity provider, CodeDeploy or Fargate: none is taken
/// silently, and each refusal says what is missing.
#[tokio::test]
async fn what_needs_a_capability_that_is_not_built_is_refused_by_its_name() {
    let (_bench, door) = open().await;
    ask(&door, "RegisterTaskDefinition", definition(json!({}))).await;
    ask(&door, "CreateService", json!({ "serviceName": "web", "taskDefinition": "web" })).await;
    let strategy = json!([{ "capacityProvider": "FARGATE", "weight": 1 }]);
    let balancer = json!([{ "containerName": "main", "containerPort": 80,
        "targetGroupArn": "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/a/1" }]);
    let network = json!({ "awsvpcConfiguration": { "subnets": ["subnet-1"] } });
    let (providers, balancers, deploy) = (
        "placing tasks by capacity providers",
        "load balancers are not built",
        "CodeDeploy is AWS's",
    );
    let awsvpc = "awsvpc networking is not built";
    let create = |more: Value| {
        let mut body = json!({ "serviceName": "new", "taskDefinition": "web" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ("CreateService", body)
    };
    let update =
        |name: &str, value: &Value| ("UpdateService", json!({ "service": "web", name: value }));
    let run =
        |name: &str, value: &Value| ("RunTask", json!({ "taskDefinition": "web", name: value }));
    let set = |name: &str, value: &Value| json!({ "service": "web", "taskDefinition": "web", name: value });
    for ((operation, body), says) in [
        (create(json!({ "capacityProviderStrategy": strategy })), providers),
        (create(json!({ "loadBalancers": balancer })), balancers),
        (create(json!({ "role": "ecsServiceRole" })), balancers),
        (create(json!({ "networkConfiguration": network })), awsvpc),
        (create(json!({ "serviceRegistries": [{ "registryArn": "a" }] })), "service discovery"),
        (create(json!({ "deploymentController": { "type": "CODE_DEPLOY" } })), deploy),
        (create(json!({ "launchType": "FARGATE" })), "(Fargate) is not built"),
        (update("capacityProviderStrategy", &strategy), "nothing is placed by them"),
        (update("loadBalancers", &balancer), balancers),
        (update("networkConfiguration", &network), awsvpc),
        (run("capacityProviderStrategy", &strategy), providers),
        (run("networkConfiguration", &network), awsvpc),
        (run("launchType", &json!("FARGATE")), "(Fargate) is not built"),
        (
            ("RegisterTaskDefinition", definition(json!({ "networkMode": "awsvpc" }))),
            "a network interface per task is not built",
        ),
        (("CreateTaskSet", set("loadBalancers", &balancer)), balancers),
        (("CreateTaskSet", set("networkConfiguration", &network)), awsvpc),
        (("CreateTaskSet", set("capacityProviderStrategy", &strategy)), providers),
        (("CreateTaskSet", set("launchType", &json!("FARGATE"))), "(Fargate) is not built"),
        (("ExecuteCommand", json!({ "task": "a", "command": "sh" })), "muster task exec"),
    ] {
        let (exception, message) = refused(&door, operation, body.clone()).await;
        assert_eq!(exception, "UnsupportedFeatureException", "{operation} {body}: {message}");
        assert!(message.contains(says), "{operation} {body}: {message}");
    }
}
