//! Policies as rows: whose they are, and the text that was written.
//!
//! It does not know what a document says: it is checked where it enters and judged where a request
//! is (`node/api`). Kept as the text itself, so that what is shown is what was put.

use crate::cluster::UserRole;
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a policy is attached to. The order is that of the keys on disk.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Holder {
    /// Every user who has the role.
    Role(UserRole),
    User(Arc<str>),
}

/// A policy of one user or one role, as IAM's inline policies; its name is unique there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    pub holder: Holder,
    pub name: Arc<str>,
    /// IAM's JSON.
    pub document: Arc<str>,
    pub created_at: Time,
    /// When the document was last replaced.
    pub updated_at: Time,
}
