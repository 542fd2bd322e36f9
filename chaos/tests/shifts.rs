//! Blue/green deployments on real containers: green comes up beside blue, waits for somebody, gets
//! the traffic, and blue is gone after the bake time; or green is taken back, and blue never moved.
//! Whom it waits for is a person or a program.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test's way to fail

use muster_chaos::cluster::Cluster;
use muster_chaos::observer::watched;
use muster_chaos::service::{Service, short, text};
use muster_chaos::wait;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

const SOON: Duration = Duration::from_secs(60);
/// One minute is ECS's shortest bake time but none.
const BAKE_SECS: f64 = 60.0;
/// What a busy machine may add to it.
const BAKED: Duration = Duration::from_secs(100);
const HOOK: &str = "POST_TEST_TRAFFIC_SHIFT";

/// Of a service whose deployments shift traffic.
const SHIFTS: [&str; 8] = [
    "--desired-count",
    "2",
    "--deployment-strategy",
    "BLUE_GREEN",
    "--bake-time",
    "1",
    "--pause-at",
    HOOK,
];

fn version(number: u32) -> Value {
    let script = format!("echo version {number}; trap 'exit 0' TERM; sleep 100000 & wait");
    json!({ "command": ["/bin/busybox", "sh", "-c", script] })
}

/// The newest deployment, once it waits at that stage for somebody.
fn waits_at(service: &Service<'_>, stage: &str) -> Value {
    wait::until(&format!("{} waits at {stage}", service.name), SOON, || {
        let newest = service.deployments().into_iter().next().unwrap_or_default();
        let waits = newest["lifecycleHookDetails"][0]["status"] == "AWAITING_ACTION";
        match newest["lifecycleStage"] == stage && waits {
            true => Ok(newest),
            false => Err(newest.to_string()),
        }
    })
}

/// Production and test traffic of a revision, in percent, as the service is shown.
fn weights(service: &Service<'_>, number: &str) -> (f64, f64) {
    let shown = service.shown();
    let revisions = shown["currentServiceRevisions"].as_array().cloned().unwrap_or_default();
    let own = revisions.iter().find(|revision| short(&revision["arn"]) == number);
    let own = own.unwrap_or_else(|| panic!("no revision {number} in {shown}"));
    let percent = |field: &str| own[field].as_f64().unwrap();
    (percent("requestedProductionTrafficWeight"), percent("requestedTestTrafficWeight"))
}

/// Host and process of each running task of a revision, which tell whether it is still the same.
fn processes(service: &Service<'_>, definition: &str) -> BTreeSet<(String, u64)> {
    let tasks = service.cluster.tasks(service.name);
    let own = tasks.iter().filter(|task| {
        task["lastStatus"] == "RUNNING" && short(&task["taskDefinitionArn"]) == definition
    });
    own.map(|task| (text(&task["instanceName"]), task["containers"][0]["pid"].as_u64().unwrap()))
        .collect()
}

struct Blue<'c> {
    service: Service<'c>,
    /// Of its deployment.
    number: String,
    processes: BTreeSet<(String, u64)>,
}

fn blue<'c>(cluster: &'c Cluster, name: &'c str, words: &[&str]) -> Blue<'c> {
    cluster.register(name, version(1));
    let service = Service::create(cluster, name, name, words);
    let first = service.completed(&format!("{name}:1"));
    let processes = processes(&service, &format!("{name}:1"));
    assert_eq!(processes.len(), 2);
    Blue { service, number: short(&first["id"]), processes }
}

