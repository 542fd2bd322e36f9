//! A small campaign: managers are killed and cut off while clients write and read.
//!
//! Checked all the while: a write that was acknowledged before a read began is in that read, on
//! every manager; and in the end nothing acknowledged is missing and all states are equal.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Fleet, deadline, entry, numbers, shows};
use muster_model::{Error, IdSource, RaftId};
use muster_replica::{Change, Instant, Replica};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const FAULTS: u64 = 8;
const CLIENTS: u64 = 4;

/// What clients share: where managers are now, and what is known to be done.
#[derive(Default)]
struct Shared {
    replicas: Mutex<Vec<Replica>>,
    next: AtomicU64,
    acknowledged: Mutex<Vec<u64>>,
    stop: AtomicBool,
    reads: AtomicU64,
}

impl Shared {
    fn some_replica(&self, ids: &mut IdSource) -> Option<Replica> {
        let replicas = self.replicas.lock().unwrap();
        let at = usize::try_from(ids.next_u64()).unwrap_or(0);
        replicas.get(at.checked_rem(replicas.len())?).cloned()
    }

    fn see(&self, fleet: &Fleet) {
        let running = fleet.running();
        let replicas = running.iter().map(|id| fleet.replica(*id).clone()).collect();
        *self.replicas.lock().unwrap() = replicas;
    }
}

async fn client(shared: Arc<Shared>, seed: u64) {
    let mut ids = IdSource::new(u128::from(seed));
    while !shared.stop.load(Ordering::SeqCst) {
        let number = shared.next.fetch_add(1, Ordering::SeqCst) + 1;
        // Again and again with the same request, through any manager, until it is known.
        loop {
            let Some(replica) = shared.some_replica(&mut ids) else { continue };
            let patience = Instant::now() + Duration::from_secs(3);
            match replica.propose(entry(number), patience).await {
                Ok(_) => break,
                Err(Error::UnknownOutcome { .. } | Error::Unavailable { .. }) => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(other) => panic!("write {number}: {other}"),
            }
            if shared.stop.load(Ordering::SeqCst) {
                return;
            }
        }
        shared.acknowledged.lock().unwrap().push(number);
        let known = shared.acknowledged.lock().unwrap().clone();
        let Some(replica) = shared.some_replica(&mut ids) else { continue };
        let patience = Instant::now() + Duration::from_secs(3);
        if let Ok(state) = replica.read(patience).await {
            let missing: Vec<_> = known.iter().filter(|n| !shows(&state, **n)).collect();
            assert!(missing.is_empty(), "a read does not show acknowledged {missing:?}");
            shared.reads.fetch_add(1, Ordering::SeqCst);
        }
    }
}

async fn fault(fleet: &mut Fleet, shared: &Shared, ids: &mut IdSource) {
    let victim = 1 + ids.next_u64() % 3;
    let pause = Duration::from_millis(300 + ids.next_u64() % 2000);
    match ids.next_u64() % 4 {
        0 => {
            shared.replicas.lock().unwrap().retain(|r| r.status().id != RaftId(victim));
            fleet.kill(victim).await;
            tokio::time::sleep(pause).await;
            fleet.start(victim, false).await.unwrap();
        }
        1 => {
            fleet.links.cut(victim);
            tokio::time::sleep(pause).await;
            fleet.links.mend(victim);
        }
        2 => {
            let leader = fleet.leader().await;
            shared.replicas.lock().unwrap().retain(|r| r.status().id != RaftId(leader));
            fleet.kill(leader).await;
            tokio::time::sleep(pause).await;
            fleet.start(leader, false).await.unwrap();
        }
        _ => {
            let to = Change::Transfer(Some(RaftId(victim)));
            let _ = fleet.replica(victim).change(to, deadline()).await;
        }
    }
    shared.see(fleet);
}

/// What CI runs; any other by hand: `SEED=n`.
const SEED: u64 = 201;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_ever_missing() {
    let seed = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(SEED);
    eprintln!("SEED={seed} cargo test -p muster-store --test faults");
    let mut ids = IdSource::new(u128::from(seed));
    let mut fleet = Fleet::form(3, |config| config.log_bytes_max = 32 * 1024).await;
    let shared = Arc::new(Shared::default());
    shared.see(&fleet);
    let clients: Vec<_> =
        (0..CLIENTS).map(|n| tokio::spawn(client(shared.clone(), seed ^ n))).collect();
    for _ in 0..FAULTS {
        fault(&mut fleet, &shared, &mut ids).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    // Faults off: it must heal by itself.
    let healed = Instant::now();
    let last = fleet.propose(1, 5_000_000).await.unwrap().index;
    assert!(healed.elapsed() < Duration::from_secs(15), "{:?} to heal", healed.elapsed());
    shared.stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    let end = fleet.propose(2, 5_000_001).await.unwrap().index;
    assert!(end > last);
    let state = fleet.converge(end).await;
    let found = numbers(&state);
    let acknowledged = shared.acknowledged.lock().unwrap().clone();
    let lost: Vec<_> = acknowledged.iter().filter(|n| found.binary_search(n).is_err()).collect();
    assert!(lost.is_empty(), "acknowledged and missing: {lost:?}");
    let reads = shared.reads.load(Ordering::SeqCst);
    assert!(acknowledged.len() > 50 && reads > 20, "{} writes, {reads} reads", acknowledged.len());
    // The fleet closes its databases as it is dropped, unless somebody still holds one.
    shared.replicas.lock().unwrap().clear();
}
