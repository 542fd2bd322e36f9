//! Disks that are full or do not answer: writes are refused, leadership moves, nothing is lost.
//!
//! The full disk is a small ext4 image on a loop device, which only root can mount.
#![allow(clippy::unwrap_used)] // a test that cannot go on should fail

mod common;

use common::{Fleet, big_entry, deadline, entry, eventually, numbers};
use muster_model::Error;
use muster_replica::Instant;
use muster_store::{Point, SpaceLimits};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

const MIB: u64 = 1 << 20;

/// A small file system of its own; gone when dropped.
struct SmallDisk {
    image: PathBuf,
    mount: PathBuf,
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl SmallDisk {
    fn new(root: &Path, mib: u64) -> Self {
        let disk = Self { image: root.join("image"), mount: root.join("mount") };
        std::fs::create_dir_all(&disk.mount).unwrap();
        std::fs::File::create(&disk.image).unwrap().set_len(mib * MIB).unwrap();
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&disk.image));
        run(Command::new("mount").args(["-o", "loop"]).arg(&disk.image).arg(&disk.mount));
        disk
    }

    fn free(&self) -> u64 {
        let stat = nix::sys::statvfs::statvfs(&self.mount).unwrap();
        stat.blocks_available() * stat.fragment_size()
    }

    /// Leaves about `free` bytes.
    fn fill(&self, free: u64) {
        let take = self.free().saturating_sub(free);
        let file = std::fs::File::create(self.mount.join("filler")).unwrap();
        nix::fcntl::posix_fallocate(&file, 0, i64::try_from(take).unwrap()).unwrap();
    }

    fn empty(&self) {
        std::fs::remove_file(self.mount.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.mount).output();
    }
}

fn root() -> bool {
    let root = nix::unistd::Uid::effective().is_root();
    if !root {
        eprintln!("needs root to mount a loop device: not tested");
    }
    root
}

const LIMITS: SpaceLimits = SpaceLimits {
    refuse_below: 40 * MIB,
    resume_above: 60 * MIB,
    critical_below: 12 * MIB,
    reserve: 8 * MIB,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_hands_over_and_recovers() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let disk = SmallDisk::new(dir.path(), 200);
    let mount = disk.mount.clone();
    let mut fleet = Fleet::form(3, move |config| {
        if config.raft_id == 1 {
            config.space = LIMITS;
            config.data_dir = mount.join("manager");
        }
    })
    .await;
    fleet.propose(1, 1).await.unwrap();
    fleet.change(fleet.leader().await, transfer(1)).await.unwrap();
    eventually("manager 1 leads", || fleet.replica(1).leadership().borrow().mine).await;
    eventually("it keeps a reserve", || disk.mount.join("manager/reserve").exists()).await;

    disk.fill(30 * MIB);
    eventually("it refuses", || fleet.replica(1).status().refusing.is_some()).await;
    eventually("another leads", || {
        let known = fleet.replica(2).leadership().borrow().leader.clone();
        known.is_some_and(|(id, _)| id.0 != 1)
    })
    .await;
    // The other two go on, also for a client of the full one.
    for number in 2..=20 {
        fleet.propose(1 + number % 3, number).await.unwrap();
    }
    // Not one block left: it gives up the reserve and writes nothing more, but lives.
    disk.fill_rest();
    eventually("the reserve is given up", || !disk.mount.join("manager/reserve").exists()).await;
    disk.fill_rest();
    for number in 21..=40 {
        fleet.propose(2 + number % 2, number).await.unwrap();
    }
    assert!(fleet.replica(1).status().refusing.is_some());

    disk.empty();
    disk.empty_rest();
    let last = fleet.propose(1, 41).await.unwrap().index;
    let state = fleet.converge(last).await;
    assert_eq!(numbers(&state), (1..=41).collect::<Vec<_>>());
    eventually("it takes writes again", || fleet.replica(1).status().refusing.is_none()).await;
    eventually("the reserve is back", || disk.mount.join("manager/reserve").exists()).await;
    for id in 1..=3 {
        fleet.stop(id).await;
    }
}

fn transfer(to: u64) -> muster_replica::Change {
    muster_replica::Change::Transfer(Some(muster_model::RaftId(to)))
}

impl SmallDisk {
    /// Takes what is left, block by block.
    fn fill_rest(&self) {
        use std::io::Write;
        let name = format!("rest-{}", self.free());
        let mut file = std::fs::File::create(self.mount.join(name)).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
    }

    fn empty_rest(&self) {
        for item in std::fs::read_dir(&self.mount).unwrap() {
            let item = item.unwrap();
            if item.file_name().to_string_lossy().starts_with("rest-") {
                std::fs::remove_file(item.path()).unwrap();
            }
        }
    }
}

/// Alone and without its guard a manager meets a full disk: it ends with a clear word, and what it
/// acknowledged is there when it starts again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_finds_the_disk_full_ends_the_manager_and_loses_nothing() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let disk = SmallDisk::new(dir.path(), 96);
    let ended = Arc::new(Mutex::new(None::<String>));
    let (mount, why) = (disk.mount.clone(), ended.clone());
    let mut fleet = Fleet::form(1, move |config| {
        let why = why.clone();
        config.data_dir = mount.join("manager");
        config.fatal = Arc::new(move |word| {
            why.lock().unwrap().get_or_insert_with(|| word.to_owned());
        });
    })
    .await;
    fleet.propose(1, 1).await.unwrap();
    disk.fill_rest();
    let (mut acknowledged, end) = (1, deadline());
    while ended.lock().unwrap().is_none() {
        let short = Instant::now() + Duration::from_secs(2);
        match fleet.replica(1).propose(big_entry(acknowledged + 1), short).await {
            Ok(_) => acknowledged += 1,
            Err(e) => assert!(Instant::now() < end, "the disk does not get full: {e}"),
        }
    }
    eventually("the manager ends", || ended.lock().unwrap().is_some()).await;
    let word = ended.lock().unwrap().clone().unwrap();
    assert!(word.contains("disk full") || word.contains("No space"), "{word}");
    fleet.kill(1).await;
    disk.empty_rest();
    fleet.start(1, false).await.unwrap();
    let state = fleet.replica(1).read(deadline()).await.unwrap();
    let found = numbers(&state);
    assert!(found.len() as u64 >= acknowledged, "{} of {acknowledged}", found.len());
    fleet.stop(1).await;
}

