//! Why an instance was chosen: what each strategy compared, and over which candidates.
//!
//! Made only where someone asks beforehand: it looks at every instance of the cluster for each
//! placement, which the scheduler itself does not. It decides nothing. Invariant: its account
//! ends at the instance that the contest chose.

use super::contest::Contest;
use super::filter::Wish;
use super::fleet::{At, Fleet};
use super::index::{Index, OwnerKey, Signature};
use super::tally::Tally;
use muster_model::foresight::{Choice, Measure, Weighed};
use muster_model::placement::{PlacementStrategy, SpreadField};
use muster_model::{ServiceId, State, TaskId, limits};
use std::collections::{BTreeMap, BTreeSet};

/// Whose tasks an account is kept of.
#[derive(Clone, Debug)]
pub(super) enum Subject {
    Service(ServiceId),
    Tasks(BTreeSet<TaskId>),
}

#[derive(Debug)]
pub(super) struct Witness {
    subject: Subject,
    choices: BTreeMap<TaskId, Choice>,
}

/// What a decision is made by.
pub(super) struct By<'a> {
    pub signature: &'a Signature,
    pub wish: &'a Wish,
    pub contest: &'a Contest,
}

impl Witness {
    pub fn of(subject: Subject) -> Self {
        Self { subject, choices: BTreeMap::new() }
    }

    /// What was seen of this task's placement.
    pub fn choice(&self, task: TaskId) -> Option<&Choice> {
        self.choices.get(&task)
    }

    /// The contest has chosen `at`; nothing of it shows in the state yet.
    pub fn chose(&mut self, state: &State, index: &Index, by: By<'_>, task: TaskId, at: At) {
        let By { signature, wish, contest } = by;
        let mine = match (&self.subject, &signature.owner) {
            (Subject::Service(service), OwnerKey::Service(owner)) => service == owner,
            (Subject::Tasks(tasks), OwnerKey::Group(..)) => tasks.contains(&task),
            _ => false,
        };
        if !mine || self.choices.len() >= limits::FORESEE_REASONS_MAX {
            return;
        }
        let (tally, candidates) = Tally::parted(state, index, signature, wish, contest);
        let measures = measures(&index.fleet, &wish.placement.effective(), at);
        let choice = Choice {
            removed: tally.waiting(),
            candidates: candidates.len() as u32,
            weighed: weigh(&index.fleet, contest, measures, &candidates, task, at),
        };
        self.choices.insert(task, choice);
    }
}

/// What is compared, left to right; neighbouring `prefer` are one, and the load ends the list.
fn measures(fleet: &Fleet, strategies: &[PlacementStrategy], at: At) -> Vec<Measure> {
    let class = fleet.class_at(fleet.class_of(at));
    let measure = |strategy: &PlacementStrategy| match strategy {
        PlacementStrategy::Spread { field: SpreadField::InstanceId, .. } => {
            Measure::SpreadInstances
        }
        PlacementStrategy::Spread { field: SpreadField::Attribute(name), .. } => {
            let value = class.attribute(name).map(|value| value.unwrap_or_default().to_owned());
            Measure::Spread { attribute: name.clone(), value }
        }
        PlacementStrategy::Binpack(field) => Measure::Binpack(*field),
        PlacementStrategy::Random => Measure::Random,
        PlacementStrategy::Prefer { .. } => Measure::Prefer,
    };
    let mut measures: Vec<Measure> = strategies.iter().map(measure).collect();
    measures.dedup_by(|one, other| *one == Measure::Prefer && *other == Measure::Prefer);
    measures.push(Measure::Load);
    measures
}

/// Each measure narrows the candidates to those as good as the best; one that had a single one left
/// to look at decided nothing and is left out.
fn weigh(
    fleet: &Fleet,
    contest: &Contest,
    measures: Vec<Measure>,
    candidates: &[At],
    task: TaskId,
    chosen: At,
) -> Vec<Weighed> {
    let Some(own) = contest.numbers(fleet, chosen, task) else { return Vec::new() };
    let ranked = candidates.iter().filter_map(|at| contest.numbers(fleet, *at, task));
    let mut level: Vec<Vec<u64>> = ranked.collect();
    let mut weighed = Vec::new();
    for (place, by) in measures.into_iter().enumerate() {
        if level.len() < 2 {
            break;
        }
        let numbers = || level.iter().map(|numbers| numbers[place]);
        let (least, most) = (numbers().min(), numbers().max());
        let compared = level.len() as u32;
        level.retain(|numbers| numbers[place] == own[place]);
        weighed.push(Weighed {
            by,
            value: own[place],
            least: least.unwrap_or_default(),
            most: most.unwrap_or_default(),
            compared,
            level: level.len() as u32,
        });
    }
    weighed
}
