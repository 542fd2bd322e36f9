//! Deployments on real containers: versions that cannot start, crash, fail their checks, are killed
//! for their memory or ignore their stop signal each end as in ECS, with the reason that a user
//! needs; and what is fixed afterwards rolls out.
//!
//! One cluster has a service for each case. All are updated at once, and looked at in turn. An
//! observer asks all the while whether the percentages hold.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test's way to fail

use muster_chaos::cluster::Cluster;
use muster_chaos::observer::{Rollout, watched};
use muster_chaos::service::{Service, short, text};
use muster_chaos::wait;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// How long a task may take to get where it goes by itself.
const SOON: Duration = Duration::from_secs(60);
const STOP_SECS: f64 = 2.0;
/// ECS's words.
const BREAKER: &str = "ECS deployment circuit breaker: tasks failed to start.";
const ESSENTIAL: &str = "Essential container in task exited";
const OUT_OF_MEMORY: &str = "OutOfMemoryError: Container killed due to memory usage";
const FAILED_CHECKS: &str = "Task failed container health checks";
const THROTTLED: &str = "is unable to consistently start tasks successfully.";
const ALARM: &str = "noisy-5xx";

/// A program that ends with 0 when it is told to stop.
const OBEYS: &str = "trap 'exit 0' TERM; sleep 100000 & wait";
/// One that does not.
const IGNORES: &str = "trap '' TERM; while :; do sleep 1; done";

fn shell(script: &str) -> Value {
    json!({ "command": ["/bin/busybox", "sh", "-c", script] })
}

/// A container that obeys, with a health check.
fn checked(script: &str, timeout: u32) -> Value {
    let check = json!({ "command": ["CMD-SHELL", script], "interval": 5, "timeout": timeout,
        "retries": 1 });
    let mut container = shell(OBEYS);
    container["healthCheck"] = check;
    container
}

/// A service whose second revision is bad.
struct Case {
    name: &'static str,
    bad: Value,
    minimum: &'static str,
    maximum: &'static str,
    breaker: &'static [&'static str],
}

fn cases(cluster: &Cluster) -> [Case; 5] {
    let absent = format!("{}/test/absent:1", cluster.registry.address);
    let mut no_image = shell(OBEYS);
    no_image["image"] = json!(absent);
    let hungry = json!({ "command": ["/bin/busybox", "tail", "/dev/zero"], "memory": 16 });
    let back = &["--circuit-breaker", "2", "--rollback"];
    let back_at_once = &["--circuit-breaker", "1", "--rollback"];
    let case = |name, bad, minimum, maximum, breaker| Case { name, bad, minimum, maximum, breaker };
    [
        case("absent", no_image, "100", "200", back),
        case("crash", shell("echo no; exit 3"), "50", "100", &["--circuit-breaker", "2"]),
        case("sick", checked("echo out of order; exit 4", 5), "100", "200", back_at_once),
        case("hungry", hungry, "50", "100", back),
        case("hung", checked("sleep 7777", 2), "100", "150", back_at_once),
    ]
}

fn revision(name: &str, number: u32) -> String {
    format!("{name}:{number}")
}

#[test]
fn bad_versions_end_as_in_ecs_and_fixed_ones_roll_out() {
    let cluster = Cluster::form(1, 2);
    cluster.run(&["cluster", "update", "default", "--setting", "taskHealthyAfterSeconds=2"]);
    let cases = cases(&cluster);
    let bad = cases.iter().map(|case| revision(case.name, 2)).chain([revision("fails", 1)]);
    let bad = bad.collect();
    let ((), seen) = watched(&cluster, bad, || roll(&cluster, &cases));
    assert!(seen.looks > 20, "the observer has hardly looked: {} times", seen.looks);
    assert_eq!(seen.broken, BTreeSet::new(), "percentages that did not hold");
    // What takes the place of one that failed takes until its tasks are healthy.
    let back = "ECS deployment circuit breaker: rolling back to deploymentId ecs-svc/";
    let told = seen.rollouts.iter().any(|rollout| {
        let Rollout { service, state, reason } = rollout;
        service == "hungry" && state == "IN_PROGRESS" && reason.starts_with(back)
    });
    assert!(told, "{:?}", seen.rollouts);
}

