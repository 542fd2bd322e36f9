//! What every command that talks to a cluster shares: the client, the deadline, the output.

use super::ClientArguments;
use super::error::{CliError, is_outage};
use super::output::Format;
use crate::files;
use muster_identity::{ConnectOptions, Connector, Identity};
use muster_model::{Error, Kind};
use muster_proto::client::{Client, Dialer, leader_of};
use muster_proto::{error, json, pb};
use pb::ecs_client::EcsClient;
use pb::live_client::LiveClient;
use pb::operator_client::OperatorClient;
use serde::Serialize;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

/// Manager addresses that `init` and `user create` leave beside a certificate, one per line.
const MANAGERS_FILE: &str = "managers";
/// How long one manager may take to connect before the next is asked.
const CONNECT_WAIT: Duration = Duration::from_secs(1);
/// How long a command may say nothing.
const SILENCE: Duration = Duration::from_secs(1);
const STREAM_PAUSE: Duration = Duration::from_millis(200);
/// Streams that break within this time broke for one reason, which is said once.
const ONE_BREAK: Duration = Duration::from_secs(5);
/// Largest answer: a page of a hundred full task descriptions fits many times.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A stream that a manager opened, or why it did not.
type Opened<A> = Result<Response<Streaming<A>>, Status>;

pub struct Context {
    client: Client,
    connector: Connector,
    dial: Dialer,
    pub managers: Vec<String>,
    pub output: Format,
    pub stale: bool,
    pub cluster: String,
    pub timeout: Duration,
    /// When somebody was told last that a stream broke.
    broke_at: Mutex<Option<Instant>>,
}

/// `--identity`, or where `init` puts the administrator's.
pub fn identity_dir(arguments: &ClientArguments) -> PathBuf {
    arguments.identity.clone().unwrap_or_else(|| {
        PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".muster")
    })
}

/// Leaves the managers' addresses beside a certificate.
///
/// # Errors
/// The file cannot be written.
pub fn write_managers(dir: &Path, managers: &[String]) -> Result<(), CliError> {
    let path = dir.join(MANAGERS_FILE);
    let text = managers.join("\n") + "\n";
    files::replace(&path, text.as_bytes(), files::PUBLIC).map_err(|source| CliError::File {
        doing: "writing",
        path,
        source,
    })
}

