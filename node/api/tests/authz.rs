//! Every rpc of every service, called by every kind of caller: who gets through the guard.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use muster_model::{Command, InstanceId, Principal, RaftId, UserRole};
use muster_proto::pb::Auth;
use muster_proto::policy::POLICIES;
use std::collections::BTreeMap;
use std::convert::Infallible;
use support::{Bench, SERIAL, peer, user};
use tonic::Code;
use tonic::body::Body;
use tower::{Layer, Service, ServiceExt};

/// What the guard answers; `Ok` means that the service behind it was reached.
async fn code(bench: &Bench, path: &str, peer: Option<muster_identity::Peer>) -> (Code, String) {
    let reached = tower::service_fn(|request: http::Request<Body>| async move {
        assert!(request.extensions().get::<muster_api::Admitted>().is_some());
        Ok::<_, Infallible>(http::Response::new(Body::empty()))
    });
    let mut guarded = bench.api.guard().layer(reached);
    let mut request = http::Request::builder().uri(path).body(Body::empty()).unwrap();
    if let Some(peer) = peer {
        request.extensions_mut().insert(peer);
    }
    let response = guarded.ready().await.unwrap().call(request).await.unwrap();
    match tonic::Status::from_header_map(response.headers()) {
        Some(status) => (status.code(), status.message().to_owned()),
        None => (Code::Ok, String::new()),
    }
}

fn instance(id: InstanceId) -> muster_identity::Peer {
    peer(Some(Principal::Instance(id)), "22")
}

#[tokio::test]
async fn each_rpc_is_open_to_those_it_names_and_closed_to_everyone_else() {
    let mut bench = Bench::start().await;
    bench.user("olga", UserRole::Operator).await;
    bench.user("rita", UserRole::ReadOnly).await;
    bench.user("rex", UserRole::Restricted).await;
    let id = bench.instance(1024, 1024).await;
    let callers = [
        ("nobody", None),
        ("stranger without certificate", Some(peer(None, ""))),
        ("admin", Some(user("admin"))),
        ("operator", Some(user("olga"))),
        ("read-only", Some(user("rita"))),
        ("restricted", Some(user("rex"))),
        ("instance", Some(instance(id))),
        ("manager", Some(peer(Some(Principal::Manager(RaftId(1))), "33"))),
    ];
    let mut checked = 0;
    for policy in POLICIES {
        let open: &[&str] = match policy.auth {
            Auth::Unspecified => &[],
            Auth::UserRead => &["admin", "operator", "read-only"],
            Auth::UserWrite => &["admin", "operator"],
            Auth::Admin => &["admin"],
            Auth::Instance => &["instance"],
            Auth::Manager => &["manager"],
            Auth::Token => &[
                "nobody",
                "stranger without certificate",
                "admin",
                "operator",
                "read-only",
                "restricted",
                "instance",
                "manager",
            ],
            Auth::AnyCertificate => {
                &["admin", "operator", "read-only", "restricted", "instance", "manager"]
            }
        };
        for (name, peer) in &callers {
            let (code, told) = code(&bench, policy.path, peer.clone()).await;
            let expected = match (open.contains(name), name) {
                (true, _) => Code::Ok,
                (false, &"nobody" | &"stranger without certificate") => Code::Unauthenticated,
                (false, _) => Code::PermissionDenied,
            };
            assert_eq!(code, expected, "{name} calls {}: {told}", policy.path);
            assert!(code == Code::Ok || told.contains(policy.method), "{told}");
            checked += 1;
        }
    }
    assert!(checked > 400, "{checked}");
}

#[tokio::test]
async fn an_rpc_that_is_in_no_table_is_refused_whoever_calls() {
    let bench = Bench::start().await;
    for path in ["/muster.v1.Ecs/NoSuchMethod", "/muster.v2.Ecs/CreateCluster", "/", "/x"] {
        let (code, told) = code(&bench, path, Some(user("admin"))).await;
        assert_eq!(code, Code::PermissionDenied, "{path}: {told}");
    }
}

#[tokio::test]
async fn health_is_open_and_reflection_needs_any_certificate() {
    let bench = Bench::start().await;
    let anyone = Some(peer(None, ""));
    let paths = BTreeMap::from([
        ("/grpc.health.v1.Health/Check", Code::Ok),
        ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Code::Unauthenticated),
        ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Code::Unauthenticated),
    ]);
    for (path, expected) in paths {
        assert_eq!(code(&bench, path, anyone.clone()).await.0, expected, "{path}");
        assert_eq!(code(&bench, path, Some(user("admin"))).await.0, Code::Ok, "{path}");
    }
}