fn roll(cluster: &Cluster, cases: &[Case]) {
    let services: Vec<Service<'_>> = cases.iter().map(|case| establish(cluster, case)).collect();
    cluster.register("stubborn", shell(IGNORES));
    let count = ["--desired-count", "2"];
    let stubborn = Service::create(cluster, "stubborn", "stubborn", &count);
    let firsts: Vec<Value> =
        services.iter().map(|service| service.completed(&revision(service.name, 1))).collect();
    stubborn.completed("stubborn:1");
    cluster.register("noisy", shell(OBEYS));
    let noisy = Service::create(cluster, "noisy", "noisy", &count);
    let quiet = noisy.completed("noisy:1");

    for (service, case) in services.iter().zip(cases) {
        cluster.register(case.name, case.bad.clone());
        service.update(&revision(case.name, 2), &[]);
    }
    cluster.register("stubborn", shell(OBEYS));
    stubborn.update("stubborn:2", &[]);
    checks_alone(cluster);
    pulls_alone(cluster);
    throttled(cluster);
    for (service, first) in services.iter().zip(&firsts) {
        match service.name {
            "crash" => halted(service),
            _ => rolled_back(service, first),
        }
        ended_for_its_reason(service);
    }
    slow_stop(&stubborn);
    gone_off(&noisy, &quiet);

    for service in &services {
        cluster.register(service.name, shell(OBEYS));
        service.update(&revision(service.name, 3), &[]);
    }
    cluster.run(&["alarm", "set", ALARM, "OK"]);
    cluster.register("noisy", shell(OBEYS));
    noisy.update("noisy:3", &[]);
    for service in &services {
        fixed(service);
    }
    fixed(&noisy);
    let watched = noisy.reached("SUCCESSFUL");
    let at = |field: &str| watched[field].as_f64().unwrap();
    let took = at("finishedAt") - at("createdAt");
    assert!(took >= 60.0, "it was done after {took} s, and not watched: {watched}");
}

fn establish<'c>(cluster: &'c Cluster, case: &Case) -> Service<'c> {
    cluster.register(case.name, shell(OBEYS));
    let (minimum, maximum) = (case.minimum, case.maximum);
    let words = ["--desired-count", "2", "--minimum-healthy-percent", minimum, "--maximum-percent"];
    let more = [&words, &[maximum][..], case.breaker].concat();
    Service::create(cluster, case.name, case.name, &more)
}

/// Without a breaker it is started ever more slowly, and whoever looks sees until when it waits.
fn throttled(cluster: &Cluster) {
    cluster.register("fails", shell("exit 3"));
    let service = Service::create(cluster, "fails", "fails", &["--desired-count", "1"]);
    let until = wait::until("its restart back-off is shown", SOON, || {
        let shown = service.shown();
        let said = service.events().contains(&format!("(service fails) {THROTTLED}"));
        let table = cluster.run(&["service", "describe", "fails"]);
        match shown["throttledUntil"].as_f64() {
            Some(until) if said && table.contains("no start before") => Ok(until),
            _ => Err(shown.to_string()),
        }
    });
    let made = |task: &Value| task["createdAt"].as_f64().unwrap();
    wait::until("a task is made after that time", SOON, || {
        let ended = service.ended();
        if ended.iter().any(|task| made(task) >= until) {
            Ok(())
        } else {
            Err(format!("{ended:?}"))
        }
    });
    let mut times: Vec<f64> = service.ended().iter().map(made).collect();
    times.sort_by(f64::total_cmp);
    let early = times[1] - times[0];
    let late = times[times.len() - 1] - times[times.len() - 2];
    assert!(late > early, "tasks were made at {times:?}");
    cluster.run(&["service", "delete", "fails", "--force"]);
}

/// The number of a deployment, of the object and of the row in a service alike.
fn number(deployment: &Value) -> String {
    match deployment.get("serviceDeploymentArn") {
        Some(arn) => short(arn),
        None => short(&deployment["id"]),
    }
}

fn has_event(service: &Service<'_>, what: &str) {
    let (wanted, events) = (format!("(service {}) {what}", service.name), service.events());
    assert!(events.contains(&wanted), "no event {wanted:?} in {events:#?}");
}

/// The breaker ended the bad revision, and the good one is what there is.
fn rolled_back(service: &Service<'_>, first: &Value) {
    let failed = service.reached("ROLLBACK_SUCCESSFUL");
    assert_eq!(failed["statusReason"], BREAKER, "{failed}");
    let row = service.completed(&revision(service.name, 1));
    assert_eq!(row["id"], first["id"], "the very deployment that was there before");
    let id = text(&row["id"]);
    assert_eq!(row["rolloutStateReason"], format!("ECS deployment {id} completed."));
    let bad = number(&failed);
    has_event(
        service,
        &format!("(deployment ecs-svc/{bad}) deployment failed: tasks failed to start."),
    );
    has_event(service, &format!("rolling back to (deployment {id})."));
    let waited = service.cluster.ask(&["service", "wait", service.name]);
    let said = String::from_utf8_lossy(&waited.stderr).into_owned();
    let told = format!("deployment {bad} is ROLLBACK_SUCCESSFUL: {BREAKER}");
    assert!(!waited.status.success() && said.contains(&told), "{said}");
}

