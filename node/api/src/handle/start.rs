//! StartTask: a task on each instance that the caller names, or a failure that says why not.
//!
//! Nothing is chosen and nothing waits, so one entry of the log decides it all.

use super::run::started;
use crate::call::Call;
use crate::dispatcher::Dispatcher;
use crate::write::{Draft, Fresh, unexpected};
use crate::{make, read, resolve};
use muster_model::limits::START_TASK_INSTANCES_MAX;
use muster_model::task::Blocker;
use muster_model::{Cluster, Error, InstanceId, Kind, Response, State};
use muster_proto::arn::{self, Arns};
use muster_proto::convert::{self, some_names};
use muster_proto::pb;
use muster_proto::view::{self, missing};
use std::collections::BTreeSet;

impl Dispatcher {
    pub async fn start_task(
        &self,
        call: &Call,
        request: pb::StartTaskRequest,
    ) -> Result<pb::StartTaskResponse, Error> {
        let texts = &request.container_instances;
        some_names("containerInstances", texts, START_TASK_INSTANCES_MAX)?;
        let make = |draft: &mut Draft<'_>| {
            let cluster = arn::cluster(draft.state, &request.cluster)?;
            let (on, _) = named(draft.state, cluster, texts)?;
            match on.is_empty() {
                true => Err(Error::not_found(Kind::ContainerInstance, texts.join(", "))),
                false => make::start_task(draft, &request, on),
            }
        };
        // An instance that just joined must not be called MISSING.
        let written = self.write(call, &request.client_token, Fresh::Always, make).await;
        let (state, tasks, refused) = match written {
            Ok(written) => match written.response {
                Response::Started { tasks, refused } => (written.state, tasks, refused),
                other => return Err(unexpected(&other)),
            },
            Err(Error::NotFound { kind: Kind::ContainerInstance, .. }) => {
                (call.seeing(self.replica.state()), Vec::new(), Vec::new())
            }
            Err(error) => return Err(error),
        };
        let there = |state: &State| tasks.iter().all(|id| started(state, *id));
        let state = self.simulated(call, state, there).await;
        let cluster = arn::cluster(&state, &request.cluster)?;
        let arns = Arns::of(&state);
        // A repeat may find another definition under the name: then the resource is not named.
        let wanted = match refused.iter().any(|(_, why)| matches!(why, Blocker::Resource(_))) {
            true => convert::task::wanted(&state, &request).unwrap_or_default(),
            false => Default::default(),
        };
        let refused = refused
            .iter()
            .map(|(on, why)| view::refusal(arns.instance(&cluster.name, *on), *why, &wanted));
        let (_, absent) = named(&state, cluster, texts)?;
        Ok(pb::StartTaskResponse {
            tasks: tasks
                .iter()
                .filter_map(|id| state.task(*id))
                .map(|row| view::task(&state, row))
                .collect(),
            failures: refused.chain(absent).collect(),
        })
    }
}

/// The instances that the texts name, and a failure for each text that names none.
fn named(
    state: &State,
    cluster: &Cluster,
    texts: &[String],
) -> Result<(Vec<InstanceId>, Vec<pb::Failure>), Error> {
    let (mut on, mut absent, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
    for text in texts {
        match resolve::instance(state, cluster, text) {
            Ok(row) if seen.insert(row.id) => on.push(row.id),
            Ok(_) => {
                return Err(Error::invalid("containerInstances", text, "each instance once"));
            }
            Err(Error::NotFound { .. }) => {
                absent.push(missing(read::arn_or(state, "container-instance", cluster, text)));
            }
            Err(error) => return Err(error),
        }
    }
    Ok((on, absent))
}
