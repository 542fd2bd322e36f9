//! Laws of the leader over random worlds: whatever happens, in whatever order, these hold.
//!
//! A failure prints the operations that led to it; `PROPTEST_CASES=5000` runs more of them.

// A test may panic, and its knobs come from the environment.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::disallowed_methods)]

#[path = "laws/ops.rs"]
mod ops;
mod stage;

use muster_control::io::{LeaderInput, LeaderOutput, Mandate};
use muster_control::leader::Leader;
use muster_model::dispatch::Held;
use muster_model::spec::{PortMapping, TaskDefinition};
use muster_model::{
    Command, Desired, Health, InstanceId, InstanceStatus, Millis, Phase, RaftId, Service,
    ServiceStatus, State, Step, Task, TaskId, Time, limits,
};
use ops::{Op, op};
use proptest::prelude::*;
use stage::Stage;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

struct Run {
    stage: Stage,
    services: u32,
    runs: u32,
    silent: BTreeSet<InstanceId>,
    misjudged: u64,
}

impl Run {
    fn new() -> Self {
        let mut stage = Stage::new();
        stage.quiet = std::env::var_os("SHOW").is_none();
        stage.world.extend(
            "
            cluster other
            definition a cpu=256 mem=64
            definition b cpu=1024 mem=64 port=8080:80
            definition c cpu=128 mem=64 port=80 port=9090
            definition d cpu=2048 mem=64
            instance first az=az-a cpu=2048 mem=4096
        ",
        );
        stage.lead();
        Self { stage, services: 0, runs: 0, silent: BTreeSet::new(), misjudged: 0 }
    }

    fn instance(&self, which: u8) -> Option<InstanceId> {
        let all: Vec<_> = self.stage.world.state.instances().map(|i| i.id).collect();
        all.get(usize::from(which) % all.len().max(1)).copied()
    }

    fn line(&mut self, line: &str) {
        // Refusals are fine: a drained instance cannot be drained again.
        self.stage.world.run(line);
    }

    fn on_instance(&mut self, verb: &str, which: u8, rest: &str) {
        if let Some(id) = self.instance(which) {
            let name = self.stage.instance_name(id);
            self.line(&format!("{verb} {name}{rest}"));
        }
    }

    fn on_service(&mut self, verb: &str, which: u8, rest: &str) {
        if self.services > 0 {
            let number = u32::from(which) % self.services;
            self.line(&format!("{verb} s{number} {rest}"));
        }
    }

    fn add_instance(&mut self, zone: u8, cpu: u8, other: bool) {
        let name = format!("i{}", self.stage.world.state.instances().count());
        let zone = ["az-a", "az-b", "az-c"][usize::from(zone)];
        let cluster = if other { "other" } else { "default" };
        let cpu = u32::from(cpu) * 512;
        self.line(&format!("instance {name} cluster={cluster} az={zone} cpu={cpu} mem=4096"));
    }

    fn add_service(&mut self, rest: &str) {
        let name = format!("s{}", self.services);
        self.services += 1;
        self.line(&format!("service {name} {rest}"));
    }

    fn run(&mut self, op: &Op) {
        let definitions = ["a", "b", "c", "d"];
        match op {
            Op::Instance { zone, cpu, other } => self.add_instance(*zone, *cpu, *other),
            Op::Drain(which) => self.on_instance("drain", *which, ""),
            Op::Activate(which) => self.on_instance("activate", *which, ""),
            Op::Deregister(which) => self.on_instance("deregister", *which, " force"),
            Op::Reregister { which, cpu } => self.reregister(*which, u32::from(*cpu) * 512),
            Op::Service { definition, desired, min, max, distinct, even } => {
                let definition = definitions[usize::from(*definition)];
                let min = [0, 50, 100][usize::from(*min)];
                let max = [100, 150, 200][usize::from(*max)];
                let distinct = if *distinct { " distinct" } else { "" };
                let even = if *even { " rebalance" } else { "" };
                let limits = format!("min={min} max={max}{distinct}{even}");
                self.add_service(&format!("definition={definition} desired={desired} {limits}"));
            }
            Op::Daemon { definition, min } => {
                let definition = definitions[usize::from(*definition)];
                let min = [0, 50][usize::from(*min)];
                self.add_service(&format!("definition={definition} daemon min={min}"));
            }
            Op::Desired { service, desired } => {
                self.on_service("update-service", *service, &format!("desired={desired}"));
            }
            Op::Roll { service, definition } => {
                let definition = definitions[usize::from(*definition)];
                self.on_service(
                    "update-service",
                    *service,
                    &format!("definition={definition} force"),
                );
            }
            Op::Delete(service) => self.on_service("delete-service", *service, "force"),
            Op::Run { definition, count } => {
                let definition = definitions[usize::from(*definition)];
                let names: Vec<String> =
                    (0..*count).map(|n| format!("r{}-{n}", self.runs)).collect();
                self.runs += 1;
                self.line(&format!("run {} definition={definition}", names.join(" ")));
            }
            Op::Stop(which) => {
                let all: Vec<_> = self.stage.world.state.tasks().map(|t| t.id).collect();
                if let Some(task) = all.get(usize::from(*which) % all.len().max(1)) {
                    let task = *task;
                    let reason = Arc::from("");
                    let _ = self.stage.world.apply(Command::StopTask { task, reason });
                }
            }
            Op::Up => self.agents("up"),
            Op::Down => self.agents("down"),
            Op::Crash(which) => self.crash(*which),
            Op::Silence(which) => self.silent.extend(self.instance(*which)),
            Op::Return(which) => {
                if let Some(id) = self.instance(*which) {
                    self.silent.remove(&id);
                }
            }
            Op::Wait(seconds) => self.wait(u64::from(*seconds)),
            Op::Fail(how) => {
                let how = ["unknown", "unavailable"][usize::from(*how)];
                if !self.stage.pending.is_empty() {
                    self.stage.block(&[&format!("> fail {how}")]);
                }
            }
            Op::Failover => self.stage.lead(),
            Op::Settle => self.settle(),
        }
    }

