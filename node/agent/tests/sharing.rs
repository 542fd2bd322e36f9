//! What a container has of others, of the kernel and of whoever talks to it, by real runc.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod lab;

use lab::{assign, key, lab, script, task};
use muster_model::spec::{MountPoint, NetworkMode, Volume, VolumeFrom};
use std::io::Write;

#[test]
fn a_container_takes_over_the_volumes_of_another() {
    lab(|mut lab| async {
        let mut files = script("files", "echo 42 > /data/f; echo up; exec sleep 60");
        files.mount_points = vec![MountPoint {
            source_volume: "data".into(),
            container_path: "/data".into(),
            read_only: false,
        }];
        let mut app = script("app", "touch /data/g; until cat /data/f; do sleep 0.05; done");
        app.volumes_from = vec![VolumeFrom { container: "files".into(), read_only: true }];
        let mut definition = task(NetworkMode::None, vec![files, app]);
        definition.volumes = vec![Volume { name: "data".into(), host_path: None }];
        let assignment = assign(definition);
        lab.run(&assignment).await;
        let (app, files) = (key(&assignment, "app"), key(&assignment, "files"));
        assert_eq!(lab.exit(&app).await.exit_code, Some(0));
        let log = lab.log(&app).await;
        assert!(log.contains("42\n") && log.contains("Read-only file system"), "{log}");
        lab.runtime.kill(&files);
        lab.exit(&files).await;
        lab
    });
}

#[test]
fn kernel_settings_search_domains_and_shared_memory_are_as_asked() {
    lab(|mut lab| async {
        let text = "cat /proc/sys/kernel/msgmax; grep search /etc/resolv.conf; \
                    df -m /dev/shm | tail -1 | awk '{print $2}'";
        let mut main = script("main", text);
        main.system_controls.insert("kernel.msgmax".into(), "12345".into());
        main.dns_search_domains = vec!["a.test".into(), "b.test".into()];
        main.shared_memory_mib = Some(7);
        let (exit, log) = lab.finish(task(NetworkMode::None, vec![main])).await;
        assert_eq!(exit.exit_code, Some(0), "{log}");
        assert_eq!(log, "12345\nsearch a.test b.test\n7\n");
        lab
    });
}

#[test]
fn an_interactive_container_has_an_input_that_stays_open() {
    lab(|mut lab| async {
        let mut talks = script("talks", "read line; echo heard $line; read line; echo end");
        talks.interactive = true;
        let silent = script("silent", "read line; echo end");
        let assignment = assign(task(NetworkMode::None, vec![talks, silent]));
        lab.run(&assignment).await;
        let (talks, silent) = (key(&assignment, "talks"), key(&assignment, "silent"));
        lab.exit(&silent).await;
        assert_eq!(lab.log(&silent).await, "end\n");
        let tasks = lab.config.data_dir.join("tasks").join(assignment.task.to_string());
        let input = tasks.join("containers/talks/stdin");
        std::fs::OpenOptions::new().write(true).open(input).unwrap().write_all(b"one\n").unwrap();
        // The writer has gone, and the container waits for more.
        lab.printed(&talks, "heard one").await;
        assert_eq!(lab.log(&talks).await, "heard one\n");
        lab.runtime.kill(&talks);
        lab.exit(&talks).await;
        lab
    });
}
