//! One manager: its applied state and, while it believes that it leads, a real `Leader`.
//!
//! It stands in for `node/manager`: a reign begins when the term's own `Takeover` is applied here,
//! the brain hears a state before anything that came after it, and nothing more is performed once
//! the reign is over. It does not know why the brain says what it says.

use super::log::Proposer;
use super::net::Down;
use super::world::{Event, World};
use muster_control::io::{LeaderInput, LeaderOutput, Mandate, Ticket};
use muster_control::leader::Leader;
use muster_model::{
    Command, Entry, Epoch, Error, Index, InstanceId, Millis, Principal, RaftId, Response,
    SessionId, State, Time,
};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Manager {
    pub id: RaftId,
    pub alive: bool,
    pub paused: Option<Time>,
    /// Nothing is applied here before.
    pub applies_after: Time,
    /// Counts its starts.
    pub life: u64,
    pub state: Arc<State>,
    /// What it finds again after a crash; the log gives the rest.
    pub durable: Arc<State>,
    /// The term in which it thinks that it leads.
    pub believes: Option<u64>,
    pub cut_off_since: Option<Time>,
    pub reign: Option<Reign>,
    reigns: u64,
    /// Agents' streams that it holds open.
    pub sessions: BTreeMap<InstanceId, SessionId>,
    skew: Millis,
}

#[derive(Debug)]
pub(super) struct Reign {
    number: u64,
    epoch: Epoch,
    pub leader: Leader,
    wake_at: Option<Time>,
}

impl Manager {
    pub fn new(id: RaftId, skew: Millis) -> Self {
        Self {
            id,
            alive: true,
            paused: None,
            applies_after: Time(0),
            life: 1,
            state: Arc::default(),
            durable: Arc::default(),
            believes: None,
            cut_off_since: None,
            reign: None,
            reigns: 0,
            sessions: BTreeMap::new(),
            skew,
        }
    }

    pub fn awake(&self, now: Time) -> bool {
        self.alive && self.paused.is_none_or(|until| until <= now)
    }
}

impl World {
    pub fn manager_clock(&self, manager: usize) -> Time {
        self.now + self.managers[manager].skew
    }

    pub fn entry(&mut self, manager: usize, by: Principal, command: Command) -> Entry {
        let request = self.dice.ids.request();
        Entry { request, at: self.manager_clock(manager), by, trace: None, command }
    }

    // ---- reigns ----

    /// Believes that it leads, and asks to.
    pub fn take_over(&mut self, manager: usize, life: u64) {
        let m = &self.managers[manager];
        let (Some(term), id) = (m.believes, m.id) else { return };
        if !m.alive || m.life != life || m.reign.is_some() {
            return;
        }
        let entry = self.entry(manager, Principal::Manager(id), Command::Takeover { manager: id });
        self.propose(manager, Proposer::TakeOver { term }, entry);
    }

    /// Its `Takeover` is applied here, or it tries again.
    pub fn took_over(&mut self, manager: usize, term: u64, result: &Result<Response, Error>) {
        let m = &self.managers[manager];
        if m.believes != Some(term) || m.reign.is_some() {
            return;
        }
        let meta = m.state.meta();
        if result.is_err() || meta.leader != m.id {
            let life = m.life;
            self.after(40, 60, Event::TakeOver { manager, life });
            return;
        }
        let epoch = meta.epoch;
        let seed = u128::from(self.dice.ids.next_u64());
        let mandate = Mandate { manager: m.id, epoch, seed };
        let leader = Leader::new(mandate, self.manager_clock(manager));
        let m = &mut self.managers[manager];
        m.reigns += 1;
        m.reign = Some(Reign { number: m.reigns, epoch, leader, wake_at: None });
        let state = m.state.clone();
        // The shell may have published an older state a moment before.
        let older = self.dice.percent(30).then(|| Index(epoch.0.saturating_sub(1)));
        let older = older.and_then(|index| self.log.state_at(index).cloned());
        self.say(&format!("m{} leads, epoch {epoch}", manager + 1));
        if let Some(older) = older {
            self.tell_leader(manager, LeaderInput::State(older));
        }
        self.tell_leader(manager, LeaderInput::State(state));
    }

    pub fn end_reign(&mut self, manager: usize, why: &str) {
        if let Some(reign) = self.managers[manager].reign.take() {
            self.say(&format!("m{} epoch {} ends: {why}", manager + 1, reign.epoch));
            let sessions = std::mem::take(&mut self.managers[manager].sessions);
            for session in sessions.into_values() {
                self.manager_closes(session, false);
            }
        }
    }

    /// Its state moved on.
    pub fn applied(&mut self, manager: usize) {
        let m = &self.managers[manager];
        let Some(reign) = &m.reign else { return };
        let state = m.state.clone();
        if state.meta().epoch == reign.epoch && state.meta().leader == m.id {
            self.tell_leader(manager, LeaderInput::State(state));
            return;
        }
        // Sometimes the brain hears of it first: it must fall silent by itself.
        if self.dice.percent(50) {
            self.tell_leader(manager, LeaderInput::State(state));
        }
        self.end_reign(manager, "a later takeover was applied");
        if self.managers[manager].believes.is_some() {
            let life = self.managers[manager].life;
            self.after(40, 60, Event::TakeOver { manager, life });
        }
    }

