//! The Raft log as openraft sees it: append, read, truncate, purge, and the vote.
//!
//! Its newest part is kept in memory; the writer thread (`writer.rs`) makes it durable. It does
//! not know what an entry means. Invariants: indexes are contiguous from `first` to `last`; what
//! is not yet durable is always in memory; an append is readable when it returns.

use crate::limits::{APPEND_BYTES_MAX, LOG_CACHE_BYTES_MAX, READ_ENTRIES_MAX};
use crate::open::Borrowed;
use crate::types::{LogId, RaftEntry, RaftPayload, Types, Vote};
use crate::writer::{Job, Writer};
use futures::stream::{self, Stream};
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};
use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes a log entry takes beside its data: key, head and RocksDB's own.
const ENTRY_OVERHEAD: usize = 48;

/// What memory knows of the log.
pub struct Tail {
    pub purged: Option<LogId>,
    /// The newest entry, or `purged` if there is none.
    pub last: Option<LogId>,
    /// Index of the first entry that is kept.
    pub first: u64,
    /// Size of each kept entry, from `first`.
    pub sizes: VecDeque<u32>,
    pub bytes: u64,
    /// The newest entries, up to `last`.
    pub cache: VecDeque<RaftEntry>,
    pub cache_bytes: usize,
    /// Entries below this index are in RocksDB.
    pub durable_next: u64,
    /// Counts truncations: an append from before one says nothing about what followed.
    pub cuts: u64,
    pub vote: Option<Vote>,
}

impl Tail {
    fn next(&self) -> u64 {
        self.first + self.sizes.len() as u64
    }

    fn cache_first(&self) -> u64 {
        self.next() - self.cache.len() as u64
    }

    fn push(&mut self, entry: RaftEntry) -> io::Result<()> {
        let index = entry.log_id.index;
        if self.sizes.is_empty() {
            self.first = index;
        } else if index != self.next() {
            let next = self.next();
            return Err(io::Error::other(format!(
                "append of {index} to a log that ends at {next}"
            )));
        }
        let size = size_of(&entry);
        self.sizes.push_back(u32::try_from(size).unwrap_or(u32::MAX));
        self.bytes += size as u64;
        self.cache_bytes += size;
        self.last = Some(entry.log_id);
        self.cache.push_back(entry);
        Ok(())
    }

    /// Drops from memory what is durable and beyond the cache's bound.
    fn evict(&mut self) {
        while self.cache_bytes > LOG_CACHE_BYTES_MAX {
            match self.cache.front() {
                Some(entry) if entry.log_id.index < self.durable_next => {
                    self.cache_bytes -= size_of(entry);
                    self.cache.pop_front();
                }
                _ => return,
            }
        }
    }

    /// Forgets entries from `from` on. False if there are none.
    fn cut(&mut self, from: u64, last: Option<LogId>) -> bool {
        if from >= self.next() {
            return false;
        }
        while self.next() > from.max(self.first) {
            self.bytes -= u64::from(self.sizes.pop_back().unwrap_or(0));
            if let Some(entry) = self.cache.pop_back() {
                self.cache_bytes -= size_of(&entry);
            }
        }
        self.durable_next = self.durable_next.min(from);
        self.cuts += 1;
        self.last = last.max(self.purged);
        true
    }

    /// Forgets entries up to and with `upto`.
    fn purge(&mut self, upto: LogId) {
        while self.first <= upto.index && !self.sizes.is_empty() {
            if self.cache_first() == self.first
                && let Some(entry) = self.cache.pop_front()
            {
                self.cache_bytes -= size_of(&entry);
            }
            self.bytes -= u64::from(self.sizes.pop_front().unwrap_or(0));
            self.first += 1;
        }
        if self.sizes.is_empty() {
            self.first = self.first.max(upto.index + 1);
            self.durable_next = self.durable_next.max(self.first);
        }
        self.purged = self.purged.max(Some(upto));
        self.last = self.last.max(Some(upto));
    }
}

/// About what an entry takes on disk and in memory.
pub fn size_of(entry: &RaftEntry) -> usize {
    ENTRY_OVERHEAD
        + match &entry.payload {
            RaftPayload::Blank => 0,
            RaftPayload::Normal(proposal) => proposal.bytes().len(),
            RaftPayload::Membership(members) => 64 * members.nodes().count(),
        }
}

/// The part of the log that its readers, its writer thread and its owner share.
pub struct LogShared {
    db: Borrowed,
    tail: Mutex<Tail>,
}

