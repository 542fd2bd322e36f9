//! The leading manager is killed in each phase of a deployment, rolling, paused, rolled back and
//! blue/green, of real containers: the next one goes on where the rows say the dead one stood,
//! takes no stage twice, and the percentages hold.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test's way to fail

use muster_chaos::cluster::Cluster;
use muster_chaos::observer::Seen;
use muster_chaos::service::{Service, short, text};
use muster_chaos::wait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long a phase may take to come, an election included.
const SOON: Duration = Duration::from_secs(60);
/// Of a bake time of one minute, ECS's shortest but none.
const BAKED: Duration = Duration::from_secs(120);
/// How long containers take to end: long enough for a leader to die meanwhile.
const STOP_SECS: u32 = 5;

/// A container that has to be killed.
fn slow() -> Value {
    let script = "trap '' TERM; while :; do sleep 1; done";
    json!({ "command": ["/bin/busybox", "sh", "-c", script], "stopTimeout": STOP_SECS })
}

fn form() -> Cluster {
    let cluster = Cluster::form(3, 2);
    cluster.run(&["cluster", "update", "default", "--setting", "taskHealthyAfterSeconds=4"]);
    cluster
}

/// Kills the leader when something is seen, and waits for the next.
struct Killer {
    cluster: Cluster,
    leader: String,
    seen: Seen,
}

impl Killer {
    fn new(cluster: Cluster) -> Self {
        let leader = cluster.wait_leader();
        Self { cluster, leader, seen: Seen::new(Vec::new()) }
    }

    /// The service as it is now, if a manager says so; what it has is judged.
    fn look(&mut self, name: &str) -> Result<Value, String> {
        let words = ["service", "describe", name, "--timeout", "5", "--output", "json"];
        let output = self.cluster.ask(&words);
        let shown: Value = serde_json::from_slice(&output.stdout)
            .map_err(|_| String::from_utf8_lossy(&output.stderr).into_owned())?;
        let services = shown["services"].as_array().cloned().unwrap_or_default();
        services.iter().for_each(|service| self.seen.look(service));
        services.into_iter().next().ok_or_else(|| "no service".to_owned())
    }

    /// Kills at once: a phase may be short.
    fn strike(&mut self) {
        let pid = Pid::from_raw(self.cluster.pid(&self.leader).unwrap());
        kill(pid, Signal::SIGKILL).unwrap();
        self.cluster.reap(&self.leader);
        let dead = std::mem::take(&mut self.leader);
        self.leader = self.cluster.wait_next_leader(&dead);
        self.cluster.start(&dead);
        self.cluster.wait_voters(3);
    }

    /// Strikes when the service is so.
    fn strike_when(&mut self, name: &str, what: &str, so: impl Fn(&Value) -> bool) {
        wait::until(what, SOON, || {
            let shown = self.look(name)?;
            if so(&shown) { Ok(()) } else { Err(shown["deployments"].to_string()) }
        });
        self.strike();
    }

    /// The service's tasks, once none of them is on its way.
    fn at_rest(&mut self, name: &str) -> BTreeSet<String> {
        wait::until(&format!("{name} is at rest"), SOON, || {
            self.look(name)?;
            let tasks = self.cluster.tasks(name);
            let moves = |task: &&Value| {
                task["lastStatus"] != "RUNNING" || task["desiredStatus"] != "RUNNING"
            };
            match tasks.iter().find(moves) {
                None => Ok(tasks.iter().map(|task| short(&task["taskArn"])).collect()),
                Some(task) => Err(task.to_string()),
            }
        })
    }

    fn holds(&self) {
        assert!(self.seen.broken.is_empty(), "{:?}", self.seen.broken);
    }
}

/// Running and pending tasks of a definition.
fn count(shown: &Value, definition: &str) -> (u64, u64) {
    let rows = shown["deployments"].as_array().cloned().unwrap_or_default();
    let own = rows.iter().find(|row| short(&row["taskDefinition"]) == definition);
    let number = |field: &str| own.and_then(|row| row[field].as_u64()).unwrap_or(0);
    (number("runningCount"), number("pendingCount"))
}

