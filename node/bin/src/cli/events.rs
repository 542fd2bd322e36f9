//! `muster events`: what happens in a cluster, as it is applied.

use super::CliError;
use super::context::Context;
use super::output::{self, Format};
use clap::Args;
use muster_proto::{json, pb};
use pb::watch_response::change::Row;
use std::collections::{BTreeMap, VecDeque};

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

/// What was printed, so that a stream that was opened again says nothing twice.
#[derive(Default)]
struct Shown {
    /// Newest text of each task and instance.
    last: BTreeMap<String, String>,
    events: VecDeque<String>,
    again: bool,
}

/// Events remembered: more than one service keeps times those that move at once.
const EVENTS_REMEMBERED: usize = 10_000;

impl Shown {
    fn first(&mut self, event: &str) -> bool {
        if self.events.iter().rev().any(|known| known == event) {
            return false;
        }
        if self.events.len() == EVENTS_REMEMBERED {
            self.events.pop_front();
        }
        self.events.push_back(event.to_owned());
        true
    }

    fn moved(&mut self, arn: &str, text: &str) -> bool {
        self.last.insert(arn.to_owned(), text.to_owned()).as_deref() != Some(text)
    }
}

/// When a row without a time of its own was seen here.
fn now() -> String {
    output::time(Some(&std::time::SystemTime::now().into()))
}

impl Events {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let mut shown = Shown::default();
        loop {
            match self.watch(context, &mut shown).await {
                Err(error) if self.follow && context.follow_on(&error).await => shown.again = true,
                ended => return ended,
            }
        }
    }

    async fn watch(&self, context: &Context, shown: &mut Shown) -> Result<(), CliError> {
        let request = pb::WatchRequest {
            cluster: context.cluster.clone(),
            kinds: vec!["event".into(), "task".into(), "container-instance".into()],
            ..Default::default()
        };
        let mut changes = context.live(request, async |mut live, r| live.watch(r).await).await?;
        let mut synced = false;
        while let Some(message) = context.next(&mut changes).await? {
            for row in message.changes.into_iter().filter_map(|change| change.row) {
                self.show(context, shown, synced, row)?;
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
        shown: &mut Shown,
        synced: bool,
        row: Row,
    ) -> Result<(), CliError> {
        // What was there before we came is news only to who asked for it, or after a break.
        let fresh = synced || shown.again;
        let (about, at, text, value) = match row {
            Row::Event(watched) => {
                let Some(event) = watched.event else { return Ok(()) };
                let service = output::short(&watched.service_arn).to_owned();
                let at = output::time(event.created_at.as_ref());
                let first = shown.first(&event.id);
                if !first || (self.follow && !fresh) {
                    return Ok(());
                }
                (service, at, event.message.clone(), json::to_value(&event))
            }
            Row::Task(task) => {
                let text = format!("task {} {}", output::short(&task.task_arn), task.last_status);
                let about = task.group.strip_prefix("service:").unwrap_or("").to_owned();
                if !shown.moved(&task.task_arn, &text) || !fresh {
                    return Ok(());
                }
                (about, now(), text, json::to_value(&*task))
            }
            Row::ContainerInstance(instance) => {
                let agent = if instance.agent_connected { "connected" } else { "lost" };
                let text = format!(
                    "instance {} {} agent {agent}",
                    instance.ec2_instance_id, instance.status
                );
                if !shown.moved(&instance.container_instance_arn, &text) || !fresh {
                    return Ok(());
                }
                (String::new(), now(), text, json::to_value(&*instance))
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
