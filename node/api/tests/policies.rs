//! Policies through gRPC: who may do what to which clusters, services and tasks.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use futures::StreamExt;
use muster_model::command::RegisterInstance;
use muster_model::spec::Resources;
use muster_model::{Command, Health, Holder, InstanceSpec, Step, UserRole};
use muster_proto::pb;
use std::sync::Arc;
use support::{Bench, Planner, definition, user};
use tonic::{Code, Status};

const BLUE: &str = r#"{"Version": "2012-10-17", "Statement": {
    "Effect": "Allow", "Action": ["ecs:*", "muster:*"], "Resource": "*",
    "Condition": {"ArnEquals": {"ecs:cluster": "arn:aws:ecs:local:000000000000:cluster/blue"}}}}"#;

/// Clusters blue and red, with room and a task definition, and a leader that places.
async fn bench() -> (Bench, Planner) {
    let mut bench = Bench::start().await;
    let mut ecs = bench.admin().await;
    for name in ["blue", "red"] {
        let create = pb::CreateClusterRequest { cluster_name: name.into(), ..Default::default() };
        ecs.create_cluster(create).await.unwrap();
        let cluster = bench.replica.state().cluster_named(name).unwrap().id;
        let id = bench.ids.instance();
        let total = Resources { cpu: 8192, memory_mib: 8192 };
        let (hostname, zone, address) = (format!("{name}-1"), "az-a".into(), "10.0.0.9".into());
        let spec = InstanceSpec { hostname, zone, address, total, ..InstanceSpec::default() };
        let register = RegisterInstance { id, cluster, spec: Arc::new(spec) };
        bench.commit(Command::RegisterInstance(register)).await;
        let steps = vec![Step::SetHealth { instance: id, health: Health::Ready }];
        let epoch = bench.epoch();
        bench.commit(Command::Plan { epoch, steps }).await;
    }
    ecs.register_task_definition(definition("web", 64, 64)).await.unwrap();
    let planner = bench.planner();
    (bench, planner)
}

fn put(name: &str, user: &str, role: &str, document: &str) -> pb::PutPolicyRequest {
    let (name, user, role) = (name.into(), user.into(), role.into());
    pb::PutPolicyRequest { name, user, role, document: document.into(), ..Default::default() }
}

async fn attach(bench: &Bench, request: pb::PutPolicyRequest) {
    let mut operator = bench.operator(user("admin")).await;
    operator.put_policy(request).await.unwrap();
}

