//! What changed between two states, found by comparing them: no change can be forgotten, because
//! nobody has to announce it.
//!
//! Persistent maps share what is equal, so the cost is that of the changes, not of the state.
//! Feeds watchers, the dispatcher and the tables on disk alike.

use crate::access_key::AccessKey;
use crate::alarm::Alarm;
use crate::capacity::{CapacityProvider, ClusterProviders};
use crate::cluster::{Authority, Cluster, Manager, User};
use crate::ids::ServiceId;
use crate::instance::Instance;
use crate::job::Job;
use crate::mark::{AccountSetting, Deletion, Established, Protection};
use crate::pin::Pins;
use crate::policy::Policy;
use crate::schedule::Schedule;
use crate::secret::Secret;
use crate::service::{Event, Service};
use crate::shift::{Pause, Shift};
use crate::signing_key::SigningKey;
use crate::state::{DefinitionRow, Meta, RequestRow, State};
use crate::stored::{Row, Table, key};
use crate::task::Task;
use crate::task_set::TaskSets;
use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use std::sync::Arc;

/// One row before and after; at least one side is there, and they differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Change<T> {
    pub before: Option<Arc<T>>,
    pub after: Option<Arc<T>>,
}

impl<T> Change<T> {
    /// The row as it is, or as it was if it is gone.
    pub fn latest(&self) -> Option<&Arc<T>> {
        self.after.as_ref().or(self.before.as_ref())
    }
}

/// All changed rows, per table in order of their keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// The once-per-cluster row changed; its new value. `Meta::now` alone counts as a change.
    pub meta: Option<Arc<Meta>>,
    /// The authority or a join token changed.
    pub authority: Option<Arc<Authority>>,
    pub signing_key: Option<Change<SigningKey>>,
    pub clusters: Vec<Change<Cluster>>,
    pub definitions: Vec<Change<DefinitionRow>>,
    pub services: Vec<Change<Service>>,
    pub tasks: Vec<Change<Task>>,
    pub instances: Vec<Change<Instance>>,
    pub managers: Vec<Change<Manager>>,
    pub users: Vec<Change<User>>,
    pub events: Vec<((ServiceId, u64), Change<Event>)>,
    pub requests: Vec<Change<RequestRow>>,
    pub protections: Vec<Change<Protection>>,
    pub deletions: Vec<Change<Deletion>>,
    pub settings: Vec<Change<AccountSetting>>,
    pub established: Vec<Change<Established>>,
    pub access_keys: Vec<Change<AccessKey>>,
    pub policies: Vec<Change<Policy>>,
    pub capacity_providers: Vec<Change<CapacityProvider>>,
    pub cluster_providers: Vec<Change<ClusterProviders>>,
    pub shifts: Vec<Change<Shift>>,
    pub pauses: Vec<Change<Pause>>,
    pub pins: Vec<Change<Pins>>,
    pub schedules: Vec<Change<Schedule>>,
    pub secrets: Vec<Change<Secret>>,
    pub jobs: Vec<Change<Job>>,
    pub alarms: Vec<Change<Alarm>>,
    pub task_sets: Vec<Change<TaskSets>>,
}

