//! What the managers are told, and what they have not confirmed yet.
//!
//! It decides when news is sent: RUNNING and STOPPED at once, steps on the way gathered for a
//! moment. It does not know what the news means. Invariant: a change is due until a report that
//! shows it, or a newer one, was acknowledged in the same session it was sent in.

use super::task::Work;
use crate::io::WorkerOutput;
use muster_model::{InstanceId, Millis, SessionId, TaskId, TaskReport, Time};
use std::collections::{BTreeMap, VecDeque};

/// News on the way to RUNNING or STOPPED waits this long for the news that replaces it.
const GATHER: Millis = Millis(500);
/// Reports of one message: about 1 KiB each, far below a message's 4 MiB.
const REPORTS_PER_MESSAGE_MAX: usize = 500;
/// Messages without an acknowledgement; beyond it changes gather in the tasks themselves.
const MESSAGES_IN_FLIGHT_MAX: usize = 4;

#[derive(Clone, Debug, Default)]
pub(super) struct Outbox {
    session: Option<SessionId>,
    /// Number of the last message of this session.
    sequence: u64,
    in_flight: VecDeque<(u64, Vec<(TaskId, u64)>)>,
    news: BTreeMap<TaskId, News>,
}

#[derive(Clone, Copy, Debug, Default)]
struct News {
    /// Newest version noted, sent in this session, and acknowledged.
    noted: u64,
    sent: u64,
    acked: u64,
    due: Option<Time>,
}

impl Outbox {
    /// Newest version of the task that was noted.
    pub fn noted(&self, task: TaskId) -> u64 {
        self.news.get(&task).map_or(0, |n| n.noted)
    }

    pub fn note(&mut self, task: TaskId, work: &Work, now: Time) {
        let at = if work.urgent() { now } else { now + GATHER };
        let news = self.news.entry(task).or_default();
        news.noted = news.noted.max(work.version);
        news.due = Some(news.due.map_or(at, |due| due.min(at)));
    }

    pub fn changed(&mut self, task: TaskId, now: Time) {
        self.news.entry(task).or_default().due = Some(now);
    }

    pub fn dropped(&mut self, task: TaskId) {
        self.news.remove(&task);
    }

    /// A new session knows nothing of what older ones sent.
    pub fn connected(&mut self, session: SessionId, now: Time) {
        self.lost(now);
        self.session = Some(session);
    }

    pub fn lost(&mut self, now: Time) {
        self.session = None;
        self.sequence = 0;
        self.in_flight.clear();
        for news in self.news.values_mut() {
            news.sent = news.acked;
            if news.acked < news.noted {
                news.due = Some(news.due.map_or(now, |due| due.min(now)));
            }
        }
    }

    pub fn acked(&mut self, sequence: u64) {
        while self.in_flight.front().is_some_and(|(number, _)| *number <= sequence) {
            let Some((_, sent)) = self.in_flight.pop_front() else { break };
            for (task, version) in sent {
                if let Some(news) = self.news.get_mut(&task) {
                    news.acked = news.acked.max(version);
                }
            }
        }
    }

    pub fn flush(
        &mut self,
        now: Time,
        instance: InstanceId,
        tasks: &BTreeMap<TaskId, Work>,
        out: &mut Vec<WorkerOutput>,
    ) {
        if self.session.is_none() {
            return;
        }
        while self.in_flight.len() < MESSAGES_IN_FLIGHT_MAX {
            let (reports, sent) = self.take_due(now, instance, tasks);
            if reports.is_empty() {
                return;
            }
            self.sequence += 1;
            self.in_flight.push_back((self.sequence, sent));
            out.push(WorkerOutput::Report { sequence: self.sequence, reports });
        }
    }

    fn take_due(
        &mut self,
        now: Time,
        instance: InstanceId,
        tasks: &BTreeMap<TaskId, Work>,
    ) -> (Vec<TaskReport>, Vec<(TaskId, u64)>) {
        let (mut reports, mut sent) = (Vec::new(), Vec::new());
        for (id, news) in &mut self.news {
            if reports.len() == REPORTS_PER_MESSAGE_MAX {
                break;
            }
            if news.due.is_none_or(|due| due > now) {
                continue;
            }
            news.due = None;
            let Some(work) = tasks.get(id) else { continue };
            if work.version > news.sent {
                news.noted = work.version;
                news.sent = work.version;
                sent.push((*id, work.version));
                reports.push(TaskReport { task: *id, instance, observed: work.observed() });
            }
        }
        (reports, sent)
    }

    /// When something has to be sent.
    pub fn due(&self) -> Option<Time> {
        self.session?;
        if self.in_flight.len() >= MESSAGES_IN_FLIGHT_MAX {
            return None;
        }
        self.news.values().filter_map(|n| n.due).min()
    }
}
