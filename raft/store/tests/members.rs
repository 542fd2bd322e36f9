//! Who may take part: joining, leaving, wiped disks, strangers, and the snapshot that a newcomer
//! gets.
#![allow(clippy::unwrap_used)] // a test that cannot go on should fail

mod common;

use common::{Fleet, deadline, entry, eventually, identity, numbers, shows};
use muster_model::{Error, InstanceId, Principal, RaftId};
use muster_proto::raft::raft_client::RaftClient;
use muster_proto::raft::{AppendRequest, Header, VoteRequest};
use muster_replica::Change;
use muster_store::{StoreError, Trust};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_manager_is_refused_and_its_replacement_gets_a_snapshot() {
    // A log so small that what a newcomer needs has long been purged.
    let mut fleet = Fleet::form(3, |config| config.log_bytes_max = 8 * 1024).await;
    for number in 1..=150 {
        fleet.propose(1 + number % 2, number).await.unwrap();
    }
    eventually("every log is purged", || {
        (1..=3).all(|id| fleet.replica(id).status().purged.is_some_and(|purged| purged > 20))
    })
    .await;
    for id in 1..=3 {
        let status = fleet.replica(id).status();
        assert!(status.log_bytes < 16 * 1024, "{status:?}");
    }
    fleet.kill(3).await;
    // The database may still be closing its files.
    eventually("the disk is wiped", || std::fs::remove_dir_all(&fleet.machine(3).dir).is_ok())
        .await;
    // The same id on an empty disk: nobody listens to it, and it learns nothing.
    fleet.start(3, false).await.unwrap();
    fleet.propose(1, 151).await.unwrap();
    let address = fleet.machine(3).address.clone();
    let again = Change::AddLearner { id: RaftId(3), address };
    let refused = fleet.replica(1).change(again, deadline()).await.unwrap_err();
    assert!(refused.to_string().contains("another data directory"), "{refused}");
    let soon = tokio::time::Instant::now() + Duration::from_secs(3);
    let read = fleet.replica(3).read(soon).await;
    assert!(read.is_err(), "it was let in");
    assert!(numbers(&fleet.replica(3).state()).is_empty());
    fleet.kill(3).await;
    // What the message says: out with it, and a new id.
    fleet.change(1, Change::Remove(RaftId(3))).await.unwrap();
    fleet.join(1, 4).await;
    let last = fleet.propose(4, 152).await.unwrap().index;
    let state = fleet.converge(last).await;
    assert_eq!(numbers(&state), (1..=152).collect::<Vec<_>>());
    let status = fleet.replica(4).status();
    assert!(status.snapshot.is_some_and(|index| index > 100), "{status:?}");
    // It keeps what it was sent.
    fleet.kill(4).await;
    fleet.start(4, false).await.unwrap();
    let state = fleet.replica(4).read(deadline()).await.unwrap();
    assert_eq!(numbers(&state), (1..=152).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_that_was_down_for_long_gets_a_snapshot_under_load() {
    let mut fleet = Fleet::form(3, |config| config.log_bytes_max = 8 * 1024).await;
    fleet.propose(1, 1).await.unwrap();
    fleet.kill(3).await;
    for number in 2..=200 {
        fleet.propose(1, number).await.unwrap();
    }
    fleet.start(3, false).await.unwrap();
    let mut number = 200;
    // Writes go on while it catches up.
    while !shows(&fleet.replica(3).state(), 200) {
        number += 1;
        fleet.propose(1, number).await.unwrap();
        assert!(number < 2000, "it does not catch up");
    }
    let last = fleet.propose(3, number + 1).await.unwrap().index;
    let state = fleet.converge(last).await;
    assert_eq!(numbers(&state), (1..=number + 1).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_and_go_while_writes_go_on() {
    let mut fleet = Fleet::form(1, |_| {}).await;
    fleet.propose(1, 1).await.unwrap();
    fleet.join(1, 2).await;
    fleet.propose(2, 2).await.unwrap();
    fleet.join(2, 3).await;
    fleet.propose(3, 3).await.unwrap();
    // The leader takes itself out; another leads.
    let leader = fleet.leader().await;
    let other = fleet.follower().await;
    fleet.change(other, Change::Remove(RaftId(leader))).await.unwrap();
    fleet.stop(leader).await;
    let rest = fleet.running();
    fleet.propose(rest[0], 4).await.unwrap();
    eventually("two members are left", || fleet.replica(rest[0]).status().members.len() == 2).await;
    // One of two must not be taken out while the other does not answer.
    let (stays, dead) = (rest[0], rest[1]);
    fleet.kill(dead).await;
    let refused = fleet.replica(stays).change(Change::Remove(RaftId(stays)), deadline()).await;
    assert!(refused.is_err());
    fleet.start(dead, false).await.unwrap();
    fleet.propose(dead, 5).await.unwrap();
    // A second time is no error; a stranger is.
    let address = fleet.machine(dead).address.clone();
    fleet.change(stays, Change::AddLearner { id: RaftId(dead), address }).await.unwrap();
    fleet.change(stays, Change::Promote(RaftId(dead))).await.unwrap();
    let unknown = fleet.replica(stays).change(Change::Promote(RaftId(77)), deadline()).await;
    assert!(matches!(unknown, Err(Error::NotFound { .. })), "{unknown:?}");
    let unknown = fleet.replica(stays).change(Change::Remove(RaftId(77)), deadline()).await;
    assert!(matches!(unknown, Err(Error::NotFound { .. })), "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_answering_voters_cannot_be_removed() {
    let mut fleet = Fleet::form(3, |_| {}).await;
    let leader = fleet.leader().await;
    let others: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
    fleet.kill(others[0]).await;
    fleet.propose(leader, 1).await.unwrap();
    eventually("its silence has been noticed", || {
        let members = fleet.replica(leader).status().members;
        let dead = members.iter().find(|member| member.id.0 == others[0]).unwrap();
        dead.answered.is_none_or(|ago| ago > muster_store::limits::NO_LEADER_WAIT)
    })
    .await;
    let change = Change::Remove(RaftId(others[1]));
    let refused = fleet.replica(leader).change(change, deadline()).await.unwrap_err();
    assert!(matches!(refused, Error::InUse { .. }), "{refused}");
    assert!(refused.to_string().contains("2 are needed"), "{refused}");
    // The dead one may go.
    fleet.change(leader, Change::Remove(RaftId(others[0]))).await.unwrap();
    fleet.propose(leader, 2).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_with_a_used_disk_is_refused() {
    let mut fleet = Fleet::form(1, |_| {}).await;
    fleet.add_machine(2).await;
    // It once began a fleet of its own.
    fleet.start(2, true).await.unwrap();
    let address = fleet.machine(2).address.clone();
    let add = Change::AddLearner { id: RaftId(2), address };
    let refused = fleet.replica(1).change(add, deadline()).await.unwrap_err();
    assert!(refused.to_string().contains("empty"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_of_another_fleet_does_not_start() {
    let mut fleet = Fleet::form(1, |_| {}).await;
    fleet.stop(1).await;
    fleet.config = std::sync::Arc::new(|config| config.fleet = 5);
    let refused = fleet.start(1, false).await.unwrap_err();
    assert!(matches!(refused, StoreError::Foreign { .. }), "{refused}");
}

/// Every way to speak for somebody else is refused, whatever the certificate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_from_strangers_are_refused() {
    let fleet = Fleet::form(2, |_| {}).await;
    let address = fleet.machine(1).address.clone();
    let header = |fleet: u128, from: u64, to: u64, disks: (u64, u64)| Header {
        fleet: fleet.to_be_bytes().to_vec().into(),
        from,
        from_disk: disks.0,
        to,
        to_disk: disks.1,
    };
    let connect = |principal: Principal| {
        let who = identity(&fleet.authority, &principal);
        let trust = fleet.links.trust(9, muster_identity::Connector::new(who));
        RaftClient::new(trust.channel(&address).unwrap())
    };
    let manager = |id| Principal::Manager(RaftId(id));
    let agent = Principal::Instance(InstanceId::from_bits(1));
    let cases = [
        (agent, header(common::FLEET, 2, 1, (0, 0)), "managers"),
        (Principal::User("admin".into()), header(common::FLEET, 2, 1, (0, 0)), "managers"),
        (manager(3), header(common::FLEET, 2, 1, (0, 0)), "may not speak for"),
        (manager(2), header(5, 2, 1, (0, 0)), "another set of managers"),
        (manager(2), header(common::FLEET, 2, 3, (0, 0)), "this is manager 1, not 3"),
        (manager(2), header(common::FLEET, 2, 1, (0, 0)), "wiped or replaced"),
    ];
    for (principal, header, why) in cases {
        let mut client = connect(principal);
        let vote = VoteRequest { header: Some(header.clone()), ..VoteRequest::default() };
        let refused = client.vote(vote).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::PermissionDenied, "{refused}");
        assert!(refused.message().contains(why), "{refused}");
        let append = AppendRequest { header: Some(header), ..AppendRequest::default() };
        assert!(client.heartbeat(append.clone()).await.is_err());
        assert!(client.append(futures::stream::iter([append])).await.is_err());
    }
    fleet.replica(1).propose(entry(1), deadline()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_whose_directory_is_of_an_earlier_time_does_not_stall_the_others() {
    let mut fleet = Fleet::form(2, |_| {}).await;
    fleet.change(1, Change::Transfer(Some(RaftId(1)))).await.unwrap();
    for number in 1..=10 {
        fleet.propose(1, number).await.unwrap();
    }
    let dir = fleet.machine(2).dir.clone();
    let earlier = dir.with_extension("earlier");
    let copy = |from: &Path, to: &Path| {
        assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
    };
    fleet.kill(2).await;
    copy(&dir, &earlier);
    fleet.start(2, false).await.unwrap();
    for number in 11..=20 {
        fleet.propose(1, number).await.unwrap();
    }
    assert_eq!(fleet.leader().await, 1);
    fleet.kill(2).await;
    std::fs::remove_dir_all(&dir).unwrap();
    copy(&earlier, &dir);
    fleet.start(2, false).await.unwrap();
    // It is needed for a quorum, and what it lost it gets again.
    let last = fleet.propose(1, 21).await.unwrap().index;
    let state = fleet.converge(last).await;
    assert_eq!(numbers(&state), (1..=21).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_that_was_taken_out_says_so() {
    let fleet = Fleet::form(3, |_| {}).await;
    let out = fleet.follower().await;
    let via = fleet.leader().await;
    fleet.change(via, Change::Remove(RaftId(out))).await.unwrap();
    fleet.propose(via, 1).await.unwrap();
    let asked = Instant::now();
    loop {
        let refused = fleet.replica(out).read(deadline()).await.unwrap_err().to_string();
        if refused.contains("was taken out of the cluster") {
            break;
        }
        assert!(asked.elapsed() < Duration::from_secs(10), "{refused}");
    }
}