#[test]
fn a_rolling_deployment_outlives_its_leaders() {
    let _alone = alone();
    let cluster = form();
    cluster.register("roll", slow());
    let words = ["--desired-count", "4", "--minimum-healthy-percent", "75"];
    let more = [&words[..], &["--maximum-percent", "125"]].concat();
    Service::create(&cluster, "roll", "roll", &more).completed("roll:1");
    let mut killer = Killer::new(cluster);
    killer.cluster.register("roll", slow());
    Service { cluster: &killer.cluster, name: "roll" }.update("roll:2", &[]);

    killer.strike_when("roll", "the first new task is starting", |s| count(s, "roll:2") != (0, 0));
    killer.strike_when("roll", "old ones are stopping", |s| count(s, "roll:1").0 <= 3);
    killer.strike_when("roll", "half is new", |s| count(s, "roll:2").0 >= 2);
    // Paused, it takes nobody's place, whoever leads, for as long as that takes.
    killer.cluster.run(&["service", "pause", "roll"]);
    let paused = killer.at_rest("roll");
    killer.strike();
    killer.look("roll").unwrap();
    assert_eq!(killer.at_rest("roll"), paused);
    killer.cluster.run(&["service", "continue", "roll"]);
    killer.strike_when("roll", "no old one is wanted", |s| count(s, "roll:1") == (0, 0));
    let service = Service { cluster: &killer.cluster, name: "roll" };
    let row = service.completed("roll:2");
    let newest = service.reached("SUCCESSFUL");
    assert_eq!(short(&newest["serviceDeploymentArn"]), short(&row["id"]));
    let running = killer.cluster.running("roll");
    assert_eq!(running.len(), 4, "{running:?}");
    killer.holds();
}

#[test]
fn a_rollback_outlives_its_leaders() {
    let _alone = alone();
    let cluster = form();
    cluster.register("back", slow());
    let words = ["--desired-count", "4", "--circuit-breaker", "2", "--rollback"];
    let more = ["--minimum-healthy-percent", "50", "--maximum-percent", "100"];
    let more = [&words[..], &more].concat();
    let first = Service::create(&cluster, "back", "back", &more).completed("back:1");
    let mut killer = Killer::new(cluster);
    let crash = json!({ "command": ["/bin/busybox", "sh", "-c", "echo no; exit 3"] });
    killer.cluster.register("back", crash);
    Service { cluster: &killer.cluster, name: "back" }.update("back:2", &[]);

    let reason = |shown: &Value| text(&shown["deployments"][0]["rolloutStateReason"]);
    killer.strike_when("back", "the bad revision is tried", |s| {
        s["deployments"].as_array().is_some_and(|rows| rows.len() == 2)
    });
    killer.strike_when("back", "it is being rolled back", |s| {
        reason(s).starts_with("ECS deployment circuit breaker: rolling back")
    });
    let service = Service { cluster: &killer.cluster, name: "back" };
    let row = service.completed("back:1");
    assert_eq!(row["id"], first["id"], "the very deployment that had completed");
    service.reached("ROLLBACK_SUCCESSFUL");
    killer.holds();
}

/// All stages at which a deployment can be told to wait.
const HOOKS: [&str; 6] = [
    "RECONCILE_SERVICE",
    "PRE_SCALE_UP",
    "POST_SCALE_UP",
    "POST_TEST_TRAFFIC_SHIFT",
    "PRE_PRODUCTION_TRAFFIC_SHIFT",
    "POST_PRODUCTION_TRAFFIC_SHIFT",
];

impl Killer {
    /// The newest deployment, if a manager says so.
    fn newest(&self) -> Result<Value, String> {
        let words = ["service", "deployments", "shop", "--timeout", "5", "--output", "json"];
        let output = self.cluster.ask(&words);
        let list: Value = serde_json::from_slice(&output.stdout)
            .map_err(|_| String::from_utf8_lossy(&output.stderr).into_owned())?;
        Ok(list["serviceDeployments"][0].clone())
    }

    /// The hook that it waits for, once that is at this stage.
    fn hook_at(&mut self, stage: &str) -> String {
        // ECS shows what comes before a step of production traffic as the step itself.
        let begins = format!("{}-", stage.to_lowercase());
        wait::until(&format!("it waits at {stage}"), SOON, || {
            self.look("shop")?;
            let newest = self.newest()?;
            let hook = text(&newest["lifecycleHookDetails"][0]["hookId"]);
            if hook.starts_with(&begins) { Ok(hook) } else { Err(newest.to_string()) }
        })
    }

