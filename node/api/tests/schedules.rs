//! Schedules through gRPC: what is taken, what is refused and in which words, and who may.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use muster_model::{Command, Holder, Step, Time, UserRole};
use muster_proto::pb;
use muster_proto::pb::live_client::LiveClient;
use prost_types::Timestamp;
use support::rights::needs_run_task;
use support::{Bench, definition, user};
use tonic::transport::Channel;
use tonic::{Code, Status};

async fn bench() -> Bench {
    let bench = Bench::start().await;
    let mut ecs = bench.admin().await;
    ecs.create_cluster(pb::CreateClusterRequest::default()).await.unwrap();
    ecs.register_task_definition(definition("backup", 64, 64)).await.unwrap();
    bench
}

fn spec(name: &str) -> pb::ScheduleSpec {
    let run = pb::RunTaskRequest { task_definition: "backup".into(), ..Default::default() };
    pb::ScheduleSpec {
        name: name.into(),
        schedule_expression: "rate(1 hour)".into(),
        run_task: Some(run),
        ..Default::default()
    }
}

async fn create(
    live: &mut LiveClient<Channel>,
    spec: pb::ScheduleSpec,
) -> Result<pb::Schedule, Status> {
    let request = pb::CreateScheduleRequest { spec: Some(spec), ..Default::default() };
    Ok(live.create_schedule(request).await?.into_inner().schedule.unwrap())
}

async fn described(live: &mut LiveClient<Channel>, name: &str) -> pb::Schedule {
    let names = vec![name.to_owned()];
    let request = pb::DescribeSchedulesRequest { names, ..Default::default() };
    let answer = live.describe_schedules(request).await.unwrap().into_inner();
    answer.schedules.into_iter().next().unwrap()
}

#[tokio::test]
async fn a_schedule_is_shown_as_it_can_be_written_again() {
    let bench = bench().await;
    let mut live = bench.live(user("admin")).await;
    let run = pb::RunTaskRequest {
        task_definition: "backup:1".into(),
        count: 2,
        group: "night".into(),
        overrides: Some(pb::TaskOverride { cpu: "128".into(), ..Default::default() }),
        tags: vec![pb::Tag { key: "team".into(), value: "web".into() }],
        ..Default::default()
    };
    let written = pb::ScheduleSpec {
        schedule_expression: "cron(30 2 * * ? *)".into(),
        schedule_expression_timezone: "Europe/Berlin".into(),
        overlap_policy: "SKIP".into(),
        starting_deadline_seconds: 600,
        end_date: Some(Timestamp { seconds: 7_000_000_000, nanos: 0 }),
        run_task: Some(run),
        ..spec("nightly")
    };
    let made = create(&mut live, written.clone()).await.unwrap();
    let shown = made.spec.clone().unwrap();
    let (state, missed_run_policy) = ("ENABLED".into(), "RUN_ONCE".into());
    assert_eq!(shown, pb::ScheduleSpec { state, missed_run_policy, ..written });
    assert_eq!((made.version, made.runs.len()), (1, 0));
    assert_eq!(described(&mut live, "nightly").await, made);

    // What is shown changes nothing; what is changed needs the version that was seen.
    let update = pb::UpdateScheduleRequest {
        spec: Some(shown.clone()),
        expected_version: Some(1),
        ..Default::default()
    };
    let same = live.update_schedule(update.clone()).await.unwrap().into_inner();
    assert_eq!(same.schedule, Some(made));
    let spec = Some(pb::ScheduleSpec { state: "DISABLED".into(), ..shown });
    let update = pb::UpdateScheduleRequest { spec, ..update };
    let off = live.update_schedule(update.clone()).await.unwrap().into_inner().schedule.unwrap();
    assert_eq!((off.version, off.next_due_at), (2, None));
    let late = pb::UpdateScheduleRequest { client_token: String::new(), ..update };
    let mut on = late.clone();
    on.spec.as_mut().unwrap().state = "ENABLED".into();
    let refused = live.update_schedule(on).await.unwrap_err();
    assert!(refused.message().contains("version 2, expected 1"), "{refused}");
}