/// The breaker ended the bad revision, which is not to give way: what is left of the one before it
/// serves on.
fn halted(service: &Service<'_>) {
    let failed = service.reached("STOPPED");
    assert_eq!(failed["statusReason"], BREAKER, "{failed}");
    let shown = service.shown();
    let (newest, before) = (&shown["deployments"][0], &shown["deployments"][1]);
    assert_eq!(
        (&newest["status"], &newest["rolloutState"], &newest["rolloutStateReason"]),
        (&json!("PRIMARY"), &json!("FAILED"), &json!(BREAKER)),
        "{shown}"
    );
    assert_eq!((&before["status"], &before["runningCount"]), (&json!("ACTIVE"), &json!(1)));
    let bad = number(&failed);
    has_event(
        service,
        &format!("(deployment ecs-svc/{bad}) deployment failed: tasks failed to start."),
    );
}

/// What a user reads of one of the bad revision's tasks: stop code, reason, exit code and reason of
/// the container.
fn ended_for_its_reason(service: &Service<'_>) {
    let bad = revision(service.name, 2);
    let (code, why, exit, reason) = match service.name {
        // ECS's agent asks for a tag's manifest first, and says so.
        "absent" => ("TaskFailedToStart", "CannotPullImageManifestError: ", None, "CannotPull"),
        "crash" => ("EssentialContainerExited", ESSENTIAL, Some(3), ""),
        "hungry" => ("EssentialContainerExited", ESSENTIAL, Some(137), OUT_OF_MEMORY),
        _ => ("ServiceSchedulerInitiated", FAILED_CHECKS, Some(0), ""),
    };
    let own = |task: &&Value| {
        let told = text(&task["stoppedReason"]).starts_with(why) && task["stopCode"] == code;
        told && short(&task["taskDefinitionArn"]) == bad
    };
    let what = format!("a task of {bad} has ended: {code} {why}");
    let tasks: Vec<Value> = wait::until(&what, SOON, || {
        let ended = service.ended();
        let own: Vec<Value> = ended.iter().filter(own).cloned().collect();
        if own.is_empty() { Err(format!("{ended:?}")) } else { Ok(own) }
    });
    for task in tasks {
        let container = &task["containers"][0];
        assert_eq!(container["exitCode"].as_i64(), exit, "{task}");
        assert!(text(&container["reason"]).starts_with(reason), "{task}");
        assert_eq!(reason.is_empty(), text(&container["reason"]).is_empty(), "{task}");
        if why == FAILED_CHECKS {
            let id = short(&task["taskArn"]);
            has_event(service, &format!("(task {id}) failed container health checks."));
        }
    }
}

/// The containers of the first revision had to be killed, once their time was over.
fn slow_stop(service: &Service<'_>) {
    let newest = service.completed("stubborn:2");
    let why = format!("Scaling activity initiated by (deployment {})", text(&newest["id"]));
    let tasks = wait::until("both have ended", SOON, || {
        let ended = service.ended();
        if ended.len() == 2 { Ok(ended) } else { Err(format!("{ended:?}")) }
    });
    for task in tasks {
        let container = &task["containers"][0];
        assert_eq!(task["stopCode"], "ServiceSchedulerInitiated", "{task}");
        assert_eq!(text(&task["stoppedReason"]), why, "{task}");
        assert_eq!(container["exitCode"], 137, "{task}");
        assert_eq!(text(&container["reason"]), "", "{task}");
        let at = |field: &str| task[field].as_f64().unwrap();
        let took = at("stoppedAt") - at("stoppingAt");
        assert!(took >= STOP_SECS, "it had {took} s of its stopTimeout: {task}");
    }
}

