//! The nouns, the rules and the state of a Muster cluster: a pure value and one function over it.
//!
//! `apply` runs on every manager in log order and must give the same bytes everywhere: no clock,
//! no randomness, no floats in decisions, no map-iteration order, no panic on any input.
//! This crate does not know that it is replicated, nor how anything looks on a wire.

pub mod access_key;
pub mod alarm;
pub mod apply;
pub mod breaker;
pub mod capability;
pub mod capacity;
pub mod cluster;
pub mod command;
pub mod config;
pub mod diff;
pub mod dispatch;
pub mod environment_file;
pub mod error;
#[cfg(feature = "fixture")]
pub mod fixture;
pub mod foresight;
mod hash;
mod health;
pub mod ids;
pub mod instance;
pub mod job;
pub mod life;
pub mod limits;
pub mod log_driver;
pub mod mark;
pub mod pin;
pub mod placement;
mod platform;
pub mod policy;
pub mod query;
pub mod schedule;
pub mod secret;
pub mod service;
pub mod shift;
pub mod signing_key;
pub mod spec;
pub mod state;
pub mod stored;
pub mod strategy;
pub mod strict;
pub mod tags;
pub mod task;
pub mod task_set;
pub mod time;
pub mod turn;
pub mod volume;

pub use access_key::{AccessKey, AccessKeyId, AccessKeyStatus, SealedSecret};
pub use alarm::{Alarm, AlarmCommand, AlarmState, DeploymentAlarms};
pub use apply::{Scratch, apply};
pub use breaker::{CircuitBreaker, Threshold, Verdict};
pub use capacity::CapacityProvider;
pub use cluster::{Authority, Cluster, ClusterStatus, Manager, User, UserRole};
pub use command::{Command, Entry, Response, Step, TaskReport};
pub use diff::Changes;
pub use error::{Error, Kind};
pub use foresight::Foresight;
pub use ids::*;
pub use instance::{Health, Instance, InstanceSpec, InstanceStatus};
pub use job::{Job, JobCommand, JobOutcome, JobSpec, JobState};
pub use life::HealthStatus;
pub use pin::{Pin, Pins, VersionConsistency};
pub use placement::{Placement, PlacementConstraint, PlacementStrategy};
pub use policy::{Holder, Policy, task_role_name};
pub use query::{Query, QueryError};
pub use schedule::{MissedRunPolicy, OverlapPolicy, Schedule, ScheduleSpec, ScheduleState};
pub use secret::{Secret, SecretCommand, SecretReference, SecretVersion};
pub use service::{
    Deployment, Event, RolloutState, SchedulingStrategy, Service, ServiceSpec, ServiceStatus,
};
pub use shift::{Pause, Shift, Stage};
pub use signing_key::SigningKey;
pub use spec::{Resources, TaskDefinition};
pub use state::{DefinitionRow, Side, State};
pub use stored::{Row, Table};
pub use strategy::{
    DeploymentStrategy, Endpoint, HookAction, HookTarget, LifecycleHook, Pace, StepSize, Weight,
};
pub use tags::PropagateTags;
pub use task::{Desired, Observed, Owner, Phase, StopCode, Task};
pub use task_set::{DeploymentController, NewTaskSet, Scale, TaskSet, TaskSetCommand, TaskSets};
pub use time::{Millis, Time};
pub use turn::{Turn, Wait};
