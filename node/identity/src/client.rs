//! The TLS 1.3 connector under every gRPC client: agent, manager, joining machine and CLI.
//!
//! It decides whom we believe to be a manager. It does not know which manager leads, nor when to
//! try again; a channel reconnects by itself, with the identity of that moment.
//!
//! Invariant: a connected channel was let in. With TLS 1.3 a client is done before the server has
//! looked at its certificate, so the connector waits for the server's first bytes: a refusal is an
//! error of `connect`, with its reason, and not of some later rpc.

use crate::digest::CaDigest;
use crate::error::Error;
use crate::identity::Identity;
use crate::limits;
use crate::tls::{self, NotPinned, SERVER_NAME};
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConfig};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

/// How a client waits; the defaults are in [`limits`].
#[derive(Clone, Copy, Debug)]
pub struct ConnectOptions {
    /// For all of a connection: name, TCP, TLS, the server's first bytes.
    pub connect_timeout: Duration,
    /// HTTP/2 ping period.
    pub keepalive_interval: Duration,
    /// Whether a connection without a call is pinged too. One that is not may be found dead only by
    /// its next call.
    pub keepalive_while_idle: bool,
    /// How long a ping may go unanswered before the connection is given up.
    pub keepalive_timeout: Duration,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            connect_timeout: limits::CONNECT_TIMEOUT,
            keepalive_interval: limits::KEEPALIVE_INTERVAL,
            keepalive_while_idle: true,
            keepalive_timeout: limits::KEEPALIVE_TIMEOUT,
        }
    }
}

/// Connects to managers, believing whom it was told to believe.
#[derive(Clone, Debug)]
pub struct Connector {
    trust: Trust,
}

#[derive(Clone, Debug)]
enum Trust {
    /// We present a certificate and believe our authorities.
    Identity(Identity),
    /// We have no certificate yet and believe one authority, by its digest.
    Pinned(CaDigest),
}

impl Connector {
    /// Presents `identity` and believes managers that its authorities vouch for.
    pub fn new(identity: Identity) -> Self {
        let trust = Trust::Identity(identity);
        Self { trust }
    }

    /// Presents no certificate, and believes a manager of the cluster whose authority has this
    /// digest, and no other: for joining with a token.
    pub fn pinned(authority: CaDigest) -> Self {
        let trust = Trust::Pinned(authority);
        Self { trust }
    }

    /// A channel to the manager at `addr` (`host:port`), connected and let in.
    ///
    /// # Errors
    /// When there is no such manager, it is not of our cluster, or it does not want us.
    pub async fn connect(&self, addr: &str, options: ConnectOptions) -> Result<Channel, Error> {
        let (endpoint, dialer) = self.prepare(addr, options)?;
        let connected = endpoint
            .connect_with_connector(tower::service_fn(move |_: Uri| dialer.clone().dial()))
            .await;
        connected.map_err(|error| match Error::find(&error) {
            Some(ours) => ours.clone(),
            None => Error::Tls { addr: addr.to_owned(), problem: error.to_string() },
        })
    }

    /// A channel that connects at its first rpc and again whenever it must. A failure to connect
    /// is that rpc's `Unavailable`; [`Error::find`] has the cause. Needs a tokio runtime.
    ///
    /// # Errors
    /// When `addr` is not `host:port`.
    pub fn connect_lazy(&self, addr: &str, options: ConnectOptions) -> Result<Channel, Error> {
        let (endpoint, dialer) = self.prepare(addr, options)?;
        let connect = tower::service_fn(move |_: Uri| dialer.clone().dial());
        Ok(endpoint.connect_with_connector_lazy(connect))
    }

    fn prepare(&self, addr: &str, options: ConnectOptions) -> Result<(Endpoint, Dialer), Error> {
        check_address(addr)?;
        // The dialer knows the address; the URI is what requests say they are for. Its scheme is
        // http because tonic would otherwise look for a TLS of its own.
        let endpoint = Endpoint::from_static("http://manager.muster")
            .origin(Uri::from_static("https://manager.muster"))
            .http2_keep_alive_interval(options.keepalive_interval)
            .keep_alive_timeout(options.keepalive_timeout)
            .keep_alive_while_idle(options.keepalive_while_idle)
            .initial_stream_window_size(limits::STREAM_WINDOW)
            .initial_connection_window_size(limits::CONNECTION_WINDOW);
        let dialer = Dialer {
            addr: Arc::from(addr),
            trust: self.trust.clone(),
            timeout: options.connect_timeout,
        };
        Ok((endpoint, dialer))
    }
}

/// # Errors
/// `addr` is not `host:port`.
pub fn check_address(addr: &str) -> Result<(), Error> {
    let bad = |problem| {
        Err(Error::Address { addr: addr.chars().take(limits::NAME_BYTES_MAX).collect(), problem })
    };
    let Some((host, port)) = addr.rsplit_once(':') else {
        return bad("no port");
    };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    if host.is_empty() || host.contains('/') || !host.bytes().all(|b| b.is_ascii_graphic()) {
        return bad("no host name or address before the port");
    }
    if host.contains(':') && !bracketed {
        return bad("an IPv6 address needs brackets");
    }
    match port.parse::<u16>() {
        Ok(port) if port > 0 => Ok(()),
        _ => bad("the port must be a number from 1 to 65535"),
    }
}

/// Makes one connection after the other to one address.
#[derive(Clone)]
struct Dialer {
    addr: Arc<str>,
    trust: Trust,
    timeout: Duration,
}

