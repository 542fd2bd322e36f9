//! The agents' streams: who may open one, what is read from it and what is sent down.
//!
//! It decides whether words are an agent's own: the instance comes from the certificate alone, and
//! a report about a task of another instance ends the session. It does not know what reports and
//! orders mean: the brain does. Invariant: nothing an agent does or fails to do makes another
//! agent, or the brain, wait.

use crate::hub::{Attached, Hub, Reign, Session};
use crate::limits::{ATTACH_QUEUE_MAX, HELLO_WAIT, PROPOSE_WAIT, SESSION_QUEUE_MAX};
use crate::{credentials, secrets, wire};
use muster_control::io::LeaderInput;
use muster_identity::server::require_instance;
use muster_model::command::RegisterInstance;
use muster_model::dispatch::Held;
use muster_model::{
    Command, Entry, Error, InstanceId, InstanceSpec, InstanceStatus, Kind, Principal, State,
    TaskId, TaskReport,
};
use muster_proto::convert::dispatch as convert;
use muster_proto::dispatch as pb;
use muster_replica::Instant;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument;

/// The gRPC service; every manager serves it, only the leader keeps sessions.
pub struct DispatchService {
    pub(crate) hub: Arc<Hub>,
}

#[tonic::async_trait]
impl pb::dispatch_server::Dispatch for DispatchService {
    type SessionStream = Orders;
    type AttachStream = ReceiverStream<Result<pb::AttachDown, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<pb::AgentMessage>>,
    ) -> Result<Response<Orders>, Status> {
        let instance = require_instance(&request)?;
        let span = tracing::info_span!("session.open", %instance);
        self.open(instance, request.into_inner()).instrument(span).await.map(Response::new)
    }

    async fn attach(
        &self,
        request: Request<Streaming<pb::AttachUp>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let instance = require_instance(&request)?;
        let mut up = request.into_inner();
        let first = timeout(HELLO_WAIT, up.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no attach id within 5 s"))??;
        let Some(pb::attach_up::Message::Attach(id)) = first.and_then(|first| first.message) else {
            return Err(Status::invalid_argument("the first message must be the attach id"));
        };
        let attach = wire::id(&id, "attach")?;
        let Some(paired) = self.hub.pair(instance, attach) else {
            return Err(Status::not_found("nobody waits for this stream any more"));
        };
        let (down, orders) = mpsc::channel(ATTACH_QUEUE_MAX);
        match paired.send(Attached { up, down }) {
            Ok(()) => Ok(Response::new(ReceiverStream::new(orders))),
            Err(_) => Err(Status::not_found("nobody waits for this stream any more")),
        }
    }

    async fn get_task_secrets(
        &self,
        request: Request<pb::TaskSecretsRequest>,
    ) -> Result<Response<pb::TaskSecretsResponse>, Status> {
        let instance = require_instance(&request)?;
        let task = TaskId::from_bits(wire::id(&request.into_inner().task, "task")?);
        // The newest: one that lags would not know the task, or would tell an older value.
        let state = self.hub.replica.read(Instant::now() + PROPOSE_WAIT).await;
        let told = state.and_then(|state| secrets::of_task(&state, instance, task));
        told.map(Response::new).map_err(|error| wire::status(&error))
    }

    async fn get_task_credentials(
        &self,
        request: Request<pb::TaskCredentialsRequest>,
    ) -> Result<Response<pb::TaskCredentialsResponse>, Status> {
        let instance = require_instance(&request)?;
        let task = TaskId::from_bits(wire::id(&request.into_inner().task, "task")?);
        let now = self.hub.now();
        let told = |state: &State| credentials::of_task(state, instance, task, now);
        // Agents of a large cluster ask at every hour: what is known here needs no quorum.
        let told = match told(&self.hub.replica.state()) {
            Ok(answer) => Ok(answer),
            Err(_) => {
                let state = self.hub.replica.read(Instant::now() + PROPOSE_WAIT).await;
                state.and_then(|state| told(&state))
            }
        };
        told.map(Response::new).map_err(|error| wire::status(&error))
    }

    async fn sign_task_identity(
        &self,
        request: Request<pb::TaskIdentityRequest>,
    ) -> Result<Response<pb::TaskIdentityResponse>, Status> {
        let instance = require_instance(&request)?;
        let pb::TaskIdentityRequest { task, audience } = request.into_inner();
        let task = TaskId::from_bits(wire::id(&task, "task")?);
        let told = credentials::identity_of(&self.hub, instance, task, &audience).await;
        told.map(Response::new).map_err(|error| wire::status(&error))
    }
}