    /// Strikes while it waits there: the next leader waits for the very same.
    fn strike_at_hook(&mut self, stage: &str) {
        let before = self.hook_at(stage);
        self.strike();
        assert_eq!(self.hook_at(stage), before, "no stage is entered twice");
    }

    fn go_on(&self) {
        self.cluster.run(&["service", "continue", "shop"]);
    }

    fn strike_in(&mut self, stage: &str, limit: Duration) {
        wait::until(&format!("it is in {stage}"), limit, || {
            self.look("shop")?;
            let newest = self.newest()?;
            match newest["lifecycleStage"] == stage {
                true => Ok(()),
                false => Err(newest.to_string()),
            }
        });
        self.strike();
    }
}

#[test]
fn a_blue_green_deployment_outlives_its_leaders() {
    let _alone = alone();
    let cluster = form();
    cluster.register("shop", slow());
    let mut words = vec!["--desired-count", "2", "--deployment-strategy", "BLUE_GREEN"];
    words.extend(["--bake-time", "1"]);
    words.extend(HOOKS.iter().flat_map(|stage| ["--pause-at", stage]));
    let blue = Service::create(&cluster, "shop", "shop", &words).completed("shop:1");
    let mut killer = Killer::new(cluster);

    // One that another replaces when it has come half the way, so that there is something to
    // reconcile.
    killer.cluster.register("shop", slow());
    Service { cluster: &killer.cluster, name: "shop" }.update("shop:2", &[]);
    killer.strike_at_hook("PRE_SCALE_UP");
    killer.go_on();
    killer.strike_in("SCALE_UP", SOON);
    killer.hook_at("POST_SCALE_UP");

    killer.cluster.register("shop", slow());
    Service { cluster: &killer.cluster, name: "shop" }.update("shop:3", &[]);
    killer.strike_at_hook("RECONCILE_SERVICE");
    killer.go_on();
    // The replaced revision's containers are being stopped: nothing else may come before.
    killer.strike();
    killer.hook_at("PRE_SCALE_UP");
    let (one, two) = {
        let shown = killer.look("shop").unwrap();
        (count(&shown, "shop:1"), count(&shown, "shop:2"))
    };
    assert_eq!((one, two), ((2, 0), (0, 0)), "blue alone stays");
    killer.go_on();
    killer.strike_at_hook("POST_SCALE_UP");
    // Test traffic shifts, and is told of, while the leader dies.
    killer.go_on();
    killer.strike();
    killer.strike_at_hook("POST_TEST_TRAFFIC_SHIFT");
    killer.go_on();
    killer.strike_at_hook("PRE_PRODUCTION_TRAFFIC_SHIFT");
    // So does production traffic.
    killer.go_on();
    killer.strike();
    killer.strike_at_hook("POST_PRODUCTION_TRAFFIC_SHIFT");
    killer.go_on();
    killer.strike_in("BAKE_TIME", SOON);
    killer.strike_in("CLEAN_UP", BAKED);
    ended_well(&killer, &short(&blue["id"]));
    killer.holds();
}

fn ended_well(killer: &Killer, blue: &str) {
    let service = Service { cluster: &killer.cluster, name: "shop" };
    let row = service.completed("shop:3");
    let green = short(&row["id"]);
    let ended: BTreeMap<String, String> = service
        .deployments()
        .iter()
        .map(|one| (short(&one["serviceDeploymentArn"]), text(&one["status"])))
        .collect();
    assert_eq!(ended[&green], "SUCCESSFUL", "{ended:?}");
    assert_eq!(ended[blue], "SUCCESSFUL", "{ended:?}");
    // Each stage was entered once, whoever led.
    let events = service.events();
    let stages = ["PRE_SCALE_UP", "SCALE_UP", "POST_SCALE_UP", "TEST_TRAFFIC_SHIFT"];
    let stages = stages.into_iter().chain([
        "POST_TEST_TRAFFIC_SHIFT",
        "PRE_PRODUCTION_TRAFFIC_SHIFT",
        "PRODUCTION_TRAFFIC_SHIFT",
        "POST_PRODUCTION_TRAFFIC_SHIFT",
        "BAKE_TIME",
        "CLEAN_UP",
    ]);
    for stage in stages {
        let of =
            format!("(deployment ecs-svc/{green}) deployment reached lifecycle stage {stage}.");
        let times = events.iter().filter(|event| event.contains(&of)).count();
        assert_eq!(times, 1, "{stage}: {events:#?}");
    }
}
