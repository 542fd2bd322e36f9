//! What goes into the two brains and what comes out: plain values, so that they can be printed,
//! compared, replayed and refused.

use muster_model::dispatch::{Assignment, Assignments, Held};
use muster_model::life::HealthCheck;
use muster_model::task::{ContainerStatus, StopCode};
use muster_model::{
    Command, Epoch, Error, Index, InstanceId, RaftId, Response, SessionId, State, TaskId,
    TaskReport, Time,
};
use std::sync::Arc;

/// Names a proposal, so that its result finds its way back. Counted by the brain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Everything a leading manager's brain can hear.
#[derive(Clone, Debug)]
pub enum LeaderInput {
    /// The newest applied state (older ones may be skipped).
    State(Arc<State>),
    Tick,
    /// An agent opened a session and says what it has. Replaces any older session of the instance.
    Hello {
        instance: InstanceId,
        session: SessionId,
        inventory: Vec<Held>,
    },
    /// With a number, the agent has a strict task and asks to be confirmed.
    Heartbeat {
        instance: InstanceId,
        session: SessionId,
        number: Option<u64>,
    },
    /// `sequence` is acknowledged once the reports are committed.
    Report {
        instance: InstanceId,
        session: SessionId,
        sequence: u64,
        reports: Vec<TaskReport>,
    },
    /// The stream ended. Not a verdict: the lease decides.
    Gone {
        instance: InstanceId,
        session: SessionId,
    },
    /// The answer to a `Propose`. The shell hands over a state that shows the entry before this.
    Proposed {
        ticket: Ticket,
        result: Result<Response, Error>,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub enum LeaderOutput {
    Propose {
        ticket: Ticket,
        command: Command,
    },
    Send {
        instance: InstanceId,
        session: SessionId,
        assignments: Assignments,
    },
    Ack {
        instance: InstanceId,
        session: SessionId,
        sequence: u64,
    },
    /// Tell the agent that its heartbeat of this number was heard, once a linearizable read that
    /// begins now shows that this epoch still leads: strict tasks run on no other word.
    Confirm {
        instance: InstanceId,
        session: SessionId,
        heard: Heard,
    },
    /// End the session: replaced by a newer one, unknown or deregistered instance.
    Close {
        instance: InstanceId,
        session: SessionId,
        why: Error,
    },
    /// Call `handle(Tick)` at this time at the latest (the newest such output counts).
    WakeAt(Time),
}

/// A heartbeat that is to be confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    pub number: u64,
    /// The last orders that were sent to the agent before.
    pub orders: (Epoch, Index),
}

/// What makes a leader: fixed for its whole life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mandate {
    pub manager: RaftId,
    pub epoch: Epoch,
    /// Seeds the ids it mints.
    pub seed: u128,
}

/// Everything an agent's brain can hear.
#[derive(Clone, Debug)]
pub enum WorkerInput {
    /// First input: what the runtime found on this machine (journal, live shims, exit codes).
    Boot {
        found: Vec<Found>,
    },
    Assignments(Assignments),
    Container {
        task: TaskId,
        event: ContainerEvent,
    },
    /// A session is open: report everything unacknowledged.
    Connected(SessionId),
    Lost,
    /// A leader confirmed, in this session, a heartbeat that was sent at this time. It counts only
    /// once the orders that were sent before have been obeyed.
    Confirmed {
        sent: Time,
        orders: (Epoch, Index),
    },
    /// Reports up to this sequence number are committed.
    Acked {
        sequence: u64,
    },
    Tick,
}

/// A task found at boot, with the assignment the agent journalled when it began it.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    pub assignment: Assignment,
    /// An order to stop it was obeyed before the restart.
    pub stopping: bool,
    pub containers: Vec<(Arc<str>, FoundContainer)>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum FoundContainer {
    /// Journalled, but no trace of it: it never started.
    Missing,
    Running {
        status: ContainerStatus,
        started_at: Time,
    },
    Exited {
        status: ContainerStatus,
        started_at: Option<Time>,
        finished_at: Time,
    },
}

/// What the runtime tells about one task. `container` names one of its containers.
#[derive(Clone, Debug, PartialEq)]
pub enum ContainerEvent {
    PullStarted,
    /// All images of the task are on disk, verified.
    Pulled,
    /// `reason` starts with ECS's error name (`CannotPullContainerError: ...`); `container` is the
    /// one whose image it is, none for what the task lacks as a whole.
    PullFailed {
        container: Option<Arc<str>>,
        reason: Arc<str>,
    },
    /// Created, not started: its address, pid and bindings are known.
    Created {
        container: Arc<str>,
        status: ContainerStatus,
    },
    Started {
        container: Arc<str>,
        at: Time,
    },
    /// Create or start failed (`CannotCreateContainerError: ...`, `CannotStartContainerError:
    /// ...`).
    Failed {
        container: Arc<str>,
        reason: Arc<str>,
    },
    /// `exit_code` is `None` when it was lost with its shim.
    Exited {
        container: Arc<str>,
        exit_code: Option<i32>,
        oom_killed: bool,
        at: Time,
    },
    /// Everything of the task is gone from the machine.
    Deleted,
    /// A container that had ended was started again in place, with a new first process.
    Restarted {
        container: Arc<str>,
        pid: Option<u32>,
        at: Time,
    },
    /// What came of the health check of this number; why, if it failed.
    Checked {
        container: Arc<str>,
        number: u32,
        outcome: Result<(), Arc<str>>,
    },
}

/// What the agent's shell must do. Each is done once, in order per task, without waiting for the
/// one before unless it is of the same container.
#[derive(Clone, Debug, PartialEq)]
pub enum WorkerOutput {
    /// Journal the assignment, prepare volumes and pull all images: `Pulled` or `PullFailed`.
    Pull(Arc<Assignment>),
    /// Create one container: `Created` or `Failed`.
    Create {
        assignment: Arc<Assignment>,
        container: Arc<str>,
    },
    Start {
        task: TaskId,
        container: Arc<str>,
    },
    /// Journal that the task is to stop, before the first signal.
    Stopping {
        task: TaskId,
    },
    Signal {
        task: TaskId,
        container: Arc<str>,
        signal: Signal,
    },
    /// Remove containers, networks, mounts and the journal; logs stay until they age out.
    Delete {
        task: TaskId,
    },
    /// Tell the manager; `Acked` answers. Sequence numbers grow by one from 1 in each session.
    Report {
        sequence: u64,
        reports: Vec<TaskReport>,
    },
    /// Persist that orders up to here were obeyed, before anything of them is done.
    Obeyed {
        epoch: Epoch,
        revision: muster_model::Index,
    },
    WakeAt(Time),
    /// Whether heartbeats are to be confirmed from now on (no at first): `Confirmed`.
    AskForContact(bool),
    /// Start a container that has ended again, with the files it left: `Restarted` or `Failed`.
    Restart {
        task: TaskId,
        container: Arc<str>,
    },
    /// Execute the check in the running container, beside everything else: `Checked`.
    Check {
        task: TaskId,
        container: Arc<str>,
        number: u32,
        check: Arc<HealthCheck>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// The image's stop signal, SIGTERM by default.
    Stop,
    Kill,
}

/// Why a task ended, as the agent's brain concluded it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    pub code: StopCode,
    pub reason: Arc<str>,
}
