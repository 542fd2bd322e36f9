//! How orders reach an agent and its news come back: sessions, complete sets and changes, reports
//! and acknowledgements, with crashes, broken streams, late copies and two leaders at once.
//!
//! The agent's brain is the real `Worker` (`assign/agent.rs`); leaders (`assign/leader.rs`) and the
//! committed rows (`assign/rows.rs`) are small and name the code that they mirror. One instance,
//! two tasks, one order in a message. What comes down a stream keeps its order, and is lost when
//! the stream breaks; what goes up is read at once, waits to be committed, and may be lost until
//! then. A copy of an order may turn up at any later time, in a later session or a later life of
//! the agent, only not between Hello and its answer: that is more than `node/agent/src/session.rs`
//! lets happen, which has one stream at a time. A guard of the worker that is left out is imitated
//! outside of it: what it would refuse reaches it as if it were new.
//!
//! P2, P3, P4: nothing is stopped that the committed state wants, nothing is started twice or after
//! its end was recorded, and when nobody has anything left to do, machine and committed state
//! agree. Each step uses up a fault, a wish or a message, so every history comes to such a rest:
//! what holds there holds eventually.

mod agent;
mod leader;
mod rows;

use super::{Guard, Guarded, Size};
use agent::{Agent, Deed, Life};
use leader::Leader;
use muster_control::io::WorkerInput;
use muster_model::SessionId;
use rows::{Entry, Verb, Wish, Word, applied};
use stateright::{Model, Property};

const EPOCH: usize = 0;
const REVISION: usize = 1;
const PERSISTED: usize = 2;
const ABSENCE: usize = 3;
const BY_ID: usize = 4;
const COMPLETE: usize = 5;
const COMMITTED: usize = 6;
const OWN_ACKS: usize = 7;
const OWN_ORDERS: usize = 8;
const CONFIRMED: usize = 9;

#[derive(Clone, Debug)]
pub struct Assign {
    without: Option<usize>,
    wishes: u8,
    faults: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Down {
    Orders(Word),
    Ack(u64),
}

/// The agent's open session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Session {
    leader: usize,
    /// On its way to the agent.
    down: Vec<Down>,
    /// Its complete set has begun to arrive.
    begun: bool,
    /// Ended by its leader; the agent has not heard of it yet.
    ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Wrong {
    Killed,
    Twice,
    Revived,
}

#[derive(Clone, Debug, PartialEq, Hash)]
pub struct State {
    log: Vec<Entry>,
    leaders: [Option<Leader>; 2],
    agent: Agent,
    session: Option<Session>,
    /// A copy of a message that is still on its way.
    late: Option<Down>,
    wishes: u8,
    faults: u8,
    wrong: Option<Wrong>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    // What must go on.
    Connect(usize),
    Hear,
    Lost,
    Learn(usize, u8),
    Commit(usize),
    Act(u8),
    // What may happen.
    Wish(Wish, u8),
    TakeOver,
    Exit(u8),
    Break { sent: bool },
    Crash { sent: bool },
    Unknown(usize),
    Copy,
    Late,
}

impl State {
    fn agrees(&self) -> bool {
        self.agent.agrees(&applied(&self.log).0)
    }
}

impl Assign {
    fn on(&self, guard: usize) -> bool {
        self.without != Some(guard)
    }

    /// Everything that somebody still has to do.
    fn open_ends(&self, state: &State) -> Vec<Action> {
        let mut open = Vec::new();
        let last = state.log.len() as u8;
        for (who, leader) in state.leaders.iter().enumerate() {
            let Some(leader) = leader else { continue };
            if leader.applied < last {
                open.push(Action::Learn(who, last));
            }
            // It may skip states, and does where nobody would hear of them.
            let speaks = state.session.as_ref().is_some_and(|open| open.leader == who);
            if leader.applied + 1 < last && speaks {
                open.push(Action::Learn(who, leader.applied + 1));
            }
            if leader.has_news() {
                open.push(Action::Commit(who));
            }
            if state.session.is_none() {
                open.push(Action::Connect(who));
            }
        }
        if let Some(session) = &state.session {
            if !session.down.is_empty() {
                open.push(Action::Hear);
            }
            if session.ended {
                open.push(Action::Lost);
            }
        }
        for (task, acts) in (0u8..).zip(&state.agent.acts) {
            if !acts.is_empty() {
                open.push(Action::Act(task));
            }
        }
        open
    }

