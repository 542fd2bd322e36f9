//! The deployment controller: how many tasks each service may start and must give up *now*, and
//! when a deployment is done.
//!
//! With desired count d: floor L = ceil(d * minimumHealthyPercent / 100), ceiling
//! U = floor(d * maximumPercent / 100), as in ECS. It does not know slots, or which task is chosen.
//! Invariants: what it allows never takes the healthy tasks below L, nor all tasks (those still
//! stopping included) above U. A DAEMON service's d follows its instances (`State::desired_count`);
//! its tasks elsewhere are in neither number. Without a circuit breaker a deployment never fails:
//! it goes on at the pace of the restart back-off, as in ECS. So does one that is rolled back to.
//! While traffic shifts, all of it holds for blue and for green by itself (`State::sides`).

use super::draft::{Draft, Targets};
use super::explain;
use super::failing;
use super::rebalance;
use super::roster::{Member, Roster, Standing, count, count_unspared};
use super::shift;
use super::task_set;
use super::view::View;
use muster_model::breaker::Verdict;
use muster_model::service::Backoff;
use muster_model::{
    Deployment, RolloutState, Service, ServiceId, ServiceStatus, Side, State, Step, Task, limits,
};
use std::sync::Arc;

/// Desired tasks of a service that is read in no time.
const LITTLE_MAX: u32 = 100;

/// Where the last plan stopped looking, among services that want little and among the others.
#[derive(Debug, Default)]
pub(super) struct Turns([Option<ServiceId>; 2]);

/// A plan reads no more than [`limits::PLAN_READS_MAX`] tasks, whatever agents report about
/// thousands of others meanwhile. Half of it is for services that want little, half for the others,
/// and in both they take turns.
pub(super) fn stage(draft: &mut Draft, view: &mut View, turns: &mut Turns) {
    if view.dirty.all {
        view.dirty.services.extend(draft.state().services().map(|s| s.id));
    }
    let active = |id: &ServiceId| {
        let service = draft.state().service(*id).cloned();
        let service = service.filter(|service| service.status == ServiceStatus::Active)?;
        let desired = draft.state().desired_count(&service);
        Some((service, desired))
    };
    let dirty = view.dirty.services.iter().filter_map(active);
    let (little, others): (Vec<_>, Vec<_>) = dirty.partition(|(_, desired)| *desired <= LITTLE_MAX);
    for (services, last) in [little, others].into_iter().zip(&mut turns.0) {
        *last = look_at_some(draft, view, services, *last);
    }
}

/// Those after `last` first; the last one that was looked at, if there was no room for all.
fn look_at_some(
    draft: &mut Draft,
    view: &mut View,
    mut services: Vec<(Arc<Service>, u32)>,
    last: Option<ServiceId>,
) -> Option<ServiceId> {
    let before = services.partition_point(|(service, _)| Some(service.id) <= last);
    services.rotate_left(before);
    let (mut read, mut latest) = (0, last);
    let mut all = true;
    for (service, desired) in services {
        // A zone's loss fills plans before any service is looked at: not to look spares reading the
        // tasks of all of them for each of those plans.
        if draft.full() || read >= limits::PLAN_READS_MAX / 2 {
            view.dirty.defer(service.id);
            all = false;
            continue;
        }
        read += desired as usize + 1;
        latest = Some(service.id);
        look_at(draft, view, service);
    }
    latest.filter(|_| !all)
}

/// The verdict of its breaker or its alarms on the newest deployment, if there is one. Everything
/// after it looks at the service as it is then.
fn judge(draft: &mut Draft, service: Arc<Service>) -> Arc<Service> {
    let Some(verdict) = draft.state().verdict(&service) else { return service };
    let Verdict { deployment, back_to, .. } = verdict;
    let id = service.id;
    draft.push(Step::FailDeployment { service: id, deployment, back_to });
    draft.state().service(id).cloned().unwrap_or(service)
}

fn look_at(draft: &mut Draft, view: &mut View, service: Arc<Service>) {
    let service = judge(draft, service);
    let service = &*shift::stage(draft, view, service);
    let progress = Progress::of(draft.state(), service);
    if !draft.full() {
        explain::halted(draft, view.now, service);
    }
    let mut settled = progress == Progress::On;
    for side in draft.state().sides(service).iter() {
        settled &= look_at_side(draft, view, service, *side, progress);
    }
    if service.spec.is_external() {
        task_set::look_at(draft, view, service, settled);
    } else if settled && *draft.state().sides(service) == [Side::Whole] {
        // While sides are apart a service is never settled: its shift goes on.
        settle(draft, view, service);
        draft.settled.insert(service.id);
    }
}

