//! The signing key: made once.

use super::find;
use crate::access_key::SealedSecret;
use crate::command::Response;
use crate::error::Error;
use crate::limits;
use crate::signing_key::SigningKey;
use crate::state::State;
use std::sync::Arc;

/// The first one stays, whoever proposes another: two managers may make one at the same time.
pub(super) fn create(
    state: &mut State,
    public: &Arc<[u8]>,
    private: &SealedSecret,
) -> Result<Response, Error> {
    let bytes = private.0.len();
    find::at_most("bytes of a sealed signing key", bytes, limits::SEALED_SIGNING_KEY_BYTES_MAX)?;
    find::at_most("bytes of a public key", public.len(), limits::PUBLIC_KEY_BYTES_MAX)?;
    if state.signing_key().is_none() {
        let (public, private, created_at) = (public.clone(), private.clone(), state.now());
        state.put_signing_key(Arc::new(SigningKey { public, private, created_at }));
    }
    Ok(Response::Done)
}
