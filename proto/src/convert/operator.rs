//! Requests about managers, tokens, users and access keys.

use super::At;
use crate::pb;
use muster_model::command::TokenRole;
use muster_model::{AccessKeyId, AccessKeyStatus, Error, Millis, RaftId, UserRole};

/// A signing request with a 4,096-bit RSA key is below 4 KiB.
const SIGNING_REQUEST_BYTES_MAX: usize = 16 * 1024;
/// Users' certificates: a year unless asked for otherwise, at least a minute, at most ten years.
const VALIDITY_SECS_DEFAULT: i64 = 365 * 24 * 3600;
const VALIDITY_SECS_MIN: i64 = 60;
const VALIDITY_SECS_MAX: i64 = 10 * VALIDITY_SECS_DEFAULT;
/// Fits a certificate's common name (64 characters).
pub const USER_NAME_CHARS_MAX: usize = 64;

/// The id of a member; 0 is none.
pub fn raft_id(field: &str, wire: u64) -> Result<RaftId, Error> {
    match wire {
        0 => Err(Error::invalid(
            field,
            "0",
            "the id of a manager, see `muster operator raft status`",
        )),
        id => Ok(RaftId(id)),
    }
}

pub fn token_role(text: &str) -> Result<TokenRole, Error> {
    match text {
        "manager" => Ok(TokenRole::Manager),
        "worker" => Ok(TokenRole::Worker),
        other => Err(At::Field("role").invalid(other, "manager or worker")),
    }
}

pub fn user_role(text: &str) -> Result<UserRole, Error> {
    match text {
        "admin" => Ok(UserRole::Admin),
        "operator" => Ok(UserRole::Operator),
        "read-only" => Ok(UserRole::ReadOnly),
        "restricted" => Ok(UserRole::Restricted),
        other => Err(At::Field("role").invalid(other, "admin, operator, read-only or restricted")),
    }
}

/// The words that `user_role` reads.
pub fn user_role_name(role: UserRole) -> &'static str {
    match role {
        UserRole::Admin => "admin",
        UserRole::Operator => "operator",
        UserRole::ReadOnly => "read-only",
        UserRole::Restricted => "restricted",
    }
}

pub fn access_key_id(text: &str) -> Result<AccessKeyId, Error> {
    text.parse()
}

pub fn access_key_status(text: &str) -> Result<AccessKeyStatus, Error> {
    match text {
        "Active" => Ok(AccessKeyStatus::Active),
        "Inactive" => Ok(AccessKeyStatus::Inactive),
        other => Err(At::Field("status").invalid(other, "Active or Inactive")),
    }
}

/// The words that `access_key_status` reads; IAM's.
pub fn access_key_status_name(status: AccessKeyStatus) -> &'static str {
    match status {
        AccessKeyStatus::Active => "Active",
        AccessKeyStatus::Inactive => "Inactive",
    }
}

/// What a certificate will say and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewUser {
    pub name: String,
    pub role: UserRole,
    pub certificate_request_pem: String,
    pub validity: Millis,
}

/// CreateUser. That the signing request is one is checked by who signs it.
pub fn create_user(wire: &pb::CreateUserRequest) -> Result<NewUser, Error> {
    user_name(&wire.name)?;
    let request = &wire.certificate_request_pem;
    if request.is_empty() || request.len() > SIGNING_REQUEST_BYTES_MAX {
        let allowed =
            format!("a PEM certificate request of up to {SIGNING_REQUEST_BYTES_MAX} bytes");
        let value = format!("{} bytes", request.len());
        return Err(At::Field("certificateRequestPem").invalid(value, allowed));
    }
    let secs = match wire.validity_seconds {
        0 => VALIDITY_SECS_DEFAULT,
        secs => secs,
    };
    let allowed = VALIDITY_SECS_MIN..=VALIDITY_SECS_MAX;
    let secs = u64::try_from(secs).ok().filter(|_| allowed.contains(&secs)).ok_or_else(|| {
        let allowed = format!("{VALIDITY_SECS_MIN} to {VALIDITY_SECS_MAX}, or 0 for a year");
        At::Field("validitySeconds").invalid(secs, allowed)
    })?;
    Ok(NewUser {
        name: wire.name.clone(),
        role: user_role(&wire.role)?,
        certificate_request_pem: request.clone(),
        validity: Millis::from_secs(secs),
    })
}

/// A user's name as it stands in certificates.
pub fn user_name(text: &str) -> Result<(), Error> {
    user_named("name", text)
}

pub(crate) fn user_named(field: &str, text: &str) -> Result<(), Error> {
    let charset = |b: u8| b.is_ascii_alphanumeric() || b"-_.@".contains(&b);
    if !text.is_empty() && text.len() <= USER_NAME_CHARS_MAX && text.bytes().all(charset) {
        return Ok(());
    }
    let allowed = format!("1 to {USER_NAME_CHARS_MAX} letters, digits and -_.@");
    Err(At::Field(field).invalid(text, allowed))
}
