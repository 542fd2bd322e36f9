//! The power cut: all managers at once, and with them every write that no fsync has reached.
//!
//! A library before each manager keeps what the disk would hold; it is `raft/store`'s own, where it
//! proves the same of one process.

use super::{Span, Struck, library};
use crate::campaign::field::Field;
use crate::campaign::{heal, strikes::managers};
use nix::sys::signal::Signal;
use std::path::PathBuf;
use std::time::Duration;

const SHIM: &str = "raft/store/tests/power/shim.c";
/// How long the managers work before the lights go out.
const WORK: Duration = Duration::from_secs(3);

/// All three killed together; each starts from what it had synced.
///
/// # Errors
/// The machine refuses, or it does not heal.
pub fn cut(field: &mut Field, _: Span) -> Result<Struck, String> {
    let library = library(field, SHIM)?;
    let hosts: Vec<_> = (1..=field.shape.managers).map(|n| format!("m{n}")).collect();
    for host in &hosts {
        let (data, left) = places(field, host);
        field.cluster.kill(host);
        let keep = "rm -rf $2 && cp -a $1 $2";
        field.cluster.lab.done(&["run", host, "sh", "-c", keep, "sh", &data, &left]);
        let environment = [
            format!("LD_PRELOAD={}", library.display()),
            format!("MUSTER_POWER_FROM={data}"),
            format!("MUSTER_POWER_TO={left}"),
        ];
        field.cluster.start_with(host, &environment);
        heal::well(field)?;
    }
    let more = Duration::from_millis(field.below(1000));
    field.last(WORK + more)?;
    let struck = field.record.now();
    for host in &hosts {
        managers::signal(field, host, Signal::SIGKILL)?;
    }
    let mut lost = 0;
    for host in &hosts {
        field.cluster.reap(host);
        let (data, left) = places(field, host);
        // In the host's own mounts: its data may be on a disk of its own, which stays in place.
        let put = "diff -rq $1 $2 | wc -l; find $1 -mindepth 1 -delete; cp -a $2/. $1/ && rm -rf $2 $2.new";
        let differ = field.cluster.lab.done(&["run", host, "sh", "-c", put, "sh", &data, &left]);
        lost += differ.parse::<u64>().unwrap_or(0);
    }
    for host in &hosts {
        field.cluster.start(host);
    }
    field.record.count("files that a power cut took something from", lost);
    let what = format!("power cut of {}: unsynced bytes of {lost} files lost", hosts.join(", "));
    Ok(Struck { what, struck, healed: field.record.now(), replaced: None })
}

/// The data of a host, and what would be left of it.
fn places(field: &Field, host: &str) -> (String, String) {
    let path = field.cluster.path(host);
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    (text(path.join("data")), text(path.join("left")))
}
