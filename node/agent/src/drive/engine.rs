//! What carries out the worker's outputs: a runtime on this machine, or one that only pretends.
//!
//! Each call is one action on one task and returns when it is done, having sent its events; the
//! lanes decide what may run beside what. An engine bounds each action by a time-out of its own.

use futures::Stream;
use muster_control::io::{ContainerEvent, Found, Signal};
use muster_model::dispatch::Assignment;
use muster_model::life::HealthCheck;
use muster_model::{Error, TaskId, TaskReport, Time};
use muster_proto::dispatch as pb;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Where an engine says what happened.
pub type Events = mpsc::Sender<(TaskId, ContainerEvent)>;

/// Lines of a log; an error ends them.
pub type Lines = Pin<Box<dyn Stream<Item = Result<pb::LogLine, Error>> + Send>>;

/// What a task uses, sample by sample; an error ends them.
pub type Samples = Pin<Box<dyn Stream<Item = Result<pb::TaskStats, Error>> + Send>>;

/// What a command in a container writes, and at last how it ended.
pub type Output = Pin<Box<dyn Stream<Item = Result<ExecOutput, Error>> + Send>>;

/// What the user types.
pub type Input = Pin<Box<dyn Stream<Item = ExecInput> + Send>>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecOutput {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    Exited(i32),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecInput {
    Stdin(Vec<u8>),
    StdinClosed,
    Resize { rows: u16, columns: u16 },
}

/// Which lines of which log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogsAsk {
    /// Empty: every container of the task.
    pub container: String,
    /// Go on with what is written from now on.
    pub follow: bool,
    /// Lines from the end; `None`: all that is kept.
    pub tail: Option<u32>,
    pub since: Option<Time>,
    /// Up to and with this moment, at which following ends.
    pub until: Option<Time>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecAsk {
    pub container: String,
    pub command: Vec<String>,
    /// With a terminal of this size.
    pub terminal: Option<(u16, u16)>,
}

/// A machine's containers. Dropping a future of a slow action abandons it: its task is about to be
/// deleted, or the agent stops and will find at its next start what there is.
#[tonic::async_trait]
pub trait Engine: Send + Sync + 'static {
    /// Clears what nobody owns, and says what there is. Events of what is there go to `events`
    /// from here on. Called once, first.
    async fn boot(&self, events: Events) -> Result<Vec<Found>, Error>;

    /// Journals the assignment, prepares volumes, pulls all images: `PullStarted`, then `Pulled` or
    /// `PullFailed`.
    async fn pull(&self, assignment: Arc<Assignment>);
    /// `Created` or `Failed`.
    async fn create(&self, assignment: Arc<Assignment>, container: Arc<str>);
    /// `Started` or `Failed`, later `Exited`.
    async fn start(&self, task: TaskId, container: Arc<str>);
    /// Journals that the task is to stop.
    async fn stopping(&self, task: TaskId);
    /// `Restarted` or `Failed`, later `Exited`.
    async fn restart(&self, task: TaskId, container: Arc<str>);
    /// `Checked`. Dropping it kills what it runs.
    async fn check(&self, task: TaskId, container: Arc<str>, number: u32, check: Arc<HealthCheck>);
    async fn signal(&self, task: TaskId, container: Arc<str>, signal: Signal);
    /// Removes all that there is of a task: `Deleted`.
    async fn delete(&self, task: TaskId);

    /// What is being reported of tasks: an engine that answers their containers keeps it.
    fn learn(&self, _reports: &[TaskReport]) {}

    async fn logs(&self, task: TaskId, ask: LogsAsk) -> Result<Lines, Error>;
    /// One sample over a second, or with `follow` one each second until the task is deleted.
    async fn stats(&self, task: TaskId, follow: bool) -> Result<Samples, Error>;
    /// Dropping the output ends the command.
    async fn exec(&self, task: TaskId, ask: ExecAsk, input: Input) -> Result<Output, Error>;

    /// Ends what the engine itself runs. Containers run on.
    async fn close(&self);
}
