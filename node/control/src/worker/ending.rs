//! The ends that a task comes to by itself, in ECS's words where ECS has any.

use crate::io::Ending;
use muster_model::task::{StopCode, reason};
use std::sync::Arc;

const ESSENTIAL_EXITED: &str = "Essential container in task exited";
const OUT_OF_CONTACT: &str =
    "Task stopped by itself: it is a strict service's, and no leader has confirmed contact";

impl Ending {
    pub(super) fn essential_exited() -> Self {
        let (code, reason) = (StopCode::EssentialContainerExited, Arc::from(ESSENTIAL_EXITED));
        Self { code, reason }
    }

    pub(super) fn failed_to_start(why: &str) -> Self {
        Self { code: StopCode::TaskFailedToStart, reason: reason(why) }
    }

    pub(super) fn out_of_contact() -> Self {
        Self { code: StopCode::TerminationNotice, reason: Arc::from(OUT_OF_CONTACT) }
    }
}
