//! Every bound of the front ends, with its reason.

use muster_model::Millis;
use std::time::Duration;

/// promises.md and ECS's clients: one request's body.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Largest answer: a page of 100 task definitions of 64 KiB each, with room for names.
pub const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What a caller waits that names no deadline of its own (`grpc-timeout`).
pub const DEADLINE_DEFAULT: Duration = Duration::from_secs(30);

/// The longest a unary call may hold its place; a longer `grpc-timeout` is cut to this.
pub const DEADLINE_MAX: Duration = Duration::from_secs(120);

/// Kept back from a caller's deadline, at most a tenth of it, so that our answer and not its own
/// timer ends the call, also on a busy machine.
pub const DEADLINE_MARGIN: Duration = Duration::from_millis(250);

/// Calls in progress on one manager, streams not counted. A call waits mostly for an fsync and
/// takes some 20 KiB; eight times the 1,024 clients of the benchmark.
pub const CALLS_MAX: usize = 8192;

/// Calls in progress of one user: one broken script must not use up `CALLS_MAX`.
pub const CALLS_PER_USER_MAX: usize = 4096;

/// Watches on one manager; each keeps one old version of the state alive.
pub const WATCHERS_MAX: usize = 20_000;

/// Log, stats and command streams on one manager; each is one more connection of an agent.
pub const LIVE_STREAMS_MAX: usize = 2_000;

/// Foresights made at once: each takes a core for as long as a new leader takes to read the state.
pub const FORESEERS_MAX: usize = 2;

/// Messages a watch keeps ready for a reader that is behind; later changes are merged instead. One,
/// because it is multiplied by [`WATCHERS_MAX`]: four of 512 KiB took 745 MiB with 300 watches that
/// nobody read.
pub const WATCH_BUFFER_MESSAGES: usize = 1;

/// Changes in one message of a watch: about 100 KiB of tasks.
pub const WATCH_CHANGES_PER_MESSAGE: usize = 100;

/// Pause between two looks of one watch: the first change is told at once, a burst of commits is
/// told in at most a hundred messages a second, so watches cost the same however fast writes come.
pub const WATCH_PAUSE: Duration = Duration::from_millis(10);

/// A watch that had nothing to tell for this many entries of the log tells its position, so that
/// its reader can resume: a quarter of the versions that are kept.
pub const WATCH_BOOKMARK_ENTRIES: u64 = 1024;
/// The same after so many rows of tasks: a quarter of [`WATCH_HISTORY_ROWS`].
pub const WATCH_BOOKMARK_ROWS: u64 = WATCH_HISTORY_ROWS / 4;
/// The same after this much time: a tenth of what is kept.
pub const WATCH_BOOKMARK_AFTER: Millis = Millis::from_secs(60);

/// Versions older than this go although there is room: what was deleted since would stay in memory.
/// (A version costs some 7 KiB of tree nodes: measured with 10,000 services, 4,096 tags set.)
pub const WATCH_HISTORY_AGE: Millis = Millis::from_secs(600);

/// So many rows of tasks may have been written since the oldest version that is kept, whose own
/// they are: at about 900 bytes each some 45 MiB. Kept by number and age alone, the versions of a
/// million tasks that had just been placed took 2.4 GiB.
pub const WATCH_HISTORY_ROWS: u64 = 50_000;

/// A watcher that takes nothing for this long is cut off: it keeps an old state in memory.
pub const WATCH_STALL_MAX: Duration = Duration::from_secs(120);

/// How long a watch that is ahead of this manager waits for it to catch up.
pub const WATCH_CATCH_UP_MAX: Duration = Duration::from_secs(5);

/// State time between two kept versions within which a watch may resume between them: no row
/// that its reader knows can have been made and forgotten in less.
pub const WATCH_GAP_MS_MAX: u64 = 1000;

/// A repeat after an unknown outcome waits this long first, doubling up to the maximum: a new
/// leader needs half a second.
pub const RETRY_FIRST: Duration = Duration::from_millis(20);
pub const RETRY_MAX: Duration = Duration::from_millis(200);

/// A certificate the state does not know is looked up once more through the leader, for at most
/// this long: this manager may be behind.
pub const AUTHN_READ_MAX: Duration = Duration::from_secs(2);

