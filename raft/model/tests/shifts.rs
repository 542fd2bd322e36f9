//! Laws of deployments that shift traffic, over random histories of one service: whatever users,
//! leaders and crashes do, all of the traffic goes somewhere, none to a revision that is not whole
//! when its share grows, and no stage is left before what it waits for has come.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use muster_model::fixture::World;
use muster_model::{
    DeploymentId, Service, Shift, Stage, State, Step, Task, Time, Turn, Weight, limits,
};
use proptest::collection::vec;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Move {
    /// Another deployment, with this strategy.
    Update(&'static str),
    /// The next turn, if there is one.
    Turn,
    /// Any turn, most of them wrong.
    Leap(usize, u16, u16),
    /// A deployment gets as many running tasks as it may.
    Fill(usize),
    /// A task of the service ends by itself.
    Crash(usize),
    /// The leader gives one up.
    GiveUp(usize),
    Scale(u32),
    Wait(u64),
    Say(&'static str),
}

const STRATEGIES: [&str; 7] = [
    "strategy=blue-green bake=1",
    "strategy=blue-green bake=0 pause-at=PRE_SCALE_UP/1 pause-at=POST_SCALE_UP/1+",
    "strategy=linear:33.4/1 bake=1 pause-at=PRE_PRODUCTION_TRAFFIC_SHIFT/1+",
    "strategy=linear:50/0 pause-at=RECONCILE_SERVICE/1",
    "strategy=canary:0.1/1",
    "strategy=blue-green bake=0 call-at=PRE_SCALE_UP/1 call-at=POST_SCALE_UP/1+",
    "strategy=rolling",
];

fn moves() -> impl Strategy<Value = Move> {
    let said = prop_oneof![
        2 => Just("advance web completed"),
        1 => Just("pause-deployment web"),
        3 => Just("continue-deployment web"),
        1 => Just("continue-deployment web rollback"),
        1 => Just("stop-deployment web"),
        2 => Just("answer-hook web pre_scale_up-1"),
        1 => Just("answer-hook web post_scale_up-3"),
        1 => Just("answer-hook web post_scale_up-3 rollback"),
        1 => Just("stop-deployment web abort"),
    ];
    prop_oneof![
        2 => (0..STRATEGIES.len()).prop_map(|at| Move::Update(STRATEGIES[at])),
        12 => Just(Move::Turn),
        3 => (0..Stage::ALL.len(), 0u16..=1000, 0u16..=1000)
            .prop_map(|(stage, production, test)| Move::Leap(stage, production, test)),
        6 => (0usize..2).prop_map(Move::Fill),
        2 => (0usize..8).prop_map(Move::Crash),
        3 => (0usize..8).prop_map(Move::GiveUp),
        1 => (0u32..4).prop_map(Move::Scale),
        5 => prop_oneof![Just(11), Just(30), Just(61)].prop_map(Move::Wait),
        3 => said.prop_map(Move::Say),
    ]
}

fn web(state: &State) -> &Service {
    state.services().next().unwrap()
}

fn lines(world: &mut World, lines: &[String]) {
    lines.iter().for_each(|line| drop(world.run(line)));
}

fn make(world: &mut World, step: &Move, number: usize) {
    let row = web(&world.state);
    let (service, deployment) = (row.id, row.primary().unwrap().id);
    match step {
        Move::Update(strategy) => drop(world.run(&format!("update-service web force {strategy}"))),
        Move::Turn => drop(world.run("turn web")),
        Move::Leap(stage, production, test) => {
            let of = |permille: u16| Weight::of_permille(permille).unwrap();
            let (production, test) = (of(*production), of(*test));
            let turn = Turn::Enter { stage: Stage::ALL[*stage], production, test };
            world.plan(vec![Step::Turn { service, deployment, turn }]);
        }
        Move::Fill(at) => {
            let Some(deployment) = row.deployments.get(*at).map(|row| row.id) else { return };
            for n in 0..4 {
                let task = format!("t{number}x{n}");
                let id = deployment_name(world, deployment);
                let slot = world.free_slot(service);
                let text = [
                    format!("create-tasks web {slot}={task} deployment={id}"),
                    format!("place {task} i1"),
                    format!("report {task} RUNNING"),
                ];
                lines(world, &text);
            }
        }
        Move::Crash(at) => {
            if let Some(task) = wanted(world, *at) {
                lines(world, &[format!("report {task} STOPPED")]);
            }
        }
        Move::GiveUp(at) => {
            if let Some(task) = wanted(world, *at) {
                lines(world, &[format!("stop-task {task}"), format!("report {task} STOPPED")]);
            }
        }
        Move::Scale(desired) => drop(world.run(&format!("update-service web desired={desired}"))),
        Move::Wait(seconds) => drop(world.run(&format!("time +{seconds}s"))),
        Move::Say(line) => drop(world.run(line)),
    }
}

fn deployment_name(world: &World, id: DeploymentId) -> String {
    world.name_of(muster_model::fixture::Noun::Deployment, id.bits())
}

/// What the fixture calls one of the tasks that should run.
fn wanted(world: &World, at: usize) -> Option<String> {
    let placed = |task: &&std::sync::Arc<Task>| task.wanted() && task.instance.is_some();
    let task = world.state.tasks().filter(placed).nth(at)?;
    Some(world.name_of(muster_model::fixture::Noun::Task, task.id.bits()))
}

/// Counted anew, by the state that an entry met, as it was at the entry's time.
fn is_whole(before: &State, deployment: DeploymentId, now: Time) -> bool {
    let row = web(before);
    let after = limits::HEALTHY_AFTER;
    let healthy = |task: &Task| task.healthy_at(after).is_some_and(|at| at <= now);
    let own = before.tasks_of(row.id).filter(|task| task.deployment() == Some(deployment));
    own.filter(|task| healthy(task)).count() >= row.spec.desired_count as usize
}

fn sound(before: &State, after: &State) -> Result<(), TestCaseError> {
    let (was, is) = (web(before), web(after));
    let all: (u16, u16) = is.deployments.iter().fold((0, 0), |sum, one| {
        let traffic = after.traffic(is, one.id);
        (sum.0 + traffic.production.permille(), sum.1 + traffic.test.permille())
    });
    prop_assert_eq!(all, (1000, 1000), "traffic gets lost, or is given twice");
    for one in &is.deployments {
        let (old, new) = (before.traffic(was, one.id), after.traffic(is, one.id));
        let grew = new.production > old.production || new.test > old.test;
        let green = after.shift(is.id).is_some_and(|shift| shift.green == one.id);
        if grew && green {
            prop_assert!(is_whole(before, one.id, after.now()), "{one:?} is not whole");
        }
        // What gets traffic back had it before. A new one that shifts nothing stands for all.
        let shifted = before.shift(was.id).or(after.shift(is.id)).is_some();
        let rolls = after.shift(is.id).is_none() && was.all_deployments().all(|d| d.id != one.id);
        let took = grew && !green && shifted && !rolls;
        prop_assert!(!took || one.has_completed(), "{one:?} was never let in");
    }
    if let Some(shift) = after.shift(is.id) {
        prop_assert_eq!(Some(shift.green), is.primary().map(|newest| newest.id));
        let blue = is.deployments.iter().find(|one| one.id == shift.blue);
        prop_assert!(blue.is_some_and(|one| one.has_completed()), "blue is not there");
    }
    if let Some(pause) = after.pause(is.id) {
        let newest = is.primary().unwrap();
        prop_assert!(pause.deployment == newest.id && newest.is_open(), "{pause:?}");
    }
    let same = |shift: &&std::sync::Arc<Shift>| {
        after.shift(is.id).is_some_and(|next| next.green == shift.green)
    };
    match (before.shift(was.id).filter(same), after.shift(is.id)) {
        (Some(was), Some(is)) if was.stage != is.stage => went_on(before, after, was, is),
        _ => Ok(()),
    }
}

fn went_on(before: &State, after: &State, was: &Shift, is: &Shift) -> Result<(), TestCaseError> {
    let now = after.now();
    prop_assert!(before.pause(was.service).is_none(), "a paused deployment went on");
    prop_assert!(was.hook.is_none_or(|hook| hook.expires_at <= now), "a hook was not awaited");
    let back =
        (was.stage, is.stage) == (Stage::ProductionTrafficShift, Stage::PreProductionTrafficShift);
    prop_assert!(is.stage > was.stage || back, "{:?} after {:?}", is.stage, was.stage);
    let minutes = match was.stage {
        Stage::BakeTime => was.strategy.bake_minutes,
        Stage::ProductionTrafficShift if back => was.strategy.pace.step_bake_minutes(),
        _ => 0,
    };
    prop_assert!(now.since(was.entered_at).0 >= u64::from(minutes) * 60_000, "it did not bake");
    if is.stage == Stage::CleanUp {
        prop_assert_eq!(is.production, Weight::ALL);
        prop_assert!(is_whole(before, is.green, now), "blue goes before green is whole");
    }
    Ok(())
}

/// Each side has no more tasks than it may, unless its user wanted fewer meanwhile.
fn bounded(before: &State, after: &State) -> Result<(), TestCaseError> {
    let row = web(after);
    for side in after.sides(row).iter() {
        let count = |state: &State| {
            let own = |task: &&std::sync::Arc<Task>| after.side_of(row, task) == *side;
            state.tasks_of(row.id).filter(own).filter(|task| task.ended_at().is_none()).count()
        };
        let (was, is) = (count(before), count(after));
        let most = row.spec.deployment.ceiling(after.desired_on(row, *side)) as usize;
        prop_assert!(is <= was || is <= most, "{is} tasks on {side:?}, at most {most}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn traffic_goes_where_it_is_served(moves in vec(moves(), 1..120)) {
        let mut world = World::from_text(
            "
            instance i1 az=az-a cpu=4096 mem=65536 ready
            definition web cpu=1 mem=8
            service web definition=web:1 desired=2 breaker=3 rollback
            task a1 service=web on=i1 RUNNING
            task a2 service=web on=i1 RUNNING
            time +20s
            advance web completed
        ",
        );
        for (number, step) in moves.iter().enumerate() {
            let before = world.state.clone();
            make(&mut world, step, number);
            sound(&before, &world.state)?;
            bounded(&before, &world.state)?;
        }
        let stored = State::restore(world.state.rows(), world.state.applied()).unwrap();
        prop_assert!(stored == world.state, "a row is not what it was");
    }
}
