//! What can keep a store from starting, told to the person who starts it.

use crate::codec;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{path}: {source}", path = path.display())]
    Io { path: PathBuf, source: std::io::Error },
    /// Never served: another manager has the same entries.
    #[error(
        "{place}: corrupt: {why}; this copy is not served. If the other managers hold a quorum, \
         take this one out (`muster operator raft remove`) and join again with an empty data \
         directory; otherwise restore a backup"
    )]
    Corrupt { place: String, why: String },
    #[error("UPGRADE_REQUIRED: {place}: {source}; start the release that wrote it, or a newer one")]
    UpgradeRequired { place: String, source: codec::Error },
    /// Another process, or another manager's disk.
    #[error("{path}: {why}", path = path.display())]
    Foreign { path: PathBuf, why: String },
    #[error("{path}: {source}", path = path.display())]
    Rocks { path: PathBuf, source: rocksdb::Error },
    #[error("raft did not start: {0}")]
    Raft(String),
}

impl StoreError {
    pub fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    pub fn corrupt(path: &Path, why: impl Into<String>) -> Self {
        Self::Corrupt { place: path.display().to_string(), why: why.into() }
    }

    /// A value that was read from `place` and could not be decoded.
    pub fn codec(place: impl Into<String>, source: codec::Error) -> Self {
        match source {
            codec::Error::UnknownFormat { .. } => {
                Self::UpgradeRequired { place: place.into(), source }
            }
            codec::Error::Corrupt { .. } => {
                Self::Corrupt { place: place.into(), why: source.to_string() }
            }
        }
    }

    /// RocksDB's word for damage becomes ours; anything else is passed on.
    pub fn rocks(path: &Path, source: rocksdb::Error) -> Self {
        match source.kind() {
            rocksdb::ErrorKind::Corruption => Self::corrupt(path, source.into_string()),
            _ => Self::Rocks { path: path.to_owned(), source },
        }
    }
}
