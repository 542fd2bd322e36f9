//! Requests about clusters and about the tags of any resource.

use super::{At, capacity, name, tag_of_users, tags, text};
use crate::{arn, pb};
use muster_model::capacity::CapacityCommand;
use muster_model::cluster::{
    DEFAULT_CLUSTER, HEALTHY_AFTER_SETTING, INSTANCE_METADATA_SETTING, PRIVILEGED_SETTING,
    SWITCH_VALUES, ZONE_RESERVE_SETTING, zone_reserve,
};
use muster_model::command::{CreateCluster, Resource};
use muster_model::error::Kind;
use muster_model::limits::{HEALTHY_AFTER_SECS_MAX, NAME_CHARS_MAX, TAG_KEY_CHARS_MAX, TAGS_MAX};
use muster_model::spec::Tags;
use muster_model::{ClusterId, Command, Error, IdSource, State};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The one setting ECS has for clusters, and its values. The others are ours: see `settings`.
const CONTAINER_INSIGHTS: (&str, [&str; 3]) =
    ("containerInsights", ["enabled", "disabled", "enhanced"]);

/// CreateCluster; without a name it is `default`.
pub fn create(
    state: &State,
    ids: &mut IdSource,
    wire: &pb::CreateClusterRequest,
) -> Result<Command, Error> {
    let cluster_name = match wire.cluster_name.as_str() {
        "" => DEFAULT_CLUSTER,
        given => given,
    };
    name(&At::Field("clusterName"), cluster_name)?;
    nothing_else(wire.configuration.as_ref(), wire.service_connect_defaults.as_ref())?;
    let create = CreateCluster {
        id: ids.cluster(),
        name: Arc::from(cluster_name),
        settings: settings(&wire.settings)?,
        tags: tags(&At::Field("tags"), &wire.tags)?,
    };
    let strategy = &wire.default_capacity_provider_strategy;
    if wire.capacity_providers.is_empty() && strategy.is_empty() {
        return Ok(Command::CreateCluster(create));
    }
    let providers = capacity::of_cluster(state, create.id, &wire.capacity_providers, strategy)?;
    Ok(Command::Capacity(CapacityCommand::CreateCluster { create, providers }))
}

/// UpdateCluster: its settings; the rest is not built.
pub fn update(state: &State, wire: &pb::UpdateClusterRequest) -> Result<Command, Error> {
    nothing_else(wire.configuration.as_ref(), wire.service_connect_defaults.as_ref())?;
    set(state, &wire.cluster, &wire.settings)
}

/// UpdateClusterSettings; ECS requires some.
pub fn update_settings(
    state: &State,
    wire: &pb::UpdateClusterSettingsRequest,
) -> Result<Command, Error> {
    if wire.settings.is_empty() {
        return Err(Error::invalid("settings", "", known_settings()));
    }
    set(state, &wire.cluster, &wire.settings)
}

/// PutClusterCapacityProviders: replaces both lists.
pub fn put_providers(
    state: &State,
    wire: &pb::PutClusterCapacityProvidersRequest,
) -> Result<Command, Error> {
    let cluster = named(state, &wire.cluster)?;
    let strategy = &wire.default_capacity_provider_strategy;
    let wanted = capacity::of_cluster(state, cluster, &wire.capacity_providers, strategy)?;
    Ok(Command::Capacity(CapacityCommand::Put(wanted)))
}

/// ECS requires the name.
fn named(state: &State, cluster: &str) -> Result<ClusterId, Error> {
    match cluster {
        "" => Err(Error::invalid("cluster", "", "a name or an ARN")),
        text => Ok(arn::cluster(state, text)?.id),
    }
}

fn set(state: &State, cluster: &str, wire: &[pb::Setting]) -> Result<Command, Error> {
    let (settings, cluster) = (settings(wire)?, named(state, cluster)?);
    Ok(Command::UpdateCluster { cluster, settings })
}

/// Settings of what is not built; an empty one asks for nothing.
fn nothing_else(
    configuration: Option<&pb::ClusterConfiguration>,
    connect: Option<&pb::ClusterServiceConnectDefaultsRequest>,
) -> Result<(), Error> {
    let empty = pb::ClusterConfiguration::default();
    if configuration.is_some_and(|given| *given != empty) {
        let instead = "leave it out: `muster exec` needs no settings, and storage is the machine's";
        return Err(At::Field("configuration").unsupported("of a cluster", instead));
    }
    match connect.map(|given| given.namespace.as_str()) {
        None | Some("") => Ok(()),
        Some(name) => Err(At::Field("serviceConnectDefaults.namespace")
            .unsupported(name, "service connect is not built; leave it out")),
    }
}

