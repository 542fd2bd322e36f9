//! Containers that are given secrets: in their environment and as files, on nothing that stays,
//! asked for again when they are started again and not when the agent is.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod lab;

use lab::registry::Registry;
use lab::{Lab, Told, assign, key, lab, lab_with, script, sh, task, until};
use muster_agent::runtime::exec::Output;
use muster_agent::runtime::rootfs::mounts_below;
use muster_model::spec::{ContainerDefinition, ContainerFile, NetworkMode, TaskDefinition};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;

const HUSH: &str = "hush-7f3a \"quoted\"";

fn tell(told: &Told, value: &str) {
    let password = vec![("PASSWORD".to_owned(), value.to_owned())];
    told.variables.lock().unwrap().insert("main".into(), password);
}

fn tell_file(told: &Told, path: &str, value: &str) {
    let file = (path.to_owned(), value.to_owned());
    told.files.lock().unwrap().entry("main".into()).or_default().push(file);
}

fn file(path: &str, mode: u32, owner: Option<u32>) -> ContainerFile {
    let (path, value_from) = (path.to_owned(), "db".to_owned());
    ContainerFile { path, value_from, mode, uid: owner, gid: owner }
}

fn with_files(text: &str, user: Option<&str>, files: Vec<ContainerFile>) -> TaskDefinition {
    let user = user.map(str::to_owned);
    let main = ContainerDefinition { files, user, ..script("main", text) };
    task(NetworkMode::None, vec![main])
}

fn definition(text: &str) -> TaskDefinition {
    let main = ContainerDefinition {
        environment: [("PLAIN".to_owned(), "seen".to_owned())].into(),
        secrets: [("PASSWORD".to_owned(), "db".to_owned())].into(),
        ..script("main", text)
    };
    task(NetworkMode::None, vec![main])
}

