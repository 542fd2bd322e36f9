//! From two states to what a watcher is told: pure.
//!
//! A service's counts and an instance's remaining resources are made of tasks, so their rows are
//! told again when their tasks change, and only if what users see of them differs.
//! Invariant: rows first seen by a reader come before rows that name them (clusters, instances,
//! services, tasks, events).

use muster_model::diff::Change as RowChange;
use muster_model::{
    Changes, Cluster, ClusterId, Error, Instance, InstanceId, Service, ServiceId, State, Task,
};
use muster_proto::arn::{Arns, name_of as name};
use muster_proto::pb::watch_response::change::Row;
use muster_proto::{pb, view};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a watcher wants to hear of.
#[derive(Clone, Debug)]
pub struct Filter {
    /// `None`: every cluster.
    pub cluster: Option<ClusterId>,
    clusters: bool,
    instances: bool,
    services: bool,
    tasks: bool,
    events: bool,
}

impl Filter {
    /// # Errors
    /// `Invalid` for a kind that is none.
    pub fn new(cluster: Option<ClusterId>, kinds: &[String]) -> Result<Self, Error> {
        let all = kinds.is_empty();
        let mut filter =
            Self { cluster, clusters: all, instances: all, services: all, tasks: all, events: all };
        for kind in kinds {
            match kind.as_str() {
                "cluster" => filter.clusters = true,
                "container-instance" => filter.instances = true,
                "service" => filter.services = true,
                "task" => filter.tasks = true,
                "event" => filter.events = true,
                other => {
                    let allowed = "cluster, container-instance, service, task, event";
                    return Err(Error::invalid("kinds", other, allowed));
                }
            }
        }
        Ok(filter)
    }

    fn wants(&self, cluster: ClusterId) -> bool {
        self.cluster.is_none_or(|wanted| wanted == cluster)
    }
}

/// One thing to tell, not rendered yet: a start with 100,000 tasks is rendered message by message.
enum Pending {
    Cluster(RowChange<Cluster>),
    Instance(InstanceId),
    Service(ServiceId),
    Task(RowChange<Task>),
    Event(ServiceId, u64),
}

/// All that changed from `before` to `after`, rendered as it is taken.
pub fn changes(
    before: Arc<State>,
    after: Arc<State>,
    filter: Filter,
) -> impl Iterator<Item = pb::watch_response::Change> + Send {
    pending(State::diff(&before, &after), &filter)
        .into_iter()
        .filter_map(move |item| render(&before, &after, &filter, item))
        .map(|row| pb::watch_response::Change { row: Some(row) })
}

fn pending(changes: Changes, filter: &Filter) -> Vec<Pending> {
    let mut all = Vec::new();
    let of_tasks = |change: &RowChange<Task>| change.latest().cloned();
    let mut instances = ids(&changes.instances, |row: &Instance| row.id);
    let mut services = ids(&changes.services, |row: &Service| row.id);
    for task in changes.tasks.iter().filter_map(of_tasks) {
        instances.extend(task.instance);
        services.extend(task.service());
    }
    if filter.clusters {
        all.extend(changes.clusters.into_iter().map(Pending::Cluster));
    }
    if filter.instances {
        all.extend(instances.into_iter().map(Pending::Instance));
    }
    if filter.services {
        all.extend(services.into_iter().map(Pending::Service));
    }
    if filter.tasks {
        all.extend(changes.tasks.into_iter().map(Pending::Task));
    }
    if filter.events {
        let added = changes.events.into_iter().filter(|(_, change)| change.after.is_some());
        all.extend(added.map(|((service, number), _)| Pending::Event(service, number)));
    }
    all
}

fn ids<T, Id: Ord>(changes: &[RowChange<T>], id: impl Fn(&T) -> Id) -> BTreeSet<Id> {
    changes.iter().filter_map(|change| change.latest()).map(|row| id(row)).collect()
}

fn render(before: &State, after: &State, filter: &Filter, item: Pending) -> Option<Row> {
    match item {
        Pending::Cluster(change) => {
            filter.wants(change.latest()?.id).then_some(())?;
            Some(match &change.after {
                Some(row) => Row::Cluster(Box::new(view::cluster(after, row))),
                None => Row::RemovedArn(Arns::of(before).cluster(&change.latest()?.name)),
            })
        }
        Pending::Instance(id) => {
            let (old, new) = (before.instance(id), after.instance(id));
            filter.wants(new.or(old)?.cluster).then_some(())?;
            changed(
                old.map(|row| view::instance(before, row)),
                new.map(|row| view::instance(after, row)),
                |row| Row::ContainerInstance(Box::new(row)),
                || old.map(|row| Arns::of(before).instance(&name(before, row.cluster), row.id)),
            )
        }
        Pending::Service(id) => {
            let (old, new) = (before.service(id), after.service(id));
            filter.wants(new.or(old)?.cluster).then_some(())?;
            changed(
                old.map(|row| view::service(before, row)),
                new.map(|row| view::service(after, row)),
                |row| Row::Service(Box::new(row)),
                || old.map(|row| service_arn(before, row)),
            )
        }
        Pending::Task(change) => {
            filter.wants(change.latest()?.cluster).then_some(())?;
            Some(match &change.after {
                Some(row) => Row::Task(Box::new(view::task(after, row))),
                None => {
                    let row = change.latest()?;
                    Row::RemovedArn(Arns::of(before).task(&name(before, row.cluster), row.id))
                }
            })
        }
        Pending::Event(service, number) => {
            let row = after.service(service)?;
            filter.wants(row.cluster).then_some(())?;
            let (_, event) = after.events(service).rev().find(|(n, _)| *n == number)?;
            Some(Row::Event(Box::new(pb::WatchedEvent {
                service_arn: service_arn(after, row),
                event: Some(view::event(row, number, event)),
            })))
        }
    }
}

/// The row as it is now, if it looks different; its ARN if it is gone.
fn changed<T: PartialEq>(
    old: Option<T>,
    new: Option<T>,
    row: impl Fn(T) -> Row,
    gone: impl Fn() -> Option<String>,
) -> Option<Row> {
    match (old, new) {
        (Some(old), Some(new)) if old == new => None,
        (_, Some(new)) => Some(row(new)),
        (_, None) => gone().map(Row::RemovedArn),
    }
}

fn service_arn(state: &State, row: &Service) -> String {
    Arns::of(state).service(&name(state, row.cluster), &row.spec.name)
}
