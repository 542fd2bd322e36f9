//! The metadata endpoint, asked from inside real containers, and what else containers cannot ask.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod lab;

use lab::{assign, key, lab, script, sh, task, until};
use muster_model::dispatch::Assignment;
use muster_model::spec::NetworkMode;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command};
use std::sync::Arc;

/// What is at a path of the container's own endpoint.
const ASK: &str = "wget -qO- $ECS_CONTAINER_METADATA_URI_V4";

fn read(log: &str) -> Value {
    serde_json::from_str(log).unwrap_or_else(|e| panic!("{e}: {log}"))
}

/// Where the agent of this lab listens, on loopback.
fn port_of_the_endpoint() -> u16 {
    let table = sh("nft list table ip muster-mutest0");
    let port = table.split("127.0.0.1:").nth(1).and_then(|rest| rest.split_whitespace().next());
    port.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no port in {table}"))
}

#[test]
fn a_container_asks_what_it_is_and_what_its_task_is() {
    lab(|mut lab| async {
        let side = script("side", "exec sleep 60");
        let mut main = script("main", ASK);
        main.cpu = 256;
        main.memory_mib = Some(64);
        main.docker_labels.insert("team".into(), "blue".into());
        let mut asks_task = script("asks-task", &format!("{ASK}/task"));
        asks_task.environment.insert("ECS_CONTAINER_METADATA_URI_V4".into(), "forged".into());
        let mut definition = task(NetworkMode::Bridge, vec![side, main, asks_task]);
        definition.cpu = Some(512);
        definition.memory_mib = Some(128);
        let assignment = assign(definition);
        let created = lab.run(&assignment).await;
        let of = |name| key(&assignment, name);
        assert_eq!(lab.exit(&of("main")).await.exit_code, Some(0));
        let container = read(&lab.log(&of("main")).await);
        assert_eq!(container["Name"], "main");
        assert_eq!(container["DockerId"], created[1].id.as_str());
        assert_eq!(container["KnownStatus"], "RUNNING");
        assert_eq!(container["Limits"], serde_json::json!({ "CPU": 256, "Memory": 64 }));
        assert_eq!(container["Labels"]["team"], "blue");
        assert_eq!(container["Labels"]["com.amazonaws.ecs.container-name"], "main");
        let address = created[1].address.unwrap().to_string();
        assert_eq!(container["Networks"][0]["IPv4Addresses"][0], address.as_str());
        assert!(container["StartedAt"].as_str().unwrap().ends_with('Z'), "{container}");
        lab.exit(&of("asks-task")).await;
        let shown = read(&lab.log(&of("asks-task")).await);
        let arn = format!("arn:aws:ecs:local:000000000000:task/default/{}", assignment.task);
        assert_eq!(shown["TaskARN"], arn.as_str());
        assert_eq!((&shown["Family"], &shown["Revision"]), (&"test".into(), &"1".into()));
        assert_eq!(shown["AvailabilityZone"], "az-1");
        assert_eq!(shown["Limits"], serde_json::json!({ "CPU": 0.5, "Memory": 128 }));
        assert_eq!(shown["Containers"].as_array().unwrap().len(), 3);
        assert_eq!(shown["Containers"][0]["KnownStatus"], "RUNNING");
        lab
    });
}

#[test]
fn stats_are_counted_and_a_container_that_ended_has_none() {
    lab(|mut lab| async {
        let busy = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done";
        let mut main = script("main", &format!("{busy}; {ASK}/stats; echo; {ASK}/task/stats"));
        main.memory_mib = Some(64);
        let ended = script("ended", "true");
        let assignment = assign(task(NetworkMode::Bridge, vec![ended, main]));
        let created = lab.run(&assignment).await;
        lab.exit(&key(&assignment, "main")).await;
        let log = lab.log(&key(&assignment, "main")).await;
        let (own, all) = log.split_once('\n').unwrap();
        let own = read(own);
        assert!(own["cpu_stats"]["cpu_usage"]["total_usage"].as_u64().unwrap() > 0, "{own}");
        assert!(own["memory_stats"]["usage"].as_u64().unwrap() > 0, "{own}");
        assert_eq!(own["memory_stats"]["limit"], 64 << 20);
        assert!(own["pids_stats"]["current"].as_u64().unwrap() > 0, "{own}");
        assert!(own["networks"]["eth0"]["tx_bytes"].as_u64().unwrap() > 0, "{own}");
        let all = read(all);
        assert_eq!(all[&created[1].id]["name"], created[1].id.as_str());
        let before = &all[&created[1].id]["precpu_stats"]["cpu_usage"]["total_usage"];
        assert_eq!(before, &own["cpu_stats"]["cpu_usage"]["total_usage"]);
        lab
    });
}

