//! Who may act: managers that believe they lead, their takeovers and plans on the way into one log.
//!
//! It abstracts `node/manager/src/lead.rs` (a term won is not a reign until its own `Takeover` is
//! applied here), `node/control/src/leader.rs` (one plan in flight; an unknown outcome is settled
//! by an empty plan behind it), `raft/store/src/batch.rs` (proposals enter the log in their order)
//! and `raft/model/src/apply/plan.rs` (a plan of another epoch is refused). Consensus is taken for
//! granted: one log, entries appended one by one; but any entry may be late by any time, or lost,
//! and two managers may believe that they lead.
//!
//! The state is one service of two tasks whose floor is one, so a right plan stops at most one of
//! them. P3 and P5: without these guards two plans, each right for itself, stop both, and the
//! service is down by the managers' own doing.

use super::{Guard, Guarded, Size};
use stateright::{Model, Property};

const EPOCH: usize = 0;
const OWN_TAKEOVER: usize = 1;
const EACH_TERM: usize = 2;
const ONE_PLAN: usize = 3;
const SETTLED: usize = 4;
const IN_ORDER: usize = 5;

const MANAGERS: usize = 2;

#[derive(Clone, Debug)]
pub struct Takeover {
    without: Option<usize>,
    terms: u8,
    plans: u8,
    unknown: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Entry {
    Takeover {
        term: u8,
    },
    /// `stop: None` is the empty plan that settles an unknown one.
    Plan {
        epoch: u8,
        stop: Option<u8>,
    },
}

/// On its way into the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Proposal {
    term: u8,
    number: u8,
    entry: Entry,
}

/// A manager that believes it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Reign {
    term: u8,
    /// Known once its takeover is in the log.
    epoch: Option<u8>,
    /// Number of the proposal that must be seen before the next plan.
    waits_for: Option<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Manager {
    /// Entries of the log that it has applied.
    applied: usize,
    reign: Option<Reign>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    log: Vec<(u8, Entry)>,
    wire: Vec<Proposal>,
    managers: [Manager; MANAGERS],
    terms: u8,
    plans: u8,
    unknown: u8,
    next: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Elect(usize),
    Commit(usize, u8, Entry),
    Lose(usize, u8, Entry),
    Apply(usize),
    Plan(usize, u8),
    Unknown(usize),
}

/// What the log comes to after its first entries.
struct Applied {
    epoch: u8,
    wanted: [bool; 2],
    refused: bool,
}

impl Takeover {
    fn on(&self, guard: usize) -> bool {
        self.without != Some(guard)
    }

    fn applied(&self, log: &[(u8, Entry)]) -> Applied {
        let mut state = Applied { epoch: 0, wanted: [true; 2], refused: false };
        for (index, (_, entry)) in (1u8..).zip(log) {
            match *entry {
                Entry::Takeover { .. } => state.epoch = index,
                Entry::Plan { epoch, .. } if epoch != state.epoch && self.on(EPOCH) => {
                    state.refused = true;
                }
                Entry::Plan { stop: Some(task), .. } => state.wanted[usize::from(task)] = false,
                Entry::Plan { stop: None, .. } => {}
            }
        }
        state
    }

    /// Whether this manager may plan now, and in which epoch.
    fn may_plan(&self, state: &State, manager: &Manager) -> Option<u8> {
        let reign = manager.reign?;
        let epoch = reign.epoch?;
        let seen = self.applied(&state.log[..manager.applied]).epoch;
        // `learn`: it falls silent once it sees a later epoch.
        if seen > epoch || (seen != epoch && self.on(OWN_TAKEOVER)) {
            return None;
        }
        (reign.waits_for.is_none() || !self.on(ONE_PLAN)).then_some(epoch)
    }

    fn propose(state: &mut State, term: u8, entry: Entry) -> u8 {
        let number = state.next;
        state.next += 1;
        state.wire.push(Proposal { term, number, entry });
        number
    }

    fn elect(&self, state: &mut State, who: usize) {
        state.terms += 1;
        let term = state.terms;
        let view = self.applied(&state.log[..state.managers[who].applied]);
        let mine = state.log.iter().rev().find_map(|(_, entry)| match entry {
            Entry::Takeover { term } => Some(usize::from(*term) % MANAGERS == who),
            Entry::Plan { .. } => None,
        });
        // Without the guard a manager that leads again goes on in the epoch that it knows as its
        // own.
        let goes_on = !self.on(EACH_TERM) && mine == Some(true) && view.epoch > 0;
        let epoch = goes_on.then_some(view.epoch);
        if !goes_on {
            Self::propose(state, term, Entry::Takeover { term });
        }
        state.managers[who].reign = Some(Reign { term, epoch, waits_for: None });
    }

    fn commit(&self, state: &mut State, at: usize) {
        let proposal = state.wire.remove(at);
        state.log.push((proposal.number, proposal.entry));
        let index = state.log.len() as u8;
        if let Entry::Takeover { term } = proposal.entry {
            for manager in &mut state.managers {
                if let Some(reign) = manager.reign.as_mut().filter(|r| r.term == term) {
                    reign.epoch = Some(index);
                }
            }
        }
    }
}

