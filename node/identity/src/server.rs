//! The TLS 1.3 acceptor under every gRPC listener, and who is at the other end of a request.
//!
//! It decides whom a handshake lets in: bearers of a valid certificate of the cluster, and, in
//! small numbers and for a short time, peers without one. It does not know what they may do.
//!
//! Invariants: the stream never ends and never yields an error, whatever arrives on the port; a
//! connection lives no longer than the certificate it was made with; nothing outlives the stream
//! but the connections it gave out.

use crate::clock;
use crate::error::Error;
use crate::identity::Identity;
use crate::limits;
use crate::subject::read;
use muster_model::{InstanceId, Principal, RaftId};
use rustls::ServerConfig;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;
use tonic::transport::server::Connected;
use tonic::{Request, Status};

/// Who is at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// What its certificate says; `None` when it sent none.
    pub principal: Option<Principal>,
    /// The serial number of its certificate in lower-case hex.
    pub serial: Option<String>,
    pub addr: SocketAddr,
}

/// Bounds of one listener; the defaults are in [`limits`].
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// From TCP accept to a finished handshake.
    pub handshake_timeout: Duration,
    /// Handshakes at once; further connections wait in the kernel's backlog.
    pub handshakes_max: usize,
    /// Open connections; further ones are closed at once, so that the peer tries another manager.
    pub connections_max: usize,
    /// Of these, connections without a certificate.
    pub anonymous_max: usize,
    /// How long a connection without a certificate may last.
    pub anonymous_lifetime: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            handshake_timeout: limits::HANDSHAKE_TIMEOUT,
            handshakes_max: limits::HANDSHAKES_MAX,
            connections_max: limits::CONNECTIONS_MAX,
            anonymous_max: limits::ANONYMOUS_MAX,
            anonymous_lifetime: limits::ANONYMOUS_LIFETIME,
        }
    }
}

/// Accepts connections on `listener` and does their handshakes as `identity`, which must be a
/// manager's (clients verify that). For `Router::serve_with_incoming`. Dropping it closes the
/// listener and the handshakes under way.
pub fn incoming(listener: TcpListener, identity: Identity, options: Options) -> Incoming {
    if !matches!(identity.principal(), Principal::Manager(_)) {
        tracing::error!(principal = %identity.principal(), "clients will refuse to talk to this \
             listener: only a manager's certificate may serve");
    }
    Incoming {
        listener,
        identity,
        options,
        handshakes: JoinSet::new(),
        connections: Arc::new(Semaphore::new(options.connections_max.min(Semaphore::MAX_PERMITS))),
        anonymous: Arc::new(Semaphore::new(options.anonymous_max.min(Semaphore::MAX_PERMITS))),
        pause: None,
        refusals: Refusals::default(),
    }
}

/// A gRPC server tuned like our client: windows fit a snapshot chunk, and one connection carries
/// many rpcs. Dead peers are found within fourteen seconds.
pub fn grpc_server() -> tonic::transport::Server {
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(limits::SERVER_KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(limits::KEEPALIVE_TIMEOUT))
        .initial_stream_window_size(limits::STREAM_WINDOW)
        .initial_connection_window_size(limits::CONNECTION_WINDOW)
        .max_concurrent_streams(limits::STREAMS_MAX)
}

/// Who sent `request`; `None` when it did not come through this acceptor.
pub fn peer<T>(request: &Request<T>) -> Option<&Peer> {
    request.extensions().get()
}

/// The principal that sent `request`.
///
/// # Errors
/// `Unauthenticated` when it came without a certificate.
pub fn require<T>(request: &Request<T>) -> Result<Principal, Status> {
    match peer(request).and_then(|peer| peer.principal.clone()) {
        Some(principal) => Ok(principal),
        None => Err(Status::unauthenticated(
            "this call needs a client certificate: machines get one by `muster join`, people by \
             `muster user create`",
        )),
    }
}

/// The manager that sent `request`.
///
/// # Errors
/// `Unauthenticated` without a certificate, `PermissionDenied` for any other principal.
pub fn require_manager<T>(request: &Request<T>) -> Result<RaftId, Status> {
    match require(request)? {
        Principal::Manager(id) => Ok(id),
        other => Err(denied(&other, "managers")),
    }
}

