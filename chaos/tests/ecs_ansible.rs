//! Ansible's modules for ECS drive a local ECS, unmodified: `chaos/tests/ecs/ansible.yml`.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test's way to fail

use muster_chaos::lab::root;
use muster_chaos::local::LocalEcs;
use muster_chaos::python::{Environment, done};
use std::process::Command;

/// The newest for Python 3.11, and the distribution that holds its collections.
const CORE: [&str; 2] = ["ansible-core==2.19.14", "boto3==1.44.5"];
const DISTRIBUTION: &str = "ansible==12.3.0";

/// Unpacks the two collections that are used of a hundred.
const UNPACK: &str = "\
import glob, sys, zipfile
into = sys.argv[1]
whole = zipfile.ZipFile(glob.glob(into + '/*.whl')[0])
wanted = ('ansible_collections/amazon/aws/', 'ansible_collections/community/aws/')
whole.extractall(into, [name for name in whole.namelist() if name.startswith(wanted)])
";

#[test]
fn a_playbook_makes_finds_changes_and_removes() {
    let (ansible, local) = (Environment::with(&CORE), LocalEcs::start());
    let (python, dir) = (ansible.program("python"), ansible.dir());
    let mut fetch = Command::new(&python);
    done(fetch.args(["-m", "pip", "download", "-q", "--no-deps", DISTRIBUTION, "-d"]).arg(dir));
    done(Command::new(&python).args(["-c", UNPACK]).arg(dir));

    let mut play = Command::new(ansible.program("ansible-playbook"));
    play.args(["-i", "localhost,", "-e"]);
    play.arg(format!("ansible_python_interpreter={}", python.display()));
    local.enter(play.arg(root().join("chaos/tests/ecs/ansible.yml")));
    ansible.enter(&mut play, None);
    play.env("ANSIBLE_COLLECTIONS_PATH", dir).env("ANSIBLE_HOME", dir.join("home"));
    let said = done(play.env("LC_ALL", "C.UTF-8"));
    assert!(said.contains("failed=0") && said.contains("ignored=0"), "{said}");
}
