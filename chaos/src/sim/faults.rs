//! What goes wrong, and for how long. Every fault has an end; after the last one everything must
//! heal.
//!
//! New kinds of faults are added here: a row in `KINDS`, how it begins and how it ends.

use super::client::STAGE_MAX;
use super::dice::Branch;
use super::net::Node;
use super::setting::ZONES;
use super::world::{Event, HEAL_MAX, World};
use muster_model::limits::ALARM_BAKE;
use muster_model::{Millis, Time};

/// The first phase lasts between these.
pub(super) const SAFETY_MIN: Millis = Millis::from_secs(60);
pub(super) const SAFETY_MAX: Millis = Millis::from_secs(150);

/// A fault under way: what must be undone.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    ManagerDown(usize),
    AgentDown(usize),
    HostDown(usize),
    DiskLost(usize),
    Cut(Vec<(Node, Node)>),
    Storm,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    ManagerCrash,
    AllManagersCrash,
    ManagerPause,
    /// A follower comes back with an empty disk, as another member.
    DiskLoss,
    /// A manager applies what is committed late.
    SlowApply,
    LeadershipMoves,
    ManagerCutOff,
    ManagerDeaf,
    ManagersApart,
    /// The leader is cut off from its followers, and agents wander between it and the next one.
    SplitBrain,
    SessionBreaks,
    AgentKill,
    AgentPause,
    AgentCutOff,
    AgentSilent,
    AgentDeaf,
    HostCrash,
    ZoneLoss,
    ZoneCutOff,
    /// Every message is late; some come twice, overtake each other, or are lost.
    Storm,
}

/// How often each kind strikes, relative to the others.
const KINDS: [(Kind, u64); 20] = [
    (Kind::ManagerCrash, 10),
    (Kind::AllManagersCrash, 1),
    (Kind::ManagerPause, 8),
    (Kind::DiskLoss, 4),
    (Kind::SlowApply, 6),
    (Kind::LeadershipMoves, 12),
    (Kind::ManagerCutOff, 8),
    (Kind::ManagerDeaf, 4),
    (Kind::ManagersApart, 8),
    (Kind::SplitBrain, 8),
    (Kind::SessionBreaks, 12),
    (Kind::AgentKill, 12),
    (Kind::AgentPause, 6),
    (Kind::AgentCutOff, 8),
    (Kind::AgentSilent, 5),
    (Kind::AgentDeaf, 5),
    (Kind::HostCrash, 8),
    (Kind::ZoneLoss, 2),
    (Kind::ZoneCutOff, 2),
    (Kind::Storm, 6),
];

#[derive(Debug, Default)]
pub(super) struct Faults {
    under_way: Vec<Fault>,
    /// The number of the next.
    next: u64,
    pub struck: Vec<u64>,
}

impl World {
    pub fn strike(&mut self) {
        if self.calm() {
            return;
        }
        let number = self.faults.next;
        self.faults.next += 1;
        self.by_own_luck(Branch::Fault { number }, |world| world.strike_one(number));
    }

    fn strike_one(&mut self, number: u64) {
        self.after(1000, 9000, Event::Strike);
        if self.part.no_faults.contains(&number) {
            return;
        }
        self.faults.struck.push(number);
        let all: u64 = KINDS.iter().map(|(_, weight)| weight).sum();
        let mut left = self.dice.below(all);
        for (kind, weight) in KINDS {
            if left < weight {
                self.counts.faults += 1;
                return self.begin(kind);
            }
            left -= weight;
        }
    }

