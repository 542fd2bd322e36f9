//! Tasks of several containers, the worker's brain over real runc: who waits for whom, whose end
//! ends the task, restarts in place.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod lab;

use lab::agent::{Agent, agent, agent_with, checked, now, stops_with};
use lab::{assign, script, task, until};
use muster_agent::runtime::RuntimeConfig;
use muster_control::io::{ContainerEvent, FoundContainer};
use muster_model::dispatch::{Assignment, Order};
use muster_model::life::{Condition, Dependency, RestartPolicy};
use muster_model::spec::{ContainerDefinition, NetworkMode};
use muster_model::task::StopCode;
use muster_model::{Observed, Phase};
use std::fs::Permissions;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

fn after(name: &str, condition: Condition) -> Vec<Dependency> {
    vec![Dependency { container: name.into(), condition }]
}

#[test]
fn containers_start_when_what_they_wait_for_is_so_and_stop_the_other_way_round() {
    agent(async |mut agent, _| {
        let mut app = script("app", &stops_with(3, 20));
        app.depends_on = after("db", Condition::Healthy);
        // The first look fails, the second finds what the first left in the container.
        let db = script("db", &stops_with(7, 0));
        let mut db = checked(db, "test -e /seen || { touch /seen; exit 1; }");
        db.depends_on = after("init", Condition::Success);
        let mut init = script("init", "exit 0");
        init.essential = false;
        let assignment = assign(task(NetworkMode::None, vec![app, db, init]));
        agent.run(&assignment).await;
        let story = agent.story("app started").await;
        let wanted =
            ["init started", "init ended 0", "db started", "db failed", "db passed", "app started"];
        assert_eq!(story, wanted);
        agent.is_up(&assignment, "app").await;
        agent.is_up(&assignment, "db").await;
        agent.order(Order::Stop(assignment.task)).await;
        let ends = agent.story("db ended 7").await;
        let ends: Vec<_> = ends.iter().filter(|line| line.contains("ended")).collect();
        assert_eq!(ends, ["app ended 3", "db ended 7"]);
        agent
    });
}

/// Runs until it is told to end, and then fails.
fn fails_with(code: u8) -> String {
    format!("echo up; until [ -e /end ]; do usleep 20000; done; exit {code}")
}

fn tell_to_end(config: &RuntimeConfig, assignment: &Assignment, container: &str) {
    let dir = config.data_dir.join("tasks").join(assignment.task.to_string());
    std::fs::write(dir.join("containers").join(container).join("rootfs/end"), "").unwrap();
}

/// All that is reported of a task in this phase.
fn has_come_to(phase: Phase) -> impl Fn(&Observed) -> Option<Observed> {
    move |task| (task.phase == phase).then(|| task.clone())
}

/// The code that a container stopped with.
fn ended(task: &Observed, container: &str) -> Option<i32> {
    let found = task.containers.iter().find(|found| &*found.name == container)?;
    found.exit_code.filter(|_| found.phase == Phase::Stopped)
}

#[test]
fn the_end_of_an_essential_container_stops_the_others_and_no_other_end_does() {
    agent(async |mut agent, config| {
        let app = script("app", &fails_with(3));
        let side = script("side", &fails_with(4));
        let side = ContainerDefinition { essential: false, ..side };
        let db = script("db", &stops_with(7, 0));
        let assignment = assign(task(NetworkMode::None, vec![app, side, db]));
        agent.run(&assignment).await;
        for container in ["app", "side", "db"] {
            agent.is_up(&assignment, container).await;
        }
        tell_to_end(config, &assignment, "side");
        let phase = agent.reported(|task| ended(task, "side").map(|code| (task.phase, code)));
        assert_eq!(phase.await, (Phase::Running, 4));
        tell_to_end(config, &assignment, "app");
        let story = agent.story("db ended 7").await;
        assert_eq!(story[3..], ["side ended 4", "app ended 3", "db ended 7"]);
        let stopped = agent.reported(has_come_to(Phase::Stopped)).await;
        assert_eq!(stopped.stop_code, Some(StopCode::EssentialContainerExited));
        assert_eq!(stopped.reason.as_deref(), Some("Essential container in task exited"));
        let codes = ["app", "side", "db"].map(|container| ended(&stopped, container));
        assert_eq!(codes, [Some(3), Some(4), Some(7)]);
        agent
    });
}

