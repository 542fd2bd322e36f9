//! The one thread that writes: log entries, votes, purges and the tables.
//!
//! It takes everything that waits, makes one batch of it, writes it with one fsync and then
//! answers in order, so a busy system pays one fsync for many entries. It does not know what
//! entries mean. Invariants: jobs become durable in the order they were queued; nothing is
//! answered before it is durable; a failed write is the end of the process, never tried again.
//!
//! Every batch is fsynced, the tables too, which ride along with log entries: after a power cut an
//! unsynced batch may be missing while a later one in the next write-ahead log is there, and
//! tables with a gap look like any others.

use crate::codec;
use crate::disk::{Mark, Marked};
use crate::health::Health;
use crate::limits::PERSIST_DELAY;
use crate::limits::{WRITER_BATCH_BYTES_MAX, WRITER_BATCH_JOBS_MAX, WRITER_QUEUE_MAX};
use crate::log::{LogShared, size_of};
use crate::machine::AppliedState;
use crate::open::{Db, key};
use crate::types::{LogId, RaftEntry, Types, Vote};
use muster_model::State;
use openraft::storage::IOFlushed;
use openraft::vote::RaftLeaderId;
use rocksdb::{WriteBatch, WriteOptions};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};

/// One thing to write.
pub enum Job {
    Append {
        entries: Vec<RaftEntry>,
        cuts: u64,
        done: IOFlushed<Types>,
    },
    Vote {
        vote: Vote,
        done: oneshot::Sender<io::Result<()>>,
    },
    Truncate {
        from: u64,
    },
    Purge {
        upto: LogId,
    },
    /// The newest applied state waits in the slot.
    Persist,
    /// A snapshot's rows stand under `generation`: make them the tables.
    Install {
        generation: u8,
        applied: Box<AppliedState>,
        done: oneshot::Sender<io::Result<()>>,
    },
    Stop {
        done: oneshot::Sender<()>,
    },
}

/// The queue to the writer thread.
#[derive(Clone)]
pub struct Writer {
    jobs: mpsc::Sender<Job>,
    slot: Arc<Mutex<Option<AppliedState>>>,
    /// A timer runs that will have the slot written.
    armed: Arc<AtomicBool>,
}

fn stopped<E>(_: E) -> io::Error {
    io::Error::other("the log's writer has stopped")
}

impl Writer {
    pub async fn send(&self, job: Job) -> io::Result<()> {
        self.jobs.send(job).await.map_err(stopped)
    }

    pub async fn vote(&self, vote: Vote) -> io::Result<()> {
        let (done, answer) = oneshot::channel();
        self.send(Job::Vote { vote, done }).await?;
        answer.await.map_err(stopped)?
    }

    /// Replaces the tables; returns when that is durable.
    pub async fn install(&self, generation: u8, applied: AppliedState) -> io::Result<()> {
        let (done, answer) = oneshot::channel();
        self.send(Job::Install { generation, applied: Box::new(applied), done }).await?;
        answer.await.map_err(stopped)?
    }

    /// Leaves the newest applied state to be written [`PERSIST_DELAY`] after the last one was, with
    /// whatever else is written then. States in between are skipped: the log holds every step.
    pub fn persist(&self, applied: AppliedState) {
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(applied);
        if self.armed.swap(true, Ordering::AcqRel) {
            return;
        }
        let (jobs, armed) = (self.jobs.clone(), self.armed.clone());
        tokio::spawn(async move {
            tokio::time::sleep(PERSIST_DELAY).await;
            armed.store(false, Ordering::Release);
            // A full queue means that a round follows anyway, and it will find the slot.
            let _ = jobs.try_send(Job::Persist);
        });
    }

    /// Writes what is queued, then ends the thread.
    pub async fn stop(&self) {
        let (done, answer) = oneshot::channel();
        if self.send(Job::Stop { done }).await.is_ok() {
            let _ = answer.await;
        }
    }
}

/// Called once with what happened when a write failed; does not return in a real process.
pub type Fatal = Arc<dyn Fn(&str) + Send + Sync>;

/// Ends the process: after a failed fsync nobody knows what is on the disk.
pub fn abort_process() -> Fatal {
    Arc::new(|why: &str| {
        tracing::error!(why, "storage failed, stopping this manager");
        // The log may go nowhere by now; this line must not.
        eprintln!("muster: storage failed, stopping this manager: {why}");
        std::process::abort();
    })
}

/// What tests may watch: the moments at which a crash is interesting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    BeforeWrite,
    AfterWrite,
    BeforeAnswer,
    InstallMarked,
    InstallRows,
    InstallDone,
}