/// Files below `dir` that have the start of the value in them. A tmpfs counts unless it is left
/// out, as `-xdev` does.
fn files_with(dir: &Path, options: &str) -> Vec<String> {
    let found = Command::new("find")
        .arg(dir)
        .args(options.split_whitespace())
        .args(["-type", "f", "-exec", "grep", "-l", "hush-7f3a", "{}", "+"])
        .output()
        .unwrap();
    String::from_utf8(found.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// What a command in the container prints.
async fn exec(lab: &Lab, of: &muster_agent::journal::ContainerKey, line: &str) -> String {
    let words = ["/bin/sh", "-c", line].map(str::to_owned);
    let mut execution = lab.runtime.exec(of, &words, None).unwrap();
    let mut printed = Vec::new();
    while let Some(output) = execution.output.recv().await {
        match output.unwrap() {
            Output::Stdout(bytes) => printed.extend(bytes),
            Output::Stderr(bytes) => panic!("{}", String::from_utf8_lossy(&bytes)),
            Output::Exited(code) => assert_eq!(code, 0),
        }
    }
    String::from_utf8(printed).unwrap()
}

#[test]
fn a_container_has_its_secrets_and_no_disk_has_them() {
    lab(async |lab| {
        tell(&lab.told, HUSH);
        // In two pieces: the command itself stands in the configuration.
        let text = r#"[ "$PASSWORD" = 'hush-7''f3a "quoted"' ] && echo "$PLAIN"; sleep 1000"#;
        let assignment = assign(definition(text));
        let main = key(&assignment, "main");
        lab.run(&assignment).await;
        lab.printed(&main, "seen").await;
        assert_eq!(exec(&lab, &main, "printf %s \"$PASSWORD\"").await, HUSH, "as in ECS");
        assert_eq!(lab.told.asked.load(Ordering::Relaxed), 1);
        // In the bundle on its tmpfs, and nowhere else: not in the container's directory, the
        // journal, the log or what the runtime keeps.
        assert_eq!(files_with(lab.dir.path(), "-xdev"), Vec::<String>::new());
        let held = files_with(lab.dir.path(), "");
        assert_eq!(held.len(), 1, "{held:?}");
        assert!(held[0].ends_with("/secrets/main/config.json"), "{held:?}");

        // A new agent takes over without asking, and wipes as the old one would.
        let (mut lab, booted) = lab.restart().await;
        assert_eq!((booted.tasks.len(), booted.notes.len()), (1, 0), "{booted:?}");
        assert_eq!(exec(&lab, &main, "printf %s \"$PASSWORD\"").await, HUSH);
        assert_eq!(lab.told.asked.load(Ordering::Relaxed), 1);
        lab.runtime.kill(&main);
        lab.exit(&main).await;
        assert_eq!(files_with(lab.dir.path(), ""), Vec::<String>::new(), "wiped when it ended");
        lab.runtime.delete(assignment.task).await.unwrap();
        assert_eq!(mounts_below(&lab.config.run_dir), Vec::<std::path::PathBuf>::new());
        lab
    });
}

#[test]
fn a_file_is_in_memory_for_its_owner_and_read_only() {
    lab(async |lab| {
        tell_file(&lab.told, "/run/db/key", HUSH);
        tell_file(&lab.told, "/etc/app.conf", "level=info\n");
        let files = vec![file("/run/db/key", 0o400, None), file("/etc/app.conf", 0o444, Some(7))];
        // As a user who is not root, whose file is their own unless the definition says whose.
        let definition = with_files("cat /etc/app.conf; sleep 1000", Some("1000:1000"), files);
        let assignment = assign(definition);
        let main = key(&assignment, "main");
        lab.run(&assignment).await;
        lab.printed(&main, "level=info").await;
        assert_eq!(exec(&lab, &main, "cat /run/db/key").await, HUSH);
        let listed = exec(&lab, &main, "stat -c '%a %u:%g' /run/db/key /etc/app.conf").await;
        assert_eq!(listed, "400 1000:1000\n444 7:7\n");
        let line = "for f in /run/db/key /etc/app.conf; do grep \" $f \" /proc/mounts; done";
        let mounted = exec(&lab, &main, line).await;
        let memory = |line: &str| line.contains(" tmpfs ro,nosuid,nodev,noexec");
        assert!(mounted.lines().count() == 2 && mounted.lines().all(memory), "{mounted}");
        let line = "(echo x > /run/db/key) 2>/dev/null || (rm /run/db/key) 2>/dev/null || echo no";
        assert_eq!(exec(&lab, &main, line).await, "no\n");

        // In the bundle on its tmpfs and nowhere else.
        assert_eq!(files_with(lab.dir.path(), "-xdev"), Vec::<String>::new());
        let held = files_with(lab.dir.path(), "");
        assert_eq!(held.len(), 1, "{held:?}");
        assert!(held[0].ends_with("/secrets/main/files/0"), "{held:?}");

        // A new agent takes over without asking, and wipes as the old one would.
        let (mut lab, _) = lab.restart().await;
        assert_eq!(exec(&lab, &main, "cat /run/db/key").await, HUSH);
        assert_eq!(lab.told.asked.load(Ordering::Relaxed), 1);
        lab.runtime.kill(&main);
        lab.exit(&main).await;
        assert_eq!(files_with(lab.dir.path(), ""), Vec::<String>::new(), "wiped when it ended");
        lab.runtime.delete(assignment.task).await.unwrap();
        assert_eq!(mounts_below(&lab.config.run_dir), Vec::<std::path::PathBuf>::new());
        lab
    });
}

#[test]
fn a_container_that_is_started_again_has_its_files_as_they_are_then() {
    lab(async |mut lab| {
        tell_file(&lab.told, "/run/key", "first\n");
        let files = vec![file("/run/key", 0o400, None)];
        let assignment = assign(with_files("cat /run/key", None, files));
        let main = key(&assignment, "main");
        lab.run(&assignment).await;
        lab.exit(&main).await;
        tell_file(&lab.told, "/run/key", "second\n");
        lab.runtime.restart(&main).await.unwrap();
        lab.exit(&main).await;
        assert_eq!(lab.log(&main).await, "first\nsecond\n");

        // A manager of an older version tells no files: nothing runs without them.
        lab.told.files.lock().unwrap().clear();
        tell(&lab.told, "x");
        let error = lab.runtime.restart(&main).await.unwrap_err().to_string();
        assert!(error.contains("no manager told what is in file \"/run/key\""), "{error}");
        lab
    });
}

#[test]
fn what_ended_while_no_agent_ran_is_wiped_by_the_next() {
    lab(async |lab| {
        tell(&lab.told, HUSH);
        let assignment = assign(definition("sleep 1000"));
        let main = key(&assignment, "main");
        let pid = lab.run(&assignment).await[0].pid;
        lab.runtime.close().await;
        assert_eq!(files_with(lab.dir.path(), "").len(), 1);
        sh(&format!("kill -9 {pid}"));
        let exit =
            lab.config.data_dir.join(format!("tasks/{}/containers/main/exit.json", main.task));
        until("its exit is recorded", async || exit.exists().then_some(())).await;
        let (lab, booted) = lab.restart().await;
        assert_eq!(booted.tasks.len(), 1, "{booted:?}");
        assert_eq!(files_with(lab.dir.path(), ""), Vec::<String>::new());
        lab
    });
}

#[test]
fn a_container_that_is_started_again_is_given_what_its_secret_is_then() {
    lab(async |mut lab| {
        tell(&lab.told, "first");
        let assignment = assign(definition("echo \"given $PASSWORD\""));
        let main = key(&assignment, "main");
        lab.run(&assignment).await;
        lab.exit(&main).await;
        tell(&lab.told, "second");
        lab.runtime.restart(&main).await.unwrap();
        lab.exit(&main).await;
        assert_eq!(lab.log(&main).await, "given first\ngiven second\n");
        assert_eq!(lab.told.asked.load(Ordering::Relaxed), 2);

        // Nothing runs while the secret is gone, and the reason says so.
        lab.told.variables.lock().unwrap().clear();
        let error = lab.runtime.restart(&main).await.unwrap_err().to_string();
        assert!(
            error.starts_with("ResourceInitializationError: unable to pull secrets"),
            "{error}"
        );
        lab
    });
}

#[test]
fn containers_that_are_made_at_once_share_one_tmpfs() {
    lab(async |lab| {
        let names = ["a", "b", "c", "d"];
        let containers = names.map(|name| {
            let value = vec![("NAME".to_owned(), format!("hush-{name}"))];
            lab.told.variables.lock().unwrap().insert(name.into(), value);
            ContainerDefinition {
                secrets: [("NAME".to_owned(), name.to_owned())].into(),
                ..script(name, "echo \"given $NAME\"; sleep 1000")
            }
        });
        let assignment = assign(task(NetworkMode::None, containers.into()));
        lab.runtime.begin(&assignment).await.unwrap();
        lab.runtime.pull(&assignment).await.unwrap();
        let keys = names.map(|name| key(&assignment, name));
        let made = keys.iter().map(|key| lab.runtime.create(&assignment, &key.name));
        futures::future::try_join_all(made).await.unwrap();
        for key in &keys {
            lab.runtime.start(key).await.unwrap();
            lab.printed(key, &format!("given hush-{}", key.name)).await;
        }
        assert_eq!(mounts_below(&lab.config.run_dir.join("shared")).len(), 1);
        lab
    });
}

#[test]
fn nothing_is_pulled_or_made_without_the_secrets() {
    lab(async |lab| {
        let assignment = assign(definition("echo never"));
        lab.runtime.begin(&assignment).await.unwrap();
        let error = lab.runtime.pull(&assignment).await.unwrap_err().to_string();
        assert!(
            error.starts_with("ResourceInitializationError: unable to pull secrets"),
            "{error}"
        );
        // An agent that comes later, with the task half begun, asks by itself.
        tell(&lab.told, "late");
        let main = key(&assignment, "main");
        lab.runtime.create(&assignment, &"main".into()).await.unwrap();
        lab.runtime.start(&main).await.unwrap();
        until("its log", async || lab.log(&main).await.contains("never").then_some(())).await;
        lab
    });
}

#[test]
fn an_image_is_pulled_with_the_credentials_that_its_container_names() {
    let address = "127.0.0.1:5000";
    let insecure = |config: &mut muster_agent::runtime::RuntimeConfig| {
        config.registries.insecure = vec![address.into()];
    };
    lab_with(insecure, async |mut lab| {
        let hash =
            sh("perl -e 'print crypt(\"pw\", \"\\$2y\\$05\\$\" . \"abcdefghijklmnopqrstuu\")'");
        let registry = Registry::start(address, Some(&format!("lab:{hash}\n"))).await;
        registry.push("bb", "lab/bb:1", "--dest-creds lab:pw");
        let main = ContainerDefinition {
            image: registry.name("lab/bb:1"),
            repository_credentials: Some("hub".into()),
            ..script("main", "echo pulled")
        };
        let definition = task(NetworkMode::None, vec![main]);
        let assignment = assign(definition.clone());
        for (password, refused) in [("wrong", true), ("pw", false)] {
            let value = format!(r#"{{"username": "lab", "password": "{password}"}}"#);
            lab.told.credentials.lock().unwrap().insert("main".into(), value);
            lab.runtime.begin(&assignment).await.unwrap();
            let pulled = lab.runtime.pull(&assignment).await;
            assert_eq!(pulled.is_err(), refused, "{pulled:?}");
        }
        assert_eq!(lab.finish(definition).await.1, "pulled\n");
        lab
    });
}
