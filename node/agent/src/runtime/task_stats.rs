//! What a task's containers use, second by second.
//!
//! Counters come from where the metadata endpoint has them; a rate needs two samples, which each
//! stream takes for itself: `precpu_stats` of the containers' own questions stay theirs.

use super::Runtime;
use crate::drive::engine::Samples;
use crate::journal::ContainerKey;
use crate::metadata::stats::{self, Reading};
use futures::stream;
use muster_model::{Error, Kind, TaskId};
use muster_proto::dispatch as pb;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::sleep;

/// Between two samples.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

impl Runtime {
    /// One sample after a second, or one each second until the task is deleted.
    ///
    /// # Errors
    /// `NotFound` where the task is not; `Refused` for one sample of a task that runs nothing.
    pub fn task_stats(&self, task: TaskId, follow: bool) -> Result<Samples, Error> {
        if self.journal().read_task(task).is_none() {
            return Err(Error::not_found(Kind::Task, task));
        }
        let before = self.readings(task);
        if before.is_empty() && !follow {
            return Err(Error::refused(format!("no container of task {task} runs")));
        }
        let samples = stream::unfold(Some((self.clone(), before)), move |open| async move {
            let (runtime, before) = open?;
            sleep(SAMPLE_EVERY).await;
            runtime.journal().read_task(task)?;
            let now = runtime.readings(task);
            let sample = sample(&before, &now);
            Some((Ok(sample), follow.then_some((runtime, now))))
        });
        Ok(Box::pin(samples))
    }

    fn readings(&self, task: TaskId) -> Readings {
        let keys = self.journal().containers(task).into_iter();
        keys.filter_map(|key| stats::read(self, &key).map(|reading| (key, reading))).collect()
    }
}

type Readings = BTreeMap<ContainerKey, Reading>;

fn sample(before: &Readings, now: &Readings) -> pb::TaskStats {
    let containers = now.iter().map(|(key, reading)| {
        let usage = &reading.usage;
        pb::ContainerStats {
            container: key.name.to_string(),
            cpu_millicores: before.get(key).map_or(0, |before| millicores(before, reading)),
            memory_bytes: usage.memory_bytes.saturating_sub(usage.memory_reclaimable_bytes),
            memory_limit_bytes: usage.memory_limit_bytes,
            pids: usage.pids,
            received_bytes: reading.network.map(|(received, _)| received),
            sent_bytes: reading.network.map(|(_, sent)| sent),
            read_bytes: usage.read_bytes,
            written_bytes: usage.written_bytes,
        }
    });
    pb::TaskStats {
        at_ms: now.values().map(|reading| reading.at).max().unwrap_or_else(super::now_ms),
        containers: containers.collect(),
    }
}

/// A container that was started again in place may count from the beginning.
fn millicores(before: &Reading, now: &Reading) -> u64 {
    let worked = now.usage.cpu_nanos.saturating_sub(before.usage.cpu_nanos);
    let passed = now.taken.duration_since(before.taken).as_nanos();
    match passed {
        0 => 0,
        passed => u64::try_from(u128::from(worked) * 1000 / passed).unwrap_or(u64::MAX),
    }
}
