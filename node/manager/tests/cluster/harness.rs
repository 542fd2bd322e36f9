//! What the tests stand on: one manager with its listener, and agents as a machine would run them.

use muster_agent::config::{AgentConfig, SimulateConfig};
use muster_agent::hollow::Hollow;
use muster_api::{Api, ApiConfig, LiveBackend, live};
use muster_identity::server::{Options, grpc_server, incoming};
use muster_identity::{
    ConnectOptions, Connector, Identity, IdentityPem, JoinToken, new_key_and_csr,
};
use muster_manager::{Clock, Endpoints, Founded, Founding, Live, Manager, Parts};
use muster_model::command::{CreateService, RunTask};
use muster_model::spec::{ContainerDefinition, TaskDefinition};
use muster_model::{
    ClusterId, Command, DefinitionId, Entry, Error, IdSource, InstanceId, Principal, RaftId,
    Response, ServiceId, ServiceSpec, State, Task, TaskId, Time,
};
use muster_proto::dispatch as pb;
use muster_proto::dispatch::attach_order::What;
use muster_proto::dispatch::dispatch_client::DispatchClient;
use muster_proto::dispatch::enroll_client::EnrollClient;
use muster_proto::dispatch::join_request::As;
use muster_replica::memory::Memory;
use muster_replica::{
    Answer, Applied, Backend, Change, Instant, Leadership, Member, RaftStatus, Replica,
};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// How long a test waits for what should happen within a fraction of it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Real time, sped up: what takes a lease takes a fraction of a second. Heartbeats are asked for in
/// real time, so they are sped up beside it.
pub fn clock(speed: u64) -> Clock {
    let start = tokio::time::Instant::now();
    let wall = UNIX_EPOCH.elapsed().unwrap();
    Arc::new(move || {
        let elapsed = start.elapsed().as_millis() as u64 * speed;
        Time(wall.as_millis() as u64 + elapsed)
    })
}

/// A manager of several over one log: what it is told about who leads is the test's to say.
pub struct Seat {
    id: RaftId,
    pub address: SocketAddr,
    log: Replica,
    leadership: watch::Sender<Leadership>,
}

impl Backend for Seat {
    fn watch(&self) -> watch::Receiver<Arc<State>> {
        self.log.watch()
    }
    fn age(&self) -> Duration {
        Duration::ZERO
    }
    fn read(&self, deadline: Instant) -> Answer<'_, Arc<State>> {
        Box::pin(self.log.read(deadline))
    }
    fn propose(&self, entry: Entry, deadline: Instant) -> Answer<'_, Applied> {
        Box::pin(self.log.propose(entry, deadline))
    }
    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }
    fn status(&self) -> RaftStatus {
        let member = |row: &Arc<muster_model::Manager>| Member {
            id: row.id,
            address: row.address.to_string(),
            voter: true,
            matched: None,
            answered: None,
        };
        let members = self.log.state().managers().map(member).collect();
        RaftStatus { id: self.id, members, ..RaftStatus::default() }
    }
    fn change(&self, change: Change, _deadline: Instant) -> Answer<'_, ()> {
        panic!("every manager of a test votes already: {change:?}")
    }
}

/// Logs and commands over the agents' sessions, as the binary wires them.
struct Sessions(Live);

#[tonic::async_trait]
impl LiveBackend for Sessions {
    async fn attach(&self, task: TaskId, what: What) -> Result<live::Attached, Error> {
        let attached = self.0.attach(task, what).await?;
        Ok(live::Attached { up: Box::pin(attached.up), down: attached.down })
    }
}

