//! Where the managers are, and warm connections to all of them: the agent's address book without
//! its file.

use super::{Life, random};
use muster_identity::{ConnectOptions, Connector, Error};
use muster_proto::dispatch as pb;
use muster_proto::dispatch::enroll_client::EnrollClient;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;

/// As the agent's: see `node/agent/src/session/book.rs`.
const REFRESH: Duration = Duration::from_secs(60);
const REFRESH_WAIT: Duration = Duration::from_secs(5);
const CONNECT: ConnectOptions = ConnectOptions {
    connect_timeout: Duration::from_secs(2),
    keepalive_interval: Duration::from_secs(3),
    keepalive_while_idle: false,
    keepalive_timeout: Duration::from_millis(2500),
};

pub struct Book {
    connector: Connector,
    inner: Mutex<Inner>,
}

struct Inner {
    /// The last leader first.
    known: Vec<String>,
    channels: HashMap<String, Channel>,
    turn: usize,
}

impl Book {
    pub fn new(connector: Connector, known: Vec<String>) -> Self {
        let inner = Inner { known, channels: HashMap::new(), turn: 0 };
        Self { connector, inner: Mutex::new(inner) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next one to ask, in turn.
    pub fn next(&self) -> String {
        let mut inner = self.inner();
        let turn = inner.turn;
        inner.turn = turn.wrapping_add(1);
        let at = turn % inner.known.len().max(1);
        inner.known.get(at).cloned().unwrap_or_default()
    }

    /// It is asked first at the next start, and last once it is lost.
    pub fn leads(&self, address: &str) {
        let mut inner = self.inner();
        inner.known.retain(|known| known != address);
        inner.known.insert(0, address.to_owned());
        inner.turn = 1;
    }

    /// Takes a manager's word for where they all are.
    pub fn learn(&self, managers: &[pb::ManagerAddress]) {
        let mut inner = self.inner();
        for manager in managers {
            if !inner.known.contains(&manager.address) {
                inner.known.push(manager.address.clone());
            }
        }
    }

    /// The connection to a manager; it connects and reconnects by itself.
    ///
    /// # Errors
    /// The address is not valid.
    pub fn channel(&self, address: &str) -> Result<Channel, Error> {
        let mut inner = self.inner();
        if let Some(channel) = inner.channels.get(address) {
            return Ok(channel.clone());
        }
        let channel = self.connector.connect_lazy(address, CONNECT)?;
        inner.channels.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }

    /// Asks every manager now and then, which keeps every connection warm.
    pub async fn keep_fresh(&self, life: &Life) {
        loop {
            let all = self.inner().known.clone();
            for address in all {
                let Ok(channel) = self.channel(&address) else { continue };
                let mut client = EnrollClient::new(channel);
                let answer = timeout(REFRESH_WAIT, client.managers(pb::ManagersRequest {})).await;
                if let Ok(Ok(answer)) = answer {
                    self.learn(&answer.into_inner().managers);
                }
            }
            sleep(REFRESH.mul_f64(0.5 + random())).await;
            if life.dead.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
        }
    }
}
