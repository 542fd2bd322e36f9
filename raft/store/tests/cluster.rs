//! Three managers in one process: form, write, lose one, come back.
#![allow(clippy::unwrap_used)] // a test that cannot go on should fail

mod common;

use common::{DEADLINE, Fleet, deadline, entry, eventually, numbers, shows};
use muster_model::{Error, Index, RaftId};
use muster_replica::{Change, Instant};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_managers_take_writes_and_reads_on_each() {
    let fleet = Fleet::form(3, |_| {}).await;
    let mut last = Index(0);
    for number in 1..=30 {
        let via = 1 + number % 3;
        last = fleet.propose(via, number).await.unwrap().index;
        // Acknowledged by one manager, visible to a linearizable read on any other.
        let state = fleet.replica(1 + (number + 1) % 3).read(deadline()).await.unwrap();
        assert!(shows(&state, number), "write {number} through manager {via} is not visible");
    }
    let state = fleet.converge(last).await;
    assert_eq!(numbers(&state), (1..=30).collect::<Vec<_>>());
    for id in 1..=3 {
        let status = fleet.replica(id).status();
        assert_eq!(status.members.len(), 3, "{status:?}");
        assert!(status.members.iter().all(|member| member.voter));
        assert!(fleet.replica(id).age() < DEADLINE);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_committed_refusal_is_the_answer_on_every_manager() {
    let fleet = Fleet::form(3, |_| {}).await;
    for via in 1..=3 {
        let mut again = entry(0);
        again.request = entry(100 + via).request;
        let refused = fleet.replica(via).propose(again, deadline()).await.unwrap_err();
        assert!(matches!(refused, Error::Exists { .. }), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_is_replaced_and_catches_up_when_it_returns() {
    let mut fleet = Fleet::form(3, |_| {}).await;
    for number in 1..=10 {
        fleet.propose(1, number).await.unwrap();
    }
    let old = fleet.leader().await;
    fleet.kill(old).await;
    let via = fleet.running()[0];
    for number in 11..=20 {
        fleet.propose(via, number).await.unwrap();
    }
    assert_ne!(fleet.leader().await, old);
    fleet.start(old, false).await.unwrap();
    let last = fleet.propose(old, 21).await.unwrap().index;
    let state = fleet.converge(last).await;
    assert_eq!(numbers(&state), (1..=21).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_managers_stopped_together_come_back_with_everything() {
    let mut fleet = Fleet::form(3, |_| {}).await;
    for number in 1..=20 {
        fleet.propose(1 + number % 3, number).await.unwrap();
    }
    for id in 1..=3 {
        fleet.kill(id).await;
    }
    for id in 1..=3 {
        fleet.start(id, false).await.unwrap();
    }
    let state = fleet.replica(2).read(deadline()).await.unwrap();
    assert_eq!(numbers(&state), (1..=20).collect::<Vec<_>>());
    fleet.propose(3, 21).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_moves_on_request_and_on_shutdown() {
    let mut fleet = Fleet::form(3, |_| {}).await;
    let old = fleet.leader().await;
    let to = 1 + old % 3;
    fleet.change(old, Change::Transfer(Some(RaftId(to)))).await.unwrap();
    eventually("the named manager leads", || fleet.replica(to).leadership().borrow().mine).await;
    // From a follower, to whoever is best.
    fleet.change(old, Change::Transfer(None)).await.unwrap();
    let leader = fleet.leader().await;
    let others: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
    fleet.stop(leader).await;
    // It handed over before it stopped: nobody has to wait for its silence.
    let status = fleet.replica(others[0]).status();
    assert_ne!(status.leader, Some(RaftId(leader)), "{status:?}");
    eventually("one of the others leads", || {
        others.iter().any(|id| fleet.replica(*id).leadership().borrow().mine)
    })
    .await;
    fleet.propose(others[0], 1).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_the_missing_managers_are_named_and_stale_state_is_served() {
    let mut fleet = Fleet::form(3, |_| {}).await;
    let last = fleet.propose(1, 1).await.unwrap().index;
    fleet.converge(last).await;
    for id in [2, 3] {
        fleet.kill(id).await;
    }
    let replica = fleet.replica(1);
    eventually("nobody is called leader", || replica.leadership().borrow().leader.is_none()).await;
    let address = fleet.machine(3).address.clone();
    let asked = Instant::now();
    let refused = loop {
        // While the loss is being noticed an attempt may still begin, and ends unknown; and who
        // answered a moment ago is not yet missing.
        let refused = replica.propose(entry(2), deadline()).await.unwrap_err();
        let why = refused.to_string();
        if why.contains("manager 2") && why.contains(&address) {
            break refused;
        }
        assert!(asked.elapsed() < Duration::from_secs(5), "{why}");
    };
    assert!(matches!(refused, Error::Unavailable { .. }), "{refused}");
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    assert!(matches!(replica.read(deadline()).await, Err(Error::Unavailable { .. })));
    assert!(shows(&replica.state(), 1), "stale state is still served");
    assert!(replica.age() >= Duration::from_millis(500), "{:?}", replica.age());
    fleet.start(2, false).await.unwrap();
    fleet.propose(1, 2).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_steps_back_and_its_writes_end() {
    let fleet = Fleet::form(3, |_| {}).await;
    fleet.propose(1, 1).await.unwrap();
    let old = fleet.leader().await;
    fleet.links.cut(old);
    let lost = fleet.replica(old).propose(entry(2), deadline()).await.unwrap_err();
    assert!(
        matches!(lost, Error::UnknownOutcome { .. } | Error::Unavailable { .. }),
        "a write on the wrong side of a cut: {lost}"
    );
    eventually("it no longer calls itself leader", || {
        !fleet.replica(old).leadership().borrow().mine
    })
    .await;
    let via = (1..=3).find(|id| *id != old).unwrap();
    for number in 3..=6 {
        fleet.propose(via, number).await.unwrap();
    }
    fleet.links.mend(old);
    let healed = Instant::now();
    let last = fleet.propose(old, 7).await.unwrap().index;
    let state = fleet.converge(last).await;
    let found = numbers(&state);
    assert!([1, 3, 4, 5, 6, 7].iter().all(|n| found.contains(n)), "{found:?}");
    assert!(healed.elapsed() < Duration::from_secs(10), "{:?}", healed.elapsed());
}
