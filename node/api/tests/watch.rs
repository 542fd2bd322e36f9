//! Watching: the present, then changes without a gap, from any kept version on.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use muster_model::{Command, Step, UserRole};
use muster_proto::pb;
use muster_proto::pb::watch_response::change::Row;
use std::time::Duration;
use support::{Bench, definition, user};
use tonic::{Code, Streaming};

async fn next(watch: &mut Streaming<pb::WatchResponse>) -> pb::WatchResponse {
    let told = tokio::time::timeout(Duration::from_secs(5), watch.message()).await;
    told.expect("the watch says something").unwrap().expect("the watch goes on")
}

fn names(told: &pb::WatchResponse) -> Vec<String> {
    told.changes
        .iter()
        .map(|change| match change.row.as_ref().unwrap() {
            Row::Service(row) => format!("service {} {}", row.service_name, row.desired_count),
            Row::Task(row) => format!("task {}", row.last_status),
            Row::ContainerInstance(row) => format!("instance {}", row.status),
            Row::Cluster(row) => format!("cluster {} {}", row.cluster_name, row.status),
            Row::Event(row) => format!("event {}", row.event.as_ref().unwrap().message),
            Row::RemovedArn(arn) => format!("removed {arn}"),
        })
        .collect()
}

fn create(name: &str) -> pb::CreateServiceRequest {
    pb::CreateServiceRequest {
        service_name: name.into(),
        task_definition: "web".into(),
        desired_count: 2,
        ..Default::default()
    }
}

async fn prepared() -> Bench {
    let bench = Bench::start().await;
    let mut ecs = bench.admin().await;
    ecs.register_task_definition(definition("web", 1, 64)).await.unwrap();
    ecs.create_service(create("one")).await.unwrap();
    bench
}

#[tokio::test]
async fn a_watch_begins_with_the_present_and_goes_on_with_changes() {
    let mut bench = prepared().await;
    let (mut ecs, mut live) = (bench.admin().await, bench.live(user("admin")).await);
    let mut watch = live.watch(pb::WatchRequest::default()).await.unwrap().into_inner();
    let first = next(&mut watch).await;
    assert_eq!(names(&first), ["cluster default ACTIVE", "service one 2"]);
    assert!(first.synced && !first.resume_token.is_empty());
    ecs.create_service(create("two")).await.unwrap();
    assert_eq!(names(&next(&mut watch).await), ["service two 2"]);
    let service =
        bench.replica.state().service_named(support::default_cluster(), "one").unwrap().id;
    let step = Step::Event { service, text: "(service one) hello".into() };
    bench.commit(Command::Plan { epoch: bench.epoch(), steps: vec![step] }).await;
    let told = names(&next(&mut watch).await);
    assert!(told.contains(&"event (service one) hello".to_owned()), "{told:?}");
}

#[tokio::test]
async fn a_watch_resumes_after_what_its_reader_has_seen() {
    let bench = prepared().await;
    let (mut ecs, mut live) = (bench.admin().await, bench.live(user("admin")).await);
    let mut watch = live.watch(pb::WatchRequest::default()).await.unwrap().into_inner();
    let token = next(&mut watch).await.resume_token;
    drop(watch);
    ecs.create_service(create("two")).await.unwrap();
    ecs.create_service(create("three")).await.unwrap();
    let resume = pb::WatchRequest { resume_from: token, ..Default::default() };
    let mut watch = live.watch(resume).await.unwrap().into_inner();
    let mut told = names(&next(&mut watch).await);
    told.sort();
    assert_eq!(told, ["service three 2", "service two 2"]);
}

#[tokio::test]
async fn changes_only_leaves_the_present_out() {
    let bench = prepared().await;
    let (mut ecs, mut live) = (bench.admin().await, bench.live(user("admin")).await);
    let request = pb::WatchRequest { changes_only: true, ..Default::default() };
    let mut watch = live.watch(request).await.unwrap().into_inner();
    let first = next(&mut watch).await;
    assert!(first.changes.is_empty() && first.synced && !first.resume_token.is_empty());
    ecs.create_service(create("two")).await.unwrap();
    assert_eq!(names(&next(&mut watch).await), ["service two 2"]);
}

