//! What lies between agents and managers: streams, which keep their order until they break, and
//! links, which may be cut in one direction.
//!
//! A message into a cut is lost and takes its direction of the stream with it; both ends learn of
//! that later, each at its own time, and until then the other direction goes on. It does not know
//! what is said. Invariant: what one stream delivers, it delivers in order, and nothing twice.

use super::world::{Event, World, short};
use muster_control::io::{Heard, LeaderInput, WorkerInput};
use muster_model::dispatch::{Assignments, Held};
use muster_model::{InstanceId, SessionId, TaskReport, Time};
use std::collections::{BTreeMap, BTreeSet};

/// How long an agent waits for a manager's first word.
const WELCOME_WAIT_MS: u64 = 3000;

/// One end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Node {
    Manager(usize),
    Agent(usize),
}

#[derive(Debug)]
pub(super) enum Up {
    Heartbeat(Option<u64>),
    Report { sequence: u64, reports: Vec<TaskReport> },
}

#[derive(Debug)]
pub(super) enum Down {
    Welcome,
    Orders(Assignments),
    Ack(u64),
    Confirmed(Heard),
}

#[derive(Clone, Copy, Debug)]
enum Way {
    Up,
    Down,
}

/// One way of a stream.
#[derive(Debug, Default)]
struct Lane {
    /// A message was lost: none follows.
    dead: bool,
    /// When the newest message arrives.
    last: Time,
}

#[derive(Debug)]
pub(super) struct Stream {
    pub agent: usize,
    pub manager: usize,
    agent_life: u64,
    manager_life: u64,
    agent_open: bool,
    manager_open: bool,
    up: Lane,
    down: Lane,
}

#[derive(Debug, Default)]
pub(super) struct Net {
    cut: BTreeSet<(Node, Node)>,
    streams: BTreeMap<SessionId, Stream>,
    /// Storms under way.
    pub storms: u64,
}

impl Net {
    pub fn cut(&mut self, from: Node, to: Node) {
        self.cut.insert((from, to));
    }

    pub fn mend(&mut self, from: Node, to: Node) {
        self.cut.remove(&(from, to));
    }

    pub fn mend_all(&mut self) {
        self.cut.clear();
        self.storms = 0;
    }

    pub fn storms(&self) -> bool {
        self.storms > 0
    }

    pub fn agent_of(&self, session: SessionId) -> Option<usize> {
        self.streams.get(&session).map(|stream| stream.agent)
    }

    fn passes(&self, from: Node, to: Node) -> bool {
        !self.cut.contains(&(from, to))
    }
}

impl World {
    /// Two managers hear each other, both ways.
    pub fn meet(&self, a: usize, b: usize) -> bool {
        let (from, to) = (Node::Manager(a), Node::Manager(b));
        a == b || (self.net.passes(from, to) && self.net.passes(to, from))
    }

    // ---- opening ----

    pub fn dial(&mut self, agent: usize, dial: u64) {
        let a = &mut self.agents[agent];
        if !a.up || a.dial != dial || a.session.is_some() {
            return;
        }
        let hint = a.hint.take();
        let any = self.dice.below(self.managers.len() as u64) as usize;
        let manager = hint.unwrap_or(any);
        let inventory = self.agents[agent].inventory();
        self.after(1, 40, Event::Hello { agent, dial, manager, inventory });
        let after = WELCOME_WAIT_MS;
        self.after(after, after, Event::DialFailed { agent, dial, leader: None });
    }

    pub fn hello(&mut self, agent: usize, dial: u64, manager: usize, inventory: Vec<Held>) {
        let (from, to) = (Node::Agent(agent), Node::Manager(manager));
        let calling = self.agents[agent].up && self.agents[agent].dial == dial;
        if !self.net.passes(from, to) || !calling {
            return;
        }
        let m = &self.managers[manager];
        let back = self.net.passes(to, from);
        if !m.alive || m.reign.is_none() {
            if back {
                // A manager that knows better says who leads.
                let leader = self.log.leader.filter(|leader| m.alive && *leader != manager);
                self.after(1, 40, Event::DialFailed { agent, dial, leader });
            }
            return;
        }
        let session = self.dice.ids.session();
        let instance = self.agents[agent].id;
        let stream = Stream {
            agent,
            manager,
            agent_life: self.agents[agent].life,
            manager_life: m.life,
            agent_open: false,
            manager_open: true,
            up: Lane::default(),
            down: Lane::default(),
        };
        self.net.streams.insert(session, stream);
        let older = self.managers[manager].sessions.insert(instance, session);
        if let Some(older) = older {
            self.manager_closes(older, false);
        }
        self.say(&format!("a{agent} says hello to m{}, session {}", manager + 1, short(session)));
        self.send_down(session, Down::Welcome);
        self.tell_leader(manager, LeaderInput::Hello { instance, session, inventory });
    }

