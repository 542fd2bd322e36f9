//! The leading manager's brain: hears states, agents and results, answers with plans and orders.
//!
//! It decides what runs where; the stages below each decide one thing. It does not know who calls
//! it, what time it is unless told, or how anything is sent or stored.
//! Invariants: it acts for one epoch only and falls silent when another begins; one plan is in
//! flight at a time and is made on the newest state; there is no recovery: a new leader compares
//! the first state with an empty one and does the ordinary things.

mod assign;
mod balance;
mod contacts;
mod contest;
mod decider;
mod draft;
mod explain;
mod failing;
mod filter;
mod fleet;
pub mod foresee;
mod index;
mod jobs;
mod keys;
mod lease;
mod lost;
mod outbox;
mod pace;
mod parking;
mod place;
mod reap;
mod rebalance;
mod replicas;
mod reserve;
mod rollout;
mod roster;
mod schedules;
mod shift;
mod tally;
mod task_set;
mod turns;
mod view;
mod witness;

use crate::io::{Heard, LeaderInput, LeaderOutput, Mandate, Ticket};
use assign::Sessions;
use contacts::Contacts;
pub use decider::Decider;
use draft::Draft;
use index::Index;
use lease::Leases;
use muster_model::{
    Changes, Command, Error, IdSource, InstanceId, InstanceStatus, Millis, Response, State, Step,
    Time, limits,
};
use outbox::Outbox;
use pace::Pace;
use parking::Parking;
use rebalance::Rebalancing;
use std::collections::BTreeSet;
use std::sync::Arc;
use view::{Dirty, View, Wakes};

/// After `Unavailable` the next attempt waits this long.
const RETRY: Millis = Millis(200);
/// A proposal without an answer for this long counts as one with an unknown outcome: the shell has
/// its own, shorter, deadline, so only a lost answer comes to this.
const PATIENCE: Millis = Millis::from_secs(30);

/// What operators count about a leader; none of it decides anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub plans: u64,
    pub steps: u64,
    /// Steps that `apply` refused after the draft had accepted them: beaten by another entry.
    pub beaten: u64,
    /// Steps that the draft refused: a stage misjudged the state it was given.
    pub misjudged: u64,
    /// Full scans that found work the diffs had not announced.
    pub scan_found: u64,
    /// Times the governor held back a mass loss.
    pub governor_held: u64,
    /// Signatures that waited and were tried again because an instance gained something.
    pub woken: u64,
}

/// The plan that was proposed and not answered, or answered and not seen applied.
#[derive(Debug)]
struct InFlight {
    ticket: Ticket,
    steps: Vec<Step>,
    /// The state it was made on.
    base: muster_model::Index,
    answered: bool,
    since: Time,
}

#[derive(Debug)]
pub struct Leader {
    mandate: Mandate,
    ids: IdSource,
    state: Arc<State>,
    leases: Leases,
    contacts: Contacts,
    sessions: Sessions,
    outbox: Outbox,
    index: Index,
    parking: Parking,
    rebalancing: Rebalancing,
    dirty: Dirty,
    wakes: Wakes,
    plan: Option<InFlight>,
    pace: Pace,
    turns: rollout::Turns,
    next_ticket: u64,
    next_scan: Time,
    /// No proposal before this: the last one found no quorum.
    retry_at: Option<Time>,
    /// Another epoch has begun.
    silent: bool,
    asked_to_wake: Option<Time>,
    counters: Counters,
}

