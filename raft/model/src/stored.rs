//! How rows are named and kept: tables, keys, row values, formats and their upgrades.
//!
//! The store frames each value as `[format][bytes]` and knows nothing of what is inside. `Row` is
//! encoded by position: it is append only, and a changed row type raises its table's format and
//! gets an arm in `Table::upgrades_from`. What users wrote is kept by name (`named`) and grows
//! freely.

use crate::access_key::AccessKey;
use crate::alarm::Alarm;
use crate::capacity::{CapacityProvider, ClusterProviders};
use crate::cluster::{Authority, Cluster, Manager, User};
use crate::error::Error;
use crate::hash::Fnv;
use crate::ids::{Index, ServiceId};
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
use crate::task::Task;
use crate::task_set::TaskSets;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The tables, in the order in which they are written and read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    Meta,
    Clusters,
    Definitions,
    Services,
    Tasks,
    Instances,
    Managers,
    Users,
    Events,
    Requests,
    Marks,
    AccessKeys,
    Policies,
    CapacityProviders,
    Schedules,
    Secrets,
    Jobs,
}

impl Table {
    pub const ALL: [Table; 17] = [
        Self::Meta,
        Self::Clusters,
        Self::Definitions,
        Self::Services,
        Self::Tasks,
        Self::Instances,
        Self::Managers,
        Self::Users,
        Self::Events,
        Self::Requests,
        Self::Marks,
        Self::AccessKeys,
        Self::Policies,
        Self::CapacityProviders,
        Self::Schedules,
        Self::Secrets,
        Self::Jobs,
    ];

    /// The name of its column family; never changes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Meta => "cluster_meta",
            Self::Clusters => "clusters",
            Self::Definitions => "definitions",
            Self::Services => "services",
            Self::Tasks => "tasks",
            Self::Instances => "instances",
            Self::Managers => "managers",
            Self::Users => "users",
            Self::Events => "events",
            Self::Requests => "requests",
            Self::Marks => "marks",
            Self::AccessKeys => "access_keys",
            Self::Policies => "policies",
            Self::CapacityProviders => "capacity_providers",
            Self::Schedules => "schedules",
            Self::Secrets => "secrets",
            Self::Jobs => "jobs",
        }
    }

    /// The format in which rows of this table are written today.
    pub const fn format(self) -> u8 {
        1
    }

    /// Whether rows of an older format can be read. The seam for upgrades: a table whose row type
    /// changes keeps the old type in `stored/`, and its rows are converted while loading.
    pub const fn reads(self, format: u8) -> bool {
        format == self.format()
    }
}

/// One row of one table, as it is stored and sent in snapshots. Append only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Row {
    Meta(Arc<Meta>),
    Cluster(Arc<Cluster>),
    Definition(Arc<DefinitionRow>),
    Service(Arc<Service>),
    Task(Arc<Task>),
    Instance(Arc<Instance>),
    Manager(Arc<Manager>),
    User(Arc<User>),
    Event(ServiceId, u64, Arc<Event>),
    Request(Arc<RequestRow>),
    Authority(Arc<Authority>),
    Protection(Arc<Protection>),
    Deletion(Arc<Deletion>),
    AccountSetting(Arc<AccountSetting>),
    AccessKey(Arc<AccessKey>),
    Policy(Arc<Policy>),
    Established(Arc<Established>),
    CapacityProvider(Arc<CapacityProvider>),
    ClusterProviders(Arc<ClusterProviders>),
    Shift(Arc<Shift>),
    Pause(Arc<Pause>),
    Schedule(Arc<Schedule>),
    Secret(Arc<Secret>),
    SigningKey(Arc<SigningKey>),
    Job(Arc<Job>),
    Alarm(Arc<Alarm>),
    Pins(Arc<Pins>),
    TaskSets(Arc<TaskSets>),
}

/// Keys: big-endian, so that their order as bytes is the order of ids.
pub(crate) mod key {
    use crate::cluster::UserRole;
    use crate::ids::{ClusterId, DefinitionId, ServiceId, TaskId};
    use crate::mark::SettingKey;
    use crate::policy::{Holder, Policy};

