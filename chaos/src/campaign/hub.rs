//! Clients inside the lab's network: a runtime whose threads live in the hub's namespace, and the
//! retrying client of the product, every call of which is put on record.

use super::record::{Ended, Record};
use muster_identity::{ConnectOptions, Connector, Identity};
use muster_model::Error;
use muster_proto::client::{Client, Dialer, Tokened};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

/// How long a client of the workload tries: longer than any fault of the short campaign lasts.
pub const CALL_WAIT: Duration = Duration::from_secs(30);
const CONNECT_WAIT: Duration = Duration::from_secs(1);

/// A runtime whose threads have the network of `netns`.
///
/// # Errors
/// The namespace cannot be opened or entered.
pub fn runtime(netns: &Path) -> std::io::Result<tokio::runtime::Runtime> {
    let file = Arc::new(File::open(netns)?);
    let inside = netns.to_owned();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("client")
        .enable_all()
        .on_thread_start(move || {
            // A thread that could not enter would reach nobody: found below, before any work.
            let _ = nix::sched::setns(&*file, nix::sched::CloneFlags::CLONE_NEWNET);
        })
        .build()?;
    let there = runtime.block_on(runtime.spawn(async { own_network() }));
    match (there, std::fs::metadata(inside)) {
        (Ok(Some(mine)), Ok(wanted))
            if mine == std::os::linux::fs::MetadataExt::st_ino(&wanted) =>
        {
            Ok(runtime)
        }
        _ => Err(std::io::Error::other("threads cannot enter the hub's network; run as root")),
    }
}

/// The inode of this thread's network namespace.
fn own_network() -> Option<u64> {
    let metadata = std::fs::metadata("/proc/thread-self/ns/net").ok()?;
    Some(std::os::linux::fs::MetadataExt::st_ino(&metadata))
}

/// Opens channels as the administrator.
///
/// # Errors
/// The identity cannot be read.
pub fn dialer(identity: &Path) -> Result<Dialer, String> {
    let identity = Identity::load(identity).map_err(|error| error.to_string())?;
    let connector = Connector::new(identity);
    Ok(Arc::new(move |address: &str| {
        let options = ConnectOptions { connect_timeout: CONNECT_WAIT, ..ConnectOptions::default() };
        connector.connect_lazy(address, options).map_err(|error| error.to_string())
    }))
}

/// One client; its calls are on record.
pub struct Door {
    client: Client,
    record: Arc<Record>,
}

impl Door {
    /// The `turn`-th client begins at another manager than the one before it.
    ///
    /// # Errors
    /// There are no managers.
    pub fn new(
        managers: &[String],
        turn: usize,
        dialer: &Dialer,
        record: &Arc<Record>,
    ) -> Result<Self, Error> {
        let mut managers = managers.to_vec();
        if !managers.is_empty() {
            let by = turn % managers.len();
            managers.rotate_left(by);
        }
        Ok(Self { client: Client::new(managers, dialer.clone())?, record: record.clone() })
    }

    pub fn record(&self) -> &Arc<Record> {
        &self.record
    }

    /// A write, repeated with one token until it is answered or `CALL_WAIT` is over.
    ///
    /// # Errors
    /// As the product's client says.
    pub async fn write<Q: Clone + Tokened, A>(
        &self,
        request: Q,
        call: impl AsyncFn(Channel, Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<A, Error> {
        let begun = self.record.now();
        let answer = self.client.call_write(request, Instant::now() + CALL_WAIT, call).await;
        self.record.call("write", begun, ended(&answer));
        answer
    }

    /// A linearizable read, at any manager.
    ///
    /// # Errors
    /// As the product's client says.
    pub async fn read<Q: Clone, A>(
        &self,
        request: Q,
        call: impl AsyncFn(Channel, Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<A, Error> {
        let begun = self.record.now();
        let answer = self.client.call_repeatable(request, Instant::now() + CALL_WAIT, call).await;
        self.record.call("read", begun, ended(&answer));
        answer
    }
}

fn ended<A>(answer: &Result<A, Error>) -> Ended {
    match answer {
        Ok(_) => Ended::Answered,
        Err(Error::Unavailable { .. }) => Ended::Unavailable,
        Err(Error::UnknownOutcome { .. }) => Ended::Unknown,
        Err(_) => Ended::Refused,
    }
}
