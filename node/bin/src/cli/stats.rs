//! `muster task stats` and `muster service stats`: what containers use, once or each second.

use super::CliError;
use super::context::Context;
use super::follow::{self, Member, TASKS_MAX, Then};
use super::output::{self, Format};
use super::task;
use clap::Args;
use futures::future::join_all;
use muster_proto::pb;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

/// Between two tables.
const SHOW_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub struct Stats {
    task: String,
    #[command(flatten)]
    wanted: Wanted,
}

#[derive(Debug, Args)]
pub struct ServiceStats {
    name: String,
    #[command(flatten)]
    wanted: Wanted,
}

#[derive(Debug, Args)]
struct Wanted {
    /// Each second, until the task ends.
    #[arg(long, short, visible_alias = "watch")]
    follow: bool,
}

/// The newest sample of each task, by ARN or as the user named it.
type Newest = RefCell<BTreeMap<String, pb::StatsResponse>>;

impl Stats {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        if self.wanted.follow {
            let newest = Newest::default();
            let kept = keep(context, &self.task, &newest);
            return shown_while(context, &newest, kept).await;
        }
        let read = async || sample(context, &self.task).await;
        let sample = follow::once(context, &self.task, read).await?;
        show(context, &BTreeMap::from([(self.task.clone(), sample)]))
    }
}

impl ServiceStats {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        if self.wanted.follow {
            let newest = Newest::default();
            let read = async |member: Member| keep(context, &member.task, &newest).await;
            let followed = follow::service(context, &self.name, read);
            return shown_while(context, &newest, followed).await;
        }
        let (arns, _) = follow::tasks_of(context, &self.name).await?;
        let mut tasks = task::present(context, arns).await?;
        tasks.retain(|task| task.last_status == "RUNNING");
        if tasks.len() > TASKS_MAX {
            let (name, left) = (&self.name, tasks.len() - TASKS_MAX);
            eprintln!("service {name}: {TASKS_MAX} of its tasks, {left} are left out");
            tasks.truncate(TASKS_MAX);
        }
        let asked = tasks.into_iter().map(|task| async move {
            let told = sample(context, &task.task_arn).await;
            (told, task.task_arn)
        });
        let mut newest = BTreeMap::new();
        for (told, task) in join_all(asked).await {
            match told {
                Ok(sample) => drop(newest.insert(task, sample)),
                Err(error) => eprintln!("task {}: {error}", output::short(&task)),
            }
        }
        show(context, &newest)
    }
}

fn request(context: &Context, task: &str) -> pb::StatsRequest {
    let (cluster, task) = (context.cluster.clone(), task.to_owned());
    pb::StatsRequest { cluster, task, follow: false }
}

async fn sample(context: &Context, task: &str) -> Result<pb::StatsResponse, CliError> {
    let request = request(context, task);
    let mut samples = context.live(request, async |mut live, r| live.stats(r).await).await?;
    let sample = context.next(&mut samples).await?;
    sample.ok_or_else(|| CliError::Failed(format!("task {} has just ended", output::short(task))))
}

/// Keeps the newest sample of a task until it has stopped.
async fn keep(context: &Context, task: &str, newest: &Newest) -> Result<(), CliError> {
    let read = async || {
        let request = pb::StatsRequest { follow: true, ..request(context, task) };
        let mut samples = context.live(request, async |mut live, r| live.stats(r).await).await?;
        while let Some(sample) = context.next(&mut samples).await? {
            newest.borrow_mut().insert(task.to_owned(), sample);
        }
        Ok(Then::More)
    };
    let ended = follow::until_stopped(context, task, read).await;
    newest.borrow_mut().remove(task);
    match ended {
        // What a stopped task uses cannot be asked.
        Err(error) if follow::is_refusal(&error) => Ok(()),
        other => other,
    }
}

/// Shows what there is each second while it is being read.
async fn shown_while(
    context: &Context,
    newest: &Newest,
    read: impl Future<Output = Result<(), CliError>>,
) -> Result<(), CliError> {
    let mut read = std::pin::pin!(read);
    let mut turns = tokio::time::interval(SHOW_EVERY);
    loop {
        tokio::select! {
            ended = &mut read => return ended,
            _ = turns.tick() => {
                let newest = newest.borrow();
                if newest.is_empty() {
                    continue;
                }
                if context.output == Format::Table && std::io::stdout().is_terminal() {
                    // Home, and nothing below.
                    output::print("\x1b[H\x1b[2J")?;
                }
                show(context, &newest)?;
            }
        }
    }
}

fn show(context: &Context, newest: &BTreeMap<String, pb::StatsResponse>) -> Result<(), CliError> {
    let rows = newest.iter().flat_map(|(task, sample)| {
        sample.containers.iter().map(move |used| (output::short(task), sample, used))
    });
    if context.output == Format::Json {
        return rows.into_iter().try_for_each(|(task, sample, used)| {
            output::json_line(&serde_json::json!({
                "task": task,
                "container": used.container,
                "at": sample.at.as_ref().map(ToString::to_string),
                "cpuMillicores": used.cpu_millicores,
                "memoryBytes": used.memory_bytes,
                "memoryLimitBytes": used.memory_limit_bytes,
                "pids": used.pids,
                "receivedBytes": used.received_bytes,
                "sentBytes": used.sent_bytes,
                "readBytes": used.read_bytes,
                "writtenBytes": used.written_bytes,
            }))
        });
    }
    output::print(&output::table(
        &["TASK", "CONTAINER", "CPU", "MEMORY", "PIDS", "RECEIVED", "SENT", "READ", "WRITTEN"],
        rows.map(|(task, _, used)| {
            vec![
                task.to_owned(),
                used.container.clone(),
                percent(used.cpu_millicores),
                memory(used),
                used.pids.to_string(),
                used.received_bytes.map(size).unwrap_or_default(),
                used.sent_bytes.map(size).unwrap_or_default(),
                size(used.read_bytes),
                size(used.written_bytes),
            ]
        }),
    ))
}

/// Of one core, as `docker stats` has it.
fn percent(millicores: u64) -> String {
    format!("{}.{}%", millicores / 10, millicores % 10)
}

fn memory(used: &pb::ContainerStats) -> String {
    match used.memory_limit_bytes {
        0 => size(used.memory_bytes),
        limit => format!("{} / {}", size(used.memory_bytes), size(limit)),
    }
}

/// With one decimal, in the largest unit that it reaches.
fn size(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.into_iter().find(|(_, shift)| bytes >> shift > 0) {
        None => format!("{bytes}B"),
        Some((unit, shift)) => {
            let tenths = (u128::from(bytes) * 10) >> shift;
            format!("{}.{}{unit}", tenths / 10, tenths % 10)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_shares_are_shown_with_one_decimal() {
        for (bytes, shown) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.0KiB"),
            (1_600_000, "1.5MiB"),
            (3 << 30, "3.0GiB"),
            (u64::MAX, "17179869183.9GiB"),
        ] {
            assert_eq!(size(bytes), shown);
        }
        assert_eq!(
            (percent(0), percent(15), percent(2004)),
            ("0.0%".into(), "1.5%".into(), "200.4%".into())
        );
    }
}