#[tokio::test]
async fn what_is_wrong_is_named_with_its_value_and_what_is_allowed() {
    let bench = bench().await;
    let mut live = bench.live(user("admin")).await;
    let at = |seconds| Some(Timestamp { seconds, nanos: 0 });
    let run = |run: pb::RunTaskRequest| {
        let task_definition = "backup".into();
        Some(pb::RunTaskRequest { task_definition, ..run })
    };
    let cases = [
        (pb::ScheduleSpec { name: "a b".into(), ..spec("") }, "name: \"a b\" is not allowed"),
        (pb::ScheduleSpec { name: "n".repeat(65), ..spec("") }, "allowed: 1 to 64 letters"),
        (
            pb::ScheduleSpec { schedule_expression: "cron(0 12 * * * *)".into(), ..spec("a") },
            "allowed: at column 15: ?",
        ),
        (
            pb::ScheduleSpec {
                schedule_expression: "at(1999-01-01T00:00:00)".into(),
                start_date: at(1_000_000_000),
                ..spec("a")
            },
            "one that names a time from now",
        ),
        (
            pb::ScheduleSpec { schedule_expression_timezone: "Mars".into(), ..spec("a") },
            "scheduleExpressionTimezone: \"Mars\"",
        ),
        (pb::ScheduleSpec { state: "ON".into(), ..spec("a") }, "allowed: ENABLED or DISABLED"),
        (pb::ScheduleSpec { overlap_policy: "NO".into(), ..spec("a") }, "allowed: ALLOW, SKIP"),
        (pb::ScheduleSpec { missed_run_policy: "X".into(), ..spec("a") }, "allowed: RUN_ONCE or"),
        (pb::ScheduleSpec { starting_deadline_seconds: 59, ..spec("a") }, "allowed: 60 to 86400"),
        (pb::ScheduleSpec { start_date: at(9), end_date: at(9), ..spec("a") }, "after startDate"),
        (pb::ScheduleSpec { start_date: at(-1), ..spec("a") }, "a time from 1970 to 9999"),
        (pb::ScheduleSpec { end_date: at(i64::MAX), ..spec("a") }, "a time from 1970 to 9999"),
        (pb::ScheduleSpec { run_task: None, ..spec("a") }, "runTask is missing"),
        (
            pb::ScheduleSpec {
                run_task: run(pb::RunTaskRequest { count: 11, ..Default::default() }),
                ..spec("a")
            },
            "count: \"11\" is not allowed; allowed: 1 to 10",
        ),
        (
            pb::ScheduleSpec {
                run_task: run(pb::RunTaskRequest { cluster: "x".into(), ..Default::default() }),
                ..spec("a")
            },
            "runTask.cluster: \"x\"",
        ),
    ];
    for (spec, expected) in cases {
        let told = create(&mut live, spec).await.unwrap_err();
        assert_eq!(told.code(), Code::InvalidArgument, "{told}");
        assert!(told.message().contains(expected), "{expected}: {}", told.message());
    }
}

#[tokio::test]
async fn schedules_are_listed_in_pages_and_gone_when_deleted() {
    let bench = bench().await;
    let mut live = bench.live(user("admin")).await;
    for name in ["b", "a", "c"] {
        create(&mut live, spec(name)).await.unwrap();
    }
    let taken = create(&mut live, spec("a")).await.unwrap_err();
    assert_eq!(taken.code(), Code::AlreadyExists, "{taken}");
    let (mut names, mut next_token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListSchedulesRequest { max_results: 2, next_token, ..Default::default() };
        let page = live.list_schedules(request).await.unwrap().into_inner();
        names.extend(page.schedules.into_iter().map(|row| row.spec.unwrap().name));
        next_token = page.next_token;
        if next_token.is_empty() {
            break;
        }
    }
    assert_eq!(names, ["a", "b", "c"]);
    let delete = pb::DeleteScheduleRequest {
        name: "b".into(),
        client_token: "once".into(),
        ..Default::default()
    };
    live.delete_schedule(delete.clone()).await.unwrap();
    // A repeat of the request is answered as it was.
    live.delete_schedule(delete.clone()).await.unwrap();
    let again = pb::DeleteScheduleRequest { client_token: "other".into(), ..delete };
    assert_eq!(live.delete_schedule(again).await.unwrap_err().code(), Code::NotFound);
    let names = vec!["b".to_owned(), "c".to_owned()];
    let request = pb::DescribeSchedulesRequest { names, ..Default::default() };
    let answer = live.describe_schedules(request).await.unwrap().into_inner();
    assert_eq!((answer.schedules.len(), answer.failures.len()), (1, 1));
    assert_eq!(answer.failures[0].reason, "MISSING");
}

#[tokio::test]
async fn a_run_is_shown_with_its_tasks() {
    let mut bench = bench().await;
    let mut live = bench.live(user("admin")).await;
    create(&mut live, spec("hourly")).await.unwrap();
    let state = bench.replica.state();
    let (due, row) = state.due_schedules().next().unwrap();
    let schedule = row.id;
    let next = Some(Time(due.0 + 3_600_000));
    let steps = vec![Step::Fire { schedule, due, latest: due, missed: 0, next }];
    let epoch = bench.epoch();
    bench.commit(Command::Plan { epoch, steps }).await;
    let shown = described(&mut live, "hourly").await;
    assert_eq!((shown.runs.len(), shown.runs[0].outcome.as_str()), (1, "STARTED"));
    assert_eq!(shown.version, 1, "a run is no change of its user's");
    let request =
        pb::DescribeTasksRequest { tasks: shown.runs[0].task_arns.clone(), ..Default::default() };
    let tasks = bench.admin().await.describe_tasks(request).await.unwrap().into_inner().tasks;
    assert_eq!(tasks[0].started_by, "chronos-schedule/hourly");
}

