//! What tools look for and this release has none of: task sets.

use crate::call::Call;
use crate::dispatcher::Dispatcher;
use crate::read;
use muster_model::Error;
use muster_proto::pb;

impl Dispatcher {
    pub async fn describe_task_sets(
        &self,
        call: &Call,
        request: pb::DescribeTaskSetsRequest,
    ) -> Result<pb::DescribeTaskSetsResponse, Error> {
        read::absent::task_sets(&*self.view(call, request.stale).await?, &request)
    }
}