#[test]
fn another_task_s_endpoint_is_nothing_to_ask() {
    lab(|mut lab| async {
        let show = "echo $ECS_CONTAINER_METADATA_URI_V4; exec sleep 60";
        let one = assign(task(NetworkMode::Bridge, vec![script("main", show)]));
        lab.run(&one).await;
        let main = key(&one, "main");
        lab.printed(&main, "http://169.254.170.2/v4/").await;
        let uri = lab.log(&main).await.trim().to_owned();
        let text = format!("wget -O- {uri}; wget -O- {uri}/task; wget -O- http://169.254.170.2/");
        let (_, log) = lab.finish(task(NetworkMode::Bridge, vec![script("spy", &text)])).await;
        assert_eq!(log.matches("404 Not Found").count(), 3, "{log}");
        assert!(!log.contains("TaskARN"), "{log}");
        lab
    });
}

/// A container that may change its own routes, and sends what is for loopback to the bridge.
#[test]
fn loopback_of_the_instance_is_out_of_reach() {
    lab(|mut lab| async {
        let first = assign(task(NetworkMode::Bridge, vec![script("main", "exec sleep 60")]));
        lab.run(&first).await;
        let port = port_of_the_endpoint();
        let text = format!(
            "ip addr flush dev lo; ip route add 127.0.0.1/32 via 10.91.0.1 src $(hostname -i); \
             echo asks; printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 127.0.0.1 {port}"
        );
        let mut spy = script("spy", &text);
        spy.capabilities_add = vec!["NET_ADMIN".into()];
        spy.system_controls.insert("net.ipv4.conf.all.route_localnet".into(), "1".into());
        let (_, log) = lab.finish(task(NetworkMode::Bridge, vec![spy])).await;
        assert!(log.contains("asks") && !log.contains("HTTP"), "{log}");
        lab
    });
}

#[test]
fn a_new_agent_answers_where_the_one_before_did() {
    lab(|lab| async {
        let ask = format!("echo up; until {ASK}/gone; [ -e /go ]; do sleep 0.1; done; {ASK}");
        let assignment = assign(task(NetworkMode::Bridge, vec![script("main", &ask)]));
        lab.run(&assignment).await;
        let main = key(&assignment, "main");
        lab.printed(&main, "up").await;
        let (mut lab, _) = lab.restart().await;
        let touch = ["touch", "/go"].map(str::to_owned);
        let mut run = lab.runtime.exec(&main, &touch, None).unwrap();
        while run.output.recv().await.is_some() {}
        assert_eq!(lab.exit(&main).await.exit_code, Some(0));
        let log = lab.log(&main).await;
        assert!(log.contains("\"KnownStatus\":\"RUNNING\""), "{log}");
        lab
    });
}

#[test]
fn modes_host_and_none_have_it_as_ecs_has() {
    lab(|mut lab| async {
        sh("ip link add out0 type veth peer name out1 && ip addr add 192.0.2.1/24 dev out0 \
            && ip link set out0 up && ip link set out1 up && ip route add default via 192.0.2.9");
        let text = format!("{ASK}/task");
        let (exit, log) = lab.finish(task(NetworkMode::Host, vec![script("main", &text)])).await;
        assert_eq!(exit.exit_code, Some(0), "{log}");
        assert_eq!(read(&log)["Containers"][0]["Networks"][0]["NetworkMode"], "host");
        let text = "echo [$ECS_CONTAINER_METADATA_URI_V4]";
        let (_, log) = lab.finish(task(NetworkMode::None, vec![script("main", text)])).await;
        assert_eq!(log, "[]\n");
        lab
    });
}

/// The instance's own metadata service, on its loopback, and a container that asks it.
async fn asks_the_instance(lab: &mut lab::Lab, allowed: bool) -> String {
    sh("ip addr add 169.254.169.254/32 dev lo");
    let listener = std::net::TcpListener::bind("169.254.169.254:80").unwrap();
    let serve = std::thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        peer.write_all(b"HTTP/1.0 200 OK\r\n\r\ncredentials\n").unwrap();
        let _ = peer.shutdown(std::net::Shutdown::Write);
        let _ = peer.read_to_end(&mut Vec::new());
    });
    let text = "wget -qO- http://169.254.169.254/latest/meta-data/";
    let log = ended(lab, allowed, text).await;
    // Whoever asks from the instance itself is answered: here, so that the thread ends.
    let _ = TcpStream::connect("169.254.169.254:80");
    serve.join().unwrap();
    log
}

