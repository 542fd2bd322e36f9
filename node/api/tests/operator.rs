//! Managers, users and tokens.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use muster_identity::{Authority, JoinToken, new_key_and_csr, token::hash_secret};
use muster_model::Command;
use muster_proto::pb;
use std::time::{Duration, UNIX_EPOCH};
use support::{Bench, peer, user};
use tonic::Code;

/// A bench whose cluster has a real authority.
async fn with_authority() -> (Bench, Authority) {
    let now = UNIX_EPOCH + Duration::from_secs(1000);
    let authority = Authority::create("test", now).unwrap();
    let mut state = support::bootstrapped_with(authority.cert_pem(), &authority.key_pem());
    state.skip(muster_model::Index(10));
    let (memory, replica) = muster_replica::memory::Memory::start_with(state);
    (Bench::over(memory, replica).await, authority)
}

fn new_user(name: &str, role: &str, csr: &str) -> pb::CreateUserRequest {
    pb::CreateUserRequest {
        name: name.into(),
        role: role.into(),
        certificate_request_pem: csr.into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_new_user_may_do_what_its_role_says_until_it_is_removed() {
    let (bench, authority) = with_authority().await;
    let mut operator = bench.operator(user("admin")).await;
    let (key, csr) = new_key_and_csr().unwrap();
    let made = operator.create_user(new_user("rita", "read-only", &csr)).await.unwrap();
    let made = made.into_inner();
    assert_eq!(made.ca_pem, authority.cert_pem());
    let identity = muster_identity::Identity::from_pem(muster_identity::IdentityPem {
        ca: made.ca_pem,
        cert: made.certificate_pem,
        key,
    })
    .unwrap();
    let rita = peer(Some(identity.principal()), &identity.serial());
    let mut ecs = bench.ecs(rita).await;
    ecs.list_clusters(pb::ListClustersRequest::default()).await.unwrap();
    let refused = ecs.create_cluster(pb::CreateClusterRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let users = operator.list_users(pb::ListUsersRequest::default()).await.unwrap().into_inner();
    let names: Vec<_> = users.users.iter().map(|row| (&*row.name, &*row.role)).collect();
    assert_eq!(names, [("admin", "admin"), ("rita", "read-only")]);

    let remove = pb::RemoveUserRequest { name: "rita".into(), ..Default::default() };
    operator.remove_user(remove).await.unwrap();
    let refused = ecs.list_clusters(pb::ListClustersRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let last = pb::RemoveUserRequest { name: "admin".into(), ..Default::default() };
    let refused = operator.remove_user(last).await.unwrap_err();
    assert!(refused.message().contains("last admin"), "{refused}");
}

#[tokio::test]
async fn users_that_cannot_be_are_refused_by_field() {
    let (bench, _) = with_authority().await;
    let mut operator = bench.operator(user("admin")).await;
    let (_, csr) = new_key_and_csr().unwrap();
    for (request, field) in [
        (new_user("", "admin", &csr), "name"),
        (new_user("a b", "admin", &csr), "name"),
        (new_user("rita", "root", &csr), "role"),
        (new_user("rita", "admin", ""), "certificateRequestPem"),
        (new_user("rita", "admin", "garbage"), "certificateRequestPem"),
        (
            pb::CreateUserRequest { validity_seconds: -1, ..new_user("rita", "admin", &csr) },
            "validitySeconds",
        ),
    ] {
        let refused = operator.create_user(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().starts_with(field), "{field}: {refused}");
    }
}

#[tokio::test]
async fn a_rotated_token_is_told_once_and_only_its_hash_is_kept() {
    let (bench, authority) = with_authority().await;
    let mut operator = bench.operator(user("admin")).await;
    let rotate = |role: &str| pb::RotateTokenRequest { role: role.into(), ..Default::default() };
    let told = operator.rotate_token(rotate("worker")).await.unwrap().into_inner().token;
    let token: JoinToken = told.parse().unwrap();
    assert_eq!(token.ca, authority.digest());
    let state = bench.replica.state();
    let kept = &state.meta().authority;
    assert_eq!(*kept.worker_token_hash, *hash_secret(token.secret()));
    assert_eq!(&*kept.manager_token_hash, "");
    // A repeat tells the same token; another request makes another.
    let again =
        |token: &str| pb::RotateTokenRequest { role: "worker".into(), client_token: token.into() };
    let first = operator.rotate_token(again("one")).await.unwrap().into_inner().token;
    let second = operator.rotate_token(again("one")).await.unwrap().into_inner().token;
    assert_eq!(first, second);
    let other = operator.rotate_token(again("two")).await.unwrap().into_inner().token;
    assert_ne!(first, other);
    let refused = operator.rotate_token(rotate("root")).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_token_cannot_be_guessed_from_the_request_that_made_it() {
    let mut secrets = Vec::new();
    for _ in 0..2 {
        let (bench, _) = with_authority().await;
        let mut operator = bench.operator(user("admin")).await;
        let (role, client_token) = ("worker".into(), "one".into());
        let rotate = pb::RotateTokenRequest { role, client_token };
        let told = operator.rotate_token(rotate).await.unwrap().into_inner().token;
        secrets.push(told.parse::<JoinToken>().unwrap().secret().to_owned());
    }
    // The same words to two clusters: only the authority's key tells the secrets apart.
    assert_ne!(secrets[0], secrets[1]);
}

#[tokio::test]
async fn raft_status_is_answered_without_a_leader_too() {
    let bench = Bench::start().await;
    let mut operator = bench.operator(user("admin")).await;
    let told = operator.raft_status(pb::RaftStatusRequest::default()).await.unwrap().into_inner();
    assert_eq!((told.id, told.leader, told.leader_address.as_str()), (1, Some(1), "memory"));
    let member = &told.members[0];
    assert_eq!((&*member.name, &*member.zone, &*member.role), ("m1", "az-a", "leader"));
    assert!(member.reachable);
    assert_eq!(told.state_hash, "");
    let asked = pb::RaftStatusRequest { state_hash: true };
    let told = operator.raft_status(asked).await.unwrap().into_inner();
    assert_eq!(told.state_hash.len(), 16);
    bench.memory.lead(false);
    let told = operator.raft_status(pb::RaftStatusRequest::default()).await.unwrap().into_inner();
    assert_eq!(told.leader, None);
}

#[tokio::test]
async fn steps_that_make_no_sense_are_refused() {
    let mut bench = Bench::start().await;
    let mut operator = bench.operator(user("admin")).await;
    let remove = |id| pb::RemoveManagerRequest { id, force: false };
    let refused = operator.remove_manager(remove(1)).await.unwrap_err();
    assert!(refused.message().contains("raft transfer"), "{refused}");
    assert_eq!(operator.remove_manager(remove(9)).await.unwrap_err().code(), Code::NotFound);
    let zero = operator.remove_manager(remove(0)).await.unwrap_err();
    assert_eq!(zero.code(), Code::InvalidArgument);
    let add = pb::AddManagerRequest { id: 9 };
    assert_eq!(operator.add_manager(add).await.unwrap_err().code(), Code::NotFound);
    let transfer = pb::TransferLeadershipRequest { to: 9 };
    let refused = operator.transfer_leadership(transfer).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    // Joined, and not part of Raft yet: its row goes, and nothing needs to be waited for.
    let (name, zone, address) = ("m2".into(), "az-b".into(), "m2:7700".into());
    bench.commit(Command::AddManager { name, zone, address, level: 1 }).await;
    let told = operator.remove_manager(remove(2)).await.unwrap().into_inner();
    assert_eq!(told.voters, [1]);
    bench.memory.lead(false);
    let refused = operator.remove_manager(remove(2)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
}
