//! Configs: made, given another value, read again, listed, deleted. They are kept as secrets are
//! (`muster_model::config`); that one is a config is what lets a user read it.

use super::access_key::secrets;
use crate::call::Call;
use crate::dispatcher::Dispatcher;
use muster_identity::{Sealed, SecretText, Vault};
use muster_model::{Error, Kind, SecretCommand};
use muster_proto::convert::secret as convert;
use muster_proto::{pb, view};

impl Dispatcher {
    pub async fn create_config(
        &self,
        call: &Call,
        request: pb::CreateConfigRequest,
    ) -> Result<pb::CreateConfigResponse, Error> {
        let pb::CreateConfigRequest { name, value, client_token } = request;
        let kept = convert::checked_config(&name, &value)?;
        let create = |name, value| SecretCommand::Create { name, value };
        let value = SecretText::new(value);
        let (_, version) = self.keep(call, &client_token, (kept, value), create).await?;
        tracing::info!(config = %name, by = %call.principal, "config made");
        Ok(pb::CreateConfigResponse { name, version })
    }

    pub async fn put_config_value(
        &self,
        call: &Call,
        request: pb::PutConfigValueRequest,
    ) -> Result<pb::PutConfigValueResponse, Error> {
        let pb::PutConfigValueRequest { name, value, client_token } = request;
        let kept = convert::checked_config(&name, &value)?;
        let put = |name, value| SecretCommand::PutValue { name, value };
        let value = SecretText::new(value);
        let (_, version) = self.keep(call, &client_token, (kept, value), put).await?;
        tracing::info!(config = %name, version, by = %call.principal, "config has another value");
        Ok(pb::PutConfigValueResponse { name, version })
    }

    pub async fn list_configs(
        &self,
        call: &Call,
        request: pb::ListConfigsRequest,
    ) -> Result<pb::ListConfigsResponse, Error> {
        let state = self.view(call, request.stale).await?;
        let configs = state.secrets().filter_map(|row| view::config(row)).collect();
        Ok(pb::ListConfigsResponse { configs })
    }

    pub async fn get_config(
        &self,
        call: &Call,
        request: pb::GetConfigRequest,
    ) -> Result<pb::GetConfigResponse, Error> {
        let name = convert::config_name(&request.name)?;
        let state = self.view(call, request.stale).await?;
        let row = state.secret(&name).ok_or_else(|| Error::not_found(Kind::Secret, &name))?;
        let version = row.version(request.version).map_err(|error| match error {
            Error::Invalid { allowed, .. } => {
                let asked = request.version.unwrap_or_default().to_string();
                Error::invalid("version", asked, allowed)
            }
            other => other,
        })?;
        let vault = Vault::of(&state.meta().authority.key_pem).map_err(secrets)?;
        let value = vault.open(Sealed::Secret(&name), &version.value).map_err(secrets)?;
        let (config, value) = (view::config(row), value.reveal().to_owned());
        Ok(pb::GetConfigResponse { config, version: version.number, value })
    }

    /// Tasks that run keep what they were given.
    pub async fn delete_config(
        &self,
        call: &Call,
        request: pb::DeleteConfigRequest,
    ) -> Result<pb::DeleteConfigResponse, Error> {
        let name = convert::config_name(&request.name)?;
        self.forget(call, &request.client_token, name.into()).await?;
        tracing::info!(config = %request.name, by = %call.principal, "config deleted");
        Ok(pb::DeleteConfigResponse {})
    }
}