/// What a container on the bridge prints that the cluster allows the instance's metadata or not.
async fn ended(lab: &mut lab::Lab, instance_metadata: bool, text: &str) -> String {
    let assignment = assign(task(NetworkMode::Bridge, vec![script("main", text)]));
    let assignment = Arc::new(Assignment { instance_metadata, ..(*assignment).clone() });
    lab.run(&assignment).await;
    let key = key(&assignment, "main");
    lab.exit(&key).await;
    lab.log(&key).await
}

#[test]
fn the_instance_s_own_metadata_is_out_of_reach_unless_it_is_allowed() {
    lab(|mut lab| async {
        let log = asks_the_instance(&mut lab, false).await;
        assert!(log.contains("refused") && !log.contains("credentials"), "{log}");
        lab
    });
    lab(|mut lab| async {
        assert_eq!(asks_the_instance(&mut lab, true).await, "credentials\n");
        lab
    });
}

/// A process that is killed when it is dropped.
struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_metadata_service_beside_the_instance_is_out_of_reach_unless_it_is_allowed() {
    lab(|mut lab| async {
        // A machine of its own behind a cable, as clouds have it.
        let cloud = Peer(Command::new("unshare").args(["-n", "sleep", "1000"]).spawn().unwrap());
        let pid = cloud.0.id();
        let network = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
        until("a network of its own", async || {
            (network(&pid.to_string()) != network("thread-self")).then_some(())
        })
        .await;
        let pages = lab.dir.path().join("pages");
        std::fs::create_dir(&pages).unwrap();
        std::fs::write(pages.join("role"), "credentials\n").unwrap();
        sh(&format!(
            "ip link add cloud0 type veth peer name eth0 netns {pid}; \
             ip addr add 169.254.169.1/24 dev cloud0; ip link set cloud0 up; \
             nsenter -t {pid} -n sh -c 'ip addr add 169.254.169.254/24 dev eth0; \
             ip link set eth0 up; ip route add default via 169.254.169.1'"
        ));
        let serve = ["-t", &pid.to_string(), "-n", "busybox", "httpd", "-f", "-p", "80", "-h"];
        let _server = Peer(Command::new("nsenter").args(serve).arg(&pages).spawn().unwrap());
        until("the service answers the instance", async || {
            TcpStream::connect("169.254.169.254:80").is_ok().then_some(())
        })
        .await;
        let asks = "wget -qO- http://169.254.169.254/role";
        let log = ended(&mut lab, false, asks).await;
        assert!(log.contains("refused") && !log.contains("credentials"), "{log}");
        assert_eq!(ended(&mut lab, true, asks).await, "credentials\n");
        // The permission went with the container that had it, whose address is another's next.
        for name in std::fs::read_dir(lab.config.data_dir.join("tasks")).unwrap() {
            let task = name.unwrap().file_name().into_string().unwrap().parse().unwrap();
            lab.runtime.delete(task).await.unwrap();
        }
        let table = sh("nft list table ip muster-mutest0");
        assert!(table.contains("@instance_metadata") && !table.contains("elements"), "{table}");
        lab
    });
}

#[test]
fn what_is_no_request_is_answered_or_cut_off() {
    lab(|lab| async {
        let main = script("main", "exec sleep 60");
        lab.run(&assign(task(NetworkMode::Bridge, vec![main]))).await;
        let port = port_of_the_endpoint();
        let say = |bytes: &[u8]| {
            let mut peer = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
            // It may have hung up already.
            let _ = peer.write_all(bytes);
            let mut answer = String::new();
            let _ = peer.read_to_string(&mut answer);
            answer.lines().next().unwrap_or_default().to_owned()
        };
        assert_eq!(say(b"GET /v4/x HTTP/1.1\r\nHost: a\r\n\r\n"), "HTTP/1.1 404 Not Found");
        let post = b"POST /v4/x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
        assert_eq!(say(post), "HTTP/1.1 405 Method Not Allowed");
        assert_eq!(say(b"\0\xff\r\n\r\n"), "HTTP/1.1 400 Bad Request");
        let long = [b"GET /".as_slice(), &[b'a'; 20_000], b" HTTP/1.1\r\n\r\n"].concat();
        assert!(say(&long).contains("414") || say(&long).contains("431"), "{}", say(&long));
        // One peer that says nothing takes its own places only, and others are answered.
        let silent: Vec<_> =
            (0..20).map(|_| TcpStream::connect(format!("127.0.0.1:{port}"))).collect();
        drop(silent);
        until("an answer", async || {
            say(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").contains("404").then_some(())
        })
        .await;
        lab
    });
}
