//! What a task acts as its task role with: credentials for this cluster's own API, and signed
//! statements of who it is for other systems (docs/decisions/0019).
//!
//! The one place that gives them out. It decides whether the caller may be told: the task is placed
//! on its instance and has not ended. It does not know what a role may do. Invariant: nothing given
//! out here needs an entry of the log, but for the one key that statements are signed with.

use crate::hub::Hub;
use crate::limits::{PROPOSE_WAIT, TASK_CREDENTIALS_LIFETIME, TASK_IDENTITY_LIFETIME};
use crate::placed::placed;
use muster_identity::{Sealed, Session, Sessions, Signer, Vault, key_id};
use muster_model::limits::AUDIENCE_CHARS_MAX;
use muster_model::{
    Command, Entry, Error, InstanceId, Owner, Principal, SigningKey, State, Task, TaskId, Time,
};
use muster_proto::arn::{Arns, name_of};
use muster_proto::dispatch as pb;
use muster_replica::Instant;
use serde_json::{Value, json};
use std::sync::Arc;

/// The role that a task acts as, and the task.
struct Acting<'s> {
    task: &'s Arc<Task>,
    role: String,
}

impl Acting<'_> {
    /// In this cluster's account, whatever account the task definition's ARN names.
    fn arn(&self, state: &State) -> String {
        format!("arn:aws:iam::{}:role/{}", state.meta().account, self.role)
    }
}

/// # Errors
/// As for secrets (`placed`); `Refused` for a task that has ended or has no task role.
fn acting(state: &State, instance: InstanceId, task: TaskId) -> Result<Acting<'_>, Error> {
    let row = placed(state, instance, task, "act for")?;
    // One that is being stopped may still say goodbye.
    if row.ended_at().is_some() {
        return Err(Error::refused(format!("task {task} has ended")));
    }
    let role = state.task_role_of(row);
    let role = role.ok_or_else(|| Error::refused(format!("task {task} has no task role")))?;
    Ok(Acting { task: row, role })
}

/// What `instance` is told for `task` to sign requests with.
///
/// # Errors
/// As `acting`.
pub fn of_task(
    state: &State,
    instance: InstanceId,
    task: TaskId,
    now: Time,
) -> Result<pb::TaskCredentialsResponse, Error> {
    let acting = acting(state, instance, task)?;
    let sessions = Sessions::of(&state.meta().authority.key_pem).map_err(unusable)?;
    let expires_at = now + TASK_CREDENTIALS_LIFETIME;
    let made = sessions.credentials(&Session { role: acting.role.clone(), task, expires_at });
    tracing::debug!(%task, %instance, role = acting.role, "task's credentials told");
    Ok(pb::TaskCredentialsResponse {
        role_arn: acting.arn(state),
        access_key_id: made.access_key_id,
        secret_access_key: made.secret_access_key.reveal().to_owned(),
        token: made.token,
        expires_at_ms: expires_at.0,
    })
}

/// A signed statement of who `task` is, for `audience`.
///
/// # Errors
/// As `acting`; `Unsupported` where no manager's configuration names the issuer, `Invalid` for an
/// audience that is not 1 to 255 printable ASCII characters.
pub async fn identity_of(
    hub: &Hub,
    instance: InstanceId,
    task: TaskId,
    audience: &str,
) -> Result<pb::TaskIdentityResponse, Error> {
    let Some(issuer) = &hub.issuer else {
        return Err(Error::Unsupported {
            feature: "identity tokens of tasks".into(),
            instead: "set `issuer` in the section [ecs] of the managers' configuration".into(),
        });
    };
    let printable = audience.bytes().all(|byte| byte.is_ascii_graphic());
    if !printable || !(1..=AUDIENCE_CHARS_MAX).contains(&audience.len()) {
        let allowed = format!("1 to {AUDIENCE_CHARS_MAX} printable ASCII characters, no spaces");
        return Err(Error::invalid("audience", audience, allowed));
    }
    let read = || hub.replica.read(Instant::now() + PROPOSE_WAIT);
    let mut state = read().await?;
    acting(&state, instance, task)?;
    if state.signing_key().is_none() {
        make_key(hub, &state).await?;
        state = read().await?;
    }
    let acting = acting(&state, instance, task)?;
    let key = state.signing_key().ok_or_else(|| Error::Unavailable {
        why: "the key that statements are signed with is not there yet".into(),
    })?;
    let (from, until) = (hub.now(), hub.now() + TASK_IDENTITY_LIFETIME);
    let claims = claims(&state, &acting, issuer, audience, (from, until));
    let token = signer(&state, key)?.token(&claims).map_err(unusable)?;
    tracing::debug!(%task, %instance, role = acting.role, audience, "task's identity told");
    Ok(pb::TaskIdentityResponse { token, expires_at_ms: until.0 })
}

/// As AWS's own tokens for other systems, whose subject is the role's ARN. Whole seconds.
fn claims(
    state: &State,
    acting: &Acting<'_>,
    issuer: &str,
    audience: &str,
    (from, until): (Time, Time),
) -> Value {
    let cluster = name_of(state, acting.task.cluster);
    let family = state.definition(acting.task.definition).map(|row| row.family.clone());
    let mut claims = json!({
        "iss": issuer,
        "sub": acting.arn(state),
        "aud": audience,
        "iat": from.0 / 1000,
        "nbf": from.0 / 1000,
        "exp": until.0 / 1000,
        "role": acting.role,
        "cluster": cluster,
        "family": family.unwrap_or_default(),
        "task": Arns::of(state).task(&cluster, acting.task.id),
    });
    if let Owner::Service { service, .. } = &acting.task.owner
        && let Some(row) = state.service(*service)
    {
        claims["service"] = json!(row.spec.name);
    }
    claims
}

/// Proposes a new key; the log keeps the first that anybody proposed.
async fn make_key(hub: &Hub, state: &State) -> Result<(), Error> {
    let private = Signer::mint().map_err(unusable)?;
    let public: Arc<[u8]> = Signer::of(&private).map_err(unusable)?.public().into();
    let vault = Vault::of(&state.meta().authority.key_pem).map_err(unusable)?;
    let id = key_id(&public);
    let private = vault.seal(Sealed::SigningKey(&id), &private).map_err(unusable)?;
    let entry = Entry {
        request: hub.ids().request(),
        at: hub.now(),
        by: Principal::Manager(hub.me),
        trace: None,
        command: Command::CreateSigningKey { public, private },
    };
    hub.replica.propose(entry, Instant::now() + PROPOSE_WAIT).await?;
    tracing::info!(key = id, "a key to sign tasks' identities with was proposed");
    Ok(())
}

fn signer(state: &State, key: &SigningKey) -> Result<Signer, Error> {
    let vault = Vault::of(&state.meta().authority.key_pem).map_err(unusable)?;
    let private = vault.open(Sealed::SigningKey(&key_id(&key.public)), &key.private);
    Signer::of(&private.map_err(unusable)?).map_err(unusable)
}

fn unusable(error: muster_identity::Error) -> Error {
    Error::Unavailable { why: format!("task credentials: {error}") }
}