/// The container instance whose agent sent `request`.
///
/// # Errors
/// `Unauthenticated` without a certificate, `PermissionDenied` for any other principal.
pub fn require_instance<T>(request: &Request<T>) -> Result<InstanceId, Status> {
    match require(request)? {
        Principal::Instance(id) => Ok(id),
        other => Err(denied(&other, "container instances")),
    }
}

/// The user that sent `request`.
///
/// # Errors
/// `Unauthenticated` without a certificate, `PermissionDenied` for any other principal.
pub fn require_user<T>(request: &Request<T>) -> Result<String, Status> {
    match require(request)? {
        Principal::User(name) => Ok(name),
        other => Err(denied(&other, "users")),
    }
}

fn denied(principal: &Principal, allowed: &str) -> Status {
    Status::permission_denied(format!("{principal} may not call this: it is for {allowed}"))
}

/// The stream of accepted connections; see [`incoming`].
pub struct Incoming {
    listener: TcpListener,
    identity: Identity,
    options: Options,
    handshakes: JoinSet<Result<TlsConn, Refusal>>,
    connections: Arc<Semaphore>,
    anonymous: Arc<Semaphore>,
    /// Runs while accepting is suspended for want of a resource.
    pause: Option<Pin<Box<Sleep>>>,
    refusals: Refusals,
}

impl Incoming {
    /// # Errors
    /// When the operating system does not know it.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    fn start(&mut self, tcp: TcpStream, addr: SocketAddr) {
        let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() else {
            let problem = format!("{} connections are open", self.options.connections_max);
            self.refusals.note(Refusal { addr, problem });
            return;
        };
        let handshake = Handshake {
            addr,
            config: Arc::clone(&self.identity.current().server),
            options: self.options,
            permit,
            anonymous: Arc::clone(&self.anonymous),
        };
        self.handshakes.spawn(handshake.run(tcp));
    }

    fn accept_failed(&mut self, error: &io::Error) {
        use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
        // These are of one connection, which is gone; anything else is of this process.
        if !matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
            tracing::warn!(%error, "cannot accept connections, trying again");
            self.pause = Some(Box::pin(sleep(limits::ACCEPT_PAUSE)));
        }
    }
}

impl Stream for Incoming {
    type Item = io::Result<TlsConn>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            // Asked again after each spawn: an empty set would not remember to wake us.
            while let Poll::Ready(Some(done)) = this.handshakes.poll_join_next(cx) {
                match done {
                    Ok(Ok(connection)) => return Poll::Ready(Some(Ok(connection))),
                    Ok(Err(refusal)) => this.refusals.note(refusal),
                    Err(error) => tracing::error!(%error, "a handshake task failed"),
                }
            }
            if let Some(pause) = &mut this.pause {
                ready!(pause.as_mut().poll(cx));
                this.pause = None;
            }
            if this.handshakes.len() >= this.options.handshakes_max {
                return Poll::Pending;
            }
            match ready!(this.listener.poll_accept(cx)) {
                Ok((tcp, addr)) => this.start(tcp, addr),
                Err(error) => this.accept_failed(&error),
            }
        }
    }
}

/// Why a connection was not let in.
#[derive(Debug)]
struct Refusal {
    addr: SocketAddr,
    problem: String,
}

/// Says that connections are refused, but no more often than once in a second.
#[derive(Default)]
struct Refusals {
    last: Option<Instant>,
    unsaid: u64,
}

impl Refusals {
    fn note(&mut self, refusal: Refusal) {
        let Refusal { addr, problem } = refusal;
        let now = Instant::now();
        let quiet = |last| now.duration_since(last) < limits::REFUSAL_LOG_INTERVAL;
        if self.last.is_some_and(quiet) {
            self.unsaid += 1;
            return;
        }
        self.last = Some(now);
        let unsaid = std::mem::take(&mut self.unsaid);
        tracing::warn!(%addr, problem, others_unsaid = unsaid, "connection refused");
    }
}