    fn reregister(&mut self, which: u8, cpu: u32) {
        let Some(id) = self.instance(which) else { return };
        let Some(row) = self.stage.world.state.instance(id).cloned() else { return };
        let mut spec = (*row.spec).clone();
        spec.total.cpu = cpu;
        let command = muster_model::command::RegisterInstance {
            id,
            cluster: row.cluster,
            spec: Arc::new(spec),
        };
        let by = muster_model::ids::Principal::Instance(id);
        let request = self.stage.world.ids.request();
        let _ = self.stage.world.apply_as(by, request, Command::RegisterInstance(command));
    }

    /// Agents that are not silent say what they were told to do is done.
    fn agents(&mut self, what: &str) {
        self.connect();
        self.stage.block(&[&format!("> {what}")]);
    }

    fn connect(&mut self) {
        let all: Vec<_> = self.stage.world.state.instances().map(|i| i.id).collect();
        for id in all {
            if self.silent.contains(&id) {
                let name = self.stage.instance_name(id);
                self.stage.block(&[&format!("> gone {name}")]);
            } else if !self.stage.connected(id) {
                // An agent lists whatever it was told of and not yet told to forget.
                let told = self.stage.told.get(&id).into_iter().flatten();
                let held = told.map(|(task, _)| Held { task: *task, phase: Phase::Pending });
                self.stage.hello(id, held.collect());
            } else {
                self.stage.beat(id, None);
            }
        }
    }

    fn crash(&mut self, which: u8) {
        let running: Vec<(TaskId, InstanceId)> = self
            .stage
            .world
            .state
            .tasks()
            .filter(|t| t.running())
            .filter_map(|t| Some((t.id, t.instance?)))
            .collect();
        let found = running.get(usize::from(which) % running.len().max(1)).copied();
        if let Some((task, instance)) = found {
            let report = self.stage.seen(task, instance, Phase::Stopped);
            self.stage.report(instance, vec![report]);
        }
    }

    fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.stage.world.wait(Millis(1000));
            self.connect();
            self.stage.tell(LeaderInput::Tick);
        }
    }

    /// Commits what is proposed until nothing more comes, checking each plan.
    fn settle(&mut self) {
        self.stage.show_state();
        for _ in 0..200 {
            self.stage.tell(LeaderInput::Tick);
            if self.stage.pending.is_empty() {
                // A proposal that failed is repeated a moment later.
                self.stage.world.wait(Millis(250));
                self.stage.tell(LeaderInput::Tick);
            }
            let Some((_, command, base)) = self.stage.pending.front().cloned() else {
                return self.check_quiet();
            };
            let before = self.stage.world.state.clone();
            self.stage.commit();
            if let Command::Plan { steps, .. } = command {
                let refused = self.stage.refused;
                let known = unchanged(&base, &before);
                assert!(!known || refused == 0, "refused on an unchanged state: {steps:?}");
                if known {
                    check_plan(&before, &self.stage.world.state, &steps, self.stage.world.at);
                }
            }
            self.check();
        }
        panic!("the leader never comes to rest");
    }

    /// Rounds of everybody doing what they are told, long enough to count as healthy.
    fn calm_down(&mut self, rounds: usize) {
        for _ in 0..rounds {
            self.wait(12);
            self.settle();
            self.agents("up");
            self.settle();
            self.agents("down");
            self.settle();
        }
    }

    fn tasks(&self) -> BTreeSet<TaskId> {
        self.stage.world.state.tasks().map(|t| t.id).collect()
    }

    fn check(&mut self) {
        let leader = self.stage.leader.as_ref().expect("no leader");
        assert_eq!(leader.counters().misjudged, self.misjudged, "a stage misjudged its state");
        if let Err(why) = leader.audit() {
            panic!("index differs from a rebuild: {why}");
        }
    }

    /// At rest a leader that looks at everything finds no work either, and everyone was told.
    fn check_quiet(&mut self) {
        self.check();
        let now = self.stage.world.at;
        if now.since(muster_model::fixture::BEGIN).0 == 0 {
            return;
        }
        let work = fresh_plan(&self.stage.world.state, now);
        assert!(work.is_empty(), "a full scan finds what the diffs did not announce: {work:?}");
        check_told(&self.stage);
    }
}

