//! Managers on loopback with real mTLS, each on a directory of its own; links can be cut.
#![allow(clippy::unwrap_used)]
#![allow(dead_code)] // not every test binary uses all of it

mod links;

pub use links::Links;
use muster_identity::{Authority, Connector, Identity, IdentityPem, Options, new_key_and_csr};
use muster_model::command::{Bootstrap, CreateCluster};
use muster_model::{
    ClusterId, Command, Entry, Error, IdSource, Index, Manager, Principal, RaftId, State, Time,
};
use muster_replica::{Applied, Change, Instant, Replica};
use muster_store::{Handle, StoreConfig, StoreError, Timing, start};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Longer than anything here takes on a loaded machine; a test that needs it fails.
pub const DEADLINE: Duration = Duration::from_secs(30);
/// Slow enough for a debug build beside other builds.
pub const TIMING: Timing = Timing::millis(100, 400, 800);
pub const FLEET: u128 = 0xf1ee7;

pub fn deadline() -> Instant {
    Instant::now() + DEADLINE
}

/// The first one makes the fleet, every other one a cluster with a name of its own.
pub fn entry(number: u64) -> Entry {
    let mut ids = IdSource::new(u128::from(number));
    let request = ids.request();
    let id = ids.cluster();
    let command = match number {
        0 => Command::Bootstrap(Box::new(bootstrap(id))),
        _ => Command::CreateCluster(CreateCluster {
            id,
            name: name(number).into(),
            settings: Default::default(),
            tags: Default::default(),
        }),
    };
    let at = Time(1_700_000_000_000 + number);
    Entry { request, at, by: Principal::Manager(RaftId(1)), trace: None, command }
}

/// The same with about 64 KiB in it.
pub fn big_entry(number: u64) -> Entry {
    let mut entry = entry(number);
    if let Command::CreateCluster(create) = &mut entry.command {
        create.settings.insert("big".into(), "x".repeat(64 * 1024));
    }
    entry
}

pub fn name(number: u64) -> String {
    format!("cluster-{number}")
}

/// Which of the entries from [`entry`] a state shows, in order.
pub fn numbers(state: &State) -> Vec<u64> {
    let number = |name: &str| name.strip_prefix("cluster-").and_then(|n| n.parse().ok());
    let mut found: Vec<u64> = state.clusters().filter_map(|row| number(&row.name)).collect();
    found.sort_unstable();
    found
}