#[tokio::test]
async fn what_was_revoked_is_refused_from_that_entry_on() {
    let mut bench = Bench::start().await;
    bench.user("rita", UserRole::ReadOnly).await;
    let id = bench.instance(1024, 1024).await;
    let list = "/muster.v1.Ecs/ListClusters";
    let session = "/muster.dispatch.v1.Dispatch/Session";
    assert_eq!(code(&bench, list, Some(user("rita"))).await.0, Code::Ok);
    assert_eq!(code(&bench, session, Some(instance(id))).await.0, Code::Ok);

    bench.commit(Command::RemoveUser { name: "rita".into() }).await;
    bench.commit(Command::DeregisterInstance { instance: id, force: true }).await;
    let (refused, told) = code(&bench, list, Some(user("rita"))).await;
    assert_eq!(refused, Code::Unauthenticated);
    assert!(told.contains("rita"), "{told}");
    let (refused, told) = code(&bench, session, Some(instance(id))).await;
    assert_eq!(refused, Code::Unauthenticated);
    assert!(told.contains("deregistered"), "{told}");
}

#[tokio::test]
async fn a_certificate_of_a_known_user_that_is_not_listed_is_refused() {
    let bench = Bench::start().await;
    let list = "/muster.v1.Ecs/ListClusters";
    let other = peer(Some(Principal::User("admin".into())), "ff");
    let (refused, told) = code(&bench, list, Some(other)).await;
    assert_eq!(refused, Code::Unauthenticated);
    assert!(told.contains("serial ff"), "{told}");
    assert_ne!(SERIAL, "ff");
}

#[tokio::test]
async fn a_removed_manager_is_refused_and_an_unknown_one_is_heard() {
    let mut bench = Bench::start().await;
    let vote = "/muster.raft.v1.Raft/Vote";
    let second = Some(peer(Some(Principal::Manager(RaftId(2))), "44"));
    // This manager may be the one that lags.
    assert_eq!(code(&bench, vote, second.clone()).await.0, Code::Ok);
    let (name, zone, address) = ("m2".into(), "az-b".into(), "m2:7700".into());
    bench.commit(Command::AddManager { name, zone, address, level: 1 }).await;
    assert_eq!(code(&bench, vote, second.clone()).await.0, Code::Ok);
    bench.commit(Command::RemoveManager { manager: RaftId(2) }).await;
    let (refused, told) = code(&bench, vote, second).await;
    assert_eq!(refused, Code::Unauthenticated);
    assert!(told.contains("removed"), "{told}");
}

#[tokio::test]
async fn without_a_leader_known_users_are_let_in_and_unknown_ones_are_told_why_not() {
    let bench = Bench::start().await;
    bench.memory.lead(false);
    let list = "/muster.v1.Ecs/ListClusters";
    assert_eq!(code(&bench, list, Some(user("admin"))).await.0, Code::Ok);
    let (refused, told) = code(&bench, list, Some(user("nora"))).await;
    assert_eq!(refused, Code::Unavailable);
    assert!(told.contains("cannot ask the leader"), "{told}");
}

#[tokio::test]
async fn a_call_whose_body_never_arrives_ends_after_its_deadline() {
    let bench = Bench::start().await;
    let stuck = tower::service_fn(|_: http::Request<Body>| {
        std::future::pending::<Result<http::Response<Body>, Infallible>>()
    });
    let mut guarded = bench.api.guard().layer(stuck);
    let mut request = http::Request::builder()
        .uri("/muster.v1.Ecs/ListClusters")
        .header("grpc-timeout", "100m")
        .body(Body::empty())
        .unwrap();
    request.extensions_mut().insert(user("admin"));
    let begun = std::time::Instant::now();
    let response = guarded.ready().await.unwrap().call(request).await.unwrap();
    let status = tonic::Status::from_header_map(response.headers()).unwrap();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(status.message().contains("ListClusters"), "{status}");
    assert!(begun.elapsed() < std::time::Duration::from_secs(3), "{:?}", begun.elapsed());
}
