//! `muster task logs` and `muster service logs`: what containers wrote, in order of time; followed,
//! as it comes, with each line once whatever breaks meanwhile.

use super::CliError;
use super::context::Context;
use super::follow::{self, Member, TASKS_MAX, Then};
use super::output::{self, Format};
use super::{moment, task};
use clap::Args;
use futures::future::join_all;
use futures::stream::StreamExt;
use muster_agent::logs::in_order;
use muster_proto::{error, pb};
use prost_types::Timestamp;
use std::collections::BTreeMap;
use std::time::SystemTime;

/// Digits of a task's id before its lines: twelve say when it was made, eight tell those of one
/// moment apart.
const SHORT: usize = 20;

#[derive(Debug, Args)]
pub struct Logs {
    task: String,
    #[command(flatten)]
    wanted: Wanted,
}

#[derive(Debug, Args)]
pub struct ServiceLogs {
    name: String,
    #[command(flatten)]
    wanted: Wanted,
}

#[derive(Debug, Args)]
struct Wanted {
    /// Go on as more is written; ends with the task.
    #[arg(long, short)]
    follow: bool,
    /// This many lines from the end of each container's log.
    #[arg(long)]
    tail: Option<i32>,
    /// Only lines from this time on: a span before now, such as 90s, 10m or 2h30m, or a time, such
    /// as 2026-01-31T15:04:05Z.
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    since: Option<Timestamp>,
    /// Only lines up to this time; with --follow it ends then.
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    until: Option<Timestamp>,
    /// One container; otherwise all, each line under its container's name.
    #[arg(long, default_value = "", hide_default_value = true)]
    container: String,
}

/// How far the log of one container was printed: the moment of its newest line, and its lines of
/// that moment.
#[derive(Default)]
struct Place {
    at: (i64, i32),
    lines: Vec<pb::LogsResponse>,
    /// After a break all from some moment on is read again: whether that is still so, and what was
    /// printed of the newest moment and was not read again yet.
    again: bool,
    to_skip: Vec<pb::LogsResponse>,
}

fn moment_of(line: &pb::LogsResponse) -> (i64, i32) {
    line.at.as_ref().map_or((0, 0), |at| (at.seconds, at.nanos))
}

impl Place {
    fn is_new(&mut self, line: &pb::LogsResponse) -> bool {
        let at = moment_of(line);
        if at < self.at {
            // Of a clock that was set back, unless it was printed before the break.
            return !self.again;
        }
        if at > self.at {
            (self.at, self.lines) = (at, Vec::new());
            self.again = false;
            self.to_skip.clear();
        }
        if let Some(known) = self.to_skip.iter().position(|printed| printed == line) {
            self.to_skip.remove(known);
            return false;
        }
        self.lines.push(line.clone());
        true
    }
}

/// The log of one task, however often its stream breaks.
struct Reader {
    request: pb::LogsRequest,
    places: BTreeMap<String, Place>,
}

impl Reader {
    /// Asks again from the earliest moment that some container may have gone on from.
    fn resume(&mut self) {
        let Some(&(seconds, nanos)) = self.places.values().map(|place| &place.at).min() else {
            return;
        };
        self.request.since = Some(Timestamp { seconds, nanos });
        self.request.tail = None;
        for place in self.places.values_mut() {
            place.again = true;
            place.to_skip.clone_from(&place.lines);
        }
    }

    /// Reads until the stream ends; again, from where it was, if it did so before.
    async fn read(&mut self, context: &Context, screen: &Screen<'_>) -> Result<Then, CliError> {
        self.resume();
        let mut lines = open(context, self.request.clone()).await?;
        while let Some(line) = context.next(&mut lines).await? {
            if self.places.entry(line.container.clone()).or_default().is_new(&line) {
                screen.print(&self.request.task, &line)?;
            }
        }
        let over = |until: &Timestamp| {
            SystemTime::try_from(*until).is_ok_and(|until| until < SystemTime::now())
        };
        Ok(if self.request.until.as_ref().is_some_and(over) { Then::Done } else { Then::More })
    }
}

async fn open(
    context: &Context,
    request: pb::LogsRequest,
) -> Result<tonic::Streaming<pb::LogsResponse>, CliError> {
    context.live(request, async |mut live, r| live.logs(r).await).await
}

