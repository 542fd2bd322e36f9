//! Time and what happens in it: one queue of events, handled one after the other.
//!
//! It decides order only. Each kind of event is handled where its noun lives. Invariant: nothing
//! happens but by an event, and nothing is random but by `dice`.

use super::agent::Agent;
use super::client::Clients;
use super::dice::{Branch, Dice};
use super::faults::{Fault, Faults};
use super::invariants::Observers;
use super::log::Log;
use super::manager::Manager;
use super::net::{Down, Net, Up};
use super::trace::Trace;
use super::{Counts, Outcome, Part, Violation, setting};
use muster_model::dispatch::Held;
use muster_model::{Error, Millis, Response, SessionId, TaskId, Time, limits};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Longest time after the faults in which everything must have come to rest; back-off of services
/// that kept failing comes on top.
pub(super) const HEAL_MAX: Millis = Millis::from_secs(240);
/// From then on no container may run that the cluster does not own.
const ORPHAN_MAX: Millis = Millis::from_secs(60);
/// At rest, this long is watched: longer than a full scan.
pub(super) const REST: Millis = Millis::from_secs(50);

/// More at one millisecond of virtual time is a loop.
const EVENTS_PER_INSTANT_MAX: u64 = 2000;

/// Everything that can happen. Indexes are positions in `World::managers` and `World::agents`;
/// a `life` that is over makes the event void.
#[derive(Debug)]
pub(super) enum Event {
    // the log
    Commit,
    Replicate {
        manager: usize,
    },
    LookAtLeader,
    Elected {
        manager: usize,
        term: u64,
    },
    Deposed {
        manager: usize,
        term: u64,
    },
    Answer {
        manager: usize,
        proposal: u64,
        result: Result<Response, Error>,
    },
    // managers
    Tick {
        manager: usize,
        reign: u64,
        at: Time,
    },
    TakeOver {
        manager: usize,
        life: u64,
    },
    // the network
    Dial {
        agent: usize,
        dial: u64,
    },
    Hello {
        agent: usize,
        dial: u64,
        manager: usize,
        inventory: Vec<Held>,
    },
    DialFailed {
        agent: usize,
        dial: u64,
        leader: Option<usize>,
    },
    Up {
        manager: usize,
        session: SessionId,
        message: Up,
    },
    Down {
        session: SessionId,
        message: Down,
    },
    ManagerNotices {
        manager: usize,
        session: SessionId,
    },
    AgentNotices {
        session: SessionId,
    },
    // agents and their machines
    Beat {
        session: SessionId,
    },
    Wake {
        agent: usize,
        life: u64,
        at: Time,
    },
    Act {
        agent: usize,
        action: u64,
    },
    Exit {
        agent: usize,
        boot: u64,
        task: TaskId,
        container: Arc<str>,
        code: i32,
    },
    /// A shim of a strict task looks whether it may go on.
    LookAtLeash {
        agent: usize,
        boot: u64,
        task: TaskId,
    },
    /// An agent hears that a shim has killed.
    Killed {
        agent: usize,
        task: TaskId,
        container: Arc<str>,
    },
    // users
    Think {
        client: usize,
    },
    Heard {
        client: usize,
        attempt: u64,
        result: Result<Response, Error>,
    },
    // faults
    Strike,
    /// An agent's stream breaks, and both ends see it at once.
    Break {
        agent: usize,
    },
    Ends(Fault),
    Calm,
    Look,
}

pub(super) struct World {
    pub seed: u64,
    pub part: Part,
    pub now: Time,
    queue: BTreeMap<(Time, u64), Event>,
    next: u64,
    /// Events at this very millisecond.
    instant: u64,
    pub dice: Dice,
    pub trace: Trace,
    pub counts: Counts,
    pub log: Log,
    pub net: Net,
    pub managers: Vec<Manager>,
    pub agents: Vec<Agent>,
    pub clients: Clients,
    pub faults: Faults,
    pub observers: Observers,
    /// The faults are over since then.
    pub calm_since: Option<Time>,
    /// It must have come to rest by then.
    heal_until: Time,
    /// At rest since then.
    pub rest_since: Option<Time>,
    pub over: bool,
    pub violation: Option<Violation>,
}

