//! Answers a manager's order to attach: a log is streamed to it, or what a task uses, or a command
//! run for it.
//!
//! Each order is one stream to the manager that gave it, and ends with it: when the user goes away
//! the manager drops the stream, and a followed log or a running command ends here.

use crate::drive::engine::{Engine, ExecAsk, ExecInput, ExecOutput, LogsAsk};
use crate::session::wire;
use futures::{Stream, StreamExt};
use muster_model::{Error, TaskId};
use muster_proto::dispatch as pb;
use muster_proto::dispatch::attach_order::What;
use muster_proto::dispatch::attach_up::Message as Up;
use muster_proto::dispatch::dispatch_client::DispatchClient;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

/// Streams at once; a user holds one per task of `logs` and `stats`, and one per `exec`.
const ATTACHES_MAX: usize = 64;
/// Pieces of output on their way; the log's reader waits when the user does not read.
const UP_MAX: usize = 16;
/// Pieces of input on their way to a command that does not read.
const DOWN_MAX: usize = 16;
/// How long the manager may take to read what was sent last.
const END_WAIT: Duration = Duration::from_secs(10);
/// How long the manager may take to take the stream.
const OPEN_WAIT: Duration = Duration::from_secs(5);

/// Owns the streams of an agent.
#[derive(Clone)]
pub struct Attaches {
    engine: Arc<dyn Engine>,
    places: Arc<Semaphore>,
    streams: TaskTracker,
    stop: CancellationToken,
}

impl Attaches {
    pub fn new(engine: Arc<dyn Engine>, stop: CancellationToken) -> Self {
        let places = Arc::new(Semaphore::new(ATTACHES_MAX));
        Self { engine, places, streams: TaskTracker::new(), stop }
    }

    /// Answers an order on its own stream.
    pub fn start(&self, channel: Channel, order: pb::AttachOrder) {
        let this = self.clone();
        self.streams.spawn(async move {
            let answer = this.answer(channel, order);
            if let Some(Err(error)) = this.stop.run_until_cancelled(answer).await {
                tracing::debug!(why = error.message(), "attach stream ended");
            }
        });
    }

    /// Waits until all streams have ended; `stop` ends them.
    pub async fn joined(&self) {
        self.streams.close();
        self.streams.wait().await;
    }

    async fn answer(&self, channel: Channel, order: pb::AttachOrder) -> Result<(), Status> {
        let (up, messages) = mpsc::channel(UP_MAX);
        let send = |message| pb::AttachUp { message: Some(message) };
        // An empty queue takes one message.
        let _ = up.try_send(send(Up::Attach(order.attach.clone())));
        let mut client = DispatchClient::new(channel);
        let down = timeout(OPEN_WAIT, client.attach(ReceiverStream::new(messages)))
            .await
            .map_err(|_| Status::deadline_exceeded("the manager did not take the stream"))??
            .into_inner();
        let mut stream = Carrier { up, down };
        let Ok(_place) = self.places.try_acquire() else {
            let why =
                format!("{ATTACHES_MAX} log, stats and exec streams of this instance are open");
            stream.end(Err(Error::refused(why))).await;
            return Ok(());
        };
        let task = TaskId::from_bits(wire::id(&order.task, "task")?);
        let result = match order.what {
            Some(What::Logs(logs)) => self.logs(task, logs, &mut stream).await,
            Some(What::Exec(exec)) => self.exec(task, exec, &mut stream).await,
            Some(What::Stats(stats)) => self.stats(task, stats, &mut stream).await,
            None => Err(Error::Unsupported {
                feature: "this order".to_owned(),
                instead: "the agent is older than the manager".to_owned(),
            }),
        };
        stream.end(result).await;
        Ok(())
    }

