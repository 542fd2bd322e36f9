//! Logs of tasks, what they use, and commands in their containers: which task, and on to its agent.

use crate::call::Call;
use crate::dispatcher::Dispatcher;
use crate::limits::LIVE_STREAMS_MAX;
use crate::live::{self, Answers, Input};
use crate::resolve;
use futures::stream::{self, StreamExt};
use muster_model::{Error, Phase, State, Task};
use muster_proto::dispatch::attach_order::What;
use muster_proto::dispatch::{AttachExec, AttachLogs, AttachStats};
use muster_proto::{arn, pb};
use prost_types::Timestamp;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// Of a command that somebody runs, what its line in the log says.
const AUDITED_CHARS_MAX: usize = 256;

impl Dispatcher {
    /// Lines of a task's containers; without `follow` the stream ends with the last one kept.
    pub async fn logs(
        &self,
        call: &Call,
        request: pb::LogsRequest,
    ) -> Result<Answers<pb::LogsResponse>, Error> {
        self.require_leading("reach the agents")?;
        let state = self.view(call, false).await?;
        let task = find(&state, &request.cluster, &request.task)?;
        if !request.container.is_empty() {
            container(&state, task, &request.container)?;
        }
        check_span(request.since.as_ref(), request.until.as_ref())?;
        let permit = self.stream()?;
        let what = What::Logs(AttachLogs {
            container: request.container,
            follow: request.follow,
            tail: request.tail,
            since: request.since,
            until: request.until,
        });
        let attached = self.live.attach(task.id, what).await?;
        Ok(self.held(live::lines(attached), permit))
    }

    /// What a task's running containers use.
    pub async fn stats(
        &self,
        call: &Call,
        request: pb::StatsRequest,
    ) -> Result<Answers<pb::StatsResponse>, Error> {
        self.require_leading("reach the agents")?;
        let state = self.view(call, false).await?;
        let task = find(&state, &request.cluster, &request.task)?;
        if task.last_status() == Phase::Stopped {
            return Err(Error::refused(format!("task {} is STOPPED: it uses nothing", task.id)));
        }
        let permit = self.stream()?;
        let what = What::Stats(AttachStats { follow: request.follow });
        let attached = self.live.attach(task.id, what).await?;
        Ok(self.held(live::samples(attached), permit))
    }

    /// Runs a command in a running container. Without a name: the only one, or the first.
    pub async fn exec(
        &self,
        call: &Call,
        start: pb::exec_request::Start,
        input: Input,
    ) -> Result<Answers<pb::ExecResponse>, Error> {
        self.require_leading("reach the agents")?;
        let state = self.view(call, false).await?;
        let task = find(&state, &start.cluster, &start.task)?;
        if start.command.is_empty() {
            return Err(Error::invalid("command", "[]", "a program and its arguments"));
        }
        if task.last_status() != Phase::Running {
            let why = format!("task {} is not RUNNING; see `muster task describe`", task.id);
            return Err(Error::refused(why));
        }
        let container = container(&state, task, &start.container)?;
        let permit = self.stream()?;
        let words: String = start.command.join(" ").chars().take(AUDITED_CHARS_MAX).collect();
        let instance = task.instance.map(|instance| instance.to_string()).unwrap_or_default();
        let what = What::Exec(AttachExec {
            container: container.clone(),
            command: start.command,
            tty: start.tty,
            rows: start.rows,
            columns: start.columns,
        });
        tracing::info!(
            task = %task.id, by = %call.principal, container, instance, tty = start.tty,
            command = words, "command in a container"
        );
        let attached = self.live.attach(task.id, what).await?;
        Ok(self.held(live::session(attached, input), permit))
    }

    fn stream(&self) -> Result<OwnedSemaphorePermit, Error> {
        self.streams.clone().try_acquire_owned().map_err(|_| {
            let limit = LIVE_STREAMS_MAX as u64;
            let what = "log, stats and command streams on this manager".to_owned();
            Error::LimitExceeded { what, value: limit + 1, limit }
        })
    }

    /// Ends with this manager, and gives the permit back with its end.
    fn held<T: Send + 'static>(
        &self,
        answers: Answers<T>,
        permit: OwnedSemaphorePermit,
    ) -> Answers<T> {
        let stopping = self.stopping.clone();
        let told = stream::once(async move {
            let _held = permit;
            stopping.is_cancelled().then(|| Err(Self::stopped()))
        });
        let told = told.filter_map(futures::future::ready);
        Box::pin(answers.take_until(self.stopping.clone().cancelled_owned()).chain(told))
    }
}

fn check_span(since: Option<&Timestamp>, until: Option<&Timestamp>) -> Result<(), Error> {
    match (since, until) {
        (Some(since), Some(until))
            if (until.seconds, until.nanos) < (since.seconds, since.nanos) =>
        {
            Err(Error::invalid(
                "until",
                until.to_string(),
                format!("a time from `since` on, {since}"),
            ))
        }
        _ => Ok(()),
    }
}

fn find<'s>(state: &'s State, cluster: &str, text: &str) -> Result<&'s Arc<Task>, Error> {
    resolve::task(state, arn::cluster(state, cluster)?, text)
}

/// A container of the task by name; the first for no name.
fn container(state: &State, task: &Task, name: &str) -> Result<String, Error> {
    let spec = state.spec_of(task);
    let names: Vec<&str> =
        spec.iter().flat_map(|spec| &spec.containers).map(|c| c.name.as_str()).collect();
    match (name, names.first()) {
        ("", Some(first)) => Ok((*first).to_owned()),
        (name, _) if names.contains(&name) => Ok(name.to_owned()),
        (name, _) => Err(Error::invalid("container", name, names.join(", "))),
    }
}
