//! How an entry of the log and its answer read in a trace: one line, ids cut short.

use super::world::short;
use muster_model::{Command, Entry, Error, Response, Step};

pub(super) fn shown(entry: &Entry, response: &Result<Response, Error>) -> String {
    let what = match &entry.command {
        Command::Plan { epoch, steps } => {
            let steps: Vec<String> = steps.iter().map(shown_step).collect();
            format!("Plan epoch {epoch} [{}]", steps.join(", "))
        }
        Command::Report { reports } => {
            let reports: Vec<String> = reports
                .iter()
                .map(|r| format!("{} {:?}", short(r.task), r.observed.phase))
                .collect();
            format!("Report [{}]", reports.join(", "))
        }
        Command::RegisterTaskDefinition(spec) => format!("RegisterTaskDefinition {}", spec.family),
        other => {
            let text = format!("{other:?}");
            text.chars().take(160).collect()
        }
    };
    match response {
        Ok(Response::Plan { refused } | Response::Reports { refused }) if !refused.is_empty() => {
            let why: Vec<String> = refused.iter().map(|(n, e)| format!("{n}: {e}")).collect();
            format!("{what} refused {}", why.join("; "))
        }
        Ok(_) => what,
        Err(error) => format!("{what} -> {error}"),
    }
}

fn shown_step(step: &Step) -> String {
    match step {
        Step::CreateTasks { service, tasks, .. } => {
            let tasks: Vec<String> =
                tasks.iter().map(|(slot, task)| format!("{slot}:{}", short(task))).collect();
            format!("create {} {}", short(service), tasks.join(" "))
        }
        Step::Place { task, instance, ports } => {
            format!("place {} on {} {ports:?}", short(task), short(instance))
        }
        Step::Stop { task, .. } => format!("stop {}", short(task)),
        Step::Abandon { task } => format!("abandon {}", short(task)),
        Step::SetHealth { instance, health } => format!("{} is {health:?}", short(instance)),
        Step::Advance { service, rollout, .. } => format!("{} {rollout:?}", short(service)),
        Step::Event { service, .. } => format!("event {}", short(service)),
        Step::Explain { task, .. } => format!("explain {}", short(task)),
        Step::Forget { tasks } => format!("forget {}", tasks.len()),
        Step::Retire { service } => format!("retire {}", short(service)),
        Step::RetireTaskSet { set, .. } => format!("forget set {}", short(*set)),
        Step::Purge { .. } => "purge".to_owned(),
        Step::RemoveDefinitions { .. } => "remove definitions".to_owned(),
        Step::Fire { schedule, latest, .. } => {
            format!("schedule {} fires what was due at {}", short(schedule), latest.0)
        }
        Step::StartAttempts { job, tasks } => {
            let tasks: Vec<String> = tasks.iter().map(|task| short(*task)).collect();
            format!("job {} starts {}", short(job), tasks.join(" "))
        }
        Step::TimeOutJob { job } => format!("job {} times out", short(job)),
        Step::Turn { service, turn, .. } => format!("{} turns: {turn:?}", short(service)),
        Step::AnswerHook { service, hook, answer, .. } => {
            format!("{} hears at {hook}: {answer:?}", short(service))
        }
        Step::FailDeployment { service, back_to, .. } => {
            format!("{} fails, back to {:?}", short(service), back_to.map(short))
        }
    }
}