impl State {
    /// What `after` has that `before` has not, and the other way round. Against `State::default()`
    /// everything is new.
    pub fn diff(before: &State, after: &State) -> Changes {
        let (was, is) = (&before.meta.authority, &after.meta.authority);
        Changes {
            meta: (before.meta != after.meta).then(|| after.meta.clone()),
            authority: (was != is).then(|| is.clone()),
            signing_key: (before.signing_key != after.signing_key).then(|| Change {
                before: before.signing_key.clone(),
                after: after.signing_key.clone(),
            }),
            clusters: values(&before.clusters, &after.clusters),
            definitions: values(&before.definitions, &after.definitions),
            services: values(&before.services, &after.services),
            tasks: values(&before.tasks, &after.tasks),
            instances: values(&before.instances, &after.instances),
            managers: values(&before.managers, &after.managers),
            users: values(&before.users, &after.users),
            events: keyed(&before.events, &after.events).collect(),
            requests: values(&before.requests, &after.requests),
            protections: values(&before.protections, &after.protections),
            deletions: values(&before.deletions, &after.deletions),
            settings: values(&before.settings, &after.settings),
            established: values(&before.established, &after.established),
            access_keys: values(&before.access_keys, &after.access_keys),
            policies: values(&before.policies, &after.policies),
            capacity_providers: values(&before.capacity_providers, &after.capacity_providers),
            cluster_providers: values(&before.cluster_providers, &after.cluster_providers),
            shifts: values(&before.shifts, &after.shifts),
            pauses: values(&before.pauses, &after.pauses),
            pins: values(&before.pins, &after.pins),
            schedules: values(&before.schedules, &after.schedules),
            secrets: values(&before.secrets, &after.secrets),
            jobs: values(&before.jobs, &after.jobs),
            alarms: values(&before.alarms, &after.alarms),
            task_sets: values(&before.task_sets, &after.task_sets),
        }
    }
}

fn keyed<'a, K: Ord + Clone, T: Eq>(
    before: &'a OrdMap<K, Arc<T>>,
    after: &'a OrdMap<K, Arc<T>>,
) -> impl Iterator<Item = (K, Change<T>)> + 'a {
    before
        .diff(after)
        .map(|item| match item {
            DiffItem::Add(key, new) => (key, None, Some(new)),
            DiffItem::Update { old: (key, old), new: (_, new) } => (key, Some(old), Some(new)),
            DiffItem::Remove(key, old) => (key, Some(old), None),
        })
        .map(|(key, before, after)| {
            (key.clone(), Change { before: before.cloned(), after: after.cloned() })
        })
}

fn values<K: Ord + Clone, T: Eq>(
    before: &OrdMap<K, Arc<T>>,
    after: &OrdMap<K, Arc<T>>,
) -> Vec<Change<T>> {
    keyed(before, after).map(|(_, change)| change).collect()
}

/// A line for the store: which table, under which key, and the new row or `None` to delete it.
pub type RowChange = (Table, Vec<u8>, Option<Row>);

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.meta.is_none() && self.authority.is_none() && self.rows().next().is_none()
    }

    /// Every change as the store writes it.
    pub fn rows(&self) -> impl Iterator<Item = RowChange> + '_ {
        let meta = self.meta.iter().map(|m| (Table::Meta, key::meta(), Some(Row::Meta(m.clone()))));
        let authority = self
            .authority
            .iter()
            .map(|row| (Table::Meta, key::authority(), Some(Row::Authority(row.clone()))));
        meta.chain(authority)
            .chain(rows(Table::Clusters, &self.clusters, |r| key::id(r.id.bits()), Row::Cluster))
            .chain(rows(
                Table::Definitions,
                &self.definitions,
                |r| key::number(r.id.0),
                Row::Definition,
            ))
            .chain(rows(Table::Services, &self.services, |r| key::id(r.id.bits()), Row::Service))
            .chain(rows(Table::Tasks, &self.tasks, |r| key::id(r.id.bits()), Row::Task))
            .chain(rows(Table::Instances, &self.instances, |r| key::id(r.id.bits()), Row::Instance))
            .chain(rows(Table::Managers, &self.managers, |r| key::number(r.id.0), Row::Manager))
            .chain(rows(Table::Users, &self.users, |r| key::text(&r.name), Row::User))
            .chain(self.events.iter().map(|((service, number), change)| {
                let row = change.after.clone().map(|event| Row::Event(*service, *number, event));
                (Table::Events, key::event(*service, *number), row)
            }))
            .chain(rows(Table::Requests, &self.requests, |r| key::number(r.index.0), Row::Request))
            .chain(rows(
                Table::AccessKeys,
                &self.access_keys,
                |r| key::id(r.id.bits()),
                Row::AccessKey,
            ))
            .chain(self.marks())
    }
}

