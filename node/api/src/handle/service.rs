//! Services: create, update, delete, describe, list.

use crate::call::Call;
use crate::dispatcher::Dispatcher;
use crate::page::Page;
use crate::write::{Draft, Fresh, Written, fresh_for, unexpected};
use crate::{make, read};
use muster_model::{Error, Kind, Response};
use muster_proto::convert::PageSizes;
use muster_proto::{pb, view};

impl Dispatcher {
    pub async fn create_service(
        &self,
        call: &Call,
        request: pb::CreateServiceRequest,
    ) -> Result<pb::CreateServiceResponse, Error> {
        let fresh = fresh_for(&request.task_definition);
        let make = |draft: &mut Draft<'_>| make::create_service(draft, &request);
        let written = self.write(call, &request.client_token, fresh, make).await?;
        Ok(pb::CreateServiceResponse { service: Some(as_made(shown(&written)?)) })
    }

    pub async fn update_service(
        &self,
        call: &Call,
        request: pb::UpdateServiceRequest,
    ) -> Result<pb::UpdateServiceResponse, Error> {
        let fresh = fresh_for(&request.task_definition);
        let make = |draft: &mut Draft<'_>| make::update_service(draft, &request);
        let written = self.write(call, &request.client_token, fresh, make).await?;
        Ok(pb::UpdateServiceResponse { service: Some(shown(&written)?) })
    }

    /// DRAINING until its tasks have stopped, then INACTIVE.
    pub async fn delete_service(
        &self,
        call: &Call,
        request: pb::DeleteServiceRequest,
    ) -> Result<pb::DeleteServiceResponse, Error> {
        let make = |draft: &mut Draft<'_>| make::delete_service(draft, &request);
        let written = self.write(call, &request.client_token, Fresh::IfMissing, make).await?;
        Ok(pb::DeleteServiceResponse { service: Some(shown(&written)?) })
    }

    pub async fn describe_services(
        &self,
        call: &Call,
        request: pb::DescribeServicesRequest,
    ) -> Result<pb::DescribeServicesResponse, Error> {
        read::service::describe(&*self.view(call, request.stale).await?, &request)
    }

    pub async fn list_services(
        &self,
        call: &Call,
        request: pb::ListServicesRequest,
    ) -> Result<pb::ListServicesResponse, Error> {
        read::service::list(&*self.view(call, request.stale).await?, &request)
    }

    /// No service is in a namespace: there is no service connect.
    pub async fn list_services_by_namespace(
        &self,
        call: &Call,
        request: pb::ListServicesByNamespaceRequest,
    ) -> Result<pb::ListServicesByNamespaceResponse, Error> {
        let _ = self.view(call, request.stale).await?;
        if request.namespace.is_empty() {
            return Err(Error::invalid("namespace", "", "the name or ARN of a namespace"));
        }
        let kind = format!("namespace {}", request.namespace);
        Page::sized(kind, &request.next_token, request.max_results, PageSizes::SERVICES)?;
        Ok(pb::ListServicesByNamespaceResponse::default())
    }
}

fn shown(written: &Written) -> Result<pb::Service, Error> {
    let id = match &written.response {
        Response::Service(id) => *id,
        other => return Err(unexpected(other)),
    };
    let row = written.state.service(id).ok_or_else(|| Error::not_found(Kind::Service, id))?;
    Ok(view::service(&written.state, row))
}

/// As ECS answers: a service that nothing has changed since it was made shows no task and no event,
/// however soon its first tasks were placed.
fn as_made(mut service: pb::Service) -> pb::Service {
    if service.version > 1 {
        return service;
    }
    service.events.clear();
    (service.running_count, service.pending_count) = (0, 0);
    for deployment in &mut service.deployments {
        (deployment.running_count, deployment.pending_count) = (0, 0);
    }
    service
}
