//! Confirming heartbeats of agents that have strict tasks: such a task runs on no other word
//! (`muster_model::strict`).
//!
//! The brain has heard them. Whether it still led when it did is what a linearizable read tells
//! that began afterwards: if its state shows this epoch, no later leader had begun by then. One
//! read at a time serves all that were heard before it. Invariant: nothing is confirmed by a leader
//! that has a successor; what cannot be confirmed is dropped, as the next heartbeat asks again.

use crate::hub::Hub;
use crate::limits::PROPOSE_WAIT;
use muster_control::io::Heard;
use muster_model::{Epoch, InstanceId, SessionId};
use muster_proto::dispatch as pb;
use muster_replica::Instant;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::task::JoinSet;

/// The newest heartbeat of each instance; at most one each.
pub type Asked = BTreeMap<InstanceId, (SessionId, Heard)>;

#[derive(Default)]
pub struct Confirms {
    waiting: Asked,
    /// At most one: what is confirmed once it is done.
    reading: JoinSet<Asked>,
}

impl Confirms {
    pub fn heard(&mut self, instance: InstanceId, session: SessionId, heard: Heard) {
        self.waiting.insert(instance, (session, heard));
    }

    /// Begins a read for what waits, unless one is under way.
    pub fn start(&mut self, hub: &Arc<Hub>, epoch: Epoch) {
        if self.waiting.is_empty() || !self.reading.is_empty() {
            return;
        }
        let (asked, hub) = (std::mem::take(&mut self.waiting), hub.clone());
        self.reading.spawn(async move {
            match hub.replica.read(Instant::now() + PROPOSE_WAIT).await {
                Ok(state) if state.meta().epoch == epoch => asked,
                Ok(_) => Asked::new(),
                Err(error) => {
                    tracing::debug!(%error, "heartbeats not confirmed");
                    Asked::new()
                }
            }
        });
    }

    /// What may be told now; `None` while no read is under way.
    pub async fn done(&mut self) -> Option<Asked> {
        let done = self.reading.join_next().await?;
        Some(done.unwrap_or_else(|error| {
            tracing::error!(%error, "confirming failed");
            Asked::new()
        }))
    }

    pub async fn shutdown(&mut self) {
        self.reading.shutdown().await;
    }
}

/// Tells the agents.
pub fn tell(hub: &Hub, asked: Asked) {
    for (instance, (session, Heard { number, orders: (epoch, revision) })) in asked {
        let confirmed = pb::Confirmed { number, epoch: epoch.0, revision: revision.0 };
        let message = pb::manager_message::Message::Confirmed(confirmed);
        hub.send(instance, session, pb::ManagerMessage { message: Some(message) });
    }
}
