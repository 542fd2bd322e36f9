//! Tests of lives and restarts once more, on a machine that has cgroup v2 only: limits, OOM kills,
//! signals, networks and agents that are killed must not depend on the version.
//!
//! The machine's processor is emulated, so it runs those that touch cgroups; all of them pass.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod lab;

use lab::{IMAGE_GIVEN, SHIM_GIVEN, image_dir, repository, shim};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// The newest build of another test of this package.
fn sibling(name: &str) -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let built = std::fs::read_dir(exe.parent().unwrap()).unwrap().flatten().filter(|entry| {
        let file = entry.file_name().into_string().unwrap_or_default();
        file.strip_prefix(name).is_some_and(|rest| rest.starts_with('-') && !rest.contains('.'))
    });
    let modified = |path: &Path| path.metadata().and_then(|m| m.modified());
    let newest = built
        .map(|entry| entry.path())
        .max_by_key(|path| modified(path).unwrap_or(SystemTime::UNIX_EPOCH));
    newest.unwrap_or_else(|| panic!("test {name} is not built; run cargo test -p muster-agent"))
}

#[test]
fn lives_and_restarts_are_the_same_under_cgroup_v2() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("vm");
    std::fs::create_dir_all(&dir).unwrap();
    let (lifecycle, restart, shim) = (sibling("lifecycle"), sibling("restart"), shim());
    let script = dir.join("agent-script");
    let text = format!(
        "export {SHIM_GIVEN}=/t/shim {IMAGE_GIVEN}=/image RUST_BACKTRACE=0\n\
         grep -q cgroup2 /proc/mounts && ! grep -q ' cgroup ' /proc/mounts &&\n\
         /t/lifecycle a_container_runs every_trace limits_of running_out_of stop_sends &&\n\
         /t/restart agent_in containers_outlive what_no_journal\n"
    );
    std::fs::write(&script, text).unwrap();
    let mut vm = Command::new(repository().join("deploy/lib/vm"));
    vm.env("VM_SECONDS", "900").env("VM_MEMORY_MIB", "2048").arg(&dir).arg(&script);
    vm.args(["-p", "runc", "-p", "nft", "-p", "unshare"]);
    for (name, program) in [("lifecycle", lifecycle), ("restart", restart), ("shim", shim)] {
        // Debug information would fill the machine's memory.
        let small = dir.join(format!("agent-{name}"));
        let stripped = Command::new("strip").arg("-o").arg(&small).arg(&program).status();
        assert!(stripped.unwrap().success());
        // Once for the libraries it links to, and once under a short name.
        vm.arg("-p").arg(&small).arg("-f").arg(format!("/t/{name}={}", small.display()));
    }
    vm.arg("-f").arg(format!("/image={}", image_dir().display()));
    let output = vm.output().unwrap();
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{complained}");
    assert!(said.contains("test result: ok. 5 passed"), "{said}");
    assert!(said.contains("test result: ok. 3 passed"), "{said}");
}
