//! The leader never misjudges its own state, and what it keeps beside the state is what the state
//! says. Without it decisions come from a picture of the cluster that is not the cluster.

use muster_control::io::LeaderOutput;
use muster_control::leader::Leader;
use muster_model::Command;

pub(super) fn check(leader: &Leader, outputs: &[LeaderOutput]) -> Result<(), String> {
    match leader.counters().misjudged {
        0 => Ok(()),
        n => Err(format!("{n} steps refused on the state they were made on: {}", plan(outputs))),
    }
}

fn plan(outputs: &[LeaderOutput]) -> String {
    let plans = outputs.iter().filter_map(|output| match output {
        LeaderOutput::Propose { command: Command::Plan { steps, .. }, .. } => Some(steps),
        _ => None,
    });
    plans.map(|steps| format!("{steps:?}")).collect()
}
