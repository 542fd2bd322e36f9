//! Streams from tasks that begin, break and end: of one task until it has stopped, of a service's
//! tasks as they come and go.
//!
//! It knows nothing of what the streams carry. Invariant: a task is read once more after it has
//! stopped, so that what it did last is not missed.

use super::CliError;
use super::context::Context;
use super::{output, task};
use futures::stream::{FuturesUnordered, StreamExt};
use muster_model::Error;
use muster_proto::pb;
use std::collections::{HashSet, VecDeque};
use std::time::Duration;

/// Tasks that are read at once: each is a connection here, one at its agent, and a stream of the
/// manager between them.
pub const TASKS_MAX: usize = 32;
/// Between two looks for tasks that a service got.
const LIST_EVERY: Duration = Duration::from_secs(1);
/// Before a task that has not begun, or did not stop yet, is read again.
const READ_PAUSE: Duration = Duration::from_millis(500);
/// Refusals in a row by an agent that knows the task.
const REFUSALS_MAX: u32 = 3;

/// What a reader wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// More of the task, if there will be more.
    More,
    /// Nothing: it has all that it was to have.
    Done,
}

/// An agent, or a manager for it, will not.
pub fn is_refusal(error: &CliError) -> bool {
    matches!(
        error,
        CliError::Cluster(Error::Refused { .. }) | CliError::Broke(Error::Refused { .. })
    )
}

/// ECS's last status of a task; none of one that is forgotten.
async fn last_status(context: &Context, task: &str) -> Result<Option<String>, CliError> {
    match task::describe(context, vec![task.to_owned()]).await {
        Ok(tasks) => Ok(tasks.into_iter().next().map(|task| task.last_status)),
        Err(CliError::Cluster(Error::NotFound { .. })) => Ok(None),
        // Who may read its logs may still not be allowed to look at it.
        Err(CliError::Cluster(Error::Denied { .. })) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A task of a service that is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub task: String,
    /// It came while we looked on: all of it is new.
    pub came: bool,
}

fn has_begun(status: &str) -> bool {
    !matches!(status, "PROVISIONING" | "PENDING" | "ACTIVATING")
}

/// Reads a task again and again until it has stopped: a stream ends with its manager, its agent or
/// a container that is started again, and cannot begin before the task does.
///
/// # Errors
/// Of the first reading that no later one can mend.
pub async fn until_stopped(
    context: &Context,
    task: &str,
    mut read: impl AsyncFnMut() -> Result<Then, CliError>,
) -> Result<(), CliError> {
    let mut stopped = false;
    let mut refusals = 0;
    loop {
        let outcome = read().await;
        let broke = match &outcome {
            Ok(Then::Done) => return Ok(()),
            Ok(Then::More) => false,
            Err(error) => context.follow_on(error).await,
        };
        match outcome {
            Ok(_) if stopped => return Ok(()),
            Ok(_) => refusals = 0,
            // Managers answer, or the next question says that they do not: the agent may come back.
            Err(error) if broke || (!stopped && error.is_outage()) => {}
            Err(error) if stopped || !is_refusal(&error) || refusals == REFUSALS_MAX => {
                return Err(error);
            }
            Err(_) => refusals += 1,
        }
        let status = last_status(context, task).await?;
        stopped = status.as_deref().is_none_or(|status| status == "STOPPED");
        if !status.as_deref().is_some_and(has_begun) {
            refusals = 0;
        }
        if !stopped {
            tokio::time::sleep(READ_PAUSE).await;
        }
    }
}

/// Reads a task as it is now. One that has not begun is told apart from one that is unknown.
///
/// # Errors
/// Of the reading, and when the task has not begun.
pub async fn once<A>(
    context: &Context,
    task: &str,
    mut read: impl AsyncFnMut() -> Result<A, CliError>,
) -> Result<A, CliError> {
    match read().await {
        Err(error) if is_refusal(&error) => match last_status(context, task).await? {
            Some(status) if !has_begun(&status) => Err(CliError::Failed(format!(
                "task {} has not started: it is {status}; with --follow it is waited for, and \
                 `muster task describe` says why",
                output::short(task)
            ))),
            // It may have begun between the two questions.
            Some(status) if status == "RUNNING" => read().await,
            _ => Err(error),
        },
        other => other,
    }
}

/// ARNs of a service's tasks that should run, and of those that should not any more. One that
/// changes meanwhile is in both, and none is in neither.
pub async fn tasks_of(
    context: &Context,
    service: &str,
) -> Result<(Vec<String>, Vec<String>), CliError> {
    let list = async |status: &str| {
        let request = pb::ListTasksRequest {
            cluster: context.cluster.clone(),
            service_name: service.to_owned(),
            desired_status: status.to_owned(),
            stale: context.stale,
            ..Default::default()
        };
        task::arns(context, request).await
    };
    Ok((list("RUNNING").await?, list("STOPPED").await?))
}

/// Reads from all tasks that a service has and gets, [`TASKS_MAX`] at once, the others when one of
/// them is over. One that fails is told on standard error.
///
/// # Errors
/// The service is unknown, no manager answers any more, or nobody reads our output.
pub async fn service(
    context: &Context,
    service: &str,
    read: impl AsyncFn(Member) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let (running, stopped) = tasks_of(context, service).await?;
    let mut seen: HashSet<String> = stopped.into_iter().chain(running.iter().cloned()).collect();
    let mut waiting: VecDeque<Member> =
        running.into_iter().map(|task| Member { task, came: false }).collect();
    let mut crowded = false;
    let mut reading = FuturesUnordered::new();
    let lists = futures::stream::unfold((), |()| async {
        tokio::time::sleep(LIST_EVERY).await;
        Some((tasks_of(context, service).await, ()))
    });
    let mut lists = std::pin::pin!(lists);
    loop {
        while reading.len() < TASKS_MAX
            && let Some(member) = waiting.pop_front()
        {
            let read = &read;
            reading.push(async move { (read(member.clone()).await, member.task) });
        }
        if !crowded && !waiting.is_empty() {
            crowded = true;
            eprintln!(
                "service {service} has more than {TASKS_MAX} tasks; {} wait until others end",
                waiting.len()
            );
        }
        tokio::select! {
            Some(listed) = lists.next() => {
                let (running, stopped) = listed?;
                let all: HashSet<String> = stopped.into_iter().chain(running).collect();
                let new = all.iter().filter(|task| !seen.contains(*task));
                waiting.extend(new.map(|task| Member { task: task.clone(), came: true }));
                // What is not listed any more never comes back.
                seen = all;
            }
            Some((result, task)) = reading.next() => match result {
                Err(error @ (CliError::PipeClosed | CliError::Output(_))) => return Err(error),
                Err(error) => eprintln!("task {}: {error}", output::short(&task)),
                Ok(()) => {}
            },
        }
    }
}
