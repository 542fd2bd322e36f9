//! One container from image to exit code: what runs, how it ends, what is left.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod lab;

use lab::{assign, key, lab, script, sh, task, until};
use muster_agent::cgroup::Version;
use muster_model::spec::{ContainerDefinition, MountPoint, NetworkMode, Tmpfs, Ulimit, Volume};
use std::collections::BTreeMap;

#[test]
fn a_container_runs_and_its_exit_code_and_output_are_kept() {
    lab(|mut lab| async {
        let main = script("main", "echo out; echo err >&2; printf partial; exit 42");
        let (exit, log) = lab.finish(task(NetworkMode::Host, vec![main])).await;
        assert_eq!((exit.exit_code, exit.signal, exit.oom_kills), (Some(42), None, 0));
        assert!(exit.finished_at >= exit.started_at.unwrap());
        for text in ["out\n", "err\n", "partial"] {
            assert!(log.contains(text), "{log:?}");
        }
        lab
    });
}

#[test]
fn every_trace_of_a_deleted_task_is_gone_but_its_log() {
    lab(|mut lab| async {
        let assignment = assign(task(NetworkMode::Bridge, vec![script("main", "echo kept")]));
        let created = lab.run(&assignment).await;
        let key = key(&assignment, "main");
        lab.exit(&key).await;
        lab.runtime.delete(assignment.task).await.unwrap();
        let dir = lab.dir.path().display().to_string();
        assert!(!sh("cat /proc/self/mountinfo").contains(&dir));
        assert_eq!(
            sh("find /sys/fs/cgroup -name '*muster-test*'").matches(&created[0].id).count(),
            0
        );
        assert!(!sh("ip link").contains("mu0"), "{}", sh("ip -o link"));
        assert_eq!(
            sh(&format!(
                "ls {dir}/run/runc {dir}/run/netns {dir}/data/tasks | grep -c {} || true",
                assignment.task
            ))
            .trim(),
            "0"
        );
        assert_eq!(lab.log(&key).await, "kept\n");
        lab
    });
}

#[test]
fn stop_sends_the_signal_and_kill_ends_whatever_ignores_it() {
    lab(|mut lab| async {
        let polite = "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done";
        let stubborn = "trap '' TERM; echo up; while :; do sleep 0.05; done";
        let containers = vec![script("polite", polite), script("stubborn", stubborn)];
        let assignment = assign(task(NetworkMode::Host, containers));
        lab.run(&assignment).await;
        let (polite, stubborn) = (key(&assignment, "polite"), key(&assignment, "stubborn"));
        for key in [&polite, &stubborn] {
            lab.printed(key, "up").await;
            lab.runtime.stop(key).unwrap();
        }
        assert_eq!(lab.exit(&polite).await.exit_code, Some(3));
        lab.runtime.kill(&stubborn);
        let exit = lab.exit(&stubborn).await;
        assert_eq!((exit.exit_code, exit.signal), (Some(137), Some(9)));
        lab
    });
}

#[test]
fn running_out_of_memory_is_counted() {
    lab(|mut lab| async {
        let mut main = script("main", "exec tail /dev/zero");
        // Room for the runtime's own start, which counts too.
        main.memory_mib = Some(48);
        let (exit, _) = lab.finish(task(NetworkMode::None, vec![main])).await;
        assert_eq!(exit.exit_code, Some(137));
        assert!(exit.oom_kills > 0, "{exit:?}");
        assert!(muster_agent::collector::killed_for_memory(&exit));
        lab
    });
}