    fn mishaps(&self, state: &State, actions: &mut Vec<Action>) {
        actions.push(Action::Crash { sent: true });
        if let Some(session) = &state.session {
            actions.push(Action::Break { sent: true });
            if state.leaders[session.leader].as_ref().is_some_and(Leader::has_news) {
                // What was sent before a break may not have arrived.
                actions.push(Action::Break { sent: false });
                actions.push(Action::Crash { sent: false });
            }
            let copied = match session.down.first() {
                Some(Down::Orders(_)) => true,
                Some(Down::Ack(_)) => !self.on(OWN_ACKS),
                None => false,
            };
            if state.late.is_none() && copied {
                actions.push(Action::Copy);
            }
        }
        for (who, leader) in state.leaders.iter().enumerate() {
            if leader.as_ref().is_some_and(Leader::has_news) {
                actions.push(Action::Unknown(who));
            }
        }
        for (task, hold) in (0u8..).zip(state.agent.holds) {
            if hold.is_some_and(|hold| hold.life == Life::Running) {
                actions.push(Action::Exit(task));
            }
        }
    }

    /// Where a bug takes many steps, only what leads there happens.
    fn happens(&self, chance: &Action) -> bool {
        use Action::{Break, Copy, Wish};
        let lost = matches!(chance, Wish(rows::Wish::Abandon | rows::Wish::Forget, 0));
        match self.without {
            Some(BY_ID) => lost || matches!(chance, Break { .. }),
            Some(OWN_ACKS) => lost || matches!(chance, Break { .. } | Copy),
            Some(OWN_ORDERS) => lost || matches!(chance, Copy),
            _ => true,
        }
    }

    // ---- the agent ----

    fn perform(&self, state: &mut State, deeds: Vec<Deed>) {
        let (rows, _) = applied(&state.log);
        let row = |task: u8| rows[usize::from(task)];
        for deed in deeds {
            let wrong = match deed {
                Deed::Report(sequence, reports) => {
                    // Nobody reads what is said to a leader that has fallen silent.
                    let to = state.session.as_ref().map(|session| session.leader);
                    to.and_then(|who| self.read(state, who, sequence, reports));
                    None
                }
                Deed::Started(task) if state.agent.starts[usize::from(task)] > 1 => {
                    Some(Wrong::Twice)
                }
                Deed::Started(task) => row(task).filter(|row| row.ended()).map(|_| Wrong::Revived),
                Deed::Signalled(task) => {
                    row(task).filter(|row| row.wanted()).map(|_| Wrong::Killed)
                }
            };
            state.wrong = state.wrong.or(wrong);
        }
    }

    fn obey(&self, state: &mut State, mut word: Word) {
        let (epoch, revision) = state.agent.obeyed();
        if word.epoch < epoch && !self.on(EPOCH) {
            (word.epoch, word.revision) = (epoch, revision);
        }
        if word.epoch == epoch && word.revision < revision && !self.on(REVISION) {
            word.revision = revision;
        }
        let mut words = vec![word];
        if word.complete && (word.epoch, word.revision) >= (epoch, revision) && !self.on(ABSENCE) {
            let named = word.order.map(|(_, task)| task);
            let absent = state.agent.inventory().into_iter().filter(|task| Some(*task) != named);
            let stop = |task| Word { order: Some((Verb::Stop, task)), complete: false, ..word };
            words.extend(absent.map(stop));
        }
        let deeds = state.agent.hear(&words);
        self.perform(state, deeds);
    }

    fn hear(&self, state: &mut State, said: Down) {
        match said {
            Down::Orders(word) => self.obey(state, word),
            Down::Ack(sequence) => {
                let deeds = state.agent.tell(WorkerInput::Acked { sequence });
                self.perform(state, deeds);
            }
        }
    }

    fn connect(&self, state: &mut State, who: usize) -> Option<()> {
        let inventory = state.agent.inventory();
        let (down, begun, ended) = (Vec::new(), false, false);
        state.session = Some(Session { leader: who, down, begun, ended });
        self.welcome(state, who, &inventory)?;
        // The worker only remembers that there is one.
        let deeds = state.agent.tell(WorkerInput::Connected(SessionId::from_bits(0)));
        self.perform(state, deeds);
        Some(())
    }

