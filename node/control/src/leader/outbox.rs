//! Reports of agents on their way into the log: gathered over all instances while the commit
//! before still runs, acknowledged after their own.
//!
//! It does not know what a report means. Invariant: a report is acknowledged only when its content
//! is in the log, or changes nothing there; an unknown outcome is proposed again (reports only move
//! rows forward, so a repeat has no effect).

use super::assign::Sessions;
use crate::io::{LeaderOutput, Ticket};
use muster_model::{Error, InstanceId, Phase, SessionId, State, TaskId, TaskReport, Time};
use std::collections::{BTreeMap, VecDeque};

/// Task reports in one entry: about 1 KiB each, far below an entry's bound.
const REPORTS_PER_ENTRY_MAX: usize = 1000;
/// Task reports that may wait; beyond it agents are turned away and send them again later.
const REPORTS_WAITING_MAX: usize = 100_000;

/// Who is to be told that a report is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct From {
    pub instance: InstanceId,
    pub session: SessionId,
    pub sequence: u64,
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: VecDeque<(From, Vec<TaskReport>)>,
    /// Task reports in `waiting`.
    size: usize,
    in_flight: Option<InFlight>,
}

#[derive(Debug)]
struct InFlight {
    ticket: Ticket,
    since: Time,
    batch: Vec<(From, Vec<TaskReport>)>,
}

impl Outbox {
    /// Accepts what an agent's current session says. On an error the session must end: a later
    /// acknowledgement would stand for what was turned away here too.
    pub fn take(
        &mut self,
        state: &State,
        from: From,
        reports: Vec<TaskReport>,
    ) -> Result<(), Error> {
        if reports.iter().any(|report| report.instance != from.instance) {
            let principal = format!("instance/{}", from.instance);
            return Err(Error::Denied { principal, action: "report for another instance".into() });
        }
        if self.size + reports.len() > REPORTS_WAITING_MAX {
            return Err(Error::Unavailable { why: "too many reports wait to be committed".into() });
        }
        let news = reports.into_iter().filter(|report| is_news(state, report)).collect();
        self.put(from, news);
        Ok(())
    }

    fn put(&mut self, from: From, reports: Vec<TaskReport>) {
        self.size += reports.len();
        self.waiting.push_back((from, reports));
    }

    pub fn ticket(&self) -> Option<Ticket> {
        self.in_flight.as_ref().map(|entry| entry.ticket)
    }

    /// When the entry under way was proposed.
    pub fn since(&self) -> Option<Time> {
        self.in_flight.as_ref().map(|entry| entry.since)
    }

    /// What is about to be known of tasks: the phases of reports that are not applied yet. A stop
    /// that is decided beside them must not hit a task that has just come to run.
    pub fn arriving(&self) -> BTreeMap<TaskId, Phase> {
        let in_flight = self.in_flight.iter().flat_map(|entry| entry.batch.iter());
        let reports = in_flight.chain(&self.waiting).flat_map(|(_, reports)| reports);
        reports.map(|report| (report.task, report.observed.phase)).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The next entry's reports; none, if nothing that waits would change anything.
    pub fn depart(&mut self, now: Time, ticket: Ticket) -> Vec<TaskReport> {
        let mut batch = Vec::new();
        let mut size = 0;
        while let Some((from, reports)) = self.waiting.pop_front() {
            // A message is at most half an entry, so a first one always fits.
            if size > 0 && size + reports.len() > REPORTS_PER_ENTRY_MAX {
                self.waiting.push_front((from, reports));
                break;
            }
            size += reports.len();
            batch.push((from, reports));
        }
        self.size -= size;
        let reports = batch.iter().flat_map(|(_, reports)| reports.iter().cloned()).collect();
        self.in_flight = Some(InFlight { ticket, since: now, batch });
        reports
    }

    /// The entry is committed, or its fate is unknown: then it goes again.
    pub fn answered(&mut self, ok: bool, sessions: &Sessions, out: &mut Vec<LeaderOutput>) {
        let Some(InFlight { batch, .. }) = self.in_flight.take() else { return };
        if !ok {
            for (from, reports) in batch.into_iter().rev() {
                self.size += reports.len();
                self.waiting.push_front((from, reports));
            }
            return;
        }
        for (From { instance, session, sequence }, _) in batch {
            if sessions.is_current(instance, session) {
                out.push(LeaderOutput::Ack { instance, session, sequence });
            }
        }
    }
}

/// Whether committing it could change anything. Only what the log holds already is no news: this
/// leader may have been replaced without knowing, and a task that it does not know, or knows
/// without an instance, may be the next leader's. Of such a report the log decides.
fn is_news(state: &State, report: &TaskReport) -> bool {
    let Some(task) = state.task(report.task) else { return true };
    task.instance != Some(report.instance) || task.observed != report.observed
}
