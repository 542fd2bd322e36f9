//! I11: what each process takes of the machine, at the start and at the end.
//!
//! Ten per cent over an hour is the soak's promise. A campaign kills each process many times and
//! adds rows all along: it tells what grew without bound, which no number of rows explains.

use super::field::Field;
use super::kernel;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// More than this, and it is a leak: a campaign adds some thousand rows of a few hundred bytes.
const MEMORY_MORE: u64 = 256 << 20;
const DESCRIPTORS_MORE: u64 = 200;
const THREADS_MORE: u64 = 64;
/// Logs are kept to a size, and tables of removed rows until they are compacted.
const DISK_MORE: u64 = 512 << 20;

/// Of one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    memory: u64,
    descriptors: u64,
    threads: u64,
    disk: u64,
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
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    for (host, end) in all(field) {
        let Some(start) = start.get(&host) else { continue };
        let line = format!(
            "{host}: memory {:.1} to {:.1} MiB, descriptors {} to {}, threads {} to {}, disk {:.1} \
             to {:.1} MiB",
            mib(start.memory),
            mib(end.memory),
            start.descriptors,
            end.descriptors,
            start.threads,
            end.threads,
            mib(start.disk),
            mib(end.disk),
        );
        let grew = end.memory > start.memory + MEMORY_MORE
            || end.descriptors > start.descriptors + DESCRIPTORS_MORE
            || end.threads > start.threads + THREADS_MORE
            || end.disk > start.disk + DISK_MORE;
        if grew {
            field.record.breach("I11", line.clone());
        }
        field.record.evidence("I11", line);
    }
}
