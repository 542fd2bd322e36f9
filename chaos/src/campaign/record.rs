//! What happened, in one place and on one clock: writes with their times, faults, breaches.
//!
//! Observers add to it from any thread; nothing is judged here. Invariant: every list is bounded,
//! and what no longer fits is counted.

use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Microseconds since the campaign began.
pub type Micros = u64;

/// Acknowledged writes kept for the picture and the gaps: some 100 a second for 6 hours.
const WRITES_MAX: usize = 3_000_000;
/// Breaches kept with their evidence; of more, only the number is of interest.
const BREACHES_MAX: usize = 200;
/// Lines of evidence per invariant.
const EVIDENCE_MAX: usize = 50;
/// Longest latency that is told apart: a minute.
const LATENCY_MAX: u64 = 60_000_000;

/// One acknowledged write.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    pub begun: Micros,
    pub ended: Micros,
}

/// One fault and what followed.
#[derive(Clone, Debug)]
pub struct Strike {
    pub row: &'static str,
    /// What exactly was done, to whom.
    pub what: String,
    pub struck: Micros,
    /// The fault ended.
    pub healed: Micros,
    /// Everything was as it should be again.
    pub well: Micros,
    /// From the fault to the first acknowledged write that was begun after it.
    pub next_write: Option<Micros>,
    /// Longest time without any acknowledged write, from the fault until all was well.
    pub gap: Micros,
    /// From the fault until its tasks ran elsewhere, where that is what the row is about.
    pub replaced: Option<Micros>,
}

/// An invariant that did not hold, with the evidence.
#[derive(Clone, Debug)]
pub struct Breach {
    pub invariant: &'static str,
    pub what: String,
    pub at: Micros,
    /// The fault row that was being run.
    pub row: &'static str,
}

/// Operations of one kind.
#[derive(Clone, Debug)]
pub struct Calls {
    pub answered: u64,
    /// Refused by a rule: a name in use, a version that is not the expected one.
    pub refused: u64,
    pub unavailable: u64,
    pub unknown: u64,
    pub latency: Histogram<u64>,
}

#[derive(Default)]
struct Inner {
    writes: Vec<Write>,
    strikes: Vec<Strike>,
    breaches: Vec<Breach>,
    breaches_more: u64,
    calls: BTreeMap<&'static str, Calls>,
    counts: BTreeMap<&'static str, u64>,
    evidence: BTreeMap<&'static str, Vec<String>>,
    row: &'static str,
}

/// The record of one campaign.
pub struct Record {
    began: Instant,
    inner: Mutex<Inner>,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Answered,
    Refused,
    Unavailable,
    Unknown,
}

impl Record {
    pub fn new() -> Self {
        Self { began: Instant::now(), inner: Mutex::default() }
    }

    pub fn now(&self) -> Micros {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// A panic elsewhere leaves lists of values as good as before.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call that began at `begun` and ends now.
    pub fn call(&self, kind: &'static str, begun: Micros, ended: Ended) {
        // Under the lock: writes stand in the order of their ends.
        let mut inner = self.inner();
        let now = self.now();
        let calls = inner.calls.entry(kind).or_insert_with(Calls::new);
        match ended {
            Ended::Answered => calls.answered += 1,
            Ended::Refused => calls.refused += 1,
            Ended::Unavailable => calls.unavailable += 1,
            Ended::Unknown => calls.unknown += 1,
        }
        calls.latency.saturating_record(now.saturating_sub(begun).clamp(1, LATENCY_MAX));
        if kind == "write" && ended == Ended::Answered && inner.writes.len() < WRITES_MAX {
            inner.writes.push(Write { begun, ended: now });
        }
    }

    /// More of something was seen or done.
    pub fn count(&self, what: &'static str, more: u64) {
        *self.inner().counts.entry(what).or_default() += more;
    }

    pub fn breach(&self, invariant: &'static str, what: String) {
        let at = self.now();
        let mut inner = self.inner();
        let row = inner.row;
        // One cause is often seen many times over.
        if inner.breaches.iter().any(|b| b.invariant == invariant && b.what == what) {
            return;
        }
        if inner.breaches.len() >= BREACHES_MAX {
            inner.breaches_more += 1;
            return;
        }
        let shown: String = what.chars().take(300).collect();
        eprintln!("BROKEN {invariant}: {shown}");
        inner.breaches.push(Breach { invariant, what, at, row });
    }

    pub fn begin_row(&self, row: &'static str) {
        self.inner().row = row;
    }

    /// Faults of the row that is being run, so far.
    pub fn struck_in_row(&self) -> u64 {
        let inner = self.inner();
        inner.strikes.iter().filter(|strike| strike.row == inner.row).count() as u64
    }

    /// What was measured for an invariant, as a line of the report.
    pub fn evidence(&self, invariant: &'static str, line: String) {
        let mut inner = self.inner();
        let lines = inner.evidence.entry(invariant).or_default();
        if lines.len() < EVIDENCE_MAX {
            lines.push(line);
        }
    }

    pub fn evidences(&self) -> BTreeMap<&'static str, Vec<String>> {
        self.inner().evidence.clone()
    }

    /// Adds a fault, with the write times around it worked out.
    pub fn strike(&self, mut strike: Strike) -> Strike {
        let mut inner = self.inner();
        let (next, gap) = around(&inner.writes, strike.struck, strike.well);
        strike.next_write = next;
        strike.gap = gap;
        inner.strikes.push(strike.clone());
        strike
    }

    pub fn writes(&self) -> Vec<Write> {
        self.inner().writes.clone()
    }

    pub fn strikes(&self) -> Vec<Strike> {
        self.inner().strikes.clone()
    }

    pub fn breaches(&self) -> Vec<Breach> {
        self.inner().breaches.clone()
    }

    pub fn breaches_more(&self) -> u64 {
        self.inner().breaches_more
    }

    pub fn calls(&self) -> BTreeMap<&'static str, Calls> {
        self.inner().calls.clone()
    }

    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.inner().counts.clone()
    }
}

impl Default for Record {
    fn default() -> Self {
        Self::new()
    }
}

impl Calls {
    fn new() -> Self {
        Self { answered: 0, refused: 0, unavailable: 0, unknown: 0, latency: histogram() }
    }
}

/// One microsecond to a minute, three digits.
#[allow(clippy::expect_used)] // constant bounds
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX, 3).expect("constant bounds are in range")
}

/// From `from`: the first acknowledged write that began later, and the longest silence until `to`.
fn around(writes: &[Write], from: Micros, to: Micros) -> (Option<Micros>, Micros) {
    // In the order of their ends, which is the order they were added in.
    let first = writes.partition_point(|write| write.ended < from);
    let later = &writes[first..];
    let next = later.iter().filter(|w| w.begun >= from).map(|w| w.ended - from).min();
    let mut last = from;
    let mut gap = 0;
    for write in later.iter().take_while(|write| write.ended <= to) {
        gap = gap.max(write.ended.saturating_sub(last));
        last = write.ended;
    }
    (next, gap.max(to.saturating_sub(last)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_ends_with_an_acknowledgement_and_a_failover_with_a_write_begun_after_it() {
        let write = |begun, ended| Write { begun, ended };
        let writes = [write(1, 10), write(5, 30), write(20, 90), write(95, 100)];
        assert_eq!(around(&writes, 15, 100), (Some(75), 60));
        assert_eq!(around(&writes, 15, 50), (Some(75), 20));
        assert_eq!(around(&writes, 200, 300), (None, 100));
    }
}