/// What a leader does that has just taken over in this state, without history and explanations.
fn fresh_plan(state: &State, now: Time) -> Vec<Step> {
    let mandate = Mandate { manager: RaftId(1), epoch: state.meta().epoch, seed: 7 };
    let mut leader = Leader::new(mandate, now);
    let out = leader.handle(now, LeaderInput::State(Arc::new(state.clone())));
    let plans = out.into_iter().filter_map(|output| match output {
        LeaderOutput::Propose { command: Command::Plan { steps, .. }, .. } => Some(steps),
        _ => None,
    });
    plans.flatten().filter(is_work).collect()
}

fn is_work(step: &Step) -> bool {
    !matches!(step, Step::Event { .. } | Step::Explain { .. } | Step::Purge { .. })
}

/// Nothing was committed that a plan made on `base` could not know.
fn unchanged(base: &State, now: &State) -> bool {
    let changes = State::diff(base, now);
    changes.tasks.is_empty() && changes.services.is_empty() && changes.instances.is_empty()
}

/// What one plan may do to capacity, floors and ceilings.
fn check_plan(before: &State, after: &State, steps: &[Step], now: Time) {
    for service in after.services().filter(|s| s.status == ServiceStatus::Active) {
        let percents = service.spec.deployment;
        let desired = after.desired_count(service);
        let creates = steps
            .iter()
            .any(|step| matches!(step, Step::CreateTasks { service: s, .. } if *s == service.id));
        let ceiling = percents.ceiling(desired) as usize;
        let all = existing(after, service);
        assert!(!creates || all <= ceiling, "{all} tasks, at most {ceiling}");

        let stopped: BTreeSet<TaskId> = steps
            .iter()
            .filter_map(|step| match step {
                Step::Stop { task, .. } => Some(*task),
                _ => None,
            })
            .collect();
        let healthy = |state: &State| healthy(state, service, now);
        let (was, is) = (healthy(before), healthy(after));
        let lost = was.difference(&is).filter(|task| stopped.contains(task)).count();
        let floor = percents.floor(desired).min(desired) as usize;
        assert!(lost == 0 || is.len() >= floor, "{} healthy tasks, at least {floor}", is.len());
    }
    for step in steps {
        if let Step::Place { task, instance, .. } = step {
            check_place(after, *task, *instance);
        }
    }
}

fn existing(state: &State, service: &Service) -> usize {
    state
        .tasks_of(service.id)
        .filter(|t| state.in_place(service, t))
        .filter(|t| !t.finished() && !matches!(t.desired, Desired::Abandoned { .. }))
        .count()
}

fn healthy(state: &State, service: &Service, now: Time) -> BTreeSet<TaskId> {
    let old = |at: Option<Time>| at.is_some_and(|at| at + limits::HEALTHY_AFTER <= now);
    let running = state.tasks_of(service.id).filter(|t| t.running() && old(t.observed.started_at));
    running.filter(|t| state.in_place(service, t)).map(|t| t.id).collect()
}

fn check_place(state: &State, task: TaskId, instance: InstanceId) {
    let (Some(task), Some(instance)) = (state.task(task), state.instance(instance)) else { return };
    assert_eq!(task.cluster, instance.cluster);
    let used = state.reserved(instance.id).resources;
    assert!(used.fits_in(instance.spec.total), "{used:?} on {:?}", instance.spec.total);
    assert_eq!(instance.health, Health::Ready);
    let spec: Arc<TaskDefinition> = state.spec_of(task).expect("no definition");
    let dynamic = |m: &PortMapping| spec.wanted_host_port(m).is_none();
    for ((_, mapping), port) in spec.port_mappings().zip(&task.ports) {
        assert!(!dynamic(mapping) || limits::DYNAMIC_PORTS.contains(port));
    }
}