/// A founded cluster, of one manager unless said otherwise; the first leads.
pub struct Cluster {
    pub replica: Replica,
    pub clock: Clock,
    pub founded: Founded,
    /// Of the first manager.
    pub address: SocketAddr,
    /// Over the first manager.
    pub live: Option<Live>,
    pub seats: Vec<Arc<Seat>>,
    /// Their front ends, which end when dropped.
    apis: Vec<Api>,
    heartbeat: Duration,
    ids: Mutex<IdSource>,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Cluster {
    pub async fn start() -> Self {
        Self::start_sped_up(1).await
    }

    pub async fn start_sped_up(speed: u64) -> Self {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let clock = clock(speed);
        let (_, replica) = Memory::start();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let founding = Founding {
            name: "test".into(),
            account: "000000000000".into(),
            region: "local".into(),
            manager: "m1".into(),
            zone: "az-a".into(),
            address: address.to_string(),
            level: 1,
            admin: "admin".into(),
        };
        let founded = muster_manager::bootstrap_command(&founding, clock()).unwrap();
        let mut cluster = Self {
            seats: Vec::new(),
            apis: Vec::new(),
            tasks: Vec::new(),
            stop: CancellationToken::new(),
            live: None,
            heartbeat: Duration::from_millis(2000 / speed),
            ids: Mutex::new(IdSource::new(1)),
            replica,
            clock,
            founded,
            address,
        };
        let identity = cluster.founded.manager.clone();
        cluster.live = Some(cluster.seat(listener, identity).await);
        cluster.propose(cluster.founded.command.clone()).await;
        cluster.lead(Some(0));
        cluster.wait("a takeover", |state| state.meta().epoch.0 > 0).await;
        cluster
    }

    /// Adds a manager that follows, by joining.
    pub async fn add_manager(&mut self) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let role = As::Manager(pb::JoinManager {
            name: format!("m{}", self.seats.len() + 1),
            zone: "az-b".into(),
            address: listener.local_addr().unwrap().to_string(),
            level: 1,
        });
        let join = Join::new(&self.founded.manager_token, role);
        let identity = join.identity(&join.send(self).await.unwrap());
        self.seat(listener, identity).await;
        self.lead(Some(0));
    }

    /// Starts a manager's services and loop.
    async fn seat(&mut self, listener: TcpListener, identity: Identity) -> Live {
        let Principal::Manager(id) = identity.principal() else { panic!() };
        let address = listener.local_addr().unwrap();
        let seat = Arc::new(Seat {
            id,
            address,
            log: self.replica.clone(),
            leadership: watch::Sender::default(),
        });
        let manager = Manager::new(Parts {
            id,
            replica: Replica::new(seat.clone()),
            clock: self.clock.clone(),
            identity: identity.clone(),
            identity_dir: None,
            address: address.to_string(),
            level: 1,
            heartbeat: self.heartbeat,
            issuer: Some(crate::task_roles::ISSUER.into()),
            endpoints: Endpoints::new(b"").unwrap(),
        });
        let live = manager.live();
        let config = ApiConfig {
            now: self.clock.clone(),
            seed: 2,
            current_trace: None,
            simulator: None,
            adopt_parent: None,
            foresee: Arc::new(muster_control::leader::foresee::foresee),
            issuer: Some(crate::task_roles::ISSUER.into()),
        };
        let replica = Replica::new(seat.clone());
        let api = Api::new(config, replica, Arc::new(Sessions(live.clone()))).await.unwrap();
        let routes = api.routes().add_service(manager.dispatch()).add_service(manager.enroll());
        let server =
            grpc_server().layer(api.guard()).add_routes(routes).serve_with_incoming_shutdown(
                incoming(listener, identity, Options::default()),
                self.stop.clone().cancelled_owned(),
            );
        self.apis.push(api);
        self.tasks.push(tokio::spawn(async move { server.await.unwrap() }));
        self.tasks.push(tokio::spawn(manager.run(self.stop.clone())));
        self.seats.push(seat);
        live
    }

    /// Who leads from now on, as every manager is told at once.
    pub fn lead(&self, leads: Option<usize>) {
        let leader = leads.map(|index| &self.seats[index]);
        for seat in &self.seats {
            seat.leadership.send_modify(|now| {
                now.term += 1;
                now.mine = leader.is_some_and(|leader| leader.id == seat.id);
                now.leader = leader.map(|leader| (leader.id, leader.address.to_string()));
            });
        }
    }

    /// Ends the manager; a test that calls it proves that nothing hangs.
    pub async fn stop(self) {
        self.stop.cancel();
        for task in self.tasks {
            tokio::time::timeout(PATIENCE, task).await.expect("the manager stops").unwrap();
        }
    }

    pub async fn try_propose(&self, command: Command) -> Result<Response, muster_model::Error> {
        let request = self.ids.lock().unwrap().request();
        let by = Principal::User("admin".into());
        let entry = Entry { request, at: (self.clock)(), by, trace: None, command };
        self.replica.propose(entry, Instant::now() + PATIENCE).await.map(|applied| applied.response)
    }