/// Called at each [`Point`]; nothing in a real process.
pub type Hook = Arc<dyn Fn(Point) + Send + Sync>;

/// What the thread owns.
pub struct Thread {
    pub db: Arc<Db>,
    pub log: Arc<LogShared>,
    pub mark: Mark,
    pub health: Arc<Health>,
    pub fatal: Fatal,
    pub hook: Hook,
    /// Given up when a write finds the disk full, so that the next start has room.
    pub reserve: PathBuf,
    /// What the tables on disk hold.
    pub persisted: Arc<State>,
    pub generation: u8,
}

/// Starts the thread.
pub fn start(thread: Thread) -> io::Result<(Writer, JoinHandle<()>)> {
    let (jobs, queue) = mpsc::channel(WRITER_QUEUE_MAX);
    let slot = Arc::new(Mutex::new(None));
    let writer = Writer { jobs, slot: slot.clone(), armed: Arc::default() };
    let handle = std::thread::Builder::new()
        .name("raft-writer".into())
        .spawn(move || Loop { thread, queue, slot }.run())?;
    Ok((writer, handle))
}

struct Loop {
    thread: Thread,
    queue: mpsc::Receiver<Job>,
    slot: Arc<Mutex<Option<AppliedState>>>,
}

/// Who waits for a round, in the order of their jobs.
enum Answer {
    Appended { next: u64, cuts: u64, done: IOFlushed<Types> },
    Voted(Vote, oneshot::Sender<io::Result<()>>),
    Installed(oneshot::Sender<io::Result<()>>),
}

/// One batch and what follows once it is written.
#[derive(Default)]
struct Round {
    batch: WriteBatch,
    /// The tables are due.
    tables: bool,
    /// It purges the log: the tables that hold what is purged must not come later.
    purges: bool,
    entries: usize,
    bytes: usize,
    answers: Vec<Answer>,
    persisted: Option<Arc<State>>,
    generation: Option<u8>,
    mark: Marked,
    /// The lowest truncation, before which the mark must be lowered.
    cut: Option<u64>,
    stop: Option<oneshot::Sender<()>>,
}

impl Loop {
    fn run(mut self) {
        while let Some(first) = self.queue.blocking_recv() {
            match self.round(first) {
                Ok(None) => {}
                Ok(Some(stop)) => {
                    let _ = stop.send(());
                    return;
                }
                Err(why) => {
                    // Dropping the queue fails every waiting and later job.
                    (self.thread.fatal)(&why);
                    return;
                }
            }
        }
    }

    fn round(&mut self, first: Job) -> Result<Option<oneshot::Sender<()>>, String> {
        let mut round = Round { mark: self.thread.mark.get(), ..Round::default() };
        let written = self.fill(&mut round, first).and_then(|()| self.write(&mut round));
        match written {
            Ok(()) => Ok(self.answer(round)),
            Err(why) => {
                round.fail(&why);
                Err(why)
            }
        }
    }

    fn fill(&mut self, round: &mut Round, first: Job) -> Result<(), String> {
        let mut jobs = 1;
        self.add(round, first)?;
        while jobs < WRITER_BATCH_JOBS_MAX
            && round.bytes < WRITER_BATCH_BYTES_MAX
            && round.stop.is_none()
            && let Ok(job) = self.queue.try_recv()
        {
            self.add(round, job)?;
            jobs += 1;
        }
        self.add_tables(round)
    }

    fn add(&self, round: &mut Round, job: Job) -> Result<(), String> {
        let db = &self.thread.db;
        match job {
            Job::Append { entries, cuts, done } => {
                for entry in &entries {
                    let mut value = Vec::with_capacity(size_of(entry));
                    codec::encode_log(entry, &mut value).map_err(|e| e.to_string())?;
                    round.bytes += value.len();
                    round.batch.put_cf(db.log(), key(entry.log_id.index), value);
                }
                round.entries += entries.len();
                if let Some(last) = entries.last() {
                    round.mark.next = last.log_id.index + 1;
                }
                let next = round.mark.next;
                round.answers.push(Answer::Appended { next, cuts, done });
            }
            Job::Vote { vote, done } => {
                let value = codec::encode_vote(&vote).map_err(|e| e.to_string())?;
                round.batch.put_cf(db.meta(), key::VOTE, value);
                round.mark.term = RaftLeaderId::term(&vote.leader_id);
                round.answers.push(Answer::Voted(vote, done));
            }
            Job::Truncate { from } => {
                round.batch.delete_range_cf(db.log(), key(from), key(u64::MAX));
                round.cut = Some(round.cut.map_or(from, |cut| cut.min(from)));
                round.mark.next = round.mark.next.min(from);
            }
            Job::Purge { upto } => {
                let value = codec::encode(codec::PURGED, &upto).map_err(|e| e.to_string())?;
                round.batch.delete_range_cf(db.log(), key(0), key(upto.index + 1));
                round.batch.put_cf(db.meta(), key::PURGED, value);
                // After a snapshot the log ends beyond everything it ever held.
                round.mark.next = round.mark.next.max(upto.index + 1);
                round.purges = true;
            }
            Job::Persist => round.tables = true,
            Job::Install { generation, applied, done } => {
                db.switch_tables(&mut round.batch, self.thread.generation, generation)
                    .map_err(|e| e.to_string())?;
                db.put_applied(&mut round.batch, &applied).map_err(|e| e.to_string())?;
                self.drop_older(&applied);
                round.generation = Some(generation);
                round.persisted = Some(applied.state.clone());
                round.answers.push(Answer::Installed(done));
            }
            Job::Stop { done } => round.stop = Some(done),
        }
        Ok(())
    }

