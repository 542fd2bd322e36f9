//! Users and join tokens: what is secret is answered once and never stored.
//!
//! A repeat must not make another join token, for only the last one counts: its secret is derived
//! from the authority's key and the client token. A repeat of a new certificate makes another
//! certificate, which does no harm.

use crate::call::Call;
use crate::dispatcher::Dispatcher;
use crate::write::{Draft, Fresh};
use muster_identity::{Authority, CaDigest, JoinRole, JoinToken};
use muster_model::command::TokenRole;
use muster_model::{Command, Error, Principal, State};
use muster_proto::convert::operator as convert;
use muster_proto::{pb, view};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;

impl Dispatcher {
    /// The old token is refused from here on.
    pub async fn rotate_token(
        &self,
        call: &Call,
        request: pb::RotateTokenRequest,
    ) -> Result<pb::RotateTokenResponse, Error> {
        let role = convert::token_role(&request.role)?;
        let join = match role {
            TokenRole::Manager => JoinRole::Manager,
            TokenRole::Worker => JoinRole::Worker,
        };
        let state = self.replica.read(call.deadline).await?;
        let ca = CaDigest::of_pem(&state.meta().authority.certificate_pem).map_err(authority)?;
        let token = match request.client_token.as_str() {
            "" => JoinToken::generate(join, ca).map_err(authority)?,
            token => {
                let secret = derived(&state, &format!("{}\n{}\n{token}", call.principal, join));
                JoinToken::with_secret(join, ca, secret)
            }
        };
        let hash: Arc<str> = token.secret_hash().into();
        let make = |_: &mut Draft<'_>| Ok(Command::RotateToken { role, hash: hash.clone() });
        self.write(call, &request.client_token, Fresh::IfMissing, make).await?;
        tracing::info!(role = request.role, by = %call.principal, "join token rotated");
        Ok(pb::RotateTokenResponse { token: token.reveal() })
    }

    /// Issues a certificate for the request's key; makes the user if there is none of this name.
    pub async fn create_user(
        &self,
        call: &Call,
        request: pb::CreateUserRequest,
    ) -> Result<pb::CreateUserResponse, Error> {
        let user = convert::create_user(&request)?;
        muster_identity::user_name_allowed(&user.name)
            .map_err(|error| Error::invalid("name", &user.name, error.to_string()))?;
        let validity = Duration::from_millis(user.validity.0);
        let state = self.replica.read(call.deadline).await?;
        let signer = signer(&state)?;
        let principal = Principal::User(user.name.clone());
        let issued = signer
            .issue(&user.certificate_request_pem, &principal, validity, self.wall())
            .map_err(|error| {
                let value = "the PEM text sent";
                Error::invalid("certificateRequestPem", value, error.to_string())
            })?;
        let (name, serial): (Arc<str>, Arc<str>) =
            (user.name.as_str().into(), issued.serial_hex.as_str().into());
        let make = |_: &mut Draft<'_>| {
            let (name, serial) = (name.clone(), serial.clone());
            Ok(Command::CreateUser { name, role: user.role, serial })
        };
        self.write(call, "", Fresh::IfMissing, make).await?;
        tracing::info!(user = user.name, by = %call.principal, "user certificate issued");
        let ca_pem = signer.cert_pem().to_owned();
        Ok(pb::CreateUserResponse { certificate_pem: issued.cert_pem, ca_pem })
    }

    pub async fn list_users(
        &self,
        call: &Call,
        request: pb::ListUsersRequest,
    ) -> Result<pb::ListUsersResponse, Error> {
        let state = self.view(call, request.stale).await?;
        let present = state.users().filter(|row| row.removed_at.is_none());
        let users = present.map(|row| view::user(row));
        Ok(pb::ListUsersResponse { users: users.collect() })
    }

    /// Its certificates are refused from here on, and its watches end.
    pub async fn remove_user(
        &self,
        call: &Call,
        request: pb::RemoveUserRequest,
    ) -> Result<pb::RemoveUserResponse, Error> {
        let name: Arc<str> = request.name.as_str().into();
        let make = |_: &mut Draft<'_>| Ok(Command::RemoveUser { name: name.clone() });
        self.write(call, &request.client_token, Fresh::IfMissing, make).await?;
        tracing::info!(user = request.name, by = %call.principal, "user removed");
        Ok(pb::RemoveUserResponse {})
    }
}

/// 128 bits that only who has the authority's key can compute.
fn derived(state: &State, text: &str) -> [u8; 16] {
    let key = Sha256::digest(state.meta().authority.key_pem.as_bytes());
    let text = Sha256::digest(text.as_bytes());
    let mixed = Sha256::new()
        .chain_update(b"muster join token\n")
        .chain_update(key)
        .chain_update(text)
        .finalize();
    let mut secret = [0; 16];
    secret.iter_mut().zip(mixed).for_each(|(to, from)| *to = from);
    secret
}

fn signer(state: &State) -> Result<Authority, Error> {
    let row = &state.meta().authority;
    Authority::from_pem(&row.certificate_pem, &row.key_pem).map_err(authority)
}

/// The cluster's own authority cannot be used: nothing the caller sent is at fault.
fn authority(error: muster_identity::Error) -> Error {
    Error::Unavailable { why: format!("cluster authority: {error}") }
}
