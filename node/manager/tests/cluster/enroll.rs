//! Who gets in, and who does not.

use crate::harness::{Cluster, Join, told, worker};
use muster_identity::{ConnectOptions, Connector, Error, new_key_and_csr};
use muster_model::{Command, Principal};
use muster_proto::dispatch as pb;
use muster_proto::dispatch::join_request::As;
use tonic::Code;

fn manager() -> As {
    As::Manager(pb::JoinManager {
        name: "m2".into(),
        zone: "az-b".into(),
        address: "127.0.0.1:1".into(),
        level: 1,
    })
}

#[tokio::test]
async fn a_worker_joins_and_a_repeat_changes_nothing() {
    let cluster = Cluster::start().await;
    let join = Join::worker(&cluster.founded.worker_token, "az-b", "w1");
    let first = join.send(&cluster).await.unwrap();
    let second = join.send(&cluster).await.unwrap();
    assert_eq!(first.id, second.id);
    assert_eq!(first.cluster_name, "test");
    assert_eq!(first.managers.len(), 1);
    assert_eq!(first.managers[0].address, cluster.address.to_string());
    let state = cluster.replica.state();
    assert_eq!(state.instances().count(), 1);
    let row = state.instances().next().unwrap();
    assert_eq!((row.spec.zone.as_str(), row.cluster), ("az-b", cluster.default_cluster()));
    assert_eq!(join.identity(&second).principal(), Principal::Instance(row.id));
}

#[tokio::test]
async fn the_same_request_with_another_key_is_another_machine() {
    let cluster = Cluster::start().await;
    let mut join = Join::worker(&cluster.founded.worker_token, "az-b", "w1");
    let first = join.send(&cluster).await.unwrap();
    // Who knows a join's request id must not be given a certificate for that machine.
    join.request.certificate_request_pem = new_key_and_csr().unwrap().1;
    let thief = join.send(&cluster).await.unwrap();
    assert_ne!(first.id, thief.id);
}

#[tokio::test]
async fn a_manager_joins_as_the_next_raft_member() {
    let cluster = Cluster::start().await;
    let join = Join::new(&cluster.founded.manager_token, manager());
    let joined = join.send(&cluster).await.unwrap();
    assert_eq!(join.send(&cluster).await.unwrap().id, joined.id);
    assert_eq!(joined.id, "2");
    assert_eq!(joined.managers.len(), 2);
    assert!(matches!(join.identity(&joined).principal(), Principal::Manager(id) if id.0 == 2));
    assert_eq!(cluster.replica.state().managers().count(), 2);
}

#[tokio::test]
async fn a_token_of_the_other_role_says_so() {
    let cluster = Cluster::start().await;
    let join = Join::new(&cluster.founded.worker_token, manager());
    told(&join.send(&cluster).await.unwrap_err(), Code::PermissionDenied, "the token for workers");
    let join = Join::worker(&cluster.founded.manager_token, "az-a", "w1");
    told(&join.send(&cluster).await.unwrap_err(), Code::PermissionDenied, "the token for managers");
    assert_eq!(cluster.replica.state().instances().count(), 0);
}

#[tokio::test]
async fn a_wrong_secret_is_refused() {
    let cluster = Cluster::start().await;
    let mut join = Join::worker(&cluster.founded.worker_token, "az-a", "w1");
    for secret in [String::new(), "0".repeat(32), "x".repeat(100_000)] {
        join.request.token_secret = secret;
        told(&join.send(&cluster).await.unwrap_err(), Code::Unauthenticated, "muster token rotate");
    }
}

#[tokio::test]
async fn a_token_of_another_cluster_is_noticed_before_it_is_shown() {
    let (here, there) = (Cluster::start().await, Cluster::start().await);
    let connector = Connector::pinned(there.founded.worker_token.ca);
    let address = here.address.to_string();
    let error = connector.connect(&address, ConnectOptions::default()).await.err().unwrap();
    assert!(matches!(error, Error::OtherCluster { .. }), "{error}");
}

#[tokio::test]
async fn an_unknown_cluster_is_named_beside_those_there_are() {
    let cluster = Cluster::start().await;
    let role = As::Worker(worker("blue", "az-a", "w1"));
    let join = Join::new(&cluster.founded.worker_token, role);
    let error = join.send(&cluster).await.unwrap_err();
    told(&error, Code::NotFound, "\"blue\" not found; there are: default");
}

fn worker_of(join: &mut Join) -> &mut pb::JoinWorker {
    match &mut join.request.r#as {
        Some(As::Worker(worker)) => worker,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_malformed_manager_is_refused_by_field() {
    let cluster = Cluster::start().await;
    let told_by = async |change: fn(&mut pb::JoinManager), text: &str| {
        let mut join = Join::new(&cluster.founded.manager_token, manager());
        if let Some(As::Manager(manager)) = &mut join.request.r#as {
            change(manager);
        }
        told(&join.send(&cluster).await.unwrap_err(), Code::InvalidArgument, text);
    };
    told_by(|manager| manager.address = "10.0.0.1".into(), "address").await;
    told_by(|manager| manager.address = "10.0.0.1:0".into(), "address").await;
    told_by(|manager| manager.address = ":7400".into(), "address").await;
    told_by(|manager| manager.name = String::new(), "name").await;
    told_by(|manager| manager.zone = "az a".into(), "zone").await;
    assert_eq!(cluster.replica.state().managers().count(), 1);
}

#[tokio::test]
async fn a_malformed_join_is_refused_by_field() {
    let cluster = Cluster::start().await;
    let told_by = async |change: fn(&mut Join), text: &str| {
        let mut join = Join::worker(&cluster.founded.worker_token, "az-a", "w1");
        change(&mut join);
        told(&join.send(&cluster).await.unwrap_err(), Code::InvalidArgument, text);
    };
    told_by(|join| join.request.request = "7".into(), "clientToken").await;
    told_by(|join| worker_of(join).spec = None, "worker.spec").await;
    told_by(|join| worker_of(join).spec.as_mut().unwrap().cpu = 0, "cpu").await;
    told_by(|join| join.request.r#as = None, "manager").await;
    told_by(|join| join.request.certificate_request_pem = "x".into(), "certificate request").await;
    assert_eq!(cluster.replica.state().instances().count(), 0, "nothing was written for them");
}

#[tokio::test]
async fn a_certificate_is_renewed_until_its_owner_is_removed() {
    let cluster = Cluster::start().await;
    let identity = cluster.join("az-a", "w1").await;
    let Principal::Instance(instance) = identity.principal() else { panic!() };
    let mut client = cluster.enroll(Connector::new(identity.clone())).await;
    let (key, certificate_request_pem) = new_key_and_csr().unwrap();
    let request = pb::RenewRequest { certificate_request_pem };
    let renewed = client.renew(request.clone()).await.unwrap().into_inner();
    let before = identity.serial();
    let pem =
        muster_identity::IdentityPem { ca: renewed.ca_pem, cert: renewed.certificate_pem, key };
    identity.replace(pem).unwrap();
    assert_ne!(identity.serial(), before);

    cluster.propose(Command::DeregisterInstance { instance, force: true }).await;
    let refused = client.renew(request).await.unwrap_err();
    told(&refused, Code::Unauthenticated, "deregistered");
}

#[tokio::test]
async fn without_a_certificate_only_joining_is_open() {
    let cluster = Cluster::start().await;
    let mut client = cluster.enroll(Connector::pinned(cluster.founded.worker_token.ca)).await;
    let error = client.managers(pb::ManagersRequest {}).await.unwrap_err();
    told(&error, Code::Unauthenticated, "muster join");
}
