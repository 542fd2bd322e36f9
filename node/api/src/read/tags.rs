//! Tags of whatever an ARN names.

use muster_model::command::Resource;
use muster_model::{Error, Kind, State};
use muster_proto::{arn, pb, view};

/// # Errors
/// `Invalid` for what is no ARN of something that carries tags, `NotFound` if it is not there.
pub fn list(
    state: &State,
    request: &pb::ListTagsForResourceRequest,
) -> Result<pb::ListTagsForResourceResponse, Error> {
    let text = &request.resource_arn;
    let tags = match arn::resource(state, text)? {
        Resource::Cluster(id) => state.cluster(id).map(|row| &*row.tags),
        Resource::Service(id) => state.service(id).map(|row| &*row.tags),
        Resource::Task(id) => state.task(id).map(|row| &*row.tags),
        Resource::Instance(id) => state.instance(id).map(|row| &*row.tags),
        Resource::Definition(id) => state.definition(id).map(|row| &row.spec.tags),
        Resource::TaskSet { service, set } => state.task_set(service, set).map(|row| &*row.tags),
        Resource::CapacityProvider(name) => state.capacity_provider(&name).map(|row| &*row.tags),
    };
    let tags = tags.ok_or_else(|| Error::not_found(Kind::Cluster, text))?;
    Ok(pb::ListTagsForResourceResponse { tags: view::tags(tags) })
}
