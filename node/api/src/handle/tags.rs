//! Tags on whatever has an ARN.

use crate::call::Call;
use crate::dispatcher::Dispatcher;
use crate::read;
use crate::write::{Draft, Fresh};
use muster_model::Error;
use muster_proto::{convert, pb};

impl Dispatcher {
    pub async fn tag_resource(
        &self,
        call: &Call,
        request: pb::TagResourceRequest,
    ) -> Result<pb::TagResourceResponse, Error> {
        let make = |draft: &mut Draft<'_>| convert::cluster::tag(draft.state, &request);
        self.write(call, &request.client_token, Fresh::IfMissing, make).await?;
        Ok(pb::TagResourceResponse {})
    }

    pub async fn untag_resource(
        &self,
        call: &Call,
        request: pb::UntagResourceRequest,
    ) -> Result<pb::UntagResourceResponse, Error> {
        let make = |draft: &mut Draft<'_>| convert::cluster::untag(draft.state, &request);
        self.write(call, &request.client_token, Fresh::IfMissing, make).await?;
        Ok(pb::UntagResourceResponse {})
    }

    pub async fn list_tags_for_resource(
        &self,
        call: &Call,
        request: pb::ListTagsForResourceRequest,
    ) -> Result<pb::ListTagsForResourceResponse, Error> {
        read::tags::list(&*self.view(call, request.stale).await?, &request)
    }
}
