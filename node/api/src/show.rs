//! Rows as callers asked to see them: `muster_proto::view`, less what ECS shows only to those who
//! name it under `include`.

use muster_model::{Cluster, Instance, Service, State, Task};
use muster_proto::{pb, view};

/// Several clusters in one pass over the state.
pub fn clusters<'s>(
    state: &State,
    rows: impl IntoIterator<Item = &'s Cluster>,
    include: &[String],
) -> Vec<pb::Cluster> {
    let mut rows = view::clusters(state, rows);
    let leave_out = |what: &str| !include.iter().any(|named| named.eq_ignore_ascii_case(what));
    let [tags, settings, statistics] = ["TAGS", "SETTINGS", "STATISTICS"].map(leave_out);
    for row in &mut rows {
        if tags {
            row.tags.clear();
        }
        if settings {
            row.settings.clear();
        }
        if statistics {
            row.statistics.clear();
        }
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
