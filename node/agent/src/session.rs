//! One conversation with whichever manager leads: find it, say Hello, then orders one way and
//! heartbeats and reports the other.
//!
//! It decides whom to ask next and how long to wait; it does not know what orders and reports mean.
//! Heartbeats are sent from here, so that they wait for nothing else on this machine.
//! Invariant: at most one session is open, and the worker hears of its end before the next begins.

pub mod attach;
pub mod book;
pub mod renew;
mod roles;
pub mod secrets;
mod wire;

use crate::contact::{Beats, Contact};
use attach::Attaches;
use book::Book;
use muster_control::io::WorkerInput;
use muster_model::dispatch::Held;
use muster_model::{Epoch, Index, InstanceSpec, SessionId, TaskReport};
use muster_proto::dispatch as pb;
use muster_proto::dispatch::dispatch_client::DispatchClient;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};

/// How long a manager may take from our call to its `Welcome`. It may hold the call for a second
/// while nobody leads.
const WELCOME_WAIT: Duration = Duration::from_secs(3);
/// First pause after a manager was no help; it doubles up to the longest, each with jitter.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Pause after every manager told us that we are no longer one of the cluster's.
const REFUSED_PAUSE: Duration = Duration::from_secs(15);
/// Hints followed in a row without a pause.
const HINTS_MAX: u32 = 2;
/// Messages that wait to be sent; reports of a thousand tasks are one message.
const OUTBOX_MAX: usize = 256;
/// Heartbeats come after 90 to 100 % of what the manager asked for: agents that began together are
/// spread over a whole period after some three minutes. Twice as much would take one, and make 5 %
/// more heartbeats.
const HEARTBEAT_JITTER: f64 = 0.1;
const HEARTBEAT_MIN: Duration = Duration::from_millis(10);
/// Largest message of a manager: the complete set of a full machine, 1,000 tasks of 64 KiB at most.
const MANAGER_MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What the session tells the worker's drive.
pub enum FromSession {
    /// What should `Hello` say?
    Ask(oneshot::Sender<Standing>),
    /// A session is open; its reports go into this outbox.
    Open(SessionId, Outbox),
    /// `Assignments`, `Acked` or `Lost`.
    Input(WorkerInput),
}

/// What this agent has and has obeyed.
#[derive(Clone, Debug)]
pub struct Standing {
    pub inventory: Vec<Held>,
    pub epoch: Epoch,
    pub revision: Index,
}

/// Where one session's reports go. When it is full or its session is over, they are dropped: the
/// next session begins with everything that was not acknowledged.
#[derive(Clone)]
pub struct Outbox {
    messages: mpsc::Sender<pb::AgentMessage>,
    broken: CancellationToken,
}

impl Outbox {
    /// Into these messages, which somebody sends.
    pub fn new(messages: mpsc::Sender<pb::AgentMessage>) -> Self {
        Self { messages, broken: CancellationToken::new() }
    }

    pub fn report(&self, sequence: u64, reports: &[TaskReport]) {
        if self.messages.try_send(wire::report(sequence, reports)).is_err() {
            self.broken.cancel();
        }
    }
}

/// What a session is made of.
pub struct SessionLoop {
    pub book: Arc<Book>,
    pub spec: InstanceSpec,
    pub worker: mpsc::Sender<FromSession>,
    pub attaches: Attaches,
    pub contact: Arc<Contact>,
}

/// Why a conversation ended.
enum Ended {
    /// The worker's drive is gone: so are we.
    Stopping,
    /// Not the leader; perhaps it said who is.
    NotLeader(Option<String>),
    /// This manager does not want us. It may be behind, so the others are asked.
    Refused(Status),
    /// Another agent came with our identity. Answering at once would go on for ever.
    Replaced(Status),
    Broken(Status),
}

