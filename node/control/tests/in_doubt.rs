//! A leader that may have been replaced, or finds no quorum: found by the simulator, kept here.

// A test may panic.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use muster_control::io::{LeaderInput, LeaderOutput, Mandate};
use muster_control::leader::Leader;
use muster_model::fixture::World;
use muster_model::ids::SessionId;
use muster_model::{
    Command, Error, InstanceId, Millis, Observed, Phase, RaftId, Response, TaskId, TaskReport,
    limits,
};
use std::sync::Arc;

const SESSION: SessionId = SessionId::from_bits(7);

fn leader(world: &World) -> Leader {
    let epoch = world.state.meta().epoch;
    let mut leader = Leader::new(Mandate { manager: RaftId(1), epoch, seed: 1 }, world.at);
    leader.handle(world.at, LeaderInput::State(Arc::new(world.state.clone())));
    leader
}

fn connect(world: &World, leader: &mut Leader, instance: InstanceId) {
    let inventory = Vec::new();
    leader.handle(world.at, LeaderInput::Hello { instance, session: SESSION, inventory });
}

fn acked(outputs: &[LeaderOutput]) -> bool {
    outputs.iter().any(|output| matches!(output, LeaderOutput::Ack { .. }))
}

/// The next leader placed the task, and the agent tells the old one how it ended: an
/// acknowledgement would lose that for good.
#[test]
fn a_report_about_a_task_the_leader_does_not_know_is_acknowledged_by_the_log_only() {
    let world = World::from_text("instance i1 cpu=1024 mem=1024 ready");
    let instance = world.instance("i1");
    let mut leader = leader(&world);
    connect(&world, &mut leader, instance);
    let observed = Observed { phase: Phase::Stopped, ..Observed::default() };
    let reports = vec![TaskReport { task: TaskId::from_bits(99), instance, observed }];
    let report = LeaderInput::Report { instance, session: SESSION, sequence: 1, reports };
    let outputs = leader.handle(world.at, report);
    assert!(!acked(&outputs), "{outputs:?}");
    let ticket = outputs.iter().find_map(|output| match output {
        LeaderOutput::Propose { ticket, command: Command::Report { .. } } => Some(*ticket),
        _ => None,
    });
    let ticket = ticket.expect("the report is not proposed");
    let unknown = Err(Error::UnknownOutcome { why: "replaced".into() });
    let outputs = leader.handle(world.at, LeaderInput::Proposed { ticket, result: unknown });
    assert!(!acked(&outputs), "{outputs:?}");
    let again = outputs.iter().find_map(|output| match output {
        LeaderOutput::Propose { ticket, command: Command::Report { .. } } => Some(*ticket),
        _ => None,
    });
    let ticket = again.expect("the report is not proposed again");
    let result = Ok(Response::Reports { refused: Vec::new() });
    let outputs = leader.handle(world.at, LeaderInput::Proposed { ticket, result });
    assert!(acked(&outputs), "{outputs:?}");
}

/// A lease runs out while nothing can be proposed: a wake-up now would be followed by the next.
#[test]
fn without_a_quorum_a_leader_with_work_does_not_ask_to_be_woken_at_once() {
    let mut world = World::from_text("instance i1 cpu=1024 mem=1024 ready");
    let instance = world.instance("i1");
    let mut leader = leader(&world);
    connect(&world, &mut leader, instance);
    let mut waits = Vec::new();
    let end = world.at + limits::LEASE_GRACE + Millis::from_secs(5);
    while world.at < end {
        let mut outputs = leader.handle(world.at, LeaderInput::Tick);
        let proposed = |output: &LeaderOutput| match output {
            LeaderOutput::Propose { ticket, .. } => Some(*ticket),
            _ => None,
        };
        if let Some(ticket) = outputs.iter().find_map(proposed) {
            let result = Err(Error::Unavailable { why: "no quorum".into() });
            outputs.extend(leader.handle(world.at, LeaderInput::Proposed { ticket, result }));
            outputs.extend(leader.handle(world.at, LeaderInput::Tick));
            waits.extend(
                outputs
                    .iter()
                    .filter_map(|output| match output {
                        LeaderOutput::WakeAt(at) => Some(at.since(world.at)),
                        _ => None,
                    })
                    .next_back(),
            );
        }
        world.at = world.at + Millis(50);
    }
    assert!(!waits.is_empty(), "the lease never ran out");
    assert!(waits.iter().all(|wait| *wait >= Millis(100)), "{waits:?}");
}
