//! `muster events`: what happens in a cluster, as it is applied.

use super::CliError;
use super::context::Context;
use super::output::{self, Format};
use clap::Args;
use muster_proto::{json, pb};
use pb::watch_response::change::Row;
use std::collections::BTreeMap;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  muster events -f")]
pub struct Events {
    /// Go on with what happens from now on; otherwise the events that are kept.
    #[arg(long, short)]
    follow: bool,
    /// Only this service's events.
    #[arg(long)]
    service: Option<String>,
}

impl Events {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let request = pb::WatchRequest {
            cluster: context.cluster.clone(),
            kinds: vec!["event".into(), "task".into(), "container-instance".into()],
            ..Default::default()
        };
        let mut changes = context.live(request, async |mut live, r| live.watch(r).await).await?;
        let mut last = BTreeMap::new();
        let mut synced = false;
        while let Some(message) = context.next(&mut changes).await? {
            for row in message.changes.into_iter().filter_map(|change| change.row) {
                self.show(context, &mut last, synced, row)?;
            }
            synced |= message.synced;
            if synced && !self.follow {
                break;
            }
        }
        Ok(())
    }

    /// Prints a row if it says something new: an event, or a status that moved.
    fn show(
        &self,
        context: &Context,
        last: &mut BTreeMap<String, String>,
        synced: bool,
        row: Row,
    ) -> Result<(), CliError> {
        let (about, at, text, value) = match row {
            Row::Event(watched) => {
                let Some(event) = watched.event else { return Ok(()) };
                let service = output::short(&watched.service_arn).to_owned();
                let at = output::time(event.created_at.as_ref());
                (service, at, event.message.clone(), json::to_value(&event))
            }
            Row::Task(task) => {
                let text = format!("task {} {}", output::short(&task.task_arn), task.last_status);
                let about = task.group.strip_prefix("service:").unwrap_or("").to_owned();
                let moved = last.insert(task.task_arn.clone(), text.clone()) != Some(text.clone());
                if !synced || !moved {
                    return Ok(());
                }
                (about, String::new(), text, json::to_value(&task))
            }
            Row::ContainerInstance(instance) => {
                let agent = if instance.agent_connected { "connected" } else { "lost" };
                let text = format!(
                    "instance {} {} agent {agent}",
                    instance.ec2_instance_id, instance.status
                );
                let arn = instance.container_instance_arn.clone();
                let moved = last.insert(arn, text.clone()) != Some(text.clone());
                if !synced || !moved {
                    return Ok(());
                }
                (String::new(), String::new(), text, json::to_value(&instance))
            }
            _ => return Ok(()),
        };
        if self.service.as_ref().is_some_and(|wanted| *wanted != about) {
            return Ok(());
        }
        match context.output {
            Format::Json => output::json_line(&value),
            Format::Table => output::print(&format!("{at:19}  {text}\n")),
        }
    }
}
