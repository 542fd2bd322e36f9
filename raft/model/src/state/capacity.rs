//! Capacity providers and those of clusters: reading them, and the setters.

use super::State;
use crate::capacity::{CapacityProvider, ClusterProviders};
use crate::ids::ClusterId;
use std::sync::Arc;

impl State {
    /// Also one that is INACTIVE. ECS's own are no rows.
    pub fn capacity_provider(&self, name: &str) -> Option<&Arc<CapacityProvider>> {
        self.capacity_providers.get(name)
    }
    /// By name, INACTIVE ones too.
    pub fn capacity_providers(&self) -> impl Iterator<Item = &Arc<CapacityProvider>> {
        self.capacity_providers.values()
    }
    /// `None`: the cluster has none.
    pub fn providers_of(&self, cluster: ClusterId) -> Option<&Arc<ClusterProviders>> {
        self.cluster_providers.get(&cluster)
    }

    pub(crate) fn put_capacity_provider(&mut self, row: Arc<CapacityProvider>) {
        self.capacity_providers.insert(row.name.clone(), row);
    }

    pub(crate) fn remove_capacity_provider(&mut self, name: &str) {
        self.capacity_providers.remove(name);
    }

    pub(crate) fn put_cluster_providers(&mut self, row: Arc<ClusterProviders>) {
        self.cluster_providers.insert(row.cluster, row);
    }

    pub(crate) fn remove_cluster_providers(&mut self, cluster: ClusterId) {
        self.cluster_providers.remove(&cluster);
    }
}
