//! Who? A certificate of this cluster says a name, an access key has a user, a session token names
//! a task; the state says whether they still count.
//!
//! `judge` is pure. What it cannot know from this manager's state, because the state may be behind,
//! is asked of the leader once (`Authn::caller`, `key_holder`); what the state knows to be revoked
//! is refused at once, also without a quorum.
//! Invariant: a removed user, manager, instance or access key, and a task that ended, is refused
//! from the entry on that says so.

use crate::authz::Caller;
use crate::limits::{AUTHN_READ_MAX, AUTHN_READS_MAX, KEY_READS_MAX};
use crate::sigv4::Refusal;
use muster_identity::{Peer, Sealed, SecretText, Session, Sessions, Vault};
use muster_model::{AccessKeyId, AccessKeyStatus, Error, InstanceStatus, Principal, State, Time};
use muster_proto::error::to_status;
use muster_replica::Replica;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tonic::Status;

/// What a state says of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Known(Caller),
    /// Not in this state; a newer one may have it.
    Unknown(String),
    /// Removed: no newer state brings it back.
    Revoked(String),
}

/// What `state` says of `peer`.
pub fn judge(state: &State, peer: &Peer) -> Verdict {
    match &peer.principal {
        None => Verdict::Known(Caller::Nobody),
        Some(Principal::User(name)) => user(state, name, peer.serial.as_deref().unwrap_or("")),
        Some(Principal::Instance(id)) => match state.instance(*id) {
            None => Verdict::Unknown(format!(
                "container instance {id} is not known here; if its row is gone, remove its data \
                 directory and run `muster join` with a new token"
            )),
            Some(row) if row.status == InstanceStatus::Inactive => Verdict::Revoked(format!(
                "container instance {id} was deregistered; to use the machine again, remove its \
                 data directory and run `muster join` with a new token"
            )),
            Some(_) => Verdict::Known(Caller::Instance(*id)),
        },
        // Unknown managers pass: one that lags must hear the newer ones that bring it up to date,
        // and only the authority, under a leader's eyes, signs for managers.
        Some(Principal::Manager(id)) => match state.manager(*id).and_then(|row| row.removed_at) {
            Some(_) => Verdict::Revoked(format!(
                "manager {id} was removed; to use the machine again, remove its data directory \
                 and run `muster join` with a new token"
            )),
            None => Verdict::Known(Caller::Manager(*id)),
        },
        // Nobody issues one.
        Some(Principal::AssumedRole { .. }) => {
            Verdict::Revoked("a task role has no certificate".into())
        }
    }
}

fn user(state: &State, name: &str, serial: &str) -> Verdict {
    let Some(row) = state.user(name) else {
        return Verdict::Unknown(format!(
            "user {name:?} is not known; an administrator can run `muster user create {name}`"
        ));
    };
    if row.serials.iter().any(|listed| **listed == *serial) && row.removed_at.is_none() {
        return Verdict::Known(Caller::User { name: name.to_owned(), role: row.role });
    }
    match row.removed_at {
        // A user created again under the same name is unknown, not revoked, to a state behind.
        Some(_) => Verdict::Unknown(format!("user {name:?} was removed")),
        None => Verdict::Unknown(format!(
            "this certificate of user {name:?} (serial {serial}) is not listed any more; an \
             administrator can run `muster user create {name}` for a new one"
        )),
    }
}

/// Decides who calls, with the state at hand or a newer one.
pub struct Authn {
    replica: Replica,
    reads: Semaphore,
    key_reads: Semaphore,
}

impl Authn {
    pub fn new(replica: Replica) -> Self {
        let (reads, key_reads) = (Semaphore::new(AUTHN_READS_MAX), Semaphore::new(KEY_READS_MAX));
        Self { replica, reads, key_reads }
    }

    /// Whether any policy is attached to the caller or its role.
    pub fn has_policies(&self, caller: &Caller) -> bool {
        self.replica.state().has_policies(&caller.holders())
    }

    /// Who `peer` is.
    ///
    /// # Errors
    /// `Unauthenticated` for a certificate that does not count, `Unavailable` when this manager
    /// does not know it and cannot ask the leader.
    pub async fn caller(&self, peer: &Peer) -> Result<Caller, Status> {
        match judge(&self.replica.state(), peer) {
            Verdict::Known(caller) => return Ok(caller),
            Verdict::Revoked(why) => return Err(Status::unauthenticated(why)),
            Verdict::Unknown(_) => {}
        }
        let Ok(_permit) = self.reads.try_acquire() else {
            return Err(unavailable(format!(
                "{AUTHN_READS_MAX} unknown certificates are being looked up already; try again"
            )));
        };
        let state = self.replica.read(Instant::now() + AUTHN_READ_MAX).await.map_err(|error| {
            unavailable(format!(
                "this manager does not know the certificate and cannot ask the leader: {error}"
            ))
        })?;
        match judge(&state, peer) {
            Verdict::Known(caller) => Ok(caller),
            Verdict::Unknown(why) | Verdict::Revoked(why) => Err(Status::unauthenticated(why)),
        }
    }
}

