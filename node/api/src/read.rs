//! Describing and listing: pure functions from a state and a request to an answer.
//!
//! They do not know how fresh the state is, nor who asks. A name that is not there is a failure
//! beside the others' rows (`MISSING`), never an error, as in ECS; a missing cluster is an error.

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
pub mod task_set;

use muster_model::{Cluster, Error, State};
use muster_proto::spelled;

/// What may be included of most things.
const OF_MOST: &[&str] = spelled::TASK_FIELD;

/// Whether `include` names `TAGS`; what else may be included is there always or never.
///
/// # Errors
/// `Invalid` for what ECS does not have there.
fn wants_tags(include: &[String], allowed: &[&str]) -> Result<bool, Error> {
    let is = |what: &String, name: &str| what.eq_ignore_ascii_case(name);
    let unknown = |what: &&String| !allowed.iter().any(|name| is(what, name));
    match include.iter().find(unknown) {
        Some(what) => Err(Error::invalid("include", what, allowed.join(", "))),
        None => Ok(include.iter().any(|what| is(what, "TAGS"))),
    }
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