/// One connection on its way in.
struct Handshake {
    addr: SocketAddr,
    config: Arc<ServerConfig>,
    options: Options,
    permit: OwnedSemaphorePermit,
    anonymous: Arc<Semaphore>,
}

impl Handshake {
    async fn run(self, tcp: TcpStream) -> Result<TlsConn, Refusal> {
        let deadline = Instant::now() + self.options.handshake_timeout;
        let addr = self.addr;
        let refuse = |problem: String| Refusal { addr, problem };
        // Requests are small and answered at once: waiting to fill a segment only delays them.
        tcp.set_nodelay(true).map_err(|error| refuse(error.to_string()))?;
        let accept = TlsAcceptor::from(Arc::clone(&self.config)).accept(tcp);
        match timeout_at(deadline, accept.into_fallible()).await {
            Ok(Ok(tls)) => self.admit(tls).map_err(refuse),
            Ok(Err((error, tcp))) => {
                drain(tcp, deadline).await;
                Err(refuse(format!("handshake: {error}")))
            }
            Err(_) => {
                let after = self.options.handshake_timeout;
                Err(refuse(format!("handshake not finished within {after:?}")))
            }
        }
    }

    fn admit(self, tls: TlsStream<TcpStream>) -> Result<TlsConn, String> {
        let certificates = tls.get_ref().1.peer_certificates();
        let Some(leaf) = certificates.and_then(|chain| chain.first()) else {
            let Ok(anonymous) = self.anonymous.try_acquire_owned() else {
                let most = self.options.anonymous_max;
                return Err(format!("{most} connections without a certificate are open"));
            };
            let peer = Peer { principal: None, serial: None, addr: self.addr };
            let life = self.options.anonymous_lifetime;
            return Ok(TlsConn::new(tls, peer, life, [Some(self.permit), Some(anonymous)]));
        };
        let facts = read(leaf).map_err(|error| error.to_string())?;
        let life = facts.not_after.duration_since(clock::now());
        let peer =
            Peer { principal: Some(facts.principal), serial: Some(facts.serial), addr: self.addr };
        // The certificate may have ended since it was verified: then so does the connection.
        let life = life.unwrap_or(Duration::ZERO);
        Ok(TlsConn::new(tls, peer, life, [Some(self.permit), None]))
    }
}

/// Lets a refused peer read the alert: closing a socket with bytes unread resets it, and a reset
/// overtakes what was sent before.
async fn drain(mut tcp: TcpStream, deadline: Instant) {
    let deadline = deadline.min(Instant::now() + limits::LINGER);
    let _ = timeout_at(deadline, async {
        tcp.shutdown().await?;
        let mut dropped = [0; 4096];
        while tcp.read(&mut dropped).await? > 0 {}
        io::Result::Ok(())
    })
    .await;
}

/// A connection that was let in.
pub struct TlsConn {
    tls: TlsStream<TcpStream>,
    peer: Peer,
    end: Pin<Box<Sleep>>,
    /// Held, not used: places among the connections and among those without a certificate.
    _places: [Option<OwnedSemaphorePermit>; 2],
}

impl TlsConn {
    fn new(
        tls: TlsStream<TcpStream>,
        peer: Peer,
        life: Duration,
        places: [Option<OwnedSemaphorePermit>; 2],
    ) -> Self {
        Self { tls, peer, end: Box::pin(sleep(life)), _places: places }
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }
}

impl Connected for TlsConn {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for TlsConn {
    /// HTTP/2 always has a read pending, so its end is noticed here, also when nothing is sent.
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.end.as_mut().poll(cx).is_ready() {
            let error = match self.peer.principal {
                Some(_) => "the certificate of this connection has expired",
                None => "a connection without a certificate may not last longer",
            };
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, error)));
        }
        Pin::new(&mut self.tls).poll_read(cx, buf)
    }
}

impl AsyncWrite for TlsConn {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }
}

/// Binds `addr` for [`incoming`].
///
/// # Errors
/// When the address is taken or not ours.
pub async fn bind(addr: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(addr).await.map_err(|source| Error::Listen { addr, source: Arc::new(source) })
}
