//! Users: random requests through random managers, repeated with the same request id when their
//! outcome is unknown, and what was promised to them.
//!
//! A repeat through another manager carries other minted ids, as a repeated API call would. It does
//! not know the rules: a refusal is an answer like any other.

mod alarms;
mod jobs;
mod protection;
mod schedules;
mod task_sets;

pub(super) use schedules::RATES;

use super::dice::Branch;
use super::log::Proposer;
use super::setting::{FAMILIES, ZONES};
use super::world::{Event, World};
use crate::sim::Wish;
use muster_model::cluster::ZONE_RESERVE_SETTING;
use muster_model::command::{CreateService, RunTask, StopType, UpdateService};
use muster_model::placement::{
    BinpackField, Placement, PlacementConstraint, PlacementStrategy, SpreadField,
};
use muster_model::query::Query;
use muster_model::schedule::ScheduleCommand;
use muster_model::service::{DeploymentConfiguration, ServiceChange};
use muster_model::{
    CircuitBreaker, ClusterId, Command, DefinitionId, DeploymentStrategy, Entry, Error, HookAction,
    InstanceId, InstanceStatus, JobCommand, LifecycleHook, Millis, NewTaskSet, Pace, Principal,
    RequestId, Response, SchedulingStrategy, ServiceId, ServiceSpec, ServiceStatus, Stage, State,
    StepSize, TaskSetCommand, Threshold, Time, Weight,
};
use std::sync::Arc;

/// A user gives up after this long.
const DEADLINE: Millis = Millis::from_secs(30);
/// A hook times out, and a bake time ends, after as long at most.
const STAGE_MINUTES: u64 = 1;
/// So long a deployment that shifts traffic stays where it is by its user's will.
pub(super) const STAGE_MAX: Millis = Millis::from_secs(STAGE_MINUTES * 60);
/// Services of a run: more would only fill the machines.
const SERVICES_MAX: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Clients {
    pub clusters: Vec<ClusterId>,
    all: Vec<Client>,
    next_name: u64,
    pub wished: Vec<Wish>,
    /// Requests and what was promised of them.
    pub acknowledged: Vec<(RequestId, Response)>,
}

#[derive(Debug, Default)]
struct Client {
    request: Option<Request>,
    attempts: u64,
    /// Wishes so far.
    wishes: u64,
    /// RunTask calls that follow at once.
    burst: u64,
}

#[derive(Debug)]
struct Request {
    id: RequestId,
    command: Command,
    since: Time,
}

impl World {
    pub fn add_client(&mut self) {
        self.clients.all.push(Client::default());
    }

    /// Begins something new, or repeats what was not answered.
    pub fn think(&mut self, client: usize) {
        if self.clients.all[client].request.is_none() {
            if self.calm() {
                return;
            }
            let Some(manager) = self.any_manager() else {
                self.after(200, 1000, Event::Think { client });
                return;
            };
            let state = self.managers[manager].state.clone();
            let Some(command) = self.next_wish(client, &state) else {
                self.after(500, 4000, Event::Think { client });
                return;
            };
            let id = self.dice.ids.request();
            self.clients.all[client].request = Some(Request { id, command, since: self.now });
        }
        self.try_again(client);
    }

    fn next_wish(&mut self, client: usize, state: &State) -> Option<Command> {
        let c = &mut self.clients.all[client];
        let (number, burst) = (c.wishes, c.burst);
        c.wishes += 1;
        c.burst = burst.saturating_sub(1);
        if self.part.no_wishes.contains(&(client, number)) {
            return None;
        }
        let command = self.by_own_luck(Branch::Wish { client, number }, |world| {
            if burst > 0 {
                return world.run_task(state);
            }
            if world.dice.percent(2) {
                world.clients.all[client].burst = world.dice.between(3, 12);
            }
            world.wish(state)
        });
        if command.is_some() {
            self.counts.wishes += 1;
            self.clients.wished.push((client, number));
        }
        command
    }

