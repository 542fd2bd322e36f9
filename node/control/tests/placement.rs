//! Placement against the naive scheduler: over random clusters and random wishes, every decision
//! of every plan is the one that a look at every instance gives.
//!
//! `PROPTEST_CASES=5000` runs more clusters.

// A test may panic, and its knobs come from the environment.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::disallowed_methods)]

mod reference;
mod stage;

use muster_model::{Command, Health, InstanceId, Placement, Step};
use proptest::prelude::*;
use stage::Stage;
use std::collections::BTreeSet;
use std::fmt::Write;

#[derive(Clone, Debug)]
struct Machine {
    zone: u8,
    rack: u8,
    ssd: bool,
    cpu: u32,
    mem: u32,
    gpus: u8,
    ready: bool,
}

/// What befalls the cluster before the wish of this number.
#[derive(Clone, Debug)]
enum Turn {
    /// The reserve of a zone, in steps of 512 units and MiB; nothing at 0.
    Reserve {
        zone: u8,
        cpu: u32,
        mem: u32,
    },
    /// One of the machines.
    Drain(usize),
    Lose(usize),
}

#[derive(Clone, Debug)]
struct Wish {
    definition: u8,
    count: u8,
    place: Vec<u8>,
    member: u8,
    distinct: bool,
    run: bool,
}

const DEFINITIONS: [&str; 6] = ["small", "large", "port", "picky", "gpu", "gpus"];

const PLACES: [&str; 11] = [
    "spread:zone",
    "spread:instance",
    "spread:rack",
    "spread:zone<=1",
    "spread:rack<=2",
    "binpack:cpu",
    "binpack:mem",
    "random",
    "prefer:disk=ssd*5",
    "prefer:rack=r1*3",
    "spread:nothing",
];

const MEMBERS: [&str; 9] = [
    "",
    "attribute:disk == ssd",
    "attribute:rack in [r0, r1] or attribute:ecs.availability-zone == az-c",
    "not(task:group == service:s0)",
    "runningTasksCount < 2",
    "attribute:disk !exists and attribute:rack exists",
    "attribute:rack == nowhere",
    "task:group == service:s0",
    "runningTasksCount > 0",
];

fn machine() -> impl Strategy<Value = Machine> {
    (0u8..3, 0u8..4, any::<bool>(), 1u32..6, 1u32..6, 0u8..4, 0u8..10).prop_map(
        |(zone, rack, ssd, cpu, mem, gpus, ready)| Machine {
            zone,
            rack,
            ssd,
            cpu: cpu * 512,
            mem: mem * 512,
            gpus,
            ready: ready > 0,
        },
    )
}

fn wish() -> impl Strategy<Value = Wish> {
    let places = proptest::collection::vec(0u8..PLACES.len() as u8, 0..6);
    (0u8..6, 1u8..12, places, 0u8..14, 0u8..5, 0u8..3).prop_map(
        |(definition, count, place, member, distinct, run)| Wish {
            definition,
            count,
            place,
            member,
            distinct: distinct == 0,
            run: run == 0,
        },
    )
}

fn turn() -> impl Strategy<Value = (usize, Turn)> {
    let reserve = (0u8..3, 0u32..8, 0u32..8).prop_map(|(zone, cpu, mem)| Turn::Reserve {
        zone,
        cpu: cpu * 512,
        mem: mem * 512,
    });
    let machine = || 0usize..24;
    let turn = prop_oneof![
        3 => reserve,
        1 => machine().prop_map(Turn::Drain),
        1 => machine().prop_map(Turn::Lose),
    ];
    (0usize..7, turn)
}

impl Turn {
    fn take(&self, stage: &mut Stage, machines: usize) {
        match self {
            Self::Reserve { zone, cpu, mem } => {
                let zone = ["az-a", "az-b", "az-c"][usize::from(*zone)];
                let value = match (cpu, mem) {
                    (0, 0) => String::new(),
                    _ => format!("cpu:{cpu},memory:{mem}"),
                };
                stage.world.run(&format!("settings default zoneReserve:{zone}={value}"));
            }
            Self::Drain(machine) => {
                stage.world.run(&format!("drain i{}", machine % machines));
            }
            Self::Lose(machine) => {
                let instance = stage.world.instance(&format!("i{}", machine % machines));
                let health = Health::Down { since: stage.world.at };
                stage.world.plan(vec![Step::SetHealth { instance, health }]);
            }
        }
        stage.show_state();
    }
}

impl Machine {
    /// GPUs, and on the better half of machines licences.
    fn has(&self) -> String {
        match self.gpus {
            0 => String::new(),
            gpus => format!(" has=GPU={gpus} has=licence={}", gpus / 2),
        }
    }
}

impl Wish {
    fn line(&self, number: usize) -> String {
        let definition = DEFINITIONS[usize::from(self.definition)];
        let mut line = match self.run {
            true => {
                let tasks = self.count.min(10);
                let names: Vec<_> = (0..tasks).map(|n| format!("r{number}-{n}")).collect();
                format!("run {} definition={definition} group=g{}", names.join(" "), number % 2)
            }
            false => format!("service s{number} definition={definition} desired={}", self.count),
        };
        if !self.place.is_empty() {
            let words: Vec<_> = self.place.iter().map(|p| PLACES[usize::from(*p)]).collect();
            let _ = write!(line, " place={}", words.join(","));
        }
        if let Some(member) = MEMBERS.get(usize::from(self.member)).filter(|m| !m.is_empty()) {
            let _ = write!(line, " member=\"{member}\"");
        }
        if self.distinct {
            line.push_str(" distinct");
        }
        line
    }
}

