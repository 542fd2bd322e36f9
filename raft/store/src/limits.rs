//! Every bound of the store, each with its reason.

use std::time::Duration;

/// One proposal, encoded. The API takes 4 MiB; the frame around it must fit as well.
pub const ENTRY_BYTES_MAX: usize = 6 * 1024 * 1024;
/// One gRPC message between managers: one entry of the largest size and its neighbours.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Entries of one append message: it ends at the first entry beyond this many bytes.
pub const APPEND_BYTES_MAX: usize = 1024 * 1024;
/// Entries of one append message, as openraft counts them.
pub const APPEND_ENTRIES_MAX: u64 = 1024;
/// Append messages sent to one follower and not answered yet. Two keep its disk busy; more would
/// only cut the same entries into smaller messages.
pub const APPENDS_IN_FLIGHT_MAX: usize = 4;
/// Newest log entries kept in memory, so that replication does not read the disk.
pub const LOG_CACHE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Entries read from the log at once while applying or replicating.
pub const READ_ENTRIES_MAX: u64 = 1024;
/// Log kept on disk before a snapshot lets it be purged; configurable.
pub const LOG_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Jobs waiting for the writer thread. openraft keeps far fewer; this bounds memory if it did not.
pub const WRITER_QUEUE_MAX: usize = 4096;
/// Jobs written with one fsync.
pub const WRITER_BATCH_JOBS_MAX: usize = 1024;
/// Bytes written with one fsync: at 100 MB/s some 80 ms.
pub const WRITER_BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How far the tables on disk lag behind while nothing else is written. A busy log carries them
/// along; an idle one pays one fsync for them.
pub const PERSIST_DELAY: Duration = Duration::from_millis(200);
/// Proposals in flight on one manager; beyond it callers wait until their deadline.
pub const PROPOSALS_IN_FLIGHT_MAX: usize = 8192;
/// Entries applied before the state is published and their callers are answered.
pub const APPLY_BATCH_MAX: usize = 256;
/// Proposals in one forwarded message.
pub const FORWARD_BATCH_MAX: usize = 512;
/// Bytes of proposals in one forwarded message: far below [`MESSAGE_BYTES_MAX`].
pub const FORWARD_BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Data of one snapshot part: below gRPC's usual message limit, small enough to interleave.
pub const SNAPSHOT_PART_BYTES: usize = 512 * 1024;
/// Rows of a snapshot while it is received: the size at which state still fits a manager, twice.
pub const SNAPSHOT_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// Parts built ahead of the network.
pub const SNAPSHOT_PARTS_AHEAD: usize = 4;
/// Bytes of rows in one write while a snapshot is installed.
pub const INSTALL_BATCH_BYTES: usize = 256 * 1024;
/// A whole snapshot transfer; a connection that is dead ends it sooner.
pub const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(600);
/// An append that is not answered for so long is sent again on a new stream. Longer than a disk
/// that is merely slow, short enough to be whole again 3 s after a partition heals.
pub const PEER_STALL: Duration = Duration::from_secs(3);
/// A peer whose calls have all failed for so long gets a new connection.
pub const RECONNECT_AFTER: Duration = Duration::from_secs(1);
/// How long a caller waits for some manager to lead before it is told who is missing.
pub const NO_LEADER_WAIT: Duration = Duration::from_secs(1);
/// A write or fsync that takes longer makes the leader hand over.
pub const DISK_STALL: Duration = Duration::from_secs(2);
/// Below this much free space writes are refused: RocksDB's memtables (32 MiB), one compaction of
/// the log and what is in flight must still fit.
pub const DISK_FREE_REFUSE: u64 = 64 * 1024 * 1024;
/// Above this much they are taken again; the gap keeps the state from flapping.
pub const DISK_FREE_RESUME: u64 = 96 * 1024 * 1024;
/// Below this much the reserve file is given up, so that RocksDB itself never meets a full disk.
pub const DISK_FREE_CRITICAL: u64 = 24 * 1024 * 1024;
/// Size of the reserve file.
pub const DISK_RESERVE: u64 = 32 * 1024 * 1024;
/// How often free space, stalls, the log's size and leadership are looked at.
pub const GUARD_PERIOD: Duration = Duration::from_millis(50);
/// A membership change waits this long for a learner to catch up before it is refused.
pub const CATCH_UP_WAIT: Duration = Duration::from_secs(30);
/// Entries a learner may be behind when it is promoted.
pub const PROMOTE_LAG_MAX: u64 = 1000;