impl World {
    pub fn new(seed: u64, part: Part, print: bool) -> Self {
        let begin = setting::BEGIN;
        let mut world = Self {
            seed,
            part,
            now: begin,
            queue: BTreeMap::new(),
            next: 0,
            instant: 0,
            dice: Dice::new(seed),
            trace: Trace::new(begin, print),
            counts: Counts::default(),
            log: Log::default(),
            net: Net::default(),
            managers: Vec::new(),
            agents: Vec::new(),
            clients: Clients::default(),
            faults: Faults::default(),
            observers: Observers::default(),
            calm_since: None,
            heal_until: begin,
            rest_since: None,
            over: false,
            violation: None,
        };
        world.set_up();
        world
    }

    pub fn live(mut self) -> Outcome {
        while self.violation.is_none() && !self.over {
            let Some(((at, _), event)) = self.queue.pop_first() else {
                self.broken("world", "nothing is left to happen".into());
                break;
            };
            self.pass_time(at, &event);
            if let Some(later) = self.asleep(&event) {
                self.at(later, event);
                continue;
            }
            self.handle(event);
        }
        if self.violation.is_none() {
            self.judge_end();
        }
        Outcome {
            seed: self.seed,
            violation: self.violation,
            counts: self.counts,
            simulated: self.now.since(setting::BEGIN),
            struck: self.faults.struck,
            wished: self.clients.wished,
            hash: self.trace.hash(),
            tail: self.trace.tail(),
        }
    }

    /// Time must pass: a brain that asks to be woken now, again and again, burns a whole core.
    fn pass_time(&mut self, at: Time, event: &Event) {
        self.instant += 1;
        if at > self.now {
            self.now = at;
            self.instant = 0;
        }
        if self.instant > EVENTS_PER_INSTANT_MAX {
            let text: String = format!("{event:?}").chars().take(200).collect();
            self.broken("time", format!("time stands still: {text}"));
        }
    }

    pub fn at(&mut self, time: Time, event: Event) {
        self.next += 1;
        self.queue.insert((time.max(self.now), self.next), event);
    }

    pub fn after(&mut self, low: u64, high: u64, event: Event) {
        let span = self.dice.span(low, high);
        self.at(self.now + span, event);
    }

    /// With luck of its own, so that leaving it out changes no other's.
    pub fn by_own_luck<T>(&mut self, what: Branch, act: impl FnOnce(&mut Self) -> T) -> T {
        let own = Dice::branch(self.seed, what);
        let world = std::mem::replace(&mut self.dice, own);
        let result = act(self);
        self.dice = world;
        result
    }

    pub fn say(&mut self, text: &str) {
        self.trace.line(self.now, text);
    }

    pub fn calm(&self) -> bool {
        self.calm_since.is_some()
    }

    /// The first broken law ends the run.
    pub fn broken(&mut self, law: &'static str, what: String) {
        if self.violation.is_none() {
            self.say(&format!("BROKEN {law}: {what}"));
            self.violation = Some(Violation { law, what });
        }
    }

    pub fn judge(&mut self, law: &'static str, verdict: Result<(), String>) {
        if let Err(what) = verdict {
            self.broken(law, what);
        }
    }

    /// Who is paused hears everything when it goes on, in order.
    fn asleep(&self, event: &Event) -> Option<Time> {
        let manager = match event {
            Event::Replicate { manager }
            | Event::Elected { manager, .. }
            | Event::Deposed { manager, .. }
            | Event::Answer { manager, .. }
            | Event::Tick { manager, .. }
            | Event::TakeOver { manager, .. }
            | Event::Hello { manager, .. }
            | Event::Up { manager, .. }
            | Event::ManagerNotices { manager, .. } => *manager,
            _ => return self.asleep_agent(event),
        };
        self.managers[manager].paused.filter(|until| *until > self.now)
    }

