//! One instance as a query sees it: its row, and what is placed there.

use super::State;
use crate::instance::Instance;
use crate::query::Subject;
use crate::task::{Owner, Phase, Task};
use crate::time::Time;

/// An instance in a state. What it is asked about tasks costs a look at each one placed there.
#[derive(Clone, Copy, Debug)]
pub struct Facing<'a> {
    pub state: &'a State,
    pub instance: &'a Instance,
}

impl Subject for Facing<'_> {
    fn attribute(&self, name: &str) -> Option<Option<&str>> {
        self.instance.spec.attribute(name)
    }

    fn agent_connected(&self) -> bool {
        self.instance.ready()
    }

    fn agent_version(&self) -> &str {
        &self.instance.spec.agent_version
    }

    fn ec2_instance_id(&self) -> &str {
        &self.instance.spec.hostname
    }

    fn registered_at(&self) -> Time {
        self.instance.registered_at
    }

    fn running_tasks(&self) -> u32 {
        let tasks = self.state.tasks_on(self.instance.id);
        let running = tasks.filter(|task| task.last_status() == Phase::Running).count();
        u32::try_from(running).unwrap_or(u32::MAX)
    }

    fn has_group(&self, group: &str) -> bool {
        let mut tasks = self.state.tasks_on(self.instance.id);
        tasks.any(|task| task.wanted() && self.state.in_group(task, group))
    }
}

impl State {
    /// `group_of` compared, without building it.
    fn in_group(&self, task: &Task, group: &str) -> bool {
        match &task.owner {
            Owner::Run { group: own, .. } | Owner::Job { group: own, .. } => **own == *group,
            Owner::Service { service, .. } => {
                let name = self.service(*service).map_or("", |row| row.spec.name.as_str());
                group.strip_prefix("service:") == Some(name)
            }
        }
    }
}
