//! Opens the database, checks what it says about itself and loads it: refused or served, never
//! half.
//!
//! Families: `log`, `meta` and one per table of the model. It does not know what a row means.
//! Invariants: the log is contiguous, ends where the mark says, and every record in it decodes;
//! the tables are of one generation; a directory belongs to one manager of one fleet.

use crate::codec;
use crate::disk::{Mark, Marked};
use crate::error::StoreError;
use crate::limits::LOG_CACHE_BYTES_MAX;
use crate::log::{Tail, size_of};
use crate::machine::AppliedState;
use crate::rows;
use crate::types::{LogId, RaftEntry, StoredMembership, Vote};
use crate::{frames, tables, tuning};
use muster_model::{Index, Row, State, Table};
use rocksdb::{ColumnFamily, DB, Direction, IteratorMode, WriteBatch, WriteOptions};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

/// The key of a log index; also a module of the keys in `meta`.
pub fn key(index: u64) -> [u8; 8] {
    index.to_be_bytes()
}

pub mod key {
    pub const VOTE: &[u8] = b"vote";
    pub const PURGED: &[u8] = b"purged";
    pub const APPLIED: &[u8] = b"applied";
    pub const IDENTITY: &[u8] = b"identity";
    pub const GENERATION: &[u8] = b"generation";
    /// The generation that a snapshot is being written under.
    pub const INSTALLING: &[u8] = b"installing";
}

/// Whose directory this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Which set of managers.
    pub fleet: u128,
    pub raft_id: u64,
    /// Random: tells a wiped disk from the one that was added.
    pub disk: u64,
}

/// The database and its path for messages.
///
/// The writer thread owns it, so that it is closed once that thread was joined; everybody else has
/// a [`Borrowed`] one.
pub struct Db {
    rocks: DB,
    path: PathBuf,
}

/// A database for as long as the writer thread has it open.
#[derive(Clone)]
pub struct Borrowed(Weak<Db>);

impl Borrowed {
    pub fn of(db: &Arc<Db>) -> Self {
        Self(Arc::downgrade(db))
    }

    /// For one operation; fails once the database is closed.
    pub fn get(&self) -> io::Result<Arc<Db>> {
        self.0.upgrade().ok_or_else(|| io::Error::other("the database is closed"))
    }
}

/// Everything that was found.
pub struct Opened {
    pub db: Arc<Db>,
    pub mark: Mark,
    pub tail: Tail,
    pub applied: AppliedState,
    pub generation: u8,
    pub identity: Identity,
}

/// Opens `dir`, or formats it if it is empty. `wanted.disk` is used only then.
pub fn open(dir: &Path, wanted: Identity) -> Result<Opened, StoreError> {
    std::fs::create_dir_all(dir).map_err(|e| StoreError::io(dir, e))?;
    let path = dir.join("db");
    let mark_path = dir.join("log.mark");
    let marked = mark_path.exists();
    if marked && !path.join("CURRENT").exists() {
        return Err(StoreError::corrupt(&path, "the database is gone, its log was not empty"));
    }
    let db = Arc::new(Db::open(dir, path)?);
    let identity = db.identify(wanted, marked)?;
    let log = db.load_log()?;
    let vote: Option<Vote> = db.meta_value(codec::VOTE, key::VOTE)?;
    if !marked && (log.last.is_some() || vote.is_some()) {
        return Err(StoreError::corrupt(&mark_path, "missing, though the log is not empty"));
    }
    let mark = Mark::open(&mark_path, !marked)?;
    check_mark(&mark_path, mark.get(), &log, vote)?;
    let generation = db.meta_value(codec::GENERATION, key::GENERATION)?.unwrap_or(0);
    db.clear_install(generation)?;
    let applied = db.load_applied(generation)?;
    check_applied(&db, &log, &applied)?;
    let tail = Tail { vote, ..log };
    Ok(Opened { db, mark, tail, applied, generation, identity })
}

/// Less in the log than was once durable means that something is lost.
fn check_mark(path: &Path, mark: Marked, log: &Tail, vote: Option<Vote>) -> Result<(), StoreError> {
    let next = log.last.map_or(0, |id| id.index + 1);
    let term = vote.map_or(0, |vote| vote.leader_id.term);
    if next < mark.next {
        let why = format!("entries up to {} were durable, the log ends at {next}", mark.next);
        return Err(StoreError::corrupt(path, why));
    }
    if term < mark.term {
        let why = format!("a vote in term {} was durable, the stored one is {term}", mark.term);
        return Err(StoreError::corrupt(path, why));
    }
    Ok(())
}

