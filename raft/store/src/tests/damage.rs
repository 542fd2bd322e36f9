//! Crashes and damage: at every write of a small history, and at bytes all over the files.

use super::{Bare, WHO, command, copy_dir, log_id};
use crate::limits::SNAPSHOT_PART_BYTES;
use crate::machine::AppliedState;
use crate::open::{self, Opened};
use crate::snapshot::{self, Image, Receiver};
use crate::types::{LeaderId, RaftEntry, SnapshotMeta, Vote};
use crate::writer::Point;
use futures::stream;
use muster_model::{Index, State, apply};
use openraft::storage::{IOFlushed, RaftLogStorage, RaftStateMachine};
use openraft::type_config::TypeConfigExt;
use openraft::vote::RaftLeaderId;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Appends and waits until it is durable.
async fn append(bare: &mut Bare, entries: impl IntoIterator<Item = RaftEntry> + Send) {
    let entries: Vec<_> = entries.into_iter().collect();
    let (done, durable) = crate::types::Types::oneshot();
    bare.log.append(entries, IOFlushed::signal(done)).await.unwrap();
    durable.await.unwrap().unwrap();
}

async fn apply_all(bare: &mut Bare, entries: impl IntoIterator<Item = RaftEntry>) {
    let items: Vec<_> = entries.into_iter().map(|entry| Ok((entry, None))).collect();
    bare.machine.apply(stream::iter(items)).await.unwrap();
}

fn vote(term: u64) -> Vote {
    Vote { leader_id: LeaderId::new(term, 1), committed: true }
}

/// The state after the commands up to `last`.
fn state_at(last: u64) -> State {
    let mut state = State::default();
    for index in 0..=last {
        apply(&mut state, Index(index), &super::entry(index)).unwrap();
    }
    state
}

/// A history with everything in it: votes, appends, applies, a truncation, a purge.
async fn history(bare: &mut Bare, acknowledged: &AtomicU64) {
    bare.log.save_vote(&vote(1)).await.unwrap();
    for batch in 0..5 {
        let entries = (batch * 4..batch * 4 + 4).map(|index| command(1, index));
        append(bare, entries.clone()).await;
        acknowledged.store(batch * 4 + 4, Ordering::SeqCst);
        apply_all(bare, entries).await;
    }
    append(bare, [command(1, 20), command(1, 21)]).await;
    bare.log.save_vote(&vote(2)).await.unwrap();
    // 20 and 21 were never committed: another leader says otherwise.
    bare.log.truncate_after(Some(log_id(1, 19))).await.unwrap();
    append(bare, [command(2, 20)]).await;
    acknowledged.store(21, Ordering::SeqCst);
    apply_all(bare, [command(2, 20)]).await;
    bare.log.purge(log_id(1, 9)).await.unwrap();
    append(bare, [command(2, 21)]).await;
    acknowledged.store(22, Ordering::SeqCst);
}

struct Copy {
    dir: PathBuf,
    acknowledged: u64,
}

/// What is in a directory: last log index + 1 and how far the tables are.
fn found(dir: &Path) -> Result<(u64, AppliedState), crate::StoreError> {
    let Opened { tail, applied, .. } = open::open(dir, WHO)?;
    Ok((tail.last.map_or(0, |id| id.index + 1), applied))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_write_loses_nothing_acknowledged() {
    let root = tempfile::tempdir().unwrap();
    let live = root.path().join("live");
    let acknowledged = Arc::new(AtomicU64::new(0));
    let copies = Arc::new(Mutex::new(Vec::new()));
    let (source, seen, taken) = (live.clone(), acknowledged.clone(), copies.clone());
    let base = root.path().to_owned();
    let hook = move |_: Point| {
        let mut taken = taken.lock().unwrap();
        let dir = base.join(format!("copy-{}", taken.len()));
        // Read before copying: what is acknowledged later need not be in the copy.
        let acknowledged = seen.load(Ordering::SeqCst);
        copy_dir(&source, &dir);
        taken.push(Copy { dir, acknowledged });
    };
    let mut bare = Bare::open_with(&live, Arc::new(hook)).unwrap();
    history(&mut bare, &acknowledged).await;
    bare.close().await;
    let copies = copies.lock().unwrap();
    assert!(copies.len() > 20, "{} crash points", copies.len());
    for copy in copies.iter() {
        let (next, applied) = found(&copy.dir).unwrap();
        assert!(next >= copy.acknowledged, "{}: ends at {next}", copy.dir.display());
        if let Some(last) = applied.last {
            assert_eq!(*applied.state, state_at(last.index), "{}", copy.dir.display());
        }
    }
}

fn write_ahead_logs(dir: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(dir.join("db")).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|ext| ext == "log")).collect()
}

