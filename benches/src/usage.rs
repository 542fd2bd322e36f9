//! What a process has used of the machine.

use crate::Outcome;
use std::time::Duration;

pub const MIB: f64 = 1024.0 * 1024.0;

/// CPU time of a process and its threads so far.
pub fn cpu(pid: u32) -> Outcome<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(") ").ok_or("no process name")?.1;
    let ticks = |n: usize| fields.split(' ').nth(n).and_then(|t| t.parse::<u64>().ok());
    // Fields 14 and 15 of proc(5), counted from the state, which is field 3.
    let ticks = ticks(11).zip(ticks(12)).ok_or("no times")?;
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.unwrap_or(100);
    Ok(Duration::from_secs_f64((ticks.0 + ticks.1) as f64 / per_second as f64))
}

/// Resident memory of a process.
pub fn rss_mib(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").parse::<f64>().ok().map(|kib| kib / 1024.0)
}
