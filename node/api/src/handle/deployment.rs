//! Deployments and revisions of services as objects of their own: describe, list, stop, pause,
//! continue.

use crate::call::Call;
use crate::dispatcher::Dispatcher;
use crate::read;
use crate::write::{Draft, Fresh};
use muster_model::Error;
use muster_proto::{convert, pb};

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

    /// FAILED from that entry on; the answer names the deployment, as it was asked for.
    pub async fn stop_service_deployment(
        &self,
        call: &Call,
        request: pb::StopServiceDeploymentRequest,
    ) -> Result<pb::StopServiceDeploymentResponse, Error> {
        let make = |draft: &mut Draft<'_>| convert::deployment::stop(draft.state, &request);
        self.write(call, &request.client_token, Fresh::IfMissing, make).await?;
        let service_deployment_arn = request.service_deployment_arn;
        Ok(pb::StopServiceDeploymentResponse { service_deployment_arn })
    }

    pub async fn pause_service_deployment(
        &self,
        call: &Call,
        request: pb::PauseServiceDeploymentRequest,
    ) -> Result<pb::PauseServiceDeploymentResponse, Error> {
        let make = |draft: &mut Draft<'_>| convert::deployment::pause(draft.state, &request);
        self.write(call, &request.client_token, Fresh::IfMissing, make).await?;
        let service_deployment_arn = request.service_deployment_arn;
        Ok(pb::PauseServiceDeploymentResponse { service_deployment_arn })
    }

    pub async fn continue_service_deployment(
        &self,
        call: &Call,
        request: pb::ContinueServiceDeploymentRequest,
    ) -> Result<pb::ContinueServiceDeploymentResponse, Error> {
        let make = |draft: &mut Draft<'_>| convert::deployment::resume(draft.state, &request);
        self.write(call, &request.client_token, Fresh::IfMissing, make).await?;
        let service_deployment_arn = request.service_deployment_arn;
        Ok(pb::ContinueServiceDeploymentResponse { service_deployment_arn })
    }

    pub async fn describe_service_revisions(
        &self,
        call: &Call,
        request: pb::DescribeServiceRevisionsRequest,
    ) -> Result<pb::DescribeServiceRevisionsResponse, Error> {
        read::deployment::revisions(&*self.view(call, request.stale).await?, &request)
    }
}
