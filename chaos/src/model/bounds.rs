//! How many tasks of a service may start and must go: deployments, scaling, drains and crashes,
//! with a plan on its way while any of them happens.
//!
//! It abstracts `node/control/src/leader/rollout.rs` (targets, `may_go`), `roster.rs` (who counts
//! as what) and `replicas.rs` (who goes first), and `raft/model/src/apply/plan.rs` in so far as
//! each step is judged alone: the percentages are not looked at again when a plan is applied.
//!
//! P5: a service never falls below its minimum healthy or above its maximum by our own actions.
//! The floor is judged as the leader could know it: of the tasks that were healthy when the plan
//! was made, those that crashed meanwhile count as if they lived. A user's change of the desired
//! count that is committed between a plan and its place in the log is judged by the milder of the
//! two counts; `STRICT` judges by the later one, and shows what that allowance covers.

use super::{Guard, Guarded, Size};
use stateright::{Model, Property};

const ENDING: usize = 0;
const CEILING: usize = 1;
const YOUNG: usize = 2;
const FLOOR: usize = 3;
const BUDGET: usize = 4;
const ONE_PLAN: usize = 5;
const ROUNDING: usize = 6;

#[derive(Clone, Debug)]
pub struct Bounds {
    without: Option<usize>,
    strict: bool,
    changes: u8,
    crashes: u8,
    desired: &'static [u8],
    /// minimumHealthyPercent and maximumPercent.
    percents: &'static [(u32, u32)],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    Starting,
    Young,
    Healthy,
}

/// Without a name: two tasks alike are one and the same to every rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Task {
    stage: Stage,
    old: bool,
    draining: bool,
    stopping: bool,
    /// Plans in flight (one bit each) that stop it.
    doomed: u8,
    /// Plans in flight that were made while it was healthy.
    counted: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Plan {
    desired: u8,
    start: u8,
    /// Healthy tasks it counted that have crashed since.
    crashed: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    percents: (u32, u32),
    desired: u8,
    tasks: Vec<Task>,
    plans: [Option<Plan>; 2],
    changes: u8,
    crashes: u8,
    below: bool,
    above: bool,
    replaced: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Plan(usize),
    Commit(usize),
    Advance(Task),
    Crash(Task),
    Stopped(Task),
    Scale(u8),
    Deploy,
    Drain(Task),
}

/// What `rollout` allows, as in `draft::Targets`.
struct Targets {
    start: u8,
    excess: u8,
    old: u8,
    draining: u8,
}

fn floor((minimum, _): (u32, u32), desired: u8) -> u8 {
    ((u32::from(desired) * minimum).div_ceil(100) as u8).min(desired)
}

fn ceiling((_, maximum): (u32, u32), desired: u8) -> u8 {
    (u32::from(desired) * maximum / 100) as u8
}

/// Which tasks, and how many of them are stopped.
type Group<'a> = (&'a dyn Fn(&Task) -> bool, u8);

impl Bounds {
    /// Judges by the desired count of the moment a plan is applied.
    pub fn strict(self) -> Self {
        Self { strict: true, ..self }
    }

    fn on(&self, guard: usize) -> bool {
        self.without != Some(guard)
    }

    fn counts_as_healthy(&self, task: &Task) -> bool {
        !task.stopping
            && (task.stage == Stage::Healthy || (task.stage == Stage::Young && !self.on(YOUNG)))
    }

    fn targets(&self, state: &State) -> Targets {
        let (d, percents) = (state.desired, state.percents);
        let count = |is: &dyn Fn(&Task) -> bool| state.tasks.iter().filter(|t| is(t)).count() as u8;
        let good = count(&|t| !t.stopping && !t.old && !t.draining);
        let ending = if self.on(ENDING) { count(&|t| t.stopping) } else { 0 };
        let all = count(&|t| !t.stopping) + ending;
        let floor = match self.on(ROUNDING) {
            true => floor(percents, d),
            false => (u32::from(d) * percents.0 / 100) as u8,
        };
        let ceiling = ceiling(percents, d);
        let room = if self.on(CEILING) { ceiling.saturating_sub(all) } else { d };
        let start = d.saturating_sub(good).min(room);
        let excess = good.saturating_sub(d);
        let is_good = |t: &Task| !t.stopping && !t.old && !t.draining;
        let good_healthy = count(&|t| is_good(t) && self.counts_as_healthy(t));
        let mut healthy = count(&|t| self.counts_as_healthy(t));
        // Not a guard: where scaling in gives up healthy tasks, as many stay as are desired, and
        // neither floor is above that, so the answer is the same without this line.
        healthy -= excess.saturating_sub(good - good_healthy);
        let mut own = healthy;
        let old = self.may_go(state, &|t| t.old, &mut healthy, floor);
        let budget = if self.on(BUDGET) { &mut healthy } else { &mut own };
        let drain_floor = if ceiling > d { d } else { floor };
        let draining = self.may_go(state, &|t| !t.old && t.draining, budget, drain_floor);
        Targets { start, excess, old, draining }
    }