impl Leader {
    /// The mandate's `Takeover` has been applied; the first input is the state that shows it.
    pub fn new(mandate: Mandate, now: Time) -> Self {
        Self {
            mandate,
            ids: IdSource::new(mandate.seed),
            state: Arc::new(State::default()),
            leases: Leases::new(now),
            contacts: Contacts::new(now),
            sessions: Sessions::new(mandate.epoch),
            outbox: Outbox::default(),
            index: Index::default(),
            parking: Parking::default(),
            rebalancing: Rebalancing::default(),
            dirty: Dirty::default(),
            wakes: Wakes::default(),
            plan: None,
            pace: Pace::default(),
            turns: rollout::Turns::default(),
            next_ticket: 1,
            next_scan: now + limits::FULL_SCAN,
            retry_at: None,
            silent: false,
            asked_to_wake: None,
            counters: Counters::default(),
        }
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Checks what the brain keeps beside the state against what the state says; for simulations
    /// and tests, as it reads everything.
    ///
    /// # Errors
    /// What differs.
    pub fn audit(&self) -> Result<(), String> {
        self.index.audit()
    }

    /// One input in, what to do about it out. `now` never steps back.
    pub fn handle(&mut self, now: Time, input: LeaderInput) -> Vec<LeaderOutput> {
        let mut out = self.hear(now, input);
        out.extend(self.decide(now));
        out
    }

    /// The first half of `handle`: what follows from the input alone, such as orders to agents.
    /// They need not wait for the second half.
    pub fn hear(&mut self, now: Time, input: LeaderInput) -> Vec<LeaderOutput> {
        let mut out = Vec::new();
        if self.silent {
            return out;
        }
        self.leases.woke(now);
        match input {
            LeaderInput::State(state) => self.learn(now, state, &mut out),
            // The shell may have spent the wake it was asked for on this.
            LeaderInput::Tick => self.asked_to_wake = None,
            LeaderInput::Hello { instance, session, inventory } => {
                self.heard(now, instance);
                self.sessions.hello(&self.state, instance, session, inventory, &mut out);
            }
            LeaderInput::Heartbeat { instance, session, number } => {
                if self.sessions.current(&self.state, instance, session, &mut out) {
                    self.heard(now, instance);
                    let row = number.and_then(|_| self.state.instance(instance));
                    let confirmed = row.is_some_and(|row| self.contacts.confirm(now, row));
                    if let Some(number) = number.filter(|_| confirmed) {
                        let orders = self.sessions.told(instance);
                        let heard = Heard { number, orders };
                        out.push(LeaderOutput::Confirm { instance, session, heard });
                    }
                }
            }
            LeaderInput::Report { instance, session, sequence, reports } => {
                if self.sessions.current(&self.state, instance, session, &mut out) {
                    self.heard(now, instance);
                    let from = outbox::From { instance, session, sequence };
                    if let Err(why) = self.outbox.take(&self.state, from, reports) {
                        self.sessions.end(instance, session, why, &mut out);
                    }
                }
            }
            LeaderInput::Gone { instance, session } => self.sessions.gone(instance, session),
            LeaderInput::Proposed { ticket, result } => {
                self.answered(now, ticket, result, &mut out)
            }
        }
        out
    }

    /// The second half, to be called after each `hear`, or once after several that came together:
    /// what to propose, which takes thought, and when to call again.
    pub fn decide(&mut self, now: Time) -> Vec<LeaderOutput> {
        let mut out = Vec::new();
        if self.silent {
            return out;
        }
        self.lose_patience(now, &mut out);
        self.send_reports(now, &mut out);
        self.send_plan(now, &mut out);
        self.ask_to_wake(now, &mut out);
        out
    }

    /// A state that is newer than the last: everybody is told what it changed.
    fn learn(&mut self, now: Time, state: Arc<State>, out: &mut Vec<LeaderOutput>) {
        if state.meta().epoch > self.mandate.epoch {
            self.silent = true;
            return;
        }
        if state.meta().epoch < self.mandate.epoch || state.applied() < self.state.applied() {
            return;
        }
        let changes = State::diff(&self.state, &state);
        self.dirty.mark(&changes, &state, &mut self.wakes);
        self.dirty.waiting |= self.parking.is_nosy() && !changes.tasks.is_empty();
        self.leases.learn(now, &changes);
        self.state = state;
        self.sessions.send(&self.state, &changes, out);
        self.close_plan();
        self.drop_leavers(&changes, out);
    }

    fn drop_leavers(&mut self, changes: &Changes, out: &mut Vec<LeaderOutput>) {
        for change in &changes.instances {
            let Some(row) = change.latest() else { continue };
            if change.after.is_none() || row.status == InstanceStatus::Inactive {
                self.sessions.dismiss(row.id, out);
                self.contacts.forget(row.id);
            }
        }
    }

    fn heard(&mut self, now: Time, instance: InstanceId) {
        let row = self.state.instance(instance);
        if let Some(row) = row.filter(|row| row.status != InstanceStatus::Inactive) {
            self.leases.renew(now, instance, row.ready());
        }
    }

    // ---- proposals ----

    fn ticket(&mut self) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        ticket
    }

