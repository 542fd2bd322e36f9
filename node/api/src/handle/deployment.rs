//! Deployments and revisions of services as objects of their own: describe, list.

use crate::call::Call;
use crate::dispatcher::Dispatcher;
use crate::read;
use muster_model::Error;
use muster_proto::pb;

impl Dispatcher {
    pub async fn list_service_deployments(
        &self,
        call: &Call,
        request: pb::ListServiceDeploymentsRequest,
    ) -> Result<pb::ListServiceDeploymentsResponse, Error> {
        read::deployment::list(&*self.view(call, request.stale).await?, &request)
    }

    pub async fn describe_service_deployments(
        &self,
        call: &Call,
        request: pb::DescribeServiceDeploymentsRequest,
    ) -> Result<pb::DescribeServiceDeploymentsResponse, Error> {
        read::deployment::describe(&*self.view(call, request.stale).await?, &request)
    }

    pub async fn describe_service_revisions(
        &self,
        call: &Call,
        request: pb::DescribeServiceRevisionsRequest,
    ) -> Result<pb::DescribeServiceRevisionsResponse, Error> {
        read::deployment::revisions(&*self.view(call, request.stale).await?, &request)
    }
}
