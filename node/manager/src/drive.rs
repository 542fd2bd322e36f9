//! The thin shell around the brain: select what happened, let the brain handle it, perform what it
//! says.
//!
//! It decides nothing but order: a state is heard before anything that was said after it was
//! applied, and of what agents said everything that waits before the brain thinks once about all of
//! it. It owns every task it starts and joins them when it ends. Invariant: once the reign is
//! over (leadership, term or epoch lost) nothing more is performed.

use crate::confirm::{self, Asked, Confirms};
use crate::hub::{Beats, Hub, Reign};
use crate::limits::{
    AGENTS_HEARD_MAX, BEATS_GATHERED, PROPOSALS_MAX, PROPOSALS_WAITING_MAX, PROPOSE_WAIT,
};
use crate::spans;
use crate::wire;
use muster_control::io::{LeaderInput, LeaderOutput, Mandate, Ticket};
use muster_control::leader::Leader;
use muster_model::{Command, Entry, Error, Principal, Response, State, Time};
use muster_proto::convert::dispatch as convert;
use muster_proto::dispatch as pb;
use muster_replica::{Instant, Leadership};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

/// One reign of one brain.
pub struct Drive {
    hub: Arc<Hub>,
    mandate: Mandate,
    term: u64,
    leader: Leader,
    states: watch::Receiver<Arc<State>>,
    leadership: watch::Receiver<Leadership>,
    events: mpsc::Receiver<LeaderInput>,
    beats: Arc<Beats>,
    ended: CancellationToken,
    proposals: JoinSet<(Ticket, Result<Response, Error>)>,
    waiting: VecDeque<(Ticket, Command)>,
    confirms: Confirms,
    wake_at: Option<Time>,
    /// When heartbeats are heard next.
    beats_at: Instant,
}

/// Everything that can wake the drive.
enum Event {
    State,
    Tick,
    Agent(LeaderInput),
    Proposed(Result<(Ticket, Result<Response, Error>), JoinError>),
    Confirmed(Asked),
    Leadership,
    Ended,
}

/// Why a reign ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Another leader, or none.
    Leadership,
    /// A later `Takeover` was applied.
    Epoch,
    Stopped,
}

impl Drive {
    pub fn new(
        hub: Arc<Hub>,
        mandate: Mandate,
        term: u64,
        events: mpsc::Receiver<LeaderInput>,
        reign: &Reign,
    ) -> Self {
        let mut states = hub.replica.watch();
        // The state of now is the brain's first input, whether or not it is news to the watch.
        states.mark_changed();
        // It may have been lost between the takeover and now.
        let mut leadership = hub.replica.leadership();
        leadership.mark_changed();
        Self {
            leader: Leader::new(mandate, hub.now()),
            leadership,
            states,
            hub,
            mandate,
            term,
            events,
            beats: reign.beats.clone(),
            ended: reign.ended.clone(),
            proposals: JoinSet::new(),
            waiting: VecDeque::new(),
            confirms: Confirms::default(),
            wake_at: None,
            beats_at: Instant::now(),
        }
    }

    /// Runs until the reign is over, then joins what it started.
    pub async fn run(mut self) -> Over {
        let over = loop {
            let event = self.select().await;
            if let Err(over) = self.handle(event) {
                break over;
            }
        };
        // Whatever was under way is settled by the log; its answer is nobody's any more.
        self.proposals.shutdown().await;
        self.confirms.shutdown().await;
        over
    }

    async fn select(&mut self) -> Event {
        let wake = self.wake_at.map(|at| Duration::from_millis(at.since(self.hub.now()).0));
        let wait = wake.unwrap_or(BEATS_GATHERED).min(BEATS_GATHERED);
        tokio::select! {
            Ok(()) = self.states.changed() => Event::State,
            Ok(()) = self.leadership.changed() => Event::Leadership,
            () = self.ended.cancelled() => Event::Ended,
            Some(input) = self.events.recv() => Event::Agent(input),
            Some(done) = self.proposals.join_next() => Event::Proposed(done),
            Some(asked) = self.confirms.done() => Event::Confirmed(asked),
            () = tokio::time::sleep(wait) => Event::Tick,
        }
    }

