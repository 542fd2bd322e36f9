//! Contact with a leader, which strict tasks live by (`muster_model::strict`): which heartbeats
//! were confirmed, and the file that says so to the shims, which outlive the agent.
//!
//! The file has one line: the id of the boot, and when the newest confirmed heartbeat was sent, in
//! milliseconds of the clock that nobody sets and that goes on while the machine sleeps. It does
//! not know tasks. Invariant: the worker's brain hears of a confirmation after the file says it, so
//! that nothing is started whose shim knows less; should the disk hang, both end it.

use crate::drive::disk::{self, Sync};
use crate::session::FromSession;
use muster_control::io::WorkerInput;
use muster_model::{Epoch, Index, Millis, Time};
use muster_process::clock::Clock;
use muster_proto::dispatch as pb;
use nix::time::{ClockId, clock_gettime};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use tokio::sync::{mpsc, watch};

/// Tells a strict task's containers its fencing token: decimal, and greater than that of every
/// earlier task of the service.
pub const TOKEN_VARIABLE: &str = "MUSTER_FENCING_TOKEN";
/// Heartbeats of one session whose confirmation is awaited; more have long been too old.
const AWAITED_MAX: usize = 16;

/// One moment by both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Moment {
    since_boot: Millis,
    at: Time,
}

#[derive(Clone, Copy, Debug)]
struct Confirmation {
    sent: Moment,
    /// What is to be obeyed first.
    orders: (Epoch, Index),
}

/// What the session and the brain's drive share.
pub struct Contact {
    path: PathBuf,
    clock: Clock,
    asked: watch::Sender<bool>,
    newest: watch::Sender<Option<Confirmation>>,
}

impl Contact {
    /// Of an agent with this data directory.
    pub fn new(data_dir: &Path, clock: Clock) -> Self {
        let (asked, newest) = (watch::Sender::new(false), watch::Sender::new(None));
        Self { path: file(data_dir), clock, asked, newest }
    }

    /// When the newest heartbeat that was confirmed in this boot was sent, as the file has it.
    pub fn last(&self) -> Option<Time> {
        let text = std::fs::read_to_string(&self.path).ok()?;
        let (boot, sent) = text.trim().split_once(' ')?;
        let (sent, now) = (Millis(sent.parse().ok()?), self.now());
        let ago = now.since_boot.0.checked_sub(sent.0)?;
        (boot == boot_id()).then(|| now.at - Millis(ago))
    }

    /// Whether heartbeats are to ask for confirmation.
    pub fn ask(&self, on: bool) {
        self.asked.send_if_modified(|asked| std::mem::replace(asked, on) != on);
    }

    fn now(&self) -> Moment {
        // It is always there; without it every contact would be long ago.
        let since_boot = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |now| {
            u64::try_from(now.tv_sec()).unwrap_or(0) * 1000
                + u64::try_from(now.tv_nsec()).unwrap_or(0) / 1_000_000
        });
        Moment { since_boot: Millis(since_boot), at: (self.clock)() }
    }

    /// Writes down each new confirmation, then tells the worker. Until the worker is gone.
    pub(crate) async fn keep(&self, worker: mpsc::Sender<FromSession>) {
        let mut newest = self.newest.subscribe();
        while newest.changed().await.is_ok() {
            let Some(Confirmation { sent, orders }) = *newest.borrow_and_update() else { continue };
            let line = format!("{} {}\n", boot_id(), sent.since_boot.0);
            if let Err(error) = disk::replace(self.path.clone(), line.into(), Sync::No).await {
                tracing::error!(%error, "contact not written down: strict tasks will stop");
                continue;
            }
            let confirmed = WorkerInput::Confirmed { sent: sent.at, orders };
            if worker.send(FromSession::Input(confirmed)).await.is_err() {
                return;
            }
        }
    }
}

/// The file in an agent's data directory, for its shims.
pub fn file(data_dir: &Path) -> PathBuf {
    data_dir.join("contact")
}

fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// The numbered heartbeats of one session.
pub(crate) struct Beats<'a> {
    contact: &'a Contact,
    sent: Mutex<(u64, VecDeque<(u64, Moment)>)>,
}

impl<'a> Beats<'a> {
    pub fn new(contact: &'a Contact) -> Self {
        Self { contact, sent: Mutex::default() }
    }

    /// Whether heartbeats are to have numbers.
    pub fn asked(&self) -> watch::Receiver<bool> {
        self.contact.asked.subscribe()
    }

    /// The number of a heartbeat that is about to be sent.
    pub fn next(&self) -> u64 {
        let now = self.contact.now();
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.0 += 1;
        let number = sent.0;
        if sent.1.len() == AWAITED_MAX {
            sent.1.pop_front();
        }
        sent.1.push_back((number, now));
        number
    }

    /// The leader heard that one. Numbers that nobody awaits mean nothing.
    pub fn confirmed(&self, confirmed: &pb::Confirmed) {
        let orders = (Epoch(confirmed.epoch), Index(confirmed.revision));
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((first, moment)) =
            sent.1.front().copied().filter(|(n, _)| *n <= confirmed.number)
        {
            sent.1.pop_front();
            if first == confirmed.number {
                self.contact.newest.send_replace(Some(Confirmation { sent: moment, orders }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn contact(dir: &Path) -> Contact {
        Contact::new(dir, muster_process::clock::start())
    }

    fn confirmed(number: u64) -> pb::Confirmed {
        pb::Confirmed { number, epoch: 1, revision: 2 }
    }

    #[tokio::test]
    async fn a_confirmation_is_on_disk_before_the_worker_hears_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let contact = Arc::new(contact(dir.path()));
        let (worker, mut heard) = mpsc::channel(4);
        let keeper = contact.clone();
        let kept = tokio::spawn(async move { keeper.keep(worker).await });
        tokio::task::yield_now().await;
        let beats = Beats::new(&contact);
        let (lost, answered) = (beats.next(), beats.next());
        assert_eq!(contact.last(), None, "nothing was confirmed yet");
        beats.confirmed(&confirmed(answered));
        let Some(FromSession::Input(WorkerInput::Confirmed { sent, .. })) = heard.recv().await
        else {
            panic!("not a confirmation");
        };
        let last = contact.last().unwrap();
        assert!(last.0.abs_diff(sent.0) <= 1, "{last:?} on disk, {sent:?} told");
        // An answer to what was overtaken, or to nothing, is none.
        beats.confirmed(&confirmed(lost));
        beats.confirmed(&confirmed(99));
        assert!(!contact.newest.subscribe().has_changed().unwrap());
        kept.abort();
    }

    #[test]
    fn what_another_boot_or_nobody_wrote_is_no_contact() {
        let dir = tempfile::tempdir().unwrap();
        let contact = contact(dir.path());
        let now = contact.now().since_boot.0;
        let boot = boot_id();
        for (text, known) in [
            (format!("{boot} {now}\n"), true),
            (format!("another {now}\n"), false),
            (format!("{boot} {}\n", now + 3_600_000), false),
            (format!("{boot}\n"), false),
            (format!("{boot} -1\n"), false),
            (String::new(), false),
        ] {
            std::fs::write(file(dir.path()), &text).unwrap();
            assert_eq!(contact.last().is_some(), known, "{text:?}");
        }
    }
}
