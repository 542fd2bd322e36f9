//! RunTask and lists: what is placed, what is refused, and pages over many tasks.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use muster_model::command::InstanceAttribute;
use muster_model::{Command, StopCode};
use muster_proto::pb;
use std::collections::BTreeSet;
use support::{Bench, definition};
use tonic::Code;

fn run(count: i32, token: &str) -> pb::RunTaskRequest {
    pb::RunTaskRequest {
        task_definition: "web".into(),
        count,
        client_token: token.into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn run_task_places_what_fits_and_stops_the_rest() {
    let mut bench = Bench::start().await;
    bench.instance(1024, 4096).await;
    let _planner = bench.planner();
    let mut ecs = bench.admin().await;
    ecs.register_task_definition(definition("web", 400, 64)).await.unwrap();
    let answer = ecs.run_task(run(4, "t")).await.unwrap().into_inner();
    assert_eq!((answer.tasks.len(), answer.failures.len()), (2, 2), "{answer:?}");
    for task in &answer.tasks {
        assert!(!task.container_instance_arn.is_empty(), "{task:?}");
        assert_eq!(task.last_status, "PENDING");
    }
    for failure in &answer.failures {
        assert_eq!(failure.reason, "RESOURCE:CPU", "{failure:?}");
        assert!(failure.arn.contains("container-instance/default/"), "{failure:?}");
        assert!(failure.detail.contains("224 cpu units free, 400 wanted"), "{failure:?}");
    }
    // Nothing is left waiting.
    assert_eq!(bench.replica.state().waiting().count(), 0);
    let stopped = pb::ListTasksRequest { desired_status: "STOPPED".into(), ..Default::default() };
    // What did not fit is no task to anybody, though it is remembered for a repeat.
    let arns = ecs.list_tasks(stopped).await.unwrap().into_inner().task_arns;
    assert_eq!(arns, Vec::<String>::new());
    let state = bench.replica.state();
    let unfit: Vec<_> = state.finished().collect();
    assert_eq!(unfit.len(), 2);
    assert_eq!(unfit[0].observed.stop_code, Some(StopCode::TaskFailedToStart));
    let reason = unfit[0].observed.reason.as_deref().unwrap();
    assert!(reason.starts_with("TaskFailedToStart: RESOURCE:CPU"), "{reason}");

    // The same request again has no second effect and the same answer.
    let again = ecs.run_task(run(4, "t")).await.unwrap().into_inner();
    let arns = |answer: &pb::RunTaskResponse| -> BTreeSet<String> {
        answer.tasks.iter().map(|task| task.task_arn.clone()).collect()
    };
    assert_eq!(arns(&again), arns(&answer));
    assert_eq!(again.failures, answer.failures);
    assert_eq!(bench.replica.state().task_count(), 4);
    let conflict = ecs.run_task(run(3, "t")).await.unwrap_err();
    assert_eq!(conflict.code(), Code::AlreadyExists, "{conflict}");
}

#[tokio::test]
async fn a_repeat_runs_the_revision_of_its_first_time() {
    let mut bench = Bench::start().await;
    bench.instance(4096, 4096).await;
    let _planner = bench.planner();
    let mut ecs = bench.admin().await;
    ecs.register_task_definition(definition("web", 1, 64)).await.unwrap();
    let first = ecs.run_task(run(1, "t")).await.unwrap().into_inner();
    ecs.register_task_definition(definition("web", 2, 64)).await.unwrap();
    let again = ecs.run_task(run(1, "t")).await.unwrap().into_inner();
    assert_eq!(again.tasks[0].task_arn, first.tasks[0].task_arn);
    assert!(again.tasks[0].task_definition_arn.ends_with("web:1"), "{again:?}");
    let other = ecs.run_task(run(1, "u")).await.unwrap().into_inner();
    assert!(other.tasks[0].task_definition_arn.ends_with("web:2"), "{other:?}");
}

#[tokio::test]
async fn without_container_instances_run_task_is_an_error() {
    let bench = Bench::start().await;
    let mut ecs = bench.admin().await;
    ecs.register_task_definition(definition("web", 1, 64)).await.unwrap();
    let refused = ecs.run_task(run(1, "")).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let words = "No Container Instances were found in your cluster.";
    assert!(refused.message().contains(words), "{refused}");
}

#[tokio::test]
async fn without_the_schedulers_word_tasks_are_answered_as_they_are() {
    let mut bench = Bench::start().await;
    bench.instance(4096, 4096).await;
    let mut ecs = bench.admin().await;
    ecs.register_task_definition(definition("web", 1, 64)).await.unwrap();
    let answer = ecs.run_task(run(1, "t")).await.unwrap().into_inner();
    assert_eq!(answer.tasks[0].last_status, "PROVISIONING", "{answer:?}");
}

#[tokio::test]
async fn pages_over_250_tasks_show_each_once() {
    let mut bench = Bench::start().await;
    bench.instance(1 << 18, 1 << 20).await;
    let mut ecs = bench.admin().await;
    ecs.register_task_definition(definition("web", 1, 6)).await.unwrap();
    let _planner = bench.planner();
    for _ in 0..25 {
        ecs.run_task(run(10, "")).await.unwrap();
    }
    let (mut seen, mut token, mut pages) = (BTreeSet::new(), String::new(), Vec::new());
    loop {
        let request = pb::ListTasksRequest { next_token: token, ..Default::default() };
        let page = ecs.list_tasks(request).await.unwrap().into_inner();
        pages.push(page.task_arns.len());
        seen.extend(page.task_arns);
        token = page.next_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(pages, [100, 100, 50]);
    for (launch_type, found) in [("EC2", 100), ("FARGATE", 0)] {
        let launch_type = launch_type.to_owned();
        let request = pb::ListTasksRequest { launch_type, ..Default::default() };
        let page = ecs.list_tasks(request).await.unwrap().into_inner();
        assert_eq!(page.task_arns.len(), found);
    }
    assert_eq!(seen.len(), 250);
    let foreign = pb::ListTasksRequest { next_token: "Z2FyYmFnZQ".into(), ..Default::default() };
    let refused = ecs.list_tasks(foreign).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("nextToken"), "{refused}");
}

#[tokio::test]
async fn a_token_of_one_list_is_no_token_of_another() {
    let mut bench = Bench::start().await;
    bench.instance(4096, 4096).await;
    bench.instance(4096, 4096).await;
    let mut ecs = bench.admin().await;
    let one = pb::ListContainerInstancesRequest { max_results: 1, ..Default::default() };
    let token = ecs.list_container_instances(one).await.unwrap().into_inner().next_token;
    assert!(!token.is_empty());
    let tasks = pb::ListTasksRequest { next_token: token.clone(), ..Default::default() };
    assert_eq!(ecs.list_tasks(tasks).await.unwrap_err().code(), Code::InvalidArgument);
    let status = "DRAINING".into();
    let other =
        pb::ListContainerInstancesRequest { next_token: token, status, ..Default::default() };
    let refused = ecs.list_container_instances(other).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn pages_of_a_filter_are_the_instances_it_means() {
    let mut bench = Bench::start().await;
    let mut wanted = Vec::new();
    for number in 0..7 {
        let id = bench.instance(4096, 4096).await;
        if number % 2 == 0 {
            wanted.push(id);
        }
    }
    let set = wanted.iter().map(|id| {
        let (name, value) = ("even".to_owned(), None);
        InstanceAttribute { instance: *id, name, value }
    });
    bench.commit(Command::ChangeAttributes { set: set.collect(), remove: Vec::new() }).await;
    let mut ecs = bench.admin().await;
    let page = |filter: &str, next_token: String| pb::ListContainerInstancesRequest {
        filter: filter.into(),
        next_token,
        max_results: 1,
        ..Default::default()
    };
    let (mut seen, mut token) = (BTreeSet::new(), String::new());
    for number in 1..=wanted.len() {
        let request = page("attribute:even exists", token);
        let answer = ecs.list_container_instances(request).await.unwrap().into_inner();
        assert_eq!(answer.container_instance_arns.len(), 1);
        seen.extend(answer.container_instance_arns);
        token = answer.next_token;
        assert_eq!(token.is_empty(), number == wanted.len());
        // Another filter is another list.
        let other = ecs.list_container_instances(page("attribute:odd exists", token.clone())).await;
        assert_eq!(other.is_err(), number < wanted.len());
    }
    let ids = |arn: &String| arn.rsplit('/').next().unwrap_or_default().to_owned();
    let seen: BTreeSet<String> = seen.iter().map(ids).collect();
    assert_eq!(seen, wanted.iter().map(ToString::to_string).collect());
}

/// A bench on whose only instance one task of the family `web` is placed.
async fn with_task() -> (Bench, String) {
    let mut bench = Bench::start().await;
    let instance = bench.instance(4096, 4096).await.to_string();
    let _planner = bench.planner();
    let mut ecs = bench.admin().await;
    ecs.register_task_definition(definition("web", 1, 64)).await.unwrap();
    ecs.run_task(run(1, "")).await.unwrap();
    (bench, instance)
}

#[tokio::test]
async fn a_family_narrows_a_list() {
    let (bench, _) = with_task().await;
    let mut ecs = bench.admin().await;
    for (family, count) in [("web", 1), ("api", 0)] {
        let request = pb::ListTasksRequest { family: family.into(), ..Default::default() };
        let told = ecs.list_tasks(request).await.unwrap().into_inner();
        assert_eq!(told.task_arns.len(), count, "{family}");
    }
}

#[tokio::test]
async fn an_instance_with_tasks_is_deregistered_by_force_only() {
    let (bench, instance) = with_task().await;
    let mut ecs = bench.admin().await;
    let deregister = |force| pb::DeregisterContainerInstanceRequest {
        container_instance: instance.clone(),
        force,
        ..Default::default()
    };
    assert!(ecs.deregister_container_instance(deregister(false)).await.is_err());
    ecs.deregister_container_instance(deregister(true)).await.unwrap();
}

#[tokio::test]
async fn tasks_are_found_by_the_first_digits_of_their_id() {
    let mut bench = Bench::start().await;
    bench.instance(4096, 4096).await;
    let _planner = bench.planner();
    let mut ecs = bench.admin().await;
    ecs.register_task_definition(definition("web", 1, 64)).await.unwrap();
    let answer = ecs.run_task(run(1, "")).await.unwrap().into_inner();
    let arn = answer.tasks[0].task_arn.clone();
    let id = arn.rsplit('/').next().unwrap().to_owned();
    let names = vec![id[..6].to_owned(), id.clone(), arn.clone(), "00000000".into()];
    let describe = pb::DescribeTasksRequest { tasks: names, ..Default::default() };
    let told = ecs.describe_tasks(describe).await.unwrap().into_inner();
    assert_eq!(told.tasks.len(), 3, "{told:?}");
    assert!(told.tasks.iter().all(|task| task.task_arn == arn));
    assert_eq!(told.failures[0].reason, "MISSING");
    let stop = pb::StopTaskRequest { task: id[..8].into(), ..Default::default() };
    let stopped = ecs.stop_task(stop).await.unwrap().into_inner().task.unwrap();
    assert_eq!((stopped.task_arn, stopped.desired_status.as_str()), (arn, "STOPPED"));
}
