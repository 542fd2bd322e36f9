//! ECS's task metadata endpoint, version 4: a container asks what it is and what it uses, at the
//! address in its `ECS_CONTAINER_METADATA_URI_V4`.
//!
//! It listens on loopback; the port table leads 169.254.170.2:80 of bridge and host there. What
//! the answers say is `document`'s and `stats`'s; what a task acts as its role with is `role`'s.
//! Invariants: who asks is answered about its own task only; memory is bounded whatever arrives,
//! and no peer holds a place for long.

mod document;
mod listener;
pub mod role;
pub mod stats;

pub(crate) use document::shown;

use crate::contact;
use crate::journal::ContainerKey;
use crate::runtime::Runtime;
use listener::Answer;
use muster_model::{Observed, TaskId, TaskReport};
use serde_json::Value;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Where containers find it, whatever network they are on: ECS's address.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 170, 2);
/// ECS's variable.
pub const VARIABLE: &str = "ECS_CONTAINER_METADATA_URI_V4";
/// Where clouds answer an instance about itself, its credentials among it.
pub const INSTANCE_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// The endpoint of one container: an id that nobody guesses.
pub fn new_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

pub fn uri(id: &str) -> String {
    format!("http://{ADDRESS}/v4/{id}")
}

/// Whether a container may be told this variable by anybody but us: it cannot be told of another's
/// endpoint.
pub fn is_ours(variable: &str) -> bool {
    let ours =
        [VARIABLE, role::CREDENTIALS_VARIABLE, role::IDENTITY_VARIABLE, contact::TOKEN_VARIABLE];
    ours.contains(&variable)
}

/// What is asked at an endpoint: each has an id of its own, as one is kept more secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Metadata,
    /// What the task acts as its task role with.
    Role,
}

/// Whose endpoint it is, and from which address it is asked; without one, the instance's network.
struct Endpoint {
    kind: Kind,
    key: ContainerKey,
    address: Option<Ipv4Addr>,
}

/// What the answers are made from beside the journal.
pub struct Metadata {
    /// The availability zone.
    zone: String,
    /// Taken when it is served.
    listener: Mutex<Option<TcpListener>>,
    port: u16,
    endpoints: Mutex<HashMap<String, Endpoint>>,
    /// What was last reported of each task.
    observed: Mutex<HashMap<TaskId, Observed>>,
    samples: stats::Samples,
    roles: role::Roles,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Metadata {
    /// Takes a port of loopback. What containers were told leads to whichever it is.
    pub fn open(zone: &str) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            zone: zone.to_owned(),
            port: listener.local_addr()?.port(),
            listener: Mutex::new(Some(listener)),
            endpoints: Mutex::default(),
            observed: Mutex::default(),
            samples: stats::Samples::default(),
            roles: role::Roles::default(),
        })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// From here on the container is answered.
    pub fn add(&self, id: &str, kind: Kind, key: &ContainerKey, address: Option<Ipv4Addr>) {
        let endpoint = Endpoint { kind, key: key.clone(), address };
        lock(&self.endpoints).insert(id.to_owned(), endpoint);
        if kind == Kind::Role {
            self.roles.came();
        }
    }

    pub fn remove(&self, key: &ContainerKey) {
        lock(&self.endpoints).retain(|_, endpoint| endpoint.key != *key);
        self.samples.forget(key);
        let mut observed = lock(&self.observed);
        let others = |endpoint: &Endpoint| endpoint.key.task == key.task;
        if !lock(&self.endpoints).values().any(others) {
            observed.remove(&key.task);
            self.roles.forget(key.task);
        }
    }

    /// Keeps what was reported of tasks that have an endpoint.
    pub fn learn(&self, reports: &[TaskReport]) {
        let mut observed = lock(&self.observed);
        let endpoints = lock(&self.endpoints);
        for report in reports {
            if endpoints.values().any(|endpoint| endpoint.key.task == report.task) {
                observed.insert(report.task, report.observed.clone());
            }
        }
    }

    /// Whose endpoint `id` is, if `peer` may ask: a container of the same task on the bridge; for
    /// one on the instance's network, any process of the instance that knows the id.
    fn owner(&self, id: &str, kind: Kind, peer: IpAddr) -> Option<ContainerKey> {
        let endpoints = lock(&self.endpoints);
        let endpoint = endpoints.get(id).filter(|endpoint| endpoint.kind == kind)?;
        let asks = endpoints.values().find(|other| other.address.map(IpAddr::V4) == Some(peer));
        let allowed = match (endpoint.address, asks) {
            (Some(_), Some(other)) => other.key.task == endpoint.key.task,
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        allowed.then(|| endpoint.key.clone())
    }
}

