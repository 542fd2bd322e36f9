//! Pure cgroup v2, which the machines that run tests do not have: `muster dev` in a machine of its
//! own, with Debian's kernel under qemu (`deploy/lib/vm`).
//!
//! What is promised there is written and checked in `guest/cgroup2`, which runs inside; this file
//! packs the machine and reads the verdict. Invariant: silence is a failure.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test's way to fail

use muster_chaos::cluster::muster;
use muster_chaos::lab::root;
use std::path::Path;
use std::process::Command;

/// Promises that `guest/cgroup2` checks: a script cut short must not pass.
const PROMISES: usize = 29;
/// Seconds until the machine is stopped. Its processor is emulated: it took 180 on two cores that
/// had four times as much to do as they could.
const SECONDS_MAX: &str = "480";

/// What the machine printed, and whether its script succeeded.
fn boot(script: &Path) -> (String, bool) {
    let deploy = root().join("deploy/lib");
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    let made = Command::new(deploy.join("mkimage")).arg(&image).arg("bb").output().unwrap();
    assert!(made.status.success(), "mkimage: {}", String::from_utf8_lossy(&made.stderr));
    let muster = muster();
    let shim = muster.with_file_name("muster-shim");
    // Beside the build, so that the kernel is fetched once.
    let cache = muster.ancestors().nth(2).unwrap().join("vm");
    let mut command = Command::new(deploy.join("vm"));
    command.arg(cache).arg(script).env("VM_SECONDS", SECONDS_MAX);
    for program in [muster.as_path(), &shim, "runc".as_ref(), "nft".as_ref(), "jq".as_ref()] {
        command.arg("-p").arg(program);
    }
    let output = command.arg("-f").arg(format!("/image={}", image.display())).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (String::from_utf8_lossy(&text).into_owned(), output.status.success())
}

#[test]
fn limits_oom_stop_and_restart_hold_on_pure_cgroup_v2() {
    let (console, succeeded) = boot(&root().join("chaos/tests/guest/cgroup2"));
    let lines = |start: &str| console.lines().filter(|line| line.starts_with(start)).count();
    assert!(succeeded, "the machine's console:\n{console}");
    assert_eq!(lines("not ok "), 0, "the machine's console:\n{console}");
    assert_eq!(lines("ok "), PROMISES, "the machine's console:\n{console}");
}