fn known_settings() -> String {
    let insights = CONTAINER_INSIGHTS.0;
    format!(
        "{insights}, {HEALTHY_AFTER_SETTING}, {INSTANCE_METADATA_SETTING}, {PRIVILEGED_SETTING} or \
         {ZONE_RESERVE_SETTING}ZONE"
    )
}

fn seconds(at: &At<'_>, value: &str) -> Result<(), Error> {
    let given = value.parse::<u64>().ok().filter(|_| value.bytes().all(|b| b.is_ascii_digit()));
    match given.is_some_and(|seconds| seconds <= HEALTHY_AFTER_SECS_MAX) {
        true => Ok(()),
        false => {
            let allowed = format!("0 to {HEALTHY_AFTER_SECS_MAX} seconds");
            Err(at.field("value").invalid(value, allowed))
        }
    }
}

/// How much of a zone is kept free of growth; an empty value ends it.
fn reserve(at: &At<'_>, zone: &str, value: &str) -> Result<(), Error> {
    text(&at.field("name"), zone, 1..=NAME_CHARS_MAX)?;
    match value.is_empty() || zone_reserve(value).is_some() {
        true => Ok(()),
        false => {
            let allowed = "cpu:N,memory:N (units, MiB; 0 to 4294967295), or nothing to end it";
            Err(at.field("value").invalid(value, allowed))
        }
    }
}

fn one_of(at: &At<'_>, value: &str, values: &[&str]) -> Result<(), Error> {
    match values.contains(&value) {
        true => Ok(()),
        false => Err(at.field("value").invalid(value, values.join(", "))),
    }
}

fn settings(wire: &[pb::Setting]) -> Result<BTreeMap<String, String>, Error> {
    let list = At::Field("settings");
    let mut settings = BTreeMap::new();
    for (index, setting) in wire.iter().enumerate() {
        let at = list.index(index);
        match setting.name.as_str() {
            name if name == CONTAINER_INSIGHTS.0 => {
                one_of(&at, &setting.value, &CONTAINER_INSIGHTS.1)?
            }
            PRIVILEGED_SETTING | INSTANCE_METADATA_SETTING => {
                one_of(&at, &setting.value, &SWITCH_VALUES)?
            }
            HEALTHY_AFTER_SETTING => seconds(&at, &setting.value)?,
            other => match other.strip_prefix(ZONE_RESERVE_SETTING).filter(|z| !z.is_empty()) {
                Some(zone) => reserve(&at, zone, &setting.value)?,
                None => return Err(at.field("name").invalid(other, known_settings())),
            },
        }
        if settings.insert(setting.name.clone(), setting.value.clone()).is_some() {
            return Err(at.field("name").invalid(&setting.name, "each setting once"));
        }
    }
    Ok(settings)
}

/// DeleteCluster.
pub fn delete(state: &State, wire: &pb::DeleteClusterRequest) -> Result<Command, Error> {
    Ok(Command::DeleteCluster { cluster: named(state, &wire.cluster)? })
}

/// TagResource: sets the tags that are given, keeps the others.
pub fn tag(state: &State, wire: &pb::TagResourceRequest) -> Result<Command, Error> {
    let at = At::Field("tags");
    if wire.tags.is_empty() {
        return Err(at.invalid("none", format!("1 to {TAGS_MAX} tags")));
    }
    let resource = tagged(state, &wire.resource_arn)?;
    let set = tags(&at, &wire.tags)?;
    Ok(Command::TagResource { resource, set, remove: Vec::new() })
}

/// UntagResource.
pub fn untag(state: &State, wire: &pb::UntagResourceRequest) -> Result<Command, Error> {
    let at = At::Field("tagKeys");
    if wire.tag_keys.is_empty() || wire.tag_keys.len() > TAGS_MAX {
        return Err(at.invalid(wire.tag_keys.len(), format!("1 to {TAGS_MAX} keys")));
    }
    for (index, key) in wire.tag_keys.iter().enumerate() {
        let at = at.index(index);
        text(&at, key, 1..=TAG_KEY_CHARS_MAX)?;
        tag_of_users(&at, key)?;
    }
    let resource = tagged(state, &wire.resource_arn)?;
    Ok(Command::TagResource { resource, set: Tags::new(), remove: wire.tag_keys.clone() })
}

/// ECS: to tags everything but a cluster is a resource, also where it is missing.
fn tagged(state: &State, text: &str) -> Result<Resource, Error> {
    arn::resource(state, text).map_err(|error| match error {
        Error::NotFound { kind, name } if kind != Kind::Cluster => {
            Error::NotFound { kind: Kind::Resource, name }
        }
        other => other,
    })
}
