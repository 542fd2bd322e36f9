//! Laws of deployments, over random histories of one service: whatever users and leaders say, there
//! is one newest deployment, what has ended has ended, and what could be rolled back to stays.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use muster_model::command::StopType;
use muster_model::fixture::World;
use muster_model::service::{Deployment, Outcome};
use muster_model::{Command, DeploymentId, RolloutState, Service, ServiceId, Step, limits};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug)]
enum Move {
    Force,
    Advance,
    Fail,
    FailAndBack,
    Stop(StopType),
    /// A task of the newest deployment starts and fails.
    Crash,
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        3 => Just(Move::Force),
        3 => Just(Move::Advance),
        1 => Just(Move::Fail),
        3 => Just(Move::FailAndBack),
        2 => Just(Move::Stop(StopType::Rollback)),
        1 => Just(Move::Stop(StopType::Abort)),
        4 => Just(Move::Crash),
    ]
}

fn web(world: &World) -> &Service {
    world.state.services().next().unwrap()
}

fn make(world: &mut World, step: Move, turn: usize) {
    let row = web(world);
    let (service, deployment): (ServiceId, DeploymentId) = (row.id, row.primary().unwrap().id);
    let back_to = row.rollback_target();
    let rollout = RolloutState::Completed;
    match step {
        Move::Force => drop(world.run("update-service web force")),
        Move::Crash => {
            let lines = [
                "time +1s".to_owned(),
                format!("create-tasks web 0=t{turn}"),
                format!("place t{turn} i1"),
                format!("report t{turn} STOPPED"),
            ];
            // A deployment that failed starts none.
            lines.iter().for_each(|line| drop(world.run(line)));
        }
        Move::Advance => drop(world.plan(vec![Step::Advance { service, deployment, rollout }])),
        Move::Fail => {
            world.plan(vec![Step::FailDeployment { service, deployment, back_to: None }]);
        }
        Move::FailAndBack => {
            world.plan(vec![Step::FailDeployment { service, deployment, back_to }]);
        }
        Move::Stop(stop) => {
            // Refused where there is nothing to stop, or nothing to go back to.
            drop(world.apply(Command::StopServiceDeployment { service, deployment, stop }));
        }
    }
}

/// What a deployment was once must not be taken back.
fn moved_on(before: &Deployment, after: &Deployment) -> Result<(), TestCaseError> {
    if let Some(end) = before.end {
        prop_assert_eq!(Some(end), after.end, "it ended anew");
    }
    if let Some(halt) = before.halt {
        prop_assert_eq!(Some(halt), after.halt, "it was halted anew");
        prop_assert_eq!(after.rollout, RolloutState::Failed, "it goes on");
    }
    Ok(())
}

fn sound(row: &Service) -> Result<(), TestCaseError> {
    let newest = row.primary().unwrap();
    prop_assert!(row.deployments.len() <= limits::DEPLOYMENTS_PER_SERVICE_MAX);
    prop_assert!(row.past.len() <= limits::PAST_DEPLOYMENTS_MAX);
    prop_assert!(row.past.iter().all(|past| past.end.is_some()), "the past is not over");
    for (at, deployment) in row.deployments.iter().enumerate() {
        let open = deployment.end.is_none();
        let back = deployment.halt.and_then(|halt| halt.back_to);
        prop_assert!(!open || at == 0 || back == Some(newest.id), "{deployment:?} is open");
        if deployment.end.is_some_and(|end| end.outcome == Outcome::RolledBack) {
            prop_assert!(back.is_some(), "rolled back to nothing");
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn deployments_end_once_and_leave_something_to_go_back_to(moves in vec(moves(), 1..60)) {
        let mut world = World::new();
        let lines = [
            "instance i1 az=az-a cpu=64 mem=64 ready",
            "definition web cpu=1 mem=8",
            "service web definition=web:1 desired=1 breaker=2 rollback",
        ];
        for line in lines {
            prop_assert!(world.run(line).starts_with("ok"));
        }
        let mut known: BTreeMap<DeploymentId, Deployment> = BTreeMap::new();
        for (turn, step) in moves.into_iter().enumerate() {
            let before = web(&world).clone();
            let had = before.deployments.iter().any(Deployment::has_completed);
            make(&mut world, step, turn);
            let after = web(&world).clone();
            sound(&after)?;
            for row in after.all_deployments() {
                if let Some(old) = known.insert(row.id, row.clone()) {
                    moved_on(&old, row)?;
                }
            }
            let has = after.deployments.iter().any(Deployment::has_completed);
            prop_assert!(has || !had, "nothing is left that completed, after {step:?}");
            let same = after.deployments == before.deployments;
            prop_assert!(same || after.version > before.version, "{step:?}");
        }
    }
}
