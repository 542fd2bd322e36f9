//! What a cluster tells its operators' tools: spans over OTLP, metrics on loopback.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test's way to fail

use muster_chaos::cluster::{Cluster, example};
use muster_chaos::wait;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);
/// Port of the collector on the hub's address.
const OTLP_PORT: u16 = 4317;
const METRICS: &str = "127.0.0.1:7410";

/// `examples/collector` in the lab's hub; ends when dropped.
struct Collector {
    process: Child,
    file: PathBuf,
}

impl Collector {
    fn start(cluster: &Cluster) -> (Self, String) {
        let address = format!("{}:{OTLP_PORT}", cluster.lab.address("hub"));
        let file = cluster.dir.path().join("spans");
        let process = cluster
            .lab
            .hub_command(&example("collector").to_string_lossy())
            .arg(&address)
            .stdin(Stdio::null())
            .stdout(File::create(&file).unwrap())
            .spawn()
            .unwrap();
        (Self { process, file }, format!("http://{address}"))
    }

    fn spans(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.file).unwrap();
        // The last line may be half written.
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Sets a host's `[telemetry]`, and starts its daemon again.
fn configure(cluster: &mut Cluster, host: &str, telemetry: &str) {
    let path = cluster.config(host);
    let text = std::fs::read_to_string(&path).unwrap();
    let text = text.replace("[telemetry]", &format!("[telemetry]\n{telemetry}"));
    assert!(text.contains(telemetry), "{path} has a telemetry section: {text}");
    std::fs::write(Path::new(&path), text).unwrap();
    cluster.signal(host, "-TERM");
    cluster.reap(host);
    cluster.start(host);
}

/// Names of the spans of one trace, each as `service name`.
fn names(spans: &[Value], trace: &Value) -> BTreeSet<String> {
    let of = spans.iter().filter(|span| span["trace"] == *trace);
    let name = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    of.map(|span| format!("{} {}", name(&span["service"]), name(&span["name"]))).collect()
}

#[test]
fn one_trace_leads_from_the_call_to_the_started_container() {
    let mut cluster = Cluster::form(3, 1);
    let (collector, endpoint) = Collector::start(&cluster);
    for host in ["m1", "m2", "m3", "w1"] {
        let telemetry = format!("otlp_endpoint = \"{endpoint}\"\nmetrics_listen = \"{METRICS}\"");
        configure(&mut cluster, host, &telemetry);
    }
    cluster.wait_leader();
    cluster.wait_connected(1);
    cluster.register("once", json!({ "command": ["/bin/busybox", "sleep", "100000"] }));
    let ran = cluster.json(&["task", "run", "once"]);
    let arn = ran["tasks"][0]["taskArn"].as_str().unwrap().to_owned();
    let id = arn.rsplit('/').next().unwrap().to_owned();

    let steps = [
        "muster-manager api.RunTask",
        "muster-manager raft.apply",
        "muster-manager plan.propose",
        "muster-agent container.pull",
        "muster-agent container.create",
        "muster-agent container.start",
        "muster-manager report.propose",
    ];
    let (trace, spans) = wait::until("every step's span is exported", SOON, || {
        let spans = collector.spans();
        let called = spans.iter().find(|span| span["name"] == "api.RunTask");
        let trace = called.ok_or("no span of the call yet")?["trace"].clone();
        let seen = names(&spans, &trace);
        match steps.iter().find(|step| !seen.contains(**step)) {
            None => Ok((trace, spans)),
            Some(missing) => {
                let other = spans.iter().map(|span| &span["name"]).collect::<Vec<_>>();
                Err(format!("no {missing} in {seen:?}; in all: {other:?}"))
            }
        }
    });
    let journey: Vec<_> = spans.iter().filter(|span| span["trace"] == trace).collect();
    let started = journey.iter().find(|span| span["name"] == "container.start").unwrap();
    assert_eq!(started["attributes"]["task"], id, "it is this task's");
    let call = journey.iter().find(|span| span["name"] == "api.RunTask").unwrap();
    assert_eq!(call["parent"], "", "the call is where it begins");
    let known: BTreeSet<_> = journey.iter().map(|span| span["span"].as_str()).collect();
    let lost = journey.iter().find(|s| s["parent"] != "" && !known.contains(&s["parent"].as_str()));
    assert_eq!(lost, None, "every other span hangs below another one of the journey");

    for (host, metric) in [("m1", "muster_api_"), ("w1", "muster_agent_connected")] {
        let url = format!("http://{METRICS}/metrics");
        let get = ["in", host, "busybox", "wget", "-q", "-O", "-", &url];
        let text = cluster.lab.done(&get);
        assert!(text.contains(metric), "{metric} of {host}: {text}");
    }
}
