//! Commands in a real container, from a real terminal and without one: what is typed and piped
//! arrives, its size and Ctrl-C too, the exit code comes back, and the log says who ran what.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test's way to fail

use muster_chaos::cluster::Cluster;
use muster_chaos::service::{short, text};
use muster_chaos::wait;
use nix::pty::{Winsize, openpty};
use rustix::termios::{LocalModes, tcgetattr, tcsetwinsize};
use serde_json::json;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

/// `muster` with this on its standard input, to its end.
fn piped(cluster: &Cluster, words: &[&str], input: &str) -> Output {
    let mut command = cluster.client(words);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut muster = command.spawn().unwrap();
    muster.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    muster.wait_with_output().unwrap()
}

/// A person at a terminal that `muster` was started from.
struct Terminal {
    keys: File,
    slave: OwnedFd,
    screen: Arc<Mutex<String>>,
    muster: Child,
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    fn open(cluster: &Cluster, words: &[&str]) -> Self {
        let pty = openpty(Some(&size(30, 100)), None).unwrap();
        let fd = || Stdio::from(pty.slave.try_clone().unwrap());
        let client = cluster.client(words);
        // A session of its own, whose terminal it is: as in a window.
        let mut command = std::process::Command::new("setsid");
        command.args(["--ctty", "--wait"]).arg(client.get_program()).args(client.get_args());
        for (name, value) in client.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        let muster = command.stdin(fd()).stdout(fd()).stderr(fd()).spawn().unwrap();
        let keys = File::from(pty.master);
        let mut output = keys.try_clone().unwrap();
        let screen = Arc::new(Mutex::new(String::new()));
        let shown = screen.clone();
        let reader = std::thread::spawn(move || {
            let mut piece = [0; 4096];
            // It ends with an error, when nobody holds the other end any more.
            while let Ok(read @ 1..) = output.read(&mut piece) {
                let said = String::from_utf8_lossy(&piece[..read]).into_owned();
                shown.lock().unwrap_or_else(PoisonError::into_inner).push_str(&said);
            }
        });
        Self { keys, slave: pty.slave, screen, muster, reader: Some(reader) }
    }

    fn shown(&self) -> String {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn types(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    fn shows(&self, what: &str) {
        wait::until(&format!("the terminal shows {what:?}"), SOON, || {
            let shown = self.shown();
            if shown.contains(what) { Ok(()) } else { Err(shown) }
        });
    }

    fn is_cooked(&self) -> bool {
        let modes = tcgetattr(&self.slave).unwrap().local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    /// What `muster` ended with.
    fn code(&mut self) -> Option<i32> {
        let muster = &mut self.muster;
        let ended = wait::until("muster has ended", SOON, || match muster.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(format!("{other:?}")),
        });
        ended.code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.muster.kill().ok();
        self.muster.wait().ok();
        // The reader's end comes with the last holder of the other end.
        let null = File::open("/dev/null").unwrap();
        self.slave = null.into();
        if let Some(reader) = self.reader.take() {
            reader.join().ok();
        }
    }
}

fn sleeper(cluster: &Cluster) -> String {
    cluster.register("box", json!({ "command": ["/bin/busybox", "sleep", "100000"] }));
    let ran = cluster.json(&["task", "run", "box"]);
    let arn = text(&ran["tasks"][0]["taskArn"]);
    wait::until("the task runs", SOON, || {
        let task = cluster.json(&["task", "describe", &arn])["tasks"][0].clone();
        if task["lastStatus"] == "RUNNING" { Ok(()) } else { Err(task.to_string()) }
    });
    arn
}

#[test]
fn commands_in_containers_are_as_if_they_were_here() {
    let cluster = Cluster::form(1, 1);
    let task = sleeper(&cluster);
    who_may_not(&cluster, &task);
    without_a_terminal(&cluster, &task);
    at_a_terminal(&cluster, &task);
    a_terminal_that_is_taken_away(&cluster, &task);
    audited(&cluster, &task);
}

/// Who may look at everything may run nothing in it.
fn who_may_not(cluster: &Cluster, task: &str) {
    let out = cluster.dir.path().join("eve").to_string_lossy().into_owned();
    cluster.run(&["user", "create", "eve", "--role", "read-only", "--out", &out]);
    let as_eve = |words: &[&str]| cluster.client(words).env("MUSTER_IDENTITY", &out).output();
    assert!(as_eve(&["task", "describe", task]).unwrap().status.success());
    let refused = as_eve(&["task", "exec", task, "--", "id"]).unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("eve") && refused.stdout.is_empty(),
        "{said}"
    );
    assert!(said.contains("ExecuteCommand") || said.contains("may not"), "{said}");
}

fn without_a_terminal(cluster: &Cluster, task: &str) {
    let exec = |more: &[&str], input: &str| {
        let words = [&["task", "exec"], more].concat();
        piped(cluster, &words, input)
    };
    let said = exec(&["-i", task, "--", "cat"], "one\ntwo");
    assert_eq!((said.status.code(), &*said.stdout), (Some(0), &b"one\ntwo"[..]), "{said:?}");
    // More than fits any buffer on the way.
    let long = "0123456789abcde\n".repeat(64 * 1024);
    let said = exec(&["-i", task, "--", "md5sum"], &long);
    let here = piped_here("md5sum", &long);
    assert_eq!(String::from_utf8_lossy(&said.stdout), here);
    // Without -i there is nothing to read, and that at once.
    let said = exec(&[task, "--", "cat"], "one\ntwo");
    assert_eq!((said.status.code(), &*said.stdout), (Some(0), &b""[..]), "{said:?}");
    let said = exec(&[task, "--", "sh", "-c", "test -t 0 || test -t 1; echo $? >&2; exit 42"], "");
    assert_eq!((said.status.code(), &said.stderr[..2]), (Some(42), &b"1\n"[..]), "{said:?}");
    let said = exec(&["-it", task, "--", "sh"], "");
    let why = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.status.code() == Some(2) && why.contains("needs a terminal"), "{why}");
}

