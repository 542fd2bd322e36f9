//! Log drivers that send output on: to real sockets, to receivers that are away, that come back
//! and that never read.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod lab;

use lab::agent::now;
use lab::{Lab, SOON, assign, key, lab, script, task, until};
use muster_agent::journal::ContainerKey;
use muster_agent::logs::Query;
use muster_model::Time;
use muster_model::dispatch::Assignment;
use muster_model::spec::{ContainerDefinition, LogConfiguration, NetworkMode};
use rmp::decode::{read_array_len, read_int, read_map_len, read_str_from_slice};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixListener};
use tokio::time::timeout;

/// Lines that may come twice: `BATCH_LINES_MAX`.
const REPEATED_MAX: usize = 256;

fn with(driver: &str, options: &[(&str, &str)], text: &str) -> ContainerDefinition {
    let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let log_configuration = Some(LogConfiguration { driver: driver.into(), options });
    ContainerDefinition { log_configuration, ..script("main", text) }
}

async fn run(lab: &Lab, container: ContainerDefinition) -> (Arc<Assignment>, ContainerKey) {
    let assignment = assign(task(NetworkMode::None, vec![container]));
    lab.run(&assignment).await;
    let key = key(&assignment, "main");
    (assignment, key)
}

async fn in_time<T>(what: &str, work: impl Future<Output = T>) -> T {
    timeout(SOON, work).await.unwrap_or_else(|_| panic!("never happened: {what}"))
}

/// Where the log of a deleted container is, with what is still to be sent on of it.
fn old_logs(lab: &Lab, key: &ContainerKey) -> PathBuf {
    lab.config.data_dir.join("logs").join(key.task.to_string()).join(&*key.name)
}

#[test]
fn syslog_over_udp_and_local_sockets_gets_each_line_as_the_log_does() {
    lab(|mut lab| async {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let path = lab.dir.path().join("stream");
        let unix = UnixListener::bind(&path).unwrap();
        let (udp_at, unix_at) =
            (format!("udp://{}", udp.local_addr().unwrap()), format!("unix://{}", path.display()));
        let text = "echo one; echo two >&2; printf three";
        let mut lines = Vec::new();
        let tag = ("tag", "app");
        let (_, first) = run(&lab, with("syslog", &[("syslog-address", &udp_at), tag], text)).await;
        for _ in 0..3 {
            let mut buffer = [0; 2048];
            let n = in_time("a datagram", udp.recv(&mut buffer)).await.unwrap();
            lines.push(String::from_utf8(buffer[..n].to_vec()).unwrap());
        }
        let (_, _) = run(&lab, with("syslog", &[("syslog-address", &unix_at), tag], text)).await;
        let (mut stream, _) = in_time("a connection", unix.accept()).await.unwrap();
        let mut sent = String::new();
        while sent.lines().count() < 3 {
            let mut buffer = [0; 2048];
            let n = in_time("more lines", stream.read(&mut buffer)).await.unwrap();
            sent.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
        }
        lines.extend(sent.lines().map(str::to_owned));
        // The two streams of a container are read as they come.
        let has = |severity: u8, text: &str| {
            let (head, tail) =
                (format!("<{}>", 24 + severity), format!(" app[{}]: {text}", std::process::id()));
            lines.iter().filter(|line| line.starts_with(&head) && line.ends_with(&tail)).count()
        };
        assert_eq!((has(6, "one"), has(3, "two"), has(6, "three")), (2, 2, 2), "{lines:?}");
        lab.exit(&first).await;
        let kept = lab.log(&first).await;
        assert!(["one\n", "two\n", "three"].iter().all(|line| kept.contains(line)), "{kept}");
        lab
    });
}

#[test]
fn the_journal_gets_fields_of_the_container() {
    lab(|lab| async {
        let journal = UnixDatagram::bind(&lab.config.journal_socket).unwrap();
        let options = [("tag", "{{.Name}}"), ("env", "STAGE"), ("labels", "team")];
        let mut container = with("journald", &options, "echo hello");
        container.environment.insert("STAGE".into(), "prod".into());
        container.docker_labels.insert("team".into(), "blue".into());
        let (_, key) = run(&lab, container).await;
        let mut buffer = vec![0; 64 * 1024];
        let n = in_time("an entry", journal.recv(&mut buffer)).await.unwrap();
        let entry = String::from_utf8_lossy(&buffer[..n]).into_owned();
        let name = format!("CONTAINER_NAME={}", key.id());
        let tag = format!("CONTAINER_TAG={}", key.id());
        for field in ["MESSAGE=hello", "PRIORITY=6", "STAGE=prod", "TEAM=blue", &name, &tag] {
            assert!(entry.lines().any(|line| line == field), "{field}: {entry}");
        }
        lab
    });
}

