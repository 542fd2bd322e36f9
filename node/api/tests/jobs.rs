//! Jobs through gRPC: what is taken, what is refused and in which words, and who may.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use muster_model::{Command, JobId, Step};
use muster_proto::pb;
use muster_proto::pb::live_client::LiveClient;
use support::rights::needs_run_task;
use support::{Bench, definition, user};
use tonic::transport::Channel;
use tonic::{Code, Status};

async fn bench() -> Bench {
    let bench = Bench::start().await;
    let mut ecs = bench.admin().await;
    ecs.create_cluster(pb::CreateClusterRequest::default()).await.unwrap();
    ecs.register_task_definition(definition("import", 64, 64)).await.unwrap();
    bench
}

fn spec(name: &str) -> pb::JobSpec {
    let run = pb::RunTaskRequest { task_definition: "import".into(), ..Default::default() };
    pb::JobSpec { name: name.into(), run_task: Some(run), ..Default::default() }
}

async fn run(live: &mut LiveClient<Channel>, spec: pb::JobSpec) -> Result<pb::Job, Status> {
    let request = pb::RunJobRequest { spec: Some(spec), ..Default::default() };
    Ok(live.run_job(request).await?.into_inner().job.unwrap())
}

async fn described(live: &mut LiveClient<Channel>, job: &str) -> pb::Job {
    let request = pb::DescribeJobsRequest { jobs: vec![job.to_owned()], ..Default::default() };
    let answer = live.describe_jobs(request).await.unwrap().into_inner();
    answer.jobs.into_iter().next().unwrap()
}

async fn stop(live: &mut LiveClient<Channel>, job: &str) -> Result<pb::Job, Status> {
    let request = pb::StopJobRequest { job: job.into(), ..Default::default() };
    Ok(live.stop_job(request).await?.into_inner().job.unwrap())
}

#[tokio::test]
async fn a_job_is_shown_as_it_can_be_written_again() {
    let bench = bench().await;
    let mut live = bench.live(user("admin")).await;
    let run_task = pb::RunTaskRequest {
        task_definition: "import:1".into(),
        group: "night".into(),
        overrides: Some(pb::TaskOverride { cpu: "128".into(), ..Default::default() }),
        tags: vec![pb::Tag { key: "team".into(), value: "data".into() }],
        ..Default::default()
    };
    let written = pb::JobSpec {
        completions: Some(20),
        parallelism: Some(5),
        retries: Some(0),
        timeout_seconds: Some(3600),
        attempt_timeout_seconds: Some(60),
        run_task: Some(run_task),
        ..spec("load")
    };
    let made = run(&mut live, written.clone()).await.unwrap();
    assert_eq!(made.spec, Some(written));
    assert_eq!((made.status.as_str(), made.attempts), ("PENDING", 0));
    assert_eq!(described(&mut live, "load").await, made);
    assert_eq!(described(&mut live, &made.id).await, made);

    // What is left out is said, and the revision that was taken.
    let plain = run(&mut live, spec("plain")).await.unwrap().spec.unwrap();
    assert_eq!(plain.run_task.unwrap().task_definition, "import:1");
    let counts = [plain.completions, plain.parallelism, plain.retries];
    assert_eq!(counts, [Some(1), Some(1), Some(6)]);
    assert_eq!((plain.timeout_seconds, plain.attempt_timeout_seconds), (None, None));
}

#[tokio::test]
async fn what_is_wrong_is_named_with_its_value_and_what_is_allowed() {
    let bench = bench().await;
    let mut live = bench.live(user("admin")).await;
    let asked = |run: pb::RunTaskRequest| {
        let task_definition = "import".into();
        Some(pb::RunTaskRequest { task_definition, ..run })
    };
    let plain = pb::RunTaskRequest::default;
    let cases = [
        (pb::JobSpec { name: "a b".into(), ..spec("") }, "name: \"a b\" is not allowed"),
        (pb::JobSpec { completions: Some(0), ..spec("a") }, "completions: \"0\" is not allowed"),
        (pb::JobSpec { completions: Some(10_001), ..spec("a") }, "allowed: 1 to 10000"),
        (pb::JobSpec { parallelism: Some(-1), ..spec("a") }, "parallelism: \"-1\""),
        (pb::JobSpec { retries: Some(-1), ..spec("a") }, "retries: \"-1\""),
        (pb::JobSpec { timeout_seconds: Some(0), ..spec("a") }, "timeoutSeconds: \"0\""),
        (
            pb::JobSpec { attempt_timeout_seconds: Some(1_209_601), ..spec("a") },
            "attemptTimeoutSeconds: \"1209601\" is not allowed; allowed: 1 to 1209600",
        ),
        (pb::JobSpec { run_task: None, ..spec("a") }, "runTask is missing"),
        (
            pb::JobSpec {
                run_task: asked(pb::RunTaskRequest { count: 2, ..plain() }),
                ..spec("a")
            },
            "runTask.count: \"2\" is not allowed; allowed: none",
        ),
        (
            pb::JobSpec {
                run_task: asked(pb::RunTaskRequest { started_by: "me".into(), ..plain() }),
                ..spec("a")
            },
            "runTask.startedBy: \"me\"",
        ),
    ];
    for (spec, expected) in cases {
        let told = run(&mut live, spec).await.unwrap_err();
        assert_eq!(told.code(), Code::InvalidArgument, "{told}");
        assert!(told.message().contains(expected), "{expected}: {}", told.message());
    }
    let request = pb::ListJobsRequest { status: "DONE".into(), ..Default::default() };
    let told = live.list_jobs(request).await.unwrap_err();
    assert!(told.message().contains("PENDING, RUNNING, SUCCEEDED, FAILED, STOPPED"), "{told}");
}

