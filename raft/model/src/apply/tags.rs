//! The tags that a task is made with. What users change of them later is `cluster::tag`.

use super::find;
use crate::cluster::Cluster;
use crate::error::Error;
use crate::limits;
use crate::service::Service;
use crate::spec::{Overrides, Tags};
use crate::state::{DefinitionRow, State};
use crate::tags::{PropagateTags, managed, written};
use std::sync::Arc;

/// Those that users wrote; ECS's own count for nothing.
pub(super) fn at_most(tags: &Tags) -> Result<(), Error> {
    find::at_most("tags", written(tags), limits::TAGS_MAX)
}

/// What a run's task has: the request's, and before it where they come from, in ECS's order.
pub(super) fn of_run(
    cluster: &Cluster,
    definition: &DefinitionRow,
    overrides: &Overrides,
    own: &Tags,
) -> Tags {
    let mut tags = match overrides.propagate_tags {
        PropagateTags::TaskDefinition => definition.spec.tags.clone(),
        // A run has no service; the edge refuses it.
        PropagateTags::None | PropagateTags::Service => Tags::new(),
    };
    tags.extend(own.iter().map(|(key, value)| (key.clone(), value.clone())));
    if overrides.managed_tags {
        tags.extend(managed(&cluster.name, None));
    }
    tags
}

/// What a task of this service and definition has.
pub(super) fn of_service(
    state: &State,
    service: &Service,
    definition: &DefinitionRow,
) -> Arc<Tags> {
    let mut tags = match service.spec.propagate_tags {
        PropagateTags::None => Arc::default(),
        PropagateTags::Service => service.tags.clone(),
        PropagateTags::TaskDefinition => Arc::new(definition.spec.tags.clone()),
    };
    let cluster = state.cluster(service.cluster).filter(|_| service.spec.managed_tags);
    if let Some(cluster) = cluster {
        Arc::make_mut(&mut tags).extend(managed(&cluster.name, Some(&service.spec.name)));
    }
    tags
}
