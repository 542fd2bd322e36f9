//! Answers a manager's order to attach: a log is streamed to it, or a command run for it.
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

/// Streams at once; a user holds one per `logs` or `exec`.
const ATTACHES_MAX: usize = 64;
/// Pieces of output on their way; the log's reader waits when the user does not read.
const UP_MAX: usize = 16;
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
        let Ok(_place) = self.places.try_acquire() else {
            let why = format!("{ATTACHES_MAX} log and exec streams of this instance are open");
            let _ = up.send(send(Up::Error(why))).await;
            return Ok(());
        };
        let task = TaskId::from_bits(wire::id(&order.task, "task")?);
        let result = match order.what {
            Some(What::Logs(logs)) => self.logs(task, logs, &up, down).await,
            Some(What::Exec(exec)) => self.exec(task, exec, &up, down).await,
            None => Err(Error::Unsupported {
                feature: "this order".to_owned(),
                instead: "the agent is older than the manager".to_owned(),
            }),
        };
        if let Err(error) = result {
            let _ = up.send(send(Up::Error(error.to_string()))).await;
        }
        Ok(())
    }

    async fn logs(
        &self,
        task: TaskId,
        ask: pb::AttachLogs,
        up: &mpsc::Sender<pb::AttachUp>,
        mut down: Streaming<pb::AttachDown>,
    ) -> Result<(), Error> {
        let ask = LogsAsk {
            container: ask.container,
            follow: ask.follow,
            tail: ask.tail.and_then(|tail| u32::try_from(tail).ok()),
            since: ask.since.and_then(|since| wire::time(since.seconds, since.nanos)),
        };
        let lines = self.engine.logs(task, ask).await?;
        let messages = lines.map(|line| line.map(Up::Log));
        // Nothing comes down for a log: news of this direction is that the user went away.
        let gone = async { while let Ok(Some(_)) = down.message().await {} };
        tokio::select! {
            result = forward(messages, up) => result,
            () = gone => Ok(()),
        }
    }

    async fn exec(
        &self,
        task: TaskId,
        ask: pb::AttachExec,
        up: &mpsc::Sender<pb::AttachUp>,
        down: Streaming<pb::AttachDown>,
    ) -> Result<(), Error> {
        let size = |n: i32| u16::try_from(n).unwrap_or(0);
        let ask = ExecAsk {
            container: ask.container,
            command: ask.command,
            terminal: ask.tty.then(|| (size(ask.rows), size(ask.columns))),
        };
        // The end of this direction, however it comes, is the end of what the user types; that the
        // user is gone shows in the other direction.
        let input = down.filter_map(move |message| async move {
            Some(match message.ok()?.message? {
                pb::attach_down::Message::Stdin(bytes) => ExecInput::Stdin(bytes.to_vec()),
                pb::attach_down::Message::StdinClosed(_) => ExecInput::StdinClosed,
                pb::attach_down::Message::Resize(to) => {
                    ExecInput::Resize { rows: size(to.rows), columns: size(to.columns) }
                }
            })
        });
        let output = self.engine.exec(task, ask, input.boxed()).await?;
        let messages = output.map(|output| {
            output.map(|output| match output {
                ExecOutput::Stdout(bytes) => Up::Stdout(bytes.into()),
                ExecOutput::Stderr(bytes) => Up::Stderr(bytes.into()),
                ExecOutput::Exited(code) => Up::ExitCode(code),
            })
        });
        tokio::select! {
            result = forward(messages, up) => result,
            () = up.closed() => Ok(()),
        }
    }
}

async fn forward(
    messages: impl Stream<Item = Result<Up, Error>>,
    up: &mpsc::Sender<pb::AttachUp>,
) -> Result<(), Error> {
    let mut messages = std::pin::pin!(messages);
    while let Some(message) = messages.next().await {
        let message = pb::AttachUp { message: Some(message?) };
        if up.send(message).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}
