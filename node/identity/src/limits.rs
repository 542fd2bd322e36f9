//! Every bound of this crate, with its reason.

use std::time::Duration;

/// How long a new authority lives. Nothing rotates it yet, so it outlives the machines.
pub const AUTHORITY_VALIDITY: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// How far before its issue a certificate starts to be valid: the clock skew we forgive.
pub const BACKDATE: Duration = Duration::from_secs(5 * 60);

/// The part of a certificate's life after which it is renewed: from half of it (jitter 0) …
pub const RENEW_FROM: f64 = 0.5;
/// … to this much (jitter 1), so that a fifth is left for managers that are down.
pub const RENEW_UNTIL: f64 = 0.8;

/// Longest cluster or user name in a certificate, in bytes (X.520 allows a common name 64).
pub const NAME_BYTES_MAX: usize = 64;

/// Longest PEM text we parse. A certificate takes 1 KiB; a bundle of eight still fits 16 times.
pub const PEM_BYTES_MAX: usize = 128 * 1024;

/// Most certificates in a bundle of authorities: the current one and those being rotated out.
pub const BUNDLE_MAX: usize = 8;

/// Random bytes in the secret of a join token; printed as twice as many hex digits.
pub const TOKEN_SECRET_BYTES: usize = 16;

/// Longest text read as a join token: three times a real one, so that an error can be specific.
pub const TOKEN_BYTES_MAX: usize = 512;

/// Random bytes in the id of an access key: AWS's sixteen characters of five bits.
pub const ACCESS_KEY_ID_BYTES: usize = 10;

/// Random bytes in the secret of an access key: AWS's forty characters of base64.
pub const ACCESS_KEY_SECRET_BYTES: usize = 30;

/// Longest role in a session token: IAM's.
pub const SESSION_ROLE_BYTES_MAX: usize = muster_model::limits::ROLE_NAME_CHARS_MAX;

/// Longest text read as a session token: three times a real one, which is 57 bytes, the role and a
/// third more for their text.
pub const SESSION_TOKEN_BYTES_MAX: usize = 512;

/// How long a peer may take from TCP accept to a finished handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Handshakes at once per listener. One takes under a millisecond of CPU, so 512 of them are half
/// a second of work; more wait in the kernel's backlog.
pub const HANDSHAKES_MAX: usize = 512;

/// Open connections per listener: 5,000 agents, their neighbours' during a failover, and users.
pub const CONNECTIONS_MAX: usize = 20_000;

/// Open connections without a certificate (joins, health probes), so that strangers cannot use up
/// `CONNECTIONS_MAX`.
pub const ANONYMOUS_MAX: usize = 512;

/// How long a connection without a certificate may last: a join takes seconds.
pub const ANONYMOUS_LIFETIME: Duration = Duration::from_secs(60);

/// How long a refused peer's bytes are read and dropped, so that it sees the alert, not a reset.
pub const LINGER: Duration = Duration::from_secs(1);

/// Pause after `accept` failed for want of a resource (file descriptors), instead of spinning.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// At most one line about refused connections per listener in this time; the line counts the rest.
pub const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(1);

/// How long a client waits for a connection: name, TCP, TLS and the server's first bytes.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a client waits for the server's first bytes, which prove that it was let in. A server
/// that waits for the client to speak first is used all the same after this.
pub const PROOF_TIMEOUT: Duration = Duration::from_secs(1);

/// HTTP/2 ping period of clients.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);

/// How long a ping may go unanswered before the connection is given up: a client finds a dead
/// server in at most six seconds.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(4);

/// HTTP/2 ping period of servers. Whether an agent lives its lease tells; a connection whose client
/// died only has to be closed some time, and the pings of ten thousand cost a tenth of a core at
/// two seconds.
pub const SERVER_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// HTTP/2 window of one stream: a snapshot chunk or a full assignment set without a round trip.
pub const STREAM_WINDOW: u32 = 1024 * 1024;

/// HTTP/2 window of a connection: four busy streams.
pub const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// Concurrent rpcs on one connection; more wait at the client.
pub const STREAMS_MAX: u32 = 4096;
