//! What a watch tells, read as cheaply as it can be: of each row the few fields that are counted.
//! Decoding whole tasks would take from the machine what the managers are measured on.

use crate::Outcome;
use crate::hollow::now_us;
use muster_proto::pb;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic::{Request, Streaming};
use tonic_prost::ProstCodec;

/// `WatchResponse`, as far as it is needed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Told {
    #[prost(message, repeated, tag = "1")]
    pub changes: Vec<Change>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Change {
    #[prost(message, optional, tag = "2")]
    pub task: Option<TaskRow>,
    #[prost(message, optional, tag = "3")]
    pub instance: Option<InstanceRow>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct TaskRow {
    #[prost(string, tag = "1")]
    pub arn: String,
    #[prost(string, tag = "4")]
    pub instance_arn: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct InstanceRow {
    #[prost(string, tag = "1")]
    pub arn: String,
    #[prost(string, tag = "2")]
    pub host_name: String,
    #[prost(bool, tag = "4")]
    pub connected: bool,
}

/// Changes of one kind of row, from now on.
///
/// # Errors
/// The manager refuses.
pub async fn changes(channel: Channel, kind: &str) -> Outcome<Streaming<Told>> {
    let mut grpc = Grpc::new(channel).max_decoding_message_size(64 * 1024 * 1024);
    grpc.ready().await?;
    let request =
        pb::WatchRequest { kinds: vec![kind.to_owned()], changes_only: true, ..Default::default() };
    let codec = ProstCodec::<pb::WatchRequest, Told>::default();
    let path = http::uri::PathAndQuery::from_static("/muster.v1.Live/Watch");
    Ok(grpc.server_streaming(Request::new(request), path, codec).await?.into_inner())
}

/// The 128 bits at the end of an ARN.
pub fn id(arn: &str) -> Option<u128> {
    u128::from_str_radix(arn.get(arn.len().checked_sub(32)?..)?, 16).ok()
}

/// A task that was seen to have an instance.
#[derive(Clone, Copy, Debug)]
pub struct Placed {
    pub task: u128,
    pub at_us: u64,
}

/// Every placement since it was started, as a watch tells of it.
pub struct Placements {
    placed: Arc<Mutex<Vec<Placed>>>,
    /// How many; closed when the watch has ended.
    count: watch::Receiver<usize>,
    /// Ends the watch with this.
    _reader: JoinSet<()>,
}

impl Placements {
    /// # Errors
    /// The manager refuses the watch.
    pub async fn start(channel: Channel) -> Outcome<Self> {
        let mut told = changes(channel, "task").await?;
        let (counter, count) = watch::channel(0);
        let placed = Arc::<Mutex<Vec<Placed>>>::default();
        let list = placed.clone();
        let mut reader = JoinSet::new();
        reader.spawn(async move {
            let mut seen = HashSet::new();
            while let Ok(Some(message)) = told.message().await {
                let at_us = now_us();
                let placed = message.changes.iter().filter_map(|change| change.task.as_ref());
                let new: Vec<Placed> = placed
                    .filter(|row| !row.instance_arn.is_empty())
                    .filter_map(|row| id(&row.arn))
                    .filter(|task| seen.insert(*task))
                    .map(|task| Placed { task, at_us })
                    .collect();
                locked(&list).extend(new);
                counter.send_replace(seen.len());
            }
        });
        Ok(Self { placed, count, _reader: reader })
    }

    pub fn count(&self) -> usize {
        *self.count.borrow()
    }

    /// Waits until so many were seen.
    ///
    /// # Errors
    /// They were not in time, or the watch has ended.
    pub async fn wait(&mut self, wanted: usize, wait: Duration) -> Outcome<()> {
        let done = self.count.wait_for(|count| *count >= wanted);
        let ended = match tokio::time::timeout(wait, done).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(_)) => "the watch has ended".to_owned(),
            Err(_) => format!("not within {wait:?}"),
        };
        Err(format!("{} of {wanted} tasks placed: {ended}", self.count()).into())
    }

    /// Those seen after the first `skip`.
    pub fn after(&self, skip: usize) -> Vec<Placed> {
        locked(&self.placed).get(skip..).unwrap_or_default().to_vec()
    }

    /// When each task was seen placed.
    pub fn times(&self) -> HashMap<u128, u64> {
        locked(&self.placed).iter().map(|placed| (placed.task, placed.at_us)).collect()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
