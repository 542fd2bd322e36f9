//! What containers print: kept in files of bounded size, followed while it grows, and never in the
//! container's way.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod lab;

use lab::{assign, key, lab, lab_with, script, sh, task, until};
use muster_agent::logs::Query;
use muster_model::spec::{ContainerDefinition, LogConfiguration, NetworkMode};
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
