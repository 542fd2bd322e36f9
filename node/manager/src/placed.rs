//! Whether an agent may ask about a task: it is placed on its instance.

use muster_model::{Error, InstanceId, Kind, Principal, State, Task, TaskId};
use std::sync::Arc;

/// The row of `task`, if it is placed on `instance`; what the agent wants with it is for the error.
///
/// # Errors
/// `Denied` for a task that is not placed there, known or not, so that nobody learns of others'.
pub fn placed<'s>(
    state: &'s State,
    instance: InstanceId,
    task: TaskId,
    action: &str,
) -> Result<&'s Arc<Task>, Error> {
    let row = state.task(task).filter(|row| row.instance == Some(instance));
    row.ok_or_else(|| Error::Denied {
        principal: Principal::Instance(instance).to_string(),
        action: format!("{action} {} {task}: it is not placed there", Kind::Task),
    })
}
