//! What containers print: kept in files of bounded size, followed while it grows, and never in the
//! container's way.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod lab;

use futures::StreamExt;
use lab::{assign, key, lab, lab_with, script, sh, task, until};
use muster_agent::drive::engine::Lines;
use muster_agent::logs::Query;
use muster_model::spec::{ContainerDefinition, LogConfiguration, MountPoint, NetworkMode, Volume};
use nix::mount::{MsFlags, mount};

fn limited(mut container: ContainerDefinition, options: &[(&str, &str)]) -> ContainerDefinition {
    let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    container.log_configuration = Some(LogConfiguration { driver: "json-file".into(), options });
    container
}

#[test]
fn following_sees_every_line_over_rotations() {
    lab(|mut lab| async {
        let text = "awk 'BEGIN { for (i = 0; i < 4000; i++) { printf \"%0100d\\n\", i; \
                    if (i % 100 == 99) { fflush(); system(\"usleep 20000\") } } }'";
        let main = limited(script("main", text), &[("max-size", "128k"), ("max-file", "20")]);
        let assignment = assign(task(NetworkMode::None, vec![main]));
        lab.run(&assignment).await;
        let key = key(&assignment, "main");
        let mut frames = lab.runtime.logs(&key, Query { follow: true, ..Default::default() });
        let mut next = 0u32;
        while let Some(frame) = frames.recv().await {
            assert_eq!(frame.unwrap().text.trim().parse::<u32>().unwrap(), next);
            next += 1;
        }
        assert_eq!(next, 4000);
        assert_eq!(lab.exit(&key).await.exit_code, Some(0));
        let dir = lab.config.data_dir.join("tasks").join(assignment.task.to_string());
        let files = sh(&format!("ls -l {}/containers/main/log*", dir.display()));
        assert!(files.lines().count() > 3, "{files}");
        lab
    });
}

#[test]
fn rotation_bounds_what_is_kept() {
    lab(|mut lab| async {
        let text = "seq 1 20000; echo last";
        let main = limited(script("main", text), &[("max-size", "128k"), ("max-file", "2")]);
        let assignment = assign(task(NetworkMode::None, vec![main]));
        lab.run(&assignment).await;
        let key = key(&assignment, "main");
        lab.exit(&key).await;
        let dir = lab.config.data_dir.join("tasks").join(assignment.task.to_string());
        let total = sh(&format!("cat {}/containers/main/log* | wc -c", dir.display()));
        assert!(total.trim().parse::<u64>().unwrap() <= 2 * 128 * 1024, "{total}");
        let log = lab.log(&key).await;
        assert!(log.ends_with("20000\nlast\n") && !log.starts_with("1\n"));
        lab
    });
}

#[test]
fn a_full_disk_blocks_neither_the_container_nor_its_exit_code() {
    lab_with(
        |config| {
            std::fs::create_dir_all(&config.data_dir).unwrap();
            let size = Some("size=12m");
            let kind = Some("tmpfs");
            mount(kind, &config.data_dir, kind, MsFlags::empty(), size).unwrap();
        },
        |mut lab| async {
            let text = "yes 0123456789012345678901234567890123456789 | head -400000; exit 5";
            let main = limited(script("main", text), &[("max-size", "100m")]);
            let assignment = assign(task(NetworkMode::None, vec![main]));
            lab.run(&assignment).await;
            let exit = lab.exit(&key(&assignment, "main")).await;
            assert_eq!(exit.exit_code, Some(5));
            assert!(exit.log_lines_dropped > 0, "{exit:?}");
            lab
        },
    );
}

#[test]
fn a_closed_output_does_not_end_the_watch() {
    lab(|mut lab| async {
        let text = "echo before; exec >/dev/null 2>&1; sleep 0.2; exit 9";
        let assignment = assign(task(NetworkMode::None, vec![script("main", text)]));
        lab.run(&assignment).await;
        let key = key(&assignment, "main");
        assert_eq!(lab.exit(&key).await.exit_code, Some(9));
        let log = until("the log", async || Some(lab.log(&key).await)).await;
        assert_eq!(log, "before\n");
        lab
    });
}

async fn texts(mut lines: Lines) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some(line) = lines.next().await {
        let line = line.unwrap();
        texts.push(format!("{} {}", line.container, String::from_utf8_lossy(&line.line)));
    }
    texts
}

