//! What a call leaves behind: metrics by method and code, and the trace its entry belongs to.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use muster_api::ecs::Trust;
use muster_model::{Entry, Error, TraceId};
use muster_proto::pb;
use muster_replica::memory::Memory;
use muster_replica::{Answer, Applied, Backend, Change, Instant, Leadership, RaftStatus, Replica};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::{Bench, definition, user};
use tokio::sync::watch;
use tonic::{Code, Request};

/// Remembers what was proposed.
struct Recorder {
    memory: Arc<Memory>,
    entries: Arc<Mutex<Vec<Entry>>>,
}

impl Backend for Recorder {
    fn watch(&self) -> watch::Receiver<Arc<muster_model::State>> {
        self.memory.watch()
    }
    fn age(&self) -> Duration {
        self.memory.age()
    }
    fn read(&self, deadline: Instant) -> Answer<'_, Arc<muster_model::State>> {
        self.memory.read(deadline)
    }
    fn propose(&self, entry: Entry, deadline: Instant) -> Answer<'_, Applied> {
        self.entries.lock().unwrap().push(entry.clone());
        self.memory.propose(entry, deadline)
    }
    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.memory.leadership()
    }
    fn status(&self) -> RaftStatus {
        self.memory.status()
    }
    fn change(&self, change: Change, deadline: Instant) -> Answer<'_, ()> {
        self.memory.change(change, deadline)
    }
}

#[tokio::test]
async fn an_entry_belongs_to_the_trace_of_its_call() {
    let (memory, _) = Memory::start_with(support::bootstrapped());
    let entries = Arc::new(Mutex::new(Vec::new()));
    let recorder = Recorder { memory: memory.clone(), entries: entries.clone() };
    let bench = Bench::over(memory, Replica::new(Arc::new(recorder))).await;
    let mut ecs = bench.admin().await;
    let mut request = Request::new(definition("web", 1, 64));
    let id = "0af7651916cd43dd8448eb211c80319c";
    let parent = format!("00-{id}-b7ad6b7169203331-01");
    request.metadata_mut().insert("traceparent", parent.parse().unwrap());
    ecs.register_task_definition(request).await.unwrap();
    ecs.register_task_definition(definition("web", 1, 64)).await.unwrap();
    let traces: Vec<Option<TraceId>> =
        entries.lock().unwrap().iter().map(|entry| entry.trace).collect();
    assert_eq!(traces, [Some(id.parse().unwrap()), None]);
}

/// At the wire door: one that nobody signed, one for what ECS has not, one for what is not built,
/// and one to STS.
async fn wire_requests(bench: &Bench) {
    let (json, form) = ("application/x-amz-json-1.1", "application/x-www-form-urlencoded");
    for (trust, kind, operation) in [
        (Trust::Signed, json, "ListTasks"),
        (Trust::Signed, json, "MakeCoffee"),
        (Trust::Anyone, json, "CreateDaemon"),
        (Trust::Signed, form, ""),
    ] {
        let target = format!("AmazonEC2ContainerServiceV20141113.{operation}");
        let head = http::Request::post("/").header("content-type", kind);
        let (head, ()) = head.header("x-amz-target", target).body(()).unwrap().into_parts();
        let reply = bench.api.ecs(trust).answer(&head, "{}".into()).await;
        assert_ne!(reply.status.as_u16(), 200, "{operation}");
    }
}