impl Dialer {
    async fn dial(self) -> Result<TokioIo<ClientConn>, Error> {
        let deadline = Instant::now() + self.timeout;
        let tcp = timeout_at(deadline, TcpStream::connect(&*self.addr))
            .await
            .map_err(|_| self.timed_out("TCP connection"))?
            .map_err(|error| self.lost(error))?;
        // Requests are small and waited for: filling a segment first only delays them.
        tcp.set_nodelay(true).map_err(|error| self.lost(error))?;
        let name = ServerName::try_from(SERVER_NAME)
            .map_err(|error| Error::crypto("name the server", error))?;
        let handshake = TlsConnector::from(self.config()?).connect(name, tcp);
        let tls = timeout_at(deadline, handshake)
            .await
            .map_err(|_| self.timed_out("TLS handshake"))?
            .map_err(|error| self.explain(error))?;
        self.prove(tls, deadline).await.map(TokioIo::new)
    }

    /// The identity of this moment, so that a renewed one is used without a restart.
    fn config(&self) -> Result<Arc<ClientConfig>, Error> {
        match &self.trust {
            Trust::Identity(identity) => Ok(Arc::clone(&identity.current().client)),
            Trust::Pinned(authority) => Ok(Arc::new(tls::pinned_client(*authority)?)),
        }
    }

    /// Waits until the server says something, which it does only to whom it let in.
    async fn prove(
        &self,
        mut tls: TlsStream<TcpStream>,
        deadline: Instant,
    ) -> Result<ClientConn, Error> {
        let mut first = vec![0; 1024];
        let patience = deadline.min(Instant::now() + limits::PROOF_TIMEOUT);
        let length = match timeout_at(patience, tls.read(&mut first)).await {
            Ok(Ok(0)) => {
                let closed = "the server closed the connection: it may have too many";
                return Err(self.lost(io::Error::new(io::ErrorKind::ConnectionReset, closed)));
            }
            Ok(Ok(length)) => length,
            Ok(Err(error)) => return Err(self.explain(error)),
            // It waits for us, or is slow: the first rpc will tell.
            Err(_) => 0,
        };
        first.truncate(length);
        Ok(ClientConn { tls, first, given: 0 })
    }

    fn timed_out(&self, stage: &'static str) -> Error {
        Error::Timeout { addr: self.addr.to_string(), stage, after: self.timeout }
    }

    fn lost(&self, error: io::Error) -> Error {
        Error::Connect { addr: self.addr.to_string(), source: Arc::new(error) }
    }

    /// What a failed handshake means, and what to do about it.
    fn explain(&self, error: io::Error) -> Error {
        let addr = self.addr.to_string();
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        let Some(inner) = inner else {
            return self.lost(error);
        };
        match inner {
            rustls::Error::AlertReceived(alert) => {
                Error::Refused { addr, problem: refusal(*alert) }
            }
            rustls::Error::InvalidCertificate(reason) => self.disbelief(reason),
            rustls::Error::InvalidMessage(_) => Error::Tls {
                addr,
                problem: "the server does not speak TLS: is this the manager's port?".to_owned(),
            },
            other => Error::Tls { addr, problem: other.to_string() },
        }
    }

    /// Why we do not believe the server.
    fn disbelief(&self, reason: &CertificateError) -> Error {
        let addr = self.addr.to_string();
        if let (Trust::Pinned(token), CertificateError::Other(other)) = (&self.trust, reason)
            && let Some(NotPinned { server }) = other.0.downcast_ref()
        {
            return Error::OtherCluster { addr, token: *token, server: *server };
        }
        use CertificateError as E;
        let problem = match reason {
            E::UnknownIssuer | E::BadSignature => {
                "another authority issued its certificate; check the address".to_owned()
            }
            E::Expired | E::ExpiredContext { .. } => {
                "its certificate has expired; compare the clocks of both machines (`date -u`), and \
                 see why it did not renew"
                    .to_owned()
            }
            E::NotValidYet | E::NotValidYetContext { .. } => {
                "its certificate is not valid yet; compare the clocks of both machines (`date -u`)"
                    .to_owned()
            }
            E::NotValidForName
            | E::NotValidForNameContext { .. }
            | E::InvalidPurpose
            | E::InvalidPurposeContext { .. } => {
                format!("its certificate is not a manager's ({reason})")
            }
            other => other.to_string(),
        };
        Error::Server { addr, problem }
    }
}

fn refusal(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateExpired => {
            "it has expired or is not valid yet; compare the clocks of both machines (`date -u`), \
             and if it is old, run `muster join` again"
                .to_owned()
        }
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            "another authority issued it: this manager is of another cluster; check the address"
                .to_owned()
        }
        other => format!("TLS alert {other:?}"),
    }
}

/// A connection whose first bytes were read ahead.
struct ClientConn {
    tls: TlsStream<TcpStream>,
    first: Vec<u8>,
    /// How many of `first` the reader has.
    given: usize,
}

impl AsyncRead for ClientConn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let rest = this.first.get(this.given..).unwrap_or_default();
        if rest.is_empty() {
            return Pin::new(&mut this.tls).poll_read(cx, buf);
        }
        let length = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..length]);
        this.given += length;
        if this.given == this.first.len() {
            // Long connections need not keep it.
            this.first = Vec::new();
            this.given = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ClientConn {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for good in ["10.0.0.1:7700", "manager-1.example.org:1", "[::1]:65535"] {
            assert!(check_address(good).is_ok(), "{good}");
        }
        for bad in ["", "10.0.0.1", ":7700", "a:0", "a:65536", "a:b", "::1:7700", "http://a:1"] {
            assert!(check_address(bad).is_err(), "{bad}");
        }
    }
}
