//! The ECS wire protocol's door: names, errors and bounds as ECS's clients know them.
#![allow(clippy::unwrap_used)]

mod support;

use muster_api::ecs::{Door, Trust};
use muster_api::limits;
use muster_model::{Time, UserRole};
use muster_proto::pb;
use serde_json::{Value, json};
use std::sync::Arc;
use support::door::{KIND, Key, START, TARGET, head, refused, send_head as send, signed};
use support::{ADMIN, Bench, user};

/// A door that anybody may use.
async fn open() -> (Bench, Arc<Door>) {
    let bench = Bench::start().await;
    let door = bench.api.ecs(Trust::Anyone);
    (bench, door)
}

async fn ask(door: &Door, operation: &str, body: Value) -> Value {
    let (status, answer) = send(door, head(operation), &body.to_string()).await;
    assert_eq!(status, 200, "{operation}: {answer}");
    answer
}

#[tokio::test]
async fn a_cluster_is_made_shown_and_deleted_in_ecs_words() {
    let (_bench, door) = open().await;
    let made = ask(&door, "CreateCluster", json!({ "clusterName": "blue" })).await;
    assert_eq!(made["cluster"]["status"], "ACTIVE");
    for list in ["tags", "settings", "statistics", "capacityProviders"] {
        assert_eq!(made["cluster"][list], json!([]), "{list}");
    }
    let described = ask(&door, "DescribeClusters", json!({ "clusters": ["blue", "red"] })).await;
    assert_eq!(described["clusters"][0]["clusterName"], "blue");
    assert_eq!(described["failures"][0]["reason"], "MISSING");
    let deleted = ask(&door, "DeleteCluster", json!({ "cluster": "blue" })).await;
    assert_eq!(deleted["cluster"]["status"], "INACTIVE");
}

#[tokio::test]
async fn an_empty_body_is_an_empty_message() {
    let (_bench, door) = open().await;
    let (status, answer) = send(&door, head("ListClusters"), "").await;
    assert_eq!((status, answer["clusterArns"].as_array().unwrap().len()), (200, 1));
}

/// ECS's own sentences, which tools compare.
#[tokio::test]
async fn errors_are_worded_as_in_ecs() {
    let (_bench, door) = open().await;
    for (operation, body, exception, message) in [
        (
            "DescribeServices",
            json!({ "cluster": "none", "services": ["a"] }),
            "ClusterNotFoundException",
            "Cluster not found.",
        ),
        (
            "UpdateService",
            json!({ "service": "none" }),
            "ServiceNotFoundException",
            "Service not found.",
        ),
        (
            "StopTask",
            json!({ "task": "0123456789abcdef0123456789abcdef" }),
            "InvalidParameterException",
            "The referenced task was not found.",
        ),
        (
            "DescribeTasks",
            json!({ "tasks": [] }),
            "InvalidParameterException",
            "Tasks cannot be empty.",
        ),
        (
            "DescribeContainerInstances",
            json!({ "containerInstances": [] }),
            "ClientException",
            "Container Instances cannot be empty.",
        ),
        (
            "DeregisterTaskDefinition",
            json!({ "taskDefinition": "web" }),
            "ClientException",
            "Revision is missing.",
        ),
        (
            "DeregisterTaskDefinition",
            json!({ "taskDefinition": "web:x" }),
            "ClientException",
            "Invalid revision number. Number: x",
        ),
        (
            "RunTask",
            json!({ "taskDefinition": "web" }),
            "InvalidParameterException",
            "No Container Instances were found in your cluster.",
        ),
        (
            "DescribeTaskDefinition",
            json!({ "taskDefinition": "none" }),
            "ClientException",
            "Unable to describe task definition.",
        ),
    ] {
        let told = refused(&door, head(operation), &body.to_string()).await;
        assert_eq!(told, (exception.to_owned(), message.to_owned()), "{operation}");
    }
}

#[tokio::test]
async fn what_is_no_operation_is_told_apart_from_what_is_not_built() {
    let (_bench, door) = open().await;
    let (exception, message) = refused(&door, head("CreateDaemon"), "{}").await;
    assert_eq!(exception, "UnsupportedFeatureException");
    assert!(message.starts_with("CreateDaemon is not supported"), "{message}");
    let (exception, message) = refused(&door, head("MakeCoffee"), "{}").await;
    assert_eq!(exception, "UnknownOperationException");
    assert!(message.contains("\"MakeCoffee\""), "{message}");
}

