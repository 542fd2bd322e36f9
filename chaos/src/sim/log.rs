//! Consensus as its users see it: one true log, and everything that may go wrong around it.
//!
//! A proposal of the leader of the current term is committed after a while, if the leader reaches a
//! majority; at an election a prefix of what was under way survives, the rest is lost, and the
//! proposers hear the same of both: the outcome is unknown. What a leader of an older term proposes
//! may be refused, lost, or handed to the new one. Managers learn of commits each in their own
//! time. It does not know what entries mean. Invariant: what is committed stays, in its order.

use super::show::shown;
use super::world::{Event, World};
use muster_control::io::Ticket;
use muster_model::{Command, Entry, Error, Index, Millis, Response, State, Time, apply};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// How long a proposer waits, as `PROPOSE_WAIT` of the manager's shell.
const PROPOSE_WAIT: Millis = Millis::from_secs(5);
const LOOK: Millis = Millis(100);
/// A leader that does not hear that it was replaced stops believing after this long.
const BELIEF_MAX: Millis = Millis::from_secs(20);

/// Entries that a manager lacks before it may get a snapshot instead.
const SNAPSHOT_BEHIND: u64 = 60;

/// Who wants to know what came of a proposal.
#[derive(Clone, Copy, Debug)]
pub(super) enum Proposer {
    Leader { reign: u64, ticket: Ticket },
    TakeOver { term: u64 },
    Client { client: usize, attempt: u64 },
}

#[derive(Debug)]
struct Proposal {
    who: Proposer,
    manager: usize,
    life: u64,
    /// Where it was committed, if its answer is on the way.
    index: Option<Index>,
}

#[derive(Debug)]
struct InFlight {
    proposal: u64,
    entry: Entry,
    ready: Time,
    /// The state its proposer knew.
    base: Index,
}

/// What applying an entry answered.
pub(super) type Answer = Result<Response, Error>;

/// The true log.
#[derive(Debug)]
pub(super) struct Log {
    /// Committed entries; the first has index 1. `None`: a new leader's blank entry.
    entries: Vec<Option<Entry>>,
    responses: Vec<Option<Result<Response, Error>>>,
    /// The one true state after each index, from 0.
    states: Vec<Arc<State>>,
    pub term: u64,
    pub leader: Option<usize>,
    in_flight: VecDeque<InFlight>,
    proposals: BTreeMap<u64, Proposal>,
    next: u64,
    failing_since: Option<Time>,
    patience: Millis,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            responses: Vec::new(),
            states: vec![Arc::default()],
            term: 0,
            leader: None,
            in_flight: VecDeque::new(),
            proposals: BTreeMap::new(),
            next: 0,
            failing_since: None,
            patience: Millis(600),
        }
    }
}

impl Log {
    pub fn committed(&self) -> Index {
        Index(self.entries.len() as u64)
    }

    /// The true state after an index.
    pub fn state_at(&self, index: Index) -> Option<&Arc<State>> {
        self.states.get(usize::try_from(index.0).ok()?)
    }

    /// The newest true state.
    pub fn state(&self) -> Arc<State> {
        self.states.last().cloned().unwrap_or_default()
    }

    /// What stands at an index, and what it truly answered.
    pub fn entry(&self, index: Index) -> Option<(&Option<Entry>, &Option<Answer>)> {
        let at = usize::try_from(index.0).ok()?.checked_sub(1)?;
        self.entries.get(at).zip(self.responses.get(at))
    }
}

enum Route {
    Append,
    Refuse,
    /// Lost on the way: nobody answers.
    Swallow,
}

impl World {
    /// What stands in the log before anything happens.
    pub fn append_first(&mut self, entry: Entry) -> Option<Answer> {
        let base = self.log.committed();
        let index = self.append(Some(entry), base);
        self.log.entry(index).and_then(|(_, answer)| answer.clone())
    }

