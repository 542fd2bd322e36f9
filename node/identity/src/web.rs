//! TLS for programs that bring no certificate of ours: the ECS door's side of a handshake.
//!
//! It proves who serves and asks nothing of the peer, who signs each request instead. Its
//! certificate can be replaced while it serves. It does not know what is served.

use crate::error::Error;
use crate::tls::provider;
use crate::{clock::ProcessClock, pem};
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

const ALPN: &[u8] = b"http/1.1";

/// A certificate chain and its key, as handshakes present them; clones are one.
#[derive(Clone)]
pub struct Web {
    current: Arc<Current>,
    acceptor: TlsAcceptor,
}

struct Current(RwLock<Arc<CertifiedKey>>);

impl Web {
    /// # Errors
    /// When a text is not PEM, or the key is not the first certificate's.
    pub fn new(chain_pem: &str, key_pem: &str) -> Result<Self, Error> {
        let current = Arc::new(Current(RwLock::new(Arc::new(certified(chain_pem, key_pem)?))));
        let refused = |error: rustls::Error| Error::crypto("prepare TLS", error);
        let mut config = ServerConfig::builder_with_details(provider(), Arc::new(ProcessClock))
            .with_protocol_versions(&[&TLS13])
            .map_err(refused)?
            .with_no_client_auth()
            .with_cert_resolver(current.clone());
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self { current, acceptor: TlsAcceptor::from(Arc::new(config)) })
    }

    /// What handshakes present from the next one on.
    ///
    /// # Errors
    /// As `new`; nothing changes then.
    pub fn replace(&self, chain_pem: &str, key_pem: &str) -> Result<(), Error> {
        let key = Arc::new(certified(chain_pem, key_pem)?);
        *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = key;
        Ok(())
    }

    /// Does the handshake of an accepted connection. It has no limit of its own in time.
    ///
    /// # Errors
    /// What the socket or the peer's TLS says.
    pub async fn accept(&self, socket: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        self.acceptor.accept(socket).await
    }
}

fn certified(chain_pem: &str, key_pem: &str) -> Result<CertifiedKey, Error> {
    let chain = pem::certificates("certificate", chain_pem)?;
    let key = pem::private_key("key", key_pem)?;
    CertifiedKey::from_der(chain, key, &provider())
        .map_err(|error| Error::crypto("use a certificate and its key", error))
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Current").finish_non_exhaustive()
    }
}

impl fmt::Debug for Web {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Web").finish_non_exhaustive()
    }
}