#[test]
fn a_failed_end_is_complete_and_a_start_is_enough_for_start() {
    agent(async |mut agent, _| {
        let mut app = script("app", &stops_with(0, 0));
        app.depends_on = after("db", Condition::Start);
        let mut db = script("db", &stops_with(0, 0));
        db.depends_on = after("init", Condition::Complete);
        let init = ContainerDefinition { essential: false, ..script("init", "exit 1") };
        let assignment = assign(task(NetworkMode::None, vec![app, db, init]));
        agent.run(&assignment).await;
        let story = agent.story("app started").await;
        assert_eq!(story, ["init started", "init ended 1", "db started", "app started"]);
        agent.reported(has_come_to(Phase::Running)).await;
        agent
    });
}

/// Starts containers as the other does, and says so only when a short one has ended.
const LATE_RUNC: &str = "#!/bin/sh\n\
    case \" $* \" in *' start '*) runc \"$@\"; code=$?; sleep 1; exit $code;; esac\n\
    exec runc \"$@\"\n";

#[test]
fn an_end_that_comes_before_the_word_of_its_start_is_told_after_it() {
    let late = |config: &mut RuntimeConfig| {
        let program = config.data_dir.with_file_name("late-runc");
        std::fs::write(&program, LATE_RUNC).unwrap();
        std::fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        config.runc = program;
    };
    agent_with(late, async |mut agent, _| {
        let mut app = script("app", &stops_with(0, 0));
        app.depends_on = after("init", Condition::Success);
        let init = ContainerDefinition { essential: false, ..script("init", "exit 0") };
        agent.run(&assign(task(NetworkMode::None, vec![app, init]))).await;
        let story = agent.story("app started").await;
        assert_eq!(story, ["init started", "init ended 0", "app started"]);
        agent
    });
}

#[test]
fn what_is_not_healthy_within_its_start_timeout_stops_the_task() {
    agent(async |mut agent, _| {
        let mut app = script("app", "exit 0");
        app.depends_on = after("db", Condition::Healthy);
        let mut db = checked(script("db", &stops_with(7, 0)), "exit 1");
        (db.start_timeout_secs, db.stop_timeout_secs) = (Some(3), Some(2));
        let assignment = assign(task(NetworkMode::None, vec![app, db]));
        agent.run(&assignment).await;
        let stopped = agent.reported(has_come_to(Phase::Stopped)).await;
        assert_eq!(stopped.stop_code, Some(StopCode::TaskFailedToStart));
        let why = "TaskDependencyError: container app waits for db to be HEALTHY: \
                   it was not within its startTimeout of 3 seconds";
        assert_eq!(stopped.reason.as_deref(), Some(why));
        // It never started, and what was waited for did.
        assert_eq!(ended(&stopped, "app"), None);
        assert!(ended(&stopped, "db").is_some(), "{stopped:?}");
        agent
    });
}

#[test]
fn a_container_is_started_again_with_its_files_its_address_and_its_log() {
    agent(async |mut agent, config| {
        let again = "echo serving; while :; do echo served | nc -l -p 80; done";
        let once = format!("echo run; test -e /again && {{ {again}; }}; touch /again; exit 5");
        let mut app = script("app", &once);
        let (enabled, attempt_period_secs) = (true, 0);
        app.restart_policy =
            Some(RestartPolicy { enabled, attempt_period_secs, ..RestartPolicy::default() });
        let assignment = assign(task(NetworkMode::Bridge, vec![app]));
        agent.run(&assignment).await;
        let address = agent
            .until(|event| match event {
                ContainerEvent::Created { status, .. } => status.address.clone(),
                _ => None,
            })
            .await;
        let story = agent.story("app restarted").await;
        assert_eq!(story, ["app started", "app ended 5", "app restarted"]);
        let at = SocketAddr::new(address.parse().unwrap(), 80);
        until("it serves at its address", async || {
            let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(1)).ok()?;
            stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
            let mut text = String::new();
            stream.read_to_string(&mut text).ok()?;
            text.contains("served").then_some(())
        })
        .await;
        assert_eq!(agent.log(&assignment, "app").await, "run\nrun\nserving\n");
        // The next agent knows how often, and takes the new process for what it is.
        agent.stop().await;
        let (agent, found) = Agent::start(config).await;
        let FoundContainer::Running { status, .. } = &found[0].containers[0].1 else {
            panic!("{found:?}");
        };
        assert_eq!(status.restarts, 1);
        agent
    });
}

