//! Where the managers are: what the configuration said first, what a manager said last, and warm
//! connections to all of them.
//!
//! Addresses change, so the newest list is kept on disk; one that cannot be read is replaced by the
//! configuration's. Invariant: there is always somebody to ask.

use crate::drive::disk;
use muster_identity::{ConnectOptions, Connector, Error};
use muster_proto::dispatch as pb;
use muster_proto::dispatch::enroll_client::EnrollClient;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;

/// Managers kept; a cluster has at most nine.
const MANAGERS_MAX: usize = 32;
/// How often a manager is asked for the list, with jitter; it also keeps every connection warm.
const REFRESH: Duration = Duration::from_secs(60);
/// A manager that hangs looks alive to TCP. Its agents notice in five and a half seconds, before
/// the next leader, who gives everybody eight, judges them. Sooner, and managers that are merely
/// busy lose thousands of connections at once, whose handshakes keep them busy for good: seen with
/// 10,000 agents at two and a half seconds.
///
/// Only the connection with a session is pinged: the pings of 10,000 agents to two managers that
/// have nothing to tell them were a seventh of a core at each. A manager that is gone is found when
/// it is asked, at the latest by the refresh.
const CONNECT: ConnectOptions = ConnectOptions {
    connect_timeout: Duration::from_secs(2),
    keepalive_interval: Duration::from_secs(3),
    keepalive_while_idle: false,
    keepalive_timeout: Duration::from_millis(2500),
};
/// How long one may take to answer.
const REFRESH_WAIT: Duration = Duration::from_secs(5);

/// The agent's address book.
pub struct Book {
    connector: Connector,
    path: PathBuf,
    configured: Vec<String>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// As a manager said last; whoever led last stands first.
    learnt: Vec<String>,
    channels: HashMap<String, Channel>,
    /// Position of the next one to ask.
    turn: usize,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    managers: Vec<String>,
}

impl Book {
    /// Reads what was learnt before from `path`.
    pub fn open(connector: Connector, path: PathBuf, configured: Vec<String>) -> Self {
        let learnt = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(path = %path.display(), %error, "managers' addresses not readable");
                Stored { managers: Vec::new() }
            }),
            Err(_) => Stored { managers: Vec::new() },
        };
        let mut learnt = learnt.managers;
        learnt.truncate(MANAGERS_MAX);
        let inner = Mutex::new(Inner { learnt, ..Inner::default() });
        Self { connector, path, configured, inner }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everybody, the last leader first, those only the configuration knows last.
    pub fn all(&self) -> Vec<String> {
        let mut all = self.inner().learnt.clone();
        for address in &self.configured {
            if !all.contains(address) {
                all.push(address.clone());
            }
        }
        all
    }

    /// The next one to ask, in turn.
    pub fn next(&self) -> String {
        let all = self.all();
        let mut inner = self.inner();
        let turn = inner.turn;
        inner.turn = turn.wrapping_add(1);
        all.get(turn % all.len().max(1)).cloned().unwrap_or_default()
    }

    /// Remembers who leads: it is asked first at the next start, and last once it is lost.
    pub fn leads(&self, address: &str) {
        let mut inner = self.inner();
        inner.learnt.retain(|known| known != address);
        inner.learnt.insert(0, address.to_owned());
        inner.turn = 1;
    }

    /// The connection to a manager; it connects and reconnects by itself.
    ///
    /// # Errors
    /// When the address is not `host:port`.
    pub fn channel(&self, address: &str) -> Result<Channel, Error> {
        let mut inner = self.inner();
        if let Some(channel) = inner.channels.get(address) {
            return Ok(channel.clone());
        }
        let channel = self.connector.connect_lazy(address, CONNECT)?;
        inner.channels.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }

    /// A connection for one stream alone, whose reader may stop reading: what it has not read takes
    /// the room of all that shares a connection with it, heartbeats too.
    ///
    /// # Errors
    /// When the address is not `host:port`.
    pub fn own_channel(&self, address: &str) -> Result<Channel, Error> {
        self.connector.connect_lazy(address, CONNECT)
    }

    /// Takes a manager's word for where they all are, and keeps it on disk.
    pub async fn learn(&self, managers: &[pb::ManagerAddress]) {
        if managers.is_empty() {
            return;
        }
        let mut leader_first: Vec<&pb::ManagerAddress> = managers.iter().collect();
        leader_first.sort_by_key(|manager| !manager.leader);
        let addresses: Vec<String> =
            leader_first.iter().take(MANAGERS_MAX).map(|m| m.address.clone()).collect();
        {
            let mut inner = self.inner();
            if inner.learnt == addresses {
                return;
            }
            inner.learnt.clone_from(&addresses);
            let kept =
                |address: &String| addresses.contains(address) || self.configured.contains(address);
            inner.channels.retain(|address, _| kept(address));
        }
        if let Ok(bytes) = serde_json::to_vec_pretty(&Stored { managers: addresses })
            && let Err(error) = disk::replace(self.path.clone(), bytes, disk::Sync::No).await
        {
            tracing::warn!(%error, "managers' addresses not kept");
        }
    }

    /// Keeps the list fresh and the connections warm. To be dropped when the agent stops.
    pub async fn keep_fresh(&self) {
        loop {
            for address in self.all() {
                let Ok(channel) = self.channel(&address) else { continue };
                let mut client = EnrollClient::new(channel);
                let answer = timeout(REFRESH_WAIT, client.managers(pb::ManagersRequest {})).await;
                if let Ok(Ok(answer)) = answer {
                    self.learn(&answer.into_inner().managers).await;
                }
            }
            sleep(REFRESH.mul_f64(0.5 + rand::random::<f64>())).await;
        }
    }
}
