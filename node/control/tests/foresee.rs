//! Scripts of foresight: `? LINE` asks what the line would do; and what was foreseen is what a
//! leader then does.

// A test may panic, and its knobs come from the environment.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::disallowed_methods)]

mod stage;

use muster_control::leader::foresee::foresee;
use muster_model::fixture::script::record;
use muster_model::fixture::{Noun, World};
use muster_model::foresight::{Choice, Foresight};
use muster_model::{InstanceId, Millis, Phase, limits};
use stage::{Stage, check, scripts};
use std::collections::BTreeMap;
use std::fmt::Write;

#[test]
fn requests_are_foreseen_as_recorded() {
    for path in scripts("foresee") {
        let text = std::fs::read_to_string(&path).expect("unreadable script");
        let mut world = World::new();
        let now = record(&text, |lines| {
            lines.iter().fold(String::new(), |out, line| out + &answer(&mut world, line))
        });
        check(&path, &text, &now);
    }
}

fn answer(world: &mut World, line: &str) -> String {
    if line == "new world" {
        *world = World::new();
        return String::new();
    }
    let Some(line) = line.strip_prefix("? ") else {
        let answer = world.run(line);
        return if answer.starts_with("ok") { String::new() } else { answer };
    };
    let entry = world.clone().entry(line);
    let before = world.state.clone();
    let told = match foresee(&world.state, &entry) {
        Ok(told) => shown(world, &told),
        Err(error) => format!("error: {}\n", world.named(&error.to_string())),
    };
    assert_eq!(before.hash(), world.state.hash(), "a question changed the state");
    told
}

fn shown(world: &World, told: &Foresight) -> String {
    let mut out = String::new();
    let host = |on: Option<InstanceId>| match on {
        Some(id) => world.name_of(Noun::Instance, id.bits()),
        None => "nowhere".into(),
    };
    for round in &told.rounds {
        let _ = writeln!(out, "+{}s: {} wait", round.after.0 / 1000, round.waiting);
        for stop in &round.stopped {
            let _ = writeln!(out, "  stop on {}", host(stop.on));
        }
        for start in &round.started {
            let _ = writeln!(out, "  start on {}", host(Some(start.on)));
            out.push_str(&start.why.as_ref().map_or_else(String::new, why));
        }
    }
    for id in &told.unplaced {
        let waiting = told.end.task(*id).and_then(|task| task.waiting.clone()).unwrap_or_default();
        let nearest = waiting.nearest.as_ref().map(|(id, lack)| (host(Some(*id)), lack.clone()));
        let (all, removed) = (waiting.instances, &waiting.removed);
        let _ = writeln!(out, "nowhere: {all} instances {removed:?}, nearest {nearest:?}");
    }
    let _ = writeln!(out, "kept {}, moved {}, left {}", told.kept, told.moved, told.left);
    if let Some(stuck) = &told.stuck {
        let _ = writeln!(out, "stuck: {stuck}");
    }
    if told.cut {
        out.push_str("cut\n");
    }
    out
}

fn why(choice: &Choice) -> String {
    let removed = &choice.removed.removed;
    let mut out =
        format!("    {} of {} {removed:?}\n", choice.candidates, choice.removed.instances);
    for one in &choice.weighed {
        let (by, value, compared, level) = (&one.by, one.value, one.compared, one.level);
        let (least, most) = (one.least, one.most);
        let _ = writeln!(out, "    {by:?}: {value} in {least}..{most}, {level} of {compared}");
    }
    out
}

/// Tasks that should run, per instance.
fn crowd(state: &muster_model::State) -> BTreeMap<InstanceId, usize> {
    let placed = state.tasks().filter(|task| task.wanted()).filter_map(|task| task.instance);
    placed.fold(BTreeMap::new(), |mut all, instance| {
        *all.entry(instance).or_default() += 1;
        all
    })
}

/// Beats, reports and commits until a minute passes in which nothing is to be done.
fn settle(stage: &mut Stage) {
    let mut quiet = 0;
    while quiet < 6 {
        let done = stage.world.state.applied();
        stage.block(&["> settle", "> up", "> settle", "> down", "> settle"]);
        for _ in 0..5 {
            stage.block(&["> beat all", "> tick +2s", "> settle"]);
        }
        quiet = if stage.world.state.applied() == done { quiet + 1 } else { 0 };
    }
}

/// Strategies without `random`: a real leader's tasks have other ids.
#[test]
fn what_is_foreseen_is_what_the_leader_does() {
    let mut stage = Stage::new();
    stage.quiet = true;
    stage.world.extend(
        "instance i1 az=az-a cpu=2048 mem=2048 ready
         instance i2 az=az-a cpu=4096 mem=1024 ready
         instance i3 az=az-b cpu=1024 mem=4096 ready attr=disk=ssd
         instance i4 az=az-c cpu=2048 mem=2048 ready
         definition web cpu=512 mem=256
         definition web cpu=256 mem=512",
    );
    stage.lead();
    stage.block(&["> hello all"]);
    settle(&mut stage);
    let lines = [
        "service a definition=web:1 desired=7",
        "service b definition=web:1 desired=4 place=binpack:mem min=0 max=100",
        "run t1 t2 t3 definition=web:2 group=g member=\"attribute:disk == ssd\"",
        "update-service a definition=web:2",
        "update-service a definition=web:1 min=50 max=100",
        "update-service b definition=web:2",
        "update-service a desired=2",
        "update-service b desired=9 place=spread:zone<=1",
    ];
    for line in lines {
        // On a copy: the names of what a line makes are given once it is run.
        let entry = stage.world.clone().entry(line);
        let told = foresee(&stage.world.state, &entry).expect(line);
        assert!(stage.world.run(line).starts_with("ok"), "{line}");
        stage.show_state();
        settle(&mut stage);
        assert_eq!(crowd(&told.end), crowd(&stage.world.state), "{line}");
        assert!(!told.cut, "{line}");
        let running = |state: &muster_model::State| {
            state.tasks().filter(|task| task.observed.phase == Phase::Running).count()
        };
        assert_eq!(running(&told.end), running(&stage.world.state), "{line}");
    }
}

#[test]
fn a_service_of_thousands_is_foreseen_with_reasons_for_the_first() {
    let mut world = World::new();
    for n in 0..60 {
        world.run(&format!("instance i{n} az=az-{} cpu=100000 mem=100000 ready", n % 3));
    }
    world.run("definition web cpu=16 mem=16");
    let entry = world.entry("service web definition=web desired=3000");
    let told = foresee(&world.state, &entry).unwrap();
    let starts: Vec<_> = told.rounds.iter().flat_map(|round| &round.started).collect();
    assert_eq!((starts.len(), told.unplaced.len(), told.cut), (3000, 0, false));
    let explained = starts.iter().filter(|start| start.why.is_some()).count();
    assert_eq!(explained, limits::FORESEE_REASONS_MAX);
    assert_eq!(told.rounds[0].after, Millis(0));
}
