//! `decide`: how fast the leader's brain places tasks on one core, and how well.
//!
//! *Decided* is the scheduler alone, as its peers are measured: an instance for each task, the
//! room it takes booked, no object copied. *Planned* is all that a leader does for it
//! (`Leader::handle`): tasks created, every step applied to its scratch copy, events written;
//! applying the plan to the state that the next one is made on is not counted. Every instance is
//! considered; the quality that speed could have been bought with is printed beside it.

use crate::Outcome;
use crate::curve::Curves;
use crate::facts;
use crate::figure::{Good, figure};
use muster_control::io::{LeaderInput, LeaderOutput, Mandate, Ticket};
use muster_control::leader::{Decider, Leader};
use muster_model::cluster::{Authority, Manager};
use muster_model::command::{Bootstrap, CreateService, RegisterInstance};
use muster_model::placement::{Placement, PlacementConstraint, PlacementStrategy, SpreadField};
use muster_model::spec::ContainerDefinition;
use muster_model::{
    ClusterId, Command, DefinitionId, Entry, Epoch, Health, IdSource, Index, InstanceId,
    InstanceSpec, Principal, Query, RaftId, Resources, Response, Service, ServiceSpec, State, Step,
    TaskDefinition, Time,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// SwarmKit's and Nomad's best figures on the same kind of machine, 10,000 nodes, three zones.
const ANCHORS: &str = "anchors (same kind of machine, 10,000 nodes): SwarmKit 3.5-8.9 k/s in \
                       batches, 63-208/s one by one; Nomad 1.1 1.0-1.8 k/s, 3.7/s with spread; \
                       kube-scheduler's CI floors 680-1,100/s";
const ZONES: [&str; 3] = ["az-a", "az-b", "az-c"];
/// Attribute sets: zones x disk x generation, of which one disk is asked for.
const GENERATIONS: usize = 4;

#[derive(Debug, clap::Args)]
pub struct Decide {
    /// Tasks placed per case.
    #[arg(long, default_value_t = 100_000)]
    tasks: usize,
    /// Where the scaling curves go, as CSV and as PNG.
    #[arg(long, default_value = "target/benches")]
    curves: std::path::PathBuf,
}

impl Decide {
    pub fn run(self) -> Outcome<()> {
        facts::pin_to_one_core()?;
        let floor = floor();
        println!("floor: one entry moved in an ordered set of 1,250: {:.0} ns", floor.as_nanos());
        println!("one core; a constraint on an attribute, spread over zones, then instances");
        println!("{ANCHORS}\n");
        println!(
            "{:<38} {:>11} {:>11} {:>6} {:>6} {:>12}",
            "case", "decided/s", "planned/s", "zones", "nodes", "used/bound"
        );
        let mut rates = Vec::new();
        for size in [1, 100, 1000] {
            let tasks = if size == 1 { self.tasks.min(20_000) } else { self.tasks };
            let mut world = World::new(10_000);
            rates.push(world.case(&format!("10,000 instances, services of {size}"), tasks, size));
        }
        let mut curves = Curves::default();
        for instances in [100, 1_000, 5_000, 10_000, 20_000] {
            let mut world = World::new(instances);
            let case = format!("{instances} instances, services of 100");
            curves.add(
                "instances",
                instances,
                world.case(&case, instances.clamp(1_000, 10_000), 100),
            );
        }
        let mut world = World::new(10_000);
        for running in [10_000, 100_000, 300_000, 980_000] {
            world.fill(running);
            let case = format!("10,000 instances, {running} running");
            curves.add("running", running, world.case(&case, 10_000, 100));
        }
        curves.write(&self.curves, "decide", "decisions/s")?;
        let ratio = 1e9 / rates[1] / floor.as_nanos() as f64;
        println!("\na decision in a service of 100 takes {ratio:.1} times the floor");
        figure("decide.one_task_services", rates[0], "/s", Good::AtLeast, 100_000.0);
        figure("decide.services_of_100", rates[1], "/s", Good::AtLeast, 300_000.0);
        figure("decide.services_of_1000", rates[2], "/s", Good::AtLeast, 300_000.0);
        figure("decide.flatness_instances", curves.spread("instances"), "x", Good::AtMost, 2.0);
        figure("decide.flatness_running", curves.spread("running"), "x", Good::AtMost, 2.0);
        Ok(())
    }
}

/// What no scheduler that keeps its instances in order can undercut: the one whose room changed
/// moves within its class.
fn floor() -> Duration {
    const MOVES: u64 = 1_000_000;
    let mut set: BTreeSet<(u64, u64, u128, u32)> = (0..1250).map(|n| (n * 7, 0, 0, 0)).collect();
    let started = Instant::now();
    for number in 0..MOVES {
        if let Some((key, ..)) = set.pop_first() {
            set.insert((key + 7 * 1250 + number % 3, 0, 0, 0));
        }
    }
    started.elapsed() / MOVES as u32
}

/// A state and the leader that plans on it.
struct World {
    state: State,
    leader: Leader,
    ids: IdSource,
    now: Time,
    cluster: ClusterId,
    services: usize,
    tasks: usize,
}

/// What one case took, and how good it came out.
#[derive(Default)]
struct Run {
    placed: usize,
    took: Duration,
    /// Largest difference between zones, over all services.
    zone_skew: usize,
    /// The same between instances that the constraint admits.
    node_skew: usize,
    /// Instances used, and the most that could have been.
    used: usize,
    bound: usize,
}

impl Run {
    fn rate(&self) -> f64 {
        self.placed as f64 / self.took.as_secs_f64().max(1e-9)
    }

    fn judge(&mut self, state: &State, from: usize) {
        let admitted =
            |row: &&Arc<muster_model::Instance>| row.spec.attribute("disk") == Some(Some("ssd"));
        let admitted = state.instances().filter(admitted).count();
        let mut used = BTreeSet::new();
        let mut all = 0;
        for service in state.services().filter(|row| number(row) > from) {
            let mut zones: BTreeMap<&str, usize> = ZONES.iter().map(|z| (*z, 0)).collect();
            let mut nodes: BTreeMap<InstanceId, usize> = BTreeMap::new();
            for row in state.tasks_of(service.id) {
                let Some(instance) = row.instance.and_then(|id| state.instance(id)) else {
                    continue;
                };
                *zones.entry(instance.spec.zone.as_str()).or_default() += 1;
                *nodes.entry(instance.id).or_default() += 1;
                used.insert(instance.id);
                all += 1;
            }
            let most = |counts: &mut dyn Iterator<Item = usize>| counts.max().unwrap_or(0);
            let least =
                if nodes.len() < admitted { 0 } else { nodes.values().min().copied().unwrap_or(0) };
            let poorest = zones.values().min().copied().unwrap_or(0);
            self.zone_skew = self.zone_skew.max(most(&mut zones.into_values()) - poorest);
            self.node_skew = self.node_skew.max(most(&mut nodes.into_values()) - least);
        }
        (self.used, self.bound) = (used.len(), all.min(admitted));
    }

    fn print(&self, case: &str, decided: f64) {
        println!(
            "{case:<38} {decided:>11.0} {:>11.0} {:>6} {:>6} {:>12}",
            self.rate(),
            self.zone_skew,
            self.node_skew,
            format!("{}/{}", self.used, self.bound)
        );
    }
}

impl World {
    fn new(instances: usize) -> Self {
        let mandate = Mandate { manager: RaftId(1), epoch: Epoch(0), seed: 1 };
        let now = Time(1_000_000);
        let mut ids = IdSource::new(7);
        let cluster = ids.cluster();
        let leader = Leader::new(mandate, now);
        let state = State::default();
        let mut world = Self { state, leader, ids, now, cluster, services: 0, tasks: 0 };
        world.apply(Command::Bootstrap(Box::new(first(cluster, now))));
        world.apply(Command::Takeover { manager: RaftId(1) });
        let epoch = world.state.meta().epoch;
        world.leader = Leader::new(Mandate { epoch, ..mandate }, now);
        for number in 0..instances {
            world.register(number);
        }
        let definition = TaskDefinition {
            family: "web".into(),
            containers: vec![ContainerDefinition {
                name: "web".into(),
                image: "web".into(),
                cpu: 16,
                memory_mib: Some(16),
                essential: true,
                ..ContainerDefinition::default()
            }],
            ..TaskDefinition::default()
        };
        world.apply(Command::RegisterTaskDefinition(Arc::new(definition)));
        world.settle(&mut Run::default());
        world
    }

    fn apply(&mut self, command: Command) -> Response {
        let by = match &command {
            Command::RegisterInstance(_) => Principal::Manager(RaftId(1)),
            _ => Principal::User("admin".into()),
        };
        let request = self.ids.request();
        let entry = Entry { request, at: self.now, by, trace: None, command };
        let index = Index(self.state.applied().0 + 1);
        match muster_model::apply(&mut self.state, index, &entry) {
            Ok(response) => response,
            Err(why) => panic!("{:?}: {why}", entry.command),
        }
    }

    /// Sizes differ a little, so that loads do.
    fn register(&mut self, number: usize) {
        let id = InstanceId::from_bits(1 + number as u128 * 0x9e37_79b9_7f4a_7c15);
        let pairs = [
            ("disk", if (number / 3).is_multiple_of(2) { "ssd" } else { "hdd" }.to_owned()),
            ("generation", format!("g{}", number / 6 % GENERATIONS)),
        ];
        let attributes = pairs.into_iter().map(|(name, value)| (name.to_owned(), Some(value)));
        let cpu = 16_384 + (number % 7) as u32 * 1024;
        let spec = Arc::new(InstanceSpec {
            hostname: format!("i{number}"),
            zone: ZONES[number % 3].into(),
            total: Resources { cpu, memory_mib: 65_536 },
            attributes: attributes.collect(),
            ..InstanceSpec::default()
        });
        let cluster = self.cluster;
        self.apply(Command::RegisterInstance(RegisterInstance { id, cluster, spec }));
        let epoch = self.state.meta().epoch;
        let steps = vec![Step::SetHealth { instance: id, health: Health::Ready }];
        self.apply(Command::Plan { epoch, steps });
    }

    /// Tasks that run already, in services of 1,000.
    fn fill(&mut self, running: usize) {
        let missing = running.saturating_sub(self.tasks) / 1000;
        if missing > 0 {
            self.place(missing, 1000);
        }
    }

    /// So many tasks in services of a size: decided by the scheduler alone, then planned by the
    /// leader. The rate of the decisions.
    fn case(&mut self, name: &str, tasks: usize, size: usize) -> f64 {
        let services = (tasks / size).max(1);
        self.create(services, size);
        let from = self.services - services;
        let (decided, took) = self.decide(from, size);
        let rate = decided as f64 / took.as_secs_f64().max(1e-9);
        let mut run = Run::default();
        self.settle(&mut run);
        self.tasks += run.placed;
        run.judge(&self.state, from);
        run.print(name, rate);
        rate
    }

    /// The scheduler alone, three times over the same; the median counts.
    fn decide(&mut self, from: usize, size: usize) -> (usize, Duration) {
        let state = self.state.clone();
        let services: Vec<_> = state.services().filter(|row| number(row) > from).collect();
        let mut rounds = Vec::new();
        for _ in 0..3 {
            let mut decider = Decider::new(&state);
            let tasks: Vec<_> = (0..size).map(|_| self.ids.task(self.now)).collect();
            let started = Instant::now();
            let decided: usize =
                services.iter().map(|service| decider.decide(&state, service, &tasks).len()).sum();
            rounds.push((started.elapsed(), decided));
        }
        rounds.sort();
        (rounds[1].1, rounds[1].0)
    }

    /// So many services of so many tasks each, placed to the last.
    fn place(&mut self, services: usize, size: usize) {
        self.create(services, size);
        let mut run = Run::default();
        self.settle(&mut run);
        self.tasks += run.placed;
    }

    fn create(&mut self, services: usize, size: usize) {
        let zone = SpreadField::Attribute("ecs.availability-zone".into());
        let ssd = Query::parse("attribute:disk == ssd").into_iter();
        let placement = Placement {
            constraints: ssd.map(PlacementConstraint::MemberOf).collect(),
            strategies: vec![
                PlacementStrategy::spread(zone),
                PlacementStrategy::spread(SpreadField::InstanceId),
            ],
        };
        for _ in 0..services {
            self.services += 1;
            let spec = ServiceSpec {
                name: format!("s{}", self.services),
                desired_count: size as u32,
                placement: placement.clone(),
                ..ServiceSpec::default()
            };
            let create = CreateService {
                id: self.ids.service(),
                deployment: self.ids.deployment(),
                cluster: self.cluster,
                definition: DefinitionId(1),
                spec: Arc::new(spec),
                tags: BTreeMap::new(),
            };
            self.apply(Command::CreateService(create));
        }
    }

    /// Plans until there is nothing more to plan.
    fn settle(&mut self, run: &mut Run) {
        let mut input = LeaderInput::State(Arc::new(self.state.clone()));
        loop {
            let started = Instant::now();
            let out = self.leader.handle(self.now, input);
            run.took += started.elapsed();
            let Some((ticket, command)) = out.into_iter().find_map(proposal) else { return };
            if let Command::Plan { steps, .. } = &command {
                run.placed +=
                    steps.iter().filter(|step| matches!(step, Step::Place { .. })).count();
            }
            self.now = Time(self.now.0 + 10);
            let result = Ok(self.apply(command));
            let state = Arc::new(self.state.clone());
            let started = Instant::now();
            self.leader.handle(self.now, LeaderInput::State(state));
            run.took += started.elapsed();
            input = LeaderInput::Proposed { ticket, result };
        }
    }
}

fn proposal(output: LeaderOutput) -> Option<(Ticket, Command)> {
    match output {
        LeaderOutput::Propose { ticket, command } => Some((ticket, command)),
        _ => None,
    }
}

/// Services are numbered by their names.
fn number(row: &Arc<Service>) -> usize {
    row.spec.name.trim_start_matches('s').parse().unwrap_or(0)
}

/// The entry that founds the cluster.
fn first(default_cluster: ClusterId, at: Time) -> Bootstrap {
    let text = |text: &str| Arc::from(text);
    Bootstrap {
        name: text("bench"),
        account: text("123456789012"),
        region: text("local"),
        default_cluster,
        authority: Authority::default(),
        manager: Manager {
            id: RaftId(1),
            name: text("m1"),
            zone: text("az-a"),
            address: text("m1:7000"),
            level: 1,
            joined_at: at,
            removed_at: None,
        },
        admin: text("admin"),
        admin_serial: text("01"),
    }
}
