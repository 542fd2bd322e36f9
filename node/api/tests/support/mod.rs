//! A manager's front ends over an in-memory wire, on a replica in memory, with made-up peers.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod door;
pub mod rights;

use muster_api::live::{LiveBackend, NoLive};
use muster_api::{Api, ApiConfig};
use muster_identity::Peer;
use muster_model::cluster::Authority;
use muster_model::command::{Bootstrap, RegisterInstance};
use muster_model::spec::Resources;
use muster_model::{
    ClusterId, Command, Entry, Epoch, Health, IdSource, Index, InstanceId, InstanceSpec, Manager,
    Principal, RaftId, RequestId, Response, State, Step, Time, UserRole, apply,
};
use muster_proto::pb::ecs_client::EcsClient;
use muster_proto::pb::live_client::LiveClient;
use muster_proto::pb::operator_client::OperatorClient;
use muster_replica::Replica;
use muster_replica::memory::Memory;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint, Server};

pub const ADMIN: &str = "admin";
pub const SERIAL: &str = "01";
pub const MANAGER: RaftId = RaftId(1);

/// One end of an in-memory connection, with who is at the other.
pub struct Wire {
    io: DuplexStream,
    peer: Peer,
}

impl Connected for Wire {
    type ConnectInfo = Peer;
    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// A manager under test.
pub struct Bench {
    pub api: Api,
    pub memory: Arc<Memory>,
    pub replica: Replica,
    pub ids: IdSource,
    clock: Arc<AtomicU64>,
    wires: mpsc::UnboundedSender<std::io::Result<Wire>>,
}

pub fn peer(principal: Option<Principal>, serial: &str) -> Peer {
    let serial = principal.is_some().then(|| serial.to_owned());
    Peer { principal, serial, addr: ([127, 0, 0, 1], 1).into() }
}

pub fn user(name: &str) -> Peer {
    peer(Some(Principal::User(name.into())), SERIAL)
}

pub fn default_cluster() -> ClusterId {
    ClusterId::from_bits(0xd)
}

/// A cluster of one manager and its administrator.
pub fn bootstrapped() -> State {
    bootstrapped_with("", "")
}

/// The same with this authority.
pub fn bootstrapped_with(certificate_pem: &str, key_pem: &str) -> State {
    let manager = Manager {
        id: MANAGER,
        name: "m1".into(),
        zone: "az-a".into(),
        address: "m1:7700".into(),
        level: 1,
        joined_at: Time(0),
        removed_at: None,
    };
    let authority = Authority {
        certificate_pem: certificate_pem.into(),
        key_pem: key_pem.into(),
        manager_token_hash: "".into(),
        worker_token_hash: "".into(),
    };
    let first = Bootstrap {
        name: "test".into(),
        account: "000000000000".into(),
        region: "local".into(),
        default_cluster: default_cluster(),
        authority,
        manager,
        admin: ADMIN.into(),
        admin_serial: SERIAL.into(),
    };
    let mut state = State::default();
    let commands = [Command::Bootstrap(Box::new(first)), Command::Takeover { manager: MANAGER }];
    for (at, command) in (1..).zip(commands) {
        let entry = Entry {
            request: RequestId::from_bits(at),
            at: Time(1_000_000),
            by: Principal::Manager(MANAGER),
            trace: None,
            command,
        };
        apply(&mut state, Index(at as u64), &entry).unwrap();
    }
    state
}

impl Bench {
    pub async fn start() -> Self {
        let (memory, replica) = Memory::start_with(bootstrapped());
        Self::over(memory, replica).await
    }

    /// With a real authority, whose key seals secrets.
    pub async fn with_authority() -> Self {
        let now = std::time::UNIX_EPOCH + Duration::from_secs(1000);
        let authority = muster_identity::Authority::create("test", now).unwrap();
        let state = bootstrapped_with(authority.cert_pem(), &authority.key_pem());
        let (memory, replica) = Memory::start_with(state);
        Self::over(memory, replica).await
    }

