//! Instances that only pretend, for people's own tests: what the API asks of whoever runs their
//! agents, and what it waits for.
//!
//! Only `muster dev --simulate` has them. Here, and only here, answers wait until a task has got
//! where its caller wants it: test suites written for a mocked ECS read it at once.

use crate::call::Call;
use crate::dispatcher::Dispatcher;
use crate::ecs::ANYONE;
use crate::limits::SIMULATED_WAIT;
use muster_model::{Command, Entry, Error, InstanceId, InstanceSpec, Principal, State};
use std::sync::Arc;
use tokio::time::Instant;

/// Who runs the agents of pretended instances.
#[tonic::async_trait]
pub trait Simulator: Send + Sync {
    /// Registers an instance and starts its agent, which connects a moment later.
    ///
    /// # Errors
    /// What joining the cluster says.
    async fn register(&self, cluster: &str, spec: InstanceSpec) -> Result<InstanceId, Error>;

    /// Ends the agents of all instances that `state` does not have as registered.
    async fn follow(&self, state: &State);
}

impl Dispatcher {
    /// Forgets everything that was made since the process started.
    ///
    /// # Errors
    /// `Unsupported` where instances are real.
    pub(crate) async fn reset(&self) -> Result<(), Error> {
        let Some(simulator) = &self.simulator else {
            return Err(Error::Unsupported {
                feature: "resetting a cluster of real machines".into(),
                instead: "start a local one with `muster dev --simulate --ecs-listen`".into(),
            });
        };
        let deadline = Instant::now() + SIMULATED_WAIT;
        let entry = Entry {
            request: self.ids().request_at(self.time()),
            at: self.time(),
            by: Principal::User(ANYONE.into()),
            trace: None,
            command: Command::Reset,
        };
        let applied = self.commit(entry, deadline).await?;
        let state = self.replica.applied(applied.index, deadline).await?;
        simulator.follow(&state).await;
        Ok(())
    }

    /// The state to answer from: `state`; where instances are simulated, the first that is as
    /// `there` wants it, or the newest after a moment.
    pub(crate) async fn simulated(
        &self,
        call: &Call,
        state: Arc<State>,
        there: impl Fn(&State) -> bool,
    ) -> Arc<State> {
        if self.simulator.is_none() {
            return state;
        }
        let deadline = Instant::now() + SIMULATED_WAIT;
        let mut states = self.replica.watch();
        let reached = states.wait_for(|state: &Arc<State>| there(state));
        if tokio::time::timeout_at(deadline, reached).await.is_err() {
            tracing::warn!("a simulated task or instance did not get there in time");
        }
        call.seeing(self.replica.state())
    }
}