    pub fn propose(&mut self, manager: usize, who: Proposer, entry: Entry) {
        self.log.next += 1;
        let proposal = self.log.next;
        let life = self.managers[manager].life;
        self.log.proposals.insert(proposal, Proposal { who, manager, life, index: None });
        let unknown = Err(Error::UnknownOutcome { why: "no answer in time".into() });
        let deadline = Event::Answer { manager, proposal, result: unknown };
        self.at(self.now + PROPOSE_WAIT, deadline);
        match self.route(manager) {
            Route::Append => {
                let ready = self.now + self.dice.span(2, 25);
                let base = self.managers[manager].state.applied();
                let what = InFlight { proposal, entry, ready, base };
                self.send_to_log(who, what);
                self.at(ready, Event::Commit);
            }
            Route::Refuse => {
                let result = Err(Error::Unavailable { why: "no leader".into() });
                self.after(1, 300, Event::Answer { manager, proposal, result });
            }
            Route::Swallow => {}
        }
    }

    /// What one proposer sends keeps its order; others' entries may come before it or after. In a
    /// storm a forwarded request of a user arrives twice.
    fn send_to_log(&mut self, who: Proposer, what: InFlight) {
        let forwarded = matches!(who, Proposer::Client { .. });
        if !forwarded || !self.net.storms() {
            self.log.in_flight.push_back(what);
            return;
        }
        let copies = if self.dice.percent(10) { 2 } else { 1 };
        for _ in 0..copies {
            let at = self.dice.below(self.log.in_flight.len() as u64 + 1) as usize;
            let copy = InFlight { entry: what.entry.clone(), ..what };
            self.log.in_flight.insert(at, copy);
        }
    }

    fn route(&mut self, manager: usize) -> Route {
        if !self.calm() {
            match self.dice.below(100) {
                0 => return Route::Refuse,
                1 => return Route::Swallow,
                _ => {}
            }
        }
        let believes = self.managers[manager].believes;
        if believes.is_some() && believes < Some(self.log.term) {
            match self.dice.below(4) {
                0 => return Route::Refuse,
                1 => return Route::Swallow,
                _ => {}
            }
        }
        let Some(leader) = self.log.leader else { return Route::Refuse };
        let knows = self.managers[leader].believes == Some(self.log.term);
        let reached = self.managers[leader].awake(self.now) && self.meet(manager, leader);
        if knows && reached { Route::Append } else { Route::Refuse }
    }

    pub fn commit_ready(&mut self) {
        if !self.log.leader.is_some_and(|leader| self.has_majority(leader)) {
            return;
        }
        while self.log.in_flight.front().is_some_and(|first| first.ready <= self.now) {
            let Some(first) = self.log.in_flight.pop_front() else { return };
            let answered = self.calm() || !self.dice.percent(2);
            self.commit(first, answered);
        }
    }

    fn commit(&mut self, what: InFlight, answered: bool) {
        let index = self.append(Some(what.entry), what.base);
        if let Some(proposal) = self.log.proposals.get_mut(&what.proposal)
            && answered
        {
            proposal.index = Some(index);
        }
        for manager in 0..self.managers.len() {
            let slow = self.dice.percent(10);
            let high = if slow { 400 } else { 20 };
            self.after(1, high, Event::Replicate { manager });
        }
    }

    /// The entry becomes part of history; `None` is a blank one.
    fn append(&mut self, entry: Option<Entry>, base: Index) -> Index {
        let index = Index(self.log.committed().0 + 1);
        let before = self.log.state();
        let mut after = State::clone(&before);
        let response = match &entry {
            Some(entry) => Some(apply(&mut after, index, entry)),
            None => {
                after.skip(index);
                None
            }
        };
        let after = Arc::new(after);
        self.counts.entries += 1;
        if let (Some(entry), Some(response)) = (&entry, &response) {
            self.say(&format!("log #{index} {}", shown(entry, response)));
            if let Command::Plan { .. } = entry.command {
                self.counts.plans += 1;
                let stale = matches!(response, Err(Error::StaleEpoch { .. }));
                self.counts.stale_plans += u64::from(stale);
            }
            if let Command::Takeover { .. } = entry.command {
                self.counts.takeovers += 1;
                self.counts.met.meet(&after);
            }
        }
        self.log.entries.push(entry.clone());
        self.log.responses.push(response.clone());
        self.log.states.push(after.clone());
        if let Some((entry, response)) = entry.zip(response) {
            self.judge_commit(&before, &after, &entry, base, &response);
        }
        index
    }