    pub async fn over(memory: Arc<Memory>, replica: Replica) -> Self {
        Self::with_live(memory, replica, Arc::new(NoLive)).await
    }

    pub async fn with_live(
        memory: Arc<Memory>,
        replica: Replica,
        live: Arc<dyn LiveBackend>,
    ) -> Self {
        let clock = Arc::new(AtomicU64::new(2_000_000));
        let ticking = clock.clone();
        let config = ApiConfig {
            now: Arc::new(move || Time(ticking.fetch_add(1, Ordering::Relaxed))),
            seed: 7,
            current_trace: None,
            simulator: None,
            adopt_parent: None,
            foresee: Arc::new(muster_control::leader::foresee::foresee),
            issuer: Some("https://muster.test".into()),
        };
        let api = Api::new(config, replica.clone(), live).await.unwrap();
        let (wires, incoming) = mpsc::unbounded_channel();
        let server = Server::builder().layer(api.guard()).add_routes(api.routes());
        let incoming = UnboundedReceiverStream::new(incoming);
        tokio::spawn(async move { server.serve_with_incoming(incoming).await });
        Self { api, memory, replica, ids: IdSource::new(99), clock, wires }
    }

    /// A connection of `peer`.
    pub async fn channel(&self, peer: Peer) -> Channel {
        let wires = self.wires.clone();
        let connect = tower::service_fn(move |_: tonic::transport::Uri| {
            let (ours, theirs) = tokio::io::duplex(1 << 20);
            let sent = wires.send(Ok(Wire { io: theirs, peer: peer.clone() }));
            async move {
                sent.map_err(|_| std::io::Error::other("the server has stopped"))?;
                Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(ours))
            }
        });
        // Small windows, so that a reader who stops is felt.
        let endpoint =
            Endpoint::from_static("http://memory").initial_stream_window_size(Some(64 * 1024));
        endpoint.connect_with_connector(connect).await.unwrap()
    }

    pub async fn ecs(&self, peer: Peer) -> EcsClient<Channel> {
        EcsClient::new(self.channel(peer).await).max_decoding_message_size(32 << 20)
    }

    pub async fn admin(&self) -> EcsClient<Channel> {
        self.ecs(user(ADMIN)).await
    }

    pub async fn operator(&self, peer: Peer) -> OperatorClient<Channel> {
        OperatorClient::new(self.channel(peer).await)
    }

    pub async fn live(&self, peer: Peer) -> LiveClient<Channel> {
        LiveClient::new(self.channel(peer).await)
    }

    /// Commits a command as the manager.
    pub async fn commit(&mut self, command: Command) -> Response {
        let entry = Entry {
            request: self.ids.request(),
            at: Time(self.clock.fetch_add(1, Ordering::Relaxed)),
            by: Principal::Manager(MANAGER),
            trace: None,
            command,
        };
        let deadline = muster_replica::Instant::now() + Duration::from_secs(5);
        self.replica.propose(entry, deadline).await.unwrap().response
    }

    /// Moves the managers' clock.
    pub fn pass(&self, time: Duration) {
        self.clock.fetch_add(time.as_millis() as u64, Ordering::Relaxed);
    }

    pub fn epoch(&self) -> Epoch {
        self.replica.state().meta().epoch
    }

    pub async fn user(&mut self, name: &str, role: UserRole) {
        self.commit(Command::CreateUser { name: name.into(), role, serial: SERIAL.into() }).await;
    }

    /// A ready container instance in the default cluster.
    pub async fn instance(&mut self, cpu: u32, memory_mib: u32) -> InstanceId {
        let id = self.ids.instance();
        let spec = InstanceSpec {
            hostname: format!("host-{:x}", id.bits() >> 104),
            zone: "az-a".into(),
            address: "10.0.0.9".into(),
            total: Resources { cpu, memory_mib },
            ..InstanceSpec::default()
        };
        let register = RegisterInstance { id, cluster: default_cluster(), spec: Arc::new(spec) };
        self.commit(Command::RegisterInstance(register)).await;
        let health = Step::SetHealth { instance: id, health: Health::Ready };
        self.commit(Command::Plan { epoch: self.epoch(), steps: vec![health] }).await;
        id
    }
}

