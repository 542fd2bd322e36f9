//! What a definition and an image become, read back from the JSON that the runtime gets.

use super::*;
use muster_model::spec::{MountPoint, Tmpfs};

fn image() -> Config {
    Config {
        env: Some(vec!["PATH=/bin".into(), "A=image".into(), "EMPTY".into()]),
        entrypoint: Some(vec!["/entry".into()]),
        cmd: Some(vec!["default".into()]),
        working_dir: Some("/srv".into()),
        ..Config::default()
    }
}

fn json(task: &TaskDefinition, container: &ContainerDefinition) -> serde_json::Value {
    let volumes = BTreeMap::from([("data".to_owned(), PathBuf::from("/var/data"))]);
    let around = Surroundings {
        user: User { uid: 33, gid: 34, groups: vec![50] },
        dir: Path::new("/c"),
        netns: Some(Path::new("/run/n")),
        cgroup: "/m/a/t/c",
        cgroup_v2: false,
        volumes: &volumes,
        shared: &Shared::default(),
        devices: &[],
        init: None,
        told: Vec::new(),
        hostname: "h",
        bounding: 1 << 21,
        nofile_max: 20_000,
    };
    serde_json::to_value(spec(task, container, &image(), &around).unwrap()).unwrap()
}

#[test]
fn command_and_entry_point_merge_as_docker_does() {
    let args = |entry: &[&str], command: &[&str]| {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        let container = ContainerDefinition {
            entry_point: own(entry),
            command: own(command),
            ..Default::default()
        };
        arguments(&container, &image()).unwrap()
    };
    assert_eq!(args(&[], &[]), ["/entry", "default"]);
    assert_eq!(args(&[], &["x"]), ["/entry", "x"]);
    assert_eq!(args(&["/own"], &[]), ["/own"]);
    assert_eq!(args(&["/own"], &["x"]), ["/own", "x"]);
    let error = arguments(&ContainerDefinition::default(), &Config::default()).unwrap_err();
    assert!(error.to_string().contains("\"command\""), "{error}");
}

#[test]
fn environment_of_the_definition_wins_over_the_image() {
    let container = ContainerDefinition {
        environment: BTreeMap::from([("A".into(), "own".into()), ("B".into(), "x=y".into())]),
        ..Default::default()
    };
    let merged = environment(&container, &image(), "h");
    assert_eq!(merged, ["A=own", "B=x=y", "EMPTY=", "HOSTNAME=h", "PATH=/bin"]);
}

#[test]
fn limits_are_counted_as_ecs_counts_them() {
    let container = ContainerDefinition {
        cpu: 512,
        memory_mib: Some(64),
        memory_reservation_mib: Some(32),
        ulimits: vec![Ulimit { name: "nproc".into(), soft: 5, hard: 6 }],
        ..Default::default()
    };
    let json = json(&TaskDefinition::default(), &container);
    let resources = &json["linux"]["resources"];
    assert_eq!(resources["cpu"]["shares"], 512);
    assert_eq!(resources["memory"]["limit"], 64 << 20);
    assert_eq!(resources["memory"]["swap"], 64 << 20);
    assert_eq!(resources["memory"]["reservation"], 32 << 20);
    assert_eq!(resources["pids"]["limit"], PIDS_MAX);
    assert_eq!(resources["devices"][0]["allow"], false);
    let limits = json["process"]["rlimits"].as_array().unwrap();
    assert!(limits.iter().any(|l| l["type"] == "RLIMIT_NPROC" && l["soft"] == 5), "{limits:?}");
    let files = limits.iter().find(|l| l["type"] == "RLIMIT_NOFILE").unwrap();
    assert_eq!((files["soft"].as_u64(), files["hard"].as_u64()), (Some(1024), Some(20_000)));
}

#[test]
fn zero_cpu_means_two_shares() {
    let json = json(&TaskDefinition::default(), &ContainerDefinition::default());
    assert_eq!(json["linux"]["resources"]["cpu"]["shares"], 2);
}

#[test]
fn privileges_are_docker_s_defaults_without_new_ones() {
    let json = json(&TaskDefinition::default(), &ContainerDefinition::default());
    let process = &json["process"];
    assert_eq!(process["noNewPrivileges"], true);
    assert_eq!(process["user"]["uid"], 33);
    assert_eq!(process["user"]["additionalGids"][0], 50);
    assert_eq!(process["cwd"], "/srv");
    assert_eq!(process["capabilities"]["bounding"].as_array().unwrap().len(), CAPABILITIES.len());
    assert_eq!(json["linux"]["seccomp"]["defaultAction"], "SCMP_ACT_ERRNO");
    assert!(json["linux"]["maskedPaths"].to_string().contains("/proc/kcore"));
    assert_eq!(json["linux"]["cgroupsPath"], "/m/a/t/c");
}

