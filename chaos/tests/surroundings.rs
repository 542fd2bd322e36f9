//! What a task definition asks of its instance, on a real cluster: a receiver of its output, a
//! terminal, a volume that stays, and the instance's own metadata.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test's way to fail

use muster_chaos::cluster::Cluster;
use muster_chaos::service::short;
use muster_chaos::wait;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);
/// Lines that may come twice when an agent is killed.
const REPEATED_MAX: usize = 256;
const RECEIVER: &str = "127.0.0.1:5514";
const COUNTS: &str = "trap 'echo bye; exit 0' TERM; tty; i=0; \
    while :; do echo $i; i=$((i+1)); usleep 10000; done";

/// Listens in the network of a worker.
fn listen(cluster: &Cluster, host: &str, address: &'static str) -> TcpListener {
    let network = File::open(cluster.lab.netns(host)).unwrap();
    let inside = move || {
        nix::sched::setns(&network, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        TcpListener::bind(address).unwrap()
    };
    std::thread::spawn(inside).join().unwrap()
}

/// What whoever connects says, one after the other.
fn receive(listener: TcpListener) -> Arc<Mutex<String>> {
    let heard = Arc::new(Mutex::new(String::new()));
    let all = heard.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut piece = [0; 4096];
            while let Ok(n @ 1..) = stream.read(&mut piece) {
                all.lock().unwrap().push_str(&String::from_utf8_lossy(&piece[..n]));
            }
        }
    });
    heard
}

fn run(cluster: &Cluster, family: &str) -> String {
    short(&cluster.json(&["task", "run", family])["tasks"][0]["taskArn"])
}

fn stopped(cluster: &Cluster, task: &str) {
    wait::until("the task has stopped", SOON, || {
        let described = cluster.json(&["task", "describe", task])["tasks"][0].clone();
        match described["lastStatus"] == "STOPPED" {
            true => Ok(()),
            false => Err(described.to_string()),
        }
    });
}

/// The lines that `muster task logs` has, without the container's name before them.
fn kept(cluster: &Cluster, task: &str) -> Vec<String> {
    let logs = cluster.run(&["task", "logs", task]);
    let text = |line: &str| line.strip_prefix("main | ").unwrap_or(line).trim().to_owned();
    logs.lines().map(text).collect()
}

/// What a task prints that ends by itself.
fn printed(cluster: &Cluster, family: &str) -> String {
    let task = run(cluster, family);
    stopped(cluster, &task);
    kept(cluster, &task).join("\n")
}

fn shell(line: &str) -> Value {
    json!({ "command": ["/bin/busybox", "sh", "-c", line] })
}

#[test]
fn output_is_sent_on_over_an_agent_that_is_killed_and_can_be_read_here_as_well() {
    let mut cluster = Cluster::form(1, 1);
    let heard = receive(listen(&cluster, "w1", RECEIVER));
    let mut container = shell(COUNTS);
    container["pseudoTerminal"] = true.into();
    container["logConfiguration"] = json!({ "logDriver": "syslog", "options": {
        "syslog-address": format!("tcp://{RECEIVER}"), "tag": "counts" } });
    cluster.register("counts", container);
    let task = run(&cluster, "counts");
    let texts = || -> Vec<String> {
        let heard = heard.lock().unwrap().clone();
        let whole = heard.rfind('\n').map_or("", |end| &heard[..end]);
        whole.lines().map(|line| line.split_once("]: ").unwrap().1.to_owned()).collect()
    };
    let lines = |count: usize| {
        wait::until(&format!("{count} lines are heard"), SOON, || match texts().len() {
            heard if heard >= count => Ok(heard),
            heard => Err(heard.to_string()),
        })
    };
    lines(100);
    cluster.kill("w1");
    cluster.start("w1");
    let before = lines(0);
    lines(before + 400);
    cluster.run(&["task", "stop", &task]);
    stopped(&cluster, &task);
    let texts = wait::until("the last word is heard", SOON, || {
        let texts = texts();
        if texts.last().is_some_and(|last| last == "bye") { Ok(texts) } else { Err("no".into()) }
    });
    // Its terminal's name, all numbers in order, and its last word.
    let mut sent = texts.clone();
    sent.sort();
    sent.dedup();
    let repeated = texts.len() - sent.len();
    assert!(repeated <= REPEATED_MAX, "{repeated} came twice");
    let mut here = kept(&cluster, &task);
    assert_eq!((&*here[0], &*here[1], here.last().unwrap().as_str()), ("/dev/pts/0", "0", "bye"));
    here.sort();
    assert_eq!(sent, here);
}

#[test]
fn a_shared_volume_stays_and_the_instance_s_metadata_is_the_cluster_s_to_allow() {
    let cluster = Cluster::form(1, 1);
    let mut counts = shell("echo x >> /data/f; busybox wc -l < /data/f");
    counts["mountPoints"] = json!([{ "sourceVolume": "kept", "containerPath": "/data" }]);
    let kept = json!({ "name": "kept",
        "dockerVolumeConfiguration": { "scope": "shared", "autoprovision": true } });
    cluster.register_with("keeps", counts, &json!([kept]));
    assert_eq!(printed(&cluster, "keeps"), "1");
    assert_eq!(printed(&cluster, "keeps"), "2");

    cluster.lab.done(&["run", "w1", "ip", "addr", "add", "169.254.169.254/32", "dev", "lo"]);
    let cloud = listen(&cluster, "w1", "169.254.169.254:80");
    std::thread::spawn(move || {
        for stream in cloud.incoming() {
            let mut stream = stream.unwrap();
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\ncredentials\n").ok();
            stream.shutdown(std::net::Shutdown::Write).ok();
            stream.read_to_end(&mut Vec::new()).ok();
        }
    });
    cluster.register("asks", shell("busybox wget -qO- http://169.254.169.254/ 2>&1; true"));
    let refused = printed(&cluster, "asks");
    assert!(refused.contains("refused") && !refused.contains("credentials"), "{refused}");
    let allowed = "instanceMetadataAccess=enabled";
    cluster.run(&["cluster", "update", "default", "--setting", allowed]);
    assert_eq!(printed(&cluster, "asks"), "credentials");

    let mut mighty = shell("busybox grep NoNewPrivs /proc/self/status");
    mighty["privileged"] = true.into();
    cluster.register("mighty", mighty);
    let refused = cluster.ask(&["task", "run", "mighty"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("privileged"), "{said}");
    let allowed = "privilegedContainers=enabled";
    cluster.run(&["cluster", "update", "default", "--setting", allowed]);
    assert_eq!(printed(&cluster, "mighty").split_whitespace().last(), Some("0"));
}