impl Blue<'_> {
    fn is_untouched(&self) {
        let definition = format!("{}:1", self.service.name);
        assert_eq!(processes(&self.service, &definition), self.processes, "{definition}");
    }

    /// Rolls out the second revision as far as the hook; the number of its deployment.
    fn green(&self) -> String {
        let Service { cluster, name } = self.service;
        cluster.register(name, version(2));
        self.service.update(&format!("{name}:2"), &[]);
        let green = waits_at(&self.service, HOOK);
        self.is_untouched();
        assert_eq!(processes(&self.service, &format!("{name}:2")).len(), 2, "green beside blue");
        let green = short(&green["serviceDeploymentArn"]);
        assert_eq!(weights(&self.service, &green), (0.0, 100.0));
        assert_eq!(weights(&self.service, &self.number), (100.0, 0.0));
        green
    }

    /// Green has been taken back.
    fn is_back(&self, reason: &str) {
        let ended = self.service.reached("ROLLBACK_SUCCESSFUL");
        assert_eq!(text(&ended["statusReason"]), reason, "{ended}");
        let name = self.service.name;
        let row = self.service.completed(&format!("{name}:1"));
        assert_eq!(short(&row["id"]), self.number);
        self.is_untouched();
        let one = || weights(&self.service, &self.number);
        assert_eq!(one(), (100.0, 100.0));
        wait::until("green has ended", SOON, || {
            let ended = self.service.ended();
            if ended.len() == 2 { Ok(()) } else { Err(format!("{ended:?}")) }
        });
        let why = format!("Scaling activity initiated by (deployment ecs-svc/{})", self.number);
        for task in self.service.ended() {
            assert_eq!(text(&task["stoppedReason"]), why, "{task}");
        }
    }
}

/// When the service said so, in seconds since 1970.
fn said_at(service: &Service<'_>, what: &str) -> f64 {
    let shown = service.shown();
    let events = shown["events"].as_array().cloned().unwrap_or_default();
    let event = events.iter().find(|event| text(&event["message"]).contains(what));
    event.unwrap_or_else(|| panic!("no event {what:?} in {events:#?}"))["createdAt"]
        .as_f64()
        .unwrap()
}

#[test]
fn traffic_shifts_when_it_is_let_and_goes_back_when_it_is_not() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let cluster = Cluster::form(1, 2);
    cluster.run(&["cluster", "update", "default", "--setting", "taskHealthyAfterSeconds=2"]);
    let ((), seen) = watched(&cluster, Vec::new(), || shift(&cluster));
    assert!(seen.looks > 20, "the observer has hardly looked: {} times", seen.looks);
    assert_eq!(seen.broken, BTreeSet::new(), "percentages that did not hold");
}

