//! ARNs, written and read. They exist only here and in `convert`: inside there are ids.
//!
//! Read: every form ECS clients send (a name, an id, `service/web`, a full ARN). It does not know
//! what a row is used for. Invariant: what `Arns` writes, the readers below find again.

use muster_model::{
    Cluster, ClusterId, DefinitionRow, Deployment, DeploymentId, Error, Instance, InstanceId,
    InstanceStatus, Kind, Response, Revision, Service, State, Task, TaskId,
    cluster::DEFAULT_CLUSTER, command::Resource,
};
use std::fmt::Write;
use std::sync::Arc;

/// Most ARNs are shorter: a watch of tasks writes five for each.
const USUAL_BYTES: usize = 128;
/// Longest reference that is looked at: a full ARN with two names of 255 characters is shorter.
const REFERENCE_BYTES_MAX: usize = 1024;

/// Writes ARNs with the region and account of a cluster of managers.
#[derive(Clone, Copy, Debug)]
pub struct Arns<'a> {
    region: &'a str,
    account: &'a str,
}

impl<'a> Arns<'a> {
    pub fn of(state: &'a State) -> Self {
        let meta = state.meta();
        Self { region: &meta.region, account: &meta.account }
    }

    pub fn new(account: &'a str, region: &'a str) -> Self {
        Self { region, account }
    }

    fn arn(&self, resource: std::fmt::Arguments<'_>) -> String {
        let mut arn = String::with_capacity(USUAL_BYTES);
        // Writing to a string does not fail.
        let _ = write!(arn, "arn:aws:ecs:{}:{}:{resource}", self.region, self.account);
        arn
    }

    pub fn cluster(&self, name: &str) -> String {
        self.arn(format_args!("cluster/{name}"))
    }
    pub fn service(&self, cluster: &str, name: &str) -> String {
        self.arn(format_args!("service/{cluster}/{name}"))
    }
    pub fn task(&self, cluster: &str, id: TaskId) -> String {
        self.arn(format_args!("task/{cluster}/{id}"))
    }
    pub fn instance(&self, cluster: &str, id: InstanceId) -> String {
        self.arn(format_args!("container-instance/{cluster}/{id}"))
    }
    /// ECS gives each container a UUID; ours follows from its task and name.
    pub fn container(&self, cluster: &str, task: TaskId, name: &str) -> String {
        let hash = fnv128(&[&task.bits().to_be_bytes()[..], name.as_bytes()]);
        // The groups of a UUID: how many bits are behind each, and how many it has.
        let [a, b, c, d, e] = [(96, 32), (80, 16), (64, 16), (48, 16), (0, 48)]
            .map(|(behind, bits)| (hash >> behind) as u64 & ((1 << bits) - 1));
        self.arn(format_args!(
            "container/{cluster}/{task}/{a:08x}-{b:04x}-{c:04x}-{d:04x}-{e:012x}"
        ))
    }
    pub fn definition(&self, family: &str, revision: Revision) -> String {
        self.arn(format_args!("task-definition/{family}:{revision}"))
    }

    /// A deployment of a service as an object of its own.
    pub fn service_deployment(&self, cluster: &str, service: &str, id: DeploymentId) -> String {
        self.arn(format_args!("service-deployment/{cluster}/{service}/{}", id.number()))
    }
    /// What a deployment brings out: each deployment of ours has its own revision, of its number.
    pub fn service_revision(&self, cluster: &str, service: &str, id: DeploymentId) -> String {
        self.arn(format_args!("service-revision/{cluster}/{service}/{}", id.number()))
    }
    pub fn capacity_provider(&self, name: &str) -> String {
        self.arn(format_args!("capacity-provider/{name}"))
    }
    pub fn task_set(&self, cluster: &str, service: &str, id: &str) -> String {
        self.arn(format_args!("task-set/{cluster}/{service}/{id}"))
    }

    /// The part behind `arn:aws:ecs:<region>:<account>:`, or the text itself if it is no ARN.
    fn resource<'t>(&self, field: &str, text: &'t str) -> Result<&'t str, Error> {
        let allowed =
            || format!("a name, an id or an ARN that begins {}", self.arn(format_args!("")));
        if text.len() > REFERENCE_BYTES_MAX {
            return Err(Error::invalid(field, text, allowed()));
        }
        if !text.starts_with("arn:") {
            return Ok(text);
        }
        let mut parts = text.splitn(6, ':');
        let head = [parts.next(), parts.next(), parts.next(), parts.next(), parts.next()];
        let ours =
            head == [Some("arn"), Some("aws"), Some("ecs"), Some(self.region), Some(self.account)];
        match parts.next() {
            Some(resource) if ours => Ok(resource),
            _ => Err(Error::invalid(field, text, allowed())),
        }
    }
}