    pub fn dial_failed(&mut self, agent: usize, dial: u64, leader: Option<usize>) {
        let a = &mut self.agents[agent];
        if !a.up || a.dial != dial || a.session.is_some() {
            return;
        }
        a.hint = leader;
        self.dial_later(agent, 50, 600);
    }

    /// Gives up the attempt under way and begins another after a while.
    pub fn dial_later(&mut self, agent: usize, low: u64, high: u64) {
        self.agents[agent].dial += 1;
        let dial = self.agents[agent].dial;
        self.after(low, high, Event::Dial { agent, dial });
    }

    // ---- talking ----

    pub fn send_up(&mut self, session: SessionId, message: Up) {
        let arrives = self.arrives();
        if self.net.storms() && self.dice.percent(1) {
            self.lose(session, Way::Up);
        }
        let Some(stream) = self.net.streams.get_mut(&session) else { return };
        stream.up.last = stream.up.last.max(arrives);
        let (at, manager) = (stream.up.last, stream.manager);
        self.at(at, Event::Up { manager, session, message });
    }

    pub fn send_down(&mut self, session: SessionId, message: Down) {
        let arrives = self.arrives();
        if self.net.storms() && self.dice.percent(1) {
            self.lose(session, Way::Down);
        }
        if self.net.storms() && self.dice.percent(4) && self.garbled(session, &message) {
            return;
        }
        let Some(stream) = self.net.streams.get_mut(&session) else { return };
        stream.down.last = stream.down.last.max(arrives);
        let at = stream.down.last;
        self.at(at, Event::Down { session, message });
    }

    fn arrives(&mut self) -> Time {
        let late = self.net.storms() && self.dice.percent(20);
        let high = if late { 2500 } else { 30 };
        self.now + self.dice.span(1, high)
    }

    /// The next message is lost, and with it what follows.
    fn lose(&mut self, session: SessionId, way: Way) {
        let Some(stream) = self.net.streams.get_mut(&session) else { return };
        match way {
            Way::Up => stream.up.dead = true,
            Way::Down => stream.down.dead = true,
        }
    }

    /// Orders arrive twice, or only after what was sent later: then `true`. A transport that does
    /// so is broken, and the stream ends a moment later. Safety must hold even so.
    fn garbled(&mut self, session: SessionId, message: &Down) -> bool {
        let Down::Orders(orders) = message else { return false };
        let message = Down::Orders(orders.clone());
        self.after(1, 4000, Event::Down { session, message });
        self.breaks(session);
        self.dice.percent(50)
    }

    pub fn hear_up(&mut self, session: SessionId, message: Up) {
        let Some(stream) = self.net.streams.get_mut(&session) else { return };
        let (agent, manager) = (stream.agent, stream.manager);
        let passes = !self.net.cut.contains(&(Node::Agent(agent), Node::Manager(manager)));
        if stream.up.dead || !passes {
            stream.up.dead = true;
            self.breaks(session);
            return;
        }
        if !stream.manager_open || self.managers[manager].life != stream.manager_life {
            return;
        }
        let instance = self.agents[agent].id;
        match message {
            Up::Heartbeat(number) => {
                self.tell_leader(manager, LeaderInput::Heartbeat { instance, session, number });
            }
            Up::Report { sequence, reports } => {
                if let Err(what) = self.own(manager, instance, &reports) {
                    // An agent of ours never lies: whoever takes it for a liar loses it for a
                    // while.
                    self.broken("orders", format!("m{} refuses a{agent}: {what}", manager + 1));
                    self.say(&format!("m{} refuses a{agent}: {what}", manager + 1));
                    self.managers[manager].sessions.remove(&instance);
                    self.manager_closes(session, true);
                    self.tell_leader(manager, LeaderInput::Gone { instance, session });
                    return;
                }
                let report = LeaderInput::Report { instance, session, sequence, reports };
                self.tell_leader(manager, report);
            }
        }
    }

    /// As the manager's shell does: a report about a task that is placed elsewhere ends the
    /// session.
    fn own(
        &self,
        manager: usize,
        instance: InstanceId,
        reports: &[TaskReport],
    ) -> Result<(), String> {
        let state = &self.managers[manager].state;
        let foreign = reports.iter().find(|report| {
            let on = state.task(report.task).and_then(|task| task.instance);
            on.is_some_and(|on| on != instance)
        });
        match foreign {
            None => Ok(()),
            Some(report) => Err(format!("task {} is not its own", short(report.task))),
        }
    }