impl Changes {
    fn marks(&self) -> impl Iterator<Item = RowChange> + '_ {
        let of = Table::Marks;
        rows(Table::Meta, self.signing_key.as_slice(), |_| key::signing_key(), Row::SigningKey)
            .chain(rows(of, &self.protections, |r| key::protection(r.task), Row::Protection))
            .chain(rows(of, &self.deletions, |r| key::deletion(r.definition), Row::Deletion))
            .chain(rows(of, &self.settings, |r| key::setting(&r.key), Row::AccountSetting))
            .chain(rows(of, &self.established, |r| key::established(r.service), Row::Established))
            .chain(rows(
                of,
                &self.cluster_providers,
                |r| key::cluster_providers(r.cluster),
                Row::ClusterProviders,
            ))
            .chain(rows(of, &self.shifts, |r| key::shift(r.service), Row::Shift))
            .chain(rows(of, &self.pauses, |r| key::pause(r.service), Row::Pause))
            .chain(rows(of, &self.alarms, |r| key::alarm(&r.name), Row::Alarm))
            .chain(rows(of, &self.pins, |r| key::pins(r.service), Row::Pins))
            .chain(rows(of, &self.task_sets, |r| key::task_sets(r.service), Row::TaskSets))
            .chain(rows(Table::Policies, &self.policies, key::policy, Row::Policy))
            .chain(rows(
                Table::CapacityProviders,
                &self.capacity_providers,
                |r| key::text(&r.name),
                Row::CapacityProvider,
            ))
            .chain(rows(Table::Schedules, &self.schedules, |r| key::id(r.id.bits()), Row::Schedule))
            .chain(rows(Table::Secrets, &self.secrets, |r| key::text(&r.name), Row::Secret))
            .chain(rows(Table::Jobs, &self.jobs, |r| key::id(r.id.bits()), Row::Job))
    }
}

fn rows<'a, T>(
    table: Table,
    changes: &'a [Change<T>],
    key: impl Fn(&T) -> Vec<u8> + 'a,
    row: impl Fn(Arc<T>) -> Row + 'a,
) -> impl Iterator<Item = RowChange> + 'a {
    changes.iter().filter_map(move |change| {
        let key = key(change.latest()?);
        Some((table, key, change.after.clone().map(&row)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cmp::Ordering;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    static COMPARED: AtomicU64 = AtomicU64::new(0);

    /// A key that counts how often it is compared.
    #[derive(Clone, PartialEq, Eq)]
    struct Key(u32);

    impl Ord for Key {
        fn cmp(&self, other: &Self) -> Ordering {
            COMPARED.fetch_add(1, Relaxed);
            self.0.cmp(&other.0)
        }
    }
    impl PartialOrd for Key {
        fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
            Some(self.cmp(other))
        }
    }

    fn compared(before: &OrdMap<Key, Arc<u32>>, after: &OrdMap<Key, Arc<u32>>) -> (usize, u64) {
        COMPARED.store(0, Relaxed);
        (keyed(before, after).count(), COMPARED.load(Relaxed))
    }

    /// The cost of a diff is that of the changes: what both states share is skipped unread.
    #[test]
    fn shared_parts_are_skipped() {
        const ROWS: u32 = 100_000;
        let before: OrdMap<Key, Arc<u32>> = (0..ROWS).map(|n| (Key(2 * n), Arc::new(n))).collect();
        assert_eq!(compared(&before, &before.clone()), (0, 0));
        let mut after = before.clone();
        for n in 0..10 {
            let at = n * 9_999;
            after.insert(Key(2 * at), Arc::new(ROWS));
            after.insert(Key(2 * at + 7), Arc::new(at));
            after.remove(&Key(2 * at + 20));
        }
        let (changes, steps) = compared(&before, &after);
        assert_eq!(changes, 30);
        // 30 changes in some 20 leaves of 16 to 64 rows, and the branches above them.
        assert!(steps < 5_000, "{steps} comparisons for {changes} changes in {ROWS} rows");
    }
}
