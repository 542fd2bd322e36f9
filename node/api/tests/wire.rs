//! The front ends over a real HTTP/2 connection: limits, deadlines, health, reflection.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use muster_proto::pb;
use std::time::{Duration, Instant};
use support::{Bench, peer, user};
use tonic::{Code, Request};

fn big_tag(bytes: usize) -> pb::TagResourceRequest {
    let tag = pb::Tag { key: "k".into(), value: "v".repeat(bytes) };
    pb::TagResourceRequest { tags: vec![tag], ..Default::default() }
}

#[tokio::test]
async fn a_message_over_four_mebibytes_is_refused_naming_size_and_limit() {
    let bench = Bench::start().await;
    let mut ecs = bench.admin().await;
    let refused = ecs.tag_resource(big_tag(4 << 20)).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert!(refused.message().contains("4194"), "{refused}");
    assert!(refused.message().contains("at most 4194304"), "{refused}");
    // The connection lives on.
    ecs.list_clusters(pb::ListClustersRequest::default()).await.unwrap();
    let under = ecs.tag_resource(big_tag((4 << 20) - 100)).await.unwrap_err();
    assert_eq!(under.code(), Code::InvalidArgument, "{under}");
}

#[tokio::test]
async fn without_a_leader_writes_and_reads_fail_within_a_second_and_stale_reads_answer() {
    let bench = Bench::start().await;
    let mut ecs = bench.admin().await;
    bench.memory.lead(false);
    let begun = Instant::now();
    let create = pb::CreateClusterRequest { cluster_name: "a".into(), ..Default::default() };
    let refused = ecs.create_cluster(create).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    let refused = ecs.list_clusters(pb::ListClustersRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    let stale = pb::ListClustersRequest { stale: true, ..Default::default() };
    let answer = ecs.list_clusters(stale).await.unwrap();
    assert!(answer.metadata().get("muster-state-age-ms").is_some());
    assert_eq!(answer.into_inner().cluster_arns.len(), 1);
}

#[tokio::test]
async fn answers_say_which_state_they_show() {
    let bench = Bench::start().await;
    let mut ecs = bench.admin().await;
    let create = pb::CreateClusterRequest { cluster_name: "a".into(), ..Default::default() };
    let written = ecs.create_cluster(create).await.unwrap();
    let index = |m: &tonic::metadata::MetadataMap| {
        m.get("muster-state-index").unwrap().to_str().unwrap().parse::<u64>().unwrap()
    };
    let read = ecs.list_clusters(pb::ListClustersRequest::default()).await.unwrap();
    assert!(index(read.metadata()) >= index(written.metadata()));
    assert!(read.metadata().get("muster-state-age-ms").is_none());
}

#[tokio::test]
async fn a_malformed_timeout_is_refused() {
    let bench = Bench::start().await;
    let mut ecs = bench.admin().await;
    let mut request = Request::new(pb::ListClustersRequest::default());
    request.metadata_mut().insert("grpc-timeout", "soon".parse().unwrap());
    let refused = ecs.list_clusters(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert!(refused.message().contains("soon"), "{refused}");
}

#[tokio::test]
async fn health_answers_without_a_certificate_and_reflection_names_our_services() {
    use tonic_health::pb::health_client::HealthClient;
    use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

    let bench = Bench::start().await;
    let mut health = HealthClient::new(bench.channel(peer(None, "")).await);
    for service in ["", "muster.v1.Ecs"] {
        let asked = HealthCheckRequest { service: service.into() };
        let told = health.check(asked).await.unwrap().into_inner();
        assert_eq!(told.status(), ServingStatus::Serving, "{service:?}");
    }
    for service in ["leader", "ready"] {
        let told = tokio::time::timeout(Duration::from_secs(5), async {
            loop {
                let asked = HealthCheckRequest { service: service.into() };
                match health.check(asked).await {
                    Ok(told) if told.get_ref().status() == ServingStatus::Serving => return,
                    _ => tokio::task::yield_now().await,
                }
            }
        });
        told.await.unwrap();
    }
    bench.api.stop_serving().await;
    let told = health.check(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(told.status(), ServingStatus::NotServing);

    let mut reflection = ServerReflectionClient::new(bench.channel(user("admin")).await);
    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers =
        reflection.server_reflection_info(tokio_stream::iter([list])).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(services)) = answer else {
        panic!("{answer:?}");
    };
    let names: Vec<_> = services.service.into_iter().map(|service| service.name).collect();
    for ours in ["muster.v1.Ecs", "muster.v1.Live", "muster.v1.Operator"] {
        assert!(names.iter().any(|name| name == ours), "{names:?}");
    }
}
