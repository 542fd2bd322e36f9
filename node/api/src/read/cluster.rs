//! Clusters as callers see them.

use super::wants_tags;
use crate::limits::DESCRIBE_MAX;
use crate::page::Page;
use crate::show;
use muster_model::cluster::DEFAULT_CLUSTER;
use muster_model::{ClusterStatus, Error, State};
use muster_proto::arn::{self, Arns};
use muster_proto::convert::some_names;
use muster_proto::view::missing;
use muster_proto::{pb, spelled};

/// ECS: no names mean the default cluster.
///
/// # Errors
/// `Invalid` for too many names and for what cannot be included.
pub fn describe(
    state: &State,
    request: &pb::DescribeClustersRequest,
) -> Result<pb::DescribeClustersResponse, Error> {
    let default = [DEFAULT_CLUSTER.to_owned()];
    let names = match request.clusters.is_empty() {
        true => &default[..],
        false => &request.clusters[..],
    };
    some_names("clusters", names, DESCRIBE_MAX)?;
    // Of attachments and configurations there are none.
    wants_tags(&request.include, spelled::CLUSTER_FIELD)?;
    let mut answer = pb::DescribeClustersResponse::default();
    let mut found = Vec::new();
    for text in names {
        match arn::cluster_or_deleted(state, text) {
            Ok(row) => found.push(&**row),
            Err(Error::NotFound { name, .. }) => {
                answer.failures.push(missing(Arns::of(state).cluster(&name)));
            }
            Err(error) => return Err(error),
        }
    }
    answer.clusters = show::clusters(state, found, &request.include);
    Ok(answer)
}

/// Active clusters by name.
///
/// # Errors
/// `Invalid` for a bad page.
pub fn list(
    state: &State,
    request: &pb::ListClustersRequest,
) -> Result<pb::ListClustersResponse, Error> {
    let page = Page::new("clusters", &request.next_token, request.max_results)?;
    let mut rows: Vec<_> = state
        .clusters()
        .filter(|row| row.status == ClusterStatus::Active)
        .filter(|row| page.after().is_none_or(|last| *row.name > *last))
        .collect();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    let items =
        rows.into_iter().map(|row| (row.name.to_string(), Arns::of(state).cluster(&row.name)));
    let (cluster_arns, next_token) = page.take(items);
    Ok(pb::ListClustersResponse { cluster_arns, next_token })
}