    fn any_manager(&mut self) -> Option<usize> {
        let all = 0..self.managers.len();
        let alive: Vec<usize> = all.filter(|m| self.managers[*m].alive).collect();
        self.dice.pick(&alive)
    }

    fn try_again(&mut self, client: usize) {
        let Some(manager) = self.any_manager() else {
            self.after(200, 1000, Event::Think { client });
            return;
        };
        let at = self.manager_clock(manager);
        let Some(request) = &self.clients.all[client].request else { return };
        let (id, command) = (request.id, request.command.clone());
        let command = self.minted(command);
        let by = Principal::User("admin".into());
        let entry = Entry { request: id, at, by, trace: None, command };
        let c = &mut self.clients.all[client];
        c.attempts += 1;
        let attempt = c.attempts;
        self.propose(manager, Proposer::Client { client, attempt }, entry);
    }

    /// Somebody still waits for an answer.
    pub fn asked(&self) -> bool {
        self.clients.all.iter().any(|client| client.request.is_some())
    }

    pub fn heard(&mut self, client: usize, attempt: u64, result: Result<Response, Error>) {
        let c = &mut self.clients.all[client];
        let Some(request) = c.request.take().filter(|_| c.attempts == attempt) else { return };
        let again = matches!(result, Err(Error::UnknownOutcome { .. } | Error::Unavailable { .. }));
        if again && self.now.since(request.since) < DEADLINE {
            c.request = Some(request);
            self.after(20, 500, Event::Think { client });
            return;
        }
        if let Ok(response) = result {
            self.counts.acknowledged += 1;
            if let Command::DeregisterInstance { instance, .. } = request.command {
                self.retire(instance);
            }
            self.clients.acknowledged.push((request.id, response));
        }
        let high = if self.clients.all[client].burst > 0 { 60 } else { 5000 };
        self.after(high / 17, high, Event::Think { client });
    }

    /// The machine is switched off, and a fresh one takes its place.
    fn retire(&mut self, instance: InstanceId) {
        let found = self.agents.iter().position(|a| a.id == instance && !a.retired);
        let Some(agent) = found else { return };
        self.crash_host(agent);
        self.agents[agent].retired = true;
        let (cluster, zone) = (self.agents[agent].cluster, self.agents[agent].zone);
        self.add_machine(cluster, zone);
    }

    /// Ids that a manager mints for each call it is asked.
    fn minted(&mut self, command: Command) -> Command {
        let (ids, now) = (&mut self.dice.ids, self.now);
        match command {
            Command::CreateService(mut c) => {
                c.id = ids.service();
                c.deployment = ids.deployment();
                Command::CreateService(c)
            }
            Command::UpdateService(mut c) => {
                c.deployment = ids.deployment();
                Command::UpdateService(c)
            }
            Command::TaskSet(TaskSetCommand::CreateService { cluster, spec, tags, .. }) => {
                let id = ids.service();
                Command::TaskSet(TaskSetCommand::CreateService { id, cluster, spec, tags })
            }
            Command::TaskSet(TaskSetCommand::Create(new)) => {
                let id = ids.deployment();
                Command::TaskSet(TaskSetCommand::Create(NewTaskSet { id, ..new }))
            }
            Command::RunTask(mut c) => {
                for task in &mut c.tasks {
                    *task = ids.task(now);
                }
                Command::RunTask(c)
            }
            Command::Schedule(ScheduleCommand::Create { cluster, spec, next_due, .. }) => {
                let id = ids.schedule();
                Command::Schedule(ScheduleCommand::Create { id, cluster, spec, next_due })
            }
            Command::Job(JobCommand::Run { cluster, definition, spec, .. }) => {
                let id = ids.job(now);
                Command::Job(JobCommand::Run { id, cluster, definition, spec })
            }
            other => other,
        }
    }

    // ---- what users want ----