    fn answered(
        &mut self,
        now: Time,
        ticket: Ticket,
        result: Result<Response, Error>,
        out: &mut Vec<LeaderOutput>,
    ) {
        if let Err(Error::StaleEpoch { .. }) = result {
            self.silent = true;
        } else if self.outbox.ticket() == Some(ticket) {
            if let Err(Error::Unavailable { .. }) = result {
                self.retry_at = Some(now + RETRY);
            }
            self.outbox.answered(result.is_ok(), &self.sessions, out);
        } else if self.plan.as_ref().is_some_and(|plan| plan.ticket == ticket) {
            self.plan_answered(now, result, out);
        }
    }

    fn plan_answered(
        &mut self,
        now: Time,
        result: Result<Response, Error>,
        out: &mut Vec<LeaderOutput>,
    ) {
        let Some(plan) = &mut self.plan else { return };
        match result {
            Ok(Response::Plan { refused }) => {
                plan.answered = true;
                self.counters.beaten += refused.len() as u64;
                for (position, _) in refused {
                    if let Some(step) = plan.steps.get(position as usize) {
                        self.dirty.mark_step(step, &self.state);
                    }
                }
                self.close_plan();
            }
            Ok(_) => {
                plan.answered = true;
                self.close_plan();
            }
            // It may still be committed. An empty plan goes behind it in the same log: once that
            // one is applied, the unknown one is either visible or dead.
            Err(Error::UnknownOutcome { .. }) => {
                self.dirty.everything();
                self.propose_plan(now, Vec::new(), out);
            }
            Err(_) => {
                self.plan = None;
                self.dirty.everything();
                self.retry_at = Some(now + RETRY);
            }
        }
    }

    /// The plan is over once it was answered and a state newer than its base is known. The shell
    /// hands over the state that shows an entry before that entry's result; should it not, the
    /// next entry of anyone ends the wait, and `apply` refuses what would be done twice.
    fn close_plan(&mut self) {
        let seen = |plan: &InFlight| plan.answered && self.state.applied() > plan.base;
        if self.plan.as_ref().is_some_and(seen) {
            self.plan = None;
        }
    }

    fn lose_patience(&mut self, now: Time, out: &mut Vec<LeaderOutput>) {
        let unknown = || Err(Error::UnknownOutcome { why: "no answer".into() });
        if self.plan.as_ref().is_some_and(|p| !p.answered && now.since(p.since) > PATIENCE) {
            self.plan_answered(now, unknown(), out);
        }
        if self.outbox.since().is_some_and(|since| now.since(since) > PATIENCE) {
            self.outbox.answered(false, &self.sessions, out);
        }
    }

    fn send_reports(&mut self, now: Time, out: &mut Vec<LeaderOutput>) {
        if self.retry_at.is_some_and(|at| at > now) || self.outbox.ticket().is_some() {
            return;
        }
        while !self.outbox.is_empty() {
            let ticket = self.ticket();
            let reports = self.outbox.depart(now, ticket);
            if !reports.is_empty() {
                out.push(LeaderOutput::Propose { ticket, command: Command::Report { reports } });
                return;
            }
            self.outbox.answered(true, &self.sessions, out);
        }
    }

