//! Faults of a manager's machine: a clock that jumps, a disk that is slow, fails or is full.
//!
//! The process under test is restarted with a library before it; the machine itself stays as it is.

use super::{Span, Struck, library, say};
use crate::campaign::field::Field;
use crate::campaign::heal;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Debian's libfaketime, for processes with threads.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
/// How long a process may live after an fsync that failed.
const DEAD_WITHIN: Duration = Duration::from_secs(10);
/// How long reads fail: a follower comes back in the middle of it.
const UNREADABLE: Duration = Duration::from_secs(6);
/// Bytes of a small disk: room for the thresholds of free space, and a little to work with.
const DISK: &str = "1200M";

/// Restarts a manager with additions to its environment, and makes it the leader.
fn restart(field: &mut Field, number: u32, environment: &[String]) -> Result<(), String> {
    let host = format!("m{number}");
    field.cluster.kill(&host);
    field.cluster.start_with(&host, environment);
    heal::well(field)
}

/// Moves leadership to a manager, which takes a moment when it has just started.
fn make_leader(field: &Field, number: u32) -> Result<(), String> {
    let id = field.status(number).map(|status| status.id);
    let id = id.ok_or_else(|| format!("m{number} does not answer"))?.to_string();
    field.until(&format!("m{number} leads"), Duration::from_secs(20), || {
        if field.leader() == Some(number) {
            return Ok(());
        }
        let asked = field.cluster.ask(&["operator", "raft", "transfer", "--to", &id]);
        Err(String::from_utf8_lossy(&asked.stderr).into_owned())
    })
}

/// The leader's wall clock jumps by up to an hour, to and fro; or runs 5 % too fast, then too slow.
///
/// # Errors
/// The machine refuses, or libfaketime is missing.
pub fn clock(field: &mut Field, _: Span) -> Result<Struck, String> {
    let number = 1 + field.below(3) as u32;
    let host = format!("m{number}");
    let file = field.cluster.path(&host).join("clock");
    say(&file, "+0")?;
    let environment = [
        format!("LD_PRELOAD={FAKETIME}"),
        format!("FAKETIME_TIMESTAMP_FILE={}", file.display()),
        "FAKETIME_NO_CACHE=1".to_owned(),
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
    ];
    restart(field, number, &environment)?;
    make_leader(field, number)?;
    let term = |field: &Field| field.statuses().into_iter().flatten().map(|s| s.term).max();
    let (before, struck) = (term(field), field.record.now());
    let jump = 1 + field.below(3600);
    let (times, what) = match field.turn() % 3 {
        2 => (["+0 x1.05".into(), "+0 x0.95".into()], "5 % too fast, 5 % too slow".to_owned()),
        _ => ([format!("+{jump}"), format!("-{jump}")], format!("by +{jump} s, -{jump} s")),
    };
    for time in times.into_iter().chain(["+0".to_owned()]) {
        say(&file, &time)?;
        field.last(Duration::from_secs(3))?;
    }
    let healed = field.record.now();
    let what = format!("wall clock of the leader {host} {what} and back");
    if term(field) != before {
        field.record.breach("I9", format!("{what}: the leader changed"));
    }
    Ok(Struck { what, struck, healed, replaced: None })
}

fn bad_disk(field: &mut Field, number: u32) -> Result<PathBuf, String> {
    let file = field.cluster.path(&format!("m{number}")).join("disk");
    say(&file, "")?;
    let preload = format!("LD_PRELOAD={}", library(field, "chaos/src/shim/disk.c")?.display());
    restart(field, number, &[preload, format!("MUSTER_DISK={}", file.display())])?;
    make_leader(field, number)?;
    Ok(file)
}

/// Every sync of the leader takes long, or very long: another one must take over.
///
/// # Errors
/// The machine refuses.
pub fn slow(field: &mut Field, span: Span) -> Result<Struck, String> {
    let number = 1 + field.below(3) as u32;
    let file = bad_disk(field, number)?;
    let wait = [50, 500, 5000, 10_000][(field.turn() % 4) as usize];
    let struck = field.record.now();
    say(&file, &format!("slow {wait}"))?;
    let waited = field.last(span.longest);
    say(&file, "")?;
    waited?;
    let what = format!("each fsync of the leader m{number} takes {wait} ms more");
    Ok(Struck { what, struck, healed: field.record.now(), replaced: None })
}

