//! Secrets and configs, without their values.

use super::timestamp;
use crate::pb;
use muster_model::{Secret, SecretVersion, config};

pub fn secret(row: &Secret) -> pb::SecretRow {
    pb::SecretRow {
        name: row.name.to_string(),
        created_at: Some(timestamp(row.created_at)),
        versions: versions(row),
    }
}

/// The config that is kept as this secret; none if it is a secret indeed.
pub fn config(row: &Secret) -> Option<pb::ConfigRow> {
    let name = config::name_of(&row.name)?;
    Some(pb::ConfigRow {
        name: name.to_owned(),
        created_at: Some(timestamp(row.created_at)),
        versions: versions(row),
    })
}

fn versions(row: &Secret) -> Vec<pb::SecretVersionRow> {
    let version = |row: &SecretVersion| pb::SecretVersionRow {
        version: row.number,
        created_at: Some(timestamp(row.created_at)),
    };
    row.versions.iter().map(version).collect()
}