/// Stops one manager's writer until it is let go.
#[derive(Default)]
struct Stall {
    /// Whose disk does not answer; 0 if none.
    who: AtomicU64,
    lock: Mutex<()>,
    free: Condvar,
}

impl Stall {
    fn pass(&self, id: u64) {
        let mut guard = self.lock.lock().unwrap();
        while self.who.load(Ordering::SeqCst) == id {
            guard = self.free.wait(guard).unwrap();
        }
    }

    fn set(&self, id: u64) {
        let _guard = self.lock.lock().unwrap();
        self.who.store(id, Ordering::SeqCst);
        self.free.notify_all();
    }
}

/// Lets go whoever is stopped, also when the test fails: a manager whose writer hangs cannot be
/// closed, and the test would never end.
struct LetGo(Arc<Stall>);

impl Drop for LetGo {
    fn drop(&mut self) {
        self.0.set(0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_disk_does_not_answer_hands_over() {
    let stall = Arc::new(Stall::default());
    let hook = stall.clone();
    let mut fleet = Fleet::form(3, move |config| {
        let (stall, id) = (hook.clone(), config.raft_id);
        config.hook = Arc::new(move |point| {
            if point == Point::BeforeWrite {
                stall.pass(id);
            }
        });
    })
    .await;
    // Dropped before the fleet.
    let _let_go = LetGo(stall.clone());
    fleet.propose(1, 1).await.unwrap();
    let old = fleet.leader().await;
    let other = fleet.follower().await;
    stall.set(old);
    let begun = Instant::now();
    // Its followers are enough for a quorum, so the stall shows only on its own disk.
    for number in 2..=6 {
        fleet.propose(other, number).await.unwrap();
    }
    eventually("another leads", || {
        let known = fleet.replica(other).leadership().borrow().leader.clone();
        known.is_some_and(|(id, _)| id.0 != old)
    })
    .await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    fleet.propose(other, 7).await.unwrap();
    stall.set(0);
    let last = fleet.propose(old, 8).await.unwrap().index;
    let state = fleet.converge(last).await;
    assert_eq!(numbers(&state), (1..=8).collect::<Vec<_>>());
    for id in 1..=3 {
        fleet.stop(id).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_manager_with_a_full_disk_says_so() {
    let fleet = Fleet::form(1, |config| {
        config.space.refuse_below = if config.bootstrap { u64::MAX / 4 } else { 0 };
        config.space.resume_above = u64::MAX / 2;
    });
    // It refuses even its first entry, so forming never ends.
    let formed = tokio::time::timeout(Duration::from_secs(5), fleet).await;
    assert!(formed.is_err());
    let mut fleet = Fleet::empty(|config| {
        config.space.refuse_below = u64::MAX / 4;
        config.space.resume_above = u64::MAX / 2;
    });
    fleet.add_machine(1).await;
    fleet.start(1, true).await.unwrap();
    fleet.leader().await;
    eventually("it refuses", || fleet.replica(1).status().refusing.is_some()).await;
    let refused = fleet.replica(1).propose(entry(0), deadline()).await.unwrap_err();
    let Error::Unavailable { why } = &refused else { panic!("{refused}") };
    assert!(why.contains("disk full") && why.contains("MiB free"), "{why}");
}

/// Heartbeats do not wait for an fsync: with one manager dead and the disk of another silent there
/// is no quorum to write, but there is one to confirm the leader.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_whose_disk_does_not_answer_still_confirms_the_leader() {
    let stall = Arc::new(Stall::default());
    let hook = stall.clone();
    let mut fleet = Fleet::form(3, move |config| {
        let (stall, id) = (hook.clone(), config.raft_id);
        config.hook = Arc::new(move |point| {
            if point == Point::BeforeWrite {
                stall.pass(id);
            }
        });
    })
    .await;
    let _let_go = LetGo(stall.clone());
    let last = fleet.propose(1, 1).await.unwrap().index;
    fleet.converge(last).await;
    let leader = fleet.leader().await;
    let others: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
    fleet.kill(others[0]).await;
    stall.set(others[1]);
    let replica = fleet.replica(leader).clone();
    let write = tokio::spawn({
        let replica = replica.clone();
        async move { replica.propose(entry(2), deadline()).await }
    });
    // Longer than a leader keeps calling itself one without a quorum's word.
    let end = Instant::now() + 2 * muster_store::limits::NO_LEADER_WAIT;
    while Instant::now() < end {
        let state = replica.read(deadline()).await.unwrap();
        assert!(numbers(&state) == [1]);
        assert!(replica.leadership().borrow().mine);
    }
    assert!(!write.is_finished(), "a write without a quorum of disks");
    stall.set(0);
    assert!(write.await.unwrap().is_ok());
    for id in fleet.running() {
        fleet.stop(id).await;
    }
}
