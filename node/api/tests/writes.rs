//! Writes: at most once in effect, and visible in the answer.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use muster_model::{Command, UserRole};
use muster_proto::pb;
use muster_replica::memory::Fate;
use std::time::{Duration, Instant};
use support::{Bench, definition, peer, user};
use tonic::{Code, Request};

fn service(name: &str, count: i32, token: &str) -> pb::CreateServiceRequest {
    pb::CreateServiceRequest {
        service_name: name.into(),
        task_definition: "web".into(),
        desired_count: count,
        client_token: token.into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_and_the_write_happens_once() {
    let bench = Bench::start().await;
    let mut ecs = bench.admin().await;
    for (round, fate) in [Fate::AppliedUnknown, Fate::LostUnknown].into_iter().enumerate() {
        bench.memory.next(fate);
        let told = ecs.register_task_definition(definition("web", 1, 64)).await.unwrap();
        let revision = told.into_inner().task_definition.unwrap().revision;
        assert_eq!(revision, round as i32 + 1, "{fate:?}");
    }
}

#[tokio::test]
async fn a_repeat_gets_the_first_answer_and_other_parameters_a_conflict() {
    let bench = Bench::start().await;
    let mut ecs = bench.admin().await;
    ecs.register_task_definition(definition("web", 1, 64)).await.unwrap();
    let first = ecs.create_service(service("web", 3, "token-1")).await.unwrap().into_inner();
    let again = ecs.create_service(service("web", 3, "token-1")).await.unwrap().into_inner();
    assert_eq!(again, first);
    let conflict = ecs.create_service(service("web", 4, "token-1")).await.unwrap_err();
    assert_eq!(conflict.code(), Code::AlreadyExists);
    assert!(conflict.message().contains("client token"), "{conflict}");
    let taken = ecs.create_service(service("web", 3, "token-2")).await.unwrap_err();
    assert!(taken.message().contains("not idempotent"), "{taken}");
}

#[tokio::test]
async fn tokens_of_different_users_are_different() {
    let mut bench = Bench::start().await;
    bench.user("olga", UserRole::Operator).await;
    let (mut admin, mut olga) = (bench.admin().await, bench.ecs(user("olga")).await);
    let create = |name: &str| pb::CreateClusterRequest {
        cluster_name: name.into(),
        client_token: "same".into(),
        ..Default::default()
    };
    admin.create_cluster(create("a")).await.unwrap();
    olga.create_cluster(create("b")).await.unwrap();
    assert!(admin.create_cluster(create("b")).await.is_err());
}

#[tokio::test]
async fn deleting_again_is_the_first_delete_though_the_name_is_taken_anew() {
    let bench = Bench::start().await;
    let mut ecs = bench.admin().await;
    let create = pb::CreateClusterRequest { cluster_name: "a".into(), ..Default::default() };
    let delete = pb::DeleteClusterRequest { cluster: "a".into(), client_token: "del".into() };
    ecs.create_cluster(create.clone()).await.unwrap();
    ecs.delete_cluster(delete.clone()).await.unwrap();
    ecs.create_cluster(create).await.unwrap();
    let again = ecs.delete_cluster(delete).await.unwrap().into_inner().cluster.unwrap();
    assert_eq!(again.status, "INACTIVE");
    let list = ecs.list_clusters(pb::ListClustersRequest::default()).await.unwrap().into_inner();
    assert_eq!(list.cluster_arns.len(), 2, "{list:?}");
}

#[tokio::test]
async fn a_write_that_never_gets_through_ends_by_its_deadline() {
    let bench = Bench::start().await;
    let mut ecs = bench.admin().await;
    bench.memory.next(Fate::LostUnknown);
    let memory = bench.memory.clone();
    let begun = Instant::now();
    // Every retry is lost as well, until the caller's deadline.
    let losing = tokio::spawn(async move {
        loop {
            memory.next(Fate::LostUnknown);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let create = pb::CreateClusterRequest { cluster_name: "a".into(), ..Default::default() };
    let mut request = Request::new(create);
    request.set_timeout(Duration::from_millis(500));
    let refused = ecs.create_cluster(request).await.unwrap_err();
    losing.abort();
    assert_eq!(refused.code(), Code::Unknown, "{refused}");
    assert!(refused.message().contains("outcome unknown"), "{refused}");
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_write_that_was_in_doubt_once_is_never_said_to_be_undone() {
    let bench = Bench::start().await;
    let mut ecs = bench.admin().await;
    bench.memory.next(Fate::AppliedUnknown);
    let (memory, mut states) = (bench.memory.clone(), bench.replica.watch());
    states.borrow_and_update();
    // The first try is applied and its answer lost; the second finds no leader.
    let losing = tokio::spawn(async move {
        states.changed().await.unwrap();
        memory.lead(false);
    });
    let create = pb::CreateClusterRequest { cluster_name: "a".into(), ..Default::default() };
    let refused = ecs.create_cluster(create).await.unwrap_err();
    losing.await.unwrap();
    assert_eq!(refused.code(), Code::Unknown, "{refused}");
}

#[tokio::test]
async fn instances_are_drained_one_by_one_and_missing_ones_are_failures() {
    let mut bench = Bench::start().await;
    let (one, two) = (bench.instance(1024, 1024).await, bench.instance(1024, 1024).await);
    bench.commit(Command::DeregisterInstance { instance: two, force: true }).await;
    let mut ecs = bench.admin().await;
    let drain = pb::UpdateContainerInstancesStateRequest {
        container_instances: vec![
            one.to_string(),
            two.to_string(),
            "00000000000000000000000000000001".into(),
        ],
        status: "DRAINING".into(),
        client_token: "drain".into(),
        ..Default::default()
    };
    for _ in 0..2 {
        let told = ecs.update_container_instances_state(drain.clone()).await.unwrap().into_inner();
        assert_eq!(told.container_instances.len(), 1, "{told:?}");
        assert_eq!(told.container_instances[0].status, "DRAINING");
        let reasons: Vec<&str> = told.failures.iter().map(|f| f.reason.as_str()).collect();
        assert_eq!(reasons, ["INACTIVE", "MISSING"]);
    }
}

#[tokio::test]
async fn what_a_user_does_is_done_in_their_name() {
    let mut bench = Bench::start().await;
    bench.user("olga", UserRole::Operator).await;
    let mut olga = bench.ecs(user("olga")).await;
    let told = olga.register_task_definition(definition("web", 1, 64)).await.unwrap();
    assert_eq!(told.into_inner().task_definition.unwrap().registered_by, "user/olga");
    let mut nobody = bench.ecs(peer(None, "")).await;
    let refused = nobody.register_task_definition(definition("web", 1, 64)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}