/// Look-ups of unknown certificates at once: they cost a round to a quorum each.
pub const AUTHN_READS_MAX: usize = 64;

/// Holders whose policies are kept read: 1,024 users with ten documents of 6 KiB are some 100 MiB
/// read; when there are more, all are read anew.
pub const POLICY_HOLDERS_PARSED_MAX: usize = 1024;

/// How long RunTask waits for its tasks to be placed or explained. A plan takes a few
/// milliseconds; a leader change in between takes half a second.
pub const PLACEMENT_WAIT: Duration = Duration::from_secs(2);

/// Longest page token we read; ours are far shorter.
pub const TOKEN_BYTES_MAX: usize = 1024;

/// ECS: names in one DescribeTasks, DescribeContainerInstances or DescribeClusters call.
pub const DESCRIBE_MAX: usize = 100;
/// ECS: names in one DescribeServices call.
pub const DESCRIBE_SERVICES_MAX: usize = 10;

/// ECS: ARNs in one DescribeServiceDeployments or DescribeServiceRevisions call.
pub const DESCRIBE_DEPLOYMENTS_MAX: usize = 20;

/// Shortest prefix of a task's or an instance's id that is looked up, in hexadecimal digits.
pub const ID_PREFIX_MIN: usize = 6;

/// A manager that answered the leader this recently can be counted on: forty heartbeats.
pub const REACHABLE_WITHIN: Duration = Duration::from_secs(2);

/// How often a removal looks whether Raft's membership has followed; the leader acts every 250 ms.
pub const FOLLOW_LOOK: Duration = Duration::from_millis(50);

/// How long a run's tasks are watched for the scheduler's word, whether the caller waits or not.
pub const SETTLE_MAX: Duration = Duration::from_secs(30);

/// How long an answer waits for a simulated instance or task to get where its caller wants it.
pub const SIMULATED_WAIT: Duration = Duration::from_secs(5);

// ---- the ECS wire protocol's listener ----

/// Connections at once, idle ones included: some 40 KiB each.
pub const WIRE_CONNECTIONS_MAX: usize = 4096;

/// From a TCP accept to a finished TLS handshake.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// From the end of one request to the end of the next one's headers: also how long a connection may
/// be idle. SDKs keep theirs for a minute and open another without a word.
pub const HEAD_READ_MAX: Duration = Duration::from_secs(60);

/// From the end of the headers to the end of the body: 4 MiB at 1.6 Mbit/s.
pub const BODY_READ_MAX: Duration = Duration::from_secs(20);

/// From the first byte of an answer that finds no room until all of it is taken: the longest
/// answer, 16 MiB, at 4.5 Mbit/s.
pub const WRITE_MAX: Duration = Duration::from_secs(30);

/// Longest body that is read as soon as it comes: 4,096 connections with one each are 256 MiB, and
/// ECS's own limit for a task definition, its longest request, is as long.
pub const SMALL_BODY_BYTES_MAX: u64 = 64 * 1024;
/// Longer bodies read and answered at once, 4 MiB each: nobody has proved yet who sends them.
pub const LARGE_BODIES_MAX: usize = 32;

/// Bytes of one request's headers, and how many of them: SDKs send about 1 KiB in 12.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
pub const HEADERS_MAX: usize = 64;
/// AWS: how far the clock of who signs a request may be from ours, either way.
pub const SIGNING_SKEW_MAX: Millis = Millis::from_secs(300);

/// Longest Authorization header of a signed request: ten times what SDKs send.
pub const AUTHORIZATION_BYTES_MAX: usize = 4096;
/// Headers that a signature covers: ten times what SDKs sign.
pub const SIGNED_HEADERS_MAX: usize = 64;
/// Path and query of a signed request; ECS's clients send `/`.
pub const SIGNED_URI_BYTES_MAX: usize = 8192;
/// AWS: characters of an access key id.
pub const ACCESS_KEY_CHARS_MAX: usize = 128;

/// Look-ups of unknown access keys at once, apart from those of certificates: whoever can reach the
/// port can name a key, and must not keep a certificate's holder waiting.
pub const KEY_READS_MAX: usize = 64;

/// One STS form; GetCallerIdentity takes 43 bytes.
pub const STS_FORM_BYTES_MAX: usize = 16 * 1024;
