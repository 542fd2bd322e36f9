//! Who may call which rpc, generated from the options in `api/*.proto`.
//!
//! It does not know who calls. Invariant: every rpc of every service is listed, because the build
//! fails for one that does not declare its policy.

use crate::pb::{Auth, Kind};

/// What one rpc declares about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Full name, for example `muster.v1.Ecs`.
    pub service: &'static str,
    pub method: &'static str,
    /// The path of its HTTP/2 request, for example `/muster.v1.Ecs/CreateCluster`.
    pub path: &'static str,
    pub auth: Auth,
    pub kind: Kind,
}

include!(concat!(env!("OUT_DIR"), "/policies.rs"));

/// The policy of a request path; `None` if no rpc of ours has it.
pub fn of(path: &str) -> Option<&'static Policy> {
    POLICIES.iter().find(|policy| policy.path == path)
}
