//! Requests about policies: whose, under which name, and the document, which `document` reads.
//!
//! It does not judge requests by policies (`node/api`), nor know which users there are (`apply`).

mod condition;
mod document;
mod pattern;

pub use condition::{Condition, Key};
pub use document::{Document, Effect, Listed, Resource, Statement, document};
pub use pattern::{ArnPattern, Pattern};

use super::At;
use super::operator::{user_named, user_role};
use crate::pb;
use muster_model::limits::POLICY_NAME_CHARS_MAX;
use muster_model::{Command, Error, Holder, task_role_name};
use std::sync::Arc;

const ONE_HOLDER: &str = "one of a user, a role and a task role";

/// PutPolicy.
pub fn put(wire: &pb::PutPolicyRequest) -> Result<Command, Error> {
    let (holder, name) = (holder(&wire.user, &wire.role, &wire.task_role)?, name(&wire.name)?);
    document(&wire.document)?;
    Ok(Command::PutPolicy { holder, name, document: Arc::from(wire.document.as_str()) })
}

/// DeletePolicy.
pub fn delete(wire: &pb::DeletePolicyRequest) -> Result<Command, Error> {
    let (holder, name) = (holder(&wire.user, &wire.role, &wire.task_role)?, name(&wire.name)?);
    Ok(Command::DeletePolicy { holder, name })
}

/// Whose policy is meant: a user's, a role's or a task role's.
pub fn holder(user: &str, role: &str, task_role: &str) -> Result<Holder, Error> {
    match (user, role, task_role) {
        ("", "", "") => {
            let allowed = "the name of a user; or name a role or a task role";
            Err(At::Field("user").invalid("", allowed))
        }
        (user, "", "") => {
            user_named("user", user)?;
            Ok(Holder::User(Arc::from(user)))
        }
        ("", role, "") => user_role(role).map(Holder::Role),
        ("", "", name) => Ok(Holder::TaskRole(Arc::from(task_role_name("taskRole", name)?))),
        (_, "", both) => Err(At::Field("taskRole").invalid(both, ONE_HOLDER)),
        (_, role, _) => Err(At::Field("role").invalid(role, ONE_HOLDER)),
    }
}

/// IAM's characters of a policy's name.
pub fn name(text: &str) -> Result<Arc<str>, Error> {
    let charset = |b: u8| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b);
    if !text.is_empty() && text.len() <= POLICY_NAME_CHARS_MAX && text.bytes().all(charset) {
        return Ok(Arc::from(text));
    }
    let allowed = format!("1 to {POLICY_NAME_CHARS_MAX} letters, digits and _+=,.@-");
    Err(At::Field("name").invalid(text, allowed))
}