    fn may_go(
        &self,
        state: &State,
        group: &dyn Fn(&Task) -> bool,
        healthy: &mut u8,
        floor: u8,
    ) -> u8 {
        let of = |is: &dyn Fn(&Task) -> bool| {
            state.tasks.iter().filter(|t| !t.stopping && group(t) && is(t)).count() as u8
        };
        let idle = of(&|t| t.stage == Stage::Starting);
        let floor = if self.on(FLOOR) { floor } else { 0 };
        if *healthy < floor {
            return idle;
        }
        let mine = of(&|t| self.counts_as_healthy(t));
        let young = of(&|t| t.stage == Stage::Young && !self.counts_as_healthy(t));
        let stop = mine.min(*healthy - floor);
        *healthy -= stop;
        idle + young + stop
    }

    fn plan(&self, state: &mut State, at: usize) -> bool {
        let targets = self.targets(state);
        let bit = 1 << at;
        let groups: [Group<'_>; 3] = [
            (&|t| !t.old && !t.draining, targets.excess),
            (&|t| t.old, targets.old),
            (&|t| !t.old && t.draining, targets.draining),
        ];
        let mut stops = false;
        for (group, number) in groups {
            // What serves least goes first.
            state.tasks.sort_by_key(|t| t.stage);
            let members = state.tasks.iter_mut().filter(|t| !t.stopping && group(t));
            for task in members.take(usize::from(number)) {
                task.doomed |= bit;
                stops = true;
            }
        }
        for task in state.tasks.iter_mut().filter(|t| !t.stopping && t.stage == Stage::Healthy) {
            task.counted |= bit;
        }
        let plan = Plan { desired: state.desired, start: targets.start, crashed: 0 };
        state.plans[at] = Some(plan);
        stops || targets.start > 0
    }

    fn commit(&self, state: &mut State, at: usize) -> Option<()> {
        let plan = state.plans[at].take()?;
        let bit = 1 << at;
        let mut hit = false;
        for task in state.tasks.iter_mut().filter(|t| t.doomed & bit != 0 && !t.stopping) {
            hit |= task.counted & bit != 0;
            task.stopping = true;
        }
        let left = |t: &&Task| t.counted & bit != 0 && !t.stopping;
        let healthy = state.tasks.iter().filter(left).count() as u8 + plan.crashed;
        let least = |desired| floor(state.percents, desired);
        let most = |desired| ceiling(state.percents, desired);
        let (now, then) = (state.desired, plan.desired);
        let (least, most) = match self.strict {
            true => (least(now), most(now)),
            false => (least(now).min(least(then)), most(now).max(most(then))),
        };
        state.below |= hit && healthy < least;
        let fresh = Task {
            stage: Stage::Starting,
            old: false,
            draining: false,
            stopping: false,
            doomed: 0,
            counted: 0,
        };
        state.tasks.extend((0..plan.start).map(|_| fresh));
        state.above |= plan.start > 0 && state.tasks.len() > usize::from(most);
        for task in &mut state.tasks {
            task.doomed &= !bit;
            task.counted &= !bit;
        }
        Some(())
    }
}

fn take(state: &mut State, task: Task) -> Option<Task> {
    let at = state.tasks.iter().position(|t| *t == task)?;
    Some(state.tasks.remove(at))
}

impl Guarded for Bounds {
    const NAME: &'static str = "bounds";
    const GUARDS: &'static [Guard] = &[
        Guard {
            name: "tasks that are still stopping count against the maximum",
            code: "node/control/src/leader/roster.rs all",
            loses: "P5: old and new tasks together exceed the maximum and flood their database",
        },
        Guard {
            name: "no more is started than the maximum leaves room for",
            code: "node/control/src/leader/rollout.rs targets",
            loses: "P5: a deployment doubles the service whatever its maximum says",
        },
        Guard {
            name: "only a task that has stayed up counts as healthy",
            code: "node/control/src/leader/roster.rs standing",
            loses: "P5: a broken version replaces every healthy task before it crashes",
        },
        Guard {
            name: "healthy tasks go only above the minimum",
            code: "node/control/src/leader/rollout.rs may_go",
            loses: "P5: a deployment or a drain is an outage",
        },
        Guard {
            name: "a roll and a drain share what may go",
            code: "node/control/src/leader/rollout.rs targets",
            loses: "P5: a drain during a deployment takes the same tasks off the minimum twice",
        },
        Guard {
            name: "one plan in flight",
            code: "node/control/src/leader.rs send_plan, close_plan",
            loses: "P5: a second plan on the same state starts or stops as many again",
        },
        Guard {
            name: "the minimum is rounded up",
            code: "raft/model/src/service.rs floor",
            loses: "P5: half of three is two, as in ECS, not one",
        },
    ];

    fn new(size: Size, without: Option<usize>) -> Self {
        let (small, full) = (Size::Small, Size::Full);
        let percents: &[(u32, u32)] = match size {
            _ if size == small => &[(50, 150), (100, 200)],
            _ => &[(0, 100), (50, 100), (50, 150), (50, 200), (100, 150), (100, 200)],
        };
        Self {
            without,
            strict: false,
            changes: if size == full { 3 } else { 2 },
            crashes: 1,
            desired: if size == full { &[0, 1, 2, 3] } else { &[1, 3] },
            percents,
        }
    }
}