#[test]
fn containers_are_read_in_order_of_time_and_followed_also_when_they_are_made_later() {
    lab(|mut lab| async {
        let waits = |name: &str, other: &str| {
            let text = format!(
                "for n in 1 2 3; do usleep 30000; echo {name}$n; touch /s/{name}$n; \
                 until [ -e /s/{other}$n ]; do usleep 5000; done; done"
            );
            let mut container = script(name, &text);
            container.mount_points = vec![MountPoint {
                source_volume: "shared".into(),
                container_path: "/s".into(),
                read_only: false,
            }];
            container
        };
        let mut definition = task(NetworkMode::None, vec![waits("a", "b"), waits("b", "a")]);
        definition.volumes = vec![Volume { name: "shared".into(), ..Volume::default() }];
        let assignment = assign(definition);
        let query = Query { follow: true, ..Default::default() };
        let unknown = lab.runtime.task_logs(assignment.task, query).err().unwrap();
        assert!(unknown.to_string().contains("not found"), "{unknown}");
        lab.runtime.begin(&assignment).await.unwrap();
        // Nothing is made yet.
        let followed = tokio::spawn(texts(lab.runtime.task_logs(assignment.task, query).unwrap()));
        lab.runtime.pull(&assignment).await.unwrap();
        for name in ["a", "b"] {
            let key = key(&assignment, name);
            lab.runtime.create(&assignment, &key.name).await.unwrap();
            lab.runtime.start(&key).await.unwrap();
            // It waits for the other, which is not made yet when this is read.
            lab.printed(&key, &format!("{name}1")).await;
        }
        for name in ["a", "b"] {
            lab.exit(&key(&assignment, name)).await;
        }
        let followed = tokio::time::timeout(lab::SOON, followed).await.unwrap().unwrap();
        let kept = lab.runtime.task_logs(assignment.task, Query::default()).unwrap();
        let kept = texts(kept).await;
        assert_eq!(kept.len(), 6);
        for n in 1..3 {
            let at = |line: String| kept.iter().position(|kept| *kept == line).unwrap();
            let first = at(format!("a a{n}")).max(at(format!("b b{n}")));
            let next = at(format!("a a{}", n + 1)).min(at(format!("b b{}", n + 1)));
            assert!(first < next, "{kept:?}");
        }
        let sorted = |mut lines: Vec<String>| {
            lines.sort();
            lines
        };
        assert_eq!(sorted(followed), sorted(kept));
        lab
    });
}

#[test]
fn a_busy_container_is_told_from_one_that_sleeps() {
    lab(|lab| async {
        let busy = script("busy", "while :; do :; done");
        let idle = script("idle", "echo up; sleep 1000 & wait");
        let assignment = assign(task(NetworkMode::Bridge, vec![busy, idle]));
        let missing = lab.runtime.task_stats(assignment.task, true).err().unwrap();
        assert!(missing.to_string().contains("not found"), "{missing}");
        lab.runtime.begin(&assignment).await.unwrap();
        let none = lab.runtime.task_stats(assignment.task, false).err().unwrap();
        assert!(none.to_string().contains("no container"), "{none}");
        lab.run(&assignment).await;
        lab.printed(&key(&assignment, "idle"), "up").await;
        let once = lab.runtime.task_stats(assignment.task, false).unwrap();
        let once: Vec<_> = once.collect().await;
        assert_eq!(once.len(), 1);
        let mut samples = lab.runtime.task_stats(assignment.task, true).unwrap();
        for _ in 0..2 {
            let sample = samples.next().await.unwrap().unwrap();
            let [busy, idle] = &sample.containers[..] else { panic!("{sample:?}") };
            assert_eq!((&*busy.container, &*idle.container), ("busy", "idle"));
            assert!(busy.cpu_millicores > 100 && idle.cpu_millicores < 50, "{sample:?}");
            assert!(idle.memory_bytes > 0 && idle.received_bytes.is_some(), "{sample:?}");
            assert_eq!((busy.pids, idle.pids), (1, 2));
        }
        lab.runtime.delete(assignment.task).await.unwrap();
        assert_eq!(samples.next().await.map(drop), None);
        lab
    });
}