fn shift(cluster: &Cluster) {
    let shop = blue(cluster, "shop", &SHIFTS);
    let green = shop.green();
    let table = cluster.run(&["service", "describe", "shop"]);
    assert!(table.contains("0% (test 100%)") && table.contains("100% (test 0%)"), "{table}");
    cluster.run(&["service", "continue", "shop"]);
    wait::until("green has all of the traffic", SOON, || {
        let (green, blue) = (weights(&shop.service, &green), weights(&shop.service, &shop.number));
        match (green, blue) == ((100.0, 100.0), (0.0, 0.0)) {
            true => Ok(()),
            false => Err(format!("green {green:?}, blue {blue:?}")),
        }
    });
    shop.is_untouched();

    // While it bakes: two others, whose users do not want what they see.
    let refused = blue(cluster, "refused", &SHIFTS);
    refused.green();
    cluster.run(&["service", "continue", "refused", "--action", "ROLLBACK"]);
    let stopped = blue(cluster, "stopped", &SHIFTS);
    let number = stopped.green();
    cluster.run(&["service", "pause", "stopped"]);
    cluster.run(&["service", "rollback", "stopped"]);
    stopped.is_back(&format!("ECS deployment ecs-svc/{number} stopped by user."));
    let number = short(&refused.service.deployments()[0]["serviceDeploymentArn"]);
    refused.is_back(&format!("ECS deployment ecs-svc/{number} stopped by user."));

    shop.is_untouched();
    wait::until("blue is gone after the bake time", BAKED, || {
        let left = processes(&shop.service, "shop:1");
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    let row = shop.service.completed("shop:2");
    assert_eq!(short(&row["id"]), green);
    shop.service.reached("SUCCESSFUL");
    let reached = |stage: &str| said_at(&shop.service, &format!("lifecycle stage {stage}."));
    let baked = reached("CLEAN_UP") - reached("BAKE_TIME");
    assert!(baked >= BAKE_SECS, "it baked for {baked} s");
    let ended = shop.service.ended();
    let why = format!("Scaling activity initiated by (deployment ecs-svc/{green})");
    assert!(ended.iter().all(|task| text(&task["stoppedReason"]) == why), "{ended:?}");
}

/// Services whose traffic shifts in two steps: their strategy, and how much the first step shifts.
const STEPS: [(&str, &str, &str); 2] = [("canary", "CANARY", "10"), ("linear", "LINEAR", "50")];

fn in_steps(cluster: &Cluster) -> [Service<'_>; 2] {
    STEPS.map(|(name, ..)| Service { cluster, name })
}

/// The number of the newest deployment, once its revision has this share of production traffic.
fn shifted(service: &Service<'_>, percent: f64) -> String {
    wait::until(&format!("{percent} % of {} have shifted", service.name), SOON, || {
        let newest = service.deployments().into_iter().next().unwrap_or_default();
        let number = short(&newest["serviceDeploymentArn"]);
        match weights(service, &number).0 {
            share if (share - percent).abs() < 0.01 => Ok(number),
            share => Err(format!("{share} %: {newest}")),
        }
    })
}

#[test]
fn traffic_shifts_in_steps_over_a_dead_leader_and_comes_back_at_once() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut cluster = Cluster::form(3, 2);
    cluster.run(&["cluster", "update", "default", "--setting", "taskHealthyAfterSeconds=2"]);
    for (name, strategy, percent) in STEPS {
        let words = ["--desired-count", "2", "--deployment-strategy", strategy, "--bake-time", "0"];
        let words = [&words[..], &["--step-percent", percent, "--step-bake-time", "1"]].concat();
        let Blue { service, .. } = blue(&cluster, name, &words);
        cluster.register(name, version(2));
        service.update(&format!("{name}:2"), &[]);
    }
    let first = |percent: &str| percent.parse().unwrap();
    for (service, (.., percent)) in in_steps(&cluster).iter().zip(STEPS) {
        shifted(service, first(percent));
    }
    let dead = cluster.wait_leader();
    cluster.kill(&dead);
    for (service, (.., percent)) in in_steps(&cluster).iter().zip(STEPS) {
        let number = shifted(service, first(percent));
        let shown = service.shown();
        let blue = shown["deployments"].as_array().unwrap().iter();
        let blue = blue.map(|row| short(&row["id"])).find(|id| *id != number).unwrap();
        assert_eq!(weights(service, &blue).0, 100.0 - first(percent), "the rest stays");
    }

    // Meanwhile one whose user does not like what all of the users see.
    let words = ["--desired-count", "2", "--deployment-strategy", "BLUE_GREEN", "--bake-time", "5"];
    let hasty = blue(&cluster, "hasty", &words);
    cluster.register("hasty", version(2));
    hasty.service.update("hasty:2", &[]);
    let green = shifted(&hasty.service, 100.0);
    assert_eq!(weights(&hasty.service, &hasty.number), (0.0, 0.0));
    cluster.run(&["service", "rollback", "hasty"]);
    assert_eq!(weights(&hasty.service, &hasty.number), (100.0, 100.0), "in that very entry");
    hasty.is_back(&format!("ECS deployment ecs-svc/{green} stopped by user."));

    for (service, (name, _, percent)) in in_steps(&cluster).iter().zip(STEPS) {
        wait::until(&format!("{name} has shifted"), BAKED, || {
            let newest = service.deployments().into_iter().next().unwrap_or_default();
            if newest["status"] == "SUCCESSFUL" { Ok(()) } else { Err(newest.to_string()) }
        });
        let at = |percent| said_at(service, &format!(" {percent}% of production traffic shifts"));
        let step = at("100") - at(percent);
        assert!(step >= BAKE_SECS, "{name}'s first step took {step} s");
    }
    cluster.start(&dead);
}

/// Answers each POST with what `answer` holds, and keeps what it was sent in `calls`, line by line.
const ENDPOINT: &str = "
import http.server, pathlib, sys
here = pathlib.Path(sys.argv[1])
class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers['content-length']))
        with open(here / 'calls', 'ab') as calls:
            calls.write(body + b'\\n')
        self.send_response(200)
        self.end_headers()
        self.wfile.write((here / 'answer').read_bytes())
