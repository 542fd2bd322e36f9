//! Rows as ECS clients see them: the domain on its way out.
//!
//! Each function reads one `State`, so all parts of an answer are of the same moment. It does not
//! know who asks or what they left out (`include`): views are complete. Invariant: no row panics.

mod alarm;
mod capacity;
mod cluster;
mod definition;
mod deployment;
mod foresight;
mod hook;
mod instance;
mod job;
mod life;
mod operator;
mod schedule;
mod secret;
mod service;
mod strategy;
mod task;
mod task_set;
mod waiting;

pub use alarm::alarm;
pub use capacity::{capacity_provider, reserved_provider};
pub use cluster::{cluster, clusters};
pub use definition::{definition, tag_list as tags};
pub use deployment::{service_brief, service_deployment, service_revision};
pub use foresight::foresight;
pub use hook::hook_call;
pub use instance::{attributes, instance};
pub use job::job;
pub use operator::{access_key, policy, user};
pub use schedule::schedule;
pub use secret::{config, secret};
pub use service::{event, service};
pub use task::{protection, task};
pub use task_set::task_sets;
pub use waiting::{placement_failure, refusal, waiting};

use crate::pb;
use muster_model::{Phase, Time};
use prost_types::Timestamp;

/// ECS's reason for a name that nothing has.
const MISSING: &str = "MISSING";

/// The failure of a describe call for something that is not there.
pub fn missing(arn: impl Into<String>) -> pb::Failure {
    pb::Failure { arn: arn.into(), reason: MISSING.into(), detail: String::new() }
}

pub(crate) fn timestamp(time: Time) -> Timestamp {
    let millis = time.0.min(i64::MAX as u64) as i64;
    // At most 999,999,999: it fits.
    Timestamp { seconds: millis / 1000, nanos: (millis % 1000) as i32 * 1_000_000 }
}

/// ECS's pending: on an instance, and its containers do not run yet. What waits for a place is
/// PROVISIONING, and in no count.
pub(crate) fn pending(phase: Phase) -> bool {
    matches!(phase, Phase::Pending | Phase::Activating)
}

/// Counts and sizes on the wire are i32, in the domain u32 or usize.
pub(crate) fn int(number: impl TryInto<i32>) -> i32 {
    number.try_into().unwrap_or(i32::MAX)
}