#[test]
fn each_line_is_a_gelf_message_of_its_own() {
    lab(|lab| async {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let to = format!("udp://{}", udp.local_addr().unwrap());
        let options = [
            ("gelf-address", to.as_str()),
            ("gelf-compression-type", "none"),
            ("tag", "app"),
            ("env", "STAGE"),
        ];
        let mut container = with("gelf", &options, "echo one; echo two >&2");
        container.environment.insert("STAGE".into(), "prod".into());
        let began = now();
        let (_, key) = run(&lab, container).await;
        let mut messages = Vec::new();
        for _ in 0..2 {
            let mut buffer = [0; 2048];
            let n = in_time("a datagram", udp.recv(&mut buffer)).await.unwrap();
            messages.push(serde_json::from_slice::<Value>(&buffer[..n]).unwrap());
        }
        // The two streams of a container are read as they come.
        messages.sort_by_key(|message| message["short_message"].to_string());
        let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
        for (message, (line, level)) in messages.iter().zip([("one", 6), ("two", 3)]) {
            assert_eq!(
                (&message["short_message"], &message["level"]),
                (&json!(line), &json!(level))
            );
            for (field, wanted) in [
                ("version", "1.1"),
                ("host", &host),
                ("_container_id", &key.id()),
                ("_container_name", &key.id()),
                ("_command", "/bin/sh -c echo one; echo two >&2"),
                ("_tag", "app"),
                ("_STAGE", "prod"),
            ] {
                assert_eq!(message[field], wanted, "{field}: {message}");
            }
            let at = Time((message["timestamp"].as_f64().unwrap() * 1000.0).round() as u64);
            assert!(began <= at && at <= now(), "{message}");
        }
        lab
    });
}

/// Lines of a message of fluentd's, and its chunk; none as long as it is not whole.
fn entries(bytes: &[u8]) -> Option<(Vec<String>, String)> {
    let mut rest = bytes;
    let parts = read_array_len(&mut rest).ok()?;
    let (_tag, after) = read_str_from_slice(rest).ok()?;
    rest = after;
    let mut lines = Vec::new();
    for _ in 0..read_array_len(&mut rest).ok()? {
        assert_eq!(read_array_len(&mut rest).ok()?, 2);
        let _seconds: u64 = read_int(&mut rest).ok()?;
        for _ in 0..read_map_len(&mut rest).ok()? {
            let (name, after) = read_str_from_slice(rest).ok()?;
            let (value, after) = read_str_from_slice(after).ok()?;
            rest = after;
            if name == "log" {
                lines.push(value.to_owned());
            }
        }
    }
    assert_eq!((parts, read_map_len(&mut rest).ok()?), (3, 1));
    let (_, after) = read_str_from_slice(rest).ok()?;
    let (chunk, _) = read_str_from_slice(after).ok()?;
    Some((lines, chunk.to_owned()))
}

/// A message, and its acknowledgement if `answer` says so.
async fn message(stream: &mut TcpStream, answer: bool) -> Vec<String> {
    let mut bytes = Vec::new();
    loop {
        assert!(in_time("a message", stream.read_buf(&mut bytes)).await.unwrap() > 0);
        if let Some((lines, chunk)) = entries(&bytes) {
            if answer {
                let word = |text: &str| [&[0xa0 | text.len() as u8][..], text.as_bytes()].concat();
                let ack = [&[0x81][..], &word("ack"), &word(&chunk)].concat();
                stream.write_all(&ack).await.unwrap();
            }
            return lines;
        }
    }
}