    pub fn meta() -> Vec<u8> {
        vec![0]
    }
    pub fn authority() -> Vec<u8> {
        vec![1]
    }
    pub fn signing_key() -> Vec<u8> {
        vec![2]
    }
    pub fn id(bits: u128) -> Vec<u8> {
        bits.to_be_bytes().to_vec()
    }
    pub fn number(number: u64) -> Vec<u8> {
        number.to_be_bytes().to_vec()
    }
    pub fn text(text: &str) -> Vec<u8> {
        text.as_bytes().to_vec()
    }
    /// No name has a zero byte, so the order is that of holders, then of names.
    pub fn policy(row: &Policy) -> Vec<u8> {
        let (kind, holder): (u8, &str) = match &row.holder {
            Holder::Role(UserRole::Admin) => (0, "admin"),
            Holder::Role(UserRole::Operator) => (0, "operator"),
            Holder::Role(UserRole::ReadOnly) => (0, "read-only"),
            Holder::Role(UserRole::Restricted) => (0, "restricted"),
            Holder::User(name) => (1, name),
            Holder::TaskRole(name) => (2, name),
        };
        [&[kind], holder.as_bytes(), &[0], row.name.as_bytes()].concat()
    }
    pub fn event(service: ServiceId, number: u64) -> Vec<u8> {
        [&service.bits().to_be_bytes()[..], &number.to_be_bytes()[..]].concat()
    }
    // Marks are of several kinds: the first byte says of which.
    pub fn protection(task: TaskId) -> Vec<u8> {
        [&[0], &task.bits().to_be_bytes()[..]].concat()
    }
    pub fn deletion(definition: DefinitionId) -> Vec<u8> {
        [&[1], &definition.0.to_be_bytes()[..]].concat()
    }
    pub fn shift(service: ServiceId) -> Vec<u8> {
        [&[6], &service.bits().to_be_bytes()[..]].concat()
    }
    pub fn pause(service: ServiceId) -> Vec<u8> {
        [&[7], &service.bits().to_be_bytes()[..]].concat()
    }
    pub fn pins(service: ServiceId) -> Vec<u8> {
        [&[8], &service.bits().to_be_bytes()[..]].concat()
    }
    /// Names are text without a zero byte, so no two keys are one, and none is a principal less
    /// than another's.
    pub fn setting(of: &SettingKey) -> Vec<u8> {
        let (kind, principal) = match &of.principal {
            None => (2, ""),
            Some(principal) => (3, &**principal),
        };
        [&[kind], principal.as_bytes(), &[0], of.name.as_bytes()].concat()
    }
    pub fn established(service: ServiceId) -> Vec<u8> {
        [&[4], &service.bits().to_be_bytes()[..]].concat()
    }
    pub fn alarm(name: &str) -> Vec<u8> {
        [&[9], name.as_bytes()].concat()
    }
    pub fn task_sets(service: ServiceId) -> Vec<u8> {
        [&[10], &service.bits().to_be_bytes()[..]].concat()
    }
    pub fn cluster_providers(cluster: ClusterId) -> Vec<u8> {
        [&[5], &cluster.bits().to_be_bytes()[..]].concat()
    }
}

impl Row {
    pub fn table(&self) -> Table {
        match self {
            Self::Meta(_) | Self::Authority(_) | Self::SigningKey(_) => Table::Meta,
            Self::Cluster(_) => Table::Clusters,
            Self::Definition(_) => Table::Definitions,
            Self::Service(_) => Table::Services,
            Self::Task(_) => Table::Tasks,
            Self::Instance(_) => Table::Instances,
            Self::Manager(_) => Table::Managers,
            Self::User(_) => Table::Users,
            Self::Event(..) => Table::Events,
            Self::Request(..) => Table::Requests,
            Self::Protection(_)
            | Self::Deletion(_)
            | Self::AccountSetting(_)
            | Self::Established(_)
            | Self::ClusterProviders(_)
            | Self::Shift(_)
            | Self::Pause(_)
            | Self::Alarm(_)
            | Self::Pins(_)
            | Self::TaskSets(_) => Table::Marks,
            Self::AccessKey(_) => Table::AccessKeys,
            Self::Policy(_) => Table::Policies,
            Self::CapacityProvider(_) => Table::CapacityProviders,
            Self::Schedule(_) => Table::Schedules,
            Self::Secret(_) => Table::Secrets,
            Self::Job(_) => Table::Jobs,
        }
    }