#[tokio::test]
async fn who_may_not_run_a_task_may_not_schedule_it() {
    let ask = async |live: &mut LiveClient<Channel>| create(live, spec("s")).await;
    needs_run_task(bench().await, "muster:CreateSchedule", ask).await;
}

fn of_jobs(name: &str) -> pb::ScheduleSpec {
    let run_task = spec(name).run_task;
    let job = pb::JobSpec { run_task, completions: Some(3), ..Default::default() };
    pb::ScheduleSpec { run_task: None, run_job: Some(job), ..spec(name) }
}

#[tokio::test]
async fn a_schedule_of_jobs_is_shown_as_it_can_be_written_again() {
    let mut bench = bench().await;
    let mut live = bench.live(user("admin")).await;
    let made = create(&mut live, of_jobs("nightly")).await.unwrap();
    let shown = made.spec.unwrap();
    assert_eq!(shown.run_task, None);
    let job = shown.run_job.clone().unwrap();
    assert_eq!((job.completions, job.parallelism, job.retries), (Some(3), Some(1), Some(6)));
    let update = pb::UpdateScheduleRequest { spec: Some(shown), ..Default::default() };
    let same = live.update_schedule(update).await.unwrap().into_inner().schedule.unwrap();
    assert_eq!(same.version, 1);

    let state = bench.replica.state();
    let (due, row) = state.due_schedules().next().unwrap();
    let steps = vec![Step::Fire { schedule: row.id, due, latest: due, missed: 0, next: None }];
    let epoch = bench.epoch();
    bench.commit(Command::Plan { epoch, steps }).await;
    let run = described(&mut live, "nightly").await.runs.remove(0);
    assert_eq!((&*run.outcome, run.task_arns.len()), ("STARTED", 0), "{run:?}");
    let jobs = vec![run.job_id.clone()];
    let request = pb::DescribeJobsRequest { jobs, ..Default::default() };
    let job = live.describe_jobs(request).await.unwrap().into_inner().jobs.remove(0);
    assert_eq!(job.spec.unwrap().name, format!("nightly-{}", due.0 / 1000));
}

#[tokio::test]
async fn what_a_schedule_of_jobs_may_not_say_is_refused() {
    let bench = bench().await;
    let mut live = bench.live(user("admin")).await;
    let job = || of_jobs("a").run_job.unwrap();
    let run = || spec("a").run_task.unwrap();
    for (spec, told) in [
        (of_jobs(&"a".repeat(54)), "1 to 53 characters"),
        (pb::ScheduleSpec { run_task: Some(run()), ..of_jobs("a") }, "none beside runJob"),
        (
            pb::ScheduleSpec {
                run_job: Some(pb::JobSpec { name: "x".into(), ..job() }),
                ..of_jobs("a")
            },
            "runJob.name: \"x\"",
        ),
        (
            pb::ScheduleSpec {
                run_job: Some(pb::JobSpec {
                    run_task: Some(pb::RunTaskRequest { count: 2, ..run() }),
                    ..job()
                }),
                ..of_jobs("a")
            },
            "completions says how many",
        ),
        (
            pb::ScheduleSpec {
                run_job: Some(pb::JobSpec { completions: Some(0), ..job() }),
                ..of_jobs("a")
            },
            "completions: \"0\"",
        ),
    ] {
        let refused = create(&mut live, spec).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().contains(told), "{told}: {refused}");
    }
}

#[tokio::test]
async fn who_schedules_jobs_may_run_them() {
    let mut bench = bench().await;
    bench.user("rex", UserRole::Restricted).await;
    let mut live = bench.live(user("rex")).await;
    for (actions, denied) in [
        (r#"["muster:CreateSchedule", "ecs:RunTask"]"#, Some("muster:RunJob")),
        (r#"["muster:CreateSchedule", "muster:RunJob"]"#, Some("ecs:RunTask")),
        (r#"["muster:CreateSchedule", "muster:RunJob", "ecs:RunTask"]"#, None),
    ] {
        let allow = r#""Effect": "Allow", "Resource": "*""#;
        let document = format!(r#"{{"Statement": {{{allow}, "Action": {actions}}}}}"#);
        let (holder, name) = (Holder::User("rex".into()), "p".into());
        bench.commit(Command::PutPolicy { holder, name, document: document.into() }).await;
        let told = create(&mut live, of_jobs("nightly")).await.err();
        let told = told.map(|status| status.message().to_owned());
        let expected = |told: &String| denied.is_some_and(|denied| told.contains(denied));
        assert!(told.as_ref().map_or(denied.is_none(), expected), "{actions}: {told:?}");
    }
}