fn read_managers(dir: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(dir.join(MANAGERS_FILE)).unwrap_or_default();
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

impl Context {
    /// # Errors
    /// No certificate, or no manager's address.
    pub fn open(arguments: ClientArguments) -> Result<Self, CliError> {
        let dir = identity_dir(&arguments);
        let identity = Identity::load(&dir)?;
        let managers = match arguments.managers.is_empty() {
            true => read_managers(&dir),
            false => arguments.managers,
        };
        if managers.is_empty() {
            return Err(CliError::Usage(
                "no manager is known; name one: --managers 10.0.1.10:7400, or set MUSTER_MANAGERS"
                    .into(),
            ));
        }
        for manager in &managers {
            muster_identity::check_address(manager)?;
        }
        let connector = Connector::new(identity);
        let lazy = connector.clone();
        let dial: Dialer = Arc::new(move |address: &str| {
            let options =
                ConnectOptions { connect_timeout: CONNECT_WAIT, ..ConnectOptions::default() };
            lazy.connect_lazy(address, options).map_err(|error| error.to_string())
        });
        Ok(Self {
            client: Client::new(managers.clone(), dial.clone())?,
            dial,
            connector,
            managers,
            output: arguments.output,
            stale: arguments.stale,
            cluster: arguments.cluster,
            timeout: arguments.timeout,
            broke_at: Mutex::new(None),
        })
    }

    /// A fresh client token: retries of one command are one request.
    pub fn token(&self) -> String {
        crate::roles::fresh_request().to_string()
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// A call of the ECS API, retried until the deadline.
    pub async fn ecs<Q: Clone, A>(
        &self,
        request: Q,
        call: impl AsyncFn(EcsClient<Channel>, Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<A, CliError> {
        let call = async |channel, request| {
            let client = EcsClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
            call(client, request).await
        };
        self.patiently(self.client.call_repeatable(request, self.deadline(), call)).await
    }

    /// A call that ECS has not and that is answered once: what a request would do, or a pause.
    pub async fn ask_live<Q: Clone, A>(
        &self,
        request: Q,
        call: impl AsyncFn(LiveClient<Channel>, Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<A, CliError> {
        let call = async |channel, request| {
            let client = LiveClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
            call(client, request).await
        };
        self.patiently(self.client.call_repeatable(request, self.deadline(), call)).await
    }

    /// A call of the operators' API, retried until the deadline.
    pub async fn operator<Q: Clone, A>(
        &self,
        request: Q,
        call: impl AsyncFn(OperatorClient<Channel>, Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<A, CliError> {
        let call = async |channel, request| call(OperatorClient::new(channel), request).await;
        self.patiently(self.client.call(request, self.deadline(), call)).await
    }

    /// As `operator`, for reads: a manager that does not answer soon is not waited for alone.
    pub async fn operator_read<Q: Clone, A>(
        &self,
        request: Q,
        call: impl AsyncFn(OperatorClient<Channel>, Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<A, CliError> {
        let call = async |channel, request| call(OperatorClient::new(channel), request).await;
        self.patiently(self.client.call_repeatable(request, self.deadline(), call)).await
    }

    /// Waits for an answer, and says so once it takes longer than a person expects.
    async fn patiently<A>(
        &self,
        answer: impl Future<Output = Result<A, Error>>,
    ) -> Result<A, CliError> {
        let mut answer = std::pin::pin!(answer);
        if let Ok(answer) = tokio::time::timeout(SILENCE, &mut answer).await {
            return Ok(answer?);
        }
        if let Some(hopeless) = self.unwelcome().await {
            return Err(hopeless.into());
        }
        eprintln!(
            "no answer from {} yet; trying for {} s (--timeout)",
            self.managers.join(", "),
            self.timeout.as_secs()
        );
        Ok(answer.await?)
    }

    /// Why no manager will ever let us in, if each of them says so or is not there to be asked.
    async fn unwelcome(&self) -> Option<muster_identity::Error> {
        let options = ConnectOptions { connect_timeout: CONNECT_WAIT, ..Default::default() };
        let mut why = None;
        for manager in &self.managers {
            match self.connector.connect(manager, options).await {
                Ok(_) => return None,
                Err(error) if error.is_transient() => {}
                Err(error) => why = Some(error),
            }
        }
        why
    }

    /// Opens a stream on the manager that can serve it; asks them in turn until the deadline.
    pub async fn live<Q: Clone, A>(
        &self,
        request: Q,
        call: impl AsyncFn(LiveClient<Channel>, Request<Q>) -> Opened<A>,
    ) -> Result<Streaming<A>, CliError> {
        let mut address = self.managers.first().cloned().unwrap_or_default();
        let mut tried = 0;
        let deadline = self.deadline();
        loop {
            let channel = (self.dial)(&address).map_err(CliError::Failed)?;
            match call(LiveClient::new(channel), Request::new(request.clone())).await {
                Ok(stream) => return Ok(stream.into_inner()),
                Err(status) => {
                    tried += 1;
                    let failed = error::from_status(&status);
                    if !is_outage(&failed) || Instant::now() >= deadline {
                        return Err(failed.into());
                    }
                    let next = self.managers[tried % self.managers.len()].clone();
                    address = leader_of(&status).filter(|l| *l != address).unwrap_or(next);
                }
            }
            tokio::time::sleep(STREAM_PAUSE).await;
        }
    }

    /// Opens a stream whose requests cannot be sent twice, on the leader.
    pub async fn live_once<Q, A>(
        &self,
        request: Q,
        call: impl AsyncFnOnce(
            LiveClient<Channel>,
            Request<Q>,
        ) -> Result<Response<Streaming<A>>, Status>,
    ) -> Result<Streaming<A>, CliError> {
        let status = self
            .operator_read(pb::RaftStatusRequest::default(), async |mut o, r| {
                o.raft_status(r).await
            })
            .await?;
        let address = match status.leader_address.is_empty() {
            true => self.managers.first().cloned().unwrap_or_default(),
            false => status.leader_address,
        };
        let channel = (self.dial)(&address).map_err(CliError::Failed)?;
        match call(LiveClient::new(channel), Request::new(request)).await {
            Ok(stream) => Ok(stream.into_inner()),
            Err(status) => Err(error::from_status(&status).into()),
        }
    }

    /// The next message of a stream.
    pub async fn next<A>(&self, stream: &mut Streaming<A>) -> Result<Option<A>, CliError> {
        stream.message().await.map_err(|status| CliError::Broke(error::from_status(&status)))
    }

    /// Whether a followed stream should be opened again: it broke because its manager went. Says so
    /// to whoever looks on. One that cannot be opened until the deadline is not followed further.
    pub async fn follow_on(&self, error: &CliError) -> bool {
        let again = matches!(error, CliError::Broke(why) if is_outage(why));
        if again {
            let now = Instant::now();
            let before = self.broke_at.lock().unwrap_or_else(PoisonError::into_inner).replace(now);
            if before.is_none_or(|before| now - before > ONE_BREAK) {
                eprintln!("the manager that was followed is gone; following on through another");
            }
            tokio::time::sleep(STREAM_PAUSE).await;
        }
        again
    }

    /// ECS answers `failures` for what it does not know; a person wants an error.
    pub fn check(&self, what: &str, failures: &[pb::Failure]) -> Result<(), CliError> {
        let Some(failure) = failures.first() else { return Ok(()) };
        let kind = match what {
            "cluster" => Kind::Cluster,
            "service" => Kind::Service,
            "task" => Kind::Task,
            "capacity provider" => Kind::CapacityProvider,
            _ => Kind::ContainerInstance,
        };
        if failure.reason == "MISSING" {
            return Err(Error::not_found(kind, super::output::short(&failure.arn)).into());
        }
        Err(CliError::Failed(format!(
            "{what} {}: {} {}",
            failure.arn, failure.reason, failure.detail
        )))
    }

    /// `{"name": [rows]}`.
    pub fn list<T: json::Described + Serialize>(&self, name: &str, rows: &[T]) -> Value {
        let rows: Vec<Value> = rows.iter().map(json::to_value).collect();
        serde_json::json!({ name: rows })
    }
}