    /// The key within its table.
    pub fn key(&self) -> Vec<u8> {
        match self {
            Self::Meta(_) => key::meta(),
            Self::Authority(_) => key::authority(),
            Self::SigningKey(_) => key::signing_key(),
            Self::Cluster(row) => key::id(row.id.bits()),
            Self::Definition(row) => key::number(row.id.0),
            Self::Service(row) => key::id(row.id.bits()),
            Self::Task(row) => key::id(row.id.bits()),
            Self::Instance(row) => key::id(row.id.bits()),
            Self::Manager(row) => key::number(row.id.0),
            Self::User(row) => key::text(&row.name),
            Self::Event(service, number, _) => key::event(*service, *number),
            Self::Request(row) => key::number(row.index.0),
            Self::Protection(row) => key::protection(row.task),
            Self::Deletion(row) => key::deletion(row.definition),
            Self::AccountSetting(row) => key::setting(&row.key),
            Self::Established(row) => key::established(row.service),
            Self::Shift(row) => key::shift(row.service),
            Self::Pause(row) => key::pause(row.service),
            Self::Pins(row) => key::pins(row.service),
            Self::TaskSets(row) => key::task_sets(row.service),
            Self::AccessKey(row) => key::id(row.id.bits()),
            Self::Policy(row) => key::policy(row),
            Self::CapacityProvider(row) => key::text(&row.name),
            Self::Schedule(row) => key::id(row.id.bits()),
            Self::ClusterProviders(row) => key::cluster_providers(row.cluster),
            Self::Secret(row) => key::text(&row.name),
            Self::Job(row) => key::id(row.id.bits()),
            Self::Alarm(row) => key::alarm(&row.name),
        }
    }
}

