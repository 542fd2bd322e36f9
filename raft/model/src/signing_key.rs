//! The key that statements about tasks are signed with, for other systems than this cluster.
//!
//! The private half is here as sealed bytes: who may open them, and how, is not known to the state
//! (`muster-identity`, docs/decisions/0019). Invariant: there is at most one, and it stays: systems
//! that trust it would refuse what another one signs.

use crate::access_key::SealedSecret;
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningKey {
    /// A point of the curve P-256, uncompressed.
    pub public: Arc<[u8]>,
    pub private: SealedSecret,
    pub created_at: Time,
}