fn statement(effect: &str, action: &str, rest: &str) -> String {
    format!(r#"{{"Statement": {{"Effect": "{effect}", "Action": "{action}", {rest}}}}}"#)
}

fn run(cluster: &str) -> pb::RunTaskRequest {
    let (cluster, task_definition) = (cluster.into(), "web".into());
    pb::RunTaskRequest { cluster, task_definition, ..Default::default() }
}

fn describe(cluster: &str, tasks: &[&str]) -> pb::DescribeTasksRequest {
    let tasks = tasks.iter().map(|task| (*task).to_owned()).collect();
    pb::DescribeTasksRequest { cluster: cluster.into(), tasks, ..Default::default() }
}

fn stop(cluster: &str, task: &str) -> pb::StopTaskRequest {
    pb::StopTaskRequest { cluster: cluster.into(), task: task.into(), ..Default::default() }
}

fn denied<T: std::fmt::Debug>(answer: Result<T, Status>) -> String {
    let refused = answer.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    refused.message().to_owned()
}

#[tokio::test]
async fn a_user_restricted_to_one_cluster_works_there_and_nowhere_else() {
    let (mut bench, _planner) = bench().await;
    bench.user("ann", UserRole::Restricted).await;
    let mut ann = bench.ecs(user("ann")).await;
    let in_cluster =
        |cluster: &str| pb::ListTasksRequest { cluster: cluster.into(), ..Default::default() };
    denied(ann.list_tasks(in_cluster("blue")).await);

    attach(&bench, put("blue", "ann", "", BLUE)).await;
    let answer = ann.run_task(run("blue")).await.unwrap().into_inner();
    let task = answer.tasks[0].task_arn.clone();
    let listed = ann.list_tasks(in_cluster("blue")).await.unwrap().into_inner();
    assert_eq!(listed.task_arns, [&*task]);
    let described = ann.describe_tasks(describe("blue", &[&task])).await.unwrap().into_inner();
    assert_eq!(described.tasks.len(), 1);
    let clusters = vec!["cluster/blue".into()];
    let request = pb::DescribeClustersRequest { clusters, ..Default::default() };
    ann.describe_clusters(request).await.unwrap();

    let told = denied(ann.run_task(run("red")).await);
    assert_eq!(
        told,
        "User: arn:aws:iam::000000000000:user/ann is not authorized to perform: ecs:RunTask on \
         resource: arn:aws:ecs:local:000000000000:task-definition/web:1 because no identity-based \
         policy allows the ecs:RunTask action"
    );
    denied(ann.list_tasks(in_cluster("red")).await);
    denied(ann.list_tasks(in_cluster("")).await);
    let arn = "arn:aws:ecs:local:000000000000:cluster/red";
    denied(ann.list_tasks(in_cluster(arn)).await);
    denied(ann.describe_tasks(describe("red", &[&task])).await);
    let clusters = vec!["blue".into(), "red".into()];
    let request = pb::DescribeClustersRequest { clusters, ..Default::default() };
    denied(ann.describe_clusters(request).await);
    denied(ann.list_clusters(pb::ListClustersRequest::default()).await);
    let tag = |resource_arn: String| pb::TagResourceRequest {
        resource_arn,
        tags: vec![pb::Tag { key: "a".into(), value: "b".into() }],
        ..Default::default()
    };
    ann.tag_resource(tag(task)).await.unwrap();
    denied(ann.tag_resource(tag(arn.into())).await);
    // Policies reach no further than the two services.
    let mut operator = bench.operator(user("ann")).await;
    denied(operator.raft_status(pb::RaftStatusRequest::default()).await);
    denied(operator.put_policy(put("all", "ann", "", BLUE)).await);
}

#[tokio::test]
async fn a_deny_for_a_role_takes_one_action_from_all_who_have_it() {
    let (mut bench, _planner) = bench().await;
    bench.user("olga", UserRole::Operator).await;
    let mut olga = bench.ecs(user("olga")).await;
    let run_one = |answer: pb::RunTaskResponse| answer.tasks[0].task_arn.clone();
    let task = run_one(olga.run_task(run("blue")).await.unwrap().into_inner());
    attach(
        &bench,
        put("no-stop", "", "operator", &statement("Deny", "ecs:StopTask", r#""Resource": "*""#)),
    )
    .await;
    attach(&bench, put("all", "olga", "", &statement("Allow", "*", r#""Resource": "*""#))).await;
    let told = denied(olga.stop_task(stop("blue", &task)).await);
    let why = format!("on resource: {task} with an explicit deny in an identity-based policy");
    assert!(told.ends_with(&why), "{told}");
    olga.run_task(run("blue")).await.unwrap();
    bench.admin().await.stop_task(stop("blue", &task)).await.unwrap();
}

#[tokio::test]
async fn no_policy_locks_the_administrators_out() {
    let (bench, _planner) = bench().await;
    let mut ecs = bench.admin().await;
    attach(&bench, put("none", "", "admin", &statement("Deny", "*", r#""Resource": "*""#))).await;
    denied(ecs.list_clusters(pb::ListClustersRequest::default()).await);
    let mut operator = bench.operator(user("admin")).await;
    let gone =
        pb::DeletePolicyRequest { name: "none".into(), role: "admin".into(), ..Default::default() };
    operator.delete_policy(gone).await.unwrap();
    ecs.list_clusters(pb::ListClustersRequest::default()).await.unwrap();
}

#[tokio::test]
async fn a_policy_adds_to_a_role_however_the_resource_is_spelled() {
    let (mut bench, _planner) = bench().await;
    let mut admin = bench.admin().await;
    let mut tasks = Vec::new();
    for _ in 0..3 {
        let answer = admin.run_task(run("blue")).await.unwrap().into_inner();
        tasks.push(answer.tasks[0].task_arn.clone());
    }
    let red = admin.run_task(run("red")).await.unwrap().into_inner().tasks[0].task_arn.clone();
    bench.user("rita", UserRole::ReadOnly).await;
    let mut rita = bench.ecs(user("rita")).await;
    denied(rita.stop_task(stop("blue", &tasks[0])).await);
    let resource = r#""Resource": "arn:aws:ecs:*:*:task/blue/*""#;
    attach(&bench, put("stop", "rita", "", &statement("Allow", "ecs:StopTask", resource))).await;
    let id = |arn: &str| arn.rsplit('/').next().unwrap().to_owned();
    rita.stop_task(stop("blue", &tasks[0])).await.unwrap();
    rita.stop_task(stop("blue", &id(&tasks[1]))).await.unwrap();
    rita.stop_task(stop("cluster/blue", &id(&tasks[2])[..20])).await.unwrap();
    denied(rita.stop_task(stop("red", &red)).await);
    denied(rita.stop_task(stop("red", &id(&red)[..20])).await);
    // What she may by her role she still may, and nothing more.
    rita.describe_tasks(describe("red", &[&red])).await.unwrap();
    denied(rita.run_task(run("blue")).await);
}

#[tokio::test]
async fn one_denied_resource_denies_the_call() {
    let (mut bench, _planner) = bench().await;
    let mut admin = bench.admin().await;
    let mut run_one = async || {
        let answer = admin.run_task(run("blue")).await.unwrap().into_inner();
        answer.tasks[0].task_arn.clone()
    };
    let (first, second) = (run_one().await, run_one().await);
    bench.user("rita", UserRole::ReadOnly).await;
    let mut rita = bench.ecs(user("rita")).await;
    let resource = format!(r#""Resource": "{second}""#);
    attach(&bench, put("hide", "rita", "", &statement("Deny", "ecs:DescribeTasks", &resource)))
        .await;
    rita.describe_tasks(describe("blue", &[&first])).await.unwrap();
    let told = denied(rita.describe_tasks(describe("blue", &[&first, &second])).await);
    assert!(told.contains(&second), "{told}");
}

#[tokio::test]
async fn tags_of_requests_and_of_rows_decide() {
    let (mut bench, _planner) = bench().await;
    bench.user("ann", UserRole::Restricted).await;
    let document = r#"{"Statement": [
        {"Effect": "Allow", "Action": "ecs:RunTask", "Resource": "*",
         "Condition": {"StringEquals": {"aws:RequestTag/owner": "ann"}}},
        {"Effect": "Allow", "Action": "ecs:StopTask", "Resource": "*",
         "Condition": {"StringEquals": {"aws:ResourceTag/owner": "ann"}}}]}"#;
    attach(&bench, put("mine", "ann", "", document)).await;
    let mut ann = bench.ecs(user("ann")).await;
    denied(ann.run_task(run("blue")).await);
    let tags = vec![pb::Tag { key: "owner".into(), value: "ann".into() }];
    let mine = ann.run_task(pb::RunTaskRequest { tags, ..run("blue") }).await.unwrap();
    let mine = mine.into_inner().tasks[0].task_arn.clone();
    let other = bench.admin().await.run_task(run("blue")).await.unwrap().into_inner();
    ann.stop_task(stop("blue", &mine)).await.unwrap();
    denied(ann.stop_task(stop("blue", &other.tasks[0].task_arn)).await);
    denied(ann.stop_task(stop("blue", "00000000000000000000000000000000")).await);
}

#[tokio::test]
async fn a_watch_is_of_allowed_clusters_and_ends_with_the_policy() {
    let (mut bench, _planner) = bench().await;
    bench.user("ann", UserRole::Restricted).await;
    attach(&bench, put("blue", "ann", "", BLUE)).await;
    let mut live = bench.live(user("ann")).await;
    denied(live.watch(pb::WatchRequest::default()).await);
    let watch = pb::WatchRequest { cluster: "blue".into(), ..Default::default() };
    let mut told = live.watch(watch).await.unwrap().into_inner();
    assert!(told.next().await.unwrap().unwrap().synced);
    let mut operator = bench.operator(user("admin")).await;
    let gone =
        pb::DeletePolicyRequest { name: "blue".into(), user: "ann".into(), ..Default::default() };
    operator.delete_policy(gone).await.unwrap();
    let end = async {
        loop {
            if let Err(end) = told.next().await.unwrap() {
                return end;
            }
        }
    };
    let end = tokio::time::timeout(std::time::Duration::from_secs(20), end).await.unwrap();
    assert_eq!(end.code(), Code::PermissionDenied, "{end}");
    assert!(end.message().contains("muster:Watch"), "{end}");
    let logs = pb::LogsRequest { cluster: "blue".into(), task: "a".into(), ..Default::default() };
    denied(live.logs(logs).await);
}

#[tokio::test]
async fn policies_are_put_listed_shown_and_deleted() {
    let (mut bench, _planner) = bench().await;
    bench.user("ann", UserRole::Restricted).await;
    let mut operator = bench.operator(user("admin")).await;
    let row = operator.put_policy(put("blue", "ann", "", BLUE)).await.unwrap().into_inner();
    let row = row.policy.unwrap();
    assert_eq!((&*row.name, &*row.user, &*row.role, &*row.document), ("blue", "ann", "", BLUE));
    let other = statement("Deny", "ecs:Delete*", r#""Resource": "*""#);
    attach(&bench, put("keep", "", "read-only", &other)).await;
    let list = |user: &str| pb::ListPoliciesRequest { user: user.into(), ..Default::default() };
    let all = operator.list_policies(list("")).await.unwrap().into_inner().policies;
    let names: Vec<_> = all.iter().map(|row| (&*row.name, &*row.document)).collect();
    assert_eq!(names, [("keep", ""), ("blue", "")]);
    let hers = operator.list_policies(list("ann")).await.unwrap().into_inner().policies;
    assert_eq!(hers.len(), 1);
    let get = |name: &str| pb::GetPolicyRequest {
        name: name.into(),
        user: "ann".into(),
        ..Default::default()
    };
    let shown = operator.get_policy(get("blue")).await.unwrap().into_inner().policy.unwrap();
    assert_eq!(shown, row);
    assert_eq!(operator.get_policy(get("red")).await.unwrap_err().code(), Code::NotFound);
    let wrong = statement("Allow", "ecs:RunTsk", r#""Resource": "*""#);
    let refused = operator.put_policy(put("p", "ann", "", &wrong)).await.unwrap_err();
    assert!(refused.message().starts_with("Statement.Action: \"ecs:RunTsk\""), "{refused}");
    let refused = operator.put_policy(put("p", "bob", "", BLUE)).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound, "{refused}");

    // A user of the same name who comes later starts without.
    bench.commit(Command::RemoveUser { name: "ann".into() }).await;
    bench.user("ann", UserRole::Restricted).await;
    assert!(operator.list_policies(list("ann")).await.unwrap().into_inner().policies.is_empty());
    denied(bench.ecs(user("ann")).await.run_task(run("blue")).await);
}

#[tokio::test]
async fn a_document_that_cannot_be_read_refuses_the_call() {
    let (mut bench, _planner) = bench().await;
    let holder = Holder::Role(UserRole::Admin);
    let (name, document) = ("later".into(), r#"{"Statement": "of a later release"}"#.into());
    bench.commit(Command::PutPolicy { holder, name, document }).await;
    let mut ecs = bench.admin().await;
    let refused = ecs.list_clusters(pb::ListClustersRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert!(refused.message().contains("policy later cannot be read"), "{refused}");
}

#[tokio::test]
async fn without_a_leader_what_hangs_on_no_newer_state_is_answered() {
    let (mut bench, _planner) = bench().await;
    bench.user("ann", UserRole::Restricted).await;
    attach(&bench, put("blue", "ann", "", BLUE)).await;
    bench.memory.lead(false);
    let mut ann = bench.ecs(user("ann")).await;
    let clusters = |name: &str| pb::DescribeClustersRequest {
        clusters: vec![name.into()],
        stale: true,
        ..Default::default()
    };
    ann.describe_clusters(clusters("blue")).await.unwrap();
    let refused = ann.describe_clusters(clusters("red")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
}
