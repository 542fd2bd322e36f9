//! The thin shell around the worker's brain: select what happened, let the brain handle it, perform
//! what it says.
//!
//! It decides nothing but order, and never waits for a pull or a container: those run in
//! [`lanes`]. The one thing it waits for is the disk, when it writes down which orders it obeys:
//! nothing of them may be done before. Invariant: when it has ended, nothing it started runs on.

pub mod disk;
pub mod engine;
pub mod lanes;
pub mod obeyed;
#[cfg(test)]
mod scripted;

use crate::contact::Contact;
use crate::session::{FromSession, Outbox, Standing};
use lanes::Lanes;
use muster_control::io::{ContainerEvent, Found, WorkerInput, WorkerOutput};
use muster_control::worker::Worker;
use muster_model::{TaskId, Time};
use muster_process::clock::Clock;
use obeyed::Obeyed;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The brain looks at the clock at least this often, whatever it asked for.
const TICK_MAX: Duration = Duration::from_secs(30);
/// Pause before orders are written down again after the disk refused.
const DISK_PAUSE: Duration = Duration::from_secs(1);

/// What a drive is made of.
pub struct Parts {
    pub worker: Worker,
    pub clock: Clock,
    pub lanes: Lanes,
    pub obeyed: Obeyed,
    pub session: mpsc::Receiver<FromSession>,
    pub events: mpsc::Receiver<(TaskId, ContainerEvent)>,
    pub contact: Arc<Contact>,
    pub stop: CancellationToken,
}

/// The worker's brain and what surrounds it.
pub struct Drive {
    worker: Worker,
    clock: Clock,
    lanes: Lanes,
    obeyed: Obeyed,
    session: mpsc::Receiver<FromSession>,
    events: mpsc::Receiver<(TaskId, ContainerEvent)>,
    outbox: Option<Outbox>,
    contact: Arc<Contact>,
    stop: CancellationToken,
    wake_at: Option<Time>,
}

/// Everything that can wake the drive.
enum Event {
    Session(FromSession),
    Container(TaskId, ContainerEvent),
    LaneMoved,
    Tick,
    Stop,
}

impl Drive {
    pub fn new(parts: Parts) -> Self {
        let Parts { worker, clock, lanes, obeyed, session, events, contact, stop } = parts;
        let (outbox, wake_at) = (None, None);
        Self { worker, clock, lanes, obeyed, session, events, outbox, contact, stop, wake_at }
    }

    /// Runs until `stop`. Containers stay as they are: what runs, runs on.
    pub async fn run(mut self, found: Vec<Found>) {
        self.tell(WorkerInput::Boot { found }).await;
        loop {
            match self.select().await {
                Event::Session(said) => self.hear_session(said).await,
                Event::Container(task, event) => {
                    tracing::debug!(%task, ?event, "container event");
                    self.tell(WorkerInput::Container { task, event }).await;
                }
                Event::LaneMoved => {}
                Event::Tick => self.tick().await,
                Event::Stop => break,
            }
            if self.wake_at.is_some_and(|at| at <= (self.clock)()) {
                self.tick().await;
            }
        }
        // Nobody hears events any more: what is under way must not wait for that.
        drop(self.events);
        self.lanes.finish().await;
    }

    async fn select(&mut self) -> Event {
        let wait = match self.wake_at {
            Some(at) => Duration::from_millis(at.since((self.clock)()).0).min(TICK_MAX),
            None => TICK_MAX,
        };
        tokio::select! {
            () = self.stop.cancelled() => Event::Stop,
            Some(said) = self.session.recv() => Event::Session(said),
            Some((task, event)) = self.events.recv() => Event::Container(task, event),
            () = self.lanes.moved() => Event::LaneMoved,
            () = tokio::time::sleep(wait) => Event::Tick,
        }
    }

    async fn hear_session(&mut self, said: FromSession) {
        match said {
            FromSession::Ask(answer) => {
                let (epoch, revision) = self.worker.obeyed();
                let inventory = self.worker.inventory();
                // Whoever asked may be gone; then nobody needs to know.
                let _ = answer.send(Standing { inventory, epoch, revision });
            }
            FromSession::Open(session, outbox) => {
                self.outbox = Some(outbox);
                self.tell(WorkerInput::Connected(session)).await;
            }
            FromSession::Input(input) => {
                if matches!(input, WorkerInput::Lost) {
                    self.outbox = None;
                }
                self.tell(input).await;
            }
        }
    }

    async fn tick(&mut self) {
        self.wake_at = None;
        self.tell(WorkerInput::Tick).await;
    }

    async fn tell(&mut self, input: WorkerInput) {
        for output in self.worker.handle((self.clock)(), input) {
            if let WorkerOutput::Obeyed { epoch, revision } = output {
                if !self.written_down((epoch, revision)).await {
                    // What follows was ordered, and may not be done.
                    return;
                }
                continue;
            }
            self.perform(output);
        }
    }

    fn perform(&mut self, output: WorkerOutput) {
        match output {
            WorkerOutput::Obeyed { .. } => {}
            WorkerOutput::Report { sequence, reports } => {
                self.lanes.learn(&reports);
                metrics::counter!("muster_agent_reports_total").increment(reports.len() as u64);
                if let Some(outbox) = &self.outbox {
                    outbox.report(sequence, &reports);
                }
            }
            WorkerOutput::WakeAt(at) => self.wake_at = Some(at),
            WorkerOutput::AskForContact(on) => self.contact.ask(on),
            WorkerOutput::Pull(assignment) => self.lanes.pull(assignment),
            WorkerOutput::Create { assignment, container } => {
                self.lanes.create(assignment, container);
            }
            WorkerOutput::Start { task, container } => self.lanes.start(task, container),
            WorkerOutput::Stopping { task } => self.lanes.stopping(task),
            WorkerOutput::Signal { task, container, signal } => {
                self.lanes.signal(task, container, signal);
            }
            WorkerOutput::Delete { task } => self.lanes.delete(task),
            WorkerOutput::Restart { task, container } => self.lanes.restart(task, container),
            WorkerOutput::Check { task, container, number, check } => {
                self.lanes.check(task, container, number, check);
            }
        }
    }

    /// Until the disk takes it, nothing else may happen: doing first and writing later is how an
    /// agent obeys a leader that is gone. False if the agent stops instead.
    async fn written_down(&mut self, highest: obeyed::Highest) -> bool {
        loop {
            match self.obeyed.store(highest).await {
                Ok(()) => return true,
                Err(error) => {
                    metrics::counter!("muster_agent_disk_refusals_total").increment(1);
                    tracing::error!(%error, "orders not written down, so not obeyed yet");
                }
            }
            let pause = tokio::time::sleep(DISK_PAUSE);
            if self.stop.run_until_cancelled(pause).await.is_none() {
                return false;
            }
        }
    }
}

#[cfg(test)]
#[path = "drive/drive_tests.rs"]
mod tests;
