//! Starting over, for people's own tests: a state as before the first request.
//!
//! Refused where a container might be running: only machines that pretend may be forgotten.

use crate::command::Response;
use crate::error::Error;
use crate::instance::{InstanceStatus, SIMULATED_ATTRIBUTE};
use crate::state::State;

pub(super) fn all(state: &mut State) -> Result<Response, Error> {
    let real = state.instances().find(|row| {
        row.status != InstanceStatus::Inactive
            && !row.spec.attributes.contains_key(SIMULATED_ATTRIBUTE)
    });
    if let Some(real) = real {
        return Err(Error::refused(format!(
            "container instance {} is real: only a cluster of simulated instances can be reset",
            real.id
        )));
    }
    state.clear();
    Ok(Response::Done)
}
