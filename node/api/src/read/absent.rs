//! Capacity providers and task sets, of which there are none: tools that look for some before they
//! do without find none, and what they name is MISSING.

use crate::limits::DESCRIBE_MAX;
use crate::page::Page;
use muster_model::{Error, State};
use muster_proto::arn::{self, Arns};
use muster_proto::convert::PageSizes;
use muster_proto::pb;
use muster_proto::view::missing;

/// ECS lists FARGATE and FARGATE_SPOT in every account; here they are nobody's.
///
/// # Errors
/// `NotFound` for a cluster that is named, `Invalid` for too many names or a bad page.
pub fn capacity_providers(
    state: &State,
    request: &pb::DescribeCapacityProvidersRequest,
) -> Result<pb::DescribeCapacityProvidersResponse, Error> {
    if !request.cluster.is_empty() {
        arn::cluster(state, &request.cluster)?;
    }
    let names = &request.capacity_providers;
    at_most("capacityProviders", names)?;
    let sizes = PageSizes::SHORT;
    Page::sized("capacity providers", &request.next_token, request.max_results, sizes)?;
    let arns = Arns::of(state);
    let failures = names.iter().map(|text| missing(or_arn(text, |id| arns.capacity_provider(id))));
    Ok(pb::DescribeCapacityProvidersResponse { failures: failures.collect(), ..Default::default() })
}

/// # Errors
/// `NotFound` for cluster or service, `Invalid` for too many names.
pub fn task_sets(
    state: &State,
    request: &pb::DescribeTaskSetsRequest,
) -> Result<pb::DescribeTaskSetsResponse, Error> {
    let cluster = arn::cluster(state, &request.cluster)?;
    let service = arn::service(state, cluster, &request.service)?;
    at_most("taskSets", &request.task_sets)?;
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
