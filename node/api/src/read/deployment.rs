//! Deployments and revisions of services as callers see them.

use crate::limits::DESCRIBE_DEPLOYMENTS_MAX;
use crate::page::Page;
use muster_model::{Error, State};
use muster_proto::arn::{self, Arns};
use muster_proto::convert::{PageSizes, some_names};
use muster_proto::view::missing;
use muster_proto::{pb, view};

/// ECS's statuses; a rolling deployment is only ever in some of them.
const STATUSES: [&str; 9] = [
    "PENDING",
    "SUCCESSFUL",
    "STOPPED",
    "STOP_REQUESTED",
    "IN_PROGRESS",
    "ROLLBACK_REQUESTED",
    "ROLLBACK_IN_PROGRESS",
    "ROLLBACK_SUCCESSFUL",
    "ROLLBACK_FAILED",
];

/// Newest first, as in ECS.
///
/// # Errors
/// `NotFound` for cluster or service, `Invalid` for a status that is none or a bad page.
pub fn list(
    state: &State,
    request: &pb::ListServiceDeploymentsRequest,
) -> Result<pb::ListServiceDeploymentsResponse, Error> {
    let cluster = arn::cluster(state, &request.cluster)?;
    let row = arn::service(state, cluster, &request.service)?;
    for status in &request.status {
        if !STATUSES.contains(&status.as_str()) {
            return Err(Error::invalid("status", status, STATUSES.join(", ")));
        }
    }
    let kind = format!("deployments {} {:?} {:?}", row.id, request.status, request.created_at);
    let sizes = PageSizes::DEPLOYMENTS;
    let page = Page::sized(kind, &request.next_token, request.max_results, sizes)?;
    let created = request.created_at.unwrap_or_default();
    let seconds = |time: prost_types::Timestamp| (time.seconds, time.nanos);
    let wanted = |brief: &pb::ServiceDeploymentBrief| {
        let at = brief.created_at.map(seconds);
        (request.status.is_empty() || request.status.contains(&brief.status))
            && created.after.is_none_or(|after| at > Some(seconds(after)))
            && created.before.is_none_or(|before| at < Some(seconds(before)))
    };
    // The key is the age: a deployment that came since is not one of the next page.
    let mut items: Vec<_> = row
        .all_deployments()
        .filter(|_| !row.spec.is_external())
        .map(|one| {
            let age = u64::MAX - one.created_at.0;
            let key = format!("{age:020} {}", one.id.shown());
            (key, view::service_brief(state, row, one))
        })
        .filter(|(key, brief)| wanted(brief) && page.after().is_none_or(|last| key.as_str() > last))
        .collect();
    // One that is rolled back to stands before those that came after it.
    items.sort_by(|(one, _), (other, _)| one.cmp(other));
    let (service_deployments, next_token) = page.take(items.into_iter());
    Ok(pb::ListServiceDeploymentsResponse { service_deployments, next_token })
}

/// # Errors
/// `Invalid` for no or too many ARNs.
pub fn describe(
    state: &State,
    request: &pb::DescribeServiceDeploymentsRequest,
) -> Result<pb::DescribeServiceDeploymentsResponse, Error> {
    let arns = Arns::of(state);
    let texts = &request.service_deployment_arns;
    some_names("serviceDeploymentArns", texts, DESCRIBE_DEPLOYMENTS_MAX)?;
    let mut answer = pb::DescribeServiceDeploymentsResponse::default();
    for text in texts {
        let written =
            |cluster: &str, service: &str, id| arns.service_deployment(cluster, service, id);
        match arn::part_of_service(state, "service-deployment", text, written) {
            Ok((row, one)) => {
                answer.service_deployments.push(view::service_deployment(state, row, one));
            }
            Err(Error::NotFound { .. }) => answer.failures.push(missing(text)),
            Err(error) => return Err(error),
        }
    }
    Ok(answer)
}

/// # Errors
/// `Invalid` for no or too many ARNs.
pub fn revisions(
    state: &State,
    request: &pb::DescribeServiceRevisionsRequest,
) -> Result<pb::DescribeServiceRevisionsResponse, Error> {
    let arns = Arns::of(state);
    let texts = &request.service_revision_arns;
    some_names("serviceRevisionArns", texts, DESCRIBE_DEPLOYMENTS_MAX)?;
    let mut answer = pb::DescribeServiceRevisionsResponse::default();
    for text in texts {
        let written =
            |cluster: &str, service: &str, id| arns.service_revision(cluster, service, id);
        match arn::part_of_service(state, "service-revision", text, written) {
            Ok((row, one)) => {
                answer.service_revisions.push(view::service_revision(state, row, one));
            }
            Err(Error::NotFound { .. }) => answer.failures.push(missing(text)),
            Err(error) => return Err(error),
        }
    }
    Ok(answer)
}
