//! The leader never misjudges its own state, and what it keeps beside the state is what the state
//! says. Without it decisions come from a picture of the cluster that is not the cluster.

use muster_control::leader::Leader;

pub(super) fn check(leader: &Leader) -> Result<(), String> {
    let counters = leader.counters();
    match (counters.misjudged, counters.scan_found) {
        (0, 0) => Ok(()),
        (0, n) => Err(format!("{n} full scans found work that no change had announced")),
        (n, _) => Err(format!("{n} steps refused on the state they were made on")),
    }
}