    pub fn hear_down(&mut self, session: SessionId, message: Down) {
        let Some(stream) = self.net.streams.get_mut(&session) else { return };
        let (agent, manager) = (stream.agent, stream.manager);
        let passes = !self.net.cut.contains(&(Node::Manager(manager), Node::Agent(agent)));
        if stream.down.dead || !passes {
            stream.down.dead = true;
            self.breaks(session);
            return;
        }
        if !self.agents[agent].up || self.agents[agent].life != stream.agent_life {
            // The connection is known to be gone: the manager is told.
            self.after(1, 50, Event::ManagerNotices { manager, session });
            return;
        }
        match message {
            Down::Welcome => {
                if self.agents[agent].session.is_some() {
                    self.after(1, 50, Event::ManagerNotices { manager, session });
                    return;
                }
                stream.agent_open = true;
                self.agents[agent].session = Some(session);
                // The attempt is over: nothing of it may end this session.
                self.agents[agent].dial += 1;
                self.tell_worker(agent, WorkerInput::Connected(session));
                self.contact_anew(agent);
                self.after(1600, 2000, Event::Beat { session });
            }
            Down::Orders(orders) if stream.agent_open => self.hear_orders(agent, orders),
            Down::Ack(sequence) if stream.agent_open => {
                self.tell_worker(agent, WorkerInput::Acked { sequence });
            }
            Down::Confirmed(heard) if stream.agent_open => self.confirmed(agent, heard),
            Down::Orders(_) | Down::Ack(_) | Down::Confirmed(_) => {}
        }
    }

    pub fn beat(&mut self, session: SessionId) {
        let open = self.net.streams.get(&session).filter(|s| s.agent_open);
        if let Some(agent) = open.map(|stream| stream.agent) {
            let heartbeat = self.heartbeat(agent);
            self.send_up(session, heartbeat);
            self.after(1600, 2000, Event::Beat { session });
        }
    }

    // ---- ending ----

    /// The agent's end is gone; the manager notices within this many milliseconds.
    pub fn agent_left(&mut self, session: SessionId, high: u64) {
        if let Some(manager) = self.net.streams.get(&session).map(|stream| stream.manager) {
            self.after(1, high, Event::ManagerNotices { manager, session });
        }
    }

    /// Both ends will notice, each when its own patience ends.
    pub fn breaks(&mut self, session: SessionId) {
        let Some(stream) = self.net.streams.get(&session) else { return };
        let manager = stream.manager;
        self.after(200, 15_000, Event::ManagerNotices { manager, session });
        self.after(200, 8000, Event::AgentNotices { session });
    }

    pub fn break_quickly(&mut self, agent: usize) {
        if let Some(session) = self.agents[agent].session {
            self.agent_left(session, 100);
            self.after(1, 100, Event::AgentNotices { session });
        }
    }

    pub fn manager_notices(&mut self, session: SessionId) {
        let Some(stream) = self.net.streams.get_mut(&session) else { return };
        if !std::mem::take(&mut stream.manager_open) {
            return;
        }
        let (agent, manager, life) = (stream.agent, stream.manager, stream.manager_life);
        let instance = self.agents[agent].id;
        let m = &mut self.managers[manager];
        if m.life != life {
            return;
        }
        if m.sessions.get(&instance) == Some(&session) {
            m.sessions.remove(&instance);
        }
        self.tell_leader(manager, LeaderInput::Gone { instance, session });
        self.after(1, 8000, Event::AgentNotices { session });
    }

    /// The manager ends it. `refused`: the agent is told to stay away for a while.
    pub fn manager_closes(&mut self, session: SessionId, refused: bool) {
        let Some(stream) = self.net.streams.get_mut(&session) else { return };
        stream.manager_open = false;
        let (agent, manager) = (stream.agent, stream.manager);
        if refused {
            self.agents[agent].refused = true;
        }
        let quick = self.net.passes(Node::Manager(manager), Node::Agent(agent));
        let high = if quick { 60 } else { 10_000 };
        self.after(1, high, Event::AgentNotices { session });
    }

    pub fn agent_notices(&mut self, session: SessionId) {
        let Some(stream) = self.net.streams.get_mut(&session) else { return };
        let (agent, manager, life) = (stream.agent, stream.manager, stream.agent_life);
        stream.agent_open = false;
        let over = !stream.manager_open;
        if over {
            self.net.streams.remove(&session);
        } else {
            self.after(1, 15_000, Event::ManagerNotices { manager, session });
        }
        let a = &mut self.agents[agent];
        if a.life == life && a.session == Some(session) {
            a.session = None;
            let refused = std::mem::take(&mut a.refused);
            self.tell_worker(agent, WorkerInput::Lost);
            match refused {
                true => self.dial_later(agent, 7500, 15_000),
                false => self.dial_later(agent, 25, 400),
            }
        }
    }
}