fn world(machines: &[Machine]) -> Stage {
    let mut text = String::from(
        "definition small cpu=256 mem=128
         definition large cpu=1024 mem=1024
         definition port cpu=128 mem=64 port=80:80 port=90
         definition picky cpu=64 mem=64 member=\"attribute:rack != r3\"
         definition gpu cpu=64 mem=64 need=GPU=1
         definition gpus cpu=64 mem=64 need=GPU=2 need=licence=1\n",
    );
    for (n, m) in machines.iter().enumerate() {
        let zone = ["az-a", "az-b", "az-c"][usize::from(m.zone)];
        let _ = write!(text, "instance i{n} az={zone} cpu={} mem={}", m.cpu, m.mem);
        if m.rack < 3 {
            let _ = write!(text, " attr=rack=r{}", m.rack);
        }
        if m.ssd {
            text.push_str(" attr=disk=ssd");
        }
        text.push_str(&m.has());
        text.push_str(if m.ready { " ready\n" } else { "\n" });
    }
    let mut stage = Stage::new();
    stage.quiet = true;
    stage.world.extend(&text);
    stage
}

/// Commits what is proposed until nothing more comes, checking each plan.
fn settle(stage: &mut Stage) {
    loop {
        let Some((_, command, base)) = stage.pending.front().cloned() else { break };
        if let Command::Plan { steps, .. } = &command {
            reference::check(&base, stage.world.at, steps);
        }
        stage.commit();
    }
    reference::check_rest(&stage.world.state);
    let leader = stage.leader.as_ref().expect("no leader");
    assert_eq!(leader.counters().misjudged, 0, "a stage misjudged its state");
    leader.audit().expect("the index differs from a rebuild");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(160),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_decision_is_the_one_of_a_full_scan(
        machines in proptest::collection::vec(machine(), 1..24),
        wishes in proptest::collection::vec(wish(), 1..7),
        turns in proptest::collection::vec(turn(), 0..6),
        late in proptest::collection::vec(machine(), 0..3),
        scaled in 0u8..15,
    ) {
        let mut stage = world(&machines);
        stage.lead();
        for (n, _) in machines.iter().enumerate().filter(|(_, machine)| machine.ready) {
            stage.block(&[&format!("> hello i{n}")]);
        }
        settle(&mut stage);
        for (number, wish) in wishes.iter().enumerate() {
            for (_, turn) in turns.iter().filter(|(before, _)| *before == number) {
                turn.take(&mut stage, machines.len());
                settle(&mut stage);
            }
            stage.world.run(&wish.line(number));
            stage.show_state();
            settle(&mut stage);
            stage.block(&["> up"]);
            settle(&mut stage);
        }
        // What waits gets its chance with new instances, in whatever order.
        for (n, m) in late.iter().enumerate() {
            let zone = ["az-a", "az-b", "az-c"][usize::from(m.zone)];
            let size = format!("cpu={} mem={}{}", m.cpu, m.mem, m.has());
            let line = format!("instance late{n} az={zone} {size} ready");
            stage.world.run(&line);
            stage.show_state();
            settle(&mut stage);
        }
        for number in 0..wishes.len() {
            stage.world.run(&format!("update-service s{number} desired={scaled}"));
            stage.show_state();
            settle(&mut stage);
            // What was told to stop has stopped: its room can help.
            stage.block(&["> down"]);
            settle(&mut stage);
        }
    }
}

#[test]
fn a_placement_without_strategies_is_spread_over_zones_then_instances() {
    assert_eq!(Placement::default().effective().len(), 2);
}

/// Where each of these tasks of a run goes with `random`, on ten empty instances.
fn drawn(tasks: &str) -> Vec<InstanceId> {
    let mut world = String::from("definition web cpu=1 mem=1\n");
    for n in 0..10 {
        let _ = writeln!(world, "instance i{n} az=az-a cpu=100000 mem=100000 ready");
    }
    let mut stage = Stage::new();
    stage.quiet = true;
    stage.world.extend(&world);
    stage.world.run(&format!("run {tasks} definition=web:1 place=random"));
    stage.lead();
    settle(&mut stage);
    let names = tasks.split(' ').map(|name| stage.world.task(name));
    let placed = names.map(|id| stage.world.state.task(id).and_then(|task| task.instance));
    placed.map(|on| on.expect("not placed")).collect()
}

/// The draw is the task's: neither the order, nor who else is placed, nor the leader changes it.
#[test]
fn random_is_drawn_from_the_tasks_id() {
    const TASKS: &str = "t0 t1 t2 t3 t4 t5 t6 t7 t8 t9";
    let all = drawn(TASKS);
    assert_eq!(all, drawn(TASKS), "the same log");
    let different: BTreeSet<InstanceId> = all.iter().copied().collect();
    assert!(different.len() > 3, "ten draws from ten: {different:?}");
    // The first of them alone, under the same id.
    assert_eq!(drawn("t0"), all[..1]);
}