impl Model for Bounds {
    type State = State;
    type Action = Action;

    /// A service in its steady state, of each size.
    fn init_states(&self) -> Vec<State> {
        let healthy = Task {
            stage: Stage::Healthy,
            old: false,
            draining: false,
            stopping: false,
            doomed: 0,
            counted: 0,
        };
        let steady = |percents, desired: u8| State {
            percents,
            desired,
            tasks: vec![healthy; usize::from(desired)],
            plans: [None; 2],
            changes: 0,
            crashes: 0,
            below: false,
            above: false,
            replaced: false,
        };
        let sizes = || self.desired.iter().filter(|d| **d > 0);
        self.percents.iter().flat_map(|p| sizes().map(move |d| steady(*p, *d))).collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let slots = if self.on(ONE_PLAN) { 1 } else { 2 };
        for (at, plan) in state.plans.iter().enumerate().take(slots) {
            match plan {
                Some(_) => actions.push(Action::Commit(at)),
                None => actions.push(Action::Plan(at)),
            }
        }
        let mut tasks = state.tasks.clone();
        tasks.dedup();
        for task in tasks {
            match task.stopping {
                true => actions.push(Action::Stopped(task)),
                false if task.stage < Stage::Healthy => actions.push(Action::Advance(task)),
                false => {}
            }
            if !task.stopping && state.crashes < self.crashes {
                actions.push(Action::Crash(task));
            }
            if !task.stopping && !task.draining && state.changes < self.changes {
                actions.push(Action::Drain(task));
            }
        }
        if state.changes < self.changes {
            let others = self.desired.iter().filter(|d| **d != state.desired);
            actions.extend(others.map(|d| Action::Scale(*d)));
            actions.push(Action::Deploy);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Plan(at) => {
                if !self.plan(&mut state, at) {
                    return None;
                }
            }
            Action::Commit(at) => self.commit(&mut state, at)?,
            Action::Advance(task) => {
                let mut task = take(&mut state, task)?;
                task.stage = match task.stage {
                    Stage::Starting => Stage::Young,
                    Stage::Young | Stage::Healthy => Stage::Healthy,
                };
                state.replaced |= task.stage == Stage::Healthy;
                state.tasks.push(task);
            }
            Action::Crash(task) => {
                state.crashes += 1;
                let task = take(&mut state, task)?;
                for (at, plan) in state.plans.iter_mut().enumerate() {
                    // What this plan stops itself it does not count on.
                    let relied = task.counted & !task.doomed & (1 << at) != 0;
                    if let Some(plan) = plan.as_mut().filter(|_| relied) {
                        plan.crashed += 1;
                    }
                }
            }
            Action::Stopped(task) => {
                take(&mut state, task)?;
            }
            Action::Scale(desired) => {
                state.changes += 1;
                state.desired = desired;
            }
            Action::Deploy => {
                state.changes += 1;
                for task in &mut state.tasks {
                    task.old = true;
                }
            }
            Action::Drain(task) => {
                state.changes += 1;
                let task = take(&mut state, task)?;
                state.tasks.push(Task { draining: true, ..task });
            }
        }
        state.tasks.sort();
        Some(state)
    }

    fn format_action(&self, action: &Action) -> String {
        match action {
            Action::Plan(_) => "the leader makes a plan".into(),
            Action::Commit(_) => "the plan is committed".into(),
            Action::Advance(task) => format!("gets on: {}", says(task)),
            Action::Crash(task) => format!("crashes: {}", says(task)),
            Action::Stopped(task) => format!("has stopped: {}", says(task)),
            Action::Scale(desired) => format!("the user sets the desired count to {desired}"),
            Action::Deploy => "the user deploys another version".into(),
            Action::Drain(task) => format!("its instance is drained: {}", says(task)),
        }
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no plan goes below the minimum healthy", |_, s: &State| !s.below),
            Property::always("no plan goes above the maximum", |_, s: &State| !s.above),
            Property::sometimes("a deployment comes to its end", |_, s: &State| {
                let done = |t: &Task| !t.old && !t.stopping && t.stage == Stage::Healthy;
                s.replaced && s.tasks.len() == usize::from(s.desired) && s.tasks.iter().all(done)
            }),
        ]
    }
}

fn says(task: &Task) -> String {
    let version = if task.old { "old" } else { "new" };
    let draining = if task.draining { ", draining" } else { "" };
    let stopping = if task.stopping { ", stopping" } else { "" };
    format!("a {version} task, {:?}{draining}{stopping}", task.stage)
}