/// RocksDB reads such a file for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_says_it_was_used_before_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let live = root.path().join("live");
    let mut bare = Bare::open(&live).unwrap();
    append(&mut bare, [command(1, 0)]).await;
    bare.close().await;
    let files = std::fs::read_dir(live.join("db")).unwrap().map(|file| file.unwrap().path());
    let named = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    let logs: Vec<String> = files.map(|path| named(&path)).collect();
    let logs: Vec<&String> =
        logs.iter().filter(|n| n.starts_with("MANIFEST-") || n.ends_with(".log")).collect();
    assert_eq!(logs.len(), 2, "{logs:?}");
    for (at, log) in logs.iter().enumerate() {
        let dir = root.path().join(at.to_string());
        copy_dir(&live, &dir);
        let path = dir.join("db").join(log);
        let mut bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes[6], 1, "{log} begins with a whole record");
        bytes[6] = 5;
        std::fs::write(&path, bytes).unwrap();
        let said = found(&dir).err().unwrap().to_string();
        assert!(said.contains("type 5, which is never written"), "{log}: {said}");
    }
}

/// A power cut keeps a prefix of what was written and a mark that was true at some earlier time.
/// Damage keeps the mark: then the same prefix must be refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_log_is_a_prefix_after_a_power_cut_and_refused_as_damage() {
    let root = tempfile::tempdir().unwrap();
    let live = root.path().join("live");
    let mut bare = Bare::open(&live).unwrap();
    let early = root.path().join("early.mark");
    std::fs::copy(live.join("log.mark"), &early).unwrap();
    for index in 0..12 {
        append(&mut bare, [command(1, index)]).await;
        apply_all(&mut bare, [command(1, index)]).await;
    }
    bare.close().await;
    let [wal] = &write_ahead_logs(&live)[..] else { panic!("one write-ahead log") };
    let length = std::fs::metadata(wal).unwrap().len();
    let (mut prefixes, mut refusals) = (0, 0);
    for cut in (0..length).step_by(131) {
        for power_cut in [true, false] {
            let dir = root.path().join(format!("cut-{cut}-{power_cut}"));
            copy_dir(&live, &dir);
            let torn = dir.join("db").join(wal.file_name().unwrap());
            std::fs::File::options().write(true).open(torn).unwrap().set_len(cut).unwrap();
            if power_cut {
                // Before the mark there was nothing to be true about.
                std::fs::copy(&early, dir.join("log.mark")).unwrap();
            }
            match found(&dir) {
                Ok((next, applied)) => {
                    assert!(power_cut || next == 12, "cut at {cut}: {next} entries were served");
                    let last = applied.last.map(|id| id.index);
                    assert!(last.is_none_or(|last| last < next));
                    if let Some(last) = last {
                        assert_eq!(*applied.state, state_at(last));
                    }
                    prefixes += 1;
                }
                // A directory that has lost even its identity is no longer one of ours.
                Err(e) => {
                    assert!(e.to_string().contains("corrupt"), "cut at {cut}: {e}");
                    refusals += 1;
                }
            }
            std::fs::remove_dir_all(dir).unwrap();
        }
    }
    assert!(prefixes > 10 && refusals > 10, "{prefixes} prefixes, {refusals} refusals");
}