    fn wish(&mut self, state: &State) -> Option<Command> {
        match self.dice.below(100) {
            0..20 => self.create_service(state),
            20..50 => self.update_service(state),
            50..57 => {
                let service = self.any_service(state)?;
                let force = self.dice.percent(70);
                Some(Command::DeleteService { service, force })
            }
            57..66 => self.run_task(state),
            66..70 => self.job(state),
            70..73 => self.schedule(state),
            73..75 => self.stop_deployment(state),
            75..80 => self.pause_or_continue(state),
            80..85 => self.stop_task(state),
            85..87 => self.protect_task(state),
            87..95 => self.set_status(state),
            95..96 => self.reserve_zone(),
            96..98 => self.set_alarm(),
            _ => {
                let instance = self.any_instance(state)?;
                // The last machine of a cluster stays.
                let few = state.instances().filter(|i| i.accepts_tasks()).count() < 4;
                (!few).then_some(Command::DeregisterInstance { instance, force: true })
            }
        }
    }

    /// A machine has some 1024 cpu units and 768 MiB, a zone of a cluster one to three machines.
    fn reserve_zone(&mut self) -> Option<Command> {
        let cluster = self.dice.pick(&self.clients.clusters.clone())?;
        let zone = self.dice.pick(&ZONES)?;
        let (cpu, memory) = (self.dice.below(5) * 256, self.dice.below(5) * 192);
        let value = match self.dice.percent(30) {
            true => String::new(),
            false => format!("cpu:{cpu},memory:{memory}"),
        };
        let settings = [(format!("{ZONE_RESERVE_SETTING}{zone}"), value)].into();
        Some(Command::UpdateCluster { cluster, settings })
    }

    fn any_service(&mut self, state: &State) -> Option<ServiceId> {
        let active = state.services().filter(|s| s.status == ServiceStatus::Active);
        let all: Vec<ServiceId> = active.map(|s| s.id).collect();
        self.dice.pick(&all)
    }

    fn any_instance(&mut self, state: &State) -> Option<InstanceId> {
        let present = state.instances().filter(|i| i.status != InstanceStatus::Inactive);
        let all: Vec<InstanceId> = present.map(|i| i.id).collect();
        self.dice.pick(&all)
    }

    /// Any but the batch, which is not for services.
    fn any_definition(&mut self) -> DefinitionId {
        DefinitionId(self.dice.between(1, FAMILIES.len() as u64 - 1))
    }

    fn create_service(&mut self, state: &State) -> Option<Command> {
        if state.services().filter(|s| s.status == ServiceStatus::Active).count() >= SERVICES_MAX {
            return None;
        }
        self.clients.next_name += 1;
        let cluster = self.dice.pick(&self.clients.clusters.clone())?;
        if self.dice.percent(10) {
            return self.create_external(cluster, format!("s{}", self.clients.next_name));
        }
        let daemon = self.dice.percent(20);
        let percents: &[(u32, u32)] = match daemon {
            true => &[(0, 100), (50, 100)],
            false => &[(100, 200), (100, 200), (50, 100), (50, 150), (0, 100), (100, 150)],
        };
        let (minimum_healthy_percent, maximum_percent) = self.dice.pick(percents)?;
        let strategies = [SchedulingStrategy::Replica, SchedulingStrategy::Daemon];
        let mut placement = self.placement();
        if daemon {
            placement.strategies.clear();
        }
        let mut spec = ServiceSpec {
            name: format!("s{}", self.clients.next_name),
            desired_count: if daemon { 0 } else { self.dice.between(0, 5) as u32 },
            scheduling: strategies[usize::from(daemon)],
            az_rebalancing: self.dice.percent(50),
            circuit_breaker: self.breaker(),
            alarms: self.alarms(),
            strategy: if daemon { DeploymentStrategy::default() } else { self.strategy() },
            deployment: DeploymentConfiguration { minimum_healthy_percent, maximum_percent },
            placement,
            health_check_grace_secs: self.dice.percent(30).then_some(15),
            ..ServiceSpec::default()
        };
        if !daemon && self.dice.percent(25) {
            spec.strict = true;
            spec.desired_count = spec.desired_count.min(1);
            spec.deployment = DeploymentConfiguration::STRICT;
            spec.strategy = DeploymentStrategy::default();
        }
        spec.az_rebalancing &= spec.can_rebalance();
        Some(Command::CreateService(CreateService {
            id: ServiceId::from_bits(0),
            deployment: muster_model::DeploymentId::from_bits(0),
            cluster,
            definition: self.any_definition(),
            spec: Arc::new(spec),
            tags: Default::default(),
        }))
    }

