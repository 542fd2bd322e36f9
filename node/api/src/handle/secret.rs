//! Secrets: made, given another value, listed, described, deleted. No answer here has a value.

use super::access_key::secrets;
use crate::call::Call;
use crate::dispatcher::Dispatcher;
use crate::write::{Draft, Fresh, unexpected};
use muster_identity::{Sealed, SecretText, Vault};
use muster_model::secret::check_name;
use muster_model::{Command, Error, Kind, Response, SealedSecret, SecretCommand, config};
use muster_proto::convert::secret as convert;
use muster_proto::{pb, view};
use std::sync::Arc;

impl Dispatcher {
    pub async fn create_secret(
        &self,
        call: &Call,
        request: pb::CreateSecretRequest,
    ) -> Result<pb::CreateSecretResponse, Error> {
        let pb::CreateSecretRequest { name, value, client_token } = request;
        let value = SecretText::new(value);
        convert::checked(&name, value.reveal())?;
        let create = |name, value| SecretCommand::Create { name, value };
        let (name, version) = self.keep(call, &client_token, (name, value), create).await?;
        tracing::info!(secret = %name, by = %call.principal, "secret made");
        Ok(pb::CreateSecretResponse { name: name.to_string(), version })
    }

    pub async fn put_secret_value(
        &self,
        call: &Call,
        request: pb::PutSecretValueRequest,
    ) -> Result<pb::PutSecretValueResponse, Error> {
        let pb::PutSecretValueRequest { name, value, client_token } = request;
        let value = SecretText::new(value);
        convert::checked(&name, value.reveal())?;
        let put = |name, value| SecretCommand::PutValue { name, value };
        let (name, version) = self.keep(call, &client_token, (name, value), put).await?;
        tracing::info!(secret = %name, version, by = %call.principal, "secret has another value");
        Ok(pb::PutSecretValueResponse { name: name.to_string(), version })
    }

    /// Seals a value of the secret for the log; the name and the version of what was kept. Both
    /// have been checked.
    pub(super) async fn keep(
        &self,
        call: &Call,
        token: &String,
        (name, value): (String, SecretText),
        command: fn(Arc<str>, SealedSecret) -> SecretCommand,
    ) -> Result<(Arc<str>, u64), Error> {
        let name: Arc<str> = name.into();
        let make = |draft: &mut Draft<'_>| {
            let value = sealed(draft, &name, &value)?;
            Ok(Command::Secret(command(name.clone(), value)))
        };
        match self.write(call, token, Fresh::IfMissing, make).await?.response {
            Response::Secret { name, version } => Ok((name, version)),
            other => Err(unexpected(&other)),
        }
    }

    pub async fn list_secrets(
        &self,
        call: &Call,
        request: pb::ListSecretsRequest,
    ) -> Result<pb::ListSecretsResponse, Error> {
        let state = self.view(call, request.stale).await?;
        let secrets = state.secrets().filter(|row| config::name_of(&row.name).is_none());
        let secrets = secrets.map(|row| view::secret(row)).collect();
        Ok(pb::ListSecretsResponse { secrets })
    }

    pub async fn describe_secret(
        &self,
        call: &Call,
        request: pb::DescribeSecretRequest,
    ) -> Result<pb::DescribeSecretResponse, Error> {
        let state = self.view(call, request.stale).await?;
        let row = state.secret(&request.name).filter(|row| config::name_of(&row.name).is_none());
        let row = row.ok_or_else(|| Error::not_found(Kind::Secret, &request.name))?;
        Ok(pb::DescribeSecretResponse { secret: Some(view::secret(row)) })
    }

    /// Tasks that run keep what they were given.
    pub async fn delete_secret(
        &self,
        call: &Call,
        request: pb::DeleteSecretRequest,
    ) -> Result<pb::DeleteSecretResponse, Error> {
        check_name("name", &request.name)?;
        self.forget(call, &request.client_token, request.name.as_str().into()).await?;
        tracing::info!(secret = %request.name, by = %call.principal, "secret deleted");
        Ok(pb::DeleteSecretResponse {})
    }

    pub(super) async fn forget(
        &self,
        call: &Call,
        token: &String,
        name: Arc<str>,
    ) -> Result<(), Error> {
        let make = |_: &mut Draft<'_>| {
            let name = name.clone();
            Ok(Command::Secret(SecretCommand::Delete { name }))
        };
        self.write(call, token, Fresh::IfMissing, make).await.map(drop)
    }
}

/// Seals a value for the log. The log cannot compare sealed values, so a repeat with another one is
/// found here, by what its first attempt left.
fn sealed(draft: &Draft<'_>, name: &str, value: &SecretText) -> Result<SealedSecret, Error> {
    let vault = Vault::of(&draft.state.meta().authority.key_pem).map_err(secrets)?;
    if let Some(Response::Secret { name: earlier, version }) = draft.earlier
        && let Some(kept) = draft.state.secret(earlier).filter(|_| **earlier == *name)
        && let Ok(kept) = kept.version(Some(*version))
    {
        let first = vault.open(Sealed::Secret(name), &kept.value).map_err(secrets)?;
        if first.reveal() != value.reveal() {
            return Err(Error::TokenReused { resources: Vec::new() });
        }
    }
    vault.seal(Sealed::Secret(name), value).map_err(secrets)
}
