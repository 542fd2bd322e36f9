//! What a container uses, in the JSON of Docker's stats, which ECS's agent answers.
//!
//! Counters come from the container's cgroup and network. `precpu_stats` is the sample before this
//! one, whoever asked for it: what a client needs for a rate. Where this kernel counts something
//! not, it is 0.

use super::lock;
use crate::cgroup::{TICK_NANOS, Usage};
use crate::journal::ContainerKey;
use crate::runtime::shim::read_watch;
use crate::runtime::{Runtime, now_ms};
use muster_model::{TaskId, Time};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Instant;

/// The last sample of each container.
#[derive(Default)]
pub struct Samples(Mutex<HashMap<ContainerKey, Sample>>);

#[derive(Clone, Copy, Default)]
struct Sample {
    at: u64,
    usage: Usage,
    /// Of the whole machine.
    system_nanos: u64,
}

impl Samples {
    pub fn forget(&self, key: &ContainerKey) {
        lock(&self.0).remove(key);
    }

    /// Puts the sample in the place of the last, and answers that.
    fn exchange(&self, key: &ContainerKey, sample: Sample) -> Sample {
        lock(&self.0).insert(key.clone(), sample).unwrap_or_default()
    }
}

/// What a running container used until one moment.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// Milliseconds since 1970.
    pub at: u64,
    /// The same moment, of a clock that nobody sets.
    pub taken: Instant,
    pub usage: Usage,
    /// Bytes received and sent on the network that it does not share with the machine.
    pub network: Option<(u64, u64)>,
}

/// `None` if it does not run.
pub fn read(runtime: &Runtime, key: &ContainerKey) -> Option<Reading> {
    let net_dev = net_dev(runtime, key)?;
    let record = runtime.journal().read_container(key)?;
    let sum = |column: usize| {
        let numbers = interfaces(&net_dev).map(|(_, numbers)| numbers[column]);
        numbers.fold(0, u64::saturating_add)
    };
    Some(Reading {
        at: now_ms(),
        taken: Instant::now(),
        usage: runtime.usage(key),
        network: record.attachment.map(|_| (sum(0), sum(SENT))),
    })
}

/// The /proc/PID/net/dev of a container; `None` if it does not run.
fn net_dev(runtime: &Runtime, key: &ContainerKey) -> Option<String> {
    let dir = runtime.journal().container_dir(key);
    let watch = read_watch(&dir).filter(|watch| runtime.runs(key) && watch.pid != 0)?;
    Some(std::fs::read_to_string(format!("/proc/{}/net/dev", watch.pid)).unwrap_or_default())
}

/// `None` if it does not run.
pub fn container(runtime: &Runtime, key: &ContainerKey) -> Option<Value> {
    let network = net_dev(runtime, key)?;
    let proc_stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let now =
        Sample { at: now_ms(), usage: runtime.usage(key), system_nanos: system_nanos(&proc_stat) };
    let before = runtime.metadata().samples.exchange(key, now);
    let id = key.id();
    let usage = now.usage;
    Some(json!({
        "id": id,
        "name": id,
        "read": super::document::shown(Time(now.at)),
        "preread": super::document::shown(Time(before.at)),
        "num_procs": 0,
        "pids_stats": { "current": usage.pids },
        "cpu_stats": cpu(&now),
        "precpu_stats": cpu(&before),
        "memory_stats": {
            "usage": usage.memory_bytes,
            "limit": usage.memory_limit_bytes,
            "stats": { "inactive_file": usage.memory_reclaimable_bytes },
        },
        "blkio_stats": { "io_service_bytes_recursive": [
            { "major": 0, "minor": 0, "op": "read", "value": usage.read_bytes },
            { "major": 0, "minor": 0, "op": "write", "value": usage.written_bytes },
        ] },
        "networks": networks(&network),
        "storage_stats": {},
    }))
}

/// By the id of each container; null for one that does not run, as ECS has it.
pub fn task(runtime: &Runtime, task: TaskId) -> Value {
    let containers = runtime.journal().containers(task);
    let all = containers.iter().map(|key| (key.id(), container(runtime, key)));
    Value::Object(all.map(|(id, stats)| (id, stats.unwrap_or_default())).collect())
}

fn cpu(sample: &Sample) -> Value {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    json!({
        "cpu_usage": {
            "total_usage": sample.usage.cpu_nanos,
            "usage_in_usermode": sample.usage.cpu_user_nanos,
            "usage_in_kernelmode": sample.usage.cpu_system_nanos,
        },
        "system_cpu_usage": sample.system_nanos,
        "online_cpus": cpus,
    })
}

/// All that the machine's processors did and waited, from the first line of /proc/stat. Of its ten
/// numbers the last two are in the first two.
fn system_nanos(proc_stat: &str) -> u64 {
    let line = proc_stat.lines().next().unwrap_or_default();
    let ticks = line.split_whitespace().skip(1).take(8).filter_map(|n| n.parse::<u64>().ok());
    ticks.fold(0, u64::saturating_add).saturating_mul(TICK_NANOS)
}

/// The first of an interface's numbers that is about what it sent.
const SENT: usize = 8;

/// The interfaces of a /proc/PID/net/dev but loopback: at least twelve numbers each.
fn interfaces(net_dev: &str) -> impl Iterator<Item = (&str, Vec<u64>)> {
    net_dev.lines().filter_map(|line| {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Vec<u64> = numbers.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        let name = name.trim();
        (name != "lo" && numbers.len() >= 12).then_some((name, numbers))
    })
}

fn networks(net_dev: &str) -> Value {
    let mut all = Map::new();
    for (name, numbers) in interfaces(net_dev) {
        let names = ["bytes", "packets", "errors", "dropped"];
        let received = names.iter().zip(&numbers).map(|(what, n)| (format!("rx_{what}"), json!(n)));
        let sent = numbers.iter().skip(SENT);
        let sent = names.iter().zip(sent).map(|(what, n)| (format!("tx_{what}"), json!(n)));
        all.insert(name.to_owned(), Value::Object(received.chain(sent).collect()));
    }
    Value::Object(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_s_time_is_the_sum_of_what_its_processors_did() {
        let text = "cpu  1 2 3 4 5 6 7 8 100 100\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(system_nanos(text), 36 * TICK_NANOS);
        assert_eq!(system_nanos("nothing"), 0);
    }

    #[test]
    fn interfaces_are_read_without_loopback() {
        let text = "Inter-| Receive | Transmit\n face |bytes packets\n \
                    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n \
                    eth0: 10 2 3 4 0 0 0 0 50 6 7 8 0 0 0 0\n";
        let all = networks(text);
        assert_eq!(all.as_object().unwrap().len(), 1);
        assert_eq!((&all["eth0"]["rx_bytes"], &all["eth0"]["tx_packets"]), (&json!(10), &json!(6)));
        assert_eq!(networks("eth0: 1 2"), json!({}));
    }
}
