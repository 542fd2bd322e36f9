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
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("vm-cgroup2");
    std::fs::create_dir_all(&dir).unwrap();
    let mut vm = Command::new(repository().join("deploy/lib/vm-cgroup2"));
    vm.arg(&dir);
    let mut give = |target: &str, file: &Path| {
        vm.arg("-f").arg(format!("{target}={}", file.display()));
    };
    for name in ["lifecycle", "restart"] {
        // Debug information would fill the machine's memory.
        let small = dir.join(name);
        let stripped = Command::new("strip").arg("-o").arg(&small).arg(sibling(name)).status();
        assert!(stripped.unwrap().success());
        give(&format!("/t/{name}"), &small);
    }
    give("/t/muster-shim", &shim());
    give("/t/image", &image_dir());
    let script = format!(
        "export {SHIM_GIVEN}=/t/muster-shim {IMAGE_GIVEN}=/t/image RUST_BACKTRACE=0; \
         grep -q cgroup2 /proc/mounts && ! grep -q 'cgroup ' /proc/mounts && \
         /t/lifecycle a_container_runs every_trace limits_of running_out_of stop_sends && \
         /t/restart agent_in containers_outlive what_no_journal"
    );
    let output = vm.args(["--", "sh", "-c", &script]).output().unwrap();
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{complained}");
    assert!(said.contains("test result: ok. 5 passed"), "{said}");
    assert!(said.contains("test result: ok. 3 passed"), "{said}");
}
