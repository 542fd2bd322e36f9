//! Renews this agent's certificate between half and four fifths of its life.
//!
//! The connections of now stay; each ends with the certificate it was made with, and the session
//! loop opens the next one.

use crate::session::book::Book;
use muster_identity::{Identity, IdentityPem, new_key_and_csr};
use muster_proto::dispatch as pb;
use muster_proto::dispatch::enroll_client::EnrollClient;
use std::path::Path;
use std::time::{Duration, SystemTime};
use tokio::time::{sleep, timeout};
use tonic::Status;

/// Longest sleep before the wall clock is asked again: it may have been set meanwhile.
const LOOK: Duration = Duration::from_secs(600);
/// Pause after no manager renewed it.
const PAUSE: Duration = Duration::from_secs(60);
const ANSWER_WAIT: Duration = Duration::from_secs(15);

/// Why a renewal failed; it is tried again.
#[derive(Debug, thiserror::Error)]
enum RenewError {
    #[error(transparent)]
    Identity(#[from] muster_identity::Error),
    #[error("{}", .0.message())]
    Manager(#[from] Status),
    #[error("no answer within {ANSWER_WAIT:?}")]
    Silence,
    #[error("writing it failed: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// Runs as long as the agent does. To be dropped when it stops.
pub async fn keep_renewed(identity: &Identity, dir: &Path, book: &Book) {
    loop {
        let due = identity.renew_after(rand::random());
        while let Ok(left) = due.duration_since(SystemTime::now()) {
            sleep(left.min(LOOK)).await;
        }
        let mut renewed = false;
        for address in book.all() {
            match renew(identity, dir, book, &address).await {
                Ok(()) => {
                    tracing::info!(serial = identity.serial(), "certificate renewed");
                    renewed = true;
                    break;
                }
                Err(problem) => tracing::warn!(manager = address, %problem, "not renewed yet"),
            }
        }
        if !renewed {
            sleep(PAUSE).await;
        }
    }
}

async fn renew(
    identity: &Identity,
    dir: &Path,
    book: &Book,
    address: &str,
) -> Result<(), RenewError> {
    let (key, certificate_request_pem) = new_key_and_csr()?;
    let mut client = EnrollClient::new(book.channel(address)?);
    let call = client.renew(pb::RenewRequest { certificate_request_pem });
    let answer = timeout(ANSWER_WAIT, call).await.map_err(|_| RenewError::Silence)??.into_inner();
    identity.replace(IdentityPem { ca: answer.ca_pem, cert: answer.certificate_pem, key })?;
    let (identity, dir) = (identity.clone(), dir.to_owned());
    tokio::task::spawn_blocking(move || identity.save(&dir)).await??;
    Ok(())
}
