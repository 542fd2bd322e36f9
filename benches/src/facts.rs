//! What this machine is and how fast its floor is: printed before anything is measured.

use crate::Outcome;
use hdrhistogram::Histogram;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// fdatasync of small appends to a file, the way a log is written.
pub struct Fdatasync {
    pub p50_ms: f64,
    pub p99_ms: f64,
}

/// Appends of this size, in bytes: one group of commands.
const APPEND_BYTES: usize = 2300;
const APPENDS: usize = 400;

/// Prints the machine's facts and returns its fdatasync floor, measured in `dir`.
///
/// # Errors
/// The directory cannot be written.
pub fn print(dir: &Path) -> Outcome<Fdatasync> {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or("");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let model = model.trim_start_matches([':', '\t', ' ']);
    println!("machine: {cores} cores, {model}, kernel {}", kernel.trim());
    println!("load average at start: {}", load.split(' ').next().unwrap_or("?"));
    let floor = fdatasync(dir)?;
    println!(
        "floor: fdatasync of {APPEND_BYTES}-byte appends: p50 {:.3} ms, p99 {:.3} ms",
        floor.p50_ms, floor.p99_ms
    );
    Ok(floor)
}

fn fdatasync(dir: &Path) -> Outcome<Fdatasync> {
    let path = dir.join("fdatasync");
    let mut file = std::fs::File::create(&path)?;
    let mut latencies = Histogram::<u64>::new(3)?;
    for _ in 0..APPENDS {
        let started = Instant::now();
        file.write_all(&[7; APPEND_BYTES])?;
        file.sync_data()?;
        latencies.record(micros(started.elapsed()))?;
    }
    std::fs::remove_file(&path)?;
    Ok(Fdatasync { p50_ms: quantile_ms(&latencies, 0.5), p99_ms: quantile_ms(&latencies, 0.99) })
}

/// From here on this process runs on the first core alone.
///
/// # Errors
/// The kernel refuses.
pub fn pin_to_one_core() -> Outcome<()> {
    let mut cores = nix::sched::CpuSet::new();
    cores.set(0)?;
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &cores)?;
    Ok(())
}

pub fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// A quantile of a histogram of microseconds, in milliseconds.
pub fn quantile_ms(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1000.0
}
