//! A leader of the model, as far as its agents hear of it: sessions, orders, reports and their
//! acknowledgements.
//!
//! It mirrors `node/control/src/leader/assign.rs` (a complete set when a session opens, then what
//! changed), `leader/outbox.rs` (reports are gathered while an entry is under way, what the log
//! holds is no news) and `leader.rs` (it falls silent when a later takeover is applied; the state
//! that shows an entry comes before that entry's result). It decides nothing about tasks: wishes
//! are simply committed.

use super::rows::{self, Entry, Reports, Word, applied};
use super::{Assign, BY_ID, COMMITTED, COMPLETE, Down, Session, State};

/// A manager that believes it leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Leader {
    epoch: u8,
    /// Entries of the log that it has applied.
    pub applied: u8,
    waiting: Vec<Message>,
    /// Proposed together, not committed yet.
    pub in_flight: Vec<Message>,
}

/// Reports as one message brought them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Message {
    /// Of the session that is open now: it is to be acknowledged.
    current: bool,
    sequence: u64,
    reports: Reports,
}

impl Leader {
    /// Its takeover is the newest entry, and applied here.
    pub fn new(epoch: u8) -> Self {
        Self { epoch, applied: epoch, waiting: Vec::new(), in_flight: Vec::new() }
    }

    /// What it has read and not committed.
    fn read(&mut self) -> impl Iterator<Item = &mut Message> {
        self.waiting.iter_mut().chain(&mut self.in_flight)
    }

    pub fn has_news(&self) -> bool {
        !self.in_flight.is_empty()
    }
}

impl Assign {
    /// A leader reads Hello.
    pub(super) fn welcome(&self, state: &mut State, who: usize, inventory: &[u8]) -> Option<()> {
        let leader = state.leaders[who].as_ref()?;
        let (rows, _) = applied(&state.log[..usize::from(leader.applied)]);
        let inventory = if self.on(BY_ID) { inventory } else { &[] };
        let orders = rows::complete(&rows, inventory);
        let words = rows::words(leader.epoch, leader.applied, orders, true);
        if self.on(COMPLETE) {
            send(state, who, words);
        }
        Some(())
    }

    /// A leader reads a report of its open session.
    pub(super) fn read(
        &self,
        state: &mut State,
        who: usize,
        sequence: u64,
        mut reports: Reports,
    ) -> Option<()> {
        let leader = state.leaders[who].as_mut()?;
        let (rows, _) = applied(&state.log[..usize::from(leader.applied)]);
        reports
            .retain(|(task, phase)| rows[usize::from(*task)].is_none_or(|row| row.seen != *phase));
        leader.waiting.push(Message { current: self.on(COMMITTED), sequence, reports });
        if !self.on(COMMITTED) {
            ack(state, who, sequence);
        }
        depart(state, who)
    }

    /// A leader learns the state after the log's first `to` entries.
    pub(super) fn learn(&self, state: &mut State, who: usize, to: u8) -> Option<()> {
        let (after, epoch) = applied(&state.log[..usize::from(to)]);
        let leader = state.leaders[who].as_mut()?;
        if epoch > leader.epoch {
            // Its session ends, and what it had not got through is gone.
            state.leaders[who] = None;
            if let Some(session) = state.session.as_mut().filter(|open| open.leader == who) {
                session.ended = true;
            }
            return Some(());
        }
        let (before, _) = applied(&state.log[..usize::from(leader.applied)]);
        leader.applied = to;
        let words = rows::words(leader.epoch, to, rows::deltas(&before, &after), false);
        send(state, who, words);
        Some(())
    }

    /// The reports under way are committed, whether or not their leader hears of it.
    pub(super) fn commit(&self, state: &mut State, who: usize, heard: bool) -> Option<()> {
        let leader = state.leaders[who].as_ref()?;
        let reports = leader.in_flight.iter().flat_map(|message| &message.reports);
        let entry = Entry::Report(reports.copied().collect());
        let before = applied(&state.log);
        state.log.push(entry);
        // What changes nothing is left out, so that fewer states differ.
        if applied(&state.log) == before {
            state.log.pop();
        }
        if !heard {
            // An unknown outcome: they go again.
            return Some(());
        }
        self.learn(state, who, state.log.len() as u8)?;
        answered(state, who);
        Some(())
    }
}

/// The session is over: nothing of it is acknowledged any more, and what was sent last may be lost
/// with it.
pub(super) fn hang_up(state: &mut State, session: &Session, sent: bool) {
    let Some(leader) = &mut state.leaders[session.leader] else { return };
    if !sent {
        leader.waiting.retain(|message| !message.current);
        leader.in_flight.retain(|message| !message.current);
    }
    leader.read().for_each(|message| message.current = false);
}

/// The entry under way is in the log: acknowledged, and the next one goes.
fn answered(state: &mut State, who: usize) -> Option<()> {
    let batch = std::mem::take(&mut state.leaders[who].as_mut()?.in_flight);
    for message in batch.iter().filter(|message| message.current) {
        ack(state, who, message.sequence);
    }
    depart(state, who)
}

fn depart(state: &mut State, who: usize) -> Option<()> {
    let leader = state.leaders[who].as_mut()?;
    if !leader.in_flight.is_empty() || leader.waiting.is_empty() {
        return Some(());
    }
    leader.in_flight = std::mem::take(&mut leader.waiting);
    let nothing = leader.in_flight.iter().all(|message| message.reports.is_empty());
    if nothing { answered(state, who) } else { Some(()) }
}

fn send(state: &mut State, who: usize, words: Vec<Word>) {
    if let Some(open) = state.session.as_mut().filter(|open| open.leader == who) {
        open.down.extend(words.into_iter().map(Down::Orders));
    }
}

fn ack(state: &mut State, who: usize, sequence: u64) {
    if let Some(open) = state.session.as_mut().filter(|open| open.leader == who) {
        open.down.push(Down::Ack(sequence));
    }
}
