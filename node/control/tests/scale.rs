//! Large worlds: plans stay within their bounds, and what they place is even.

// A test may panic, and its knobs come from the environment.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::disallowed_methods)]

mod stage;

use muster_model::{Command, Health, Step, limits};
use stage::Stage;
use std::collections::BTreeMap;
use std::fmt::Write;

fn world(instances: usize, services: usize, desired: usize) -> Stage {
    let mut text = String::from("definition web cpu=10 mem=10 port=80\n");
    for n in 0..instances {
        let zone = ["az-a", "az-b", "az-c"][n % 3];
        let _ = writeln!(text, "instance i{n} az={zone} cpu=16384 mem=16384 ready");
    }
    for n in 0..services {
        let _ = writeln!(text, "service s{n} definition=web:1 desired={desired}");
    }
    let mut stage = Stage::new();
    stage.quiet = true;
    stage.world.extend(&text);
    stage
}

/// Commits plans until there is none; what each made and placed.
fn settle(stage: &mut Stage) -> Vec<usize> {
    std::iter::from_fn(|| {
        let size = proposed(stage)?;
        stage.commit();
        Some(size)
    })
    .collect()
}

/// What the plan that is proposed makes, places and stops; events are only told.
fn proposed(stage: &Stage) -> Option<usize> {
    let (_, command, _) = stage.pending.front()?;
    let Command::Plan { steps, .. } = command else { return Some(0) };
    let tasks = steps.iter().map(|step| match step {
        Step::CreateTasks { tasks, .. } => tasks.len(),
        Step::Event { .. } => 0,
        _ => 1,
    });
    Some(tasks.sum())
}

#[test]
fn thousands_of_tasks_are_spread_evenly_in_bounded_plans() {
    let mut stage = world(300, 3, 2000);
    stage.lead();
    let plans = settle(&mut stage);
    assert!(plans.iter().all(|steps| *steps <= 2 * limits::PLAN_STEPS_MAX), "{plans:?}");

    let mut per_instance: BTreeMap<_, usize> = BTreeMap::new();
    for task in stage.world.state.tasks() {
        let instance = task.instance.expect("a task is not placed");
        *per_instance.entry((task.service(), instance)).or_default() += 1;
    }
    assert_eq!(per_instance.values().sum::<usize>(), 6000);
    // 2000 over 3 zones of 100 instances.
    assert!(per_instance.values().all(|count| (6..=7).contains(count)), "uneven");
}

/// Services want more than several plans hold when others come that want little, together a quarter
/// of a plan: they are whole in the next two, the one that makes their tasks and at most one more.
#[test]
fn who_wants_little_does_not_wait_for_who_fills_plans() {
    const LITTLE: usize = limits::PLAN_STEPS_USUAL / 4 / 10;
    let mut stage = world(300, 12, 10_000);
    stage.lead();
    let mut text = String::new();
    for n in 0..LITTLE {
        let _ = writeln!(text, "service little{n} definition=web:1 desired=10");
    }
    stage.world.extend(&text);
    stage.show_state();
    // The plan that was made before they came, and two more.
    for _ in 0..3 {
        stage.commit();
    }
    let big: Vec<_> = (0..12).map(|n| Some(stage.world.service(&format!("s{n}")))).collect();
    let (mut placed, mut waiting) = (0, 0);
    for task in stage.world.state.tasks() {
        match big.contains(&task.service()) {
            false => placed += usize::from(task.instance.is_some()),
            true => waiting += usize::from(task.instance.is_none()),
        }
    }
    assert_eq!(placed, 10 * LITTLE);
    assert!(waiting > 0, "the others had nobody to wait for");
}

/// While tasks are run, the plans of services that want much are short; later long again.
#[test]
fn plans_are_short_while_tasks_are_run() {
    const SHORT: usize = 2 * limits::PLAN_STEPS_SHORT;
    let mut stage = world(300, 6, 10_000);
    stage.lead();
    let long = proposed(&stage).expect("no plan");
    assert!(long > SHORT, "{long}");
    stage.world.extend("run once definition=web:1\n");
    stage.show_state();
    let plan = |stage: &mut Stage| {
        stage.commit();
        proposed(stage).expect("no plan")
    };
    // The one in flight, and the one in which the leader hears of it.
    stage.commit();
    stage.commit();
    for _ in 0..5 {
        let steps = plan(&mut stage);
        assert!(steps <= SHORT, "{steps}");
    }
    stage.world.at = stage.world.at + limits::HURRY;
    assert!(plan(&mut stage) > SHORT, "short for ever");
}

/// What is to be read for all services at once is more than one plan reads: each has its turn, and
/// one that nobody wants anything of does not hold up the one behind it.
#[test]
fn services_take_turns_to_be_looked_at() {
    const SERVICES: usize = 30;
    const EACH: usize = 1000;
    let mut stage = world(300, SERVICES, EACH);
    stage.lead();
    settle(&mut stage);
    let scaled = |services: std::ops::Range<usize>| {
        let line = |n| format!("update-service s{n} desired={}\n", EACH + 1);
        services.map(line).collect::<String>()
    };
    stage.world.extend(&scaled(0..SERVICES));
    stage.show_state();
    let plans = settle(&mut stage);
    // Of each a task that is made and placed.
    let at_once = limits::PLAN_READS_MAX / 2 / EACH;
    assert!(plans.iter().all(|steps| *steps <= 2 * at_once), "{plans:?}");
    assert_eq!(stage.world.state.tasks().count(), SERVICES * (EACH + 1));
    assert!(stage.world.state.tasks().all(|task| task.instance.is_some()));

    // All are looked at when another leads; only the last has something to do.
    let last = format!("s{}", SERVICES - 1);
    stage.world.extend(&format!("update-service {last} desired={EACH}\n"));
    stage.lead();
    assert_eq!(proposed(&stage), Some(1), "the first plan stops the one that is too many");
}

