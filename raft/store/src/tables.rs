//! The tables that a directory is known to have, in a file of their own beside RocksDB.
//!
//! RocksDB takes a record of its manifest whose length was damaged for a torn tail, forgets the
//! tables that stand behind it, and makes them anew, empty. The file tells that from a table that
//! this release adds. Invariant: a table that was once promised is there, or the directory is
//! refused.

use crate::error::StoreError;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;

const FILE: &str = "tables";

/// Whether all that `dir` was promised to have is among what was found. A directory without the
/// file was just being made.
pub fn check(dir: &Path, found: &[String]) -> Result<(), StoreError> {
    let path = dir.join(FILE);
    let promised = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(StoreError::io(&path, e)),
    };
    for name in promised.split(|byte| *byte == b'\n').filter(|name| !name.is_empty()) {
        if !found.iter().any(|table| table.as_bytes() == name) {
            let why = format!("table {:?} is gone", String::from_utf8_lossy(name));
            return Err(StoreError::corrupt(dir, why));
        }
    }
    Ok(())
}

/// From here on `dir` has these, durably.
pub fn promise(dir: &Path, names: &[&str]) -> Result<(), StoreError> {
    let path = dir.join(FILE);
    let text = names.join("\n");
    if std::fs::read(&path).is_ok_and(|bytes| bytes == text.as_bytes()) {
        return Ok(());
    }
    let next = dir.join("tables.new");
    let written = File::create(&next)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&next, &path))
        .and_then(|()| File::open(dir)?.sync_all());
    written.map_err(|e| StoreError::io(&path, e))
}
