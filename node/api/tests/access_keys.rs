//! Access keys: who gets one, who acts with it, and how it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use muster_api::Caller;
use muster_api::authn::{Authn, KeyError};
use muster_api::sigv4::Refusal;
use muster_model::{Entry, Error, State, Time, UserRole};
use muster_proto::pb;
use muster_proto::pb::operator_client::OperatorClient;
use muster_replica::memory::Memory;
use muster_replica::{Answer, Applied, Backend, Change, Instant, Leadership, RaftStatus, Replica};
use std::sync::Arc;
use std::time::Duration;
use support::{Bench, user};
use tokio::sync::watch;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// Keys of users never expire.
const NOW: Time = Time(0);

type Operator = OperatorClient<Channel>;
type Made = pb::CreateAccessKeyResponse;

async fn start() -> (Bench, Operator) {
    let mut bench = Bench::with_authority().await;
    bench.user("ann", UserRole::Operator).await;
    let operator = bench.operator(user("admin")).await;
    (bench, operator)
}

async fn create(operator: &mut Operator, user: &str, token: &str) -> Result<Made, Status> {
    let (user, client_token) = (user.into(), token.into());
    let request = pb::CreateAccessKeyRequest { user, client_token };
    Ok(operator.create_access_key(request).await?.into_inner())
}

async fn switch(operator: &mut Operator, id: &str, status: &str) -> Result<(), Status> {
    let (access_key_id, status) = (id.into(), status.into());
    let request = pb::UpdateAccessKeyRequest { access_key_id, status, client_token: String::new() };
    operator.update_access_key(request).await.map(drop)
}

async fn delete(operator: &mut Operator, id: &str) -> Result<(), Status> {
    let request =
        pb::DeleteAccessKeyRequest { access_key_id: id.into(), client_token: String::new() };
    operator.delete_access_key(request).await.map(drop)
}

async fn list(operator: &mut Operator, user: &str) -> Vec<(String, String, String)> {
    let request = pb::ListAccessKeysRequest { user: user.into(), stale: false };
    let rows = operator.list_access_keys(request).await.unwrap().into_inner().access_keys;
    assert!(rows.iter().all(|row| row.created_at.is_some()));
    rows.into_iter().map(|row| (row.access_key_id, row.user, row.status)).collect()
}