/// A definition of one container.
pub fn definition(
    family: &str,
    cpu: i32,
    memory: i32,
) -> muster_proto::pb::RegisterTaskDefinitionRequest {
    use muster_proto::pb;
    pb::RegisterTaskDefinitionRequest {
        family: family.into(),
        container_definitions: vec![pb::ContainerDefinition {
            name: "main".into(),
            image: "busybox".into(),
            cpu,
            memory: Some(memory),
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// Plays the leader: places each waiting task where it fits, explains the others.
pub struct Planner(tokio::task::JoinHandle<()>);

impl Drop for Planner {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Bench {
    pub fn planner(&self) -> Planner {
        let replica = self.replica.clone();
        let clock = self.clock.clone();
        Planner(tokio::spawn(async move {
            let mut ids = IdSource::new(5);
            let mut states = replica.watch();
            states.mark_changed();
            while states.changed().await.is_ok() {
                let state = states.borrow_and_update().clone();
                let Some(step) = state.waiting().find_map(|task| plan(&state, task)) else {
                    continue;
                };
                let command = Command::Plan { epoch: state.meta().epoch, steps: vec![step] };
                let at = Time(clock.fetch_add(1, Ordering::Relaxed));
                let by = Principal::Manager(MANAGER);
                let entry = Entry { request: ids.request(), at, by, trace: None, command };
                let deadline = muster_replica::Instant::now() + Duration::from_secs(5);
                let _ = replica.propose(entry, deadline).await;
            }
        }))
    }
}

fn plan(state: &State, task: &muster_model::Task) -> Option<Step> {
    use muster_model::task::{Blocker, Shortfall, Waiting};
    let wanted = state.reservation(task);
    let here = |row: &&Arc<muster_model::Instance>| row.cluster == task.cluster;
    let fits = state.instances().filter(here).find(|row| wanted.fits_in(state.free(row)));
    if let Some(row) = fits {
        return Some(Step::Place { task: task.id, instance: row.id, ports: Vec::new() });
    }
    let nearest = state.instances().find(here)?;
    let free = state.free(nearest);
    let (blocker, lacks) = match wanted.cpu > free.cpu {
        true => (Blocker::Cpu, Shortfall::Cpu { wanted: wanted.cpu, free: free.cpu }),
        false => {
            let (wanted, free) = (wanted.memory_mib, free.memory_mib);
            (Blocker::Memory, Shortfall::MemoryMib { wanted, free })
        }
    };
    let waiting =
        Waiting { instances: 1, removed: vec![(blocker, 1)], nearest: Some((nearest.id, lacks)) };
    let known = task.waiting.as_deref() == Some(&waiting);
    (!known).then_some(Step::Explain { task: task.id, waiting })
}

impl Bench {
    /// The agent's word that a placed task runs.
    pub async fn running(&mut self, task: &str) {
        let task: muster_model::TaskId = task.parse().unwrap();
        let state = self.replica.state();
        let instance = state.task(task).unwrap().instance.unwrap();
        let observed = muster_model::Observed {
            phase: muster_model::Phase::Running,
            started_at: Some(Time(3_000_000)),
            ..Default::default()
        };
        let report = muster_model::TaskReport { task, instance, observed };
        self.commit(Command::Report { reports: vec![report] }).await;
    }

    /// A task in the first slot of a service of the default cluster, waiting.
    pub async fn slot(&mut self, service: &str) -> muster_model::TaskId {
        let state = self.replica.state();
        let row = state.service_named(default_cluster(), service).unwrap();
        let (service, deployment) = (row.id, row.primary().unwrap().id);
        let task = self.ids.task(muster_model::Time(0));
        let tasks = vec![(muster_model::Slot(0), task)];
        let step = Step::CreateTasks { service, deployment, tasks };
        self.commit(Command::Plan { epoch: self.epoch(), steps: vec![step] }).await;
        task
    }
}