/// Whether the newest deployment takes the place of what is there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    On,
    /// It replaces only what ends by itself.
    Paused,
    /// It failed.
    Halted,
}

impl Progress {
    fn of(state: &State, service: &Service) -> Self {
        let failed = service.primary().is_some_and(|newest| newest.rollout == RolloutState::Failed);
        match (failed, state.pause(service.id)) {
            (true, _) => Self::Halted,
            (false, Some(_)) => Self::Paused,
            (false, None) => Self::On,
        }
    }
}

/// Whether nothing is left to do on this side.
fn look_at_side(
    draft: &mut Draft,
    view: &mut View,
    service: &Service,
    side: Side,
    progress: Progress,
) -> bool {
    let roster = Roster::of(draft.state(), service, side, view);
    let desired = draft.state().desired_on(service, side);
    let mut targets = match progress {
        Progress::On => targets(service, desired, &roster),
        Progress::Paused => targets_paused(service, desired, &roster),
        Progress::Halted => targets_halted(service, desired, &roster),
    };
    if rebalance::is_moving(draft.state(), service, &roster, targets.excess) {
        targets.excess = 0;
    }
    let backoff = backoff(draft.state(), service, side);
    if backoff.until > view.now && targets.start > 0 {
        targets.start = 0;
        view.wakes.service_at(backoff.until, service.id);
        explain::throttled(draft, view.now, service.id, backoff);
    }
    if let Some(at) = roster.next_healthy {
        let after = draft.state().healthy_after(service.cluster);
        view.wakes.healthy_at(at, after, service.id);
    }
    for at in roster.next_failing.into_iter().chain(roster.next_unspared) {
        view.wakes.service_at(at, service.id);
    }
    if progress == Progress::On && is_stuck(desired, &roster, targets) {
        explain::stuck(draft, view.now, service);
    }
    if targets != Targets::default() {
        draft.targets.insert((service.id, side), targets);
        return false;
    }
    is_settled(desired, &roster)
}

/// What failed starts hold back: the newest deployment's are not blue's, nor another task set's.
fn backoff(state: &State, service: &Service, side: Side) -> Backoff {
    let alone = matches!(side, Side::Blue | Side::Set(_));
    let own = state.deployment_on(service, side).filter(|_| alone);
    let row = own.and_then(|id| service.deployments.iter().find(|row| row.id == id));
    row.map_or(service.backoff, |row| Backoff::of_older(row, state.desired_on(service, side)))
}

fn targets(service: &Service, desired: u32, roster: &Roster) -> Targets {
    let percents = service.spec.deployment;
    let (d, floor) = (desired as usize, percents.floor(desired).min(desired) as usize);
    let ceiling = percents.ceiling(desired) as usize;

    let start = d.saturating_sub(roster.good.len()).min(ceiling.saturating_sub(roster.all()));
    let unspared = roster.good.iter().filter(|m| !m.spared).count();
    let excess = roster.good.len().saturating_sub(d).min(unspared);

    // Scaling in gives up what is not healthy first.
    let good_healthy = count_unspared(&roster.good, Standing::Healthy);
    let mut healthy = roster.healthy() - excess.saturating_sub(unspared - good_healthy);
    let old = may_go(&roster.old, &mut healthy, floor);
    // A drain replaces first where there is room to do so, whatever the floor would allow.
    let drain_floor = if ceiling > d { d } else { floor };
    let draining = may_go(&roster.draining, &mut healthy, drain_floor);
    let away = roster.away.iter().filter(|m| !m.spared).count();
    let failing = failing::may_go(d, start, roster);
    Targets { start, excess, old, draining, away, failing }
}

/// A deployment that failed starts nothing and takes nobody's place. What its service has stays,
/// but for what a user scaled in or drains.
fn targets_halted(service: &Service, desired: u32, roster: &Roster) -> Targets {
    let percents = service.spec.deployment;
    let floor = percents.floor(desired).min(desired) as usize;
    let mut healthy = roster.healthy();
    let present = roster.good.len() + roster.outgoing();
    let surplus = present.saturating_sub(desired as usize);
    // Of its own tasks first: they are the ones that did not prove themselves.
    let excess = surplus.min(may_go(&roster.good, &mut healthy, floor));
    let old = (surplus - excess).min(may_go(&roster.old, &mut healthy, floor));
    let draining = may_go(&roster.draining, &mut healthy, floor);
    let away = roster.away.iter().filter(|m| !m.spared).count();
    Targets { start: 0, excess, old, draining, away, failing: 0 }
}

