//! Services as callers see them.

use super::{OF_MOST, arn_or, wants_tags};
use crate::limits::DESCRIBE_SERVICES_MAX;
use crate::page::Page;
use crate::show;
use muster_model::{Error, SchedulingStrategy, ServiceStatus, State};
use muster_proto::arn::{self, Arns};
use muster_proto::convert::{PageSizes, has_launch_type, one_of, some_names};
use muster_proto::view::missing;
use muster_proto::{pb, spelled};

/// Draining and, for a day, inactive services are described too.
///
/// # Errors
/// `NotFound` for the cluster, `Invalid` for no or too many names.
pub fn describe(
    state: &State,
    request: &pb::DescribeServicesRequest,
) -> Result<pb::DescribeServicesResponse, Error> {
    let cluster = arn::cluster(state, &request.cluster)?;
    some_names("services", &request.services, DESCRIBE_SERVICES_MAX)?;
    let tags = wants_tags(&request.include, OF_MOST)?;
    let mut answer = pb::DescribeServicesResponse::default();
    for text in &request.services {
        match arn::service_or_deleted(state, cluster, text) {
            Ok(row) => answer.services.push(show::service(state, row, tags)),
            Err(Error::NotFound { .. }) => {
                answer.failures.push(missing(arn_or(state, "service", cluster, text)));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(answer)
}

/// Active services by name, as ECS lists them.
///
/// # Errors
/// `NotFound` for the cluster, `Invalid` for a bad page.
pub fn list(
    state: &State,
    request: &pb::ListServicesRequest,
) -> Result<pb::ListServicesResponse, Error> {
    let cluster = arn::cluster(state, &request.cluster)?;
    let shown =
        has_launch_type(&request.launch_type)? & of_manager(&request.resource_management_type)?;
    let scheduling = of_scheduling(&request.scheduling_strategy)?;
    let kind = format!("services {}", cluster.id);
    let sizes = PageSizes::SERVICES;
    let page = Page::sized(kind, &request.next_token, request.max_results, sizes)?;
    let arns = Arns::of(state);
    let items = state
        .services_in(cluster.id)
        .filter(|row| shown && row.status == ServiceStatus::Active)
        .filter(|row| scheduling.is_none_or(|wanted| row.spec.scheduling == wanted))
        .filter(|row| page.after().is_none_or(|last| row.spec.name.as_str() > last))
        .map(|row| (row.spec.name.clone(), arns.service(&cluster.name, &row.spec.name)));
    let (service_arns, next_token) = page.take(items);
    Ok(pb::ListServicesResponse { service_arns, next_token })
}

/// The one strategy that is asked for.
fn of_scheduling(text: &str) -> Result<Option<SchedulingStrategy>, Error> {
    match text {
        "" => Ok(None),
        "REPLICA" => Ok(Some(SchedulingStrategy::Replica)),
        "DAEMON" => Ok(Some(SchedulingStrategy::Daemon)),
        other => {
            Err(Error::invalid("schedulingStrategy", other, one_of(spelled::SCHEDULING_STRATEGY)))
        }
    }
}

/// Whether a filter lets our services through: they are their owner's own.
fn of_manager(text: &str) -> Result<bool, Error> {
    filter("resourceManagementType", text, &["CUSTOMER"], &["ECS"])
}

fn filter(field: &str, text: &str, ours: &[&str], others: &[&str]) -> Result<bool, Error> {
    if text.is_empty() || ours.contains(&text) {
        return Ok(true);
    }
    match others.contains(&text) {
        true => Ok(false),
        false => Err(Error::invalid(field, text, [ours, others].concat().join(", "))),
    }
}
