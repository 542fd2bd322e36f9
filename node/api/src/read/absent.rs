//! Task sets, of which there are none: tools that look for some before they do without find none,
//! and what they name is MISSING.

use super::wants_tags;
use crate::limits::DESCRIBE_MAX;
use muster_model::{Error, State};
use muster_proto::arn::{self, Arns};
use muster_proto::view::missing;
use muster_proto::{pb, spelled};

/// # Errors
/// `NotFound` for cluster or service, `Invalid` for too many names.
pub fn task_sets(
    state: &State,
    request: &pb::DescribeTaskSetsRequest,
) -> Result<pb::DescribeTaskSetsResponse, Error> {
    let cluster = arn::cluster(state, &request.cluster)?;
    let service = arn::service(state, cluster, &request.service)?;
    at_most("taskSets", &request.task_sets)?;
    wants_tags(&request.include, spelled::TASK_SET_FIELD)?;
    let arns = Arns::of(state);
    let of = |id: &str| arns.task_set(&cluster.name, &service.spec.name, id);
    let failures = request.task_sets.iter().map(|text| missing(or_arn(text, of)));
    Ok(pb::DescribeTaskSetsResponse { failures: failures.collect(), ..Default::default() })
}

fn at_most(field: &str, names: &[String]) -> Result<(), Error> {
    match names.len() <= DESCRIBE_MAX {
        true => Ok(()),
        false => {
            let allowed = format!("at most {DESCRIBE_MAX} names or ARNs");
            Err(Error::invalid(field, format!("{} of them", names.len()), allowed))
        }
    }
}

fn or_arn(text: &str, written: impl Fn(&str) -> String) -> String {
    if text.starts_with("arn:") { text.to_owned() } else { written(text) }
}
