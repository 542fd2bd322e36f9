//! Small files that are there whole or not at all: written beside, then renamed over.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Whether the bytes must survive a power cut, or only this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    Yes,
    No,
}

/// Replaces the file at `path`; on an error the old one is still there.
///
/// # Errors
/// When the disk refuses.
pub async fn replace(path: PathBuf, bytes: Vec<u8>, sync: Sync) -> io::Result<()> {
    tokio::task::spawn_blocking(move || replace_now(&path, &bytes, sync))
        .await
        .map_err(io::Error::other)?
}

fn replace_now(path: &Path, bytes: &[u8], sync: Sync) -> io::Result<()> {
    let beside = path.with_extension("tmp");
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    if sync == Sync::Yes {
        file.sync_all()?;
    }
    drop(file);
    fs::rename(&beside, path)?;
    match path.parent() {
        Some(dir) if sync == Sync::Yes => File::open(dir)?.sync_all(),
        _ => Ok(()),
    }
}
