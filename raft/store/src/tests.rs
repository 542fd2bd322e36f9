//! Tests that need the inside of the store; those of its surface are in `tests/`.

#![allow(clippy::unwrap_used)]

mod damage;
mod fuzz;
mod golden;
mod golden_model;
mod suite;

use crate::disk::Mark;
use crate::health::Health;
use crate::log::{Log, LogShared};
use crate::machine::{AppliedState, Machine, Published};
use crate::open::{self, Identity, Opened};
use crate::types::{LeaderId, LogId, Proposal, RaftEntry, RaftPayload};
use crate::writer::{self, Hook, Writer};
use muster_model::command::{Bootstrap, CreateCluster};
use muster_model::{ClusterId, Command, Entry, IdSource, Manager, Principal, RaftId, Time};
use openraft::vote::RaftLeaderId;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

pub const WHO: Identity = Identity { fleet: 7, raft_id: 1, disk: 99 };

/// The first one makes the fleet, every other one a cluster with a name of its own.
pub fn entry(number: u64) -> Entry {
    let mut ids = IdSource::new(u128::from(number));
    let request = ids.request();
    let id = ids.cluster();
    let command = match number {
        0 => Command::Bootstrap(Box::new(bootstrap(id))),
        _ => Command::CreateCluster(CreateCluster {
            id,
            name: format!("cluster-{number}").into(),
            settings: Default::default(),
            tags: Default::default(),
        }),
    };
    let at = Time(1_700_000_000_000 + number);
    Entry { request, at, by: Principal::Manager(RaftId(1)), trace: None, command }
}

fn bootstrap(default_cluster: ClusterId) -> Bootstrap {
    Bootstrap {
        name: "fleet".into(),
        account: "000000000000".into(),
        region: "local".into(),
        default_cluster,
        authority: Default::default(),
        manager: Manager {
            id: RaftId(1),
            name: "manager-1".into(),
            zone: "az-a".into(),
            address: "127.0.0.1:7700".into(),
            level: 1,
            joined_at: Time(0),
            removed_at: None,
        },
        admin: "admin".into(),
        admin_serial: "00".into(),
    }
}

pub fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(LeaderId::new(term, 1).to_committed(), index)
}

pub fn command(term: u64, index: u64) -> RaftEntry {
    let payload = RaftPayload::Normal(Proposal::new(entry(index)).unwrap());
    RaftEntry { log_id: log_id(term, index), payload }
}

/// A store without Raft.
pub struct Bare {
    pub log: Log,
    pub machine: Machine,
    pub writer: Writer,
    pub thread: JoinHandle<()>,
}

impl Bare {
    pub fn open(dir: &Path) -> Result<Self, crate::StoreError> {
        Self::open_with(dir, Arc::new(|_| {}))
    }

    pub fn open_with(dir: &Path, hook: Hook) -> Result<Self, crate::StoreError> {
        let Opened { db, mark, tail, applied, generation, .. } = open::open(dir, WHO)?;
        Ok(Self::start(db, mark, tail, applied, generation, hook))
    }

    fn start(
        db: Arc<open::Db>,
        mark: Mark,
        tail: crate::log::Tail,
        applied: AppliedState,
        generation: u8,
        hook: Hook,
    ) -> Self {
        let borrowed = open::Borrowed::of(&db);
        let shared = Arc::new(LogShared::new(borrowed.clone(), tail));
        let (writer, thread) = writer::start(writer::Thread {
            db,
            log: shared.clone(),
            mark,
            health: Arc::new(Health::default()),
            fatal: Arc::new(|why| panic!("{why}")),
            hook: hook.clone(),
            reserve: "/nonexistent/reserve".into(),
            persisted: applied.state.clone(),
            generation,
        })
        .unwrap();
        let published = Published::new(&applied);
        let machine = Machine::new(borrowed, writer.clone(), published, hook, applied);
        Self { log: Log::new(shared, writer.clone()), machine, writer, thread }
    }

    /// Writes what is queued and closes the database.
    pub async fn close(self) {
        self.writer.stop().await;
        let Self { log, machine, writer, thread } = self;
        drop((log, machine, writer));
        thread.join().unwrap();
    }
}

pub fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for item in std::fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let target = to.join(item.file_name());
        match item.file_type().unwrap().is_dir() {
            true => copy_dir(&item.path(), &target),
            false => drop(std::fs::copy(item.path(), target).unwrap()),
        }
    }
}
