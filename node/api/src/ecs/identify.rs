//! Who sends a request of the wire protocol, and from which region's point of view.

use super::refusal::Refusal;
use crate::authz::Caller;
use crate::call::Region;
use http::request::Parts;
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

/// Who asks, and the region its ARNs carry.
#[derive(Clone, Debug)]
pub struct Identified {
    pub caller: Caller,
    pub region: Region,
}

/// # Errors
/// AWS's own for a signature by a key that does not count.
pub fn caller(trust: Trust, head: &Parts) -> Result<Identified, Refusal> {
    match trust {
        Trust::Anyone => Ok(Identified { caller: super::anyone(), region: Region(region(head)) }),
        // No access keys exist yet, so no key is one.
        Trust::Signed => Err(Refusal::new(
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
        )),
    }
}

/// The region of the credential scope, unverified.
fn region(head: &Parts) -> Option<Arc<str>> {
    let header = head.headers.get("authorization")?.to_str().ok()?;
    let scope = header.split("Credential=").nth(1)?.split(',').next()?;
    let region = scope.split('/').nth(2)?;
    let fits = (1..=32).contains(&region.len())
        && region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    fits.then(|| Arc::from(region))
}
