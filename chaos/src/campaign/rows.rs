//! The table of faults: every row of the promises, how often it is struck, and what is not built.

use super::field::Field;
use super::strikes::{
    Span, Struck, certificates, crowd, leash, machine, managers, members, network, power, registry,
    relay, runtime, workers,
};

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
    row(
        "agent-pause",
        "SIGSTOP of an agent within its lease and beyond",
        (4, 200),
        workers::agent_pause,
    ),
    row("worker-crash", "crash of a worker, and its return", (5, 50), workers::crash),
    row("worker-reboot", "reboot of a worker before it is missed", (2, 50), workers::reboot),
    row("worker-partition", "a worker without managers", (4, 200), network::worker),
    row("strict", "a strict task out of reach beyond its leash", (3, 60), leash::slack),
    row(
        "zone-loss",
        "loss of a zone, its manager included, and its return",
        (2, 50),
        workers::zone,
    ),
    row("all-kill", "kill -9 of all three managers at once", (3, 50), managers::all_kill),
    row("unsynced-writes", "power cut that loses unsynced writes", (3, 50), power::cut),
    row("loss", "loss of 1 to 30 % at the leader", (5, 100), network::loss),
    row("delay", "delay, reorder, duplicates at the leader", (5, 100), relay::delay),
    row("clock-jump", "jumps and drift of the wall clock", (5, 100), machine::clock),
    row("disk-full", "disk full on the leader, a follower, an agent", (3, 50), machine::full),
    row("slow-disk", "fsync of the leader slow or stalled", (3, 50), machine::slow),
    row("failing-disk", "EIO on fsync, write and read of the leader", (3, 50), machine::failing),
    row("corruption", "damaged bytes in a log or table", (5, 100), members::corruption),
    row("membership", "a manager added and removed under load", (3, 100), members::membership),
    row("snapshot-install", "snapshot installed under load", (3, 100), members::snapshot),
    none("upgrade", "rolling upgrade under load", "there is one release only"),
    none("backup", "backup under load, restored elsewhere", "backups are a later issue"),
    row("registry", "registry gone, 401, slow, false bytes", (5, 100), registry::registry),
    row("out-of-memory", "tasks killed by the kernel for memory", (3, 50), runtime::out_of_memory),
    row("runc", "runc hangs, or fails, at creation", (4, 100), runtime::runc),
    row("processes", "fork bombs and zombies", (2, 50), runtime::processes),
    row("certificates", "a certificate expires under load", (1, 30), certificates::expiry),
    none("ca-rotation", "rotation of the CA and of tokens", "rotation is a later issue"),
    row("api-abuse", "10x load, huge bodies, slow clients, watches", (2, 30), crowd::abuse),
    row("mass-reconnect", "all agents reconnect at once after failover", (1, 20), crowd::reconnect),
];
