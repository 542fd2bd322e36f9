//! Volumes that outlive their task or come from a server. The kernel of a machine need not have
//! NFS: where `mount` is asked for it, a program of the test's stands in, which mounts a tmpfs.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod lab;

use lab::{Lab, assign, key, lab, lab_with, script, sh, task};
use muster_model::dispatch::Assignment;
use muster_model::spec::{MountPoint, NetworkMode, TaskDefinition, Volume};
use muster_model::volume::{DockerVolume, EfsVolume, VolumeScope};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

/// A task whose container does this in its volume.
fn with(volume: Volume, text: &str) -> TaskDefinition {
    let mut main = script("main", text);
    main.mount_points = vec![MountPoint {
        source_volume: volume.name.clone(),
        container_path: "/data".into(),
        read_only: false,
    }];
    let mut definition = task(NetworkMode::None, vec![main]);
    definition.volumes = vec![volume];
    definition
}

/// Runs it to its end, and deletes it.
async fn over(lab: &mut Lab, definition: TaskDefinition) -> String {
    let assignment = assign(definition);
    lab.run(&assignment).await;
    let key = key(&assignment, "main");
    lab.exit(&key).await;
    let log = lab.log(&key).await;
    lab.runtime.delete(assignment.task).await.unwrap();
    log
}

async fn begin(lab: &Lab, definition: TaskDefinition) -> Result<Arc<Assignment>, String> {
    let assignment = assign(definition);
    let begun = lab.runtime.begin(&assignment).await.map_err(|e| e.to_string());
    if begun.is_err() {
        lab.runtime.delete(assignment.task).await.unwrap();
    }
    begun.map(|()| assignment)
}

fn docker(name: &str, scope: VolumeScope, autoprovision: bool) -> Volume {
    let docker = DockerVolume { scope, autoprovision, ..DockerVolume::default() };
    Volume { name: name.into(), docker: Some(docker), ..Volume::default() }
}

#[test]
fn a_shared_volume_is_the_next_task_s_as_well_and_a_task_s_own_is_not() {
    lab(|mut lab| async {
        let counts = "echo x >> /data/f; wc -l < /data/f";
        for wanted in ["1\n", "2\n"] {
            let volume = docker("cache", VolumeScope::Shared, true);
            assert_eq!(over(&mut lab, with(volume, counts)).await, wanted);
        }
        for _ in 0..2 {
            let volume = docker("cache", VolumeScope::Task, true);
            assert_eq!(over(&mut lab, with(volume, counts)).await, "1\n");
        }
        let missing = docker("other", VolumeScope::Shared, false);
        let refused = begin(&lab, with(missing, counts)).await.unwrap_err();
        assert!(refused.starts_with("CannotCreateVolumeError: volume \"other\""), "{refused}");
        // A new agent clears what nobody owns, and not this.
        let (mut lab, booted) = lab.restart().await;
        assert!(booted.notes.is_empty(), "{booted:?}");
        let volume = docker("cache", VolumeScope::Shared, false);
        assert_eq!(over(&mut lab, with(volume, counts)).await, "3\n");
        lab
    });
}

/// Writes down what it was asked, and mounts a tmpfs with a file at the last of its words.
const MOUNT: &str = "#!/bin/sh\necho \"$@\" >> ASKED\n\
    case \"$*\" in *away*) echo 'mount.nfs4: Connection refused' >&2; exit 32;; esac\n\
    for target; do :; done\nmount -t tmpfs nfs \"$target\" && echo theirs > \"$target/file\"\n";

fn efs(id: &str) -> Volume {
    let efs = EfsVolume { file_system_id: id.into(), root_directory: "/web".into() };
    Volume { name: "data".into(), efs: Some(efs), ..Volume::default() }
}

#[test]
fn a_server_s_directory_is_mounted_for_the_task_and_nothing_in_it_is_deleted() {
    lab_with(
        |config| {
            let dir = config.data_dir.parent().unwrap();
            let program = dir.join("mount-nfs");
            let asked = dir.join("asked").display().to_string();
            std::fs::write(&program, MOUNT.replace("ASKED", &asked)).unwrap();
            let executable = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(&program, executable).unwrap();
            config.mount = program;
            config.efs.insert("fs-1".into(), "10.0.0.7:/exports".into());
        },
        |lab| async {
            let text = "echo ours > /data/new; cat /data/file; read line";
            let mut definition = with(efs("fs-1"), text);
            definition.containers[0].interactive = true;
            let assignment = begin(&lab, definition).await.unwrap();
            lab.run(&assignment).await;
            let key = key(&assignment, "main");
            lab.printed(&key, "theirs").await;
            let asked = || std::fs::read_to_string(lab.dir.path().join("asked")).unwrap();
            let place = lab.config.run_dir.join("efs").join(assignment.task.to_string()).join("0");
            let options = "nfsvers=4.1,rsize=1048576,wsize=1048576,hard,timeo=600,retrans=2,\
                           noresvport,retry=0";
            let wanted =
                format!("-t nfs4 -o {options} -- 10.0.0.7:/exports/web {}\n", place.display());
            // It began twice.
            assert_eq!(asked(), wanted);
            assert_eq!(std::fs::read_to_string(place.join("new")).unwrap(), "ours\n");
            // Whoever else has the server's directory sees what is left of it.
            let other = lab.dir.path().join("other");
            std::fs::create_dir(&other).unwrap();
            sh(&format!("mount --bind {} {}", place.display(), other.display()));
            let (lab, _) = lab.restart().await;
            assert!(place.join("file").exists(), "the container runs on");
            lab.runtime.delete(assignment.task).await.unwrap();
            assert!(!place.exists() && other.join("file").exists() && other.join("new").exists());
            sh(&format!("umount {}", other.display()));
            lab
        },
    );
}

#[test]
fn a_server_that_cannot_be_mounted_fails_the_task_in_ecs_s_words() {
    lab_with(
        |config| {
            let program = config.data_dir.parent().unwrap().join("mount-nfs");
            std::fs::write(&program, MOUNT.replace("ASKED", "/dev/null")).unwrap();
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
            config.mount = program;
        },
        |lab| async {
            let refused = begin(&lab, with(efs("away"), "true")).await.unwrap_err();
            let words = "ResourceInitializationError: failed to invoke EFS utils commands to set \
                         up EFS volumes: volume \"data\": mount: mount.nfs4: Connection refused";
            assert!(refused.starts_with(words), "{refused}");
            lab
        },
    );
}
