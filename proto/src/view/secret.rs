//! Secrets, without their values.

use super::timestamp;
use crate::pb;
use muster_model::{Secret, SecretVersion};

pub fn secret(row: &Secret) -> pb::SecretRow {
    let version = |row: &SecretVersion| pb::SecretVersionRow {
        version: row.number,
        created_at: Some(timestamp(row.created_at)),
    };
    pb::SecretRow {
        name: row.name.to_string(),
        created_at: Some(timestamp(row.created_at)),
        versions: row.versions.iter().map(version).collect(),
    }
}
