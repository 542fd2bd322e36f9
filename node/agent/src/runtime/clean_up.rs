//! Keeps the disk from filling with what is over: logs of deleted tasks and images without a
//! container go when they are old, and before that when the disk fills, the logs first.
//!
//! What it may not take is not decided here: the journal and the image store know. Invariant: a
//! disk that cannot be asked how full it is counts as not filling.

use super::Runtime;
use crate::image::sweep::{Sweep, Swept, Which};
use crate::journal::names_in;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Per cent of a disk in use, of its bytes or its inodes, whichever is more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskMarks {
    /// From here on room is made; 100: never.
    pub high_percent: u8,
    /// Down to here.
    pub low_percent: u8,
}

impl DiskMarks {
    fn reached(self, dir: &Path) -> bool {
        self.high_percent < 100 && used_percent(dir) >= f64::from(self.high_percent)
    }

    fn wants_room(self, dir: &Path) -> bool {
        used_percent(dir) > f64::from(self.low_percent)
    }
}

impl Runtime {
    /// Whether room is to be made. Blocks for as long as the file system needs to answer.
    pub fn disk_fills(&self) -> bool {
        let marks = self.config().disk;
        marks.reached(&self.journal().logs_dir()) || marks.reached(&self.inner.images.layers_dir())
    }

    /// Removes what is old, and if the disk fills more than that. Blocks while it deletes; between
    /// two things that it deletes it ends if the agent does.
    pub fn clean_up(&self) {
        self.expire_logs();
        let images = self.inner.images.layers_dir();
        let swept = Sweep::begin(&self.inner.images, || self.journal().images_in_use());
        let swept = swept.and_then(|sweep| {
            let kept = Which::UnusedFor(self.config().images_kept);
            note(sweep.remove(kept, || !self.ends())?);
            self.make_room_of_logs();
            let marks = self.config().disk;
            if marks.reached(&images) {
                note(sweep.remove(Which::Any, || !self.ends() && marks.wants_room(&images))?);
            }
            Ok(())
        });
        if let Err(error) = swept {
            tracing::error!(%error, "images are not cleaned up");
            self.make_room_of_logs();
        }
        metrics::gauge!("muster_agent_disk_used_percent").set(used_percent(&images));
        if self.disk_fills() && !self.ends() {
            tracing::warn!(
                dir = %self.config().data_dir.display(),
                percent = used_percent(&images).round(),
                "the disk is filling, and nothing more can be removed: what is left is in use"
            );
        }
    }

    /// Removes logs of deleted tasks that are older than they need to be.
    pub fn expire_logs(&self) {
        let old = |at: &SystemTime| at.elapsed().is_ok_and(|age| age > self.config().logs_kept);
        for (_, path) in self.old_logs().into_iter().filter(|(at, _)| old(at)) {
            remove_logs(&path);
        }
    }

    fn make_room_of_logs(&self) {
        let (dir, marks) = (self.journal().logs_dir(), self.config().disk);
        if !marks.reached(&dir) {
            return;
        }
        for (_, path) in self.old_logs() {
            if self.ends() || !marks.wants_room(&dir) {
                return;
            }
            remove_logs(&path);
        }
    }

    /// Logs of deleted tasks and when they became that, the oldest first.
    fn old_logs(&self) -> Vec<(SystemTime, PathBuf)> {
        let dir = self.journal().logs_dir();
        let paths = names_in(&dir).into_iter().map(|name| dir.join(name));
        let dated = |path: PathBuf| Some((fs::metadata(&path).ok()?.modified().ok()?, path));
        let mut found: Vec<_> = paths.filter_map(dated).collect();
        found.sort();
        found
    }

    fn ends(&self) -> bool {
        self.inner.stop.is_cancelled()
    }
}

fn remove_logs(path: &Path) {
    match fs::remove_dir_all(path) {
        Ok(()) => {
            metrics::counter!("muster_agent_logs_removed_total").increment(1);
            tracing::info!(path = %path.display(), "logs of a deleted task removed");
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => {
            tracing::warn!(path = %path.display(), error = %e, "cannot remove old logs");
        }
    }
}

fn note(swept: Swept) {
    let Swept { images, layers, bytes } = swept;
    if swept != Swept::default() {
        tracing::info!(images, layers, bytes, "unused images removed");
    }
}

/// As `df` counts: what only root may still use is not free.
fn used_percent(dir: &Path) -> f64 {
    let Ok(disk) = rustix::fs::statvfs(dir) else { return 0.0 };
    let share = |all: u64, free: u64, available: u64| {
        let used = all.saturating_sub(free);
        // A file system without a fixed number of inodes says that it has none.
        match used + available {
            0 => 0.0,
            usable => used as f64 * 100.0 / usable as f64,
        }
    };
    let bytes = share(disk.f_blocks, disk.f_bfree, disk.f_bavail);
    bytes.max(share(disk.f_files, disk.f_ffree, disk.f_favail))
}