/// A deployment that is paused takes nobody's place. It makes up for what ended by itself. What
/// fails its checks is replaced, and of its own tasks what drains.
fn targets_paused(service: &Service, desired: u32, roster: &Roster) -> Targets {
    // What it has of older revisions counts as its own.
    let own = desired.saturating_sub(u32::try_from(roster.old.len()).unwrap_or(u32::MAX));
    let (d, floor) = (desired as usize, service.spec.deployment.floor(desired).min(desired));
    let ceiling = service.spec.deployment.ceiling(desired) as usize;
    let stays = roster.good.len() + roster.old.len();
    let start = d.saturating_sub(stays).min(ceiling.saturating_sub(roster.all()));

    let mut healthy = roster.healthy();
    let surplus = stays.saturating_sub(d);
    // Of its own tasks first: they are the ones that did not prove themselves.
    let excess = surplus.min(may_go(&roster.good, &mut healthy, floor as usize));
    let old = (surplus - excess).min(may_go(&roster.old, &mut healthy, floor as usize));
    // What those leave behind, whichever of them are healthy.
    let mut healthy = roster.healthy().saturating_sub(excess + old);
    let drain_floor = if ceiling > d { desired } else { floor };
    let draining = may_go(&roster.draining, &mut healthy, drain_floor as usize);
    let away = roster.away.iter().filter(|m| !m.spared).count();
    let failing = failing::may_go(own as usize, start, roster);
    Targets { start, excess, old, draining, away, failing }
}

/// How many of these may go, protected ones never: what is not RUNNING serves nobody and goes at
/// once; what is young only beside enough healthy ones; each healthy one only above the floor.
fn may_go(members: &[Member], healthy: &mut usize, floor: usize) -> usize {
    let count = |standing| count_unspared(members, standing);
    let idle = count(Standing::Unplaced) + count(Standing::Starting);
    if *healthy < floor {
        return idle;
    }
    let stop = count(Standing::Healthy).min(*healthy - floor);
    *healthy -= stop;
    idle + count(Standing::Young) + stop
}

/// The percentages leave no move, and no task is on its way that would change that.
fn is_stuck(desired: u32, roster: &Roster, targets: Targets) -> bool {
    let missing = roster.good.len() < desired as usize;
    let waits = roster.ending > 0 || roster.next_healthy.is_some();
    missing
        && roster.outgoing() > 0
        && !waits
        && targets == Targets::default()
        && roster.healthy() == roster.all()
}

/// What stays on a draining instance to the last does not keep a deployment from being done.
fn is_settled(desired: u32, roster: &Roster) -> bool {
    let good_healthy = count(&roster.good, Standing::Healthy);
    roster.outgoing() == 0
        && roster.away.is_empty()
        && roster.ending == 0
        && good_healthy == roster.good.len()
        && good_healthy == desired as usize
}

/// Nothing is left to do for the service: its newest deployment is done. All its tasks have stayed
/// RUNNING, so earlier failed starts are forgotten as well, also when it was done long ago.
fn settle(draft: &mut Draft, view: &mut View, service: &Service) {
    let Some(newest) = service.primary() else { return };
    let done = newest.rollout == RolloutState::InProgress;
    let forgets = newest.rollout == RolloutState::Completed
        && (newest.failed_tasks > 0 || service.backoff.failures > 0);
    if done || forgets || has_husks(draft, service) {
        if draft.full() {
            view.dirty.defer(service.id);
            return;
        }
        if older_left(draft, service, newest) {
            return;
        }
        if draft.state().is_watched(service, newest) {
            let until = draft.state().baked_at(service, newest);
            until.into_iter().for_each(|at| view.wakes.service_at(at, service.id));
            return;
        }
        let (service, deployment) = (service.id, newest.id);
        let rollout = RolloutState::Completed;
        draft.push(Step::Advance { service, deployment, rollout });
        if done {
            explain::completed(draft, service, deployment);
        }
    }
    explain::steady(draft, view.now, service.id);
}

fn older_left(draft: &Draft, service: &Service, newest: &Deployment) -> bool {
    let state = draft.state();
    let counts = |t: &Task| state.in_place(service, t) && t.ended_at().is_none();
    state.tasks_of(service.id).any(|t| t.deployment() != Some(newest.id) && counts(t))
}

/// Older deployments whose last tasks, which stayed on a draining instance, have ended since the
/// newest one was done.
fn has_husks(draft: &Draft, service: &Service) -> bool {
    let busy = |deployment: &Deployment| {
        let mut tasks = draft.state().tasks_of(service.id);
        tasks.any(|t| t.deployment() == Some(deployment.id) && t.ended_at().is_none())
    };
    service.deployments.iter().skip(1).any(|deployment| !busy(deployment))
}
