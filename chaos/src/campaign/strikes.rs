//! The faults: each hurts the cluster, says what it did, and takes the fault back. What must hold
//! afterwards is not known here.

pub mod machine;
pub mod managers;
pub mod members;
pub mod network;
pub mod workers;

use super::record::Micros;
use std::time::Duration;

/// What a fault did.
pub struct Struck {
    pub what: String,
    pub struck: Micros,
    pub healed: Micros,
    /// Until the tasks of a dead worker ran elsewhere.
    pub replaced: Option<Micros>,
}

/// How long a fault may last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub longest: Duration,
}
