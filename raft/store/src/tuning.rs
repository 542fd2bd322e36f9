//! How RocksDB is set up: families, sizes, and what it checks.
//!
//! It opens nothing. Invariant: nothing that was ever acknowledged is traded for speed.

use crate::rows;
use muster_model::Table;
use rocksdb::{ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode, LogLevel, Options};

pub const LOG: &str = "log";
pub const META: &str = "meta";
/// Bytes of the log's memtable; with the tables' it bounds what a full disk must still take.
const LOG_MEMTABLE_BYTES: usize = 8 << 20;
const TABLE_MEMTABLE_BYTES: usize = 2 << 20;
const MEMTABLES_BYTES: usize = 32 << 20;
/// Old write-ahead logs are kept until every family has flushed what they hold.
const WAL_BYTES: u64 = 64 << 20;
/// Files of a family that wait before they are merged: each merge writes much of the family anew,
/// and only a start reads them. RocksDB's four cost a thirtieth of a busy machine.
const WAITING_FILES: i32 = 12;
/// So many wait before writes are slowed down, and before they stop.
const WAITING_FILES_SLOW: i32 = 4 * WAITING_FILES;
const WAITING_FILES_MAX: i32 = 6 * WAITING_FILES;
/// Tables are read when a manager starts and when they are compacted, so that few need to be open.
/// RocksDB takes ten off for files of its own; it would keep all open, more with each hour.
const OPEN_FILES_MAX: i32 = 20;
/// One list of open tables instead of 64, each of which may keep one.
const OPEN_FILES_SHARD_BITS: i32 = 0;

pub fn options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_recycle_log_file_num(0);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_paranoid_checks(true);
    options.set_max_total_wal_size(WAL_BYTES);
    options.set_db_write_buffer_size(MEMTABLES_BYTES);
    options.set_max_background_jobs(2);
    options.set_max_open_files(OPEN_FILES_MAX);
    options.set_table_cache_num_shard_bits(OPEN_FILES_SHARD_BITS);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1 << 20);
    options.set_log_level(LogLevel::Warn);
    options
}

pub fn family(name: &str) -> ColumnFamilyDescriptor {
    let mut options = Options::default();
    match name {
        LOG => {
            options.set_write_buffer_size(LOG_MEMTABLE_BYTES);
            options.set_compression_type(DBCompressionType::None);
        }
        _ => {
            options.set_write_buffer_size(TABLE_MEMTABLE_BYTES);
            options.set_compression_type(DBCompressionType::Lz4);
        }
    }
    options.set_level_zero_file_num_compaction_trigger(WAITING_FILES);
    options.set_level_zero_slowdown_writes_trigger(WAITING_FILES_SLOW);
    options.set_level_zero_stop_writes_trigger(WAITING_FILES_MAX);
    ColumnFamilyDescriptor::new(name, options)
}

pub fn families() -> Vec<&'static str> {
    let tables = Table::ALL.into_iter().map(rows::name);
    [rocksdb::DEFAULT_COLUMN_FAMILY_NAME, LOG, META].into_iter().chain(tables).collect()
}
