//! Access keys: made, listed, switched off and on, deleted. A secret is told to who made the key.
//!
//! A repeat must not make another key: the log answers it with the first one's id, and that one's
//! secret is opened and told again.

use crate::call::Call;
use crate::dispatcher::Dispatcher;
use crate::write::{Draft, Fresh, unexpected};
use muster_identity::{Sealed, Vault, access_key};
use muster_model::{Command, Error, Kind, Principal, Response};
use muster_proto::convert::operator as convert;
use muster_proto::{pb, view};
use std::sync::Arc;

impl Dispatcher {
    pub async fn create_access_key(
        &self,
        call: &Call,
        request: pb::CreateAccessKeyRequest,
    ) -> Result<pb::CreateAccessKeyResponse, Error> {
        let user = holder(call, &request.user)?;
        let (id, secret) = access_key::mint().map_err(secrets)?;
        let make = |draft: &mut Draft<'_>| {
            let user = user.clone();
            // Named here, so that a manager that lags looks again before it says so.
            if draft.state.user(&user).is_none() {
                return Err(Error::not_found(Kind::User, user));
            }
            let vault = Vault::of(&draft.state.meta().authority.key_pem).map_err(secrets)?;
            let secret = vault.seal(Sealed::AccessKey(id), &secret).map_err(secrets)?;
            Ok(Command::CreateAccessKey { id, user, secret })
        };
        let written = self.write(call, &request.client_token, Fresh::IfMissing, make).await?;
        let Response::AccessKey(made) = written.response else {
            return Err(unexpected(&written.response));
        };
        let row = written.state.access_key(made);
        let row = row.ok_or_else(|| Error::not_found(Kind::AccessKey, made))?;
        let vault = Vault::of(&written.state.meta().authority.key_pem).map_err(secrets)?;
        let secret = vault.open(Sealed::AccessKey(made), &row.secret).map_err(secrets)?;
        tracing::info!(access_key = %made, %user, by = %call.principal, "access key made");
        Ok(pb::CreateAccessKeyResponse {
            access_key_id: made.to_string(),
            secret_access_key: secret.reveal().to_owned(),
            user: row.user.to_string(),
        })
    }

    pub async fn list_access_keys(
        &self,
        call: &Call,
        request: pb::ListAccessKeysRequest,
    ) -> Result<pb::ListAccessKeysResponse, Error> {
        let state = self.view(call, request.stale).await?;
        let access_keys = match request.user.as_str() {
            "" => state.access_keys().map(|row| view::access_key(row)).collect(),
            name => {
                let user = state.user(name).filter(|row| row.removed_at.is_none());
                user.ok_or_else(|| Error::not_found(Kind::User, name))?;
                state.access_keys_of(name).map(|row| view::access_key(row)).collect()
            }
        };
        Ok(pb::ListAccessKeysResponse { access_keys })
    }

    /// What was signed with an inactive key is refused from here on.
    pub async fn update_access_key(
        &self,
        call: &Call,
        request: pb::UpdateAccessKeyRequest,
    ) -> Result<pb::UpdateAccessKeyResponse, Error> {
        let id = convert::access_key_id(&request.access_key_id)?;
        let status = convert::access_key_status(&request.status)?;
        let make = |_: &mut Draft<'_>| Ok(Command::SetAccessKeyStatus { id, status });
        self.write(call, &request.client_token, Fresh::IfMissing, make).await?;
        tracing::info!(access_key = %id, ?status, by = %call.principal, "access key switched");
        Ok(pb::UpdateAccessKeyResponse {})
    }

    pub async fn delete_access_key(
        &self,
        call: &Call,
        request: pb::DeleteAccessKeyRequest,
    ) -> Result<pb::DeleteAccessKeyResponse, Error> {
        let id = convert::access_key_id(&request.access_key_id)?;
        let make = |_: &mut Draft<'_>| Ok(Command::DeleteAccessKey { id });
        self.write(call, &request.client_token, Fresh::IfMissing, make).await?;
        tracing::info!(access_key = %id, by = %call.principal, "access key deleted");
        Ok(pb::DeleteAccessKeyResponse {})
    }
}

/// Whose key it will be: the one named, or the caller.
fn holder(call: &Call, named: &str) -> Result<Arc<str>, Error> {
    match (named, &call.principal) {
        ("", Principal::User(name)) => Ok(name.as_str().into()),
        ("", _) => Err(Error::invalid("user", "", "the name of a user, see `muster user list`")),
        (name, _) => {
            convert::user_name(name)?;
            Ok(name.into())
        }
    }
}

/// The cluster's own authority cannot be used: nothing the caller sent is at fault.
pub(super) fn secrets(error: muster_identity::Error) -> Error {
    Error::Unavailable { why: format!("secrets: {error}") }
}
