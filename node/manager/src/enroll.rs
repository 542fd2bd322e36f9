//! How machines join, renew their certificates and find the managers.
//!
//! It decides who gets a certificate: the bearer of the role's token, or of a certificate that is
//! still good. Every write goes through the log, so any manager serves it. Invariant: a join
//! repeated with the same request id and the same key has no second effect, and nobody can make a
//! join whose certificate speaks for a machine that is there already.

use crate::hub::Hub;
use crate::limits::{CERTIFICATE_VALIDITY, ENROLL_WAIT, USER_VALIDITY};
use crate::wire;
use muster_identity::server::require;
use muster_identity::token::{hash_secret, same_hash};
use muster_model::command::{RegisterInstance, TokenRole};
use muster_model::{
    ClusterStatus, Command, Entry, Error, InstanceId, InstanceStatus, Kind, Principal, RequestId,
    Response as Applied, State,
};
use muster_proto::dispatch as pb;
use muster_proto::dispatch::join_request::As;
use muster_replica::Instant;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// Longest name, zone and host of a manager, as the longest host name.
const WORD_BYTES_MAX: usize = 253;

/// The gRPC service; every manager serves it.
pub struct EnrollService {
    pub(crate) hub: Arc<Hub>,
}

#[tonic::async_trait]
impl pb::enroll_server::Enroll for EnrollService {
    #[tracing::instrument(name = "enroll.join", skip_all)]
    async fn join(
        &self,
        request: Request<pb::JoinRequest>,
    ) -> Result<Response<pb::JoinResponse>, Status> {
        let joined = self.admit(request.into_inner()).await;
        let outcome = if joined.is_ok() { "ok" } else { "refused" };
        metrics::counter!("muster_manager_joins_total", "outcome" => outcome).increment(1);
        joined.map(Response::new)
    }

    #[tracing::instrument(name = "enroll.renew", skip_all)]
    async fn renew(
        &self,
        request: Request<pb::RenewRequest>,
    ) -> Result<Response<pb::RenewResponse>, Status> {
        let principal = require(&request)?;
        let state = self.read().await?;
        known(&state, &principal)?;
        let csr = request.into_inner().certificate_request_pem;
        let certificate_pem = match &principal {
            Principal::User(name) => self.renew_user(&state, name, &csr).await?,
            _ => self.issue(&state, &principal, &csr)?,
        };
        let ca_pem = state.meta().authority.certificate_pem.to_string();
        tracing::info!(%principal, "certificate renewed");
        Ok(Response::new(pb::RenewResponse { certificate_pem, ca_pem }))
    }

    async fn managers(
        &self,
        request: Request<pb::ManagersRequest>,
    ) -> Result<Response<pb::ManagersResponse>, Status> {
        require(&request)?;
        let managers = wire::managers(&self.hub.replica.state(), self.leader());
        Ok(Response::new(pb::ManagersResponse { managers }))
    }
}