    pub async fn propose(&self, command: Command) -> Response {
        self.try_propose(command).await.unwrap()
    }

    /// Waits for a state of which `test` is true.
    pub async fn wait(&self, what: &str, test: impl Fn(&State) -> bool) -> Arc<State> {
        let mut states = self.replica.watch();
        let wait = states.wait_for(|state| test(state));
        if let Ok(state) = tokio::time::timeout(PATIENCE, wait).await {
            return state.unwrap().clone();
        }
        let state = self.replica.state();
        let tasks: Vec<_> = state.tasks().map(|t| (t.id, &t.desired, t.observed.phase)).collect();
        let instances: Vec<_> = state.instances().map(|i| (i.id, i.health)).collect();
        panic!("waited in vain for {what}; tasks {tasks:#?}; instances {instances:#?}");
    }

    pub fn default_cluster(&self) -> ClusterId {
        self.founded.default_cluster
    }

    /// A definition of one small container with this much to say.
    pub async fn definition(&self, family: &str, said: String) -> DefinitionId {
        let container = ContainerDefinition {
            name: "app".into(),
            image: "app:1".into(),
            essential: true,
            memory_mib: Some(6),
            environment: [("SAID".to_owned(), said)].into(),
            ..ContainerDefinition::default()
        };
        let definition = TaskDefinition {
            family: family.into(),
            containers: vec![container],
            ..TaskDefinition::default()
        };
        match self.propose(Command::RegisterTaskDefinition(definition.into())).await {
            Response::Definition(definition) => definition,
            other => panic!("{other:?}"),
        }
    }

    /// One task of its own.
    pub async fn run(&self, definition: DefinitionId) -> TaskId {
        let task = self.ids.lock().unwrap().task(Time(0));
        self.propose(Command::RunTask(RunTask {
            cluster: self.default_cluster(),
            definition,
            tasks: vec![task],
            group: "family:app".into(),
            started_by: None,
            overrides: Default::default(),
            tags: Default::default(),
        }))
        .await;
        task
    }

    /// A service of one small container.
    pub async fn service(&self, name: &str, desired_count: u32) -> ServiceId {
        let definition = self.definition(name, String::new()).await;
        let (id, deployment) = {
            let mut ids = self.ids.lock().unwrap();
            (ids.service(), ids.deployment())
        };
        let spec = ServiceSpec { name: name.into(), desired_count, ..ServiceSpec::default() };
        self.propose(Command::CreateService(CreateService {
            id,
            deployment,
            cluster: self.default_cluster(),
            definition,
            spec: spec.into(),
            tags: Default::default(),
        }))
        .await;
        id
    }

    pub async fn enroll(&self, connector: Connector) -> EnrollClient<Channel> {
        let address = self.address.to_string();
        let channel = connector.connect(&address, ConnectOptions::default()).await.unwrap();
        EnrollClient::new(channel)
    }

    pub async fn channel(&self, identity: &Identity) -> Channel {
        let (address, connector) = (self.address.to_string(), Connector::new(identity.clone()));
        connector.connect(&address, ConnectOptions::default()).await.unwrap()
    }

    pub async fn dispatch(&self, identity: &Identity) -> DispatchClient<Channel> {
        DispatchClient::new(self.channel(identity).await)
    }

    /// Joins a worker as `muster join` does.
    pub async fn join(&self, zone: &str, hostname: &str) -> Identity {
        let join = Join::worker(&self.founded.worker_token, zone, hostname);
        let joined = join.send(self).await.unwrap();
        join.identity(&joined)
    }

    /// Joins a worker and runs its agent.
    pub async fn agent(&self, zone: &str, hostname: &str) -> Agent {
        self.agent_knowing(&self.address.to_string(), zone, hostname).await
    }

    /// The same with another manager in its configuration.
    pub async fn agent_knowing(&self, manager: &str, zone: &str, hostname: &str) -> Agent {
        let identity = self.join(zone, hostname).await;
        let dir = tempfile::tempdir().unwrap();
        let hollow = Hollow::new(self.clock.clone(), SimulateConfig::default());
        let mut agent = Agent {
            config: agent_config(dir.path(), manager, zone, hostname),
            identity,
            hollow,
            clock: self.clock.clone(),
            _dir: dir,
            running: None,
        };
        agent.start();
        agent
    }
}