fn files_in(dir: &Path, into: &mut Vec<PathBuf>) {
    for item in std::fs::read_dir(dir).unwrap() {
        let path = item.unwrap().path();
        match path.is_dir() {
            true => files_in(&path, into),
            false => into.push(path),
        }
    }
}

/// Everything is served or nothing is: no flipped byte may change what is served, or panic.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_byte_anywhere_is_refused_or_harmless() {
    let root = tempfile::tempdir().unwrap();
    let live = root.path().join("live");
    let acknowledged = AtomicU64::new(0);
    let mut bare = Bare::open(&live).unwrap();
    history(&mut bare, &acknowledged).await;
    bare.close().await;
    // Opening it once moves the write-ahead log into table files; keep one of each kind.
    let reopened = root.path().join("reopened");
    copy_dir(&live, &reopened);
    drop(found(&reopened).unwrap());
    let mut refusals = 0;
    for source in [&live, &reopened] {
        let (next, applied) = found_in_copy(root.path(), source).unwrap();
        let mut files = Vec::new();
        files_in(source, &mut files);
        for file in files {
            let length = std::fs::metadata(&file).unwrap().len();
            let name = file.strip_prefix(source).unwrap();
            for at in (0..length).step_by((length / 24).max(1) as usize) {
                let dir = root.path().join("flipped");
                copy_dir(source, &dir);
                let mut bytes = std::fs::read(&file).unwrap();
                bytes[at as usize] ^= 0x04;
                std::fs::write(dir.join(name), bytes).unwrap();
                match found(&dir) {
                    Ok((now, state)) => {
                        assert_eq!(now, next, "{} at {at}", name.display());
                        assert_eq!(state.state, applied.state, "{} at {at}", name.display());
                        assert_eq!(state.last, applied.last, "{} at {at}", name.display());
                    }
                    Err(_) => refusals += 1,
                }
                std::fs::remove_dir_all(&dir).unwrap();
            }
        }
    }
    assert!(refusals > 50, "only {refusals} flips were noticed");
}