impl DispatchService {
    async fn open(
        &self,
        instance: InstanceId,
        mut incoming: Streaming<pb::AgentMessage>,
    ) -> Result<Orders, Status> {
        let reign = self.hub.reign_soon().await?;
        let first = timeout(HELLO_WAIT, incoming.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no Hello within 5 s"))??;
        let Some(pb::agent_message::Message::Hello(hello)) = first.and_then(|m| m.message) else {
            return Err(Status::invalid_argument("the first message must be Hello"));
        };
        let (spec, inventory) = read_hello(&hello)?;
        self.register(instance, spec).await?;
        let id = self.hub.ids().session();
        let (queue, orders) = mpsc::channel(SESSION_QUEUE_MAX);
        let session = Arc::new(Session::new(id, instance, queue));
        // First in the queue: the agent must know its session before the first orders.
        let _ = session.queue.try_send(self.welcome(id));
        self.hub.enter(session.clone());
        let hello = LeaderInput::Hello { instance, session: id, inventory };
        if reign.events.send(hello).await.is_err() {
            self.hub.leave(instance, id);
            return Err(self.hub.not_leader());
        }
        metrics::counter!("muster_manager_sessions_opened_total").increment(1);
        tracing::info!(session = %id, epoch = %reign.epoch, "agent connected");
        let reader = Reader { hub: self.hub.clone(), reign, session: session.clone() };
        self.hub.readers.spawn(reader.run(incoming));
        Ok(Orders::new(session, orders))
    }

    /// Refuses instances that may not connect, and records what changed about the machine.
    async fn register(&self, instance: InstanceId, spec: InstanceSpec) -> Result<(), Status> {
        let mut state = self.hub.replica.state();
        if state.instance(instance).is_none() {
            // A manager that was replaced has not seen the latest to join: only the log refuses.
            let deadline = Instant::now() + PROPOSE_WAIT;
            let newest = self.hub.replica.read(deadline).await;
            state = newest.map_err(|error| wire::status(&error))?;
        }
        let Some(row) = state.instance(instance) else {
            return Err(Status::permission_denied(format!(
                "container instance {instance} is not registered, or was long ago; join again with \
                 `muster join`"
            )));
        };
        if row.status == InstanceStatus::Inactive {
            return Err(Status::permission_denied(format!(
                "container instance {instance} was deregistered; join again with `muster join`"
            )));
        }
        if *row.spec == spec {
            return Ok(());
        }
        let register = RegisterInstance { id: instance, cluster: row.cluster, spec: spec.into() };
        let entry = Entry {
            request: self.hub.ids().request(),
            at: self.hub.now(),
            by: Principal::Instance(instance),
            trace: None,
            command: Command::RegisterInstance(register),
        };
        let applied = self.hub.replica.propose(entry, Instant::now() + PROPOSE_WAIT).await;
        applied.map(drop).map_err(|error| wire::status(&error))
    }

    fn welcome(&self, id: muster_model::SessionId) -> pb::ManagerMessage {
        let welcome = pb::Welcome {
            session: convert::id_to_wire(id.bits()),
            heartbeat_ms: u32::try_from(self.hub.heartbeat.as_millis()).unwrap_or(u32::MAX),
            managers: wire::managers(&self.hub.replica.state(), Some(self.hub.me)),
        };
        pb::ManagerMessage { message: Some(pb::manager_message::Message::Welcome(welcome)) }
    }
}

fn read_hello(hello: &pb::Hello) -> Result<(InstanceSpec, Vec<Held>), Status> {
    let Some(spec) = &hello.spec else {
        return Err(Status::invalid_argument("spec: missing in Hello"));
    };
    let spec = wire::instance_spec(spec)?;
    let inventory = convert::inventory_from_wire(&hello.inventory);
    Ok((spec, inventory.map_err(|error| wire::status(&error))?))
}

/// Reads one agent's stream until either side ends it.
struct Reader {
    hub: Arc<Hub>,
    reign: Reign,
    session: Arc<Session>,
}

#[allow(clippy::large_enum_variant, reason = "lives for one turn of the loop")]
enum Heard {
    Said(Option<pb::AgentMessage>),
    Broken(Status),
    Closed,
    ReignEnded,
}

impl Reader {
    async fn run(self, mut incoming: Streaming<pb::AgentMessage>) {
        let (instance, session) = (self.session.instance, self.session.id);
        // Waited for once, not per word: thousands of readers wait for the end of the same reign.
        let mut closed = pin!(self.session.closing.token.cancelled());
        let mut ended = pin!(self.reign.ended.cancelled());
        let why = loop {
            let heard = tokio::select! {
                said = incoming.message() => said.map_or_else(Heard::Broken, Heard::Said),
                () = &mut closed => Heard::Closed,
                () = &mut ended => Heard::ReignEnded,
            };
            let input = match heard {
                Heard::Said(Some(message)) => self.judge(message),
                Heard::Said(None) => break Status::ok("the agent ended its session"),
                Heard::Broken(status) => break status,
                Heard::Closed => break Status::ok("the session was ended here"),
                Heard::ReignEnded => break self.hub.not_leader(),
            };
            match input {
                Ok(None) => self.reign.beats.add(&self.session),
                Ok(Some(input)) => {
                    if self.reign.events.send(input).await.is_err() {
                        break self.hub.not_leader();
                    }
                }
                Err(refusal) => {
                    metrics::counter!("muster_manager_sessions_refused_total").increment(1);
                    tracing::warn!(%instance, why = refusal.message(), "agent refused");
                    break refusal;
                }
            }
        };
        tracing::debug!(%instance, %session, why = why.message(), "agent's session ended");
        self.session.closing.close(why);
        self.hub.leave(instance, session);
        let _ = self.reign.events.send(LeaderInput::Gone { instance, session }).await;
    }