    pub fn tick(&mut self, manager: usize, number: u64, at: Time) {
        let Some(reign) = &mut self.managers[manager].reign else { return };
        if reign.number == number && reign.wake_at == Some(at) {
            reign.wake_at = None;
            self.tell_leader(manager, LeaderInput::Tick);
        }
    }

    pub fn proposed(
        &mut self,
        manager: usize,
        number: u64,
        ticket: Ticket,
        result: Result<Response, Error>,
    ) {
        if self.managers[manager].reign.as_ref().is_some_and(|reign| reign.number == number) {
            self.tell_leader(manager, LeaderInput::Proposed { ticket, result });
        }
    }

    // ---- the brain ----

    pub fn tell_leader(&mut self, manager: usize, input: LeaderInput) {
        let now = self.manager_clock(manager);
        let Some(reign) = &mut self.managers[manager].reign else { return };
        let number = reign.number;
        let outputs = reign.leader.handle(now, input);
        let verdict = self.observers.leader(&reign.leader, &outputs);
        self.judge("plans", verdict.map_err(|what| format!("m{}: {what}", manager + 1)));
        for output in outputs {
            self.perform(manager, number, output);
        }
    }

    fn perform(&mut self, manager: usize, reign: u64, output: LeaderOutput) {
        match output {
            LeaderOutput::Propose { ticket, command } => {
                let by = Principal::Manager(self.managers[manager].id);
                let entry = self.entry(manager, by, command);
                self.propose(manager, Proposer::Leader { reign, ticket }, entry);
            }
            LeaderOutput::Send { instance, session, assignments } => {
                if self.holds(manager, instance, session) {
                    self.send_down(session, Down::Orders(assignments));
                }
            }
            LeaderOutput::Ack { instance, session, sequence } => {
                if self.holds(manager, instance, session) {
                    self.send_down(session, Down::Ack(sequence));
                }
            }
            LeaderOutput::Confirm { instance, session, heard } => {
                self.confirm(manager, (instance, session), heard);
            }
            LeaderOutput::Close { instance, session, why } => {
                if self.holds(manager, instance, session) {
                    self.managers[manager].sessions.remove(&instance);
                    let refused = matches!(why, Error::Denied { .. });
                    self.manager_closes(session, refused);
                }
            }
            LeaderOutput::WakeAt(at) => {
                let skew = self.managers[manager].skew;
                if let Some(reign) = &mut self.managers[manager].reign {
                    reign.wake_at = Some(at);
                }
                self.at(at - skew, Event::Tick { manager, reign, at });
            }
        }
    }

    pub fn holds(&self, manager: usize, instance: InstanceId, session: SessionId) -> bool {
        self.managers[manager].sessions.get(&instance) == Some(&session)
    }

    // ---- the process ----

    /// Its memory is gone, and with it every stream; disk and log remain.
    pub fn crash_manager(&mut self, manager: usize) {
        self.say(&format!("m{} crashes", manager + 1));
        let m = &mut self.managers[manager];
        m.alive = false;
        m.life += 1;
        m.paused = None;
        m.believes = None;
        m.cut_off_since = None;
        m.reign = None;
        m.state = m.durable.clone();
        let sessions = std::mem::take(&mut m.sessions);
        for session in sessions.into_values() {
            self.manager_closes(session, false);
        }
        // It comes back as a follower: its term is over, however quick it is.
        self.log.leader = self.log.leader.filter(|leader| *leader != manager);
    }

    /// The old member is removed and the machine joins under another id: an empty disk must not
    /// vote as one that remembers.
    pub fn replace_disk(&mut self, manager: usize) {
        if self.managers[manager].alive {
            return;
        }
        let old = self.managers[manager].id;
        let state = self.log.state();
        let Some(row) = state.manager(old).cloned() else { return };
        self.write_first(Command::RemoveManager { manager: old });
        let added = self.write_first(Command::AddManager {
            name: row.name.clone(),
            zone: row.zone.clone(),
            address: row.address.clone(),
            level: row.level,
        });
        if let Some(Ok(Response::Manager(id))) = added {
            self.counts.disks_lost += 1;
            self.say(&format!("m{} joins with an empty disk, as {id}", manager + 1));
            let m = &mut self.managers[manager];
            m.id = id;
            m.durable = Arc::default();
            m.state = Arc::default();
        }
        self.start_manager(manager);
    }

    pub fn start_manager(&mut self, manager: usize) {
        if !self.managers[manager].alive {
            self.say(&format!("m{} starts", manager + 1));
            let m = &mut self.managers[manager];
            m.alive = true;
            // What it finds on its disk are rows; indexes are built anew.
            match State::restore(m.durable.rows(), m.durable.applied()) {
                Ok(state) => m.state = Arc::new(state),
                Err(error) => self.broken("same_state", format!("m{}: {error}", manager + 1)),
            }
            self.after(1, 200, Event::Replicate { manager });
        }
    }
}
