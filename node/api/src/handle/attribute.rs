//! Attributes of container instances: put, delete, list.

use crate::call::Call;
use crate::dispatcher::Dispatcher;
use crate::read;
use crate::write::{Draft, Fresh};
use muster_model::{Error, State};
use muster_proto::{arn, convert, pb};

impl Dispatcher {
    pub async fn put_attributes(
        &self,
        call: &Call,
        request: pb::PutAttributesRequest,
    ) -> Result<pb::PutAttributesResponse, Error> {
        let make = |draft: &mut Draft<'_>| convert::attribute::put(draft.state, &request);
        let written = self.write(call, &request.client_token, Fresh::Always, make).await?;
        let attributes = shown(&written.state, &request.cluster, request.attributes)?;
        Ok(pb::PutAttributesResponse { attributes })
    }

    pub async fn delete_attributes(
        &self,
        call: &Call,
        request: pb::DeleteAttributesRequest,
    ) -> Result<pb::DeleteAttributesResponse, Error> {
        let make = |draft: &mut Draft<'_>| convert::attribute::delete(draft.state, &request);
        let written = self.write(call, &request.client_token, Fresh::Always, make).await?;
        let attributes = shown(&written.state, &request.cluster, request.attributes)?;
        Ok(pb::DeleteAttributesResponse { attributes })
    }

    pub async fn list_attributes(
        &self,
        call: &Call,
        request: pb::ListAttributesRequest,
    ) -> Result<pb::ListAttributesResponse, Error> {
        read::attribute::list(&*self.view(call, request.stale).await?, &request)
    }
}

/// What was asked for, with the target's whole ARN, as ECS answers it.
fn shown(
    state: &State,
    cluster: &str,
    mut attributes: Vec<pb::Attribute>,
) -> Result<Vec<pb::Attribute>, Error> {
    let cluster = arn::cluster(state, cluster)?;
    for attribute in &mut attributes {
        let row = arn::instance(state, cluster, &attribute.target_id)?;
        attribute.target_type.clear();
        attribute.target_id = arn::Arns::of(state).instance(&cluster.name, row.id);
    }
    Ok(attributes)
}