fn piped_here(program: &str, input: &str) -> String {
    let mut command = std::process::Command::new(program);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

fn at_a_terminal(cluster: &Cluster, task: &str) {
    let mut terminal = Terminal::open(cluster, &["task", "exec", "-it", task, "--", "sh"]);
    // What is typed is echoed: what is looked for is never what was typed.
    terminal.types("test -t 0 && test -t 1 && echo a-$((40 + 2))-tty\n");
    terminal.shows("a-42-tty");
    assert!(!terminal.is_cooked(), "every key is the command's");
    // The runtime sets the size a moment after the command has begun.
    terminal
        .types("until stty size 2>/dev/null | grep 100; do usleep 10000; done; echo is $TERM\n");
    terminal.shows("30 100");
    terminal.shows("is xterm");
    terminal.types(
        "sh -c 'trap \"stty size\" WINCH; echo wait-$((1 + 1)); while :; do sleep 1; done'\n",
    );
    terminal.shows("wait-2");
    tcsetwinsize(
        &terminal.slave,
        rustix::termios::Winsize { ws_row: 44, ws_col: 133, ws_xpixel: 0, ws_ypixel: 0 },
    )
    .unwrap();
    terminal.shows("44 133");
    terminal.types("\x03");
    terminal.types("echo ended-$?\n");
    terminal.shows("ended-130");
    terminal.types("exit $((3 * 3))\n");
    assert_eq!(terminal.code(), Some(9), "{}", terminal.shown());
    assert!(terminal.is_cooked(), "the terminal is as it was");
    // Keys are echoed once, by the terminal inside.
    assert_eq!(terminal.shown().matches("exit $((3 * 3))").count(), 1, "{}", terminal.shown());
}

/// The user's connection goes, and with it what ran.
fn a_terminal_that_is_taken_away(cluster: &Cluster, task: &str) {
    let words = ["task", "exec", "-it", task, "--", "sleep", "4321"];
    let terminal = Terminal::open(cluster, &words);
    let processes = || cluster.run(&["task", "exec", task, "--", "ps"]);
    wait::until("the command runs", SOON, || {
        let there = processes();
        if there.contains("sleep 4321") { Ok(()) } else { Err(there) }
    });
    drop(terminal);
    wait::until("the command is gone", SOON, || {
        let there = processes();
        if there.contains("sleep 4321") { Err(there) } else { Ok(()) }
    });
}

/// Who ran what, where.
fn audited(cluster: &Cluster, task: &str) {
    let log = std::fs::read_to_string(cluster.path("m1").join("log")).unwrap();
    let lines: Vec<&str> =
        log.lines().filter(|line| line.contains("command in a container")).collect();
    let found = cluster.json(&["task", "describe", task])["tasks"][0].clone();
    let wanted = [short(&found["taskArn"]), short(&found["containerInstanceArn"])];
    let words = ["sleep 4321", "admin", "main"];
    let line = lines.iter().find(|line| line.contains("sleep 4321"));
    let line = line.unwrap_or_else(|| panic!("not audited: {lines:#?}"));
    let all = wanted.iter().map(String::as_str).chain(words);
    for word in all {
        assert!(line.contains(word), "{word:?} is not in {line}");
    }
}