pub fn agent_config(
    dir: &std::path::Path,
    manager: &str,
    zone: &str,
    hostname: &str,
) -> AgentConfig {
    serde_json::from_value(serde_json::json!({
        "data_dir": dir,
        "managers": [manager],
        "cluster": "default",
        "zone": zone,
        "address": "127.0.0.1",
        "hostname": hostname,
        "capacity": { "cpu": 2048, "memory_mib": 1024 },
        "simulate": {},
    }))
    .unwrap()
}

/// An agent's process, as far as this one can be several.
pub struct Agent {
    pub config: AgentConfig,
    pub identity: Identity,
    pub hollow: Arc<Hollow>,
    clock: Clock,
    _dir: tempfile::TempDir,
    running: Option<(CancellationToken, JoinHandle<Result<(), muster_agent::Error>>)>,
}

impl Agent {
    pub fn instance(&self) -> InstanceId {
        match self.identity.principal() {
            Principal::Instance(id) => id,
            other => panic!("{other}"),
        }
    }

    pub fn start(&mut self) {
        let stop = CancellationToken::new();
        let agent = muster_agent::run_with(
            self.config.clone(),
            self.identity.clone(),
            self.clock.clone(),
            Arc::new(self.hollow.clone()),
            stop.clone(),
        );
        self.running = Some((stop, tokio::spawn(agent)));
    }

    /// As SIGTERM does; the machine's containers stay.
    pub async fn stop(&mut self) {
        let (stop, running) = self.running.take().unwrap();
        stop.cancel();
        let ended = tokio::time::timeout(PATIENCE, running).await.expect("the agent stops");
        ended.unwrap().unwrap();
    }

    /// As `kill -9` does.
    pub async fn kill(&mut self) {
        let (_, running) = self.running.take().unwrap();
        running.abort();
        let _ = running.await;
    }
}

/// A join request with its key, so that it can be repeated.
pub struct Join {
    pub token: JoinToken,
    pub request: pb::JoinRequest,
    key: String,
}

impl Join {
    pub fn new(token: &JoinToken, role: As) -> Self {
        let (key, certificate_request_pem) = new_key_and_csr().unwrap();
        let request = pb::JoinRequest {
            token_secret: token.secret().to_owned(),
            certificate_request_pem,
            request: format!("{:032x}", rand::random::<u128>()),
            r#as: Some(role),
        };
        Self { token: token.clone(), request, key }
    }

    pub fn worker(token: &JoinToken, zone: &str, hostname: &str) -> Self {
        Self::new(token, As::Worker(worker("default", zone, hostname)))
    }

    pub async fn send(&self, cluster: &Cluster) -> Result<pb::JoinResponse, Status> {
        let mut client = cluster.enroll(Connector::pinned(self.token.ca)).await;
        client.join(self.request.clone()).await.map(tonic::Response::into_inner)
    }

    pub fn identity(&self, joined: &pb::JoinResponse) -> Identity {
        Identity::from_pem(IdentityPem {
            ca: joined.ca_pem.clone(),
            cert: joined.certificate_pem.clone(),
            key: self.key.clone(),
        })
        .unwrap()
    }
}

pub fn worker(cluster: &str, zone: &str, hostname: &str) -> pb::JoinWorker {
    let spec = pb::InstanceSpec {
        hostname: hostname.into(),
        zone: zone.into(),
        address: "127.0.0.1".into(),
        cpu: 2048,
        memory_mib: 1024,
        ..pb::InstanceSpec::default()
    };
    pb::JoinWorker { cluster: cluster.into(), spec: Some(spec) }
}

pub fn running(state: &State, service: ServiceId) -> Vec<Arc<Task>> {
    state.tasks_of(service).filter(|task| task.running()).cloned().collect()
}

#[track_caller]
pub fn told(status: &Status, code: Code, text: &str) {
    assert_eq!(status.code(), code, "{status:?}");
    assert!(status.message().contains(text), "{:?} lacks {text:?}", status.message());
}
