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
