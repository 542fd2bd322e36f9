//! Logs, stats and commands in containers, with an agent played by the test.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use futures::StreamExt;
use muster_api::live::{Attached, LiveBackend};
use muster_model::{Error, TaskId};
use muster_proto::dispatch::attach_order::What;
use muster_proto::dispatch::{
    AttachDown, AttachUp, ContainerStats, LogLine, TaskStats, attach_down, attach_up,
};
use muster_proto::pb;
use std::sync::Arc;
use support::{Bench, definition, user};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

/// Says two lines, or echoes what it is sent until the input is closed.
struct Agent;

fn up(message: attach_up::Message) -> Result<AttachUp, Status> {
    Ok(AttachUp { message: Some(message) })
}

#[tonic::async_trait]
impl LiveBackend for Agent {
    async fn attach(&self, _task: TaskId, what: What) -> Result<Attached, Error> {
        let (down, mut input) = mpsc::channel::<Result<AttachDown, Status>>(4);
        let (say, said) = mpsc::channel(4);
        tokio::spawn(async move {
            match what {
                What::Logs(wanted) => {
                    let until = wanted.until.map_or(0, |until| until.seconds);
                    for (n, stderr) in [(1, false), (2, true)] {
                        let line = LogLine {
                            container: "main".into(),
                            stderr,
                            at_ms: 1500,
                            line: format!("line {n} of {:?} {until}", wanted.tail)
                                .into_bytes()
                                .into(),
                            partial: false,
                        };
                        let _ = say.send(up(attach_up::Message::Log(line))).await;
                    }
                }
                // As one that does not know the order.
                What::Stats(wanted) if wanted.follow => {
                    let why = "this order is not supported: the agent is older than the manager";
                    let _ = say.send(up(attach_up::Message::Error(why.into()))).await;
                }
                What::Stats(_) => {
                    let used = ContainerStats {
                        container: "main".into(),
                        cpu_millicores: 1250,
                        memory_bytes: 3 << 20,
                        pids: 2,
                        received_bytes: Some(7),
                        ..Default::default()
                    };
                    let stats = TaskStats { at_ms: 1500, containers: vec![used] };
                    let _ = say.send(up(attach_up::Message::Stats(stats))).await;
                }
                What::Exec(wanted) if wanted.command == ["sleep"] => {
                    let _ = say.send(up(attach_up::Message::Stdout("up".into()))).await;
                    say.closed().await;
                }
                What::Exec(wanted) if wanted.command == ["missing"] => {
                    let _ = say.send(up(attach_up::Message::Error("no such program".into()))).await;
                }
                What::Exec(_) => {
                    while let Some(Ok(message)) = input.recv().await {
                        let echo = match message.message {
                            Some(attach_down::Message::Stdin(bytes)) => {
                                attach_up::Message::Stdout(bytes)
                            }
                            Some(attach_down::Message::Resize(size)) => {
                                let text = format!("{}x{}", size.rows, size.columns);
                                attach_up::Message::Stderr(text.into_bytes().into())
                            }
                            _ => break,
                        };
                        let _ = say.send(up(echo)).await;
                    }
                    let _ = say.send(up(attach_up::Message::ExitCode(3))).await;
                }
            }
        });
        Ok(Attached { up: Box::pin(ReceiverStream::new(said)), down })
    }
}

/// A bench with one task, and its id.
async fn prepared() -> (Bench, String) {
    let (memory, replica) = muster_replica::memory::Memory::start_with(support::bootstrapped());
    let mut bench = Bench::with_live(memory, replica, Arc::new(Agent)).await;
    bench.instance(4096, 4096).await;
    let _planner = bench.planner();
    let mut ecs = bench.admin().await;
    ecs.register_task_definition(definition("web", 1, 64)).await.unwrap();
    let run = pb::RunTaskRequest { task_definition: "web".into(), ..Default::default() };
    let told = ecs.run_task(run).await.unwrap().into_inner();
    let task = told.tasks[0].task_arn.rsplit('/').next().unwrap().to_owned();
    (bench, task)
}

#[tokio::test]
async fn logs_come_line_by_line_and_end() {
    let (bench, task) = prepared().await;
    let mut live = bench.live(user("admin")).await;
    let until = Some(at(9));
    let request = pb::LogsRequest { task, tail: Some(2), until, ..Default::default() };
    let lines: Vec<_> = live.logs(request).await.unwrap().into_inner().collect().await;
    let told: Vec<_> = lines
        .into_iter()
        .map(|line| line.unwrap())
        .map(|line| (line.stream, String::from_utf8(line.line.to_vec()).unwrap()))
        .collect();
    let expected = [("stdout", "line 1 of Some(2) 9"), ("stderr", "line 2 of Some(2) 9")];
    assert_eq!(told, expected.map(|(s, l)| (s.to_owned(), l.to_owned())));
}

fn at(seconds: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds, nanos: 0 }
}