/// Who acts with a key, or nobody.
async fn holder(bench: &Bench, id: &str) -> Option<(Caller, String)> {
    let guard = bench.api.guard();
    match guard.authn().key_holder(id, None, NOW).await {
        Ok((caller, secret)) => Some((caller, secret.reveal().to_owned())),
        Err(KeyError::Refused(refusal)) => {
            // Nobody learns why.
            assert_eq!(refusal, Refusal::UnknownKey(String::new()));
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_key_is_its_users_while_both_count() {
    let (bench, mut operator) = start().await;
    let made = create(&mut operator, "ann", "").await.unwrap();
    let id = made.access_key_id.as_str();
    assert_eq!((id.len(), made.secret_access_key.len(), &*made.user), (20, 40, "ann"));
    let ann = Caller::User { name: "ann".into(), role: UserRole::Operator };
    let known = Some((ann, made.secret_access_key.clone()));
    assert_eq!(holder(&bench, id).await, known);
    assert_eq!(list(&mut operator, "").await, [(id.into(), "ann".into(), "Active".into())]);

    switch(&mut operator, id, "Inactive").await.unwrap();
    assert_eq!(holder(&bench, id).await, None);
    assert_eq!(list(&mut operator, "ann").await, [(id.into(), "ann".into(), "Inactive".into())]);
    switch(&mut operator, id, "Active").await.unwrap();
    assert_eq!(holder(&bench, id).await, known);

    let second = create(&mut operator, "ann", "").await.unwrap().access_key_id;
    delete(&mut operator, id).await.unwrap();
    assert_eq!(holder(&bench, id).await, None);
    assert_eq!(list(&mut operator, "ann").await.len(), 1);
    let remove = pb::RemoveUserRequest { name: "ann".into(), ..Default::default() };
    operator.remove_user(remove).await.unwrap();
    assert_eq!(holder(&bench, &second).await, None);
    assert_eq!(list(&mut operator, "").await, []);
}

#[tokio::test]
async fn without_a_name_the_key_is_the_callers_own() {
    let (bench, mut operator) = start().await;
    let made = create(&mut operator, "", "").await.unwrap();
    assert_eq!(made.user, "admin");
    let admin = Caller::User { name: "admin".into(), role: UserRole::Admin };
    assert_eq!(holder(&bench, &made.access_key_id).await.unwrap().0, admin);
}

#[tokio::test]
async fn a_repeat_tells_the_same_key_and_makes_no_other() {
    let (bench, mut operator) = start().await;
    let first = create(&mut operator, "ann", "one").await.unwrap();
    assert_eq!(create(&mut operator, "ann", "one").await.unwrap(), first);
    assert_eq!(list(&mut operator, "").await.len(), 1);
    // The answer to the first attempt was lost, though it was applied.
    bench.memory.next(muster_replica::memory::Fate::AppliedUnknown);
    let second = create(&mut operator, "ann", "two").await.unwrap();
    assert_ne!(second.access_key_id, first.access_key_id);
    assert_eq!(create(&mut operator, "ann", "two").await.unwrap(), second);
    assert_eq!(list(&mut operator, "").await.len(), 2);
    assert_eq!(holder(&bench, &second.access_key_id).await.unwrap().1, second.secret_access_key);

    let reused = create(&mut operator, "admin", "one").await.unwrap_err();
    assert!(reused.message().contains("client token was used"), "{reused}");
    delete(&mut operator, &first.access_key_id).await.unwrap();
    let gone = create(&mut operator, "ann", "one").await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    assert!(gone.message().contains(&first.access_key_id), "{gone}");
}

#[tokio::test]
async fn what_cannot_be_is_refused_by_field() {
    let (_bench, mut operator) = start().await;
    let told = |refused: Result<(), Status>| refused.unwrap_err().message().to_owned();
    let none = "AKIAAAAAAAAAAAAAAAAA";
    assert!(told(switch(&mut operator, "AKIA", "Active").await).starts_with("accessKeyId"));
    assert!(told(switch(&mut operator, none, "active").await).starts_with("status"));
    assert!(told(switch(&mut operator, none, "Active").await).contains("muster access-key list"));
    assert!(told(delete(&mut operator, "").await).starts_with("accessKeyId"));
    assert!(told(delete(&mut operator, none).await).contains(none));
    for (name, told) in [("nora", "muster user list"), ("a b", "name")] {
        let refused = create(&mut operator, name, "").await.unwrap_err();
        assert!(refused.message().contains(told), "{refused}");
    }
    let request = pb::ListAccessKeysRequest { user: "nora".into(), stale: false };
    assert_eq!(operator.list_access_keys(request).await.unwrap_err().code(), Code::NotFound);
    for _ in 0..muster_model::limits::ACCESS_KEYS_PER_USER_MAX {
        create(&mut operator, "ann", "").await.unwrap();
    }
    let ninth = create(&mut operator, "ann", "").await.unwrap_err();
    assert!(ninth.message().contains("access keys of user ann: 9, at most 8"), "{ninth}");
}

#[tokio::test]
async fn the_state_holds_no_secret_in_the_clear() {
    let (bench, mut operator) = start().await;
    let made = create(&mut operator, "ann", "").await.unwrap();
    let state = bench.replica.state();
    let secret = made.secret_access_key.as_bytes();
    let row = state.access_keys().next().unwrap();
    assert!(!row.secret.0.windows(8).any(|part| part == &secret[..8]));
    let printed = format!("{:?}", state.rows().collect::<Vec<_>>());
    assert!(printed.contains("AccessKey") && !printed.contains(&made.secret_access_key));
}

/// A manager that is behind its leader.
struct Lagging {
    leader: Arc<Memory>,
    states: watch::Sender<Arc<State>>,
}

impl Backend for Lagging {
    fn watch(&self) -> watch::Receiver<Arc<State>> {
        self.states.subscribe()
    }
    fn age(&self) -> Duration {
        self.leader.age()
    }
    fn read(&self, deadline: Instant) -> Answer<'_, Arc<State>> {
        self.leader.read(deadline)
    }
    fn propose(&self, entry: Entry, deadline: Instant) -> Answer<'_, Applied> {
        self.leader.propose(entry, deadline)
    }
    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leader.leadership()
    }
    fn status(&self) -> RaftStatus {
        self.leader.status()
    }
    fn change(&self, change: Change, deadline: Instant) -> Answer<'_, ()> {
        self.leader.change(change, deadline)
    }
}

#[tokio::test]
async fn a_manager_that_is_behind_asks_the_leader() {
    let (bench, mut operator) = start().await;
    let old = create(&mut operator, "ann", "").await.unwrap().access_key_id;
    let states = watch::Sender::new(bench.replica.state());
    let behind = Lagging { leader: bench.memory.clone(), states };
    let authn = Authn::new(Replica::new(Arc::new(behind)));
    let new = create(&mut operator, "ann", "").await.unwrap().access_key_id;
    assert!(authn.key_holder(&new, None, NOW).await.is_ok());
    switch(&mut operator, &new, "Inactive").await.unwrap();
    assert!(matches!(authn.key_holder(&new, None, NOW).await, Err(KeyError::Refused(_))));

    bench.memory.lead(false);
    assert!(authn.key_holder(&old, None, NOW).await.is_ok(), "known here");
    match authn.key_holder(&new, None, NOW).await {
        Err(KeyError::Unavailable(Error::Unavailable { why })) => {
            assert!(why.contains("cannot ask the leader"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    // What cannot be an id is not asked for.
    assert!(matches!(authn.key_holder("AKIDEXAMPLE", None, NOW).await, Err(KeyError::Refused(_))));
}
