//! What waits is tried again when something happened that can help it, and by nothing else; and it
//! holds up nobody. Time stands still here, so that no full scan can help out.

// A test may panic.
#![allow(clippy::expect_used)]

mod stage;

use stage::Stage;

/// One task waits for something.
struct Case {
    lacks: &'static str,
    world: &'static str,
    /// Each may look like help and is none.
    vain: &'static [&'static [&'static str]],
    help: &'static [&'static str],
}

const CASES: [Case; 9] = [
    Case {
        lacks: "cpu",
        world: "instance i1 cpu=1024 mem=8192 ready
                run d1 d2 definition=dust:1
                place d1 i1
                place d2 i1
                definition web cpu=900 mem=64
                service web definition=web:1 desired=1",
        vain: &[&["> report d1 STOPPED"]],
        help: &["> report d2 STOPPED"],
    },
    Case {
        lacks: "memory on one instance, whatever there is on two",
        world: "instance i1 cpu=1024 mem=1024 ready
                instance i2 cpu=1024 mem=512 ready
                run d1 definition=dust:1
                run d2 definition=dust:1
                place d1 i1
                place d2 i2
                definition web cpu=64 mem=1024
                service web definition=web:1 desired=1",
        vain: &[&["> report d2 STOPPED"], &["attribute i1 disk=ssd", "> state"]],
        help: &["> report d1 STOPPED"],
    },
    Case {
        lacks: "a host port",
        world: "instance i1 cpu=1024 mem=8192 ready
                definition http cpu=64 mem=64 port=80:80
                definition dns cpu=64 mem=64 port=53:53
                run p1 definition=http:1
                run p2 definition=dns:1
                place p1 i1 ports=80
                place p2 i1 ports=53
                service web definition=http:1 desired=1",
        vain: &[&["> report p2 STOPPED"]],
        help: &["> report p1 STOPPED"],
    },
    Case {
        lacks: "a named resource",
        world: "instance i1 cpu=1024 mem=8192 has=GPU=1 has=dongle=1 ready
                definition gpu cpu=64 mem=64 need=GPU=1
                definition key cpu=64 mem=64 need=dongle=1
                run g1 definition=gpu:1
                run k1 definition=key:1
                place g1 i1
                place k1 i1
                service web definition=gpu:1 desired=1",
        vain: &[&["> report k1 STOPPED"]],
        help: &["> report g1 STOPPED"],
    },
    Case {
        lacks: "an attribute",
        world: "instance i1 cpu=1024 mem=8192 ready
                service web definition=dust:1 desired=1 member=\"attribute:disk == ssd\"",
        vain: &[&["attribute i1 disk=hdd", "> state"], &["attribute i1 rack=ssd", "> state"]],
        help: &["attribute i1 disk=ssd", "> state"],
    },
    Case {
        lacks: "an instance that is not draining",
        world: "instance i1 cpu=1024 mem=8192 ready draining
                service web definition=dust:1 desired=1",
        vain: &[&["attribute i1 disk=ssd", "> state"]],
        help: &["activate i1", "> state"],
    },
    Case {
        lacks: "an instance of its cluster",
        world: "cluster prod
                service web definition=dust:1 desired=1",
        vain: &[&["instance p1 cluster=prod cpu=1024 mem=8192 ready", "> state"]],
        help: &["instance i1 cpu=1024 mem=8192 ready", "> state"],
    },
    Case {
        lacks: "an instance without a task of its group",
        world: "instance i1 cpu=1024 mem=8192 ready
                run d1 definition=dust:1
                place d1 i1
                service web definition=dust:1 desired=2 distinct",
        vain: &[&["> report d1 STOPPED"]],
        help: &["instance i2 cpu=1024 mem=8192 ready", "> state"],
    },
    Case {
        lacks: "a neighbour",
        world: "instance i1 cpu=1024 mem=8192 ready
                definition db cpu=64 mem=64
                service web definition=dust:1 desired=1 member=\"task:group == family:db\"",
        vain: &[&["run d1 definition=dust:1", "> state"]],
        help: &["run db1 definition=db:1", "> state"],
    },
];

fn stage(world: &str) -> Stage {
    let mut stage = Stage::new();
    stage.quiet = true;
    stage.world.extend("definition dust cpu=128 mem=64");
    stage.world.extend(world);
    stage.lead();
    stage.block(&["> hello all", "> settle"]);
    stage
}

fn waiting(stage: &Stage) -> usize {
    stage.world.state.waiting().filter(|task| task.service().is_some()).count()
}

fn woken(stage: &Stage) -> u64 {
    stage.leader.as_ref().expect("no leader").counters().woken
}

#[test]
fn what_waits_is_woken_by_what_helps_it_and_by_nothing_else() {
    for Case { lacks, world, vain, help } in CASES {
        let mut stage = stage(world);
        assert_eq!(waiting(&stage), 1, "{lacks}");
        let before = woken(&stage);
        for lines in vain {
            stage.block(lines);
            stage.block(&["> settle"]);
            assert_eq!((woken(&stage), waiting(&stage)), (before, 1), "{lacks}: {lines:?}");
        }
        stage.block(help);
        stage.block(&["> settle"]);
        assert_eq!((woken(&stage), waiting(&stage)), (before + 1, 0), "{lacks}");
    }
}

/// Older tasks that fit nowhere, of each kind that can wait, stand before those that do.
#[test]
fn what_fits_nowhere_holds_up_nothing_that_fits() {
    let mut stage = stage(
        "instance i1 cpu=1024 mem=8192 ready
         instance i2 cpu=1024 mem=8192 ready
         definition huge cpu=9999 mem=64
         definition gpu cpu=64 mem=64 need=GPU=1
         service a definition=huge:1 desired=3
         service b definition=gpu:1 desired=3
         service c definition=dust:1 desired=3 member=\"attribute:disk == ssd\"
         service d definition=dust:1 desired=3 distinct
         run r1 r2 definition=huge:1
         time +1s
         service z definition=dust:1 desired=4
         run s1 definition=dust:1",
    );
    let cluster = stage.world.cluster("default");
    let placed = |stage: &Stage, name: &str| {
        let service = stage.world.state.service_named(cluster, name).expect("no such service").id;
        stage.world.state.tasks_of(service).filter(|task| task.instance.is_some()).count()
    };
    assert_eq!(["a", "b", "c", "d", "z"].map(|name| placed(&stage, name)), [0, 0, 0, 2, 4]);
    let run = stage.world.task("s1");
    assert!(stage.world.state.task(run).is_some_and(|task| task.instance.is_some()));
    // And within a service: its newer revision fits, its older one never did.
    stage.world.run("definition huge cpu=64 mem=64");
    stage.world.run("update-service a definition=huge:2");
    stage.show_state();
    stage.block(&["> settle"]);
    assert_eq!(placed(&stage, "a"), 3);
}