impl Runtime {
    /// Answers until the agent ends.
    pub(crate) fn serve_metadata(&self) -> std::io::Result<()> {
        let Some(listener) = lock(&self.metadata().listener).take() else { return Ok(()) };
        let listener = tokio::net::TcpListener::from_std(listener)?;
        self.spawn(listener::serve(listener, self.clone()));
        self.spawn(self.clone().keep_credentials());
        Ok(())
    }

    /// What is at `path` for `peer`. Reads files.
    fn metadata_at(&self, path: &str, peer: IpAddr) -> Answer {
        let Some(rest) = path.strip_prefix("/v4/") else { return Answer::NotFound };
        let (id, what) = rest.split_once('/').unwrap_or((rest, ""));
        // Whether there is such a container is not told to who may not ask.
        let Some(key) = self.metadata().owner(id, Kind::Metadata, peer) else {
            return Answer::NotFound;
        };
        let found: Option<Value> = match what {
            "" => document::container(self, &key),
            // No tags are known here, so both are the same.
            "task" | "taskWithTags" => document::task(self, key.task),
            "stats" => stats::container(self, &key),
            "task/stats" => Some(stats::task(self, key.task)),
            _ => None,
        };
        found.map_or(Answer::NotFound, Answer::Found)
    }

    fn zone(&self) -> &str {
        &self.metadata().zone
    }

    fn observed(&self, task: TaskId) -> Observed {
        lock(&self.metadata().observed).get(&task).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_is_answered_about_its_own_task() {
        let metadata = Metadata::open("az").unwrap();
        let key = |task, name: &str| ContainerKey::new(TaskId::from_bits(task), &name.into());
        let at = |last| Ipv4Addr::new(10, 0, 0, last);
        metadata.add("a", Kind::Metadata, &key(1, "app"), Some(at(2)));
        metadata.add("b", Kind::Metadata, &key(1, "side"), Some(at(3)));
        metadata.add("c", Kind::Metadata, &key(2, "other"), Some(at(4)));
        metadata.add("h", Kind::Metadata, &key(3, "host"), None);
        let asks = |id, peer: Ipv4Addr| metadata.owner(id, Kind::Metadata, peer.into());
        assert_eq!(asks("a", at(2)), Some(key(1, "app")));
        assert_eq!(asks("a", at(3)), Some(key(1, "app")), "of the same task");
        assert_eq!(asks("a", at(4)), None, "of another task");
        assert_eq!(asks("a", Ipv4Addr::LOCALHOST), None, "of no task");
        assert_eq!(asks("h", Ipv4Addr::LOCALHOST), Some(key(3, "host")));
        assert_eq!(asks("h", at(4)), None, "a container of the bridge");
        metadata.add("r", Kind::Role, &key(1, "app"), Some(at(2)));
        let acts = |id, peer: Ipv4Addr| metadata.owner(id, Kind::Role, peer.into());
        assert_eq!(acts("r", at(3)), Some(key(1, "app")), "of the same task");
        assert_eq!((acts("r", at(4)), acts("a", at(2)), asks("r", at(2))), (None, None, None));
        metadata.remove(&key(1, "app"));
        assert_eq!((asks("a", at(3)), acts("r", at(3))), (None, None));
    }

    #[test]
    fn ids_are_long_and_differ() {
        let (a, b) = (new_id(), new_id());
        assert_eq!((a.len(), b.len()), (32, 32));
        assert_ne!(a, b);
        assert_eq!(uri("x"), "http://169.254.170.2/v4/x");
    }
}