    async fn logs(
        &self,
        task: TaskId,
        ask: pb::AttachLogs,
        stream: &mut Carrier,
    ) -> Result<(), Error> {
        let ask = LogsAsk {
            container: ask.container,
            follow: ask.follow,
            tail: ask.tail.and_then(|tail| u32::try_from(tail).ok()),
            since: ask.since.and_then(|since| wire::time(since.seconds, since.nanos)),
            until: ask.until.and_then(|until| wire::time(until.seconds, until.nanos)),
        };
        let lines = self.engine.logs(task, ask).await?;
        stream.carry(lines.map(|line| line.map(Up::Log)), None).await
    }

    async fn stats(
        &self,
        task: TaskId,
        ask: pb::AttachStats,
        stream: &mut Carrier,
    ) -> Result<(), Error> {
        let samples = self.engine.stats(task, ask.follow).await?;
        stream.carry(samples.map(|sample| sample.map(Up::Stats)), None).await
    }

    async fn exec(
        &self,
        task: TaskId,
        ask: pb::AttachExec,
        stream: &mut Carrier,
    ) -> Result<(), Error> {
        let ask = ExecAsk {
            container: ask.container,
            command: ask.command,
            terminal: ask.tty.then(|| (cells(ask.rows), cells(ask.columns))),
        };
        let (typed, input) = mpsc::channel(DOWN_MAX);
        let input = ReceiverStream::new(input).boxed();
        let output = self.engine.exec(task, ask, input).await?;
        let messages = output.map(|output| {
            output.map(|output| match output {
                ExecOutput::Stdout(bytes) => Up::Stdout(bytes.into()),
                ExecOutput::Stderr(bytes) => Up::Stderr(bytes.into()),
                ExecOutput::Exited(code) => Up::ExitCode(code),
            })
        });
        stream.carry(messages, Some(typed)).await
    }
}

/// Rows or columns of a terminal; nonsense is no size at all.
fn cells(n: i32) -> u16 {
    u16::try_from(n).unwrap_or(0)
}

/// Both directions of one attach stream.
struct Carrier {
    up: mpsc::Sender<pb::AttachUp>,
    down: Streaming<pb::AttachDown>,
}

impl Carrier {
    /// Sends `messages` up until they end or the user goes away; what the user types goes into
    /// `typed`, and its end is the end of that.
    async fn carry(
        &mut self,
        messages: impl Stream<Item = Result<Up, Error>>,
        typed: Option<mpsc::Sender<ExecInput>>,
    ) -> Result<(), Error> {
        let Self { up, down } = self;
        let upward = async {
            let mut messages = std::pin::pin!(messages);
            while let Some(message) = messages.next().await {
                let message = pb::AttachUp { message: Some(message?) };
                if up.send(message).await.is_err() {
                    break;
                }
            }
            Ok(())
        };
        let downward = async {
            while let Ok(Some(message)) = down.message().await {
                if let (Some(typed), Some(said)) = (&typed, exec_input(message)) {
                    // A command that has closed its input still has output.
                    let _ = typed.send(said).await;
                }
            }
        };
        tokio::select! {
            result = upward => result,
            () = downward => Ok(()),
        }
    }

    /// Says why it ended, if badly, and lets the manager read all that was sent: dropping its
    /// direction first would take back what is still on its way.
    async fn end(self, result: Result<(), Error>) {
        let Self { up, mut down } = self;
        if let Err(error) = result {
            let message = Some(Up::Error(error.to_string()));
            let _ = up.send(pb::AttachUp { message }).await;
        }
        drop(up);
        let read = async { while let Ok(Some(_)) = down.message().await {} };
        // A manager that hangs is not worth a place any longer.
        let _ = timeout(END_WAIT, read).await;
    }
}

fn exec_input(message: pb::AttachDown) -> Option<ExecInput> {
    Some(match message.message? {
        pb::attach_down::Message::Stdin(bytes) => ExecInput::Stdin(bytes.to_vec()),
        pb::attach_down::Message::StdinClosed(_) => ExecInput::StdinClosed,
        pb::attach_down::Message::Resize(to) => {
            ExecInput::Resize { rows: cells(to.rows), columns: cells(to.columns) }
        }
    })
}
