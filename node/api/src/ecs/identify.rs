//! Who sends a request of the wire protocol, and from which region's point of view.
//!
//! It puts together what the signature claims (`sigv4`), whose key that is (`authn`) and which
//! services and regions are signed for here. It does not know what the request asks.

use crate::authn::{Authn, KeyError};
use crate::authz::Caller;
use crate::call::Region;
use crate::sigv4::{self, Signature};
use http::request::Parts;
use muster_model::{Error, State, Time, UserRole};
use std::sync::Arc;

/// Whose requests are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Those signed with an access key of this cluster, for its region.
    Signed,
    /// Anybody's, until the first access key exists: a local cluster of simulated instances, for
    /// test suites with made-up keys. ARNs carry the region that each request names.
    Anyone,
}

/// The user that a local cluster takes anybody for: the one that it was founded with.
pub const ANYONE: &str = "admin";

/// Who asks, and the region its ARNs carry.
#[derive(Clone, Debug)]
pub struct Identified {
    pub caller: Caller,
    pub region: Region,
}

/// Why nobody in particular asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unidentified {
    Refused(sigv4::Refusal),
    /// This manager cannot tell now.
    Unavailable(Error),
}

impl From<sigv4::Refusal> for Unidentified {
    fn from(refusal: sigv4::Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<KeyError> for Unidentified {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Refused(refusal) => Self::Refused(refusal),
            KeyError::Unavailable(error) => Self::Unavailable(error),
        }
    }
}

/// A request as it must be proven.
pub struct Claim<'a> {
    pub head: &'a Parts,
    pub body: &'a [u8],
    /// The signing name of the service that is asked.
    pub service: &'static str,
    pub now: Time,
}

/// # Errors
/// AWS's own for a signature that is missing, wrong, expired, for another service or region, or of
/// a key that does not count.
pub async fn caller(
    claim: &Claim<'_>,
    trust: Trust,
    state: &State,
    authn: &Authn,
) -> Result<Identified, Unidentified> {
    if trust == Trust::Anyone && state.access_keys().next().is_none() {
        let caller = Caller::User { name: ANYONE.into(), role: UserRole::Admin };
        // Made-up keys sign too, for the region that they were told.
        let signed = Signature::of(claim.head).ok();
        let region = Region(signed.map(|signature| Arc::from(signature.region())));
        return Ok(Identified { caller, region });
    }
    let signature = Signature::of(claim.head)?;
    if signature.service() != claim.service {
        return Err(sigv4::Refusal::service(claim.service).into());
    }
    let (key, token) = (signature.access_key(), signature.token());
    let (caller, secret) = authn.key_holder(key, token, claim.now).await?;
    signature.verify(claim.head, claim.body, secret.reveal(), claim.now)?;
    let (signed, ours) = (signature.region(), &state.meta().region);
    let region = match trust {
        Trust::Anyone => Region(Some(Arc::from(signed))),
        Trust::Signed if *signed == **ours => Region::default(),
        Trust::Signed => return Err(sigv4::Refusal::region(signed, ours).into()),
    };
    Ok(Identified { caller, region })
}