#[tokio::test]
async fn a_name_is_free_again_once_its_job_has_ended() {
    let bench = bench().await;
    let mut live = bench.live(user("admin")).await;
    let first = run(&mut live, spec("a")).await.unwrap();
    let taken = run(&mut live, spec("a")).await.unwrap_err();
    assert_eq!(taken.code(), Code::AlreadyExists, "{taken}");
    let request = pb::DeleteJobRequest { job: "a".into(), ..Default::default() };
    let open = live.delete_job(request.clone()).await.unwrap_err();
    assert!(open.message().contains("it is PENDING; stop it first"), "{open}");
    let stopped = stop(&mut live, "a").await.unwrap();
    assert_eq!(
        (stopped.status.as_str(), stopped.reason.as_str()),
        ("STOPPED", "Job stopped by user")
    );

    let second = run(&mut live, spec("a")).await.unwrap();
    assert_eq!(described(&mut live, "a").await.id, second.id);
    assert_eq!(described(&mut live, &first.id).await.status, "STOPPED");
    stop(&mut live, "a").await.unwrap();
    let newer = pb::DeleteJobRequest { job: second.id, ..Default::default() };
    live.delete_job(newer).await.unwrap();
    assert_eq!(described(&mut live, "a").await.id, first.id);
    live.delete_job(request.clone()).await.unwrap();
    assert_eq!(live.delete_job(request).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn jobs_are_listed_in_pages_and_by_status() {
    let bench = bench().await;
    let mut live = bench.live(user("admin")).await;
    for name in ["b", "a", "c", "a-1"] {
        run(&mut live, spec(name)).await.unwrap();
    }
    stop(&mut live, "b").await.unwrap();
    run(&mut live, spec("b")).await.unwrap();
    for (status, expected) in
        [("", vec!["a", "a-1", "b", "b", "c"]), ("STOPPED", vec!["b"]), ("FAILED", vec![])]
    {
        let (mut names, mut next_token) = (Vec::new(), String::new());
        loop {
            let status = status.into();
            let request =
                pb::ListJobsRequest { status, max_results: 2, next_token, ..Default::default() };
            let page = live.list_jobs(request).await.unwrap().into_inner();
            names.extend(page.jobs.into_iter().map(|row| row.spec.unwrap().name));
            next_token = page.next_token;
            if next_token.is_empty() {
                break;
            }
        }
        assert_eq!(names, expected);
    }
    let jobs = vec!["a".to_owned(), "z".to_owned()];
    let request = pb::DescribeJobsRequest { jobs, ..Default::default() };
    let answer = live.describe_jobs(request).await.unwrap().into_inner();
    assert_eq!((answer.jobs.len(), answer.failures.len()), (1, 1));
    assert_eq!(answer.failures[0].reason, "MISSING");
}

#[tokio::test]
async fn a_job_is_shown_with_its_tasks_and_those_with_it() {
    let mut bench = bench().await;
    let mut live = bench.live(user("admin")).await;
    let made = run(&mut live, pb::JobSpec { retries: Some(1), ..spec("load") }).await.unwrap();
    let job: JobId = made.id.parse().unwrap();
    let now = bench.replica.state().now();
    let tasks = vec![muster_model::IdSource::new(7).task(now)];
    let epoch = bench.epoch();
    bench.commit(Command::Plan { epoch, steps: vec![Step::StartAttempts { job, tasks }] }).await;
    let shown = described(&mut live, "load").await;
    assert_eq!((shown.attempts, shown.task_arns.len()), (1, 1));
    let mut ecs = bench.admin().await;
    let request = pb::ListTasksRequest { started_by: "job/load".into(), ..Default::default() };
    let listed = ecs.list_tasks(request).await.unwrap().into_inner();
    assert_eq!(listed.task_arns, shown.task_arns);
    let request = pb::DescribeTasksRequest { tasks: listed.task_arns, ..Default::default() };
    let task = ecs.describe_tasks(request).await.unwrap().into_inner().tasks.remove(0);
    assert_eq!((task.started_by.as_str(), task.group.as_str()), ("job/load", "family:import"));

    let request = pb::StopTaskRequest { task: task.task_arn.clone(), ..Default::default() };
    ecs.stop_task(request).await.unwrap();
    let shown = described(&mut live, "load").await;
    let failure = shown.last_failure.unwrap();
    assert_eq!((shown.failed, shown.task_arns.len()), (1, 0));
    assert_eq!((failure.task_arn, failure.reason), (task.task_arn, "Task stopped by user".into()));
}

#[tokio::test]
async fn who_may_not_run_a_task_may_not_run_it_as_a_job() {
    let ask = async |live: &mut LiveClient<Channel>| run(live, spec("s")).await;
    needs_run_task(bench().await, "muster:RunJob", ask).await;
}
