//! From what a request names to ARNs, clusters and tags: pure, over a state.
//!
//! It finds rows as the handlers do, so that the ARN judged is that of the row acted on, however
//! the caller spelled it. A name that finds nothing still has the ARN it would have.

use crate::resolve;
use muster_model::command::Resource;
use muster_model::spec::Tags;
use muster_model::{Cluster, State};
use muster_proto::arn::{self, Arns};
use muster_proto::target::{On, Target};
use std::sync::Arc;

/// What a request acts on, one of the things it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acted {
    /// `*` for nothing that has one.
    pub arn: String,
    /// The ARN of its cluster.
    pub cluster: Option<String>,
    /// Of the row, if there is one.
    pub tags: Option<Arc<Tags>>,
}

pub struct Resolved {
    /// At least one.
    pub resources: Vec<Acted>,
    /// Every name found its row, and a newer state would not find another.
    pub settled: bool,
}

pub fn resolve(state: &State, target: &Target<'_>) -> Resolved {
    let mut settled = true;
    let cluster = target.cluster.map(|text| Named::of(state, text));
    let mut one = |text: &str| {
        let (acted, found) = acted(state, target.on, text, cluster.as_ref());
        settled &= found;
        acted
    };
    let mut resources: Vec<Acted> = target.names.iter().map(&mut one).collect();
    if resources.is_empty() {
        // DescribeClusters without names describes `default`; the others refuse an empty list.
        resources.push(match target.on {
            On::Cluster => one(""),
            _ => every(cluster.as_ref()),
        });
    }
    Resolved { resources, settled }
}

/// A cluster as a request names it.
struct Named<'s> {
    arn: String,
    name: String,
    row: Option<&'s Arc<Cluster>>,
}

impl<'s> Named<'s> {
    fn of(state: &'s State, text: &str) -> Self {
        match arn::cluster_name(state, text) {
            Ok(name) => {
                let row = arn::cluster_or_deleted(state, text).ok();
                Self { arn: Arns::of(state).cluster(name), name: name.to_owned(), row }
            }
            // No name of ours: the handler refuses it, but it is judged all the same.
            Err(_) => Self { arn: text.to_owned(), name: text.to_owned(), row: None },
        }
    }
}

fn every(cluster: Option<&Named<'_>>) -> Acted {
    Acted { arn: "*".into(), cluster: cluster.map(|named| named.arn.clone()), tags: None }
}

/// The thing that `text` names, and whether it was found.
fn acted(state: &State, on: On, text: &str, cluster: Option<&Named<'_>>) -> (Acted, bool) {
    let arns = Arns::of(state);
    let row = cluster.and_then(|named| named.row);
    let of = |arn: String, tags: Option<&Arc<Tags>>| {
        let cluster = cluster.map(|named| named.arn.clone());
        (Acted { arn, cluster, tags: tags.cloned() }, true)
    };
    let missing = |kind: &str| {
        let within = cluster.map_or("default", |named| &named.name);
        let (arn, cluster) = (unfound(state, kind, within, text), cluster.map(|c| c.arn.clone()));
        (Acted { arn, cluster, tags: None }, false)
    };
    match on {
        On::Everything => (every(cluster), true),
        On::ClusterOrAll if text.is_empty() => (Acted { cluster: None, ..every(None) }, true),
        On::Cluster | On::ClusterOrAll => {
            let Named { arn, row, .. } = Named::of(state, text);
            let tags = row.map(|row| row.tags.clone());
            (Acted { cluster: Some(arn.clone()), arn, tags }, row.is_some())
        }
        On::Service => match row.map(|row| (row, arn::service_or_deleted(state, row, text))) {
            Some((row, Ok(service))) => {
                of(arns.service(&row.name, &service.spec.name), Some(&service.tags))
            }
            _ => missing("service"),
        },
        On::Task => match row.map(|row| (row, resolve::task(state, row, text))) {
            Some((row, Ok(task))) => of(arns.task(&row.name, task.id), Some(&task.tags)),
            _ => missing("task"),
        },
        On::Instance => match row.map(|row| (row, resolve::instance(state, row, text))) {
            Some((row, Ok(instance))) => {
                of(arns.instance(&row.name, instance.id), Some(&instance.tags))
            }
            _ => missing("container-instance"),
        },
        On::Definition => definition(state, text, cluster),
        On::CapacityProvider => capacity_provider(state, text),
        On::Family => of(arns_family(state, text), None),
        On::Named => named(state, text),
    }
}

