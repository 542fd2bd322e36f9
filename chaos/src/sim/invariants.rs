//! The laws, one per file, each with the sentence that says what a user loses without it.
//!
//! Laws read; they never change a world. What they must remember between two looks is kept here.

mod authority;
mod backoff;
mod bounds;
mod capacity;
mod clusters;
mod confirmed;
mod forward;
mod heals;
mod jobs;
mod kills;
mod lost;
mod once;
mod orders;
mod orphans;
mod pins;
mod plans;
mod quiet;
mod reserve;
mod rollouts;
mod same_state;
mod schedules;
mod slots;
mod spared;
mod strict;
mod task_sets;
mod traffic;
mod versions;
mod writes;

use super::log::Log;
use super::machine::Machine;
use super::world::World;
use muster_control::io::{LeaderOutput, WorkerOutput};
use muster_control::leader::Leader;
use muster_model::dispatch::Assignments;
use muster_model::{Entry, Epoch, Error, Index, InstanceId, RequestId, Response, State, TaskId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What the laws remember.
#[derive(Debug, Default)]
pub(super) struct Observers {
    /// Highest (epoch, revision) each agent obeyed.
    obeyed: BTreeMap<usize, (Epoch, Index)>,
    /// Tasks that each agent was ordered to stop.
    ordered: BTreeSet<(usize, TaskId)>,
    told: confirmed::Told,
    /// Containers that were started.
    started: BTreeSet<(TaskId, Arc<str>)>,
    /// What each request was first answered.
    answered: BTreeMap<RequestId, Response>,
    /// Tasks whose rows are gone.
    forgotten: BTreeSet<TaskId>,
    jobs: jobs::Ledgers,
    tokens: strict::Tokens,
}

impl Observers {
    pub fn same_state(
        &self,
        log: &Log,
        before: &State,
        after: &State,
        index: Index,
        same_answer: bool,
    ) -> Result<(), String> {
        same_state::check(log, before, after, index, same_answer)
    }

    /// After each input.
    pub fn leader(&self, leader: &Leader, outputs: &[LeaderOutput]) -> Result<(), String> {
        plans::check(leader, outputs)
    }

    /// Before the agent hears them.
    pub fn orders(
        &mut self,
        log: &Log,
        (agent, life): (usize, u64),
        instance: InstanceId,
        orders: &Assignments,
    ) -> Result<(), String> {
        confirmed::remember(&mut self.told, agent, life, orders);
        kills::remember(&mut self.ordered, agent, orders);
        orders::check(log, instance, orders)
    }

    pub fn obedience(
        &mut self,
        agent: usize,
        authority: (Epoch, Index),
        outputs: &[WorkerOutput],
    ) -> Result<(), String> {
        authority::check(self.obeyed.entry(agent).or_default(), authority, outputs)
    }

    /// `slack`: strict tasks of the agent may not run any more.
    pub fn signal(
        &mut self,
        (agent, slack): (usize, bool),
        task: TaskId,
        machine: &Machine,
    ) -> Result<(), String> {
        kills::check(&mut self.ordered, (agent, slack), task, machine)
    }

    /// Before a container is started.
    pub fn start(&self, agent: usize, life: u64, task: TaskId) -> Result<(), String> {
        confirmed::check(&self.told, agent, life, task)
    }

    pub fn started(&mut self, task: TaskId, container: &Arc<str>) -> Result<(), String> {
        once::check(&mut self.started, task, container)
    }

    pub fn machine(&self, machine: &Machine, cluster: Option<&str>) -> Result<(), String> {
        capacity::check_machine(machine)?;
        clusters::check_machine(machine, cluster)
    }
}

impl World {
    /// Every committed entry is judged by what it changed.
    pub fn judge_commit(
        &mut self,
        before: &State,
        after: &State,
        entry: &Entry,
        base: Index,
        answer: &Result<Response, Error>,
    ) {
        let changes = State::diff(before, after);
        let moved = forward::check(&mut self.observers.forgotten, &changes, entry);
        self.judge("forward", moved);
        self.judge("forward", forward::check_time(before, after));
        self.judge("slots", slots::check(after, &changes));
        self.judge("capacity", capacity::check(after, &changes));
        self.judge("clusters", clusters::check(after, &changes));
        self.judge("reserve", reserve::check(before, after, &changes));
        self.judge("authority", authority::check_entry(before, base, &changes, entry));
        let answered = &mut self.observers.answered;
        let once = writes::check_entry(answered, &changes, entry, answer);
        self.judge("writes", once);
        self.judge("versions", versions::check_entry(before, &changes, entry));
        self.judge("rollouts", rollouts::check_entry(before, after, &changes));
        self.counts.rollouts_halted += rollouts::count_halted(&changes);
        self.judge("pins", pins::check_entry(after, &changes));
        self.counts.pins += pins::count(&changes);
        self.counts.strays += pins::count_strays(before, &changes);
        self.judge("spared", spared::check_entry(before, after, &changes));
        self.counts.protected += spared::count(&changes);
        self.judge("task-sets", task_sets::check_entry(after, &changes, entry));
        let (made, gone) = task_sets::count(&changes);
        self.counts.sets_made += made;
        self.counts.sets_gone += gone;
        self.judge("schedules", schedules::check_entry(before, after, &changes));
        let (runs, idle) = schedules::count(&changes);
        self.counts.runs_started += runs;
        self.counts.runs_idle += idle;
        let jobs = jobs::check_entry(&mut self.observers.jobs, before, after, &changes);
        self.judge("jobs", jobs);
        let (succeeded, failed) = jobs::count(&changes);
        self.counts.jobs_succeeded += succeeded;
        self.counts.jobs_failed += failed;
        self.counts.unhealthy += rollouts::count_unhealthy(before, &changes);
        self.judge("traffic", traffic::check_entry(before, after, &changes, entry));
        let (begun, shifted) = traffic::count(&changes);
        self.counts.shifts_begun += begun;
        self.counts.shifts_done += shifted;
        let known = self.log.state_at(base).cloned();
        if let Some(known) = known {
            self.judge("lost", lost::check(&known, entry));
            self.judge("backoff", backoff::check_entry(&known, &changes, entry));
            self.judge("jobs", jobs::check_plan(&known, entry));
        }
        let machines = self.agents.iter().flat_map(|agent| &agent.machine.tasks);
        let alive = machines.filter(|(_, hold)| hold.alive()).map(|(task, _)| *task).collect();
        self.judge("bounds", bounds::check(before, after, entry, &alive));
        if self.rest_since.is_some() {
            self.judge("quiet", quiet::check_entry(entry));
        }
    }

    /// What is not yet as it should be after the faults.
    pub fn unrest(&self) -> Option<String> {
        let state = self.log.state();
        if self.log.leader.is_none_or(|leader| self.managers[leader].reign.is_none()) {
            return Some("nobody leads".to_owned());
        }
        if self.asked() {
            return Some("a user waits for an answer".to_owned());
        }
        heals::unrest(&state, &self.healthy_hosts(), self.now)
            .or_else(|| orphans::unrest(&state, self.machines()))
            .or_else(|| schedules::unrest(&state))
            .or_else(|| jobs::unrest(&state))
    }

    fn machines(&self) -> impl Iterator<Item = (InstanceId, &Machine)> {
        self.agents.iter().map(|agent| (agent.id, &agent.machine))
    }

    /// Before a container of the task starts.
    pub fn judge_strict(&mut self, agent: usize, task: TaskId) {
        let state = self.log.state();
        let Some(hold) = self.agents[agent].machine.tasks.get(&task) else { return };
        let machines = self.agents.iter().map(|agent| &agent.machine);
        let tokens = &mut self.observers.tokens;
        let verdict = strict::check(tokens, &state, &hold.assignment, machines);
        self.judge("strict", verdict);
    }

    /// A minute after the faults nobody runs what the cluster does not own.
    pub fn judge_orphans(&mut self) {
        let state = self.log.state();
        let verdict = orphans::check(&state, self.machines());
        self.judge("orphans", verdict);
    }

    fn healthy_hosts(&self) -> BTreeSet<InstanceId> {
        self.agents.iter().filter(|a| a.up).map(|a| a.id).collect()
    }

    /// Once, when everything is at rest.
    pub fn judge_end(&mut self) {
        let state = self.log.state();
        self.judge("same_state", same_state::check_end(&self.log, &self.managers));
        self.judge("writes", writes::check(&state, &self.clients.acknowledged));
        self.judge("rollouts", rollouts::check_end(&state));
        let now = self.now;
        self.judge("quiet", quiet::check_end(&state, now));
        let leaders = self.managers.iter().filter_map(|m| m.reign.as_ref());
        let audits: Vec<_> = leaders.map(|reign| reign.leader.audit()).collect();
        for audit in audits {
            self.judge("plans", audit);
        }
    }
}