    fn asleep_agent(&self, event: &Event) -> Option<Time> {
        let agent = match event {
            Event::Dial { agent, .. }
            | Event::DialFailed { agent, .. }
            | Event::Wake { agent, .. }
            | Event::Act { agent, .. }
            | Event::Killed { agent, .. }
            | Event::Exit { agent, .. } => *agent,
            Event::Down { session, .. }
            | Event::AgentNotices { session }
            | Event::Beat { session } => self.net.agent_of(*session)?,
            _ => return None,
        };
        let agent = &self.agents[agent];
        agent.paused.filter(|until| agent.up && *until > self.now)
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Commit => self.commit_ready(),
            Event::Replicate { manager } => self.replicate(manager),
            Event::LookAtLeader => self.look_at_leader(),
            Event::Elected { manager, term } => self.elected(manager, term),
            Event::Deposed { manager, term } => self.deposed(manager, term),
            Event::Answer { proposal, result, .. } => self.answer(proposal, result),
            Event::Tick { manager, reign, at } => self.tick(manager, reign, at),
            Event::TakeOver { manager, life } => self.take_over(manager, life),
            Event::Dial { agent, dial } => self.dial(agent, dial),
            Event::Hello { agent, dial, manager, inventory } => {
                self.hello(agent, dial, manager, inventory);
            }
            Event::DialFailed { agent, dial, leader } => self.dial_failed(agent, dial, leader),
            Event::Up { session, message, .. } => self.hear_up(session, message),
            Event::Down { session, message } => self.hear_down(session, message),
            Event::ManagerNotices { session, .. } => self.manager_notices(session),
            Event::AgentNotices { session } => self.agent_notices(session),
            Event::Beat { session } => self.beat(session),
            Event::Wake { agent, life, at } => self.wake_agent(agent, life, at),
            Event::Act { agent, action } => self.act(agent, action),
            Event::Exit { agent, boot, task, container, code } => {
                self.exit(agent, boot, task, &container, Some(code));
            }
            Event::LookAtLeash { agent, boot, task } => self.look_at_leash(agent, boot, task),
            Event::Killed { agent, task, container } => {
                self.hear_of_kill(agent, task, container);
            }
            Event::Think { client } => self.think(client),
            Event::Heard { client, attempt, result } => self.heard(client, attempt, result),
            Event::Strike => self.strike(),
            Event::Break { agent } => self.break_quickly(agent),
            Event::Ends(fault) => self.end_fault(fault),
            Event::Calm => self.calm_down(),
            Event::Look => self.look(),
        }
    }

    /// In the second phase, every second: has it come to rest, and does it stay there?
    fn look(&mut self) {
        let Some(calm) = self.calm_since else { return };
        if self.now.since(calm) >= ORPHAN_MAX {
            self.judge_orphans();
        }
        // An agent that was cut off until then may be missed yet, though it is on its way back.
        let missed = self.now.since(calm) < limits::LEASE;
        let early = || missed.then(|| "a lease of before may run out".to_owned());
        let unrest = self.unrest().or_else(early);
        match (self.rest_since, unrest) {
            (None, None) => {
                self.rest_since = Some(self.now);
                self.counts.healed_ms = self.now.since(calm).0;
                self.say("at rest");
            }
            (None, Some(why)) => {
                self.heal_until = self.heal_until.max(self.heals_by(calm));
                if self.now > self.heal_until {
                    let span = self.now.since(calm);
                    self.broken("heals", format!("{span} after the faults: {why}"));
                }
            }
            (Some(_), Some(why)) => self.broken("heals", format!("was at rest, and then: {why}")),
            (Some(since), None) => self.over = self.now.since(since) > REST,
        }
        self.at(self.now + Millis::from_secs(1), Event::Look);
    }
}

/// The last digits of an id: enough to follow it through a trace. The first ones are a time.
pub(super) fn short(id: impl ToString) -> String {
    let id = id.to_string();
    id.get(id.len().saturating_sub(6)..).unwrap_or_default().to_owned()
}