/// Applied entries were in the log or in a snapshot; what was purged was applied.
fn check_applied(db: &Db, log: &Tail, applied: &AppliedState) -> Result<(), StoreError> {
    match (log.purged, applied.last) {
        (Some(purged), last) if last < Some(purged) => Err(StoreError::corrupt(
            &db.path,
            format!("the log is purged up to {purged}, the tables end before"),
        )),
        _ => Ok(()),
    }
}

fn row_key(generation: u8, name: &[u8]) -> Vec<u8> {
    [&[generation], name].concat()
}

impl Db {
    fn open(dir: &Path, path: PathBuf) -> Result<Self, StoreError> {
        let options = tuning::options();
        let known = tuning::families();
        if path.join("CURRENT").exists() {
            frames::check(&path)?;
            let found = DB::list_cf(&options, &path).map_err(|e| StoreError::rocks(&path, e))?;
            if let Some(newer) = found.iter().find(|name| !known.contains(&name.as_str())) {
                return Err(StoreError::UpgradeRequired {
                    place: format!("{}: table {newer:?}", path.display()),
                    source: codec::Error::UnknownFormat { what: "table", found: 0, known: 0 },
                });
            }
            tables::check(dir, &found)?;
        }
        let descriptors = known.iter().copied().map(tuning::family);
        match DB::open_cf_descriptors(&options, &path, descriptors) {
            Ok(rocks) => {
                tables::promise(dir, &known)?;
                Ok(Self { rocks, path })
            }
            Err(e) if e.as_ref().contains("lock") => Err(StoreError::Foreign {
                why: format!("another process uses this data directory ({e})"),
                path,
            }),
            Err(e) => Err(StoreError::rocks(&path, e)),
        }
    }

    #[allow(clippy::expect_used)] // `open` opens every family that this is asked for
    fn family(&self, name: &str) -> &ColumnFamily {
        self.rocks.cf_handle(name).expect("family was opened with the database")
    }
    pub fn log(&self) -> &ColumnFamily {
        self.family(tuning::LOG)
    }
    pub fn meta(&self) -> &ColumnFamily {
        self.family(tuning::META)
    }
    fn table(&self, table: Table) -> &ColumnFamily {
        self.family(rows::name(table))
    }

    pub fn write(&self, batch: WriteBatch, options: &WriteOptions) -> Result<(), rocksdb::Error> {
        self.rocks.write_opt(batch, options)
    }

    /// Makes everything that was written durable.
    pub fn sync(&self) -> Result<(), rocksdb::Error> {
        self.rocks.flush_wal(true)
    }

    fn rocks(&self, e: rocksdb::Error) -> StoreError {
        StoreError::rocks(&self.path, e)
    }

    fn place(&self, what: impl std::fmt::Display) -> String {
        format!("{}: {what}", self.path.display())
    }

    fn meta_value<T: DeserializeOwned>(
        &self,
        kind: codec::Kind,
        key: &[u8],
    ) -> Result<Option<T>, StoreError> {
        let found = self.rocks.get_pinned_cf(self.meta(), key).map_err(|e| self.rocks(e))?;
        let Some(bytes) = found else { return Ok(None) };
        let name = String::from_utf8_lossy(key);
        let place = || self.place(format_args!("meta key {name:?}"));
        codec::decode(kind, &bytes).map(Some).map_err(|e| StoreError::codec(place(), e))
    }