    /// A manager applies what is committed, as far as it has heard of it.
    pub fn replicate(&mut self, manager: usize) {
        let leader = self.log.leader.filter(|leader| self.meet(*leader, manager));
        if !self.managers[manager].alive || leader.is_none() {
            return;
        }
        if self.managers[manager].applies_after > self.now && !self.calm() {
            return;
        }
        // Who hears from the leader of a later term hears that its own is over, a moment later.
        let term = self.log.term;
        if self.managers[manager].believes.is_some_and(|old| old < term) {
            self.after(0, 60, Event::Deposed { manager, term });
        }
        let from = self.managers[manager].state.applied().0;
        let mut to = self.log.committed().0;
        if !self.calm() && to > from + 1 && self.dice.percent(20) {
            to = self.dice.between(from + 1, to);
        }
        let behind = self.log.committed().0 - from.min(self.log.committed().0);
        if behind > SNAPSHOT_BEHIND && self.dice.percent(50) {
            self.install_snapshot(manager);
            return;
        }
        let mut state = State::clone(&self.managers[manager].state);
        for index in from + 1..=to {
            self.apply_one(manager, &mut state, Index(index));
        }
        if to > from {
            let state = Arc::new(state);
            self.managers[manager].state = state.clone();
            if self.dice.percent(30) {
                self.managers[manager].durable = state;
            }
            self.applied(manager);
            self.answer_applied(manager, Index(to));
        }
    }

    /// Who is far behind gets rows instead of entries.
    fn install_snapshot(&mut self, manager: usize) {
        let truth = self.log.state();
        match State::restore(truth.rows(), truth.applied()) {
            Ok(state) => {
                self.counts.snapshots += 1;
                self.say(&format!("m{} gets a snapshot at #{}", manager + 1, truth.applied()));
                let state = Arc::new(state);
                let m = &mut self.managers[manager];
                m.state = state.clone();
                m.durable = state;
                self.applied(manager);
                self.answer_applied(manager, truth.applied());
            }
            Err(error) => self.broken("same_state", format!("a snapshot: {error}")),
        }
    }

    fn apply_one(&mut self, manager: usize, state: &mut State, index: Index) {
        let Some((entry, truth)) = self.log.entry(index) else { return };
        let before = state.clone();
        let same = match entry {
            None => {
                state.skip(index);
                true
            }
            Some(entry) => Some(&apply(state, index, entry)) == truth.as_ref(),
        };
        let verdict = self.observers.same_state(&self.log, &before, state, index, same);
        self.judge("same_state", verdict.map_err(|what| format!("m{}: {what}", manager + 1)));
    }

    /// Tells proposers at this manager whose entry it has applied now.
    fn answer_applied(&mut self, manager: usize, upto: Index) {
        let life = self.managers[manager].life;
        let here = |p: &Proposal| p.manager == manager && p.life == life;
        let due: Vec<(u64, Index)> = self
            .log
            .proposals
            .iter()
            .filter(|(_, p)| here(p))
            .filter_map(|(id, p)| Some((*id, p.index.filter(|index| *index <= upto)?)))
            .collect();
        for (proposal, index) in due {
            let truth = self.log.entry(index).and_then(|(_, truth)| truth.clone());
            if let Some(result) = truth {
                self.answer(proposal, result);
            }
        }
    }

    /// The first answer counts.
    pub fn answer(&mut self, proposal: u64, result: Result<Response, Error>) {
        let Some(Proposal { who, manager, life, .. }) = self.log.proposals.remove(&proposal) else {
            return;
        };
        self.counts.unknown += u64::from(matches!(result, Err(Error::UnknownOutcome { .. })));
        if let Proposer::Client { client, attempt } = who {
            // A manager that died in between answers nothing; its caller sees the connection end.
            let lived = self.managers[manager].life == life;
            let unknown = Err(Error::UnknownOutcome { why: "the manager died".into() });
            let result = if lived { result } else { unknown };
            self.after(1, 20, Event::Heard { client, attempt, result });
        } else if self.managers[manager].life == life {
            match who {
                Proposer::Leader { reign, ticket } => self.proposed(manager, reign, ticket, result),
                Proposer::TakeOver { term } => self.took_over(manager, term, &result),
                Proposer::Client { .. } => {}
            }
        }
    }