    fn breaker(&mut self) -> CircuitBreaker {
        let thresholds =
            [Threshold::default(), Threshold::Count(1), Threshold::UnboundedPercent(100)];
        CircuitBreaker {
            enable: self.dice.percent(60),
            rollback: self.dice.percent(80),
            reset_on_healthy_task: self.dice.percent(80),
            threshold: self.dice.pick(&thresholds).unwrap_or_default(),
        }
    }

    /// Mostly refused: few deployments are in progress at any time.
    fn stop_deployment(&mut self, state: &State) -> Option<Command> {
        let service = self.any_service(state)?;
        let deployment = state.service(service)?.primary()?.id;
        let stop = self.dice.pick(&[StopType::Rollback, StopType::Rollback, StopType::Abort])?;
        Some(Command::StopServiceDeployment { service, deployment, stop })
    }

    fn placement(&mut self) -> Placement {
        let mut placement = Placement::default();
        if self.dice.percent(20) {
            placement.constraints.push(PlacementConstraint::DistinctInstance);
        }
        let queries = ["attribute:ecs.availability-zone != az-c", "runningTasksCount < 6"];
        if let Some(query) = self.dice.pick(&queries).filter(|_| self.dice.percent(15)) {
            placement.constraints.extend(Query::parse(query).map(PlacementConstraint::MemberOf));
        }
        if self.dice.percent(50) {
            let zone = SpreadField::zone();
            let strategies = [
                PlacementStrategy::spread(SpreadField::InstanceId),
                PlacementStrategy::Spread { field: zone.clone(), max_skew: Some(1) },
                PlacementStrategy::spread(zone),
                PlacementStrategy::Binpack(BinpackField::Cpu),
                PlacementStrategy::Binpack(BinpackField::Memory),
                PlacementStrategy::Random,
            ];
            let number = self.dice.between(1, 2);
            placement.strategies.extend((0..number).filter_map(|_| self.dice.pick(&strategies)));
        }
        placement
    }

    fn update_service(&mut self, state: &State) -> Option<Command> {
        let service = self.any_service(state)?;
        let external = state.service(service).filter(|row| row.spec.is_external());
        if let Some(row) = external.filter(|_| self.dice.percent(80)) {
            return self.change_sets(row);
        }
        let scales = self.dice.percent(60);
        let rolls = self.dice.percent(60);
        let desired_count = scales.then(|| self.dice.between(0, 6) as u32);
        let definition = rolls.then(|| self.any_definition());
        // A DAEMON service has only one that fits.
        let daemon = state.service(service).is_some_and(|row| row.spec.is_daemon());
        let strategy = (!daemon && self.dice.percent(30)).then(|| self.strategy());
        let version = state.service(service).map(|row| row.version);
        let expected_version = version.filter(|_| self.dice.percent(20));
        Some(Command::UpdateService(UpdateService {
            service,
            expected_version,
            deployment: muster_model::DeploymentId::from_bits(0),
            definition,
            force_new_deployment: self.dice.percent(20),
            change: Arc::new(ServiceChange { desired_count, strategy, ..ServiceChange::default() }),
        }))
    }

