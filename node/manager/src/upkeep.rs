//! What every manager does for itself, leading or not: says in the log where it is reached and what
//! it can apply, and renews its own certificate.
//!
//! Every manager holds the authority through the log, so it signs for itself, and for nobody else
//! here.

use crate::hub::Hub;
use crate::limits::{CERTIFICATE_VALIDITY, ENROLL_WAIT, RENEW_PAUSE};
use crate::wire;
use muster_identity::{IdentityPem, new_key_and_csr};
use muster_model::{Command, Entry, Principal};
use muster_replica::Instant;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Longest sleep before the wall clock is asked again: it may have been set meanwhile.
const LOOK: Duration = Duration::from_secs(600);

/// Makes this manager's row say `address` and `level`. Ends when it does.
pub async fn announce(hub: &Hub, address: &str, level: u32) {
    let mut states = hub.replica.watch();
    loop {
        let me = |state: &std::sync::Arc<muster_model::State>| state.manager(hub.me).cloned();
        let row = match states.wait_for(|state| me(state).is_some()).await {
            Ok(state) => me(&state),
            Err(_) => return,
        };
        let Some(row) = row else { continue };
        if row.removed_at.is_some() || (*row.address == *address && row.level == level) {
            return;
        }
        let entry = Entry {
            request: hub.ids().request(),
            at: hub.now(),
            by: Principal::Manager(hub.me),
            trace: None,
            command: Command::UpdateManager { manager: hub.me, address: address.into(), level },
        };
        match hub.replica.propose(entry, Instant::now() + ENROLL_WAIT).await {
            Ok(_) => tracing::info!(address, level, "manager's row updated"),
            Err(error) => {
                tracing::warn!(%error, "manager's row not updated yet");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Renews this manager's certificate for as long as it runs.
pub async fn renew(hub: &Hub, dir: Option<&Path>) {
    loop {
        let due = hub.identity.renew_after(rand::random());
        while let Ok(left) = due.duration_since(SystemTime::now()) {
            tokio::time::sleep(left.min(LOOK)).await;
        }
        match renew_once(hub, dir).await {
            Ok(()) => tracing::info!(serial = hub.identity.serial(), "own certificate renewed"),
            Err(problem) => {
                tracing::warn!(%problem, "own certificate not renewed yet");
                tokio::time::sleep(RENEW_PAUSE).await;
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum RenewError {
    #[error(transparent)]
    State(#[from] muster_model::Error),
    #[error(transparent)]
    Identity(#[from] muster_identity::Error),
    #[error("this manager was removed from the cluster")]
    Removed,
    #[error("writing it failed: {0}")]
    Task(#[from] tokio::task::JoinError),
}

async fn renew_once(hub: &Hub, dir: Option<&Path>) -> Result<(), RenewError> {
    let state = hub.replica.state();
    if state.manager(hub.me).is_none_or(|row| row.removed_at.is_some()) {
        return Err(RenewError::Removed);
    }
    let authority = hub.authority(&state)?;
    let (key, csr) = new_key_and_csr()?;
    let principal = Principal::Manager(hub.me);
    let now = wire::system_time(hub.now());
    let issued = authority.issue(&csr, &principal, CERTIFICATE_VALIDITY, now)?;
    let ca = authority.cert_pem().to_owned();
    hub.identity.replace(IdentityPem { ca, cert: issued.cert_pem, key })?;
    if let Some(dir) = dir {
        let (identity, dir) = (hub.identity.clone(), dir.to_owned());
        tokio::task::spawn_blocking(move || identity.save(&dir)).await??;
    }
    Ok(())
}