fn found_in_copy(root: &Path, source: &Path) -> Result<(u64, AppliedState), crate::StoreError> {
    let dir = root.join("intact");
    copy_dir(source, &dir);
    let found = found(&dir);
    std::fs::remove_dir_all(dir).unwrap();
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_of_another_manager_or_release_is_refused() {
    let root = tempfile::tempdir().unwrap();
    Bare::open(root.path()).unwrap().close().await;
    let other = open::Identity { raft_id: 2, ..WHO };
    let refused = open::open(root.path(), other).err().unwrap().to_string();
    assert!(refused.contains("belongs to manager 1, not to manager 2"), "{refused}");
    let other = open::Identity { fleet: 8, ..WHO };
    let refused = open::open(root.path(), other).err().unwrap().to_string();
    assert!(refused.contains("belongs to the fleet"), "{refused}");
    let bare = Bare::open(root.path()).unwrap();
    let refused = open::open(root.path(), WHO).err().unwrap().to_string();
    assert!(refused.contains("another process uses"), "{refused}");
    bare.close().await;
    let opened = open::open(root.path(), WHO).unwrap();
    assert_eq!(opened.identity.disk, WHO.disk);
    opened.db.put_raw_meta(open::key::VOTE, &[9, 0, 0]);
    drop(opened);
    let refused = open::open(root.path(), WHO).err().unwrap().to_string();
    assert!(refused.contains("UPGRADE_REQUIRED"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hole_in_the_log_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let mut bare = Bare::open(root.path()).unwrap();
    append(&mut bare, (0..6).map(|index| command(1, index))).await;
    bare.close().await;
    let opened = open::open(root.path(), WHO).unwrap();
    opened.db.delete_raw_log(3);
    drop(opened);
    let refused = open::open(root.path(), WHO).err().unwrap().to_string();
    assert!(refused.contains("entry 3 is missing"), "{refused}");
}

fn big_state() -> State {
    let mut state = State::default();
    for index in 0..6000 {
        apply(&mut state, Index(index), &super::entry(index)).unwrap();
    }
    state
}

fn parts_of(
    state: &State,
) -> (Vec<muster_proto::raft::SnapshotRows>, muster_proto::raft::SnapshotEnd) {
    let mut parts = Vec::new();
    let end = snapshot::cut(state, |part| {
        parts.push(part);
        true
    });
    (parts, end.unwrap())
}

fn receive(
    parts: &[muster_proto::raft::SnapshotRows],
    end: &muster_proto::raft::SnapshotEnd,
    applied: Index,
) -> Result<Image, String> {
    let mut receiver = Receiver::default();
    for part in parts {
        receiver.part(part)?;
    }
    receiver.end(end, applied)
}

#[test]
fn a_snapshot_arrives_whole_or_not_at_all() {
    let state = big_state();
    let (parts, end) = parts_of(&state);
    assert!(parts.len() > 1, "{} parts", parts.len());
    assert!(parts.iter().all(|part| part.data.len() <= SNAPSHOT_PART_BYTES));
    let whole = receive(&parts, &end, state.applied()).unwrap();
    assert_eq!(*whole.state, state);
    assert!(receive(&parts[1..], &end, state.applied()).is_err(), "the first part is missing");
    assert!(receive(&parts[..parts.len() - 1], &end, state.applied()).is_err());
    let mut bad = parts.clone();
    let mut data = bad[1].data.to_vec();
    data[100] ^= 1;
    bad[1].data = data.into();
    assert!(receive(&bad, &end, state.applied()).unwrap_err().contains("damaged"));
    // A checksum that was computed over damaged data does not help: the digest covers all.
    bad[1].crc32 = crc32fast::hash(&bad[1].data);
    assert!(receive(&bad, &end, state.applied()).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_while_a_snapshot_is_installed_leaves_the_old_state_or_the_new_one() {
    let root = tempfile::tempdir().unwrap();
    let live = root.path().join("live");
    let copies = Arc::new(Mutex::new(Vec::new()));
    let (source, taken, base) = (live.clone(), copies.clone(), root.path().to_owned());
    let hook = move |point: Point| {
        let mut taken = taken.lock().unwrap();
        let dir = base.join(format!("copy-{}", taken.len()));
        copy_dir(&source, &dir);
        taken.push((point, dir));
    };
    let mut bare = Bare::open_with(&live, Arc::new(hook)).unwrap();
    append(&mut bare, (0..3).map(|index| command(1, index))).await;
    apply_all(&mut bare, (0..3).map(|index| command(1, index))).await;
    let state = Arc::new(big_state());
    let last = log_id(4, 5999);
    let meta = SnapshotMeta { last_log_id: Some(last), ..SnapshotMeta::default() };
    bare.machine.install_snapshot(&meta, Image { state: state.clone() }).await.unwrap();
    bare.log.purge(last).await.unwrap();
    append(&mut bare, [command(4, 6000)]).await;
    bare.close().await;
    let copies = copies.lock().unwrap();
    let count = |wanted| copies.iter().filter(|(point, _)| *point == wanted).count();
    assert!(count(Point::InstallMarked) == 1 && count(Point::InstallDone) == 1);
    assert!(count(Point::InstallRows) >= 2, "several batches of rows");
    let (mut old, mut new) = (0, 0);
    for (point, dir) in copies.iter() {
        let (_, applied) = found(dir).unwrap();
        match applied.last {
            Some(id) if id.index >= 5999 => {
                assert_eq!(applied.state, state, "{point:?}");
                new += 1;
            }
            last => {
                let expected = last.map_or_else(State::default, |last| state_at(last.index));
                assert_eq!(*applied.state, expected, "{point:?}");
                old += 1;
            }
        }
    }
    assert!(old > 3 && new >= 2, "{old} with the old state, {new} with the new one");
}