    /// What the brain is to hear of it at once; `None`: only that the agent lives.
    fn judge(&self, message: pb::AgentMessage) -> Result<Option<LeaderInput>, Status> {
        let (instance, session) = (self.session.instance, self.session.id);
        match message.message {
            Some(pb::agent_message::Message::Heartbeat(pb::Heartbeat { number })) => {
                // A number is to be confirmed, and a task may have to stop if that comes late.
                let beat = LeaderInput::Heartbeat { instance, session, number };
                Ok(number.is_some().then_some(beat))
            }
            Some(pb::agent_message::Message::Report(report)) => {
                let sequence = report.sequence;
                let reports = self.own_reports(&report)?;
                Ok(Some(LeaderInput::Report { instance, session, sequence, reports }))
            }
            Some(pb::agent_message::Message::Hello(_)) => {
                Err(Status::invalid_argument("a session has one Hello; open another session"))
            }
            None => Err(Status::unimplemented("a message this manager does not know")),
        }
    }

    /// An agent speaks about tasks of its own instance, and about tasks that are no longer known.
    fn own_reports(&self, report: &pb::Report) -> Result<Vec<TaskReport>, Status> {
        let instance = self.session.instance;
        let reports = convert::reports_from_wire(instance, &report.reports)
            .map_err(|error| wire::status(&error))?;
        let state = self.hub.replica.state();
        // One that is placed nowhere may be this agent's all the same: a manager that was replaced
        // has not seen it placed. The log decides.
        let foreign = reports.iter().find(|report| {
            let on = state.task(report.task).and_then(|task| task.instance);
            on.is_some_and(|on| on != instance)
        });
        match foreign {
            None => Ok(reports),
            Some(report) => Err(wire::status(&Error::Denied {
                principal: Principal::Instance(instance).to_string(),
                action: format!(
                    "report {} {}: it is not placed on that instance",
                    Kind::Task,
                    report.task
                ),
            })),
        }
    }
}

/// What an agent is sent: the queue of its session, and at last why it ended.
pub struct Orders {
    session: Arc<Session>,
    queue: mpsc::Receiver<pb::ManagerMessage>,
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
    done: bool,
}

impl Orders {
    fn new(session: Arc<Session>, queue: mpsc::Receiver<pb::ManagerMessage>) -> Self {
        let closed = Box::pin(session.closing.token.clone().cancelled_owned());
        Self { session, queue, closed, done: false }
    }
}

impl Stream for Orders {
    type Item = Result<pb::ManagerMessage, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.done {
            return Poll::Ready(None);
        }
        if self.closed.as_mut().poll(cx).is_ready() {
            self.done = true;
            let why = self.session.closing.why().filter(|why| why.code() != tonic::Code::Ok);
            return Poll::Ready(why.map(Err));
        }
        match self.queue.poll_recv(cx) {
            Poll::Ready(Some(message)) => Poll::Ready(Some(Ok(message))),
            // The session itself holds a sender, so the queue ends only through `closed`.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for Orders {
    /// The agent is gone, or its connection is: the reader must not wait for it.
    fn drop(&mut self) {
        self.session.closing.close(Status::ok("the agent went away"));
    }
}
