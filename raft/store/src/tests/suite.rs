//! openraft's own storage suite, on the real store.

use super::Bare;
use crate::log::Log;
use crate::machine::Machine;
use crate::types::Types;
use crate::writer::Writer;
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use std::thread::JoinHandle;
use tempfile::TempDir;

struct Builder;

/// Closes the database of one test before its directory goes.
struct Close {
    writer: Writer,
    thread: Option<JoinHandle<()>>,
    _dir: TempDir,
}

impl Drop for Close {
    fn drop(&mut self) {
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(self.writer.stop());
            self.thread.take().map(JoinHandle::join)
        });
    }
}

impl StoreBuilder<Types, Log, Machine, Close> for Builder {
    async fn build(&self) -> Result<(Close, Log, Machine), StorageError<Types>> {
        let dir = tempfile::tempdir().unwrap();
        let Bare { log, machine, writer, thread } = Bare::open(dir.path()).unwrap();
        Ok((Close { writer, thread: Some(thread), _dir: dir }, log, machine))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openraft_storage_suite_passes() {
    Suite::test_all(Builder).await.unwrap();
}
