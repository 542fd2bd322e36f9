//! Users, their certificates, access keys and policies.

use super::timestamp;
use crate::convert::operator::{access_key_status_name, user_role_name};
use crate::pb;
use muster_model::{AccessKey, Holder, Policy, User};

pub fn user(row: &User) -> pb::UserRow {
    pb::UserRow {
        name: row.name.to_string(),
        role: user_role_name(row.role).into(),
        created_at: Some(timestamp(row.created_at)),
        serials: row.serials.iter().map(|serial| serial.to_string()).collect(),
    }
}

/// Without its secret.
pub fn access_key(row: &AccessKey) -> pb::AccessKeyRow {
    pb::AccessKeyRow {
        access_key_id: row.id.to_string(),
        user: row.user.to_string(),
        status: access_key_status_name(row.status).into(),
        created_at: Some(timestamp(row.created_at)),
    }
}

/// With its document.
pub fn policy(row: &Policy) -> pb::PolicyRow {
    let (user, role, task_role) = match &row.holder {
        Holder::User(name) => (&**name, "", ""),
        Holder::Role(role) => ("", user_role_name(*role), ""),
        Holder::TaskRole(name) => ("", "", &**name),
    };
    pb::PolicyRow {
        name: row.name.to_string(),
        user: user.into(),
        role: role.into(),
        task_role: task_role.into(),
        document: row.document.to_string(),
        created_at: Some(timestamp(row.created_at)),
        updated_at: Some(timestamp(row.updated_at)),
    }
}