fn definition(state: &State, text: &str, cluster: Option<&Named<'_>>) -> (Acted, bool) {
    let cluster = cluster.map(|named| named.arn.clone());
    let Ok(row) = arn::definition(state, text) else {
        let arn = match arn::family(state, text) {
            Ok((family, Some(revision))) => Arns::of(state).definition(family, revision),
            Ok((family, None)) => arns_family(state, family),
            Err(_) => text.to_owned(),
        };
        return (Acted { arn, cluster, tags: None }, false);
    };
    let arn = Arns::of(state).definition(&row.family, row.revision);
    let tags = Some(Arc::new(row.spec.tags.clone()));
    // "The newest" may be another one in a newer state.
    let settled = matches!(arn::family(state, text), Ok((_, Some(_))));
    (Acted { arn, cluster, tags }, settled)
}

/// It is in no cluster.
fn capacity_provider(state: &State, text: &str) -> (Acted, bool) {
    let name = arn::capacity_provider("capacityProvider", state, text);
    let arn = match name {
        Ok(name) => Arns::of(state).capacity_provider(name),
        Err(_) => text.to_owned(),
    };
    let row = name.ok().and_then(|name| state.capacity_provider(name));
    (Acted { arn, cluster: None, tags: row.map(|row| row.tags.clone()) }, row.is_some())
}

/// All revisions of a family: which one it will be is not known before it is registered.
fn arns_family(state: &State, family: &str) -> String {
    let meta = state.meta();
    format!("arn:aws:ecs:{}:{}:task-definition/{family}:*", meta.region, meta.account)
}

/// Whatever an ARN names.
fn named(state: &State, text: &str) -> (Acted, bool) {
    match arn::resource(state, text) {
        Ok(Resource::Definition(_)) => return definition(state, text, None),
        Ok(Resource::CapacityProvider(name)) => return capacity_provider(state, &name),
        _ => {}
    }
    let arns = Arns::of(state);
    let row = arn::resource(state, text).ok().and_then(|resource| match resource {
        Resource::Cluster(id) => {
            let row = state.cluster(id)?;
            Some((arns.cluster(&row.name), id, row.tags.clone()))
        }
        Resource::Service(id) => {
            let row = state.service(id)?;
            let cluster = arn::name_of(state, row.cluster);
            Some((arns.service(&cluster, &row.spec.name), row.cluster, row.tags.clone()))
        }
        Resource::Task(id) => {
            let row = state.task(id)?;
            let cluster = arn::name_of(state, row.cluster);
            Some((arns.task(&cluster, id), row.cluster, row.tags.clone()))
        }
        Resource::Instance(id) => {
            let row = state.instance(id)?;
            let cluster = arn::name_of(state, row.cluster);
            Some((arns.instance(&cluster, id), row.cluster, row.tags.clone()))
        }
        Resource::TaskSet { service, set } => {
            let row = state.service(service)?;
            let cluster = arn::name_of(state, row.cluster);
            let arn = arns.task_set(&cluster, &row.spec.name, &set.shown());
            Some((arn, row.cluster, state.task_set(service, set)?.tags.clone()))
        }
        // They are in no cluster.
        Resource::Definition(_) | Resource::CapacityProvider(_) => None,
    });
    match row {
        Some((arn, id, tags)) => {
            let cluster = Some(arns.cluster(&arn::name_of(state, id)));
            (Acted { arn, cluster, tags: Some(tags) }, true)
        }
        None => (Acted { arn: text.to_owned(), cluster: None, tags: None }, false),
    }
}

/// The ARN that a row of this name would have; an ARN as it is.
fn unfound(state: &State, kind: &str, cluster: &str, text: &str) -> String {
    if text.starts_with("arn:") {
        return text.to_owned();
    }
    let last = text.rsplit('/').next().unwrap_or(text);
    let meta = state.meta();
    format!("arn:aws:ecs:{}:{}:{kind}/{cluster}/{last}", meta.region, meta.account)
}
