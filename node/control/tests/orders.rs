//! What an agent is told in full, and which of its sessions counts: scripts show orders by name.

// A test may panic.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use muster_control::io::{LeaderInput, LeaderOutput, Mandate};
use muster_control::leader::Leader;
use muster_model::dispatch::Order;
use muster_model::fixture::World;
use muster_model::ids::SessionId;
use muster_model::{Command, InstanceId, Observed, Phase, RaftId, Response, TaskReport};
use std::sync::Arc;

const OLD: SessionId = SessionId::from_bits(7);
const NEW: SessionId = SessionId::from_bits(8);

fn leader(world: &World) -> Leader {
    let epoch = world.state.meta().epoch;
    let mut leader = Leader::new(Mandate { manager: RaftId(1), epoch, seed: 1 }, world.at);
    leader.handle(world.at, LeaderInput::State(Arc::new(world.state.clone())));
    leader
}

fn hello(
    world: &World,
    leader: &mut Leader,
    instance: InstanceId,
    session: SessionId,
) -> Vec<LeaderOutput> {
    leader.handle(world.at, LeaderInput::Hello { instance, session, inventory: Vec::new() })
}

fn closed(outputs: &[LeaderOutput]) -> Option<SessionId> {
    outputs.iter().find_map(|output| match output {
        LeaderOutput::Close { session, .. } => Some(*session),
        _ => None,
    })
}

fn world() -> World {
    World::from_text(
        "
        instance i1 cpu=1024 mem=1024 ready
        definition web cpu=256 mem=128 port=80
        run t1 definition=web cpu=512
        place t1 i1
        ",
    )
}

#[test]
fn an_order_carries_the_host_ports_and_the_overrides_of_its_task() {
    let world = world();
    let mut leader = leader(&world);
    let outputs = hello(&world, &mut leader, world.instance("i1"), OLD);
    let orders = outputs.iter().find_map(|output| match output {
        LeaderOutput::Send { assignments, .. } => Some(&assignments.orders),
        _ => None,
    });
    let Some([Order::Run(assignment)]) = orders.map(Vec::as_slice) else { panic!("{outputs:?}") };
    assert_eq!(*assignment.ports, *world.state.task(world.task("t1")).unwrap().ports);
    assert_eq!(assignment.ports.len(), 1);
    assert_eq!(assignment.spec.reservation().cpu, 512);
    assert!(!assignment.instance_metadata);
}

#[test]
fn an_order_says_what_the_cluster_allows_its_tasks() {
    let mut world = world();
    world.run("settings default instanceMetadataAccess=enabled");
    let mut leader = leader(&world);
    let outputs = hello(&world, &mut leader, world.instance("i1"), OLD);
    let allowed = outputs.iter().any(|output| match output {
        LeaderOutput::Send { assignments, .. } => {
            let orders = &assignments.orders;
            orders.iter().any(|order| matches!(order, Order::Run(run) if run.instance_metadata))
        }
        _ => false,
    });
    assert!(allowed, "{outputs:?}");
}

#[test]
fn an_older_session_neither_speaks_nor_ends_the_newer_one() {
    let world = world();
    let mut leader = leader(&world);
    let instance = world.instance("i1");
    hello(&world, &mut leader, instance, OLD);
    assert_eq!(closed(&hello(&world, &mut leader, instance, NEW)), Some(OLD));
    let old = LeaderInput::Heartbeat { instance, session: OLD, number: None };
    assert_eq!(closed(&leader.handle(world.at, old)), Some(OLD));
    leader.handle(world.at, LeaderInput::Gone { instance, session: OLD });
    let new = LeaderInput::Heartbeat { instance, session: NEW, number: None };
    assert_eq!(closed(&leader.handle(world.at, new)), None);
}

/// The newer session sends it again: an acknowledgement of the older one's number would be read as
/// one of its own.
#[test]
fn a_report_of_an_older_session_is_not_acknowledged_in_the_newer_one() {
    let world = world();
    let mut leader = leader(&world);
    let (instance, task) = (world.instance("i1"), world.task("t1"));
    hello(&world, &mut leader, instance, OLD);
    let observed = Observed { phase: Phase::Running, ..Observed::default() };
    let reports = vec![TaskReport { task, instance, observed }];
    let report = LeaderInput::Report { instance, session: OLD, sequence: 1, reports };
    let outputs = leader.handle(world.at, report);
    let ticket = outputs.iter().find_map(|output| match output {
        LeaderOutput::Propose { ticket, command: Command::Report { .. } } => Some(*ticket),
        _ => None,
    });
    let ticket = ticket.expect("the report is not proposed");
    hello(&world, &mut leader, instance, NEW);
    let result = Ok(Response::Reports { refused: Vec::new() });
    let outputs = leader.handle(world.at, LeaderInput::Proposed { ticket, result });
    assert!(!outputs.iter().any(|o| matches!(o, LeaderOutput::Ack { .. })), "{outputs:?}");
}

/// Until its takeover is applied, what the state says may be what an older leader still changes.
#[test]
fn a_leader_orders_and_plans_nothing_before_its_takeover_is_applied() {
    let mut world = world();
    world.run("run t2 definition=web");
    let mut next = world.clone();
    next.run("takeover 1");
    let mandate = Mandate { manager: RaftId(1), epoch: next.state.meta().epoch, seed: 1 };
    let mut leader = Leader::new(mandate, world.at);
    let instance = world.instance("i1");
    let mut said = leader.handle(world.at, LeaderInput::State(Arc::new(world.state.clone())));
    said.extend(hello(&world, &mut leader, instance, OLD));
    let acts =
        |o: &LeaderOutput| matches!(o, LeaderOutput::Send { .. } | LeaderOutput::Propose { .. });
    assert!(!said.iter().any(acts), "{said:?}");
    said = leader.handle(next.at, LeaderInput::State(Arc::new(next.state.clone())));
    said.extend(hello(&next, &mut leader, instance, NEW));
    assert!(said.iter().any(|o| matches!(o, LeaderOutput::Send { .. })), "{said:?}");
    assert!(said.iter().any(|o| matches!(o, LeaderOutput::Propose { .. })), "{said:?}");
}

/// A shell that hears all who wait before it asks for a decision gets one entry for all of them.
#[test]
fn reports_that_are_heard_before_a_decision_are_one_entry() {
    let world = World::from_text(
        "
        instance i1 cpu=1024 mem=1024 ready
        instance i2 cpu=1024 mem=1024 ready
        definition web cpu=256 mem=128
        run t1 t2 definition=web
        place t1 i1
        place t2 i2
        ",
    );
    let mut leader = leader(&world);
    hello(&world, &mut leader, world.instance("i1"), OLD);
    hello(&world, &mut leader, world.instance("i2"), NEW);
    for (on, task, session) in [("i1", "t1", OLD), ("i2", "t2", NEW)] {
        let instance = world.instance(on);
        let observed = Observed { phase: Phase::Running, ..Observed::default() };
        let reports = vec![TaskReport { task: world.task(task), instance, observed }];
        let input = LeaderInput::Report { instance, session, sequence: 1, reports };
        assert_eq!(leader.hear(world.at, input), []);
    }
    let entries = leader.decide(world.at).into_iter().filter_map(|output| match output {
        LeaderOutput::Propose { command: Command::Report { reports }, .. } => Some(reports.len()),
        _ => None,
    });
    assert_eq!(entries.collect::<Vec<_>>(), [2]);
}