#[test]
fn what_a_container_wrote_reaches_a_receiver_that_comes_after_it_was_deleted() {
    lab(|mut lab| async {
        // Taken, so that nobody else gets the port, and given back.
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let to = ("fluentd-address", address.to_string());
        let options = [(to.0, to.1.as_str()), ("fluentd-request-ack", "true")];
        let (assignment, key) = run(&lab, with("fluentd", &options, "seq 1 1000")).await;
        assert_eq!(lab.exit(&key).await.exit_code, Some(0));
        lab.runtime.delete(assignment.task).await.unwrap();
        let (lab, booted) = lab.restart().await;
        assert!(booted.tasks.is_empty(), "{booted:?}");
        let listener = TcpListener::bind(address).await.unwrap();
        let mut lines = Vec::new();
        let (mut stream, _) = in_time("a connection", listener.accept()).await.unwrap();
        lines.extend(message(&mut stream, true).await);
        // The second it does not answer, and closes.
        let lost = message(&mut stream, false).await;
        drop(stream);
        let (mut stream, _) = in_time("another connection", listener.accept()).await.unwrap();
        while lines.len() < 1000 {
            lines.extend(message(&mut stream, true).await);
        }
        assert!(!lost.is_empty() && lost.len() <= REPEATED_MAX, "{}", lost.len());
        assert_eq!(lines, (1..=1000).map(|n| n.to_string()).collect::<Vec<_>>());
        // All of it has been taken: no agent sends it again, and it can still be read here.
        let files = || {
            let mut names = muster_agent::journal::names_in(&old_logs(&lab, &key));
            names.retain(|name| name.starts_with("forward"));
            names.is_empty().then_some(())
        };
        until("what is to be sent on is forgotten", async || files()).await;
        assert!(lab.log(&key).await.starts_with("1\n2\n"));
        lab
    });
}

#[test]
fn the_next_agent_goes_on_where_this_one_stopped() {
    lab(|lab| async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = format!("tcp://{}", listener.local_addr().unwrap());
        let options = [("fluentd-address", to.as_str()), ("fluentd-request-ack", "true")];
        let text = "seq 1 300; until [ -e /go ]; do usleep 20000; done; seq 301 600; sleep 1000";
        let (assignment, key) = run(&lab, with("fluentd", &options, text)).await;
        let (mut stream, _) = in_time("a connection", listener.accept()).await.unwrap();
        let mut lines = Vec::new();
        while lines.len() < 300 {
            lines.extend(message(&mut stream, true).await);
        }
        let dir = lab.config.data_dir.join("tasks").join(assignment.task.to_string());
        let dir = dir.join("containers/main");
        let position = || std::fs::read_to_string(dir.join("forwarded.json")).unwrap_or_default();
        // Written down after the last acknowledgement: it is at the end of the file.
        let size = std::fs::metadata(dir.join("log")).unwrap().len();
        let end = format!("\"offset\":{size}}}");
        until("the position", async || position().ends_with(&end).then_some(())).await;
        let (lab, _) = lab.restart().await;
        std::fs::write(dir.join("rootfs/go"), "").unwrap();
        let (mut stream, _) = in_time("a new agent", listener.accept()).await.unwrap();
        while lines.len() < 600 {
            lines.extend(message(&mut stream, true).await);
        }
        assert_eq!(lines, (1..=600).map(|n| n.to_string()).collect::<Vec<_>>());
        lab.runtime.kill(&key);
        lab
    });
}

#[test]
fn a_receiver_that_never_reads_holds_up_neither_the_container_nor_its_end() {
    lab(|mut lab| async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = format!("tcp://{}", listener.local_addr().unwrap());
        let text = "yes 0123456789012345678901234567890123456789 | head -400000; echo done; \
                    trap 'exit 7' TERM; while :; do usleep 20000; done";
        let container = with("gelf", &[("gelf-address", &to)], text);
        let (assignment, key) = run(&lab, container).await;
        let (_hangs, _) = in_time("a connection", listener.accept()).await.unwrap();
        lab.printed(&key, "done").await;
        lab.runtime.stop(&key).unwrap();
        assert_eq!(lab.exit(&key).await.exit_code, Some(7));
        in_time("the deletion", lab.runtime.delete(assignment.task)).await.unwrap();
        // It is read here all the same, and what was not taken waits.
        let tail = Query { tail: Some(1), ..Query::default() };
        let last = lab.runtime.logs(&key, tail).recv().await.unwrap().unwrap();
        assert_eq!(last.text, "done\n");
        assert!(old_logs(&lab, &key).join("forward.json").exists());
        lab
    });
}

#[test]
fn options_that_no_agent_knows_fail_the_container_with_their_name() {
    lab(|lab| async {
        let container = with("syslog", &[("syslog-colour", "red")], "true");
        let assignment = assign(task(NetworkMode::None, vec![container]));
        lab.runtime.begin(&assignment).await.unwrap();
        lab.runtime.pull(&assignment).await.unwrap();
        let failed = lab.runtime.create(&assignment, &"main".into()).await.unwrap_err();
        assert!(failed.to_string().contains("syslog-colour"), "{failed}");
        lab
    });
}
