//! I11: what each process takes of the machine, at the start and at the end.
//!
//! Ten per cent over an hour is the soak's promise ([`compare_strictly`]). A campaign kills each
//! process many times and adds rows all along: it tells what grew without bound, which no number of
//! rows explains ([`compare`]).

use super::field::Field;
use super::kernel;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

/// More than this, and it is a leak: a campaign adds some thousand rows of a few hundred bytes.
const MEMORY_MORE: u64 = 256 << 20;
const DESCRIPTORS_MORE: u64 = 200;
const THREADS_MORE: u64 = 64;
/// Logs are kept to a size, and tables of removed rows until they are compacted.
const DISK_MORE: u64 = 512 << 20;

/// The soak's promise, in per cent of the start.
const STRICT_PERCENT: u64 = 10;
/// Below these a per cent says nothing: a page of an allocator, one connection, one file of a log.
const MEMORY_GRAIN: u64 = 2 << 20;
const DESCRIPTORS_GRAIN: u64 = 8;
const THREADS_GRAIN: u64 = 4;
/// RocksDB keeps old files until a compaction: some of its smallest tables.
const DISK_GRAIN: u64 = 16 << 20;

/// Of one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    memory: u64,
    descriptors: u64,
    threads: u64,
    disk: u64,
}

impl fmt::Display for Footprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let (memory, disk) = (mib(self.memory), mib(self.disk));
        let Self { descriptors, threads, .. } = self;
        write!(
            f,
            "memory {memory:.1} MiB, {descriptors} descriptors, {threads} threads, disk {disk:.1} \
             MiB"
        )
    }
}

/// Each number's own median; zeros of nothing.
pub fn median(all: &[Footprint]) -> Footprint {
    let of = |number: fn(&Footprint) -> u64| {
        let mut numbers: Vec<u64> = all.iter().map(number).collect();
        numbers.sort_unstable();
        numbers.get(numbers.len() / 2).copied().unwrap_or(0)
    };
    Footprint {
        memory: of(|seen| seen.memory),
        descriptors: of(|seen| seen.descriptors),
        threads: of(|seen| seen.threads),
        disk: of(|seen| seen.disk),
    }
}

/// Of each manager and agent that runs.
pub fn all(field: &Field) -> BTreeMap<String, Footprint> {
    let managers = (1..=field.shape.managers).map(|n| format!("m{n}"));
    let workers = (1..=field.shape.workers + field.shape.simulated).map(|n| format!("w{n}"));
    let seen = managers.chain(workers).filter_map(|host| {
        let pid = field.cluster.pid(&host)?;
        let entries = |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).map(Iterator::count);
        // As the host sees it: its data may be on a disk of its own.
        let data = field.cluster.path(&host).join("data");
        let data = format!("/proc/{pid}/root{}", data.display());
        let footprint = Footprint {
            memory: kernel::memory(pid)?,
            descriptors: entries("fd").ok()? as u64,
            threads: entries("task").ok()? as u64,
            disk: size(Path::new(&data)),
        };
        Some((host, footprint))
    });
    seen.collect()
}

/// Bytes of all files below; what vanishes meanwhile counts nothing.
fn size(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

/// Writes both down, per process, and what grew without bound.
pub fn compare(field: &Field, start: &BTreeMap<String, Footprint>) {
    for (host, end) in all(field) {
        let Some(start) = start.get(&host) else { continue };
        let grew = end.memory > start.memory + MEMORY_MORE
            || end.descriptors > start.descriptors + DESCRIPTORS_MORE
            || end.threads > start.threads + THREADS_MORE
            || end.disk > start.disk + DISK_MORE;
        tell(field, &host, (*start, end), grew);
    }
}

/// Writes both down, per process, and what grew by more than ten per cent.
pub fn compare_strictly(
    field: &Field,
    start: &BTreeMap<String, Footprint>,
    end: &BTreeMap<String, Footprint>,
) {
    for (host, start) in start {
        let Some(end) = end.get(host) else {
            field.record.breach("I11", format!("{host} did not live to the end"));
            continue;
        };
        tell(field, host, (*start, *end), start.grew(end));
    }
}

fn tell(field: &Field, host: &str, (start, end): (Footprint, Footprint), grew: bool) {
    let line = format!("{host}: {start}, then {end}");
    if grew {
        field.record.breach("I11", line.clone());
    }
    field.record.evidence("I11", line);
}

impl Footprint {
    #[cfg(test)]
    pub fn of(memory: u64, descriptors: u64, threads: u64, disk: u64) -> Self {
        Self { memory, descriptors, threads, disk }
    }

    /// By more than ten per cent, where that is more than a grain.
    fn grew(&self, end: &Self) -> bool {
        let more = |start: u64, end: u64, grain: u64| {
            end > start + (start * STRICT_PERCENT / 100).max(grain)
        };
        more(self.memory, end.memory, MEMORY_GRAIN)
            || more(self.descriptors, end.descriptors, DESCRIPTORS_GRAIN)
            || more(self.threads, end.threads, THREADS_GRAIN)
            || more(self.disk, end.disk, DISK_GRAIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_more_is_within_the_promise_and_a_ninth_is_not() {
        let mib = 1 << 20;
        let start = Footprint::of(90 * mib, 90, 50, 900 * mib);
        assert!(!start.grew(&Footprint::of(99 * mib, 99, 55, 990 * mib)));
        assert!(start.grew(&Footprint::of(100 * mib, 90, 50, 900 * mib)));
        assert!(start.grew(&Footprint::of(90 * mib, 100, 50, 900 * mib)));
        assert!(start.grew(&Footprint::of(90 * mib, 90, 56, 900 * mib)));
        assert!(start.grew(&Footprint::of(90 * mib, 90, 50, 1000 * mib)));
        let small = Footprint::of(mib, 4, 2, 0);
        assert!(!small.grew(&Footprint::of(2 * mib, 10, 5, 8 * mib)));
    }
}