impl SessionLoop {
    /// Runs until the worker's drive is gone. To be dropped when the agent stops.
    pub async fn run(mut self) {
        let mut pause = PAUSE_MIN;
        let mut hints = 0;
        let mut hint: Option<String> = None;
        let mut refusals = 0;
        loop {
            let address = hint.take().unwrap_or_else(|| self.book.next());
            let opened = Instant::now();
            let (ended, welcomed) = self.converse(&address).await;
            if welcomed {
                hints = 0;
                // A session that ends at once must not make us come back at once, again and again.
                if opened.elapsed() > PAUSE_MAX {
                    pause = PAUSE_MIN;
                    refusals = 0;
                }
                metrics::gauge!("muster_agent_connected").set(0.0);
                let after = opened.elapsed();
                tracing::info!(manager = address, ?after, why = %ended, "session ended");
                if self.worker.send(FromSession::Input(WorkerInput::Lost)).await.is_err() {
                    return;
                }
            }
            match ended {
                Ended::Stopping => return,
                Ended::NotLeader(Some(leader)) if hints < HINTS_MAX && leader != address => {
                    hints += 1;
                    hint = Some(leader);
                    continue;
                }
                Ended::Refused(status) => {
                    tracing::error!(manager = address, why = status.message(), "agent refused");
                    refusals += 1;
                    if refusals >= self.book.all().len() {
                        pause = REFUSED_PAUSE;
                    }
                }
                Ended::Replaced(status) => {
                    tracing::error!(manager = address, why = status.message(), "agent replaced");
                    pause = REFUSED_PAUSE;
                }
                Ended::NotLeader(_) | Ended::Broken(_) if welcomed => {}
                Ended::NotLeader(_) => {}
                Ended::Broken(status) => {
                    tracing::debug!(manager = address, why = status.message(), "no session");
                }
            }
            hints = 0;
            sleep(pause.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// One session with one manager, from dialling to its end; and whether it was ever open.
    async fn converse(&mut self, address: &str) -> (Ended, bool) {
        let standing = match self.ask().await {
            Some(standing) => standing,
            None => return (Ended::Stopping, false),
        };
        let (messages, queue) = mpsc::channel(OUTBOX_MAX);
        let hello = wire::hello(&self.spec, standing);
        // An empty queue takes one message.
        let _ = messages.try_send(hello);
        let mut client = match self.book.channel(address) {
            Ok(channel) => {
                DispatchClient::new(channel).max_decoding_message_size(MANAGER_MESSAGE_BYTES_MAX)
            }
            Err(error) => return (Ended::Broken(Status::unavailable(error.to_string())), false),
        };
        let open = async {
            let mut incoming = client.session(ReceiverStream::new(queue)).await?.into_inner();
            let first = incoming.message().await?;
            Ok::<_, Status>((incoming, first))
        };
        let (incoming, first) = match timeout(WELCOME_WAIT, open).await {
            Ok(Ok(open)) => open,
            Ok(Err(status)) => return (ended(status), false),
            Err(_) => {
                let why = format!("no Welcome from {address} within {WELCOME_WAIT:?}");
                return (Ended::Broken(Status::deadline_exceeded(why)), false);
            }
        };
        let Some(pb::manager_message::Message::Welcome(welcome)) = first.and_then(|m| m.message)
        else {
            let why = "the manager's first message is not Welcome";
            return (Ended::Broken(Status::internal(why)), false);
        };
        let session = match wire::id(&welcome.session, "session") {
            Ok(bits) => SessionId::from_bits(bits),
            Err(status) => return (Ended::Broken(status), false),
        };
        tracing::info!(manager = address, %session, "session open");
        metrics::counter!("muster_agent_sessions_total").increment(1);
        metrics::gauge!("muster_agent_connected").set(1.0);
        self.book.leads(address);
        self.book.learn(&welcome.managers).await;
        let period = Duration::from_millis(u64::from(welcome.heartbeat_ms)).max(HEARTBEAT_MIN);
        let outbox = Outbox::new(messages);
        if self.worker.send(FromSession::Open(session, outbox.clone())).await.is_err() {
            return (Ended::Stopping, true);
        }
        (self.talk(address, incoming, outbox, period).await, true)
    }

    async fn ask(&self) -> Option<Standing> {
        let (answer, standing) = oneshot::channel();
        self.worker.send(FromSession::Ask(answer)).await.ok()?;
        standing.await.ok()
    }

    /// Beats whatever else is slow here: an agent whose disk hangs lives, and its tasks with it.
    async fn talk(
        &mut self,
        address: &str,
        mut incoming: Streaming<pb::ManagerMessage>,
        outbox: Outbox,
        period: Duration,
    ) -> Ended {
        let contact = self.contact.clone();
        let beats = Beats::new(&contact);
        let hear_all = async {
            loop {
                match incoming.message().await {
                    Ok(Some(message)) => {
                        if let Some(ended) = self.hear(address, &beats, message).await {
                            return ended;
                        }
                    }
                    Ok(None) => {
                        return Ended::Broken(Status::unavailable("the manager ended the session"));
                    }
                    Err(status) => return ended(status),
                }
            }
        };
        tokio::select! {
            ended = hear_all => ended,
            () = beat(&outbox, period, &beats) => Ended::Stopping,
            () = outbox.broken.cancelled() => {
                let why = format!("{OUTBOX_MAX} messages wait; the manager does not read");
                Ended::Broken(Status::resource_exhausted(why))
            }
        }
    }

    async fn hear(
        &mut self,
        address: &str,
        beats: &Beats<'_>,
        message: pb::ManagerMessage,
    ) -> Option<Ended> {
        let input = match message.message {
            Some(pb::manager_message::Message::Assignments(assignments)) => {
                match wire::assignments(&assignments) {
                    Ok(assignments) => WorkerInput::Assignments(assignments),
                    Err(status) => return Some(Ended::Broken(status)),
                }
            }
            Some(pb::manager_message::Message::Ack(ack)) => {
                WorkerInput::Acked { sequence: ack.sequence }
            }
            Some(pb::manager_message::Message::Confirmed(confirmed)) => {
                beats.confirmed(&confirmed);
                return None;
            }
            Some(pb::manager_message::Message::Attach(order)) => {
                match self.book.own_channel(address) {
                    Ok(channel) => self.attaches.start(channel, order),
                    Err(error) => tracing::warn!(%error, "attach order not answered"),
                }
                return None;
            }
            Some(pb::manager_message::Message::Welcome(_)) => {
                return Some(Ended::Broken(Status::internal("a second Welcome in one session")));
            }
            // From a newer manager; what it means for us comes in words we know, too.
            None => return None,
        };
        let told = self.worker.send(FromSession::Input(input)).await;
        told.is_err().then_some(Ended::Stopping)
    }
}

/// Says that we live, for as long as it is polled; at once when strict tasks begin to need contact.
async fn beat(outbox: &Outbox, period: Duration, beats: &Beats<'_>) {
    let mut asked = beats.asked();
    if *asked.borrow() {
        // Nothing is confirmed in a new session yet.
        asked.mark_changed();
    }
    loop {
        let wait = period.mul_f64(1.0 - HEARTBEAT_JITTER * rand::random::<f64>());
        // Either will do.
        let _ = timeout(wait, asked.changed()).await;
        let number = asked.borrow_and_update().then(|| beats.next());
        let heartbeat = pb::agent_message::Message::Heartbeat(pb::Heartbeat { number });
        // A full outbox is news of life enough, once the manager reads it.
        let _ = outbox.messages.try_send(pb::AgentMessage { message: Some(heartbeat) });
    }
}

fn ended(status: Status) -> Ended {
    let leader = status.metadata().get(wire::LEADER).and_then(|value| value.to_str().ok());
    match (status.code(), leader) {
        (_, Some(leader)) => Ended::NotLeader(Some(leader.to_owned())),
        (Code::PermissionDenied | Code::Unauthenticated, _) => Ended::Refused(status),
        (Code::Aborted, _) => Ended::Replaced(status),
        _ => Ended::Broken(status),
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stopping => f.write_str("the agent stops"),
            Self::NotLeader(Some(leader)) => write!(f, "{leader} leads now"),
            Self::NotLeader(None) => f.write_str("nobody leads"),
            Self::Refused(status) | Self::Replaced(status) | Self::Broken(status) => {
                f.write_str(status.message())
            }
        }
    }
}