/// A revision that runs well, and is ended by what monitoring says of it.
fn gone_off(service: &Service<'_>, first: &Value) {
    let cluster = service.cluster;
    cluster.register("noisy", shell(OBEYS));
    service.update("noisy:2", &["--alarm", ALARM, "--alarm-rollback"]);
    wait::until("the new revision runs", SOON, || {
        let newest = service.shown()["deployments"][0].clone();
        let runs = text(&newest["taskDefinition"]).ends_with("/noisy:2");
        if runs && newest["runningCount"] == 2 { Ok(()) } else { Err(newest.to_string()) }
    });
    cluster.run(&["alarm", "set", ALARM, "ALARM", "--reason", "5 % of answers are errors"]);
    let failed = service.reached("ROLLBACK_SUCCESSFUL");
    let id = number(&failed);
    let why = format!("ECS deployment ecs-svc/{id} failed: alarm detected.");
    assert_eq!(failed["statusReason"], json!(why), "{failed}");
    has_event(service, &format!("(deployment ecs-svc/{id}) deployment failed: alarm detected."));
    assert_eq!(service.completed("noisy:1")["id"], first["id"]);
    let listed = cluster.json(&["alarm", "list"])["metricAlarms"].clone();
    assert_eq!(
        (&listed[0]["alarmName"], &listed[0]["stateValue"]),
        (&json!(ALARM), &json!("ALARM"))
    );
}

fn run(cluster: &Cluster, family: &str, container: Value) -> String {
    cluster.register(family, container);
    let ran = cluster.json(&["task", "run", family]);
    text(&ran["tasks"][0]["taskArn"])
}

/// The task, once it is so.
fn task_that(cluster: &Cluster, arn: &str, what: &str, so: impl Fn(&Value) -> bool) -> Value {
    wait::until(&format!("the task {what}"), SOON, || {
        let task = cluster.json(&["task", "describe", arn])["tasks"][0].clone();
        if so(&task) { Ok(task) } else { Err(task.to_string()) }
    })
}

/// A task of no service lives on whatever its health, and a check that hangs holds up no stop.
fn checks_alone(cluster: &Cluster) {
    let hung = run(cluster, "hung-alone", checked("sleep 7777", 2));
    let endless = run(cluster, "endless", checked("sleep 8888", 60));
    let task = task_that(cluster, &hung, "is UNHEALTHY", |t| t["healthStatus"] == "UNHEALTHY");
    let why = "health check failed: it took longer than its timeout of 2 s";
    assert_eq!(task["containers"][0]["reason"], why, "{task}");
    assert_eq!(task["lastStatus"], "RUNNING", "{task}");

    wait::until("the check is being executed", SOON, || {
        let there = cluster.ask(&["task", "exec", &endless, "--", "/bin/busybox", "ps"]);
        let processes = String::from_utf8_lossy(&there.stdout).into_owned();
        if processes.contains("sleep 8888") { Ok(()) } else { Err(processes) }
    });
    for arn in [&hung, &endless] {
        cluster.run(&["task", "stop", arn, "--reason", "seen enough"]);
    }
    for arn in [&hung, &endless] {
        let task = task_that(cluster, arn, "is STOPPED", |t| t["lastStatus"] == "STOPPED");
        assert_eq!(
            (&task["stopCode"], &task["stoppedReason"]),
            (&json!("UserInitiated"), &json!("seen enough"))
        );
        // Its own code: the signal reached it before it would have been killed.
        assert_eq!(task["containers"][0]["exitCode"], 0, "{task}");
    }
}

/// A digest that is not there: ECS's agent tries to pull it, without asking for a manifest first.
fn pulls_alone(cluster: &Cluster) {
    let digest = format!("{}/test/busybox@sha256:{:064}", cluster.registry.address, 0);
    let mut container = shell(OBEYS);
    container["image"] = json!(digest);
    let arn = run(cluster, "no-such-digest", container);
    let task = task_that(cluster, &arn, "is STOPPED", |t| t["lastStatus"] == "STOPPED");
    assert_eq!(task["stopCode"], "TaskFailedToStart", "{task}");
    let why = text(&task["stoppedReason"]);
    assert!(why.starts_with("CannotPullContainerError: ") && why.contains(&digest), "{task}");
    assert_eq!(text(&task["containers"][0]["reason"]), why);
    assert_eq!(task["containers"][0].get("exitCode"), None, "{task}");
}

fn fixed(service: &Service<'_>) {
    let row = service.completed(&revision(service.name, 3));
    let id = text(&row["id"]);
    assert_eq!(row["rolloutStateReason"], format!("ECS deployment {id} completed."));
    assert_eq!(row["failedTasks"].as_u64().unwrap_or(0), 0, "{row}");
    let newest = service.reached("SUCCESSFUL");
    assert_eq!(number(&newest), number(&row));
    has_event(service, &format!("(deployment {id}) deployment completed."));
    has_event(service, "has reached a steady state.");
}
