//! Steps of a plan as lines, in names.

use super::{Stage, shown};
use muster_model::fixture::Noun;
use muster_model::task::Waiting;
use muster_model::{DeploymentId, ScheduleId, ServiceId, Step, TaskId, Time};
use std::fmt::Write;

impl Stage {
    /// What becomes of a deployment.
    fn show_course(&self, step: &Step) -> String {
        let service = |id: &ServiceId| self.name(Noun::Service, id.bits());
        let name = |id: &DeploymentId| self.name(Noun::Deployment, id.bits());
        match step {
            Step::FailDeployment { service: of, deployment, back_to } => {
                let back = back_to.as_ref().map(|id| format!(" back to {}", name(id)));
                format!("fail {} {}{}", service(of), name(deployment), back.unwrap_or_default())
            }
            Step::Turn { service: of, deployment, turn } => {
                format!("turn {} {}: {turn}", service(of), name(deployment))
            }
            Step::AnswerHook { service: of, deployment, hook, answer } => {
                format!("answer {} {} {hook}: {answer:?}", service(of), name(deployment))
            }
            Step::RetireTaskSet { service: of, set } => {
                format!("retire set {} {}", service(of), name(set))
            }
            _ => String::new(),
        }
    }

    fn show_waiting(&self, task: TaskId, waiting: &Waiting) -> String {
        let mut line = format!(
            "explain {}: {} instances {:?}",
            self.task_name(task),
            waiting.instances,
            waiting.removed
        );
        if let Some((instance, shortfall)) = &waiting.nearest {
            let _ = write!(line, " nearest {} {shortfall:?}", self.instance_name(*instance));
        }
        line
    }

    fn show_run(&self, id: ScheduleId, due: Time, missed: u32, next: Option<Time>) -> String {
        let name = self.name(Noun::Schedule, id.bits());
        let next = next.map_or("never".into(), shown);
        format!("fire {name} due {} after {missed}, next {next}", shown(due))
    }

    /// Names a task that the leader made.
    fn christen(&mut self, task: TaskId) -> String {
        self.named += 1;
        let name = format!("n{}", self.named);
        self.world.name(Noun::Task, task.bits(), &name);
        name
    }

    pub(super) fn show_step(&mut self, step: &Step) -> String {
        let line = match step {
            Step::CreateTasks { service, deployment, tasks } => {
                let mut line = format!(
                    "create for {} {}:",
                    self.name(Noun::Service, service.bits()),
                    self.name(Noun::Deployment, deployment.bits())
                );
                for (slot, task) in tasks {
                    let _ = write!(line, " {slot}={}", self.christen(*task));
                }
                line
            }
            Step::Place { task, instance, ports } => {
                let (task, on) = (self.task_name(*task), self.instance_name(*instance));
                let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
                match ports.is_empty() {
                    true => format!("place {task} on {on}"),
                    false => format!("place {task} on {on} ports {}", ports.join(",")),
                }
            }
            Step::Stop { task, code, reason } => {
                format!("stop {} {code:?}: {reason}", self.task_name(*task))
            }
            Step::Abandon { task } => format!("abandon {}", self.task_name(*task)),
            Step::SetHealth { instance, health } => {
                let health = format!("{health:?}");
                let health = health.split(' ').next().unwrap_or_default();
                format!("health {} {health}", self.instance_name(*instance))
            }
            Step::Advance { service, deployment, rollout } => format!(
                "advance {} {} {rollout:?}",
                self.name(Noun::Service, service.bits()),
                self.name(Noun::Deployment, deployment.bits())
            ),
            Step::FailDeployment { .. }
            | Step::Turn { .. }
            | Step::RetireTaskSet { .. }
            | Step::AnswerHook { .. } => self.show_course(step),
            Step::Fire { schedule, latest, missed, next, .. } => {
                self.world.name_run(*schedule, *latest);
                self.show_run(*schedule, *latest, *missed, *next)
            }
            Step::StartAttempts { job, tasks } => {
                let tasks: Vec<String> = tasks.iter().map(|id| self.christen(*id)).collect();
                format!("start for {}: {}", self.name(Noun::Job, job.bits()), tasks.join(" "))
            }
            Step::TimeOutJob { job } => format!("time out {}", self.name(Noun::Job, job.bits())),
            Step::Event { text, .. } => format!("event {text}"),
            Step::Explain { task, waiting } => self.show_waiting(*task, waiting),
            Step::Forget { tasks } => {
                let names: Vec<String> = tasks.iter().map(|t| self.task_name(*t)).collect();
                format!("forget {}", names.join(" "))
            }
            Step::Retire { service } => {
                format!("retire {}", self.name(Noun::Service, service.bits()))
            }
            Step::RemoveDefinitions { definitions } => {
                format!("remove definitions {}", definitions.len())
            }
            Step::Purge { services, instances } => {
                let mut names: Vec<String> =
                    services.iter().map(|s| self.name(Noun::Service, s.bits())).collect();
                names.extend(instances.iter().map(|i| self.instance_name(*i)));
                format!("purge {}", names.join(" "))
            }
        };
        self.readable(&line)
    }
}