impl EnrollService {
    async fn admit(&self, join: pb::JoinRequest) -> Result<pb::JoinResponse, Status> {
        // The whole request is checked before anything is written for it; its key by signing it.
        let asked: RequestId = join.request.parse().map_err(|error| wire::status(&error))?;
        let Some(role) = join.r#as else {
            return Err(Status::invalid_argument("as: neither manager nor worker"));
        };
        let state = self.read().await?;
        check_token(&state, &role, &join.token_secret)?;
        let csr = join.certificate_request_pem;
        let binding = Binding::new(asked, &csr);
        let of_worker = self.issue(&state, &Principal::Instance(binding.instance), &csr)?;
        let (principal, certificate_pem) = match role {
            As::Worker(worker) => (self.register(&state, worker, binding).await?, of_worker),
            As::Manager(manager) => {
                let principal = self.add_manager(manager, binding).await?;
                let certificate_pem = self.issue(&state, &principal, &csr)?;
                (principal, certificate_pem)
            }
        };
        let id = match &principal {
            Principal::Manager(id) => id.to_string(),
            Principal::Instance(id) => id.to_string(),
            other => other.to_string(),
        };
        tracing::info!(%principal, "machine joined");
        // Not the state from before: the joined manager itself belongs to the list.
        let now = self.hub.replica.state();
        Ok(pb::JoinResponse {
            certificate_pem,
            ca_pem: state.meta().authority.certificate_pem.to_string(),
            id,
            managers: wire::managers(&now, self.leader()),
            cluster_name: state.meta().name.to_string(),
        })
    }

    async fn register(
        &self,
        state: &State,
        worker: pb::JoinWorker,
        binding: Binding,
    ) -> Result<Principal, Status> {
        let cluster = match state.cluster_named(&worker.cluster) {
            Some(cluster) if cluster.status == ClusterStatus::Active => cluster.id,
            _ => return Err(no_such_cluster(state, &worker.cluster)),
        };
        let Some(spec) = &worker.spec else {
            return Err(Status::invalid_argument("worker.spec: missing"));
        };
        let spec = wire::instance_spec(spec)?;
        let id = binding.instance;
        let register = RegisterInstance { id, cluster, spec: Arc::new(spec) };
        let command = Command::RegisterInstance(register);
        match self.propose(binding.request, Principal::Manager(self.hub.me), command).await? {
            Applied::Instance(registered) if registered == id => Ok(Principal::Instance(id)),
            other => Err(Status::internal(format!("registering answered {other:?}"))),
        }
    }

    async fn add_manager(
        &self,
        manager: pb::JoinManager,
        binding: Binding,
    ) -> Result<Principal, Status> {
        check_manager(&manager.name, &manager.zone, &manager.address)
            .map_err(|error| wire::status(&error))?;
        let command = Command::AddManager {
            name: manager.name.into(),
            zone: manager.zone.into(),
            address: manager.address.into(),
            level: manager.level,
        };
        // Its Raft membership follows from the row: `members` on the leader sees to that.
        match self.propose(binding.request, Principal::Manager(self.hub.me), command).await? {
            Applied::Manager(id) => Ok(Principal::Manager(id)),
            other => Err(Status::internal(format!("adding a manager answered {other:?}"))),
        }
    }

    async fn renew_user(&self, state: &State, name: &str, csr: &str) -> Result<String, Status> {
        let Some(user) = state.user(name) else {
            return Err(gone(&Principal::User(name.to_owned())));
        };
        let principal = Principal::User(name.to_owned());
        let authority = self.hub.authority(state).map_err(|error| wire::status(&error))?;
        let issued = authority
            .issue(csr, &principal, USER_VALIDITY, wire::system_time(self.hub.now()))
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let command = Command::CreateUser {
            name: user.name.clone(),
            role: user.role,
            serial: issued.serial_hex.into(),
        };
        let request = self.hub.ids().request();
        self.propose(request, principal, command).await?;
        Ok(issued.cert_pem)
    }

    fn issue(&self, state: &State, principal: &Principal, csr: &str) -> Result<String, Status> {
        let authority = self.hub.authority(state).map_err(|error| wire::status(&error))?;
        authority
            .issue(csr, principal, CERTIFICATE_VALIDITY, wire::system_time(self.hub.now()))
            .map(|issued| issued.cert_pem)
            .map_err(|error| Status::invalid_argument(error.to_string()))
    }

    async fn read(&self) -> Result<Arc<State>, Status> {
        let deadline = Instant::now() + ENROLL_WAIT;
        self.hub.replica.read(deadline).await.map_err(|error| wire::status(&error))
    }

    async fn propose(
        &self,
        request: RequestId,
        by: Principal,
        command: Command,
    ) -> Result<Applied, Status> {
        let entry = Entry { request, at: self.hub.now(), by, trace: None, command };
        let deadline = Instant::now() + ENROLL_WAIT;
        let applied = self.hub.replica.propose(entry, deadline).await;
        applied.map(|applied| applied.response).map_err(|error| wire::status(&error))
    }

    fn leader(&self) -> Option<muster_model::RaftId> {
        self.hub.replica.leadership().borrow().leader.as_ref().map(|(id, _)| *id)
    }
}

/// What a join may name: ids that only the holder of this request and this key can arrive at.
///
/// A digest, not the request id itself: a machine with a token could otherwise ask for the id of
/// another machine and be given its certificate.
#[derive(Clone, Copy)]
struct Binding {
    request: RequestId,
    instance: InstanceId,
}

