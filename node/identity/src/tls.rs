//! The rustls configurations: TLS 1.3 only, ring, HTTP/2, no resumption.
//!
//! Resumption is off on purpose: a resumed session does not verify the certificate again, so it
//! would outlive an expiry or a changed bundle. Connections here are few and long.

use crate::clock::ProcessClock;
use crate::digest::CaDigest;
use crate::error::Error;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, ServerConfig,
    SignatureScheme,
};
use std::sync::Arc;

/// The name every manager's certificate carries and every client verifies.
pub const SERVER_NAME: &str = "manager.muster";

const ALPN: &[u8] = b"h2";

/// Ring, named here and never taken from the process-wide default: no other library can change it.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn refused(error: impl ToString) -> Error {
    Error::crypto("prepare TLS", error)
}

/// Asks for a client certificate, accepts none, and refuses one it cannot verify.
pub fn server(key: Arc<CertifiedKey>, roots: Arc<RootCertStore>) -> Result<ServerConfig, Error> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
        .allow_unauthenticated()
        .build()
        .map_err(refused)?;
    let mut config = ServerConfig::builder_with_details(provider(), Arc::new(ProcessClock))
        .with_protocol_versions(&[&TLS13])
        .map_err(refused)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Presents `key`, and believes servers that `roots` vouch for.
pub fn client(key: Arc<CertifiedKey>, roots: Arc<RootCertStore>) -> Result<ClientConfig, Error> {
    let verifier =
        WebPkiServerVerifier::builder_with_provider(roots, provider()).build().map_err(refused)?;
    let config = ClientConfig::builder_with_details(provider(), Arc::new(ProcessClock))
        .with_protocol_versions(&[&TLS13])
        .map_err(refused)?
        .with_webpki_verifier(verifier)
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    Ok(finish(config))
}

/// Presents nothing, and believes a server whose chain holds the authority with this digest.
pub fn pinned_client(pin: CaDigest) -> Result<ClientConfig, Error> {
    let provider = provider();
    let verifier = PinnedVerifier { pin, provider: Arc::clone(&provider) };
    let config = ClientConfig::builder_with_details(provider, Arc::new(ProcessClock))
        .with_protocol_versions(&[&TLS13])
        .map_err(refused)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(finish(config))
}

fn finish(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config
}

/// The server's chain did not hold the pinned authority.
#[derive(Debug, thiserror::Error)]
#[error("the pinned authority is not in the server's chain")]
pub struct NotPinned {
    /// The authority it did send, if any.
    pub server: Option<CaDigest>,
}

/// Finds the pinned authority in the server's chain, then verifies as usual against it alone.
#[derive(Debug)]
struct PinnedVerifier {
    pin: CaDigest,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let pinned =
            intermediates.iter().find(|certificate| CaDigest::of_der(certificate) == self.pin);
        let Some(authority) = pinned else {
            let server = intermediates.last().map(|last| CaDigest::of_der(last));
            let reason = OtherError(Arc::new(NotPinned { server }));
            return Err(CertificateError::Other(reason).into());
        };
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
                .build()
                .map_err(|error| rustls::Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
