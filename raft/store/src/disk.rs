//! What the store needs from the file system beside RocksDB: free space, a reserve, and the mark.
//!
//! The mark is a few bytes outside of RocksDB that name the newest durable log index and term.
//! RocksDB cannot tell a last record whose length field was damaged from a torn tail; the mark can.
//! Invariant: the mark never promises more than was fsynced: it is raised after an fsync, and
//! lowered durably before the log is cut.

use crate::error::StoreError;
use crate::limits::{DISK_FREE_CRITICAL, DISK_FREE_REFUSE, DISK_FREE_RESUME, DISK_RESERVE};
use nix::fcntl::posix_fallocate;
use nix::sys::statvfs::statvfs;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const MARK_MAGIC: &[u8; 4] = b"MMK1";
const MARK_BYTES: usize = 24;

/// The newest index and term that are known to be on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marked {
    /// One more than the last durable index; 0 if there is none.
    pub next: u64,
    pub term: u64,
}

/// The mark file, open for as long as the log is.
pub struct Mark {
    file: File,
    now: Marked,
}

impl Mark {
    /// Opens the mark, or makes one where no log has been yet.
    pub fn open(path: &Path, fresh: bool) -> Result<Self, StoreError> {
        let io = |e| StoreError::io(path, e);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(fresh).truncate(false);
        let file = options.open(path).map_err(io)?;
        let mut mark = Self { file, now: Marked::default() };
        if fresh {
            mark.write(mark.now).map_err(io)?;
            mark.file.sync_all().map_err(io)?;
            if let Some(dir) = path.parent() {
                File::open(dir).and_then(|d| d.sync_all()).map_err(io)?;
            }
            return Ok(mark);
        }
        let mut bytes = [0; MARK_BYTES];
        mark.file.read_exact_at(&mut bytes, 0).map_err(io)?;
        mark.now = parse(&bytes).ok_or_else(|| {
            StoreError::corrupt(path, "the mark of the newest durable entry is not readable")
        })?;
        Ok(mark)
    }

    pub fn get(&self) -> Marked {
        self.now
    }

    /// Says what an fsync has just made durable. Not itself durable: it may only lag.
    pub fn raise(&mut self, to: Marked) -> io::Result<()> {
        if to == self.now {
            return Ok(());
        }
        self.write(to)
    }

    /// Promises less, durably, before the log is cut.
    pub fn lower(&mut self, next: u64) -> io::Result<()> {
        if next < self.now.next {
            self.write(Marked { next, term: self.now.term })?;
            self.file.sync_data()?;
        }
        Ok(())
    }

    fn write(&mut self, to: Marked) -> io::Result<()> {
        let mut bytes = [0; MARK_BYTES];
        bytes[..4].copy_from_slice(MARK_MAGIC);
        bytes[4..12].copy_from_slice(&to.next.to_le_bytes());
        bytes[12..20].copy_from_slice(&to.term.to_le_bytes());
        let sum = crc32fast::hash(&bytes[..20]);
        bytes[20..].copy_from_slice(&sum.to_le_bytes());
        self.file.write_all_at(&bytes, 0)?;
        self.now = to;
        Ok(())
    }
}

fn parse(bytes: &[u8; MARK_BYTES]) -> Option<Marked> {
    let number = |range: std::ops::Range<usize>| -> Option<u64> {
        Some(u64::from_le_bytes(bytes.get(range)?.try_into().ok()?))
    };
    let sum = u32::from_le_bytes(bytes[20..].try_into().ok()?);
    if &bytes[..4] != MARK_MAGIC || crc32fast::hash(&bytes[..20]) != sum {
        return None;
    }
    Some(Marked { next: number(4..12)?, term: number(12..20)? })
}

/// Thresholds of free space; lower ones in tests on small file systems.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceLimits {
    pub refuse_below: u64,
    pub resume_above: u64,
    pub critical_below: u64,
    pub reserve: u64,
}

impl SpaceLimits {
    pub const DEFAULT: Self = Self {
        refuse_below: DISK_FREE_REFUSE,
        resume_above: DISK_FREE_RESUME,
        critical_below: DISK_FREE_CRITICAL,
        reserve: DISK_RESERVE,
    };
}