pub fn shows(state: &State, number: u64) -> bool {
    state.cluster_named(&name(number)).is_some()
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

/// Waits for a condition; fails loudly if it never holds.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = deadline();
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub fn identity(authority: &Authority, principal: &Principal) -> Identity {
    let (key, csr) = new_key_and_csr().unwrap();
    let hour = Duration::from_secs(3600);
    let issued = authority.issue(&csr, principal, hour, SystemTime::now()).unwrap();
    let ca = authority.cert_pem().to_owned();
    Identity::from_pem(IdentityPem { ca, cert: issued.cert_pem, key }).unwrap()
}

/// One running manager.
pub struct Node {
    pub replica: Replica,
    pub handle: Option<Handle>,
    server: JoinHandle<()>,
}

/// A machine: what stays when its manager stops.
pub struct Machine {
    pub id: u64,
    pub address: String,
    pub dir: PathBuf,
    pub node: Option<Node>,
}

pub struct Fleet {
    pub authority: Authority,
    pub links: Arc<Links>,
    pub machines: Vec<Machine>,
    root: TempDir,
    pub config: Configure,
}

/// Changes what a manager is started with.
pub type Configure = Arc<dyn Fn(&mut StoreConfig) + Send + Sync>;

impl Fleet {
    /// No manager yet. `config` may change what each is started with.
    /// `RUST_LOG=muster_store=debug` shows what managers do.
    pub fn empty(config: impl Fn(&mut StoreConfig) + Send + Sync + 'static) -> Self {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_writer(std::io::stderr)
            .try_init();
        Self {
            authority: Authority::create("test", SystemTime::now()).unwrap(),
            links: Arc::default(),
            machines: Vec::new(),
            root: tempfile::tempdir().unwrap(),
            config: Arc::new(config),
        }
    }

    /// Managers 1 to `count`, all with a vote, and the fleet's first entry.
    pub async fn form(
        count: u64,
        config: impl Fn(&mut StoreConfig) + Send + Sync + 'static,
    ) -> Self {
        let mut fleet = Self::empty(config);
        fleet.add_machine(1).await;
        fleet.start(1, true).await.unwrap();
        fleet.propose(1, 0).await.unwrap();
        for id in 2..=count {
            fleet.join(1, id).await;
        }
        fleet
    }

    pub async fn add_machine(&mut self, id: u64) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        self.links.own(id, &address);
        let dir = self.root.path().join(format!("manager-{id}"));
        self.machines.push(Machine { id, address, dir, node: None });
    }

    /// A new machine joins through `via`: learner, then voter.
    pub async fn join(&mut self, via: u64, id: u64) {
        self.add_machine(id).await;
        self.start(id, false).await.unwrap();
        let address = self.machine(id).address.clone();
        let add = Change::AddLearner { id: RaftId(id), address };
        self.change(via, add).await.unwrap();
        self.change(via, Change::Promote(RaftId(id))).await.unwrap();
    }

    pub fn machine(&self, id: u64) -> &Machine {
        self.machines.iter().find(|machine| machine.id == id).unwrap()
    }

    fn machine_mut(&mut self, id: u64) -> &mut Machine {
        self.machines.iter_mut().find(|machine| machine.id == id).unwrap()
    }

    pub fn replica(&self, id: u64) -> &Replica {
        &self.machine(id).node.as_ref().unwrap().replica
    }

    pub fn running(&self) -> Vec<u64> {
        self.machines.iter().filter(|m| m.node.is_some()).map(|m| m.id).collect()
    }

    /// Starts the manager of a machine; waits for an earlier one to let go of the directory.
    pub async fn start(&mut self, id: u64, bootstrap: bool) -> Result<(), StoreError> {
        let who = identity(&self.authority, &Principal::Manager(RaftId(id)));
        let machine = self.machine(id);
        let mut config = StoreConfig::new(&machine.dir, FLEET, id, machine.address.clone());
        config.timing = TIMING;
        config.bootstrap = bootstrap;
        // Not every machine has 64 MiB to spare for a test.
        config.space.refuse_below = 0;
        config.space.reserve = 0;
        config.fatal = Arc::new(|why| eprintln!("fatal: {why}"));
        (self.config)(&mut config);
        let trust = Arc::new(self.links.trust(id, Connector::new(who.clone())));
        let deadline = deadline();
        let started = loop {
            match start(config.clone(), trust.clone()).await {
                Err(StoreError::Foreign { why, .. })
                    if why.contains("another process") && Instant::now() < deadline =>
                {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                other => break other?,
            }
        };
        let listener = loop {
            match TcpListener::bind(&machine.address).await {
                Ok(listener) => break listener,
                Err(e) => assert!(Instant::now() < deadline, "{e}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let incoming = muster_identity::incoming(listener, who, Options::default());
        let router = muster_identity::server::grpc_server().add_service(started.service);
        let server = tokio::spawn(async move {
            let _ = router.serve_with_incoming(incoming).await;
        });
        let node = Node { replica: started.replica, handle: Some(started.handle), server };
        self.machine_mut(id).node = Some(node);
        Ok(())
    }

    /// Stops at once and tells nobody, as a crash would.
    pub async fn kill(&mut self, id: u64) {
        let mut node = self.machine_mut(id).node.take().unwrap();
        self.links.cut(id);
        node.server.abort();
        let _ = (&mut node.server).await;
        if let Some(handle) = node.handle.take() {
            handle.halt().await;
        }
        self.links.reset(id);
        self.links.mend(id);
    }

    /// Stops in good order.
    pub async fn stop(&mut self, id: u64) {
        let mut node = self.machine_mut(id).node.take().unwrap();
        if let Some(handle) = node.handle.take() {
            handle.shutdown().await;
        }
        node.server.abort();
        let _ = node.server.await;
        self.links.reset(id);
    }

    /// The manager that leads, once one does.
    pub async fn leader(&self) -> u64 {
        let deadline = deadline();
        loop {
            for id in self.running() {
                if self.replica(id).leadership().borrow().mine {
                    return id;
                }
            }
            assert!(Instant::now() < deadline, "no leader");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn follower(&self) -> u64 {
        let leader = self.leader().await;
        self.running().into_iter().find(|id| *id != leader).unwrap()
    }

    /// Repeats until the outcome is known, as a client does.
    pub async fn propose(&self, via: u64, number: u64) -> Result<Applied, Error> {
        let deadline = deadline();
        loop {
            match self.replica(via).propose(entry(number), deadline).await {
                Err(Error::UnknownOutcome { .. } | Error::Unavailable { .. })
                    if Instant::now() < deadline =>
                {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                other => return other,
            }
        }
    }

    pub async fn change(&self, via: u64, change: Change) -> Result<(), Error> {
        let deadline = deadline();
        loop {
            match self.replica(via).change(change.clone(), deadline).await {
                Err(Error::UnknownOutcome { .. } | Error::Unavailable { .. })
                    if Instant::now() < deadline =>
                {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                other => return other,
            }
        }
    }

    /// Every running manager comes to the same state, at least as new as `index`.
    pub async fn converge(&self, index: Index) -> Arc<State> {
        let deadline = deadline();
        let mut first: Option<Arc<State>> = None;
        for id in self.running() {
            let replica = self.replica(id);
            let state = match replica.applied(index, deadline).await {
                Ok(state) => state,
                Err(e) => {
                    for id in self.running() {
                        eprintln!("{:?}", self.replica(id).status());
                    }
                    panic!("manager {id}: {e}");
                }
            };
            match &first {
                None => first = Some(state),
                Some(first) => {
                    assert_eq!(numbers(&state), numbers(first), "manager {id} differs");
                }
            }
        }
        first.unwrap()
    }
}

/// Managers end before their test does: a database that outlives `main` meets RocksDB's locks
/// after they are gone, and writes into a directory that was removed.
impl Drop for Fleet {
    fn drop(&mut self) {
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                for id in self.running() {
                    self.kill(id).await;
                }
            });
        });
    }
}

pub fn size_of_dir(dir: &Path) -> u64 {
    let items = std::fs::read_dir(dir).unwrap().map(|item| item.unwrap());
    items.map(|item| item.metadata().map_or(0, |m| m.len())).sum()
}
