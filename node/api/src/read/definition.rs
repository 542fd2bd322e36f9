//! Task definitions as callers see them.

use super::{OF_MOST, wants_tags};
use crate::page::Page;
use muster_model::{DefinitionRow, Error, State};
use muster_proto::arn::{self, Arns};
use muster_proto::convert::one_of;
use muster_proto::{pb, spelled, view};
use std::collections::BTreeSet;
use std::sync::Arc;

/// # Errors
/// `NotFound`; `Invalid` for a malformed name.
pub fn describe(
    state: &State,
    request: &pb::DescribeTaskDefinitionRequest,
) -> Result<pb::DescribeTaskDefinitionResponse, Error> {
    let row = arn::definition(state, &request.task_definition)?;
    let tags = wants_tags(&request.include, OF_MOST)?;
    Ok(pb::DescribeTaskDefinitionResponse {
        task_definition: Some(view::definition(state, row)),
        tags: match tags {
            true => view::tags(&row.spec.tags),
            false => Vec::new(),
        },
    })
}

/// Which definitions a list shows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    Active,
    Inactive,
    /// DELETE_IN_PROGRESS.
    Deleted,
    All,
}

impl Shown {
    /// `all`: whether `ALL` is allowed, as it is for families only.
    fn new(status: &str, all: bool) -> Result<Self, Error> {
        match (status, all) {
            ("" | "ACTIVE", _) => Ok(Self::Active),
            ("INACTIVE", _) => Ok(Self::Inactive),
            ("DELETE_IN_PROGRESS", false) => Ok(Self::Deleted),
            ("ALL", true) => Ok(Self::All),
            (other, true) => {
                Err(Error::invalid("status", other, one_of(spelled::TASK_DEFINITION_FAMILY_STATUS)))
            }
            (other, false) => {
                Err(Error::invalid("status", other, one_of(spelled::TASK_DEFINITION_STATUS)))
            }
        }
    }

    fn shows(self, state: &State, row: &DefinitionRow) -> bool {
        let deleted = || state.deleted_since(row.id).is_some();
        match self {
            Self::Active => row.deregistered_at.is_none(),
            Self::Inactive => row.deregistered_at.is_some() && !deleted(),
            Self::Deleted => deleted(),
            Self::All => true,
        }
    }
}

/// By family and revision, ascending or (`DESC`) descending. `family_prefix` is a whole family
/// name, as in ECS.
///
/// # Errors
/// `Invalid` for a bad status, sort or page.
pub fn list(
    state: &State,
    request: &pb::ListTaskDefinitionsRequest,
) -> Result<pb::ListTaskDefinitionsResponse, Error> {
    let shown = Shown::new(&request.status, false)?;
    let descending = match request.sort.as_str() {
        "" | "ASC" => false,
        "DESC" => true,
        other => return Err(Error::invalid("sort", other, one_of(spelled::SORT_ORDER))),
    };
    let kind = format!("definitions {} {} {}", request.family_prefix, request.status, descending);
    let page = Page::new(kind, &request.next_token, request.max_results)?;
    let mut rows: Vec<&Arc<DefinitionRow>> = match request.family_prefix.as_str() {
        "" => state.definitions().filter(|row| shown.shows(state, row)).collect(),
        family => state.revisions(family).filter(|row| shown.shows(state, row)).collect(),
    };
    rows.sort_by_cached_key(|row| key(row));
    if descending {
        rows.reverse();
    }
    let passed = |row: &DefinitionRow, last: &str| match descending {
        true => key(row).as_str() < last,
        false => key(row).as_str() > last,
    };
    let items = rows
        .into_iter()
        .filter(|row| page.after().is_none_or(|last| passed(row, last)))
        .map(|row| (key(row), Arns::of(state).definition(&row.family, row.revision)));
    let (task_definition_arns, next_token) = page.take(items);
    Ok(pb::ListTaskDefinitionsResponse { task_definition_arns, next_token })
}

/// Sorts as family, then number. No family holds a blank, so none sorts into another.
fn key(row: &DefinitionRow) -> String {
    format!("{} {:010}", row.family, row.revision.0)
}

/// Families that have a definition of this status. `family_prefix` is a prefix here.
///
/// # Errors
/// `Invalid` for a bad status or page.
pub fn families(
    state: &State,
    request: &pb::ListTaskDefinitionFamiliesRequest,
) -> Result<pb::ListTaskDefinitionFamiliesResponse, Error> {
    let shown = Shown::new(&request.status, true)?;
    let kind = format!("families {} {}", request.family_prefix, request.status);
    let page = Page::new(kind, &request.next_token, request.max_results)?;
    // ECS: ACTIVE families have an ACTIVE revision, INACTIVE ones have none.
    let active: BTreeSet<&str> = named(state, |row| row.deregistered_at.is_none());
    let families = match shown {
        Shown::Active => active,
        // A family whose definitions are all being deleted is no family any more.
        Shown::All => named(state, |row| state.deleted_since(row.id).is_none()),
        Shown::Inactive | Shown::Deleted => {
            let left = named(state, |row| state.deleted_since(row.id).is_none());
            left.into_iter().filter(|name| !active.contains(name)).collect()
        }
    };
    let items = families
        .into_iter()
        .filter(|name| name.starts_with(&request.family_prefix))
        .filter(|name| page.after().is_none_or(|last| *name > last))
        .map(|name| (name.to_owned(), name.to_owned()));
    let (families, next_token) = page.take(items);
    Ok(pb::ListTaskDefinitionFamiliesResponse { families, next_token })
}

fn named(state: &State, which: impl Fn(&DefinitionRow) -> bool) -> BTreeSet<&str> {
    state.definitions().filter(|row| which(row)).map(|row| &*row.family).collect()
}