#[tokio::test]
async fn calls_are_counted_by_method_and_code() {
    let recorder =
        metrics_exporter_prometheus::PrometheusBuilder::new().install_recorder().unwrap();
    let bench = Bench::start().await;
    let (mut ecs, mut nobody) = (bench.admin().await, bench.ecs(support::peer(None, "")).await);
    ecs.list_clusters(pb::ListClustersRequest::default()).await.unwrap();
    let missing = pb::DeleteClusterRequest { cluster: "x".into(), ..Default::default() };
    assert_eq!(ecs.delete_cluster(missing).await.unwrap_err().code(), Code::NotFound);
    nobody.list_clusters(pb::ListClustersRequest::default()).await.unwrap_err();
    let path = http::uri::PathAndQuery::from_static("/muster.v1.Ecs/Invented");
    let mut raw = tonic::client::Grpc::new(bench.channel(user("admin")).await);
    raw.ready().await.unwrap();
    let codec =
        tonic_prost::ProstCodec::<pb::ListClustersRequest, pb::ListClustersResponse>::default();
    let invented = Request::new(pb::ListClustersRequest::default());
    raw.unary(invented, path, codec).await.unwrap_err();
    wire_requests(&bench).await;
    let told = recorder.render();
    for line in [
        r#"muster_api_calls_total{method="ListTasks",code="Unauthenticated"} 1"#,
        r#"muster_api_calls_total{method="unknown",code="InvalidArgument"} 1"#,
        r#"muster_api_calls_total{method="CreateDaemon",code="Unimplemented"} 1"#,
        r#"muster_api_calls_total{method="GetCallerIdentity",code="Unauthenticated"} 1"#,
        r#"muster_api_calls_total{method="ListClusters",code="Ok"} 1"#,
        r#"muster_api_calls_total{method="DeleteCluster",code="NotFound"} 1"#,
        r#"muster_api_calls_total{method="ListClusters",code="Unauthenticated"} 1"#,
        r#"muster_api_calls_total{method="unknown",code="PermissionDenied"} 1"#,
    ] {
        assert!(told.contains(line), "{line} in {told}");
    }
    assert!(told.contains("muster_api_call_seconds"), "{told}");
    assert!(!told.contains("Invented"), "{told}");
}

/// Never answers a proposal or a read, as a store does whose leader has just died.
struct Silent(Arc<Memory>);

impl Backend for Silent {
    fn watch(&self) -> watch::Receiver<Arc<muster_model::State>> {
        self.0.watch()
    }
    fn age(&self) -> Duration {
        Duration::from_secs(7)
    }
    fn read(&self, deadline: Instant) -> Answer<'_, Arc<muster_model::State>> {
        Box::pin(async move {
            tokio::time::sleep_until(deadline).await;
            Err(Error::Unavailable { why: "no leader; missing: m2, m3".into() })
        })
    }
    fn propose(&self, _entry: Entry, deadline: Instant) -> Answer<'_, Applied> {
        Box::pin(async move {
            tokio::time::sleep_until(deadline).await;
            Err(Error::UnknownOutcome { why: "the leader did not answer".into() })
        })
    }
    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.0.leadership()
    }
    fn status(&self) -> RaftStatus {
        self.0.status()
    }
    fn change(&self, change: Change, deadline: Instant) -> Answer<'_, ()> {
        self.0.change(change, deadline)
    }
}

#[tokio::test]
async fn a_silent_leader_costs_the_caller_its_deadline_and_no_more() {
    let (memory, _) = Memory::start_with(support::bootstrapped());
    let bench = Bench::over(memory.clone(), Replica::new(Arc::new(Silent(memory)))).await;
    let mut ecs = bench.ecs(user("admin")).await;
    let begun = std::time::Instant::now();
    let mut read = Request::new(pb::ListClustersRequest::default());
    read.set_timeout(Duration::from_secs(2));
    let refused = ecs.list_clusters(read).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert!(refused.message().contains("missing: m2, m3"), "{refused}");
    // Where the leader would be, as far as this manager knows.
    assert_eq!(refused.metadata().get("muster-leader").unwrap(), "memory");
    let mut write = Request::new(definition("web", 1, 64));
    write.set_timeout(Duration::from_secs(2));
    let refused = ecs.register_task_definition(write).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unknown, "{refused}");
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    let stale = pb::ListClustersRequest { stale: true, ..Default::default() };
    let told = ecs.list_clusters(stale).await.unwrap();
    assert_eq!(told.metadata().get("muster-state-age-ms").unwrap(), "7000");
}
