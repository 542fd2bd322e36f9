//! Rows as callers asked to see them: `muster_proto::view`, less the tags where they did not say
//! `include: TAGS`, as in ECS.

use muster_model::{Cluster, Instance, Service, State, Task};
use muster_proto::{pb, view};

/// Several clusters in one pass over the state.
pub fn clusters<'s>(
    state: &State,
    rows: impl IntoIterator<Item = &'s Cluster>,
    tags: bool,
) -> Vec<pb::Cluster> {
    let mut rows = view::clusters(state, rows);
    if !tags {
        rows.iter_mut().for_each(|row| row.tags.clear());
    }
    rows
}

pub fn service(state: &State, row: &Service, tags: bool) -> pb::Service {
    let mut shown = view::service(state, row);
    if !tags {
        shown.tags.clear();
    }
    shown
}

pub fn task(state: &State, row: &Task, tags: bool) -> pb::Task {
    let mut shown = view::task(state, row);
    if !tags {
        shown.tags.clear();
    }
    shown
}

pub fn instance(state: &State, row: &Instance, tags: bool) -> pb::ContainerInstance {
    let mut shown = view::instance(state, row);
    if !tags {
        shown.tags.clear();
    }
    shown
}