    #[allow(clippy::too_many_lines)] // one arm per kind of fault
    fn begin(&mut self, kind: Kind) {
        let manager = self.dice.below(self.managers.len() as u64) as usize;
        // Mostly where it hurts.
        let leader = self.log.leader.filter(|_| self.dice.percent(60)).unwrap_or(manager);
        let number = self.faults.struck.last().copied().unwrap_or_default();
        self.say(&format!("fault {number}: {kind:?}"));
        match kind {
            Kind::ManagerCrash => self.manager_down(leader),
            Kind::AllManagersCrash => {
                for manager in 0..self.managers.len() {
                    self.manager_down(manager);
                }
            }
            Kind::ManagerPause => {
                let until = self.now + self.dice.span(100, 12_000);
                let m = &mut self.managers[leader];
                m.paused = Some(m.paused.map_or(until, |old| old.max(until)));
            }
            Kind::DiskLoss => self.lose_disk(manager),
            Kind::SlowApply => {
                let until = self.now + self.dice.span(500, 8000);
                self.managers[manager].applies_after = until;
            }
            Kind::LeadershipMoves => self.elect(),
            Kind::ManagerCutOff => {
                let (managers, agents) = (self.manager_nodes(), self.agent_nodes(None));
                let mut cuts = both_ways(&[Node::Manager(leader)], &managers);
                // Its agents stay with it, some of the time.
                if self.dice.percent(40) {
                    cuts.extend(both_ways(&[Node::Manager(leader)], &agents));
                }
                self.cut(cuts);
            }
            Kind::ManagerDeaf => {
                let managers = self.manager_nodes();
                self.cut(one_way(&managers, &[Node::Manager(leader)]));
            }
            Kind::ManagersApart => {
                let other = (leader + 1) % self.managers.len();
                self.cut(both_ways(&[Node::Manager(leader)], &[Node::Manager(other)]));
            }
            Kind::SplitBrain => {
                let managers = self.manager_nodes();
                self.cut(both_ways(&[Node::Manager(leader)], &managers));
                for agent in 0..self.agents.len() {
                    for _ in 0..3 {
                        self.after(500, 15_000, Event::Break { agent });
                    }
                }
            }
            _ => self.begin_at_agents(kind),
        }
    }

    fn begin_at_agents(&mut self, kind: Kind) {
        let agent = self.dice.below(self.agents.len() as u64) as usize;
        let zone = self.dice.below(ZONES.len() as u64) as usize;
        match kind {
            Kind::SessionBreaks => {
                if let Some(session) = self.agents[agent].session {
                    self.breaks(session);
                }
            }
            Kind::AgentKill => {
                self.kill_agent(agent);
                // Now and then for longer than what it runs may be without it.
                let high = if self.dice.percent(25) { 45_000 } else { 9000 };
                self.lasts(10, high, Fault::AgentDown(agent));
            }
            Kind::AgentPause => {
                let until = self.now + self.dice.span(100, 20_000);
                let a = &mut self.agents[agent];
                a.paused = Some(a.paused.map_or(until, |old| old.max(until)));
            }
            Kind::Storm => {
                self.net.storms += 1;
                self.lasts(2000, 20_000, Fault::Storm);
            }
            Kind::AgentCutOff => {
                let managers = self.manager_nodes();
                self.cut(both_ways(&[Node::Agent(agent)], &managers));
            }
            Kind::AgentSilent => {
                let managers = self.manager_nodes();
                self.cut(one_way(&[Node::Agent(agent)], &managers));
            }
            Kind::AgentDeaf => {
                let managers = self.manager_nodes();
                self.cut(one_way(&managers, &[Node::Agent(agent)]));
            }
            Kind::HostCrash => self.host_down(agent),
            Kind::ZoneLoss => {
                let here = |a: &usize| self.agents[*a].zone == zone;
                let agents: Vec<usize> = (0..self.agents.len()).filter(here).collect();
                for agent in agents {
                    self.host_down(agent);
                }
                self.manager_down(zone);
            }
            Kind::ZoneCutOff => {
                let mut inside = self.agent_nodes(Some(zone));
                inside.push(Node::Manager(zone));
                let mut outside = self.agent_nodes(None);
                outside.extend(self.manager_nodes());
                outside.retain(|node| !inside.contains(node));
                self.cut(both_ways(&inside, &outside));
            }
            _ => {}
        }
    }