#[test]
fn limits_of_container_and_task_are_in_force() {
    lab(|mut lab| async {
        let mut main = script("main", "echo up; sleep 60");
        (main.cpu, main.memory_mib, main.memory_reservation_mib) = (256, Some(64), Some(32));
        let mut definition = task(NetworkMode::None, vec![main]);
        (definition.cpu, definition.memory_mib) = (Some(512), Some(128));
        let assignment = assign(definition);
        lab.run(&assignment).await;
        let cgroups = muster_agent::cgroup::Cgroups::detect(&lab.config.cgroup_prefix).unwrap();
        let prefix = &lab.config.cgroup_prefix;
        let (task, read) = (assignment.task, |path: String| sh(&format!("cat {path}")));
        if cgroups.version() == Version::V1 {
            let at = |controller: &str, file: &str| {
                format!("/sys/fs/cgroup/{controller}{prefix}/{task}{file}")
            };
            let bytes = (64u64 << 20).to_string();
            assert_eq!(read(at("memory", "/main/memory.limit_in_bytes")).trim(), bytes);
            assert_eq!(read(at("memory", "/main/memory.memsw.limit_in_bytes")).trim(), bytes);
            let soft = (32u64 << 20).to_string();
            assert_eq!(read(at("memory", "/main/memory.soft_limit_in_bytes")).trim(), soft);
            assert_eq!(read(at("cpu", "/main/cpu.shares")).trim(), "256");
            assert_eq!(read(at("pids", "/main/pids.max")).trim(), "4096");
            let bytes = (128u64 << 20).to_string();
            assert_eq!(read(at("memory", "/memory.limit_in_bytes")).trim(), bytes);
            assert_eq!(read(at("cpu", "/cpu.cfs_quota_us")).trim(), "50000");
        } else {
            let at = |file: &str| format!("/sys/fs/cgroup{prefix}/{task}{file}");
            assert_eq!(read(at("/main/memory.max")).trim(), (64u64 << 20).to_string());
            assert_eq!(read(at("/main/pids.max")).trim(), "4096");
            assert_eq!(read(at("/memory.max")).trim(), (128u64 << 20).to_string());
            assert_eq!(read(at("/cpu.max")).trim(), "50000 100000");
        }
        let key = key(&assignment, "main");
        let usage = lab.runtime.usage(&key);
        assert!(usage.memory_bytes > 0 && usage.cpu_nanos > 0 && usage.pids >= 1, "{usage:?}");
        lab.runtime.kill(&key);
        lab.exit(&key).await;
        lab
    });
}

#[test]
fn soft_and_hard_ulimits_are_as_asked() {
    lab(|mut lab| async {
        let mut main = script("main", "ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -Hc");
        let ulimit = |name: &str, soft, hard| Ulimit { name: name.into(), soft, hard };
        main.ulimits = vec![ulimit("nofile", 1234, 2345), ulimit("core", 0, 512 * 7)];
        let (exit, log) = lab.finish(task(NetworkMode::None, vec![main])).await;
        assert_eq!(exit.exit_code, Some(0), "{log}");
        // The shell counts cores in blocks of 512 bytes.
        assert_eq!(log, "1234\n2345\n0\n7\n");
        lab
    });
}

#[test]
fn user_directory_and_variables_are_as_asked() {
    lab(|mut lab| async {
        let mut main = script("main", "id -u; id -g; pwd; echo $A-$PATH; hostname");
        main.user = Some("nobody".into());
        main.working_directory = Some("/new/dir".into());
        main.environment = BTreeMap::from([("A".into(), "b c".into())]);
        main.hostname = Some("named".into());
        let (exit, log) = lab.finish(task(NetworkMode::None, vec![main])).await;
        assert_eq!(exit.exit_code, Some(0));
        assert_eq!(log, "65534\n65534\n/new/dir\nb c-/bin\nnamed\n");
        lab
    });
}

#[test]
fn a_read_only_root_refuses_writes_and_volumes_take_them() {
    lab(|mut lab| async {
        let text = "touch /x && exit 1; echo 1 > /data/f && echo 2 > /scratch/f && touch /ro/f; \
                    df -m /scratch | tail -1 | awk '{print $2}'; cat /ro/known";
        let mut main = script("main", text);
        main.readonly_root_filesystem = true;
        let point = |volume: &str, path: &str, read_only| MountPoint {
            source_volume: volume.into(),
            container_path: path.into(),
            read_only,
        };
        main.mount_points = vec![point("data", "/data", false), point("host", "/ro", true)];
        let (path, options) = ("/scratch".into(), vec![]);
        main.tmpfs = vec![Tmpfs { container_path: path, size_mib: 3, mount_options: options }];
        let host = lab.dir.path().join("host");
        std::fs::create_dir(&host).unwrap();
        std::fs::write(host.join("known"), "from the host\n").unwrap();
        let mut definition = task(NetworkMode::None, vec![main]);
        let volume =
            |name: &str, path| Volume { name: name.into(), host_path: path, ..Volume::default() };
        let host_path = Some(host.display().to_string());
        definition.volumes = vec![volume("data", None), volume("host", host_path)];
        let (exit, log) = lab.finish(definition).await;
        assert_eq!(exit.exit_code, Some(0), "{log}");
        assert!(log.contains("Read-only file system"), "{log}");
        // What goes to stderr may arrive between these two.
        for line in ["3", "from the host"] {
            assert!(log.lines().any(|found| found == line), "{line}: {log}");
        }
        assert!(!host.join("f").exists());
        lab
    });
}