    fn send_plan(&mut self, now: Time, out: &mut Vec<LeaderOutput>) {
        let started = self.state.meta().epoch == self.mandate.epoch;
        if !started || self.plan.is_some() || self.retry_at.is_some_and(|at| at > now) {
            return;
        }
        self.retry_at = None;
        self.wakes.due(now, &mut self.dirty);
        let mut steps = Vec::new();
        if now >= self.next_scan + limits::FULL_SCAN {
            // There has always been something else to do: the scan does not wait any longer.
            self.next_scan = now + limits::FULL_SCAN;
            self.dirty.everything();
        }
        if !self.dirty.is_empty() || self.leases.has_work(now) {
            steps = self.think_through(now);
        }
        if steps.is_empty() && now >= self.next_scan {
            self.next_scan = now + limits::FULL_SCAN;
            self.dirty.everything();
            steps = self.think_through(now);
            self.counters.scan_found += u64::from(steps.iter().any(is_overlooked));
        }
        if !steps.is_empty() {
            self.counters.plans += 1;
            self.counters.steps += steps.len() as u64;
            self.propose_plan(now, steps, out);
        }
    }

    fn propose_plan(&mut self, now: Time, steps: Vec<Step>, out: &mut Vec<LeaderOutput>) {
        let ticket = self.ticket();
        let base = self.state.applied();
        let command = Command::Plan { epoch: self.mandate.epoch, steps: steps.clone() };
        self.plan = Some(InFlight { ticket, steps, base, answered: false, since: now });
        out.push(LeaderOutput::Propose { ticket, command });
    }

    /// Until there is something to do, or all that is dirty was looked at: one round of the stages
    /// reads some services only. Fewer are left with each.
    fn think_through(&mut self, now: Time) -> Vec<Step> {
        let mut left = usize::MAX;
        loop {
            let steps = self.think(now);
            let deferred = self.dirty.services.len();
            if !steps.is_empty() || deferred == 0 || deferred >= left {
                return steps;
            }
            left = deferred;
        }
    }

    /// The stages, in order, on a scratch copy of the state.
    fn think(&mut self, now: Time) -> Vec<Step> {
        let dirty = std::mem::take(&mut self.dirty);
        let mut draft = Draft::new(&self.state, now, self.pace.steps(now));
        let arriving = self.outbox.arriving();
        let (ids, wakes) = (&mut self.ids, &mut self.wakes);
        let suspects = BTreeSet::new();
        let mut view = View { now, dirty, arriving, suspects, ids, wakes, witness: None };

        lease::stage(&mut draft, &mut view, &mut self.leases);
        lost::stage(&mut draft, &mut view, &self.state, &self.contacts);
        rebalance::wake(&draft, &mut view, &mut self.rebalancing);
        rollout::stage(&mut draft, &mut view, &mut self.turns);
        replicas::stage(&mut draft, &mut view);
        schedules::stage(&mut draft, &mut view);
        jobs::stage(&mut draft, &mut view);
        place::stage(&mut draft, &mut view, &mut self.index, &mut self.parking);
        rebalance::stage(&mut draft, &mut view, &mut self.rebalancing);
        reap::stage(&mut draft, &mut view, &mut self.index);

        self.dirty = view.dirty.left_over();
        self.pace.learn(now, &draft);
        self.counters.misjudged += draft.misjudged;
        self.counters.governor_held = self.leases.held();
        self.counters.woken = self.parking.woken();
        draft.into_steps()
    }

    fn ask_to_wake(&mut self, now: Time, out: &mut Vec<LeaderOutput>) {
        let times = [self.leases.next_look(now), self.wakes.next(), self.retry_at];
        let at = times.into_iter().flatten().fold(self.next_scan, Time::min);
        // While a plan is in flight what is due cannot be planned; its end is an input itself. Nor
        // can it be before a retry: asking to be woken for it at once would only spin.
        let at = match (&self.plan, self.retry_at) {
            (Some(_), _) => at.max(now + RETRY),
            (None, Some(retry)) => at.max(retry),
            (None, None) => at,
        };
        if self.asked_to_wake.is_none_or(|asked| asked <= now || at < asked) {
            self.asked_to_wake = Some(at);
            out.push(LeaderOutput::WakeAt(at));
        }
    }
}

/// Work that a diff or a wake-up should have announced; history and explanations age by themselves.
fn is_overlooked(step: &Step) -> bool {
    !matches!(
        step,
        Step::Event { .. }
            | Step::Explain { .. }
            | Step::Forget { .. }
            | Step::Purge { .. }
            | Step::RemoveDefinitions { .. }
    )
}