    fn lasts(&mut self, low: u64, high: u64, fault: Fault) {
        self.faults.under_way.push(fault.clone());
        self.after(low, high, Event::Ends(fault));
    }

    fn manager_down(&mut self, manager: usize) {
        if self.managers[manager].alive {
            self.crash_manager(manager);
            self.lasts(100, 15_000, Fault::ManagerDown(manager));
        }
    }

    /// Only where the others still make a majority, as an operator would see to.
    fn lose_disk(&mut self, manager: usize) {
        let others = (0..self.managers.len()).filter(|m| *m != manager);
        let well = others.into_iter().all(|m| self.managers[m].awake(self.now));
        let leads = self.log.leader == Some(manager);
        if well && !leads && self.managers[manager].alive {
            self.crash_manager(manager);
            self.lasts(500, 12_000, Fault::DiskLost(manager));
        }
    }

    fn host_down(&mut self, agent: usize) {
        if self.agents[agent].host {
            self.crash_host(agent);
            self.lasts(1000, 40_000, Fault::HostDown(agent));
        }
    }

    fn cut(&mut self, links: Vec<(Node, Node)>) {
        for (from, to) in &links {
            self.net.cut(*from, *to);
        }
        self.lasts(500, 25_000, Fault::Cut(links));
    }

    fn manager_nodes(&self) -> Vec<Node> {
        (0..self.managers.len()).map(Node::Manager).collect()
    }

    fn agent_nodes(&self, zone: Option<usize>) -> Vec<Node> {
        let here = |a: &usize| zone.is_none_or(|zone| self.agents[*a].zone == zone);
        (0..self.agents.len()).filter(here).map(Node::Agent).collect()
    }

    pub fn end_fault(&mut self, fault: Fault) {
        match fault {
            Fault::ManagerDown(manager) => self.start_manager(manager),
            Fault::DiskLost(manager) => self.replace_disk(manager),
            Fault::Storm => self.net.storms = self.net.storms.saturating_sub(1),
            Fault::AgentDown(agent) => self.start_agent(agent),
            Fault::HostDown(agent) => self.start_host(agent),
            Fault::Cut(links) => {
                for (from, to) in links {
                    self.net.mend(from, to);
                }
            }
        }
    }

    /// The second phase begins: users stop, faults end, sick containers are well.
    pub fn calm_down(&mut self) {
        self.say("the faults are over");
        self.calm_since = Some(self.now);
        for fault in std::mem::take(&mut self.faults.under_way) {
            self.end_fault(fault);
        }
        self.net.mend_all();
        self.at(self.now + Millis::from_secs(1), Event::Look);
    }

    /// When everything must have healed: services that kept failing wait for their back-off.
    pub fn heals_by(&self, calm: Time) -> Time {
        let state = self.log.state();
        let backoff = state.services().map(|s| s.backoff.until).max().unwrap_or_default();
        let entered = state.shifts().map(|shift| shift.entered_at + STAGE_MAX);
        // As whole as it gets by then, it is watched on.
        let watched = state.services().any(|row| row.spec.alarms.enable);
        let bake = if watched { ALARM_BAKE } else { Millis(0) };
        let goes_on = state.schedules().filter(|row| row.next_due.is_some());
        let scheduled = goes_on.filter_map(|row| row.spec.end).max().unwrap_or_default();
        let jobs = state.jobs().filter(|row| row.end.is_none());
        let over = jobs.filter_map(|row| row.deadline()).max().unwrap_or_default();
        let entered = entered.max().unwrap_or_default();
        calm.max(backoff).max(entered).max(scheduled).max(over) + bake + HEAL_MAX
    }
}

fn one_way(from: &[Node], to: &[Node]) -> Vec<(Node, Node)> {
    from.iter().flat_map(|a| to.iter().map(move |b| (*a, *b))).filter(|(a, b)| a != b).collect()
}

fn both_ways(one: &[Node], other: &[Node]) -> Vec<(Node, Node)> {
    let mut links = one_way(one, other);
    links.extend(one_way(other, one));
    links
}
