//! Files that must be whole or absent: written beside, synced, renamed.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Readable by its owner only: keys, tokens, the bootstrap entry.
pub const SECRET: u32 = 0o600;
pub const PUBLIC: u32 = 0o644;

/// Replaces `path` by `bytes`, or leaves it as it was.
///
/// # Errors
/// Whatever the file system says.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let parent = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent)?;
    let beside = path.with_extension("new");
    let mut file =
        OpenOptions::new().create(true).write(true).truncate(true).mode(mode).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    File::open(parent)?.sync_all()
}