/// Where lines go, and what stands before them.
struct Screen<'c> {
    context: &'c Context,
    /// Lines of several tasks.
    tasks: bool,
    /// Lines of several containers.
    containers: bool,
}

impl Screen<'_> {
    fn print(&self, task: &str, line: &pb::LogsResponse) -> Result<(), CliError> {
        let (task, text) = (output::short(task), String::from_utf8_lossy(&line.line));
        if self.context.output == Format::Json {
            return output::json_line(&serde_json::json!({
                "task": task,
                "container": line.container,
                "stream": line.stream,
                "at": line.at.as_ref().map(ToString::to_string),
                "line": text,
            }));
        }
        let task = task.get(..SHORT).unwrap_or(task);
        output::print(&match (self.tasks, self.containers) {
            (true, true) => format!("{task} {} | {text}\n", line.container),
            (true, false) => format!("{task} | {text}\n"),
            (false, true) => format!("{} | {text}\n", line.container),
            (false, false) => format!("{text}\n"),
        })
    }
}

impl Wanted {
    fn request(&self, context: &Context, task: &str) -> pb::LogsRequest {
        pb::LogsRequest {
            cluster: context.cluster.clone(),
            task: task.to_owned(),
            container: self.container.clone(),
            follow: self.follow,
            tail: self.tail,
            since: self.since,
            until: self.until,
        }
    }

    fn reader(&self, context: &Context, task: &str) -> Reader {
        Reader { request: self.request(context, task), places: BTreeMap::new() }
    }

    async fn follow(&self, screen: &Screen<'_>, member: Member) -> Result<(), CliError> {
        let Member { task, came } = &member;
        let mut reader = self.reader(screen.context, task);
        if *came {
            reader.request.tail = None;
        }
        let read = async || reader.read(screen.context, screen).await;
        follow::until_stopped(screen.context, task, read).await
    }
}

impl Logs {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let containers = self.wanted.container.is_empty();
        let screen = Screen { context, tasks: false, containers };
        if self.wanted.follow {
            let member = Member { task: self.task, came: false };
            return self.wanted.follow(&screen, member).await;
        }
        let mut reader = self.wanted.reader(context, &self.task);
        let read = async || reader.read(context, &screen).await;
        follow::once(context, &self.task, read).await.map(drop)
    }
}

impl ServiceLogs {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let containers = self.wanted.container.is_empty();
        let screen = Screen { context, tasks: true, containers };
        if self.wanted.follow {
            let follow = async |member| self.wanted.follow(&screen, member).await;
            let followed = follow::service(context, &self.name, follow);
            return match self.wanted.until {
                Some(until) => end_at(until, followed).await,
                None => followed.await,
            };
        }
        let tasks = self.readable(context).await?;
        let wanted = &self.wanted;
        let opened = join_all(tasks.into_iter().map(|task| async move {
            let opened = open(context, wanted.request(context, &task)).await;
            (task, opened)
        }));
        let mut streams = Vec::new();
        let mut lost = 0;
        let mut lose = |task: &str, error: CliError| {
            // An agent that has nothing of a task says so: it never ran there, or its log aged out.
            lost += u32::from(!follow::is_refusal(&error));
            eprintln!("task {}: {error}", output::short(task));
        };
        for (task, opened) in opened.await {
            match opened {
                Ok(stream) => streams.push(
                    stream
                        .map(move |line| match line {
                            Ok(line) => Ok((task.clone(), line)),
                            Err(status) => Err((task.clone(), status)),
                        })
                        .boxed(),
                ),
                Err(error) => lose(&task, error),
            }
        }
        let at = |(_, line): &(String, pb::LogsResponse)| millis(line);
        let mut lines = std::pin::pin!(in_order(streams, at));
        while let Some(line) = lines.next().await {
            match line {
                Ok((task, line)) => screen.print(&task, &line)?,
                Err((task, status)) => lose(&task, CliError::Broke(error::from_status(&status))),
            }
        }
        match lost {
            0 => Ok(()),
            lost => Err(CliError::Failed(format!("{lost} logs are not whole, as said above"))),
        }
    }

    /// Tasks of which there may be lines: those that run and the last ones that ran, on instances
    /// that can be asked.
    async fn readable(&self, context: &Context) -> Result<Vec<String>, CliError> {
        let (mut arns, stopped) = follow::tasks_of(context, &self.name).await?;
        arns.extend(stopped);
        arns.sort();
        arns.dedup();
        let mut tasks = task::present(context, arns).await?;
        tasks.retain(|task| !matches!(task.last_status.as_str(), "PROVISIONING" | "PENDING"));
        let (mut tasks, away): (Vec<_>, Vec<_>) =
            tasks.into_iter().partition(|task| task.connectivity != "DISCONNECTED");
        for task in away {
            let (id, instance) = (output::short(&task.task_arn), &task.instance_name);
            eprintln!("task {id}: container instance {instance} is not connected");
        }
        // The newest first.
        tasks.sort_by_key(|task| {
            let created = task.created_at.as_ref().map(|at| (at.seconds, at.nanos));
            (task.desired_status == "STOPPED", std::cmp::Reverse(created))
        });
        if tasks.len() > TASKS_MAX {
            let left = tasks.len() - TASKS_MAX;
            eprintln!(
                "service {}: the {TASKS_MAX} newest tasks, {left} older ones are left out; \
                 `muster task logs` reads any",
                self.name
            );
            tasks.truncate(TASKS_MAX);
        }
        Ok(tasks.into_iter().map(|task| task.task_arn).collect())
    }
}