http.server.HTTPServer((sys.argv[2], 8099), Hook).serve_forever()
";

/// A program in the hub's network that a lifecycle hook asks.
struct Endpoint {
    process: Child,
    url: String,
    dir: PathBuf,
}

impl Endpoint {
    fn start(cluster: &Cluster) -> Self {
        let (dir, address) = (cluster.path("endpoint"), cluster.lab.address("hub"));
        let url = format!("http://{address}:8099/hook");
        let mut command = cluster.lab.hub_command("python3");
        command.args(["-c", ENDPOINT]).arg(&dir).arg(address);
        let process = command.stderr(Stdio::null()).spawn().unwrap();
        Self { process, url, dir }
    }

    /// What it answers from now on.
    fn says(&self, answer: &Value) {
        let new = self.dir.join("new");
        std::fs::write(&new, answer.to_string()).unwrap();
        std::fs::rename(new, self.dir.join("answer")).unwrap();
    }

    /// Each call's `executionId`, once there are so many.
    fn calls(&self, least: usize) -> Vec<String> {
        wait::until(&format!("the endpoint is called {least} times"), SOON, || {
            let lines = std::fs::read_to_string(self.dir.join("calls")).unwrap_or_default();
            let bodies = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            let ids: Vec<String> = bodies.map(|body| text(&body["executionId"])).collect();
            if ids.len() >= least { Ok(ids) } else { Err(format!("{ids:?}")) }
        })
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[test]
fn a_program_is_asked_by_each_leader_until_it_decides() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut cluster = Cluster::form(3, 2);
    cluster.run(&["cluster", "update", "default", "--setting", "taskHealthyAfterSeconds=2"]);
    let endpoint = Endpoint::start(&cluster);
    endpoint.says(&json!({ "hookStatus": "IN_PROGRESS", "callBackDelay": 3600 }));
    let hook = format!("{HOOK}={}", endpoint.url);
    let words = ["--deployment-strategy", "BLUE_GREEN", "--bake-time", "0", "--call-at", &hook];
    cluster.register("shop", version(1));
    Service::create(&cluster, "shop", "shop", &words).completed("shop:1");
    cluster.register("shop", version(2));
    Service { cluster: &cluster, name: "shop" }.update("shop:2", &[]);
    endpoint.calls(1);

    let dead = cluster.wait_leader();
    cluster.kill(&dead);
    let calls = endpoint.calls(2);
    assert_eq!(calls[0], calls[1], "a new leader asks anew, about the same execution");
    let service = Service { cluster: &cluster, name: "shop" };
    let waits = service.deployments()[0]["lifecycleHookDetails"][0].clone();
    assert_eq!((&waits["status"], &waits["targetType"]), (&json!("IN_PROGRESS"), &json!("HTTP")));
    assert_eq!(waits["targetArn"], json!(endpoint.url));

    // The next leader has it from the endpoint: to whom an hour was said, nobody asks before.
    endpoint.says(&json!({ "hookStatus": "SUCCEEDED" }));
    cluster.start(&dead);
    cluster.wait_voters(3);
    let next = cluster.wait_leader();
    cluster.kill(&next);
    let service = Service { cluster: &cluster, name: "shop" };
    service.completed("shop:2");
    service.reached("SUCCESSFUL");
    said_at(&service, &format!("{} answered SUCCEEDED.", endpoint.url));

    endpoint.says(&json!({ "hookStatus": "FAILED" }));
    cluster.register("shop", version(3));
    Service { cluster: &cluster, name: "shop" }.update("shop:3", &[]);
    let service = Service { cluster: &cluster, name: "shop" };
    let ended = service.reached("ROLLBACK_SUCCESSFUL");
    assert!(text(&ended["statusReason"]).ends_with("a lifecycle hook failed."), "{ended}");
    service.completed("shop:2");
    said_at(&service, &format!("{} answered FAILED.", endpoint.url));
}