impl State {
    /// Every row, table by table in the order of `Table::ALL`, within one in order of keys.
    pub fn rows(&self) -> impl Iterator<Item = Row> + '_ {
        [Row::Meta(self.meta.clone()), Row::Authority(self.meta.authority.clone())]
            .into_iter()
            .chain(self.signing_key.iter().cloned().map(Row::SigningKey))
            .chain(self.clusters.values().cloned().map(Row::Cluster))
            .chain(self.definitions.values().cloned().map(Row::Definition))
            .chain(self.services.values().cloned().map(Row::Service))
            .chain(self.tasks.values().cloned().map(Row::Task))
            .chain(self.instances.values().cloned().map(Row::Instance))
            .chain(self.managers.values().cloned().map(Row::Manager))
            .chain(self.users.values().cloned().map(Row::User))
            .chain(self.events.iter().map(|((s, n), e)| Row::Event(*s, *n, e.clone())))
            .chain(self.requests.values().cloned().map(Row::Request))
            .chain(self.protections.values().cloned().map(Row::Protection))
            .chain(self.deletions.values().cloned().map(Row::Deletion))
            .chain(self.settings.values().cloned().map(Row::AccountSetting))
            .chain(self.established.values().cloned().map(Row::Established))
            .chain(self.cluster_providers.values().cloned().map(Row::ClusterProviders))
            .chain(self.shifts.values().cloned().map(Row::Shift))
            .chain(self.pauses.values().cloned().map(Row::Pause))
            .chain(self.alarms.values().cloned().map(Row::Alarm))
            .chain(self.pins.values().cloned().map(Row::Pins))
            .chain(self.task_sets.values().cloned().map(Row::TaskSets))
            .chain(self.access_keys.values().cloned().map(Row::AccessKey))
            .chain(self.policies.values().cloned().map(Row::Policy))
            .chain(self.capacity_providers.values().cloned().map(Row::CapacityProvider))
            .chain(self.schedules.values().cloned().map(Row::Schedule))
            .chain(self.secrets.values().cloned().map(Row::Secret))
            .chain(self.jobs.values().cloned().map(Row::Job))
    }

    /// The state that these rows, in any order, make up; indexes are built anew.
    ///
    /// Fails with `UpgradeRequired` if a task refers to a definition that is not among the rows:
    /// what it reserves would be unknown, so such a table is refused rather than guessed at.
    pub fn restore(rows: impl Iterator<Item = Row>, applied: Index) -> Result<State, Error> {
        let mut state = State { applied, ..State::default() };
        let mut tasks = Vec::new();
        for row in rows {
            match row {
                Row::Task(task) => tasks.push(task),
                row => state.put_row(row),
            }
        }
        for task in tasks {
            if state.definition(task.definition).is_none() {
                let what = format!("task {} has unknown definition {}", task.id, task.definition);
                return Err(Error::UpgradeRequired { what });
            }
            state.put_task(task);
        }
        Ok(state)
    }

    /// A hash of all rows, the same on every machine: two managers that applied the same entries
    /// have the same one. The applied index is not part of it.
    pub fn hash(&self) -> u64 {
        let mut hash = Fnv::new();
        for row in self.rows() {
            hash.add(&row);
        }
        hash.finish()
    }

    /// Definitions must come before the tasks that use them.
    pub(crate) fn put_row(&mut self, row: Row) {
        match row {
            Row::Meta(row) => self.put_meta(row),
            Row::Authority(row) => self.put_authority(row),
            Row::Cluster(row) => self.put_cluster(row),
            Row::Definition(row) => self.put_definition(row),
            Row::Service(row) => self.put_service(row),
            Row::Task(row) => self.put_task(row),
            Row::Instance(row) => self.put_instance(row),
            Row::Manager(row) => self.put_manager(row),
            Row::User(row) => self.put_user(row),
            Row::Event(service, number, row) => self.put_event(service, number, row),
            Row::Request(row) => self.put_request(row),
            Row::Protection(row) => self.put_protection(row),
            Row::Deletion(row) => self.put_deletion(row),
            Row::AccountSetting(row) => self.put_setting(row),
            Row::Established(row) => self.put_established(row),
            Row::AccessKey(row) => self.put_access_key(row),
            Row::Policy(row) => self.put_policy(row),
            Row::CapacityProvider(row) => self.put_capacity_provider(row),
            Row::ClusterProviders(row) => self.put_cluster_providers(row),
            Row::Shift(row) => self.put_shift(row),
            Row::Pause(row) => self.put_pause(row),
            Row::Pins(row) => self.put_pins(row),
            Row::TaskSets(row) => self.put_task_sets(row),
            Row::Schedule(row) => self.put_schedule(row),
            Row::Secret(row) => self.put_secret(row),
            Row::SigningKey(row) => self.put_signing_key(row),
            Row::Job(row) => self.put_job(row),
            Row::Alarm(row) => self.put_alarm(row),
        }
    }
}

/// Serialises a value as self-describing bytes (CBOR) inside a positional encoding, so that
/// what users wrote can gain fields: an absent field takes its default when read back.
pub mod named {
    use serde::de::{DeserializeOwned, Error as _};
    use serde::ser::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::sync::Arc;

    pub fn serialize<T: Serialize, S: Serializer>(
        value: &Arc<T>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::new();
        ciborium::into_writer(&**value, &mut bytes).map_err(S::Error::custom)?;
        bytes.serialize(to)
    }

    pub fn deserialize<'de, T: DeserializeOwned, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Arc<T>, D::Error> {
        let bytes = Vec::<u8>::deserialize(from)?;
        ciborium::from_reader(bytes.as_slice()).map(Arc::new).map_err(D::Error::custom)
    }
}

/// `named` for a value that may be absent.
pub mod named_option {
    use serde::de::DeserializeOwned;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::sync::Arc;

    #[derive(Serialize, Deserialize)]
    #[serde(bound(serialize = "T: Serialize", deserialize = "T: DeserializeOwned"))]
    struct Named<T>(#[serde(with = "super::named")] Arc<T>);

    pub fn serialize<T: Serialize, S: Serializer>(
        value: &Option<Arc<T>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        value.clone().map(Named).serialize(to)
    }

    pub fn deserialize<'de, T: DeserializeOwned, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Arc<T>>, D::Error> {
        Ok(Option::<Named<T>>::deserialize(from)?.map(|named| named.0))
    }
}
