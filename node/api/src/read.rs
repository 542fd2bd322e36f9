//! Describing and listing: pure functions from a state and a request to an answer.
//!
//! They do not know how fresh the state is, nor who asks. A name that is not there is a failure
//! beside the others' rows (`MISSING`), never an error, as in ECS; a missing cluster is an error.

pub mod absent;
pub mod account;
pub mod attribute;
pub mod capacity;
pub mod cluster;
pub mod definition;
pub mod deployment;
pub mod instance;
pub mod job;
pub mod protection;
pub mod schedule;
pub mod service;
pub mod tags;
pub mod task;

use muster_model::{Cluster, State};

/// Whether `include` names `TAGS`; what else a task, a service, an instance or a definition may
/// include is always there.
fn wants_tags(include: &[String]) -> bool {
    include.iter().any(|what| what.eq_ignore_ascii_case("TAGS"))
}

/// The ARN that a row of this name would have; an ARN as it is.
pub fn arn_or(state: &State, kind: &str, cluster: &Cluster, text: &str) -> String {
    match text.starts_with("arn:") {
        true => text.to_owned(),
        false => {
            let meta = state.meta();
            format!("arn:aws:ecs:{}:{}:{kind}/{}/{text}", meta.region, meta.account, cluster.name)
        }
    }
}
