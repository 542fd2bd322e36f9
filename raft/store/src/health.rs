//! What this manager knows of its own fitness to lead: its disk, and who answers it.
//!
//! Written by the writer thread, the network and the guard; read by everyone. It decides nothing.

use crate::disk::Room;
use crate::limits::DISK_STALL;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Shared facts about this process.
pub struct Health {
    begun: Instant,
    /// Milliseconds after `begun`, plus one, at which the running write began; 0 if none runs.
    writing: AtomicU64,
    /// Milliseconds after `begun`, plus one, at which a leader was last heard; 0 if never.
    heard: AtomicU64,
    /// The disk must not be written to at all.
    critical: AtomicBool,
    /// The leader says that this manager is no member any more.
    dismissed: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    refusing: Option<String>,
    answered: BTreeMap<u64, Instant>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            writing: AtomicU64::new(0),
            heard: AtomicU64::new(0),
            critical: AtomicBool::new(false),
            dismissed: AtomicBool::new(false),
            inner: Mutex::default(),
        }
    }
}

impl Health {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    pub fn write_begins(&self) {
        self.writing.store(self.now(), Ordering::Relaxed);
    }
    pub fn write_ends(&self) {
        self.writing.store(0, Ordering::Relaxed);
    }
    /// True if one write has been running for longer than [`DISK_STALL`].
    pub fn stalled(&self) -> bool {
        let begun = self.writing.load(Ordering::Relaxed);
        begun != 0 && Duration::from_millis(self.now().saturating_sub(begun)) > DISK_STALL
    }

    /// A leader's append or heartbeat was accepted.
    pub fn heard_leader(&self) {
        self.heard.store(self.now(), Ordering::Relaxed);
        self.set_dismissed(false);
    }

    /// A leader said whether this manager is still a member.
    pub fn set_dismissed(&self, dismissed: bool) {
        self.dismissed.store(dismissed, Ordering::Relaxed);
    }
    pub fn dismissed(&self) -> bool {
        self.dismissed.load(Ordering::Relaxed)
    }

    /// How long ago that was; `None` if never.
    pub fn leader_silent(&self) -> Option<Duration> {
        match self.heard.load(Ordering::Relaxed) {
            0 => None,
            at => Some(Duration::from_millis(self.now().saturating_sub(at))),
        }
    }
    /// How long this process has run: the longest a leader can have been silent to it.
    pub fn uptime(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Why writes are refused; `None` while they are taken.
    pub fn refusing(&self) -> Option<String> {
        self.inner().refusing.clone()
    }
    /// Not even a vote may be written.
    pub fn critical(&self) -> bool {
        self.critical.load(Ordering::Relaxed)
    }
    /// Returns true if writes were taken before and are not now, or the other way round.
    pub fn set_room(&self, room: Room) -> bool {
        self.critical.store(matches!(room, Room::Critical(_)), Ordering::Relaxed);
        let why = match room {
            Room::Enough => None,
            Room::Refuse(why) | Room::Critical(why) => Some(why),
        };
        let mut inner = self.inner();
        let changed = inner.refusing.is_some() != why.is_some();
        inner.refusing = why;
        changed
    }

    pub fn peer_answered(&self, id: u64) {
        self.inner().answered.insert(id, Instant::now());
    }
    /// When a peer last answered a call of this manager.
    pub fn answered(&self, id: u64) -> Option<Instant> {
        self.inner().answered.get(&id).copied()
    }
}