    // ---- leadership ----

    pub fn look_at_leader(&mut self) {
        self.at(self.now + LOOK, Event::LookAtLeader);
        let leader = self.log.leader.filter(|leader| self.has_majority(*leader));
        if leader.is_some() {
            self.log.failing_since = None;
            self.commit_ready();
            for manager in 0..self.managers.len() {
                if self.managers[manager].state.applied() < self.log.committed() {
                    self.after(1, 40, Event::Replicate { manager });
                }
            }
            return;
        }
        let since = *self.log.failing_since.get_or_insert(self.now);
        if self.now.since(since) > self.log.patience {
            self.elect();
        }
    }

    /// A new term: who wins has all that was committed, and a prefix of what was under way.
    pub fn elect(&mut self) {
        let all = 0..self.managers.len();
        let able: Vec<usize> = all.filter(|manager| self.has_majority(*manager)).collect();
        let Some(winner) = self.dice.pick(&able) else { return };
        let old = self.log.leader.replace(winner);
        self.log.term += 1;
        self.log.failing_since = None;
        self.log.patience = self.dice.span(450, 1500);
        let term = self.log.term;
        self.say(&format!("log term {term}: m{} wins", winner + 1));
        let surviving = self.dice.below(self.log.in_flight.len() as u64 + 1) as usize;
        let mut under_way = std::mem::take(&mut self.log.in_flight);
        let lost = under_way.split_off(surviving);
        for what in under_way {
            self.hear_unknown(what.proposal);
            self.append(Some(what.entry), what.base);
        }
        for what in lost {
            self.hear_unknown(what.proposal);
        }
        self.append(None, self.log.committed());
        self.after(1, 60, Event::Elected { manager: winner, term });
        if let Some(old) = old.filter(|old| *old != winner) {
            self.after(20, 2500, Event::Deposed { manager: old, term: self.log.term });
        }
    }

    /// Some hear at once that they will not hear what came of it, others wait in vain.
    fn hear_unknown(&mut self, proposal: u64) {
        let Some(manager) = self.log.proposals.get(&proposal).map(|p| p.manager) else { return };
        if self.dice.percent(60) {
            let result = Err(Error::UnknownOutcome { why: "the leader changed".into() });
            self.after(1, 1500, Event::Answer { manager, proposal, result });
        }
    }

    pub fn elected(&mut self, manager: usize, term: u64) {
        let m = &mut self.managers[manager];
        if !m.alive || term < self.log.term || m.believes >= Some(term) {
            return;
        }
        self.end_reign(manager, "a new term");
        self.managers[manager].believes = Some(term);
        let life = self.managers[manager].life;
        self.take_over(manager, life);
    }

    /// Hears that `term` has begun without it; cut off, it believes on for a while.
    pub fn deposed(&mut self, manager: usize, term: u64) {
        let Some(believed) = self.managers[manager].believes.filter(|old| *old < term) else {
            return;
        };
        let leader = self.log.leader;
        let hears = leader.is_some_and(|leader| self.meet(leader, manager));
        let since = self.managers[manager].cut_off_since.get_or_insert(self.now);
        if !hears && self.now.since(*since) < BELIEF_MAX {
            self.after(100, 500, Event::Deposed { manager, term });
            return;
        }
        self.managers[manager].cut_off_since = None;
        self.managers[manager].believes = None;
        self.say(&format!("m{} hears that term {believed} is over", manager + 1));
        self.end_reign(manager, "leadership lost");
    }

    /// It runs, and reaches enough others to commit.
    pub fn has_majority(&self, manager: usize) -> bool {
        let awake = |m: &usize| self.managers[*m].awake(self.now);
        let all = 0..self.managers.len();
        let meets = all.filter(|m| awake(m) && self.meet(manager, *m)).count();
        awake(&manager) && meets * 2 > self.managers.len()
    }
}
