//! What a container has of others, of the kernel and of whoever talks to it, by real runc.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod lab;

use lab::{assign, key, lab, script, task};
use muster_agent::cgroup::Cgroups;
use muster_model::spec::{
    Device, DevicePermission, IpcMode, Link, MountPoint, NetworkMode, PidMode, Volume, VolumeFrom,
};
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
        definition.volumes = vec![Volume { name: "data".into(), ..Volume::default() }];
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

#[test]
fn a_container_with_a_terminal_prints_into_the_log_and_waits_for_input() {
    lab(|lab| async {
        let text = "[ -t 0 ] && [ -t 1 ] && [ -t 2 ] && tty; echo error >&2; \
                    echo mine > /dev/tty; echo $TERM; read line; echo input";
        let mut main = script("main", text);
        (main.pseudo_terminal, main.user) = (true, Some("1000".into()));
        let assignment = assign(task(NetworkMode::None, vec![main]));
        lab.run(&assignment).await;
        let key = key(&assignment, "main");
        let printed = "/dev/pts/0\nerror\nmine\nxterm\n";
        lab.printed(&key, printed).await;
        assert_eq!(lab.log(&key).await, printed);
        // Its terminal outlives the agent, and it gets a new one when it starts again in place.
        let (mut lab, booted) = lab.restart().await;
        assert_eq!(booted.tasks.len(), 1);
        assert!(lab.log(&key).await == printed && lab.runtime.usage(&key).memory_bytes > 0);
        lab.runtime.kill(&key);
        assert_eq!(lab.exit(&key).await.exit_code, Some(137));
        lab.runtime.restart(&key).await.unwrap();
        lab.printed(&key, &printed.repeat(2)).await;
        lab.runtime.kill(&key);
        lab.exit(&key).await;
        lab
    });
}

#[test]
fn an_init_process_passes_signals_on_and_reaps_orphans() {
    lab(|mut lab| async {
        // Nobody waits for the inner shell: its end stays unless process 1 asks for it.
        let text = "cat /proc/1/comm; ((exit 3) &); \
                    until ! grep -q zombie /proc/[0-9]*/status; do sleep 0.05; done; \
                    trap 'echo stopped; exit 5' TERM; echo ready; while :; do sleep 0.05; done";
        let mut main = script("main", text);
        main.init_process = true;
        let assignment = assign(task(NetworkMode::None, vec![main]));
        lab.run(&assignment).await;
        let main = key(&assignment, "main");
        lab.printed(&main, "ready").await;
        lab.runtime.stop(&main).unwrap();
        assert_eq!(lab.exit(&main).await.exit_code, Some(5));
        let log = lab.log(&main).await;
        assert!(log.starts_with("docker-init\n") && log.ends_with("stopped\n"), "{log}");
        lab
    });
}

#[test]
fn devices_are_the_instance_s_with_the_permissions_that_were_given() {
    lab(|mut lab| async {
        // The kernel's log under another name, which may only be written.
        let text = "true > /dev/own && echo opened; true < /dev/own";
        let mut main = script("main", text);
        main.devices = vec![Device {
            host_path: "/dev/kmsg".into(),
            container_path: "/dev/own".into(),
            permissions: vec![DevicePermission::Write],
        }];
        let (_, log) = lab.finish(task(NetworkMode::None, vec![main.clone()])).await;
        assert!(log.starts_with("opened\n"), "{log}");
        assert!(log.contains("/dev/own: Operation not permitted"), "{log}");
        main.devices[0].host_path = "/dev/nothing".into();
        let assignment = assign(task(NetworkMode::None, vec![main]));
        lab.runtime.begin(&assignment).await.unwrap();
        let refused = lab.runtime.create(&assignment, &"main".into()).await.unwrap_err();
        assert!(refused.to_string().contains("device \"/dev/nothing\""), "{refused}");
        lab
    });
}

#[test]
fn linked_containers_are_known_by_name() {
    lab(|mut lab| async {
        let mut db = script("db", "exec sleep 60");
        db.hostname = Some("store".into());
        let mut app = script("app", "cat /etc/hosts; ping -c 1 -W 5 base >/dev/null && echo there");
        app.links = vec![Link { container: "db".into(), alias: "base".into() }];
        let assignment = assign(task(NetworkMode::Bridge, vec![db, app]));
        lab.run(&assignment).await;
        let app = key(&assignment, "app");
        assert_eq!(lab.exit(&app).await.exit_code, Some(0));
        let log = lab.log(&app).await;
        assert!(log.contains("10.91.0.2\tbase store db\n") && log.ends_with("there\n"), "{log}");
        lab
    });
}

#[test]
fn containers_of_a_task_share_processes_and_memory_if_it_says_so() {
    lab(|mut lab| async {
        let one = script("one", "echo 42 > /dev/shm/f; sleep 77 & wait");
        let see = "until cat /dev/shm/f 2>/dev/null; do sleep 0.05; done; \
                   ps | grep -c '[s]leep 77$'; cat /proc/1/comm; df -m /dev/shm | tail -1";
        let mut two = script("two", see);
        two.shared_memory_mib = Some(7);
        let mut definition = task(NetworkMode::None, vec![one, two]);
        definition.pid_mode = Some(PidMode::Task);
        definition.ipc_mode = Some(IpcMode::Task);
        let assignment = assign(definition);
        lab.run(&assignment).await;
        let (one, two) = (key(&assignment, "one"), key(&assignment, "two"));
        lab.exit(&two).await;
        let log = lab.log(&two).await;
        assert!(log.starts_with("42\n1\nmuster-pause\n") && log.contains(" 7 "), "{log}");
        // A new agent finds all of it, and the task that is deleted takes all of it along.
        let (mut lab, booted) = lab.restart().await;
        assert_eq!(booted.notes, Vec::<String>::new());
        lab.runtime.begin(&assignment).await.unwrap();
        let group = format!("{}/{}/one", lab.config.cgroup_prefix, assignment.task);
        assert!(Cgroups::detect("/").unwrap().has_members(&group));
        lab.runtime.stop(&one).unwrap();
        lab.runtime.kill(&one);
        // What it started goes with it, although another process is number one there.
        lab.exit(&one).await;
        assert!(!Cgroups::detect("/").unwrap().has_members(&group));
        lab.runtime.delete(assignment.task).await.unwrap();
        let left = std::fs::read_dir(lab.config.run_dir.join("shared")).unwrap().count();
        assert_eq!(left, 0);
        lab
    });
}

#[test]
fn host_modes_show_the_instance_s_and_none_has_no_shared_memory() {
    lab(|mut lab| async {
        let show = "readlink /proc/self/ns/pid; readlink /proc/self/ns/ipc; ls -d /dev/shm";
        let own = |kind: &str| {
            let path = format!("/proc/self/ns/{kind}");
            std::fs::read_link(path).unwrap().display().to_string()
        };
        let mut definition = task(NetworkMode::None, vec![script("main", show)]);
        definition.pid_mode = Some(PidMode::Host);
        definition.ipc_mode = Some(IpcMode::Host);
        let (_, log) = lab.finish(definition.clone()).await;
        assert_eq!(log, format!("{}\n{}\n/dev/shm\n", own("pid"), own("ipc")));
        definition.pid_mode = None;
        definition.ipc_mode = Some(IpcMode::None);
        let (_, log) = lab.finish(definition).await;
        assert!(!log.contains(&own("pid")) && !log.contains(&own("ipc")), "{log}");
        assert!(log.contains("/dev/shm: No such file"), "{log}");
        lab
    });
}