    fn handle(&mut self, event: Event) -> Result<(), Over> {
        let started = Instant::now();
        match event {
            Event::Ended => return Err(Over::Stopped),
            Event::Leadership => self.still_leading()?,
            Event::State => self.learn_state()?,
            Event::Tick => self.hear_state()?,
            Event::Agent(input) => self.hear_agents(input)?,
            Event::Proposed(done) => {
                // The answer was applied here before it came: the brain sees its effect first.
                self.hear_state()?;
                self.proposed(done);
            }
            Event::Confirmed(asked) => confirm::tell(&self.hub, asked),
        }
        self.hear_beats();
        self.tick_if_due();
        self.decide();
        self.start_proposals();
        self.confirms.start(&self.hub, self.mandate.epoch);
        metrics::histogram!("muster_leader_handle_seconds").record(started.elapsed());
        Ok(())
    }

    /// This word and those that wait behind it: a thousand reports that came together are one
    /// entry and one plan, not as many as the brain can make while they are heard.
    fn hear_agents(&mut self, first: LeaderInput) -> Result<(), Over> {
        self.hear_state()?;
        self.hear(first);
        for _ in 1..AGENTS_HEARD_MAX {
            let Ok(input) = self.events.try_recv() else { break };
            self.hear_state()?;
            self.hear(input);
        }
        Ok(())
    }

    /// Agents that live, gathered since this was last called and long enough ago.
    fn hear_beats(&mut self) {
        let now = Instant::now();
        if now < self.beats_at {
            return;
        }
        self.beats_at = now + BEATS_GATHERED;
        for session in self.beats.take() {
            let (instance, session) = (session.instance, session.id);
            self.hear(LeaderInput::Heartbeat { instance, session, number: None });
        }
    }

    fn still_leading(&mut self) -> Result<(), Over> {
        let now = self.leadership.borrow_and_update();
        if now.mine && now.term == self.term { Ok(()) } else { Err(Over::Leadership) }
    }

    fn hear_state(&mut self) -> Result<(), Over> {
        match self.states.has_changed() {
            Ok(true) => self.learn_state(),
            Ok(false) => Ok(()),
            Err(_) => Err(Over::Stopped),
        }
    }

    fn learn_state(&mut self) -> Result<(), Over> {
        let state = self.states.borrow_and_update().clone();
        let meta = state.meta();
        if meta.epoch != self.mandate.epoch || meta.leader != self.mandate.manager {
            return Err(Over::Epoch);
        }
        self.hear(LeaderInput::State(state));
        Ok(())
    }

    fn tick(&mut self) {
        self.wake_at = None;
        self.hear(LeaderInput::Tick);
    }

    /// Under a flood of other events the clock must still be looked at.
    fn tick_if_due(&mut self) {
        if self.wake_at.is_some_and(|at| at <= self.hub.now()) {
            self.tick();
        }
    }

    /// Agents have their orders at once, while the brain has yet to think about the next plan.
    fn hear(&mut self, input: LeaderInput) {
        let outputs = self.leader.hear(self.hub.now(), input);
        self.perform_all(outputs);
    }

    fn decide(&mut self) {
        let started = Instant::now();
        let outputs = self.leader.decide(self.hub.now());
        self.perform_all(outputs);
        metrics::histogram!("muster_leader_decide_seconds").record(started.elapsed());
    }

    fn perform_all(&mut self, outputs: Vec<LeaderOutput>) {
        for output in outputs {
            self.perform(output);
        }
    }

