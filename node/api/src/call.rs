//! What a handler knows about the call it answers, and what goes back beside the answer.
//!
//! Front ends (gRPC now, ECS's JSON later) make a `Call`, run a method of the `Dispatcher` and turn
//! its answer or error into their own words.

use crate::authz::Caller;
use crate::guard::Admitted;
use muster_identity::Peer;
use muster_model::{Error, Index, Principal, State, TraceId};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};

/// Metadata of answers: the state's index the answer was read from.
pub const INDEX: &str = "muster-state-index";
/// How old a stale answer may be, in milliseconds.
pub const AGE: &str = "muster-state-age-ms";

/// The region that a caller's ARNs carry: the cluster's own unless the caller named another and the
/// front end lets it.
#[derive(Clone, Debug, Default)]
pub struct Region(pub Option<Arc<str>>);

impl Region {
    /// A state as seen from there. Copies nothing but the row of the cluster itself.
    pub fn seeing(&self, state: Arc<State>) -> Arc<State> {
        match &self.0 {
            Some(region) => Arc::new(state.in_region(region.clone())),
            None => state,
        }
    }
}

/// One call being answered.
#[derive(Debug)]
pub struct Call {
    pub principal: Principal,
    pub caller: Caller,
    pub peer: Option<Peer>,
    pub deadline: Instant,
    pub trace: Option<TraceId>,
    region: Region,
    seen: Mutex<Seen>,
}

/// What the answer was made from.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    index: Option<Index>,
    age: Option<Duration>,
}

impl Call {
    /// # Errors
    /// `Denied` for a caller without a certificate.
    pub fn new(admitted: Admitted, trace: Option<TraceId>) -> Result<Self, Error> {
        let Some(principal) = admitted.caller.principal() else {
            return Err(Error::Denied {
                principal: "nobody".into(),
                action: "call this without a client certificate".into(),
            });
        };
        Ok(Self {
            principal,
            caller: admitted.caller,
            peer: admitted.peer,
            deadline: admitted.deadline,
            trace: trace.or(admitted.parent),
            region: Region::default(),
            seen: Mutex::default(),
        })
    }

    /// The same call, of a caller to whom this cluster lies in `region`.
    pub fn in_region(self, region: Region) -> Self {
        Self { region, ..self }
    }

    pub fn region(&self) -> &Region {
        &self.region
    }

    /// A state as this caller sees it.
    pub fn seeing(&self, state: Arc<State>) -> Arc<State> {
        self.region.seeing(state)
    }

    /// Remembers what the answer was read from; `age` for stale answers.
    pub fn saw(&self, state: &State, age: Option<Duration>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = Seen { index: Some(state.applied()), age: age.or(seen.age) };
    }

    /// Writes what was remembered beside an answer.
    pub fn tell(&self, metadata: &mut MetadataMap) {
        let seen = *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = seen.index {
            put(metadata, INDEX, &index.to_string());
        }
        if let Some(age) = seen.age {
            put(metadata, AGE, &age.as_millis().to_string());
        }
    }
}

/// Adds a value; one that metadata cannot carry is left out.
pub fn put(metadata: &mut MetadataMap, key: &'static str, value: &str) {
    if let Ok(value) = AsciiMetadataValue::try_from(value) {
        metadata.insert(AsciiMetadataKey::from_static(key), value);
    }
}
