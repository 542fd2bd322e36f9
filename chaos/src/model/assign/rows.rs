//! What is committed in the model of the assignments, and what a leader says of it.
//!
//! It mirrors `raft/model/src/apply/plan.rs` and `report.rs` (a row's wishes and what was seen of
//! it move one way), and `node/control/src/leader/assign.rs` (`answer`, `order`, `delta`) with one
//! order in a message. It does not know who is connected. Invariant: an order says what the rows
//! say at its revision.

use muster_model::Phase;

/// Tasks, all of them for the one instance.
pub(super) const TASKS: usize = 2;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    Takeover,
    Wish(Wish, u8),
    Report(Reports),
}

pub(super) type Reports = Vec<(u8, Phase)>;

/// What users and the scheduler have committed about a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wish {
    Place,
    Stop,
    /// Its instance counts as lost.
    Abandon,
    /// Its row goes: it has ended, or was abandoned.
    Forget,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Desired {
    Running,
    Stopped,
    Abandoned,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    desired: Desired,
    pub seen: Phase,
}

impl Row {
    pub fn wanted(self) -> bool {
        self.desired == Desired::Running && !self.ended()
    }

    pub fn ended(self) -> bool {
        self.seen == Phase::Stopped
    }
}

pub(super) type Rows = [Option<Row>; TASKS];

/// What the log comes to after its first entries: rows, and the epoch.
pub(super) fn applied(log: &[Entry]) -> (Rows, u8) {
    let (mut rows, mut epoch) = ([None; TASKS], 0);
    for (index, entry) in (1u8..).zip(log) {
        match entry {
            Entry::Takeover => epoch = index,
            Entry::Wish(wish, task) => {
                let row = &mut rows[usize::from(*task)];
                *row = wished(*row, *wish);
            }
            Entry::Report(reports) => {
                for (task, phase) in reports {
                    if let Some(row) = &mut rows[usize::from(*task)]
                        && !row.ended()
                    {
                        row.seen = row.seen.max(*phase);
                    }
                }
            }
        }
    }
    (rows, epoch)
}

fn wished(row: Option<Row>, wish: Wish) -> Option<Row> {
    let to = |desired| row.map(|row| Row { desired, ..row });
    match wish {
        Wish::Place => Some(Row { desired: Desired::Running, seen: Phase::Provisioning }),
        Wish::Stop => to(Desired::Stopped),
        Wish::Abandon => to(Desired::Abandoned),
        Wish::Forget => None,
    }
}

/// What `apply` would not refuse, of all that may be wished now.
pub(super) fn wishes(log: &[Entry]) -> Vec<(Wish, u8)> {
    let (rows, _) = applied(log);
    let mut wishes = Vec::new();
    for (task, row) in (0u8..).zip(rows) {
        match row {
            None if !log.contains(&Entry::Wish(Wish::Place, task)) => {
                wishes.push((Wish::Place, task));
            }
            None => {}
            Some(row) => {
                let lost = row.desired == Desired::Abandoned;
                if row.wanted() {
                    wishes.push((Wish::Stop, task));
                }
                if !row.ended() && !lost {
                    wishes.push((Wish::Abandon, task));
                }
                if row.ended() || lost {
                    wishes.push((Wish::Forget, task));
                }
            }
        }
    }
    wishes
}

// ---- orders ----

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Verb {
    Run,
    Stop,
    Forget,
}

/// One message of orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Word {
    pub epoch: u8,
    pub revision: u8,
    pub complete: bool,
    pub order: Option<(Verb, u8)>,
}

pub(super) type Order = (Verb, u8);

/// Every task of the instance, and an answer for everything that the agent listed.
pub(super) fn complete(rows: &Rows, inventory: &[u8]) -> Vec<Order> {
    let mine = (0u8..).zip(rows).filter_map(|(task, row)| Some((order((*row)?)?, task)));
    let unknown = |task: &&u8| rows[usize::from(**task)].is_none_or(Row::ended);
    mine.chain(inventory.iter().filter(unknown).map(|task| (Verb::Forget, *task))).collect()
}

/// What changed between two states.
pub(super) fn deltas(before: &Rows, after: &Rows) -> Vec<Order> {
    let each = (0u8..).zip(before.iter().zip(after));
    each.filter_map(|(task, (before, after))| Some((delta(*before, *after)?, task))).collect()
}

fn order(row: Row) -> Option<Verb> {
    match row.desired {
        _ if row.ended() => None,
        Desired::Running => Some(Verb::Run),
        Desired::Stopped | Desired::Abandoned => Some(Verb::Stop),
    }
}

fn delta(before: Option<Row>, after: Option<Row>) -> Option<Verb> {
    let ran = before.is_some_and(|row| !row.ended());
    let Some(row) = after else { return ran.then_some(Verb::Forget) };
    if row.ended() {
        return (ran || before.is_none()).then_some(Verb::Forget);
    }
    let changed = before.is_none_or(|before| before.desired != row.desired);
    changed.then(|| order(row)).flatten()
}

/// One order in each message; only the first is marked complete.
pub(super) fn words(epoch: u8, revision: u8, orders: Vec<Order>, complete: bool) -> Vec<Word> {
    if orders.is_empty() && complete {
        return vec![Word { epoch, revision, complete, order: None }];
    }
    let each = orders.into_iter().enumerate();
    let word = |(position, order)| {
        let complete = complete && position == 0;
        Word { epoch, revision, complete, order: Some(order) }
    };
    each.map(word).collect()
}
