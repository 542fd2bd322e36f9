//! Privileged containers, which may do all that root of their instance may: only where the cluster
//! allows them.
//!
//! Judged when a run or a service names a definition, as definitions belong to no cluster.
//! Invariant: no deployment of a service that could start a task has a privileged container in a
//! cluster that does not allow it; what was started while it was allowed goes on.

use crate::cluster::{Cluster, PRIVILEGED_SETTING, PRIVILEGED_VALUES};
use crate::error::{Error, Kind};
use crate::state::{DefinitionRow, State};

fn allows(cluster: &Cluster) -> bool {
    let [enabled, _] = PRIVILEGED_VALUES;
    cluster.settings.get(PRIVILEGED_SETTING).is_some_and(|value| value == enabled)
}

/// Whether tasks of this definition may be asked for in this cluster.
pub(super) fn admit(cluster: &Cluster, definition: &DefinitionRow) -> Result<(), Error> {
    let Some(container) = definition.spec.containers.iter().find(|c| c.privileged) else {
        return Ok(());
    };
    if allows(cluster) {
        return Ok(());
    }
    let [enabled, _] = PRIVILEGED_VALUES;
    let (family, revision, name) = (&definition.family, definition.revision, &cluster.name);
    Err(Error::invalid(
        "taskDefinition",
        format!("{family}:{revision}"),
        format!(
            "no privileged containers ({} is one) in cluster {name}; or allow them first: \
             `muster cluster update {name} --setting {PRIVILEGED_SETTING}={enabled}`",
            container.name
        ),
    ))
}

/// Whether the cluster may become one with these settings: not while a service would go on to start
/// what they forbid.
pub(super) fn may_become(state: &State, old: &Cluster, new: &Cluster) -> Result<(), Error> {
    if !allows(old) || allows(new) {
        return Ok(());
    }
    let privileged = |row: &crate::Service| {
        let definitions = row.deployments.iter().map(|d| state.definition(d.definition));
        definitions.flatten().any(|row| row.spec.containers.iter().any(|c| c.privileged))
    };
    match state.services_in(old.id).find(|row| privileged(row)) {
        None => Ok(()),
        Some(service) => Err(Error::InUse {
            kind: Kind::Cluster,
            name: old.name.to_string(),
            what: format!(
                "service {} has privileged containers; delete it, or give it another definition \
                 first",
                service.spec.name
            ),
        }),
    }
}