    /// The session is over for the agent; what it sent last may still arrive.
    fn leave(&self, state: &mut State, sent: bool) {
        let Some(session) = state.session.take() else { return };
        leader::hang_up(state, &session, sent);
        let deeds = state.agent.tell(WorkerInput::Lost);
        self.perform(state, deeds);
    }

    fn crash(&self, state: &mut State, sent: bool) {
        self.leave(state, sent);
        let obeyed = if self.on(PERSISTED) { state.agent.obeyed() } else { (0, 0) };
        let deeds = state.agent.restart(obeyed);
        self.perform(state, deeds);
        if self.on(CONFIRMED) {
            return;
        }
        let (epoch, revision) = state.agent.obeyed();
        for (task, hold) in (0u8..).zip(state.agent.holds) {
            if hold.is_some_and(|hold| hold.life == Life::Begun) {
                let order = Some((Verb::Run, task));
                let deeds = state.agent.hear(&[Word { epoch, revision, complete: false, order }]);
                self.perform(state, deeds);
            }
        }
    }
}

impl Guarded for Assign {
    const NAME: &'static str = "assign";
    const GUARDS: &'static [Guard] = &[
        Guard {
            name: "an order of a lower epoch is refused",
            code: "node/control/src/worker.rs obey",
            loses: "P3: a leader that was replaced stops what its successor has started",
        },
        Guard {
            name: "an order of a lower revision is refused",
            code: "node/control/src/worker.rs obey",
            loses: "P4: a late order starts a task again that has ended",
        },
        Guard {
            name: "what was obeyed is remembered when the agent crashes",
            code: "node/agent/src/drive/obeyed.rs",
            loses: "P3: an agent that starts again obeys a leader that was replaced",
        },
        Guard {
            name: "nothing is inferred from absence",
            code: "node/control/src/worker.rs obey",
            loses: "P2: a healthy container is stopped because a message did not name it",
        },
        Guard {
            name: "what an agent lists is answered by id",
            code: "node/control/src/leader/assign.rs answer",
            loses: "P4: what nobody remembers any more stays on its machine for ever",
        },
        Guard {
            name: "a session begins with the complete set",
            code: "node/control/src/leader/assign.rs hello",
            loses: "P4: an order given between two sessions is never carried out",
        },
        Guard {
            name: "a report is acknowledged after its commit",
            code: "node/control/src/leader/outbox.rs answered",
            loses: "P4: an end is lost with its leader, and the task counts as running for ever",
        },
        Guard {
            name: "an acknowledgement counts in its own session only",
            code: "node/agent/src/session.rs run, node/control/src/worker/report.rs lost",
            loses: "P4: an old acknowledgement stands for a report that never arrived",
        },
        Guard {
            name: "an older stream is over before the next begins",
            code: "node/agent/src/session.rs run",
            loses: "P4: a late order starts a task that the inventory did not list: it is orphaned",
        },
        Guard {
            name: "what was begun before a restart goes on only if a manager says so",
            code: "node/control/src/worker/task.rs resume",
            loses: "P4: a task starts after its end was recorded, beside its replacement",
        },
    ];

    fn new(size: Size, without: Option<usize>) -> Self {
        let (wishes, faults) = match (without, size) {
            // Each bug is looked for in a smallest world that has it.
            (Some(BY_ID | OWN_ORDERS), _) => (2, 1),
            (Some(OWN_ACKS), _) => (1, 2),
            (Some(_), _) | (None, Size::Small) => (1, 1),
            (None, Size::Full) => (2, 1),
        };
        Self { without, wishes, faults }
    }
}

impl Model for Assign {
    type State = State;
    type Action = Action;

