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

fn settle(stage: &mut Stage) -> Vec<usize> {
    let mut plans = Vec::new();
    while let Some((_, command, _)) = stage.pending.front() {
        if let Command::Plan { steps, .. } = command {
            let tasks = steps.iter().map(|step| match step {
                Step::CreateTasks { tasks, .. } => tasks.len(),
                _ => 1,
            });
            plans.push(tasks.sum());
        }
        stage.commit();
    }
    plans
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
}
