//! Follows who leads: from "this manager leads" to a running brain, and back.
//!
//! A term won in Raft is not yet a reign: that begins when this term's own `Takeover` is applied
//! here, so that every older plan is visible or dead. Invariant: at most one brain runs, and only
//! while Raft says that this manager leads in the term it began in.

use crate::drive::{Drive, Over};
use crate::hub::{Hub, Reign};
use crate::limits::{EVENTS_MAX, PROPOSE_WAIT, RETRY_PAUSE};
use crate::{hooks, members};
use muster_control::io::Mandate;
use muster_model::{Command, Entry, Epoch, Error, Principal};
use muster_replica::{Instant, Leadership};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tracing::Instrument;

/// Runs until the hub stops.
pub async fn follow(hub: Arc<Hub>) {
    let mut leadership = hub.replica.leadership();
    loop {
        let elected = tokio::select! {
            () = hub.stop.cancelled() => return,
            elected = elected(&mut leadership) => elected,
        };
        // Without a replica this process is about to end.
        let Some(term) = elected else { return hub.stop.cancelled().await };
        let span = tracing::info_span!("leader.takeover", term);
        let taken = tokio::select! {
            () = hub.stop.cancelled() => return,
            () = lost(&mut leadership, term) => None,
            epoch = take_over(&hub).instrument(span) => epoch,
        };
        match taken {
            Some(epoch) => reign(&hub, epoch, term).await,
            None => tokio::time::sleep(RETRY_PAUSE).await,
        }
    }
}

/// The term in which this manager leads; `None` if the replica is gone.
async fn elected(leadership: &mut watch::Receiver<Leadership>) -> Option<u64> {
    leadership.wait_for(|now| now.mine).await.ok().map(|now| now.term)
}

async fn lost(leadership: &mut watch::Receiver<Leadership>, term: u64) {
    // A closed channel means that the replica stops: lost too.
    let _ = leadership.wait_for(|now| !now.mine || now.term != term).await;
}

/// Proposes this manager's `Takeover` until it is applied here. `None` if another one came later.
async fn take_over(hub: &Hub) -> Option<Epoch> {
    // Before `Bootstrap` there is nothing to lead, and it must be the first entry.
    let mut states = hub.replica.watch();
    states.wait_for(|state| !state.meta().name.is_empty()).await.ok()?;
    let started = Instant::now();
    let entry = Entry {
        request: hub.ids().request(),
        at: hub.now(),
        by: Principal::Manager(hub.me),
        trace: None,
        command: Command::Takeover { manager: hub.me },
    };
    loop {
        let deadline = Instant::now() + PROPOSE_WAIT;
        let result = match hub.replica.propose(entry.clone(), deadline).await {
            Ok(applied) => hub.replica.applied(applied.index, deadline).await,
            Err(error) => Err(error),
        };
        match result {
            Ok(state) => {
                // A repeat answers for the first try: the epoch is what the state says it is.
                let meta = state.meta();
                metrics::histogram!("muster_leader_takeover_seconds").record(started.elapsed());
                return (meta.leader == hub.me).then_some(meta.epoch);
            }
            Err(error @ (Error::Unavailable { .. } | Error::UnknownOutcome { .. })) => {
                tracing::debug!(%error, "taking over, trying again");
            }
            Err(error) => tracing::error!(%error, "taking over was refused, trying again"),
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// One reign: the brain, the upkeep of who replicates, and the calls of lifecycle hooks.
async fn reign(hub: &Arc<Hub>, epoch: Epoch, term: u64) {
    tracing::info!(%epoch, term, manager = %hub.me, "this manager leads");
    metrics::gauge!("muster_leader_epoch").set(epoch.0 as f64);
    let (events, heard) = mpsc::channel(EVENTS_MAX);
    let ended = hub.stop.child_token();
    let mandate = Mandate { manager: hub.me, epoch, seed: rand::random() };
    let reign = Reign { epoch, events, beats: Arc::default(), ended: ended.clone() };
    let drive = Drive::new(hub.clone(), mandate, term, heard, &reign);
    hub.begin(reign);
    let brain = async {
        let over = drive.run().await;
        ended.cancel();
        over
    };
    let (over, (), ()) =
        tokio::join!(brain, members::keep(hub, &ended), hooks::keep(hub, epoch, &ended));
    hub.end();
    metrics::gauge!("muster_leader_epoch").set(0.0);
    let why = match over {
        Over::Leadership => "leadership lost",
        Over::Epoch => "a later takeover was applied",
        Over::Stopped => "stopping",
    };
    tracing::info!(%epoch, term, why, "this manager leads no longer");
}
