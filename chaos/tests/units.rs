//! The systemd units: what `systemd-analyze verify` says of them, and the lines that keep
//! containers alive when an agent is stopped or upgraded.
//!
//! It does not start them: the machines that run tests have no systemd as their first process.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test's way to fail

use muster_chaos::cluster::muster;
use muster_chaos::lab::root;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where a package puts the binary, as the units name it.
const INSTALLED: &str = "/usr/bin/muster";

fn units() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join("deploy/systemd")).unwrap();
    let mut units: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    units.sort();
    units
}

fn read(unit: &Path) -> String {
    std::fs::read_to_string(unit).unwrap()
}

/// Complaints about a unit whose program is the one under test; none if all is well.
fn verify(name: &str, text: &str) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join(name);
    // The program must exist to be verified, and is not installed where tests run.
    std::fs::write(&copy, text.replace(INSTALLED, &muster().to_string_lossy())).unwrap();
    let output = Command::new("systemd-analyze")
        .args(["verify", "--recursive-errors=no"])
        .arg(&copy)
        .output()
        .unwrap_or_else(|error| panic!("systemd-analyze: {error}: apt-get install systemd"));
    let said = [output.stdout, output.stderr].concat();
    match output.status.success() && said.is_empty() {
        true => Ok(()),
        false => Err(format!("{}: {}", output.status, String::from_utf8_lossy(&said))),
    }
}

#[test]
fn systemd_has_nothing_to_say_about_the_units() {
    let units = units();
    let names: Vec<_> = units.iter().filter_map(|unit| unit.file_name()?.to_str()).collect();
    assert_eq!(names, ["muster-agent.service", "muster-manager.service"]);
    for (unit, name) in units.iter().zip(&names) {
        let text = read(unit);
        let program = match name.contains("agent") {
            true => format!("{INSTALLED}-agent"),
            false => INSTALLED.to_owned(),
        };
        assert!(text.contains(&format!("ExecStart={program} ")), "{name} runs {program}");
        assert_eq!(verify(name, &text), Ok(()), "{name}");
    }
}

#[test]
fn systemd_would_say_what_is_wrong() {
    let unit = &units()[0];
    for (right, wrong) in [
        ("KillMode=process", "KillMode=proces"),
        ("LimitNOFILE=", "LimitNFILE="),
        (INSTALLED, "/nowhere/muster"),
    ] {
        let text = read(unit).replace(right, wrong);
        let said = verify("muster-agent.service", &text).unwrap_err();
        assert!(said.contains("muster-agent.service"), "{wrong}: {said}");
    }
}

#[test]
fn the_agents_unit_leaves_containers_alone() {
    let text = read(&root().join("deploy/systemd/muster-agent.service"));
    let service = text.split("[Service]").nth(1).unwrap();
    for line in ["KillMode=process", "Delegate=yes", "Restart=always"] {
        assert!(service.lines().any(|have| have == line), "muster-agent.service has no {line}");
    }
}
