//! The seam to the agents, and the words on both sides of it.
//!
//! `muster-manager` holds the agents' sessions and opens a stream to one on request. Here orders
//! and answers are turned from the public API's words into the agents' and back. Bytes flow from
//! stream to stream without a task in between, so a slow reader slows the command, not us.

use futures::stream::{self, Stream, StreamExt};
use muster_model::{Error, TaskId};
use muster_proto::dispatch::{self, attach_down, attach_order, attach_up};
use muster_proto::pb;
use std::pin::Pin;
use tokio::sync::mpsc;
use tonic::Status;

/// A stream of answers; an error ends it.
pub type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Error>> + Send>>;

/// What the caller of Exec sends after the start. It ends when the caller hangs up.
pub type Input = Pin<Box<dyn Stream<Item = attach_down::Message> + Send>>;

/// Both directions of a stream to an agent.
pub struct Attached {
    pub up: Pin<Box<dyn Stream<Item = Result<dispatch::AttachUp, Status>> + Send>>,
    pub down: mpsc::Sender<Result<dispatch::AttachDown, Status>>,
}

/// Opens streams to agents; implemented over `muster_manager::Live`.
#[tonic::async_trait]
pub trait LiveBackend: Send + Sync + 'static {
    /// Asks the agent of `task` to open a stream for `what`, and waits for it.
    ///
    /// # Errors
    /// `Refused` for a task on no instance; `Unavailable` when this manager does not lead or the
    /// agent is not connected.
    async fn attach(&self, task: TaskId, what: attach_order::What) -> Result<Attached, Error>;
}

/// For a manager without agents, as in tests: everything is unavailable.
pub struct NoLive;

#[tonic::async_trait]
impl LiveBackend for NoLive {
    async fn attach(&self, task: TaskId, _what: attach_order::What) -> Result<Attached, Error> {
        Err(Error::Unavailable { why: format!("no agent of task {task} is connected") })
    }
}

/// What the agent says of a task's output, in the API's words.
pub fn lines(attached: Attached) -> Answers<pb::LogsResponse> {
    told(attached, |message| match message {
        attach_up::Message::Log(line) => Ok(log_line(line)),
        _ => Err(unexpected("while it was asked for logs")),
    })
}

/// What the agent says of what a task uses, in the API's words.
pub fn samples(attached: Attached) -> Answers<pb::StatsResponse> {
    told(attached, |message| match message {
        attach_up::Message::Stats(stats) => Ok(task_stats(stats)),
        _ => Err(unexpected("while it was asked for stats")),
    })
}

/// What only the agent speaks in, until it ends or fails.
fn told<T: 'static>(
    attached: Attached,
    of: impl Fn(attach_up::Message) -> Result<T, Error> + Send + 'static,
) -> Answers<T> {
    let Attached { up, down } = attached;
    // The sender lives as long as the answers: the agent goes on until it is dropped.
    Box::pin(stream::unfold((Some((up, down)), of), |(open, of)| async {
        let (mut up, down) = open?;
        let answer = match up.next().await? {
            Err(status) => Err(broken(&status)),
            Ok(message) => match message.message? {
                attach_up::Message::Error(why) => Err(Error::refused(why)),
                attach_up::Message::ExitCode(_) => return None,
                message => of(message),
            },
        };
        let open = answer.is_ok().then_some((up, down));
        Some((answer, (open, of)))
    }))
}

fn task_stats(stats: dispatch::TaskStats) -> pb::StatsResponse {
    let container = |of: dispatch::ContainerStats| pb::ContainerStats {
        container: of.container,
        cpu_millicores: of.cpu_millicores,
        memory_bytes: of.memory_bytes,
        memory_limit_bytes: of.memory_limit_bytes,
        pids: of.pids,
        received_bytes: of.received_bytes,
        sent_bytes: of.sent_bytes,
        read_bytes: of.read_bytes,
        written_bytes: of.written_bytes,
    };
    pb::StatsResponse {
        at: Some(timestamp(stats.at_ms)),
        containers: stats.containers.into_iter().map(container).collect(),
    }
}

fn log_line(line: dispatch::LogLine) -> pb::LogsResponse {
    let stream = match line.stderr {
        true => "stderr",
        false => "stdout",
    };
    pb::LogsResponse {
        container: line.container,
        stream: stream.into(),
        at: Some(timestamp(line.at_ms)),
        line: line.line,
        partial: line.partial,
    }
}

pub fn timestamp(ms: u64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: i64::try_from(ms / 1000).unwrap_or(i64::MAX),
        nanos: i32::try_from(ms % 1000).unwrap_or(0) * 1_000_000,
    }
}

/// A command's output in the API's words, while the caller's input is passed to it.
pub fn session(attached: Attached, input: Input) -> Answers<pb::ExecResponse> {
    let Attached { up, down } = attached;
    let input = input
        .map(|message| Ok(dispatch::AttachDown { message: Some(message) }))
        .then(move |message| {
            let down = down.clone();
            async move { down.send(message).await.is_ok() }
        })
        .take_while(|sent| futures::future::ready(*sent))
        // The agent's answers go on after the caller's last word.
        .filter_map(|_| futures::future::ready(None))
        .chain(stream::pending());
    let output = up.map(Some).chain(stream::iter([None]));
    let both = stream::select(output, input);
    Box::pin(stream::unfold(Some(Box::pin(both)), |open| async {
        let mut both = open?;
        match both.next().await?? {
            Err(status) => Some((Err(broken(&status)), None)),
            Ok(message) => match output_of(message.message?) {
                Ok((answer, last)) => Some((Ok(answer), (!last).then_some(both))),
                Err(error) => Some((Err(error), None)),
            },
        }
    }))
}

/// One answer, and whether it is the last.
fn output_of(message: attach_up::Message) -> Result<(pb::ExecResponse, bool), Error> {
    use pb::exec_response::Message;
    let (message, last) = match message {
        attach_up::Message::Stdout(bytes) => (Message::Stdout(bytes), false),
        attach_up::Message::Stderr(bytes) => (Message::Stderr(bytes), false),
        attach_up::Message::ExitCode(code) => (Message::ExitCode(code), true),
        attach_up::Message::Error(why) => return Err(Error::refused(why)),
        attach_up::Message::Attach(_)
        | attach_up::Message::Log(_)
        | attach_up::Message::Stats(_) => {
            return Err(unexpected("while it ran a command"));
        }
    };
    Ok((pb::ExecResponse { message: Some(message) }, last))
}

fn broken(status: &Status) -> Error {
    Error::Unavailable { why: format!("the stream to the agent broke: {}", status.message()) }
}

fn unexpected(when: &str) -> Error {
    Error::Unavailable { why: format!("the agent sent something else {when}; is it too old?") }
}