    /// A state that waits to be written and is older than an installed one must never follow it.
    fn drop_older(&self, applied: &AppliedState) {
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.as_ref().is_some_and(|waiting| waiting.last <= applied.last) {
            *slot = None;
        }
    }

    /// The difference between the tables on disk and the newest applied state.
    fn add_tables(&self, round: &mut Round) -> Result<(), String> {
        let due = round.tables || round.stop.is_some();
        if !round.purges && (!due || self.thread.health.critical()) {
            // They can wait: the log has every step.
            return Ok(());
        }
        let newest = self.slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(applied) = newest else { return Ok(()) };
        let before = round.persisted.as_ref().unwrap_or(&self.thread.persisted);
        let generation = round.generation.unwrap_or(self.thread.generation);
        let db = &self.thread.db;
        db.put_changes(&mut round.batch, generation, before, &applied.state)
            .and_then(|()| db.put_applied(&mut round.batch, &applied))
            .map_err(|e| e.to_string())?;
        round.persisted = Some(applied.state);
        Ok(())
    }

    fn write(&mut self, round: &mut Round) -> Result<(), String> {
        if round.batch.is_empty() {
            return Ok(());
        }
        let mut options = WriteOptions::default();
        options.set_sync(true);
        let batch = std::mem::take(&mut round.batch);
        self.thread.health.write_begins();
        let begun = Instant::now();
        (self.thread.hook)(Point::BeforeWrite);
        let cut = round.cut.map_or(Ok(()), |cut| self.thread.mark.lower(cut));
        cut.map_err(|e| format!("the mark of the newest durable entry: {e}"))?;
        let written = self.thread.db.write(batch, &options);
        self.thread.health.write_ends();
        written.map_err(|e| self.explain(&e))?;
        metrics::histogram!("muster_raft_fsync_seconds").record(begun.elapsed());
        metrics::histogram!("muster_raft_entries_per_fsync").record(round.entries as f64);
        let raised = self.thread.mark.raise(round.mark);
        raised.map_err(|e| format!("the mark of the newest durable entry: {e}"))?;
        (self.thread.hook)(Point::AfterWrite);
        Ok(())
    }

    fn explain(&self, error: &rocksdb::Error) -> String {
        if !error.as_ref().contains("No space left") {
            return format!("log: {error}");
        }
        let _ = std::fs::remove_file(&self.thread.reserve);
        format!("disk full while writing the log: {error}; free some space and start again")
    }

    fn answer(&mut self, round: Round) -> Option<oneshot::Sender<()>> {
        if let Some(generation) = round.generation {
            self.thread.generation = generation;
        }
        if let Some(state) = round.persisted {
            self.thread.persisted = state;
        }
        (self.thread.hook)(Point::BeforeAnswer);
        for answer in round.answers {
            match answer {
                Answer::Appended { next, cuts, done } => {
                    self.thread.log.durable(next, cuts);
                    done.io_completed(Ok(()));
                }
                Answer::Voted(vote, done) => {
                    self.thread.log.set_vote(vote);
                    let _ = done.send(Ok(()));
                }
                Answer::Installed(done) => {
                    (self.thread.hook)(Point::InstallDone);
                    let _ = done.send(Ok(()));
                }
            }
        }
        round.stop
    }
}

impl Round {
    /// Tells everyone who waits that nothing was made durable.
    fn fail(self, why: &str) {
        let error = || io::Error::other(why.to_owned());
        for answer in self.answers {
            match answer {
                Answer::Appended { done, .. } => done.io_completed(Err(error())),
                Answer::Voted(_, done) | Answer::Installed(done) => drop(done.send(Err(error()))),
            }
        }
    }
}
