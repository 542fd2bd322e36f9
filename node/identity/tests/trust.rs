//! Who is let in and who is believed: real handshakes over loopback, a real gRPC service behind.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::*;
use muster_identity::{CaDigest, Connector, Error, JoinRole, JoinToken, Options};
use muster_model::Principal;

#[tokio::test]
async fn every_principal_is_known_to_the_service_it_calls() {
    let authority = authority();
    let server = Server::start(identity(&authority, &manager(1)), Options::default()).await;
    for principal in [manager(2), instance(), Principal::User("ann".to_owned())] {
        let identity = identity(&authority, &principal);
        let connector = Connector::new(identity.clone());
        call(connector.connect(&server.addr, patient()).await.unwrap()).await.unwrap();
        let caller = server.last_caller();
        assert_eq!(caller.principal, Some(principal));
        assert_eq!(caller.serial, Some(identity.serial()));
        assert!(caller.addr.ip().is_loopback());
    }
}

#[tokio::test]
async fn a_joining_machine_is_let_in_without_a_principal_and_believes_only_its_tokens_cluster() {
    let (ours, theirs) = (authority(), authority());
    let server = Server::start(identity(&ours, &manager(1)), Options::default()).await;

    let token = JoinToken::generate(JoinRole::Worker, ours.digest()).unwrap();
    let channel = Connector::pinned(token.ca).connect(&server.addr, patient()).await.unwrap();
    call(channel).await.unwrap();
    assert_eq!(server.last_caller().principal, None);
    assert_eq!(server.last_caller().serial, None);

    let refused = Connector::pinned(theirs.digest()).connect(&server.addr, patient()).await;
    let told = refused.unwrap_err().to_string();
    for part in [ours.digest().short(), theirs.digest().short(), "take a token".to_owned()] {
        assert!(told.contains(&part), "{told}");
    }
    assert_eq!(server.callers.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn the_pin_is_of_an_authority_and_not_of_any_certificate_in_the_chain() {
    let authority = authority();
    let pem = pem(&authority, &manager(1));
    let leaf = CaDigest::of_pem(&pem.cert).unwrap();
    let identity = muster_identity::Identity::from_pem(pem).unwrap();
    let server = Server::start(identity, Options::default()).await;
    let refused = Connector::pinned(leaf).connect(&server.addr, patient()).await;
    assert!(matches!(refused, Err(Error::OtherCluster { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_pinned_client_refuses_a_server_that_only_shows_the_authority() {
    // The authority's certificate is public: who shows it must also be signed by it.
    let (ours, theirs) = (authority(), authority());
    let mut pem = pem(&theirs, &manager(1));
    pem.ca = format!("{}{}", pem.ca, ours.cert_pem());
    let impostor = muster_identity::Identity::from_pem(pem).unwrap();
    let server = Server::start(impostor, Options::default()).await;
    let refused = Connector::pinned(ours.digest()).connect(&server.addr, patient()).await;
    let told = refused.unwrap_err().to_string();
    assert!(told.contains("another authority issued its certificate"), "{told}");
}

#[tokio::test]
async fn an_agent_or_user_cannot_pass_for_a_manager() {
    let authority = authority();
    for principal in [instance(), Principal::User("ann".to_owned())] {
        let server = Server::start(identity(&authority, &principal), Options::default()).await;
        let client = Connector::new(identity(&authority, &manager(2)));
        for connector in [client, Connector::pinned(authority.digest())] {
            let refused = connector.connect(&server.addr, patient()).await;
            let told = refused.unwrap_err().to_string();
            assert!(told.contains("not a manager's"), "{told}");
        }
    }
}

#[tokio::test]
async fn a_certificate_of_another_cluster_is_refused_and_says_so() {
    let (ours, theirs) = (authority(), authority());
    let server = Server::start(identity(&ours, &manager(1)), Options::default()).await;

    // It would believe us, so the refusal is the server's.
    let mut pem = pem(&theirs, &instance());
    pem.ca.push_str(ours.cert_pem());
    let stranger = muster_identity::Identity::from_pem(pem).unwrap();
    let refused = Connector::new(stranger).connect(&server.addr, patient()).await;
    assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
    let told = refused.unwrap_err().to_string();
    assert!(told.contains("another cluster"), "{told}");

    // And an ordinary stranger does not believe our server.
    let stranger = Connector::new(identity(&theirs, &instance()));
    let refused = stranger.connect(&server.addr, patient()).await;
    assert!(matches!(refused, Err(Error::Server { .. })), "{refused:?}");
    assert!(server.callers.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_expired_certificate_is_refused_on_either_side_and_says_so() {
    let authority = authority();
    let server = Server::start(identity(&authority, &manager(1)), Options::default()).await;
    let client = Connector::new(expired(&authority, &instance()));
    let refused = client.connect(&server.addr, patient()).await;
    let Err(Error::Refused { problem, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert!(problem.contains("expired") && problem.contains("date -u"), "{problem}");
    assert!(server.callers.lock().unwrap().is_empty());

    let server = Server::start(expired(&authority, &manager(1)), Options::default()).await;
    let client = Connector::new(identity(&authority, &instance()));
    let refused = client.connect(&server.addr, patient()).await;
    let Err(Error::Server { problem, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert!(problem.contains("expired"), "{problem}");
}

#[tokio::test]
async fn a_renewed_identity_is_used_by_new_connections_without_a_restart() {
    let authority = authority();
    let ours = identity(&authority, &manager(1));
    let server = Server::start(ours.clone(), Options::default()).await;
    let theirs = identity(&authority, &instance());
    let connector = Connector::new(theirs.clone());

    let before = connector.connect(&server.addr, patient()).await.unwrap();
    call(before.clone()).await.unwrap();
    let old = theirs.serial();
    assert_eq!(server.last_caller().serial, Some(old.clone()));

    theirs.replace(pem(&authority, &instance())).unwrap();
    ours.replace(pem(&authority, &manager(1))).unwrap();
    let after = connector.connect(&server.addr, patient()).await.unwrap();
    call(after).await.unwrap();
    assert_eq!(server.last_caller().serial, Some(theirs.serial()));
    // The connection that stood goes on with what it was made with.
    call(before).await.unwrap();
    assert_eq!(server.last_caller().serial, Some(old));
}

#[tokio::test]
async fn a_new_authority_can_be_introduced_beside_the_old_one() {
    let (old, new) = (authority(), authority());
    let ours = identity(&old, &manager(1));
    let server = Server::start(ours.clone(), Options::default()).await;
    let client = Connector::new(identity(&new, &instance()));
    assert!(client.connect(&server.addr, patient()).await.is_err());

    let mut both = pem(&new, &manager(1));
    both.ca.push_str(old.cert_pem());
    ours.replace(both).unwrap();
    for authority in [&old, &new] {
        // Old machines are told of the new authority before it is used to issue.
        let mut parts = pem(authority, &instance());
        parts.ca = format!("{}{}", old.cert_pem(), new.cert_pem());
        let client = Connector::new(muster_identity::Identity::from_pem(parts).unwrap());
        call(client.connect(&server.addr, patient()).await.unwrap()).await.unwrap();
    }
}