/// Why an access key does not say who calls.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It does not count: unknown, inactive, deleted, or its user is gone.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// This manager cannot tell.
    #[error(transparent)]
    Unavailable(Error),
}

impl Authn {
    /// Who acts with `access_key`, and the secret that their requests are signed with: a user, or
    /// with a session `token` a task. Nothing is proven yet: whoever names a key is its holder once
    /// `Signature::verify` agrees.
    ///
    /// # Errors
    /// `Refused` says the same of every key that does not count, so that nobody learns which exist.
    /// `Unavailable` when this manager does not know the key and cannot ask the leader.
    pub async fn key_holder(
        &self,
        access_key: &str,
        token: Option<&str>,
        now: Time,
    ) -> Result<(Caller, SecretText), KeyError> {
        let of_task = access_key.starts_with(AccessKeyId::TEMPORARY_PREFIX);
        match (token, of_task) {
            (None, false) => {
                let id: AccessKeyId = access_key.parse().map_err(|_| unknown_key())?;
                self.found(|state| holder(state, id)).await
            }
            (Some(token), true) => {
                let state = self.replica.state();
                let (session, secret) = session(&state, access_key, token)?;
                if session.expires_at <= now {
                    return Err(KeyError::Refused(Refusal::Expired(String::new())));
                }
                self.found(|state| task(state, &session, &secret)).await
            }
            (Some(_), false) => {
                let why = "access keys of users have no session token: unset AWS_SESSION_TOKEN";
                Err(KeyError::Refused(Refusal::UnknownKey(why.into())))
            }
            (None, true) => {
                let why = "a task's credentials have a session token: set AWS_SESSION_TOKEN";
                Err(KeyError::Refused(Refusal::UnknownKey(why.into())))
            }
        }
    }

    /// What `look` finds in the state at hand or a newer one.
    async fn found(
        &self,
        look: impl Fn(&State) -> Option<Result<(Caller, SecretText), KeyError>>,
    ) -> Result<(Caller, SecretText), KeyError> {
        if let Some(found) = look(&self.replica.state()) {
            return found;
        }
        let Ok(_permit) = self.key_reads.try_acquire() else {
            let why = format!(
                "{KEY_READS_MAX} unknown access keys are being looked up already; try again"
            );
            return Err(KeyError::Unavailable(Error::Unavailable { why }));
        };
        let state = self.replica.read(Instant::now() + AUTHN_READ_MAX).await.map_err(|error| {
            let why = format!(
                "this manager does not know the access key and cannot ask the leader: {error}"
            );
            KeyError::Unavailable(Error::Unavailable { why })
        })?;
        look(&state).unwrap_or_else(|| Err(unknown_key()))
    }
}

/// `None`: it does not count in this state; a newer one may have it.
fn holder(state: &State, id: AccessKeyId) -> Option<Result<(Caller, SecretText), KeyError>> {
    let key = state.access_key(id).filter(|row| row.status == AccessKeyStatus::Active)?;
    let user = state.user(&key.user).filter(|row| row.removed_at.is_none())?;
    let caller = Caller::User { name: user.name.to_string(), role: user.role };
    let opened = Vault::of(&state.meta().authority.key_pem)
        .and_then(|vault| vault.open(Sealed::AccessKey(id), &key.secret));
    Some(
        opened
            .map(|secret| (caller, secret))
            .map_err(|error| unusable(format!("access key {id}"), &error)),
    )
}

/// What a token of this cluster says, if it belongs to the key, and the secret of both.
fn session(state: &State, key: &str, token: &str) -> Result<(Session, SecretText), KeyError> {
    let sessions = Sessions::of(&state.meta().authority.key_pem)
        .map_err(|error| unusable("session token".into(), &error))?;
    let session = sessions.read(token).ok_or_else(unknown_key)?;
    let credentials = sessions.credentials(&session);
    match credentials.access_key_id == key {
        true => Ok((session, credentials.secret_access_key)),
        false => Err(unknown_key()),
    }
}

/// `None`: the task is not in this state; a newer one may have it.
fn task(
    state: &State,
    session: &Session,
    secret: &SecretText,
) -> Option<Result<(Caller, SecretText), KeyError>> {
    let Session { role, task, .. } = session;
    let row = state.task(*task)?;
    if row.ended_at().is_some() {
        let why = format!("task {task} has ended");
        return Some(Err(KeyError::Refused(Refusal::Expired(why))));
    }
    if state.task_role_of(row).as_ref() != Some(role) {
        return Some(Err(unknown_key()));
    }
    Some(Ok((Caller::AssumedRole { role: role.clone(), task: *task }, secret.clone())))
}

fn unknown_key() -> KeyError {
    KeyError::Refused(Refusal::UnknownKey(String::new()))
}

/// The cluster's own authority cannot be used: nothing the caller sent is at fault.
fn unusable(what: String, error: &muster_identity::Error) -> KeyError {
    KeyError::Unavailable(Error::Unavailable { why: format!("{what}: {error}") })
}

fn unavailable(why: String) -> Status {
    to_status(&Error::Unavailable { why })
}
