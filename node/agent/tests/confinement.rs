//! What a container cannot do: the default filter, capabilities, masked files, new privileges.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod lab;

use lab::{lab, probe_image, script, task};
use muster_model::spec::NetworkMode;

/// Tries calls that Docker's filter refuses and prints what the kernel answered.
const PROBE: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>
static void told(const char *what, long result) {
    printf("%s: %s\n", what, result < 0 ? strerrorname_np(errno) : "allowed");
}
int main(void) {
    told("unshare user", syscall(SYS_unshare, CLONE_NEWUSER));
    told("unshare mount", syscall(SYS_unshare, CLONE_NEWNS));
    told("keyctl", syscall(SYS_keyctl, 0, -3, 0));
    told("mount", mount("none", "/tmp", "tmpfs", 0, ""));
    told("clone user", syscall(SYS_clone, CLONE_NEWUSER | 17, 0, 0, 0, 0));
    told("clone3", syscall(SYS_clone3, 0, 0));
    told("bpf", syscall(SYS_bpf, 0, 0, 0));
    told("getpid", syscall(SYS_getpid));
    return 0;
}
"#;

#[test]
fn the_default_filter_refuses_what_docker_refuses() {
    let image = probe_image("filter-image", PROBE);
    lab(|mut lab| async {
        let mut main = script("main", "exec probe");
        main.image = image.clone();
        // Root with every capability but the one that lifts the filter: only the filter refuses.
        main.capabilities_add = vec!["NET_ADMIN".into(), "SYS_PTRACE".into()];
        let (exit, log) = lab.finish(task(NetworkMode::None, vec![main])).await;
        assert_eq!(exit.exit_code, Some(0), "{log}");
        for call in ["unshare user", "unshare mount", "keyctl", "mount", "clone user", "bpf"] {
            assert!(log.contains(&format!("{call}: EPERM\n")), "{call}: {log}");
        }
        assert!(log.contains("clone3: ENOSYS\n") && log.contains("getpid: allowed\n"), "{log}");
        // The filter is what refused: with SYS_ADMIN it lets the same calls through.
        let mut admin = script("main", "exec probe");
        admin.image = image;
        admin.capabilities_add = vec!["SYS_ADMIN".into()];
        let (_, log) = lab.finish(task(NetworkMode::None, vec![admin])).await;
        assert!(log.contains("unshare mount: allowed\n"), "{log}");
        assert!(log.contains("keyctl: EPERM\n"), "{log}");
        lab
    });
}

#[test]
fn capabilities_are_docker_s_and_can_be_added_and_dropped() {
    lab(|mut lab| async {
        let caps = "grep -E 'CapBnd|CapEff|NoNewPrivs|Seccomp:' /proc/self/status";
        let (_, log) = lab.finish(task(NetworkMode::None, vec![script("main", caps)])).await;
        assert!(
            log.contains("CapEff:\t00000000a80425fb") && log.contains("NoNewPrivs:\t1"),
            "{log}"
        );
        assert!(log.contains("Seccomp:\t2"), "{log}");
        let mut changed = script("main", caps);
        changed.capabilities_add = vec!["NET_ADMIN".into()];
        changed.capabilities_drop = vec!["ALL".into()];
        let (_, log) = lab.finish(task(NetworkMode::None, vec![changed])).await;
        assert!(log.contains("CapBnd:\t0000000000001000"), "{log}");
        lab
    });
}

#[test]
fn the_hosts_secrets_and_switches_are_out_of_reach() {
    lab(|mut lab| async {
        // Not every kernel has every file.
        let text = "cat /proc/kcore /proc/keys /proc/timer_list 2>/dev/null | wc -c; \
                    ls /sys/firmware | wc -l; echo 1 > /proc/sys/vm/drop_caches; \
                    mknod /dev/vda b 8 0 && cat /dev/vda; ls /proc | grep -c '^[0-9]'";
        let (_, log) = lab.finish(task(NetworkMode::None, vec![script("main", text)])).await;
        assert!(log.starts_with("0\n0\n"), "{log}");
        assert_eq!(log.matches("Read-only file system").count(), 1, "{log}");
        assert!(log.contains("/dev/vda': Operation not permitted"), "{log}");
        // Its own processes and nobody else's.
        let seen: u32 = log.lines().filter_map(|line| line.parse().ok()).next_back().unwrap();
        assert!(seen <= 4, "{log}");
        lab
    });
}

#[test]
fn a_privileged_container_may_do_what_root_of_the_instance_may() {
    lab(|mut lab| async {
        let text = "grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status; \
                    mount -t tmpfs none /mnt && echo mounted; \
                    echo 0 > /proc/sys/net/ipv4/ip_forward && echo written; \
                    ls -l /dev/full /dev/kmsg | wc -l";
        let mut main = script("main", &format!("mkdir -p /mnt; {text}"));
        main.privileged = true;
        let (exit, log) = lab.finish(task(NetworkMode::None, vec![main])).await;
        assert_eq!(exit.exit_code, Some(0), "{log}");
        assert!(log.contains("NoNewPrivs:\t0") && log.contains("Seccomp:\t0"), "{log}");
        assert!(log.contains("mounted\nwritten\n2\n"), "{log}");
        let (_, log) = lab.finish(task(NetworkMode::None, vec![script("main", text)])).await;
        assert!(!log.contains("mounted") && !log.contains("written"), "{log}");
        lab
    });
}
