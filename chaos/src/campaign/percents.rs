//! I4 from outside: what a manager's watch shows of the percentages of its services.
//!
//! `apply` judges each start and each stop by the state of that moment. A watch shows states, now
//! and then several changes at once, and not which tasks count as healthy; so this asks for a
//! little less than was promised, and never for more:
//! - when a service gets more tasks, it has at most its maximum percent;
//! - when its scheduler stops one that has been up for long, its minimum percent still run.
//!
//! It keeps what one view needs for that, and does not know who changed a service.

use super::watching::SeenTask;
use muster_proto::pb;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// A task that has run for so long counts as healthy: twice what is the default.
const SURELY_HEALTHY: Duration = Duration::from_secs(20);
/// Forms of a service that one message may have gone over: clients wait between two changes.
const FORMS: usize = 3;

/// The fewest and the most tasks a service may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Form {
    least: u64,
    most: u64,
}

#[derive(Debug, Default)]
struct Watched {
    forms: VecDeque<Form>,
    active: bool,
    /// Tasks that had not ended, when it was last looked at: unknown at the first look.
    existing: Option<u64>,
}

/// The services of one view.
#[derive(Debug, Default)]
pub struct Percents {
    /// By the group of their tasks.
    services: BTreeMap<String, Watched>,
    /// Groups whose scheduler stopped a task in the message that is being read, and how many tasks
    /// of them stopped running for another reason.
    stopped: BTreeMap<String, u64>,
    lost: BTreeMap<String, u64>,
}

impl Percents {
    pub fn service(&mut self, service: &pb::Service) {
        // Names are unique within a cluster, and one cluster has all the tasks.
        let watched = self.services.entry(format!("service:{}", service.service_name)).or_default();
        watched.active = service.status == "ACTIVE";
        let form = form(service);
        if watched.forms.back() != Some(&form) {
            watched.forms.push_back(form);
        }
        while watched.forms.len() > FORMS {
            watched.forms.pop_front();
        }
    }

    /// One task as it was and as it is.
    pub fn task(&mut self, was: &SeenTask, is: &SeenTask) {
        let running = |task: &SeenTask| task.status == "RUNNING" && !task.to_stop;
        if !running(was) || running(is) {
            return;
        }
        let ours = is.stop_code == "ServiceSchedulerInitiated";
        let healthy = was.running_since.is_some_and(|since| since.elapsed() >= SURELY_HEALTHY);
        let list = if ours && healthy { &mut self.stopped } else { &mut self.lost };
        *list.entry(is.group.clone()).or_default() += 1;
    }

    /// What does not hold after a message; and how many services were looked at.
    pub fn check(&mut self, tasks: &BTreeMap<String, SeenTask>) -> (Vec<String>, u64) {
        let mut counts: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for task in tasks.values().filter(|task| task.status != "STOPPED") {
            let (existing, running) = counts.entry(&task.group).or_default();
            *existing += 1;
            *running += u64::from(task.status == "RUNNING" && !task.to_stop);
        }
        let mut broken = Vec::new();
        for (group, watched) in &mut self.services {
            let (existing, running) = counts.get(group.as_str()).copied().unwrap_or_default();
            let before = watched.existing.replace(existing);
            let grew = before.is_some_and(|before| existing > before);
            let most = watched.forms.iter().map(|form| form.most).max().unwrap_or(u64::MAX);
            if watched.active && grew && existing > most {
                broken.push(format!("{group} has {existing} of at most {most} tasks"));
            }
            let least = watched.forms.iter().map(|form| form.least).min().unwrap_or(0);
            let lost = self.lost.get(group).copied().unwrap_or(0);
            let stopped = self.stopped.contains_key(group);
            if stopped && watched.active && running + lost < least {
                broken.push(format!("{group} was left with {running} of at least {least} tasks"));
            }
        }
        self.stopped.clear();
        self.lost.clear();
        (broken, self.services.len() as u64)
    }

    pub fn forget(&mut self, arn: &str) {
        if let Some(name) = arn.rsplit('/').next().filter(|_| arn.contains(":service/")) {
            self.services.remove(&format!("service:{name}"));
        }
    }
}

/// ECS: the minimum is rounded up, the maximum down.
fn form(service: &pb::Service) -> Form {
    let configured = service.deployment_configuration.as_ref();
    let percent =
        |of: Option<i32>, default: u64| of.map_or(default, |p| u64::from(p.unsigned_abs()));
    let minimum = percent(configured.and_then(|c| c.minimum_healthy_percent), 100);
    let maximum = percent(configured.and_then(|c| c.maximum_percent), 200);
    let desired = u64::from(service.desired_count.unsigned_abs());
    Form { least: (desired * minimum).div_ceil(100), most: desired * maximum / 100 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    const GROUP: &str = "service:web";

    fn service(desired: i32) -> pb::Service {
        let (service_name, status) = ("web".into(), "ACTIVE".into());
        pb::Service { service_name, status, desired_count: desired, ..Default::default() }
    }

    fn task(status: &str, to_stop: bool) -> SeenTask {
        SeenTask {
            status: status.into(),
            group: GROUP.into(),
            to_stop,
            stop_code: if to_stop { "ServiceSchedulerInitiated".into() } else { String::new() },
            running_since: Instant::now().checked_sub(SURELY_HEALTHY),
            ..Default::default()
        }
    }

    fn tasks(all: &[SeenTask]) -> BTreeMap<String, SeenTask> {
        all.iter().enumerate().map(|(number, task)| (format!("t{number}"), task.clone())).collect()
    }

    #[test]
    fn growing_beyond_the_maximum_is_seen_and_being_left_above_it_is_not() {
        let mut percents = Percents::default();
        percents.service(&service(2));
        // A view may begin with more.
        assert_eq!(percents.check(&tasks(&vec![task("RUNNING", false); 6])).0, [""; 0]);
        let four = tasks(&vec![task("RUNNING", false); 4]);
        assert_eq!(percents.check(&four).0, [""; 0]);
        let five = tasks(&vec![task("RUNNING", false); 5]);
        assert_eq!(percents.check(&five).0, ["service:web has 5 of at most 4 tasks"]);
        // Scaled in: nothing was started.
        percents.service(&service(1));
        assert_eq!(percents.check(&five).0, [""; 0]);
    }

    #[test]
    fn a_stop_that_leaves_too_few_is_seen_and_a_loss_is_not() {
        let (up, going) = (task("RUNNING", false), task("RUNNING", true));
        let mut percents = Percents::default();
        percents.service(&service(2));
        percents.check(&tasks(&[up.clone(), up.clone()]));
        percents.task(&up, &going);
        let left = percents.check(&tasks(&[up.clone(), going.clone()])).0;
        assert_eq!(left, ["service:web was left with 1 of at least 2 tasks"]);
        let lost = SeenTask { stop_code: "TerminationNotice".into(), ..task("STOPPED", true) };
        percents.task(&up, &lost);
        assert_eq!(percents.check(&tasks(&[up, lost])).0, [""; 0]);
    }
}
