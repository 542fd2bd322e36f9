//! Bridge networking: containers reach each other, the world reaches their host ports, and what is
//! taken is given back.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod lab;

use lab::{assign, key, lab, probe_image, script, sh, task, until};
use muster_agent::network::Binding;
use muster_model::spec::{ContainerDefinition, NetworkMode, PortMapping, Protocol};
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

/// A container that answers `text` on port 80.
fn server(name: &str, text: &str, host_port: u16) -> ContainerDefinition {
    let answer = format!("echo up; while :; do echo {text} | nc -l -p 80; done");
    let mut container = script(name, &answer);
    container.port_mappings = vec![mapping(80, host_port, Protocol::Tcp)];
    container
}

fn mapping(container_port: u16, host_port: u16, protocol: Protocol) -> PortMapping {
    PortMapping { name: None, container_port, host_port, protocol, app_protocol: None }
}

/// What a server at the address says, asked from this machine until it answers.
async fn ask(address: Ipv4Addr, port: u16) -> String {
    let at = SocketAddr::from((address, port));
    until("the server answers", async || {
        let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(1)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        (!text.is_empty()).then_some(text)
    })
    .await
}

#[test]
fn host_ports_lead_to_containers_from_everywhere() {
    lab(|lab| async {
        // This machine's address in the outside world.
        sh("ip link add out0 type veth peer name out1 && ip addr add 192.0.2.1/24 dev out0 \
            && ip link set out0 up && ip link set out1 up");
        let a = assign(task(NetworkMode::Bridge, vec![server("a", "I-am-a", 32801)]));
        let created = lab.run(&a).await;
        let address = created[0].address.unwrap();
        assert_eq!(created[0].bindings[0].host_port, 32801);
        lab.printed(&key(&a, "a"), "up").await;
        assert_eq!(ask(address, 80).await, "I-am-a\n");
        // The machine to itself, by its address and by loopback.
        assert_eq!(ask(Ipv4Addr::new(192, 0, 2, 1), 32801).await, "I-am-a\n");
        assert_eq!(ask(Ipv4Addr::LOCALHOST, 32801).await, "I-am-a\n");
        // A neighbour directly and by the host port; the container itself by its own host port.
        let loop_until =
            |to: &str| format!("until nc {to} </dev/null | grep I-am; do sleep 0.05; done");
        let asks =
            format!("{}; {}", loop_until(&format!("{address} 80")), loop_until("192.0.2.1 32801"));
        let b = assign(task(NetworkMode::Bridge, vec![script("b", &asks)]));
        lab.run(&b).await;
        let (key_b, key_a) = (key(&b, "b"), key(&a, "a"));
        until("both ways", async || {
            (lab.log(&key_b).await.matches("I-am-a").count() == 2).then_some(())
        })
        .await;
        let hairpin: Vec<String> =
            ["sh", "-c", &loop_until("192.0.2.1 32801")].map(str::to_owned).to_vec();
        let mut run = lab.runtime.exec(&key_a, &hairpin, None).unwrap();
        let answer = tokio::time::timeout(lab::SOON, run.output.recv()).await.unwrap();
        assert!(format!("{:?}", answer.unwrap().unwrap()).contains("Stdout"));
        lab
    });
}

/// Sends back what comes to UDP port 53: busybox has no such program.
const ECHO: &str = r#"
#include <arpa/inet.h>
#include <sys/socket.h>
int main(void) {
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons(53)}, peer;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (bind(fd, (void *)&own, sizeof own)) return 1;
    for (;;) {
        char text[512];
        socklen_t size = sizeof peer;
        ssize_t n = recvfrom(fd, text, sizeof text, 0, (void *)&peer, &size);
        if (n >= 0) sendto(fd, text, n, 0, (void *)&peer, size);
    }
}
"#;

#[test]
fn udp_ports_work_and_ports_of_an_ended_container_are_free_at_once() {
    let image = probe_image("echo-image", ECHO);
    lab(|mut lab| async {
        let mut echo = script("echo", "echo up; exec probe");
        echo.image = image.clone();
        echo.port_mappings = vec![mapping(53, 32853, Protocol::Udp)];
        let first = assign(task(NetworkMode::Bridge, vec![echo.clone()]));
        lab.run(&first).await;
        let first = key(&first, "echo");
        lab.printed(&first, "up").await;
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let answer = until("the answer", async || {
            socket.send_to(b"hello\n", ("127.0.0.1", 32853)).ok()?;
            let mut buffer = [0; 100];
            let n = socket.recv(&mut buffer).ok()?;
            Some(String::from_utf8_lossy(&buffer[..n]).into_owned())
        });
        assert_eq!(answer.await, "hello\n");
        lab.runtime.kill(&first);
        lab.exit(&first).await;
        // Not deleted yet, and its successor has the port already.
        let second = assign(task(NetworkMode::Bridge, vec![echo]));
        lab.run(&second).await;
        lab.printed(&key(&second, "echo"), "up").await;
        lab
    });
}