#[test]
fn what_stops_is_not_started_again() {
    agent(async |mut agent, _| {
        let mut app = script("app", &stops_with(5, 0));
        let (enabled, attempt_period_secs) = (true, 0);
        app.restart_policy =
            Some(RestartPolicy { enabled, attempt_period_secs, ..RestartPolicy::default() });
        let assignment = assign(task(NetworkMode::None, vec![app]));
        agent.run(&assignment).await;
        assert_eq!(agent.story("app started").await, ["app started"]);
        agent.is_up(&assignment, "app").await;
        agent.order(Order::Stop(assignment.task)).await;
        assert_eq!(agent.story("app ended 5").await, ["app ended 5"]);
        agent.order(Order::Forget(assignment.task)).await;
        let deleted = agent.until(|event| match event {
            ContainerEvent::Restarted { .. } => Some(false),
            ContainerEvent::Deleted => Some(true),
            _ => None,
        });
        assert!(tokio::time::timeout(Duration::from_secs(60), deleted).await.unwrap());
        agent
    });
}

#[test]
fn a_run_shorter_than_its_period_and_an_ignored_code_are_no_reason_to_start_again() {
    agent(async |mut agent, _| {
        let app = script("app", &stops_with(0, 0));
        let side = |name: &str, text: &str, attempt_period_secs, ignored_exit_codes| {
            let policy = RestartPolicy { enabled: true, ignored_exit_codes, attempt_period_secs };
            let restart_policy = Some(policy);
            ContainerDefinition { essential: false, restart_policy, ..script(name, text) }
        };
        let short = side("short", "exit 5", 3600, vec![]);
        let ignored = side("ignored", "exit 6", 0, vec![0, 6]);
        let once = "test -e /again && exec sleep 1000; touch /again; sleep 3; exit 5";
        let long = side("long", once, 2, vec![6]);
        let assignment = assign(task(NetworkMode::None, vec![app, short, ignored, long]));
        agent.run(&assignment).await;
        let settled = |task: &Observed| {
            let again = [1, 2, 3].map(|index| task.containers[index].restarts);
            let long_runs = again[2] > 0 && task.containers[3].phase == Phase::Running;
            let codes = [ended(task, "short")?, ended(task, "ignored")?];
            long_runs.then_some((codes, again))
        };
        assert_eq!(agent.reported(settled).await, ([5, 6], [0, 0, 1]));
        agent
    });
}

#[test]
fn what_is_reported_of_a_task_has_its_times_in_order() {
    agent(async |mut agent, _| {
        let assignment = assign(task(NetworkMode::None, vec![script("app", &stops_with(0, 0))]));
        let created_at = now();
        agent.run(&assignment).await;
        let started = agent.reported(has_come_to(Phase::Running)).await;
        let times = [started.pull_started_at, started.pull_stopped_at, started.started_at];
        assert!([Some(created_at)].iter().chain(&times).is_sorted(), "{created_at:?} {started:?}");
        agent.is_up(&assignment, "app").await;
        agent.order(Order::Stop(assignment.task)).await;
        let stopped = agent.reported(has_come_to(Phase::Stopped)).await;
        assert_eq!([stopped.pull_started_at, stopped.pull_stopped_at, stopped.started_at], times);
        assert!([stopped.started_at, stopped.stopping_at, stopped.stopped_at].is_sorted());
        agent
    });
}
