//! What managers and agents tell each other, as values: orders one way, inventory the other.
//!
//! Nothing is inferred from absence: an agent stops a task only on an explicit `Stop`, and what it
//! runs and was not told of it lists, and is answered by id.

use crate::ids::{Epoch, Index, Revision, TaskId, TraceId};
use crate::spec::TaskDefinition;
use crate::task::Phase;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Everything an agent needs to run one task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    pub task: TaskId,
    /// Of the cluster of managers, for ARNs.
    #[serde(default)]
    pub account: Arc<str>,
    #[serde(default)]
    pub region: Arc<str>,
    /// The task's cluster by name, for labels, logs and metadata.
    pub cluster: Arc<str>,
    pub family: Arc<str>,
    pub revision: Revision,
    /// ECS `group`: `service:<name>` or what RunTask said.
    pub group: Arc<str>,
    /// The definition with the run's overrides applied.
    #[serde(with = "crate::stored::named")]
    pub spec: Arc<TaskDefinition>,
    /// Host ports, one per `TaskDefinition::port_mappings`, in that order.
    pub ports: Vec<u16>,
    /// The journey that created the task.
    pub trace: Option<TraceId>,
    /// Of a strict singleton (`strict.rs`): runs only while the agent is in contact with a leader.
    #[serde(default)]
    pub fencing_token: Option<u64>,
    /// Whether it reaches the instance's own metadata service from a network of its own.
    #[serde(default)]
    pub instance_metadata: bool,
    /// What the images of containers are, whatever their tags mean by now: digests by container
    /// (`pin.rs`). An image that is not named here is resolved when it is pulled.
    #[serde(default)]
    pub digests: BTreeMap<Arc<str>, Arc<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Run it; if it runs already, keep (adopt) it.
    Run(Box<Assignment>),
    /// Stop it, report, keep its record until `Forget`.
    Stop(TaskId),
    /// Its end is recorded: delete what is left of it. An agent that still runs it stops it first.
    Forget(TaskId),
}

impl Order {
    pub fn task(&self) -> TaskId {
        match self {
            Self::Run(assignment) => assignment.task,
            Self::Stop(task) | Self::Forget(task) => *task,
        }
    }
}

/// One message of orders. An agent obeys it only if (epoch, revision) is not lower than the highest
/// it has obeyed, and remembers that pair across restarts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignments {
    pub epoch: Epoch,
    /// State index the orders were computed at; grows within an epoch.
    pub revision: Index,
    /// The first message of a session: it names every task of the instance, and answers every task
    /// that the agent listed in its inventory.
    pub complete: bool,
    pub orders: Vec<Order>,
}

/// One task that an agent has something of: a line of its inventory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub task: TaskId,
    pub phase: Phase,
}