    /// Most of them shift traffic; some wait at hooks that time out.
    fn strategy(&mut self) -> DeploymentStrategy {
        let size = |permille| StepSize {
            weight: Weight::of_permille(permille).unwrap_or(Weight::ALL),
            bake_minutes: 0,
        };
        let mut paces = [Pace::BlueGreen, Pace::Linear(size(334)), Pace::Canary(size(5))];
        for pace in &mut paces {
            if let Pace::Linear(step) | Pace::Canary(step) = pace {
                step.bake_minutes = self.dice.between(0, STAGE_MINUTES) as u32;
            }
        }
        let Some(pace) = self.dice.pick(&paces).filter(|_| self.dice.percent(70)) else {
            return DeploymentStrategy::default();
        };
        let actions = [HookAction::Continue, HookAction::Rollback];
        let stages = Stage::PAUSABLE.into_iter().filter(|_| self.dice.percent(15)).collect();
        let hook = LifecycleHook {
            stages,
            timeout_minutes: STAGE_MINUTES as u32,
            on_timeout: self.dice.pick(&actions).unwrap_or(HookAction::Continue),
            ..LifecycleHook::default()
        };
        let bake_minutes = self.dice.between(0, STAGE_MINUTES) as u32;
        DeploymentStrategy { pace, bake_minutes, hooks: vec![hook] }
    }

    /// What is paused is mostly continued later; the rest is refused.
    fn pause_or_continue(&mut self, state: &State) -> Option<Command> {
        let held = |row: &ServiceId| {
            let hooked = state.shift(*row).is_some_and(|shift| shift.hook.is_some());
            hooked || state.pause(*row).is_some()
        };
        let waiting: Vec<ServiceId> = state.services().map(|row| row.id).filter(held).collect();
        let waits = self.dice.pick(&waiting).filter(|_| self.dice.percent(80));
        let service = waits.or_else(|| self.any_service(state))?;
        let deployment = state.service(service)?.primary()?.id;
        if waits.is_none() {
            return Some(Command::PauseServiceDeployment { service, deployment });
        }
        let action = match self.dice.percent(80) {
            true => HookAction::Continue,
            false => HookAction::Rollback,
        };
        Some(Command::ContinueServiceDeployment { service, deployment, hook: None, action })
    }

    fn run_task(&mut self, state: &State) -> Option<Command> {
        let cluster = self.dice.pick(&self.clients.clusters.clone())?;
        let batch = self.dice.percent(70);
        let definition = match batch {
            true => DefinitionId(FAMILIES.len() as u64),
            false => self.any_definition(),
        };
        state.definition(definition)?;
        let many = self.dice.percent(10);
        let count = if many { self.dice.between(5, 10) } else { self.dice.between(1, 4) } as usize;
        Some(Command::RunTask(RunTask {
            cluster,
            definition,
            tasks: vec![muster_model::TaskId::from_bits(0); count],
            group: Arc::from(""),
            started_by: None,
            overrides: Arc::default(),
            tags: Default::default(),
        }))
    }

    fn stop_task(&mut self, state: &State) -> Option<Command> {
        let wanted: Vec<_> = state.tasks().filter(|t| t.wanted()).map(|t| t.id).collect();
        let task = self.dice.pick(&wanted)?;
        Some(Command::StopTask { task, reason: Arc::from("") })
    }

    /// Drains one, or puts one that drains back to work.
    fn set_status(&mut self, state: &State) -> Option<Command> {
        let draining = state.instances().find(|i| i.status == InstanceStatus::Draining);
        let back = draining.map(|i| i.id).filter(|_| self.dice.percent(60));
        if let Some(instance) = back {
            let status = InstanceStatus::Active;
            return Some(Command::UpdateInstanceStatus { instance, status });
        }
        let instance = self.any_instance(state)?;
        let status = InstanceStatus::Draining;
        Some(Command::UpdateInstanceStatus { instance, status })
    }
}
