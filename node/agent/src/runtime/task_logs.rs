//! The logs of a task's containers as one stream: as it is, in order of time; followed, as it
//! comes, with containers that are made later.

use super::Runtime;
use crate::drive::engine::Lines;
use crate::journal::ContainerKey;
use crate::logs::{Frame, Query, in_order};
use futures::stream::{self, SelectAll, StreamExt};
use muster_model::{Error, Kind, TaskId};
use muster_proto::dispatch as pb;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_stream::wrappers::ReceiverStream;

/// Between two looks for containers that were made meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(250);

impl Runtime {
    /// What the containers of a task wrote, also of one that was deleted not too long ago.
    ///
    /// # Errors
    /// `NotFound` where nothing of the task is here.
    pub fn task_logs(&self, task: TaskId, query: Query) -> Result<Lines, Error> {
        let keys = self.logged(task);
        let waits = query.follow && self.journal().read_task(task).is_some();
        if keys.is_empty() && !waits {
            return Err(Error::not_found(Kind::Task, task));
        }
        if !query.follow {
            let all = keys.iter().map(|key| self.container_logs(key, query)).collect();
            return Ok(Box::pin(in_order(all, |line: &pb::LogLine| line.at_ms)));
        }
        let mut following = Following {
            runtime: self.clone(),
            task,
            query,
            known: BTreeSet::new(),
            open: SelectAll::new(),
            looks: interval(LOOK_EVERY),
        };
        // A reader that was slow looks once, not once for each look that it missed.
        following.looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let lines = stream::unfold(following, |mut following| async {
            following.next().await.map(|line| (line, following))
        });
        Ok(Box::pin(lines))
    }

    pub(super) fn container_logs(&self, key: &ContainerKey, query: Query) -> Lines {
        let frames = ReceiverStream::new(self.logs(key, query));
        let container = key.name.to_string();
        Box::pin(frames.map(move |frame| match frame {
            Ok(frame) => Ok(line(&container, frame)),
            Err(e) => Err(Error::refused(format!("log of container {container:?}: {e}"))),
        }))
    }
}

/// Containers of one task that are followed.
struct Following {
    runtime: Runtime,
    task: TaskId,
    query: Query,
    known: BTreeSet<ContainerKey>,
    open: SelectAll<Lines>,
    looks: Interval,
}

impl Following {
    /// The next line; none when every container has ended and no other will be made.
    async fn next(&mut self) -> Option<Result<pb::LogLine, Error>> {
        loop {
            tokio::select! {
                // The first look comes at once.
                _ = self.looks.tick() => {
                    let more = self.look();
                    if self.open.is_empty() && !more {
                        return None;
                    }
                }
                Some(line) = self.open.next() => return Some(line),
            }
        }
    }

    /// Opens what is new; whether there will be more.
    fn look(&mut self) -> bool {
        let record = self.runtime.journal().read_task(self.task);
        let all = record.as_ref().map_or(0, |record| record.assignment.spec.containers.len());
        if self.known.is_empty() || self.known.len() < all {
            for key in self.runtime.logged(self.task) {
                if self.known.insert(key.clone()) {
                    self.open.push(self.runtime.container_logs(&key, self.query));
                }
            }
            // What is made from here on has written nothing before.
            self.query.tail = None;
        }
        record.is_some_and(|record| !record.stopping) && self.known.len() < all
    }
}

fn line(container: &str, frame: Frame) -> pb::LogLine {
    let partial = !frame.text.ends_with('\n');
    pb::LogLine {
        container: container.to_owned(),
        stderr: frame.stream != "stdout",
        at_ms: frame.at,
        line: frame.text.trim_end_matches('\n').as_bytes().to_vec().into(),
        partial,
    }
}