impl Binding {
    fn new(request: RequestId, csr: &str) -> Self {
        let bits = |purpose: &str| {
            let digest = Sha256::new()
                .chain_update(purpose)
                .chain_update(request.bits().to_be_bytes())
                .chain_update(csr)
                .finalize();
            let mut bits = [0; 16];
            bits.copy_from_slice(&digest[..16]);
            u128::from_be_bytes(bits)
        };
        Self {
            request: RequestId::from_bits(bits("muster join request")),
            instance: InstanceId::from_bits(bits("muster join instance")),
        }
    }
}

/// What a worker says is checked where its wire is read; a manager says this little.
///
/// # Errors
/// Names the word that is not allowed, and what is.
pub fn check_manager(name: &str, zone: &str, address: &str) -> Result<(), Error> {
    let word = |text: &str| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        (1..=WORD_BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed)
    };
    for (field, text) in [("name", name), ("zone", zone)] {
        if !word(text) {
            let allowed = format!("1 to {WORD_BYTES_MAX} letters, digits and -_.");
            return Err(Error::invalid(format!("manager.{field}"), text, allowed));
        }
    }
    let reachable = address.rsplit_once(':').is_some_and(|(host, port)| {
        let graphic = host.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
        let port = port.parse::<u16>().is_ok_and(|port| port > 0);
        (1..=WORD_BYTES_MAX).contains(&host.len()) && graphic && port
    });
    match reachable {
        true => Ok(()),
        false => {
            let allowed = "host:port at which the other managers reach it, such as 10.0.0.2:7400";
            Err(Error::invalid("manager.address", address, allowed))
        }
    }
}

fn check_token(state: &State, role: &As, secret: &str) -> Result<(), Status> {
    // A first manager serves before its first entry is committed: there is no token to compare.
    if state.meta().name.is_empty() {
        return Err(Status::unavailable("the cluster is being founded; try again in a second"));
    }
    let authority = &state.meta().authority;
    let hash = hash_secret(secret);
    let of = |role: TokenRole| match role {
        TokenRole::Manager => same_hash(&hash, &authority.manager_token_hash),
        TokenRole::Worker => same_hash(&hash, &authority.worker_token_hash),
    };
    let (wanted, other, name, other_name) = match role {
        As::Manager(_) => (TokenRole::Manager, TokenRole::Worker, "manager", "worker"),
        As::Worker(_) => (TokenRole::Worker, TokenRole::Manager, "worker", "manager"),
    };
    // An empty hash in the state would be matched by nothing: SHA-256 is never empty.
    if of(wanted) {
        return Ok(());
    }
    Err(match of(other) {
        true => Status::permission_denied(format!(
            "this is the token for {other_name}s; to join as a {name} take the {name} token, or \
             make a new one with `muster token rotate {name}`"
        )),
        false => Status::unauthenticated(format!(
            "the {name} token is not valid in cluster {:?}: it was rotated, or is of another \
             cluster; make a new one with `muster token rotate {name}`",
            state.meta().name
        )),
    })
}

fn no_such_cluster(state: &State, name: &str) -> Status {
    const SHOWN_MAX: usize = 10;
    let active = state.clusters().filter(|cluster| cluster.status == ClusterStatus::Active);
    let names: Vec<&str> = active.map(|cluster| &*cluster.name).take(SHOWN_MAX).collect();
    let shown: String = name.chars().take(80).collect();
    Status::not_found(format!(
        "{} {shown:?} not found; there are: {}; make one with `muster cluster create`",
        Kind::Cluster,
        names.join(", ")
    ))
}

/// Whether a certificate's owner is still one of us.
fn known(state: &State, principal: &Principal) -> Result<(), Status> {
    let good = match principal {
        Principal::Manager(id) => state.manager(*id).is_some_and(|row| row.removed_at.is_none()),
        Principal::Instance(id) => {
            state.instance(*id).is_some_and(|row| row.status != InstanceStatus::Inactive)
        }
        Principal::User(name) => state.user(name).is_some_and(|row| row.removed_at.is_none()),
        Principal::AssumedRole { .. } => false,
    };
    if good { Ok(()) } else { Err(gone(principal)) }
}

fn gone(principal: &Principal) -> Status {
    wire::status(&Error::Denied {
        principal: principal.to_string(),
        action: "renew its certificate: it was removed from the cluster".to_owned(),
    })
}
