//! The leader never misjudges its own state, and what it keeps beside the state is what the state
//! says. Without it decisions come from a picture of the cluster that is not the cluster.

use muster_control::leader::Leader;

pub(super) fn check(leader: &Leader) -> Result<(), String> {
    match leader.counters().misjudged {
        0 => Ok(()),
        n => Err(format!("{n} steps refused on the state they were made on")),
    }
}
