//! The table of faults: every row of the promises, how often it is struck, and what is not built.

use super::field::Field;
use super::strikes::{Span, Struck, managers, network, workers};

type Strike = fn(&mut Field, Span) -> Result<Struck, String>;

/// One row.
pub struct Row {
    pub name: &'static str,
    pub fault: &'static str,
    /// Times in the short campaign and in the full one.
    pub short: u32,
    pub full: u32,
    pub what: What,
}

/// Whether a row can be run.
pub enum What {
    Strike(Strike),
    /// Why not.
    NotBuilt(&'static str),
}

const fn row(name: &'static str, fault: &'static str, times: (u32, u32), strike: Strike) -> Row {
    Row { name, fault, short: times.0, full: times.1, what: What::Strike(strike) }
}

const fn none(name: &'static str, fault: &'static str, why: &'static str) -> Row {
    Row { name, fault, short: 0, full: 0, what: What::NotBuilt(why) }
}

/// In the order they are run: those that disturb most last.
pub const ROWS: &[Row] = &[
    row("leader-kill", "kill -9 of the leader", (20, 500), managers::leader_kill),
    row("manager-kill", "kill -9 of any manager", (20, 300), managers::any_kill),
    row("partition", "symmetric partition of the managers", (10, 200), network::symmetric),
    row("one-way", "one-way partition of the managers", (10, 200), network::one_way),
    row(
        "leader-pause",
        "SIGSTOP of the leader beyond an election",
        (10, 200),
        managers::leader_pause,
    ),
    row("agent-kill", "kill -9 of an agent", (20, 500), workers::agent_kill),
    row("worker-crash", "crash of a worker, and its return", (5, 50), workers::crash),
    row("worker-partition", "a worker without managers", (4, 200), network::worker),
    row("all-kill", "kill -9 of all three managers at once", (3, 50), managers::all_kill),
    none("unsynced-writes", "power cut that loses unsynced writes", "no shim drops them yet"),
    none("loss-delay", "loss, delay, reorder, duplicates", "the lab has no relay yet"),
    none("clock-jump", "jumps of the wall clock", "tested in chaos/tests/clock.rs, not a row yet"),
    none(
        "disk-full",
        "disk full on leader, follower, agent",
        "tested in raft/store, not a row yet",
    ),
    none("slow-disk", "slow and stalled fsync", "no shim slows it yet"),
    none("failing-disk", "EIO on write, fsync, read", "tested in raft/store, not a row yet"),
    none(
        "corruption",
        "corrupted log, table, snapshot, vote",
        "tested in raft/store, not a row yet",
    ),
    none("membership", "managers added and removed under load", "not a row yet"),
    none("snapshot-install", "snapshot installed under load", "not a row yet"),
    none("upgrade", "rolling upgrade under load", "there is one release only"),
    none("backup", "backup under load, restored elsewhere", "backups are not built"),
    none("zone-loss", "loss of a zone of 300 agents", "the lab has 100 workers at most"),
    none("registry", "registry outage and corruption", "not a row yet"),
    none("runc", "runc hangs, OOM, fork bombs", "tested in node/agent, not a row yet"),
    none("certificates", "expiry and rotation under load", "rotation of the CA is not built"),
    none("api-abuse", "10x load, huge bodies, slow clients", "not a row yet"),
    none("mass-reconnect", "10,000 agents reconnect at once", "the lab has 100 workers at most"),
];