    /// The identity of the directory; written if it is new, compared if not.
    fn identify(&self, wanted: Identity, marked: bool) -> Result<Identity, StoreError> {
        let foreign = |why| Err(StoreError::Foreign { path: self.path.clone(), why });
        match self.meta_value::<Identity>(codec::IDENTITY, key::IDENTITY)? {
            Some(found) if found.raft_id != wanted.raft_id => foreign(format!(
                "belongs to manager {}, not to manager {}",
                found.raft_id, wanted.raft_id
            )),
            Some(found) if found.fleet != wanted.fleet => foreign(format!(
                "belongs to the fleet {:032x}, not to {:032x}",
                found.fleet, wanted.fleet
            )),
            Some(found) => Ok(found),
            None if marked => Err(StoreError::Corrupt {
                place: self.place("meta key \"identity\""),
                why: "missing".into(),
            }),
            None => {
                let bytes = codec::encode(codec::IDENTITY, &wanted)
                    .map_err(|e| StoreError::codec(self.place("identity"), e))?;
                let mut options = WriteOptions::default();
                options.set_sync(true);
                let put = self.rocks.put_cf_opt(self.meta(), key::IDENTITY, bytes, &options);
                put.map_err(|e| self.rocks(e))?;
                Ok(wanted)
            }
        }
    }

    fn load_log(&self) -> Result<Tail, StoreError> {
        let purged: Option<LogId> = self.meta_value(codec::PURGED, key::PURGED)?;
        let first = purged.map_or(0, |id| id.index + 1);
        let mut tail = Tail {
            purged,
            last: purged,
            first,
            sizes: VecDeque::new(),
            bytes: 0,
            cache: VecDeque::new(),
            cache_bytes: 0,
            durable_next: first,
            cuts: 0,
            vote: None,
        };
        let mut entries = self.rocks.iterator_cf(self.log(), IteratorMode::Start);
        while let Some((index, entry)) = self.next_entry(&mut entries)? {
            if index != tail.durable_next {
                return Err(StoreError::Corrupt {
                    place: self.place("log"),
                    why: format!("entry {} is missing, {index} is there", tail.durable_next),
                });
            }
            let size = size_of(&entry);
            tail.sizes.push_back(u32::try_from(size).unwrap_or(u32::MAX));
            tail.bytes += size as u64;
            tail.last = Some(entry.log_id);
            tail.durable_next = index + 1;
            tail.cache_bytes += size;
            tail.cache.push_back(entry);
            while tail.cache_bytes > LOG_CACHE_BYTES_MAX
                && let Some(oldest) = tail.cache.pop_front()
            {
                tail.cache_bytes -= size_of(&oldest);
            }
        }
        Ok(tail)
    }

    fn next_entry(
        &self,
        entries: &mut rocksdb::DBIterator<'_>,
    ) -> Result<Option<(u64, RaftEntry)>, StoreError> {
        let Some(next) = entries.next() else { return Ok(None) };
        let (name, value) = next.map_err(|e| self.rocks(e))?;
        let index = <[u8; 8]>::try_from(&*name).map(u64::from_be_bytes).map_err(|_| {
            StoreError::Corrupt { place: self.place("log"), why: format!("key {name:?}") }
        })?;
        let entry = codec::decode_log(index, &value)
            .map_err(|e| StoreError::codec(self.place(format_args!("log entry {index}")), e))?;
        Ok(Some((index, entry)))
    }

    /// Entries from `start` to below `end`. Those before the first may have been purged.
    pub fn read_log(&self, start: u64, end: u64) -> Result<Vec<RaftEntry>, StoreError> {
        let from = key(start);
        let mode = IteratorMode::From(&from, Direction::Forward);
        let mut entries = self.rocks.iterator_cf(self.log(), mode);
        let mut found: Vec<RaftEntry> = Vec::new();
        while let Some((index, entry)) = self.next_entry(&mut entries)? {
            if index >= end {
                break;
            }
            if found.last().is_some_and(|last| last.log_id.index + 1 != index) {
                return Err(StoreError::Corrupt {
                    place: self.place("log"),
                    why: format!("a hole before entry {index}"),
                });
            }
            found.push(entry);
        }
        match found.last() {
            Some(last) if last.log_id.index + 1 != end => Err(StoreError::Corrupt {
                place: self.place("log"),
                why: format!("entries after {} are missing", last.log_id.index),
            }),
            _ => Ok(found),
        }
    }