#[test]
fn a_taken_host_port_is_refused_by_name() {
    lab(|lab| async {
        let refused = async |definition: ContainerDefinition, mode| {
            let assignment = assign(task(mode, vec![definition]));
            lab.runtime.begin(&assignment).await.unwrap();
            lab.runtime.create(&assignment, &"web".into()).await.unwrap_err().to_string()
        };
        let listener = std::net::TcpListener::bind("0.0.0.0:32811").unwrap();
        for mode in [NetworkMode::Bridge, NetworkMode::Host] {
            let mut web = server("web", "x", 32811);
            web.port_mappings[0].container_port = 32811;
            let error = refused(web, mode).await;
            assert!(error.starts_with("CannotStartContainerError: host port 32811/tcp"), "{error}");
        }
        drop(listener);
        lab.run(&assign(task(NetworkMode::Bridge, vec![server("web", "x", 32811)]))).await;
        let error = refused(server("web", "y", 32811), NetworkMode::Bridge).await;
        assert!(error.contains("host port 32811 already leads to"), "{error}");
        lab
    });
}

#[test]
fn modes_none_and_host_see_what_they_should() {
    lab(|mut lab| async {
        sh("ip link add seen0 type veth peer name seen1");
        let show = "ls /sys/class/net | tr '\\n' ' '; ip -o addr show lo | grep -c 127.0.0.1";
        let (_, log) = lab.finish(task(NetworkMode::None, vec![script("main", show)])).await;
        assert_eq!(log, "lo 1\n");
        let (_, log) = lab.finish(task(NetworkMode::Host, vec![script("main", show)])).await;
        assert!(log.contains("seen0"), "{log}");
        lab
    });
}

#[test]
fn names_and_addresses_are_in_etc() {
    lab(|mut lab| async {
        let mut main = script("main", "cat /etc/hosts /etc/resolv.conf; hostname -i");
        main.hostname = Some("me".into());
        main.extra_hosts.insert("db".into(), "10.1.1.1".into());
        main.dns_servers = vec!["192.0.2.53".into()];
        let (exit, log) = lab.finish(task(NetworkMode::Bridge, vec![main])).await;
        assert_eq!(exit.exit_code, Some(0), "{log}");
        assert!(log.contains("10.91.0.2\tme") && log.contains("10.1.1.1\tdb"), "{log}");
        assert!(log.contains("nameserver 192.0.2.53") && log.ends_with("10.91.0.2\n"), "{log}");
        lab
    });
}

#[test]
fn many_containers_at_once_get_distinct_addresses_and_all_of_it_back() {
    lab(|lab| async {
        let tasks: Vec<_> = (0..8)
            .map(|n| assign(task(NetworkMode::Bridge, vec![server("web", "x", 32820 + n)])))
            .collect();
        let created = futures::future::join_all(tasks.iter().map(|task| lab.run(task))).await;
        let mut addresses: Vec<_> = created.iter().map(|c| c[0].address.unwrap()).collect();
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), 8);
        let table = || sh("nft list table ip muster-mutest0");
        let has = |n: u16| table().contains(&format!("{n} : 10.91.0."));
        assert!((0..8).all(|n| has(32820 + n)), "{}", table());
        let deleted = tasks.iter().map(|task| lab.runtime.delete(task.task));
        for result in futures::future::join_all(deleted).await {
            result.unwrap();
        }
        assert!(!table().contains("elements"), "{}", table());
        assert_eq!(sh("ip -o link show master mutest0 | wc -l").trim(), "0");
        lab
    });
}

#[test]
fn a_binding_is_what_the_journal_keeps() {
    let binding = Binding { container_port: 80, host_port: 32768, protocol: Protocol::Udp };
    let text = serde_json::to_string(&binding).unwrap();
    assert_eq!(serde_json::from_str::<Binding>(&text).unwrap(), binding);
}
