//! The highest (epoch, revision) whose orders this agent has obeyed, kept across restarts, so that
//! a leader that was replaced can make it do nothing, not even late.
//!
//! A new epoch is synced to the disk before it is acted on. A revision within an epoch is written
//! without a sync: it survives the agent's death, and after a power cut the same leader's next
//! complete set is newer than all it said before.

use crate::drive::disk::{self, Sync};
use muster_model::{Epoch, Index};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::PathBuf;

pub type Highest = (Epoch, Index);

/// The file of the highest orders obeyed.
pub struct Obeyed {
    path: PathBuf,
    highest: Highest,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    epoch: u64,
    revision: u64,
}

impl Obeyed {
    /// # Errors
    /// When the file is there and cannot be read: guessing zero would obey anybody.
    pub fn open(path: PathBuf) -> io::Result<Self> {
        let highest = match std::fs::read(&path) {
            Ok(bytes) => {
                let stored: Stored = serde_json::from_slice(&bytes).map_err(|error| {
                    let path = path.display();
                    io::Error::other(format!(
                        "{path}: {error}; if no older leader can be left, delete it and start again"
                    ))
                })?;
                (Epoch(stored.epoch), Index(stored.revision))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Epoch(0), Index(0)),
            Err(error) => return Err(error),
        };
        Ok(Self { path, highest })
    }

    pub fn highest(&self) -> Highest {
        self.highest
    }

    /// # Errors
    /// When the disk refuses; what was stored before is then still there.
    pub async fn store(&mut self, highest: Highest) -> io::Result<()> {
        let sync = if highest.0 > self.highest.0 { Sync::Yes } else { Sync::No };
        let stored = Stored { epoch: highest.0.0, revision: highest.1.0 };
        let bytes = serde_json::to_vec(&stored).map_err(io::Error::other)?;
        disk::replace(self.path.clone(), bytes, sync).await?;
        self.highest = highest;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_highest_orders_are_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("obeyed.json");
        let mut obeyed = Obeyed::open(path.clone()).unwrap();
        assert_eq!(obeyed.highest(), (Epoch(0), Index(0)));
        obeyed.store((Epoch(7), Index(9))).await.unwrap();
        obeyed.store((Epoch(7), Index(12))).await.unwrap();
        assert_eq!(Obeyed::open(path).unwrap().highest(), (Epoch(7), Index(12)));
    }

    #[tokio::test]
    async fn an_unreadable_file_is_refused_and_the_error_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("obeyed.json");
        for bad in ["", "{", "{\"epoch\":1}", "{\"epoch\":-1,\"revision\":0}"] {
            std::fs::write(&path, bad).unwrap();
            let error = Obeyed::open(path.clone()).err().unwrap().to_string();
            assert!(error.contains("obeyed.json") && error.contains("delete it"), "{error}");
        }
    }
}
