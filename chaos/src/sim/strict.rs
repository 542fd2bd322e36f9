//! What keeps strict tasks on their leash: whose heartbeats are confirmed, and the shims, which
//! kill when nobody was for too long, whatever became of their agent.
//!
//! It stands in for `node/manager/src/confirm.rs`, `node/agent/src/contact.rs` and
//! `node/shim/src/leash.rs`. Invariant: a shim is never asleep while its machine has power.

use super::net::{Down, Up};
use super::world::{Event, World};
use muster_control::io::{ContainerEvent, Heard, WorkerInput};
use muster_model::limits::STRICT_CONTACT;
use muster_model::{InstanceId, SessionId, TaskId, Time, strict};
use std::collections::VecDeque;
use std::sync::Arc;

/// Heartbeats that an agent remembers, as the real one.
const AWAITED_MAX: usize = 16;
/// As a shell shows SIGKILL.
const KILLED: i32 = 137;

/// An agent's contact; times by its clock.
#[derive(Debug, Default)]
pub(super) struct Leash {
    /// What the file says: it outlives the agent, but not its machine.
    pub contact: Option<Time>,
    /// What the brain has taken of it.
    counted: Option<Time>,
    asks: bool,
    number: u64,
    sent: VecDeque<(u64, Time)>,
}

impl Leash {
    /// The agent begins anew.
    pub fn restart(&mut self) -> Option<Time> {
        *self = Self { contact: self.contact, counted: self.contact, ..Self::default() };
        self.contact
    }

    /// Whether a strict task may not run any more.
    pub fn is_slack(&self, now: Time) -> bool {
        self.counted.is_none_or(|at| at + STRICT_CONTACT <= now)
    }
}

impl World {
    pub fn ask_for_contact(&mut self, agent: usize, on: bool) {
        self.agents[agent].leash.asks = on;
        if let Some(session) = self.agents[agent].session.filter(|_| on) {
            let heartbeat = self.heartbeat(agent);
            self.send_up(session, heartbeat);
        }
    }

    /// A new session: nothing is confirmed in it yet.
    pub fn contact_anew(&mut self, agent: usize) {
        self.agents[agent].leash.sent.clear();
        let asks = self.agents[agent].leash.asks;
        self.ask_for_contact(agent, asks);
    }

    pub fn heartbeat(&mut self, agent: usize) -> Up {
        let now = self.agent_clock(agent);
        let leash = &mut self.agents[agent].leash;
        if !leash.asks {
            return Up::Heartbeat(None);
        }
        leash.number += 1;
        if leash.sent.len() == AWAITED_MAX {
            leash.sent.pop_front();
        }
        leash.sent.push_back((leash.number, now));
        Up::Heartbeat(Some(leash.number))
    }

    /// The read that shows whether a later leader has begun takes place at once; the answer is on
    /// its way for as long as anything.
    pub fn confirm(
        &mut self,
        manager: usize,
        (instance, session): (InstanceId, SessionId),
        heard: Heard,
    ) {
        let leads = self.log.state().meta().epoch == heard.orders.0;
        if leads && self.holds(manager, instance, session) {
            self.send_down(session, Down::Confirmed(heard));
        }
    }

    pub fn confirmed(&mut self, agent: usize, heard: Heard) {
        let obeyed = self.agents[agent].worker_obeyed();
        let leash = &mut self.agents[agent].leash;
        let found = leash.sent.iter().find(|(number, _)| *number == heard.number);
        let Some((_, sent)) = found.copied() else { return };
        leash.sent.retain(|(number, _)| *number > heard.number);
        leash.contact = leash.contact.max(Some(sent));
        if heard.orders <= obeyed {
            leash.counted = leash.counted.max(Some(sent));
        }
        self.tell_worker(agent, WorkerInput::Confirmed { sent, orders: heard.orders });
    }

    /// The shims of a task that has started look at the file; they look again when it is over.
    pub fn look_at_leash(&mut self, agent: usize, boot: u64, task: TaskId) {
        let now = self.agent_clock(agent);
        let a = &mut self.agents[agent];
        let Some(hold) = a.machine.tasks.get(&task).filter(|hold| a.boot == boot && hold.alive())
        else {
            return;
        };
        let over_after = strict::over_after(&hold.assignment.spec);
        let over = a.leash.contact.map_or(now, |at| at + over_after);
        if over > now {
            self.at(self.now + over.since(now), Event::LookAtLeash { agent, boot, task });
            return;
        }
        let killed = a.machine.kill(task, KILLED, now);
        self.say(&format!("a{agent}: shims kill {}", super::world::short(task)));
        self.counts.leashes += 1;
        for container in killed {
            self.at(self.now, Event::Killed { agent, task, container });
        }
    }

    /// The agent hears of it, if there is one, once it is awake.
    pub fn hear_of_kill(&mut self, agent: usize, task: TaskId, container: Arc<str>) {
        let (exit_code, at) = (Some(KILLED), self.agent_clock(agent));
        let event = ContainerEvent::Exited { container, exit_code, oom_killed: false, at };
        self.tell_worker(agent, WorkerInput::Container { task, event });
    }
}
