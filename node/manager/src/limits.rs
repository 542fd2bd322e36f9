//! Every bound of this crate, with its reason.

use muster_model::Millis;
use std::time::Duration;

/// What agents said and the brain has not heard yet, but for heartbeats, which are counted per
/// session. A word of each of thousands of agents fits; a full queue slows the agents' streams,
/// never the leader.
pub const EVENTS_MAX: usize = 8192;

/// What agents said that the brain hears before it thinks once about all of it. At some 3 µs each
/// it thinks at least once per millisecond; more would win little, as a plan takes several.
pub const AGENTS_HEARD_MAX: usize = 256;

/// Messages waiting for one agent. Deltas are small and an agent reads at once; one that is this
/// far behind hangs, and is better served by a new session with the complete set.
pub const SESSION_QUEUE_MAX: usize = 64;

/// How long an agent may take from opening its stream to its `Hello`.
pub const HELLO_WAIT: Duration = Duration::from_secs(5);

/// How long an agent that asks while nobody leads is held before it is sent away.
pub const HOLD_MAX: Duration = Duration::from_secs(1);

/// Largest message an agent may send: 20,000 reports at some 400 bytes.
pub const AGENT_MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Proposals of the brain under way: a plan, and reports behind one another's fsync.
pub const PROPOSALS_MAX: usize = 16;

/// Proposals waiting for a place among these; the brain keeps few under way, so more are a fault.
pub const PROPOSALS_WAITING_MAX: usize = 1024;

/// How long a proposal of the brain may take. Longer than an election, shorter than patience: the
/// brain hears `UnknownOutcome` and looks again.
pub const PROPOSE_WAIT: Duration = Duration::from_secs(5);

/// Pause between tries to take over: a fraction of an election.
pub const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Heartbeats are gathered for so long and heard together, as thousands of agents say nothing else:
/// a hundredth of a lease. The brain looks at the clock as often.
pub const BEATS_GATHERED: Duration = Duration::from_millis(50);

/// How long an agent may take to answer an order to attach.
pub const ATTACH_WAIT: Duration = Duration::from_secs(10);

/// Attach orders that wait for their agents: a user holds one per `logs` or `exec`.
pub const ATTACHES_MAX: usize = 1024;

/// Messages towards an agent on one attach stream (key strokes, pasted text).
pub const ATTACH_QUEUE_MAX: usize = 16;

/// How long joining, renewing and asking may wait for the log.
pub const ENROLL_WAIT: Duration = Duration::from_secs(10);

/// How long certificates of managers and instances live; they are renewed from half of it on, so a
/// machine may be off for two weeks and still come back by itself.
pub const CERTIFICATE_VALIDITY: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long a user's certificate lives, unless asked for less.
pub const USER_VALIDITY: Duration = Duration::from_secs(365 * 24 * 3600);

/// How often the leader compares the managers' rows with who replicates.
pub const MEMBERS_LOOK: Duration = Duration::from_millis(100);

/// How long one change of who replicates may take.
pub const MEMBERS_WAIT: Duration = Duration::from_secs(10);

/// A learner is promoted once it was this little behind, and answering, for a while: six
/// heartbeats. Longer would leave a cluster of one manager unprotected for longer.
pub const LEARNER_LAG_MAX: u64 = 1000;
pub const LEARNER_STEADY: Duration = Duration::from_millis(300);
/// A learner that has not answered for this long is not steady.
pub const LEARNER_SILENCE_MAX: Duration = Duration::from_millis(250);

/// Longest pause between tries to add a manager that does not answer yet.
pub const MEMBERS_PAUSE_MAX: Duration = Duration::from_secs(5);

/// How long an endpoint of a lifecycle hook may take from connecting to the end of its answer; one
/// that needs longer answers IN_PROGRESS.
pub const HOOK_CALL_WAIT: Duration = Duration::from_secs(10);

/// Calls of lifecycle hooks under way; more wait. Were each to hang, a hook would still be called
/// within a minute of its time beside 200 others.
pub const HOOK_CALLS_MAX: usize = 32;

/// An answer is two short values.
pub const HOOK_ANSWER_BYTES_MAX: usize = 16 * 1024;

/// Pauses before an endpoint that could not be called is called again: from the first they double
/// up to the longest, which is what an endpoint that comes back has to wait at most.
pub const HOOK_RETRY_FIRST: Duration = Duration::from_secs(1);
pub const HOOK_RETRY_MAX: Duration = Duration::from_secs(30);

/// Pause before a failed renewal of our own certificate is tried again.
pub const RENEW_PAUSE: Duration = Duration::from_secs(60);

/// ECS: 6 hours. Agents ask anew each hour, so managers may all be gone for five.
pub const TASK_CREDENTIALS_LIFETIME: Millis = Millis::from_secs(6 * 3600);

/// A statement for another system cannot be taken back, so it is short.
pub const TASK_IDENTITY_LIFETIME: Millis = Millis::from_secs(3600);
