//! Calls the endpoints of lifecycle hooks: one POST, one answer, within bounds.
//!
//! It says what became of a call and not what that means for a deployment. Invariants: an endpoint
//! costs a manager at most `HOOK_ANSWER_BYTES_MAX` and `HOOK_CALL_WAIT`; nothing that it answers
//! but its `hookStatus` is ever shown or logged; no name leads to a link-local address.

use crate::limits::{HOOK_ANSWER_BYTES_MAX, HOOK_CALL_WAIT};
use muster_proto::convert::hook::{HookStatus, answer, is_link_local};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Certificate, Client, Response, StatusCode, redirect};
use std::error::Error as _;
use std::net::SocketAddr;
use std::sync::Arc;

/// A client of endpoints over HTTP/1.1, in the clear or over TLS. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Endpoints {
    client: Client,
}

#[derive(Debug, thiserror::Error)]
pub enum EndpointsError {
    #[error("the authorities of lifecycle hooks are no PEM certificates: {0}")]
    Authorities(reqwest::Error),
    #[error("calling lifecycle hooks cannot be prepared: {0}")]
    Client(reqwest::Error),
}

/// What became of one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Called {
    Answered(HookStatus),
    /// Nothing that a second call would change: the text completes "the endpoint ...".
    Wrong(String),
    /// Another call may do better: likewise.
    Failed(String),
}

impl Endpoints {
    /// `authorities`: certificates in PEM, or nothing, believed besides the machine's own.
    ///
    /// # Errors
    /// They are none.
    pub fn new(authorities: &[u8]) -> Result<Self, EndpointsError> {
        // One that was chosen before stays: the agent of the same process chooses the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let authorities =
            Certificate::from_pem_bundle(authorities).map_err(EndpointsError::Authorities)?;
        let client = || {
            Client::builder()
                .no_proxy()
                .redirect(redirect::Policy::none())
                .timeout(HOOK_CALL_WAIT)
                // Calls are rare: a kept connection would mostly be found closed.
                .pool_max_idle_per_host(0)
                .dns_resolver(Arc::new(Resolver))
        };
        let client = client().tls_certs_merge(authorities.clone()).build().or_else(|error| {
            // A machine without any authority of its own can still call what these vouch for.
            tracing::warn!(%error, "the machine's own certificate authorities cannot be used");
            client().tls_certs_only(authorities).build()
        });
        Ok(Self { client: client.map_err(EndpointsError::Client)? })
    }

    pub async fn call(&self, url: &str, body: &serde_json::Value) -> Called {
        let request = self.client.post(url).header(CONTENT_TYPE, "application/json");
        match request.body(body.to_string()).send().await {
            Ok(response) => read(response).await,
            Err(error) if error.is_builder() => {
                Called::Wrong("has a URL that none can call".into())
            }
            Err(error) => Called::Failed(format!("cannot be called: {}", cause(&error))),
        }
    }
}

async fn read(mut response: Response) -> Called {
    let status = response.status();
    let transient = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
    if status.is_server_error() || transient.contains(&status) {
        return Called::Failed(format!("answered {status}"));
    }
    if !status.is_success() {
        return Called::Wrong(format!("answered {status}"));
    }
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > HOOK_ANSWER_BYTES_MAX => {
                return Called::Wrong(format!("answered more than {HOOK_ANSWER_BYTES_MAX} bytes"));
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(error) => return Called::Failed(format!("broke off: {}", cause(&error))),
        }
    }
    match answer(&body) {
        Ok(status) => Called::Answered(status),
        // What it said stays unsaid: whoever wrote the URL may not read what stands behind it.
        Err(_) => Called::Wrong("answered no hookStatus that there is".into()),
    }
}

/// The innermost reason, without the URL, whose query is nobody's business.
fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("no answer within {} s", HOOK_CALL_WAIT.as_secs());
    }
    let Some(mut cause) = error.source() else { return "it is unknown why".into() };
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// The machine's own, without link-local addresses; a URL that names one outright never got here.
struct Resolver;

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let usable: Vec<SocketAddr> = found.filter(|at| !is_link_local(at.ip())).collect();
            if usable.is_empty() {
                return Err(format!("{} has no address that may be called", name.as_str()).into());
            }
            Ok(Box::new(usable.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    /// An endpoint that lets everything go on, over TLS with a certificate of its own for
    /// `localhost`: its port, and the certificate.
    async fn endpoint() -> (u16, String) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
        let chain = vec![own.cert.der().clone()];
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
        let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                // Who does not believe it hangs up.
                let Ok(mut stream) = acceptor.accept(socket).await else { continue };
                let mut asked = Vec::new();
                while !asked.ends_with(b"}") {
                    let mut some = [0; 1024];
                    let read = stream.read(&mut some).await.unwrap();
                    asked.extend_from_slice(&some[..read]);
                }
                let body = r#"{"hookStatus": "SUCCEEDED"}"#;
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                stream.write_all((head + body).as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
            }
        });
        (port, own.cert.pem())
    }

    #[tokio::test]
    async fn an_endpoint_over_tls_is_believed_only_by_name_and_authority() {
        let (port, certificate) = endpoint().await;
        let body = serde_json::json!({});
        let believing = Endpoints::new(certificate.as_bytes()).unwrap();
        let named = format!("https://localhost:{port}/ready");
        let answered = believing.call(&named, &body).await;
        assert_eq!(answered, Called::Answered(HookStatus::Succeeded));
        // Another call may do better, when somebody has mended it.
        let elsewhere = believing.call(&format!("https://127.0.0.1:{port}/ready"), &body).await;
        let unknown = Endpoints::new(b"").unwrap().call(&named, &body).await;
        for refused in [elsewhere, unknown] {
            let Called::Failed(why) = &refused else { panic!("{refused:?}") };
            assert!(why.contains("cannot be called") && why.contains("certificate"), "{why}");
        }
    }
}
