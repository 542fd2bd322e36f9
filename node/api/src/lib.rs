//! The front ends of a manager: who asks, whether they may, and what is answered.
//!
//! One [`Dispatcher`] method per rpc, in protobuf messages and without a transport; `grpc` carries
//! them over gRPC, `ecs` over ECS's own wire protocol. Reads are pure functions over a
//! state (`read`), writes become one entry of the log (`write`). This crate does not know who
//! leads, where state is kept, or what becomes of a request after it is committed.
//!
//! Reading order: `guard` (every request passes it), `grpc`, `handle/`, `write`, `read`.

pub mod authn;
pub mod authz;
pub mod call;
pub mod deadline;
mod dispatcher;
pub mod ecs;
mod grpc;
mod guard;
mod handle;
pub mod limits;
pub mod live;
mod make;
pub mod page;
pub mod policy;
mod read;
mod resolve;
mod show;
pub mod sigv4;
pub mod simulate;
pub mod sts;
mod watch;
mod write;

pub use authz::Caller;
pub use call::Call;
pub use dispatcher::{Clock, Dispatcher, Foresee};
pub use guard::{Admitted, Guard, Guarded};
pub use live::LiveBackend;

use authn::Authn;
use authz::Rules;
use dispatcher::Parts;
use grpc::{EcsService, Front, LiveService, OperatorService};
use limits::{ANSWER_BYTES_MAX, MESSAGE_BYTES_MAX};
use muster_model::TraceId;
use muster_proto::pb::ecs_server::EcsServer;
use muster_proto::pb::live_server::LiveServer;
use muster_proto::pb::operator_server::OperatorServer;
use muster_replica::Replica;
use std::sync::Arc;
use tokio::task::AbortHandle;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use watch::history::History;

/// What the process gives its front ends.
pub struct ApiConfig {
    /// The process's one clock.
    pub now: Clock,
    /// For ids; from the machine's entropy, or from a test's seed.
    pub seed: u128,
    /// The trace the current span belongs to, where spans are exported.
    pub current_trace: Option<fn() -> Option<TraceId>>,
    /// Who runs the agents of simulated instances, where there are any.
    pub simulator: Option<Arc<dyn simulate::Simulator>>,
    /// Makes a span a child of what the request's headers name, where spans are exported.
    pub adopt_parent: Option<fn(&http::HeaderMap, &tracing::Span)>,
    /// Who foresees what a request would do.
    pub foresee: Foresee,
    /// The URL that tasks' identities name as their issuer, where there is one.
    pub issuer: Option<Arc<str>>,
}

/// The front ends of one manager. Dropping it ends what it does in the background; calls in
/// progress go on.
pub struct Api {
    dispatcher: Arc<Dispatcher>,
    guard: Guard,
    issuer: Option<Arc<str>>,
    health: HealthReporter,
    routes: Routes,
    followers: [AbortHandle; 2],
}

impl Api {
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the compiled-in descriptions of the services cannot be read.
    pub async fn new(
        config: ApiConfig,
        replica: Replica,
        live: Arc<dyn LiveBackend>,
    ) -> Result<Self, tonic_reflection::server::Error> {
        let history = Arc::new(History::default());
        let ApiConfig { now, seed, current_trace, simulator, adopt_parent, foresee, issuer } =
            config;
        let dispatcher = Arc::new(Dispatcher::new(Parts {
            replica: replica.clone(),
            live,
            history: history.clone(),
            now,
            seed,
            current_trace,
            simulator,
            foresee,
        }));
        let front = Front::new(dispatcher.clone());
        let policies = muster_proto::policy::POLICIES.iter().map(|p| (p.path, p.auth));
        let guard = Guard::new(Rules::new(policies), Authn::new(replica.clone()), adopt_parent);
        let (health, health_service) = tonic_health::server::health_reporter();
        health.set_serving::<EcsServer<EcsService>>().await;
        health.set_serving::<LiveServer<LiveService>>().await;
        health.set_serving::<OperatorServer<OperatorService>>().await;
        let routes = services(&front)?.add_service(health_service);
        let followers = [
            tokio::spawn(follow(replica.clone(), history)).abort_handle(),
            tokio::spawn(report_leader(replica, health.clone())).abort_handle(),
        ];
        Ok(Self { dispatcher, guard, issuer, health, routes, followers })
    }

    /// `Ecs`, `Live`, `Operator`, health and reflection. The caller adds the managers' own services
    /// and serves all of them behind [`Api::guard`].
    pub fn routes(&self) -> Routes {
        self.routes.clone()
    }

    /// The layer around all services of the listener.
    pub fn guard(&self) -> Guard {
        self.guard.clone()
    }

    /// The ECS wire protocol's door; [`ecs::listener::serve`] gives it a listener.
    pub fn ecs(&self, trust: ecs::Trust) -> Arc<ecs::Door> {
        let (dispatcher, guard) = (self.dispatcher.clone(), self.guard.clone());
        Arc::new(ecs::Door::new(dispatcher, guard, trust, self.issuer.clone()))
    }

    /// Tells health probes that this manager is going away, and ends watches and live streams:
    /// their readers go on at another manager.
    pub async fn stop_serving(&self) {
        self.dispatcher.stopping.cancel();
        for follower in &self.followers {
            follower.abort();
        }
        for service in ["", "ready", "leader"] {
            self.health.set_service_status(service, ServingStatus::NotServing).await;
        }
        self.health.set_not_serving::<EcsServer<EcsService>>().await;
        self.health.set_not_serving::<LiveServer<LiveService>>().await;
        self.health.set_not_serving::<OperatorServer<OperatorService>>().await;
    }

    /// Waits for the calls being answered and what they left to do behind them. Streams do not
    /// count: they end with [`Api::stop_serving`].
    pub async fn drained(&self) {
        self.dispatcher.under_way.close();
        self.dispatcher.under_way.wait().await;
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        for follower in &self.followers {
            follower.abort();
        }
    }
}

fn services(front: &Front) -> Result<Routes, tonic_reflection::server::Error> {
    let ecs = EcsServer::new(EcsService(front.clone()))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(ANSWER_BYTES_MAX);
    let live = LiveServer::new(LiveService(front.clone()))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(ANSWER_BYTES_MAX);
    let operator = OperatorServer::new(OperatorService(front.clone()))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(ANSWER_BYTES_MAX);
    let descriptions = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(muster_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    Ok(Routes::new(ecs)
        .add_service(live)
        .add_service(operator)
        .add_service(descriptions().build_v1()?)
        .add_service(descriptions().build_v1alpha()?))
}

/// Keeps every state this manager publishes, as far as it sees them, for watches to resume from.
async fn follow(replica: Replica, history: Arc<History>) {
    let mut states = replica.watch();
    states.mark_changed();
    while states.changed().await.is_ok() {
        let state = states.borrow_and_update().clone();
        history.keep(state);
    }
}

/// Health of two names that are no services, for probes: `leader` serves on the leader alone,
/// `ready` wherever a leader is known, so that writes and reads can be answered.
async fn report_leader(replica: Replica, health: HealthReporter) {
    let mut leadership = replica.leadership();
    leadership.mark_changed();
    while leadership.changed().await.is_ok() {
        let (mine, known) = {
            let now = leadership.borrow_and_update();
            (now.mine, now.leader.is_some())
        };
        for (name, serving) in [("leader", mine), ("ready", known)] {
            let status = match serving {
                true => ServingStatus::Serving,
                false => ServingStatus::NotServing,
            };
            health.set_service_status(name, status).await;
        }
    }
}
