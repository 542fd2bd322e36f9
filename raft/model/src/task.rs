//! A task: one run of a definition, what is wanted of it and what was last seen of it.
//!
//! One writer per field, also for the dead: `desired` is the manager's, `observed` the agent's.
//! States only move forward; a task is never moved or restarted, its slot gets a new one.

use crate::ids::{
    ClusterId, DefinitionId, DeploymentId, InstanceId, JobId, ServiceId, Slot, TaskId, TraceId,
};
use crate::life::HealthStatus;
use crate::limits;
use crate::spec::{Named, Overrides, Protocol, Tags};
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Why the task exists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Owner {
    Service {
        service: ServiceId,
        slot: Slot,
        deployment: DeploymentId,
    },
    /// RunTask or StartTask. `group` is `family:<family>` unless the user named one.
    Run {
        group: Arc<str>,
        started_by: Option<Arc<str>>,
    },
    /// One attempt of a job; group and author as a run has them.
    Job {
        job: JobId,
        group: Arc<str>,
        started_by: Arc<str>,
    },
}

/// What the managers want. Ordered: a later value never gives way to an earlier one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Desired {
    #[default]
    Running,
    /// Stop it and report; the reservation is held until it has stopped.
    Stopped { code: StopCode, reason: Arc<str> },
    /// Its instance is lost: the managers' verdict. Nothing is reserved for it any more, and the
    /// agent is told to stop it should it ever return.
    Abandoned { at: Time },
}

impl Desired {
    pub fn rank(&self) -> u8 {
        match self {
            Self::Running => 0,
            Self::Stopped { .. } => 1,
            Self::Abandoned { .. } => 2,
        }
    }
}

/// ECS `lastStatus`, in ECS's order. States without work are skipped; order never goes back.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Phase {
    /// Waits to be placed.
    #[default]
    Provisioning,
    /// Placed; the agent has not begun.
    Pending,
    /// The agent pulls images, makes networks and containers.
    Activating,
    Running,
    Deactivating,
    /// The stop signal was sent.
    Stopping,
    Deprovisioning,
    Stopped,
}

/// ECS `stopCode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopCode {
    TaskFailedToStart,
    EssentialContainerExited,
    UserInitiated,
    ServiceSchedulerInitiated,
    /// The instance was lost or removed.
    TerminationNotice,
}

/// ECS `networkBindings[]`, plus the container's own address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkBinding {
    pub container_port: u16,
    pub host_port: u16,
    pub protocol: Protocol,
}

/// What the agent last said of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerStatus {
    pub name: Arc<str>,
    pub phase: Phase,
    /// `None` if it never started, or if its exit code was lost with its shim.
    pub exit_code: Option<i32>,
    /// ECS container `reason`, for example `OutOfMemoryError: Container killed due to memory
    /// usage`.
    pub reason: Option<Arc<str>>,
    pub runtime_id: Option<Arc<str>>,
    pub image_digest: Option<Arc<str>>,
    pub bindings: Vec<NetworkBinding>,
    /// Address on the instance's bridge.
    pub address: Option<Arc<str>>,
    /// The container's first process on its instance.
    pub pid: Option<u32>,
    /// What its health check last decided.
    pub health: HealthStatus,
    /// How often it was started again in place.
    pub restarts: u32,
}

/// What the agent last said: its fields are written by reports only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    pub phase: Phase,
    pub containers: Vec<ContainerStatus>,
    pub pull_started_at: Option<Time>,
    pub pull_stopped_at: Option<Time>,
    pub started_at: Option<Time>,
    pub stopping_at: Option<Time>,
    pub stopped_at: Option<Time>,
    pub stop_code: Option<StopCode>,
    /// ECS `stoppedReason`.
    pub reason: Option<Arc<str>>,
}

/// Why a task is not placed yet: how many instances each filter removed, largest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    pub instances: u32,
    pub removed: Vec<(Blocker, u32)>,
    /// The instance that came closest, and what it lacks.
    pub nearest: Option<(InstanceId, Shortfall)>,
}

