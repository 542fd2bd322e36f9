//! Privileged containers, which may do all that root of their instance may: only where the cluster
//! allows them.
//!
//! Judged when a run, a job or a service names a definition, as definitions belong to no cluster.
//! Invariant: no deployment of a service and no job that could start a task has a privileged
//! container in a cluster that does not allow it; what was started while it was allowed goes on.

use crate::cluster::{Cluster, PRIVILEGED_SETTING, SWITCH_VALUES};
use crate::error::{Error, Kind};
use crate::ids::DefinitionId;
use crate::state::{DefinitionRow, State};

fn allows(cluster: &Cluster) -> bool {
    cluster.is_enabled(PRIVILEGED_SETTING)
}

/// Whether tasks of this definition may be asked for in this cluster.
pub(super) fn admit(cluster: &Cluster, definition: &DefinitionRow) -> Result<(), Error> {
    let Some(container) = definition.spec.containers.iter().find(|c| c.privileged) else {
        return Ok(());
    };
    if allows(cluster) {
        return Ok(());
    }
    let [enabled, _] = SWITCH_VALUES;
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

/// Whether the cluster may become one with these settings: not while a service or a job would go on
/// to start what they forbid.
pub(super) fn may_become(state: &State, old: &Cluster, new: &Cluster) -> Result<(), Error> {
    if !allows(old) || allows(new) {
        return Ok(());
    }
    let privileged = |id: DefinitionId| {
        let row = state.definition(id);
        row.is_some_and(|row| row.spec.containers.iter().any(|c| c.privileged))
    };
    let mut services = state.services_in(old.id);
    let mut jobs = state.jobs_in(old.id).filter(|row| row.end.is_none());
    let service = services.find(|row| row.deployments.iter().any(|d| privileged(d.definition)));
    let what = match (service, jobs.find(|row| privileged(row.definition))) {
        (None, None) => return Ok(()),
        (Some(service), _) => format!(
            "service {} has privileged containers; delete it, or give it another definition first",
            service.spec.name
        ),
        (None, Some(job)) => {
            format!("job {} has privileged containers; stop it first", job.spec.name)
        }
    };
    Err(Error::InUse { kind: Kind::Cluster, name: old.name.to_string(), what })
}
