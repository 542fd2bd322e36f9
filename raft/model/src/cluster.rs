//! Clusters, and the cluster-wide rows: managers, users, join tokens and the authority.

use crate::ids::{ClusterId, RaftId};
use crate::spec::{Resources, Tags};
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Bound::{Included, Unbounded};
use std::sync::Arc;

/// The cluster that exists from `init` on.
pub const DEFAULT_CLUSTER: &str = "default";
/// The setting of a cluster that says how many seconds a task without any check runs before it
/// counts as healthy.
pub const HEALTHY_AFTER_SETTING: &str = "taskHealthyAfterSeconds";
/// Begins the name of the setting that says how much of a zone is kept free of growth; the zone's
/// name follows, and the value is `cpu:N,memory:N` (units, MiB), or empty for nothing.
pub const ZONE_RESERVE_SETTING: &str = "zoneReserve:";

/// The setting of a cluster that says whether its tasks may have privileged containers.
pub const PRIVILEGED_SETTING: &str = "privilegedContainers";
/// The setting that says whether tasks that are placed from then on reach the metadata service of
/// their instance, 169.254.169.254, from a network of their own.
pub const INSTANCE_METADATA_SETTING: &str = "instanceMetadataAccess";
/// What both of these may be; the latter unless they are set.
pub const SWITCH_VALUES: [&str; 2] = ["enabled", "disabled"];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClusterStatus {
    #[default]
    Active,
    Inactive,
}

/// A group of container instances and what runs on them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    pub id: ClusterId,
    pub name: Arc<str>,
    pub status: ClusterStatus,
    pub settings: BTreeMap<String, String>,
    pub tags: Arc<Tags>,
    pub created_at: Time,
    /// When it became `Inactive`.
    pub deleted_at: Option<Time>,
    pub version: u64,
}

impl Cluster {
    /// Of a setting that has one of `SWITCH_VALUES`.
    pub fn is_enabled(&self, setting: &str) -> bool {
        let [enabled, _] = SWITCH_VALUES;
        self.settings.get(setting).is_some_and(|value| value == enabled)
    }

    /// What it keeps of which zone, in order of names; what `State` says of it stands in
    /// `state/reserve.rs`.
    pub fn zone_reserves(&self) -> impl Iterator<Item = (&str, Resources)> {
        let from = self.settings.range::<str, _>((Included(ZONE_RESERVE_SETTING), Unbounded));
        from.map_while(|(name, value)| Some((name.strip_prefix(ZONE_RESERVE_SETTING)?, value)))
            .filter_map(|(zone, value)| Some((zone, zone_reserve(value)?)))
            .filter(|(_, reserve)| *reserve != Resources::default())
    }
}

/// `cpu:N,memory:N`, both of them, in this order. `None` for anything else.
pub fn zone_reserve(text: &str) -> Option<Resources> {
    let (cpu, memory) = text.strip_prefix("cpu:")?.split_once(",memory:")?;
    let number = |digits: &str| {
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse::<u32>().ok().filter(|_| plain)
    };
    Some(Resources { cpu: number(cpu)?, memory_mib: number(memory)? })
}

/// A Raft member as the cluster knows it. Membership itself is the consensus library's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manager {
    pub id: RaftId,
    pub name: Arc<str>,
    pub zone: Arc<str>,
    /// host:port that managers, agents and clients dial.
    pub address: Arc<str>,
    /// The newest command level its binary can apply.
    pub level: u32,
    pub joined_at: Time,
    /// Removed members stay known, so that their id and certificate are refused for good.
    pub removed_at: Option<Time>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub name: Arc<str>,
    pub role: UserRole,
    pub created_at: Time,
    /// Serial numbers of its certificates, hexadecimal; an unlisted one is refused.
    pub serials: Vec<Arc<str>>,
    pub removed_at: Option<Time>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum UserRole {
    /// Everything.
    Admin,
    /// Everything but managers, tokens and users.
    Operator,
    #[default]
    ReadOnly,
    /// Nothing but what its policies allow.
    Restricted,
}

/// What `init` creates: the authority that signs certificates, and the join tokens' hashes.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    pub certificate_pem: Arc<str>,
    /// The authority's private key; replicated so that any leader can sign.
    pub key_pem: Arc<str>,
    /// SHA-256 of the secret in the tokens that managers and workers join with, hexadecimal.
    pub manager_token_hash: Arc<str>,
    pub worker_token_hash: Arc<str>,
}

impl std::fmt::Debug for Authority {
    /// Without the key and the tokens: states and entries are printed in logs and failed tests.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = self.certificate_pem.len();
        f.debug_struct("Authority").field("certificate_bytes", &bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_printed() {
        let authority = Authority { key_pem: Arc::from("hush"), ..Authority::default() };
        assert!(!format!("{authority:?}").contains("hush"));
    }
}