    fn perform(&mut self, output: LeaderOutput) {
        match output {
            LeaderOutput::Propose { ticket, command } => self.waiting.push_back((ticket, command)),
            LeaderOutput::Send { instance, session, assignments } => {
                match convert::assignments_to_wire(&assignments) {
                    Ok(orders) => {
                        let message = pb::manager_message::Message::Assignments(orders);
                        let message = pb::ManagerMessage { message: Some(message) };
                        self.hub.send(instance, session, message);
                    }
                    // Orders must not be skipped: the next session begins with all of them.
                    Err(why) => {
                        tracing::error!(%instance, %why, "orders cannot be written down");
                        self.hub.close(instance, session, wire::status(&why));
                    }
                }
            }
            LeaderOutput::Ack { instance, session, sequence } => {
                let message = pb::manager_message::Message::Ack(pb::Ack { sequence });
                let message = pb::ManagerMessage { message: Some(message) };
                self.hub.send(instance, session, message);
            }
            LeaderOutput::Confirm { instance, session, heard } => {
                self.confirms.heard(instance, session, heard);
            }
            LeaderOutput::Close { instance, session, why } => {
                tracing::info!(%instance, %session, %why, "agent's session closed");
                self.hub.close(instance, session, wire::status(&why));
            }
            LeaderOutput::WakeAt(at) => self.wake_at = Some(at),
        }
    }

    fn start_proposals(&mut self) {
        while self.proposals.len() < PROPOSALS_MAX {
            let Some((ticket, command)) = self.waiting.pop_front() else { return };
            self.start_proposal(ticket, command);
        }
        while self.waiting.len() > PROPOSALS_WAITING_MAX {
            let Some((ticket, _)) = self.waiting.pop_back() else { return };
            let why = format!("{PROPOSALS_WAITING_MAX} proposals of this leader wait already");
            tracing::error!(%why, "leader proposes faster than the log takes");
            self.hear(LeaderInput::Proposed { ticket, result: Err(Error::Unavailable { why }) });
            self.decide();
        }
    }

    fn start_proposal(&mut self, ticket: Ticket, command: Command) {
        let hub = self.hub.clone();
        let (name, span) = match &command {
            Command::Report { reports } => {
                ("report", tracing::info_span!("report.propose", reports = reports.len()))
            }
            Command::Plan { steps, .. } => {
                ("plan", tracing::info_span!("plan.propose", steps = steps.len()))
            }
            _ => ("other", tracing::info_span!("leader.propose")),
        };
        let trace = spans::journey(&command, &self.states.borrow());
        spans::link(&span, trace);
        let entry = Entry {
            request: self.hub.ids().request(),
            at: self.hub.now(),
            by: Principal::Manager(self.mandate.manager),
            trace,
            command,
        };
        let propose = async move {
            let started = Instant::now();
            let result = propose(&hub, entry).await;
            let outcome = if result.is_ok() { "ok" } else { "error" };
            metrics::counter!(
                "muster_leader_proposals_total", "command" => name, "outcome" => outcome
            )
            .increment(1);
            metrics::histogram!("muster_leader_propose_seconds", "command" => name)
                .record(started.elapsed());
            (ticket, result)
        };
        self.proposals.spawn(propose.instrument(span));
    }

    fn proposed(&mut self, done: Result<(Ticket, Result<Response, Error>), JoinError>) {
        match done {
            Ok((ticket, result)) => {
                if let Err(error) = &result {
                    tracing::debug!(%error, "a proposal of this leader was not accepted");
                }
                self.hear(LeaderInput::Proposed { ticket, result });
            }
            // Its ticket is lost with it; the brain's own patience must cover that.
            Err(error) => tracing::error!(%error, "a proposal's task failed"),
        }
    }
}

/// Answers only once the effect shows in the state here.
async fn propose(hub: &Hub, entry: Entry) -> Result<Response, Error> {
    let deadline = Instant::now() + PROPOSE_WAIT;
    let applied = hub.replica.propose(entry, deadline).await?;
    match hub.replica.applied(applied.index, deadline).await {
        Ok(_) => Ok(applied.response),
        // Committed, but not seen: the brain must not take it for undone.
        Err(error) => Err(Error::UnknownOutcome { why: error.to_string() }),
    }
}