#[test]
fn a_program_that_is_not_in_the_image_fails_with_its_name() {
    lab(|lab| async {
        let main =
            ContainerDefinition { command: vec!["/no/such/program".into()], ..script("main", "") };
        let assignment = assign(task(NetworkMode::Bridge, vec![main]));
        lab.runtime.begin(&assignment).await.unwrap();
        let error = lab.runtime.create(&assignment, &"main".into()).await.unwrap_err().to_string();
        assert!(error.starts_with("CannotCreateContainerError: "), "{error}");
        assert!(error.contains("/no/such/program"), "{error}");
        // Taken back at once, the address too.
        assert_eq!(sh(&format!("ls {}/run/netns | wc -l", lab.dir.path().display())).trim(), "0");
        lab
    });
}

#[test]
fn a_container_that_was_killed_before_its_start_says_so() {
    lab(|mut lab| async {
        let assignment = assign(task(NetworkMode::None, vec![script("main", "true")]));
        lab.runtime.begin(&assignment).await.unwrap();
        lab.runtime.create(&assignment, &"main".into()).await.unwrap();
        let key = key(&assignment, "main");
        lab.runtime.kill(&key);
        assert_eq!(lab.exit(&key).await.exit_code, Some(137));
        let error = lab.runtime.start(&key).await.unwrap_err().to_string();
        assert!(error.starts_with("CannotStartContainerError: "), "{error}");
        lab
    });
}

#[test]
fn an_unknown_user_or_capability_fails_before_anything_runs() {
    lab(|lab| async {
        for (user, capability, wanted) in
            [(Some("nemo"), None, "\"nemo\""), (None, Some("FLY"), "\"FLY\"")]
        {
            let mut main = script("main", "true");
            main.user = user.map(str::to_owned);
            main.capabilities_add.extend(capability.map(str::to_owned));
            let assignment = assign(task(NetworkMode::None, vec![main]));
            lab.runtime.begin(&assignment).await.unwrap();
            let error = lab.runtime.create(&assignment, &"main".into()).await.unwrap_err();
            assert!(error.to_string().contains(wanted), "{error}");
        }
        lab
    });
}

#[test]
fn a_command_runs_inside_a_running_container() {
    use muster_agent::runtime::exec::{Input, Output};
    lab(|mut lab| async {
        let assignment = assign(task(NetworkMode::None, vec![script("main", "echo up; sleep 60")]));
        lab.run(&assignment).await;
        let key = key(&assignment, "main");
        lab.printed(&key, "up").await;
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        // The runtime sets the size a moment after the command has begun.
        let typed = "read x; echo got:$x; [ -t 0 ] && \
                     until stty size 2>/dev/null | grep 80; do usleep 10000; done; exit 7";
        for terminal in [None, Some((24, 80))] {
            let mut run = lab
                .runtime
                .exec(&key, &["sh".into(), "-c".into(), typed.into()], terminal)
                .unwrap();
            run.input.send(Input::Bytes(b"hello\n".to_vec())).await.unwrap();
            let mut printed = Vec::new();
            let code = loop {
                match run.output.recv().await.unwrap().unwrap() {
                    Output::Stdout(bytes) | Output::Stderr(bytes) => printed.extend(bytes),
                    Output::Exited(code) => break code,
                }
            };
            let printed = String::from_utf8(printed).unwrap();
            assert_eq!(code, 7, "{printed}");
            assert!(printed.contains("got:hello"), "{printed}");
            assert_eq!(printed.contains("24 80"), terminal.is_some(), "{printed}");
        }
        // Nobody reads any more: the command goes.
        let run = lab.runtime.exec(&key, &words("sleep 77"), None).unwrap();
        let id = key.id();
        let root = lab.config.run_dir.join("runc");
        let processes = || sh(&format!("runc --root {} ps {id}", root.display()));
        until("the command runs", async || processes().contains("sleep 77").then_some(())).await;
        drop(run);
        until("the command is gone", async || (!processes().contains("sleep 77")).then_some(()))
            .await;
        lab.runtime.kill(&key);
        lab.exit(&key).await;
        lab
    });
}
