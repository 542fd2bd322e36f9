//! The README's guide for VMs: its `muster` commands are taken from the text and run, on hosts of
//! the lab in place of machines.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test's way to fail

use muster_chaos::cluster::muster;
use muster_chaos::image::Registry;
use muster_chaos::lab::{Lab, root};
use muster_chaos::wait;
use std::process::Child;
use std::time::Duration;

/// The guide's addresses and where they are in the lab.
const ADDRESSES: [(&str, &str); 4] = [
    ("10.0.1.10", "10.77.0.1"),
    ("10.0.2.10", "10.77.0.2"),
    ("10.0.2.20", "10.77.0.101"),
    ("./ci-identity", "CI"),
];

/// The `muster` commands of the guide, in order.
fn commands() -> Vec<String> {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let guide = readme.split("The commands of this guide").nth(1).unwrap();
    let guide = guide.split("\n## ").next().unwrap();
    guide.lines().filter(|line| line.starts_with("muster ")).map(str::to_owned).collect()
}

#[test]
fn the_guide_installs_what_it_builds_and_the_quickstart_builds_what_it_runs() {
    let text = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let built = |text: &str| {
        let line = text.lines().find(|line| line.contains("cargo build --release -p")).unwrap();
        let words: Vec<_> = line.split(|c: char| c.is_whitespace() || c == ')').collect();
        let packages = words.windows(2).filter(|pair| pair[0] == "-p");
        packages.map(|pair| pair[1].to_owned()).collect::<Vec<_>>()
    };
    let readme = text("README.md");
    let installed = readme.split("install target/release/{").nth(1).unwrap();
    let installed: Vec<_> = installed.split('}').next().unwrap().split(',').collect();
    assert_eq!(installed, ["muster", "muster-agent", "muster-shim"]);
    assert_eq!(built(&readme), installed, "README.md");
    assert_eq!(built(&text("deploy/quickstart")), installed, "deploy/quickstart");
}

/// Daemons of the guide; ended when dropped.
struct Daemons<'a> {
    lab: &'a Lab,
    processes: Vec<Child>,
}

impl Drop for Daemons<'_> {
    fn drop(&mut self) {
        self.lab.done(&["down"]);
        for process in &mut self.processes {
            process.wait().ok();
        }
    }
}

#[test]
fn the_commands_of_the_guide_make_a_cluster() {
    let lab = Lab::up(2, 1);
    let dir = tempfile::tempdir().unwrap();
    let _registry = Registry::start(&lab, dir.path());
    let mut daemons = Daemons { lab: &lab, processes: Vec::new() };
    let mut tokens = (String::new(), String::new());
    let admin = dir.path().join("admin").to_string_lossy().into_owned();
    let commands = commands();
    assert!(commands.len() >= 6, "the guide has its commands: {commands:?}");
    for command in commands {
        let mut words: Vec<String> =
            command.split_whitespace().skip(1).map(str::to_owned).collect();
        for word in &mut words {
            *word = word.replace("MANAGER_TOKEN", &tokens.0).replace("WORKER_TOKEN", &tokens.1);
            for (from, to) in ADDRESSES {
                *word =
                    word.replace(from, &to.replace("CI", &dir.path().join("ci").to_string_lossy()));
            }
        }
        let host = match words.iter().position(|word| word == "--address").map(|at| &words[at + 1])
        {
            Some(address) if address.starts_with("10.77.0.101") => "w1",
            Some(address) if address.starts_with("10.77.0.2") => "m2",
            _ => "m1",
        };
        let role = if host == "w1" { "agent" } else { "manager" };
        let making = words[0] == "init" || words[0] == "join";
        let home = dir.path().join(host);
        let config = home.join("config.toml").to_string_lossy().into_owned();
        words.extend(["--identity".to_owned(), admin.clone()]);
        if making {
            std::fs::create_dir_all(&home).unwrap();
            let data = home.join("data").to_string_lossy().into_owned();
            words.extend(["--data-dir", &data, "--config", &config].map(str::to_owned));
        }
        let binary = muster().to_string_lossy().into_owned();
        let output = wait::until(&command, Duration::from_secs(60), || {
            let mut all = vec!["run", host, binary.as_str()];
            all.extend(words.iter().map(String::as_str));
            let output = lab.try_done(&all);
            match output.status.success() {
                true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
                false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
            }
        });
        if words[0] == "init" {
            let token = |kind: &str| {
                let words: Vec<_> = output.split_whitespace().collect();
                (*words.iter().rev().find(|word| word.starts_with(kind)).unwrap()).to_owned()
            };
            tokens = (token("MUSTER-1-mgr-"), token("MUSTER-1-wkr-"));
        }
        if making {
            let log = home.join("log");
            let words = [binary.as_str(), role, "--config", &config];
            daemons.processes.push(lab.start(host, &words, &log));
        }
    }
    wait::until("the worker is connected", Duration::from_secs(60), || {
        let binary = muster().to_string_lossy().into_owned();
        let words =
            ["run", "m1", &binary, "--identity", &admin, "instance", "list", "--output", "json"];
        let text = String::from_utf8_lossy(&lab.try_done(&words).stdout).into_owned();
        if text.contains("\"agentConnected\": true") { Ok(()) } else { Err(text) }
    });
}