/// The leader's fsync, or its write, fails: its process must end, and not take the data for synced.
/// Or its reads fail, while a follower needs what it must read: it may end or go on, but must not
/// answer what it could not read.
///
/// # Errors
/// The machine refuses.
pub fn failing(field: &mut Field, _: Span) -> Result<Struck, String> {
    let number = 1 + field.below(3) as u32;
    let host = format!("m{number}");
    let file = bad_disk(field, number)?;
    let (order, call) = match field.turn() % 3 {
        0 => ("fail", "fsync"),
        1 => ("fail-write", "write"),
        _ => return unreadable(field, number, &file),
    };
    let struck = field.record.now();
    say(&file, order)?;
    let dead = field.until("its process ends", DEAD_WITHIN, || match field.cluster.pid(&host) {
        None => Ok(()),
        Some(pid) => Err(format!("pid {pid} lives")),
    });
    let took = field.record.now() - struck;
    say(&file, "")?;
    if let Err(why) = dead {
        field.record.breach("I2", format!("{host}: {call} failed and it went on: {why}"));
        field.cluster.kill(&host);
    }
    field.cluster.reap(&host);
    field.cluster.start(&host);
    let what = format!("{call} of the leader {host} fails; it ended after {} ms", took / 1000);
    Ok(Struck { what, struck, healed: field.record.now(), replaced: None })
}

fn unreadable(field: &mut Field, number: u32, file: &Path) -> Result<Struck, String> {
    let host = format!("m{number}");
    let other = format!("m{}", 1 + number % field.shape.managers);
    field.cluster.kill(&other);
    let struck = field.record.now();
    say(file, "fail-read")?;
    let waited = field.last(UNREADABLE / 2);
    field.cluster.start(&other);
    let waited = waited.and_then(|()| field.last(UNREADABLE / 2));
    say(file, "")?;
    waited?;
    let lived = field.cluster.pid(&host).is_some();
    if !lived {
        field.cluster.reap(&host);
        field.cluster.start(&host);
    }
    let fate = if lived { "went on" } else { "ended" };
    let what = format!("reads of the leader {host} fail while {other} comes back; it {fate}");
    Ok(Struck { what, struck, healed: field.record.now(), replaced: None })
}

/// Moves a host's data to a small disk of its own and starts its daemon there.
fn small_disk(field: &mut Field, host: &str) -> Result<String, String> {
    let (path, image) = (field.cluster.path(host), field.cluster.path(host).join("image"));
    let (data, image) = (path.join("data"), image.to_string_lossy().into_owned());
    let data = data.to_string_lossy().into_owned();
    field.cluster.kill(host);
    // In the host's own mount namespace: gone with the host, at the latest.
    let lab = &field.cluster.lab;
    if !Path::new(&image).exists() {
        let script = "truncate -s $3 $1 && mkfs.ext4 -q $1 && mkdir $2.new && \
                      mount -o loop $1 $2.new && cp -a $2/. $2.new/ && umount $2.new && \
                      rmdir $2.new && mount -o loop $1 $2";
        lab.done(&["run", host, "sh", "-c", script, "sh", &image, &data, DISK]);
    }
    field.cluster.start(host);
    heal::well(field)?;
    Ok(data)
}

/// The disk of the leader, of a follower or of an agent fills up to the last byte, and is emptied
/// again. The agent is one without real containers: a disk cannot be put under what runs.
///
/// # Errors
/// The machine refuses.
pub fn full(field: &mut Field, span: Span) -> Result<Struck, String> {
    let number = 1 + field.below(3) as u32;
    let (who, host) = match field.turn() % 3 {
        0 => ("leader", format!("m{number}")),
        1 => ("follower", format!("m{number}")),
        // Rows that crash workers come before this one: a crash takes the small disk away.
        _ => ("agent", format!("w{}", field.shape.workers + field.shape.simulated)),
    };
    let data = small_disk(field, &host)?;
    match who {
        "leader" => make_leader(field, number)?,
        "follower" => make_leader(field, 1 + number % field.shape.managers)?,
        _ => {}
    }
    let struck = field.record.now();
    let fill = "fallocate -l $(($(stat -f -c '%a*%S' $1))) $1/filler || \
                dd if=/dev/zero of=$1/filler bs=1M 2>/dev/null; true";
    field.cluster.lab.done(&["run", &host, "sh", "-c", fill, "sh", &data]);
    let waited = field.last(span.longest.min(Duration::from_secs(8)));
    let led = field.leader().map_or("nobody".to_owned(), |number| format!("m{number}"));
    let left = "stat -f -c '%a*%S' $1";
    let left = field.cluster.lab.done(&["run", &host, "sh", "-c", left, "sh", &data]);
    field.cluster.lab.done(&["run", &host, "rm", &format!("{data}/filler")]);
    waited?;
    let alive = field.cluster.pid(&host).is_some();
    if !alive {
        field.cluster.reap(&host);
        field.cluster.start(&host);
    }
    let fate = if alive { "its process lived" } else { "its process ended" };
    let what = format!("disk of the {who} {host} full ({left} bytes left); {fate}, {led} led");
    Ok(Struck { what, struck, healed: field.record.now(), replaced: None })
}