#[tokio::test]
async fn a_span_of_logs_that_ends_before_it_begins_is_refused() {
    let (bench, task) = prepared().await;
    let mut live = bench.live(user("admin")).await;
    let span = |since, until| pb::LogsRequest {
        task: task.clone(),
        since: Some(at(since)),
        until: Some(at(until)),
        ..Default::default()
    };
    let refused = live.logs(span(3, 2)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let told = refused.message();
    assert!(told.contains("until: \"1970-01-01T00:00:02Z\"") && told.contains("00:03Z"), "{told}");
    live.logs(span(2, 2)).await.unwrap();
}

#[tokio::test]
async fn what_a_task_uses_is_told_once_and_an_old_agent_says_that_it_cannot() {
    let (mut bench, task) = prepared().await;
    bench.running(&task).await;
    let mut live = bench.live(user("admin")).await;
    let request = pb::StatsRequest { task: task.clone(), ..Default::default() };
    let told: Vec<_> = live.stats(request).await.unwrap().into_inner().collect().await;
    let [Ok(sample)] = &told[..] else { panic!("{told:?}") };
    let used = &sample.containers[0];
    assert_eq!((used.container.as_str(), used.cpu_millicores, used.pids), ("main", 1250, 2));
    assert_eq!((used.memory_bytes, used.received_bytes, used.sent_bytes), (3 << 20, Some(7), None));
    let request = pb::StatsRequest { task, follow: true, ..Default::default() };
    let refused = live.stats(request).await.unwrap().into_inner().message().await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("older than the manager"), "{refused}");
    let missing = pb::StatsRequest { task: "0".repeat(32), ..Default::default() };
    assert_eq!(live.stats(missing).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn what_cannot_be_followed_is_refused_before_any_stream() {
    let (bench, task) = prepared().await;
    let mut live = bench.live(user("admin")).await;
    let container = "sidecar".into();
    let wrong = pb::LogsRequest { task: task.clone(), container, ..Default::default() };
    let refused = live.logs(wrong).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("main"), "{refused}");
    let missing = pb::LogsRequest { task: "0".repeat(32), ..Default::default() };
    assert_eq!(live.logs(missing).await.unwrap_err().code(), Code::NotFound);
    bench.memory.lead(false);
    let request = pb::LogsRequest { task, ..Default::default() };
    let refused = live.logs(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("only the leader"), "{refused}");
}

fn message(message: pb::exec_request::Message) -> pb::ExecRequest {
    pb::ExecRequest { message: Some(message) }
}

#[tokio::test]
async fn a_command_hears_its_input_and_ends_with_its_exit_code() {
    use pb::exec_request::{Message, Resize, Start};
    use pb::exec_response::Message as Told;
    let (mut bench, task) = prepared().await;
    bench.running(&task).await;
    let mut live = bench.live(user("admin")).await;
    let start = Start { task, command: vec!["cat".into()], ..Default::default() };
    let input = [
        message(Message::Start(start)),
        message(Message::Stdin("hello".into())),
        message(Message::Resize(Resize { rows: 2, columns: 3 })),
        message(Message::StdinClosed(true)),
    ];
    let answers = live.exec(tokio_stream::iter(input)).await.unwrap().into_inner();
    let told: Vec<_> = answers.map(|answer| answer.unwrap().message.unwrap()).collect().await;
    let expected = [Told::Stdout("hello".into()), Told::Stderr("2x3".into()), Told::ExitCode(3)];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_command_needs_a_start_and_a_running_task() {
    use pb::exec_request::{Message, Start};
    let (bench, task) = prepared().await;
    let mut live = bench.live(user("admin")).await;
    let without = tokio_stream::iter([message(Message::Stdin("x".into()))]);
    assert_eq!(live.exec(without).await.unwrap_err().code(), Code::InvalidArgument);
    let start = Start { task, command: vec!["cat".into()], ..Default::default() };
    let early = tokio_stream::iter([message(Message::Start(start))]);
    let refused = live.exec(early).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("not RUNNING"), "{refused}");
}

#[tokio::test]
async fn a_command_that_cannot_run_is_an_error_and_no_exit_code() {
    use pb::exec_request::{Message, Start};
    let (mut bench, task) = prepared().await;
    bench.running(&task).await;
    let mut live = bench.live(user("admin")).await;
    let start = |command: &[&str]| {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        tokio_stream::iter([message(Message::Start(Start {
            task: task.clone(),
            command,
            ..Default::default()
        }))])
    };
    let refused = live.exec(start(&[])).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let mut answers = live.exec(start(&["missing"])).await.unwrap().into_inner();
    let refused = answers.message().await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("no such program"), "{refused}");
}

#[tokio::test]
async fn a_stopping_manager_ends_its_streams() {
    use pb::exec_request::{Message, Start};
    let (mut bench, task) = prepared().await;
    bench.running(&task).await;
    let mut live = bench.live(user("admin")).await;
    let start = Start { task, command: vec!["sleep".into()], ..Default::default() };
    let input =
        tokio_stream::iter([message(Message::Start(start))]).chain(futures::stream::pending());
    let mut answers = live.exec(input).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().is_some());
    bench.api.stop_serving().await;
    let ended = tokio::time::timeout(std::time::Duration::from_secs(5), answers.message()).await;
    assert_eq!(ended.unwrap().unwrap_err().code(), Code::Unavailable);
}
