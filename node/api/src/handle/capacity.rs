//! Capacity providers: kept and shown. Nothing is started or placed by them.

use crate::call::Call;
use crate::dispatcher::Dispatcher;
use crate::read;
use crate::write::{Draft, Fresh, Written, unexpected};
use muster_model::{Error, Kind, Response};
use muster_proto::convert::capacity as convert;
use muster_proto::{pb, view};

impl Dispatcher {
    pub async fn create_capacity_provider(
        &self,
        call: &Call,
        request: pb::CreateCapacityProviderRequest,
    ) -> Result<pb::CreateCapacityProviderResponse, Error> {
        let make = |_: &mut Draft<'_>| convert::create(&request);
        let written = self.write(call, &request.client_token, Fresh::IfMissing, make).await?;
        let capacity_provider = Some(shown(&written)?);
        Ok(pb::CreateCapacityProviderResponse { capacity_provider })
    }

    pub async fn update_capacity_provider(
        &self,
        call: &Call,
        request: pb::UpdateCapacityProviderRequest,
    ) -> Result<pb::UpdateCapacityProviderResponse, Error> {
        let make = |draft: &mut Draft<'_>| convert::update(draft.state, &request);
        let written = self.write(call, &request.client_token, Fresh::IfMissing, make).await?;
        let capacity_provider = Some(shown(&written)?);
        Ok(pb::UpdateCapacityProviderResponse { capacity_provider })
    }

    pub async fn delete_capacity_provider(
        &self,
        call: &Call,
        request: pb::DeleteCapacityProviderRequest,
    ) -> Result<pb::DeleteCapacityProviderResponse, Error> {
        let make = |draft: &mut Draft<'_>| convert::delete(draft.state, &request);
        let written = self.write(call, &request.client_token, Fresh::IfMissing, make).await?;
        let capacity_provider = Some(shown(&written)?);
        Ok(pb::DeleteCapacityProviderResponse { capacity_provider })
    }

    pub async fn describe_capacity_providers(
        &self,
        call: &Call,
        request: pb::DescribeCapacityProvidersRequest,
    ) -> Result<pb::DescribeCapacityProvidersResponse, Error> {
        read::capacity::describe(&*self.view(call, request.stale).await?, &request)
    }
}

fn shown(written: &Written) -> Result<pb::CapacityProvider, Error> {
    let Response::CapacityProvider(name) = &written.response else {
        return Err(unexpected(&written.response));
    };
    let row = written.state.capacity_provider(name);
    let row = row.ok_or_else(|| Error::not_found(Kind::CapacityProvider, name))?;
    Ok(view::capacity_provider(&written.state, row))
}