/// The ARNs of what a request was answered with, as far as it is still there.
pub fn of_response(state: &State, response: &Response) -> Vec<String> {
    let arns = Arns::of(state);
    let one = |arn: Option<String>| arn.into_iter().collect();
    match response {
        Response::Cluster(id) => one(state.cluster(*id).map(|row| arns.cluster(&row.name))),
        Response::Definition(id) => {
            one(state.definition(*id).map(|row| arns.definition(&row.family, row.revision)))
        }
        Response::Service(id) => one(state.service(*id).map(|row| {
            let cluster = name_of(state, row.cluster);
            arns.service(&cluster, &row.spec.name)
        })),
        Response::Instance(id) => one(state.instance(*id).map(|row| {
            let cluster = name_of(state, row.cluster);
            arns.instance(&cluster, row.id)
        })),
        Response::Tasks(ids) | Response::Started { tasks: ids, .. } => {
            let rows = ids.iter().filter_map(|id| state.task(*id));
            rows.map(|row| arns.task(&name_of(state, row.cluster), row.id)).collect()
        }
        Response::CapacityProvider(name) => vec![arns.capacity_provider(name)],
        Response::TaskSet { service, set } => one(state.service(*service).map(|row| {
            let cluster = name_of(state, row.cluster);
            arns.task_set(&cluster, &row.spec.name, &set.shown())
        })),
        // What has no ARN.
        Response::Done
        | Response::Plan { .. }
        | Response::Reports { .. }
        | Response::Manager(_)
        | Response::AccessKey(_)
        | Response::Schedule(_)
        | Response::Job(_)
        | Response::Secret { .. } => Vec::new(),
    }
}

/// 128-bit FNV-1a: names and tokens to ids, the same on every manager and in every version.
pub fn fnv128(parts: &[&[u8]]) -> u128 {
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let bytes = parts.iter().flat_map(|part| part.iter());
    bytes.fold(BASIS, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(PRIME))
}

/// The name a cluster is asked for by; empty means `default`.
pub fn cluster_name<'t>(state: &State, text: &'t str) -> Result<&'t str, Error> {
    if text.is_empty() {
        return Ok(DEFAULT_CLUSTER);
    }
    let resource = Arns::of(state).resource("cluster", text)?;
    Ok(resource.strip_prefix("cluster/").unwrap_or(resource))
}

/// The active cluster that `text` names; empty means `default`.
pub fn cluster<'s>(state: &'s State, text: &str) -> Result<&'s Arc<Cluster>, Error> {
    let name = cluster_name(state, text)?;
    state.cluster_named(name).ok_or_else(|| Error::not_found(Kind::Cluster, name))
}

/// As `cluster`, but finds a deleted one too: `describe` shows it as INACTIVE.
pub fn cluster_or_deleted<'s>(state: &'s State, text: &str) -> Result<&'s Arc<Cluster>, Error> {
    let name = cluster_name(state, text)?;
    let newest = || state.clusters().filter(|c| &*c.name == name).max_by_key(|c| c.created_at);
    state.cluster_named(name).or_else(newest).ok_or_else(|| Error::not_found(Kind::Cluster, name))
}

/// The last part of `kind/[cluster/]last`; a bare `last` stays. `None` if another cluster or
/// another kind of thing is named.
fn within<'t>(resource: &'t str, kind: &str, cluster: &Cluster) -> Option<&'t str> {
    let Some((first, rest)) = resource.split_once('/') else { return Some(resource) };
    if first != kind {
        return None;
    }
    match rest.split_once('/') {
        None => Some(rest),
        Some((named, last)) => (*named == *cluster.name).then_some(last),
    }
}

/// The name a service of this cluster is asked for by.
fn service_name<'t>(state: &State, cluster: &Cluster, text: &'t str) -> Result<&'t str, Error> {
    let resource = Arns::of(state).resource("service", text)?;
    within(resource, "service", cluster).ok_or_else(|| Error::not_found(Kind::Service, text))
}

/// The service that `text` names, unless it is INACTIVE.
pub fn service<'s>(
    state: &'s State,
    cluster: &Cluster,
    text: &str,
) -> Result<&'s Arc<Service>, Error> {
    let name = service_name(state, cluster, text)?;
    state.service_named(cluster.id, name).ok_or_else(|| Error::not_found(Kind::Service, name))
}

