//! What is said of a row after it was written and stands beside it, in a table of its own:
//! protection of a task, deletion of a task definition, the places a service has had; and account
//! settings. `shift.rs` has two more, of services, and `pin.rs` one.
//!
//! A row's stored form is settled; what came later and few rows have is kept here. A mark goes with
//! the row it is on.

use crate::ids::{DefinitionId, ServiceId, TaskId};
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// ECS's task scale-in protection: until then neither scale-in nor a deployment stops the task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protection {
    pub task: TaskId,
    pub until: Time,
}

/// DELETE_IN_PROGRESS, since then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    pub definition: DefinitionId,
    pub at: Time,
}

/// How many places a service has had at once, of those it should have: what of its zone's reserve
/// is for it (`state/reserve.rs`). Only in clusters that keep one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Established {
    pub service: ServiceId,
    pub places: u32,
}

/// Whose setting: no principal is the default of the account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SettingKey {
    pub principal: Option<Arc<str>>,
    pub name: Arc<str>,
}

/// An account setting, kept and shown; long ARNs are always on, and nothing else depends on one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountSetting {
    pub key: SettingKey,
    pub value: Arc<str>,
}