fn millis(line: &pb::LogsResponse) -> u64 {
    let (seconds, nanos) = moment_of(line);
    let millis = i128::from(seconds) * 1000 + i128::from(nanos) / 1_000_000;
    u64::try_from(millis).unwrap_or(0)
}

/// Lines of the last moment are still on their way when it is over.
const LAST_LINES_WAIT: std::time::Duration = std::time::Duration::from_secs(2);

async fn end_at(
    until: Timestamp,
    followed: impl Future<Output = Result<(), CliError>>,
) -> Result<(), CliError> {
    let until = SystemTime::try_from(until).unwrap_or(SystemTime::UNIX_EPOCH);
    let left = until.duration_since(SystemTime::now()).unwrap_or_default();
    match tokio::time::timeout(left + LAST_LINES_WAIT, followed).await {
        Ok(ended) => ended,
        Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(container: &str, seconds: i64, text: &str) -> pb::LogsResponse {
        pb::LogsResponse {
            container: container.into(),
            at: Some(Timestamp { seconds, nanos: 0 }),
            line: text.as_bytes().to_vec().into(),
            ..Default::default()
        }
    }

    fn show(reader: &mut Reader, line: &pb::LogsResponse) -> bool {
        reader.places.entry(line.container.clone()).or_default().is_new(line)
    }

    #[test]
    fn a_log_that_is_followed_through_another_manager_says_each_line_once() {
        let request = pb::LogsRequest { tail: Some(3), ..Default::default() };
        let mut reader = Reader { request, places: BTreeMap::new() };
        for line in
            [line("a", 1, "x"), line("b", 1, "y"), line("a", 5, "same"), line("a", 5, "same")]
        {
            assert!(show(&mut reader, &line), "{line:?}");
        }
        reader.resume();
        let request = &reader.request;
        assert_eq!((request.since.unwrap_or_default().seconds, request.tail), (1, None));
        let again = [
            (line("a", 1, "x"), false),
            (line("b", 1, "y"), false),
            (line("b", 3, "while nobody looked"), true),
            (line("a", 5, "same"), false),
            (line("a", 5, "same"), false),
            (line("a", 5, "same"), true),
            (line("a", 6, "new"), true),
        ];
        for (line, new) in again {
            assert_eq!(show(&mut reader, &line), new, "{line:?}");
        }
    }

    #[test]
    fn a_clock_that_is_set_back_hides_no_line() {
        let mut reader = Reader { request: pb::LogsRequest::default(), places: BTreeMap::new() };
        for line in [line("a", 9, "x"), line("a", 4, "set back"), line("a", 5, "on")] {
            assert!(show(&mut reader, &line), "{line:?}");
        }
        reader.resume();
        assert!(!show(&mut reader, &line("a", 9, "x")));
        assert!(show(&mut reader, &line("a", 10, "later")));
        assert!(show(&mut reader, &line("a", 6, "set back again")));
    }
}