/// What free space allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Room {
    Enough,
    /// No new entries, and why.
    Refuse(String),
    /// Not one write more: no votes either, and why.
    Critical(String),
}

/// Decides from free space what may be written.
pub struct Space {
    dir: PathBuf,
    reserve: PathBuf,
    limits: SpaceLimits,
    refusing: bool,
}

/// A file that only takes up room, so that there is some when it is needed.
pub fn reserve(dir: &Path) -> PathBuf {
    dir.join("reserve")
}

impl Space {
    pub fn new(dir: &Path, limits: SpaceLimits) -> Self {
        Self { dir: dir.to_owned(), reserve: reserve(dir), limits, refusing: false }
    }

    /// Looks at the disk; keeps or gives up the reserve.
    pub fn look(&mut self) -> io::Result<Room> {
        let mut free = self.free()?;
        let held = self.reserve.exists();
        if free < self.limits.critical_below && held {
            tracing::warn!(free, "disk nearly full: giving up the reserve file");
            std::fs::remove_file(&self.reserve)?;
            free = self.free()?;
        } else if self.limits.reserve > 0
            && !held
            && free > self.limits.resume_above + self.limits.reserve
        {
            self.hold()?;
        }
        self.refusing = match self.refusing {
            true => free <= self.limits.resume_above,
            false => free < self.limits.refuse_below,
        };
        let why = format!(
            "disk full: {} MiB free in {}, writes resume above {} MiB",
            free >> 20,
            self.dir.display(),
            self.limits.resume_above >> 20
        );
        Ok(match self.refusing {
            false => Room::Enough,
            true if free < self.limits.critical_below => Room::Critical(why),
            true => Room::Refuse(why),
        })
    }

    /// Bytes an unprivileged process may still use.
    fn free(&self) -> io::Result<u64> {
        let stat = statvfs(&self.dir).map_err(io::Error::from)?;
        Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
    }

    fn hold(&self) -> io::Result<()> {
        let file = File::create(&self.reserve)?;
        let length = i64::try_from(self.limits.reserve).unwrap_or(i64::MAX);
        if let Err(e) = posix_fallocate(&file, 0, length) {
            // Somebody else took the room in between: better no reserve than half of one.
            std::fs::remove_file(&self.reserve)?;
            tracing::warn!(error = %e, "no room for the reserve file");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mark_survives_reopening_and_notices_damage() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mark");
        let mut mark = Mark::open(&path, true).unwrap();
        mark.raise(Marked { next: 7, term: 3 }).unwrap();
        drop(mark);
        let mut mark = Mark::open(&path, false).unwrap();
        assert_eq!(mark.get(), Marked { next: 7, term: 3 });
        mark.lower(9).unwrap();
        assert_eq!(mark.get().next, 7, "lowering never raises");
        mark.lower(2).unwrap();
        drop(mark);
        let bytes = std::fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            std::fs::write(&path, &bad).unwrap();
            assert!(Mark::open(&path, false).is_err(), "flip at {at} was not noticed");
        }
    }

    #[test]
    fn space_refuses_below_and_resumes_above() {
        let dir = tempfile::tempdir().unwrap();
        let limits = |refuse_below, resume_above| SpaceLimits {
            refuse_below,
            resume_above,
            critical_below: 0,
            reserve: 4096,
        };
        let mut space = Space::new(dir.path(), limits(u64::MAX / 4, u64::MAX / 2));
        let Room::Refuse(why) = space.look().unwrap() else { panic!("not refused") };
        assert!(why.contains("disk full"), "{why}");
        space.limits = limits(0, u64::MAX / 2);
        let between = space.look().unwrap();
        assert!(matches!(between, Room::Refuse(_)), "between the thresholds it stays refused");
        space.limits.critical_below = u64::MAX;
        assert!(matches!(space.look().unwrap(), Room::Critical(_)));
        space.limits = limits(0, 1);
        assert_eq!(space.look().unwrap(), Room::Enough);
        // The reserve is there again once there is room for it.
        space.look().unwrap();
        assert_eq!(std::fs::metadata(dir.path().join("reserve")).unwrap().len(), 4096);
    }
}