impl Guarded for Takeover {
    const NAME: &'static str = "takeover";
    const GUARDS: &'static [Guard] = &[
        Guard {
            name: "a plan of another epoch is refused",
            code: "raft/model/src/apply/plan.rs",
            loses: "P3: what an old leader decided takes effect beside what the new one decided",
        },
        Guard {
            name: "a leader plans only on a state that shows its own takeover",
            code: "node/control/src/leader.rs send_plan, node/manager/src/lead.rs take_over",
            loses: "P5: a new leader repeats what it has not yet seen the old one do",
        },
        Guard {
            name: "each term won takes over anew",
            code: "node/manager/src/lead.rs follow",
            loses: "P3: a manager that leads again is overtaken by its own forgotten plan",
        },
        Guard {
            name: "one plan in flight",
            code: "node/control/src/leader.rs send_plan, close_plan",
            loses: "P5: two plans made on one state stop twice what one may stop",
        },
        Guard {
            name: "an unknown outcome is settled by an empty plan behind it",
            code: "node/control/src/leader.rs plan_answered",
            loses: "P5: a plan taken for lost is committed after the next one",
        },
        Guard {
            name: "a leader's plans enter the log in the order of their proposal",
            code: "raft/store/src/batch.rs, raft/store/src/raft.rs propose",
            loses: "P5: the empty plan settles nothing, the unknown one comes after it",
        },
    ];

    fn new(size: Size, without: Option<usize>) -> Self {
        match size {
            Size::Small => Self { without, terms: 3, plans: 2, unknown: 1 },
            Size::Full => Self { without, terms: 4, plans: 3, unknown: 1 },
        }
    }
}

impl Model for Takeover {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            log: Vec::new(),
            wire: Vec::new(),
            managers: [Manager::default(); MANAGERS],
            terms: 0,
            plans: 0,
            unknown: 0,
            next: 0,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        // Terms go round, so that a term says whose it is.
        if state.terms < self.terms {
            let next = usize::from(state.terms + 1) % MANAGERS;
            actions.push(Action::Elect(next));
        }
        for (at, proposal) in state.wire.iter().enumerate() {
            let earlier =
                |other: &Proposal| other.term == proposal.term && other.number < proposal.number;
            if !self.on(IN_ORDER) || !state.wire.iter().any(earlier) {
                actions.push(Action::Commit(at, proposal.term, proposal.entry));
            }
            actions.push(Action::Lose(at, proposal.term, proposal.entry));
        }
        for (who, manager) in state.managers.iter().enumerate() {
            if manager.applied < state.log.len() {
                actions.push(Action::Apply(who));
            }
            if self.may_plan(state, manager).is_some() && state.plans < self.plans {
                let wanted = self.applied(&state.log[..manager.applied]).wanted;
                // Above the floor of one: either of two may go.
                if wanted == [true, true] {
                    actions.extend([Action::Plan(who, 0), Action::Plan(who, 1)]);
                }
            }
            let waits = manager.reign.is_some_and(|reign| reign.waits_for.is_some());
            if waits && state.unknown < self.unknown {
                actions.push(Action::Unknown(who));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Elect(who) => self.elect(&mut state, who),
            Action::Commit(at, ..) => self.commit(&mut state, at),
            Action::Lose(at, ..) => {
                state.wire.remove(at);
            }
            Action::Apply(who) => {
                let (number, _) = state.log[state.managers[who].applied];
                let manager = &mut state.managers[who];
                manager.applied += 1;
                if let Some(reign) = &mut manager.reign
                    && reign.waits_for == Some(number)
                {
                    reign.waits_for = None;
                }
            }
            Action::Plan(who, task) => {
                state.plans += 1;
                let epoch = self.may_plan(&state, &state.managers[who])?;
                let term = state.managers[who].reign?.term;
                let entry = Entry::Plan { epoch, stop: Some(task) };
                let number = Self::propose(&mut state, term, entry);
                state.managers[who].reign.as_mut()?.waits_for = Some(number);
            }
            Action::Unknown(who) => {
                state.unknown += 1;
                let reign = state.managers[who].reign?;
                let mut waits_for = None;
                if self.on(SETTLED) {
                    let entry = Entry::Plan { epoch: reign.epoch?, stop: None };
                    waits_for = Some(Self::propose(&mut state, reign.term, entry));
                }
                state.managers[who].reign.as_mut()?.waits_for = waits_for;
            }
        }
        Some(state)
    }

    fn format_action(&self, action: &Action) -> String {
        match action {
            Action::Elect(who) => {
                format!("manager {who} wins an election and proposes its takeover")
            }
            Action::Commit(_, term, entry) => format!("committed, from term {term}: {entry:?}"),
            Action::Lose(_, term, entry) => format!("lost, from term {term}: {entry:?}"),
            Action::Apply(who) => format!("manager {who} applies the next entry of the log"),
            Action::Plan(who, task) => format!("manager {who} plans to stop task {task}"),
            Action::Unknown(who) => format!("manager {who} hears that its plan's fate is unknown"),
        }
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "a service keeps its minimum healthy tasks",
                |model, state: &State| model.applied(&state.log).wanted.contains(&true),
            ),
            Property::sometimes("a plan takes effect", |model, state: &State| {
                model.applied(&state.log).wanted.contains(&false)
            }),
            Property::sometimes("a late plan is refused", |model, state: &State| {
                !model.on(EPOCH) || model.applied(&state.log).refused
            }),
        ]
    }
}
