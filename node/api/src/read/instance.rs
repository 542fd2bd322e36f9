//! Container instances as callers see them.

use super::{arn_or, wants_tags};
use crate::limits::DESCRIBE_MAX;
use crate::page::Page;
use crate::resolve;
use crate::show;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use muster_model::state::Facing;
use muster_model::{ClusterId, Error, InstanceStatus, Query, State};
use muster_proto::arn::{self, Arns};
use muster_proto::convert::some_names;
use muster_proto::view::missing;
use muster_proto::{pb, spelled};
use sha2::{Digest, Sha256};

/// # Errors
/// `NotFound` for the cluster, `Invalid` for no or too many names or an ambiguous prefix.
pub fn describe(
    state: &State,
    request: &pb::DescribeContainerInstancesRequest,
) -> Result<pb::DescribeContainerInstancesResponse, Error> {
    let cluster = arn::cluster(state, &request.cluster)?;
    some_names("containerInstances", &request.container_instances, DESCRIBE_MAX)?;
    let tags = wants_tags(&request.include, spelled::CONTAINER_INSTANCE_FIELD)?;
    let mut answer = pb::DescribeContainerInstancesResponse::default();
    for text in &request.container_instances {
        match resolve::instance(state, cluster, text) {
            Ok(row) => answer.container_instances.push(show::instance(state, row, tags)),
            Err(Error::NotFound { .. }) => {
                let arn = arn_or(state, "container-instance", cluster, text);
                answer.failures.push(missing(arn));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(answer)
}

/// By id. Without a status: ACTIVE and DRAINING ones.
///
/// # Errors
/// `NotFound` for the cluster, `Invalid` for a bad status or page, and for a filter that is no
/// query: with the column.
pub fn list(
    state: &State,
    request: &pb::ListContainerInstancesRequest,
) -> Result<pb::ListContainerInstancesResponse, Error> {
    let cluster = arn::cluster(state, &request.cluster)?;
    let query = match request.filter.as_str() {
        "" => None,
        text => Some(Query::parse(text).map_err(|error| error.in_field("filter"))?),
    };
    let wanted = match request.status.as_str() {
        "" => None,
        "ACTIVE" => Some(InstanceStatus::Active),
        "DRAINING" => Some(InstanceStatus::Draining),
        "INACTIVE" => Some(InstanceStatus::Inactive),
        // ECS's names for what takes no time here: no instance is ever found in it.
        "REGISTERING" | "REGISTRATION_FAILED" | "DEREGISTERING" => {
            return Ok(pb::ListContainerInstancesResponse::default());
        }
        other => return Err(Error::invalid("status", other, "ACTIVE, DRAINING, INACTIVE")),
    };
    let kind = kind(cluster.id, request);
    let page = Page::new(kind, &request.next_token, request.max_results)?;
    let shown = |status| match wanted {
        Some(wanted) => status == wanted,
        None => status != InstanceStatus::Inactive,
    };
    let meant = |instance| {
        let facing = Facing { state, instance };
        query.as_ref().is_none_or(|query| query.matches(&facing))
    };
    let arns = Arns::of(state);
    let items = state
        .instances()
        .filter(|row| row.cluster == cluster.id && shown(row.status))
        .map(|row| (row.id.to_string(), row))
        .filter(|(id, _)| page.after().is_none_or(|last| id.as_str() > last))
        // Last, since it may look at every task there: what earlier pages held is not asked again.
        .filter(|(_, row)| meant(row))
        .map(|(id, row)| (id, arns.instance(&cluster.name, row.id)));
    let (container_instance_arns, next_token) = page.take(items);
    Ok(pb::ListContainerInstancesResponse { container_instance_arns, next_token })
}

/// A filter may be longer than a token, and holds what separates its parts: its digest stands in.
fn kind(cluster: ClusterId, request: &pb::ListContainerInstancesRequest) -> String {
    let list = format!("instances {cluster} {}", request.status);
    match request.filter.as_str() {
        "" => list,
        filter => format!("{list} {}", URL_SAFE_NO_PAD.encode(Sha256::digest(filter))),
    }
}