/// As `service`, but says of an INACTIVE one that it is: what is to be changed must be ACTIVE.
pub fn service_to_change<'s>(
    state: &'s State,
    cluster: &Cluster,
    text: &str,
) -> Result<&'s Arc<Service>, Error> {
    service(state, cluster, text).map_err(|error| match service_or_deleted(state, cluster, text) {
        Ok(row) => Error::NotActive { kind: Kind::Service, name: row.spec.name.clone() },
        Err(_) => error,
    })
}

/// As `service`, but finds an INACTIVE one too, the newest of its name: it stays describable.
pub fn service_or_deleted<'s>(
    state: &'s State,
    cluster: &Cluster,
    text: &str,
) -> Result<&'s Arc<Service>, Error> {
    let name = service_name(state, cluster, text)?;
    let newest = || {
        let named = |s: &&Arc<Service>| s.cluster == cluster.id && s.spec.name == name;
        state.services().filter(named).max_by_key(|s| (s.created_at, s.id))
    };
    state
        .service_named(cluster.id, name)
        .or_else(newest)
        .ok_or_else(|| Error::not_found(Kind::Service, name))
}

/// The task set of the service that `text` names by its id or ARN.
pub fn task_set(
    state: &State,
    cluster: &Cluster,
    service: &Service,
    text: &str,
) -> Result<DeploymentId, Error> {
    let missing = || Error::not_found(Kind::TaskSet, text);
    let resource = Arns::of(state).resource("taskSet", text)?;
    let id = match resource.strip_prefix("task-set/") {
        None => resource,
        Some(path) => {
            let own = format!("{}/{}/", cluster.name, service.spec.name);
            path.strip_prefix(&*own).ok_or_else(missing)?
        }
    };
    let sets = state.task_sets(service.id).ok_or_else(missing)?;
    sets.sets.keys().copied().find(|set| set.shown() == id).ok_or_else(missing)
}

/// The task of this cluster that `text` names by id or ARN.
pub fn task<'s>(state: &'s State, cluster: &Cluster, text: &str) -> Result<&'s Arc<Task>, Error> {
    let missing = || Error::not_found(Kind::Task, text);
    let resource = Arns::of(state).resource("task", text)?;
    let id: TaskId =
        within(resource, "task", cluster).ok_or_else(missing)?.parse().map_err(|_| missing())?;
    state.task(id).filter(|task| task.cluster == cluster.id).ok_or_else(missing)
}

/// The instance of this cluster that `text` names by id, ARN or, if only one that is not
/// deregistered has it, host name.
pub fn instance<'s>(
    state: &'s State,
    cluster: &Cluster,
    text: &str,
) -> Result<&'s Arc<Instance>, Error> {
    let missing = || Error::not_found(Kind::ContainerInstance, text);
    let resource = Arns::of(state).resource("containerInstance", text)?;
    let last = within(resource, "container-instance", cluster).ok_or_else(missing)?;
    let here = |instance: &&Arc<Instance>| instance.cluster == cluster.id;
    if let Ok(id) = last.parse::<InstanceId>() {
        return state.instance(id).filter(here).ok_or_else(missing);
    }
    let mut named = state
        .instances()
        .filter(here)
        .filter(|i| i.status != InstanceStatus::Inactive && i.spec.hostname == last);
    match (named.next(), named.next()) {
        (Some(instance), None) => Ok(instance),
        (Some(_), Some(_)) => {
            Err(Error::invalid("containerInstance", text, "an id: several have this host name"))
        }
        (None, _) => Err(missing()),
    }
}

/// `family` and, if it is given, `revision` of `family`, `family:revision` or an ARN.
pub fn family<'t>(state: &State, text: &'t str) -> Result<(&'t str, Option<Revision>), Error> {
    const FIELD: &str = "taskDefinition";
    let resource = Arns::of(state).resource(FIELD, text)?;
    let resource = resource.strip_prefix("task-definition/").unwrap_or(resource);
    let Some((family, revision)) = resource.split_once(':') else { return Ok((resource, None)) };
    let digits = revision.bytes().all(|b| b.is_ascii_digit());
    match revision.parse() {
        Ok(number) if digits && number > 0 => Ok((family, Some(Revision(number)))),
        _ => Err(Error::invalid(
            FIELD,
            text,
            format!(
                "Invalid revision number. Number: {revision} (Write family or family:revision.)"
            ),
        )),
    }
}

/// The task definition that `text` names; without a revision the newest ACTIVE one.
pub fn definition<'s>(state: &'s State, text: &str) -> Result<&'s Arc<DefinitionRow>, Error> {
    let (family, revision) = family(state, text)?;
    let row = match revision {
        Some(revision) => state.revision(family, revision),
        None => state.latest(family),
    };
    row.ok_or_else(|| Error::not_found(Kind::TaskDefinition, text))
}