/// Ten services about which there is always something new, more than one plan reads, do not keep
/// another waiting.
#[test]
fn a_service_has_its_turn_however_much_is_said_of_others() {
    const EACH: usize = 1000;
    let mut stage = world(300, 11, EACH);
    stage.lead();
    settle(&mut stage);
    let mut names: Vec<String> = (0..11).map(|n| format!("s{n}")).collect();
    // In the order in which all of them would be looked at.
    names.sort_by_key(|name| stage.world.service(name));
    let quiet = names.pop().expect("eleven services");
    let one_more = |name: &String, more| format!("update-service {name} desired={}\n", EACH + more);
    stage.world.extend(&one_more(&quiet, 1));
    let service = stage.world.service(&quiet);
    let turns = 2 * names.len() * EACH / limits::PLAN_READS_MAX + 2;
    for turn in 1..=turns {
        stage.world.extend(&names.iter().map(|name| one_more(name, turn)).collect::<String>());
        stage.show_state();
        stage.commit();
    }
    assert_eq!(stage.world.state.tasks_of(service).count(), EACH + 1, "after {turns} plans");
}

#[test]
fn many_small_services_do_not_all_go_to_the_same_instance() {
    let mut stage = world(90, 180, 1);
    stage.lead();
    settle(&mut stage);
    let mut per_instance: BTreeMap<_, usize> = BTreeMap::new();
    for task in stage.world.state.tasks() {
        *per_instance.entry(task.instance.expect("a task is not placed")).or_default() += 1;
    }
    assert!(per_instance.values().all(|count| *count == 2), "{per_instance:?}");
}

#[test]
fn thousands_of_lost_tasks_are_given_up_in_bounded_plans() {
    let mut stage = world(4, 1, 6000);
    stage.lead();
    settle(&mut stage);
    let since = stage.world.at;
    for name in ["i0", "i1", "i2", "i3"] {
        let (instance, health) = (stage.world.instance(name), Health::Down { since });
        stage.world.plan(vec![Step::SetHealth { instance, health }]);
    }
    stage.lead();
    let mut abandoned = Vec::new();
    while let Some((_, command, _)) = stage.pending.front() {
        if let Command::Plan { steps, .. } = command {
            let lost = |step: &&Step| matches!(step, Step::Abandon { .. });
            abandoned.push(steps.iter().filter(lost).count());
        }
        stage.commit();
    }
    assert_eq!(abandoned.iter().sum::<usize>(), 6000);
    assert!(abandoned.iter().all(|steps| *steps <= limits::PLAN_STEPS_MAX), "{abandoned:?}");
    // Many at a time, once it is known that they are lost.
    assert!(abandoned.iter().any(|steps| *steps > limits::PLAN_STEPS_USUAL), "{abandoned:?}");
}

/// Ten thousand services wait for room while a thousand small tasks end one after another: none of
/// them is tried again. When a large one ends the room is for one, and one is tried: the oldest.
#[test]
fn only_what_an_event_can_help_is_tried_again() {
    const WAITING: usize = 10_000;
    const EVENTS: usize = 1000;
    let mut text = String::from("definition large cpu=1024\ndefinition dust cpu=2\n");
    for n in 0..4 {
        let _ = writeln!(text, "instance i{n} cpu=1624 mem=262144 ready");
    }
    let _ = writeln!(text, "service first definition=large:1 desired=4 spread=instance min=0");
    let _ = writeln!(text, "service small definition=dust:1 desired={EVENTS} min=0");
    let mut stage = Stage::new();
    stage.quiet = true;
    stage.world.extend(&text);
    stage.lead();
    stage.block(&["> hello all"]);
    settle(&mut stage);
    for n in 0..WAITING {
        stage.world.run(&format!("service s{n} definition=large:1 desired=1"));
    }
    stage.show_state();
    settle(&mut stage);
    let woken = |stage: &Stage| stage.leader.as_ref().expect("no leader").counters().woken;
    let (waiting, before) = (|stage: &Stage| stage.world.state.waiting().count(), woken(&stage));
    assert_eq!(waiting(&stage), WAITING);

    let scale = |stage: &mut Stage, name: &str, desired: usize| {
        stage.world.run(&format!("update-service {name} desired={desired}"));
        stage.show_state();
        settle(stage);
        stage.block(&["> down"]);
        settle(stage);
    };
    for desired in (0..EVENTS).rev() {
        scale(&mut stage, "small", desired);
    }
    assert_eq!(woken(&stage), before, "what is too large was tried again");
    assert_eq!(waiting(&stage), WAITING);

    scale(&mut stage, "first", 3);
    assert_eq!(woken(&stage), before + 1);
    assert_eq!(waiting(&stage), WAITING - 1);
    let cluster = stage.world.cluster("default");
    let oldest = stage.world.state.service_named(cluster, "s0").expect("no s0").id;
    let placed = |task: &std::sync::Arc<muster_model::Task>| task.instance.is_some();
    assert!(stage.world.state.tasks_of(oldest).any(placed), "not the oldest");
}
