//! Capacity providers as callers see them: the account's, and ECS's own.

use super::{OF_MOST, wants_tags};
use crate::limits::DESCRIBE_MAX;
use crate::page::Page;
use muster_model::capacity::RESERVED;
use muster_model::{Error, State};
use muster_proto::arn::{self, Arns};
use muster_proto::convert::PageSizes;
use muster_proto::pb;
use muster_proto::view::{capacity_provider, missing, reserved_provider};
use std::collections::BTreeSet;

/// Those that are named, INACTIVE ones too; without names all that are ACTIVE, or those of the
/// cluster that is named, by name.
///
/// # Errors
/// `NotFound` for a cluster that is named, `Invalid` for too many names, one that is none, or a bad
/// page.
pub fn describe(
    state: &State,
    request: &pb::DescribeCapacityProvidersRequest,
) -> Result<pb::DescribeCapacityProvidersResponse, Error> {
    let of = match request.cluster.as_str() {
        "" => None,
        text => Some(state.providers_of(arn::cluster(state, text)?.id)),
    };
    let belongs = |name: &str| {
        of.is_none_or(|row| row.is_some_and(|row| row.names.iter().any(|n| **n == *name)))
    };
    let tags = wants_tags(&request.include, OF_MOST)?;
    let mut answer = match request.capacity_providers.as_slice() {
        [] => all(state, request, belongs)?,
        names => named(state, names, belongs)?,
    };
    if !tags {
        answer.capacity_providers.iter_mut().for_each(|row| row.tags.clear());
    }
    Ok(answer)
}

fn all(
    state: &State,
    request: &pb::DescribeCapacityProvidersRequest,
    belongs: impl Fn(&str) -> bool,
) -> Result<pb::DescribeCapacityProvidersResponse, Error> {
    let sizes = PageSizes::SHORT;
    let kind = format!("capacity providers {}", request.cluster);
    let page = Page::sized(kind, &request.next_token, request.max_results, sizes)?;
    let active = state.capacity_providers().filter(|row| row.deleted_at.is_none());
    let names: BTreeSet<&str> = active.map(|row| &*row.name).chain(RESERVED).collect();
    let items = names
        .into_iter()
        .filter(|name| belongs(name))
        .filter(|name| page.after().is_none_or(|last| *name > last))
        .filter_map(|name| Some((name.to_owned(), one(state, name)?)));
    let (capacity_providers, next_token) = page.take(items);
    let failures = Vec::new();
    Ok(pb::DescribeCapacityProvidersResponse { capacity_providers, failures, next_token })
}

fn named(
    state: &State,
    names: &[String],
    belongs: impl Fn(&str) -> bool,
) -> Result<pb::DescribeCapacityProvidersResponse, Error> {
    const FIELD: &str = "capacityProviders";
    if names.len() > DESCRIBE_MAX {
        let allowed = format!("at most {DESCRIBE_MAX} names or ARNs");
        return Err(Error::invalid(FIELD, format!("{} of them", names.len()), allowed));
    }
    let mut answer = pb::DescribeCapacityProvidersResponse::default();
    for text in names {
        let name = arn::capacity_provider(FIELD, state, text)?;
        match one(state, name).filter(|_| belongs(name)) {
            Some(row) => answer.capacity_providers.push(row),
            None => answer.failures.push(missing(Arns::of(state).capacity_provider(name))),
        }
    }
    Ok(answer)
}

fn one(state: &State, name: &str) -> Option<pb::CapacityProvider> {
    let own = || state.capacity_provider(name).map(|row| capacity_provider(state, row));
    reserved_provider(state, name).or_else(own)
}