/// Zones that accept tasks differ by one task at most.
fn is_even(state: &State, service: &Service) -> bool {
    let accepting = state.active_instances(service.cluster).filter(|row| row.accepts_tasks());
    let mut zones: BTreeMap<&str, usize> =
        accepting.map(|row| (row.spec.zone.as_str(), 0)).collect();
    for task in state.tasks_of(service.id).filter(|task| task.wanted()) {
        let row = task.instance.and_then(|id| state.instance(id)).expect("not placed");
        *zones.entry(row.spec.zone.as_str()).or_default() += 1;
    }
    let (least, most) = (zones.values().min(), zones.values().max());
    least.zip(most).is_none_or(|(least, most)| most - least <= 1)
}

/// A DAEMON service runs on each instance that should have it, or truly cannot.
fn is_everywhere(state: &State, service: &Service) -> bool {
    let ours = |t: &Task| t.service() == Some(service.id) && t.wanted();
    let waiting = state.waiting().find(|task| ours(task));
    state.active_instances(service.cluster).all(|instance| {
        let runs = state.tasks_on(instance.id).any(|t| ours(t) && t.running());
        runs || waiting.is_some_and(|task| state.fit(task, instance).is_err())
    })
}

/// Every connected agent has been told exactly what the state wants of it.
fn check_told(stage: &Stage) {
    let mut wanted: BTreeMap<InstanceId, BTreeMap<TaskId, bool>> = BTreeMap::new();
    for task in stage.world.state.tasks() {
        let on = task.instance.filter(|_| task.observed.phase < Phase::Stopped);
        if let Some(instance) = on {
            let run = task.desired == Desired::Running;
            wanted.entry(instance).or_default().insert(task.id, run);
        }
    }
    for row in stage.world.state.instances() {
        if !stage.connected(row.id) || row.status == InstanceStatus::Inactive {
            continue;
        }
        let told = stage.told.get(&row.id).cloned().unwrap_or_default();
        assert_eq!(told, wanted.get(&row.id).cloned().unwrap_or_default());
    }
}

/// A task ends in the very moment in which its agent's session does: it is told to forget it when
/// it returns.
#[test]
fn a_task_that_ends_with_the_session_is_forgotten_in_the_next() {
    let ops = [
        Op::Service { definition: 0, desired: 1, min: 0, max: 0, distinct: false, even: false },
        Op::Settle,
        Op::Instance { zone: 0, cpu: 1, other: false },
        Op::Roll { service: 0, definition: 0 },
        Op::Wait(1),
        Op::Settle,
        Op::Down,
        Op::Instance { zone: 0, cpu: 1, other: false },
        Op::Silence(3),
        Op::Up,
        Op::Return(3),
        Op::Settle,
        Op::Up,
    ];
    let mut run = Run::new();
    for op in &ops {
        run.run(op);
    }
    run.settle();
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(48),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_happens_the_laws_hold(ops in proptest::collection::vec(op(), 1..60)) {
        let mut run = Run::new();
        for op in &ops {
            run.run(op);
        }
        run.settle();
    }

    /// After everything has calmed down each service has what it should, if there is room.
    #[test]
    fn services_converge(ops in proptest::collection::vec(op(), 1..40)) {
        let mut run = Run::new();
        for op in &ops {
            run.run(op);
        }
        run.silent.clear();
        for zone in 0..3 {
            for _ in 0..12 {
                run.run(&Op::Instance { zone, cpu: 40, other: false });
            }
        }
        run.calm_down(30);
        let before = run.tasks();
        run.calm_down(3);
        prop_assert!(run.tasks().is_subset(&before), "at rest, and tasks come and go");
        let state = &run.stage.world.state;
        for service in state.services().filter(|s| s.status == ServiceStatus::Active) {
            let percents = service.spec.deployment;
            let desired = state.desired_count(service);
            if service.spec.is_daemon() {
                prop_assert!(is_everywhere(state, service), "{:?} of {desired}", service);
                continue;
            }
            // Percentages that allow no move may leave a service where it is.
            let movable = percents.ceiling(desired) > desired || percents.floor(desired) < desired;
            let running = state.tasks_of(service.id).filter(|t| t.running()).count();
            // A DAEMON service may hold the very port everywhere.
            let nowhere = |task: &Task| state.instances().all(|row| state.fit(task, row).is_err());
            let mut waiting = state.waiting().filter(|t| t.service() == Some(service.id));
            if waiting.any(|task| nowhere(task)) {
                continue;
            }
            prop_assert!(!movable || running == desired as usize, "{:?} runs {running}", service);
            let moves = service.spec.rebalances_zones() && percents.ceiling(desired) > desired;
            prop_assert!(!moves || is_even(state, service), "{:?} is uneven", service);
        }
    }
}