impl LogShared {
    pub fn new(db: Borrowed, tail: Tail) -> Self {
        Self { db, tail: Mutex::new(tail) }
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writer made entries below `next` durable, all appended after `cuts` truncations.
    pub fn durable(&self, next: u64, cuts: u64) {
        let mut tail = self.tail();
        if tail.cuts == cuts {
            tail.durable_next = tail.durable_next.max(next);
            tail.evict();
        }
    }

    pub fn set_vote(&self, vote: Vote) {
        self.tail().vote = Some(vote);
    }

    /// About the bytes of the kept entries.
    pub fn bytes(&self) -> u64 {
        self.tail().bytes
    }

    /// The index up to which entries must go so that at most `keep` bytes remain.
    pub fn purge_point(&self, keep: u64) -> Option<u64> {
        let tail = self.tail();
        let mut bytes = tail.bytes;
        let mut index = tail.first;
        for size in &tail.sizes {
            if bytes <= keep {
                break;
            }
            bytes -= u64::from(*size);
            index += 1;
        }
        index.checked_sub(1).filter(|_| index > tail.first)
    }

    /// Entries from `start` to below `end` that are in memory, and up to where RocksDB must be
    /// asked for the ones before them.
    fn cached(&self, start: u64, end: u64) -> (u64, u64, Vec<RaftEntry>) {
        let tail = self.tail();
        let start = start.max(tail.first);
        let end = end.min(tail.next()).max(start);
        let from = tail.cache_first().clamp(start, end);
        let skip = from.saturating_sub(tail.cache_first());
        let entries = tail.cache.iter().skip(skip as usize).take((end - from) as usize);
        (start, from, entries.cloned().collect())
    }

    async fn read(&self, start: u64, end: u64) -> io::Result<Vec<RaftEntry>> {
        let (start, from, cached) = self.cached(start, end);
        if from == start {
            return Ok(cached);
        }
        let db = self.db.get()?;
        let read = tokio::task::spawn_blocking(move || db.read_log(start, from));
        let mut entries = read.await.map_err(io::Error::other)?.map_err(io::Error::other)?;
        // Missing ones at the front can only have been purged meanwhile.
        let got = start + (from - start - entries.len() as u64);
        let first = entries.first().map_or(from, |e| e.log_id.index);
        if first != got || (first > start && self.tail().first < first) {
            return Err(io::Error::other(format!("log entries {start}..{first} are missing")));
        }
        entries.extend(cached);
        Ok(entries)
    }
}

/// openraft's handle of the log; readers are clones of it.
#[derive(Clone)]
pub struct Log {
    shared: Arc<LogShared>,
    writer: Writer,
}

impl Log {
    pub fn new(shared: Arc<LogShared>, writer: Writer) -> Self {
        Self { shared, writer }
    }
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<RaftEntry>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (start, end) = bounds(&range);
        self.shared.read(start, end).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.shared.tail().vote)
    }

    /// At most [`APPEND_BYTES_MAX`], but at least one entry.
    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<RaftEntry>, io::Error> {
        let mut entries = self.shared.read(start, end.min(start + READ_ENTRIES_MAX)).await?;
        let mut bytes = 0;
        let fits = entries.iter().take_while(|entry| {
            let first = bytes == 0;
            bytes += size_of(entry);
            first || bytes <= APPEND_BYTES_MAX
        });
        let keep = fits.count();
        entries.truncate(keep);
        Ok(entries)
    }

    /// In pieces of [`READ_ENTRIES_MAX`], so that a long catch-up is never in memory at once.
    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<RaftEntry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        use futures::StreamExt;
        let (start, end) = bounds(&range);
        let shared = self.shared.clone();
        stream::unfold(Some(start), move |at| {
            let shared = shared.clone();
            async move {
                let at = at.filter(|at| *at < end)?;
                let read = shared.read(at, end.min(at.saturating_add(READ_ENTRIES_MAX))).await;
                Some(match read {
                    Ok(entries) => {
                        let next = entries.last().map(|entry| entry.log_id.index + 1);
                        (entries.into_iter().map(Ok).collect::<Vec<_>>(), next)
                    }
                    Err(e) => (vec![Err(e)], None),
                })
            }
        })
        .flat_map(stream::iter)
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let tail = self.shared.tail();
        Ok(LogState { last_purged_log_id: tail.purged, last_log_id: tail.last })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.writer.vote(*vote).await
    }

    async fn append<I>(&mut self, entries: I, done: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<RaftEntry> = entries.into_iter().collect();
        let span = tracing::debug_span!("raft.append", entries = entries.len());
        let cuts = span.in_scope(|| {
            let mut tail = self.shared.tail();
            for entry in &entries {
                tail.push(entry.clone())?;
            }
            Ok::<_, io::Error>(tail.cuts)
        })?;
        self.writer.send(Job::Append { entries, cuts, done }).await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let from = last.map_or(0, |id| id.index + 1);
        if !self.shared.tail().cut(from, last) {
            return Ok(());
        }
        self.writer.send(Job::Truncate { from }).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        self.shared.tail().purge(upto);
        self.writer.send(Job::Purge { upto }).await
    }
}