    /// One task is placed, and the agent has not connected yet.
    fn init_states(&self) -> Vec<State> {
        vec![State {
            log: vec![Entry::Wish(Wish::Place, 0), Entry::Takeover],
            leaders: [Some(Leader::new(2)), None],
            agent: Agent::new(),
            session: None,
            late: None,
            wishes: 0,
            faults: 0,
            wrong: None,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.wrong.is_some() {
            return;
        }
        actions.extend(self.open_ends(state));
        let mut chances = Vec::new();
        if state.wishes < self.wishes {
            let wishes = rows::wishes(&state.log).into_iter();
            chances.extend(wishes.map(|(wish, task)| Action::Wish(wish, task)));
        }
        if state.faults < self.faults {
            self.mishaps(state, &mut chances);
        }
        actions.extend(chances.into_iter().filter(|chance| self.happens(chance)));
        let takeovers = state.log.iter().filter(|entry| **entry == Entry::Takeover).count();
        if takeovers < state.leaders.len() {
            actions.push(Action::TakeOver);
        }
        // Between Hello and the complete set an older stream must not be heard.
        let opening = state.session.as_ref().is_some_and(|session| !session.begun);
        if state.late.is_some() && (!opening || !self.on(OWN_ORDERS)) {
            actions.push(Action::Late);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Connect(who) => self.connect(&mut state, who)?,
            Action::Hear => {
                let session = state.session.as_mut()?;
                let said = session.down.remove(0);
                session.begun |= matches!(said, Down::Orders(_));
                self.hear(&mut state, said);
            }
            Action::Lost => self.leave(&mut state, false),
            Action::Learn(who, to) => self.learn(&mut state, who, to)?,
            Action::Commit(who) => self.commit(&mut state, who, true)?,
            Action::Act(task) => {
                let deeds = state.agent.act(task);
                self.perform(&mut state, deeds);
            }
            Action::Wish(wish, task) => {
                state.wishes += 1;
                state.log.push(Entry::Wish(wish, task));
            }
            Action::TakeOver => {
                state.log.push(Entry::Takeover);
                state.leaders[1] = Some(Leader::new(state.log.len() as u8));
            }
            Action::Late => {
                let said = state.late.take()?;
                self.hear(&mut state, said);
            }
            mishap => self.strike(&mut state, mishap)?,
        }
        Some(state)
    }

    fn format_action(&self, action: &Action) -> String {
        match action {
            Action::Connect(who) => format!("the agent opens a session with leader {who}"),
            Action::Hear => "the agent gets the next message of its session".into(),
            Action::Lost => "the agent hears that its session was ended".into(),
            Action::Learn(who, to) => format!("leader {who} applies the log up to entry {to}"),
            Action::Commit(who) => format!("the reports that leader {who} proposed are committed"),
            Action::Act(task) => format!("the machine does what comes next for task {task}"),
            Action::Wish(wish, task) => format!("committed: {wish:?} task {task}"),
            Action::TakeOver => "committed: leader 1 takes over; leader 0 does not know".into(),
            Action::Exit(task) => format!("the container of task {task} ends by itself"),
            Action::Break { sent: true } => "the session breaks".into(),
            Action::Break { sent: false } => "the session breaks; what was sent is lost".into(),
            Action::Crash { sent: true } => "the agent crashes and starts again".into(),
            Action::Crash { sent: false } => {
                "the agent crashes and starts again; what was sent is lost".into()
            }
            Action::Unknown(who) => format!("leader {who} never hears that they are committed"),
            Action::Copy => "the network keeps a copy of the next message".into(),
            Action::Late => "the copy arrives".into(),
        }
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("nothing is stopped that is wanted", |_, s: &State| {
                s.wrong != Some(Wrong::Killed)
            }),
            Property::always("no task starts twice", |_, s: &State| s.wrong != Some(Wrong::Twice)),
            Property::always("no task starts whose end is recorded", |_, s: &State| {
                s.wrong != Some(Wrong::Revived)
            }),
            Property::always("at rest nothing is forgotten", |model, s: &State| {
                s.wrong.is_some() || s.agrees() || !model.open_ends(s).is_empty()
            }),
            Property::sometimes("a replaced leader's orders arrive", |_, s: &State| {
                let next = s.session.as_ref().and_then(|session| session.down.first());
                let old = |word: &Word| word.epoch < s.agent.obeyed().0;
                matches!(next, Some(Down::Orders(word)) if old(word))
            }),
            Property::sometimes("a task has run and its row is gone", |_, s: &State| {
                s.agrees() && s.agent.starts[0] == 1 && applied(&s.log).0[0].is_none()
            }),
        ]
    }
}

impl Assign {
    fn strike(&self, state: &mut State, mishap: Action) -> Option<()> {
        state.faults += 1;
        match mishap {
            Action::Exit(task) => {
                let deeds = state.agent.end(task);
                self.perform(state, deeds);
            }
            Action::Break { sent } => self.leave(state, sent),
            Action::Crash { sent } => self.crash(state, sent),
            Action::Unknown(who) => self.commit(state, who, false)?,
            Action::Copy => {
                state.late = state.session.as_ref()?.down.first().copied();
            }
            _ => return None,
        }
        Some(())
    }
}
