//! Clusters: create, describe, list, update, delete.

use crate::call::Call;
use crate::dispatcher::Dispatcher;
use crate::write::{Draft, Fresh, Written, unexpected};
use crate::{make, read};
use muster_model::{ClusterId, Error, Kind, Response};
use muster_proto::{convert, pb, view};

impl Dispatcher {
    pub async fn create_cluster(
        &self,
        call: &Call,
        request: pb::CreateClusterRequest,
    ) -> Result<pb::CreateClusterResponse, Error> {
        let make = |draft: &mut Draft<'_>| make::create_cluster(draft, &request);
        let written = self.write(call, &request.client_token, Fresh::IfMissing, make).await?;
        Ok(pb::CreateClusterResponse { cluster: Some(shown(&written)?) })
    }

    pub async fn describe_clusters(
        &self,
        call: &Call,
        request: pb::DescribeClustersRequest,
    ) -> Result<pb::DescribeClustersResponse, Error> {
        read::cluster::describe(&*self.view(call, request.stale).await?, &request)
    }

    pub async fn list_clusters(
        &self,
        call: &Call,
        request: pb::ListClustersRequest,
    ) -> Result<pb::ListClustersResponse, Error> {
        read::cluster::list(&*self.view(call, request.stale).await?, &request)
    }

    pub async fn update_cluster(
        &self,
        call: &Call,
        request: pb::UpdateClusterRequest,
    ) -> Result<pb::UpdateClusterResponse, Error> {
        let make = |draft: &mut Draft<'_>| convert::cluster::update(draft.state, &request);
        let written = self.write(call, &request.client_token, Fresh::IfMissing, make).await?;
        Ok(pb::UpdateClusterResponse { cluster: Some(shown(&written)?) })
    }

    pub async fn update_cluster_settings(
        &self,
        call: &Call,
        request: pb::UpdateClusterSettingsRequest,
    ) -> Result<pb::UpdateClusterSettingsResponse, Error> {
        let make = |draft: &mut Draft<'_>| convert::cluster::update_settings(draft.state, &request);
        let written = self.write(call, &request.client_token, Fresh::IfMissing, make).await?;
        Ok(pb::UpdateClusterSettingsResponse { cluster: Some(shown(&written)?) })
    }

    pub async fn put_cluster_capacity_providers(
        &self,
        call: &Call,
        request: pb::PutClusterCapacityProvidersRequest,
    ) -> Result<pb::PutClusterCapacityProvidersResponse, Error> {
        let make = |draft: &mut Draft<'_>| convert::cluster::put_providers(draft.state, &request);
        let written = self.write(call, &request.client_token, Fresh::IfMissing, make).await?;
        Ok(pb::PutClusterCapacityProvidersResponse { cluster: Some(shown(&written)?) })
    }

    pub async fn delete_cluster(
        &self,
        call: &Call,
        request: pb::DeleteClusterRequest,
    ) -> Result<pb::DeleteClusterResponse, Error> {
        let make = |draft: &mut Draft<'_>| make::delete_cluster(draft, &request);
        let written = self.write(call, &request.client_token, Fresh::IfMissing, make).await?;
        Ok(pb::DeleteClusterResponse { cluster: Some(shown(&written)?) })
    }
}

fn shown(written: &Written) -> Result<pb::Cluster, Error> {
    let id: ClusterId = match &written.response {
        Response::Cluster(id) => *id,
        other => return Err(unexpected(other)),
    };
    let row = written.state.cluster(id).ok_or_else(|| Error::not_found(Kind::Cluster, id))?;
    // ECS counts only for those who ask.
    Ok(pb::Cluster { statistics: Vec::new(), ..view::cluster(&written.state, row) })
}