#[tokio::test]
async fn kinds_and_clusters_narrow_a_watch_and_wrong_ones_are_refused() {
    let mut bench = prepared().await;
    bench.instance(1024, 1024).await;
    let (mut ecs, mut live) = (bench.admin().await, bench.live(user("admin")).await);
    let other = pb::CreateClusterRequest { cluster_name: "other".into(), ..Default::default() };
    ecs.create_cluster(other).await.unwrap();
    let watch = |cluster: &str, kinds: &[&str]| pb::WatchRequest {
        cluster: cluster.into(),
        kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
        ..Default::default()
    };
    for (request, expected) in [
        (watch("", &["service"]), vec!["service one 2"]),
        (watch("other", &[]), vec!["cluster other ACTIVE"]),
        (watch("", &["container-instance"]), vec!["instance ACTIVE"]),
    ] {
        let mut stream = live.watch(request).await.unwrap().into_inner();
        assert_eq!(names(&next(&mut stream).await), expected);
    }
    let refused = live.watch(watch("nowhere", &[])).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    let refused = live.watch(watch("", &["node"])).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let token = pb::WatchRequest { resume_from: "w0-?".into(), ..Default::default() };
    assert_eq!(live.watch(token).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_watch_that_has_nothing_to_tell_tells_its_position_now_and_then() {
    let mut bench = prepared().await;
    let mut live = bench.live(user("admin")).await;
    let request = pb::WatchRequest { kinds: vec!["task".into()], ..Default::default() };
    let mut watch = live.watch(request).await.unwrap().into_inner();
    let first = next(&mut watch).await.resume_token;
    bench.pass(Duration::from_secs(61));
    bench.instance(1, 1).await;
    let told = next(&mut watch).await;
    assert!(told.changes.is_empty(), "{told:?}");
    assert_ne!(told.resume_token, first);
}

#[tokio::test]
async fn what_is_no_longer_kept_is_compacted() {
    let bench = prepared().await;
    let mut live = bench.live(user("admin")).await;
    let old = pb::WatchRequest { resume_from: "w1-1".into(), ..Default::default() };
    let refused = live.watch(old).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange);
    assert!(refused.message().contains("no longer kept"), "{refused}");
}

#[tokio::test]
async fn a_watch_ends_with_the_right_to_it() {
    let mut bench = prepared().await;
    bench.user("rita", UserRole::ReadOnly).await;
    let mut live = bench.live(user("rita")).await;
    let mut watch = live.watch(pb::WatchRequest::default()).await.unwrap().into_inner();
    next(&mut watch).await;
    bench.commit(Command::RemoveUser { name: "rita".into() }).await;
    let ended = tokio::time::timeout(Duration::from_secs(5), watch.message()).await.unwrap();
    assert_eq!(ended.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_stopping_manager_ends_its_watches() {
    let bench = prepared().await;
    let mut live = bench.live(user("admin")).await;
    let mut watch = live.watch(pb::WatchRequest::default()).await.unwrap().into_inner();
    next(&mut watch).await;
    bench.api.stop_serving().await;
    let ended = tokio::time::timeout(Duration::from_secs(5), watch.message()).await.unwrap();
    assert_eq!(ended.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn a_slow_reader_hears_fewer_changes_and_the_same_end() {
    const SERVICES: usize = 10;
    const ROUNDS: usize = 20;
    let bench = prepared().await;
    let (mut ecs, mut live) = (bench.admin().await, bench.live(user("admin")).await);
    let mut arns = Vec::new();
    for n in 0..SERVICES {
        let made = ecs.create_service(create(&format!("s{n}"))).await.unwrap().into_inner();
        arns.push(made.service.unwrap().service_arn);
    }
    let kinds = vec!["service".into()];
    let request = pb::WatchRequest { kinds, changes_only: true, ..Default::default() };
    let mut watch = live.watch(request).await.unwrap().into_inner();
    next(&mut watch).await;
    // 2 MB of changes: more than the server's send buffer (400 KiB) and the reader's window hold,
    // so that the watch itself is held up while nobody reads.
    let tags = |round: usize| {
        (0..40).map(|k| pb::Tag { key: format!("{k}"), value: format!("{round:0>250}") }).collect()
    };
    for round in 0..ROUNDS {
        for arn in &arns {
            let (resource_arn, tags) = (arn.clone(), tags(round));
            let tag = pb::TagResourceRequest { resource_arn, tags, ..Default::default() };
            ecs.tag_resource(tag).await.unwrap();
        }
    }
    let (mut changes, mut ended) = (0, 0);
    while ended < SERVICES {
        for change in next(&mut watch).await.changes {
            let Some(Row::Service(row)) = change.row else { panic!("{change:?}") };
            let last = format!("{:0>250}", ROUNDS - 1);
            ended += usize::from(row.tags.iter().any(|tag| tag.value == last));
            changes += 1;
        }
    }
    assert!(changes < SERVICES * ROUNDS, "{changes}");
}