/// The name of the capacity provider that `text`, in `field`, names by itself or by its ARN.
pub fn capacity_provider<'t>(field: &str, state: &State, text: &'t str) -> Result<&'t str, Error> {
    let resource = Arns::of(state).resource(field, text)?;
    let name = resource.strip_prefix("capacity-provider/").unwrap_or(resource);
    let charset = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    match !name.is_empty() && name.bytes().all(charset) {
        true => Ok(name),
        false => Err(Error::invalid(field, text, "the name or the ARN of a capacity provider")),
    }
}

/// The row that an ARN names, for tags: a cluster, a service, a task, a container instance, a
/// revision of a task definition, a task set or a capacity provider.
pub fn resource(state: &State, text: &str) -> Result<Resource, Error> {
    const FIELD: &str = "resourceArn";
    let allowed = "the ARN of a cluster, a service, a task, a task set, a container instance, \
                   a task definition or a capacity provider";
    let invalid = || Error::invalid(FIELD, text, allowed);
    let path = Arns::of(state).resource(FIELD, text)?;
    let (kind, rest) =
        path.split_once('/').filter(|_| text.starts_with("arn:")).ok_or_else(invalid)?;
    if kind == "cluster" {
        return cluster(state, rest).map(|row| Resource::Cluster(row.id));
    }
    if kind == "capacity-provider" {
        let name = capacity_provider(FIELD, state, text)?;
        let row = state.capacity_provider(name).filter(|row| row.deleted_at.is_none());
        let row = row.ok_or_else(|| Error::not_found(Kind::CapacityProvider, name))?;
        return Ok(Resource::CapacityProvider(row.name.clone()));
    }
    if kind == "task-definition" {
        return match family(state, text)? {
            (_, Some(_)) => definition(state, text).map(|row| Resource::Definition(row.id)),
            (_, None) => Err(Error::invalid(FIELD, text, "Revision is missing. Name one.")),
        };
    }
    let owner = |state| cluster_of(state, rest).ok_or_else(invalid);
    match kind {
        "task-set" => {
            let (cluster, name) = (owner(state)?, rest.split('/').nth(1).unwrap_or_default());
            let row = service(state, cluster, name)?;
            let set = task_set(state, cluster, row, text)?;
            Ok(Resource::TaskSet { service: row.id, set })
        }
        "service" => service(state, owner(state)?, text).map(|row| Resource::Service(row.id)),
        "task" => task(state, owner(state)?, text).map(|row| Resource::Task(row.id)),
        "container-instance" => {
            instance(state, owner(state)?, text).map(|row| Resource::Instance(row.id))
        }
        _ => Err(invalid()),
    }
}

/// The service that the ARN of a deployment or a revision of it names, and which of its
/// deployments, also of those that are over; `written` writes the ARN of one.
pub fn part_of_service<'s>(
    state: &'s State,
    kind: &str,
    text: &str,
    written: impl Fn(&str, &str, DeploymentId) -> String,
) -> Result<(&'s Arc<Service>, &'s Deployment), Error> {
    let missing = || Error::not_found(Kind::Deployment, text);
    let path = Arns::of(state).resource("arn", text)?;
    let mut parts = path.splitn(4, '/');
    let (of, cluster, service) = (parts.next(), parts.next(), parts.next());
    let (Some(cluster), Some(service)) = (cluster, service) else { return Err(missing()) };
    if of != Some(kind) {
        return Err(missing());
    }
    let cluster = state.cluster_named(cluster).ok_or_else(missing)?;
    let row = service_or_deleted(state, cluster, service).map_err(|_| missing())?;
    let named = |id| written(&cluster.name, service, id) == text;
    // Task sets are no deployments to ECS.
    let mut known = row.all_deployments().filter(|_| !row.spec.is_external());
    let found = known.find(|d| named(d.id)).ok_or_else(missing)?;
    Ok((row, found))
}

/// The cluster of `cluster/last`; a short ARN without one means `default`.
fn cluster_of<'s>(state: &'s State, rest: &str) -> Option<&'s Arc<Cluster>> {
    let name = rest.split_once('/').map_or(DEFAULT_CLUSTER, |(cluster, _)| cluster);
    state.cluster_named(name)
}

/// The name of a cluster for an ARN; a row outlives its cluster only briefly, then by its id.
pub fn name_of(state: &State, cluster: ClusterId) -> Arc<str> {
    match state.cluster(cluster) {
        Some(row) => row.name.clone(),
        None => Arc::from(cluster.to_string()),
    }
}