/// What a filter looks at; ECS's reason codes at the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Blocker {
    /// Draining, deregistered.
    Inactive,
    /// The agent is not connected.
    Agent,
    Cpu,
    Memory,
    Ports,
    /// `distinctInstance`.
    Constraint,
    /// The `memberOf` constraint of this number, from 0: those of the definition come first.
    MemberOf(u8),
    /// A spread's `maxSkew`.
    Skew,
    /// The named resource of this number, from 0, in the order of names: `State::code` names it.
    Resource(u8),
    /// What the cluster keeps of the zone: this would be growth (`state/reserve.rs`).
    Reserve,
}

impl Blocker {
    /// ECS's reason code (`failures[].reason`) for a task that wants these named resources.
    pub fn code_for(self, wanted: &Named) -> String {
        match self {
            Self::Resource(number) => match wanted.keys().nth(usize::from(number)) {
                Some(name) => format!("{}:{name}", self.code()),
                None => self.code().into(),
            },
            _ => self.code().into(),
        }
    }

    /// The same without the name of a resource.
    fn code(self) -> &'static str {
        match self {
            Self::Inactive => "INACTIVE",
            Self::Agent => "AGENT",
            Self::Cpu => "RESOURCE:CPU",
            Self::Memory => "RESOURCE:MEMORY",
            Self::Ports => "RESOURCE:PORTS",
            Self::Resource(_) => "RESOURCE",
            Self::Reserve => "RESOURCE:RESERVE",
            Self::Constraint | Self::MemberOf(_) | Self::Skew => "ATTRIBUTE",
        }
    }

    /// How far an instance came that was stopped here: filters are asked in this order.
    pub fn depth(self) -> u16 {
        match self {
            Self::Inactive => 0,
            Self::Agent => 1,
            Self::Cpu => 2,
            Self::Memory => 3,
            Self::Resource(number) => 4 + u16::from(number),
            Self::MemberOf(number) => 300 + u16::from(number),
            Self::Ports => 600,
            Self::Constraint => 601,
            Self::Skew => 602,
            Self::Reserve => 603,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shortfall {
    Cpu {
        wanted: u32,
        free: u32,
    },
    MemoryMib {
        wanted: u32,
        free: u32,
    },
    Port {
        port: u16,
    },
    Named {
        name: Arc<str>,
        wanted: u32,
        free: u32,
    },
    /// What its zone lacks beyond the reserve.
    Reserve {
        cpu: u32,
        memory_mib: u32,
    },
    /// No amount of anything: it is what it is.
    Rule(Blocker),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    pub id: TaskId,
    pub cluster: ClusterId,
    pub owner: Owner,
    pub definition: DefinitionId,
    #[serde(with = "crate::stored::named_option")]
    pub overrides: Option<Arc<Overrides>>,
    pub tags: Arc<Tags>,
    pub created_at: Time,
    /// Grows by one with every change a user can see (ECS `version`).
    pub version: u64,

    /// Written by `Place`, once.
    pub instance: Option<InstanceId>,
    pub placed_at: Option<Time>,
    /// Host ports, one per `TaskDefinition::port_mappings`, in that order.
    pub ports: Box<[u16]>,
    /// Written by the scheduler while the task cannot be placed.
    pub waiting: Option<Arc<Waiting>>,

    pub desired: Desired,
    pub observed: Observed,
    /// The journey that asked for it, if that is traced.
    pub trace: Option<TraceId>,
}

impl Task {
    /// A task as it begins: wanted, not placed, nothing seen.
    pub fn new(
        id: TaskId,
        cluster: ClusterId,
        owner: Owner,
        definition: DefinitionId,
        created_at: Time,
    ) -> Self {
        Self {
            id,
            cluster,
            owner,
            definition,
            overrides: None,
            tags: Arc::default(),
            created_at,
            version: 1,
            instance: None,
            placed_at: None,
            ports: Box::default(),
            waiting: None,
            desired: Desired::Running,
            observed: Observed::default(),
            trace: None,
        }
    }

    /// ECS `group`: whom the scheduler spreads it with. Needs the service's name for services.
    pub fn service(&self) -> Option<ServiceId> {
        match &self.owner {
            Owner::Service { service, .. } => Some(*service),
            Owner::Run { .. } | Owner::Job { .. } => None,
        }
    }

    pub fn job(&self) -> Option<JobId> {
        match &self.owner {
            Owner::Job { job, .. } => Some(*job),
            Owner::Service { .. } | Owner::Run { .. } => None,
        }
    }

    /// Waits until an instance has room. One of RunTask does not: its caller is told, as in ECS.
    pub fn is_patient(&self) -> bool {
        !matches!(self.owner, Owner::Run { .. })
    }

    /// Of RunTask, and nothing had room for it: to its caller a failure, to nobody a task.
    pub fn found_no_place(&self) -> bool {
        !self.is_patient() && self.instance.is_none() && self.waiting.is_some()
    }

    pub fn slot(&self) -> Option<Slot> {
        match &self.owner {
            Owner::Service { slot, .. } => Some(*slot),
            Owner::Run { .. } | Owner::Job { .. } => None,
        }
    }

    pub fn deployment(&self) -> Option<DeploymentId> {
        match &self.owner {
            Owner::Service { deployment, .. } => Some(*deployment),
            Owner::Run { .. } | Owner::Job { .. } => None,
        }
    }

    /// Should run, as far as the managers are concerned.
    pub fn wanted(&self) -> bool {
        self.desired == Desired::Running && self.observed.phase < Phase::Stopped
    }

    /// Nothing more will happen to it: it may be forgotten once its history is no longer kept.
    pub fn finished(&self) -> bool {
        self.observed.phase == Phase::Stopped
            || (self.instance.is_none() && self.desired != Desired::Running)
    }

    /// When it ended, for the managers: it stopped, or its instance was lost. `None` while it may
    /// still run where it should.
    pub fn ended_at(&self) -> Option<Time> {
        match self.desired {
            _ if self.finished() => Some(self.observed.stopped_at.unwrap_or(self.created_at)),
            Desired::Abandoned { at } => Some(at),
            _ => None,
        }
    }

    /// Holds cpu, memory and ports of its instance. Released when it has stopped or its instance
    /// was lost (ECS: reserved from placement until STOPPED).
    pub fn reserves(&self) -> bool {
        self.instance.is_some()
            && self.observed.phase < Phase::Stopped
            && !matches!(self.desired, Desired::Abandoned { .. })
    }

    /// RUNNING and wanted.
    pub fn running(&self) -> bool {
        self.desired == Desired::Running && self.observed.phase == Phase::Running
    }

    /// ECS `stopCode`: what the managers decided, else what the agent saw. `None` while nothing
    /// ends it.
    pub fn stop_code(&self) -> Option<StopCode> {
        match &self.desired {
            Desired::Stopped { code, .. } => Some(*code),
            Desired::Abandoned { .. } => Some(StopCode::TerminationNotice),
            Desired::Running if self.observed.phase < Phase::Stopped => self.observed.stop_code,
            Desired::Running => {
                Some(self.observed.stop_code.unwrap_or(match self.observed.started_at {
                    None => StopCode::TaskFailedToStart,
                    Some(_) => StopCode::EssentialContainerExited,
                }))
            }
        }
    }

    /// ECS `stoppedReason`, beside `stop_code`.
    pub fn stopped_reason(&self) -> Option<Arc<str>> {
        match &self.desired {
            Desired::Stopped { reason, .. } => Some(reason.clone()),
            Desired::Abandoned { .. } => Some(Arc::from("Container instance was lost")),
            Desired::Running => self.observed.reason.clone(),
        }
    }

    /// ECS `lastStatus`: the managers' own steps before and after the agent's.
    pub fn last_status(&self) -> Phase {
        if self.finished() || matches!(self.desired, Desired::Abandoned { .. }) {
            return Phase::Stopped;
        }
        match self.instance {
            None => Phase::Provisioning,
            Some(_) => self.observed.phase.max(Phase::Pending),
        }
    }
}

/// A reason cut to what ECS keeps, on a character boundary.
pub fn reason(text: &str) -> Arc<str> {
    match text.char_indices().nth(limits::REASON_CHARS_MAX) {
        Some((end, _)) => Arc::from(&text[..end]),
        None => Arc::from(text),
    }
}