#[tokio::test]
async fn requests_that_are_none_are_refused_by_what_is_wrong_with_them() {
    let (_bench, door) = open().await;
    let post = || http::Request::post("/");
    let target = format!("{TARGET}ListClusters");
    for (request, exception, says) in [
        (post().header("content-type", KIND), "UnknownOperationException", "X-Amz-Target: \"\""),
        (
            post().header("content-type", KIND).header("x-amz-target", "Else.ListClusters"),
            "UnknownOperationException",
            "\"Else.ListClusters\"",
        ),
        (
            post().header("content-type", "text/plain").header("x-amz-target", &target),
            "SerializationException",
            "Content-Type: \"text/plain\"",
        ),
        (post().header("x-amz-target", &target), "SerializationException", "Content-Type: \"\""),
        (http::Request::get("/"), "UnknownOperationException", "GET /"),
        (http::Request::post("/else"), "UnknownOperationException", "POST /else"),
    ] {
        let (found, message) = refused(&door, request, "{}").await;
        assert_eq!(found, exception, "{message}");
        assert!(message.contains(says), "{message}");
    }
}

#[tokio::test]
async fn bodies_that_are_no_message_are_refused_with_the_place() {
    let (_bench, door) = open().await;
    let deep = format!("{}{}", r#"{"tags":"#.repeat(40), "}".repeat(40));
    for (body, says) in [
        (r#"{"clusterName": "a"#, "line 1"),
        (r#"{"clusterName":"a","clusterName":"b"}"#, "clusterName"),
        (r#"{"clusterName": 7}"#, "clusterName"),
        (r#"{"tags": {}}"#, "tags"),
        ("[]", "document"),
        ("7", "document"),
        (deep.as_str(), "32 levels"),
    ] {
        let (exception, message) = refused(&door, head("CreateCluster"), body).await;
        assert_eq!(exception, "SerializationException", "{body}: {message}");
        assert!(message.contains(says), "{body}: {message}");
    }
    for (value, allowed) in [("\"1\"", false), ("1.5", false), ("1e99", false), ("1", true)] {
        let body = format!(r#"{{"maxResults": {value}}}"#);
        let (status, answer) = send(&door, head("ListClusters"), &body).await;
        assert_eq!(status == 200, allowed, "{value}: {answer}");
    }
}

/// ECS ignores members it does not know. What it knows and Muster has not built is never ignored.
#[tokio::test]
async fn unknown_members_are_ignored_and_missing_capabilities_named() {
    let (_bench, door) = open().await;
    let body = json!({ "clusterName": "blue", "colour": "blue", "capacityProviders": [] });
    ask(&door, "CreateCluster", body).await;
    let body = json!({ "service": "web", "loadBalancers": [{ "containerName": "main" }] });
    let (exception, message) = refused(&door, head("UpdateService"), &body.to_string()).await;
    assert_eq!(exception, "UnsupportedFeatureException");
    assert!(message.contains("loadBalancers"), "{message}");
    assert!(!message.contains("--lenient"), "{message}");
}

/// One definition of the smallest container, with more beside it.
fn smallest(container: Value) -> Value {
    let mut whole = json!({ "name": "main", "image": "busybox", "memory": 8 });
    whole.as_object_mut().unwrap().extend(container.as_object().unwrap().clone());
    json!({ "family": "web", "containerDefinitions": [whole] })
}

#[tokio::test]
async fn a_definition_shows_what_it_requires_and_what_it_was_registered_for() {
    let (_bench, door) = open().await;
    let plain = ask(&door, "RegisterTaskDefinition", smallest(json!({}))).await;
    assert_eq!(plain["taskDefinition"]["requiresAttributes"], json!([]));
    assert_eq!(plain["taskDefinition"]["compatibilities"], json!(["EC2"]));
    let mut body = smallest(json!({ "logConfiguration": { "logDriver": "json-file" } }));
    body["requiresCompatibilities"] = json!(["FARGATE", "EXTERNAL"]);
    let told = refused(&door, head("RegisterTaskDefinition"), &body.to_string()).await;
    let why = "Fargate requires that 'cpu' be defined at the task level.";
    assert_eq!(told, ("ClientException".to_owned(), why.to_owned()));
    (body["cpu"], body["memory"]) = (json!("256"), json!("512"));
    let made = ask(&door, "RegisterTaskDefinition", body.clone()).await;
    let shown = &made["taskDefinition"];
    assert_eq!(shown["requiresCompatibilities"], json!(["FARGATE", "EXTERNAL"]));
    assert_eq!(shown["compatibilities"], json!(["EC2", "FARGATE", "EXTERNAL"]));
    let driver = "com.amazonaws.ecs.capability.logging-driver.json-file";
    assert_eq!(shown["requiresAttributes"], json!([{ "name": driver }]));
    body["requiresCompatibilities"] = json!(["LAMBDA"]);
    let told = refused(&door, head("RegisterTaskDefinition"), &body.to_string()).await;
    assert_eq!(told.0, "InvalidParameterException", "{}", told.1);
}

#[tokio::test]
async fn launch_types_are_told_apart_in_ecs_words() {
    let (_bench, door) = open().await;
    ask(&door, "RegisterTaskDefinition", smallest(json!({}))).await;
    let body = |kind: &str| {
        json!({ "serviceName": "web", "taskDefinition": "web", "launchType": kind }).to_string()
    };
    let unknown = "launch type should be one of [EC2,FARGATE,EXTERNAL,MANAGED_INSTANCES]";
    let told = refused(&door, head("CreateService"), &body("SOMETHING")).await;
    assert_eq!(told, ("InvalidParameterException".to_owned(), unknown.to_owned()));
    let (exception, message) = refused(&door, head("CreateService"), &body("FARGATE")).await;
    assert_eq!(exception, "UnsupportedFeatureException");
    assert!(message.contains("(Fargate) is not built"), "{message}");
    let list = |kind: &str| json!({ "launchType": kind });
    let told = refused(&door, head("ListTasks"), &list("SOMETHING").to_string()).await;
    assert_eq!(told.1, unknown);
    let none = ask(&door, "ListTasks", list("FARGATE")).await;
    assert_eq!(none["taskArns"], json!([]));
}

#[tokio::test]
async fn services_have_short_pages_and_deployments_ids_of_nineteen_digits() {
    let (_bench, door) = open().await;
    ask(&door, "RegisterTaskDefinition", smallest(json!({}))).await;
    for number in 0..11 {
        let name = format!("s{number:02}");
        let body = json!({ "serviceName": name, "taskDefinition": "web", "desiredCount": 0 });
        ask(&door, "CreateService", body).await;
    }
    let page = ask(&door, "ListServices", json!({})).await;
    assert_eq!(page["serviceArns"].as_array().unwrap().len(), 10);
    let rest = ask(&door, "ListServices", json!({ "nextToken": page["nextToken"] })).await;
    assert_eq!(rest["serviceArns"].as_array().unwrap().len(), 1);

    let shown = ask(&door, "DescribeServices", json!({ "services": ["s00"] })).await;
    let row = &shown["services"][0];
    let number = row["deployments"][0]["id"].as_str().unwrap().strip_prefix("ecs-svc/").unwrap();
    assert!(number.len() == 19 && number.bytes().all(|b| b.is_ascii_digit()), "{number}");
    let arn = row["currentServiceDeployment"].as_str().unwrap();
    assert!(arn.ends_with(&format!(":service-deployment/default/s00/{number}")), "{arn}");
    let body = json!({ "serviceDeploymentArns": [arn] });
    let found = ask(&door, "DescribeServiceDeployments", body).await;
    assert_eq!(found["serviceDeployments"][0]["serviceDeploymentArn"], arn);
}

#[tokio::test]
async fn a_conflict_names_what_its_token_made_by_arn() {
    let (_bench, door) = open().await;
    let body = |name: &str| json!({ "clusterName": name, "clientToken": "once" });
    let made = ask(&door, "CreateCluster", body("blue")).await;
    let (_, told) = send(&door, head("CreateCluster"), &body("red").to_string()).await;
    assert_eq!(told["__type"], "ConflictException");
    assert_eq!(told["resourceIds"], json!([made["cluster"]["clusterArn"]]));
}

/// What tools look for before they do without.
#[tokio::test]
async fn task_sets_are_looked_for_in_vain() {
    let (_bench, door) = open().await;
    let body = json!({ "cluster": "default", "service": "web", "taskSets": ["ecs-svc/1"] });
    let told = refused(&door, head("DescribeTaskSets"), &body.to_string()).await;
    assert_eq!(told.0, "ServiceNotFoundException");
    ask(&door, "RegisterTaskDefinition", smallest(json!({}))).await;
    let service = json!({ "serviceName": "web", "taskDefinition": "web" });
    ask(&door, "CreateService", service).await;
    let none = ask(&door, "DescribeTaskSets", body).await;
    assert_eq!(none["taskSets"], json!([]));
    let arn = none["failures"][0]["arn"].as_str().unwrap();
    assert!(arn.ends_with(":task-set/default/web/ecs-svc/1"), "{arn}");
}

#[tokio::test]
async fn arns_carry_the_region_that_the_request_names_and_are_found_by_it() {
    let (_bench, door) = open().await;
    let key = Key { region: "eu-west-3", ..Key::new("made-up", "made-up") };
    let there = |operation| signed(operation, "", START, &key);
    let (_, answer) = send(&door, there("CreateCluster"), r#"{"clusterName":"blue"}"#).await;
    let arn = answer["cluster"]["clusterArn"].as_str().unwrap().to_owned();
    assert!(arn.starts_with("arn:aws:ecs:eu-west-3:"), "{arn}");
    let body = json!({ "clusters": [arn] }).to_string();
    let (_, answer) = send(&door, there("DescribeClusters"), &body).await;
    assert_eq!(answer["clusters"][0]["clusterArn"], arn.as_str());
}

#[tokio::test]
async fn where_requests_must_be_signed_none_else_is_answered() {
    let bench = Bench::start().await;
    let door = bench.api.ecs(Trust::Signed);
    let (status, answer) = send(&door, head("ListClusters"), "{}").await;
    assert_ne!(status, 200, "{answer}");
}

#[tokio::test]
async fn a_signed_request_may_what_its_users_policies_allow() {
    let mut bench = Bench::with_authority().await;
    bench.user("ann", UserRole::Restricted).await;
    let mut operator = bench.operator(user(ADMIN)).await;
    let request = pb::CreateAccessKeyRequest { user: "ann".into(), ..Default::default() };
    let key = operator.create_access_key(request).await.unwrap().into_inner();
    let door = bench.api.ecs(Trust::Signed);
    let key = Key::new(&key.access_key_id, &key.secret_access_key);
    let ask = |operation| signed(operation, "{}", START, &key);

    let (exception, _) = refused(&door, ask("ListClusters"), "{}").await;
    assert_eq!(exception, "AccessDeniedException");
    let document = r#"{"Statement": {"Effect": "Allow", "Action": "ecs:List*", "Resource": "*"}}"#;
    let put = pb::PutPolicyRequest {
        name: "lists".into(),
        user: "ann".into(),
        document: document.into(),
        ..Default::default()
    };
    operator.put_policy(put).await.unwrap();
    let (status, answer) = send(&door, ask("ListClusters"), "{}").await;
    assert_eq!(status, 200, "{answer}");
    let (exception, message) = refused(&door, ask("DescribeClusters"), "{}").await;
    assert_eq!(exception, "AccessDeniedException");
    assert!(message.contains("ecs:DescribeClusters on resource"), "{message}");
    let (exception, _) = refused(&door, ask("ListClusters"), r#"{"maxResults": 1}"#).await;
    assert_eq!(exception, "InvalidSignatureException");
}

/// As in AWS a signature is good for five minutes either way, however often it comes: what makes
/// the repeat of a write harmless is its client token.
#[tokio::test]
async fn a_signed_request_that_comes_again_is_answered_until_its_date_has_passed() {
    let bench = Bench::with_authority().await;
    let mut operator = bench.operator(user(ADMIN)).await;
    let request = pb::CreateAccessKeyRequest { user: ADMIN.into(), ..Default::default() };
    let key = operator.create_access_key(request).await.unwrap().into_inner();
    let key = Key::new(&key.access_key_id, &key.secret_access_key);
    let door = bench.api.ecs(Trust::Signed);
    let skew = limits::SIGNING_SKEW_MAX.0;
    let listed = |at: u64| signed("ListClusters", "{}", Time(at), &key);
    // The bench's clock goes on by a millisecond whenever it is read, and dates are in seconds.
    for at in [START.0 - skew + 1000, START.0, START.0 + skew] {
        for _ in 0..2 {
            let (status, answer) = send(&door, listed(at), "{}").await;
            assert_eq!(status, 200, "{at}: {answer}");
        }
    }
    for (at, says) in [
        (START.0 - skew - 1000, "Signature expired: "),
        (START.0 + skew + 1000, "Signature not yet current: "),
    ] {
        let (exception, message) = refused(&door, listed(at), "{}").await;
        assert_eq!(exception, "InvalidSignatureException");
        assert!(message.starts_with(says), "{message}");
    }

    let body = smallest(json!({})).to_string();
    let define = || signed("RegisterTaskDefinition", &body, START, &key);
    let mut revisions = Vec::new();
    for _ in 0..2 {
        let (_, answer) = send(&door, define(), &body).await;
        revisions.push(answer["taskDefinition"]["revision"].clone());
    }
    assert_eq!(revisions, [1, 2], "two requests, as ECS counts them");
    let body = json!({ "clusterName": "blue", "clientToken": "once" }).to_string();
    let create = || signed("CreateCluster", &body, START, &key);
    let (_, first) = send(&door, create(), &body).await;
    assert_eq!(send(&door, create(), &body).await, (200, first), "one request, as its token says");
}

#[tokio::test]
async fn a_cluster_of_machines_is_never_reset() {
    let (_bench, door) = open().await;
    let form = "application/x-www-form-urlencoded";
    let reset = || http::Request::post("/_muster/reset").header("content-type", form);
    let (exception, _) = refused(&door, reset(), "").await;
    assert_eq!(exception, "UnsupportedFeatureException");
}
