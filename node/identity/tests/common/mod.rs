//! A cluster's authority and a gRPC server behind our acceptor, on loopback.
#![allow(dead_code)]

use muster_identity::server::grpc_server;
use muster_identity::{
    Authority, ConnectOptions, Identity, IdentityPem, Options, Peer, incoming, new_key_and_csr,
    peer,
};
use muster_model::{InstanceId, Principal, RaftId};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

pub const HOUR: Duration = Duration::from_secs(3600);
/// Longer than anything here takes on a loaded machine; a test that needs it fails.
pub const DEADLINE: Duration = Duration::from_secs(20);

pub fn authority() -> Authority {
    Authority::create("test", SystemTime::now()).unwrap()
}

pub fn manager(id: u64) -> Principal {
    Principal::Manager(RaftId(id))
}

pub fn instance() -> Principal {
    Principal::Instance(InstanceId::from_bits(0xabc))
}

/// A certificate of `validity`, issued `ago`.
pub fn issued(
    authority: &Authority,
    principal: &Principal,
    ago: Duration,
    validity: Duration,
) -> IdentityPem {
    let (key, csr) = new_key_and_csr().unwrap();
    let when = SystemTime::now() - ago;
    let issued = authority.issue(&csr, principal, validity, when).unwrap();
    IdentityPem { ca: authority.cert_pem().to_owned(), cert: issued.cert_pem, key }
}

pub fn pem(authority: &Authority, principal: &Principal) -> IdentityPem {
    issued(authority, principal, Duration::ZERO, HOUR)
}

pub fn identity(authority: &Authority, principal: &Principal) -> Identity {
    Identity::from_pem(pem(authority, principal)).unwrap()
}

pub fn expired(authority: &Authority, principal: &Principal) -> Identity {
    Identity::from_pem(issued(authority, principal, HOUR, HOUR / 2)).unwrap()
}

/// A health service that remembers who called. It stops when dropped.
pub struct Server {
    pub addr: String,
    pub callers: Arc<Mutex<Vec<Peer>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub async fn start(identity: Identity, options: Options) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let callers = Arc::<Mutex<Vec<Peer>>>::default();
        let seen = Arc::clone(&callers);
        let note = move |request: Request<()>| -> Result<Request<()>, Status> {
            seen.lock().unwrap().push(peer(&request).unwrap().clone());
            Ok(request)
        };
        let health = HealthService::from_health_reporter(HealthReporter::new());
        let service = HealthServer::new(health);
        let service = tonic::service::interceptor::InterceptedService::new(service, note);
        let stream = incoming(listener, identity, options);
        let router = grpc_server().add_service(service);
        let task = tokio::spawn(async move { router.serve_with_incoming(stream).await.unwrap() });
        Self { addr, callers, task }
    }

    pub fn last_caller(&self) -> Peer {
        self.callers.lock().unwrap().last().unwrap().clone()
    }
}

pub async fn call(channel: Channel) -> Result<(), Status> {
    let mut client = HealthClient::new(channel);
    let call = client.check(HealthCheckRequest::default());
    tokio::time::timeout(DEADLINE, call).await.expect("an rpc must end").map(|_| ())
}

pub fn patient() -> ConnectOptions {
    ConnectOptions { connect_timeout: DEADLINE, ..ConnectOptions::default() }
}
