//! What a request would do, asked over the API: told in words, and nothing is written.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use muster_model::{Command, Slot, Step, Time, UserRole};
use muster_proto::pb;
use support::{ADMIN, Bench, definition, user};
use tonic::Code;

fn run(count: i32) -> pb::RunTaskRequest {
    pb::RunTaskRequest { task_definition: "web".into(), count, ..Default::default() }
}

#[tokio::test]
async fn a_run_is_told_where_it_would_go_and_leaves_no_trace() {
    let mut bench = Bench::start().await;
    bench.instance(1024, 4096).await;
    bench.instance(512, 4096).await;
    bench.admin().await.register_task_definition(definition("web", 400, 64)).await.unwrap();
    let mut live = bench.live(user(ADMIN)).await;
    let before = bench.replica.state().hash();
    let told = live.plan_task(run(4)).await.unwrap().into_inner();
    assert_eq!(before, bench.replica.state().hash(), "a question changed the state");
    assert_eq!((told.started_count, told.rounds.len()), (3, 1), "{told:?}");
    let started = &told.rounds[0].started;
    assert!(started[0].container_instance_arn.contains("container-instance/default/"));
    assert!(started[0].task_definition_arn.ends_with("web:1"));
    assert_eq!(
        started[0].reasons,
        [
            "2 candidates of 2 container instances",
            "spread attribute:ecs.availability-zone: az-a has 0 of its tasks (all 2 alike)",
            "spread instanceId: has 0 of its tasks (all 2 alike)",
            "least loaded: 0 % taken (all 2 alike)",
            "2 level: the first zone by name, then the smallest id",
        ]
    );
    let last = &started[2].reasons;
    assert_eq!(last.len(), 1, "{last:?}");
    assert!(last[0].starts_with("the only candidate of 2 container instances: 1 short of cpu; "));
    assert!(last[0].ends_with(" has 112 cpu units free, 400 wanted"), "{last:?}");
    let waiting = &told.waiting[0];
    let failure = waiting.failure.as_ref().unwrap();
    assert_eq!((waiting.count, failure.reason.as_str()), (1, "RESOURCE:CPU"));
    assert!(failure.detail.starts_with("no container instance fits (2 in the cluster): "));
}

#[tokio::test]
async fn a_service_is_foreseen_before_it_is_there_and_before_it_changes() {
    let mut bench = Bench::start().await;
    bench.instance(1024, 4096).await;
    let mut ecs = bench.admin().await;
    ecs.register_task_definition(definition("web", 400, 64)).await.unwrap();
    let mut live = bench.live(user(ADMIN)).await;
    let create = pb::CreateServiceRequest {
        service_name: "web".into(),
        task_definition: "web".into(),
        desired_count: 2,
        ..Default::default()
    };
    let told = live.plan_create_service(create.clone()).await.unwrap().into_inner();
    assert_eq!((told.started_count, told.kept_count, told.waiting.len()), (2, 0, 0), "{told:?}");
    let _planner = bench.planner();
    ecs.create_service(create.clone()).await.unwrap();
    let state = bench.replica.state();
    let row = state.services().next().unwrap();
    let tasks = vec![(Slot(0), bench.ids.task(Time(0))), (Slot(1), bench.ids.task(Time(0)))];
    let (service, deployment) = (row.id, row.primary().unwrap().id);
    let step = Step::CreateTasks { service, deployment, tasks };
    bench.commit(Command::Plan { epoch: bench.epoch(), steps: vec![step] }).await;
    let again = live.plan_create_service(create).await.unwrap_err();
    assert_eq!(again.code(), Code::AlreadyExists, "{again}");
    let placed = |state: &muster_model::State| state.tasks().all(|task| task.instance.is_some());
    let mut states = bench.replica.watch();
    states.wait_for(|state| state.task_count() == 2 && placed(state)).await.unwrap();
    let update = pb::UpdateServiceRequest {
        service: "web".into(),
        desired_count: Some(1),
        ..Default::default()
    };
    let told = live.plan_update_service(update).await.unwrap().into_inner();
    assert_eq!((told.stopped_count, told.kept_count), (1, 1), "{told:?}");
    assert!(told.rounds[0].stopped[0].task_arn.contains(":task/default/"), "{told:?}");
    let wrong = pb::UpdateServiceRequest { service: "nope".into(), ..Default::default() };
    assert_eq!(live.plan_update_service(wrong).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn who_may_not_run_may_not_ask_either() {
    let mut bench = Bench::start().await;
    bench.instance(1024, 4096).await;
    bench.user("rita", UserRole::ReadOnly).await;
    bench.admin().await.register_task_definition(definition("web", 400, 64)).await.unwrap();
    let denied = bench.live(user("rita")).await.plan_task(run(1)).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied, "{denied}");
    let unknown = pb::RunTaskRequest { task_definition: "nope".into(), ..Default::default() };
    let refused = bench.live(user(ADMIN)).await.plan_task(unknown).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound, "{refused}");
}
