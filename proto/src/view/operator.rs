//! Users and their certificates.

use super::timestamp;
use crate::convert::operator::user_role_name;
use crate::pb;
use muster_model::User;

pub fn user(row: &User) -> pb::UserRow {
    pb::UserRow {
        name: row.name.to_string(),
        role: user_role_name(row.role).into(),
        created_at: Some(timestamp(row.created_at)),
        serials: row.serials.iter().map(|serial| serial.to_string()).collect(),
    }
}