    fn load_applied(&self, generation: u8) -> Result<AppliedState, StoreError> {
        let applied: Option<(Option<LogId>, StoredMembership)> =
            self.meta_value(codec::APPLIED, key::APPLIED)?;
        let Some((last, membership)) = applied else {
            return Ok(AppliedState::default());
        };
        let mut found = Vec::new();
        for table in Table::ALL {
            let from = [generation];
            let mode = IteratorMode::From(&from, Direction::Forward);
            for item in self.rocks.iterator_cf(self.table(table), mode) {
                let (name, value) = item.map_err(|e| self.rocks(e))?;
                let Some((&of, name)) = name.split_first() else { continue };
                if of != generation {
                    break;
                }
                let place = || self.place(format_args!("{} row {name:02x?}", rows::name(table)));
                let row = rows::decode_at(table, name, &value);
                found.push(row.map_err(|e| StoreError::codec(place(), e))?);
            }
        }
        let index = Index(last.map_or(0, |id| id.index));
        let state = State::restore(found.into_iter(), index)
            .map_err(|e| StoreError::Corrupt { place: self.place("tables"), why: e.to_string() })?;
        Ok(AppliedState { state: Arc::new(state), last, membership: Arc::new(membership) })
    }

    /// Drops what an install that was cut off has left behind.
    fn clear_install(&self, generation: u8) -> Result<(), StoreError> {
        let begun: Option<u8> = self.meta_value(codec::GENERATION, key::INSTALLING)?;
        let Some(begun) = begun else { return Ok(()) };
        tracing::warn!("a snapshot was being installed when this manager stopped: starting over");
        let mut batch = WriteBatch::default();
        if begun != generation {
            self.drop_generation(&mut batch, begun);
        }
        batch.delete_cf(self.meta(), key::INSTALLING);
        self.rocks.write(batch).map_err(|e| self.rocks(e))
    }

    fn drop_generation(&self, batch: &mut WriteBatch, generation: u8) {
        for table in Table::ALL {
            batch.delete_range_cf(self.table(table), [generation], [generation + 1]);
        }
    }

    /// Says that rows of `generation` follow, after dropping any that are there.
    pub fn begin_install(&self, generation: u8) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        self.drop_generation(&mut batch, generation);
        let value = codec::encode(codec::GENERATION, &generation)
            .map_err(|e| StoreError::codec(self.place("generation"), e))?;
        batch.put_cf(self.meta(), key::INSTALLING, value);
        self.rocks.write(batch).map_err(|e| self.rocks(e))
    }

    /// The generation the tables are of.
    pub fn generation(&self) -> Result<u8, StoreError> {
        Ok(self.meta_value(codec::GENERATION, key::GENERATION)?.unwrap_or(0))
    }

    /// Makes the rows of `new` the tables and drops those of `old`.
    pub fn switch_tables(
        &self,
        batch: &mut WriteBatch,
        old: u8,
        new: u8,
    ) -> Result<(), codec::Error> {
        self.drop_generation(batch, old);
        let value = codec::encode(codec::GENERATION, &new)?;
        batch.put_cf(self.meta(), key::GENERATION, value);
        batch.delete_cf(self.meta(), key::INSTALLING);
        Ok(())
    }

    /// One row into a batch; returns its size.
    pub fn put_row(
        &self,
        batch: &mut WriteBatch,
        generation: u8,
        row: &Row,
    ) -> Result<usize, codec::Error> {
        let value = rows::encode(row)?;
        let full = row_key(generation, &row.key());
        batch.put_cf(self.table(row.table()), &full, &value);
        Ok(full.len() + value.len())
    }

    /// What differs between two states, as writes.
    pub fn put_changes(
        &self,
        batch: &mut WriteBatch,
        generation: u8,
        before: &State,
        after: &State,
    ) -> Result<(), codec::Error> {
        for (table, name, row) in State::diff(before, after).rows() {
            match row {
                Some(row) => drop(self.put_row(batch, generation, &row)?),
                None => batch.delete_cf(self.table(table), row_key(generation, &name)),
            }
        }
        Ok(())
    }

    pub fn put_applied(
        &self,
        batch: &mut WriteBatch,
        applied: &AppliedState,
    ) -> Result<(), codec::Error> {
        let value = codec::encode(codec::APPLIED, &(applied.last, &*applied.membership))?;
        batch.put_cf(self.meta(), key::APPLIED, value);
        Ok(())
    }
}

#[cfg(test)]
impl Db {
    pub fn put_raw_meta(&self, key: &[u8], value: &[u8]) {
        self.rocks.put_cf(self.meta(), key, value).unwrap();
    }
    pub fn delete_raw_log(&self, index: u64) {
        self.rocks.delete_cf(self.log(), key(index)).unwrap();
    }
}