#[test]
fn a_privileged_container_has_what_the_instance_can_give() {
    let container = ContainerDefinition { privileged: true, ..Default::default() };
    let json = json(&TaskDefinition::default(), &container);
    let process = &json["process"];
    assert_eq!(process["capabilities"]["bounding"], serde_json::json!(["CAP_SYS_ADMIN"]));
    assert_eq!(process["noNewPrivileges"], false);
    assert!(json["linux"]["seccomp"].is_null() && json["linux"]["maskedPaths"].is_null());
    assert_eq!(json["linux"]["resources"]["devices"][0]["allow"], true);
}

#[test]
fn capabilities_are_added_and_dropped_by_any_spelling() {
    let list = |texts: &[&str]| texts.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let set = capabilities(&list(&["net_admin"]), &list(&["CAP_CHOWN"])).unwrap();
    assert!(set.contains(&Capability::NetAdmin) && !set.contains(&Capability::Chown));
    assert_eq!(capabilities(&[], &list(&["ALL"])).unwrap().len(), 0);
    assert_eq!(capabilities(&list(&["KILL"]), &list(&["all"])).unwrap().len(), 1);
    assert!(capabilities(&list(&["ALL"]), &[]).unwrap().contains(&Capability::SysAdmin));
    let error = capabilities(&list(&["FLY"]), &[]).unwrap_err().to_string();
    assert!(error.contains("\"FLY\""), "{error}");
}

#[test]
fn network_mode_decides_the_namespace() {
    let network = |mode| {
        let task = TaskDefinition { network_mode: mode, ..Default::default() };
        let json = json(&task, &ContainerDefinition::default());
        let namespaces = json["linux"]["namespaces"].as_array().unwrap().clone();
        namespaces.into_iter().find(|n| n["type"] == "network")
    };
    assert_eq!(network(NetworkMode::Bridge).unwrap()["path"], "/run/n");
    assert!(network(NetworkMode::Host).is_none());
}

#[test]
fn volumes_and_tmpfs_become_mounts() {
    let container = ContainerDefinition {
        mount_points: vec![MountPoint {
            source_volume: "data".into(),
            container_path: "/data".into(),
            read_only: true,
        }],
        tmpfs: vec![Tmpfs {
            container_path: "/t".into(),
            size_mib: 3,
            mount_options: vec!["exec".into()],
        }],
        readonly_root_filesystem: true,
        ..Default::default()
    };
    let json = json(&TaskDefinition::default(), &container);
    assert_eq!(json["root"]["readonly"], true);
    let mounts = json["mounts"].as_array().unwrap();
    let at = |path: &str| mounts.iter().find(|m| m["destination"] == path).unwrap();
    assert_eq!(at("/data")["source"], "/var/data");
    assert_eq!(at("/data")["options"][2], "ro");
    let options = at("/t")["options"].to_string();
    assert!(options.contains("size=3m") && options.contains("\"exec\""), "{options}");
    assert!(!options.contains("noexec"), "{options}");
}

#[test]
fn bad_values_name_the_field() {
    let volumes = BTreeMap::new();
    let around = Surroundings {
        user: User::default(),
        dir: Path::new("/c"),
        netns: None,
        cgroup: "/m",
        cgroup_v2: true,
        volumes: &volumes,
        shared: &Shared::default(),
        devices: &[],
        init: None,
        told: Vec::new(),
        hostname: "h",
        bounding: 1 << 21,
        nofile_max: 20_000,
    };
    let error = |container: ContainerDefinition| {
        spec(&TaskDefinition::default(), &container, &image(), &around).unwrap_err().to_string()
    };
    let relative =
        ContainerDefinition { working_directory: Some("x".into()), ..Default::default() };
    assert!(error(relative).contains("workingDirectory \"x\""));
    let limit = Ulimit { name: "speed".into(), soft: 1, hard: 1 };
    let unknown = ContainerDefinition { ulimits: vec![limit], ..Default::default() };
    assert!(error(unknown).contains("RLIMIT_SPEED"));
}

#[test]
fn a_terminal_is_asked_for_and_named_unless_the_definition_knows_better() {
    let environment = |container: &ContainerDefinition| {
        let json = json(&TaskDefinition::default(), container);
        (json["process"]["terminal"] == true, json["process"]["env"].to_string())
    };
    let mut container = ContainerDefinition::default();
    let (terminal, variables) = environment(&container);
    assert!(!terminal && !variables.contains("TERM="), "{variables}");
    container.pseudo_terminal = true;
    let (terminal, variables) = environment(&container);
    assert!(terminal && variables.contains("TERM=xterm"), "{variables}");
    container.environment.insert("TERM".into(), "vt100".into());
    assert!(environment(&container).1.contains("TERM=vt100"));
}
